"""Large files of which next to nothing was ever written."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from tomoglean.provenance import Refused

LARGE_BYTES = 1 << 30
LEAST_SHARE = 1000
MOST_EXTENTS = 1000


def refuse_holes(path: Path) -> None:
    """Refuse a sparse file (lseek(2): SEEK_DATA) that claims far more than it holds.

    A copy that was broken off may look like that, and a file of a few bytes that would
    keep us reading zeros for hours. File systems that know no holes say that all is data;
    blocks on tape count as data, as `st_blocks` would not tell.

    Raises
    ------
    Refused
        If the file is larger than 1 GiB and less than a thousandth of it is data.
    """
    size = path.stat().st_size
    if size < LARGE_BYTES:
        return
    with path.open("rb") as file:
        held = 0
        for count, length in enumerate(_extents(file.fileno(), size)):
            held += length
            if held * LEAST_SHARE >= size or count >= MOST_EXTENTS:
                return
    raise Refused(
        f"{path.name}: expected {size} bytes, found {held} that were ever written; the file"
        " is nearly all hole: copy it again"
    )


def _extents(descriptor: int, size: int) -> Iterator[int]:
    """Yield the lengths of the parts of a file that hold data."""
    place = 0
    with contextlib.suppress(OSError):
        while place < size:
            start = os.lseek(descriptor, place, os.SEEK_DATA)
            place = os.lseek(descriptor, start, os.SEEK_HOLE)
            yield place - start
