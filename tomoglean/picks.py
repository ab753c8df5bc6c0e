"""Find the candidates in a score map and hand them on."""

import os
from collections.abc import Iterator

import h5py
import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from tomoglean import volumes
from tomoglean.tables import Picks
from tomoglean.volumes import Volume

Array = npt.NDArray[np.float64]
VoxelNm = tuple[float, float, float]

LEVELS = 1 << 16
STEPS = 20
STILL_PX = 0.01


def find(
    scores: Volume,
    *,
    threshold: float,
    min_distance_nm: float,
    max_candidates: int = 0,
    budget: int = 2_000_000,
) -> Array:
    """Find the score maxima that stand far enough apart.

    The best voxel comes first and silences its neighbourhood, and so on down: greedy
    non-maximum suppression at a fixed distance (see arXiv:1511.06437). Of equal scores the
    voxel first in (z, y, x) comes first. The map may lie on disk: it is read slab by slab,
    once for every band of scores, best band first, so that only the voxels of one band are
    in memory; the result is that of the whole map at once.

    Parameters
    ----------
    scores
        Score map of shape (Z, Y, X), each value in [0, 1]; zero is no candidate.
    threshold
        Lowest score a candidate may have, in [0, 1].
    min_distance_nm
        Least distance between two candidates, in nm.
    max_candidates
        At most so many, the best; 0 for all.
    budget
        Voxels of a band, if need be more where so many share one of 65,536 score levels.

    Returns
    -------
    ndarray of shape (N, 4)
        Candidates, best first: z, y, x in voxels, score. N may be 0.

    Raises
    ------
    ValueError
        If the map holds values outside [0, 1].
    """
    most = max_candidates or np.inf
    kept = np.empty((0, 4))
    for low, high in _bands(scores, threshold, budget):
        band = _band(scores, threshold, low, high)
        kept = _greedy(band, kept, scores.voxel_nm, min_distance_nm, most)
        if len(kept) >= most:
            break
    return kept


def _bands(scores: Volume, threshold: float, budget: int) -> Iterator[tuple[int, int]]:
    """Yield bands [low, high) of score levels, best first, of about `budget` voxels."""
    counts = np.zeros(LEVELS + 1, np.int64)
    for slab in volumes.slabs(scores.shape[0]):
        values = np.asarray(scores.data[slab])
        if values.size and not (values.min() >= 0 and values.max() <= 1):
            raise ValueError("scores lie in [0, 1]; is this a raw volume?")
        found = values[values > 0].astype(np.float64)
        counts += np.bincount(_level(found[found >= threshold]), minlength=LEVELS + 1)

    high, inside = LEVELS + 1, 0
    for level in range(LEVELS, -1, -1):
        if inside and inside + counts[level] > budget:
            yield level + 1, high
            high, inside = level + 1, 0
        inside += int(counts[level])
    if inside:
        yield 0, high


def _level(values: Array) -> npt.NDArray[np.int64]:
    return np.floor(values * LEVELS).astype(np.int64)


def _band(scores: Volume, threshold: float, low: int, high: int) -> Array:
    """Return z, y, x, score of the voxels of one band, best first: (N, 4)."""
    rows = [np.empty((0, 4))]
    for slab in volumes.slabs(scores.shape[0]):
        data = np.asarray(scores.data[slab])
        places = np.argwhere(data > 0)
        values = data[tuple(places.T)].astype(np.float64)
        level = _level(values)
        inside = (values >= threshold) & (level >= low) & (level < high)
        rows.append(np.column_stack([places[inside] + (slab.start, 0, 0), values[inside]]))
    band = np.concatenate(rows)
    return np.asarray(band[np.argsort(-band[:, 3], kind="stable")])


def _greedy(
    band: Array,
    kept: Array,
    voxel_nm: VoxelNm,
    min_distance_nm: float,
    most: float,
) -> Array:
    """Add to `kept` the candidates of a band that nothing better silences."""
    if not len(band):
        return kept
    tree = cKDTree(band[:, :3] * voxel_nm)
    # A candidate at exactly the least distance stays.
    radius_nm = np.nextafter(min_distance_nm, 0)
    alive = np.ones(len(band), bool)
    for candidate in kept[:, :3] * voxel_nm:
        alive[tree.query_ball_point(candidate, radius_nm)] = False

    chosen: list[int] = []
    for number in range(len(band)):
        if len(kept) + len(chosen) >= most:
            break
        if alive[number]:
            chosen.append(number)
            alive[tree.query_ball_point(tree.data[number], radius_nm)] = False
    return np.concatenate([kept, band[chosen]])


def refine(scores: Volume, found: Array, radius_nm: float) -> Array:
    """Move candidates to the centre of mass of the scores around them (mean shift).

    Only what exceeds half the candidate's score counts. On a plateau of equal scores the
    first voxel wins; this brings it to the middle, in at most `STEPS` steps.

    Parameters
    ----------
    scores
        Score map of shape (Z, Y, X); may lie on disk.
    found
        Shape (N, 4), from `find`.
    radius_nm
        Radius of the neighbourhood, in nm; 0 leaves everything in place.

    Returns
    -------
    ndarray of shape (N, 4)
        Scores as they were.
    """
    refined = found.copy()
    for number, (*place, peak) in enumerate(found):
        position = np.array(place)
        for _ in range(STEPS if radius_nm else 0):
            window, near = _ball(position, scores, radius_nm)
            excess = np.asarray(scores.data[window], np.float64) - peak / 2
            weights = np.where(near, np.maximum(excess, 0), 0)
            places = np.argwhere(weights) + [edge.start for edge in window]
            if not len(places):
                break
            before, position = position, np.average(places, 0, weights[weights > 0])
            if np.abs(position - before).max() < STILL_PX:
                break
        refined[number, :3] = position
    return refined


def support(scores: Volume, mask: Volume, found: Array, radius_nm: float) -> Array:
    """Return the mean score of the mask's voxels around candidates.

    It tells candidates apart whose scores are all near 1: a complex is recognised from many
    voxels, a chance hit from few.

    Parameters
    ----------
    scores, mask
        Score map and mask of shape (Z, Y, X); may lie on disk.
    found
        Shape (N, 4): z, y, x in voxels, score.
    radius_nm
        Radius of the neighbourhood, in nm; 0 returns the scores as they are.

    Returns
    -------
    ndarray of shape (N,)
        In [0, 1]; the candidate's own score where the mask is empty.
    """
    means = found[:, 3].copy()
    for number, position in enumerate(found[:, :3] if radius_nm else []):
        window, near = _ball(position, scores, radius_nm)
        counted = near & (np.asarray(mask.data[window]) != 0)
        if counted.any():
            means[number] = np.asarray(scores.data[window], np.float64)[counted].mean()
    return means


def _ball(
    position: Array, volume: Volume, radius_nm: float
) -> tuple[tuple[slice, ...], npt.NDArray[np.bool_]]:
    """Return a window around a position and which of its voxels lie within the radius."""
    reach = radius_nm / np.asarray(volume.voxel_nm)
    low = np.maximum(np.ceil(position - reach), 0).astype(int)
    high = np.minimum(np.floor(position + reach) + 1, volume.shape).astype(int)
    window = tuple(slice(*ends) for ends in zip(low, high, strict=True))
    places = np.moveaxis(np.indices(tuple(high - low)), 0, -1) + low
    gaps_nm = np.linalg.norm((places - position) * volume.voxel_nm, axis=-1)
    return window, gaps_nm <= radius_nm


def normals_at(path: str | os.PathLike[str], positions: Array) -> Array:
    """Read the unit membrane normals next to positions.

    Parameters
    ----------
    path
        A mask file with dataset `normals` (3, Z, Y, X), int8, 127 = 1.0.
    positions
        Shape (N, 3), in voxels.

    Returns
    -------
    ndarray of shape (N, 3)
        Unit vectors along z, y, x; zeros where unknown.
    """
    normals = np.zeros((len(positions), 3))
    with h5py.File(path, "r", locking="best-effort") as file:
        stored = file["normals"]
        for number, position in enumerate(positions):
            nearest = np.clip(np.rint(position), 0, np.array(stored.shape[1:]) - 1)
            normals[number] = stored[(slice(None), *nearest.astype(int))]
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.asarray(normals / np.where(lengths == 0, 1, lengths))


def pick(
    scores: str | os.PathLike[str],
    mask: str | os.PathLike[str],
    *,
    threshold: float = 0.1,
    min_distance_nm: float = 40.0,
    refine_nm: float = 10.0,
    support_nm: float = 5.0,
    max_candidates: int = 1000,
) -> Picks:
    """Find, refine, weigh and describe the candidates of a score map on disk.

    Parameters
    ----------
    scores
        Score map; its attribute `offset_voxel` (what a voxel's score is centred on, less
        the voxel) is added to all positions.
    mask
        Mask file with the membrane normals.
    threshold, min_distance_nm, max_candidates
        See `find`; the distance also holds after refinement.
    refine_nm
        See `refine`.
    support_nm
        See `support`; it becomes the score of a pick.
    """
    offset = np.asarray(volumes.attributes(scores).get("offset_voxel", (0.0, 0.0, 0.0)))
    with volumes.open_volume(scores) as field, volumes.open_volume(mask) as inside:
        found = find(
            field,
            threshold=threshold,
            min_distance_nm=min_distance_nm,
            max_candidates=max_candidates,
        )
        found = refine(field, found, refine_nm)
        found[:, 3] = support(field, inside, found, support_nm)
        found = found[np.argsort(-found[:, 3], kind="stable")]
        found = _greedy(found, found[:0], field.voxel_nm, min_distance_nm, np.inf)
        positions = found[:, :3] + offset
        return Picks(
            positions=positions,
            positions_nm=positions * field.voxel_nm,
            normals=normals_at(mask, positions),
            scores=found[:, 3],
        )
