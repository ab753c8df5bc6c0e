import json
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import tifffile

from tomoglean import checks, provenance
from tomoglean.formats import moments

RAMP = np.arange(1000, dtype=np.uint16).reshape(10, 10, 10)


@pytest.fixture
def volume(tmp_path):
    """Write a TIFF volume and return its row."""

    def write(data, name="scan.tif", **row):
        tifffile.imwrite(tmp_path / name, data, photometric="minisblack")
        return {"volume": "v1", "path": str(tmp_path / name), "voxel_nm": "5", **row}

    return write


def test_a_good_volume_is_ok(volume):
    facts = checks.check(volume(RAMP))
    assert (facts["verdict"], facts["messages"]) == ("ok", [])


def test_a_volume_is_measured(volume):
    facts = checks.check(volume(RAMP))
    assert (facts["minimum"], facts["maximum"], facts["mean"]) == (0, 999, 499.5)
    assert facts["std"] == pytest.approx(RAMP.std())
    assert facts["percentiles"] == pytest.approx(
        {"0.5": 4.995, "50": 499.5, "99.5": 994.005}
    )
    assert (facts["finite_fraction"], facts["saturated_fraction"]) == (1, 0.001)


def test_a_volume_is_described(volume):
    row = volume(RAMP)
    facts = checks.check(row)
    assert (facts["volume"], facts["source"]) == ("v1", "scan.tif")
    assert (facts["shape"], facts["dtype"]) == ([10, 10, 10], "uint16")
    assert (facts["voxel_nm"], facts["format"]) == ([5, 5, 5], "tiff")
    assert facts["sha256"] == provenance.sha256_of(row["path"])


def test_every_key_is_there_whatever_happens(volume, tmp_path):
    good = checks.check(volume(RAMP))
    bad = checks.check({"volume": "v2", "path": str(tmp_path / "missing.mrc")})
    assert good.keys() == bad.keys()


def test_facts_can_be_written_as_json(volume):
    for data in (RAMP, np.full((2, 3, 3), np.nan, np.float32)):
        json.dumps(checks.check(volume(data)), allow_nan=False)


def test_paths_are_relative_to_the_root(volume, tmp_path):
    row = volume(RAMP)
    assert checks.check({**row, "path": "scan.tif"}, tmp_path) == checks.check(row)


def test_no_folder_is_told(volume, tmp_path):
    facts = checks.check(volume(RAMP, voxel_nm=""))
    assert str(tmp_path) not in json.dumps(facts)


def test_the_result_does_not_depend_on_the_slabs(volume, monkeypatch):
    row = volume(np.random.default_rng(1).normal(size=(7, 20, 30)).astype(np.float32))
    whole = checks.check(row)
    monkeypatch.setattr(checks, "SLAB_BYTES", 1)
    assert checks.check(row) == whole


def test_a_giant_slice_is_measured_a_few_rows_at_a_time(volume, monkeypatch):
    row = volume(RAMP)
    whole = checks.check(row)
    monkeypatch.setattr(checks, "BLOCK_VOXELS", 30)
    assert checks.check(row) == {
        **whole,
        "mean": pytest.approx(whole["mean"]),
        "std": pytest.approx(whole["std"]),
    }


def test_the_first_bad_voxel_is_found_in_a_later_row(volume, monkeypatch):
    data = RAMP.astype(np.float32)
    data[4, 7, 2] = data[4, 8, 1] = np.nan
    monkeypatch.setattr(checks, "BLOCK_VOXELS", 30)
    message = checks.check(volume(data))["messages"][0]
    assert "found 2 NaN or Inf, the first at z, y, x = (4, 7, 2)" in message


# -- refused ---------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_voxel_that_is_no_number_is_refused_with_its_place(volume, bad):
    data = RAMP.astype(np.float32)
    data[3, 4, 5] = data[7, 0, 0] = bad
    facts = checks.check(volume(data))
    assert facts["verdict"] == "refused"
    assert "found 2 NaN or Inf, the first at z, y, x = (3, 4, 5)" in facts["messages"][0]
    assert facts["finite_fraction"] == pytest.approx(0.998)


def test_a_refused_volume_is_measured_by_its_finite_values(volume):
    data = RAMP.astype(np.float32)
    data[0, 0, 0] = np.inf
    assert checks.check(volume(data))["maximum"] == 999


def test_a_volume_without_any_number_is_refused(volume):
    facts = checks.check(volume(np.full((2, 3, 3), np.nan, np.float32)))
    assert (facts["verdict"], facts["minimum"]) == ("refused", None)


def test_a_constant_volume_is_refused(volume):
    facts = checks.check(volume(np.full((2, 3, 3), 7, np.uint8)))
    assert facts["verdict"] == "refused"
    assert "one value everywhere (7)" in facts["messages"][0]


def test_a_transform_is_refused(tmp_path):
    with mrcfile.new(tmp_path / "v.mrc") as file:
        file.set_data(np.ones((2, 3, 4), np.complex64))
    facts = checks.check({"path": str(tmp_path / "v.mrc"), "voxel_nm": "1"})
    assert facts["verdict"] == "refused"
    assert "complex64" in facts["messages"][0]


def test_an_unknown_voxel_size_is_refused_but_measured(volume):
    facts = checks.check(volume(RAMP, voxel_nm=""))
    assert facts["verdict"] == "refused"
    assert "fill in voxel_nm" in facts["messages"][0]
    assert facts["mean"] == 499.5


def test_damage_is_refused_in_one_line(volume):
    row = volume(RAMP)
    content = Path(row["path"]).read_bytes()
    Path(row["path"]).write_bytes(content[:-300])
    facts = checks.check(row)
    assert facts["verdict"] == "refused"
    assert facts["messages"][0].startswith("scan.tif: expected")
    assert "\n" not in facts["messages"][0]


def test_the_refusal_comes_before_the_warnings(volume):
    data = RAMP.astype(np.float32)
    data[0] = 1
    data[1, 1, 1] = np.nan
    messages = checks.check(volume(data))["messages"]
    assert "NaN" in messages[0]
    assert "one value only in slices z = 0" in messages[1]


# -- warnings --------------------------------------------------------------------------


def constant_slice():
    data = RAMP.copy()
    data[6] = 42
    return data


@pytest.mark.parametrize(
    ("data", "row", "message"),
    [
        (constant_slice(), {}, "one value only in slices z = 6"),
        (np.where(RAMP % 10 < 3, 999, RAMP), {}, "30 % of the voxels have the highest"),
        (RAMP[:1], {}, "one slice only"),
        (RAMP, {"voxel_nm": "25,10,10"}, "no cubes, 25 x 10 x 10 nm"),
        (RAMP, {"voxel_nm": "0.005"}, "found 0.005, 0.005, 0.005 nm; see whether voxel_nm"),
        (RAMP, {"voxel_nm": "5000000"}, "expected voxels of 0.02 nm to 1 mm"),
    ],
)
def test_what_is_odd_is_told_and_taken(volume, data, row, message):
    facts = checks.check(volume(data, **row))
    assert facts["verdict"] == "warning"
    assert message in facts["messages"][0]


def test_equal_colour_channels_are_told(tmp_path):
    grey = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    colours = np.stack([grey] * 3, -1)
    tifffile.imwrite(tmp_path / "v.tif", colours, photometric="rgb")
    facts = checks.check({"path": str(tmp_path / "v.tif"), "voxel_nm": "1"})
    assert "reduced to grey" in facts["messages"][0]
    assert facts["mean"] == 29.5


def test_a_volume_of_few_values_is_not_called_saturated(volume):
    facts = checks.check(volume(RAMP % 3))
    assert (facts["verdict"], facts["maximum"]) == ("ok", 2)
    assert facts["saturated_fraction"] == 0.333


def test_painted_labels_are_no_volume(tmp_path):
    colours = np.stack([RAMP.astype(np.uint8) // 200] * 3, -1)
    tifffile.imwrite(tmp_path / "v.tif", colours, photometric="rgb")
    facts = checks.check({"path": str(tmp_path / "v.tif"), "voxel_nm": "1"})
    assert facts["verdict"] == "refused"
    assert "painted labels? Give them in labels.tsv" in facts["messages"][0]


# -- percentiles of large volumes ------------------------------------------------------


def test_every_voxel_serves_in_a_small_volume():
    assert moments.sampling_step((64, 256, 256)) == 1


@pytest.mark.parametrize("shape", [(100, 600, 600), (3, 3056, 3056), (1000, 1000, 30)])
def test_a_sample_of_a_large_volume_is_bounded_and_meets_all_columns(shape):
    step = moments.sampling_step(shape)
    assert np.prod(shape) / step <= checks.MOST_SAMPLES
    assert len({place * step % shape[2] for place in range(shape[2])}) == shape[2]


def test_a_sample_tells_the_percentiles(volume, monkeypatch):
    row = volume(np.random.default_rng(2).normal(size=(20, 50, 50)).astype(np.float32))
    exact = checks.check(row)["percentiles"]
    monkeypatch.setattr(checks, "MOST_SAMPLES", 5000)
    assert checks.check(row)["percentiles"] == pytest.approx(exact, abs=0.2)
    assert checks.check(row)["percentiles"] != exact


# -- bare files ------------------------------------------------------------------------


def test_a_bare_file_gets_the_row_it_needs(tmp_path):
    path = tmp_path / "My scan (1).mrc"
    with mrcfile.new(path) as file:
        file.set_data(RAMP)
        file.voxel_size = 15.6
    facts = checks.describe(path)
    assert facts["verdict"] == "ok"
    assert facts["row"] == {
        "volume": "My-scan-1",
        "tasks": "",
        "path": str(path),
        "voxel_nm": "1.56,1.56,1.56",
    }


def test_what_is_said_of_a_bare_file_is_in_its_row(tmp_path):
    RAMP.tofile(tmp_path / "v.raw")
    row = {"shape": "10,10,10", "dtype": "uint16", "voxel_nm": "4"}
    facts = checks.describe(tmp_path / "v.raw", **row)
    assert facts["verdict"] == "ok"
    assert row.items() <= facts["row"].items() | {("voxel_nm", "4")}


def test_what_a_file_tells_of_some_axes_is_told(tmp_path):
    tifffile.imwrite(
        tmp_path / "v.tif",
        RAMP,
        imagej=True,
        resolution=(0.5, 0.5),
        metadata={"unit": "nm", "axes": "ZYX"},
    )
    messages = checks.describe(tmp_path / "v.tif")["messages"]
    assert messages[1:] == ["v.tif: the file tells only ?, 2, 2 nm (z, y, x)"]


@pytest.mark.parametrize("name", ["p.star", "p.tbl", "p.mod", "p.csv"])
def test_points_are_sent_to_their_table(tmp_path, name):
    (tmp_path / name).write_text("points")
    assert "points go into labels.tsv" in checks.describe(tmp_path / name)["messages"][0]


def test_a_shape_in_other_words_is_refused_as_a_shape(tmp_path):
    RAMP.tofile(tmp_path / "v.raw")
    facts = checks.describe(tmp_path / "v.raw", shape="10x10x10", dtype="uint16")
    assert "three whole numbers z,y,x, found '10x10x10'" in facts["messages"][0]


def test_a_damaged_bare_file_is_described_too(tmp_path):
    (tmp_path / "v.mrc").write_text("no volume")
    facts = checks.describe(tmp_path / "v.mrc")
    assert facts["verdict"] == "refused"
    assert facts["row"]["volume"] == "v"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.tif", "a"), ("../x y", "x-y"), ("---", "volume"), ("ä1.mrc", "1"), ("b_1", "b-1")],
)
def test_ids_made_of_names_are_legal(name, expected):
    assert checks.volume_id(Path(name)) == expected


# -- folders of volumes ----------------------------------------------------------------


def names_in(folder):
    return [str(path.relative_to(folder)) for path in checks.volumes_in(folder)]


def test_a_folder_of_single_images_is_one_volume(tmp_path):
    for z in range(3):
        tifffile.imwrite(tmp_path / f"s{z}.tif", RAMP[z])
    (tmp_path / "README.md").write_text("slices")
    assert checks.volumes_in(tmp_path) == [tmp_path]


def test_a_folder_of_stacks_is_searched(tmp_path):
    (tmp_path / "deeper").mkdir()
    for name in ("a.tif", "b.tif", "deeper/c.mrc", ".hidden.mrc", "notes.txt"):
        tifffile.imwrite(tmp_path / name, RAMP, photometric="minisblack")
    assert names_in(tmp_path) == ["a.tif", "b.tif", "deeper/c.mrc"]


def test_what_a_study_has_made_is_not_searched(tmp_path):
    for name in ("study/config/config.yaml", "study/results/a.mrc", "study/raw/b.mrc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert names_in(tmp_path) == ["study/raw/b.mrc"]


def test_one_image_among_volumes_is_a_volume(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", RAMP[0])
    (tmp_path / "b.mrc").write_bytes(b"x")
    assert names_in(tmp_path) == ["a.tif", "b.mrc"]


def test_slices_with_a_damaged_one_are_one_volume(tmp_path):
    (tmp_path / "s0.tif").write_bytes(b"damaged")
    tifffile.imwrite(tmp_path / "s1.tif", RAMP[1])
    assert checks.volumes_in(tmp_path) == [tmp_path]


# -- labels ----------------------------------------------------------------------------

CLASSES = ["background", "bone"]


@pytest.fixture
def looked_at(volume, tmp_path):
    """Check labels of the ramp volume."""

    def check(labels, classes=CLASSES, **row):
        tifffile.imwrite(tmp_path / "labels.tif", labels, photometric="minisblack")
        rows = [{"task": "bone", "kind": "clean", "path": "labels.tif", **row}]
        return checks.check_labels(rows, volume(RAMP), classes=classes, root=tmp_path)

    return check


def test_good_labels_are_ok_and_counted(looked_at):
    facts = looked_at((RAMP > 899).astype(np.uint8))
    assert (facts["verdict"], facts["messages"]) == ("ok", [])
    assert facts["voxels"] == {"background": 900, "bone": 100}
    assert facts["unlabelled"] == 0


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.ones((10, 10, 9), np.uint8), "expected labels of the volume's shape"),
        (np.where(RAMP == 5, 7, RAMP % 2).astype(np.uint8), "found 7 (1 voxels)"),
        (np.full(RAMP.shape, 255, np.uint8), "every voxel unlabelled"),
        (np.full(RAMP.shape, 0.5, np.float32), "expected the labels whole numbers"),
    ],
)
def test_labels_that_cannot_be_are_refused_by_name(looked_at, labels, message):
    facts = looked_at(labels)
    assert facts["verdict"] == "refused"
    assert facts["messages"][0].startswith("labels.tif: expected")
    assert message in facts["messages"][0]


def test_labels_of_a_volume_that_cannot_be_opened_are_refused(tmp_path):
    row = {"task": "bone", "kind": "clean", "path": "labels.tif"}
    facts = checks.check_labels([row], {"path": "none.mrc"}, classes=CLASSES, root=tmp_path)
    assert facts["verdict"] == "refused"
    assert facts["messages"][0].startswith("none.mrc: ")


def test_labels_that_a_crop_leaves_out_are_refused_before_they_are_converted(
    volume, tmp_path
):
    said = np.full(RAMP.shape, 255, np.uint8)
    said[0] = 1
    tifffile.imwrite(tmp_path / "labels.tif", said, photometric="minisblack")
    rows = [{"task": "bone", "kind": "clean", "path": "labels.tif"}]
    for crop, verdict in (("", "warning"), ("2:,:,:", "refused")):
        row = volume(RAMP, crop=crop)
        facts = checks.check_labels(rows, row, classes=CLASSES, root=tmp_path)
        assert facts["verdict"] == verdict


def test_points_that_a_crop_leaves_out_are_not_counted(volume, tmp_path):
    (tmp_path / "p.csv").write_text("z,y,x\n1,2,3\n5,2,3\n")
    rows = [{"task": "bone", "kind": "points", "unit": "voxel", "path": "p.csv"}]
    row = volume(RAMP, crop="2:,:,:")
    facts = checks.check_labels(rows, row, classes=CLASSES, root=tmp_path)
    assert facts["points"] == 1
