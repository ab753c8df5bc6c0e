"""Correlations of boxes, of shells, and the resolution that follows."""

import numpy as np
import pytest

from tomoglean import volumes
from tomoglean.averages import correlations


def test_correlation_is_pearsons():
    rng = volumes.random(5)
    one = rng.normal(size=(6, 6, 6))
    other = one + rng.normal(size=one.shape)
    expected = np.corrcoef(one.ravel(), other.ravel())[0, 1]
    assert correlations.correlation(one, 3 * other + 7) == pytest.approx(expected)
    assert correlations.correlation(one, -one) == pytest.approx(-1)
    assert np.isnan(correlations.correlation(one, np.ones_like(one)))


def test_correlation_looks_only_within_the_mask():
    one, mask = volumes.random(6).normal(size=(6, 6, 6)), np.zeros((6, 6, 6))
    mask[:3] = 1
    other = np.where(mask > 0, one, -one)
    assert correlations.correlation(one, other, mask) == pytest.approx(1)


def test_shell_correlation_of_the_same_and_of_noise():
    rng = volumes.random(7)
    one, other = rng.normal(size=(2, 32, 32, 32)).astype(np.float32)
    assert correlations.shell_correlation(one, one) == pytest.approx(np.ones(16))
    assert np.abs(correlations.shell_correlation(one, other)[4:]).max() < 0.2


def test_shell_correlation_is_signal_over_signal_and_noise():
    rng = volumes.random(8)
    signal, a, b = rng.normal(size=(3, 48, 48, 48)).astype(np.float32)
    fsc = correlations.shell_correlation(signal + a, signal + b)
    assert fsc[8:].mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("fsc", "expected"),
    [
        ([1.0, 0.5, 0.0], 1 / 0.2),
        ([1.0, 0.75, 0.25], 1 / 0.25),
        ([0.9, 0.8, 0.7], 1 / 0.3),
        ([0.4, 0.9, 0.9], None),
        ([np.nan, 0.9, 0.9], None),
        ([], None),
    ],
)
def test_resolution_is_where_the_curve_falls(fsc, expected):
    frequency = np.array([0.1, 0.2, 0.3])[: len(fsc)]
    found = correlations.resolution_nm(frequency, fsc, 0.5)
    assert found == (expected if expected is None else pytest.approx(expected))
