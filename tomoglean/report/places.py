"""Where candidates lie: every volume's telling slices with picks, mask and scores."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tomoglean import volumes
from tomoglean.report import each, figures, slices, style
from tomoglean.report.blocks import ColourBar, Frame, Mark, Note, Panels
from tomoglean.report.planes import AXES, Plane, across, told
from tomoglean.report.slices import frame
from tomoglean.report.sources import Row, Source, attributes, numbers
from tomoglean.volumes import Volume

NEAR_NM = 20.0
AVERAGED_SLICES = 5
MARK_NM = 18.0
SCORE_BAR = ColourBar(
    "score, how likely a complex is centred here", "0", "1", figures.heat_colours()
)


@dataclass(frozen=True)
class Look:
    """One volume to be shown: with which candidates, mask and scores, in what detail."""

    volume: str
    rows: Sequence[Row]
    mask: Path
    score: Path
    detail: figures.Detail


def pictures(source: Source, task: str) -> list[Any]:
    """Show every volume's busiest slices across all axes; of trained ones one slice.

    Parameters
    ----------
    source, task
        A study and one of its detection tasks.

    Returns
    -------
    list of blocks
        One set of pictures a volume, or a line on why there is none; those of volumes
        that were trained on lie in a fold.
    """
    names = source.volumes(task)
    trained = [name for name in names if source.uses(task, name) == ["train"]]
    shown = each.volume(names, lambda name: _volume(source, task, name), trained)
    return [*shown, *slices.lightened(source)]


def _volume(source: Source, task: str, volume: str) -> list[Any]:
    raw = source.results / f"converted/{volume}.h5"
    if not raw.is_file():
        return [Note(f"{volume}: not converted yet, so no pictures.")]
    rows = of_volume(source, task, volume)
    mask = source.results / f"masked/{task}/{volume}.h5"
    score = source.results / f"classified/{task}/final/{volume}.h5"
    look = Look(volume, rows, mask, score, slices.detail(source))
    use = ", ".join(source.uses(task, volume)) or "predict"
    with volumes.open_volume(raw) as grey:
        chosen = planes(rows, grey, brief=use == "train")
        return [_panels(look, f"{volume} ({use})", chosen, grey)]


def of_volume(source: Source, task: str, volume: str) -> list[Row]:
    """Return the judged candidates of a volume, else its picks above the threshold."""
    matches = source.rows(f"evaluated/{task}/matches.csv")
    wanted = {"volume": volume, "round": "final"}
    rows = [row for row in matches if wanted.items() <= ({"round": "final"} | row).items()]
    if rows:
        return rows
    picks = source.rows(f"picked/{task}/final/{volume}.csv")
    threshold = source.json(f"evaluated/{task}/summary.json").get("threshold")
    return [row for row in picks if _reaches(row, threshold)]


def _reaches(row: Row, threshold: Any) -> bool:
    least = style.finite(threshold)
    return least is None or (style.finite(row.get("score")) or 0.0) >= least


# -- which slices --------------------------------------------------------------------


def planes(rows: Sequence[Row], grey: Volume, *, brief: bool) -> dict[str, Plane]:
    """Choose slices by why: most candidates across z, y and x, then most errors.

    Parameters
    ----------
    rows
        Candidates with z, y, x in voxels and, if judged, their outcome.
    grey
        The volume.
    brief
        Whether the first slice is enough.
    """
    depth, height, width = grey.shape
    chosen = busiest(rows, depth, grey.voxel_nm[0])
    found = [(why, Plane("z", index)) for why, index in chosen.items()]
    if brief or grey.z is not None:
        return dict(found[: 1 if brief else None])
    for axis, length in (("x", width), ("y", height)):
        edge_nm = grey.voxel_nm[AXES.index(axis)]
        (why, index), *_ = busiest(rows, length, edge_nm, axis).items()
        why = f"{why.split(' and ')[0]} across {axis}"
        found.insert(1, (why, across(axis, index, grey.shape, grey.voxel_nm)))
    return dict(found)


def busiest(
    rows: Sequence[Row], depth: int, edge_nm: float, axis: str = "z"
) -> dict[str, int]:
    """Choose the slices with most picks nearby and with most errors nearby."""
    near = max(NEAR_NM / edge_nm, 0.5)
    places = np.array(numbers(rows, axis))
    wrong = np.array([row.get("outcome") in {"FP", "FN"} for row in rows], bool)
    chosen = {"slice with most picks": _densest(places, near, depth)}
    if wrong.any():
        worst = _densest(places[wrong], near, depth)
        if worst == chosen["slice with most picks"]:
            return {"slice with most picks and most errors": worst}
        chosen["slice with most errors"] = worst
    return chosen if len(rows) else {"central slice, no picks": depth // 2}


def _densest(places: npt.NDArray[np.float64], near: float, depth: int) -> int:
    known = places[np.isfinite(places)]
    if not known.size:
        return depth // 2
    in_order = np.sort(known)
    crowd = np.searchsorted(in_order, known + near, "right")
    crowd -= np.searchsorted(in_order, known - near, "left")
    return int(np.clip(round(float(known[np.argmax(crowd)])), 0, depth - 1))


# -- pictures ------------------------------------------------------------------------


def _panels(look: Look, title: str, chosen: Mapping[str, Plane], grey: Volume) -> Panels:
    images = [plane.cut(grey.data, AVERAGED_SLICES) for plane in chosen.values()]
    shown = figures.window(np.concatenate([image.ravel() for image in images]))
    rows = [
        _row(look, plane, why, figures.grey(image, shown), grey)
        for (why, plane), image in zip(chosen.items(), images, strict=True)
    ]
    frames = [one for row in rows for one in row]
    caption = "; ".join(
        [
            f"mean of {AVERAGED_SLICES} slices; marks within {NEAR_NM:g} nm",
            f"grey window {style.significant(shown[0])} to {style.significant(shown[1])}",
            *told(list(chosen.values())),
        ]
    )
    marks = [mark for one in frames for mark in one.marks]
    legend = _legend(marks, any("mask" in one.alt for one in frames))
    scored = any("score" in one.alt for one in frames)
    bars = [SCORE_BAR] if scored else []
    return Panels(title, frames, caption, legend, len(rows[0]), bars)


def _row(
    look: Look, plane: Plane, why: str, image: figures.Bytes, grey: Volume
) -> list[Frame]:
    """Return one slice with its marks, its mask and its scores."""
    edges = plane.edges(grey.voxel_nm)
    height, width = image.shape
    size = figures.size_px((height, width), edges, look.detail.edge_px)
    width_nm = width * edges[1]
    marks = _marks(look.rows, plane, grey, size)
    base = figures.enlarge(image, size)
    layers = {"raw": figures.colour(base), **_layers(look, plane, base, size)}
    place = f"{plane.axis} = {plane.index}, {why}"
    return [
        frame(
            pixels,
            f"{name} of {look.volume}, {place}; {len(marks)} marks",
            f"{place}: {name}, candidates marked" if name == "raw" else name,
            width_nm,
            detail=look.detail,
            marks=() if "mask" in name else marks,
            mark_radius=max(MARK_NM / width_nm * size[0], 5.0),
        )
        for name, pixels in layers.items()
    ]


def _layers(
    look: Look, plane: Plane, base: figures.Bytes, size: tuple[int, int]
) -> dict[str, figures.Bytes]:
    layers = {}
    mask = _slice(look.mask, plane)
    if mask is not None:
        labels = figures.enlarge(np.asarray(mask > 0, np.uint8), size, labels=True)
        layers["mask searched"] = figures.overlay(base, labels, [style.SKY])
    score = _slice(look.score, plane)
    if score is not None:
        layers["score"] = figures.enlarge(figures.heat(score), size)
    return layers


def _legend(marks: Sequence[Mark], masked: bool) -> dict[str, str]:
    known = {"pick": style.ORANGE, **style.OUTCOME_COLOURS}
    shapes = {"TP": "circle", "FP": "square", "FN": "diamond", "pick": "circle"}
    outcomes = dict.fromkeys(mark.outcome for mark in marks)
    legend = {f"{name} ({shapes[name]})": known[name] for name in known if name in outcomes}
    return legend | ({"mask": style.SKY} if masked else {})


def _marks(
    rows: Sequence[Row], plane: Plane, grey: Volume, size: tuple[int, int]
) -> list[Mark]:
    high, wide = plane.shape(grey.shape)
    near = max(NEAR_NM / grey.voxel_nm[plane.number], 0.5)
    points = zip(*(numbers(rows, axis) for axis in AXES), strict=True)
    placed = [plane.place(point, grey.shape) for point in points]
    return [
        Mark(
            (column + 0.5) * size[0] / wide,
            (line + 0.5) * size[1] / high,
            row.get("outcome") or "pick",
        )
        for (line, column, off), row in zip(placed, rows, strict=True)
        if off <= near
    ]


def _slice(path: Path, plane: Plane) -> Any:
    with contextlib.suppress(OSError, KeyError, ValueError):
        if attributes(path):
            with volumes.open_volume(path) as volume:
                return np.asarray(plane.cut(volume.data), np.float64)
    return None
