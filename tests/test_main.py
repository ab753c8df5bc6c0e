"""The command line: what needs no pipeline."""

import numpy as np
import pytest
import tifffile

from tomoglean import __main__ as command
from tomoglean import config, formats, reference, volumes
from tomoglean.volumes import Volume


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
