"""AmiraMesh of Amira and Avizo: uniform grey lattices and label fields.

The header is text, the voxels follow `@1`, x fastest; no library for it is kept. Facts:
http://tinoweinkauf.net/notes/amiramesh.html; of the run lengths (HxByteRLE: a byte below
128 repeats the next one so often, one above is followed by so many bytes less 128) and
HxZip (zlib) the readers of Bio-Formats and ahds (https://pypi.org/project/ahds). The
bounding box runs from the centre of the first voxel to that of the last.
"""

import contextlib
import math
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tomoglean.formats.lengths import in_nm
from tomoglean.formats.source import (
    UNKNOWN,
    Array,
    Format,
    Row,
    Source,
    Triple,
    mapped,
    native,
)
from tomoglean.provenance import Refused

FORMAT = Format(
    "AmiraMesh",
    (".am", ".labels"),
    "uniform lattices of one number a voxel (plain, ASCII, HxByteRLE, HxZip), materials as"
    " names of labels, the unit of length where it is written",
)
MOST_HEADER = 1 << 20
MOST_RATIO = {"HxByteRLE": 64, "HxZip": 1032, "ASCII": 1, "": 1}
BLOCK = 1 << 22
DTYPES = {
    "byte": "u1",
    "short": "i2",
    "ushort": "u2",
    "int": "i4",
    "int32": "i4",
    "float": "f4",
    "double": "f8",
}
FIRST_LINE = re.compile(
    r"#\s*(?:AmiraMesh|Avizo)(?:\s+3D)?\s+(BINARY-LITTLE-ENDIAN|BINARY|ASCII)\b"
)
SIZES = re.compile(r"\bdefine\s+Lattice\s+(\d{1,9})\s+(\d{1,9})\s+(\d{1,9})\s")
FIELD = re.compile(
    r"\bLattice\s*\{\s*(\w+)(\[\d+\])?\s+\w+\s*\}\s*=?\s*@(\d+)(?:\((\w+),\s*(\d{1,15})\))?"
)
NUMBER = r"([-+]?[\d.]+(?:[eE][-+]?\d+)?)"
BOX = re.compile(r"\bBoundingBox\s+" + r"\s+".join([NUMBER] * 6))
KIND = re.compile(r'\bCoordType\s+"(\w+)"')
UNIT = re.compile(r'\bUnits\s*\{[^{}]*\bCoordinates\s+"([^"]{1,40})"')
BRACES = re.compile(r'"[^"]*"|[{}]|[^\s{}",]+')


@dataclass(frozen=True)
class _Header:
    """What the text says.

    Attributes
    ----------
    text
        The header up to the voxels.
    offset
        Byte of the first voxel.
    shape
        (Z, Y, X).
    dtype
        Type of the stored numbers.
    packing
        "", "ASCII", "HxByteRLE" or "HxZip".
    packed
        Bytes of the packed voxels; those to the end of the file where it is not said.
    """

    text: str
    offset: int
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    packing: str
    packed: int

    @property
    def voxels(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)


def recognises(path: Path, row: Row) -> bool:
    """Tell files of the format by their ending."""
    return FORMAT.fits(path)


@contextlib.contextmanager
def open_file(path: Path, row: Row) -> Iterator[Source]:
    """Open an AmiraMesh file; packed voxels are unpacked forward, slab by slab."""
    header = _header(path)
    warnings: list[str] = []
    told = list[str]() if row.get("voxel_nm") else warnings
    hint_nm, origin_nm = _place(path, header, told)
    with path.open("rb") as file:
        read = _reader(path, file, header)
        yield Source(
            path.name,
            header.shape,
            native(header.dtype),
            read,
            hint_nm,
            origin_nm=origin_nm,
            materials=_materials(header.text),
            warnings=warnings,
        )


def _reader(path: Path, file: Any, header: _Header) -> Callable[[slice], Array]:
    if header.packing:
        return _Forward(path.name, header, lambda: _unpacked(file, header)).read
    stored = mapped(path, header.shape, header.dtype, header.offset)
    return lambda part: np.array(stored[part])


def _header(path: Path) -> _Header:
    """Read the text, which may be 1 MiB long, and refuse what does not fit the file."""
    with path.open("rb") as file:
        start = file.read(MOST_HEADER)
    first = FIRST_LINE.match(start[:100].decode("latin-1"))
    field = FIELD.search(start.decode("latin-1"))
    at = re.search(rb"\n@%d[ \t]*\r?\n" % int(field[3]), start) if field else None
    if not first or not field or not at:
        raise Refused(
            f"{path.name}: expected an AmiraMesh header with a Lattice and voxels, found"
            f" {start[:30]!r} ..; save the volume as AmiraMesh, or convert it"
        )
    text = start[: at.start() + 1].decode("utf-8", "replace")
    sizes, kind, (plain, vector) = SIZES.search(text), KIND.search(text), field.groups()[:2]
    if not sizes or plain not in DTYPES or vector or (kind and kind[1] != "uniform"):
        found = f"{plain}{vector or ''}, {kind[1] if kind else 'no'} coordinates"
        raise Refused(
            f"{path.name}: expected one number a voxel in a uniform lattice, found {found};"
            " save the volume itself with uniform coordinates"
        )
    x, y, z = (int(size) for size in sizes.groups())
    order = "<" if first[1] == "BINARY-LITTLE-ENDIAN" else ">"
    packing = "ASCII" if first[1] == "ASCII" else field[4] or ""
    rest = path.stat().st_size - at.end()
    packed = int(field[5]) if packing and field[5] else rest
    header = _Header(
        text, at.end(), (z, y, x), np.dtype(order + DTYPES[plain]), packing, packed
    )
    _fits(path, header, rest)
    return header


def _fits(path: Path, header: _Header, rest: int) -> None:
    """Refuse voxels that the bytes of the file cannot hold."""
    if header.packing not in MOST_RATIO or header.packed > rest:
        raise Refused(
            f"{path.name}: expected {rest} bytes of ASCII, HxByteRLE or HxZip, found"
            f" {header.packing} in {header.packed}; copy the file again"
        )
    expected = header.voxels * (1 if header.packing == "ASCII" else header.dtype.itemsize)
    if header.packing == "HxByteRLE" and header.dtype.itemsize > 1:
        raise Refused(
            f"{path.name}: expected bytes packed by HxByteRLE, found {header.dtype.name};"
            " save the labels as bytes"
        )
    if not header.voxels or expected > header.packed * MOST_RATIO[header.packing]:
        raise Refused(
            f"{path.name}: expected {expected} bytes for {header.shape} voxels, found"
            f" {header.packed} that cannot hold them; the file is cut off: copy it again"
        )


def _blocks(file: Any, header: _Header) -> Iterator[bytes]:
    file.seek(header.offset)
    left = header.packed
    while left and (block := file.read(min(left, BLOCK))):
        left -= len(block)
        yield block


def _unpacked(file: Any, header: _Header) -> Iterator[Array]:
    """Yield the voxels in blocks of a few MiB at most."""
    unpack = {"HxByteRLE": _runs, "HxZip": _inflated, "ASCII": _numbers}[header.packing]
    return unpack(_blocks(file, header), header.dtype)


def _runs(blocks: Iterator[bytes], dtype: np.dtype[Any]) -> Iterator[Array]:
    """Decode run lengths, some thousand runs at a time."""
    rest = b""
    for block in blocks:
        data, rest = rest + block, b""
        for start in range(0, len(data), 1 << 16):
            piece = rest + data[start : start + (1 << 16)]
            found, used = _decode_runs(piece)
            rest = piece[used:]
            yield found.view(dtype)
    if rest:
        raise ValueError("the run lengths end within a run")


def _decode_runs(data: bytes) -> tuple[Array, int]:
    """Decode all complete runs, and say how many bytes they took."""
    parts, place = [], 0
    while place < len(data):
        count = data[place]
        if count > 127:
            end = place + 1 + (count & 127)
            part = data[place + 1 : end]
        else:
            end = place + 2
            part = data[place + 1 : end] * count
        if end > len(data):
            break
        parts.append(part)
        place = end
    return np.frombuffer(b"".join(parts), np.uint8), place


def _inflated(blocks: Iterator[bytes], dtype: np.dtype[Any]) -> Iterator[Array]:
    packer, rest = zlib.decompressobj(), b""
    for block in blocks:
        while block and not packer.eof:
            data = rest + packer.decompress(block, BLOCK)
            block = packer.unconsumed_tail
            whole = len(data) - len(data) % dtype.itemsize
            rest = data[whole:]
            yield np.frombuffer(data[:whole], dtype)
    if not packer.eof or rest:
        raise ValueError("the zlib stream ends before its voxels do")


def _numbers(blocks: Iterator[bytes], dtype: np.dtype[Any]) -> Iterator[Array]:
    rest = b""
    for block in blocks:
        words, space, rest = (rest + block).rpartition(b"\n")
        if not space and len(rest) > BLOCK:
            raise ValueError("a line of more than 4 MiB")
        yield np.array(words.split(), np.float64).astype(dtype)
    yield np.array(rest.split(), np.float64).astype(dtype)


class _Forward:
    """Reads slabs of voxels that only come one after another; going back begins anew."""

    def __init__(
        self, name: str, header: _Header, start: Callable[[], Iterator[Array]]
    ) -> None:
        self.name, self.header, self.start = name, header, start
        self._begin()

    def _begin(self) -> None:
        self.blocks, self.at = self.start(), 0
        self.ahead: Array = np.empty(0, self.header.dtype)

    def read(self, part: slice) -> Array:
        """Read slices as (n, Y, X)."""
        shape = (part.stop - part.start, *self.header.shape[1:])
        first = part.start * math.prod(shape[1:])
        if first < self.at:
            self._begin()
        for start in range(self.at, first, BLOCK):
            self._take(min(BLOCK, first - start))
        found = self._take(math.prod(shape)).reshape(shape)
        if self.at == self.header.voxels and self._more():
            raise Refused(
                f"{self.name}: expected {self.at} voxels, found more; its header is wrong:"
                " copy the file again"
            )
        return found

    def _more(self) -> bool:
        if not self.ahead.size:
            self.ahead = next((block for block in self.blocks if block.size), self.ahead)
        return bool(self.ahead.size)

    def _take(self, count: int) -> Array:
        found, done = np.empty(count, self.header.dtype), 0
        while done < count and self._more():
            some = self.ahead[: count - done]
            found[done : done + some.size] = some
            self.ahead = self.ahead[some.size :]
            done += some.size
        self.at += done
        if done < count:
            raise Refused(
                f"{self.name}: expected {self.header.voxels} voxels, found {self.at}; the"
                " file is cut off: copy it again"
            )
        return found


def _place(path: Path, header: _Header, warnings: list[str]) -> tuple[Triple, Triple]:
    """Return voxel size and origin in nm, from the bounding box and its unit."""
    box, unit = BOX.search(header.text), UNIT.search(header.text)
    unit_nm = in_nm(unit[1]) if unit else math.nan
    if not box or not unit_nm > 0:
        found = f"unit {unit[1]!r}" if unit else "no unit"
        warnings.append(
            f"{path.name}: its voxel size is not known ({found}, bounding box"
            f" {'found' if box else 'missing'}); fill in voxel_nm"
        )
        return UNKNOWN, (0.0, 0.0, 0.0)
    low, high = (np.array(box.groups()[n::2], np.float64)[::-1] for n in (0, 1))
    steps = np.array(header.shape) - 1
    edges = np.where(steps > 0, (high - low) / np.maximum(steps, 1), high - low) * unit_nm
    z, y, x = (float(edge) if 0 < edge < math.inf else math.nan for edge in edges)
    start_z, start_y, start_x = (low * unit_nm).tolist()
    return (z, y, x), (start_z, start_y, start_x)


def _materials(text: str) -> dict[int, str]:
    """Read the names of the materials; a label is the place of its material, from 0."""
    _, found, rest = text.partition("Materials")
    names, depth, before = list[str](), 0, ""
    for word in BRACES.findall(rest) if found else []:
        if word == "{":
            names += [before.strip('"')] if depth == 1 else []
            depth += 1
        elif word == "}":
            depth -= 1
            if depth <= 0:
                break
        before = word
    return dict(enumerate(names))
