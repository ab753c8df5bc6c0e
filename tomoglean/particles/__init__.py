"""Read and write points in the files of other programs.

A format is one module in this folder. It is found by itself, chosen by the ending of a
file, and holds

FORMAT
    Its line in the table of formats, a `Format`.
UNIT
    Unit of its positions, `stated` if only the row of the file knows it, empty if it
    depends on the file.
read(path, row)
    The `Particles` of a file, as they stand there.
write(found, path, grid)
    Particles in voxels of a volume, atomically.

Round trips keep positions to 0.01 voxel and axes to 0.5 degrees; an IMOD model has no
axes.
"""

import functools
import importlib
import os
import pkgutil
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from tomoglean import tables
from tomoglean.formats.source import Format, Row, readable
from tomoglean.particles.source import (
    STATED,
    Grid,
    Particles,
    inside,
    of_tomogram,
    particles,
    to_voxels,
)
from tomoglean.provenance import Refused

__all__ = [
    "Grid",
    "Particles",
    "convert",
    "needs_unit",
    "of_picks",
    "points",
    "read",
    "reader_of",
    "readers",
    "write",
]


class Reader(Protocol):
    """What a module of this folder must hold to be a format."""

    FORMAT: Format
    UNIT: str
    __name__: str

    def read(self, path: Path, row: Row) -> Particles:
        """Read the particles of a file."""

    def write(self, found: Particles, path: Path, grid: Grid) -> None:
        """Write particles in voxels of a volume."""


@functools.cache
def readers() -> tuple[Reader, ...]:
    """Find the formats: every module of this folder with a FORMAT."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    return tuple(cast("Reader", module) for module in modules if hasattr(module, "FORMAT"))


def reader_of(path: str | os.PathLike[str]) -> Reader:
    """Choose the format of a file by its ending.

    Raises
    ------
    Refused
        If no format has it.
    """
    path = Path(path)
    for reader in readers():
        if reader.FORMAT.fits(path):
            return reader
    known = ", ".join(ending for reader in readers() for ending in reader.FORMAT.endings)
    raise Refused(
        f"{path.name}: expected points in a file with one of the endings {known}, found"
        f" {path.suffix!r}; convert the file or correct its path"
    )


def needs_unit(path: str | os.PathLike[str]) -> bool:
    """Tell whether the row of a file must say its unit, because its format does not."""
    return reader_of(path).UNIT == STATED


def read(path: str | os.PathLike[str], row: Row | None = None) -> Particles:
    """Read the particles of a file as they stand there.

    Parameters
    ----------
    path
        The file.
    row
        What labels.tsv says of it: `tomogram`; empty = not said.

    Raises
    ------
    Refused
        If the file is missing, damaged, of no known format, or holds several tomograms
        of which none is chosen.
    """
    path, row = Path(path), row or {}
    reader = reader_of(path)
    if not path.is_file():
        raise Refused(
            f"{path.name}: expected a file of points, found none; correct the path"
        )
    with readable(path.name, reader.FORMAT.name):
        found = reader.read(path, row)
    return of_tomogram(found, row.get("tomogram", ""), path.name)


def points(path: str | os.PathLike[str], row: Row, grid: Grid) -> Particles:
    """Read particles in voxels of their volume; centres of voxels have whole numbers.

    Parameters
    ----------
    path
        The file.
    row
        What labels.tsv says of it: `unit`, `tomogram`, `pixel_nm`, and `task`, which is
        the class of particles without one.
    grid
        The volume.

    Raises
    ------
    Refused
        See `read` and `source.to_voxels`; also if a point lies outside the volume.
    """
    name = Path(path).name
    found = read(path, row)
    places = to_voxels(found, row, grid, name)
    inside(places, grid.shape, found, name)
    return particles(
        places,
        found.normals,
        classes=[label or row.get("task", "") for label in found.classes],
        scores=found.scores,
    )


def write(found: Particles, path: str | os.PathLike[str], grid: Grid) -> None:
    """Write particles in voxels of a volume; the ending of the path chooses the format."""
    path = Path(path)
    reader_of(path).write(found, path, grid)


def of_picks(picks: tables.Picks, label: str = "") -> Particles:
    """Turn picks into particles of one class."""
    return particles(
        np.asarray(picks.positions),
        np.asarray(picks.normals),
        classes=[label] * len(picks),
        scores=picks.scores,
    )


def convert(
    path: str | os.PathLike[str],
    target: str | os.PathLike[str],
    row: Row,
    grid: Grid,
) -> int:
    """Convert a file of points from one program to another.

    Parameters
    ----------
    path, target
        Files whose endings tell their formats.
    row, grid
        See `points`.

    Returns
    -------
    int
        Number of particles.

    Raises
    ------
    Refused
        See `points`; also if the target's format cannot hold them.
    """
    found = points(path, row, grid)
    write(found, target, grid)
    return len(found)
