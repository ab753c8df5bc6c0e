"""A detection task in the report: rates and curves."""

from collections.abc import Mapping, Sequence
from typing import Any

from tomoglean.report import calibration, charts, intervals, style
from tomoglean.report.blocks import Cell, Chart, Charts, Note, Table
from tomoglean.report.sources import Row, Source, numbers, round_order

FIGURES = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "fp_per_tp": "FP per TP",
    "average_precision": "average precision",
}
AXES = {
    "recall": "recall (share of true complexes found)",
    "precision": "precision (share of picks that are true)",
    "fp_per_tomogram": "false positives per tomogram",
    "threshold": "score threshold",
    "fp_per_tp": "FP per TP (scale of ratios)",
}
UNIT: dict[str, Any] = {"y_range": charts.UNIT}
CURVES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "Precision over recall": ("recall", "precision", UNIT | {"x_range": charts.UNIT}),
    "Recall over false positives (FROC)": ("fp_per_tomogram", "recall", UNIT),
    "False per true over the threshold": ("threshold", "fp_per_tp", {"log": True}),
}
WORKING = "Circles: the working point, at the threshold chosen on validation volumes"


# -- numbers -------------------------------------------------------------------------


def shown_use(summary: Mapping[str, Any]) -> str:
    """Return the use that the headline figures speak of: test, else validate."""
    uses = [use for found in summary.get("rounds", {}).values() for use in found]
    return next((use for use in ("test", "validate", "train") if use in uses), "")


def rates(source: Source, task: str) -> list[Any]:
    """Return rates of all rounds, and their curves side by side."""
    summary = source.json(f"evaluated/{task}/summary.json")
    use = shown_use(summary)
    rounds = summary.get("rounds") or {}
    if not use:
        reason = summary.get("reason") or "no picks were scored against true points"
        return [Note(f"No figures: {reason}.")]
    order = sorted(rounds, key=round_order)
    rows = [_rates_row(name, rounds[name], use) for name in order]
    head = ["round", "threshold", "TP", "FP", "FN", *FIGURES.values()]
    caption = (
        f"On {use} volumes, hits within {style.significant(summary.get('radius_nm'))} nm, "
        "matched one to one; thresholds come from validation volumes where there are any. "
        f"{_interval_words(rounds, use)}"
    )
    table = Table(head, rows, caption, source.stamps(task))
    reason = [Note(str(summary["reason"]), "warn")] if summary.get("reason") else []
    causes = _causes((rounds.get("final") or {}).get(use) or {})
    return [table, *reason, *causes, *curves(source, task, rounds, use)]


def _interval_words(rounds: Mapping[str, Any], use: str) -> str:
    figures_ = [found.get(use) or {} for found in rounds.values()]
    count = max((figure.get("tomograms") or 0 for figure in figures_), default=0)
    known = [v for figure in figures_ for v in (figure.get("intervals") or {}).values()]
    told = (
        f"Second lines: 95 % intervals over the {count} volumes (bootstrap); *: after "
        "Wilson from the counts, where all volumes agree or too few have any."
    )
    few = (
        f"Second lines: 95 % intervals after Wilson from the counts (*), as {count} "
        f"volume{'s are' if count != 1 else ' is'} too few to draw from."
    )
    return told if any(known) else few


def _causes(figure: Mapping[str, Any]) -> list[Note]:
    """Say what the false picks of the final round are, most frequent first."""
    found = figure.get("false_positive_causes") or {}
    listed = sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))
    told = ", ".join(f"{count} {style.words(name)}" for name, count in listed)
    return [Note(f"What the false picks of the final round are: {told}.")] if told else []


def _rates_row(name: str, found: Mapping[str, Any], use: str) -> list[Cell]:
    figure = found.get(use) or {}
    counts = [Cell(_count(figure.get(key)), "number") for key in ("tp", "fp", "fn")]
    values = [Cell(_rate(figure, key), "number keep") for key in FIGURES]
    origin = str(found.get("threshold_from") or "n/a")
    threshold = f"{style.significant(found.get('threshold'))}\n{origin}"
    return [Cell(style.words(name)), Cell(threshold, "number keep"), *counts, *values]


def _rate(figure: Mapping[str, Any], name: str) -> str:
    text = style.number(figure.get(name), 2)
    bounds, how = intervals.of_rate(figure, name)
    if bounds is None:
        return text
    mark = " *" if how == intervals.FROM_COUNTS else ""
    return f"{text}\n{intervals.told(bounds)}{mark}"


def _count(value: Any) -> str:
    return "n/a" if style.finite(value) is None else f"{float(value):.0f}"


def curves(source: Source, task: str, rounds: Mapping[str, Any], use: str) -> list[Any]:
    """Draw precision, recall and false picks over one another, and reliability."""
    rows = source.rows(f"evaluated/{task}/curve.csv")
    rows = [row for row in rows if row.get("use", use) == use]
    names = sorted({row.get("round", "") for row in rows}, key=round_order)
    by_round = {name: [row for row in rows if row.get("round") == name] for name in names}
    if not rows:
        return [Note("No curve: no pick was scored.")]
    drawn = [_curve(kind, by_round, rounds, use) for kind in CURVES]
    final = style.finite((rounds.get("final") or {}).get("threshold"))
    drawn += calibration.of_picks(by_round.get("final", []), final, use)
    return [Charts(drawn, "; ".join([WORKING, *_ratios(rounds, use)]) + ".")]


def _curve(
    kind: str, by_round: Mapping[str, Sequence[Row]], rounds: Mapping[str, Any], use: str
) -> Chart:
    """Draw one kind of curve for all rounds, their working points marked."""
    x, y, look = CURVES[kind]
    levels = {"1 FP per TP": 1.0} if y == "fp_per_tp" else {}
    uri = charts.lines(
        {name: _columns(part, x, y) for name, part in by_round.items()},
        charts.Scales(kind, AXES[x], AXES[y], **look),
        charts.Marks(_working_points(rounds, use, x, y), levels),
    )
    names = ", ".join(style.words(name) for name in by_round)
    return Chart(uri, f"{kind} on {use} volumes for {names}")


def _ratios(rounds: Mapping[str, Any], use: str) -> list[str]:
    """Tell TP to FP at the working point of every round."""
    told = []
    for name in sorted(rounds, key=round_order):
        figure = rounds[name].get(use) or {}
        tp, fp = style.finite(figure.get("tp")), style.finite(figure.get("fp"))
        if tp is not None and fp is not None:
            ratio = f", 1 : {fp / tp:.2f}" if tp else ""
            told.append(f"{style.words(name)} TP : FP = {tp:.0f} : {fp:.0f}{ratio}")
    return told


def _columns(rows: Sequence[Row], x: str, y: str) -> charts.Line:
    rows = [{**row, "fp_per_tp": _fp_per_tp(row)} for row in rows]
    return numbers(rows, x), numbers(rows, y)


def _fp_per_tp(row: Row) -> str:
    """Divide; nothing where a scale of ratios has no place for it."""
    tp, fp = style.finite(row.get("tp")), style.finite(row.get("fp"))
    return str(fp / tp) if tp and fp else ""


def _working_points(
    rounds: Mapping[str, Any], use: str, x: str, y: str
) -> dict[str, tuple[float, float]]:
    points = {}
    for name, found in rounds.items():
        figure = {**(found.get(use) or {}), "threshold": found.get("threshold")}
        if figure.get("tomograms"):
            figure["fp_per_tomogram"] = figure.get("fp", 0) / figure["tomograms"]
        place = style.finite(figure.get(x)), style.finite(figure.get(y))
        if place[0] is not None and place[1] is not None:
            points[name] = (place[0], place[1])
    return points
