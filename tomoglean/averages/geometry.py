"""How a particle is turned, and the box that is cut around it.

A frame is a rotation matrix in axes (z, y, x): its columns are the particle's axes seen
from the tomogram, so that offset_in_tomogram = frame @ offset_in_particle.
"""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from tomoglean.volumes import Volume

Array = npt.NDArray[np.float64]
Box = npt.NDArray[np.float32]


def frame(normal: npt.ArrayLike, angle_deg: float = 0.0) -> Array:
    """Return the rotation that turns a particle's axes into the tomogram's.

    Parameters
    ----------
    normal
        The particle's z axis (z, y, x) in the tomogram; need not be of unit length.
    angle_deg
        Turn about it, from the particle's x towards its y, in degrees.

    Returns
    -------
    ndarray of shape (3, 3)
        Columns are the particle's z, y, x axes in tomogram axes (z, y, x).

    Raises
    ------
    ValueError
        If the normal has no length.
    """
    axis = np.asarray(normal, np.float64)
    if not np.linalg.norm(axis):
        raise ValueError("a particle needs a normal")
    axis = axis / np.linalg.norm(axis)
    helper = np.eye(3)[np.argmin(np.abs(axis))]
    y = helper - (helper @ axis) * axis
    y /= np.linalg.norm(y)
    # In axes (z, y, x) the cross product has the other sign: x = y x z becomes z x y.
    x = np.cross(axis, y)
    return np.column_stack([axis, y, x]) @ turn(angle_deg)


def turn(angle_deg: float) -> Array:
    """Return the rotation about z from x towards y, axes (z, y, x), shape (3, 3)."""
    cos, sin = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    return np.array([[1.0, 0.0, 0.0], [0.0, cos, sin], [0.0, -sin, cos]])


def offsets(box_px: int) -> Array:
    """Return where a box's voxels lie from its origin, voxel box_px // 2.

    Returns
    -------
    ndarray of shape (B, B, B, 3)
        Offsets (z, y, x) in voxels.
    """
    axis = np.arange(box_px, dtype=np.float64) - box_px // 2
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)


def crop(
    tomogram: Volume, centre: Array, rotation: Array, *, box_px: int, voxel_nm: float
) -> Box:
    """Cut a turned box out of a tomogram, by linear interpolation.

    Parameters
    ----------
    tomogram
        Volume of shape (Z, Y, X); only the part around the centre is read.
    centre
        Where the box's voxel box_px // 2 lies, (z, y, x) in voxels of the tomogram.
    rotation
        Rotation from the box to the tomogram, shape (3, 3), see `frame`.
    box_px, voxel_nm
        Side of the box in its voxels, and edge of those in nm.

    Returns
    -------
    ndarray of shape (box_px, box_px, box_px)
        Grey values with mean 0 and deviation 1; outside the tomogram, the mean.
    """
    away = offsets(box_px) @ np.asarray(rotation).T * voxel_nm
    places = np.asarray(centre) + away / np.asarray(tomogram.voxel_nm)
    low = np.maximum(np.floor(places.min(axis=(0, 1, 2))).astype(int), 0)
    high = np.ceil(places.max(axis=(0, 1, 2))).astype(int) + 1
    part = tomogram.data[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    if not part.size:
        return np.zeros((box_px,) * 3, np.float32)
    cut = ndimage.map_coordinates(
        np.asarray(part, np.float32),
        np.moveaxis(places - low, -1, 0),
        order=1,
        cval=float(np.mean(part, dtype=np.float64)),
    )
    deviation = float(cut.std())
    return np.asarray((cut - cut.mean()) / (deviation or 1.0), np.float32)
