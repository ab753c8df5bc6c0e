"""The control of an average: random places of the same membranes, as many and as deep.

Masks are read slab by slab.
"""

import os
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from tomoglean import volumes
from tomoglean.averages.geometry import Array
from tomoglean.averages.particles import Particle, fits, placed
from tomoglean.averages.settings import Setup
from tomoglean.volumes import Volume

Path = str | os.PathLike[str]

DRAWN_PER_PICK = 50
LEAST_DRAWN = 1000
#: Normals of a mask have the length 1, or 0 where there is none; bytes tell 127 for 1.
LEAST_NORMAL = 0.5
BYTES_PER_UNIT = 127.0


def random_particles(
    found: Sequence[Particle],
    scans: Sequence[Volume],
    masks: Sequence[Path],
    setup: Setup,
    seed: int,
) -> list[Particle]:
    """Draw as many places of the same membranes, at the same depths in them.

    Parameters
    ----------
    found
        Particles to be compared with.
    scans, masks
        Tomograms, and their files of `mask` with `data`, `distance_nm` and `normals`.
    setup
        Settings: how large a box is.
    seed
        Seed of the places and of the free angles.

    Returns
    -------
    list of Particle
        Fewer than `found` where a mask has too few voxels; no voxel twice.
    """
    drawn: list[Particle] = []
    for source, (scan, mask) in enumerate(zip(scans, masks, strict=True)):
        own = [particle for particle in found if particle.source == source]
        if not own:
            continue
        rng = volumes.random(seed, "control places", source)
        number = max(DRAWN_PER_PICK * len(own), LEAST_DRAWN)
        places, depths_nm, normals = _usable(*_voxels(mask, number, rng), scan, setup)
        for row in nearest(_depths_nm(mask, own), depths_nm, setup.voxel_nm):
            centre, normal = places[row], normals[row]
            drawn.append(placed(source, centre, normal, len(drawn), seed, "control"))
    return drawn


def nearest(wanted_nm: Array, there_nm: Array, voxel_nm: float) -> list[int]:
    """Choose the place that comes closest to each wanted depth, none twice.

    Parameters
    ----------
    wanted_nm
        Depths of shape (N,), in nm.
    there_nm
        Depths of the places to choose from, shape (M,), in nm.
    voxel_nm
        Differences up to this count as none: of such places the first is taken.

    Returns
    -------
    list of int
        Rows of `there_nm`, at most M.
    """
    left_nm = there_nm.copy()
    rows: list[int] = []
    for depth_nm in wanted_nm[: len(left_nm)]:
        misfit = np.maximum(np.abs(left_nm - depth_nm), voxel_nm)
        rows.append(int(np.argmin(misfit)))
        left_nm[rows[-1]] = np.inf
    return rows


def _usable(
    places: Array, depths_nm: Array, normals: Array, scan: Volume, setup: Setup
) -> tuple[Array, Array, Array]:
    """Keep the places that have a normal and around which a box fits."""
    usable = np.linalg.norm(normals, axis=1) > LEAST_NORMAL
    usable &= np.array([fits(place, scan, setup) for place in places], bool)
    return places[usable], depths_nm[usable], normals[usable]


def _depths_nm(mask: Path, particles: Sequence[Particle]) -> Array:
    with volumes.open_volume(mask, "distance_nm") as distance_nm:
        last = np.array(distance_nm.shape) - 1
        spots = [np.clip(np.rint(p.centre).astype(int), 0, last) for p in particles]
        found = [distance_nm.data[tuple(spot)] for spot in spots]
    return np.nan_to_num(np.array(found, np.float64))


def _voxels(
    mask: Path, number: int, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Draw mask voxels without replacement: places, distances in nm, normals."""
    with volumes.open_volume(mask) as chosen:
        slabs = volumes.slabs(chosen.shape[0])
        counts = [int(np.count_nonzero(chosen.data[slab])) for slab in slabs]
    total = sum(counts)
    ranks = np.sort(rng.choice(total, min(number, total), replace=False))
    rows = list(_looked_up(mask, ranks, counts))
    table = rng.permutation(np.concatenate([np.empty((0, 7)), *rows]))
    return table[:, :3], np.nan_to_num(table[:, 3]), table[:, 4:]


def _looked_up(
    mask: Path, ranks: npt.NDArray[np.int64], counts: Sequence[int]
) -> Iterator[Array]:
    """Look up mask voxels by rank, slab by slab: z, y, x, distance, normal."""
    first = 0
    with (
        volumes.open_volume(mask) as chosen,
        volumes.open_volume(mask, "distance_nm") as distance_nm,
        volumes.open_volume(mask, "normals") as normals,
    ):
        for slab, count in zip(volumes.slabs(chosen.shape[0]), counts, strict=True):
            own = ranks[(ranks >= first) & (ranks < first + count)] - first
            first += count
            spots = np.argwhere(chosen.data[slab])[own]
            depths = np.asarray(distance_nm.data[slab], np.float64)[tuple(spots.T)]
            axes = normals.data[:, slab][(slice(None), *spots.T)].T / BYTES_PER_UNIT
            yield np.column_stack([spots + np.array([slab.start, 0, 0]), depths, axes])
