"""TIFF with one or many pages, ImageJ stacks included."""

import contextlib
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from tomoglean.formats.source import UNKNOWN, Array, Format, Row, Source, Triple, native
from tomoglean.provenance import Refused

FORMAT = Format(
    "TIFF",
    (".tif", ".tiff"),
    "one or many pages, BigTIFF, tiled, compressed, both byte orders, 1 bit, ImageJ stacks",
    "tifffile",
)
UNITS_NM = {"nm": 1, "micron": 1e3, "um": 1e3, "µm": 1e3, "\\u00B5m": 1e3, "mm": 1e6}
MIN_IS_WHITE = 0
PALETTE = 3


def recognises(path: Path, row: Row) -> bool:
    """Tell files of the format by their ending."""
    return FORMAT.fits(path)


@contextlib.contextmanager
def open_file(path: Path, row: Row) -> Iterator[Source]:
    """Open a TIFF file; all pages must be alike, complete, and form one stack."""
    with contextlib.ExitStack() as stack:
        with _complaints(path) as warnings:
            file = stack.enter_context(tifffile.TiffFile(path))
            shape, pages = _stack(file, path)
            page = file.pages.first
            warnings += _oddities(page, path)

        def read(part: slice) -> Array:
            if not pages:
                return _read_plain(file, path, shape, part)
            with _complaints(path):
                return np.stack([_read_page(page) for page in pages[part]])

        coloured = len(_plane(page)) == 3 or page.photometric == PALETTE
        dtype = native(np.uint8 if page.photometric == PALETTE else page.dtype or "V")
        yield Source(
            path.name,
            shape,
            dtype,
            read,
            _voxel_nm(file),
            coloured=coloured,
            warnings=warnings,
        )


class _Keeping(logging.Handler):
    """Keep log records instead of showing them."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record."""
        self.records.append(record)


@contextlib.contextmanager
def _complaints(path: Path) -> Iterator[list[str]]:
    """Take tifffile at its word: what it only logs as an error is damage."""
    handler = _Keeping(logging.WARNING)
    logger, lines = logging.getLogger("tifffile"), list[str]()
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
    for record in handler.records:
        found = record.getMessage().rpartition("> ")[2]
        if record.levelno >= logging.ERROR:
            raise Refused(
                f"{path.name}: expected a complete TIFF file, found damage ({found});"
                " copy the file again"
            )
        lines.append(f"{path.name}: {found}")


def _plane(page: Any) -> tuple[int, ...]:
    """Return the shape of a page: (Y, X), or (Y, X, samples) in colour."""
    return tuple(size for size, _ in _sizes(page))


def _sizes(page: Any) -> list[tuple[int, str]]:
    sizes = list(zip(page.shape, page.axes, strict=True))
    return sorted(sizes, key=lambda size: size[1] == "S")


def _stack(file: Any, path: Path) -> tuple[tuple[int, int, int], list[Any]]:
    """Return shape and pages of the only stack; no pages if its voxels lie in a row."""
    series, first = file.series, file.pages.first
    kinds = {(part.keyframe.shape, part.keyframe.dtype) for part in series}
    if len(kinds) > 1 or "".join(axis for _, axis in _sizes(first)) not in {"YX", "YXS"}:
        found = "; ".join(f"{shape} {dtype}" for shape, dtype in sorted(kinds, key=str))
        raise Refused(
            f"{path.name}: expected pages of one shape and dtype, found {found};"
            " write it again as one stack"
        )
    leading = series[0].shape[: -len(first.shape)]
    if sum(edge > 1 for edge in leading) > 1 or (len(series) > 1 and leading):
        raise Refused(
            f"{path.name}: expected one stack (Z, Y, X), found the axes"
            f" {series[0].axes} with the shape {series[0].shape}; write one stack a file"
        )
    _complete(file, path)
    y, x = _plane(first)[:2]
    if len(series) == 1 and _lies_in_a_row(series[0]):
        return (math.prod(leading), y, x), []
    pages = [page for part in series for page in part.pages]
    return (len(pages), y, x), pages


def _lies_in_a_row(series: Any) -> bool:
    page = series.keyframe
    simple = page.axes in {"YX", "YXS"} and page.photometric != PALETTE
    return series.dataoffset is not None and simple


def _complete(file: Any, path: Path) -> None:
    """Refuse files that end before their voxels do."""
    size = path.stat().st_size
    for part in file.series:
        ends = [0 if part.dataoffset is None else part.dataoffset + part.nbytes]
        for page in filter(None, part.pages):
            pairs = zip(page.dataoffsets, page.databytecounts, strict=True)
            ends.extend(offset + count for offset, count in pairs)
        if max(ends) > size:
            raise Refused(
                f"{path.name}: expected {max(ends)} bytes, found {size}; the file is cut"
                " off: copy it again"
            )


def _read_plain(file: Any, path: Path, shape: tuple[int, int, int], part: slice) -> Array:
    plane = _plane(file.pages.first)
    dtype = file.series[0].dtype.newbyteorder(file.byteorder)
    start, stop, _ = part.indices(shape[0])
    voxels = math.prod(plane)
    offset = file.series[0].dataoffset + start * voxels * dtype.itemsize
    flat = np.fromfile(path, dtype, (stop - start) * voxels, offset=offset)
    return _without_alpha(flat.reshape(stop - start, *plane), len(plane))


def _without_alpha(images: Array, page_axes: int) -> Array:
    return images[..., :3] if page_axes == 3 else images


def _read_page(page: Any) -> Array:
    """Read one page as (Y, X) or (Y, X, 3)."""
    image = np.asarray(page.asarray())
    if page.keyframe.photometric == PALETTE:
        palette = (page.keyframe.colormap >> 8).astype(np.uint8)
        return np.ascontiguousarray(palette.T[image])
    if page.keyframe.axes == "SYX":
        image = np.moveaxis(image, 0, -1)
    return _without_alpha(image, image.ndim)


def _oddities(page: Any, path: Path) -> list[str]:
    found = []
    if page.photometric == MIN_IS_WHITE:
        found.append(f"{path.name}: stored with 0 as white; the values are kept")
    y, x = page.resolution[::-1]
    if abs(y - x) > 0.01 * max(y, x):
        found.append(f"{path.name}: its pixels are not square ({x:g} x {y:g} a unit)")
    return found


def _voxel_nm(file: Any) -> Triple:
    """Read the voxel size that ImageJ leaves in its files; other tags mean printers."""
    told = file.imagej_metadata or {}
    unit_nm = UNITS_NM.get(str(told.get("unit")), 0)
    x, y = file.pages.first.resolution
    if not unit_nm or min(x, y) <= 0:
        return UNKNOWN
    spacing = told.get("spacing", math.nan)
    z = float(spacing) * unit_nm if isinstance(spacing, int | float) else math.nan
    return z if z > 0 else math.nan, unit_nm / y, unit_nm / x
