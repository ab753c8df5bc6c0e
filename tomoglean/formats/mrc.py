"""MRC, the format of electron tomography (MRC2014, doi:10.1016/j.jsb.2015.04.002)."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mrcfile
import mrcfile.utils
import numpy as np

from tomoglean.formats.source import Format, Row, Source, Triple, mapped, native
from tomoglean.provenance import Refused

FORMAT = Format(
    "MRC",
    (".mrc", ".rec", ".map", ".ccp4"),
    "modes 0 (signed, and unsigned where IMOD says so), 1, 2, 6, 12; extended headers;"
    " axes in any order; both byte orders",
    "mrcfile",
)
HEADER_BYTES = 1024
IMOD_STAMP = 1146047817
VOLUME_STACK = 401


def recognises(path: Path, row: Row) -> bool:
    """Tell files of the format by their ending."""
    return FORMAT.fits(path)


@contextlib.contextmanager
def open_file(path: Path, row: Row) -> Iterator[Source]:
    """Open an MRC file; axes stored in another order are put right."""
    if path.stat().st_size < HEADER_BYTES:
        raise Refused(
            f"{path.name}: expected a header of {HEADER_BYTES} bytes, found"
            f" {path.stat().st_size}; copy the file again"
        )
    with mrcfile.open(path, "r", permissive=True, header_only=True) as file:
        header = file.header
        hint_nm = _voxel_nm(file)
    warnings: list[str] = []
    dtype = _dtype(path, header, warnings)
    stored = mapped(path, _shape(path, header), dtype, _offset(header))
    data = stored.transpose(_order(path, header))
    _look_for_oddities(path, header, stored, warnings)
    yield Source(
        path.name,
        data.shape,
        native(dtype),
        lambda part: np.array(data[part]),
        hint_nm,
        notes=_notes(path, header),
        warnings=warnings,
    )


def _voxel_nm(file: Any) -> Triple:
    edges = [float(file.voxel_size[axis]) / 10 for axis in "zyx"]
    z, y, x = (edge if 0 < edge < np.inf else np.nan for edge in edges)
    return z, y, x


def _shape(path: Path, header: Any) -> tuple[int, int, int]:
    shape = int(header.nz), int(header.ny), int(header.nx)
    if min(shape) < 1 or int(header.ispg) >= VOLUME_STACK:
        raise Refused(
            f"{path.name}: expected one MRC volume, found the shape {shape}, space group"
            f" {int(header.ispg)}; copy it again or write the volumes one by one"
        )
    return shape


def _offset(header: Any) -> int:
    return HEADER_BYTES + int(header.nsymbt)


def _dtype(path: Path, header: Any, warnings: list[str]) -> np.dtype[Any]:
    try:
        dtype: np.dtype[Any] = np.dtype(mrcfile.utils.data_dtype_from_header(header))
    except ValueError as error:
        raise Refused(
            f"{path.name}: expected an MRC mode 0, 1, 2, 6 or 12, found mode"
            f" {int(header.mode)}; is this an MRC file? Convert or copy it again"
        ) from error
    stamp, flags = np.frombuffer(
        header.tobytes(), header.mode.dtype, offset=152, count=2
    ).tolist()
    if int(header.mode) == 0 and stamp == IMOD_STAMP and not flags & 1:
        warnings.append(f"{path.name}: bytes read as unsigned, as its IMOD flag says")
        return np.dtype(np.uint8)
    return dtype


def _order(path: Path, header: Any) -> list[int]:
    """Return where the axes z, y, x stand among sections, rows, columns."""
    stored = [int(header.maps), int(header.mapr), int(header.mapc)]
    if stored == [0, 0, 0]:
        stored = [3, 2, 1]
    if sorted(stored) != [1, 2, 3]:
        raise Refused(
            f"{path.name}: expected the axes 1, 2, 3 in some order, found"
            f" mapc, mapr, maps = {stored[::-1]}; copy or correct the file"
        )
    return [stored.index(axis) for axis in (3, 2, 1)]


def _look_for_oddities(path: Path, header: Any, stored: Any, warnings: list[str]) -> None:
    extra = path.stat().st_size - _offset(header) - stored.nbytes
    if extra:
        warnings.append(f"{path.name}: {extra} bytes follow the voxels and are ignored")
    if bytes(header.map.tobytes()) != b"MAP ":
        warnings.append(f"{path.name}: no 'MAP ' mark (old file?); read by its size")


def _notes(path: Path, header: Any) -> list[str]:
    if _order(path, header) == [0, 1, 2]:
        return []
    return [f"{path.name}: axes were stored in another order and put right"]
