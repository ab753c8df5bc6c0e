"""Complexes from density maps, put into the envelope like any other body."""

import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from tomoglean import formats
from tomoglean.provenance import Refused
from tomoglean.simulators.fields import Float, frame
from tomoglean.simulators.minicell.bodies import Body, Local, Site

LARGEST_PX = 512


def read_body(
    path: str | os.PathLike[str],
    *,
    axis: Sequence[float],
    origin_nm: Sequence[float],
    level: float | None,
) -> Body:
    """Read a map as a body.

    Parameters
    ----------
    path
        MRC file with its voxel size; density positive.
    axis
        Direction (z, y, x) in the map that points outward.
    origin_nm
        Where the machine's origin lies, as z, y, x in nm from the middle of the map: the
        point of the axis midway between the membranes.
    level
        Density of the map at the surface of the complex. What is below counts as ice,
        twice as much as protein (density 1), in between linear. None takes the mean and
        three standard deviations of the map.

    Returns
    -------
    Body
        Linear interpolation of the map in the frame of a site.

    Raises
    ------
    Refused
        If the axis is no direction, or the file is not an MRC map of a usable size.
    """
    if not np.any(axis):
        raise Refused(
            f"simulate: machines.map_axis: expected a direction, found {list(axis)};"
            " say which way in the map is outward"
        )
    data, voxel_nm = _read(path)
    axes = frame(axis)
    middle = (np.array(data.shape) - 1) / 2 + np.asarray(origin_nm) / voxel_nm
    surface = level or float(data.mean() + 3 * data.std())
    values = np.clip((data / np.float32(surface) - 0.5) * 2 / 3, 0, 1).astype(np.float32)

    def draw(at: Local) -> tuple[Float, Float]:
        local = (at.across, at.aside, at.height)
        places = [
            middle[k] + sum(axes[i, k] * c for i, c in enumerate(local)) / voxel_nm
            for k in range(3)
        ]
        shape = np.broadcast_shapes(*(np.shape(place) for place in places))
        where = np.stack([np.broadcast_to(place, shape) for place in places])
        density = ndimage.map_coordinates(values, where, order=1, cval=0.0)
        # 1/3 is the surface; the slope there is about one voxel of the map wide.
        return density, np.asarray((1 / 3 - density) * 3 * voxel_nm, np.float32)

    corners = np.argwhere(values > 0)[:, None, :] if values.any() else np.zeros((1, 1, 3))
    local = ((corners[:, 0] - middle) * voxel_nm) @ axes.T
    low, high = float(local[:, 2].min()), float(local[:, 2].max())
    radius = float(np.hypot(local[:, 0], local[:, 1]).max())
    pad = float(voxel_nm)
    return Body(draw, lambda site: _extent(site, low - pad, high + pad, radius + pad))


def _extent(_: Site, low: float, high: float, radius: float) -> tuple[float, float, float]:
    return low, high, radius


def _read(path: str | os.PathLike[str]) -> tuple[npt.NDArray[np.float32], float]:
    name = os.fspath(path)
    with formats.open_source(path) as source:
        shape, edges = source.shape, source.voxel_nm
        if max(shape) > LARGEST_PX:
            raise Refused(
                f"simulate: machines.map: expected a map of at most {LARGEST_PX} voxels an "
                f"edge, found {shape} in {name}; crop the map"
            )
        if edges is None or not np.allclose(edges, edges[0], rtol=0.01):
            raise Refused(
                f"simulate: machines.map: expected cubic voxels of a known size, found "
                f"{edges or 'none told'} nm in {name}; set its voxel size"
            )
        return np.asarray(source.read(slice(0, shape[0])), np.float32), float(edges[0])
