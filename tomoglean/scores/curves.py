"""How hits and false picks grow as the score threshold falls, and where to put it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tomoglean.scores import matching, rates
from tomoglean.scores.matching import FREE, Indices
from tomoglean.scores.tomograms import Tomogram

FROC_FP = (0.1, 0.25, 0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Curve:
    """Hits and false picks at every distinct score, best score first.

    Attributes
    ----------
    thresholds
        The scores, shape (N,), falling.
    tp, fp
        Hits and false picks that score at least as much, shape (N,).
    truths, tomograms
        Number of truths and of tomograms behind the curve.
    """

    thresholds: npt.NDArray[np.float64]
    tp: Indices
    fp: Indices
    truths: int
    tomograms: int

    def rows(self) -> list[dict[str, float | int | None]]:
        """Return one mapping a point, the rates among it; recall is None without truth."""
        return [
            {
                "threshold": float(threshold),
                "tp": int(tp),
                "fp": int(fp),
                "precision": rates.ratio(tp, tp + fp),
                "recall": rates.ratio(tp, self.truths),
                "fp_per_tomogram": rates.ratio(fp, self.tomograms),
            }
            for threshold, tp, fp in zip(self.thresholds, self.tp, self.fp, strict=True)
        ]


def curve(tomograms: Sequence[Tomogram], radius_nm: float) -> Curve:
    """Follow hits and false picks down the scores, all tomograms together.

    Matches are greedy by score within each tomogram.
    """
    hits = [
        matching.greedy(one.picks_nm, one.truths_nm, radius_nm) != FREE for one in tomograms
    ]
    scores = np.concatenate([np.zeros(0), *[one.scores for one in tomograms]])
    hit = np.concatenate([np.zeros(0, bool), *hits])
    order = np.argsort(-scores, kind="stable")
    scores, hit = scores[order], hit[order]
    last = np.flatnonzero(np.diff(scores, append=-np.inf) != 0)
    truths = sum(len(one.truths_nm) for one in tomograms)
    tp, fp = np.cumsum(hit)[last], np.cumsum(~hit)[last]
    return Curve(scores[last], tp, fp, truths, len(tomograms))


def average_precision(points: Curve) -> float | None:
    """Area under precision over recall, as the sum of steps; None without truth."""
    if not points.truths:
        return None
    steps = np.diff(points.tp, prepend=0) / points.truths
    return float(np.sum(steps * points.tp / (points.tp + points.fp)))


def froc(points: Curve) -> dict[str, float | None]:
    """Best recall at no more than so many false picks per tomogram; None without truth."""
    best = {}
    for most in FROC_FP:
        allowed = points.fp <= most * points.tomograms
        best[f"{most:g}"] = rates.ratio(max(points.tp[allowed], default=0), points.truths)
    return best


def choose_threshold(
    validation: Sequence[Tomogram], radius_nm: float, fallback: float
) -> dict[str, Any]:
    """Choose the score threshold of best F1 on validation volumes; ties to the higher.

    Returns
    -------
    dict
        `threshold`, `threshold_from` (validation or setting), `threshold_reason` (None, or
        why the setting had to serve), `threshold_f1`.
    """
    points = curve(validation, radius_nm)
    if reason := _useless(points):
        return {
            "threshold": fallback,
            "threshold_from": "setting",
            "threshold_reason": reason,
            "threshold_f1": None,
        }
    f1 = 2 * points.tp / (points.tp + points.fp + points.truths)
    best = int(np.argmax(f1))
    return {
        "threshold": float(points.thresholds[best]),
        "threshold_from": "validation",
        "threshold_reason": None,
        "threshold_f1": float(f1[best]),
    }


def _useless(points: Curve) -> str | None:
    if not points.tomograms:
        return "no validation volume with true points"
    if not points.truths:
        return "no true point of the target in any validation volume"
    if not points.tp.any():
        return "no pick hits a true point in any validation volume"
    return None
