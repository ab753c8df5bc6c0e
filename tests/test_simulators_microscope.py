"""The microscope: its numbers are those of the textbooks and of the sheet."""

import numpy as np
import pytest

from tomoglean import config
from tomoglean.provenance import Refused
from tomoglean.simulators.minicell.microscope import (
    Microscope,
    interaction,
    wavelength_nm,
)


def scope(**changes):
    full = config.filled({"microscope": changes}, "phantom-minicell", "test", "")
    return Microscope(**full["microscope"])


def test_schema_and_microscope_name_the_same_keys():
    schema = config.read_schema("phantom-minicell")["properties"]["microscope"]
    assert list(schema["properties"]) == list(Microscope.__dataclass_fields__)


@pytest.mark.parametrize("group", ["microscope", "annotator"])
def test_every_parameter_has_unit_limits_and_source(group):
    leaves = config.read_schema("phantom-minicell")["properties"][group]["properties"]
    for key, leaf in leaves.items():
        assert {"description", "unit", "source", "default"} <= set(leaf), key
        limits = {"minimum", "exclusiveMinimum", "maximum", "enum"} & set(leaf)
        assert "enum" in limits or len(limits) == 2, key


# Reimer & Kohl 2008, table 2.2 (100-300 kV).
@pytest.mark.parametrize(
    ("voltage_kv", "length_pm"), [(100.0, 3.701), (200.0, 2.508), (300.0, 1.969)]
)
def test_wavelength_is_relativistic(voltage_kv, length_pm):
    assert 1e3 * wavelength_nm(voltage_kv) == pytest.approx(length_pm, abs=0.001)


def test_interaction_at_300_kv_is_that_of_the_sheet():
    assert interaction(300.0) == pytest.approx(6.53e-3, abs=0.005e-3)


def test_interaction_is_the_mass_times_the_wavelength():
    # sigma = 2 pi m e lambda / h^2, in SI units (CODATA).
    mass, charge, planck, light = (
        9.1093837e-31,
        1.602176634e-19,
        6.62607015e-34,
        2.99792458e8,
    )
    moving = mass + charge * 300e3 / light**2
    sigma = 2 * np.pi * moving * charge * wavelength_nm(300.0) * 1e-9 / planck**2
    assert interaction(300.0) == pytest.approx(sigma * 1e-9, rel=1e-6)


@pytest.mark.parametrize(("most", "step", "views"), [(51, 3, 35), (60, 3, 41), (66, 3, 45)])
def test_views_of_the_usual_series(most, step, views):
    angles = scope(tilt_max_deg=most, tilt_step_deg=step).angles_deg
    assert len(angles) == views
    np.testing.assert_allclose([angles[0], angles[-1]], [-most, most])
    np.testing.assert_allclose(np.diff(angles), step)


def test_a_step_that_does_not_divide_the_range_stays_within_it():
    angles = scope(tilt_max_deg=50, tilt_step_deg=3).angles_deg
    np.testing.assert_allclose([angles.min(), angles.max()], [-48, 48])


def test_a_step_larger_than_the_range_is_refused():
    with pytest.raises(Refused, match="lower the step"):
        scope(tilt_max_deg=10, tilt_step_deg=20)


def test_views_share_the_half_turn_by_their_steps():
    weights = scope().weights_rad
    assert weights.sum() == pytest.approx(np.radians(35 * 3))
    np.testing.assert_allclose(weights, np.radians(3))


def test_electrons_of_a_view_are_those_of_the_sheet():
    assert scope().electrons(1.8) == pytest.approx(741, abs=0.5)


@pytest.mark.parametrize(("ice_nm", "straight", "tilted"), [(400, 236, 120), (0, 741, 741)])
def test_electrons_behind_the_ice_are_those_of_the_sheet(ice_nm, straight, tilted):
    behind = scope().electrons(1.8) * scope().passed(ice_nm)
    assert behind[17] == pytest.approx(straight, abs=1)
    assert behind[0] == behind[-1] == pytest.approx(tilted, abs=1)


def test_dose_is_shared_among_the_views():
    for one in (scope(), scope(tilt_max_deg=60), scope(tilt_step_deg=1)):
        all_views = one.electrons(1.8) * len(one.angles_deg)
        assert all_views == pytest.approx(80 * 18**2)


def textbook_transfer(frequency, defocus_um, contrast):
    """Contrast transfer in SI units, from phase and amplitude part (Mindell 2003)."""
    length, spherical, defocus = 1.96875e-12, 2.7e-3, defocus_um * 1e-6
    k = frequency * 1e9
    chi = np.pi * length * k**2 * (defocus - 0.5 * length**2 * k**2 * spherical)
    return np.sqrt(1 - contrast**2) * np.sin(chi) + contrast * np.cos(chi)


@pytest.mark.parametrize("defocus_um", [0.5, 3.0, 6.0])
@pytest.mark.parametrize("contrast", [0.0, 0.07, 0.1])
def test_transfer_is_that_of_the_textbook(defocus_um, contrast):
    frequency = np.linspace(0, 1, 301)
    ours = scope(defocus_um=defocus_um, amplitude_contrast=contrast).transfer(frequency)
    expected = textbook_transfer(frequency, defocus_um, contrast)
    np.testing.assert_allclose(ours, expected, atol=2e-3)


def test_first_zero_at_six_micrometres_is_that_of_the_sheet():
    frequency = np.linspace(0.05, 0.5, 40001)
    transfer = scope(amplitude_contrast=0.0).transfer(frequency)
    first = frequency[np.argmax(transfer < 0)]
    assert 1 / first == pytest.approx(3.44, abs=0.01)
    absorbing = scope(amplitude_contrast=0.07).transfer(frequency)
    assert 1 / frequency[np.argmax(absorbing < 0)] == pytest.approx(3.48, abs=0.01)


@pytest.mark.parametrize(("voxel_nm", "zeros"), [(1.8, 0), (1.48, 1), (1.35, 1), (1.0, 2)])
def test_zeros_are_in_band_for_small_voxels_only(voxel_nm, zeros):
    transfer = scope().transfer(np.linspace(0, 0.5 / voxel_nm, 4001))
    assert np.count_nonzero(np.diff(np.sign(transfer))) == zeros


def test_no_defocus_means_no_lens():
    assert np.all(scope(defocus_um=0).transfer(np.linspace(0, 1, 5)) == 1)


def test_camera_passes_all_at_rest_and_what_was_said_at_its_nyquist():
    one = scope(camera_pixel_nm=0.45, mtf_nyquist=0.4)
    np.testing.assert_allclose(one.modulation([0, 0.5 / 0.45]), [1, 0.4], rtol=1e-6)


def test_binned_pixels_are_sharper():
    one = scope(camera_pixel_nm=0.45, mtf_nyquist=0.4)
    assert one.modulation(0.5 / 1.8) == pytest.approx(0.4 ** (1 / 16))


def test_phase_of_a_voxel_of_protein():
    assert scope().phase_rad(1.8) == pytest.approx(6.53e-3 * 2.5 * 1.8, rel=1e-3)
