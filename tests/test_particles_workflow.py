"""Claims about points in the pipeline: brought in, and handed out to other programs."""

from pathlib import Path

import numpy as np
import pytest

from tomoglean import labels, particles, steps, study, tables, volumes
from tomoglean.particles import Grid, source
from tomoglean.plan import Plan
from tomoglean.provenance import Refused
from tomoglean.volumes import Volume
from workflow import copy_checkout, edit, snakemake, write_study

SHAPE = (7, 9, 11)
VOXEL_NM = (1.8, 1.8, 1.8)
UNBINNED = {"bin1_shape": "28,36,44", "bin1_pixel_nm": "0.45", "binning": "fourier"}
ENDINGS = ("star", "tbl", "mod", "em", "json")
MADE = ENDINGS[:3:2]
ALL = "publish: {formats: [star, dynamo, imod, em, copick]}"
PUBLISHED = "results/published/t3ss"
CONVERTED = "results/converted/t3ss/train/points/u.csv"
PLACES = np.array([[1.0, 2.0, 3.25], [6, 8, 10]])
NORMALS = np.array([[0, 0.6, 0.8], [1, 0, 0]])
DYNAMO = (("7", "13"), ("8", "1"))  # number of the tomogram, x

pytestmark = pytest.mark.xdist_group("particles")  # they share one run


def small_study(folder):
    """Write a study whose volume u is converted."""
    write_study(folder / "study")
    volume = Volume(np.zeros(SHAPE, np.uint8), VOXEL_NM)
    volumes.write(volume, folder / "study" / "results" / "converted" / "u.h5")
    return folder / "study"


@pytest.fixture
def folder(tmp_path):
    return small_study(tmp_path)


def unbinned(folder):
    """Say in volumes.tsv how volume u was binned."""
    path = folder / "config" / "volumes.tsv"
    edit(path, "voxel_nm\n", "voxel_nm\t" + "\t".join(UNBINNED) + "\n")
    edit(path, "raw/u.mrc\t10\n", "raw/u.mrc\t10\t" + "\t".join(UNBINNED.values()) + "\n")


def points_row(folder, file, columns, cells):
    """Give the points of volume u, for training, by another file."""
    path = folder / "config" / "labels.tsv"
    edit(path, "unit\n", "unit\t" + "\t".join(columns) + "\n")
    edit(path, "raw/t3ss-u-points.csv\tnm\n", "\t".join([file, *cells]) + "\n")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Run both scripts once, on picks of u and on a table of many tomograms."""
    folder = small_study(tmp_path_factory.mktemp("made"))
    unbinned(folder)
    picks = tables.Picks(PLACES, 1.8 * PLACES, NORMALS, np.array([0.9, 0.5]))
    tables.write_picks(picks, folder / PUBLISHED / "u.csv")
    cells = [["0"] * 19 + [number] + ["0"] * 3 + [x, "9", "5"] for number, x in DYNAMO]
    text = "".join(" ".join(line) + "\n" for line in cells)
    (folder / "raw" / "all.tbl").write_text(text)
    points_row(folder, "raw/all.tbl", ("tomogram", "pixel_nm"), ("", "7", "0.45"))
    checkout = copy_checkout(tmp_path_factory.mktemp("checkout"))
    names = [f"{PUBLISHED}/u.{ending}" for ending in MADE]
    for rule, files in {"publish_as": names, "convert_points": [CONVERTED]}.items():
        words = ["--allowed-rules", rule, "--", *files]
        done = snakemake(checkout, folder, *words, fake=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("ending", MADE)
def test_picks_are_handed_to_other_programs(made, ending):
    grid = Grid(SHAPE, VOXEL_NM, "u", UNBINNED)
    path = made / PUBLISHED / f"u.{ending}"
    found = particles.points(path, {"task": "t3ss"}, grid)
    np.testing.assert_allclose(found.positions, PLACES, atol=0.01)
    assert found.classes == ("t3ss", "t3ss")
    if ending != "mod":
        np.testing.assert_allclose(found.normals, NORMALS, atol=1e-4)


@pytest.mark.slow
def test_points_of_other_programs_are_brought_in(made):
    found = tables.read_points(made / CONVERTED)
    assert found.positions.tolist() == [[1, 2, 3]]
    assert found.classes == ("t3ss",)


def published(folder):
    return {
        Path(path).name for path in Plan(study.read(folder)).everything("t3ss", "publish")
    }


def test_what_is_published_is_a_setting(folder):
    unbinned(folder)
    config = folder / "config" / "config.yaml"
    tables_only = {"u.csv", "v.csv", "w.csv"}
    assert published(folder) == {*tables_only, "u.star"}
    edit(config, "membrane: membrane", f"membrane: membrane\n    {ALL}")
    wanted = {f"{v}.{ending}" for v in "uvw" for ending in ENDINGS} - {"v.star", "w.star"}
    assert published(folder) == tables_only | wanted
    edit(config, ALL, "publish: {formats: []}")
    assert published(folder) == tables_only


def test_a_table_of_text_needs_its_unit_a_table_of_dynamo_does_not(folder):
    (folder / "raw" / "all.tbl").write_text("")
    points_row(folder, "raw/all.tbl", ("tomogram",), ("", "7"))
    assert study.read(folder).label_rows("t3ss", volume="u")[0]["tomogram"] == "7"
    edit(folder / "config" / "labels.tsv", "raw/t3ss-v-points.csv\tnm", "raw/all.tbl\t")
    study.read(folder)
    edit(folder / "config" / "labels.tsv", "raw/t3ss-w-points.csv\tnm", "raw/w.csv\t")
    (folder / "raw" / "w.csv").write_text("z,y,x\n")
    with pytest.raises(Refused, match="t3ss, w: unit: points need nm, angstrom or voxel"):
        study.read(folder)


def test_points_of_an_unknown_format_are_refused_before_anything_runs(folder):
    (folder / "raw" / "p.xyz").write_text("")
    points_row(folder, "raw/p.xyz", ("tomogram",), ("nm", ""))
    with pytest.raises(Refused, match=r"p\.xyz: expected points in a file with one of"):
        study.read(folder)


@pytest.mark.parametrize("column", ["tomogram", "pixel_nm"])
def test_labels_that_are_no_points_have_neither_tomogram_nor_pixel(folder, column):
    path = folder / "config" / "labels.tsv"
    edit(path, "unit\n", f"unit\t{column}\n")
    edit(path, "raw/bone-c-clean.mrc\t\n", "raw/bone-c-clean.mrc\t\t1\n")
    with pytest.raises(Refused, match=f"bone, c: {column}: expected none for labels"):
        study.read(folder)


def test_points_of_several_files_are_together(tmp_path):
    grid = Grid(SHAPE, VOXEL_NM)
    for ending in ("tbl", "mod"):
        particles.write(source.particles(np.ones((1, 3))), tmp_path / f"p.{ending}", grid)
    rows = [{"path": f"p.{ending}", "task": "t3ss"} for ending in ("tbl", "mod")]
    found = labels.points(rows, grid, root=tmp_path)
    np.testing.assert_allclose(found.positions, np.ones((2, 3)))
    assert found.classes == ("t3ss", "t3ss")


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"crop": "2:29,3:37,1:50"},
        {"bin": "2"},
        {"axes": "x,-z,y"},
        {"crop": "2:29,3:37,1:50", "bin": "3", "axes": "-y,x,-z"},
    ],
    ids=["as it is", "crop", "bin", "turn", "all"],
)
def test_picks_are_published_on_the_grid_of_the_raw_file(tmp_path, row):
    raw, voxel_nm = (31, 41, 53), (3.0, 2.0, 1.0)
    done = steps.read(row, raw, "v.mrc")
    file = np.array([[10.0, 20.0, 30.0], [12.5, 4.0, 7.25]])
    axes = np.array([[0, 0.6, 0.8], [-0.36, 0.48, -0.8]])
    volume = Volume(np.zeros(done.grid, np.uint8), done.voxel_nm(voxel_nm))
    volumes.write(volume, tmp_path / "v.h5", source_shape=raw, **steps.given(row))
    places = steps.place(file, done)
    picks = tables.Picks(places, places, steps.turn(axes, done), np.ones(2))
    labels.publish_picks(
        picks, tmp_path / "v.h5", tmp_path / "p.em", name="v", label="t3ss", unbinned={}
    )
    found = particles.points(tmp_path / "p.em", {}, Grid(raw, voxel_nm))
    np.testing.assert_allclose(found.positions, file, atol=0.01)
    np.testing.assert_allclose(found.normals, axes, atol=1e-5)
    assert len(
        labels.follow(
            {"path": "p.em"}, labels.target(tmp_path / "v.h5"), root=tmp_path
        ).positions
    )
