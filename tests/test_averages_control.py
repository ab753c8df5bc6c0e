"""The control: random places of the same membrane, as deep as the picks."""

import numpy as np
import pytest
from machines import BOX, RADIUS, SIDE, TILT, VOXEL_NM, picks_at, write_phantom

from tomoglean import volumes
from tomoglean.averages import control, particles
from tomoglean.averages.settings import Setup


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    return write_phantom(tmp_path_factory.mktemp("phantom"))


def test_control_lies_at_the_depth_of_the_picks(phantom):
    folder, positions, normals = phantom
    setup = Setup(VOXEL_NM, BOX, 1, TILT, 0, 30.0, 5.0, 6.0, 1.0, False)
    with volumes.open_volume(folder / "cell.h5") as cell:
        found, _ = particles.picked([picks_at(positions, normals)], [cell], setup, 1)
        chance = control.random_particles(found, [cell], [folder / "mask.h5"], setup, 1)
    places = np.array([p.centre for p in chance]) - (SIDE - 1) / 2
    far = np.linalg.norm(places, axis=1)
    assert far == pytest.approx(np.full(20, RADIUS), abs=1.6)
    outward = np.sum(places / far[:, None] * [p.normal for p in chance], axis=1)
    assert outward.min() > 0.99
    assert len({tuple(place) for place in places}) == 20
