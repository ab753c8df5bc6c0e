import numpy as np
import pytest

from tomoglean.scores import rates


def share(counts):
    return rates.ratio(counts[0], counts.sum())


def bootstrap(units, figure=share, repeats=200):
    return rates.interval(
        np.array(units).reshape(-1, 2), figure, repeats=repeats, seed=1, purpose="test"
    )


def test_nothing_of_nothing_is_undefined():
    assert rates.ratio(0, 0) is None


def test_undefined_values_do_not_count_in_a_mean():
    assert rates.mean([1.0, None, 3.0]) == 2.0


def test_a_mean_of_undefined_values_is_undefined():
    assert rates.mean([None, None]) is None


def test_volumes_that_agree_leave_no_uncertainty():
    assert bootstrap([[1, 3]] * 4) == [0.25, 0.25]


def test_the_interval_holds_the_pooled_figure():
    low, high = bootstrap([[1, 9], [5, 5], [9, 1], [4, 6]])
    assert 0 < low < 19 / 40 < high < 1


def test_volumes_are_drawn_and_not_voxels():
    # Two extreme volumes of three: draws reach far beyond what 3000 voxels would vary.
    low, high = bootstrap([[1000, 0], [0, 1000], [500, 500]])
    assert high - low > 0.5


@pytest.mark.parametrize("units", [[], [[1, 2]], [[1, 2], [3, 4]]])
def test_fewer_than_three_volumes_give_no_interval(units):
    assert bootstrap(units) is None


def test_mostly_undefined_draws_give_no_interval():
    assert bootstrap([[0, 0]] * 5) is None


def test_no_draws_give_no_interval():
    assert bootstrap([[1, 3]] * 4, repeats=0) is None


def test_the_same_seed_gives_the_same_interval():
    units = [[1, 9], [5, 5], [9, 1], [4, 6]]
    assert bootstrap(units) == bootstrap(units)
