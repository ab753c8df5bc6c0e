"""TIFF with one or many pages, ImageJ stacks and OME-TIFF included.

Where 0 stands for white the grey scale is turned round to what viewers show: the TIFF 6.0
specification asks for it, and Bio-Formats does so; ImageJ keeps the numbers and inverts
its lookup table, tifffile keeps the numbers.
"""

import contextlib
import logging
import math
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from tomoglean.formats import tags
from tomoglean.formats.lengths import in_nm, positive
from tomoglean.formats.source import UNKNOWN, Array, Format, Row, Source, Triple, native
from tomoglean.provenance import Refused

FORMAT = Format(
    "TIFF",
    (".tif", ".tiff"),
    "one or many pages, BigTIFF, tiled, compressed without loss, both byte orders, 1 bit,"
    " white as 0 (turned round); voxel size of ImageJ and OME-TIFF",
    "tifffile",
)
MOST_XML = 1 << 24
MIN_IS_WHITE = 0
PALETTE = 3
MOST_CHANNELS = 7  # of an ImageJ composite; more of them are slices saved so


def recognises(path: Path, row: Row) -> bool:
    """Tell files of the format by their ending."""
    return FORMAT.fits(path)


@contextlib.contextmanager
def open_file(path: Path, row: Row) -> Iterator[Source]:
    """Open a TIFF file; all pages must be alike, complete, and form one stack.

    Files that an OME-TIFF or Micro-Manager names beside itself are never opened.
    """
    tags.verify(path)
    with contextlib.ExitStack() as stack:
        with _complaints(path) as warnings:
            file = stack.enter_context(
                tifffile.TiffFile(path, is_ome=False, is_micromanager=False)
            )
            shape, pages = _stack(file, path)
            page = file.pages.first
            ome = _ome(page, path)
            _agrees(file, ome, shape, path)
            warnings += _oddities(page, path)
            warnings += _so_called_channels(file, path)

        def read(part: slice) -> Array:
            if not pages:
                return _turned(_read_plain(file, path, shape, part), page)
            with _complaints(path):
                return _read_pages(pages[part])

        coloured = len(_plane(page)) == 3 or page.photometric == PALETTE
        dtype = native(np.uint8 if page.photometric == PALETTE else page.dtype or "V")
        hint_nm = _ome_voxel_nm(ome) if ome else _voxel_nm(file)
        yield Source(
            path.name,
            shape,
            dtype,
            read,
            hint_nm,
            coloured=coloured,
            origin_nm=_origin_nm(file, hint_nm),
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


def _read_pages(pages: list[Any]) -> Array:
    """Read pages one by one into one array."""
    first = _read_page(pages[0])
    images = np.empty((len(pages), *first.shape), first.dtype)
    images[0] = first
    del first
    for number, page in enumerate(pages[1:], 1):
        images[number] = _read_page(page)
    return images


def _read_page(page: Any) -> Array:
    """Read one page as (Y, X) or (Y, X, 3)."""
    image = np.asarray(page.asarray())
    if page.keyframe.photometric == PALETTE:
        palette = (page.keyframe.colormap >> 8).astype(np.uint8)
        return np.ascontiguousarray(palette.T[image])
    if page.keyframe.axes == "SYX":
        image = np.moveaxis(image, 0, -1)
    return _turned(_without_alpha(image, image.ndim), page.keyframe)


def _turned(image: Array, page: Any) -> Array:
    """Turn the grey scale round where 0 stands for white."""
    if not _white_is_zero(page):
        return image
    if image.dtype.kind == "b":
        return ~image
    top = image.dtype.type((1 << page.bitspersample) - 1)
    return np.asarray(top - image)


def _white_is_zero(page: Any) -> bool:
    return page.photometric == MIN_IS_WHITE and page.dtype.kind in "bu"


def _oddities(page: Any, path: Path) -> list[str]:
    found = []
    if page.photometric == MIN_IS_WHITE:
        done = "turned round, as viewers show them" if _white_is_zero(page) else "kept"
        found.append(f"{path.name}: stored with 0 as white; the values are {done}")
    y, x = _resolution(page)[::-1]
    if abs(y - x) > 0.01 * max(y, x):
        found.append(f"{path.name}: its pixels are not square ({x:g} x {y:g} a unit)")
    return found


def _so_called_channels(file: Any, path: Path) -> list[str]:
    channels = (file.imagej_metadata or {}).get("channels", 1)
    if channels <= MOST_CHANNELS or len(_plane(file.pages.first)) != 2:
        return []
    return [f"{path.name}: its {channels} slices are called channels; taken as z"]


def _resolution(page: Any) -> tuple[float, float]:
    """Return the pixels a unit along x and y, 0 where there are none."""
    found = [page.tags.valueof(code) or (0, 1) for code in ("XResolution", "YResolution")]
    x, y = (above / below if below else 0.0 for above, below in found)
    return x, y


def _voxel_nm(file: Any) -> Triple:
    """Read the voxel size that ImageJ leaves in its files; other tags mean printers."""
    told = file.imagej_metadata or {}
    unit_nm = in_nm(told.get("unit"))
    x, y = _resolution(file.pages.first)
    if not unit_nm > 0 or min(x, y) <= 0:
        return UNKNOWN
    z = positive(told.get("spacing")) * unit_nm
    return z, unit_nm / y, unit_nm / x


def _origin_nm(file: Any, voxel_nm: Triple) -> Triple:
    """Read the origin of ImageJ, given in voxels: where the file counts from."""
    told = file.imagej_metadata or {}
    found = [told.get(f"{axis}origin", 0.0) for axis in "zyx"]
    if np.isnan(voxel_nm).any() or not all(isinstance(n, int | float) for n in found):
        return 0.0, 0.0, 0.0
    z, y, x = (-float(n) * edge for n, edge in zip(found, voxel_nm, strict=True))
    return z, y, x


def _agrees(
    file: Any, ome: Mapping[str, str], shape: tuple[int, int, int], path: Path
) -> None:
    """Refuse a stack that is not what its own description says."""
    imagej = file.imagej_metadata or {}
    told = imagej.get("images", shape[0])
    channels = imagej.get("channels", 1)
    if 1 < channels <= MOST_CHANNELS and len(_plane(file.pages.first)) == 2:
        raise Refused(
            f"{path.name}: expected one stack (Z, Y, X), found {channels} channels; write"
            " one channel a file"
        )
    sizes = {axis: int(ome.get(f"Size{axis}", 1)) for axis in "CTZ"} if ome else {}
    coloured = ome and file.pages.first.samplesperpixel == sizes["C"]
    if sizes and (sizes["T"], 1 if coloured else sizes["C"]) != (1, 1):
        raise Refused(
            f"{path.name}: expected one stack (Z, Y, X), found {sizes['T']} time points of"
            f" {sizes['C']} channels; write one stack a file"
        )
    if (sizes.get("Z", shape[0]), told) != (shape[0], shape[0]):
        raise Refused(
            f"{path.name}: expected the {sizes.get('Z', told)} pages of its description,"
            f" found {shape[0]}; copy the file again, or all files of the set as one"
        )


def _ome(page: Any, path: Path) -> dict[str, str]:
    """Read what OME-XML says of the first image; DOCTYPEs (entities) are refused.

    The schema: https://www.openmicroscopy.org/Schemas/OME/2016-06.
    """
    text = page.description
    if not text.rstrip().endswith("OME>"):
        return {}
    if len(text) > MOST_XML or "<!" in text.replace("<!--", ""):
        raise Refused(
            f"{path.name}: expected plain OME-XML of at most 16 MiB, found a DOCTYPE or"
            f" {len(text)} letters; write the file again without it"
        )
    root = ET.fromstring(text.encode())  # noqa: S314 - no DOCTYPE, so no entities
    images = [node for node in root.iter() if node.tag.rpartition("}")[2] == "Pixels"]
    if len(images) != 1:
        raise Refused(
            f"{path.name}: expected one image in its OME-XML, found {len(images)}; write"
            " one stack a file"
        )
    return dict(images[0].attrib)


def _ome_voxel_nm(ome: Mapping[str, str]) -> Triple:
    z, y, x = (
        positive(ome.get(f"PhysicalSize{axis}"))
        * in_nm(ome.get(f"PhysicalSize{axis}Unit", "µm"))
        for axis in "ZYX"
    )
    return z, y, x
