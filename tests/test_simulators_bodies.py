"""Bodies land where their sites say, at any place, in any direction, by maximum."""

import numpy as np
import pytest
from scipy import ndimage

from tomoglean.simulators.fields import frame
from tomoglean.simulators.minicell.bodies import (
    EMPTY,
    Site,
    bilayer,
    box,
    insert,
    solid,
    touched,
    turned,
    wedge_margin,
)
from tomoglean.simulators.minicell.decoys import BODIES
from tomoglean.simulators.minicell.distances import ball, ring, rod

UP = np.array([1.0, 0.0, 0.0])
VOXEL_NM = 1.8


def dumbbell(at):
    """A body whose centre of mass is its origin: two equal balls about a ring."""
    return np.minimum.reduce(
        [
            ball(at, across=0, aside=0, height=12.0, size=6.0),
            ball(at, across=0, aside=0, height=-12.0, size=6.0),
            ring(at, of=9.0, height=0.0, thick=3.0),
            rod(at, thick=2.5, low=-12.0, high=12.0),
        ]
    )


TEST_BODY = solid(dumbbell, extent=lambda site: (-18.0, 18.0, 12.0))


def placed(rng, margin_px=0):
    normal = rng.standard_normal(3)
    place = rng.uniform(30, 34, 3)
    return Site(place, normal / np.linalg.norm(normal), "t3ss", 0.0, rng.uniform(0, 6.2))


@pytest.mark.parametrize("index", range(12))
def test_centre_of_mass_is_the_site_within_a_tenth_of_a_voxel(index):
    site = placed(np.random.default_rng(index))
    density = np.zeros((36, 36, 46), np.float32)
    insert(density, site, TEST_BODY, voxel_nm=VOXEL_NM, margin_px=5)
    found = np.array(ndimage.center_of_mass(density)) - [0, 0, 5]
    np.testing.assert_allclose(found, site.place_nm / VOXEL_NM, atol=0.1)


@pytest.mark.parametrize("index", range(6))
def test_principal_axis_is_the_normal(index):
    site = placed(np.random.default_rng(100 + index))
    density = np.zeros((36, 36, 36), np.float32)
    insert(density, site, TEST_BODY, voxel_nm=VOXEL_NM)
    where = np.argwhere(density > 0) * VOXEL_NM
    weights = density[density > 0]
    spread = np.cov(where.T, aweights=weights)
    longest = np.linalg.eigh(spread)[1][:, -1]
    assert abs(longest @ site.normal) > np.cos(np.radians(1.0))


@pytest.mark.parametrize("index", range(6))
def test_drawn_density_is_the_analytic_one_moved_and_turned(index):
    """Mass sums to the body's volume and the needle's tip lies where the axis says."""
    rng = np.random.default_rng(200 + index)
    site = placed(rng)
    lone = solid(
        lambda at: ball(at, across=7.0, aside=-3.0, height=11.0, size=5.0),
        extent=lambda site: (0.0, 20.0, 16.0),
    )
    density = np.zeros((40, 40, 40), np.float32)
    insert(density, site, lone, voxel_nm=VOXEL_NM)
    first, second, axis = frame(site.normal)
    cosine, sine = np.cos(site.spin), np.sin(site.spin)
    across, aside = cosine * first - sine * second, sine * first + cosine * second
    expected = site.place_nm + 7.0 * across - 3.0 * aside + 11.0 * axis
    found = np.array(ndimage.center_of_mass(density)) * VOXEL_NM
    np.testing.assert_allclose(found, expected, atol=0.1 * VOXEL_NM)
    volume = density.sum() * VOXEL_NM**3
    assert volume == pytest.approx(4 / 3 * np.pi * 125, rel=0.05)


@pytest.mark.parametrize("kind", list(BODIES))
def test_nothing_is_cut_off_by_the_box(kind):
    lean = turned(UP, np.array([0.0, 0.4, -0.2]))
    site = Site(np.array([105.0, 90.0, 90.0]), lean, kind, 32.0, 1.0, size=1.0, bend=0.008)
    body = BODIES[kind]
    inside = np.zeros((110, 90, 90), np.float32)
    insert(inside, site, body, voxel_nm=2.0)
    wide = type(body)(body.draw, lambda site: (-300.0, 300.0, 300.0))
    everywhere = np.zeros_like(inside)
    insert(everywhere, site, wide, voxel_nm=2.0)
    assert everywhere.any() == (kind != "empty")
    np.testing.assert_allclose(inside, everywhere, atol=0.02)


def test_densities_combine_by_maximum_never_by_sum():
    density = np.full((60, 60, 60), 0.7, np.float32)
    site = Site(np.full(3, 60.0), UP, "t3ss", 32.0)
    insert(density, site, BODIES["t3ss"], voxel_nm=2.0)
    once = density.copy()
    insert(density, site, BODIES["t3ss"], voxel_nm=2.0)
    np.testing.assert_array_equal(density, once)
    assert density.max() == 1
    assert density.min() == np.float32(0.7)


def test_mask_is_where_most_of_a_voxel_is_filled():
    density = np.zeros((36, 36, 36), np.float32)
    site = Site(np.full(3, 32.0), UP, "t3ss")
    where, mask = insert(density, site, TEST_BODY, voxel_nm=VOXEL_NM)
    np.testing.assert_array_equal(mask, density[where] >= 0.5)


@pytest.mark.parametrize("place", [900.0, -900.0])
def test_site_outside_the_volume_draws_nothing(place):
    density = np.zeros((10, 10, 10), np.float32)
    site = Site(np.full(3, place), UP, "t3ss", 30.0)
    _, mask = insert(density, site, BODIES["t3ss"], voxel_nm=2.0)
    assert not density.any()
    assert not mask.any()


def test_margin_shifts_along_x_only():
    site = placed(np.random.default_rng(0))
    plain, wide = np.zeros((36, 36, 36), np.float32), np.zeros((36, 36, 50), np.float32)
    insert(plain, site, TEST_BODY, voxel_nm=VOXEL_NM)
    insert(wide, site, TEST_BODY, voxel_nm=VOXEL_NM, margin_px=7)
    np.testing.assert_allclose(wide[:, :, 7:43], plain, atol=1e-5)


def test_box_is_tight_for_a_body_along_an_axis():
    site = Site(np.full(3, 50.0), UP, "t3ss")
    z, y, _ = box(site, TEST_BODY, (100, 100, 100), 1.0, 0)
    assert z.stop - z.start <= 36 + 6
    assert y.stop - y.start <= 24 + 6


def test_bilayer_holds_two_layers_of_head_groups_at_any_voxel_size():
    along = np.arange(-15, 15, 0.01)
    for edge_nm in (0.3, 1.0, 1.8, 3.6):
        assert bilayer(along, edge_nm, 3.9).sum() * 0.01 == pytest.approx(4.2, rel=1e-3)


def test_leaflets_part_in_fine_voxels_and_not_in_coarse_ones():
    middle, head = np.array([0.0]), np.array([1.95])
    assert bilayer(middle, 0.3, 3.9) < 0.02 * bilayer(head, 0.3, 3.9)
    assert bilayer(middle, 8.0, 3.9) > 0.9 * bilayer(head, 8.0, 3.9)


def test_bilayer_is_about_six_nanometres_thick():
    along = np.arange(-6, 6, 0.01)
    seen = along[bilayer(along, 0.5, 3.9) > 0.2]
    assert seen.max() - seen.min() == pytest.approx(6.0, abs=0.7)


@pytest.mark.parametrize(("beside", "hit"), [(13.0, True), (15.5, False)])
def test_touched_tells_whether_a_ball_meets_the_body(beside, hit):
    site = Site(np.full(3, 50.0), UP, "t3ss")
    centre = np.array([[50.0, 50.0, 50.0 + beside]])
    assert touched(site, TEST_BODY, centre, np.array([2.0]))[0] == hit


def test_nothing_touches_an_empty_site():
    site = Site(np.full(3, 50.0), UP, "empty")
    assert not touched(site, EMPTY, np.full((1, 3), 50.0), np.array([5.0])).any()


@pytest.mark.parametrize(
    ("normal", "angle", "seen"),
    [
        ((1, 0, 0), 0, False),
        ((0, 0, 1), 90, True),
        ((1, 0, 1), 45, True),
        ((3, 9, 1), 18.43, False),
    ],
)
def test_wedge_angle_is_that_of_the_sheet(normal, angle, seen):
    unit = np.array(normal, float) / np.linalg.norm(normal)
    point = Site(np.zeros(3), unit, "t3ss")
    assert point.wedge_angle == pytest.approx(angle, abs=0.01)
    assert (wedge_margin(point, 51.0) > 0) == seen
    assert seen == (abs(unit[2]) > abs(unit[0]) * np.tan(np.radians(90 - 51)))
