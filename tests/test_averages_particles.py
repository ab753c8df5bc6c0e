"""Which picks become particles, and how these are turned."""

import numpy as np
import pytest
from machines import OFF_AXIS

from tomoglean.averages import geometry, particles
from tomoglean.averages.settings import Setup
from tomoglean.tables import Picks
from tomoglean.volumes import Volume

SETUP = Setup(2.0, 16, 1, 60.0, 0, 30.0, 5.0, 6.0, 1.0, False)


@pytest.mark.parametrize(
    ("z", "voxel_nm", "expected"),
    [
        (20, 2.0, True),
        (4, 2.0, True),
        (3.9, 2.0, False),
        (35, 2.0, True),
        (35.1, 2.0, False),
        (8, 1.0, True),
        (7.9, 1.0, False),
    ],
)
def test_three_quarters_of_a_box_have_to_lie_in_the_tomogram(z, voxel_nm, expected):
    """The tomogram's outermost voxel centres, 0 and 39, are its borders."""
    scan = Volume(np.zeros((40, 40, 40)), (voxel_nm, 2.0, 2.0))
    assert particles.fits(np.array([z, 20.0, 20.0]), scan, SETUP) is expected


def test_a_particle_has_a_unit_normal_and_a_frame_of_its_own_angle():
    centre = np.array([1.0, 2.0, 3.0])
    found = particles.placed(2, centre, 5 * OFF_AXIS, 0, 1, "pick")
    assert found.source == 2
    assert found.normal == pytest.approx(OFF_AXIS)
    assert found.frame == pytest.approx(geometry.frame(OFF_AXIS, found.angle_deg))
    assert found.centre.tolist() == found.start.tolist() == centre.tolist()


def test_free_angles_differ_by_number_purpose_and_seed():
    place = np.zeros(3), np.array([1.0, 0, 0])
    which = [(0, 1, "pick"), (1, 1, "pick"), (0, 2, "pick"), (0, 1, "control")]
    angles = [particles.placed(0, *place, *each).angle_deg for each in which]
    assert len(set(angles)) == 4
    assert angles[0] == particles.placed(3, *place, *which[0]).angle_deg
    assert all(0 <= angle < 360 for angle in angles)


def test_picks_become_particles_of_their_own_tomogram():
    places, normals = np.array([[20.0, 20, 20], [0, 20, 20]]), np.eye(3)[:2]
    picks = [Picks(places, places * 2, normals, np.ones(2))] * 2
    scans = [Volume(np.zeros((40, 40, 40)), (2.0,) * 3)] * 2
    found, skipped = particles.picked(picks, scans, SETUP, seed=1)
    assert [particle.source for particle in found] == [0, 1]
    assert skipped == {"n_without_normal": 0, "n_near_border": 2}
    assert found[0].angle_deg != found[1].angle_deg
