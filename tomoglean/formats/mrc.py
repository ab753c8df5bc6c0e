"""MRC, the format of electron tomography (MRC2014, doi:10.1016/j.jsb.2015.04.002).

What IMOD adds (unsigned bytes, 4-bit values, the sign of the origin) is as its own
description says, https://bio3d.colorado.edu/imod/betaDoc/mrc_format.txt.
"""

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mrcfile.dtypes
import mrcfile.utils
import numpy as np

from tomoglean.formats import compressed
from tomoglean.formats.source import (
    Array,
    Format,
    Row,
    Source,
    Triple,
    mapped,
    native,
)
from tomoglean.provenance import Refused

PLAIN = (".mrc", ".rec", ".map", ".ccp4")
FORMAT = Format(
    "MRC",
    tuple(map("".join, itertools.product(PLAIN, ("", *compressed.ENDINGS)))),
    "modes 0 (signed, and unsigned where IMOD says so), 1, 2, 6, 12 and 101 (4 bit);"
    " extended headers; axes in any order; both byte orders; gzip and bzip2",
    "mrcfile",
)
HEADER_BYTES = 1024
STAMPS = {b"DD": "<", b"DA": "<", b"\x11\x11": ">"}
LARGEST = 1 << 16
VOLUME_STACK = 401
IMOD_STAMP = 1146047817
SIGNED, ORIGIN_AS_MRC, HALF_BYTES = 1, 4, 16
MRC2014 = range(20140, 20200)
FOUR_BIT = 101
MOST_TURNED_BYTES = 1 << 26
MOST_EXTENDED_BYTES = 1 << 28
Sections = Callable[[slice], Array]


def recognises(path: Path, row: Row) -> bool:
    """Tell files of the format by their ending."""
    return FORMAT.fits(path)


@dataclass(frozen=True)
class _Layout:
    """How the voxels lie in the file, once decompressed.

    Attributes
    ----------
    shape
        Number of sections, rows and columns.
    dtype
        Type of the voxels, or of the bytes that hold two of them.
    offset
        Where the first section begins.
    packed
        Whether a byte holds two voxels; every row then begins a new byte.
    """

    name: str
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    offset: int
    packed: bool

    @property
    def stored(self) -> tuple[int, int, int]:
        """Return the shape in items of `dtype`."""
        sections, rows, columns = self.shape
        return sections, rows, math.ceil(columns / 2) if self.packed else columns

    @property
    def bytes_each(self) -> int:
        """Return the bytes of one section."""
        return math.prod(self.stored[1:]) * self.dtype.itemsize

    @property
    def end(self) -> int:
        """Return where the last section ends."""
        return self.offset + self.shape[0] * self.bytes_each

    def unpacked(self, block: Array) -> Array:
        """Part bytes into two voxels each, the low four bits first."""
        if not self.packed:
            return block
        pairs = np.stack([block & 15, block >> 4], -1)
        return pairs.reshape(*block.shape[:2], -1)[..., : self.shape[2]]


@contextlib.contextmanager
def open_file(path: Path, row: Row) -> Iterator[Source]:
    """Open an MRC file; axes stored in another order are put right.

    A compressed file is decompressed as it is read, slab by slab; the volume is never
    written down decompressed.
    """
    warnings: list[str] = []
    with compressed.opened(path) as stream:
        header = _header(path, stream, warnings)
        order = _order(path, header)
        layout = _Layout(
            path.name,
            _shape(path, header),
            _dtype(path, header, warnings),
            _offset(path, header),
            int(header.mode) == FOUR_BIT,
        )
        _look_for_oddities(path, header, warnings)
        if compressed.is_compressed(path):
            read = _turned(_from_stream(stream, layout, warnings), layout, order)
        else:
            read = _from_disk(path, layout, order, warnings)
        z, y, x = (layout.shape[axis] for axis in order)
        yield Source(
            path.name,
            (z, y, x),
            native(layout.dtype),
            read,
            _voxel_nm(header),
            origin_nm=_origin_nm(header),
            warnings=warnings,
            notes=_notes(path, header),
        )


def _header(path: Path, stream: Any, warnings: list[str]) -> Any:
    """Read the header in the byte order that its machine stamp, or else its sizes, tell.

    Sizes and mode are small numbers, so in the wrong byte order they are beyond 65535;
    a stamp that contradicts them is wrong or was never written.
    """
    start = stream.read(HEADER_BYTES)
    if len(start) < HEADER_BYTES:
        raise Refused(
            f"{path.name}: expected a header of {HEADER_BYTES} bytes, found {len(start)};"
            " copy the file again"
        )
    stamp = STAMPS.get(start[212:214])
    first = stamp or "<"
    for byte_order in (first, "<" if first == ">" else ">"):
        sizes = np.frombuffer(start, f"{byte_order}i4", 4)
        if (sizes[:3] > 0).all() and (abs(sizes) < LARGEST).all():
            break
    else:
        byte_order = first
    if stamp != byte_order:
        known = {"<": "little", ">": "big"}[byte_order]
        told = "no machine stamp" if stamp is None else "a wrong machine stamp"
        warnings.append(f"{path.name}: {told}; read as {known}-endian, as its sizes say")
    kind = mrcfile.dtypes.HEADER_DTYPE.newbyteorder(byte_order)
    return np.frombuffer(start, kind).reshape(()).view(np.recarray)


def _imod_flags(header: Any) -> int | None:
    """Return the flags of IMOD; None where other software wrote the file."""
    word = header.mode.dtype
    stamp, flags = np.frombuffer(header.tobytes(), word, 2, 152).tolist()
    return int(flags) if stamp == IMOD_STAMP else None


def _shape(path: Path, header: Any) -> tuple[int, int, int]:
    """Return the number of sections, rows and columns."""
    shape = int(header.nz), int(header.ny), int(header.nx)
    if min(shape) < 1 or int(header.ispg) >= VOLUME_STACK:
        raise Refused(
            f"{path.name}: expected one MRC volume, found the shape {shape}, space group"
            f" {int(header.ispg)}; copy it again or write the volumes one by one"
        )
    return shape


def _offset(path: Path, header: Any) -> int:
    extended = int(header.nsymbt)
    if not 0 <= extended <= MOST_EXTENDED_BYTES:
        raise Refused(
            f"{path.name}: expected an extended header of at most 256 MiB, found"
            f" {extended} bytes; copy the file again"
        )
    return HEADER_BYTES + extended


def _dtype(path: Path, header: Any, warnings: list[str]) -> np.dtype[Any]:
    mode, flags = int(header.mode), _imod_flags(header)
    if mode == FOUR_BIT:
        return np.dtype(np.uint8)
    if mode == 0 and flags is not None and flags & HALF_BYTES:
        raise Refused(
            f"{path.name}: expected one value a byte in mode 0, found two of 4 bits, as its"
            " IMOD flag says; write it again with IMOD's newstack -mode 1"
        )
    if mode == 0 and flags is not None and not flags & SIGNED:
        warnings.append(f"{path.name}: bytes read as unsigned, as its IMOD flag says")
        return np.dtype(np.uint8)
    try:
        dtype: np.dtype[Any] = np.dtype(mrcfile.utils.data_dtype_from_header(header))
    except ValueError as error:
        raise Refused(
            f"{path.name}: expected an MRC mode 0, 1, 2, 6, 12 or 101, found mode {mode};"
            " is this an MRC file? Convert or copy it again"
        ) from error
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


def _from_disk(
    path: Path, layout: _Layout, order: list[int], warnings: list[str]
) -> Sections:
    data = mapped(path, layout.stored, layout.dtype, layout.offset)
    _look_behind(layout, path.stat().st_size - layout.end, warnings)
    if layout.packed:
        return _turned(lambda part: layout.unpacked(data[part]), layout, order)
    turned = data.transpose(order)
    return lambda part: np.array(turned[part])


def _from_stream(stream: Any, layout: _Layout, warnings: list[str]) -> Sections:
    """Return a function from a slice to sections; what is asked in order streams."""

    def read(part: slice) -> Array:
        here = (part.stop - part.start, *layout.stored[1:])
        start = layout.offset + part.start * layout.bytes_each
        block = compressed.read_array(stream, layout.name, here, layout.dtype, start)
        if part.stop == layout.shape[0]:
            extra = compressed.left_over(stream, layout.end, layout.bytes_each)
            _look_behind(layout, extra, warnings)
        return layout.unpacked(block)

    return read


def _look_behind(layout: _Layout, extra: int, warnings: list[str]) -> None:
    """Tell of bytes behind the voxels; where a section would fit in, the header lies."""
    if extra >= layout.bytes_each:
        raise Refused(
            f"{layout.name}: expected {layout.end} bytes for {layout.shape} voxels, found"
            " room for at least one section more; its header is wrong: copy or write the"
            " file again"
        )
    line = f"{layout.name}: {extra} bytes follow the voxels and are ignored"
    if extra and line not in warnings:
        warnings.append(line)


def _turned(sections: Sections, layout: _Layout, order: list[int]) -> Sections:
    """Put the axes in the order z, y, x; sections that are no map are read whole once."""
    if order == [0, 1, 2]:
        return sections
    found = math.prod(layout.shape) * layout.dtype.itemsize
    if found > MOST_TURNED_BYTES:
        raise Refused(
            f"{layout.name}: expected at most 64 MiB of voxels in a compressed or 4-bit"
            f" file whose axes are stored in another order, found {found >> 20} MiB;"
            " decompress it first, or write it again with its axes in order"
        )
    kept: list[Array] = []

    def read(part: slice) -> Array:
        if not kept:
            kept.append(sections(slice(0, layout.shape[0])).transpose(order))
        return np.ascontiguousarray(kept[0][part])

    return read


def _edges_nm(header: Any) -> tuple[float, float, float]:
    """Return the edges of a voxel along x, y, z in nm; NaN where the header has none."""
    pairs = ((header.cella[axis], header[f"m{axis}"]) for axis in "xyz")
    edges = [float(length) / float(n) / 10 if n > 0 else math.nan for length, n in pairs]
    x, y, z = (edge if 0 < edge < math.inf else math.nan for edge in edges)
    return x, y, z


def _voxel_nm(header: Any) -> Triple:
    x, y, z = _edges_nm(header)
    return z, y, x


def _origin_nm(header: Any) -> Triple:
    """Return where the first voxel lies: its origin words, else the start of its grid.

    IMOD's origin words say where the zero of the frame lies as seen from the first
    voxel, the negative of what MRC2014 means, unless its flag 4 or the version of MRC2014
    is set. The start words count voxels and stand in the order of storage: columns, rows,
    sections.
    """
    flags = _imod_flags(header)
    standard = int(header.nversion) in MRC2014 or (flags or 0) & ORIGIN_AS_MRC
    sign = 1 if flags is None or standard else -1
    origin = [sign * float(header.origin[axis]) / 10 for axis in "xyz"]
    if any(origin) and all(map(math.isfinite, origin)):
        x, y, z = origin
        return z + 0.0, y + 0.0, x + 0.0
    axes = [int(header[name]) or at for at, name in enumerate(("mapc", "mapr", "maps"), 1)]
    starts = [int(header[name]) for name in ("nxstart", "nystart", "nzstart")]
    along = dict(zip(axes, starts, strict=True))
    x, y, z = (along[at] * edge for at, edge in enumerate(_edges_nm(header), 1))
    return (z, y, x) if all(map(math.isfinite, (x, y, z))) else (0.0, 0.0, 0.0)


def _look_for_oddities(path: Path, header: Any, warnings: list[str]) -> None:
    if bytes(header.map.tobytes()) != b"MAP ":
        warnings.append(f"{path.name}: no 'MAP ' mark (old file?); read by its size")
    angles = [float(header.cellb[name]) for name in ("alpha", "beta", "gamma")]
    if any(angle and abs(angle - 90) > 0.1 for angle in angles):
        told = ", ".join(f"{angle:g}" for angle in angles)
        warnings.append(
            f"{path.name}: its cell has the angles {told} degrees; voxels are taken as"
            " rectangular"
        )
    if int(header.ispg) == 0 and int(header.mz) == 1 < int(header.nz):
        warnings.append(
            f"{path.name}: its header calls it a stack of images, not a volume (a tilt"
            " series?)"
        )


def _notes(path: Path, header: Any) -> list[str]:
    if _order(path, header) == [0, 1, 2]:
        return []
    return [f"{path.name}: axes were stored in another order and put right"]
