"""Open and measure a raw volume before any hour is spent on it."""

import contextlib
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tomoglean import formats, labels, steps, study, tables
from tomoglean.formats import Row, Source, open_source, slices
from tomoglean.formats.moments import MOST_SAMPLES, Moments, sampling_step
from tomoglean.formats.source import readable
from tomoglean.provenance import Refused
from tomoglean.steps import Steps
from tomoglean.volumes import slabs

Facts = dict[str, Any]
PERCENTILES = (0.5, 50, 99.5)
SLAB_BYTES = 1 << 26
BLOCK_VOXELS = 1 << 22
SATURATED = 0.05
FEW_VALUES = 16
LEAST_NM, MOST_NM = 0.02, 1e6  # finer than any microscope, coarser than any scanner
UNKNOWN: Facts = {
    "shape": None,
    "dtype": None,
    "voxel_nm": None,
    "minimum": None,
    "maximum": None,
    "percentiles": None,
    "mean": None,
    "std": None,
    "finite_fraction": None,
    "saturated_fraction": None,
    "sha256": None,
    "source": None,
    "format": None,
    "spacing": None,
    "origin_nm": None,
    "acquisition": {},
    "notes": [],
}


def check(row: Row, root: str | os.PathLike[str] = ".") -> Facts:
    """Measure one raw volume; nothing it holds can make this fail.

    Parameters
    ----------
    row
        Row of volumes.tsv; empty cells are not said.
    root
        Folder to which the row's path is relative.

    Returns
    -------
    dict
        `volume`; `verdict`: ok, warning or refused; `messages`, one line each, a
        refusal first; `shape` (Z, Y, X), `dtype`, `voxel_nm` (z, y, x), `minimum`,
        `maximum`, `percentiles`, `mean` and `std` of the finite values,
        `finite_fraction`, `saturated_fraction` (share at the maximum), `sha256`,
        `source` (file name), `format`, `spacing`, `origin_nm` (z, y, x), `acquisition`,
        `notes`. What could not be found is None.
    """
    path = tables.locate(row["path"], root)
    messages: list[str] = []
    facts: Facts = {
        "volume": row.get("volume") or volume_id(path),
        "verdict": "ok",
        "messages": messages,
        **UNKNOWN,
        "source": path.name,
    }
    try:
        with open_source(path, row) as source:
            _look(source, row, facts)
        with readable(path.name, facts["format"]):
            facts["sha256"] = formats.sha256(path, row, source.linked)
        _accept(facts)
    except Refused as refusal:
        messages.insert(0, str(refusal))
        facts["verdict"] = "refused"
    if facts["verdict"] == "ok" and messages:
        facts["verdict"] = "warning"
    return facts


def check_labels(
    rows: Sequence[Row],
    volume: Row,
    *,
    classes: Sequence[str],
    colours: labels.Colours | None = None,
    root: str | os.PathLike[str] = ".",
) -> Facts:
    """Look at the labels, or the points, of one volume; nothing can make this fail.

    Parameters
    ----------
    rows
        Rows of labels.tsv of one kind; later ones lie over earlier ones.
    volume
        Row of volumes.tsv.
    classes, colours
        See `labels.code`.
    root
        Folder to which paths are relative.

    Returns
    -------
    dict
        `labels`: file names; `verdict`; `messages`; what `labels.Survey` or
        `labels.convert_points` counts.
    """
    names = ", ".join(tables.locate(row["path"]).name for row in rows)
    try:
        with open_source(tables.locate(volume["path"], root), volume) as source:
            if rows[0].get("kind") == "points":
                return _check_points(rows, source, volume, root)
            return _survey(rows, source, volume, classes, colours, root)
    except Refused as refusal:
        return {"labels": names, "verdict": "refused", "messages": [str(refusal)]}


def _survey(
    rows: Sequence[Row],
    source: Source,
    volume: Row,
    classes: Sequence[str],
    colours: labels.Colours | None,
    root: str | os.PathLike[str],
) -> Facts:
    survey = labels.Survey(rows, classes)
    target = _target(source, volume)
    for _, said in labels.on_grid(rows, target, survey.remarks, classes, colours, root):
        survey.count(said)
    return survey.facts()


def _target(source: Source, row: Row) -> labels.Target:
    taken = _taken(source, row)
    edges = taken.voxel_nm(source.voxel_nm or (math.nan,) * 3)
    return labels.Target(taken, edges, source.z, source.first)


def _taken(source: Source, row: Row) -> Steps:
    return steps.read(row, source.shape, source.name, sparse=source.z is not None)


def _check_points(
    rows: Sequence[Row], source: Source, volume: Row, root: str | os.PathLike[str]
) -> Facts:
    target, name = _target(source, volume), volume.get("volume", "")
    found = [
        labels.follow(row, target, name=name, unbinned=volume, root=root) for row in rows
    ]
    return labels.counted(rows, sum(len(part.positions) for part in found))


def _look(source: Source, row: Row, facts: Facts) -> None:
    facts |= _header(source, row)
    facts["messages"] += _remarks(source)
    _taken(source, row)
    found = _measure(source)
    facts |= found.facts()
    late = [line for line in source.warnings if line not in facts["messages"]]
    facts["messages"] += [*late, *found.doubts()]
    found.refuse_unless_finite()
    if source.coloured and found.few_values:
        raise Refused(
            f"{source.name}: expected grey values, found colours (RGB) of few values:"
            " painted labels? Give them in labels.tsv with the task's colours"
        )


def describe(path: str | os.PathLike[str], **row: str) -> Facts:
    """Measure a bare file, and suggest its row.

    Returns
    -------
    dict
        As from `check`, and `row`: the cells that volumes.tsv needs for this file.
    """
    path = Path(path)
    facts = check({**row, "path": str(path)})
    edges = facts["voxel_nm"]
    said = {name: value for name, value in row.items() if value}
    told = {"voxel_nm": ",".join(f"{edge:g}" for edge in edges)} if edges else {}
    facts["row"] = {
        "volume": facts["volume"],
        "tasks": "",
        "path": str(path),
        **told,
        **said,
    }
    return facts


def volumes_in(path: Path) -> list[Path]:
    """Find the volumes at a path: itself, or all that lie in a folder of volumes.

    A folder of single images is one volume, and so is a header with its voxels beside
    it. Hidden files, the results of a study, and files that no format knows by their
    ending are passed over.
    """
    if not path.is_dir() or _is_one(path):
        return [path]
    made = {"results"} if study.is_study(path) else set()
    names = {entry.name for entry in path.iterdir() if not entry.name.startswith(".")}
    inside = [path / name for name in sorted(names - made)]
    entries = [entry for entry in inside if entry.is_dir() or _known(entry)]
    found = [volume for entry in entries for volume in volumes_in(entry)]
    by_files = {tuple(formats.files(volume)): volume for volume in reversed(found)}
    return sorted(by_files.values())


def _known(path: Path) -> bool:
    return any(reader.FORMAT.fits(path) for reader in formats.readers())


def _is_one(folder: Path) -> bool:
    """Whether a folder is a volume: of a special format, or nothing but single images."""
    if not formats.reader_of(folder).FORMAT.general:
        return True
    known = sorted(filter(_known, folder.iterdir()))
    images = [file for file in known if file.suffix.lower() in slices.ENDINGS]
    if len(images) < 2 or images != known:
        return False
    with contextlib.suppress(Refused), open_source(images[0]) as source:
        return source.shape[0] == 1
    return True


def volume_id(path: Path) -> str:
    """Make a legal id of a file's name."""
    return re.sub(r"[^A-Za-z0-9]+", "-", path.stem).strip("-")[:64] or "volume"


def _header(source: Source, row: Row) -> Facts:
    return {
        "shape": list(source.shape),
        "dtype": str(source.dtype),
        "voxel_nm": list(source.voxel_nm) if source.voxel_nm else None,
        "format": source.format,
        "spacing": int(row["spacing"]) if row.get("spacing", "").isdecimal() else None,
        "origin_nm": list(source.origin_nm),
        "acquisition": dict(source.acquisition),
        "notes": source.notes,
    }


def _remarks(source: Source) -> list[str]:
    """Tell what is odd but can be worked with, as the header shows it."""
    found = list(source.warnings)
    if source.shape[0] == 1:
        found.append(f"{source.name}: one slice only, a 2D image")
    if source.coloured:
        found.append(f"{source.name}: stored in colour (RGB), reduced to grey")
    if source.voxel_nm is None and not np.isnan(source.hint_nm).all():
        part = ", ".join("?" if np.isnan(edge) else f"{edge:g}" for edge in source.hint_nm)
        found.append(f"{source.name}: the file tells only {part} nm (z, y, x)")
    edges = source.voxel_nm
    if edges and max(edges) > 1.01 * min(edges):
        told = " x ".join(f"{edge:g}" for edge in edges)
        found.append(f"{source.name}: voxels are no cubes, {told} nm (z, y, x)")
    if edges and not LEAST_NM <= min(edges) <= max(edges) <= MOST_NM:
        told = ", ".join(f"{edge:g}" for edge in edges)
        found.append(
            f"{source.name}: expected voxels of {LEAST_NM:g} nm to 1 mm, found {told} nm;"
            " see whether voxel_nm was meant in another unit"
        )
    return found


@dataclass
class _Found:
    """What was met on the way through the slices."""

    name: str
    step: int
    minimum: float = math.inf
    maximum: float = -math.inf
    at_maximum: int = 0
    voxels: int = 0
    moments: Moments = field(default_factory=Moments)
    constant: list[int] = field(default_factory=list)
    first_bad: tuple[int, int, int] | None = None
    samples: list[npt.NDArray[np.float64]] = field(default_factory=list)

    def add(self, z: int, image: npt.NDArray[Any]) -> None:
        """Take in slice z, of shape (Y, X), a few rows at a time."""
        rows = max(1, BLOCK_VOXELS // image.shape[1])
        ends = [
            self._add_rows(z, start, image[start : start + rows])
            for start in range(0, image.shape[0], rows)
        ]
        low, high = min(end[0] for end in ends), max(end[1] for end in ends)
        if low == high:
            self.constant.append(z)

    def _add_rows(self, z: int, y: int, rows: npt.NDArray[Any]) -> tuple[float, float]:
        finite = rows
        if rows.dtype.kind == "f" and not (good := np.isfinite(rows)).all():
            finite = rows[good]
            row, x = np.unravel_index(int(np.argmin(good)), rows.shape)
            self.first_bad = self.first_bad or (z, y + int(row), int(x))
        phase = -self.voxels % self.step
        chosen = rows.reshape(-1)[phase :: self.step].astype(np.float64)
        self.samples.append(chosen[np.isfinite(chosen)])
        self.voxels += rows.size
        self.moments.add(finite)
        return self._extremes(finite) if finite.size else (math.inf, -math.inf)

    def _extremes(self, values: npt.NDArray[Any]) -> tuple[float, float]:
        low, high = float(values.min()), float(values.max())
        if high > self.maximum:
            self.maximum, self.at_maximum = high, 0
        if high == self.maximum:
            self.at_maximum += int(np.count_nonzero(values == values.max()))
        self.minimum = min(self.minimum, low)
        return low, high

    @property
    def few_values(self) -> bool:
        """Whether the voxels hold so few values that they look like labels."""
        return np.unique(np.concatenate(self.samples)).size <= FEW_VALUES

    @property
    def saturated(self) -> bool:
        """Whether suspiciously many voxels have the highest value; labels may."""
        many = self.at_maximum > SATURATED * self.moments.count
        return many and not self.few_values

    def facts(self) -> Facts:
        """Say what the voxels are, as far as they are finite."""
        facts: Facts = {"finite_fraction": self.moments.count / self.voxels}
        if not self.moments.count:
            return facts
        levels = np.percentile(np.concatenate(self.samples), PERCENTILES).tolist()
        return facts | {
            "minimum": self.minimum,
            "maximum": self.maximum,
            "percentiles": dict(zip(map(str, PERCENTILES), levels, strict=True)),
            "mean": self.moments.mean,
            "std": self.moments.std,
            "saturated_fraction": self.at_maximum / self.moments.count,
        }

    def doubts(self) -> list[str]:
        """Tell what is odd but can be worked with."""
        lines = []
        if self.constant:
            named = ", ".join(map(str, self.constant[:5]))
            more = f" and {len(self.constant) - 5} more" if self.constant[5:] else ""
            lines.append(f"{self.name}: one value only in slices z = {named}{more}")
        if self.saturated:
            share = 100 * self.at_maximum / self.moments.count
            lines.append(
                f"{self.name}: {share:.0f} % of the voxels have the highest value"
                " (saturated)"
            )
        return lines

    def refuse_unless_finite(self) -> None:
        """Refuse NaN and Inf: one of them makes a network worthless without a word."""
        if self.first_bad:
            raise Refused(
                f"{self.name}: expected finite values, found"
                f" {self.voxels - self.moments.count} NaN or Inf, the first at z, y, x ="
                f" {self.first_bad}; mend or cut the volume"
            )


def _measure(source: Source) -> _Found:
    if source.dtype.kind not in "iuf":
        raise Refused(
            f"{source.name}: expected real numbers, found {source.dtype}; save the volume"
            " itself, not its transform"
        )
    found = _Found(source.name, sampling_step(source.shape, MOST_SAMPLES))
    for z, image in _images(source):
        found.add(z, image)
    return found


def _images(source: Source) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    bytes_per_slice = source.shape[1] * source.shape[2] * source.dtype.itemsize
    for part in slabs(source.shape[0], max(1, min(64, SLAB_BYTES // bytes_per_slice))):
        yield from zip(range(part.start, part.stop), source.read(part), strict=True)


def _accept(facts: Facts) -> None:
    if facts["minimum"] == facts["maximum"]:
        raise Refused(
            f"{facts['source']}: expected an image, found one value everywhere"
            f" ({facts['minimum']:g}); copy the file again"
        )
    if facts["voxel_nm"] is None:
        raise Refused(
            f"{facts['source']}: expected a voxel size, found none in the file or its row;"
            " fill in voxel_nm in volumes.tsv, or say --voxel-nm"
        )
