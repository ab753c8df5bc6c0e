"""A detection task in the report: rates, curves and galleries."""

from collections.abc import Mapping, Sequence
from typing import Any

from tomoglean import volumes
from tomoglean.report import charts, figures, style
from tomoglean.report.blocks import (
    Cell,
    Chart,
    Charts,
    Frame,
    Gallery,
    Note,
    Table,
)
from tomoglean.report.slices import frame
from tomoglean.report.sources import Row, Source, numbers, round_order

GALLERY_SIZE = 12
AVERAGED_SLICES = 5
FIGURES = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "fp_per_tp": "FP per TP",
    "average_precision": "average precision",
}


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
    head = ["round", "threshold", "from", "TP", "FP", "FN", *FIGURES.values()]
    caption = (
        f"On {use} volumes, hits within {style.significant(summary.get('radius_nm'))} nm, "
        "matched one to one; thresholds come from validation volumes where there are any."
    )
    table = Table(head, rows, caption, source.stamps(task))
    reason = [Note(str(summary["reason"]), "warn")] if summary.get("reason") else []
    return [table, *reason, *curves(source, task, rounds, use)]


def _rates_row(name: str, found: Mapping[str, Any], use: str) -> list[Cell]:
    figure = found.get(use) or {}
    counts = [Cell(_count(figure.get(key)), "number") for key in ("tp", "fp", "fn")]
    values = [Cell(_rate(figure, key), "number") for key in FIGURES]
    threshold = Cell(style.significant(found.get("threshold")), "number")
    origin = Cell(str(found.get("threshold_from") or "n/a"))
    return [Cell(style.words(name)), threshold, origin, *counts, *values]


def _rate(figure: Mapping[str, Any], name: str) -> str:
    text = style.number(figure.get(name), 2)
    interval = (figure.get("intervals") or {}).get(name)
    if not interval:
        return text
    return f"{text} ({style.number(interval[0], 2)} to {style.number(interval[1], 2)})"


def _count(value: Any) -> str:
    return "n/a" if style.finite(value) is None else f"{float(value):.0f}"


def curves(source: Source, task: str, rounds: Mapping[str, Any], use: str) -> list[Any]:
    """Draw precision over recall and recall over false picks, working points marked."""
    rows = source.rows(f"evaluated/{task}/curve.csv")
    rows = [row for row in rows if row.get("use", use) == use]
    names = sorted({row.get("round", "") for row in rows}, key=round_order)
    by_round = {name: [row for row in rows if row.get("round") == name] for name in names}
    if not rows:
        return [Note("No curve: no pick was scored.")]
    precision = charts.lines(
        {name: _columns(part, "recall", "precision") for name, part in by_round.items()},
        title="Precision over recall",
        x_label="recall (share of true complexes found)",
        y_label="precision (share of picks that are true)",
        unit_range=True,
        points=_working_points(rounds, use, "recall", "precision"),
    )
    froc = charts.lines(
        {
            name: _columns(part, "fp_per_tomogram", "recall")
            for name, part in by_round.items()
        },
        title="Recall over false positives",
        x_label="false positives per tomogram",
        y_label="recall (share of true complexes found)",
        unit_range=True,
        points=_working_points(rounds, use, "fp_per_tomogram", "recall"),
    )
    told = ", ".join(style.words(name) for name in names)
    return [
        Charts(
            [
                Chart(precision, f"Precision over recall on {use} volumes for {told}"),
                Chart(froc, f"Recall over false positives per tomogram for {told}"),
            ],
            "Circles: the working point, at the threshold chosen on validation volumes.",
        )
    ]


def _columns(rows: Sequence[Row], x: str, y: str) -> charts.Line:
    return numbers(rows, x), numbers(rows, y)


def _working_points(
    rounds: Mapping[str, Any], use: str, x: str, y: str
) -> dict[str, tuple[float, float]]:
    points = {}
    for name, found in rounds.items():
        figure = dict(found.get(use) or {})
        if figure.get("tomograms"):
            figure["fp_per_tomogram"] = figure.get("fp", 0) / figure["tomograms"]
        place = style.finite(figure.get(x)), style.finite(figure.get(y))
        if place[0] is not None and place[1] is not None:
            points[name] = (place[0], place[1])
    return points


# -- galleries -----------------------------------------------------------------------


def matches(source: Source, task: str) -> list[Row]:
    """Return the matches of the final round: picks and missed truths with their outcome."""
    rows = source.rows(f"evaluated/{task}/matches.csv")
    return [row for row in rows if row.get("round", "final") == "final"]


def galleries(source: Source, task: str) -> list[Any]:
    """Show true, false and missed complexes, best score first."""
    rows = matches(source, task)
    use = shown_use(source.json(f"evaluated/{task}/summary.json"))
    kept = [row for row in rows if row.get("use", use) == use] or rows
    if not kept:
        return _unjudged(source, task)
    shown = []
    for outcome, told in style.OUTCOME_WORDS.items():
        part = [row for row in kept if row.get("outcome") == outcome]
        part.sort(key=lambda row: -(style.finite(row.get("score")) or 0.0))
        text = f"{outcome}: {len(part)} {told}"
        if len(part) > GALLERY_SIZE:
            text += f"; the {GALLERY_SIZE} of highest score"
        caption = "" if part else "None."
        frames = crops(source, part[:GALLERY_SIZE])
        shown.append(Gallery(text, frames, outcome.lower(), caption))
    membrane = style.words(str(source.study.tasks[task].get("membrane", "")))
    caption = (
        f"The search runs only within the {membrane}. 50 x 50 px in the x-y plane, mean of "
        f"{AVERAGED_SLICES} slices; z, y, x in voxels."
    )
    return [Note(caption), *shown]


def _unjudged(source: Source, task: str) -> list[Any]:
    rows = [
        {**row, "volume": volume}
        for volume in source.volumes(task)
        for row in source.rows(f"picked/{task}/final/{volume}.csv")
    ]
    if not rows:
        return [Note("No candidate so far.")]
    rows.sort(key=lambda row: -(style.finite(row.get("score")) or 0.0))
    frames = crops(source, rows[: 2 * GALLERY_SIZE])
    text = f"{len(rows)} candidates, not judged (no true points); the best by score"
    return [Gallery(text, frames, "pick")]


def crops(source: Source, rows: Sequence[Row]) -> list[Frame]:
    """Cut one small picture per row around its z, y, x (voxels)."""
    return [found for row in rows if (found := _crop(source, row)) is not None]


def _crop(source: Source, row: Row) -> Frame | None:
    place = [style.finite(row.get(axis)) for axis in "zyx"]
    path = source.results / f"converted/{row.get('volume')}.h5"
    if None in place or not path.is_file():
        return None
    z, y, x = (float(value or 0.0) for value in place)
    with volumes.open_volume(path) as volume:
        cut = figures.crop(volume.data, (z, y, x), depth=AVERAGED_SLICES)
        width_nm = figures.CROP_PX * volume.voxel_nm[2]
    pixels = figures.grey(cut, figures.window(cut))
    size = (figures.CROP_EDGE_PX, figures.CROP_EDGE_PX)
    name = f"{row['volume']} {z:.0f}, {y:.0f}, {x:.0f}"
    score = style.finite(row.get("score"))
    told = f"score {score:.2f}" if score is not None else "no score"
    large = figures.colour(figures.enlarge(pixels, size))
    return frame(large, f"Crop around {name}; {told}", f"{name}\n{told}", width_nm)
