"""Bytes of a gzip or bzip2 file, read forward."""

import bz2
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from isal import igzip

from tomoglean.formats.source import Array
from tomoglean.provenance import Refused

ENDINGS = (".gz", ".bz2")
BLOCK = 1 << 22
GZIP, BZIP2 = b"\x1f\x8b", b"BZh"


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file, decompressing it where its first bytes say that it is compressed.

    Only names that end in .gz or .bz2 are looked at: a plain file may begin with any
    bytes, and a file that a browser has decompressed already may keep its name.
    """
    with path.open("rb") as file:
        start = file.read(3) if path.name.lower().endswith(ENDINGS) else b""
        file.seek(0)
        if start.startswith(GZIP):
            with igzip.open(file, "rb") as stream:
                yield cast("BinaryIO", stream)
        elif start == BZIP2:
            with bz2.open(file, "rb") as stream:
                yield cast("BinaryIO", stream)
        else:
            yield file


def is_compressed(path: Path) -> bool:
    """Tell whether `opened` would decompress a file."""
    if not path.name.lower().endswith(ENDINGS):
        return False
    with path.open("rb") as file:
        return file.read(3).startswith((GZIP, BZIP2))


def read_array(
    stream: BinaryIO, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], offset: int
) -> Array:
    """Read an array that begins `offset` bytes behind the start.

    A stream that stands before this place goes on from where it is; only one that
    stands behind it begins anew.

    Raises
    ------
    Refused
        If the file ends before the array does.
    """
    array = np.empty(shape, dtype)
    view, done = array.reshape(-1).view(np.uint8).data, 0
    stream.seek(offset)
    while done < len(view):
        count = stream.readinto(view[done : done + BLOCK])  # type: ignore[attr-defined]
        if not count:
            raise Refused(
                f"{name}: expected {offset + len(view)} bytes once decompressed, found"
                f" {offset + done}; the file is cut off or its header wrong: copy it again"
            )
        done += count
    return array


def left_over(stream: BinaryIO, end: int, most: int) -> int:
    """Count the bytes behind `end`, `most` at most."""
    stream.seek(end)
    found = 0
    while found < most and (block := stream.read(min(most - found, BLOCK))):
        found += len(block)
    return found
