"""What every reader yields: a volume outside the pipeline, read slab by slab."""

import contextlib
import importlib
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tomoglean.provenance import Refused

Row = Mapping[str, str]
Array = npt.NDArray[Any]
Triple = tuple[float, float, float]
UNKNOWN = (math.nan, math.nan, math.nan)
MOST_BYTES_PER_SLICE = 1 << 28
FOLDERS = re.compile(r"(?<![^\s'\"(=])/\S*/")


@dataclass(frozen=True)
class Format:
    """A line of the table of formats (docs/formats.md is made of them).

    Attributes
    ----------
    name
        What people call the format.
    endings
        Endings of its files in small letters, such as (".mrc", ".mrc.gz").
    reads
        What of the format is read and what is refused, in one line.
    library
        Library that reads it; empty if this package does.
    general
        Asked last: takes what no special format knows, such as a folder of images.
    """

    name: str
    endings: tuple[str, ...]
    reads: str
    library: str = ""
    general: bool = False

    def fits(self, path: Path) -> bool:
        """Tell whether a file (no folder) has one of the endings."""
        return not path.is_dir() and path.name.lower().endswith(self.endings)


@dataclass
class Source:
    """A volume in a foreign file.

    Attributes
    ----------
    name
        File name without its folder.
    shape
        (Z, Y, X) in voxels.
    dtype
        Type of the voxels in native byte order; bool is given as uint8.
    pages
        Function from a slice of z to an array (n, Y, X) or, in colour, (n, Y, X, 3).
    hint_nm
        Voxel edges along z, y, x as the file tells them, in nm; NaN where it does not.
    voxel_nm
        Voxel edges as they shall be used, in nm; None if nobody knows them.
    z
        True z of every slice of a sparse set.
    first
        Number of the first slice in a numbered series.
    coloured
        True if `pages` gives three channels.
    format
        Name of the reader.
    origin_nm
        Where the centre of voxel (0, 0, 0) stands in the frame of the file, as z, y, x
        in nm.
    materials
        Names of label values, where the file tells them.
    acquisition
        What the file tells of the recording, such as the number of projections.
    linked
        Further files that the voxels are read from, known only once it is open.
    notes
        What a person may like to know, one line each.
    box
        Function from three slices (z, y, x) to an array, where the format reads a part
        of a slice without the rest, as chunked files do.
    warnings
        What a person should know, one line each.
    """

    name: str
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    pages: Callable[[slice], Array]
    hint_nm: Triple = UNKNOWN
    voxel_nm: Triple | None = None
    z: npt.NDArray[np.int64] | None = None
    first: int = 0
    coloured: bool = False
    format: str = ""
    origin_nm: Triple = (0.0, 0.0, 0.0)
    materials: Mapping[int, str] = field(default_factory=dict)
    acquisition: Mapping[str, str | float] = field(default_factory=dict)
    linked: tuple[Path, ...] = ()
    box: Callable[[slice, slice, slice], Array] | None = None
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def read(self, part: slice) -> Array:
        """Read slices as grey values of shape (n, Y, X).

        Raises
        ------
        Refused
            If the file cannot be read, or its colours are no shades of grey.
        """
        block = self.read_colours(part)
        if block.ndim == 3:
            return block
        if (block != block[..., :1]).any():
            raise Refused(
                f"{self.name}: expected grey values, found colours (RGB) in slices"
                f" {part.start} to {part.stop - 1}; save the volume as grey values"
            )
        return np.ascontiguousarray(block[..., 0])

    def read_colours(self, part: slice) -> Array:
        """Read slices as they are: (n, Y, X), or (n, Y, X, 3) in colour."""
        with readable(self.name, self.format):
            block = np.asarray(self.pages(part))
        expected = (part.stop - part.start, *self.shape[1:])
        if block.shape[:3] != expected:
            raise Refused(
                f"{self.name}: expected slices of shape {expected}, found"
                f" {block.shape[:3]}; is the file complete? Copy it again"
            )
        return block.astype(self.dtype, copy=False)


@contextlib.contextmanager
def readable(name: str, format: str) -> Iterator[None]:
    """Turn whatever a reading library raises into one line for the user.

    Damaged headers make the libraries raise nearly every kind of exception, so all are
    caught here, and only here.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Refused:
        raise
    except Exception as error:
        told = " ".join(f"{type(error).__name__}: {error}".split())
        found = FOLDERS.sub("", told)[:200]
        raise Refused(
            f"{name}: expected a readable file ({format}), found damage ({found});"
            " copy the file again or correct its row"
        ) from error


def needed(library: str, name: str) -> Any:
    """Import a library that only one format needs.

    Raises
    ------
    Refused
        If it is not installed.
    """
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise Refused(
            f"{name}: expected the library {library} to read this format, found none"
            f" ({error}); run `make setup`, or pip install {library}"
        ) from error


def native(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Return a dtype in native byte order, bool as uint8."""
    dtype = np.dtype(dtype)
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("=")


def parse_triple(text: str, what: str) -> Triple:
    """Read `a` or `z,y,x` as three positive numbers.

    Raises
    ------
    Refused
        If the text is anything else.
    """
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) == 1:
        values *= 3
    if len(values) != 3 or not all(0 < value < math.inf for value in values):
        raise Refused(
            f"{what}: expected one or three positive numbers (z,y,x), found {text!r};"
            " correct the row"
        )
    return values[0], values[1], values[2]


def parse_shape(text: str, what: str) -> tuple[int, int, int]:
    """Read `z,y,x` as three whole numbers above zero."""
    edges = [int(part) for part in text.split(",") if part.strip().isdecimal()]
    if text.count(",") != 2 or len(edges) != 3 or min(edges) < 1:
        raise Refused(
            f"{what}: expected three whole numbers z,y,x, found {text!r}; correct the row"
        )
    return edges[0], edges[1], edges[2]


def mapped(
    path: Path,
    shape: tuple[int, int, int],
    dtype: np.dtype[Any],
    offset: int,
) -> Array:
    """Map voxels that lie plain in a file, read-only.

    Raises
    ------
    Refused
        If the file is shorter than offset + shape x size of a voxel.
    """
    expected = offset + math.prod(shape) * dtype.itemsize
    found = path.stat().st_size
    if found < expected:
        raise Refused(
            f"{path.name}: expected {expected} bytes for {shape} voxels of {dtype.name},"
            f" found {found}; the file is cut off or its header wrong: copy it again"
        )
    return np.memmap(path, dtype, "r", offset, shape)
