"""Half spectra, and what a tilt series leaves of them."""

import numpy as np
import pytest
from machines import OFF_AXIS, tilted

from tomoglean import volumes
from tomoglean.averages import fourier, geometry
from tomoglean.volumes import Volume


@pytest.mark.parametrize("side", [6, 7])
def test_a_point_at_the_origin_has_the_spectrum_one(side):
    box = np.zeros((side,) * 3, np.float32)
    box[(side // 2,) * 3] = 1
    assert fourier.spectrum(box) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("side", [6, 7])
def test_inverse_takes_a_spectrum_back(side):
    box = volumes.random(1).normal(size=(side,) * 3).astype(np.float32)
    assert fourier.inverse(fourier.spectrum(box), side) == pytest.approx(box, abs=1e-5)


@pytest.mark.parametrize("side", [6, 7])
def test_multiplicity_counts_the_whole_spectrum(side):
    """Parseval: the power of the half spectrum, so counted, is that of the box."""
    box = volumes.random(2).normal(size=(side,) * 3).astype(np.float32)
    power = fourier.multiplicity(side) * np.abs(fourier.spectrum(box)) ** 2
    assert power.sum() / side**3 == pytest.approx((box**2).sum(), rel=1e-4)


def test_frequencies_are_those_of_waves_along_each_axis():
    """A wave of three periods in a box has its power where the frequency is 3 / B."""
    for axis in range(3):
        wave = np.cos(2 * np.pi * 3 * geometry.offsets(12)[..., axis] / 12)
        most = np.abs(fourier.spectrum(wave)).argmax()
        found = fourier.frequencies(12).reshape(-1, 3)[most]
        assert np.abs(found) == pytest.approx(0.25 * np.eye(3)[axis])


@pytest.mark.parametrize(
    ("tilt_max_deg", "hidden"), [(51, 0.433), (60, 1 / 3), (66, 0.267)]
)
def test_wedge_hides_the_share_that_geometry_says(tilt_max_deg, hidden):
    k = fourier.frequencies(64)
    far = np.linalg.norm(k, axis=-1)
    shell = (far > 0.1) & (far < 0.45)
    many = np.broadcast_to(fourier.multiplicity(64), shape=far.shape)
    seen = fourier.wedge(64, np.eye(3), tilt_max_deg)
    # A cone of directions: the share of the angle in the (z, x) plane that is missing.
    expected = (90 - tilt_max_deg) / 90
    assert np.average(seen[shell] == 0, weights=many[shell]) == pytest.approx(
        expected, abs=0.01
    )
    assert expected == pytest.approx(hidden, abs=0.001)


def test_wedge_turns_with_the_crop():
    """The spectrum of a turned crop is empty where the turned wedge says so."""
    noise = volumes.random(4).normal(size=(64, 64, 64))
    cell = Volume(tilted(noise, 45), (1.0,) * 3)
    turned = geometry.frame(OFF_AXIS, 70)
    box = geometry.crop(cell, np.full(3, 32.0), turned, box_px=32, voxel_nm=1.0)
    power = np.abs(fourier.spectrum(box)) ** 2
    low = np.linalg.norm(fourier.frequencies(32), axis=-1) < 0.25
    seen = fourier.wedge(32, turned, 45) > 0
    wrong = fourier.wedge(32, turned.T, 45) > 0
    ratio = power[low & ~seen].mean() / power[low & seen].mean()
    assert ratio < 0.2
    assert power[low & ~wrong].mean() > 2 * power[low & ~seen].mean()


def test_tilts_to_90_degrees_hide_one_line_of_frequencies():
    k = fourier.frequencies(16)
    hidden = fourier.wedge(16, np.eye(3), 90.0) == 0
    assert np.array_equal(hidden, (k[..., 2] == 0) & (k[..., 0] != 0))
