"""Normalise patches one by one without cutting them out; needs no Keras."""

from typing import Any

import numpy as np
import numpy.typing as npt

VARIANCE_FLOOR = 1e-4


def scales(
    image: npt.NDArray[np.floating[Any]], positions: npt.NDArray[Any], patch_px: int
) -> npt.NDArray[np.float32]:
    """Return 1/sigma of the patches, as `lenet.PatchNormalisation` divides by it.

    Parameters
    ----------
    image
        Shape (H, W, C), standardised grey values.
    positions
        Shape (N, 2): top row and left column of every patch.
    patch_px
        Edge of a patch in pixels.

    Returns
    -------
    ndarray of float32
        Shape (N,); computed in float64.
    """
    values = np.asarray(image, np.float64)
    tops, lefts = np.asarray(positions, np.int64).reshape(-1, 2).T
    sums = [
        _box_sums(power.mean(axis=2), tops, lefts, patch_px)
        for power in (values, values**2)
    ]
    mean, square = (total / patch_px**2 for total in sums)
    variance = np.maximum(square - mean**2, 0.0)
    return np.asarray(1.0 / np.sqrt(variance + VARIANCE_FLOOR), np.float32)


def _box_sums(
    values: npt.NDArray[np.float64],
    tops: npt.NDArray[np.int64],
    lefts: npt.NDArray[np.int64],
    size: int,
) -> npt.NDArray[np.float64]:
    table = np.pad(values, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    below, right = tops + size, lefts + size
    inner = table[below, right] - table[tops, right]
    return np.asarray(inner - table[below, lefts] + table[tops, lefts])
