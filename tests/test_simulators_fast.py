"""The fast mode: exact wedge, transfer of the microscope, noise of the right colour."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import fft

from tests.test_simulators_microscope import scope
from tests.test_simulators_tilt import blob, tomogram
from tomoglean.simulators.minicell.fast import signal_and_noise, wedge


def parts(density, pad_px=16, seed=0, **changes):
    rng = np.random.default_rng(seed)
    microscope = scope(mode="fast", **changes)
    return signal_and_noise(
        density, rng, voxel_nm=1.8, microscope=microscope, pad_px=pad_px
    )


@pytest.mark.parametrize("tilt_max_deg", [51.0, 60.0])
def test_wedge_is_empty_before_cropping(tilt_max_deg):
    density = np.zeros((32, 40, 48), np.float32)
    density[10:20, 12:30, 14:30] = 1
    seen = wedge(density.shape, tilt_max_deg=tilt_max_deg)
    for part in parts(density, pad_px=0, tilt_max_deg=tilt_max_deg):
        power = np.abs(fft.rfftn(part)) ** 2
        assert power[~seen].max() < 1e-8 * power[seen].max()


@pytest.mark.parametrize(("tilt_max_deg", "missing"), [(51.0, 0.405), (60.0, 0.289)])
def test_wedge_has_its_share_of_the_spectrum(tilt_max_deg, missing):
    # In the square of frequencies |kz| > |kx| tan(t) leaves out 1 / (2 tan t).
    seen = wedge((128, 8, 128), tilt_max_deg=tilt_max_deg)
    assert 1 - seen[:, 0, :].mean() == pytest.approx(missing, abs=0.02)


def test_wedge_is_about_y():
    seen = wedge((16, 16, 16), tilt_max_deg=51.0)
    assert seen[0, :, 0].all()
    assert seen[0, 0, :].all()
    assert not seen[1:, 0, 0].any()


def test_no_wedge_at_a_right_angle():
    assert wedge((8, 8, 8), tilt_max_deg=90).all()


def test_margin_keeps_streaks_from_coming_back_on_the_other_side():
    density = np.zeros((32, 32, 32), np.float32)
    density[1, 16, 16] = 1
    with_margin, _ = parts(density, defocus_um=0.0)
    without, _ = parts(density, defocus_um=0.0, pad_px=0)
    assert np.abs(with_margin[31]).max() < 0.2 * np.abs(without[31]).max()


def test_protein_is_dark():
    density = blob((32, 32, 32), (16, 16, 16))
    signal, _ = parts(density)
    assert signal[16, 16, 16] == signal.min()


def test_noise_has_a_spread_of_one_and_its_own_seed():
    ice = np.zeros((24, 24, 24), np.float32)
    _, one = parts(ice)
    assert one.std() == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(parts(ice)[1], one)
    assert not np.array_equal(parts(ice, seed=1)[1], one)


def spectrum(noise):
    """Power by frequency across the tilt axis, away from the wedge; 1 on average."""
    power = np.abs(fft.fftn(noise)) ** 2
    kz, _, kx = np.meshgrid(*(fft.fftfreq(n) for n in noise.shape), indexing="ij")
    band = np.abs(kz) < 0.8 * np.abs(kx)
    radius = np.hypot(kz, kx)
    edges = np.linspace(0.08, 0.45, 6)
    rings = [power[band & (radius >= a) & (radius < b)].mean() for a, b in pairwise(edges)]
    return np.array(rings) / np.mean(rings)


def test_noise_has_the_colour_of_the_full_mode():
    ice = np.zeros((64, 32, 64), np.float32)
    _, fast = parts(ice)
    _, full = tomogram(ice, scope(), ice_nm=100.0)
    np.testing.assert_allclose(spectrum(fast), spectrum(full.image), rtol=0.15)
    assert spectrum(fast)[-1] > 3 * spectrum(fast)[0]


def test_noise_of_an_integrating_camera_falls():
    ice = np.zeros((64, 32, 64), np.float32)
    blur = {"camera_pixel_nm": 1.8, "mtf_nyquist": 0.2}
    white, blurred = (
        parts(ice, camera=camera, **blur)[1] for camera in ("counting", "integrating")
    )
    assert spectrum(blurred)[-1] < 0.6 * spectrum(white)[-1]
