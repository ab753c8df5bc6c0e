"""Read raw volumes of foreign formats, slab by slab.

A format is one module in this folder. It is found by itself and holds

FORMAT
    Its line in the table of formats, a `Format`.
recognises(path, row)
    Whether a file or folder is its own; of two that claim it the special one reads.
open_file(path, row)
    Context manager that yields a `Source`.
files(path, row)
    Only where voxels lie in other files than `path`: all that are read.
USES
    Only where it runs modules by name, as in a child process: their full names.
write(source, path)
    Only where the format is also written: a `Source` that has its `voxel_nm`, slab by
    slab, atomically, with voxel size and origin. A module that only writes (`write_mrc`)
    has instead of FORMAT the endings it writes, WRITES.
"""

import contextlib
import errno
import functools
import importlib
import math
import os
import pkgutil
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, cast

import numpy as np

from tomoglean.formats.holes import refuse_holes
from tomoglean.formats.source import (
    MOST_BYTES_PER_SLICE,
    Format,
    Row,
    Source,
    parse_shape,
    parse_triple,
    readable,
)
from tomoglean.formats.writing import voxel_nm
from tomoglean.provenance import Refused, key, sha256_of_file

__all__ = [
    "Format",
    "Reader",
    "Row",
    "Source",
    "files",
    "open_source",
    "reader_of",
    "readers",
    "sha256",
    "write",
    "writer_of",
]

VOXEL_TOLERANCE = 0.01
POINTS = (".star", ".tbl", ".mod", ".csv", ".tsv", ".json")
LFS = b"version https://git-lfs"


class Reader(Protocol):
    """What a module of this folder must hold to be a format."""

    FORMAT: Format
    __name__: str

    def recognises(self, path: Path, row: Row) -> bool:
        """Tell whether a file or folder is of this format."""

    def open_file(self, path: Path, row: Row) -> contextlib.AbstractContextManager[Source]:
        """Open a file of this format."""


class Writer(Protocol):
    """What a module of this folder must hold to write a format."""

    __name__: str

    def write(self, source: Source, path: Path) -> None:
        """Write a volume."""


@functools.cache
def _modules() -> tuple[ModuleType, ...]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return tuple(importlib.import_module(f"{__name__}.{name}") for name in names)


@functools.cache
def readers() -> tuple[Reader, ...]:
    """Find the formats: every module of this folder with a FORMAT, general ones last."""
    found = [cast("Reader", module) for module in _modules() if hasattr(module, "FORMAT")]
    return tuple(sorted(found, key=lambda reader: reader.FORMAT.general))


def reader_of(path: str | os.PathLike[str], row: Row | None = None) -> Reader:
    """Choose the format of a file.

    Raises
    ------
    Refused
        If no format recognises it.
    """
    path = Path(path)
    for reader in readers():
        if reader.recognises(path, row or {}):
            return reader
    known = ", ".join(reader.FORMAT.name for reader in readers())
    points = path.suffix.lower() in POINTS
    do = "points go into labels.tsv" if points else "convert the file or correct its path"
    raise Refused(
        f"{path.name}: expected one of {known}, found the ending {path.suffix!r}; {do}"
    )


def files(path: str | os.PathLike[str], row: Row | None = None) -> list[Path]:
    """List the files a volume is read from, in a fixed order; their bytes identify it.

    A folder counts with everything in it, unless its format knows better. None of them
    need exist.
    """
    path, row = Path(path), row or {}
    with contextlib.suppress(Refused), readable(path.name, "its files"):
        if listing := getattr(reader_of(path, row), "files", None):
            return [Path(file) for file in listing(path, row)]
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    return [path]


def sha256(
    path: str | os.PathLike[str],
    row: Row | None = None,
    linked: Iterable[str | os.PathLike[str]] = (),
) -> str:
    """Hash the bytes of a volume: of its one file, or of the list of all its files.

    Parameters
    ----------
    path, row
        See `files`.
    linked
        Further files, as an open `Source` lists them.
    """
    path = Path(path)
    parts = list(dict.fromkeys([*files(path, row), *map(Path, linked)]))
    if parts == [path]:
        return sha256_of_file(path)
    base = path if path.is_dir() else path.parent
    return key(*[(os.path.relpath(part, base), sha256_of_file(part)) for part in parts])


@contextlib.contextmanager
def open_source(path: str | os.PathLike[str], row: Row | None = None) -> Iterator[Source]:
    """Open a raw volume of any known format without reading its voxels.

    Parameters
    ----------
    path
        File, or folder of slices.
    row
        What volumes.tsv or labels.tsv says of it: `dataset`, `shape`, `dtype`,
        `header_bytes`, `byte_order`, `voxel_nm`, `spacing`; empty = not said.

    Yields
    ------
    Source
        Voxel sizes of the row go before those of the file.

    Raises
    ------
    Refused
        If the file is missing, damaged, of no known format, or not as its row says.
    """
    path, row = Path(path), row or {}
    with readable(path.name, "file or folder"):
        _exists(path)
        reader = reader_of(path, row)
    with contextlib.ExitStack() as stack:
        with readable(path.name, reader.FORMAT.name):
            source = stack.enter_context(reader.open_file(path, row))
        source.format = reader.__name__.rpartition(".")[2]
        _agrees(source, row)
        source.voxel_nm = _voxel_nm(source, row)
        yield source


def _exists(path: Path) -> None:
    if not (path.is_file() or path.is_dir()):
        raise Refused(
            f"{path.name}: expected a file or folder, found none; correct the path"
        )
    if path.is_dir():
        return
    with readable(path.name, "bytes"), path.open("rb") as file:
        start = file.read(len(LFS))
    if not start:
        raise Refused(f"{path.name}: expected data, found 0 bytes; copy the file again")
    if start == LFS:
        raise Refused(
            f"{path.name}: expected data, found a Git LFS pointer; run `git lfs pull`"
        )
    refuse_holes(path)


def _is_dtype(text: str, dtype: np.dtype[Any]) -> bool:
    try:
        return np.dtype(text).newbyteorder("=") == dtype
    except TypeError:
        return False


def _agrees(source: Source, row: Row) -> None:
    if text := row.get("shape"):
        shape = parse_shape(text, f"{source.name}: shape")
        if shape != source.shape:
            raise Refused(
                f"{source.name}: expected the shape {shape} of its row, found"
                f" {source.shape}; correct the row or the file"
            )
    if (text := row.get("dtype")) and not _is_dtype(text, source.dtype):
        raise Refused(
            f"{source.name}: expected the dtype {text} of its row, found"
            f" {source.dtype}; correct the row or the file"
        )
    if min(source.shape) < 1:
        raise Refused(
            f"{source.name}: expected voxels, found the shape {source.shape};"
            " copy the file again"
        )
    if source.shape[1] * source.shape[2] * source.dtype.itemsize > MOST_BYTES_PER_SLICE:
        raise Refused(
            f"{source.name}: expected slices of at most 256 MiB, found"
            f" {source.shape[1]} x {source.shape[2]} {source.dtype}; cut the volume"
        )


def _voxel_nm(source: Source, row: Row) -> tuple[float, float, float] | None:
    hint = np.array(source.hint_nm)
    text = row.get("voxel_nm")
    if not text:
        return None if np.isnan(hint).any() else source.hint_nm
    said = parse_triple(text, f"{source.name}: voxel_nm")
    if np.any(np.abs(hint / said - 1) > VOXEL_TOLERANCE):
        told = ", ".join("?" if np.isnan(edge) else f"{edge:g}" for edge in hint)
        source.warnings.append(
            f"{source.name}: the file says voxels of {told} nm (z, y, x), volumes.tsv"
            f" {', '.join(f'{edge:g}' for edge in said)} nm; used is volumes.tsv"
        )
    return said


# -- out -----------------------------------------------------------------------------


def writer_of(path: str | os.PathLike[str]) -> Writer:
    """Choose the module that writes a file by its ending.

    Raises
    ------
    Refused
        If no format with this ending is written.
    """
    name = Path(path).name
    for endings, writer in _writers().items():
        if name.lower().endswith(endings):
            return writer
    known = ", ".join(ending for endings in _writers() for ending in endings)
    raise Refused(
        f"{name}: expected one of the endings {known}, found {Path(path).suffix!r};"
        " choose one of these"
    )


def is_written(line: Format) -> bool:
    """Whether volumes can be written in a format, not only read."""
    return any(set(endings) & set(line.endings) for endings in _writers())


@functools.cache
def _writers() -> dict[tuple[str, ...], Writer]:
    found = {}
    for module in _modules():
        endings = getattr(module, "WRITES", None)
        if endings is None and hasattr(module, "FORMAT"):
            endings = module.FORMAT.endings
        if endings and hasattr(module, "write"):
            found[endings] = cast("Writer", module)
    return found


def write(source: Source, path: str | os.PathLike[str]) -> None:
    """Write a volume in the format of the file's ending, as a whole or not at all.

    Raises
    ------
    Refused
        If the ending or the voxel size is unknown, a value does not fit the format, or
        the disk is too small.
    """
    path = Path(path)
    writer = writer_of(path)
    voxel_nm(source)
    path.parent.mkdir(parents=True, exist_ok=True)
    needed = math.prod(source.shape) * source.dtype.itemsize
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise _too_small(path, needed, f"{free / 1e9:.3g} GB")
    try:
        writer.write(source, path)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise _too_small(path, needed, os.strerror(error.errno)) from error


def _too_small(path: Path, needed: int, found: str) -> Refused:
    return Refused(
        f"{path.name}: expected about {needed / 1e9:.3g} GB of free disk, found {found};"
        " free some, or write elsewhere"
    )
