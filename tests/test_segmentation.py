import json
import tracemalloc

import h5py
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tomoglean import chunks, segmentation, volumes, voting
from tomoglean.networks import exported
from tomoglean.networks.exported import Network
from tomoglean.provenance import Refused
from tomoglean.volumes import Volume
from tomoglean.voting import FULL

SCALE = {"p_low": -100.0, "p_high": 100.0, "mean": 0.0, "std": 1.0}
CLASSES = ["background", "bone", "metal"]


def write_network(path, kernel, bias, sha256="a" * 64):
    """Write conv -> softmax as an ONNX file; kernel of shape (classes, channels, k, k)."""
    kernel, k = np.asarray(kernel, np.float32), np.asarray(kernel).shape[-1]
    nodes = [
        helper.make_node("Transpose", ["image"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["first", "kernel", "bias"], ["c"], pads=[k // 2] * 4),
        helper.make_node("Transpose", ["c"], ["last"], perm=[0, 2, 3, 1]),
        helper.make_node("Softmax", ["last"], ["probabilities"], axis=-1),
    ]
    ends = [
        helper.make_tensor_value_info(
            name, TensorProto.FLOAT, [1, "H", "W", kernel.shape[axis]]
        )
        for axis, name in [(1, "image"), (0, "probabilities")]
    ]
    weights = [
        numpy_helper.from_array(kernel, "kernel"),
        numpy_helper.from_array(np.asarray(bias, np.float32), "bias"),
    ]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], weights)
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    helper.set_model_props(model, {"weights_sha256": sha256})
    onnx.save(model, path)


def write_model(path, classes=CLASSES, sha256="a" * 64, **facts):
    facts = {"classes": classes, "weights_sha256": sha256, **facts}
    path.write_text(json.dumps({"architecture": {"depth": 5}, **facts}))


@pytest.fixture
def loaded(tmp_path):
    """Return a function that makes a network of a kernel and loads it."""

    def make(kernel, bias=(0, 0, 0), threads=1, **facts):
        write_network(tmp_path / "net.onnx", kernel, bias)
        write_model(tmp_path / "net.json", **facts)
        return exported.load(tmp_path / "net.onnx", tmp_path / "net.json", threads=threads)

    return make


@pytest.fixture
def by_grey(loaded):
    """A network whose answer depends on each pixel alone: below -1, between, above 1."""
    return loaded(np.reshape([-9, 0, 9], (3, 1, 1, 1)), bias=(0, 9, 0))


@pytest.fixture
def blur(loaded):
    """A network that looks at its neighbours, so that the slicing axis matters."""
    return loaded(np.random.default_rng(0).normal(0, 1, (3, 1, 5, 5)))


def noise(shape, seed=3):
    return np.random.default_rng(seed).normal(0, 2, shape).astype(np.float32)


def segment(tmp_path, data, network, *, z=None, scale=SCALE, **settings):
    source, output = tmp_path / "raw.h5", tmp_path / "out.h5"
    volumes.write(Volume(data, (2.0, 3.0, 4.0), z), source, **scale)
    segmentation.segment(source, network, output, **settings)
    return volumes.read(output).data, volumes.read(output, "confidence").data


class Told:
    """Stands for a session: says per slicing axis (known by H, W) what it was told."""

    def __init__(self, answers):
        self.answers = answers

    def run(self, _, feeds):
        _, height, width, _ = feeds["image"].shape
        answer = np.asarray(self.answers[height, width], np.float32)
        return [np.broadcast_to(answer, (1, height, width, len(answer)))]


def told(**answers):
    """Network that answers by axis on a volume of shape (2, 3, 5)."""
    sizes = {"z": (3, 5), "y": (2, 5), "x": (2, 3)}
    session = Told({sizes[axis]: answer for axis, answer in answers.items()})
    return Network(session, ("a", "b"), 1, 1, "0")


# The vote


def test_soft_vote_averages_the_axes(tmp_path):
    network = told(z=(0.95, 0.05), y=(0.4, 0.6), x=(0.4, 0.6))
    labels, confidence = segment(tmp_path, noise((2, 3, 5)), network)
    assert np.all(labels == 0)  # a hard vote would say 1
    assert np.all(confidence == round(255 * 1.75 / 3))


def test_it_tells_how_many_slices_are_done(tmp_path, caplog):
    with caplog.at_level("INFO", "tomoglean.progress"):
        segment(tmp_path, noise((2, 3, 5)), told(z=(1, 0), y=(1, 0), x=(1, 0)))
    told_of = [
        line.partition(" in ")[0] for line in caplog.messages if " slices in" in line
    ]
    assert told_of == [
        f"segment along {axis}: {n} slices"
        for axis, n in zip("zyx", (2, 3, 5), strict=True)
    ]


def test_weights_shift_the_vote(tmp_path):
    network = told(z=(0.9, 0.1), y=(0.4, 0.6), x=(0.4, 0.6))
    weights = {"z": 1, "y": 4, "x": 4}
    labels, confidence = segment(tmp_path, noise((2, 3, 5)), network, weights=weights)
    assert np.all(labels == 1)
    assert np.all(confidence == round(255 * (0.1 + 8 * 0.6) / 9))


def test_axis_of_weight_zero_is_left_out(tmp_path):
    network = told(y=(0.25, 0.75))
    settings = {"axes": ["z", "y"], "weights": {"z": 0}}
    labels, confidence = segment(tmp_path, noise((2, 3, 5)), network, **settings)
    assert np.all(labels == 1)
    assert np.all(confidence == 191)


def test_lower_label_wins_a_tie(tmp_path):
    labels, confidence = segment(tmp_path, noise((2, 3, 5)), told(z=(0.5, 0.5)), axes=["z"])
    assert not labels.any()
    assert np.all(confidence == 128)


@pytest.mark.parametrize("shares", [(1.0,), (1 / 3,) * 3, (0.1, 0.2, 0.7)])
def test_certainty_on_all_axes_is_255_and_never_overflows(shares):
    sure = np.array([1, 0], np.float32).reshape(2, 1, 1, 1)
    votes = sum(voting.vote(sure, share) for share in shares)
    labels, confidence = voting.decide(votes)
    assert labels.item() == 0
    assert confidence.item() == 255


def test_confidence_is_the_greatest_probability():
    votes = np.array([0.2, 0.5, 0.3]).reshape(3, 1, 1, 1) * FULL
    labels, confidence = voting.decide(votes.astype(np.uint16))
    assert (labels.item(), confidence.item()) == (1, 128)


# The way through the volume


@pytest.mark.parametrize("axes", [["z"], ["y"], ["x"], ["z", "x"], None])
def test_a_pixelwise_network_gives_the_same_along_any_axes(tmp_path, by_grey, axes):
    data = noise((9, 21, 34))
    labels, confidence = segment(tmp_path, data, by_grey, axes=axes)
    np.testing.assert_array_equal(labels, np.digitize(data, [-1, 1]))
    assert confidence.min() >= 255 // 3


def test_three_axes_equal_the_mean_of_each_alone(tmp_path, blur):
    data = noise((7, 18, 33))
    alone = np.zeros((3, *data.shape))
    for axis in range(3):
        for n, image in enumerate(np.moveaxis(data, axis, 0)):
            answer = blur.probabilities(image[..., None])
            np.moveaxis(alone, 1 + axis, 0)[n] += np.moveaxis(answer, -1, 0) / 3
    labels, confidence = segment(tmp_path, data, blur)
    top = np.sort(alone, axis=0)
    clear = top[-1] - top[-2] > 1e-4
    assert clear.mean() > 0.95
    np.testing.assert_array_equal(labels[clear], alone.argmax(0)[clear])
    np.testing.assert_allclose(confidence / 255, alone.max(0), atol=0.5 / 255 + 1e-4)


def test_slab_thickness_changes_nothing(tmp_path, blur, monkeypatch):
    data = noise((11, 13, 19))
    whole = segment(tmp_path, data, blur)
    for thickness in (1, 4):
        monkeypatch.setattr(
            segmentation._Voter, "thickness", lambda *_, thickness=thickness: thickness
        )
        np.testing.assert_array_equal(segment(tmp_path, data, blur), whole)


def test_less_memory_makes_thinner_slabs(blur):
    class Big:
        shape = (4096, 4096, 4096)

    def thickness(gb):
        return segmentation._Voter(Big(), SCALE, blur, False, gb).thickness(0)

    assert thickness(1000) == volumes.CHUNK
    assert thickness(4) in (8, 4)
    assert thickness(0.05) == 1


def test_threads_change_no_byte(tmp_path, loaded):
    data = noise((5, 37, 41))
    kernel = np.random.default_rng(0).normal(0, 0.1, (3, 1, 9, 9))
    one = segment(tmp_path, data, loaded(kernel))
    bytes_of_one = (tmp_path / "out.h5").read_bytes()
    three = segment(tmp_path, data, loaded(kernel, threads=3))
    np.testing.assert_array_equal(one, three)
    assert (tmp_path / "out.h5").read_bytes() == bytes_of_one


def test_memory_stays_far_below_the_volume(tmp_path, by_grey, monkeypatch):
    for limit in ("BAND_BYTES", "TILE_BYTES"):  # 32 MiB, of a small volume too
        monkeypatch.setattr(chunks, limit, 1 << 16)
    shape = (384, 64, 64)  # 6 MB as float32, 9 MB of votes
    with volumes.create(
        tmp_path / "raw.h5", {"data": (shape, np.float32)}, voxel_nm=(1, 1, 1), **SCALE
    ):
        pass
    tracemalloc.start()
    segmentation.segment(tmp_path / "raw.h5", by_grey, tmp_path / "o.h5", memory_gb=0.0003)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e6


def test_mirroring_makes_the_answer_symmetric(tmp_path, blur):
    half = noise((2, 12, 10))
    data = np.concatenate([half, half[:, ::-1]], axis=1)
    plain, _ = segment(tmp_path, data, blur, axes=["z"])
    assert not np.array_equal(plain, plain[:, ::-1])
    _, confidence = segment(tmp_path, data, blur, axes=["z"], mirror=True)
    np.testing.assert_allclose(confidence, confidence[:, ::-1].astype(float), atol=1)


def test_fingerprint_of_the_volume_sets_the_scale(tmp_path, by_grey):
    data = noise((4, 9, 8))
    scale = {"p_low": 0.0, "p_high": 100.0, "mean": 50.0, "std": 10.0}
    plain, _ = segment(tmp_path, data, by_grey)
    scaled, _ = segment(tmp_path, data * 10 + 50, by_grey, scale=scale)
    np.testing.assert_array_equal(plain, scaled)


def test_grid_and_classes_are_passed_on(tmp_path, by_grey):
    segment(tmp_path, noise((4, 5, 6)), by_grey, axes=["z", "x"])
    attrs = volumes.attributes(tmp_path / "out.h5")
    assert attrs["voxel_nm"] == [2, 3, 4]
    assert json.loads(attrs["classes"]) == CLASSES
    assert json.loads(attrs["axes"]) == {"z": 0.5, "x": 0.5}
    assert attrs["weights_sha256"] == "a" * 64


# Sizes, 2.5D


@pytest.mark.parametrize("size", [(16, 32), (600, 37), (1, 5), (3, 3)])
def test_images_are_padded_to_a_legal_size_and_cropped_back(size, by_grey):
    legal = []
    run = by_grey.session.run

    class Watched:
        def run(self, names, feeds):
            legal.append(feeds["image"].shape[1:3])
            return run(names, feeds)

    watched = Network(Watched(), by_grey.classes, 16, 1, "0")
    image = noise((*size, 1))
    assert watched.probabilities(image).shape == (*size, 3)
    assert all(n % 16 == 0 and n - m < 16 for n, m in zip(legal[0], size, strict=True))


def test_padding_mirrors_the_image(blur):
    image = noise((13, 16, 1))
    mirrored = np.concatenate([image[1:2], image, image[-2:-4:-1]])
    np.testing.assert_array_equal(
        blur.probabilities(image), blur.probabilities(mirrored)[1:14]
    )


@pytest.mark.parametrize("thickness", [1, 2, 64])
def test_neighbouring_slices_are_the_channels(tmp_path, loaded, monkeypatch, thickness):
    """A network that shows which of three slices is brightest sees its neighbours."""
    network = loaded(np.eye(3).reshape(3, 3, 1, 1) * 9)
    monkeypatch.setattr(segmentation._Voter, "thickness", lambda *_: thickness)
    data = np.zeros((6, 4, 4), np.float32)
    data[3] = 1
    labels, _ = segment(tmp_path, data, network, axes=["z"])
    assert labels[2:5, 0, 0].tolist() == [2, 1, 0]


@pytest.mark.parametrize(("architecture", "multiple"), [({"depth": 4}, 8), ({}, 1)])
def test_depth_of_the_network_sets_the_legal_size(loaded, architecture, multiple):
    network = loaded(np.zeros((3, 1, 1, 1)), architecture=architecture)
    assert network.multiple == multiple


# What is refused


def test_sparse_volume_is_cut_along_z_only(tmp_path, by_grey):
    z = np.array([0, 10, 40])
    data = noise((3, 6, 7))
    labels, _ = segment(tmp_path, data, by_grey, z=z)
    np.testing.assert_array_equal(labels, np.digitize(data, [-1, 1]))
    np.testing.assert_array_equal(volumes.read(tmp_path / "out.h5").z, z)
    with pytest.raises(Refused, match=r"sparse.*axes: \[z\]"):
        segment(tmp_path, data, by_grey, z=z, axes=["z", "y"])


def test_sparse_volume_has_no_neighbours(tmp_path, loaded):
    network = loaded(np.eye(3).reshape(3, 3, 1, 1))
    with pytest.raises(Refused, match="sparse"):
        segment(tmp_path, noise((3, 6, 7)), network, z=np.array([0, 10, 40]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"axes": []}, "axes"),
        ({"axes": ["z", "z"]}, "axes"),
        ({"axes": ["t"]}, "axes"),
        ({"weights": {"z": 0, "y": 0, "x": 0}}, "weights"),
        ({"weights": {"z": -1}}, "weights"),
    ],
)
def test_impossible_votes_are_refused(tmp_path, by_grey, settings, message):
    with pytest.raises(Refused, match=message):
        segment(tmp_path, noise((3, 4, 5)), by_grey, **settings)


def test_network_of_other_weights_is_refused(tmp_path):
    write_network(tmp_path / "net.onnx", np.zeros((3, 1, 1, 1)), np.zeros(3), "b" * 64)
    write_model(tmp_path / "net.json")
    with pytest.raises(Refused, match=r"aaaaaaaaaaaa.*found bbbbbbbbbbbb"):
        exported.load(tmp_path / "net.onnx", tmp_path / "net.json")


def test_network_of_other_classes_is_refused(loaded):
    with pytest.raises(Refused, match="expected 2 classes, found 3"):
        loaded(np.zeros((3, 1, 1, 1)), classes=["a", "b"])


def test_broken_weights_fail_instead_of_labelling(tmp_path):
    network = told(z=(np.nan, 0.5))
    with pytest.raises(ValueError, match="NaN"):
        segment(tmp_path, noise((2, 3, 5)), network, axes=["z"])


def test_failure_leaves_nothing_behind(tmp_path):
    network = told(z=(0.5, 0.5), y=(0.5, 0.5), x=(np.nan, 0.5))
    with pytest.raises(ValueError, match="NaN"):
        segment(tmp_path, noise((2, 3, 5)), network)
    assert [file.name for file in tmp_path.iterdir()] == ["raw.h5"]


def test_success_leaves_only_the_output(tmp_path, blur):
    segment(tmp_path, noise((2, 3, 5)), blur)
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {"raw.h5", "out.h5", "net.onnx", "net.json"}
    with h5py.File(tmp_path / "out.h5") as file:
        assert set(file) == {"data", "confidence"}
