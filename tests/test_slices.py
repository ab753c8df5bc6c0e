"""Slices: the labelled ones, along each axis, as the network will see them."""

import inspect
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from tomoglean import labels as label_files
from tomoglean import slices, volumes
from tomoglean.provenance import Refused
from tomoglean.volumes import Volume

SHAPE = (6, 8, 10)
FINGERPRINT = {"p_low": 10.0, "p_high": 900.0, "mean": 400.0, "std": 50.0}
NAMES = {"name": "a", "classes": ["background", "thing"]}


def put(path, data, **more):
    attrs = {key: more.pop(key) for key in list(more) if key != "z"}
    volumes.write(Volume(data, (1.0, 1.0, 1.0), more.get("z")), path, **attrs)
    return path


@pytest.fixture
def grey():
    return np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE)


@pytest.fixture
def volume(tmp_path, grey):
    return put(tmp_path / "volume.h5", grey, **FINGERPRINT)


def labelled(path, where, value=1):
    data = np.full(SHAPE, 255, np.uint8)
    data[where] = value
    return put(path, data)


def cut(volume, labels, path, **settings):
    slices.write(volume, labels, path, **{**NAMES, **settings})
    with h5py.File(path) as file:
        return {
            name: {key: group[key][...] for key in group} for name, group in file.items()
        }


def test_only_labelled_slices_are_taken(volume, tmp_path):
    labels = labelled(tmp_path / "l.h5", np.s_[2:4])
    found = cut(volume, [labels], tmp_path / "out.h5")
    assert found["z"]["index"].tolist() == [2, 3]


def test_every_axis_is_cut_and_oriented_alike(volume, grey, tmp_path):
    labels = labelled(tmp_path / "l.h5", np.s_[:])
    found = cut(volume, [labels], tmp_path / "out.h5")
    shapes = {axis: group["images"].shape for axis, group in found.items()}
    assert shapes == {"z": (6, 8, 10), "y": (8, 6, 10), "x": (10, 6, 8)}
    scaled = (np.clip(grey, 10, 900) - 400.0) / 50
    assert np.allclose(found["x"]["images"][3], scaled[:, :, 3])
    assert np.allclose(found["y"]["images"][5], scaled[:, 5])


def test_grey_values_are_clipped_and_standardised(volume, tmp_path):
    labels = labelled(tmp_path / "l.h5", np.s_[0])
    images = cut(volume, [labels], tmp_path / "out.h5")["z"]["images"]
    assert images.dtype == np.float32
    assert images[0, 0, 0] == pytest.approx((10 - 400) / 50)
    assert images[0, 5, 0] == pytest.approx((50 - 400) / 50)


@pytest.mark.parametrize(("least", "count"), [(0.49, 1), (0.51, 0)])
def test_the_labelled_share_decides(volume, tmp_path, least, count):
    labels = labelled(tmp_path / "l.h5", np.s_[1, :4])
    found = cut(volume, [labels], tmp_path / "out.h5", min_labelled=least, axes=["z"])
    assert len(found["z"]["index"]) == count


def test_a_slice_without_labels_is_never_taken(volume, tmp_path):
    labels = labelled(tmp_path / "l.h5", np.s_[1])
    found = cut(volume, [labels], tmp_path / "out.h5", min_labelled=0, axes=["z"])
    assert found["z"]["index"].tolist() == [1]


def test_no_labels_at_all_give_a_valid_empty_file(volume, tmp_path):
    found = cut(volume, [], tmp_path / "out.h5")
    assert found["z"]["images"].shape == (0, 8, 10)
    assert found["x"]["labels"].shape == (0, 6, 8)


def test_later_labels_win_where_they_say_something(volume, tmp_path):
    weak = labelled(tmp_path / "weak.h5", np.s_[0], 1)
    clean = labelled(tmp_path / "clean.h5", np.s_[0, :4], 0)
    found = cut(volume, [weak, clean], tmp_path / "out.h5", axes=["z"])
    assert found["z"]["labels"][0, :, 0].tolist() == [0] * 4 + [1] * 4


def test_the_crop_is_central(volume, tmp_path):
    labels = labelled(tmp_path / "l.h5", np.s_[:])
    whole = cut(volume, [labels], tmp_path / "whole.h5")
    cropped = cut(volume, [labels], tmp_path / "crop.h5", crop_px=4)
    assert np.array_equal(cropped["z"]["images"], whole["z"]["images"][:, 2:6, 3:7])


def test_a_crop_larger_than_the_slice_keeps_it_whole(volume, tmp_path):
    labels = labelled(tmp_path / "l.h5", np.s_[:])
    found = cut(volume, [labels], tmp_path / "out.h5", crop_px=9)
    assert found["z"]["images"].shape == (6, 8, 9)


def test_the_share_is_counted_within_the_crop(volume, tmp_path):
    labels = labelled(tmp_path / "l.h5", np.s_[1, 2:6, 3:7])
    settings = {"axes": ["z"], "min_labelled": 1.0}
    assert len(
        cut(volume, [labels], tmp_path / "a.h5", crop_px=4, **settings)["z"]["index"]
    )
    assert not len(cut(volume, [labels], tmp_path / "b.h5", **settings)["z"]["index"])


def test_neighbours_are_channels_and_repeat_at_the_ends(volume, grey, tmp_path):
    labels = labelled(tmp_path / "l.h5", np.s_[:])
    found = cut(volume, [labels], tmp_path / "out.h5", neighbours=1, axes=["z"])["z"]
    plain = cut(volume, [labels], tmp_path / "one.h5", axes=["z"])["z"]["images"]
    assert np.array_equal(found["images"][2], np.moveaxis(plain[1:4], 0, -1))
    assert np.array_equal(found["images"][0, ..., 0], plain[0])


def test_neighbours_do_not_end_where_a_slab_ends(tmp_path):
    data = np.arange(70, dtype=np.uint16)[:, None, None] * np.ones((1, 4, 4), np.uint16)
    still = {"p_low": 0.0, "p_high": 100.0, "mean": 0.0, "std": 1.0}
    volume = put(tmp_path / "deep.h5", data, **still)
    labels = put(tmp_path / "l.h5", np.zeros((70, 4, 4), np.uint8))
    found = cut(volume, [labels], tmp_path / "out.h5", neighbours=1, axes=["z"])["z"]
    assert found["images"][63, 0, 0].tolist() == [62, 63, 64]
    assert found["images"][64, 0, 0].tolist() == [63, 64, 65]


@pytest.fixture
def sparse(tmp_path, grey):
    z = np.asarray([0, 5, 9, 40, 41, 90])
    return put(tmp_path / "sparse.h5", grey, z=z, **FINGERPRINT)


def test_a_sparse_set_is_cut_along_z_only_and_keeps_its_true_z(sparse, tmp_path):
    labels = labelled(tmp_path / "l.h5", np.s_[2:4])
    found = cut(sparse, [labels], tmp_path / "out.h5")
    assert list(found) == ["z"]
    assert found["z"]["index"].tolist() == [9, 40]


def test_keep_names_true_z(sparse, tmp_path):
    labels = labelled(tmp_path / "l.h5", np.s_[:])
    found = cut(sparse, [labels], tmp_path / "out.h5", keep=[5, 41, 77])
    assert found["z"]["index"].tolist() == [5, 41]


def test_slices_kept_apart_are_kept_apart_on_every_axis(volume, tmp_path):
    labels = labelled(tmp_path / "l.h5", np.s_[:])
    assert list(cut(volume, [labels], tmp_path / "out.h5", keep=[1])) == ["z"]


def test_a_sparse_set_has_no_neighbours(sparse, tmp_path):
    with pytest.raises(Refused, match=r"set slice.neighbours to 0"):
        cut(sparse, [], tmp_path / "out.h5", neighbours=1)


def test_labels_of_another_shape_are_refused(volume, tmp_path):
    labels = put(tmp_path / "l.h5", np.zeros((6, 8, 9), np.uint8))
    with pytest.raises(Refused, match=r"expected the shape \(6, 8, 10\)"):
        cut(volume, [labels], tmp_path / "out.h5")


def test_the_file_says_whose_slices_these_are(volume, tmp_path):
    cut(volume, [], tmp_path / "out.h5")
    facts = volumes.attributes(tmp_path / "out.h5")
    assert (facts["volume"], facts["kind"]) == ("a", "slices")
    assert facts["p_high"] == 900
    assert list(facts["classes"]) == NAMES["classes"]


@pytest.mark.parametrize("form", ["png", "tif"])
def test_corrected_slices_come_back_where_they_belong(volume, tmp_path, form):
    labels = labelled(tmp_path / "l.h5", np.s_[2:5, :, 3:])
    folder = tmp_path / "by_hand"
    slices.export_for_correction(volume, [labels], folder, indices=[2, 4], form=form)

    row = {"path": str(folder / "labels"), "task": "t", "volume": "a", "kind": "clean"}
    label_files.convert([row], volume, tmp_path / "back.h5", classes=NAMES["classes"])
    back = volumes.read(tmp_path / "back.h5").data
    sent = volumes.read(labels).data
    assert np.array_equal(back[[2, 4]], sent[[2, 4]])
    assert (back[[0, 1, 3, 5]] == 255).all()


def test_pictures_are_numbered_as_the_volume_was(grey, tmp_path):
    volume = put(tmp_path / "v.h5", grey, first_slice=100, **FINGERPRINT)
    labels = labelled(tmp_path / "l.h5", np.s_[1])
    slices.export_for_correction(volume, [labels], tmp_path / "hand", indices=[1])
    assert [file.name for file in (tmp_path / "hand/labels").iterdir()] == ["00101.png"]

    row = {"path": str(tmp_path / "hand/labels")}
    label_files.convert([row], volume, tmp_path / "back.h5", classes=NAMES["classes"])
    assert (volumes.read(tmp_path / "back.h5").data[1] == 1).all()


def test_pictures_to_correct_show_the_clipped_grey_values(volume, tmp_path):
    import cv2

    slices.export_for_correction(volume, [], tmp_path / "by_hand", indices=[0])
    picture = cv2.imread(str(tmp_path / "by_hand/images/00000.png"), cv2.IMREAD_UNCHANGED)
    assert picture.shape == (8, 10)
    assert picture[0, 0] == 0
    assert picture[7, 9] == round(255 * (79 - 10) / 890)


def test_a_slice_that_is_not_there_cannot_be_corrected(volume, tmp_path):
    with pytest.raises(Refused, match="z = 6"):
        slices.export_for_correction(volume, [], tmp_path / "by_hand", indices=[6])


def test_the_schema_and_the_code_have_the_same_defaults():
    path = Path(__file__).parent.parent / "config/schemas/slice.yaml"
    schema = yaml.safe_load(path.read_text())["properties"]
    known = inspect.signature(slices.write).parameters
    for name, entry in schema.items():
        default = known[name].default
        assert entry["default"] == (list(default) if name == "axes" else default)
