"""Surfaces of labelled volumes, coarse enough to draw: shares of a label, marching cubes.

A volume is first brought to at most about 90 cells an edge: the share of every label in
every cell. A surface runs where the shares say that as much lies inside it as the label
holds, so that sheets thinner than a cell do not vanish.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage import measure

from tomoglean import volumes
from tomoglean.volumes import Volume

Floats = npt.NDArray[np.float64]
Field = npt.NDArray[np.float32]
Triple = tuple[float, float, float]

MOST_CELLS = 100
SMOOTHING_CELLS = 0.7
LEVELS = (0.05, 0.6)
HIGHEST_OF_PEAK = 0.7


@dataclass(frozen=True)
class Shares:
    """How much of every cell belongs to each label.

    Attributes
    ----------
    of
        Shape (Z, Y, X) by label, each value in [0, 1].
    cell_nm
        Edges of a cell along z, y, x in nm.
    """

    of: dict[int, Field]
    cell_nm: Triple


@dataclass(frozen=True)
class Mesh:
    """Triangles of one colour.

    Attributes
    ----------
    points
        Corners of shape (N, 3): z, y, x in nm.
    faces
        Places in `points`, shape (M, 3).
    normals
        Unit vectors out of every triangle, shape (M, 3): z, y, x.
    colour
        Written #rrggbb.
    glass
        Whether one looks through it.
    """

    points: Floats
    faces: npt.NDArray[np.int64]
    normals: Floats
    colour: str
    glass: bool = False


def shares(volume: Volume, labels: Sequence[int], most: int = MOST_CELLS) -> Shares:
    """Count what share of every cell belongs to each label, reading tile by tile.

    Parameters
    ----------
    volume
        Labels of shape (Z, Y, X), in memory or on disk.
    labels
        The labels wanted.
    most
        Cells along the longest edge of the volume, about.

    Raises
    ------
    ValueError
        If the volume is empty, or only some of its slices exist.
    """
    if volume.z is not None or not min(volume.shape):
        raise ValueError("a surface needs neighbouring slices; is this a sparse set?")
    factors = _factors(volume, most)
    cells = tuple(-(-n // f) for n, f in zip(volume.shape, factors, strict=True))
    found = {label: np.zeros(cells, np.float32) for label in labels}
    seen = np.zeros(cells, np.float32)
    for z, y in volumes.tiles(volume.shape, volume.data.dtype.itemsize):
        starts = (z.start, y.start, 0)
        sample, bins = _sample(np.asarray(volume.data[z, y]), starts, factors)
        if not sample.size:
            continue
        place = tuple(slice(one[0], one[-1] + 1) for one in bins)
        seen[place] += _binned(np.ones(sample.shape, np.float32), bins)
        for label, total in found.items():
            total[place] += _binned((sample == label).astype(np.float32), bins)
    np.maximum(seen, 1, out=seen)
    of = {label: np.asarray(total / seen) for label, total in found.items()}
    z_nm, y_nm, x_nm = np.multiply(volume.voxel_nm, factors).tolist()
    return Shares(of, (z_nm, y_nm, x_nm))


def _sample(
    tile: npt.NDArray[Any], starts: Sequence[int], factors: Sequence[int]
) -> tuple[npt.NDArray[Any], list[npt.NDArray[np.int64]]]:
    """Take two voxels or so per cell and axis, and the cell of each along every axis."""
    taken = [
        np.arange(-start % max(1, factor // 2), length, max(1, factor // 2))
        for start, length, factor in zip(starts, tile.shape, factors, strict=True)
    ]
    bins = [
        (one + start) // factor
        for one, start, factor in zip(taken, starts, factors, strict=True)
    ]
    return tile[np.ix_(*taken)], bins


def _factors(volume: Volume, most: int) -> list[int]:
    """Return how many voxels make a cell along z, y, x; cells are nearly cubes."""
    voxel_nm = np.asarray(volume.voxel_nm)
    cell_nm = float(max(voxel_nm * volume.shape)) / most
    return [max(1, round(cell_nm / float(edge))) for edge in voxel_nm]


def _binned(values: Field, bins: Sequence[npt.NDArray[np.int64]]) -> Field:
    """Add up neighbours that fall into one cell, axis by axis."""
    for axis, one in enumerate(bins):
        starts = np.flatnonzero(np.diff(one, prepend=-1))
        values = np.add.reduceat(values, starts, axis=axis)
    return values


def surface(
    share: Field, cell_nm: Triple, colour: str, *, glass: bool = False, cut: bool = False
) -> Mesh | None:
    """Mesh the surface of one label; None where there is nothing of it.

    Parameters
    ----------
    share
        Share of the label in every cell, shape (Z, Y, X).
    cell_nm
        Edges of a cell along z, y, x in nm.
    colour, glass
        How it will look.
    cut
        Whether the quarter of small y and large x is taken away.
    """
    smooth = ndimage.gaussian_filter(share, SMOOTHING_CELLS, mode="nearest")
    level = level_of(share, smooth)
    if cut:
        smooth[:, : smooth.shape[1] // 2, smooth.shape[2] // 2 :] = 0
    padded = np.pad(smooth, 1)
    if not 0 < level < padded.max():
        return None
    points, faces, normals, _ = measure.marching_cubes(padded, level, spacing=cell_nm)
    points = points - 0.5 * np.asarray(cell_nm)
    faces = np.asarray(faces, np.int64)
    across = normals[faces].mean(axis=1)
    outward = _outward(points, faces, across)
    return Mesh(np.asarray(points, np.float64), faces, outward, colour, glass)


def level_of(share: Field, smooth: Field) -> float:
    """Return the level that encloses as much as there is; 0 if there is nothing."""
    inside = min(round(float(share.sum())), smooth.size)
    if inside < 1:
        return 0.0
    place = smooth.size - inside
    level = float(np.partition(smooth.ravel(), place)[place])
    level = min(level, HIGHEST_OF_PEAK * float(smooth.max()))
    return float(np.clip(level, *LEVELS))


def _outward(points: Floats, faces: npt.NDArray[np.int64], normals: Floats) -> Floats:
    """Give normals their length and make them look out of the body, as its faces do."""
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    a, b, c = (points[faces[:, i]] for i in range(3))
    turn = np.cross(b - a, c - a)
    volume = float(np.einsum("ij,ij->", a, turn))
    sign = np.sign(np.einsum("ij,ij->i", turn, normals)) * (1.0 if volume > 0 else -1.0)
    sign[sign == 0] = 1.0
    return np.asarray(normals / np.maximum(length, 1e-12) * sign[:, None], np.float64)
