"""What the summary of a run says, and why it cannot say the rest."""

import numpy as np
import pytest

from tomoglean import volumes
from tomoglean.averages import result
from tomoglean.averages.maps import Maps
from tomoglean.averages.settings import Setup

SETUP = Setup(2.0, 8, 1, 60.0, 0, 30.0, 5.0, 6.0, 1.0, False)
SKIPPED = {"n_without_normal": 1, "n_near_border": 2}


def maps(seed, sizes=(3, 2)):
    """Return two halves that are alike, and their mean."""
    box = volumes.random(seed).normal(size=(8, 8, 8)).astype(np.float32)
    return Maps(box, box, box, sizes, np.arange(float(sum(sizes))))


def flat(sizes):
    nothing = np.zeros((8, 8, 8), np.float32)
    return Maps(nothing, nothing, nothing, sizes, np.zeros(sum(sizes)))


def test_counts_are_those_of_picks_and_control():
    summary = result.assess(maps(1), maps(2, (2, 2)), SETUP, 8, SKIPPED).summary
    assert {name: summary[name] for name in summary if name.startswith("n_")} == {
        "n_picks": 8, "n_used": 5, "n_without_normal": 1, "n_near_border": 2,
        "n_half1": 3, "n_half2": 2, "n_control": 4,
    }  # fmt: skip
    assert summary["mean_shift_nm"] == 2


def test_curves_stand_at_frequencies_per_nm():
    found = result.assess(maps(1), flat((2, 2)), SETUP, 5, {})
    assert [row["frequency_per_nm"] for row in found.fsc] == [
        1 / 16,
        2 / 16,
        3 / 16,
        4 / 16,
    ]
    assert [row["fsc"] for row in found.fsc] == pytest.approx([1] * 4)
    assert [row["fsc_control"] for row in found.fsc] == [None] * 4
    assert found.summary["resolution_fsc_143_nm"] == pytest.approx(4)


def test_the_average_is_compared_with_the_control_within_the_mask():
    one, other = maps(1), maps(2)
    summary = result.assess(one, other, SETUP, 5, {}).summary
    assert summary["half_correlation"] == pytest.approx(1)
    assert summary["control_half_correlation"] == pytest.approx(1)
    assert abs(summary["control_correlation"]) < 0.5
    assert summary["reasons"] == {}


@pytest.mark.parametrize(
    ("sizes", "control_sizes", "name", "reason"),
    [
        ((0, 0), (0, 0), "half_correlation", "no pick"),
        ((0, 0), (0, 0), "mean_shift_nm", "no pick"),
        ((1, 0), (1, 0), "half_correlation", "two particles"),
        ((2, 2), (1, 0), "control_half_correlation", "two particles"),
        ((2, 2), (0, 0), "control_correlation", "membrane mask"),
        ((2, 2), (2, 2), "resolution_fsc_500_nm", "do not agree"),
    ],
)
def test_what_is_undefined_has_a_reason(sizes, control_sizes, name, reason):
    summary = result.assess(flat(sizes), flat(control_sizes), SETUP, 5, {}).summary
    assert summary[name] is None
    assert reason in summary["reasons"][name]
