"""NIfTI-1 and NIfTI-2 in one file (https://nifti.nimh.nih.gov/nifti-1, /nifti-2).

The voxels come in the order they are stored in, x fastest. An affine that turns or flips
them is told, never applied: nothing is resampled behind anybody's back.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tomoglean.formats import compressed
from tomoglean.formats.source import (
    UNKNOWN,
    Array,
    Format,
    Row,
    Source,
    Triple,
    mapped,
    native,
    needed,
)
from tomoglean.provenance import Refused

FORMAT = Format(
    "NIfTI",
    (".nii", ".nii.gz"),
    "one volume of real numbers, scaled as it says, in its stored order (a flipped, turned"
    " or oblique affine is told); no pairs of .hdr and .img",
    "nibabel",
)
UNITS_NM = {1: 1e9, 2: 1e6, 3: 1e3}
UNIT_BITS = 7
HEADERS = {348: "Nifti1Header", 540: "Nifti2Header"}
MAGIC = {348: (b"n+1\0", 344), 540: (b"n+2\0", 4)}
DEFLATE_RATIO = 1032
TOLERANCE = 1e-3
UNKNOWN_SIZE = "its voxel size is not known"
MOST_AXES = 7


def recognises(path: Path, row: Row) -> bool:
    """Tell files of the format by their ending."""
    return FORMAT.fits(path)


@dataclass(frozen=True)
class _Layout:
    """How the voxels lie in the file: slices of rows, `offset` bytes from the start."""

    name: str
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float

    @property
    def end(self) -> int:
        """Byte behind the last voxel."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize

    @property
    def scaled(self) -> bool:
        """Whether the stored numbers are not the values."""
        return (self.slope, self.intercept) != (1, 0)

    def values(self, stored: Array) -> Array:
        """Turn stored numbers into values: float32, float64 from 32-bit and longer ones."""
        if not self.scaled:
            return stored.astype(native(self.dtype), copy=False)
        values = stored.astype(self.told)
        values *= self.told.type(self.slope)
        values += self.told.type(self.intercept)
        return values

    @property
    def told(self) -> np.dtype[Any]:
        """Type of the values."""
        if not self.scaled:
            return native(self.dtype)
        exact = self.dtype.itemsize > 4 or (
            self.dtype.itemsize == 4 and self.dtype.kind != "f"
        )
        return np.dtype(np.float64 if exact else np.float32)


@contextlib.contextmanager
def open_file(path: Path, row: Row) -> Iterator[Source]:
    """Open a NIfTI file; a compressed one is decompressed as it is read, slab by slab."""
    warnings: list[str] = []
    with compressed.opened(path) as stream:
        header = _header(path, stream)
        layout = _layout(path, header)
        packed = compressed.is_compressed(path)
        read = _from_stream(path, stream, layout, warnings) if packed else None
        stored = None if packed else mapped(path, layout.shape, layout.dtype, layout.offset)
        if not packed and (extra := path.stat().st_size - layout.end):
            warnings.append(f"{path.name}: {extra} bytes follow the voxels and are ignored")
        hint_nm, origin_nm = _place(path, header, warnings)
        if row.get("voxel_nm") and np.isnan(hint_nm).any():
            warnings = [line for line in warnings if UNKNOWN_SIZE not in line]
        yield Source(
            path.name,
            layout.shape,
            layout.told,
            read or (lambda part: layout.values(np.array(stored[part]))),  # type: ignore[index]
            hint_nm,
            origin_nm=origin_nm,
            warnings=warnings,
        )


def _header(path: Path, stream: BinaryIO) -> Any:
    """Read the header with nibabel, once its first bytes say which one it is."""
    start = stream.read(540)
    sizes = {order: int.from_bytes(start[:4], order) for order in ("little", "big")}
    found = [(order, size) for order, size in sizes.items() if size in HEADERS]
    if not found or len(start) < found[0][1]:
        raise Refused(
            f"{path.name}: expected a NIfTI header of 348 or 540 bytes, found {len(start)}"
            f" bytes that begin with {start[:4]!r}; copy the file again"
        )
    order, size = found[0]
    magic, place = MAGIC[size]
    if start[place : place + 4] != magic:
        raise Refused(
            f"{path.name}: expected the mark {magic!r} of one file, found"
            f" {start[place : place + 4]!r}; convert the pair of .hdr and .img to one .nii"
        )
    nifti = needed("nibabel", path.name)
    kind = getattr(nifti, HEADERS[size])
    return kind(start[:size], endianness="<" if order == "little" else ">", check=False)


def _layout(path: Path, header: Any) -> _Layout:
    axes, *edges = (int(n) for n in header["dim"])
    edges = edges[:axes] if 1 < axes <= MOST_AXES else []
    if not edges or min(edges) < 1 or any(n != 1 for n in edges[3:]):
        raise Refused(
            f"{path.name}: expected one volume (X, Y, Z), found the dimensions {edges};"
            " write one volume a file"
        )
    x, y, z = (*edges[:3], 1)[:3]
    dtype = np.dtype(header.get_data_dtype())
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise Refused(
            f"{path.name}: expected real numbers, found the datatype"
            f" {int(header['datatype'])} ({dtype}); save grey values or labels"
        )
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if not slope or not math.isfinite(slope) or not math.isfinite(intercept):
        slope, intercept = 1.0, 0.0
    offset = float(header["vox_offset"])
    if not int(header["sizeof_hdr"]) <= offset < 1 << 31:
        raise Refused(
            f"{path.name}: expected the voxels behind the header, found them at {offset:g};"
            " copy the file again"
        )
    return _Layout(path.name, (z, y, x), dtype, int(offset), slope, intercept)


def _from_stream(
    path: Path, stream: BinaryIO, layout: _Layout, warnings: list[str]
) -> Callable[[slice], Array]:
    """Read forward through a compressed file; what it cannot hold is refused at once."""
    if layout.end > DEFLATE_RATIO * path.stat().st_size:
        raise Refused(
            f"{path.name}: expected {layout.end} bytes once decompressed, found"
            f" {path.stat().st_size} that cannot hold them; copy the file again"
        )
    depth, slice_bytes = (
        layout.shape[0],
        math.prod(layout.shape[1:]) * layout.dtype.itemsize,
    )

    def read(part: slice) -> Array:
        shape = (part.stop - part.start, *layout.shape[1:])
        place = layout.offset + part.start * slice_bytes
        stored = compressed.read_array(stream, path.name, shape, layout.dtype, place)
        if part.stop == depth and compressed.left_over(stream, layout.end, 1):
            raise Refused(
                f"{path.name}: expected {layout.end} bytes once decompressed, found more;"
                " its header is wrong: copy the file again"
            )
        return layout.values(stored)

    return read


def _place(path: Path, header: Any, warnings: list[str]) -> tuple[Triple, Triple]:
    """Return voxel size and origin in nm; the origin only where the axes are straight."""
    unit_nm = UNITS_NM.get(int(header["xyzt_units"]) & UNIT_BITS, math.nan)
    edges = np.abs(np.asarray(header["pixdim"][1:4], np.float64)[::-1]) * unit_nm
    if math.isnan(unit_nm) or not (np.isfinite(edges) & (edges > 0)).all():
        warnings.append(
            f"{path.name}: {UNKNOWN_SIZE} (pixdim"
            f" {header['pixdim'][1:4].tolist()}, unit code"
            f" {int(header['xyzt_units']) & UNIT_BITS}); fill in voxel_nm"
        )
        return UNKNOWN, (0.0, 0.0, 0.0)
    if not int(header["sform_code"]) and not int(header["qform_code"]):
        return _triple(edges), (0.0, 0.0, 0.0)
    affine = np.asarray(header.get_best_affine(), np.float64) * unit_nm
    turned = _turned(affine[:3, :3], edges[::-1])
    if turned:
        warnings.append(f"{path.name}: its affine is {turned}; voxels stay as stored")
        return _triple(edges), (0.0, 0.0, 0.0)
    return _triple(edges), _triple(np.nan_to_num(affine[2::-1, 3]))


def _turned(axes: Array, edges: Array) -> str:
    """Say what the affine does to the voxels, beyond their size."""
    if not np.isfinite(axes).all():
        return "not finite"
    size = np.abs(axes)
    if np.count_nonzero(size > TOLERANCE * size.max()) != 3:
        return "oblique"
    if not (np.argmax(size, axis=0) == [0, 1, 2]).all():
        return "a permutation of the axes"
    if not np.allclose(size.diagonal(), edges, rtol=0.01):
        return f"of other voxels ({', '.join(f'{n:g}' for n in size.diagonal()[::-1])} nm)"
    flipped = "".join(axis for axis, n in zip("xyz", axes.diagonal(), strict=True) if n < 0)
    return f"flipped along {', '.join(flipped)}" if flipped else ""


def _triple(values: Array) -> Triple:
    z, y, x = (float(value) for value in values)
    return z, y, x
