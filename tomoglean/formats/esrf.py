"""ESRF volumes: plain voxels (.vol, .raw) and a text file beside them (.vol.info).

PyHST writes such pairs. The text opens with `! PyHST_SLAVE VOLUME INFO FILE`, followed by
`NUM_X`, `NUM_Y`, `NUM_Z`, `voxelSize` in micron and `BYTEORDER` (LOWBYTEFIRST or
HIGHBYTEFIRST); x is the fastest and the voxels are 32-bit floats. Some software adds
`DATA_TYPE` with the name of a NumPy type (https://github.com/heprom/pymicro, HST_write).
"""

import contextlib
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tomoglean.formats.raw import exactly, lies_beside
from tomoglean.formats.source import UNKNOWN, Format, Row, Source, Triple, native
from tomoglean.provenance import Refused

FORMAT = Format(
    "ESRF",
    (".vol.info", ".raw.info"),
    "a plain .vol or .raw with its .info beside it; either may be named",
)
INFO = ".info"
VOXELS = (".vol", ".raw")
MOST_BYTES = 1 << 20
BYTE_ORDERS: dict[str, Literal["<", ">"]] = {"LOWBYTEFIRST": "<", "HIGHBYTEFIRST": ">"}
TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
MICRON_NM = 1000


def recognises(path: Path, row: Row) -> bool:
    """Tell text files by their ending, and voxels by the text file beside them."""
    return FORMAT.fits(path) or (
        path.suffix.lower() in VOXELS and path.is_file() and _info(path).is_file()
    )


def files(path: Path, row: Row) -> list[Path]:
    """List the text file and the voxels."""
    return [_info(path), _voxels(path)]


@contextlib.contextmanager
def open_file(path: Path, row: Row) -> Iterator[Source]:
    """Open the pair of text and voxels; the size of the file must fit exactly."""
    info, voxels = _info(path), _voxels(path)
    if not lies_beside(voxels, info):
        raise Refused(
            f"{info.name}: expected its voxels {voxels.name} beside it, found none; copy"
            " both files of the pair"
        )
    told = _parse(info)
    shape, dtype = _shape(info, told), _dtype(info, told)
    data = exactly(voxels, shape, dtype)
    yield Source(
        path.name,
        shape,
        native(dtype),
        lambda part: np.array(data[part]),
        _voxel_nm(told),
    )


def _info(path: Path) -> Path:
    return path if path.name.lower().endswith(INFO) else Path(f"{path}{INFO}")


def _voxels(path: Path) -> Path:
    info = _info(path)
    return info.with_name(info.name[: -len(INFO)])


def _parse(info: Path) -> Mapping[str, str]:
    """Read the lines `KEY = value`, keys in capital letters."""
    with info.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    pairs = re.findall(
        r"^[ \t]*(\w+)[ \t]*=[ \t]*(\S+)",
        content.decode("utf-8", errors="replace"),
        re.MULTILINE,
    )
    if len(content) > MOST_BYTES or not pairs:
        raise Refused(
            f"{info.name}: expected lines such as `NUM_X = 2048`, found none; copy the file"
            " again"
        )
    return {key.upper(): value for key, value in reversed(pairs)}


def _shape(info: Path, told: Mapping[str, str]) -> tuple[int, int, int]:
    words = [told.get(f"NUM_{axis}", "") for axis in "ZYX"]
    if not all(re.fullmatch(r"[1-9]\d{0,8}", word) for word in words):
        raise Refused(
            f"{info.name}: expected NUM_Z, NUM_Y, NUM_X as whole numbers, found"
            f" {[word[:20] for word in words]}; copy the file again"
        )
    z, y, x = map(int, words)
    return z, y, x


def _dtype(info: Path, told: Mapping[str, str]) -> np.dtype[Any]:
    kind = told.get("DATA_TYPE", "float32").lower()
    order = told.get("BYTEORDER", "LOWBYTEFIRST").upper()
    if kind not in TYPES or order not in BYTE_ORDERS:
        raise Refused(
            f"{info.name}: expected BYTEORDER LOWBYTEFIRST or HIGHBYTEFIRST and a DATA_TYPE"
            f" such as float32, found {order[:20]!r}, {kind[:20]!r}; correct the file or"
            " write the volume again"
        )
    return np.dtype(kind).newbyteorder(BYTE_ORDERS[order])


def _voxel_nm(told: Mapping[str, str]) -> Triple:
    try:
        edge_nm = MICRON_NM * float(told.get("VOXELSIZE", "nan"))
    except ValueError:
        return UNKNOWN
    return (edge_nm,) * 3 if 0 < edge_nm < math.inf else UNKNOWN
