"""Bring grey values of different volumes onto one scale, the same way for every reader."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

FINGERPRINT = ("p_low", "p_high", "mean", "std")


def fingerprint(attrs: Mapping[str, Any]) -> dict[str, float]:
    """Pick the fingerprint out of the attributes of a converted volume.

    Raises
    ------
    ValueError
        If a part of it is missing.
    """
    missing = [name for name in FINGERPRINT if name not in attrs]
    if missing:
        raise ValueError(
            f"no fingerprint: {', '.join(missing)} missing; convert the volume"
        )
    return {name: float(attrs[name]) for name in FINGERPRINT}


def standardise(
    values: npt.NDArray[Any], attrs: Mapping[str, Any]
) -> npt.NDArray[np.float32]:
    """Clip grey values to the fingerprint's percentiles, then take the z-score.

    Parameters
    ----------
    values
        Grey values of any shape and dtype.
    attrs
        The volume's fingerprint: p_low, p_high, and mean, std of the clipped values, all in
        grey values. Further attributes are ignored.

    Returns
    -------
    ndarray of float32
        Same shape; about zero mean and unit variance, all zero for a constant volume.
    """
    known = fingerprint(attrs)
    clipped = np.clip(np.asarray(values, np.float32), known["p_low"], known["p_high"])
    spread = known["std"] or 1.0
    return ((clipped - np.float32(known["mean"])) / np.float32(spread)).astype(np.float32)


def thick_slices(
    data: Any,
    depth: int,
    slab: slice,
    attrs: Mapping[str, Any],
    *,
    reach: int,
    neighbours: int = 0,
) -> npt.NDArray[np.float32]:
    """Average every slice of a slab with those around it, to see more than the noise.

    Beyond the ends of the volume the last slice repeats.

    Parameters
    ----------
    data
        Raw grey values of shape (Z, Y, X), in memory or on disk.
    depth
        Number of slices Z.
    slab
        The slices wanted.
    attrs
        Fingerprint, as in `standardise`.
    reach
        Slices on either side that count: a thick slice is 2 reach + 1 slices.
    neighbours
        Thick slices below and above that come with each, one touching the next.

    Returns
    -------
    ndarray of shape (slices of the slab, Y, X, 2 neighbours + 1)
        Means of standardised grey values, lowest thick slice first.
    """
    step = 2 * reach + 1
    most = reach + neighbours * step
    first = max(slab.start - most, 0)
    grey = standardise(data[first : min(slab.stop + most, depth)], attrs)
    around = np.arange(-most, most + 1).reshape(-1, step)
    means = [
        grey[np.clip(z - first + around, 0, len(grey) - 1)].mean(axis=1)
        for z in range(slab.start, slab.stop)
    ]
    return np.moveaxis(np.asarray(means, np.float32), 1, -1)
