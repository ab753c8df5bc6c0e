"""Where candidates lie: every volume's telling slices with picks, mask and scores."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tomoglean import volumes
from tomoglean.report import figures, slices, style
from tomoglean.report.blocks import Mark, Note, Panels
from tomoglean.report.slices import frame
from tomoglean.report.sources import Row, Source, attributes, numbers
from tomoglean.volumes import Volume

NEAR_NM = 20.0
AVERAGED_SLICES = 5
MARK_NM = 18.0


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


def pictures(source: Source, task: str) -> list[Any]:
    """Show every volume's busiest slice with picks, mask and score map."""
    names = source.volumes(task)
    edge = slices.edge_px(len(names))
    return slices.per_volume(names, lambda name: _volume(source, task, name, edge))


def _volume(source: Source, task: str, volume: str, edge: int) -> list[Any]:
    raw = source.results / f"converted/{volume}.h5"
    if not raw.is_file():
        return [Note(f"{volume}: not converted yet, so no pictures.")]
    rows = of_volume(source, task, volume)
    mask = source.results / f"masked/{task}/{volume}.h5"
    score = source.results / f"classified/{task}/final/{volume}.h5"
    with volumes.open_volume(raw) as grey:
        return [
            _panels(Look(volume, why, z, rows, mask, score, edge), grey)
            for why, z in busiest(rows, grey.shape[0], grey.voxel_nm[0]).items()
        ]


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
