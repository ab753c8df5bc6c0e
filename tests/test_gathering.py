"""Claims about blocks: any number of jobs makes the same file; no wrong block passes."""

import errno
import os
import tracemalloc

import h5py
import numpy as np
import pytest

from tomoglean import chunks, classification, gathering, segmentation, volumes, voting
from tomoglean.gathering import Block, Joined
from tomoglean.networks.exported import Network
from tomoglean.provenance import Refused
from tomoglean.volumes import Volume

SHAPE = (130, 66, 20)  # three, two layers of chunks and one, the last ones thin
GREY = {"p_low": -100.0, "p_high": 100.0, "mean": 0.0, "std": 1.0}
VOXEL_NM = (2.0, 2.0, 2.0)


class Whole:
    """Answers by a pixel, its place and the mean of its whole slice: no crop would do."""

    def run(self, _, feeds):
        image = feeds["image"].astype(np.float64)
        _, height, width, channels = image.shape
        tilt = np.add.outer(np.arange(height), 2 * np.arange(width)) / (height + width)
        mean = image.mean(axis=(1, 2, 3))
        first = image[..., 0] + tilt - mean[:, None, None]
        last = image[..., channels - 1] + mean[:, None, None]
        raised = np.exp(np.stack([first, last, np.ones_like(first)], axis=-1))
        return [(raised / raised.sum(axis=-1, keepdims=True)).astype(np.float32)]


class Middle:
    """Answers with the pixel right below a patch's middle, of the first channel."""

    def get_inputs(self):
        return []

    def run(self, _, feeds):
        y, x = feeds["positions"].T + 25
        return [feeds["image"][0, y, x, 0] % 1]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    data = np.random.default_rng(5).normal(0, 1, SHAPE).astype(np.float32)
    path = tmp_path_factory.mktemp("source") / "v.h5"
    volumes.write(Volume(data, VOXEL_NM, origin_nm=(1.0, 2.0, 3.0)), path, **GREY)
    return path


@pytest.fixture(scope="module")
def mask(tmp_path_factory):
    zone = np.random.default_rng(6).random(SHAPE) < 0.03
    zone[20:60] = False
    path = tmp_path_factory.mktemp("mask") / "m.h5"
    volumes.write(Volume(zone.astype(np.uint8), VOXEL_NM), path)
    return path


def network(channels=1, sha256="a" * 64):
    return Network(Whole(), ("a", "b", "c"), 1, channels, sha256)


def made_in(number, run, folder):
    """Let so many jobs make parts, and another one gather them."""
    parts = [folder / f"{n}-of-{number}.h5" for n in range(1, number + 1)]
    for part in parts:
        run(part, block=part.stem)
    run(folder / "whole.h5", blocks=parts)
    return folder / "whole.h5"


def differences(found, expected):
    """List how two files differ: nothing, or what helps to find out why."""
    one, two = found.read_bytes(), expected.read_bytes()
    if one == two:
        return []
    places = [n for n, (a, b) in enumerate(zip(one, two, strict=False)) if a != b]
    with h5py.File(found) as left, h5py.File(expected) as right:
        voxels = {name: np.sum(left[name][...] != right[name][...]) for name in right}
    return [found, len(one) - len(two), len(places), places[:3], voxels]


def segmenter(source, **settings):
    net = network(settings.pop("channels", 1))
    return lambda out, **who: segmentation.segment(source, net, out, **settings, **who)


def classifier(source, mask, **settings):
    net = classification.Classifier(Middle(), 50, "b" * 64)
    return lambda out, **who: classification.classify(
        source, mask, net, out, **settings, **who
    )


# -- the same bytes --------------------------------------------------------------------

SEGMENTED = [
    {},
    {"axes": ["z"]},
    {"axes": ["y"]},
    {"axes": ["x"], "mirror": True},
    {"axes": ["x", "z"], "weights": {"x": 3.0}},
    {"axes": ["z", "y"], "channels": 3},
    {"axes": ["z"], "channels": 5},
    {"memory_gb": 0.004},
]


@pytest.mark.parametrize("settings", SEGMENTED, ids=str)
def test_any_number_of_jobs_segments_the_same_file(source, tmp_path, settings):
    run = segmenter(source, **settings)
    run(tmp_path / "one.h5")
    for number in (2, 4):
        gathered = made_in(number, run, tmp_path / str(number))
        assert differences(gathered, tmp_path / "one.h5") == []


CLASSIFIED = [
    {},
    {"thickness_nm": 8.0, "neighbours": 1},
    {"smooth_nm": 6.0, "flips": ["y", "z"], "neighbours": 1},
    {"smooth_nm": 300.0},
]


@pytest.mark.parametrize("settings", CLASSIFIED, ids=str)
def test_any_number_of_jobs_classifies_the_same_file(source, mask, tmp_path, settings):
    run = classifier(source, mask, **settings)
    run(tmp_path / "one.h5")
    assert volumes.read(tmp_path / "one.h5").data.any()
    for number in (2, 4):
        gathered = made_in(number, run, tmp_path / str(number))
        assert differences(gathered, tmp_path / "one.h5") == []


def test_a_sparse_set_of_slices_keeps_its_places(tmp_path):
    z = np.arange(70) * 7
    data = np.random.default_rng(1).normal(0, 1, (70, 9, 8)).astype(np.float32)
    volumes.write(Volume(data, VOXEL_NM, z), tmp_path / "v.h5", **GREY)
    run = segmenter(tmp_path / "v.h5")
    run(tmp_path / "one.h5")
    gathered = made_in(2, run, tmp_path / "two")
    assert gathered.read_bytes() == (tmp_path / "one.h5").read_bytes()
    np.testing.assert_array_equal(volumes.read(gathered).z, z)


def test_gathering_asks_no_network(source, mask, tmp_path):
    run = segmenter(source, axes=["z", "y"])
    parts = [tmp_path / f"{n}-of-2.h5" for n in (1, 2)]
    for part in parts:
        run(part, block=part.stem)
    silent = Network(None, ("a", "b", "c"), 1, 1, "a" * 64)
    segmentation.segment(source, silent, tmp_path / "o.h5", axes=["z", "y"], blocks=parts)
    assert volumes.read(tmp_path / "o.h5").shape == SHAPE


def test_every_slice_is_asked_about_once(source, tmp_path):
    seen = []

    class Counting(Whole):
        def run(self, names, feeds):
            seen.append(feeds["image"].tobytes())
            return super().run(names, feeds)

    net = Network(Counting(), ("a", "b", "c"), 1, 1, "a" * 64)
    for n in (1, 2, 3, 4):
        segmentation.segment(source, net, tmp_path / f"{n}.h5", block=f"{n}-of-4")
    assert len(seen) == len(set(seen)) == sum(SHAPE)


# -- shares ----------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 63, 64, 65, 300, 1449])
@pytest.mark.parametrize("number", [1, 2, 4, 7])
def test_shares_are_layers_of_chunks_that_cover_all_slices_once(depth, number):
    shares = [Block(n, number).share(depth) for n in range(1, number + 1)]
    covered = [z for share in shares for z in range(share.start, share.stop)]
    assert covered == list(range(depth))
    assert all(share.start % 64 == 0 or share.start == depth for share in shares)


def test_no_share_is_more_than_a_layer_larger_than_another():
    sizes = [Block(n, 4).share(1449) for n in range(1, 5)]
    layers = [-(-(share.stop - share.start) // 64) for share in sizes]
    assert max(layers) - min(layers) <= 1


def test_a_place_across_blocks_is_read_as_from_the_whole(tmp_path):
    whole = np.random.default_rng(2).integers(0, 99, (3, 5, 200, 7), np.uint16)
    files = []
    for n in (1, 2, 3):
        share = Block(n, 3).share(200)
        file = h5py.File(tmp_path / f"{n}.h5", "w")
        file["a"] = whole[:, :, share]
        files.append(file)
    joined = Joined(files, "a", 2, whole.shape)
    where = (slice(0, 3), slice(1, 4), slice(50, 170), slice(2, 7))
    np.testing.assert_array_equal(joined[where], whole[where])
    for file in files:
        file.close()


def test_whole_chunks_are_copied_without_unpacking(source, tmp_path, monkeypatch):
    run = segmenter(source, axes=["z"])
    parts = [tmp_path / f"{n}-of-2.h5" for n in (1, 2)]
    for part in parts:
        run(part, block=part.stem)
    packed = []
    encoded = chunks.encoded
    monkeypatch.setattr(chunks, "encoded", lambda x: packed.append(1) or encoded(x))
    run(tmp_path / "o.h5", blocks=parts)
    assert not packed


# -- what is refused -------------------------------------------------------------------


@pytest.fixture
def parts(source, tmp_path):
    """Return a function that makes both blocks of two; and what gathers them."""
    run = segmenter(source, axes=["z"])
    made = [tmp_path / f"{n}-of-2.h5" for n in (1, 2)]
    for part in made:
        run(part, block=part.stem)
    return made, lambda blocks: run(tmp_path / "whole.h5", blocks=blocks)


def test_a_block_of_another_number_of_jobs_is_refused(parts, source, tmp_path):
    made, gather = parts
    segmenter(source, axes=["z"])(tmp_path / "b.h5", block="2-of-3")
    with pytest.raises(Refused, match=r"b\.h5: expected block 2-of-2 .* found 2-of-3"):
        gather([made[0], tmp_path / "b.h5"])


@pytest.mark.parametrize(
    "other", [{"mirror": True}, {"channels": 3}, {"axes": ["x"]}], ids=str
)
def test_a_block_made_with_other_settings_is_refused(parts, source, tmp_path, other):
    made, gather = parts
    settings = {"axes": ["z"], **other}
    net = network(
        settings.pop("channels", 1), "c" * 64 if "channels" in other else "a" * 64
    )
    segmentation.segment(source, net, tmp_path / "b.h5", block="2-of-2", **settings)
    with pytest.raises(Refused, match=r"expected block 2-of-2 of \w{12}, found 2-of-2 of"):
        gather([made[0], tmp_path / "b.h5"])


def test_a_block_of_another_volume_is_refused(parts, source, tmp_path):
    made, gather = parts
    data = volumes.read(source).data
    volumes.write(Volume(data, VOXEL_NM), tmp_path / "v.h5", **{**GREY, "mean": 0.5})
    segmenter(tmp_path / "v.h5", axes=["z"])(made[1], block="2-of-2")
    with pytest.raises(Refused, match="expected block"):
        gather(made)


def test_a_volume_file_that_is_no_block_is_refused(parts, source):
    made, gather = parts
    with pytest.raises(Refused, match="found none"):
        gather([made[0], source])


def test_a_block_cut_short_is_refused(parts):
    made, gather = parts
    made[1].write_bytes(made[1].read_bytes()[:5000])
    with pytest.raises(Refused, match="expected a whole block, found damage"):
        gather(made)


def flip_in_chunk(path, dataset):
    """Change one byte in the middle of the first chunk of a dataset."""
    with h5py.File(path) as file:
        chunk = file[dataset].id.get_chunk_info(0)
        place = chunk.byte_offset + chunk.size // 2
    raw = bytearray(path.read_bytes())
    raw[place] ^= 255
    path.write_bytes(raw)


def test_a_damaged_chunk_is_found_though_it_is_only_copied(parts, tmp_path):
    made, gather = parts
    flip_in_chunk(made[0], "confidence")
    with pytest.raises(Refused, match="wrong checksum of chunk"):
        gather(made)
    assert not (tmp_path / "whole.h5").exists()


def test_damaged_votes_are_refused(source, tmp_path):
    run = segmenter(source, axes=["z", "x"])
    made = [tmp_path / f"{n}-of-2.h5" for n in (1, 2)]
    for part in made:
        run(part, block=part.stem)
    flip_in_chunk(made[1], "votes_x")
    with pytest.raises(Refused, match=r"2-of-2\.h5: expected a whole block"):
        run(tmp_path / "whole.h5", blocks=made)


def test_a_part_of_another_shape_is_refused(tmp_path):
    with h5py.File(tmp_path / "1.h5", "w") as file:
        file["data"] = np.zeros((64, 3, 3), np.uint8)
        with pytest.raises(Refused, match=r"\(64, 3, 3\) instead of \(65, 3, 3\)"):
            Joined([file], "data", 0, (65, 3, 3))


def test_a_missing_chunk_is_refused(parts, tmp_path):
    """A dataset that nobody filled has no chunk to copy."""
    made, gather = parts
    with h5py.File(made[0], "r+") as file:
        old = file["data"]
        shape, size = old.shape, old.chunks
        del file["data"]
        file.create_dataset("data", shape, np.uint8, chunks=size, fletcher32=True)
    with pytest.raises(Refused, match="chunks are missing"):
        gather(made)


def test_scores_of_another_mask_are_refused(source, mask, tmp_path):
    other = tmp_path / "m.h5"
    volumes.write(volumes.read(mask), other, within_nm=7.0)
    made = [tmp_path / f"{n}-of-2.h5" for n in (1, 2)]
    for part, zone in zip(made, (mask, other), strict=True):
        classifier(source, zone)(part, block=part.stem)
    with pytest.raises(Refused, match=r"2-of-2\.h5: expected block"):
        classifier(source, mask)(tmp_path / "o.h5", blocks=made)


def test_damage_is_told_in_one_line():
    refusal = gathering.damaged("b.h5", OSError("two\nlines"))
    assert "\n" not in str(refusal)


def test_memory_of_gathering_stays_below_the_votes(tmp_path):
    shape = (128, 640, 64)  # votes of 31 MB an axis
    with volumes.create(
        tmp_path / "v.h5", {"data": (shape, np.float32)}, voxel_nm=VOXEL_NM, **GREY
    ):
        pass
    run = segmenter(tmp_path / "v.h5", axes=["x", "z"], memory_gb=0.001)
    parts = [tmp_path / f"{n}-of-2.h5" for n in (1, 2)]
    for part in parts:
        run(part, block=part.stem)
    tracemalloc.start()
    run(tmp_path / "o.h5", blocks=parts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12e6


def test_a_full_disk_is_told_before_the_process_would_die_of_it(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with (
        pytest.raises(Refused, match=r"expected 0\.002 GB free .* No space left"),
        voting.on_disk(tmp_path, (2, 1000, 1000)),
    ):
        pass
