"""Write TIFF stacks with the voxel size where ImageJ keeps it.

The description of ImageJ (tag 270: unit, spacing, origin) and the resolution tags are read
by Fiji, Bio-Formats, Dragonfly and tifffile. Above 4 GB the file is a BigTIFF with the
same description: ImageJ itself cannot open those, Fiji opens them with Bio-Formats.
"""

import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from tomoglean.formats import writing
from tomoglean.formats.source import Array, Source
from tomoglean.provenance import replacing

WRITES = (".tif", ".tiff")
STORED = {
    **{name: name for name in ("uint8", "uint16", "int16", "int32", "uint32", "float32")},
    "int8": "int16",
    "int64": "int32",
    "uint64": "uint32",
    "float16": "float32",
    "float64": "float32",
}
LARGEST_CLASSIC = (1 << 32) - (1 << 24)
MICRON_NM = 1000.0
MICRON_FROM_NM = 100.0
IGNORE = 255


def write(source: Source, path: Path) -> None:
    """Write a volume as a stack of pages; bytes are deflated, all else is plain.

    The same volume gives the same bytes. Whole numbers beyond 32 bits are refused.

    Raises
    ------
    Refused
        If the voxel size is unknown or a value does not fit.
    """
    dtype = writing.stored_dtype(source, STORED, "TIFF")
    deflated = dtype == np.uint8
    size = math.prod(source.shape) * dtype.itemsize
    with (
        replacing(path) as partial,
        tifffile.TiffWriter(partial, bigtiff=size > LARGEST_CLASSIC, byteorder="<") as file,
    ):
        pages = _pages(source, dtype)
        file.write(
            _deflated(pages) if deflated else pages,
            shape=source.shape,
            dtype=dtype,
            compression="adobe_deflate" if deflated else None,
            rowsperstrip=source.shape[1],
            photometric="minisblack",
            metadata=None,
            software="tomoglean",
            **_description(source),
        )


def _pages(source: Source, dtype: np.dtype[Any]) -> Iterator[Array]:
    for block in writing.slabs(source):
        yield from np.ascontiguousarray(writing.cast(block, dtype, source.name))


def _deflated(pages: Iterator[Array]) -> Iterator[bytes]:
    return (zlib.compress(page.data, 6) for page in pages)


def _description(source: Source) -> dict[str, Any]:
    """Write ImageJ's description; its origin is the place of the zero, in voxels."""
    edges_nm = writing.voxel_nm(source)
    unit, unit_nm = (
        ("micron", MICRON_NM) if max(edges_nm) >= MICRON_FROM_NM else ("nm", 1.0)
    )
    z, y, x = (edge / unit_nm for edge in edges_nm)
    lines = [
        "ImageJ=1.54f",
        f"images={source.shape[0]}",
        f"slices={source.shape[0]}",
        f"unit={unit}",
        f"spacing={z:.9g}",
        "loop=false",
        *_shown(source),
    ]
    pairs = zip("xyz", source.origin_nm[::-1], edges_nm[::-1], strict=True)
    lines += [f"{axis}origin={0 - at / edge:.9g}" for axis, at, edge in pairs if at]
    lines += [f"label {line}" for line in writing.legend(source)]
    return {
        "description": "\n".join([*lines, ""]),
        "resolution": (1 / x, 1 / y),
        "resolutionunit": "none",
    }


def _shown(source: Source) -> list[str]:
    """Let Fiji show labels from the first class to the last, not nearly black."""
    highest = max((value for value in source.materials if value != IGNORE), default=0)
    return ["min=0", f"max={highest}"] if highest else []
