"""Rates that may be undefined, and intervals from resampling whole volumes."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tomoglean import volumes

LEAST_UNITS = 3


def ratio(part: float, whole: float) -> float | None:
    """Divide, or say that nothing can be said: None where `whole` is zero."""
    return float(part) / float(whole) if whole else None


def mean(values: Sequence[float | None]) -> float | None:
    """Average the defined values; None if there is none."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def precision_recall(tp: int, fp: int, fn: int) -> tuple[float | None, float | None]:
    """Return the share of picks that are true and the share of truths that are found."""
    return ratio(tp, tp + fp), ratio(tp, tp + fn)


def f_beta(tp: int, fp: int, fn: int, beta: float = 1.0) -> float | None:
    """Weigh precision and recall together; recall counts `beta` times as much.

    From counts: (1 + b^2) TP / ((1 + b^2) TP + b^2 FN + FP), after van Rijsbergen 1979.
    None where there is no truth.
    """
    if tp + fn == 0:
        return None
    weight = beta**2
    return ratio((1 + weight) * tp, (1 + weight) * tp + weight * fn + fp)


def interval(
    units: npt.NDArray[Any],
    figure: Callable[[npt.NDArray[Any]], float | None],
    *,
    repeats: int,
    seed: int,
    purpose: str,
) -> list[float] | None:
    """Bootstrap a 95 % interval over volumes: pooled counts of volumes drawn anew.

    Parameters
    ----------
    units
        Counts of each volume, shape (volumes, ...); they are summed over the first axis.
    figure
        What to compute from the pooled counts; None where undefined.
    repeats
        How often to draw; draws with an undefined figure are left out.
    seed, purpose
        Key of the random numbers.

    Returns
    -------
    list of two float, or None
        The 2.5 and 97.5 percentile; None for fewer than three volumes or where more than
        half of the draws are undefined.
    """
    count = len(units)
    if count < LEAST_UNITS or repeats < 1:
        return None
    draws = volumes.random(seed, "bootstrap", purpose).integers(
        count, size=(repeats, count)
    )
    drawn = [figure(units[draw].sum(axis=0)) for draw in draws]
    known = [value for value in drawn if value is not None]
    if 2 * len(known) <= repeats:
        return None
    return [float(bound) for bound in np.percentile(known, [2.5, 97.5])]
