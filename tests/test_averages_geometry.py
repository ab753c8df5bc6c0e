"""Frames and crops: conventions hold off the axes."""

import numpy as np
import pytest
from machines import OFF_AXIS

from tomoglean import volumes
from tomoglean.averages import geometry
from tomoglean.volumes import Volume


def blob(shape, place, width=1.5):
    axes = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    far = sum((axis - c) ** 2 for axis, c in zip(axes, place, strict=True))
    return np.exp(-far / (2 * width**2))


def peak(box):
    return np.array(np.unravel_index(np.argmax(box), box.shape)) - box.shape[0] // 2


@pytest.mark.parametrize("normal", [*np.eye(3), *-np.eye(3), OFF_AXIS])
@pytest.mark.parametrize("angle_deg", [0, 33])
def test_frame_is_a_rotation_with_the_normal_as_z(normal, angle_deg):
    matrix = geometry.frame(normal, angle_deg)
    assert matrix @ matrix.T == pytest.approx(np.eye(3), abs=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)
    assert matrix[:, 0] == pytest.approx(normal)


def test_frame_needs_a_normal():
    with pytest.raises(ValueError, match="normal"):
        geometry.frame([0, 0, 0])


def test_turn_goes_from_x_to_y():
    z, y, x = np.eye(3)
    assert geometry.turn(90) @ x == pytest.approx(y)
    assert geometry.turn(90) @ y == pytest.approx(-x)
    assert geometry.turn(90) @ z == pytest.approx(z)


def test_what_lies_along_the_normal_comes_up_along_z():
    centre = np.array([20.3, 22.8, 18.5])
    cell = Volume(blob((40, 44, 42), centre + 8 * OFF_AXIS), (1.0,) * 3)
    turned = geometry.frame(OFF_AXIS, 40)
    box = geometry.crop(cell, centre, turned, box_px=24, voxel_nm=1.0)
    assert peak(box).tolist() == [8, 0, 0]


def test_frame_maps_offsets_of_the_particle_into_the_tomogram():
    centre, offset = np.array([20.0, 20.0, 20.0]), np.array([3.0, -5.0, 6.0])
    turned = geometry.frame(OFF_AXIS, 25)
    cell = Volume(blob((41, 41, 41), centre + turned @ offset), (1.0,) * 3)
    box = geometry.crop(cell, centre, turned, box_px=24, voxel_nm=1.0)
    assert peak(box).tolist() == offset.tolist()


def test_anisotropic_voxels_become_cubes():
    cell = Volume(blob((20, 40, 40), (14, 20, 26)), (2.0, 1.0, 1.0))
    box = geometry.crop(cell, np.array([10.0, 20, 20]), np.eye(3), box_px=24, voxel_nm=1.0)
    assert peak(box).tolist() == [8, 0, 6]


def test_outside_the_tomogram_a_crop_is_flat():
    cell = Volume(volumes.random(3).normal(size=(20, 20, 20)), (1.0,) * 3)
    box = geometry.crop(cell, np.zeros(3), np.eye(3), box_px=16, voxel_nm=1.0)
    assert np.ptp(box[:7]) == 0
    assert np.ptp(box[8:, 8:, 8:]) > 1


def test_offsets_are_zero_at_the_middle_voxel_of_even_and_odd_boxes():
    for side in (6, 7):
        places = geometry.offsets(side)
        assert places[side // 2, side // 2, side // 2].tolist() == [0, 0, 0]
        assert places[0, 1, 2].tolist() == [-3, -2, -1]


def test_a_crop_is_standardised_and_empty_far_outside():
    cell = Volume(5 + 3 * volumes.random(4).normal(size=(20, 20, 20)), (1.0,) * 3)
    cut = {"rotation": np.eye(3), "box_px": 8, "voxel_nm": 1.0}
    box = geometry.crop(cell, np.full(3, 10.0), **cut)
    assert box.mean() == pytest.approx(0, abs=1e-6)
    assert box.std() == pytest.approx(1, abs=1e-6)
    assert not geometry.crop(cell, np.full(3, 100.0), **cut).any()
