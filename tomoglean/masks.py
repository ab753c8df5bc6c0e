"""Membranes as a place to search: clean mask, signed distance, direction outward.

What is local (closing, distance) is done at full resolution, in tiles with a halo. Which
side is inside is no local question, and the missing wedge leaves every cell open at top
and bottom; it is answered on a coarse isotropic grid, which is small for any tomogram. The
cell is taken as convex: its inside is the convex hull of its membrane pieces. Of the two
directions normal to the membrane, that away from the hull's centre is outward: right on
every convex surface, also on a piece of one. In memory at once: the mask (1 byte a voxel),
its components (4 bytes a voxel), the coarse grid, one slab and one tile.
"""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from tomoglean import volumes
from tomoglean.provenance import Refused

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
Edges = tuple[float, float, float]

EVERY_NEIGHBOUR = np.ones((3, 3, 3), bool)
ONE = 127
MOST_COARSE_VOXELS = 2e7
#: Voxels whose distances are computed at once, at 60 bytes each.
MOST_AT_ONCE = 1 << 24
FAR_NM = 1e6


def find(
    segmented: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    membrane_class: str = "membrane",
    min_confidence: float = 0.0,
    closing_nm: float = 6.0,
    min_volume_nm3: float = 2e4,
    within_nm: float = 20.0,
    partner_nm: Sequence[float] | None = None,
    max_distance_nm: float = 60.0,
    join_nm: float = 40.0,
    smooth_nm: float = 15.0,
    grid_nm: float = 5.0,
) -> None:
    """Turn segmented labels into the zone to search, with distances and normals.

    Parameters
    ----------
    segmented
        Labels and confidence (Z, Y, X) of the membrane task.
    output
        Volume file. `data` (uint8): 1 where the search looks, within `within_nm` of the
        cleaned membrane. `distance_nm` (float16): distance between the centres of a voxel
        and of the nearest membrane voxel, cut off at `max_distance_nm`; 0 on the
        membrane, negative inside a cell (that includes the gap between its membranes),
        positive elsewhere. `normals` (int8, (3, Z, Y, X), 127 = 1): unit vectors z, y, x
        out of the cell, in the zone; zero elsewhere and where outward is unknown.
    membrane_class
        Class that is membrane.
    min_confidence
        Least confidence of a membrane voxel, in [0, 1].
    closing_nm
        Radius of the closing that mends small gaps, in nm; 0 leaves it out.
    min_volume_nm3
        Membrane pieces smaller than this are dropped, in nm3.
    within_nm
        Half the thickness of the zone, in nm.
    partner_nm
        Least and greatest distance, in nm, at which there must be membrane both outward
        and inward of a voxel of the zone: the search then looks only between two
        membranes. None asks for no partner.
    max_distance_nm
        Greatest distance told, in nm.
    join_nm
        Pieces less than this apart, in nm, belong to one cell: more than the gap between
        outer and inner membrane, less than that between cells.
    smooth_nm
        Normals are averaged over this standard deviation, in nm.
    grid_nm
        Edge of the coarse voxels, in nm; larger where the volume would need too many.

    Raises
    ------
    Refused
        If there is no such class, the volume is a sparse set of slices, or the least
        distance of a partner is above the greatest.
    """
    _refuse_turned_round(segmented, partner_nm)
    with volumes.open_volume(segmented) as volume:
        shape, voxel_nm, origin_nm = volume.shape, volume.voxel_nm, volume.origin_nm
        if volume.z is not None:
            raise Refused(f"{segmented}: a sparse set of slices has no membrane surfaces")
    membrane = read_membrane(segmented, membrane_class, min_confidence)
    membrane = clean(membrane, voxel_nm, closing_nm, min_volume_nm3)
    cells = orient(
        *coarsen(membrane, voxel_nm, grid_nm),
        join_nm=join_nm,
        smooth_nm=smooth_nm,
        within_nm=within_nm,
    )
    layout = {
        "data": (shape, np.uint8),
        "distance_nm": (shape, np.float16),
        "normals": ((3, *shape), np.int8),
    }
    facts: dict[str, Any] = {
        "membrane_voxels": int(membrane.sum()),
        "cells": cells.number,
        "within_nm": within_nm,
    }
    reach_nm = max(max_distance_nm, within_nm)
    with volumes.create(
        output, layout, voxel_nm=voxel_nm, origin_nm=origin_nm, **facts
    ) as file:
        for slab, distance in distances(membrane, voxel_nm, reach_nm):
            zone = distance <= within_nm
            normals = cells.normals_at(zone, slab.start, voxel_nm)
            if partner_nm:
                zone &= between(membrane, normals, slab.start, voxel_nm, partner_nm)
                normals *= zone
            inside = cells.depth_at(slab, shape, voxel_nm) < 0
            file["data"][slab] = zone
            told = np.minimum(distance, max_distance_nm)
            file["distance_nm"][slab] = np.where(inside, -told, told)
            file["normals"][:, slab] = normals


def _refuse_turned_round(
    segmented: str | os.PathLike[str], partner_nm: Sequence[float] | None
) -> None:
    if partner_nm and partner_nm[0] > partner_nm[1]:
        raise Refused(
            f"{segmented}: expected mask.partner_nm as [least, greatest] distance, found "
            f"{list(partner_nm)}; turn the two round in config.yaml"
        )


def read_membrane(
    segmented: str | os.PathLike[str], name: str, min_confidence: float = 0.0
) -> Bools:
    """Read where a segmentation says membrane, slab by slab.

    Parameters
    ----------
    segmented
        Volume file with labels, confidence and attribute classes.
    name
        Class to look for.
    min_confidence
        Least confidence in [0, 1].

    Raises
    ------
    Refused
        If there is no such class.
    """
    classes = volumes.class_names(segmented)
    if name not in classes:
        raise Refused(
            f"{segmented}: expected a class {name!r}, found {', '.join(classes)}; set "
            "mask.membrane_class to one of them"
        )
    with (
        volumes.open_volume(segmented) as labels,
        volumes.open_volume(segmented, "confidence") as confidence,
    ):
        found = np.zeros(labels.shape, bool)
        for slab in volumes.slabs(labels.shape[0]):
            found[slab] = labels.data[slab] == classes.index(name)
            if min_confidence > 0:
                found[slab] &= confidence.data[slab] >= min_confidence * 255
    return found


def clean(
    membrane: Bools, voxel_nm: Edges, closing_nm: float, min_volume_nm3: float
) -> Bools:
    """Mend small gaps, then drop small pieces.

    Parameters
    ----------
    membrane
        Mask of shape (Z, Y, X).
    voxel_nm
        Voxel edges in nm.
    closing_nm
        Radius of the ball that closes gaps, in nm.
    min_volume_nm3
        Least volume of a piece, in nm3; voxels touching at a corner are one piece.
    """
    if closing_nm > 0:
        membrane = membrane | close(membrane, voxel_nm, closing_nm)
    pieces, number = ndimage.label(membrane, EVERY_NEIGHBOUR)
    sizes = np.zeros(number + 1, np.int64)
    for slab in volumes.slabs(len(pieces)):
        sizes += np.bincount(pieces[slab].ravel(), minlength=number + 1)
    keep = sizes * math.prod(voxel_nm) >= min_volume_nm3
    keep[0] = False
    kept: Bools = keep[pieces]
    return kept


def close(membrane: Bools, voxel_nm: Edges, radius_nm: float) -> Bools:
    """Close a mask with a ball in nm, as if nothing ended at the volume's border."""
    reach = [math.ceil(radius_nm / edge) + 1 for edge in voxel_nm]
    padded = np.pad(membrane, [(n, n) for n in reach])
    for _ in ("dilate", "erode by dilating the complement"):
        padded = ~_dilated(padded, voxel_nm, radius_nm)
    window = [slice(n, -n) for n in reach]
    return padded[tuple(window)]


def _dilated(mask: Bools, voxel_nm: Edges, radius_nm: float) -> Bools:
    grown = np.zeros_like(mask)
    for slab, distance in distances(mask, voxel_nm, radius_nm):
        grown[slab] = distance <= radius_nm
    return grown


def distances(
    mask: Bools, voxel_nm: Edges, reach_nm: float
) -> Iterator[tuple[slice, Floats]]:
    """Yield the distance to the nearest voxel of a mask, slab by slab along z.

    Parameters
    ----------
    mask
        Mask of shape (Z, Y, X).
    voxel_nm
        Voxel edges in nm.
    reach_nm
        Greater distances, in nm, are told as infinite; it sets the halo of a slab.

    Yields
    ------
    slice, ndarray of float32
        The slab and its distances in nm between voxel centres.
    """
    halo = [math.ceil(reach_nm / edge) for edge in voxel_nm]
    for slab in volumes.slabs(len(mask)):
        around = (slab.stop - slab.start + 2 * halo[0]) * mask.shape[2]
        rows = max(1, 2 * halo[1], MOST_AT_ONCE // around - 2 * halo[1])
        found = np.empty(mask[slab].shape, np.float32)
        for tile in volumes.slabs(mask.shape[1], rows):
            found[:, tile] = _distances(mask, (slab, tile), voxel_nm, halo)
        found[found > reach_nm] = np.inf
        yield slab, found


def _distances(
    mask: Bools, tile: tuple[slice, slice], voxel_nm: Edges, halo: Sequence[int]
) -> Floats:
    """Distances in a tile of z and y; those beyond its halo are wrong, and never less."""
    low = [max(0, part.start - reach) for part, reach in zip(tile, halo, strict=False)]
    high = [part.stop + reach for part, reach in zip(tile, halo, strict=False)]
    block = ~mask[low[0] : high[0], low[1] : high[1]]
    z, y = (
        slice(part.start - first, part.stop - first)
        for part, first in zip(tile, low, strict=True)
    )
    if block.all():
        return np.full(block[z, y].shape, np.inf, np.float32)
    whole = ndimage.distance_transform_edt(block, sampling=voxel_nm)
    own: Floats = whole[z, y].astype(np.float32)
    return own


def between(
    membrane: Bools,
    normals: npt.NDArray[np.int8],
    first: int,
    voxel_nm: Edges,
    reach_nm: Sequence[float],
) -> Bools:
    """Tell which voxels of a slab have membrane on both sides.

    Parameters
    ----------
    membrane
        Mask of the whole volume, of shape (Z, Y, X).
    normals
        Unit vectors of the slab, (3, z, Y, X), 127 = 1; where zero, the answer is no.
    first
        First slice of the slab.
    voxel_nm
        Voxel edges in nm.
    reach_nm
        Least and greatest distance of the membranes, in nm.
    """
    known = normals.any(axis=0)
    places = np.argwhere(known) + np.array([first, 0, 0])
    steps = normals[:, known].T / (ONE * np.array(voxel_nm))
    travelled_nm = np.arange(reach_nm[0], reach_nm[1] + min(voxel_nm) / 2, min(voxel_nm))
    met = np.ones(len(places), bool)
    for side in (1, -1):
        views = [_taken(membrane, places + side * nm * steps) for nm in travelled_nm]
        met &= np.any(views, axis=0)
    found = np.zeros(known.shape, bool)
    found[known] = met
    return found


def _taken(mask: Bools, places: npt.NDArray[np.float64]) -> Bools:
    """Return the mask at the nearest voxels; False beyond its border."""
    nearest = np.rint(places).astype(int)
    inside = np.all((nearest >= 0) & (nearest < mask.shape), axis=1)
    found = np.zeros(len(places), bool)
    found[inside] = mask[tuple(nearest[inside].T)]
    return found


def coarsen(mask: Bools, voxel_nm: Edges, grid_nm: float) -> tuple[Floats, float]:
    """Count a mask into coarse cubic voxels.

    Parameters
    ----------
    mask
        Mask of shape (Z, Y, X).
    voxel_nm
        Its voxel edges in nm.
    grid_nm
        Wanted edge of the cubes in nm; at least the longest voxel edge is taken, and what
        keeps the number of cubes bounded.

    Returns
    -------
    ndarray of float32
        Share of each cube that the mask fills; a little above 1 where voxels straddle.
    float
        Edge of the cubes in nm.
    """
    size_nm = np.array(mask.shape) * voxel_nm
    edge_nm = max(grid_nm, *voxel_nm, float(np.cbrt(size_nm.prod() / MOST_COARSE_VOXELS)))
    shape = np.ceil(size_nm / edge_nm).astype(int)
    filled = np.zeros(shape.prod(), np.float32)
    for slab in volumes.slabs(len(mask)):
        voxels = np.argwhere(mask[slab]) + np.array([slab.start, 0, 0])
        cubes = ((voxels + 0.5) * voxel_nm / edge_nm).astype(int)
        places = np.ravel_multi_index(tuple(cubes.T), tuple(shape))
        filled += np.bincount(places, minlength=filled.size)
    filled *= math.prod(voxel_nm) / edge_nm**3
    return filled.reshape(shape), edge_nm


@dataclass(frozen=True)
class Cells:
    """Where cells are and which way is out, on the coarse grid.

    Attributes
    ----------
    depth_nm
        Negative inside a cell's hull, positive outside, of shape (z, y, x).
    normals
        Unit vectors out of the cell near its membrane, of shape (3, z, y, x), else 0.
    edge_nm
        Edge of the coarse voxels in nm.
    number
        How many cells (pieces of membrane that enclose a volume) there are.
    """

    depth_nm: Floats
    normals: Floats
    edge_nm: float
    number: int

    def depth_at(self, slab: slice, shape: Sequence[int], voxel_nm: Edges) -> Floats:
        """Interpolate the depth linearly on a slab of the full grid, in nm."""
        found = self.depth_nm
        for axis, edge in enumerate(voxel_nm):
            ends = (slab.start, slab.stop) if axis == 0 else (0, shape[axis])
            places = (np.arange(*ends) + 0.5) * edge / self.edge_nm - 0.5
            places = np.clip(places, 0, found.shape[axis] - 1)
            low = places.astype(int)
            high = np.minimum(low + 1, found.shape[axis] - 1)
            share = np.expand_dims(places - low, [n for n in range(3) if n != axis])
            share = share.astype(np.float32)
            found = (1 - share) * found.take(low, axis) + share * found.take(high, axis)
        return found

    def normals_at(self, zone: Bools, first: int, voxel_nm: Edges) -> npt.NDArray[np.int8]:
        """Interpolate the normals in the zone of a slab that begins at slice `first`.

        Returns
        -------
        ndarray of int8
            Unit vectors of shape (3, Z, Y, X), 127 = 1; zero outside the zone.
        """
        centres = np.argwhere(zone) + np.array([first + 0.5, 0.5, 0.5])
        places = centres * np.array(voxel_nm) / self.edge_nm - 0.5
        vectors = np.stack([_sample(part, places) for part in self.normals], 1)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        known = lengths > 0.1
        unit = np.where(known, vectors / np.where(known, lengths, 1), 0)
        normals = np.zeros((3, *zone.shape), np.int8)
        normals[:, zone] = np.rint(unit.T * ONE)
        return normals


def _sample(coarse: Floats, places: npt.NDArray[Any]) -> Floats:
    found: Floats = ndimage.map_coordinates(coarse, places.T, order=1, mode="nearest")
    return found


def orient(
    density: Floats, edge_nm: float, *, join_nm: float, smooth_nm: float, within_nm: float
) -> Cells:
    """Tell inside from outside, and which way is out.

    Parameters
    ----------
    density
        Share of membrane in each coarse voxel.
    edge_nm
        Edge of the coarse voxels in nm.
    join_nm, smooth_nm, within_nm
        See `find`.
    """
    membrane = density > 0
    if not membrane.any():
        depth = np.full(density.shape, FAR_NM, np.float32)
        return Cells(depth, np.zeros((3, *density.shape), np.float32), edge_nm, 0)
    gaps = ndimage.distance_transform_edt(~membrane) * edge_nm
    groups, _ = ndimage.label(gaps <= join_nm / 2, EVERY_NEIGHBOUR)
    depth, centres = hulls(np.where(membrane, groups, 0), edge_nm)
    distance, nearest = ndimage.distance_transform_edt(~membrane, return_indices=True)
    near = np.nonzero(distance * edge_nm <= within_nm + 2 * edge_nm)
    surface = np.stack([index[near] for index in nearest])
    # A plane through the nearest membrane voxel has the cell's centre on its inner side.
    away = surface.T - centres[groups[tuple(surface)]]
    vectors = sheet_normals(density, near, smooth_nm / edge_nm)
    sides = np.sign(np.einsum("ni,ni->n", away, vectors))
    normals = np.zeros((3, *density.shape), np.float32)
    z, y, x = near
    normals[:, z, y, x] = np.nan_to_num(vectors * sides[:, None]).T
    return Cells(depth, normals, edge_nm, int(np.isfinite(centres[:, 0]).sum()))


def hulls(
    groups: npt.NDArray[np.int32], edge_nm: float
) -> tuple[Floats, npt.NDArray[np.float64]]:
    """Wrap each group of membrane voxels into its convex hull.

    Parameters
    ----------
    groups
        Number of the group of each membrane voxel, from 1; 0 elsewhere.
    edge_nm
        Voxel edge in nm.

    Returns
    -------
    ndarray of float32
        Depth in nm: minus the distance to the hull's surface inside, positive outside.
    ndarray of float64
        Centre of each group's hull in voxels, of shape (groups + 1, 3); NaN for 0 and for
        groups that enclose nothing (flat ones).
    """
    depth = np.full(groups.shape, FAR_NM, np.float32)
    boxes: list[Any] = ndimage.find_objects(groups)
    centres = np.full((len(boxes) + 1, 3), np.nan)
    for number, box in enumerate(boxes, 1):
        own = np.zeros(0) if box is None else groups[box] == number
        try:
            planes = ConvexHull(np.argwhere(own)).equations.astype(np.float32)
        except (QhullError, ValueError):
            continue
        z, y, x = np.ogrid[tuple(slice(0, n) for n in own.shape)]
        below = np.full(own.shape, -np.inf, np.float32)
        for a, b, c, d in planes:
            np.maximum(below, a * z + b * y + c * x + d, out=below)
        corner = [part.start for part in box]
        centres[number] = np.argwhere(below <= 0).mean(0) + corner
        depth[box] = np.minimum(depth[box], below * edge_nm)
    return depth, centres


def sheet_normals(
    density: Floats, places: tuple[npt.NDArray[np.int64], ...], smooth_px: float
) -> npt.NDArray[np.float64]:
    """Direction across a sheet, either sign: main axis of the structure tensor.

    Parameters
    ----------
    density
        Sheet density of shape (z, y, x), cubic voxels.
    places
        Voxels to answer for, as from `np.nonzero`: N of them.
    smooth_px
        Standard deviation of the average over gradients, in voxels.

    Returns
    -------
    ndarray of shape (N, 3)
        Unit vectors z, y, x.
    """
    gradient = np.gradient(ndimage.gaussian_filter(np.pad(density, 1), 1.0))
    tensor = np.zeros((len(places[0]), 3, 3), np.float32)
    for i in range(3):
        for j in range(i, 3):
            product = (gradient[i] * gradient[j])[1:-1, 1:-1, 1:-1]
            mean = ndimage.gaussian_filter(product, smooth_px)
            tensor[:, i, j] = tensor[:, j, i] = mean[places]
    _, vectors = np.linalg.eigh(tensor.astype(np.float64))
    main: npt.NDArray[np.float64] = vectors[..., -1]
    return main
