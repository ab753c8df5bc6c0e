"""How alike two boxes are: as a whole, by frequency, and down to which detail."""

from typing import Any

import numpy as np
import numpy.typing as npt

from tomoglean.averages import fourier
from tomoglean.averages.geometry import Array, Box


def correlation(
    one: npt.NDArray[Any], other: npt.NDArray[Any], mask: npt.NDArray[Any] | None = None
) -> float:
    """Return Pearson's correlation of two boxes, weighted by a mask.

    Returns
    -------
    float
        In [-1, 1]; NaN where one of them is constant.
    """
    weight = np.ones(one.shape) if mask is None else np.asarray(mask, np.float64)
    weight = weight / weight.sum()
    a, b = (np.asarray(box, np.float64) for box in (one, other))
    a, b = a - (weight * a).sum(), b - (weight * b).sum()
    norm = np.sqrt((weight * a * a).sum() * (weight * b * b).sum())
    return float((weight * a * b).sum() / norm) if norm > 0 else float("nan")


def shell_correlation(one: Box, other: Box) -> Array:
    """Return the Fourier shell correlation (Harauz and van Heel 1986) of two cubes.

    Returns
    -------
    ndarray of shape (B // 2,)
        Value of the shell with radius 1, 2 .. B // 2 frequency steps; NaN without power.
    """
    side = one.shape[0]
    a, b = (np.asarray(fourier.spectrum(box), np.complex128) for box in (one, other))
    far = np.linalg.norm(fourier.frequencies(side), axis=-1)
    radius = np.rint(far * side).astype(int)
    many = fourier.multiplicity(side)
    cross, power_a, power_b = (
        np.bincount(radius.ravel(), (many * values).ravel())[1 : side // 2 + 1]
        for values in ((a * b.conj()).real, np.abs(a) ** 2, np.abs(b) ** 2)
    )
    norm = np.sqrt(power_a * power_b)
    return np.asarray(np.where(norm > 0, cross / np.where(norm > 0, norm, 1), np.nan))


def resolution_nm(
    frequency_per_nm: npt.ArrayLike, fsc: npt.ArrayLike, level: float
) -> float | None:
    """Return where the shell correlation first falls below a level, in nm.

    Linear between shells; the finest frequency if it never falls below; None if it
    starts below or is undefined.
    """
    frequency, value = np.asarray(frequency_per_nm), np.asarray(fsc)
    if not len(value) or not value[0] >= level:
        return None
    below = np.flatnonzero(~(value >= level))
    if not len(below):
        return float(1 / frequency[-1])
    last = below[0] - 1
    drop = value[last] - value[last + 1]
    part = (value[last] - level) / drop if np.isfinite(drop) else 0.0
    return float(1 / (frequency[last] + part * (frequency[last + 1] - frequency[last])))
