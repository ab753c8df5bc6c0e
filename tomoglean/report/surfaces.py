"""Three-dimensional pictures in the report: segments in each other, candidates in place."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tomoglean import volumes
from tomoglean.report import each, figures, meshes, rendering, slices, style
from tomoglean.report.blocks import Frame, Note, Panels
from tomoglean.report.meshes import Mesh, Shares, Triple
from tomoglean.report.places import of_volume
from tomoglean.report.sources import Row, Source, numbers

LOG = logging.getLogger(__name__)
MOST_VOLUMES = 4
MOST_MARKS = 400
MARK_NM = 9.0
MARK_SHARE = 0.02
GLASS_CELLS = 80
CUT = "The quarter of small y and large x is cut away, so that one sees what lies in what."
SHAPE_WORDS = {"TP": "ball", "FP": "cube", "FN": "diamond", "pick": "ball"}


@dataclass(frozen=True)
class Body:
    """A labelled volume made ready to be drawn: shares of its labels, and its edges."""

    shares: Shares
    size_nm: Triple

    @property
    def told(self) -> str:
        """Say how large the box is and how coarse it was drawn."""
        edges = " × ".join(style.length(edge) for edge in self.size_nm)
        cells = dict.fromkeys((min(self.shares.cell_nm), max(self.shares.cell_nm)))
        cell = " to ".join(map(style.length, cells))
        return f"box {edges} (z, y, x), parallel projection, drawn from cells of {cell}"


def segments(source: Source, task: str) -> list[Any]:
    """Show the segments of the held-out volumes, cut open, beside the truth.

    Parameters
    ----------
    source, task
        A study and one of its semantic tasks.

    Returns
    -------
    list of blocks
        One picture, or two with truth, a volume; one line where there is none.
    """
    return _each(source, task, _segments)


def candidates(source: Source, task: str) -> list[Any]:
    """Show candidates in the membrane they were sought in, from the side and along z.

    Parameters
    ----------
    source, task
        A study and one of its detection tasks.

    Returns
    -------
    list of blocks
        Two pictures a volume; one line where there are none.
    """
    return _each(source, task, _candidates)


def _each(source: Source, task: str, show: Callable[..., list[Any]]) -> list[Any]:
    """Show a few volumes, the held-out ones first, and tell which were left out."""
    names = source.volumes(task)
    held = [name for name in names if source.uses(task, name) != ["train"]] or names
    chosen = held[:MOST_VOLUMES]
    left = [name for name in names if name not in chosen]
    shown = each.volume(chosen, lambda volume: show(source, task, volume))
    told = f"Not drawn in space, to keep the page light: {', '.join(left)}."
    return [*shown, *([Note(told)] if left else [])]


def body(path: Path, labels: Sequence[int], most: int = meshes.MOST_CELLS) -> Body:
    """Read a labelled volume coarsely.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If its slices are no neighbours.
    """
    with volumes.open_volume(path) as labelled:
        edges = np.multiply(labelled.shape, labelled.voxel_nm)
        z_nm, y_nm, x_nm = (float(edge) for edge in edges)
        return Body(meshes.shares(labelled, labels, most), (z_nm, y_nm, x_nm))


# -- segments ------------------------------------------------------------------------


def _segments(source: Source, task: str, volume: str) -> list[Any]:
    segmented = slices.predictions(source, task, volume)
    if not segmented:
        return [Note(f"{volume}: not segmented yet, so no surface.")]
    if len(segmented) > 1:
        told = "each fold segmented some slices only, so no surface is drawn"
        return [Note(f"{volume}: {told}.")]
    (path, _) = next(iter(segmented.values()))
    truth = slices.truth_of(source, task, volume)
    files = {"prediction": path} | ({"truth": truth} if truth else {})
    colours = style.class_colours(source.classes(task))
    shown = [
        _segments_of(name, file, volume, task, colours) for name, file in files.items()
    ]
    frames = [one for one in shown if isinstance(one, Frame)]
    notes = [one for one in shown if isinstance(one, Note)]
    if not frames:
        return notes
    legend = {style.words(name): ink for name, ink in colours.items()}
    return [Panels(f"{volume}: segments cut open", frames, CUT, legend), *notes]


def _segments_of(
    name: str, path: Path, volume: str, task: str, colours: Mapping[str, str]
) -> Frame | Note:
    """Draw the prediction or the truth of one volume, or say why not."""
    try:
        solid = body(path, range(1, len(colours) + 1))
    except ValueError as error:
        return Note(f"{volume}: no surface of the {name} ({error}).")
    drawn = _cut_open(solid, list(colours.values()))
    if not drawn:
        return Note(f"{volume}: no surface of the {name}; it holds none of the classes.")
    alt = f"{name} of {style.words(task)} in {volume} in space, front quarter cut away"
    caption = f"{name}; {solid.told}"
    return picture(drawn, solid.size_nm, rendering.SIDE, alt, caption)


def _cut_open(solid: Body, colours: Sequence[str]) -> list[Mesh]:
    cell_nm = solid.shares.cell_nm
    found = [
        meshes.surface(share, cell_nm, colours[label - 1], cut=True)
        for label, share in solid.shares.of.items()
    ]
    return [mesh for mesh in found if mesh is not None]


# -- candidates ----------------------------------------------------------------------


def _candidates(source: Source, task: str, volume: str) -> list[Any]:
    path = membrane_of(source, task, volume)
    if path is None:
        return [Note(f"{volume}: no membrane segmented yet, so nothing to draw in space.")]
    solid = body(path, [1], GLASS_CELLS)
    sheet = meshes.surface(
        solid.shares.of[1], solid.shares.cell_nm, style.MUTED, glass=True
    )
    with volumes.open_volume(path) as grid:
        voxel_nm = grid.voxel_nm
    rows = of_volume(source, task, volume)
    marked = [*([sheet] if sheet else []), *marks(rows, voxel_nm, max(solid.size_nm))]
    if not marked:
        return [Note(f"{volume}: neither membrane nor candidate, so nothing to draw.")]
    counts = counted(rows)
    told = ", ".join(f"{n} {name}" for name, n in counts.items()) or "no candidate"
    what = style.words(str(source.study.tasks[task].get("membrane", "membrane")))
    frames = [
        picture(
            marked, solid.size_nm, view, f"{told} in the {what} of {volume}, {words}", words
        )
        for words, view in {
            "from the side": rendering.SIDE,
            "along z, as slices are shown": rendering.ALONG_Z,
        }.items()
    ]
    known = style.OUTCOME_COLOURS | {"pick": style.ORANGE}
    legend = {f"{name} ({SHAPE_WORDS[name]})": known[name] for name in counts}
    if sheet:
        legend[f"{what} as segmented"] = style.MUTED
    caption = solid.told + ("" if sheet else f"; no {what} was found")
    if len(rows) > MOST_MARKS:
        caption += f"; of {len(rows)} candidates the first {MOST_MARKS} are marked"
    return [Panels(f"{volume}: {told}", frames, caption, legend)]


def membrane_of(source: Source, task: str, volume: str) -> Path | None:
    """Return the segmented membrane of a detection task, else the zone searched."""
    membrane = source.study.tasks[task].get("membrane", "")
    paths = [
        source.results / f"segmented/{membrane}/final/{volume}.h5",
        source.results / f"masked/{task}/{volume}.h5",
    ]
    return next((path for path in paths if path.is_file()), None)


def counted(rows: Sequence[Row]) -> dict[str, int]:
    """Count candidates by outcome, in the order of the legend; without one it is a pick."""
    outcomes = [row.get("outcome") or "pick" for row in rows]
    return {name: outcomes.count(name) for name in SHAPE_WORDS if name in outcomes}


def marks(rows: Sequence[Row], voxel_nm: Triple, longest_nm: float) -> list[Mesh]:
    """Set a body for every candidate: ball, cube or diamond in the outcome's colour.

    Parameters
    ----------
    rows
        Candidates with z, y, x in voxels and, if judged, their outcome.
    voxel_nm
        Voxel edges along z, y, x in nm.
    longest_nm
        Longest edge of the volume; marks are seen on it.
    """
    known = style.OUTCOME_COLOURS | {"pick": style.ORANGE}
    radius_nm = max(MARK_NM, MARK_SHARE * longest_nm)
    places = np.array([numbers(rows, axis) for axis in "zyx"]).T.reshape(-1, 3)
    placed = zip(rows[:MOST_MARKS], (places[:MOST_MARKS] + 0.5) * voxel_nm, strict=True)
    return [
        rendering.SHAPES[outcome](place_nm.tolist(), radius_nm, known[outcome])
        for row, place_nm in placed
        if (outcome := row.get("outcome") or "pick") in known
        and np.isfinite(place_nm).all()
    ]


# -- pictures ------------------------------------------------------------------------


def picture(
    drawn: Sequence[Mesh], size_nm: Triple, view: rendering.View, alt: str, caption: str
) -> Frame:
    """Draw a scene and put it into the page; the log says what it cost."""
    began = time.perf_counter()
    pixels = rendering.draw(drawn, size_nm, view)
    lengths = [style.length(edge) for edge in size_nm]
    told = f"{alt}; box {' by '.join(lengths)} (z, y, x)"
    uri = figures.webp(pixels)
    faces = sum(len(mesh.faces) for mesh in drawn)
    spent = time.perf_counter() - began
    LOG.info("%s: %d triangles, %.1f s, %d kB", alt, faces, spent, len(uri) // 1000)
    return Frame(uri, told, caption, pixels.shape[1], pixels.shape[0])
