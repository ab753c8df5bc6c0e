"""All numbers of the report lie beside it as tables that agree with the page."""

import csv
import io
import json
import math

import pytest
from test_report import Page, checked, full_study, study_in
from test_report_summary import ERROR, log

from tomoglean import provenance, report
from tomoglean.report import again, numbers, overview
from tomoglean.report.blocks import Cell, Heading, Section, Table
from tomoglean.report.rows import cubic
from tomoglean.report.sources import Source

RUN = again.Run("snakemake", "c" * 40, "clean")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build the report of a full study once; return its page and folder of tables."""
    study = full_study(tmp_path_factory.mktemp("study"))
    path = study.root / "results/measured/bone/rod-1.json"
    provenance.write_json({"volume_mm3": {"bone": 0.0521847}, "porosity": None}, path)
    page = Page(report.build(study, outcome="green"))
    return study, page, study.root / "results" / "report"


def read(folder, name: str) -> list[dict[str, str]]:
    with open(folder / name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def parsed(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def files_of(*tables, anchor="part"):
    return numbers.of_tables([Section(anchor, "Part", tables)], set())


def test_headline_figures_stand_in_a_table_with_their_intervals(built):
    rows = {row["figure"]: row for row in read(built[2], "figures.csv")}
    assert float(rows["precision"]["value"]) == 0.5
    assert float(rows["precision"]["low"]) == pytest.approx(0.0945, abs=1e-4)
    assert rows["precision"]["interval"] == "Wilson, from counts"
    assert (rows["precision"]["n"], rows["precision"]["of"]) == ("2", "picks")


def test_volumes_stand_in_a_table_one_row_a_task(built):
    rows = read(built[2], "volumes.csv")
    assert [(r["volume"], r["task"]) for r in rows] == [
        ("rod-1", "bone"),
        ("cell-1", "membrane"),
        ("cell-1", "t3ss"),
    ]
    assert (rows[0]["shape_z"], float(rows[0]["voxel_z_nm"])) == ("6", 5000.0)


def test_no_rows_stand_in_two_files(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "PARTS", ())
    study = full_study(tmp_path)
    checked(tmp_path, "rod-1", verdict="warning", messages=["dark; look"])
    log(study, "convert/cell-1", "results/converted/cell-1.h5", ERROR)
    report.build(study, outcome="failed")
    folder = tmp_path / "results/report"
    assert "dark; look" in [row["what"] for row in read(folder, "warnings.csv")]
    assert [row["rule"] for row in read(folder, "failed-jobs.csv")] == ["convert"]
    assert [path.name for path in folder.glob("*-2.csv")] == []


def test_a_table_whose_rows_have_a_file_gets_no_other():
    table = Table(["a"], [[Cell("1")]], name="warnings")
    sections = [Section("part", "Part", [table])]
    assert numbers.of_tables(sections, {"warnings.csv"}) == []
    assert [one.name for one in numbers.of_tables(sections, set())] == ["warnings.csv"]


def test_what_was_measured_stands_in_a_table_with_all_digits(built):
    (row,) = read(built[2], "measured.csv")
    assert row["quantity"] == "volume_mm3 bone"
    assert float(row["value"]) == 0.0521847


def test_every_table_of_the_page_is_a_file_of_the_same_rows(built):
    study, _, folder = built
    source = Source(study)
    for part in (overview.headline(source), report.record.data(source)):
        shown = next(block for block in part.blocks if block.kind == "table")
        found = parsed((folder / f"{part.anchor}.csv").read_text())
        assert found[0] == list(shown.head)
        first = [row[0].text.replace("\n", "; ") for row in shown.rows]
        assert [row[0] for row in found[1:]] == first


def test_the_page_names_every_file_with_what_it_holds(built):
    _, page, folder = built
    assert len(list(folder.iterdir())) > 8
    for path in folder.iterdir():
        assert f"report/{path.name}" in page.text


def test_tables_of_the_stages_are_named_where_there_are_any(built):
    page = built[1]
    assert "evaluated/*/matches.csv" in page.text
    assert "averaged/*/fsc.csv" not in page.text


def test_the_json_names_the_files_too(built):
    facts = json.loads((built[2] / "report.json").read_text())
    assert set(facts["files"]) == {p.name for p in built[2].glob("*.csv")}


def test_tables_of_an_earlier_page_are_removed(full):
    folder = full.root / "results/report"
    folder.mkdir(parents=True)
    (folder / "old.csv").write_text("a\n1\n")
    (folder / "notes.txt").write_text("mine")
    numbers.write(Source(full), [], {})
    assert not (folder / "old.csv").exists()
    assert (folder / "notes.txt").exists()


@pytest.fixture
def full(tmp_path):
    return study_in(tmp_path)


@pytest.mark.parametrize(
    "cell",
    [
        "=1+1",
        "+cmd|' /C calc'!A0",
        "@SUM(A1)",
        "-2+3",
        " =1",
        "\t=1",
        "\n=1",
        "-",
        "\x00=1",
        "\u200b@SUM(A1)",
        "\u3000=1",
    ],
)
def test_no_cell_is_a_formula(cell):
    [[head], [found]] = parsed(numbers.as_csv([cell], [[cell]]))
    assert found[0] == head[0] == "'"


@pytest.mark.parametrize("cell", ["-2.5", "+1e-5", -3, 1.5e-9])
def test_numbers_below_zero_stay_numbers(cell):
    [_, [found]] = parsed(numbers.as_csv(["x"], [[cell]]))
    assert float(found) == float(cell)


@pytest.mark.parametrize("value", [None, math.nan, math.inf, "n/a"])
def test_what_is_no_number_is_an_empty_field(value):
    assert parsed(numbers.as_csv(["x", "y"], [[value, 1]]))[1] == ["", "1"]


def test_a_row_is_a_line_whatever_its_text_holds():
    text = numbers.as_csv(["x"], [['a\r\nb\x1b[2J,"c"']])
    assert len(text.splitlines()) == 2
    assert parsed(text)[1] == ['a; b [2J,"c"']


def test_numbers_behind_a_cell_keep_their_digits():
    (file,) = files_of(Table(["x"], [[Cell("0.33", "number", 1 / 3)]]))
    assert file.rows == [[1 / 3]]


def test_files_are_named_by_part_and_title_each_once():
    one = Table(["x"], [[Cell("1")]], title="IoU")
    made = files_of(Heading("bone"), one, one, Heading("../../Étage <b>"), one)
    assert [file.name for file in made] == [
        "part-bone-iou.csv",
        "part-bone-iou-2.csv",
        "part-tage-b-iou.csv",
    ]


def test_a_wide_table_goes_on_below_and_is_one_file():
    cells = [Cell(word) for word in "abcdef"]
    wide = Table(list("ABCDEF"), [cells], columns=2)
    heads = ["".join(head) for head, _ in wide.pieces]
    bodies = ["".join(cell.text for cell in rows[0]) for _, rows in wide.pieces]
    assert heads == ["ABC", "ADE", "AF"]
    assert bodies == ["abc", "ade", "af"]
    assert [file.rows for file in files_of(wide)] == [[list("abcdef")]]


def test_a_narrow_table_stays_whole():
    rows = [[Cell("a"), Cell("b")]]
    assert Table(["A", "B"], rows).pieces == [(["A", "B"], rows)]
    assert Table(["A"], [[Cell("a")]]).pieces == [(["A"], [[Cell("a")]])]


def test_a_cut_table_shows_its_first_rows():
    rows = [[Cell(str(n))] for n in range(5)]
    [(_, shown)] = Table(["A"], rows, shown=2).pieces
    assert [row[0].text for row in shown] == ["0", "1"]


def test_a_table_without_rows_is_no_file():
    assert files_of(Table(["x"], [])) == []


def test_numbers_of_json_are_finite(full):
    numbers.write(Source(full), [], {"a": [math.nan, {"b": math.inf, "c": 1.5}]})
    facts = json.loads((full.root / "results/report/report.json").read_text())
    assert facts["a"] == [None, {"b": None, "c": 1.5}]


def test_tables_that_cannot_be_written_do_not_end_the_report(full, monkeypatch):
    monkeypatch.setattr(report, "PARTS", ())
    (full.root / "results").mkdir()
    (full.root / "results/report").write_text("in the way")
    page = Page(report.build(full, outcome="green"))
    assert "Numbers as tables" in page.text
    assert "could not be made" in page.text


def test_no_private_folder_is_in_any_table(full, monkeypatch):
    monkeypatch.setattr(report, "PARTS", ())
    facts = {"verdict": "warning", "messages": ["/home/ann/secret/a.tif: odd"]}
    provenance.write_json(facts, full.root / "results/checked/rod-1.json")
    report.build(full, outcome="failed", message="/home/ann/secret/b.tif is gone")
    for path in (full.root / "results/report").iterdir():
        text = path.read_text()
        assert "secret" not in text, path.name
        assert str(full.root) not in text, path.name


@pytest.mark.parametrize(
    ("mm3", "told"),
    [
        (7.8851e-13, "789,000 nm³"),
        (1.034e-12, "1,030,000 nm³"),
        (2.68e-16, "268 nm³"),
        (3e-6, "3,000 µm³"),
        (2.0, "2.00 mm³"),
    ],
)
def test_volumes_of_alike_cells_are_told_in_one_unit(mm3, told):
    assert cubic(mm3) == told
