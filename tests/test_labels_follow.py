"""Labels and points go where the steps of their volume take its voxels."""

import logging

import numpy as np
import pytest
import tifffile
import yaml

from tomoglean import checks, labels, slices, steps, tables, volumes
from tomoglean import study as study_of
from tomoglean.formats import conversion
from tomoglean.provenance import Refused, write_json

SHAPE = (12, 15, 18)
RNG = np.random.default_rng(8)
GREY = RNG.integers(0, 60000, SHAPE).astype(np.uint16)
TRUTH = RNG.integers(0, 2, SHAPE).astype(np.uint8)
CLASSES = ["background", "bone"]
STEPS = {"crop": "2:12,0:14,4:18", "axes": "x,-z,y"}


def turned(data):
    """Do STEPS by plain slicing."""
    return data[2:12, 0:14, 4:18].transpose(2, 0, 1)[:, ::-1]


@pytest.fixture
def study(tmp_path):
    """Convert a volume with steps, then labels and points of it."""

    def volume(**row):
        tifffile.imwrite(tmp_path / "v.tif", GREY, photometric="minisblack")
        row = {"volume": "v", "path": "v.tif", "voxel_nm": "2,3,5", **row}
        write_json(checks.check(row, tmp_path), tmp_path / "v.json")
        conversion.convert(row, tmp_path / "v.json", tmp_path / "v.h5", root=tmp_path)

    def label(*rows):
        facts = labels.convert(
            rows, tmp_path / "v.h5", tmp_path / "l.h5", classes=CLASSES, root=tmp_path
        )
        return volumes.read(tmp_path / "l.h5"), facts

    def points(text, **row):
        (tmp_path / "p.csv").write_text(text)
        row = {"path": "p.csv", "task": "t", "unit": "voxel", **row}
        labels.convert_points([row], tmp_path / "v.h5", tmp_path / "q.csv", root=tmp_path)
        return tables.read_points(tmp_path / "q.csv")

    volume.label, volume.points, volume.folder = label, points, tmp_path
    return volume


def write(folder, data, name="l.tif"):
    tifffile.imwrite(folder / name, data, photometric="minisblack")
    return {"path": name, "kind": "clean"}


@pytest.mark.parametrize("slab_bytes", [1, 1 << 26])
def test_labels_of_the_file_are_cropped_and_turned_as_the_volume(
    study, monkeypatch, slab_bytes
):
    monkeypatch.setattr(labels.targets, "SLAB_BYTES", slab_bytes)
    study(**STEPS)
    found, facts = study.label(write(study.folder, TRUTH))
    assert np.array_equal(found.data, turned(TRUTH))
    assert np.array_equal(volumes.read(study.folder / "v.h5").data, turned(GREY))
    assert facts["voxels"]["bone"] == turned(TRUTH).sum()


def test_labels_stand_on_the_grid_of_their_volume(study):
    study(**STEPS)
    found, volume = study.label(write(study.folder, TRUTH))[0], study.folder / "v.h5"
    with volumes.open_volume(volume) as grid:
        assert (found.voxel_nm, found.origin_nm) == (grid.voxel_nm, grid.origin_nm)


def test_binned_labels_are_the_most_frequent_of_their_block(study):
    study(bin="3")
    found = study.label(write(study.folder, TRUTH))[0]
    share = TRUTH.astype(float).reshape(4, 3, 5, 3, 6, 3).mean((1, 3, 5))  # never 1/2
    assert np.array_equal(found.data, share > 0.5)


def test_a_window_leaves_labels_alone(study):
    study(window="0,60000")
    assert np.array_equal(study.label(write(study.folder, TRUTH))[0].data, TRUTH)


def test_slices_of_a_row_count_in_the_file(study):
    study(crop="2:12,:,:")
    row = write(study.folder, TRUTH) | {"slices": "5"}
    found = study.label(row)[0].data
    assert np.array_equal(found[3], TRUTH[5])
    assert (np.delete(found, 3, 0) == volumes.IGNORE).all()


def test_labels_made_on_the_converted_volume_stay_as_they_are(study):
    study(**STEPS)
    row = write(study.folder, turned(TRUTH)) | {"grid": "converted"}
    assert np.array_equal(study.label(row)[0].data, turned(TRUTH))


@pytest.mark.parametrize("slab_bytes", [1, 1 << 26])
def test_labels_of_the_converted_volume_lie_over_those_of_the_file(
    study, monkeypatch, slab_bytes
):
    monkeypatch.setattr(labels.targets, "SLAB_BYTES", slab_bytes)
    study(**STEPS)
    over = turned(TRUTH)[3:4] ^ 1
    later = write(study.folder, over, "o.tif") | {"grid": "converted", "slices": "3"}
    for rows in ([write(study.folder, TRUTH), later], [later, write(study.folder, TRUTH)]):
        expected = turned(TRUTH).copy()
        expected[3] = over
        assert np.array_equal(study.label(*rows)[0].data, expected)


def test_labels_of_the_wrong_grid_are_refused(study):
    study(**STEPS)
    with pytest.raises(Refused, match=r"^l\.tif: expected labels of the volume's shape"):
        study.label(write(study.folder, turned(TRUTH)))
    with pytest.raises(Refused, match=r"^l\.tif: expected labels of the volume's shape"):
        study.label(write(study.folder, TRUTH) | {"grid": "converted"})


@pytest.mark.parametrize("row", [{}, STEPS, {"bin": "2"}])
def test_slices_handed_out_come_back_where_they_belong(study, row):
    study(**row)
    volume = study.folder / "v.h5"
    grid = volumes.read(volume)
    truth = RNG.integers(0, 2, grid.shape).astype(np.uint8)
    volumes.write(volumes.Volume(truth, grid.voxel_nm), study.folder / "t.h5")
    slices.export_for_correction(
        volume, [study.folder / "t.h5"], study.folder / "out", indices=[1, 4]
    )
    back = study.label({"path": "out/labels", "grid": "converted"})[0].data
    assert np.array_equal(back[[1, 4]], truth[[1, 4]])


def test_points_follow_and_those_outside_the_crop_are_told(study, caplog):
    study(**STEPS)
    with caplog.at_level(logging.WARNING):
        found = study.points("z,y,x,nz,ny,nx\n5,6,7,1,0,0\n0,0,0,1,0,0\n11,13,17,0,0,1\n")
    assert found.positions.tolist() == [[3, 6, 6], [13, 0, 13]]
    assert found.normals.tolist() == [[0, -1, 0], [1, 0, 0]]
    assert "1 points lie outside the crop" in caplog.text


def test_points_in_nm_are_those_of_the_file(study):
    study(crop="2:,:,:", bin="2")
    found = study.points("z,y,x\n5,4.5,7.5\n", unit="nm")  # voxel 2.5, 1.5, 1.5
    assert found.positions.tolist() == [[0.0, 0.5, 0.5]]


@pytest.mark.parametrize(("unit", "text"), [("voxel", "1,2,1"), ("nm", "4,12,10")])
def test_points_of_the_converted_volume_stay(study, unit, text):
    study(crop="2:,:,:", bin="2")
    found = study.points(f"z,y,x\n{text}\n", unit=unit, grid="converted")
    assert found.positions.tolist() == [[1, 2, 1]]


def test_a_point_outside_the_file_is_refused_as_ever(study):
    study(**STEPS)
    with pytest.raises(Refused, match=r"^p\.csv: expected points inside the volume"):
        study.points("z,y,x\n12,0,0\n")


def test_a_point_marks_the_same_voxel_as_its_label(study):
    study(**STEPS)
    marked = np.zeros(SHAPE, np.uint8)
    marked[6, 7, 9] = 1
    labelled = study.label(write(study.folder, marked))[0].data
    at = study.points("z,y,x\n6,7,9\n").positions[0].astype(int)
    assert np.argwhere(labelled).tolist() == [at.tolist()]


def test_the_steps_of_a_converted_volume_are_read_from_it(study):
    study(**STEPS)
    assert labels.target(study.folder / "v.h5").steps == steps.read(STEPS, SHAPE, "v.tif")


# -- at the door -----------------------------------------------------------------------


@pytest.fixture
def tables_of(tmp_path):
    """Read a study of one volume and one file of labels."""

    def read(volume, label=None, split="between-volumes"):
        (tmp_path / "config").mkdir()
        (tmp_path / "v.tif").touch()
        task = {"kind": "semantic", "classes": CLASSES, "split": split}
        config = tmp_path / "config" / "config.yaml"
        config.write_text(yaml.safe_dump({"tasks": {"bone": task}}))
        volume = {"volume": "v", "tasks": "bone", "path": "v.tif", **volume}
        keys = {"task": "bone", "volume": "v", "kind": "clean", "use": "train"}
        label = keys | {"path": "v.tif", **(label or {})}
        for name, row in (("volumes", volume), ("labels", label)):
            table = "\t".join(row) + "\n" + "\t".join(row.values()) + "\n"
            (tmp_path / "config" / f"{name}.tsv").write_text(table)
        return study_of.read(tmp_path)

    return read


def test_steps_and_grid_are_columns_of_the_tables(tables_of):
    found = tables_of({**STEPS, "bin": "2", "window": "-1.5,2e3"}, {"grid": "converted"})
    assert steps.given(found.row("v")) == {**STEPS, "bin": "2", "window": "-1.5,2e3"}
    assert found.labels[0]["grid"] == "converted"


@pytest.mark.parametrize(
    "row",
    [
        {"crop": "1:2"},
        {"crop": "5:2,:,:"},
        {"bin": "0"},
        {"bin": "65"},
        {"axes": "z,y"},
        {"axes": "z,z,y"},
        {"window": "5"},
        {"window": "7,5"},
        {"window": "1,2,float32"},
    ],
)
def test_a_step_that_makes_no_sense_is_refused_before_any_job(tables_of, row):
    with pytest.raises(Refused, match=rf"volumes\.tsv.*{next(iter(row))}"):
        tables_of(row)


def test_relion_files_need_the_whole_volume(tables_of):
    with pytest.raises(Refused, match=r"v: bin1_shape: .* found bin 2; take one"):
        tables_of({"bin": "2", "bin1_shape": "9,9,9", "bin1_pixel_nm": "1"})


def test_slices_kept_apart_are_numbered_on_the_converted_grid(tables_of):
    with pytest.raises(Refused, match=r"grid: expected converted"):
        tables_of({"bin": "2"}, {"slices": "1-3"}, split="within-volume")


@pytest.mark.parametrize(
    ("volume", "label"),
    [
        ({"bin": "2"}, {"slices": "1-3", "grid": "converted"}),
        ({"window": "0,9"}, {"slices": "1-3", "grid": ""}),
    ],
)
def test_slices_kept_apart_may_be_so_numbered(tables_of, volume, label):
    tables_of(volume, label, split="within-volume")


@pytest.mark.parametrize("grid", ["", "converted"])
def test_the_check_looks_at_labels_on_their_own_grid(tmp_path, grid):
    tifffile.imwrite(tmp_path / "v.tif", GREY, photometric="minisblack")
    row = write(tmp_path, turned(TRUTH) if grid else TRUTH) | {"grid": grid}
    volume = {"path": "v.tif", "voxel_nm": "5", **STEPS}
    facts = checks.check_labels([row], volume, classes=CLASSES, root=tmp_path)
    assert facts["verdict"] == "ok"
    other = row | {"grid": "" if grid else "converted"}
    facts = checks.check_labels([other], volume, classes=CLASSES, root=tmp_path)
    assert facts["verdict"] == "refused"


@pytest.mark.parametrize(("grid", "verdict"), [("", "refused"), ("converted", "ok")])
def test_the_check_looks_at_points_on_their_own_grid(tmp_path, grid, verdict):
    tifffile.imwrite(tmp_path / "v.tif", GREY, photometric="minisblack")
    volume = {"path": "v.tif", "voxel_nm": "5", "axes": "x,y,z"}
    (tmp_path / "p.csv").write_text("z,y,x\n17,1,1\n")  # outside z of the file
    row = {"path": "p.csv", "task": "t", "unit": "voxel", "kind": "points", "grid": grid}
    facts = checks.check_labels([row], volume, classes=[], root=tmp_path)
    assert facts["verdict"] == verdict
