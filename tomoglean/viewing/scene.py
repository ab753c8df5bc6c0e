"""What there is to look at in one volume: the image, its labels, its points."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tomoglean import provenance, tables, volumes
from tomoglean.formats import Row, stored
from tomoglean.formats.source import Source, Triple
from tomoglean.provenance import Refused
from tomoglean.report import style
from tomoglean.study import Study

SAMPLED = 16
WINDOW = (0.5, 99.5)
TRUTH_COLOUR = style.SKY
OUTCOMES = ("TP", "FP", "FN")
FORBIDDEN = re.compile(r"[^A-Za-z0-9 ._-]")


@dataclass(frozen=True)
class Labels:
    """A segmentation on the grid of the image.

    Attributes
    ----------
    name
        The task.
    path
        Its volume file.
    classes
        Name of every value but 0.
    """

    name: str
    path: Path
    classes: Mapping[int, str]

    @property
    def colours(self) -> dict[int, str]:
        """Colour of every value, the same as in the report."""
        named = style.class_colours(["", *self.classes.values()])
        return {value: named[name] for value, name in self.classes.items()}


@dataclass(frozen=True)
class Points:
    """Places in the image.

    Attributes
    ----------
    name
        The task and what they are, such as `t3ss TP`.
    positions
        Shape (N, 3): z, y, x in voxels; the centre of the first voxel is 0.
    scores
        Shape (N,); NaN where there is none.
    colour
        Written #rrggbb.
    """

    name: str
    positions: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]
    colour: str

    @property
    def file(self) -> str:
        """A name for files of them."""
        return safe(self.name).replace(" ", ".")


@dataclass(frozen=True)
class Scene:
    """One volume with all that belongs to it.

    Attributes
    ----------
    name
        Id of the volume, or name of its file.
    path
        File of the image.
    row
        What volumes.tsv or the command says of a raw file.
    shape
        (Z, Y, X) in voxels.
    voxel_nm, origin_nm
        Voxel edges and place of the first voxel's centre along z, y, x in nm.
    dtype
        Type of its voxels.
    window
        Grey values shown as black and as white.
    labels, points
        What lies over the image.
    left_out
        What cannot be shown and why, one line each.
    """

    name: str
    path: Path
    row: Row
    shape: tuple[int, int, int]
    voxel_nm: Triple
    origin_nm: Triple
    dtype: np.dtype[Any]
    window: tuple[float, float]
    labels: Sequence[Labels] = ()
    points: Sequence[Points] = ()
    left_out: Sequence[str] = ()

    @property
    def bytes(self) -> int:
        """Size of the image and its labels, uncompressed."""
        return math.prod(self.shape) * (self.dtype.itemsize + len(self.labels))


def of_file(path: Path, row: Row | None = None) -> Scene:
    """Look at one file of any format; there are no labels and no points.

    Raises
    ------
    Refused
        If it cannot be read, or nobody knows its voxel size.
    """
    with stored.open_any(path, row or {}) as source:
        return _scene(source, path.name, path, row or {}, _window(source))


def of_study(study: Study, volume: str, round_: str = "final") -> Scene:
    """Look at a volume of a study with its segmentations and candidates.

    Parameters
    ----------
    study
        The study.
    volume
        Id of the volume.
    round_
        Which round's segmentations and candidates.

    Raises
    ------
    Refused
        If there is no such volume, or it is not converted yet.
    """
    path = _converted(study, volume)
    tasks = list(study.tasks)
    with stored.open_stored(path) as source:
        attrs = volumes.attributes(path)
        known = {"p_low", "p_high"} <= attrs.keys()
        window = (attrs["p_low"], attrs["p_high"]) if known else _window(source)
        labels, left_out = _labels(study, tasks, volume, round_, source.shape)
        points = [p for task in tasks for p in _points(study, task, volume, round_)]
        return _scene(source, volume, path, {}, window, labels, points, left_out)


def _converted(study: Study, volume: str) -> Path:
    path = study.root / "results" / "converted" / f"{volume}.h5"
    if volume in ids(study) and path.is_file():
        return path
    if volume in ids(study):
        raise Refused(
            f"view: expected results/converted/{volume}.h5, found none; run"
            f" `snakemake results/converted/{volume}.h5` in the study first"
        )
    raise Refused(
        f"view: expected a volume of the study or a file, found {volume!r}; known:"
        f" {', '.join(ids(study)) or 'none'}; name one of these, or a file that is there"
    )


def ids(study: Study) -> list[str]:
    """Return the volumes of the tables, then those that only the results know."""
    listed = [row["volume"] for row in study.volumes]
    files = sorted((study.root / "results" / "converted").glob("*.h5"))
    return list(dict.fromkeys([*listed, *(path.stem for path in files)]))


def _scene(
    source: Source,
    name: str,
    path: Path,
    row: Row,
    window: tuple[float, float],
    *more: Sequence[Any],
) -> Scene:
    if source.voxel_nm is None:
        raise Refused(
            f"{source.name}: expected a voxel size, found none; state it (--voxel-nm Z,Y,X)"
        )
    placed = (source.shape, source.voxel_nm, source.origin_nm, source.dtype)
    low, high = (float(value) for value in window)
    return Scene(name, path, row, *placed, (low, high if high > low else low + 1), *more)


def _window(source: Source) -> tuple[float, float]:
    """Take percentiles of some slices spread over the volume."""
    chosen = np.linspace(0, source.shape[0] - 1, SAMPLED).astype(int)
    blocks = [source.read(slice(z, z + 1)) for z in dict.fromkeys(chosen.tolist())]
    values = np.concatenate([np.asarray(block, np.float64).ravel() for block in blocks])
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, WINDOW) if finite.size else (0.0, 1.0)
    return float(low), float(high)


def _labels(
    study: Study, tasks: Sequence[str], volume: str, round_: str, shape: tuple[int, ...]
) -> tuple[list[Labels], list[str]]:
    """Find the segmentations; one on another grid is left out with a line."""
    found, left_out = [], []
    for task in tasks:
        path = study.root / "results" / "segmented" / task / round_ / f"{volume}.h5"
        if not path.is_file():
            continue
        with stored.open_stored(path) as source:
            if source.shape == shape:
                named = {
                    v: n for v, n in source.materials.items() if 0 < v < volumes.IGNORE
                }
                found.append(Labels(task, path, named))
            else:
                left_out.append(
                    f"{task}: its grid {source.shape} is not the image's {shape}"
                )
    return found, left_out


def _points(study: Study, task: str, volume: str, round_: str) -> Iterator[Points]:
    """Find the candidates: judged ones by outcome, else all; and the truth beside them."""
    results = study.root / "results"
    matches = _matches(results / "evaluated" / task / "matches.csv", volume, round_)
    if matches:
        for outcome in OUTCOMES:
            rows = [row for row in matches if row.get("outcome") == outcome]
            if rows:
                yield _of_rows(f"{task} {outcome}", rows, style.OUTCOME_COLOURS[outcome])
        return
    published = results / "published" / task / f"{volume}.csv"
    picked = results / "picked" / task / round_ / f"{volume}.csv"
    for path in (published, picked) if round_ == "final" else (picked,):
        if path.is_file():
            picks = tables.read_picks(path)
            yield Points(f"{task} picks", picks.positions, picks.scores, style.ORANGE)
            break
    for path in sorted(results.glob(f"converted/{task}/*/points/{volume}.csv")):
        truth = tables.read_points(path).positions
        yield Points(f"{task} truth", truth, np.full(len(truth), np.nan), TRUTH_COLOUR)
        return


def _matches(path: Path, volume: str, round_: str) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    rows = tables.read_rows(path, delimiter=",")
    wanted = {"volume": volume, "round": round_}
    return [row for row in rows if wanted.items() <= row.items()]


def _of_rows(name: str, rows: Sequence[Mapping[str, str]], colour: str) -> Points:
    places = [[float(row[axis]) for axis in "zyx"] for row in rows]
    scores = [float(row.get("score") or "nan") for row in rows]
    return Points(name, np.array(places), np.array(scores), colour)


def safe(name: str) -> str:
    """Keep what has no meaning in a command, a macro or a path.

    Examples
    --------
    >>> safe('a"; run("quit"); //')
    'a__ run__quit___ __'
    """
    return FORBIDDEN.sub("_", name)


def told(scene: Scene) -> list[str]:
    """Say in a few lines what there is."""
    edges = " x ".join(f"{edge:g}" for edge in dict.fromkeys(scene.voxel_nm))
    shape = " x ".join(map(str, scene.shape))
    parts = [f"{label.name} labels" for label in scene.labels]
    parts += [f"{len(points.positions)} {points.name}" for points in scene.points]
    line = (
        f"{scene.name}: {shape} voxels (z, y, x) of {edges} nm; {scene.bytes / 1e9:.2g} GB"
    )
    return ["; ".join([line, *parts]), *(f"  not shown: {why}" for why in scene.left_out)]


def stamp(path: Path) -> list[int]:
    """Tell one state of a file from another: size and time of its last change."""
    state = path.stat()
    return [state.st_size, state.st_mtime_ns]


@dataclass
class Kept:
    """The note in a folder of what its large files were made from.

    Attributes
    ----------
    path
        The note; only a folder that holds it, or none or an empty one, is written to.
    made
        State of the source by name of the file.
    """

    path: Path
    made: dict[str, list[Any]] = field(default_factory=dict)

    def is_fresh(self, target: Path, source: Path) -> bool:
        """Whether a file is there and was made from its source as it is now."""
        return target.exists() and self.made.get(target.name) == _state(source)

    def add(self, target: Path, source: Path) -> None:
        """Note what a file was made from."""
        self.made[target.name] = _state(source)
        provenance.write_json({"made from": self.made}, self.path)


def _state(source: Path) -> list[Any]:
    return [source.name, *stamp(source)]
