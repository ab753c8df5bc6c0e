"""The command line: what needs no pipeline."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tifffile

from tomoglean import __main__ as command
from tomoglean import config, formats, reference, volumes
from tomoglean.volumes import Volume
from workflow import ROOT


@pytest.fixture
def scan(tmp_path):
    grey = np.random.default_rng(1).integers(0, 4000, (5, 20, 30)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "scan.tif", grey)
    return tmp_path / "scan.tif"


def test_check_suggests_the_row_to_paste(scan, capsys):
    assert command.main(["check", str(scan), "--voxel-nm", "5000"]) == 0
    said = capsys.readouterr().out
    assert "5 x 20 x 30" in said
    columns, cells = (line.split("\t") for line in said.splitlines()[-2:])
    row = dict(zip(columns, cells, strict=True))
    assert row["path"] == str(scan)
    assert row["voxel_nm"] == "5000"
    shipped = (config.SCHEMAS.parent / "volumes.tsv").read_text().splitlines()[-1]
    assert columns == shipped.split("\t")


def test_check_refuses_with_one_line_and_code_3(scan, capsys):
    scan.write_bytes(scan.read_bytes()[:700])
    assert command.main(["check", str(scan), "--voxel-nm", "5000"]) == 3
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "scan.tif: refused"
    assert len(said) == 2
    assert "scan.tif" in said[1]


def test_check_goes_on_after_a_refused_file(scan, tmp_path, capsys):
    assert (
        command.main(["check", str(tmp_path / "none.tif"), str(scan), "--voxel-nm", "9"])
        == 3
    )
    said = capsys.readouterr().out
    assert "none.tif: refused" in said
    assert "scan.tif: " in said


def test_options_say_what_the_columns_mean(capsys):
    with pytest.raises(SystemExit):
        command.main(["check", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    for column, meaning in reference.meanings().items():
        assert f"--{column.replace('_', '-')} X" in said
        assert " ".join(meaning.split())[:40] in said


def rows_of(said):
    columns, *cells = said.partition("fill in the tasks:\n")[2].splitlines()
    return [dict(zip(columns.split("\t"), x.split("\t"), strict=True)) for x in cells]


def test_volumes_of_one_name_are_told_apart(scan, tmp_path, capsys):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "raw.tif").write_bytes(scan.read_bytes())
    scan.unlink()
    assert command.main(["check", str(tmp_path), "--voxel-nm", "5"]) == 0
    said = capsys.readouterr().out
    assert "one/raw.tif: ok" in said
    assert "two/raw.tif: ok" in said
    assert [row["volume"] for row in rows_of(said)] == ["raw", "raw-2"]


def test_a_row_is_right_wherever_its_table_lies(scan, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command.main(["check", "scan.tif", "--voxel-nm", "5"])
    assert rows_of(capsys.readouterr().out)[0]["path"] == str(scan)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.yaml").touch()
    command.main(["check", "scan.tif", "--voxel-nm", "5"])
    assert rows_of(capsys.readouterr().out)[0]["path"] == "scan.tif"


def test_a_folder_without_volumes_is_told_and_the_others_go_on(scan, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    words = [str(tmp_path / "empty"), str(scan), "--voxel-nm", "5"]
    assert command.main(["check", *words]) == 3
    said = capsys.readouterr().out
    assert "empty: refused" in said
    assert "found none in the folder" in said
    assert "name the file or folder" in said
    assert "scan.tif: ok" in said


@pytest.fixture
def in_slices(tmp_path, monkeypatch):
    folder = tmp_path / "slices"
    folder.mkdir()
    for z in range(3):
        image = np.arange(600, dtype=np.uint16).reshape(20, 30) + z
        tifffile.imwrite(folder / f"s{z}.tif", image)
    monkeypatch.chdir(folder)
    return folder


def test_the_folder_here_has_its_name(in_slices, capsys):
    assert command.main(["check", ".", "--voxel-nm", "5"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("slices: ok")
    assert rows_of(said)[0]["volume"] == "slices"


def test_a_quicklook_never_lies_among_the_slices(in_slices, capsys):
    assert command.main(["quicklook", "."]) == 3
    assert "--output" in capsys.readouterr().err
    assert len(list(in_slices.iterdir())) == 3


def test_a_reader_that_stops_reading_is_no_mistake(scan):
    words = [sys.executable, "-m", "tomoglean", "check", str(scan), "--voxel-nm", "5"]
    root = config.SCHEMAS.parent.parent
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(words, cwd=root, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert b"Traceback" not in done.stderr
    assert done.stderr == b""


def test_slices_go_out_for_correction(tmp_path, capsys):
    grey = np.arange(4 * 16 * 16, dtype=np.float32).reshape(4, 16, 16)
    labels = (grey > 300).astype(np.uint8)
    volumes.write(
        Volume(grey, (2.0, 2.0, 2.0)),
        tmp_path / "grey.h5",
        p_low=0.0,
        p_high=1000.0,
        mean=500.0,
        std=300.0,
        first_slice=0,
    )
    volumes.write(
        Volume(labels, (2.0, 2.0, 2.0)), tmp_path / "labels.h5", classes=["a", "b"]
    )
    words = [str(tmp_path / name) for name in ("grey.h5", "labels.h5", "out")]
    assert command.main(["slices", *words, "--z", "1,3"]) == 0
    assert len(list((tmp_path / "out" / "labels").iterdir())) == 2
    assert "config/labels.tsv" in capsys.readouterr().out


def test_slices_by_words_are_refused(scan, capsys):
    words = ["slices", str(scan), str(scan), "out", "--z", "two"]
    assert command.main(words) == 3
    assert "such as 10,20-22, found 'two'" in capsys.readouterr().err


def test_slices_of_a_raw_file_are_refused_by_name(scan, capsys):
    assert command.main(["slices", str(scan), str(scan), "out", "--z", "1"]) == 3
    assert "scan.tif: expected a volume file of a study" in capsys.readouterr().err


def test_a_report_is_made_again_where_raw_data_are_away(tmp_path):
    shutil.copytree(ROOT / "examples" / "isbi" / "config", tmp_path / "config")
    assert command.main(["report", str(tmp_path)]) == 0
    assert "nerve" in (tmp_path / "results" / "report.html").read_text()


def test_a_page_that_cannot_be_written_is_one_line(tmp_path, capsys):
    for name in "ab":
        shutil.copytree(ROOT / "examples" / "isbi" / "config", tmp_path / name / "config")
    words = ["compare", str(tmp_path / "a"), str(tmp_path / "b")]
    assert command.main([*words, "-o", "/proc/page.html"]) == 3
    [line] = capsys.readouterr().err.splitlines()
    assert "/proc/" in line
    assert "expected" in line
    assert "found" in line


def test_a_report_without_a_study_is_one_line(tmp_path, capsys):
    assert command.main(["report", str(tmp_path)]) == 3
    assert capsys.readouterr().err.count("\n") == 1


def test_the_page_of_settings_names_every_setting(tmp_path):
    assert command.main(["docs", str(tmp_path)]) == 0
    page = (tmp_path / "config.md").read_text()
    for path in config.SCHEMAS.glob("*.yaml"):
        for key in config.read_schema(path.stem)["properties"]:
            assert f"| `{key}` |" in page


def test_the_page_of_formats_has_a_line_for_every_reader(tmp_path):
    assert command.main(["docs", str(tmp_path)]) == 0
    page = (tmp_path / "formats.md").read_text()
    for reader in formats.readers():
        assert f"| {reader.FORMAT.name} |" in page
        assert reader.FORMAT.reads in page


@pytest.mark.parametrize("name", ["config", "formats"])
def test_the_committed_pages_are_those_of_today(tmp_path, name):
    assert command.main(["docs", str(tmp_path)]) == 0
    committed = config.SCHEMAS.parent.parent / "docs" / f"{name}.md"
    assert committed.read_text() == (tmp_path / f"{name}.md").read_text()


@pytest.mark.parametrize("name", ["MRC", "TIFF", "OME-Zarr", "IMOD model"])
def test_the_page_of_formats_says_what_is_written_too(name):
    (line,) = [
        x for x in reference.formats_page().splitlines() if x.startswith(f"| {name} |")
    ]
    assert line.split(" | ")[3] == "yes"


@pytest.mark.parametrize("word", ["status", "cancel"])
def test_a_folder_that_is_no_study_is_not_said_to_be_free(tmp_path, capsys, word):
    assert command.main([word, str(tmp_path / "typo")]) == 3
    assert "expected a study, found no config/config.yaml" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [("verify", ".", "--rerun", "-1"), ("view", "a", "--port", "80000")]
)
def test_a_number_out_of_its_limits_is_one_line(capsys, words):
    with pytest.raises(SystemExit):
        command.main(list(words))
    assert "found '" in capsys.readouterr().err
