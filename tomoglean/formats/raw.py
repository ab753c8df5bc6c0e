"""Plain voxels without a header, as the row declares them."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tomoglean.formats.source import (
    Array,
    Format,
    Row,
    Source,
    mapped,
    native,
    parse_shape,
)
from tomoglean.provenance import Refused

FORMAT = Format(
    "raw",
    (".raw", ".vol", ".bin", ".dat"),
    "plain voxels; the columns shape and dtype (header_bytes, byte_order) declare them",
    general=True,
)
BYTE_ORDERS: dict[str, Literal["<", ">"]] = {"": "<", "little": "<", "big": ">"}


def recognises(path: Path, row: Row) -> bool:
    """Tell files of the format by their ending; special formats were asked before."""
    return FORMAT.fits(path)


@contextlib.contextmanager
def open_file(path: Path, row: Row) -> Iterator[Source]:
    """Open a raw file: its size must be exactly what shape, dtype and header demand."""
    if not row.get("shape") or not row.get("dtype"):
        raise Refused(
            f"{path.name}: expected the columns shape (z,y,x) and dtype for a raw file,"
            " found none; fill them in"
        )
    shape = parse_shape(row["shape"], f"{path.name}: shape")
    dtype = _dtype(path, row)
    offset = _header_bytes(path, row)
    data = exactly(path, shape, dtype, offset, "correct shape, dtype or header_bytes, or")
    yield Source(path.name, shape, native(dtype), lambda part: np.array(data[part]))


def _dtype(path: Path, row: Row) -> np.dtype[Any]:
    said = row.get("byte_order") or {"<": "little", ">": "big"}.get(row["dtype"][:1], "")
    order = BYTE_ORDERS.get(said)
    try:
        dtype = np.dtype(row["dtype"])
    except TypeError:
        dtype = np.dtype(object)
    contradicted = row["dtype"][0] in "<>" and row["dtype"][0] != order
    if order is None or contradicted or dtype.kind not in "iuf":
        raise Refused(
            f"{path.name}: expected dtype such as uint16 or float32 and byte_order little"
            f" or big, found {row['dtype']!r}, {row.get('byte_order')!r}; correct the row"
        )
    return dtype.newbyteorder(order)


def _header_bytes(path: Path, row: Row) -> int:
    text = row.get("header_bytes") or "0"
    if not text.isdecimal():
        raise Refused(
            f"{path.name}: expected header_bytes as a whole number, found {text!r};"
            " correct the row"
        )
    return int(text)


def lies_beside(voxels: Path, header: Path) -> bool:
    """Tell whether voxels lie in the folder of their header, wherever links lead to."""
    folders = (header.absolute().parent.resolve(), header.resolve().parent)
    return voxels.is_file() and voxels.resolve().parent in folders


def exactly(
    path: Path,
    shape: tuple[int, int, int],
    dtype: np.dtype[Any],
    offset: int = 0,
    advice: str = "its header is wrong or the file cut off:",
) -> Array:
    """Map voxels that lie plain in a file, which must end with the last of them.

    Raises
    ------
    Refused
        If the file has not exactly the bytes that shape, dtype and offset demand.
    """
    expected = offset + math.prod(shape) * dtype.itemsize
    found = path.stat().st_size
    if min(shape) < 1 or found != expected:
        raise Refused(
            f"{path.name}: expected {expected} bytes for {shape} voxels of {dtype.name}"
            f" after {offset} header bytes, found {found}; {advice} copy the file again"
        )
    return mapped(path, shape, dtype, offset)
