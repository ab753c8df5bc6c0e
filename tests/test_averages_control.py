"""The control: random places of the same membrane, as deep as the picks."""

import numpy as np
import pytest
from machines import BOX, RADIUS, SIDE, TILT, VOXEL_NM, picks_at, write_phantom

from tomoglean import volumes
from tomoglean.averages import control, particles
from tomoglean.averages.settings import Setup
from tomoglean.volumes import Volume


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


@pytest.mark.parametrize(
    ("wanted_nm", "there_nm", "rows"),
    [
        ([5.0, -7.0], [-7.0, 0.0, 5.0], [2, 0]),
        ([0.0, 0.0], [9.0, 0.9, 0.1], [1, 2]),
        ([5.0, 5.0], [0.0, 5.0, -9.0], [1, 0]),
        ([0.0, 1.0, 2.0], [0.0, 5.0], [0, 1]),
        ([], [1.0], []),
    ],
    ids=["closest", "first within a voxel", "none twice", "too few places", "none wanted"],
)
def test_places_are_chosen_by_depth(wanted_nm, there_nm, rows):
    there = np.array(there_nm)
    assert control.nearest(np.array(wanted_nm), there, voxel_nm=1.0) == rows
    assert there.tolist() == there_nm


def test_places_lie_in_the_mask_with_a_normal_and_room_for_a_box(tmp_path):
    """Of a mask of one plane, half of which has no normal, the middle is left."""
    shape = (40, 40, 40)
    chosen, normals = np.zeros(shape, np.uint8), np.zeros((3, *shape), np.int8)
    chosen[20], normals[1, 20, :, 20:] = 1, -127
    voxel = (2.0,) * 3
    extra = {"distance_nm": np.zeros(shape, np.float16), "normals": normals}
    volumes.write(Volume(chosen, voxel), tmp_path / "mask.h5", extra=extra)
    scan, setup = (
        Volume(chosen, voxel),
        Setup(2.0, 16, 1, 60.0, 0, 30.0, 5.0, 6.0, 1.0, False),
    )
    one = particles.placed(0, np.full(3, 20.0), np.array([1.0, 0, 0]), 0, 1, "pick")
    chance = control.random_particles([one] * 30, [scan], [tmp_path / "mask.h5"], setup, 1)
    assert len(chance) == 30
    for particle in chance:
        assert chosen[tuple(particle.centre.astype(int))]
        assert particle.centre[2] >= 20
        assert particle.normal.tolist() == [0, -1, 0]
        assert particles.fits(particle.centre, scan, setup)
