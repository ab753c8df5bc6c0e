import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tomoglean.scores import matching
from tomoglean.scores.matching import Counts

coordinates = st.integers(0, 12).map(float)


def clouds(most=9):
    return st.integers(0, most).flatmap(
        lambda count: arrays(float, (count, 3), elements=coordinates)
    )


def line(*places):
    """Points on the x axis."""
    return np.array([[0.0, 0.0, place] for place in places]).reshape(-1, 3)


@pytest.fixture
def worked_example():
    """50 truths 1 um apart; 45 hits, 30 of them hit twice, 20 picks far off."""
    truths = line(*(1000.0 * np.arange(50)))
    hits = truths[:45]
    duplicates = truths[:30] + np.array([0.0, 1.0, 0.0])
    false = line(*(1000.0 * np.arange(20) + 500.0))
    return np.vstack([hits, duplicates, false]), truths


def test_most_pairs_come_before_least_distance():
    picks, truths = line(0, 9), line(1, -9)
    assert matching.one_to_one(picks, truths, 10.0).tolist() == [1, 0]


def test_least_distance_decides_between_equally_many_pairs():
    assert matching.one_to_one(line(4, 1), line(0), 10.0).tolist() == [-1, 0]


def test_a_pair_at_the_radius_is_a_match():
    assert matching.one_to_one(line(10), line(0), 10.0).tolist() == [0]


def test_a_pair_beyond_the_radius_is_none():
    assert matching.one_to_one(line(10.001), line(0), 10.0).tolist() == [-1]


def test_groups_far_apart_are_matched_each_by_itself():
    picks, truths = line(0, 1000, 2000), line(2001, 1, 1001)
    assert matching.one_to_one(picks, truths, 5.0).tolist() == [1, 2, 0]


@pytest.mark.parametrize("match", [matching.one_to_one, matching.greedy])
@pytest.mark.parametrize(("picks", "truths"), [(0, 0), (0, 2), (3, 0)])
def test_nothing_matches_nothing(match, picks, truths):
    found = match(np.zeros((picks, 3)), np.zeros((truths, 3)), 5.0)
    assert found.tolist() == [-1] * picks


def test_greedy_serves_the_better_score_first():
    assert matching.greedy(line(3, 0), line(1), 5.0).tolist() == [0, -1]


def test_greedy_takes_the_nearest_truth_that_is_free():
    assert matching.greedy(line(1, 1), line(0, 3), 5.0).tolist() == [0, 1]


@given(clouds(), clouds())
def test_one_to_one_uses_a_truth_at_most_once(picks, truths):
    matched = matching.one_to_one(picks, truths, 4.0)
    used = matched[matched >= 0]
    assert len(used) == len(set(used.tolist()))


@given(clouds(), clouds())
def test_no_match_is_longer_than_the_radius(picks, truths):
    matched = matching.one_to_one(picks, truths, 4.0)
    hit = matched >= 0
    gaps = np.linalg.norm(picks[hit] - truths[matched[hit]], axis=1)
    assert np.all(gaps <= 4.0)


@given(clouds(), clouds(), st.randoms(use_true_random=False))
def test_the_order_of_picks_and_truths_does_not_count(picks, truths, chance):
    mixed_picks = list(range(len(picks)))
    mixed_truths = list(range(len(truths)))
    chance.shuffle(mixed_picks)
    chance.shuffle(mixed_truths)
    plain = _quality(picks, truths)
    mixed = _quality(picks[mixed_picks], truths[mixed_truths])
    assert mixed == pytest.approx(plain)


@given(clouds(), clouds())
def test_one_to_one_finds_at_least_as_many_as_greedy(picks, truths):
    best, _ = _quality(picks, truths)
    assert best >= int((matching.greedy(picks, truths, 4.0) >= 0).sum())


@given(clouds(5), clouds(5))
def test_one_to_one_is_the_best_of_all_assignments(picks, truths):
    assert _quality(picks, truths) == pytest.approx(_exhaustive(picks, truths, 4.0))


def _quality(picks, truths):
    matched = matching.one_to_one(picks, truths, 4.0)
    hit = matched >= 0
    gaps = np.linalg.norm(picks[hit] - truths[matched[hit]], axis=1)
    return int(hit.sum()), float(gaps.sum())


def _exhaustive(picks, truths, radius):
    """Try every assignment: most pairs, then least distance."""
    if not len(picks):
        return 0, 0.0
    options = [_exhaustive(picks[1:], truths, radius)]
    for index, truth in enumerate(truths):
        gap = float(np.linalg.norm(picks[0] - truth))
        if gap <= radius:
            pairs, total = _exhaustive(picks[1:], np.delete(truths, index, 0), radius)
            options.append((pairs + 1, total + gap))
    return min(options, key=lambda option: (-option[0], option[1]))


def test_worked_example_one_to_one(worked_example):
    picks, truths = worked_example
    counts = matching.count(matching.one_to_one(picks, truths, 10.0), len(truths))
    assert counts == Counts(45, 50, 5)
    assert counts.rates(1)["f1"] == pytest.approx(0.62, abs=0.005)


def test_worked_example_by_the_czii_rule(worked_example):
    rates = matching.czii(*worked_example, 10.0).rates(1, 4)
    assert rates["f1"] == pytest.approx(0.62, abs=0.005)
    assert rates["f4"] == pytest.approx(0.855, abs=0.0005)


def test_worked_example_by_the_deepict_rule(worked_example):
    counts = matching.deepict(*worked_example, 10.0)
    assert counts == Counts(45, 20, 5)
    assert counts.rates(1)["f1"] == pytest.approx(0.78, abs=0.005)


def test_worked_example_by_the_deepfinder_rule(worked_example):
    counts = matching.deepfinder(*worked_example, 10.0)
    assert counts == Counts(15, 80, 35)
    assert counts.rates(1)["f1"] == pytest.approx(0.21, abs=0.005)


def test_counts_of_volumes_add_up():
    assert Counts(1, 2, 3) + Counts(10, 20, 30) == Counts(11, 22, 33)


def test_without_truth_precision_is_zero_and_the_rest_undefined():
    rates = Counts(0, 4, 0).rates(1, 2)
    assert rates["precision"] == 0
    assert [rates[name] for name in ("recall", "f1", "f2")] == [None, None, None]


def test_without_picks_precision_is_undefined():
    assert Counts(0, 0, 4).rates(1)["precision"] is None


def test_f2_weighs_recall_more():
    # P = 1/2, R = 1: F2 = 5 * .5 / (4 * .5 + 1)
    assert Counts(3, 3, 0).rates(2)["f2"] == pytest.approx(2.5 / 3)
