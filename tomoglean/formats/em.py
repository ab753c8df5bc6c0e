"""EM, the format of the EM program (Hegerl 1996, J. Struct. Biol. 116, 30) and of TOM.

The 512 bytes of its header, as http://www.embl.de/frangakis/Tools/AmiraTools/emread.htm
lists them: machine, two bytes of other use, type, three sizes (x, y, z), 80 characters,
40 numbers of the user, 256 characters. The voxels follow, x fastest.
"""

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tomoglean.formats.raw import exactly
from tomoglean.formats.source import Format, Row, Source, native
from tomoglean.provenance import Refused

FORMAT = Format(
    "EM",
    (".em",),
    "bytes (signed), 16- and 32-bit integers, 32- and 64-bit floats; both byte orders; the"
    " voxel size is the row's",
)
HEADER_BYTES = 512
BYTE_ORDERS = {0: ">", 1: "<", 2: ">", 3: ">", 5: ">", 6: "<"}
OLD_FLOATS = {1: "VAX", 2: "Convex"}
TYPES = {1: "i1", 2: "i2", 4: "i4", 5: "f4", 8: "c8", 9: "f8"}
PIXEL_WORD = 96 + 4 * 6


def recognises(path: Path, row: Row) -> bool:
    """Tell files of the format by their ending."""
    return FORMAT.fits(path)


@contextlib.contextmanager
def open_file(path: Path, row: Row) -> Iterator[Source]:
    """Open an EM file.

    No place of the header holds the voxel size for certain: number 7 of the user does by
    convention, times 1000, but in nm in some versions of the TOM toolbox and in angstrom
    in others. It is told and never used.
    """
    with path.open("rb") as file:
        start = file.read(HEADER_BYTES)
    if len(start) < HEADER_BYTES:
        raise Refused(
            f"{path.name}: expected a header of {HEADER_BYTES} bytes, found {len(start)};"
            " copy the file again"
        )
    dtype = _dtype(path, start[0], start[3])
    x, y, z = struct.unpack_from(f"{BYTE_ORDERS[start[0]]}3i", start, 4)
    data = exactly(path, (z, y, x), dtype, HEADER_BYTES)
    yield Source(
        path.name,
        (z, y, x),
        native(dtype),
        lambda part: np.array(data[part]),
        notes=_notes(path, start),
    )


def _dtype(path: Path, machine: int, kind: int) -> np.dtype[Any]:
    if machine not in BYTE_ORDERS or kind not in TYPES:
        raise Refused(
            f"{path.name}: expected an EM file of machine 0-3, 5 or 6 and type 1, 2, 4, 5,"
            f" 8 or 9, found machine {machine}, type {kind}; is this an EM file? Copy it"
            " again"
        )
    if machine in OLD_FLOATS and TYPES[kind][0] in "fc":
        raise Refused(
            f"{path.name}: expected floats as today's machines write them, found those of a"
            f" {OLD_FLOATS[machine]}; write the file again with other software"
        )
    return np.dtype(BYTE_ORDERS[machine] + TYPES[kind])


def _notes(path: Path, start: bytes) -> list[str]:
    notes = []
    if start[3] == 1:
        notes.append(f"{path.name}: bytes read as signed, the only kind that EM has")
    (pixel,) = struct.unpack_from(f"{BYTE_ORDERS[start[0]]}i", start, PIXEL_WORD)
    if pixel > 0:
        notes.append(
            f"{path.name}: its number 7 is {pixel}, by convention a pixel of"
            f" {pixel / 1000:g} nm or angstrom, depending on who wrote it; not used"
        )
    return notes
