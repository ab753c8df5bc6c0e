"""How good every class is, in the report: methods beside one another, and the mix-ups."""

from collections.abc import Mapping, Sequence
from typing import Any

from tomoglean.report import plots, style
from tomoglean.report.blocks import Cell, Chart, Charts, Table
from tomoglean.report.learning import KINDS
from tomoglean.report.sources import Row, Source

POOLED, MEAN = "pooled", "mean"
FINAL, WEAK_LABELS = "final", "weak_labels"
SHADES = 10


# -- figures of every class ----------------------------------------------------------


def by_class(source: Source, task: str, rows: Sequence[Row]) -> list[Any]:
    """Draw the IoU of every class: a row per method, its interval and its volumes.

    Parameters
    ----------
    source, task
        The study and one of its semantic tasks.
    rows
        Rows of scores.csv of one use: those of single volumes, and the pooled ones.
    """
    colours = style.class_colours(source.classes(task))
    drawn = [
        _chart(name, of_class, colours.get(name, style.INK))
        for name in [*source.classes(task), MEAN]
        if (of_class := [row for row in rows if row.get("class") == name])
    ]
    return [Charts(drawn, _caption(rows))] if drawn else []


def _chart(name: str, rows: Sequence[Row], ink: str) -> Chart:
    methods = sorted({row.get("method", ""): row for row in rows}.values(), key=_order)
    shown = [_dot(str(row.get("method")), rows, ink) for row in methods]
    title = "Mean of the classes" if name == MEAN else style.words(name).capitalize()
    uri = plots.dots(shown, title=title, x_label="IoU (0 nothing right, 1 all right)")
    figures = ", ".join(
        f"{style.words(dot.name)} {style.number(dot.value)}" for dot in shown
    )
    return Chart(uri, f"IoU of {style.words(name)} by method: {figures}")


def _order(row: Row) -> tuple[bool, bool, int, str]:
    """Put the final round first, then its controls, the weak round, the baselines."""
    method, labels = row.get("method", ""), row.get("labels", "")
    known = KINDS.index(labels) if labels in KINDS else len(KINDS)
    return method != FINAL, is_baseline(method), -known, method


def is_baseline(method: str) -> bool:
    """Whether a method is no round of a network.

    Examples
    --------
    >>> is_baseline("random_forest"), is_baseline("control-oracle")
    (True, False)
    """
    return not method.startswith((FINAL, "control-", "weak")) or method == WEAK_LABELS


def _dot(method: str, rows: Sequence[Row], ink: str) -> plots.Dot:
    mine = [row for row in rows if row.get("method") == method]
    whole: Mapping[str, str] = next((r for r in mine if r.get("volume") == POOLED), {})
    members = [style.finite(r.get("iou")) for r in mine if r.get("volume") != POOLED]
    bounds = style.finite(whole.get("iou_low")), style.finite(whole.get("iou_high"))
    return plots.Dot(
        method,
        style.finite(whole.get("iou")),
        None if bounds[0] is None or bounds[1] is None else (bounds[0], bounds[1]),
        [value for value in members if value is not None] if len(members) > 1 else [],
        style.MUTED if is_baseline(method) else ink,
        filled=method == FINAL,
    )


def _caption(rows: Sequence[Row]) -> str:
    volumes = {row.get("volume", "") for row in rows} - {POOLED}
    bounded = any(style.finite(row.get("iou_low")) is not None for row in rows)
    told = "Filled: the final round; rings: other rounds; grey: methods without a network"
    if len(volumes) > 1:
        told += "; ticks: single volumes"
    if bounded:
        return f"{told}; lines: 95 % intervals over {len(volumes)} volumes (bootstrap)."
    few = "one volume has" if len(volumes) == 1 else f"{len(volumes)} volumes have"
    return f"{told}. No intervals: {few} no spread to draw them from (3 are needed)."


# -- what was taken for what ---------------------------------------------------------


def confusion(source: Source, task: str, use: str) -> list[Any]:
    """Return where the voxels of each true class went in the final round."""
    rows = source.rows(f"evaluated/{task}/confusion.csv")
    rows = [r for r in rows if r.get("use") == use and r.get("method") == FINAL]
    if not rows:
        return []
    named = {(row.get("truth", ""), row.get("predicted", "")): row for row in rows}
    predicted = list(dict.fromkeys(name for _, name in named))
    if not any(style.finite(named[key].get("voxels")) for key in named if _left(key)):
        predicted = [name for name in predicted if name != "unlabelled"]
    body = [
        [
            Cell(style.words(true)),
            *(_cell(named.get((true, ours), {}), true == ours) for ours in predicted),
        ]
        for true in dict.fromkeys(name for name, _ in named)
    ]
    caption = (
        "Final round: voxels, and percent of each true class (a row) by predicted class. "
        "Blue: right, orange: wrong; the deeper, the larger the share."
    )
    head = ["truth \\ predicted", *map(style.words, predicted)]
    title = "Where the voxels of each class went"
    return [Table(head, body, caption, source.stamps(task), title=title)]


def _left(key: tuple[str, str]) -> bool:
    return key[1] == "unlabelled"


def _cell(row: Mapping[str, str], right: bool) -> Cell:
    share, voxels = style.finite(row.get("share_of_truth")), style.finite(row.get("voxels"))
    if share is None:
        return Cell("n/a", "share")
    counted = "" if voxels is None else f"{voxels:,.0f}\n"
    shade = min(round(max(share, 0.0) * SHADES), SHADES)
    tone = "right" if right else "wrong"
    return Cell(f"{counted}{100 * share:.1f} %", f"share {tone} shade-{shade}")
