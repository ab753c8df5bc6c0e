"""The headline figures of every task: value, interval, and what it rests on."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tomoglean.report import intervals, style
from tomoglean.report.intervals import Bounds
from tomoglean.report.sources import Row, Source
from tomoglean.report.style import finite, number
from tomoglean.study import slice_numbers

MEAN = "mean"
NOTHING = "nothing scored yet"


@dataclass(frozen=True)
class Figure:
    """One figure that answers a task's question.

    Attributes
    ----------
    task, what
        Whose figure, and which: "mean IoU", "FP per TP".
    value
        The figure, a ratio without unit; None where there is none.
    bounds
        Its 95 % interval; None where there is none, and `how` says why.
    how
        How the interval was found.
    n, of
        How many of what it rests on: 16 "picks", 3 "test volumes".
    detail
        What else to know of it.
    digits
        Decimals worth telling.
    """

    task: str
    what: str
    value: float | None
    bounds: Bounds | None = None
    how: str = ""
    n: int | None = None
    of: str = ""
    detail: str = ""
    digits: int = 3

    @property
    def text(self) -> str:
        """The value in words."""
        return number(self.value, self.digits)

    @property
    def interval(self) -> str:
        """The interval in words, or why there is none."""
        if self.bounds is None:
            return self.how
        return f"95 % {intervals.told(self.bounds, self.digits)} ({self.how})"

    def row(self) -> dict[str, Any]:
        """Return the figure as one row of a table."""
        low, high = self.bounds or (None, None)
        return {
            "task": self.task,
            "figure": self.what,
            "value": self.value,
            "low": low,
            "high": None if high is not None and math.isinf(high) else high,
            "interval": self.how,
            "n": self.n,
            "of": self.of,
            "detail": self.detail,
        }


def of_task(source: Source, task: str) -> list[Figure]:
    """Return a task's figures, the one for the headline first."""
    if source.study.tasks[task].get("kind") == "detection":
        return _detection(source, task)
    return [_semantic(source, task)]


# -- detection -----------------------------------------------------------------------


def _detection(source: Source, task: str) -> list[Figure]:
    summary = source.json(f"evaluated/{task}/summary.json")
    found = summary.get("headline") or {}
    if not found:
        reason = str(summary.get("reason") or NOTHING)
        return [Figure(task, "FP per TP", None, detail=reason, digits=2)]
    hits, extra, missed = (_count(found.get(name)) for name in ("tp", "fp", "fn"))
    where = _where(found, str(summary.get("use") or _use(summary)))
    picks, truths = hits + extra, hits + missed
    return [
        Figure(
            task,
            "FP per TP",
            finite(found.get("fp_per_tp")),
            *_bounds(found, "fp_per_tp", picks, "picks"),
            picks,
            "picks",
            f"{hits} TP, {extra} FP, {missed} FN in {where}",
            digits=2,
        ),
        _share(task, "precision", found, picks, "picks"),
        _share(task, "recall", found, truths, "true points"),
    ]


def _share(task: str, what: str, found: Mapping[str, Any], count: int, of: str) -> Figure:
    bounds, how = _bounds(found, what, count, of)
    detail = f"{_count(found.get('tp'))} of {count} {of}"
    return Figure(task, what, finite(found.get(what)), bounds, how, count, of, detail, 2)


def _bounds(
    found: Mapping[str, Any], name: str, count: int, of: str
) -> tuple[Bounds | None, str]:
    return intervals.of_rate(found, name) if count else (None, f"no {of}, so no interval")


def _count(value: Any) -> int:
    return max(int(finite(value) or 0), 0)


def _use(summary: Mapping[str, Any]) -> str:
    rounds = summary.get("rounds") or {}
    uses = {use for found in rounds.values() for use in found}
    return next((use for use in ("test", "validate", "train") if use in uses), "scored")


def _where(found: Mapping[str, Any], use: str) -> str:
    count = _count(found.get("tomograms"))
    told = f"{count} " if count else ""
    return f"{told}{use} volume{'s' if count != 1 else ''}"


# -- semantic ------------------------------------------------------------------------


def _semantic(source: Source, task: str) -> Figure:
    """Tell the IoU of the final round: of the one class, or the mean of several."""
    summary = source.json(f"evaluated/{task}/summary.json")
    names = source.classes(task)
    one = len(names) == 2
    name = names[1] if one else MEAN
    what = f"IoU of {style.words(name)}" if one else "mean IoU"
    ours = ((summary.get("iou") or {}).get("final") or {}).get(name)
    ours = finite(ours if one else (summary.get("mean_iou") or {}).get("final"))
    if ours is None:
        return Figure(task, what, None, detail=str(summary.get("reason") or NOTHING))
    count, of = _rests_on(source, task, summary)
    bounds, how = _over_volumes(source, task, str(summary.get("use")), name)
    detail = f"{count} {of}{_rival(summary, names)}"
    return Figure(task, what, ours, bounds, how, count, of, detail)


def _over_volumes(
    source: Source, task: str, use: str, name: str
) -> tuple[Bounds | None, str]:
    """Return the interval of the final round's IoU, or why there is none."""
    rows = [
        row
        for row in source.rows(f"evaluated/{task}/scores.csv")
        if (row.get("method"), row.get("use"), row.get("class")) == ("final", use, name)
    ]
    pooled: Row = next((row for row in rows if row.get("volume") == "pooled"), {})
    low, high = finite(pooled.get("iou_low")), finite(pooled.get("iou_high"))
    if low is not None and high is not None:
        return (low, high), intervals.OVER_VOLUMES
    summary = source.json(f"evaluated/{task}/summary.json")
    told = (summary.get("mean_iou_interval") or {}).get("final") if name == MEAN else None
    if told:
        return (float(told[0]), float(told[1])), intervals.OVER_VOLUMES
    if "same scan" in source.stamps(task):
        return None, "one scan, so no interval"
    each = [finite(row.get("iou")) for row in rows if row.get("volume") != "pooled"]
    return None, intervals.why_none([value for value in each if value is not None])


def _rests_on(source: Source, task: str, summary: Mapping[str, Any]) -> tuple[int, str]:
    """Count what the figures rest on: volumes, or slices where a volume has many uses."""
    use, found = str(summary.get("use")), len(summary.get("volumes") or [])
    what = "volume"
    if "same scan" in source.stamps(task):
        crossed = source.study.tasks[task].get("cross_validation")
        rows = source.study.label_rows(task, use="train" if crossed else use)
        named = {z for row in rows for z in slice_numbers(row.get("slices", ""))}
        found, what = (len(named), "slice") if named else (found, what)
    return found, f"{use} {what}{'s' if found != 1 else ''}"


def _rival(summary: Mapping[str, Any], names: list[str]) -> str:
    best = (summary.get("best_baseline") or {}).get("method")
    figure = (summary.get("best_baseline") or {}).get("mean_iou")
    more = ""
    if len(names) == 2:
        figure = ((summary.get("iou") or {}).get(best) or {}).get(names[1])
        surface = (summary.get("surface_dice") or {}).get("final") or {}
        known = finite(surface.get(names[1]))
        more = "" if known is None else f"; surface Dice {number(known)}"
    return (f"; best baseline: {style.words(best)} {number(figure)}" if best else "") + more
