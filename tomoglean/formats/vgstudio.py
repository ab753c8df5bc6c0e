"""VGStudio volumes: a text header (.vgi) and plain voxels beside it (.vol).

The header has blocks in braces, sections in brackets and lines `key = value`. The keys
are those that https://github.com/BlueQuartzSoftware/simplnx (ReadVolumeGraphicsFile)
reads: `Size`, `Datatype`, `BitsPerElement`, `Name` of [file1], and `resolution`, `unit`
of [geometry]. Sizes are x, y, z and x is the fastest; numbers are little-endian.
"""

import contextlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tomoglean.formats.lengths import in_nm
from tomoglean.formats.raw import exactly, lies_beside
from tomoglean.formats.source import UNKNOWN, Format, Row, Source, Triple, native
from tomoglean.provenance import Refused

FORMAT = Format(
    "VGStudio",
    (".vgi",),
    "one plain .vol of 8, 16 or 32 bit with its .vgi beside it; either may be named",
)
MOST_BYTES = 1 << 22
TYPES = {
    ("unsigned integer", 8): "u1",
    ("unsigned integer", 16): "<u2",
    ("unsigned integer", 32): "<u4",
    ("integer", 8): "i1",
    ("integer", 16): "<i2",
    ("integer", 32): "<i4",
    ("float", 32): "<f4",
    ("float", 64): "<f8",
}
Section = dict[str, str]


def recognises(path: Path, row: Row) -> bool:
    """Tell headers by their ending, and voxels by the header beside them."""
    return FORMAT.fits(path) or _header_of(path) is not None


def files(path: Path, row: Row) -> list[Path]:
    """List the header and the voxels, as far as the header can be read."""
    header = _header(path)
    return [header, header.parent / _look(header).name] if header.is_file() else [header]


@contextlib.contextmanager
def open_file(path: Path, row: Row) -> Iterator[Source]:
    """Open the pair of header and voxels.

    Raises
    ------
    Refused
        If one of them is missing, the header speaks of several volumes or files, or of
        voxels elsewhere than beside itself, or the sizes do not fit.
    """
    header = _header(path)
    told = _look(header)
    voxels = header.parent / told.name
    there = lies_beside(voxels, header)
    if not there or (path.suffix.lower() == ".vol" and voxels.name != path.name):
        raise Refused(
            f"{header.name}: expected its voxels {told.name} beside it, found"
            f" {path.name if there else 'none'}; copy both files of the pair"
        )
    data = exactly(voxels, told.shape, told.dtype, told.skipped)
    yield Source(
        path.name,
        told.shape,
        native(told.dtype),
        lambda part: np.array(data[part]),
        told.voxel_nm,
        warnings=told.warnings,
    )


@dataclass
class _Told:
    """What a header says."""

    name: str
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    skipped: int
    voxel_nm: Triple
    warnings: list[str]


def _header_of(path: Path) -> Path | None:
    """Find the header beside a .vol: scan.vgi or scan.vol.vgi."""
    if path.suffix.lower() != ".vol" or path.is_dir():
        return None
    names = (path.with_suffix(".vgi"), path.with_suffix(".VGI"), Path(f"{path}.vgi"))
    return next((name for name in names if name.is_file()), None)


def _header(path: Path) -> Path:
    return _header_of(path) or path


def _look(header: Path) -> _Told:
    sections = _parse(header)
    file = _only(header, sections, "file1")
    if any(name == "file2" for name, _ in sections):
        raise Refused(
            f"{header.name}: expected the voxels in one file, found them in several; save"
            " the volume as one .vol"
        )
    whole = next((keys for name, keys in sections if name == "representation"), {})
    if file.get("fileformat", "raw").lower() != "raw":
        raise Refused(
            f"{header.name}: expected plain voxels (FileFormat = raw), found"
            f" {file['fileformat']!r}; save the volume as raw .vol"
        )
    shape = _shape(header, file.get("size", whole.get("size", "")))
    if "size" in whole and _shape(header, whole["size"]) != shape:
        raise Refused(
            f"{header.name}: expected one size, found {shape} and x, y, z ="
            f" {whole['size']}; save the volume as one .vol"
        )
    warnings: list[str] = []
    return _Told(
        _name(header, file.get("name", "")),
        shape,
        _dtype(header, {**whole, **file}),
        _skipped(header, file),
        _voxel_nm(header, sections, warnings),
        warnings,
    )


def _parse(header: Path) -> list[tuple[str, Section]]:
    """Read sections with their keys in small letters; a key said twice counts once."""
    with header.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES or b"\0" in content:
        raise Refused(
            f"{header.name}: expected a text header of VGStudio, found other or too many"
            " bytes; copy the file again"
        )
    sections: list[tuple[str, Section]] = [("", {})]
    for line in content.decode("utf-8", errors="replace").splitlines():
        if match := re.fullmatch(r"\s*[\[{](.*)[\]}]\s*", line):
            sections.append((match[1].strip().lower(), {}))
        elif "=" in line:
            key, _, value = line.partition("=")
            sections[-1][1].setdefault(key.strip().lower(), value.strip())
    return sections


def _only(header: Path, sections: list[tuple[str, Section]], name: str) -> Section:
    found = [keys for section, keys in sections if section == name]
    if len(found) != 1:
        raise Refused(
            f"{header.name}: expected one section [{name}], found {len(found)}; save one"
            " volume a file"
        )
    return found[0]


def _shape(header: Path, text: str) -> tuple[int, int, int]:
    words = text.split()
    if len(words) != 3 or not all(re.fullmatch(r"[1-9]\d{0,8}", word) for word in words):
        raise Refused(
            f"{header.name}: expected Size = x y z, found {text[:40]!r}; copy the header"
            " again"
        )
    x, y, z = map(int, words)
    return z, y, x


def _name(header: Path, text: str) -> str:
    """Return the name of the voxels' file, which must lie beside the header."""
    if not text or text in {".", ".."} or re.search(r"[/\\:\0]", text):
        raise Refused(
            f"{header.name}: expected the name of a file beside it, found"
            f" {'a path' if text else 'none'}; write `Name = FILE.vol` into the header"
        )
    return text


def _dtype(header: Path, keys: Section) -> np.dtype[Any]:
    kind, bits = keys.get("datatype", "").lower(), keys.get("bitsperelement", "")
    kind = kind.removeprefix("signed ").strip()
    code = TYPES.get((kind, int(bits))) if re.fullmatch(r"\d{1,3}", bits) else None
    if code is None:
        raise Refused(
            f"{header.name}: expected a Datatype (unsigned integer, integer, float) and"
            f" BitsPerElement, found {kind[:40]!r}, {bits[:40]!r}; save the volume again"
        )
    return np.dtype(code)


def _skipped(header: Path, file: Section) -> int:
    text = file.get("skipheader", "0")
    if not re.fullmatch(r"\d{1,9}", text):
        raise Refused(
            f"{header.name}: expected SkipHeader as a whole number, found {text[:40]!r};"
            " copy the header again"
        )
    return int(text)


def _voxel_nm(
    header: Path, sections: list[tuple[str, Section]], warnings: list[str]
) -> Triple:
    """Read the size of a voxel of the only geometry that has a resolution."""
    found = {
        (keys["resolution"], keys.get("unit", "").lower())
        for name, keys in sections
        if name == "geometry" and "resolution" in keys
    }
    if len(found) != 1:
        return UNKNOWN
    text, unit = found.pop()
    numbers = [_number(word) * in_nm(unit) for word in text.split()]
    if len(numbers) != 3 or not all(0 < edge < math.inf for edge in numbers):
        warnings.append(
            f"{header.name}: its resolution {text[:40]!r} of unit {unit[:20]!r} is no voxel"
            " size; not used"
        )
        return UNKNOWN
    x, y, z = numbers
    return z, y, x


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
