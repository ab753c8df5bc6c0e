"""Galleries of candidates in the report: true, false and missed, with id and place.

An id names a line: `mini-07 #3` is the third candidate of that volume's picks, published
under the same number; `truth 3` the third of its true points.
"""

import contextlib
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tomoglean import volumes
from tomoglean.report import figures, style
from tomoglean.report.blocks import Frame, Gallery, Note
from tomoglean.report.detection import shown_use
from tomoglean.report.slices import frame
from tomoglean.report.sources import Row, Source, numbers

GALLERY_SIZE = 20
AVERAGED_SLICES = 5
MOST_MISSED = 200
RADIUS_NM = 15.0
SAME_PX = 0.01
ORDERS = {
    "TP": "highest score first",
    "FP": "highest score first: the most convincing errors",
    "FN": "highest score of the map there first: the nearest to being found",
}
Place = tuple[float, float, float]


@dataclass(frozen=True)
class Candidate:
    """One pick, or one true point that was missed.

    Attributes
    ----------
    volume, number
        Whose, and its line in the table it comes from; None if it is not there.
    outcome
        TP, FP, FN, or empty if not judged.
    place
        z, y, x in voxels.
    score
        Its own score; of a missed one the highest of the score map within the radius.
    remark
        What else is known: how far off, what it was taken for.
    """

    volume: str
    number: int | None
    outcome: str
    place: Place
    score: float | None
    remark: str = ""

    @property
    def name(self) -> str:
        """The id: volume, and line of the table."""
        line = "?" if self.number is None else str(self.number)
        return f"{self.volume} {'truth ' if self.outcome == 'FN' else '#'}{line}"

    @property
    def rank(self) -> tuple[float, str, int]:
        """Place in a gallery: by score, then as in the table."""
        score = -1.0 if self.score is None else self.score
        return -score, self.volume, self.number or 0


def matches(source: Source, task: str) -> list[Row]:
    """Return the matches of the final round: picks and missed truths with their outcome."""
    rows = source.rows(f"evaluated/{task}/matches.csv")
    return [row for row in rows if row.get("round", "final") == "final"]


def galleries(source: Source, task: str) -> list[Any]:
    """Show true, false and missed complexes, best score first."""
    summary = source.json(f"evaluated/{task}/summary.json")
    rows, use = matches(source, task), shown_use(summary)
    kept = [row for row in rows if row.get("use", use) == use] or rows
    if not kept:
        return _unjudged(source, task)
    radius_nm = style.finite(summary.get("radius_nm")) or RADIUS_NM
    shown = []
    for outcome in style.OUTCOME_WORDS:
        part = [row for row in kept if row.get("outcome") == outcome]
        shown.append(_gallery(source, task, outcome, part, radius_nm))
    lead = _lead(source, task, use)
    return [Note(lead), *shown, Note(_legend(task, radius_nm))]


def _lead(source: Source, task: str, use: str) -> str:
    membrane = style.words(str(source.study.tasks[task].get("membrane", "")))
    threshold = source.json(f"evaluated/{task}/summary.json").get("threshold")
    least = style.finite(threshold)
    above = "" if least is None else f" of score {least:.3f} or more"
    return (
        f"Candidates{above} on {use} volumes; the search runs only within the {membrane}. "
        f"{figures.CROP_PX} x {figures.CROP_PX} px in the x-y plane, mean of "
        f"{AVERAGED_SLICES} slices, grey values stretched in every picture by itself."
    )


def _legend(task: str, radius_nm: float) -> str:
    return (
        f"#3 is line 3 of results/picked/{task}/final/VOLUME.csv and of the published "
        "table, truth 3 line 3 of the true points. Places are z, y, x: in voxels (px, from "
        f"0) and nm. Of missed ones the score map's highest value within {radius_nm:g} nm "
        f"is told. All of them are listed in results/evaluated/{task}/matches.csv."
    )


def _gallery(
    source: Source, task: str, outcome: str, rows: Sequence[Row], radius_nm: float
) -> Gallery:
    found = [one for row in rows if (one := read(source, task, row)) is not None]
    if outcome == "FN":
        found = [
            missed(source, task, one, radius_nm) if place < MOST_MISSED else one
            for place, one in enumerate(found)
        ]
    found.sort(key=lambda one: one.rank)
    text = f"{outcome}: {len(rows)} {style.OUTCOME_WORDS[outcome]}"
    if len(rows) > 1:
        text += f"; {ORDERS[outcome]}"
    if len(found) > GALLERY_SIZE:
        text += f"; the first {GALLERY_SIZE}"
    frames = crops(source, found[:GALLERY_SIZE])
    return Gallery(text, frames, outcome.lower(), "" if rows else "None.")


def _unjudged(source: Source, task: str) -> list[Any]:
    rows = [
        {**row, "volume": volume}
        for volume in source.volumes(task)
        for row in source.rows(f"picked/{task}/final/{volume}.csv")
    ]
    if not rows:
        return [Note("No candidate so far.")]
    rows.sort(key=lambda row: -(style.finite(row.get("score")) or 0.0))
    best = [read(source, task, row) for row in rows[: 2 * GALLERY_SIZE]]
    frames = crops(source, [one for one in best if one is not None])
    text = f"{len(rows)} candidates, not judged (no true points); the best by score"
    return [Gallery(text, frames, "pick")]


# -- what is known of a candidate ----------------------------------------------------


def read(source: Source, task: str, row: Row) -> Candidate | None:
    """Read a row of matches or picks; None without a place."""
    place = tuple(style.finite(row.get(axis)) for axis in "zyx")
    if None in place:
        return None
    outcome, volume = row.get("outcome", ""), row.get("volume", "")
    z, y, x = (float(value or 0.0) for value in place)
    remark = style.words(row.get("cause", ""))
    off = style.finite(row.get("distance_nm"))
    if off is not None:
        remark = f"{off:.1f} nm off"
    number = line_of(_table(source, task, volume, outcome, row.get("use", "")), (z, y, x))
    score = style.finite(row.get("score"))
    return Candidate(volume, number, outcome, (z, y, x), score, remark)


def _table(source: Source, task: str, volume: str, outcome: str, use: str) -> list[Row]:
    if outcome == "FN":
        return source.rows(f"converted/{task}/{use}/points/{volume}.csv")
    return source.rows(f"picked/{task}/final/{volume}.csv")


def line_of(rows: Sequence[Row], place: Place) -> int | None:
    """Return the line of a table that holds a place, counted from 1; None if none does."""
    columns = np.array([numbers(rows, axis) for axis in "zyx"], np.float64).T
    if not columns.size:
        return None
    gaps = np.nan_to_num(np.abs(columns - place).max(axis=1), nan=np.inf)
    nearest = int(np.argmin(gaps))
    return nearest + 1 if gaps[nearest] <= SAME_PX else None


def missed(source: Source, task: str, one: Candidate, radius_nm: float) -> Candidate:
    """Say how near a missed complex came to being found: the score map around it."""
    folder = source.results
    scores = _around(folder / f"classified/{task}/final/{one.volume}.h5", one, radius_nm)
    mask = _around(folder / f"masked/{task}/{one.volume}.h5", one, radius_nm)
    remark = "outside the mask" if mask is not None and not mask.any() else ""
    score = None if scores is None else float(np.nanmax(scores, initial=0.0))
    return dataclasses.replace(one, score=score, remark=remark)


def _around(path: Path, one: Candidate, radius_nm: float) -> npt.NDArray[np.float64] | None:
    """Read what a map holds within a radius of a place; None without a map."""
    with contextlib.suppress(OSError, KeyError, ValueError):
        with volumes.open_volume(path) as volume:
            reach = np.maximum(radius_nm / np.array(volume.voxel_nm), 0.5)
            low = np.maximum(np.ceil(one.place - reach), 0).astype(int)
            high = np.minimum(np.floor(one.place + reach) + 1, volume.shape).astype(int)
            if (low >= high).any():
                return None
            box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
            values = np.asarray(volume.data[box], np.float64)
        steps = np.meshgrid(
            *(np.arange(a, b) for a, b in zip(low, high, strict=True)), indexing="ij"
        )
        gaps = [(s - p) / r for s, p, r in zip(steps, one.place, reach, strict=True)]
        return np.asarray(values[np.sum(np.square(gaps), axis=0) <= 1.0])
    return None


# -- pictures ------------------------------------------------------------------------


def crops(source: Source, found: Sequence[Candidate]) -> list[Frame]:
    """Cut one small picture per candidate."""
    return [shown for one in found if (shown := _crop(source, one)) is not None]


def _crop(source: Source, one: Candidate) -> Frame | None:
    path = source.results / f"converted/{one.volume}.h5"
    if not path.is_file():
        return None
    with volumes.open_volume(path) as volume:
        cut = figures.crop(volume.data, one.place, depth=AVERAGED_SLICES)
        voxel_nm = volume.voxel_nm
    pixels = figures.grey(cut, figures.window(cut))
    size = (figures.CROP_EDGE_PX, figures.CROP_EDGE_PX)
    large = figures.colour(figures.enlarge(pixels, size))
    lines = _lines(one, voxel_nm)
    alt = f"{one.outcome or 'Candidate'} {', '.join(lines)}"
    return frame(large, alt, "\n".join(lines), figures.CROP_PX * voxel_nm[2])


def _lines(one: Candidate, voxel_nm: Place) -> list[str]:
    """Write id, score, place in voxels and in nm, and what else is known."""
    kind = "map" if one.outcome == "FN" else "score"
    known = f"no {kind}" if one.score is None else f"{kind} {one.score:.2f}"
    nm = (p * edge for p, edge in zip(one.place, voxel_nm, strict=True))
    return [
        one.name,
        known,
        f"{', '.join(f'{value:.0f}' for value in one.place)} px",
        f"{', '.join(f'{value:.0f}' for value in nm)} nm",
        *([one.remark] if one.remark else []),
    ]
