"""Augmentation: six of each, image and labels together, the same bits every time."""

import inspect
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from tomoglean import augment

KEYS = {"seed": 1, "volume": "a", "group": "z"}
STILL = {
    "rotation_deg": 0,
    "elastic": 0,
    "flips": (),
    "gain": 0,
    "offset": 0,
    "gamma": 0,
}


def column(warps, name):
    return warps[:, augment.COLUMNS.index(name)]


def noise(shape=(20, 30), seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def warp(**facts):
    values = {"copy": 1, "gain": 1, "gamma": 1, **facts}
    return np.asarray([values.get(name, 0) for name in augment.COLUMNS], float)


def test_one_slice_becomes_six():
    warps = augment.plan(3, **KEYS)
    assert column(warps, "index").tolist() == [0] * 6 + [1] * 6 + [2] * 6
    assert column(warps, "copy").tolist() == [0, 1, 2, 3, 4, 5] * 3


def test_15942_slices_become_95652():
    assert len(augment.plan(15942, **KEYS)) == 95652


def test_the_original_is_untouched():
    image, labels = noise(), np.ones((20, 30), np.uint8)
    same, still = augment.apply(image, labels, augment.plan(1, **KEYS)[0])
    assert np.array_equal(same, image)
    assert np.array_equal(still, labels)


def test_a_warp_does_not_depend_on_how_many_there_are():
    assert np.array_equal(augment.plan(2, **KEYS), augment.plan(5, **KEYS)[:12])


@pytest.mark.parametrize("other", [{"seed": 2}, {"volume": "b"}, {"group": "y"}])
def test_another_seed_volume_or_axis_gives_other_warps(other):
    ours, theirs = augment.plan(2, **KEYS), augment.plan(2, **{**KEYS, **other})
    assert not np.array_equal(column(ours, "key")[1:6], column(theirs, "key")[1:6])


def test_every_number_stays_within_its_setting():
    warps = augment.plan(50, **KEYS, rotation_deg=10, gain=0.2, offset=0.3, gamma=0.1)
    assert np.abs(column(warps, "angle_deg")).max() <= 10
    assert np.abs(column(warps, "gain") - 1).max() <= 0.2
    assert np.abs(column(warps, "offset")).max() <= 0.3
    assert np.abs(column(warps, "gamma") - 1).max() <= 0.1
    assert np.abs(column(warps, "angle_deg")).max() > 5


def test_patches_are_neither_turned_nor_bent_by_default():
    warps = augment.plan(20, seed=1, volume="a", group="patches")
    assert not column(warps, "angle_deg").any()
    assert not column(warps, "elastic").any()
    assert column(warps, "flip_x").any()


def test_a_forbidden_flip_never_happens():
    warps = augment.plan(50, **KEYS, flips=["y"])
    assert column(warps, "flip_y").any()
    assert not column(warps, "flip_x").any()


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"flip_y": 1}, lambda image: image[::-1]),
        ({"flip_x": 1}, lambda image: image[:, ::-1]),
        ({"flip_y": 1, "flip_x": 1}, lambda image: image[::-1, ::-1]),
    ],
)
def test_flips_move_pixels_and_change_none(facts, expected):
    image = noise()
    labels = np.random.default_rng(1).integers(0, 4, (20, 30)).astype(np.uint8)
    moved, truth = augment.apply(image, labels, warp(**facts))
    assert np.array_equal(moved, expected(image))
    assert np.array_equal(truth, expected(labels))


def test_a_flip_along_z_turns_the_order_of_the_channels_round():
    image = noise((20, 30, 3))
    assert np.array_equal(
        augment.apply(image, np.uint8(1), warp(flip_z=1))[0], image[..., ::-1]
    )


def test_a_flip_along_z_happens_where_it_is_asked_for():
    assert not column(augment.plan(50, **KEYS), "flip_z").any()
    turned = column(augment.plan(50, **KEYS, flips=["z"]), "flip_z")
    assert 50 < turned.sum() < 200


def test_half_a_turn_is_both_flips():
    labels = np.random.default_rng(1).integers(0, 4, (20, 30)).astype(np.uint8)
    moved, truth = augment.apply(noise(), labels, warp(angle_deg=180))
    assert np.allclose(moved, noise()[::-1, ::-1], atol=1e-6)
    assert np.array_equal(truth, labels[::-1, ::-1])


def test_labels_move_with_the_image():
    labels = np.zeros((60, 60), np.uint8)
    labels[20:35, 15:50] = 1
    image = labels.astype(np.float32)
    moved, truth = augment.apply(image, labels, warp(angle_deg=30, elastic=0.3, key=7))
    inside = truth != 255
    assert np.mean((moved > 0.5)[inside] == truth[inside]) > 0.99
    assert not np.array_equal(truth, labels)


def test_labels_are_never_blended():
    labels = np.where(noise() > 0, 3, 0).astype(np.uint8)
    _, truth = augment.apply(noise(), labels, warp(angle_deg=33, elastic=0.3, key=5))
    assert set(np.unique(truth)) <= {0, 3, 255}


def test_what_comes_from_outside_is_not_labelled():
    _, truth = augment.apply(
        noise((40, 40)), np.ones((40, 40), np.uint8), warp(angle_deg=45)
    )
    assert truth[0, 0] == 255
    assert truth[20, 20] == 1


def test_gain_and_offset_are_what_they_say():
    image = noise()
    changed, _ = augment.apply(image, np.uint8(1), warp(gain=1.5, offset=0.25))
    assert np.allclose(changed, 1.5 * image + 0.25, atol=1e-6)


def test_gamma_keeps_the_darkest_and_the_brightest():
    image = noise()
    changed, _ = augment.apply(image, np.uint8(1), warp(gamma=1.2))
    assert changed.min() == pytest.approx(image.min(), abs=1e-5)
    assert changed.max() == pytest.approx(image.max(), abs=1e-5)
    assert not np.allclose(changed, image)


def test_noise_has_the_stated_strength():
    image = np.zeros((100, 100), np.float32)
    changed, _ = augment.apply(image, np.uint8(1), warp(noise=0.5, key=3))
    assert changed.std() == pytest.approx(0.5, rel=0.03)


def test_neighbouring_slices_move_alike():
    image = noise()
    stack = np.stack([image, image], axis=-1)
    row = warp(angle_deg=20, elastic=0.3, key=9)
    moved, _ = augment.apply(stack, np.uint8(0), row)
    assert np.array_equal(moved[..., 0], moved[..., 1])
    assert np.array_equal(moved[..., 0], augment.apply(image, np.uint8(0), row)[0])


def test_the_label_of_a_patch_stays():
    assert augment.apply(noise(), np.uint8(1), warp(flip_x=1))[1] == 1


@pytest.fixture
def examples(tmp_path):
    path = tmp_path / "examples.h5"
    rng = np.random.default_rng(3)
    with h5py.File(path, "w") as file:
        file.attrs.update({"volume": "a", "kind": "slices"})
        for name, shape in [("z", (3, 20, 30)), ("y", (0, 20, 30))]:
            file[f"{name}/images"] = rng.normal(size=shape).astype(np.float32)
            file[f"{name}/labels"] = rng.integers(0, 3, shape).astype(np.uint8)
            file[f"{name}/index"] = np.arange(shape[0])
    return path


def test_pixels_on_the_fly_are_those_on_disk(examples, tmp_path):
    augment.write(examples, tmp_path / "out.h5", seed=5, materialise=True, noise=0.3)
    with h5py.File(examples) as source, h5py.File(tmp_path / "out.h5") as made:
        group, out = source["z"], made["z"]
        assert out["images"].shape == (18, 20, 30)
        for row, warp in enumerate(out["warps"][...]):
            place = int(warp[0])
            image, labels = augment.apply(
                group["images"][place], group["labels"][place], warp
            )
            assert np.array_equal(image, out["images"][row])
            assert np.array_equal(labels, out["labels"][row])


def test_without_pixels_there_are_only_numbers(examples, tmp_path):
    augment.write(examples, tmp_path / "out.h5", seed=5)
    with h5py.File(tmp_path / "out.h5") as made:
        assert list(made["z"]) == ["warps"]
        assert made["y/warps"].shape == (0, len(augment.COLUMNS))
        assert made.attrs["volume"] == "a"


def test_the_same_seed_writes_the_same_bytes(examples, tmp_path):
    for name in ("one", "two"):
        augment.write(examples, tmp_path / name, seed=5, materialise=True)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_schema_and_the_code_have_the_same_defaults():
    path = Path(__file__).parent.parent / "config/schemas/augment.yaml"
    schema = yaml.safe_load(path.read_text())["properties"]
    known = {**inspect.signature(augment.plan).parameters}
    known |= inspect.signature(augment.write).parameters
    for name, entry in schema.items():
        default = known[name].default
        assert entry["default"] == (list(default) if name == "flips" else default)
