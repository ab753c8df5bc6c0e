"""Cut labelled patches out of slices: where a complex sits, and where none does.

A patch of 50 x 50 px belongs to the voxel (z, y, x) whose row and column are its 25th: it
covers rows y - 24 .. y + 25, so its centre is y + 0.5, which is 24.5 of the patch. Slices
are mirrored at their borders, so every voxel of a slice has a patch.
"""

import logging
import os
from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from tomoglean import volumes
from tomoglean.intensities import fingerprint, thick_slices
from tomoglean.provenance import Refused, replacing
from tomoglean.tables import Points
from tomoglean.volumes import Volume

Array = npt.NDArray[Any]
Places = npt.NDArray[np.int64]

NEAR, DECOY, ELSEWHERE = "near", "decoy", "elsewhere"
THICKNESS = 16

log = logging.getLogger(__name__)


def centre_offset(patch_px: int) -> float:
    """Return how far the centre of a patch lies behind its voxel, in px: 0.5 or 0."""
    return (patch_px - 1) / 2 - (patch_px - 1) // 2


def frame(image: Array, patch_px: int) -> Array:
    """Mirror a slice at its borders, so that voxel (y, x) has its patch at (y, x).

    Parameters
    ----------
    image
        Shape (Y, X, C).
    patch_px
        Edge of a patch in pixels.

    Returns
    -------
    ndarray of shape (Y + patch_px - 1, X + patch_px - 1, C)
        The patch of voxel (y, x) covers rows y .. y + patch_px - 1 of it.
    """
    before = (patch_px - 1) // 2
    width = (before, patch_px - 1 - before)
    return np.pad(image, (width, width, (0, 0)), mode="symmetric")


def cut(image: Array, places: Places, patch_px: int) -> Array:
    """Cut the patches of the voxels `places` (N, 2) out of a slice: (N, px, px, C)."""
    framed = frame(image, patch_px)
    windows = np.lib.stride_tricks.sliding_window_view(framed, (patch_px, patch_px), (0, 1))
    return np.ascontiguousarray(np.moveaxis(windows[places[:, 0], places[:, 1]], 1, -1))


def centres(places: Places, patch_px: int) -> npt.NDArray[np.float64]:
    """Return the patch centres of voxels (N, 3), in voxels."""
    offset = centre_offset(patch_px)
    middles = np.asarray(places, np.float64).reshape(-1, 3)
    return np.asarray(middles + np.array([0.0, offset, offset]))


def sample(
    volume: str | os.PathLike[str],
    mask: str | os.PathLike[str],
    points: Points,
    out: str | os.PathLike[str],
    *,
    name: str,
    seed: int,
    target: Sequence[str] = ("t3ss",),
    patch_px: int = 50,
    thickness_nm: float = 0.0,
    neighbours: int = 0,
    positive_nm: float = 5.0,
    ignore_nm: float = 15.0,
    positives_per_point: int = 48,
    negatives_per_positive: float = 4.0,
    near_share: float = 0.25,
    near_nm: float = 60.0,
    decoy_share: float = 0.25,
    negatives_without_points: int = 200,
) -> None:
    """Write the labelled patches of one volume as an examples file.

    Label 1 where the patch centre lies within `positive_nm` of a target (in the mask or
    not), label 0 where it lies farther than `ignore_nm` from all targets, only in the mask.

    Parameters
    ----------
    volume
        A converted volume with its fingerprint, by which patches are standardised.
    mask
        Where complexes can sit (dataset `data`, not zero), of the same shape.
    points
        Annotated points in voxels.
    out
        The examples file: group `patches` with images (N, px, px, C) float32, labels (N,)
        uint8, index (N,) slice, centres (N, 3) float64 in voxels.
    name
        The volume's id, stored and part of the random numbers' key.
    seed
        Seed of the random choice.
    target
        Classes of points that are positives; points of other classes are decoys.
    patch_px
        Edge of a patch in pixels.
    thickness_nm
        Thickness of the slices that patches are cut from, in nm: so many neighbours along z
        are averaged; 0 takes single slices.
    neighbours
        Such slices below and above that a patch has besides, as channels.
    positive_nm, ignore_nm
        Radii of the positive ball and of the ring around it that is left out, in nm.
    positives_per_point
        At most so many patches around one target; 0 takes all.
    negatives_per_positive
        Negative patches a positive one.
    near_share, near_nm
        Share of the negatives within `near_nm` of a target.
    decoy_share
        Share of the negatives within `ignore_nm` of a decoy.
    negatives_without_points
        Negatives of a volume without targets.

    Raises
    ------
    Refused
        If volume and mask differ in shape, or the radii would make a patch both.
    """
    if ignore_nm < positive_nm:
        raise Refused(
            f"sample: expected ignore_nm >= positive_nm, found {ignore_nm} < "
            f"{positive_nm}; correct the settings"
        )
    with volumes.open_volume(volume) as image, volumes.open_volume(mask) as inside:
        if image.shape != inside.shape:
            raise Refused(
                f"{mask}: expected the shape {image.shape} of {volume}, "
                f"found {inside.shape}; make the mask again"
            )
        is_target = np.isin(np.asarray(points.classes, str), list(target))
        targets, decoys = points.positions[is_target], points.positions[~is_target]

        positive = positives(
            image, targets, patch_px, positive_nm, positives_per_point, (seed, name)
        )
        count = round(negatives_per_positive * len(positive))
        negative = negatives(
            inside,
            targets,
            decoys,
            count if len(targets) else negatives_without_points,
            patch_px=patch_px,
            radii_nm=(ignore_nm, near_nm),
            shares=(near_share, decoy_share),
            key=(seed, name),
        )
        log.info("%s: %d positive, %d negative", name, len(positive), len(negative))

        places = np.concatenate([positive, negative])
        labels = np.repeat([1, 0], [len(positive), len(negative)]).astype(np.uint8)
        order = np.lexsort([*places.T[::-1], labels])
        order = order[np.argsort(places[order, 0], kind="stable")]
        attrs = {"volume": name, "classes": ["other", "complex"]}
        reach = round(thickness_nm / 2 / image.voxel_nm[0])
        look = {"reach": reach, "neighbours": neighbours}
        _write(image, volume, places[order], labels[order], patch_px, out, attrs, look)


def positives(
    volume: Volume,
    targets: Array,
    patch_px: int,
    radius_nm: float,
    most: int,
    key: tuple[int, str],
) -> Places:
    """Return the voxels whose patch centres lie within a radius of the targets.

    Parameters
    ----------
    volume
        Gives shape and voxel size.
    targets
        Shape (N, 3), in voxels.
    patch_px
        Edge of a patch in pixels.
    radius_nm
        Radius around a target, in nm.
    most
        At most so many voxels a target, drawn at random; 0 for all.
    key
        Seed and id of the volume.

    Returns
    -------
    ndarray of shape (M, 3)
        Each voxel once, sorted by z, y, x.
    """
    found = [np.empty((0, 3), np.int64)]
    for number, target in enumerate(targets):
        ball = _ball(volume, target, patch_px, radius_nm)
        if not len(ball):
            log.warning("no patch centre lies within %s nm of %s", radius_nm, target)
        random = volumes.random(key[0], "positive", key[1], number)
        if most and len(ball) > most:
            ball = random.choice(ball, most, replace=False, shuffle=False)
        found.append(ball)
    return np.unique(np.concatenate(found), axis=0)


def _ball(volume: Volume, target: Array, patch_px: int, radius_nm: float) -> Places:
    """Return the voxels of the volume with a patch centre within the radius."""
    reach = radius_nm / np.asarray(volume.voxel_nm) + 1
    low = np.maximum(np.floor(target - reach), 0).astype(int)
    high = np.minimum(np.ceil(target + reach) + 1, volume.shape).astype(int)
    sizes = np.maximum(high - low, 0)
    box = np.indices(tuple(sizes)).reshape(3, -1).T + low
    gaps_nm = (centres(box, patch_px) - target) * volume.voxel_nm
    return np.asarray(box[np.linalg.norm(gaps_nm, axis=1) <= radius_nm], np.int64)


def negatives(
    mask: Volume,
    targets: Array,
    decoys: Array,
    count: int,
    *,
    patch_px: int,
    radii_nm: tuple[float, float],
    shares: tuple[float, float],
    key: tuple[int, str],
) -> Places:
    """Draw voxels of the mask far enough from all targets, hard ones by their share.

    Every voxel of the mask draws one random number, keyed by its slice; the lowest of each
    pool (near a target, at a decoy, elsewhere) win. A pool that is too small is made up for
    from elsewhere, then from the others. The mask is read slab by slab.

    Parameters
    ----------
    mask
        Not zero where complexes can sit.
    targets, decoys
        Shape (N, 3), in voxels.
    count
        Voxels wanted.
    patch_px
        Edge of a patch in pixels.
    radii_nm
        Radius to stay away from targets (and that counts as at a decoy), and the radius
        that counts as near a target.
    shares
        Shares of the pools near a target and at a decoy, in [0, 1] together.
    key
        Seed and id of the volume.

    Returns
    -------
    ndarray of shape (M, 3)
        M <= count, each voxel once.
    """
    pools = {pool: np.empty((0, 4)) for pool in (NEAR, DECOY, ELSEWHERE)}
    voxel_nm = np.asarray(mask.voxel_nm)
    for slab in volumes.slabs(mask.shape[0], THICKNESS):
        drawn = _draw(np.asarray(mask.data[slab]) != 0, slab.start, key)
        middles_nm = centres(drawn[:, 1:], patch_px) * voxel_nm
        to_target = _distance(middles_nm, targets * voxel_nm)
        to_decoy = _distance(middles_nm, decoys * voxel_nm)
        far = to_target > radii_nm[0]
        at_decoy = to_decoy <= radii_nm[0]
        near = ~at_decoy & (to_target <= radii_nm[1])
        members = {DECOY: at_decoy, NEAR: near, ELSEWHERE: ~at_decoy & ~near}
        for pool, member in members.items():
            joined = np.concatenate([pools[pool], drawn[member & far]])
            lowest = np.lexsort(joined.T[::-1])[:count]
            pools[pool] = joined[lowest]
    return _mixed(pools, count, shares)


def _draw(mask: npt.NDArray[np.bool_], start: int, key: tuple[int, str]) -> Array:
    """Return a random number and z, y, x for every voxel of a slab's mask: (N, 4)."""
    rows = []
    for z, image in enumerate(mask, start=start):
        places = np.argwhere(image)
        numbers = volumes.random(key[0], "negative", key[1], z).random(len(places))
        rows.append(np.column_stack([numbers, np.full(len(places), z), places]))
    return np.concatenate(rows)


def _distance(places_nm: Array, others_nm: Array) -> Array:
    """Return the distance of each place to the nearest other; infinite without others."""
    if not len(others_nm):
        return np.full(len(places_nm), np.inf)
    return np.asarray(cKDTree(others_nm).query(places_nm)[0])


def _mixed(
    pools: dict[str, Array], count: int, shares: tuple[float, float]
) -> npt.NDArray[np.int64]:
    """Take each pool's share, then fill up with what is left."""
    near = pools[NEAR][: round(count * shares[0])]
    decoy = pools[DECOY][: round(count * shares[1])]
    rest = [pools[ELSEWHERE], pools[NEAR][len(near) :], pools[DECOY][len(decoy) :]]
    chosen = np.concatenate([near, decoy, *rest])[:count, 1:]
    return np.asarray(chosen, np.int64)


def _write(
    volume: Volume,
    path: str | os.PathLike[str],
    places: Places,
    labels: npt.NDArray[np.uint8],
    patch_px: int,
    out: str | os.PathLike[str],
    attrs: dict[str, Any],
    look: dict[str, int],
) -> None:
    """Write the examples file; `places` are sorted by slice."""
    shape = (len(places), patch_px, patch_px, 2 * look["neighbours"] + 1)
    known = volumes.attributes(path)
    with replacing(out) as partial, h5py.File(partial, "w") as file:
        file.attrs.update({"voxel_nm": volume.voxel_nm, "kind": "patches", **attrs})
        file.attrs.update(fingerprint(known))
        group = file.create_group("patches")
        images = group.create_dataset(
            "images", shape, np.float32, chunks=(1, *shape[1:]), maxshape=(None, *shape[1:])
        )
        group["labels"] = labels
        group["index"] = places[:, 0]
        group["centres"] = centres(places, patch_px)
        for slab in volumes.slabs(volume.shape[0]):
            start, stop = np.searchsorted(places[:, 0], [slab.start, slab.stop])
            if start < stop:
                grey = thick_slices(volume.data, volume.shape[0], slab, known, **look)
                here = places[start:stop] - (slab.start, 0, 0)
                images[start:stop] = _cut_slab(grey, here, patch_px)


def _cut_slab(grey: Array, places: Places, patch_px: int) -> Array:
    return np.concatenate(
        [
            cut(grey[z], places[places[:, 0] == z, 1:], patch_px)
            for z in np.unique(places[:, 0])
        ]
    )
