"""Claims about classification: every voxel of the mask, each by its own patch, no other."""

import json

import numpy as np
import pytest

from tomoglean import classification, patches, picks, volumes
from tomoglean.provenance import Refused
from tomoglean.volumes import Volume

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

VOXEL_NM = (2.0, 2.0, 2.0)
GREY = {"p_low": 0.0, "p_high": 1.0, "mean": 0.0, "std": 1.0}
SHA256 = "0" * 64


def bright_spot(path):
    """Write a network that answers with the mean of a patch's middle 2 x 2 pixels."""
    value, node = onnx.helper.make_tensor_value_info, onnx.helper.make_node
    tensors = {
        "zero": np.int64([0]),
        "corners": np.int32([[[24, 24], [24, 25], [25, 24], [25, 25]]]),
        "one": np.int64([1]),
        "plane": np.int64([0, 3]),
    }
    graph = onnx.helper.make_graph(
        [
            node("Squeeze", ["image", "plane"], ["slice"]),
            node("Unsqueeze", ["positions", "one"], ["tops"]),
            node("Add", ["tops", "corners"], ["short"]),
            node("Cast", ["short"], ["places"], to=onnx.TensorProto.INT64),
            node("GatherND", ["slice", "places"], ["values"]),
            node("ReduceMean", ["values"], ["probabilities"], axes=[1], keepdims=0),
        ],
        "bright spot",
        [
            value("image", onnx.TensorProto.FLOAT, [1, None, None, 1]),
            value("positions", onnx.TensorProto.INT32, [None, 2]),
        ],
        [value("probabilities", onnx.TensorProto.FLOAT, [None])],
        [onnx.numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.helper.set_model_props(model, {"weights_sha256": SHA256})
    onnx.save(model, str(path))


def description(path, sha256=SHA256):
    facts = {
        "format": "tomoglean-model-1",
        "network": "lenet5",
        "architecture": {"patch_px": 50},
        "classes": ["other", "complex"],
        "weights_sha256": sha256,
    }
    path.write_text(json.dumps(facts))


@pytest.fixture
def classifier(tmp_path):
    bright_spot(tmp_path / "n.onnx")
    description(tmp_path / "n.json")
    return classification.load(tmp_path / "n.onnx", tmp_path / "n.json")


@pytest.fixture
def classified(tmp_path, classifier):
    """Classify a volume under a mask; return the path of the map."""

    def run(data, mask, **settings):
        volumes.write(Volume(data.astype(np.float32), VOXEL_NM), tmp_path / "v.h5", **GREY)
        volumes.write(Volume(mask.astype(np.uint8), VOXEL_NM), tmp_path / "m.h5")
        paths = (tmp_path / "v.h5", tmp_path / "m.h5")
        classification.classify(*paths, classifier, tmp_path / "s.h5", **settings)
        return tmp_path / "s.h5"

    return run


@pytest.fixture
def noise():
    return np.random.default_rng(0).random((7, 61, 67))


def expected_at(slice_, y, x):
    grey = slice_[..., None].astype(np.float32)
    patch = patches.cut(grey, np.array([[y, x]]), 50)[0]
    return patch[24:26, 24:26].mean()


def test_every_voxel_gets_the_score_of_its_own_patch_borders_too(classified, noise):
    scores = volumes.read(classified(noise, np.ones_like(noise))).data
    assert scores.dtype == np.float16
    for z, y, x in [(0, 0, 0), (3, 30, 33), (6, 60, 66), (2, 0, 66), (5, 59, 1)]:
        assert scores[z, y, x] == np.float16(expected_at(noise[z], y, x))


def test_every_view_is_the_patch_mirrored():
    image = np.random.default_rng(2).random((61, 67, 3))
    positions = np.array([[0, 0], [11, 17], [7, 2]], np.int32)
    for number, axis in enumerate("yxz"):
        seen, moved = classification.mirrored(image, positions, axis, 50)
        for (y, x), (top, left) in zip(positions, moved, strict=True):
            patch = image[y : y + 50, x : x + 50]
            view = seen[top : top + 50, left : left + 50]
            assert np.array_equal(view, np.flip(patch, number))


class Corner:
    """Answers with the first pixel of a patch, which every flip moves elsewhere."""

    def get_inputs(self):
        return []

    def run(self, _, feeds):
        y, x = feeds["positions"].T
        return [feeds["image"][0, y, x, 0]]


def test_the_score_is_the_mean_over_all_views():
    image = np.random.default_rng(3).random((52, 53, 2)).astype(np.float32)
    net = classification.Classifier(Corner(), 50)
    (found,) = net.probabilities(image, np.array([[1, 2]], np.int32), "yxz")
    corners = image[1:51:49, 2:52:49]
    assert corners.size == 8
    assert found == pytest.approx(corners.mean())


def test_outside_the_mask_is_zero_and_inside_does_not_change(classified, noise):
    mask = np.random.default_rng(1).random(noise.shape) < 0.1
    everywhere = volumes.read(classified(noise, np.ones_like(noise))).data
    masked = volumes.read(classified(noise, mask)).data
    assert (masked[~mask] == 0).all()
    assert np.array_equal(masked[mask], everywhere[mask])


@pytest.mark.parametrize("settings", [{"batch": 7}, {"batch": 1000}, {"threads": 2}])
def test_batches_and_threads_change_no_byte(classified, noise, settings):
    mask = np.random.default_rng(1).random(noise.shape) < 0.05
    plain = classified(noise, mask).read_bytes()
    assert classified(noise, mask, **settings).read_bytes() == plain


def test_a_planted_object_is_found_where_it_stands(classified, tmp_path):
    """A spot over pixels 30-31 and 40-41 is centred at 30.5, 40.5."""
    data = np.zeros((5, 61, 67))
    data[2, 30:32, 40:42] = 0.9
    scores = classified(data, np.ones_like(data))
    mask = volumes.read(tmp_path / "m.h5")
    normals = {"normals": np.zeros((3, *mask.shape), np.int8)}
    volumes.write(mask, tmp_path / "m.h5", extra=normals)
    found = picks.pick(scores, tmp_path / "m.h5", refine_nm=8.0)
    np.testing.assert_allclose(found.positions, [[2, 30.5, 40.5]], atol=1e-9)
    np.testing.assert_allclose(found.positions_nm, [[4, 61, 81]], atol=1e-9)


def test_the_map_says_where_its_scores_are_centred(classified, noise):
    attrs = volumes.attributes(classified(noise, np.zeros_like(noise)))
    assert attrs["offset_voxel"] == [0, 0.5, 0.5]
    assert attrs["voxel_nm"] == list(VOXEL_NM)


def test_it_tells_how_many_slices_are_done(classified, noise, caplog):
    with caplog.at_level("INFO", "tomoglean.progress"):
        classified(noise, np.ones(noise.shape))
    assert caplog.messages[-1].startswith(f"classify: {len(noise)} slices in ")


def test_an_empty_mask_gives_a_map_of_zeros(classified, noise):
    assert not volumes.read(classified(noise, np.zeros_like(noise))).data.any()


def test_scores_are_averaged_along_z_within_the_mask(classified, noise):
    mask = np.ones_like(noise)
    mask[3, 20] = 0
    plain = volumes.read(classified(noise, mask)).data.astype(float)
    smooth = volumes.read(classified(noise, mask, smooth_nm=2.0)).data.astype(float)
    np.testing.assert_allclose(smooth[4, 9], plain[3:6, 9].mean(axis=0), atol=1e-3)
    np.testing.assert_allclose(smooth[0, 9], plain[0:2, 9].mean(axis=0), atol=1e-3)
    np.testing.assert_allclose(smooth[4, 20], plain[4:6, 20].mean(axis=0), atol=1e-3)
    assert (smooth[3, 20] == 0).all()


def test_slabs_change_nothing(classified, noise, monkeypatch):
    whole = classified(noise, np.ones_like(noise), smooth_nm=4.0).read_bytes()
    thin = volumes.slabs
    monkeypatch.setattr(volumes, "slabs", lambda depth: thin(depth, 2))
    assert classified(noise, np.ones_like(noise), smooth_nm=4.0).read_bytes() == whole


def test_a_stack_lower_than_the_average_is_averaged_as_far_as_it_goes():
    ones = np.ones((2, 2), np.float32)
    stack = [(ones * value, ones > 0) for value in (1, 3)]
    smooth = list(classification.smoothed(stack, 5))
    assert [image[0, 0] for image in smooth] == [2, 2]


def test_a_network_of_another_training_is_refused(tmp_path):
    bright_spot(tmp_path / "n.onnx")
    description(tmp_path / "n.json", sha256="1" * 64)
    with pytest.raises(Refused, match="found another"):
        classification.load(tmp_path / "n.onnx", tmp_path / "n.json")


def test_a_mask_of_another_shape_is_refused(tmp_path, classifier):
    volumes.write(Volume(np.zeros((2, 3, 4)), VOXEL_NM), tmp_path / "v.h5", **GREY)
    volumes.write(Volume(np.zeros((2, 3, 5)), VOXEL_NM), tmp_path / "m.h5")
    paths = (tmp_path / "v.h5", tmp_path / "m.h5")
    with pytest.raises(Refused, match="expected the shape"):
        classification.classify(*paths, classifier, tmp_path / "s.h5")


def test_classification_needs_no_keras():
    import subprocess
    import sys

    code = "import sys, tomoglean.classification; sys.exit('keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
