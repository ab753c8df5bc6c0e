"""Claims about tables: text stays text, nothing empty breaks, numbers come back."""

from pathlib import Path

import numpy as np
import pytest
import starfile

from tomoglean import tables
from tomoglean.provenance import Refused


@pytest.fixture
def table(tmp_path):
    def write(text):
        path = tmp_path / "table.tsv"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


@pytest.mark.parametrize("cell", ["007", "NA", "1e5", "nan", "None", "true", "00:10"])
def test_cells_stay_text(table, cell):
    assert tables.read_rows(table(f"volume\tpath\n{cell}\tb\n")) == [
        {"volume": cell, "path": "b"}
    ]


def test_comments_blank_lines_marks_and_line_ends_do_not_count(table):
    text = "\ufeff# about\r\n\r\nvolume\tpath\r\n# a\tb\r\n c \td\r\n"
    assert tables.read_rows(table(text)) == [{"volume": "c", "path": "d"}]


def test_rows_are_told_by_the_lines_of_their_file(table):
    path = table("# note\na\tb\n\n1\t2\n# note\n3\t4\n")
    assert [number for number, _ in tables.read_lines(path)] == [4, 6]


def test_short_rows_are_filled(table):
    assert tables.read_rows(table("a\tb\tc\n1\n")) == [{"a": "1", "b": "", "c": ""}]


def test_quoted_lists_of_spreadsheets_are_read(table):
    assert tables.read_rows(table('a\tb\n"1,2,3"\tx\n'))[0]["a"] == "1,2,3"


def test_a_header_alone_and_an_empty_file_hold_no_rows(table):
    assert tables.read_rows(table("a\tb\n")) == []
    assert tables.read_rows(table("")) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a\ta\n1\t2\n", "'a' 2 times"),
        ("a\t\tb\n1\t2\t3\n", "a column without a name"),
        ("volume;tasks\n1;2\n", "expected TABs .* found semicolons"),
        ("volume,tasks\n", "found commas"),
        ("volume    tasks\n1    2\n", "found blanks"),
        ("# note\na\tb\n1    2\n", "line 3: expected TABs .* found blanks"),
        ("# note\na\tb\n1\t2\n1\t2\t3\n", "line 4"),
        ('a\tb\n1\t"2\n', "expected a table"),
        (b"a\tb\n\xff\t2\n", "UTF-8"),
    ],
)
def test_broken_tables_are_refused_in_one_line(table, text, said):
    with pytest.raises(Refused, match=said) as refusal:
        tables.read_rows(table(text))
    assert "\n" not in str(refusal.value)


def test_rows_come_out_without_negative_zero_and_in_order(tmp_path):
    path = tmp_path / "out.csv"
    tables.write_rows([{"b": -0.0, "a": None}, {"b": 1 / 3, "a": "x"}], ("a", "b"), path)
    assert path.read_text() == "a,b\n,0\nx,0.333333\n"


def test_points_round_trip(tmp_path):
    points = tables.Points(
        np.array([[1.5, 2.25, 3.0]]), np.array([[0.0, -1.0, 0.0]]), ("t3ss",)
    )
    tables.write_points(points, tmp_path / "points.csv")
    again = tables.read_points(tmp_path / "points.csv")
    assert again.positions.tolist() == points.positions.tolist()
    assert again.normals.tolist() == points.normals.tolist()
    assert again.classes == ("t3ss",)


def test_points_need_neither_axis_nor_class(table):
    points = tables.read_points(table("z,y,x\n1,2,3\n"))
    assert points.positions.tolist() == [[1, 2, 3]]
    assert points.normals.tolist() == [[0, 0, 0]]
    assert points.classes == ("",)


@pytest.mark.parametrize("text", ["z,y\n1,2\n", "z,y,x\n1,2,\n", "z,y,x\n1,2,inf\n"])
def test_points_without_a_place_are_refused(table, text):
    with pytest.raises(Refused, match="column x"):
        tables.read_points(table(text))


def picks_of(n):
    places = np.arange(3.0 * n).reshape(n, 3)
    normals = np.tile([0.0, 0.6, 0.8], (n, 1))
    return tables.Picks(places, 1.8 * places, normals, np.linspace(0.9, 0.1, n))


@pytest.mark.parametrize("n", [0, 3])
def test_picks_round_trip(tmp_path, n):
    tables.write_picks(picks_of(n), tmp_path / "picks.csv")
    again = tables.read_picks(tmp_path / "picks.csv")
    assert again.positions.shape == (n, 3)
    np.testing.assert_allclose(again.positions_nm, picks_of(n).positions_nm, atol=1e-6)
    np.testing.assert_allclose(again.normals, picks_of(n).normals, atol=1e-6)
    np.testing.assert_allclose(again.scores, picks_of(n).scores, atol=1e-6)


def test_a_threshold_keeps_what_reaches_it():
    assert picks_of(3).above(0.5).scores.tolist() == [0.9, 0.5]
    assert len(picks_of(3).above(None)) == 3


BLOCKS = {"optics": {"rlnA": [1]}, "particles": {"rlnB": [1.5, -2.0], "rlnC": ["p", "q"]}}


def test_star_files_are_read_by_others(tmp_path):
    path = tmp_path / "a.star"
    tables.write_star(BLOCKS, path)
    read = starfile.read(path, always_dict=True)
    assert list(read) == ["optics", "particles"]
    assert read["particles"]["rlnB"].tolist() == [1.5, -2.0]
    assert read["particles"]["rlnC"].tolist() == ["p", "q"]


def test_star_files_of_others_are_read(tmp_path):
    path = tmp_path / "a.star"
    tables.write_star(BLOCKS, path)
    starfile.write(starfile.read(path, always_dict=True), tmp_path / "b.star")
    read = tables.read_star(tmp_path / "b.star")
    assert [float(cell) for cell in read["particles"]["rlnB"]] == [1.5, -2.0]
    assert read["particles"]["rlnC"] == ["p", "q"]


def test_an_empty_star_block_keeps_its_columns(tmp_path):
    path = tmp_path / "a.star"
    tables.write_star({"particles": {"rlnB": [], "rlnC": []}}, path)
    assert tables.read_star(path) == {"particles": {"rlnB": [], "rlnC": []}}


def test_a_star_cell_is_one_word(tmp_path):
    with pytest.raises(ValueError, match="one word"):
        tables.write_star({"a": {"b": ["two words"]}}, tmp_path / "a.star")


def test_a_ragged_star_row_is_refused(tmp_path):
    path = tmp_path / "a.star"
    path.write_text("data_a\n\nloop_\n_b #1\n_c #2\n1\n")
    with pytest.raises(Refused, match="expected 2 cells"):
        tables.read_star(path)


def test_paths_may_hold_variables_and_are_relative_to_the_study(monkeypatch):
    monkeypatch.setenv("SOME_DATA", "/somewhere")
    assert tables.locate("$SOME_DATA/v.mrc", "/study") == Path("/somewhere/v.mrc")
    assert tables.locate("raw/v.mrc", "/study") == Path("/study/raw/v.mrc")
