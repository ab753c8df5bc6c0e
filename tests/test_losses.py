"""Losses: every expected number is worked out by hand."""

import math

import numpy as np
import pytest
from keras import ops

from tomoglean.networks import losses

PLAIN = losses.dice_cross_entropy()


def image(values):
    return np.asarray(values, np.float32)[None]


def labels(values):
    return np.asarray(values, np.int32)[None, :, None]


def number(tensor):
    return float(ops.convert_to_numpy(tensor))


# two voxels of class 0 and 1, found with .8 and .6
PAIR = image([[0.8, 0.2], [0.4, 0.6]])


def test_dice_of_two_classes():
    # class 0: 2*.8 / (1 + 1.2), class 1: 2*.6 / (1 + .8)
    expected = 1 - (1.6 / 2.2 + 1.2 / 1.8) / 2
    assert number(losses.dice(labels([0, 1]), PAIR)) == pytest.approx(expected, abs=1e-6)


def test_cross_entropy_of_two_classes():
    expected = -(math.log(0.8) + math.log(0.6)) / 2
    found = number(losses.cross_entropy(labels([0, 1]), PAIR))
    assert found == pytest.approx(expected, abs=1e-6)


def test_a_perfect_answer_costs_nothing():
    assert number(PLAIN(labels([0, 1]), image([[1, 0], [0, 1]]))) == pytest.approx(
        0, abs=1e-6
    )


@pytest.mark.parametrize("extra", [[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]])
def test_an_ignored_voxel_changes_nothing_whatever_is_found_there(extra):
    with_ignored = image([[0.8, 0.2], [0.4, 0.6], extra])
    assert number(PLAIN(labels([0, 1, 255]), with_ignored)) == pytest.approx(
        number(PLAIN(labels([0, 1]), PAIR)), abs=1e-6
    )


def test_nothing_valid_costs_nothing():
    assert number(PLAIN(labels([255, 255]), PAIR)) == 0


def test_a_class_absent_from_the_labels_is_skipped():
    three = image([[0.7, 0.1, 0.2], [0.3, 0.6, 0.1]])
    expected = 1 - (2 * 0.7 / (1 + 1.0) + 2 * 0.6 / (1 + 0.7)) / 2
    assert number(losses.dice(labels([0, 1]), three)) == pytest.approx(expected, abs=1e-6)


def test_dice_is_pooled_over_the_batch():
    apart = np.concatenate([PAIR[:, :1], PAIR[:, 1:]])
    truth = np.asarray([0, 1], np.int32)[:, None, None]
    together = number(losses.dice(labels([0, 1]), PAIR))
    assert number(losses.dice(truth, apart)) == pytest.approx(together, abs=1e-6)


def test_class_weights_give_the_weighted_mean():
    found = number(losses.cross_entropy(labels([0, 1]), PAIR, [1, 3]))
    expected = -(math.log(0.8) + 3 * math.log(0.6)) / 4
    assert found == pytest.approx(expected, abs=1e-6)


def test_patches_are_judged_by_cross_entropy_alone():
    found = np.asarray([[0.8, 0.2], [0.4, 0.6]], np.float32)
    loss = losses.weighted_cross_entropy([1, 3])(np.asarray([[0], [1]], np.int32), found)
    expected = -(math.log(0.8) + 3 * math.log(0.6)) / 4
    assert number(loss) == pytest.approx(expected, abs=1e-6)


def test_a_certain_error_stays_finite():
    assert math.isfinite(number(PLAIN(labels([1, 0]), image([[1, 0], [0, 1]]))))
