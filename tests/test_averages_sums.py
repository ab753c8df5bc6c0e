"""Weighted sums of particles."""

import numpy as np
import pytest

from tomoglean import volumes
from tomoglean.averages import fourier, sums
from tomoglean.averages.particles import Particle
from tomoglean.averages.settings import Setup
from tomoglean.volumes import Volume


def test_weights_undo_uneven_sampling():
    """A frequency seen by one particle of two counts as much as one seen by both."""
    signal = np.zeros((8, 8, 5), np.complex64)
    weight = np.zeros((8, 8, 5), np.float32)
    signal[0, 0, 1], weight[0, 0, 1] = 2.0, 2.0
    signal[0, 1, 0], weight[0, 1, 0] = 1.0, 1.0
    spectrum = fourier.spectrum(sums.Sums(signal, weight).map(1e-6))
    assert abs(spectrum[0, 0, 1]) == pytest.approx(1, rel=1e-4)
    assert abs(spectrum[0, 1, 0]) == pytest.approx(0.5, rel=1e-4)  # its mate is empty


def test_two_sets_join_to_the_sum_of_both():
    signal, weight = np.ones((4, 4, 3), np.complex64), np.ones((4, 4, 3), np.float32)
    both = sums.Sums(signal, 2 * weight) + sums.Sums(3 * signal, 5 * weight)
    assert np.all(both.signal == 4)
    assert np.all(both.weight == 7)


def test_a_particle_weighs_one_however_often_it_is_turned():
    noise = volumes.random(1).normal(size=(24, 24, 24)).astype(np.float32)
    centre = np.full(3, 12.0)
    one = Particle(0, centre, np.array([1.0, 0.0, 0.0]), 0.0, centre)
    setup = Setup(1.0, 12, 3, 90.0, 0, 30.0, 5.0, 3.0, 1.0, False)
    found = sums.summed([one, one], [Volume(noise, (1.0,) * 3)], setup)
    assert found.weight.max() == pytest.approx(2)
    assert found.weight[0, 0, 0] == pytest.approx(2)


def test_a_cut_may_turn_the_contrast_round():
    noise = volumes.random(2).normal(size=(24, 24, 24)).astype(np.float32)
    centre, scans = np.full(3, 12.0), [Volume(noise, (1.0,) * 3)]
    one = Particle(0, centre, np.array([1.0, 0.0, 0.0]), 0.0, centre)
    dark, bright = (
        sums.cut(
            one, one.frame, scans, Setup(1.0, 8, 1, 90.0, 0, 30.0, 5.0, 3.0, 1.0, invert)
        )
        for invert in (False, True)
    )
    assert dark.any()
    assert np.array_equal(bright, -dark)
