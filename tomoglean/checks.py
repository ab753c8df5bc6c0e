"""Open and measure a raw volume before any hour is spent on it."""

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tomoglean import formats, tables
from tomoglean.formats import Row, Source, open_source
from tomoglean.formats.moments import Moments
from tomoglean.formats.source import readable
from tomoglean.provenance import Refused
from tomoglean.volumes import slabs

Facts = dict[str, Any]
PERCENTILES = (0.5, 50, 99.5)
MOST_SAMPLES = 1 << 22
SLAB_BYTES = 1 << 28
SATURATED = 0.05
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
        `source` (file name), `format`, `spacing`. What could not be found is None.
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


def _look(source: Source, row: Row, facts: Facts) -> None:
    facts |= _header(source, row)
    facts["messages"] += _remarks(source)
    found = _measure(source)
    facts |= found.facts()
    facts["messages"] += found.doubts()
    found.refuse_unless_finite()


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
    }


def _remarks(source: Source) -> list[str]:
    """Tell what is odd but can be worked with, as the header shows it."""
    found = list(source.warnings)
    if source.shape[0] == 1:
        found.append(f"{source.name}: one slice only, a 2D image")
    if source.coloured:
        found.append(f"{source.name}: stored in colour (RGB), reduced to grey")
    edges = source.voxel_nm
    if edges and max(edges) > 1.01 * min(edges):
        told = " x ".join(f"{edge:g}" for edge in edges)
        found.append(f"{source.name}: voxels are no cubes, {told} nm (z, y, x)")
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
        """Take in slice z, of shape (Y, X)."""
        finite = image
        if image.dtype.kind == "f" and not (good := np.isfinite(image)).all():
            finite = image[good]
            y, x = np.argwhere(~good)[0].tolist()
            self.first_bad = self.first_bad or (z, y, x)
        phase = -self.voxels % self.step
        chosen = image.reshape(-1)[phase :: self.step].astype(np.float64)
        self.samples.append(chosen[np.isfinite(chosen)])
        self.voxels += image.size
        self.moments.add(finite)
        if finite.size:
            self._extremes(z, finite)

    def _extremes(self, z: int, values: npt.NDArray[Any]) -> None:
        low, high = float(values.min()), float(values.max())
        if low == high:
            self.constant.append(z)
        if high > self.maximum:
            self.maximum, self.at_maximum = high, 0
        if high == self.maximum:
            self.at_maximum += int(np.count_nonzero(values == values.max()))
        self.minimum = min(self.minimum, low)

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
            lines.append(
                f"{self.name}: {len(self.constant)} slices hold one value only ({named})"
            )
        if self.at_maximum > SATURATED * self.moments.count:
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
    found = _Found(source.name, sampling_step(source.shape))
    for z, image in _images(source):
        found.add(z, image)
    return found


def _images(source: Source) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    bytes_per_slice = source.shape[1] * source.shape[2] * source.dtype.itemsize
    for part in slabs(source.shape[0], max(1, min(64, SLAB_BYTES // bytes_per_slice))):
        yield from zip(range(part.start, part.stop), source.read(part), strict=True)


def sampling_step(shape: tuple[int, int, int]) -> int:
    """Choose every how manieth voxel serves the percentiles.

    All of them up to four million; beyond, a step without a common factor with the
    length of a row, so that all columns are met alike.
    """
    step = math.ceil(math.prod(shape) / MOST_SAMPLES)
    while math.gcd(step, shape[2]) > 1:
        step += 1
    return step


def _accept(facts: Facts) -> None:
    if facts["minimum"] == facts["maximum"]:
        raise Refused(
            f"{facts['source']}: expected an image, found one value everywhere"
            f" ({facts['minimum']:g}); copy the file again"
        )
    if facts["voxel_nm"] is None:
        raise Refused(
            f"{facts['source']}: expected a voxel size, found none in the file or its row;"
            " fill in voxel_nm in volumes.tsv"
        )
