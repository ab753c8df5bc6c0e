"""How sure a figure is: intervals from counts and over volumes, or why there is none."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tomoglean.report.style import finite, number

Z = 1.959963984540054  # of a normal distribution: 95 % lie within
LEAST_VOLUMES = 3
OVER_VOLUMES = "bootstrap over volumes"
FROM_COUNTS = "Wilson, from counts"
Bounds = tuple[float, float]
COUNTS = ("tp", "fp", "fn")


def wilson(hits: int, count: int) -> Bounds | None:
    """Return the 95 % interval of a share, after Wilson 1927 (10.2307/2276774).

    Unlike resampling it says something of 6 hits in 6: at least 61 % are hits.

    Parameters
    ----------
    hits, count
        How many of how many; `hits` lies in [0, count].

    Returns
    -------
    tuple of two float, or None
        Lower and upper bound in [0, 1]; None for a count of 0.

    Raises
    ------
    ValueError
        If there are more hits than there are in all, or fewer than none.

    Examples
    --------
    >>> [round(bound, 2) for bound in wilson(6, 6)]
    [0.61, 1.0]
    """
    if not 0 <= hits <= count:
        raise ValueError(f"expected 0 to {count} hits, found {hits}")
    if not count:
        return None
    share, spread = hits / count, Z**2 / count
    middle = share + spread / 2
    half = Z * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    low, high = (middle - half) / (1 + spread), (middle + half) / (1 + spread)
    return 0.0 if hits == 0 else low, 1.0 if hits == count else high


def per_hit(hits: int, misses: int) -> Bounds | None:
    """Return the 95 % interval of misses per hit, from that of the share of hits.

    Returns
    -------
    tuple of two float, or None
        The upper bound is infinite without any hit; None without hits and misses.
    """
    bounds = wilson(hits, hits + misses)
    if bounds is None:
        return None
    low, high = bounds
    return (1 - high) / high, (1 - low) / low if low > 0 else math.inf


def of_rate(figure: Mapping[str, Any], name: str) -> tuple[Bounds | None, str]:
    """Return the interval of a rate of detection, and how it was found.

    Picks of one volume are alike, so volumes are resampled, as the evaluation did; where
    all volumes agree or are too few, the counts have to do.

    Parameters
    ----------
    figure
        Counts `tp`, `fp`, `fn`, and the bootstrap `intervals` by name.
    name
        precision, recall, f1, fp_per_tp ...

    Returns
    -------
    tuple
        Bounds, None where neither way gives any; `OVER_VOLUMES` or `FROM_COUNTS`.
    """
    low, high = map(finite, (figure.get("intervals") or {}).get(name) or (None, None))
    if low is not None and high is not None and low < high:
        return (low, high), OVER_VOLUMES
    hits, extra, missed = (max(int(finite(figure.get(k)) or 0), 0) for k in COUNTS)
    by_counts = {
        "precision": wilson(hits, hits + extra),
        "recall": wilson(hits, hits + missed),
        "fp_per_tp": per_hit(hits, extra),
    }
    return by_counts.get(name), FROM_COUNTS


def told(bounds: Sequence[float] | None, digits: int = 2) -> str:
    """Write an interval in words.

    Examples
    --------
    >>> told((0.25, 0.5)), told((1.0, float("inf"))), told(None)
    ('0.25 to 0.50', 'at least 1.00', 'n/a')
    """
    if bounds is None:
        return "n/a"
    low, high = bounds
    if math.isinf(high):
        return f"at least {number(low, digits)}"
    return f"{number(low, digits)} to {number(high, digits)}"


def why_none(values: Sequence[float], what: str = "volume") -> str:
    """Say why so few volumes have no interval; with two, how far they lie apart.

    Examples
    --------
    >>> why_none([0.5])
    'one volume, so no interval'
    >>> why_none([0.5, 0.25])
    '0.250 to 0.500 in 2 volumes; an interval needs 3'
    """
    if not values:
        return f"no figure of a single {what}, so no interval"
    if len(values) == 1:
        return f"one {what}, so no interval"
    if len(values) < LEAST_VOLUMES:
        spread = f"{number(min(values))} to {number(max(values))}"
        return f"{spread} in {len(values)} {what}s; an interval needs {LEAST_VOLUMES}"
    return "no interval was computed (evaluate.bootstrap is 0, or most draws undefined)"
