"""The simulated user: errs as users do, from the image, and says how much."""

from dataclasses import replace

import numpy as np
import pytest

from tomoglean import config
from tomoglean.simulators.implant import annotator
from tomoglean.simulators.implant.annotator import Labels, User, chosen_slices, corrected

USUAL = Labels(**config.filled({}, "phantom-implant", "simulate", "")["labels"])
STEADY = replace(USUAL, hand_um=0.0, hand_bias_um=0.0)
GREYS = (0.3, 1.4, 1.2, 1.9)


def rod_in_bone(shape=(12, 64, 64), greys=GREYS, rough=0.25):
    """A metal rod in a rough layer, bone on one side, marrow on the other."""
    depth, rows, columns = shape
    y, x = np.mgrid[:rows, :columns]
    away = np.hypot(y - rows / 2, x - columns / 2)
    plane = np.where(x > columns / 2 + 20, 1, 0)
    plane[away < 19], plane[away < 12] = 2, 3
    truth = np.repeat(plane[None], depth, axis=0).astype(np.uint8)
    rng = np.random.default_rng(0)
    image = np.array(greys)[truth] + 0.02 * rng.standard_normal(shape)
    grain = annotator._blurred(rng.standard_normal(shape).astype(np.float32), 2.0)
    image += (truth == 2) * rough * grain / grain.std()
    return image.astype(np.float32), truth


def user(image, truth, labels=USUAL, name="one"):
    return User(1, name, labels, image, truth, 5.0)


def labelled(someone):
    weak = np.full(someone.truth.shape, 99, np.uint8)
    for part, codes in someone.weak():
        weak[part] = codes
    return weak


def iou(weak, truth, label):
    return np.sum((weak == label) & (truth == label)) / np.sum(
        (weak == label) | (truth == label)
    )


@pytest.mark.parametrize("label", range(4))
def test_clear_classes_are_found_roughly(label):
    image, truth = rod_in_bone()
    weak = labelled(user(image, truth))
    assert 0.5 < iou(weak, truth, label) < 0.995


def test_where_metal_and_layer_have_one_grey_the_texture_tells_them():
    image, truth = rod_in_bone(greys=(0.2, 0.6, 0.48, 0.48), rough=0.1)
    someone = user(image, truth, STEADY)
    assert someone.thresholds().bright == -np.inf
    assert iou(labelled(someone), truth, 3) > 0.6


def test_where_they_have_two_the_brightness_does():
    assert user(*rod_in_bone(rough=0.1)).thresholds().bright == pytest.approx(1.55, abs=0.2)


def test_the_hand_goes_astray_as_far_as_it_says():
    image, truth = rod_in_bone((40, 64, 64))

    def drawn(name="one", **hand):
        labels = replace(STEADY, hand_scale_um=40.0, **hand)
        someone = user(image, truth, labels, name)
        return someone._region(slice(0, 40), someone._hand())

    implant = truth >= 2
    np.testing.assert_array_equal(drawn(), implant)
    radius = np.sqrt(drawn(hand_bias_um=15.0).sum() / implant.sum()) * 19
    assert radius == pytest.approx(19 + 3, abs=0.6)
    astray = [np.sum(drawn(name, hand_um=10.0) ^ implant) for name in "abcdefgh"]
    # Mean of |error| is 10 um sqrt(2 / pi) along the outline of radius 19 pixels.
    expected = 40 * 2 * np.pi * 19 * 2 * np.sqrt(2 / np.pi)
    assert np.mean(astray) == pytest.approx(expected, rel=0.12)


def test_each_volume_is_drawn_anew():
    image, truth = rod_in_bone()
    one, two = (labelled(user(image, truth, name=name)) for name in ("one", "two"))
    assert np.any(one != two)
    np.testing.assert_array_equal(one, labelled(user(image, truth)))


def test_slabs_leave_no_trace(monkeypatch):
    image, truth = rod_in_bone((30, 64, 64))
    whole = labelled(user(image, truth))
    monkeypatch.setattr(annotator, "SLAB_VOXELS", 1)
    np.testing.assert_array_equal(labelled(user(image, truth)), whole)


def test_labels_come_from_the_image():
    image, truth = rod_in_bone()
    dark = np.where(truth == 1, 0.3, image).astype(np.float32)
    assert np.mean(labelled(user(dark, truth))[truth == 1] == 1) < 0.2


def test_a_scan_without_implant_gets_no_metal():
    image, truth = rod_in_bone()
    weak = labelled(user(image, np.minimum(truth, 1)))
    assert weak.max() == 1


@pytest.mark.parametrize("number", [0, 1, 3])
@pytest.mark.parametrize("axes", [("z", "y", "x"), ("y",)])
def test_corrected_slices_hold_the_truth_on_the_chosen_axes(number, axes):
    _, truth = rod_in_bone()
    labels = replace(USUAL, corrected_slices=number, corrected_axes=axes)
    chosen = chosen_slices(1, "one", truth.shape, labels)
    parts = [corrected(truth[a:b], a, chosen) for a, b in ((0, 5), (5, 12))]
    codes = np.concatenate(parts)
    known = codes != 255
    np.testing.assert_array_equal(codes[known], truth[known])
    for index, axis in enumerate("zyx"):
        others = tuple(other for other in range(3) if other != index)
        expected = number if axis in axes else 0
        assert np.count_nonzero(known.all(axis=others)) == expected
    filled = [np.count_nonzero(known.any(axis=(1, 2)))] if not number else []
    assert not any(filled)


def test_chosen_slices_lie_in_the_middle_and_differ():
    labels = replace(USUAL, corrected_slices=100)
    chosen = chosen_slices(1, "one", (50, 60, 70), labels)
    assert chosen["z"] == list(range(10, 40))
    assert len(set(chosen["x"])) == len(chosen["x"]) == 42
