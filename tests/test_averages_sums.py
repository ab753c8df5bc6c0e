"""Weighted sums of particles."""

import numpy as np
import pytest

from tomoglean.averages import fourier, sums


def test_weights_undo_uneven_sampling():
    """A frequency seen by one particle of two counts as much as one seen by both."""
    signal = np.zeros((8, 8, 5), np.complex64)
    weight = np.zeros((8, 8, 5), np.float32)
    signal[0, 0, 1], weight[0, 0, 1] = 2.0, 2.0
    signal[0, 1, 0], weight[0, 1, 0] = 1.0, 1.0
    spectrum = fourier.spectrum(sums.Sums(signal, weight).map(1e-6))
    assert abs(spectrum[0, 0, 1]) == pytest.approx(1, rel=1e-4)
    assert abs(spectrum[0, 1, 0]) == pytest.approx(0.5, rel=1e-4)  # its mate is empty
