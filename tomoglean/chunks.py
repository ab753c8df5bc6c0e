"""Fill HDF5 datasets chunk by chunk, faster than HDF5's own filters and as readable.

A chunk is shuffled, deflated and given its Fletcher-32 sum here, in two threads, and
handed over as it will lie in the file (H5Dwrite_chunk). What comes about is an ordinary
dataset with the filters shuffle, gzip and fletcher32: no reader needs a plugin.

Deflated is by ISA-L (the package `isal`), several times as fast as zlib at the same
ratio (docs/performance.md). Byte planes of pure noise, such as the low bytes of a
reconstruction in float32, cannot shrink: they are stored within the stream (RFC 1951,
3.2.4) instead of deflated in vain. The bytes do not depend on threads.
"""

import functools
import itertools
import logging
import math
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

CHUNK = 64
THREADS = 2
LEVEL = 3  # at 1 and 2 the bytes differ now and then, by where in memory ISA-L works
NOISE_BITS = 6.5
BAND_BYTES = 1 << 25
TILE_BYTES = 1 << 25
ZLIB_HEADER = b"\x78\x01"
LAST_BLOCK = b"\x03\x00"
MOST_STORED = 65535
COLUMNS = 128
SUM_BYTES = 4
MOST_SUMMED = 1 << 24

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]
Region = tuple[slice, ...]

log = logging.getLogger(__name__)


# -- one chunk -------------------------------------------------------------------------


@functools.cache
def _library() -> Any:
    """Return `isal_zlib`, or `zlib` where it is not installed."""
    try:
        from isal import isal_zlib
    except ImportError:
        log.warning("isal is not installed: gzip by zlib, which is slower")
        return zlib
    return isal_zlib


def encoded(chunk: Array) -> memoryview:
    """Shuffle, deflate and sum one chunk: the bytes that HDF5 keeps of it.

    Parameters
    ----------
    chunk
        A whole chunk, also at the edge of the dataset; any shape.
    """
    parts = deflated(shuffled(chunk))
    size = sum(map(len, parts))
    packed = bytearray().join([*parts, bytes(max(_filling(size), SUM_BYTES))])
    found = _sum(np.frombuffer(packed, np.uint8, size + _filling(size)), size)
    packed[size : size + SUM_BYTES] = found.to_bytes(SUM_BYTES, "little")
    return memoryview(packed)[: size + SUM_BYTES]


def shuffled(chunk: Array) -> Bytes:
    """Put the lowest bytes of all values first, then the next, and so on.

    Returns
    -------
    ndarray of shape (bytes of a value, values)
    """
    flat = np.ascontiguousarray(chunk).reshape(-1)
    if flat.itemsize > 4:
        return np.ascontiguousarray(flat.reshape(-1, 1).view(np.uint8).T)
    planes = np.empty((flat.itemsize, flat.size), np.uint8)
    _split(flat.view(f"<u{flat.itemsize}"), planes)
    return planes


def _split(values: Array, planes: Bytes) -> None:
    """Halve values until bytes are left: quicker than a transposed copy."""
    if values.itemsize == 1:
        planes[0] = values
        return
    half = values.itemsize // 2
    dtype = np.dtype(f"<u{half}")
    _split(values.astype(dtype), planes[:half])
    _split((values >> values.dtype.type(8 * half)).astype(dtype), planes[half:])


def deflated(planes: Bytes) -> list[Any]:
    """Deflate byte planes to one zlib stream (RFC 1950), planes of noise merely stored.

    Parameters
    ----------
    planes
        Array of shape (bytes of a value, values).

    Returns
    -------
    list of bytes-like
        The stream is these, one after the other.
    """
    library = _library()
    parts: list[Any] = [ZLIB_HEADER]
    for plane in planes:
        parts += _stored(plane) if _is_noise(plane) else _squeezed(plane, library)
    return [*parts, LAST_BLOCK, library.adler32(planes).to_bytes(4, "big")]


def _squeezed(plane: Bytes, library: Any) -> list[bytes]:
    """Deflate to blocks that end on a whole byte and are not the last."""
    packer = library.compressobj(LEVEL, library.DEFLATED, -15)
    return [packer.compress(plane), packer.flush(library.Z_SYNC_FLUSH)]


def _stored(plane: Bytes) -> list[Any]:
    parts: list[Any] = []
    for start in range(0, len(plane), MOST_STORED):
        piece = plane[start : start + MOST_STORED].data
        size = len(piece)
        parts.append(struct.pack("<BHH", 0, size, size ^ 0xFFFF))
        parts.append(piece)
    return parts


def _is_noise(plane: Bytes) -> bool:
    """Tell by a sample's entropy whether a plane would shrink by less than a fifth."""
    counts = np.bincount(plane[:: max(1, len(plane) >> 13)])
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum()) > NOISE_BITS


def fletcher32(data: bytes) -> int:
    """Sum bytes as HDF5's filter of this name does.

    Both sums of big-endian 16-bit words are taken modulo 65535, where 65535 stands for
    every multiple of it but nothing at all (H5_checksum_fletcher32 in HDF5's
    src/H5checksum.c). Swapping the bytes of a word is a multiplication by 256 in this
    arithmetic.

    Parameters
    ----------
    data
        At most 16 MiB; an odd length is filled up with a zero.
    """
    filled = np.frombuffer(data + bytes(_filling(len(data))), np.uint8)
    return _sum(filled, len(data))


def _filling(size: int) -> int:
    return -size % (2 * COLUMNS)


def _sum(filled: Bytes, size: int) -> int:
    """Sum so many bytes, after which zeros fill a row up."""
    if size > MOST_SUMMED:
        raise ValueError(f"a chunk has at most {MOST_SUMMED} bytes, found {size}")
    words = filled.view("<u2").astype(np.uint32).reshape(-1, COLUMNS)
    by_row = words.sum(axis=1, dtype=np.uint32).astype(np.int64)
    by_column = words.sum(axis=0, dtype=np.uint32).astype(np.int64)
    plain = int(by_row.sum())
    behind = COLUMNS * int(by_row @ np.arange(len(by_row)))
    behind += int(by_column @ np.arange(COLUMNS))
    return _folded((size + 1) // 2 * plain - behind) << 16 | _folded(plain)


def _folded(total: int) -> int:
    return (256 * total - 1) % 65535 + 1 if total else 0


# -- a dataset -------------------------------------------------------------------------


class Dataset:
    """A dataset that takes arrays by assignment to slices, and packs them in threads.

    Parts that cover whole chunks are packed at once. Thinner ones that follow each other
    along one axis are laid by until a layer of chunks is full, on disk where they are
    large. Whatever else comes goes through HDF5's own filters.
    """

    def __init__(self, stored: h5py.Dataset, pool: Executor, folder: Path) -> None:
        self.stored, self.pool, self.folder = stored, pool, folder
        self.shape: tuple[int, ...] = stored.shape
        self.dtype = stored.dtype
        self._band: _Band | None = None

    def __getitem__(self, where: Any) -> Any:
        """Read back what was written."""
        self.finish()
        return self.stored[where]

    def __setitem__(self, where: Any, values: npt.ArrayLike) -> None:
        """Write an array to a place."""
        region = _region(where, self.shape)
        if region is None or self.stored.chunks is None:
            self.stored[where] = values
            return
        array, size = np.asarray(values), _size(region)
        fits = array.size == math.prod(size)
        self._take(region, array.reshape(size) if fits else np.broadcast_to(array, size))

    def _take(self, region: Region, array: Array) -> None:
        if not (self._band and self._band.goes_on(region)):
            self.finish()
            if self._aligned(region):
                return self._pack(region, array)
            thin, chunks = _thin(region, self.shape), self.stored.chunks
            if len(thin) != 1 or region[thin[0]].start % chunks[thin[0]]:
                self.stored[region] = array
                return None
            self._band = _Band(self, thin[0], region[thin[0]].start, self.folder)
        self._band.add(region, array)
        if self._band.full(self.stored.chunks[self._band.axis]):
            self.finish()
        return None

    def finish(self) -> None:
        """Pack what was laid by, tile by tile."""
        band, self._band = self._band, None
        if band is None:
            return
        with band:
            step = band.rows_within(TILE_BYTES, self.stored.chunks)
            for start in range(0, self.shape[band.across], step):
                region = band.region(start, start + step)
                array = band.read(region[band.across])
                if self._aligned(region):
                    self._pack(region, array)
                else:
                    self.stored[region] = array

    def _aligned(self, region: Region) -> bool:
        """Tell whether a part consists of whole chunks."""
        return all(
            part.start % chunk == 0 and (part.stop % chunk == 0 or part.stop == edge)
            for part, chunk, edge in zip(
                region, self.stored.chunks, self.shape, strict=True
            )
        )

    def _pack(self, region: Region, array: Array) -> None:
        """Pack whole chunks in order, a few ahead of the one that is being written."""
        chunks = self.stored.chunks
        ranges = [
            range(0, size, chunk) for size, chunk in zip(_size(region), chunks, strict=True)
        ]
        corners = list(itertools.product(*ranges))

        def work(corner: Sequence[int]) -> memoryview:
            inside = tuple(
                slice(at, at + chunk) for at, chunk in zip(corner, chunks, strict=True)
            )
            return encoded(_padded(array[inside].astype(self.dtype, copy=False), chunks))

        for corner, packed in zip(corners, _ahead(self.pool, work, corners), strict=True):
            place = tuple(part.start + at for part, at in zip(region, corner, strict=True))
            self.stored.id.write_direct_chunk(place, packed)


def _ahead(
    pool: Executor, work: Callable[[Any], Any], items: Sequence[Any]
) -> Iterator[Any]:
    """Map in order in the pool's threads, only a few results waiting at a time."""
    waiting = []
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) > 4 * THREADS:
            yield waiting.pop(0).result()
    for future in waiting:
        yield future.result()


def _padded(array: Array, chunks: tuple[int, ...]) -> Array:
    """Fill a chunk at the edge up with zeros."""
    if array.shape == chunks:
        return array
    whole = np.zeros(chunks, array.dtype)
    whole[tuple(slice(0, n) for n in array.shape)] = array
    return whole


def _region(where: Any, shape: tuple[int, ...]) -> Region | None:
    """Turn an index into slices of all axes; None if it is more than plain slices."""
    index = list(where) if isinstance(where, tuple) else [where]
    if any(part is Ellipsis for part in index):
        place = next(n for n, part in enumerate(index) if part is Ellipsis)
        index[place : place + 1] = [slice(None)] * (len(shape) - len(index) + 1)
    index += [slice(None)] * (len(shape) - len(index))
    if not all(isinstance(part, slice) and part.step in (None, 1) for part in index):
        return None
    bounds = [part.indices(edge) for part, edge in zip(index, shape, strict=True)]
    region = tuple(slice(start, stop) for start, stop, _ in bounds)
    return region if all(_size(region)) else None


def _size(region: Region) -> tuple[int, ...]:
    return tuple(max(0, part.stop - part.start) for part in region)


class _Band:
    """Thin parts laid by, one after the other along one axis, in memory or on disk.

    The file holds the axis of the band first and the others in their order; the first
    of these is cut into tiles.
    """

    def __init__(self, stored: Dataset, axis: int, start: int, folder: Path) -> None:
        self.shape, self.dtype, self.axis = stored.shape, stored.dtype, axis
        self.across = 0 if axis else 1
        self.start = self.stop = start
        self.row = math.prod(self.shape) // self.shape[axis] // self.shape[self.across]
        self.file = tempfile.SpooledTemporaryFile(BAND_BYTES, dir=str(folder))  # noqa: SIM115 (closed by the with block of its user)

    def __enter__(self) -> "_Band":
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def goes_on(self, region: Region) -> bool:
        """Tell whether a part follows on the last."""
        start = (region[self.axis].start,)
        return start == (self.stop,) and _thin(region, self.shape) in ([self.axis], [])

    def add(self, region: Region, array: Array) -> None:
        """Lay a part by."""
        for image in np.moveaxis(array, self.axis, 0):
            self.file.write(np.ascontiguousarray(image, self.dtype).tobytes())
        self.stop = region[self.axis].stop

    def full(self, chunk: int) -> bool:
        """Tell whether a layer of chunks is complete."""
        return self.stop % chunk == 0 or self.stop == self.shape[self.axis]

    def rows_within(self, most: int, chunks: Sequence[int]) -> int:
        """Rows of a tile: whole chunks of at most so many bytes, but at least one."""
        bytes_a_row = int(self.row * self.dtype.itemsize) * (self.stop - self.start)
        chunk = int(chunks[self.across])
        return max(1, most // bytes_a_row // chunk) * chunk

    def region(self, start: int, stop: int) -> Region:
        """Place of the rows of a tile in the dataset."""
        parts = [slice(0, edge) for edge in self.shape]
        parts[self.axis] = slice(self.start, self.stop)
        parts[self.across] = slice(start, min(stop, self.shape[self.across]))
        return tuple(parts)

    def read(self, rows: slice) -> Array:
        """Read the rows of a tile, of the shape of its region."""
        size = [edge for axis, edge in enumerate(self.shape) if axis != self.axis]
        size[0] = rows.stop - rows.start
        plane = self.row * self.shape[self.across]
        tile = np.empty((self.stop - self.start, *size), self.dtype)
        for number, image in enumerate(tile):
            self.file.seek((number * plane + rows.start * self.row) * self.dtype.itemsize)
            raw = self.file.read(image.nbytes)
            image[...] = np.frombuffer(raw, self.dtype).reshape(size)
        return np.moveaxis(tile, 0, self.axis)


def _thin(region: Region, shape: tuple[int, ...]) -> list[int]:
    """List the axes along which a part is thinner than the dataset."""
    edges = zip(_size(region), shape, strict=True)
    return [axis for axis, (size, edge) in enumerate(edges) if size < edge]
