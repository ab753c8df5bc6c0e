"""Overlap of greys and errors of labels, against closed forms."""

from math import erf

import numpy as np
import pytest

from tomoglean.simulators.implant.difficulty import Confusion, Greys


def greys_of(means, spread=1.0, number=200_000):
    rng = np.random.default_rng(0)
    greys = Greys([f"c{i}" for i in range(len(means))], -10.0, 20.0)
    for label, mean in enumerate(means):
        image = rng.normal(mean, spread, number).astype(np.float32)
        greys.add(image, np.full(number, label, np.uint8))
    return greys.facts()


@pytest.mark.parametrize("apart", [0.0, 1.0, 3.0])
def test_overlap_of_two_normal_greys(apart):
    facts = greys_of([0.0, apart])
    # The densities cross half-way: the overlap is twice the tail beyond it.
    expected = 1 - erf(apart / 2 / np.sqrt(2))
    assert facts["grey_overlap"]["c0/c1"] == pytest.approx(expected, abs=0.02)
    assert facts["grey_separation"]["c0/c1"] == pytest.approx(apart, abs=0.01)


def test_means_and_spreads():
    facts = greys_of([2.0, 5.0], spread=0.5)
    assert facts["grey_per_cm"]["c1"]["mean"] == pytest.approx(5, abs=0.01)
    assert facts["grey_per_cm"]["c1"]["std"] == pytest.approx(0.5, abs=0.01)


def test_greys_may_come_in_parts():
    rng = np.random.default_rng(1)
    image, truth = rng.random((4, 5, 6)), rng.integers(0, 2, (4, 5, 6)).astype(np.uint8)
    whole, parts = Greys("ab", 0, 1), Greys("ab", 0, 1)
    whole.add(image, truth)
    for slab in (slice(0, 1), slice(1, 4)):
        parts.add(image[slab], truth[slab])
    assert parts.facts()["grey_overlap"] == whole.facts()["grey_overlap"]


def test_a_class_without_voxels_is_left_out():
    greys = Greys("abc", 0, 1)
    greys.add(np.array([0.1, 0.2]), np.array([0, 2], np.uint8))
    assert list(greys.facts()["grey_overlap"]) == ["a/c"]


def test_greys_beyond_the_range_are_not_lost():
    greys = Greys("a", 0, 1)
    greys.add(np.array([-5.0, 9.0]), np.zeros(2, np.uint8))
    assert greys.counts.sum() == 2


def test_errors_of_labels():
    confusion = Confusion(["none", "one", "two"])
    truth = np.array([0, 0, 1, 1, 1, 1], np.uint8)
    confusion.add(np.array([0, 1, 1, 1, 0, 0], np.uint8), truth)
    facts = confusion.facts()
    assert facts["iou"] == {"none": 1 / 4, "one": 2 / 5, "two": None}
    assert facts["volume_error_percent"] == {"none": 50, "one": -25, "two": None}
    assert facts["wrong_percent"] == pytest.approx(50)
