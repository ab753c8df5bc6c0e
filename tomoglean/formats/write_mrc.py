"""Write MRC2014 (doi:10.1016/j.jsb.2015.04.002) so that IMOD, ChimeraX and Fiji agree.

Mode 0 is signed by the standard and unsigned for older programs: bytes are written in
mode 0 only while all of them lie below 128, which is the same in both, else in mode 6
(unsigned, 16 bits). Half precision becomes mode 2, as few programs know mode 12.

The origin stands in words 50-52 with the sign of the standard. IMOD's own sign is the
opposite; it turns the origin round where NVERSION is set or bit 4 of its flags (IMOD's
mrc_format.txt and mrcfiles.c), and both are. NXSTART stays 0: programs take it for an
origin where words 50-52 are 0.
"""

import math
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

from tomoglean.formats import writing
from tomoglean.formats.moments import Moments
from tomoglean.formats.source import Array, Source
from tomoglean.provenance import replacing

WRITES = (".mrc", ".rec", ".map")
MODES = {"int8": 0, "int16": 1, "float32": 2, "uint16": 6}
STORED = {
    **{name: name for name in ("int8", "int16", "uint16", "float32")},
    **dict.fromkeys(
        ("float16", "float64", "int32", "uint32", "int64", "uint64"), "float32"
    ),
    "uint8": "int8",
}
LARGEST_BYTE = 127
IMOD_STAMP, SIGNED_BYTES, STANDARD_ORIGIN = 1146047817, 1, 4
LITTLE_ENDIAN = (0x44, 0x44, 0, 0)
LABELS, LABEL_CHARACTERS = 10, 80


def write(source: Source, path: Path) -> None:
    """Write a volume as MRC with its voxel size, origin, label names and statistics.

    The same volume gives the same bytes. Whole numbers beyond 16 bits are kept exactly
    in float32 or refused.

    Raises
    ------
    Refused
        If the voxel size is unknown or a value does not fit.
    """
    dtype = writing.stored_dtype(source, STORED, "MRC")
    if source.dtype == np.uint8 and _has_large_bytes(source):
        dtype = np.dtype(np.uint16)
    header, found = _header(source, dtype), _Statistics()
    with replacing(path) as partial, partial.open("wb") as file:
        file.write(header.tobytes())
        for block in writing.slabs(source):
            _append(file, writing.cast(block, dtype, source.name), found)
        file.seek(0)
        file.write(found.fill(header).tobytes())


def _has_large_bytes(source: Source) -> bool:
    return any((block > LARGEST_BYTE).any() for block in writing.slabs(source))


def _append(file: IO[bytes], block: Array, found: "_Statistics") -> None:
    found.add(block)
    file.write(np.ascontiguousarray(block, block.dtype.newbyteorder("<")).data)


@dataclass
class _Statistics:
    """Density statistics of the header; of what is finite."""

    low: float = math.inf
    high: float = -math.inf
    moments: Moments = field(default_factory=Moments)

    def add(self, block: Array) -> None:
        """Take in a slab, slice by slice."""
        for image in block:
            finite = image[np.isfinite(image)] if image.dtype.kind == "f" else image
            if finite.size:
                self.low = min(self.low, float(finite.min()))
                self.high = max(self.high, float(finite.max()))
                self.moments.add(finite)

    def fill(self, header: Any) -> Any:
        """Enter minimum, maximum, mean and standard deviation."""
        if self.moments.count:
            header["dmin"], header["dmax"] = self.low, self.high
            header["dmean"], header["rms"] = self.moments.mean, self.moments.std
        return header


def _header(source: Source, dtype: np.dtype[Any]) -> Any:
    header = np.zeros((), np.dtype(HEADER_DTYPE).newbyteorder("<"))
    voxel_nm = writing.voxel_nm(source)
    for axis, edge, step, start in zip(
        "zyx", source.shape, voxel_nm, source.origin_nm, strict=True
    ):
        header[f"n{axis}"] = header[f"m{axis}"] = edge
        header["cella"][axis] = 10 * edge * step
        header["origin"][axis] = 10 * start
    for angle in ("alpha", "beta", "gamma"):
        header["cellb"][angle] = 90
    header["mapc"], header["mapr"], header["maps"] = 1, 2, 3
    header["mode"], header["ispg"] = MODES[dtype.name], 1
    header["nversion"], header["map"], header["machst"] = 20140, b"MAP ", LITTLE_ENDIAN
    _stamp(header, dtype)
    _label(header, source)
    return header


def _stamp(header: Any, dtype: np.dtype[Any]) -> None:
    """Enter IMOD's stamp and flags, bytes 152 to 159 of the header."""
    flags = STANDARD_ORIGIN | (SIGNED_BYTES if dtype == np.int8 else 0)
    words = np.array([IMOD_STAMP, flags], "<i4").tobytes()
    header["extra2"] = bytes(40) + words + bytes(36)


def _label(header: Any, source: Source) -> None:
    """Enter who wrote the file and what its label values mean; never when."""
    names = textwrap.wrap("; ".join(writing.legend(source)), LABEL_CHARACTERS)
    lines = ["Written by tomoglean", *names][:LABELS]
    header["nlabl"] = len(lines)
    header["label"][: len(lines)] = [
        line.ljust(LABEL_CHARACTERS).encode() for line in lines
    ]
