"""A detection task in the report: rates, curves, galleries, and picks on slices."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tomoglean import volumes
from tomoglean.report import charts, figures, slices, style
from tomoglean.report.blocks import (
    Cell,
    Chart,
    Charts,
    Frame,
    Gallery,
    Mark,
    Note,
    Panels,
    Table,
)
from tomoglean.report.slices import frame
from tomoglean.report.sources import Row, Source, attributes, numbers, round_order
from tomoglean.volumes import Volume

GALLERY_SIZE = 12
NEAR_NM = 20.0
AVERAGED_SLICES = 5
MARK_NM = 18.0
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


@dataclass(frozen=True)
class Look:
    """One slice to be shown: whose, why, at which z, with which picks, mask and scores."""

    volume: str
    why: str
    z: int
    rows: Sequence[Row]
    mask: Path
    score: Path
    edge_px: int


# -- slices --------------------------------------------------------------------------


def pictures(source: Source, task: str) -> list[Any]:
    """Show every volume's busiest slice with picks, mask and score map."""
    names = source.volumes(task)
    edge = slices.edge_px(len(names))
    return slices.per_volume(names, lambda name: _volume(source, task, name, edge))


def _volume(source: Source, task: str, volume: str, edge: int) -> list[Any]:
    raw = source.results / f"converted/{volume}.h5"
    if not raw.is_file():
        return [Note(f"{volume}: not converted yet, so no pictures.")]
    rows = [row for row in matches(source, task) if row.get("volume") == volume]
    if not rows:
        rows = source.rows(f"picked/{task}/final/{volume}.csv")
        threshold = source.json(f"evaluated/{task}/summary.json").get("threshold")
        rows = [row for row in rows if _reaches(row, threshold)]
    mask = source.results / f"masked/{task}/{volume}.h5"
    score = source.results / f"classified/{task}/final/{volume}.h5"
    with volumes.open_volume(raw) as grey:
        return [
            _panels(Look(volume, why, z, rows, mask, score, edge), grey)
            for why, z in busiest(rows, grey.shape[0], grey.voxel_nm[0]).items()
        ]


def _reaches(row: Row, threshold: Any) -> bool:
    least = style.finite(threshold)
    return least is None or (style.finite(row.get("score")) or 0.0) >= least


def busiest(rows: Sequence[Row], depth: int, edge_nm: float) -> dict[str, int]:
    """Choose the slices with most picks nearby and with most errors nearby."""
    near = max(NEAR_NM / edge_nm, 0.5)
    z = np.array(numbers(rows, "z"))
    wrong = np.array([row.get("outcome") in {"FP", "FN"} for row in rows], bool)
    chosen = {"slice with most picks": _densest(z, near, depth)}
    if wrong.any():
        worst = _densest(z[wrong], near, depth)
        if worst == chosen["slice with most picks"]:
            return {"slice with most picks and most errors": worst}
        chosen["slice with most errors"] = worst
    return chosen if len(rows) else {"central slice, no picks": depth // 2}


def _densest(z: npt.NDArray[np.float64], near: float, depth: int) -> int:
    known = z[np.isfinite(z)]
    if not known.size:
        return depth // 2
    crowd = (np.abs(known[:, None] - known[None]) <= near).sum(axis=1)
    return int(np.clip(round(float(known[np.argmax(crowd)])), 0, depth - 1))


def _panels(look: Look, grey: Volume) -> Panels:
    image = slab_mean(grey, look.z)
    shown = figures.window(image)
    size = figures.size_px(
        (image.shape[0], image.shape[1]), grey.voxel_nm[1:], look.edge_px
    )
    width_nm = image.shape[1] * grey.voxel_nm[2]
    marks = _marks(look.rows, look.z, grey, size)
    base = figures.enlarge(figures.grey(image, shown), size)
    layers = {"raw, picks marked": figures.colour(base), **_layers(look, base, size)}
    frames = [
        frame(
            pixels,
            f"{name} of {look.volume}, z = {look.z}; {len(marks)} marks",
            name,
            width_nm,
            marks=() if "mask" in name else marks,
            mark_radius=max(MARK_NM / width_nm * size[0], 5.0),
        )
        for name, pixels in layers.items()
    ]
    caption = (
        f"z = {look.z}, mean of {AVERAGED_SLICES} slices; marks within {NEAR_NM:g} nm; "
        f"grey window {style.significant(shown[0])} to {style.significant(shown[1])}"
    )
    legend = _legend(marks, any("mask" in name for name in layers))
    return Panels(f"{look.volume}: {look.why}", frames, caption, legend)


def slab_mean(grey: Volume, z: int) -> figures.Grey:
    """Average a few slices around one, shape (Y, X)."""
    half = AVERAGED_SLICES // 2
    slab = np.asarray(grey.data[max(z - half, 0) : z + half + 1], np.float64)
    return np.asarray(slab.mean(axis=0))


def _layers(
    look: Look, base: figures.Bytes, size: tuple[int, int]
) -> dict[str, figures.Bytes]:
    layers = {}
    mask = _slice(look.mask, look.z)
    if mask is not None:
        labels = figures.enlarge(np.asarray(mask > 0, np.uint8), size, labels=True)
        layers["mask searched"] = figures.overlay(base, labels, [style.SKY])
    score = _slice(look.score, look.z)
    if score is not None:
        layers["score (0 blue to 1 yellow)"] = figures.enlarge(figures.heat(score), size)
    return layers


def _legend(marks: Sequence[Mark], masked: bool) -> dict[str, str]:
    known = {"pick": style.ORANGE, **style.OUTCOME_COLOURS}
    shapes = {"TP": "circle", "FP": "square", "FN": "diamond", "pick": "circle"}
    outcomes = dict.fromkeys(mark.outcome for mark in marks)
    legend = {f"{name} ({shapes[name]})": known[name] for name in known if name in outcomes}
    return legend | ({"mask": style.SKY} if masked else {})


def _marks(rows: Sequence[Row], z: int, grey: Volume, size: tuple[int, int]) -> list[Mark]:
    near = max(NEAR_NM / grey.voxel_nm[0], 0.5)
    x_scale, y_scale = size[0] / grey.shape[2], size[1] / grey.shape[1]
    places = zip(
        numbers(rows, "z"), numbers(rows, "y"), numbers(rows, "x"), rows, strict=True
    )
    return [
        Mark((x + 0.5) * x_scale, (y + 0.5) * y_scale, row.get("outcome") or "pick")
        for at, y, x, row in places
        if abs(at - z) <= near
    ]


def _slice(path: Path, z: int) -> Any:
    with contextlib.suppress(OSError, KeyError, ValueError):
        if attributes(path):
            with volumes.open_volume(path) as volume:
                return np.asarray(volume.data[z], np.float64)
    return None
