"""Zarr arrays in a local folder, checked before zarr reads them.

zarr follows what the metadata say: a chunk that was never written reads as the fill
value without a word, and a chunk of a few bytes may unpack to any size. Facts:
https://zarr-specs.readthedocs.io (version 2; version 3 core, sharding_indexed), the header
of Blosc (https://github.com/Blosc/c-blosc/blob/main/README_CHUNK_FORMAT.rst).
"""

import bz2
import json
import lzma
import math
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tomoglean.formats.source import Array, needed
from tomoglean.provenance import Refused

MOST_JSON = 1 << 24
MOST_CHUNK_BYTES = 1 << 27
UNTRUSTED_BYTES = 1 << 29
MOST_RATIO = 5000
DEFLATE_RATIO = 1032
HARMLESS_BYTES = 1 << 28
SLACK = ZSTD_BLOCK = 1 << 17
CONCURRENT_BYTES = 1 << 27
DTYPES = {
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
}
FILTERS = {"bitround", "crc32", "crc32c", "delta", "fixedscaleoffset", "shuffle"}
CODECS = {
    *("blosc", "bz2", "gzip", "lz4", "lzma", "zlib", "zstd"),
    *(*FILTERS, "bytes", "transpose"),
}
EMPTY = 2**64 - 1


@dataclass(frozen=True)
class Node:
    """A group or an array: its folder, version of zarr, kind, and all it says."""

    folder: Path
    version: int
    kind: str
    meta: dict[str, Any]
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Layout:
    """What an array claims.

    Attributes
    ----------
    node
        The array.
    shape
        Voxels along every axis.
    dtype
        Type of the voxels in native byte order.
    files
        Voxels a file: a chunk, or a shard of many.
    chunks
        Voxels a chunk.
    codecs
        What a chunk went through, first to last.
    index_first
        Whether a shard begins with its index.
    """

    node: Node
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    files: tuple[int, ...]
    chunks: tuple[int, ...]
    codecs: tuple[str, ...]
    index_first: bool = False

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a chunk once unpacked."""
        return math.prod(self.chunks) * self.dtype.itemsize

    @property
    def sharded(self) -> bool:
        """Whether a file holds many chunks."""
        return self.files != self.chunks

    @property
    def expected(self) -> int:
        """Number of chunks that hold voxels."""
        pairs = zip(self.shape, self.chunks, strict=True)
        return math.prod(math.ceil(edge / chunk) for edge, chunk in pairs)


def child(folder: Path, name: str, root: Path) -> Path:
    """Go down to a folder named in metadata.

    Raises
    ------
    Refused
        If the name leads out of `root`.
    """
    parts = name.split("/")
    below = folder.joinpath(*parts) if all(parts) else root.parent
    if {"..", "."} & set(parts) or "\\" in name or not _inside(below, root):
        raise Refused(
            f"{root.name}: expected data within its own folder, found the path {name!r};"
            " correct it, or copy the data into the folder"
        )
    return below


def _inside(path: Path, root: Path) -> bool:
    return path.resolve().is_relative_to(root.resolve())


def read_node(folder: Path, root: Path) -> Node | None:
    """Read the metadata of a group or an array; None if the folder is neither."""
    if (folder / "zarr.json").is_file():
        meta = _read_json(folder / "zarr.json", root)
        told = meta.get("attributes", {})
        return Node(folder, 3, str(meta.get("node_type")), meta, told)
    attributes = _read_json(folder / ".zattrs", root)
    for name, kind in ((".zarray", "array"), (".zgroup", "group"), (".zattrs", "group")):
        if (folder / name).is_file():
            return Node(folder, 2, kind, _read_json(folder / name, root), attributes)
    return None


def _read_json(path: Path, root: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    if not _inside(path, root) or path.stat().st_size > MOST_JSON:
        raise Refused(
            f"{root.name}: expected metadata of at most 16 MiB in its own folder, found"
            f" {path.name} of {path.stat().st_size} bytes or a link; copy the folder again"
        )
    found = json.loads(path.read_bytes())
    if not isinstance(found, dict):
        raise Refused(
            f"{root.name}: expected metadata by name in {path.name}, found"
            f" {type(found).__name__}; write the folder again"
        )
    return found


def layout(node: Node, root: Path) -> Layout:
    """Read what an array claims, and refuse what cannot be or should not be read.

    Raises
    ------
    Refused
        If its voxels are no numbers, its edges none, its chunks larger than 128 MiB, or
        its codecs not among those that hold nothing but numbers.
    """
    read = _layout_2 if node.version == 2 else _layout_3
    found = read(node, root)
    edges = (*found.shape, *found.files, *found.chunks)
    if not all(type(edge) is int and edge > 0 for edge in edges) or not (
        len(found.shape) == len(found.chunks) == len(found.files)
    ):
        raise _damaged(root, "whole edges", f"{found.shape} in chunks of {found.chunks}")
    size = math.prod(found.files) * found.dtype.itemsize
    if not found.sharded and size > MOST_CHUNK_BYTES:
        raise Refused(
            f"{root.name}: expected chunks of at most 128 MiB, found {found.chunks} of"
            f" {found.dtype}; rechunk the volume"
        )
    if size > 8 * MOST_CHUNK_BYTES or found.chunk_bytes > MOST_CHUNK_BYTES:
        raise _damaged(root, "shards of at most 1 GiB", f"{found.files} {found.dtype}")
    if odd := sorted(set(found.codecs) - CODECS):
        raise Refused(
            f"{root.name}: expected chunks packed by one of {', '.join(sorted(CODECS))},"
            f" found {odd}; write it again with one of these"
        )
    return found


def _damaged(root: Path, expected: str, found: object) -> Refused:
    return Refused(
        f"{root.name}: expected {expected}, found {found}; the metadata are damaged: copy"
        " the folder again"
    )


def _dtype(text: object, root: Path) -> np.dtype[Any]:
    dtype = np.dtype(text) if isinstance(text, str) and "O" not in text else np.dtype("O")
    if dtype.name not in DTYPES:
        raise Refused(
            f"{root.name}: expected real numbers, found the type {text!r}; save the volume"
            " as one of " + ", ".join(sorted(DTYPES))
        )
    return dtype.newbyteorder("=")


def _layout_2(node: Node, root: Path) -> Layout:
    meta = node.meta
    packed = [*(meta.get("filters") or []), meta.get("compressor")]
    codecs = tuple(str(codec["id"]) for codec in packed if codec)
    shape, chunks = tuple(meta["shape"]), tuple(meta["chunks"])
    return Layout(node, shape, _dtype(meta["dtype"], root), chunks, chunks, codecs)


def _layout_3(node: Node, root: Path) -> Layout:
    meta = node.meta
    grid = meta["chunk_grid"]
    if grid["name"] != "regular" or meta.get("storage_transformers"):
        raise _damaged(root, "a regular grid of chunks", grid["name"])
    files = chunks = tuple(grid["configuration"]["chunk_shape"])
    codecs, first = meta["codecs"], False
    if any(codec["name"] == "sharding_indexed" for codec in codecs):
        if len(codecs) > 1:
            raise _damaged(root, "sharding as the only codec", f"{len(codecs)} codecs")
        inner = codecs[0]["configuration"]
        chunks, codecs = tuple(inner["chunk_shape"]), inner["codecs"]
        first = inner.get("index_location") == "start"
        index = [codec["name"] for codec in inner["index_codecs"]]
        if index != ["bytes", "crc32c"] or any(
            a % b for a, b in zip(files, chunks, strict=True)
        ):
            raise _damaged(root, "shards of whole chunks with an index", index)
    names = tuple(str(codec["name"]).removeprefix("numcodecs.") for codec in codecs)
    dtype = _dtype(meta["data_type"], root)
    return Layout(node, tuple(meta["shape"]), dtype, files, chunks, names, first)


def count(array: Layout, root: Path) -> int:
    """Count the chunks that were written.

    Raises
    ------
    Refused
        If there are none, a link leads out of `root`, or half a GiB is claimed by less
        than 1/5000 of its bytes.
    """
    written = size = 0
    for path in _files(array, root):
        size += path.stat().st_size
        written += len(_index(array, path)) if array.sharded else 1
    claimed = math.prod(array.shape) * array.dtype.itemsize
    if not written:
        raise Refused(
            f"{root.name}: expected {array.expected} chunks in {array.node.folder.name},"
            " found none written; write or copy the folder again"
        )
    if claimed > max(UNTRUSTED_BYTES, MOST_RATIO * size):
        raise Refused(
            f"{root.name}: expected at most {MOST_RATIO} times its {size} bytes, found the"
            f" shape {array.shape} {array.dtype}; write all chunks of the volume"
        )
    return written


def _files(array: Layout, root: Path) -> Iterator[Path]:
    """Find the files that hold chunks of the grid."""
    folder = array.node.folder
    pairs = zip(array.shape, array.files, strict=True)
    grid = [math.ceil(edge / chunk) for edge, chunk in pairs]
    for base, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(base, name)
            if path.is_symlink() and not _inside(path, root):
                raise Refused(
                    f"{root.name}: expected data within its own folder, found the link"
                    f" {name}; copy the data into the folder"
                )
        for name in names:
            place = Path(base, name).relative_to(folder).as_posix()
            if re.fullmatch(r"(c[./])?\d{1,18}([./]\d{1,18})*", place):
                numbers = [int(text) for text in re.findall(r"\d+", place)]
                if len(numbers) == len(grid) and np.all(np.less(numbers, grid)):
                    if not Path(base, name).is_file():
                        raise _damaged(root, "chunks in files", f"{place}, which is none")
                    yield Path(base, name)


def _index(array: Layout, path: Path) -> list[tuple[int, int]]:
    """Read where the chunks of a shard stand in its file: place and size in bytes."""
    pairs = zip(array.files, array.chunks, strict=True)
    size = 16 * math.prod(file // chunk for file, chunk in pairs)
    with path.open("rb") as file:
        if not array.index_first:
            file.seek(max(0, path.stat().st_size - size - 4))
        data = file.read(size)
    if len(data) != size:
        raise ValueError(f"shard {path.name} of {path.stat().st_size} bytes has no index")
    index = np.frombuffer(data, "<u8").reshape(-1, 2)
    return [(int(a), int(b)) for a, b in index if a != EMPTY]


def opened(array: Layout, name: str) -> Any:
    """Open an array with zarr, read-only, so that no chunk unpacks to more than it may.

    Returns
    -------
    zarr.Array
        To be indexed inside `few_at_once`.
    """
    zarr = needed("zarr", name)
    storage = needed("zarr.storage", name)

    class Guarded(storage.LocalStore):  # type: ignore[name-defined, misc]
        async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
            value = await super().get(key, prototype, byte_range)
            if value is not None and not key.endswith(("json", ".zarray", ".zattrs")):
                _guard(array, key, value.to_bytes(), byte_range)
            return value

    store = Guarded(array.node.folder, read_only=True)
    return zarr.open_array(store=store, mode="r", zarr_format=array.node.version)


def few_at_once(array: Layout, name: str) -> Any:
    """Let zarr unpack only so many chunks at a time as 128 MiB hold."""
    most = max(1, min(8, CONCURRENT_BYTES // array.chunk_bytes))
    return needed("zarr", name).config.set({"async.concurrency": most})


def _guard(array: Layout, key: str, data: bytes, byte_range: Any) -> None:
    """Refuse a chunk that is cut off, or unpacks to more than its voxels."""
    start = getattr(byte_range, "start", None)
    if byte_range is not None and start == (0 if array.index_first else None):
        return  # the index of a shard
    parts = [data]
    if array.sharded and byte_range is None:
        index = _index(array, array.node.folder / key)
        parts = [data[place : place + size] for place, size in index]
    codecs = list(array.codecs)
    while codecs and codecs[-1] in FILTERS:
        codecs.pop()
    for part in parts:
        unpacked = UNPACKED.get(codecs[-1] if codecs else "", _stored)
        if unpacked(part, most := array.chunk_bytes + SLACK) > most:
            raise ValueError(f"chunk {key} unpacks to more than {array.chunk_bytes} bytes")


def _stored(data: bytes, most: int) -> int:
    return len(data)


def _blosc(data: bytes, most: int) -> int:
    """Read the size before and after packing that Blosc writes into its header."""
    size, packed = struct.unpack_from("<I4xI", data, 4)
    if packed != len(data):
        raise ValueError(f"a chunk of {packed} bytes has {len(data)}")
    return int(size)


def _lz4(data: bytes, most: int) -> int:
    return int(struct.unpack_from("<I", data)[0])


def _deflate(data: bytes, most: int) -> int:
    packer = zlib.decompressobj(wbits=47)
    if len(data) * DEFLATE_RATIO <= HARMLESS_BYTES:
        return 0  # not worth unpacking twice
    return len(packer.decompress(data, most + 1))


def _bz2(data: bytes, most: int) -> int:
    return len(bz2.BZ2Decompressor().decompress(data, most + 1))


def _lzma(data: bytes, most: int) -> int:
    return len(lzma.LZMADecompressor().decompress(data, most + 1))


def _zstd(data: bytes, most: int) -> int:
    """Walk over the blocks of the only frame (RFC 8878, 3.1.1); each may hold 128 KiB.

    zstd itself gives what it has of a frame that is cut off, without a word.
    """
    flags = data[4]
    single = flags >> 5 & 1
    place, size = 6 - single + (0, 1, 2, 4)[flags & 3], (single, 2, 4, 8)[flags >> 6]
    stated = int.from_bytes(data[place : place + size], "little") + 256 * (size == 2)
    place, last, unpacked = place + size, 0, 0
    while not last and place + 3 <= len(data):
        head = int.from_bytes(data[place : place + 3], "little")
        last, kind, length = head & 1, head >> 1 & 3, head >> 3
        unpacked += length if kind < 2 else ZSTD_BLOCK
        place += 3 + (1 if kind == 1 else length)
    if not last or place + 4 * (flags >> 2 & 1) != len(data):
        raise ValueError(f"a chunk of {place} bytes has {len(data)}")
    return stated if size else unpacked


UNPACKED: dict[str, Callable[[bytes, int], int]] = {
    "blosc": _blosc,
    "lz4": _lz4,
    "zlib": _deflate,
    "gzip": _deflate,
    "bz2": _bz2,
    "lzma": _lzma,
    "zstd": _zstd,
}


def axis_index(
    position: int, part: slice, ndim: int, order: Sequence[int]
) -> tuple[Any, ...]:
    """Index an array of any axes so that `part` of one and the whole of `order` remain."""
    index: list[Any] = [slice(None) if axis in order else 0 for axis in range(ndim)]
    index[position] = part
    return tuple(index)


def slab(data: Any, part: slice, order: Sequence[int]) -> Array:
    """Read slices of an array as (n, Y, X); `order` names its axes z, y, x."""
    kept = np.argsort(np.argsort(order))
    found = np.asarray(data[axis_index(order[0], part, data.ndim, order)])
    return np.ascontiguousarray(found.transpose(kept))
