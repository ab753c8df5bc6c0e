"""Claims about patches: where they lie, what they are called, and how many there are."""

import h5py
import numpy as np
import pytest

from tomoglean import patches, tables, volumes
from tomoglean.provenance import Refused
from tomoglean.volumes import Volume

VOXEL_NM = (2.0, 2.0, 2.0)
GREY = {"p_low": -1e9, "p_high": 1e9, "mean": 0.0, "std": 1.0}
SHAPE = (24, 60, 70)


def points_at(*places, classes=None):
    positions = np.array(places, float).reshape(-1, 3)
    names = classes or ("t3ss",) * len(positions)
    return tables.Points(positions, np.zeros_like(positions), tuple(names))


@pytest.fixture
def sampled(tmp_path):
    """Sample a volume whose grey values are its voxels' numbers; return the file."""

    def run(points, mask=None, seed=1, name="a", **settings):
        data = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
        inside = np.ones(SHAPE, np.uint8) if mask is None else mask
        volumes.write(Volume(data, VOXEL_NM), tmp_path / "v.h5", **GREY)
        volumes.write(Volume(inside, VOXEL_NM), tmp_path / "m.h5")
        paths = (tmp_path / "v.h5", tmp_path / "m.h5")
        out = tmp_path / "out.h5"
        patches.sample(*paths, points, out, name=name, seed=seed, **settings)
        with h5py.File(out) as file:
            group = {key: file["patches"][key][...] for key in file["patches"]}
            return {**group, "attrs": dict(file.attrs), "bytes": out.read_bytes()}

    return run


def distance_nm(found, points):
    gaps = (found["centres"][:, None] - points.positions[None]) * VOXEL_NM
    return np.linalg.norm(gaps, axis=-1).min(axis=1)


def test_the_centre_of_a_50_px_patch_is_24_5():
    assert patches.centres(np.array([[3, 24, 24]]), 50).tolist() == [[3, 24.5, 24.5]]


def test_the_centre_of_an_odd_patch_is_its_middle_pixel():
    assert patches.centres(np.array([[3, 25, 25]]), 51).tolist() == [[3, 25, 25]]


@pytest.mark.parametrize("patch_px", [50, 51])
def test_a_patch_inside_covers_the_rows_around_its_centre(patch_px):
    image = np.arange(90.0 * 80).reshape(90, 80, 1)
    patch = patches.cut(image, np.array([[40, 33]]), patch_px)[0]
    top, left, _ = np.argwhere(image == patch[0, 0])[0]
    assert top + (patch_px - 1) / 2 == patches.centres([[0, 40, 33]], patch_px)[0, 1]
    assert np.array_equal(patch, image[top : top + patch_px, left : left + patch_px])


def test_a_patch_at_the_border_is_mirrored():
    image = np.arange(90.0 * 80).reshape(90, 80, 1)
    patch = patches.cut(image, np.array([[0, 40]]), 50)[0]
    assert np.array_equal(patch[:24], patch[24:48][::-1])


def test_a_slice_smaller_than_a_patch_has_patches():
    assert patches.cut(np.ones((3, 1, 2)), np.array([[2, 0]]), 50).shape == (1, 50, 50, 2)


def test_labels_follow_from_the_distance_alone(sampled):
    points = points_at((12, 30.5, 34.5), (4, 20, 20))
    found = sampled(points, near_share=0.7)
    distances = distance_nm(found, points)
    assert (distances[found["labels"] == 1] <= 5).all()
    assert (distances[found["labels"] == 0] > 15).all()
    assert found["labels"].sum() > 50


def test_images_are_cut_where_the_centres_say(sampled):
    found = sampled(points_at((12, 30.5, 34.5)))
    data = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    fits = (np.abs(found["centres"][:, 1] - 29.5) <= 5) & (
        np.abs(found["centres"][:, 2] - 34.5) <= 10
    )
    assert fits.sum() > 10
    for image, index, centre in zip(
        *(found[key][fits] for key in ("images", "index", "centres")), strict=True
    ):
        top, left = (centre[1:] - 24.5).astype(int)
        assert centre[0] == index
        assert np.array_equal(image[..., 0], data[index, top : top + 50, left : left + 50])


def test_neighbouring_slices_are_the_channels(sampled):
    found = sampled(points_at((12, 30.5, 34.5)), neighbours=1)
    inside = (found["index"] > 0) & (found["index"] < SHAPE[0] - 1)
    steps = np.diff(found["images"][inside], axis=-1)
    assert found["images"].shape[-1] == 3
    assert (steps == SHAPE[1] * SHAPE[2]).all()


def test_negatives_come_only_from_the_mask_positives_from_anywhere(sampled):
    mask = np.zeros(SHAPE, np.uint8)
    mask[:, 40:] = 1
    found = sampled(points_at((12, 20, 34)), mask=mask)
    rows = np.floor(found["centres"][:, 1])
    assert (rows[found["labels"] == 0] >= 40).all()
    assert (rows[found["labels"] == 1] < 40).all()


def test_the_balance_is_as_set(sampled):
    found = sampled(
        points_at((12, 30, 34)), positives_per_point=20, negatives_per_positive=3
    )
    assert np.bincount(found["labels"]).tolist() == [60, 20]


def test_all_positives_are_taken_on_request(sampled):
    point = points_at((12, 30.5, 34.5))
    grid = np.argwhere(np.ones(SHAPE))
    gaps = (grid + np.array([0, 0.5, 0.5]) - point.positions) * VOXEL_NM
    ball = (np.linalg.norm(gaps, axis=1) <= 5).sum()
    assert sampled(point, positives_per_point=0)["labels"].sum() == ball


def test_two_points_in_one_place_count_once(sampled):
    once = sampled(points_at((12, 30, 34)), positives_per_point=0)
    twice = sampled(points_at((12, 30, 34), (12, 30, 34)), positives_per_point=0)
    assert once["labels"].sum() == twice["labels"].sum()


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_hard_negatives_have_their_share(sampled, share):
    points = points_at((12, 30, 10))
    found = sampled(points, near_share=share, near_nm=30, decoy_share=0)
    near = distance_nm(found, points)[found["labels"] == 0] <= 30
    assert near.sum() == round(share * len(near))


def test_decoys_are_negatives_with_their_share(sampled):
    points = points_at((12, 30, 10), (12, 30, 55), classes=["t3ss", "flagellum"])
    found = sampled(points, decoy_share=0.5, near_share=0)
    at_decoy = distance_nm(found, points_at((12, 30, 55))) <= 15
    assert (found["labels"][at_decoy] == 0).all()
    assert at_decoy.sum() == (found["labels"] == 0).sum() / 2


def test_another_target_turns_the_tables(sampled):
    points = points_at((12, 30, 10), (12, 30, 55), classes=["t3ss", "flagellum"])
    found = sampled(points, target=["flagellum"])
    right = found["centres"][:, 2] > 40
    assert right[found["labels"] == 1].all()


def test_small_pools_are_made_up_for(sampled):
    mask = np.zeros(SHAPE, np.uint8)
    mask[12, 30, 30:60] = 1
    found = sampled(points_at((12, 30, 10)), mask=mask, near_share=0.9, near_nm=50)
    assert (found["labels"] == 0).sum() == 30


def test_no_points_give_only_negatives(sampled):
    found = sampled(points_at(), negatives_without_points=17)
    assert found["labels"].tolist() == [0] * 17


def test_an_empty_mask_without_points_gives_a_valid_empty_file(sampled):
    found = sampled(points_at(), mask=np.zeros(SHAPE, np.uint8))
    assert found["images"].shape == (0, 50, 50, 1)
    assert found["images"].dtype == np.float32
    assert found["labels"].dtype == np.uint8
    assert found["centres"].shape == (0, 3)


def test_points_outside_the_volume_do_no_harm(sampled):
    found = sampled(points_at((-40, 5, 5), (500, 5, 5)), negatives_per_positive=1)
    assert len(found["labels"]) == 0


def test_the_file_says_what_it_is(sampled):
    attrs = sampled(points_at())["attrs"]
    assert attrs["volume"] == "a"
    assert attrs["kind"] == "patches"
    assert attrs["voxel_nm"].tolist() == list(VOXEL_NM)
    assert len(attrs["classes"]) == 2


def test_the_same_seed_draws_the_same_and_another_another(sampled):
    points = points_at((12, 30, 34))
    first, again, other, elsewhere = (
        sampled(points, seed=seed, name=name)
        for seed, name in [(1, "a"), (1, "a"), (2, "a"), (1, "b")]
    )
    assert first["bytes"] == again["bytes"]
    assert not np.array_equal(first["centres"], other["centres"])
    assert not np.array_equal(first["centres"], elsewhere["centres"])


def test_the_draw_does_not_hang_on_the_slabs(sampled, monkeypatch):
    points = points_at((12, 30, 34))
    whole = sampled(points)
    monkeypatch.setattr(patches, "THICKNESS", 5)
    assert np.array_equal(whole["centres"], sampled(points)["centres"])


def test_patches_are_standardised_by_the_volumes_fingerprint(tmp_path):
    data = np.random.default_rng(0).normal(100, 10, (2, 60, 60)).astype(np.float32)
    grey = {"p_low": 80.0, "p_high": 120.0, "mean": 100.0, "std": 10.0}
    volumes.write(Volume(data, VOXEL_NM), tmp_path / "v.h5", **grey)
    volumes.write(Volume(np.ones_like(data, np.uint8), VOXEL_NM), tmp_path / "m.h5")
    paths = (tmp_path / "v.h5", tmp_path / "m.h5")
    patches.sample(*paths, points_at(), tmp_path / "o.h5", name="a", seed=1)
    with h5py.File(tmp_path / "o.h5") as file:
        images = file["patches/images"][...]
    assert np.abs(images).max() == 2
    assert abs(images.mean()) < 0.1


def test_a_mask_of_another_shape_is_refused(tmp_path):
    volumes.write(Volume(np.zeros((2, 3, 4)), VOXEL_NM), tmp_path / "v.h5", **GREY)
    volumes.write(Volume(np.zeros((2, 3, 5)), VOXEL_NM), tmp_path / "m.h5")
    paths = (tmp_path / "v.h5", tmp_path / "m.h5")
    with pytest.raises(Refused, match="expected the shape"):
        patches.sample(*paths, points_at(), tmp_path / "o.h5", name="a", seed=1)


def test_radii_that_contradict_each_other_are_refused(sampled):
    with pytest.raises(Refused, match="ignore_nm >= positive_nm"):
        sampled(points_at(), positive_nm=5, ignore_nm=4)
