"""Do two labellings share their surfaces? Surface-Dice at a tolerance, slab by slab.

Twice the share of surface voxels that have the other surface within the tolerance, after
the surface-Dice of Nikolov et al., arXiv:1809.04430, on voxel surfaces: unlike Dice it does
not collapse for thin sheets that are half a voxel off.
"""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
PARTS = 4


def margin(tolerance_px: float) -> int:
    """Slices a slab must see beyond its own on either side."""
    return math.ceil(tolerance_px) + 1


def agreement(
    truth: npt.NDArray[np.uint8],
    predicted: npt.NDArray[np.uint8],
    *,
    classes: int,
    tolerance_px: float,
    inner: slice = slice(None),
) -> npt.NDArray[np.int64]:
    """Count surface voxels, and those that have the other surface near.

    Parameters
    ----------
    truth, predicted
        Labels of shape (Z, Y, X). What lies beyond their edges counts as the same class, so
        that the edge of the field of view is no surface.
    classes
        Number of classes.
    tolerance_px
        Largest distance between the surfaces, in voxels.
    inner
        Slices to count; the others are context, `margin` of them.

    Returns
    -------
    ndarray of shape (classes, 4)
        Per class: true surface near the predicted one, true surface, predicted surface near
        the true one, predicted surface.
    """
    counts = np.zeros((classes, PARTS), np.int64)
    for label in range(classes):
        true, ours = boundary(truth == label), boundary(predicted == label)
        counts[label] = [
            np.count_nonzero((true & near(ours, tolerance_px))[inner]),
            np.count_nonzero(true[inner]),
            np.count_nonzero((ours & near(true, tolerance_px))[inner]),
            np.count_nonzero(ours[inner]),
        ]
    return counts


def boundary(mask: Mask) -> Mask:
    """Keep the voxels of a mask that touch its outside through a face."""
    inside = mask.copy()
    for axis in range(mask.ndim):
        kept, whole = np.moveaxis(inside, axis, 0), np.moveaxis(mask, axis, 0)
        kept[1:] &= whole[:-1]
        kept[:-1] &= whole[1:]
    return mask & ~inside


def near(mask: Mask, distance_px: float) -> Mask:
    """Mark all voxels within a distance of a mask: dilation by a ball."""
    found = np.zeros_like(mask)
    for offset in _ball(distance_px):
        onto = tuple(slice(max(0, step), min(0, step) or None) for step in offset)
        source = tuple(slice(max(0, -step), min(0, -step) or None) for step in offset)
        found[onto] |= mask[source]
    return found


def _ball(radius: float) -> Iterator[tuple[int, ...]]:
    steps = range(-math.floor(radius), math.floor(radius) + 1)
    for offset in itertools.product(steps, repeat=3):
        if math.dist(offset, (0, 0, 0)) <= radius:
            yield offset
