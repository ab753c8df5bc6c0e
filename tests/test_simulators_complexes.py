"""Injectisome and motor have the published measures, and their subunits where seen."""

import numpy as np
import pytest

from tomoglean.simulators.minicell import complexes
from tomoglean.simulators.minicell.bodies import Local, Site, local
from tomoglean.simulators.minicell.complexes import MOTOR, T3SS

GAP_NM = 30.5
UP = np.array([1.0, 0.0, 0.0])


def site(**of):
    return Site(np.zeros(3), UP, "t3ss", gap_nm=of.pop("gap_nm", GAP_NM), **of)


def cylinder(radius, height, angle, *, edge_nm=0.2, **of):
    radius, height, angle = np.broadcast_arrays(radius, height, angle)
    parts = (radius * np.cos(angle), radius * np.sin(angle), height)
    return Local(site(**of), *(part.astype(np.float32) for part in parts), edge_nm)


def density(body, *where, **of):
    return body.draw(cylinder(*where, **of))[0]


def widths(heights, **of):
    """Largest radius of the injectisome at every height, in nm."""
    radii = np.arange(0, 25, 0.05)
    filled = [
        density(T3SS, radii[None, :], heights[:, None], angle, **of) > 0.5
        for angle in (0, np.pi / 6)
    ]
    return (np.any(filled, axis=0) * radii).max(axis=1)


def harmonics(part, radius, height, *, edge_nm=0.2):
    """Amplitudes of the rotational harmonics of a part's distance on a circle."""
    angles = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    values = part(cylinder(radius, height, angles, edge_nm=edge_nm))
    return np.abs(np.fft.rfft(values))[1:] / 360


@pytest.mark.parametrize(
    ("part", "height", "across"),
    [
        (complexes.outer_ring, GAP_NM / 2, 12.0),
        (complexes.periplasmic_ring, 7 - GAP_NM / 2, 18.0),
        (complexes.cytoplasmic_ring, -3 - GAP_NM / 2, 21.0),
    ],
)
def test_rings_have_their_mass_where_it_was_measured(part, height, across):
    radii, heights = np.arange(0, 20, 0.05), height + np.arange(-6, 6, 0.05)
    filled = part(cylinder(radii[None, :], heights[:, None], 0.0, edge_nm=1.8)) < 0
    where = np.argwhere(filled)
    assert 2 * radii[where[:, 1]].mean() == pytest.approx(across, abs=0.1)
    assert heights[where[:, 0]].mean() == pytest.approx(height, abs=0.1)


def test_profile_along_the_axis_is_base_needle_and_platform():
    heights = np.arange(-60, 90, 0.1)
    wide = widths(heights)
    top, bottom = GAP_NM / 2, -GAP_NM / 2
    assert heights[wide > 0].max() == pytest.approx(top + 51.0, abs=0.2)
    # The needle is 8 nm thick all the way beyond the outer ring.
    needle = wide[(heights > top + 4) & (heights < top + 50)]
    np.testing.assert_allclose(2 * needle, 8.0, atol=0.2)
    # Ring to ring the base is as high as the envelope: 30.5 nm between mid-surfaces.
    rings = heights[(wide > 5.0) & (heights > bottom - 1)]
    assert rings.max() - 2.8 - bottom == pytest.approx(30.5, abs=0.5)
    below = bottom - heights[wide > 0].min()
    assert 25 <= below <= 30
    assert 106 <= heights[wide > 0].max() - heights[wide > 0].min() <= 113


def test_platform_is_34_nm_wide():
    heights = np.arange(-GAP_NM / 2 - 30, -GAP_NM / 2 - 7, 0.1)
    assert 2 * widths(heights).max() == pytest.approx(34.0, abs=0.3)


def test_export_torus_is_11_wide_6_high_and_5_below():
    radii, heights = np.arange(0, 12, 0.02), np.arange(-30, 0, 0.02)
    inside = complexes.export_torus(cylinder(radii[None, :], heights[:, None], 0.0)) < 0
    rows, columns = np.nonzero(inside)
    assert 2 * radii[columns.max()] == pytest.approx(11.0, abs=0.1)
    assert heights[rows.max()] - heights[rows.min()] == pytest.approx(6.0, abs=0.1)
    assert -GAP_NM / 2 - heights[rows.max()] == pytest.approx(5.0, abs=0.1)
    assert radii[columns.min()] > 0.2


@pytest.mark.parametrize(
    ("part", "radius", "height", "fold"),
    [
        (complexes.outer_ring, 6.0, GAP_NM / 2, 15),
        (complexes.neck, 6.0, 0.0, 15),
        (complexes.periplasmic_ring, 9.0, 7 - GAP_NM / 2, 24),
        (complexes.cytoplasmic_ring, 10.5, -3 - GAP_NM / 2, 24),
        (complexes.bushing, 10.0, GAP_NM / 2, 26),
        (complexes.c_ring, 20.0, -GAP_NM / 2 - 12, 34),
    ],
)
@pytest.mark.parametrize("edge_nm", [0.1, 0.5])
def test_rings_have_their_subunits_at_half_a_nanometre(part, radius, height, fold, edge_nm):
    amplitudes = harmonics(part, radius, height, edge_nm=edge_nm)
    assert np.argmax(amplitudes) + 1 == fold
    assert amplitudes[fold - 1] > 0.2


@pytest.mark.parametrize(
    ("part", "radius", "height"),
    [
        (complexes.outer_ring, 6.0, GAP_NM / 2),
        (complexes.periplasmic_ring, 9.0, 7 - GAP_NM / 2),
        (complexes.cytoplasmic_ring, 10.5, -3 - GAP_NM / 2),
    ],
)
def test_rings_are_smooth_at_1_8_nm(part, radius, height):
    assert harmonics(part, radius, height, edge_nm=1.8).max() < 1e-5


def volume(edge_nm, *, reach_nm, middle_nm):
    """Drawn density of an upright injectisome on a grid, heights first."""
    axes = [np.arange(-r, r + edge_nm / 2, edge_nm) for r in (reach_nm, 20, 20)]
    axes[0] = axes[0] + middle_nm
    grid = np.ix_(*(axis.astype(np.float32) for axis in axes))
    return T3SS.draw(local(site(), grid, edge_nm))[0], axes


def on_circles(edge_nm, fold, *, radii, reach_nm, middle_nm):
    """Harmonics of a drawn volume summed along the axis and over a ring of radii."""
    from scipy.ndimage import map_coordinates

    drawn, axes = volume(edge_nm, reach_nm=reach_nm, middle_nm=middle_nm)
    flat, angles = drawn.sum(axis=0), np.linspace(0, 2 * np.pi, 720, endpoint=False)
    profile = np.zeros(720)
    for radius in radii:
        places = [radius * np.sin(angles), radius * np.cos(angles)]
        index = [(p - axis[0]) / edge_nm for p, axis in zip(places, axes[1:], strict=True)]
        profile += map_coordinates(flat, index, order=1)
    power = np.abs(np.fft.rfft(profile))[1:61]
    return power[fold - 1] / np.median(power)


def test_pods_are_sixfold_in_voxels_of_1_8_nm():
    strength = on_circles(
        1.8, 6, radii=(13.0, 14.0, 15.0), reach_nm=8, middle_nm=-GAP_NM / 2 - 15
    )
    assert strength > 100


def test_outer_ring_is_15_fold_in_voxels_of_half_a_nanometre():
    strength = on_circles(
        0.5, 15, radii=(8.4, 8.8, 9.2), reach_nm=1.5, middle_nm=GAP_NM / 2
    )
    assert strength > 30


def test_inner_ring_is_24_fold_in_voxels_of_half_a_nanometre():
    strength = on_circles(
        0.5, 24, radii=(12.8, 13.2, 13.6), reach_nm=1.5, middle_nm=-GAP_NM / 2 - 3
    )
    assert strength > 30


def test_whole_injectisome_is_threefold_and_no_more():
    radii, heights = np.arange(1, 20, 0.5), np.arange(-50, 30, 0.5)
    where = radii[None, :, None], heights[:, None, None]
    angles = np.arange(0, 360, 2.0)[None, None, :]

    def turned_by(degrees):
        return density(T3SS, *where, np.radians(angles + degrees), edge_nm=0.3)

    whole = turned_by(0)
    np.testing.assert_allclose(turned_by(120), whole, atol=1e-3)
    assert np.abs(turned_by(60) - whole).max() > 0.5
    assert np.abs(turned_by(40) - whole).max() > 0.5


@pytest.mark.parametrize("gap_nm", [26.0, 36.0])
def test_base_stretches_with_the_gap_and_keeps_its_rings_on_the_membranes(gap_nm):
    assert density(T3SS, 6.0, gap_nm / 2, 0.1, gap_nm=gap_nm) == 1
    assert density(T3SS, 10.5, -gap_nm / 2 - 3, 0.1, gap_nm=gap_nm) == 1
    assert density(T3SS, 20.0, 0.0, 0.1, gap_nm=gap_nm) == 0


@pytest.mark.parametrize("needle_nm", [40.0, 60.0])
def test_needle_is_as_long_as_the_site_says(needle_nm):
    tip = GAP_NM / 2 + needle_nm
    assert density(T3SS, 0.0, tip - 0.5, 0.0, needle_nm=needle_nm) == 1
    assert density(T3SS, 0.0, tip + 0.5, 0.0, needle_nm=needle_nm) == 0


def test_motor_has_a_c_ring_of_45_nm_and_a_bushing_of_26():
    radii = np.arange(0, 30, 0.05)
    c_ring = density(MOTOR, radii, -GAP_NM / 2 - 12, 0.0, edge_nm=1.9) > 0.5
    assert 2 * radii[c_ring].max() == pytest.approx(45.0, abs=0.5)
    bushing = density(MOTOR, radii, GAP_NM / 2 - 9, 0.0, edge_nm=1.9) > 0.5
    assert 2 * radii[bushing].max() == pytest.approx(26.0, abs=0.5)


@pytest.mark.parametrize("body", [T3SS, MOTOR])
def test_bodies_stay_within_their_extent(body):
    low, high, radius = body.extent(site())
    heights = np.arange(low - 15, high + 15, 0.5)[:, None, None]
    radii, angles = np.arange(0, radius + 15, 0.5)[:, None], np.arange(0, 6.3, 0.05)
    filled = density(body, radii, heights, angles) > 0
    rows, columns, _ = np.nonzero(filled)
    assert heights[rows.min()] >= low
    assert heights[rows.max()] <= high + 0.5
    assert radii[columns.max()] <= radius + 0.5
