"""Folders of numbered TIFF or PNG slices, and single PNG images."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from tomoglean.formats import tags, tiff
from tomoglean.formats.source import (
    MOST_BYTES_PER_SLICE,
    UNKNOWN,
    Array,
    Format,
    Row,
    Source,
    Triple,
    native,
    readable,
)
from tomoglean.provenance import Refused

FORMAT = Format(
    "slices",
    (".png",),
    "a folder of numbered TIFF or PNG slices, or one PNG",
    "tifffile, Pillow",
    general=True,
)
ENDINGS = {".tif": "TIFF", ".tiff": "TIFF", ".png": "PNG"}
ANY = "any"
PNG_KIND, WIDE = 25, 16
BYTES = {"1": 1, "L": 1, "P": 1, "LA": 2, "I;16": 2, "I;16B": 2, "RGB": 3}


def recognises(path: Path, row: Row) -> bool:
    """Tell folders and single PNG images."""
    return path.is_dir() or FORMAT.fits(path)


@contextlib.contextmanager
def open_file(path: Path, row: Row) -> Iterator[Source]:
    """Open a folder of slices in the order of their numbers.

    The column `spacing` = N says that only every Nth slice exists, `any` that any may be
    missing; the numbers then are the true z of the slices. Otherwise a gap is refused.
    """
    numbered = number(path) if path.is_dir() else {0: path}
    numbers = np.array(sorted(numbered), np.int64)
    z = _true_z(path, numbers, row.get("spacing", "")) if path.is_dir() else None
    files = [numbered[int(n)] for n in numbers]
    example, hint_nm, warnings = _first(files[0])
    if example.dtype == bool and not all(map(_is_one_bit, files)):
        example = _widened(example)
    yield Source(
        path.name,
        (len(files), *example.shape[:2]),
        native(example.dtype),
        lambda part: _read(files[part], example, warnings),
        hint_nm,
        z=z,
        first=int(numbers[0]),
        coloured=example.ndim == 3,
        warnings=warnings,
    )


def number(folder: Path) -> dict[int, Path]:
    """Find the number of every slice: the one number in which the names differ.

    Parameters
    ----------
    folder
        Folder of images; files of other kinds are passed over.

    Returns
    -------
    dict
        Files by number, e.g. {9: s9.tif, 10: s10.tif}.

    Raises
    ------
    Refused
        If there are none, or they are of several series.
    """
    files = [
        file
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in ENDINGS and not file.name.startswith(".")
    ]
    if odd := [file for file in files if not file.is_file()]:
        raise Refused(
            f"{odd[0].name}: expected a slice, found no file (a broken link, a pipe?);"
            " copy it again or take it out of the folder"
        )
    if not files:
        raise Refused(
            f"{folder.name}: expected a volume or numbered TIFF or PNG slices, found none"
            " in the folder; name the file or folder that holds them (points and labels are"
            " checked with their study)"
        )
    kinds = {ENDINGS[file.suffix.lower()] for file in files}
    words = {tuple(re.split(r"\d+", file.stem)) for file in files}
    columns = zip(
        *(map(int, re.findall(r"\d+", file.stem)) for file in files), strict=False
    )
    values = list(columns) if len(kinds) == len(words) == 1 else []
    varying = [column for column in values if len(set(column)) > 1]
    chosen = varying or values[-1:]
    if len(chosen) != 1 or len(set(chosen[0])) != len(files):
        found = ", ".join([file.name for file in files][:3])
        raise Refused(
            f"{folder.name}: expected TIFF or PNG slices of one series, numbered in one"
            f" place, found {len(files)} ({found}); keep one series a folder"
        )
    return dict(zip(chosen[0], files, strict=True))


def _true_z(
    path: Path, numbers: npt.NDArray[np.int64], spacing: str
) -> npt.NDArray[np.int64] | None:
    if spacing == ANY:
        return numbers
    if spacing and not (spacing.isdecimal() and int(spacing) > 0):
        raise Refused(
            f"{path.name}: expected spacing as a whole number of slices, found"
            f" {spacing!r}; correct the row"
        )
    step = int(spacing or 1)
    gaps = np.diff(numbers)
    if np.any(gaps != step):
        missing = numbers[np.flatnonzero(gaps != step)[0]] + step
        usual = gaps[0] if np.all(gaps == gaps[0]) else "N"
        raise Refused(
            f"{path.name}: expected every slice {numbers[0]}, {numbers[0] + step} ..,"
            f" found none with the number {missing}; copy it again, or if only every Nth"
            f" slice exists fill in the column spacing ({usual})"
        )
    return numbers if step > 1 else None


def read_image(path: Path) -> Array:
    """Read one TIFF page or PNG: (Y, X), or (Y, X, 3) in colour."""
    return _first(path)[0]


def _first(path: Path) -> tuple[Array, Triple, list[str]]:
    """Read one image, the voxel size it tells, and what is odd about it."""
    kind = ENDINGS[path.suffix.lower()]
    with readable(path.name, kind):
        return _read_tiff(path) if kind == "TIFF" else (_read_png(path), UNKNOWN, [])


def _read_tiff(path: Path) -> tuple[Array, Triple, list[str]]:
    with tiff.open_file(path, {}) as source:
        if source.shape[0] != 1:
            raise Refused(
                f"{path.name}: expected one slice a file, found {source.shape[0]} pages;"
                " name the file itself as the volume"
            )
        image = np.asarray(source.pages(slice(0, 1))[0])
        return image, source.hint_nm, list(source.warnings)


def _read_png(path: Path) -> Array:
    with Image.open(path, formats=["PNG"]) as image:
        _refuse_bombs(path, image.width * image.height * BYTES.get(image.mode, 4))
        _refuse_narrowed(path)
        plain = image.mode in {"1", "L", "I", "I;16", "I;16B"}
        return np.asarray(image if plain else image.convert("RGB"))


def _refuse_narrowed(path: Path) -> None:
    """Refuse colours, or grey with transparency, of 16 bits: Pillow keeps 8 of them."""
    with path.open("rb") as file:
        bits, kind = file.read(PNG_KIND + 1)[PNG_KIND - 1 :]
    if bits == WIDE and kind != 0:
        raise Refused(
            f"{path.name}: expected grey values, or colours of 8 bits, found 16 bits of"
            f" PNG's colour type {kind}; save the slices as plain grey values"
        )


def _refuse_bombs(path: Path, expected: int) -> None:
    """Refuse an image that few bytes claim to be; deflate packs at most 1032 to 1."""
    found = path.stat().st_size
    dense = expected > tags.MOST_RATIO * found and expected > tags.UNTRUSTED_PAGE_BYTES
    if dense or expected > MOST_BYTES_PER_SLICE:
        raise Refused(
            f"{path.name}: expected an image of at most {tags.MOST_RATIO} times its"
            f" {found} bytes, found one of {expected}; the file is damaged: copy it again"
        )


def _is_one_bit(path: Path) -> bool:
    """Whether a slice holds 1 bit a pixel, by the start of a PNG; of TIFF it says yes."""
    with path.open("rb") as file:
        start = file.read(PNG_KIND)
    return start[1:4] != b"PNG" or start[-1:] == b"\1"


def _widened(image: Array) -> Array:
    """Take 1 bit as the 8 bits that viewers show: white is 255."""
    return np.where(image, np.uint8(255), np.uint8(0))


def _read(files: list[Path], example: Array, warnings: list[str]) -> Array:
    images = np.empty((len(files), *example.shape), example.dtype)
    for number, file in enumerate(files):
        image = read_image(file)
        if image.dtype == bool and example.dtype == np.uint8:
            image = _widened(image)
            told = f"{file.parent.name}: slices of 1 bit among 8 bit: white is taken as 255"
            warnings += [] if told in warnings else [told]
        if (image.shape, image.dtype) != (example.shape, example.dtype):
            raise Refused(
                f"{file.name}: expected a slice like the first, {example.shape}"
                f" {example.dtype}, found {image.shape} {image.dtype}; make all alike"
            )
        images[number] = image
    return images
