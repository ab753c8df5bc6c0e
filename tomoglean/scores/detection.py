"""Score picks against true positions: hits and false picks, curves, errors, causes."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tomoglean import tables
from tomoglean.scores import curves, matching, rates, tomograms
from tomoglean.scores.matching import FREE, Counts, Indices, Points
from tomoglean.scores.tomograms import Tomogram

WEDGE_EDGE_DEG = 10.0
MATCHES = [
    "round", "use", "volume", "z", "y", "x", "score", "outcome", "distance_nm", "cause",
]  # fmt: skip
CURVE = [
    "round", "use", "threshold", "tp", "fp", "precision", "recall", "fp_per_tomogram",
]  # fmt: skip
INTERVALS = ("precision", "recall", "f1", "f2", "fp_per_tp")


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found, ready to be written."""

    summary: dict[str, Any]
    matches: list[dict[str, Any]]
    curve: list[dict[str, Any]]


def evaluate(
    cases: Sequence[Mapping[str, Any]],
    picks: Sequence[str | os.PathLike[str]],
    truth: Sequence[str | os.PathLike[str]],
    converted: Sequence[str | os.PathLike[str]],
    *,
    target: Sequence[str],
    radius_nm: float,
    radii_nm: Sequence[float],
    particle_radius_nm: float,
    tilt_max_deg: float,
    threshold: float,
    bootstrap: int,
    seed: int,
) -> Evaluation:
    """Score every round's picks, at a threshold chosen on the validation volumes only.

    Parameters
    ----------
    cases
        One mapping a file, in the order of the files: `round`, `use`, `volume`.
    picks, truth, converted
        Candidates, true points and converted volume (for its voxel size) of each case.
    target
        Classes of the truth that are searched for; points without a class count too. All
        other classes are decoys.
    radius_nm
        Largest distance of a hit in the headline figures, in nm.
    radii_nm
        Radii at which the figures are given besides, in nm.
    particle_radius_nm
        Radius of the particle, in nm; the CZII rule takes half of it.
    tilt_max_deg
        Highest tilt of the series, in degrees; it splits recall by the missing wedge.
    threshold
        Score threshold of rounds without a validation volume that holds a target.
    bootstrap
        Number of draws for the 95 % intervals over volumes.
    seed
        Seed of these draws.

    Returns
    -------
    Evaluation
        Summary, rows of the matches (a pick above the threshold or a missed truth each),
        rows of the curve.
    """
    rounds: dict[str, dict[str, list[Tomogram]]] = {}
    for case, *files in zip(cases, picks, truth, converted, strict=True):
        uses = rounds.setdefault(str(case["round"]), {})
        one = tomograms.read(str(case["volume"]), files[0], files[1], files[2], target)
        uses.setdefault(str(case["use"]), []).append(one)

    summaries: dict[str, Any] = {}
    matches: list[dict[str, Any]] = []
    points: list[dict[str, Any]] = []
    for name, uses in rounds.items():
        chosen = curves.choose_threshold(uses.get("validate", []), radius_nm, threshold)
        summaries[name] = {**chosen}
        for use, members in uses.items():
            above = [one.above(chosen["threshold"]) for one in members]
            place = {"round": name, "use": use}
            matches += [{**place, **row} for row in match_rows(above, radius_nm)]
            points += [{**place, **row} for row in curves.curve(members, radius_nm).rows()]
            summaries[name][use] = {
                **figures(above, radius_nm),
                **at_any_threshold(members, radius_nm),
                "intervals": intervals(above, radius_nm, bootstrap, seed),
                "radii": by_radius(members, above, [radius_nm, *radii_nm]),
                "other_rules": other_rules(above, radius_nm, particle_radius_nm),
                "wedge_recall": wedge_recall(above, radius_nm, tilt_max_deg),
            }
    chosen = curves.choose_threshold([], radius_nm, threshold)
    facts = {"target": list(target), "radius_nm": radius_nm}
    return Evaluation(_summary({"final": chosen, **summaries}, facts), matches, points)


def _summary(rounds: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    final = rounds["final"]
    shown = next((use for use in ("test", "validate") if use in final), None)
    reason = None if shown else "no volume with true points has picks of the final round"
    if shown == "validate":
        reason = "no test volume; these volumes chose the threshold"
    names = ("threshold", "threshold_from", "threshold_reason")
    return {
        "kind": "detection",
        "split": "held-out volumes",
        **facts,
        "round": "final",
        **{name: final[name] for name in names},
        "use": shown,
        "headline": final[shown] if shown else None,
        "reason": reason,
        "rounds": rounds,
    }


def count(tomogram: Tomogram, radius_nm: float) -> Counts:
    """Count one-to-one hits, false picks and missed truths of one tomogram."""
    matched = matching.one_to_one(tomogram.picks_nm, tomogram.truths_nm, radius_nm)
    return matching.count(matched, len(tomogram.truths_nm))


def pooled(members: Sequence[Tomogram], radius_nm: float) -> Counts:
    """Sum the counts of all tomograms (micro-average)."""
    return sum((count(one, radius_nm) for one in members), Counts(0, 0, 0))


def _rates(counts: Counts) -> dict[str, float | int | None]:
    return {**counts.rates(1, 2), "fp_per_tp": rates.ratio(counts.fp, counts.tp)}


def figures(members: Sequence[Tomogram], radius_nm: float) -> dict[str, Any]:
    """Give the figures of a set of tomograms whose picks all count.

    Returns
    -------
    dict
        Numbers of tomograms, truths and picks; tp, fp, fn, precision, recall, f1, f2,
        fp_per_tp; false picks by cause; errors in number, place and axis. None where
        undefined.
    """
    counts = pooled(members, radius_nm)
    surplus = [float(len(one.picks_nm) - len(one.truths_nm)) for one in members]
    return {
        "tomograms": len(members),
        "tomograms_without_truth": sum(not len(one.truths_nm) for one in members),
        "truths": sum(len(one.truths_nm) for one in members),
        "picks": sum(len(one.picks_nm) for one in members),
        **_rates(counts),
        "fp_per_tomogram": rates.ratio(counts.fp, len(members)),
        "false_positive_causes": causes(match_rows(members, radius_nm)),
        "count_error_mean": rates.mean(surplus),
        "count_error_mean_absolute": rates.mean([abs(gap) for gap in surplus]),
        **errors(members, radius_nm),
    }


def at_any_threshold(members: Sequence[Tomogram], radius_nm: float) -> dict[str, Any]:
    """Give the figures that look at all picks: average precision and FROC."""
    points = curves.curve(members, radius_nm)
    return {
        "average_precision": curves.average_precision(points),
        "froc": curves.froc(points),
    }


def by_radius(
    members: Sequence[Tomogram], above: Sequence[Tomogram], radii_nm: Sequence[float]
) -> dict[str, dict[str, Any]]:
    """Give counts, rates and average precision at other radii, same threshold."""
    return {
        f"{radius:g}": {
            **_rates(pooled(above, radius)),
            "average_precision": curves.average_precision(curves.curve(members, radius)),
        }
        for radius in sorted(set(radii_nm))
    }


def errors(members: Sequence[Tomogram], radius_nm: float) -> dict[str, float | None]:
    """Measure how far the hits lie from their truths, and how their axes differ.

    Returns
    -------
    dict
        `rmse_nm`, and apart along and across the true axis `rmse_axial_nm`,
        `rmse_lateral_nm`; `axis_error_deg` (mean angle between the lines), and
        `polarity_correct` (share pointing the right way). None where undefined.
    """
    gaps, ours, true = (np.zeros((0, 3)) for _ in range(3))
    for one in members:
        matched = matching.one_to_one(one.picks_nm, one.truths_nm, radius_nm)
        hit = matched != FREE
        truth = matched[hit]
        gaps = np.vstack([gaps, one.picks_nm[hit] - one.truths_nm[truth]])
        ours = np.vstack([ours, _unit(one.picks_axis[hit])])
        true = np.vstack([true, _unit(one.truths_axis[truth])])
    directed = np.any(true != 0, axis=1)
    axial = np.sum(gaps * true, axis=1)[directed]
    across = np.maximum(np.sum(gaps[directed] ** 2, axis=1) - axial**2, 0)
    both = directed & np.any(ours != 0, axis=1)
    cosine = np.clip(np.sum(ours * true, axis=1)[both], -1, 1)
    return {
        "rmse_nm": _root(np.sum(gaps**2, axis=1)),
        "rmse_axial_nm": _root(axial**2),
        "rmse_lateral_nm": _root(across),
        "axis_error_deg": rates.mean(np.degrees(np.arccos(np.abs(cosine))).tolist()),
        "polarity_correct": rates.mean((cosine > 0).astype(float).tolist()),
    }


def _unit(axes: Points) -> Points:
    length = np.linalg.norm(axes, axis=1, keepdims=True)
    return axes / np.where(length > 0, length, 1.0)


def _root(squares: npt.NDArray[np.float64]) -> float | None:
    average = rates.mean(squares.tolist())
    return None if average is None else float(np.sqrt(average))


def wedge_recall(
    members: Sequence[Tomogram], radius_nm: float, tilt_max_deg: float
) -> dict[str, dict[str, float | int | None]]:
    """Give recall by how well the tilt series sees a truth's membrane.

    The wedge angle of a normal is atan2(|n_x|, |n_z|); below 90 degrees less the highest
    tilt it lies inside the missing wedge. `edge` is within 10 degrees of that limit.
    """
    limit = 90.0 - tilt_max_deg
    angles, hits = np.zeros(0), np.zeros(0, bool)
    for one in members:
        matched = matching.one_to_one(one.picks_nm, one.truths_nm, radius_nm)
        angles = np.append(angles, wedge_angles(one.truths_axis))
        hits = np.append(hits, np.isin(np.arange(len(one.truths_nm)), matched))
    edge = np.abs(angles - limit) <= WEDGE_EDGE_DEG
    classes = {
        "outside": (angles > limit) & ~edge,
        "edge": edge,
        "inside": (angles < limit) & ~edge,
        "unknown": np.isnan(angles),
    }
    return {
        name: {
            "truths": int(which.sum()),
            "recall": rates.ratio(int(hits[which].sum()), int(which.sum())),
        }
        for name, which in classes.items()
    }


def wedge_angles(normals: Points) -> npt.NDArray[np.float64]:
    """Angle of normals (z, y, x) to the beam, about the tilt axis y, in degrees.

    Shape (N,); NaN for a normal of length zero.
    """
    angles = np.degrees(np.arctan2(np.abs(normals[:, 2]), np.abs(normals[:, 0])))
    return np.where(np.any(normals != 0, axis=1), angles, np.nan)


def intervals(
    members: Sequence[Tomogram], radius_nm: float, repeats: int, seed: int
) -> dict[str, list[float] | None]:
    """Bootstrap 95 % intervals over tomograms; None for fewer than three."""
    units = np.array(
        [list(vars(count(one, radius_nm)).values()) for one in members], np.int64
    ).reshape(-1, 3)
    return {
        name: rates.interval(
            units,
            lambda counts, name=name: _rates(Counts(*map(int, counts)))[name],  # type: ignore[misc]
            repeats=repeats,
            seed=seed,
            purpose="picks",
        )
        for name in INTERVALS
    }


def other_rules(
    members: Sequence[Tomogram], radius_nm: float, particle_radius_nm: float
) -> dict[str, dict[str, float | int | None]]:
    """Count the same picks by the rules of DeePiCt, DeepFinder and the CZII challenge."""
    rules = {
        "deepict": (matching.deepict, radius_nm),
        "deepfinder": (matching.deepfinder, radius_nm),
        "czii": (matching.czii, 0.5 * particle_radius_nm),
    }
    return {
        name: {
            "radius_nm": radius,
            **sum(
                (rule(one.picks_nm, one.truths_nm, radius) for one in members),
                Counts(0, 0, 0),
            ).rates(1, 4),
        }
        for name, (rule, radius) in rules.items()
    }


def match_rows(members: Sequence[Tomogram], radius_nm: float) -> list[dict[str, Any]]:
    """List every pick as TP or FP and every missed truth as FN, places in voxels."""
    return [row for one in members for row in _match_rows(one, radius_nm)]


def _match_rows(tomogram: Tomogram, radius_nm: float) -> list[dict[str, Any]]:
    truths = tomogram.truths_nm
    matched = matching.one_to_one(tomogram.picks_nm, truths, radius_nm)
    reasons = false_because(tomogram, matched, radius_nm)
    rows = []
    for place, score, truth, cause in zip(
        tomogram.picks_nm, tomogram.scores, matched, reasons, strict=True
    ):
        hit = truth != FREE
        gap = float(np.linalg.norm(place - truths[truth])) if hit else None
        outcome = "TP" if hit else "FP"
        rows.append(_row(tomogram, place, float(score), outcome, gap, cause))
    missed = np.setdiff1d(np.arange(len(truths)), matched)
    return rows + [_row(tomogram, truths[n], None, "FN", None, "") for n in missed]


def _row(
    tomogram: Tomogram,
    place_nm: Points,
    score: float | None,
    outcome: str,
    distance_nm: float | None,
    cause: str,
) -> dict[str, Any]:
    place = dict(zip(tables.PLACE, (place_nm / tomogram.voxel_nm).tolist(), strict=True))
    return {
        "volume": tomogram.volume,
        **place,
        "score": score,
        "outcome": outcome,
        "distance_nm": distance_nm,
        "cause": cause,
    }


def false_because(tomogram: Tomogram, matched: Indices, radius_nm: float) -> list[str]:
    """Name what each false pick took for a target.

    `duplicate` within the radius of a truth, else the nearest decoy within the radius,
    else `background`; empty for hits.
    """
    picks, truths = tomogram.picks_nm, tomogram.truths_nm
    reasons = []
    for place, truth in zip(picks, matched, strict=True):
        gaps = np.linalg.norm(tomogram.decoys_nm - place, axis=1)
        if truth != FREE:
            reasons.append("")
        elif np.any(np.linalg.norm(truths - place, axis=1) <= radius_nm):
            reasons.append("duplicate")
        elif len(gaps) and gaps.min() <= radius_nm:
            reasons.append(tomogram.decoys[int(np.argmin(gaps))])
        else:
            reasons.append("background")
    return reasons


def causes(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Count the false picks by cause, names in alphabetical order."""
    named = [str(row["cause"]) for row in rows if row["outcome"] == "FP"]
    return {name: named.count(name) for name in sorted(set(named))}
