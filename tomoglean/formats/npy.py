"""NumPy arrays (.npy), mapped and never unpickled.

https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tomoglean.formats.raw import exactly
from tomoglean.formats.source import Array, Format, Row, Source, native
from tomoglean.provenance import Refused

FORMAT = Format(
    "NumPy",
    (".npy", ".npz"),
    "one array (z, y, x) of numbers, C or Fortran order, both byte orders; .npz is refused",
    "numpy",
)
MOST_HEADER_BYTES = 1 << 16
READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def recognises(path: Path, row: Row) -> bool:
    """Tell files of the format by their ending."""
    return FORMAT.fits(path)


@contextlib.contextmanager
def open_file(path: Path, row: Row) -> Iterator[Source]:
    """Open a .npy file; an array of two axes is one slice."""
    if path.suffix.lower() == ".npz":
        raise Refused(
            f"{path.name}: expected one array, found an archive (.npz); save the volume by"
            " itself with numpy.save"
        )
    data = _map(path)
    yield Source(
        path.name,
        (data.shape[0], data.shape[1], data.shape[2]),
        native(data.dtype),
        lambda part: np.array(data[part]),
    )


def _map(path: Path) -> Array:
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        if version not in READERS:
            raise Refused(
                f"{path.name}: expected version 1.0 or 2.0 of the format, found"
                f" {version[0]}.{version[1]}; save the volume as plain numbers"
            )
        length = int.from_bytes(file.read(2 * version[0]), "little")
        if length > MOST_HEADER_BYTES:  # numpy would read it whole and refuse it then
            raise Refused(
                f"{path.name}: expected a header of at most 64 KiB, found {length} bytes;"
                " copy the file again"
            )
        file.seek(np.lib.format.MAGIC_LEN)
        shape, fortran, dtype = READERS[version](file)
        offset = file.tell()
    _refuse_unless_volume(path, shape, dtype)
    z, y, x = (1,) * (3 - len(shape)) + shape
    if fortran:
        return exactly(path, (x, y, z), dtype, offset).T
    return exactly(path, (z, y, x), dtype, offset)


def _refuse_unless_volume(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if len(shape) not in {2, 3} or dtype.kind not in "biufc":
        raise Refused(
            f"{path.name}: expected numbers with the axes z, y, x, found the shape {shape},"
            f" {dtype}; save the volume as plain numbers"
        )
