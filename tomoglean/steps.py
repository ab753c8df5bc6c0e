"""Crop, bin, turn and window a volume on its way in, and take its labels along.

The steps stand in volumes.tsv and are done in this order; each column may be empty.

crop
    `z0:z1,y0:y1,x0:x1` in voxels of the file, the ends left out; an empty side means up
    to the edge.
bin
    Whole number: so many voxels along each axis become one. Grey values are averaged
    (rounded where they are whole numbers); of labels the most frequent one stays. What is
    left over at the end of an axis is dropped.
axes
    Which axis of the file becomes z, y and x; `-` turns its direction round. `z,x,y`
    swaps y and x; `-z,y,x` mirrors the volume.
window
    `low,high` or `low,high,uint16`: grey values are clipped to low..high and scaled to
    0..255 (uint8, the usual 8 bit export) or 0..65535.
"""

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tomoglean.provenance import Refused

COLUMNS = ("crop", "bin", "axes", "window")
AXES = "zyx"
IGNORE = 255
MOST_BINNED = 64

Array = npt.NDArray[Any]
Points = npt.NDArray[np.float64]
Shape = tuple[int, int, int]
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Steps:
    """What is done to one volume.

    Attributes
    ----------
    name
        File name for messages.
    shape
        Shape (Z, Y, X) of the file.
    start
        First voxel kept, along z, y, x of the file.
    size
        Shape after crop and bin, along z, y, x of the file.
    factor
        Voxels along each axis that become one.
    order
        Axis of the file that becomes axis 0, 1 and 2.
    turned
        Whether axis 0, 1 and 2 run against the file's.
    window
        Lowest and highest grey value, and the dtype they are scaled to.
    """

    name: str
    shape: Shape
    start: Shape
    size: Shape
    factor: int
    order: Shape
    turned: tuple[bool, bool, bool]
    window: tuple[float, float, str] | None

    @property
    def grid(self) -> Shape:
        """Shape (Z, Y, X) of the converted volume."""
        z, y, x = (self.size[axis] for axis in self.order)
        return z, y, x

    @property
    def moved(self) -> bool:
        """Whether voxels are other ones, or elsewhere, than in the file."""
        return self.grid != self.shape or any(self.turned) or self.order != (0, 1, 2)

    @property
    def mirrored(self) -> bool:
        """Whether left and right hands are exchanged."""
        swaps = sum(a > b for a, b in itertools.combinations(self.order, 2))
        return (sum(self.turned) + swaps) % 2 == 1

    def dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Type of the converted grey values."""
        return np.dtype(self.window[2]) if self.window else dtype

    def voxel_nm(self, voxel_nm: Triple) -> Triple:
        """Voxel edges of the converted volume from those of the file."""
        z, y, x = (self.factor * voxel_nm[axis] for axis in self.order)
        return z, y, x

    def file_voxel_nm(self, voxel_nm: Triple) -> Triple:
        """Voxel edges of the file from those of the converted volume."""
        z, y, x = (voxel_nm[self.order.index(axis)] / self.factor for axis in range(3))
        return z, y, x

    def origin_nm(self, origin_nm: Triple, voxel_nm: Triple) -> Triple:
        """Where the first converted voxel stands.

        Parameters
        ----------
        origin_nm, voxel_nm
            Origin and voxel edges of the file, along its axes.

        Returns
        -------
        tuple
            Along the converted axes. Along an axis that runs against the file's all
            positions change their sign, so that they still grow with the voxels.
        """
        found = []
        for axis, turned in zip(self.order, self.turned, strict=True):
            step = self.size[axis] - 1 if turned else 0
            place = self.start[axis] + self.factor * step + (self.factor - 1) / 2
            at_nm = origin_nm[axis] + place * voxel_nm[axis]
            found.append(-at_nm if turned else at_nm)
        return found[0], found[1], found[2]

    def parts(self, thickness: int) -> Iterator[tuple[slice, tuple[slice, ...]]]:
        """Go through the file in slabs, so that the converted volume grows in order.

        Parameters
        ----------
        thickness
            Converted voxels along the file's z in a slab.

        Yields
        ------
        slice, tuple of slices
            Slices of the file to read, and the place of what `apply` makes of them.
        """
        along, depth = self.order.index(0), self.size[0]
        for first in range(0, depth, thickness):
            last = min(first + thickness, depth)
            low, high = (
                (depth - last, depth - first) if self.turned[along] else (first, last)
            )
            place = [slice(0, edge) for edge in self.grid]
            place[along] = slice(first, last)
            begin = self.start[0]
            yield slice(begin + self.factor * low, begin + self.factor * high), tuple(place)

    def apply(self, block: Array) -> Array:
        """Crop, bin, turn and window slices of grey values, as `parts` names them.

        Parameters
        ----------
        block
            Whole slices of the file, of shape (n, Y, X).
        """
        block = self._cropped(block)
        if self.factor > 1:
            block = averaged(block, self.factor)
        return self._turn(windowed(block, *self.window) if self.window else block)

    def apply_to_labels(self, block: Array) -> Array:
        """Crop, bin and turn slices of labels; see `most_frequent`."""
        block = self._cropped(block)
        return self._turn(most_frequent(block, self.factor) if self.factor > 1 else block)

    def _cropped(self, block: Array) -> Array:
        y, x = (
            slice(self.start[axis], self.start[axis] + self.factor * self.size[axis])
            for axis in (1, 2)
        )
        return block[:, y, x]

    def _turn(self, block: Array) -> Array:
        axes = tuple(axis for axis, turned in enumerate(self.turned) if turned)
        return np.flip(np.transpose(block, self.order), axes)


def place(points: npt.ArrayLike, steps: Steps) -> Points:
    """Bring points from voxels of the file to voxels of the converted volume.

    Parameters
    ----------
    points
        Positions of shape (N, 3), z, y, x; centres of voxels have whole numbers.

    Returns
    -------
    ndarray of shape (N, 3)
        Some may lie outside the converted volume: they were cropped off.
    """
    middle = (steps.factor - 1) / 2
    found = np.asarray(points, np.float64) - np.array(steps.start) - middle
    found = found[:, list(steps.order)] / steps.factor
    last = np.array(steps.grid) - 1
    turned: Points = np.where(steps.turned, last - found, found)
    return turned


def turn(directions: npt.ArrayLike, steps: Steps) -> Points:
    """Bring directions of shape (N, 3) from the file's axes to the converted ones."""
    found = np.asarray(directions, np.float64)[:, list(steps.order)]
    turned: Points = np.where(steps.turned, -found, found)
    return turned


def back(points: npt.ArrayLike, steps: Steps) -> Points:
    """Bring points of shape (N, 3) from voxels of the converted volume to the file's."""
    found = np.asarray(points, np.float64)
    found = np.where(steps.turned, np.array(steps.grid) - 1 - found, found)
    middle = (steps.factor - 1) / 2
    along = steps.factor * found[:, np.argsort(steps.order)]
    placed: Points = along + np.array(steps.start) + middle
    return placed


def turn_back(directions: npt.ArrayLike, steps: Steps) -> Points:
    """Bring directions of shape (N, 3) from the converted axes to the file's."""
    found = np.asarray(directions, np.float64)
    turned: Points = np.where(steps.turned, -found, found)[:, np.argsort(steps.order)]
    return turned


def inside(points: Points, steps: Steps, *, flat: bool = False) -> npt.NDArray[np.bool_]:
    """Tell which placed points lie inside the converted volume; `flat` ignores z."""
    found = (points >= -0.5) & (points <= np.array(steps.grid) - 0.5)
    chosen: npt.NDArray[np.bool_] = found[:, 1:] if flat else found
    return np.asarray(chosen.all(axis=1))


# -- arrays in, arrays out -------------------------------------------------------------


def averaged(block: Array, factor: int) -> Array:
    """Average cubes of voxels; the type stays, whole numbers are rounded to even.

    Parameters
    ----------
    block
        Shape (Z, Y, X), each a multiple of `factor`.
    """
    z, y, x = (edge // factor for edge in block.shape)
    means = np.empty((z, y, x), block.dtype)
    for n in range(z):
        total = np.zeros((y, x))
        for image in block[n * factor : (n + 1) * factor]:
            total += image.reshape(y, factor, x, factor).sum((1, 3), np.float64)
        total /= factor**3
        means[n] = total if block.dtype.kind == "f" else np.rint(total)
    return means


def most_frequent(labels: Array, factor: int) -> Array:
    """Keep the most frequent label of each cube of voxels.

    Unlabelled voxels (255) have no vote; a draw, or a cube without any label, is
    unlabelled.

    Parameters
    ----------
    labels
        uint8 of shape (Z, Y, X), each a multiple of `factor`.
    """
    z, y, x = (edge // factor for edge in labels.shape)
    cubes = labels.reshape(z, factor, y, factor, x, factor)
    winner = np.full((z, y, x), IGNORE, np.uint8)
    most = np.zeros((z, y, x), np.int32)
    for label in np.flatnonzero(np.bincount(labels.ravel(), minlength=1)[:IGNORE]):
        count = (cubes == label).sum((1, 3, 5), np.int32)
        winner[(count == most) & (count > 0)] = IGNORE
        winner[count > most] = label
        np.maximum(most, count, out=most)
    return winner


def windowed(block: Array, low: float, high: float, dtype: str) -> Array:
    """Clip grey values to low..high and scale these to the whole range of a dtype."""
    top = np.iinfo(dtype).max
    scaled = np.empty(block.shape, dtype)
    for image, out in zip(block, scaled, strict=True):
        share = (np.clip(image.astype(np.float64), low, high) - low) / (high - low)
        out[...] = np.rint(top * share)
    return scaled


# -- from words ------------------------------------------------------------------------


def read(row: Mapping[str, Any], shape: Shape, name: str, *, sparse: bool = False) -> Steps:
    """Read the steps of a row of volumes.tsv, or of a converted volume's attributes.

    Parameters
    ----------
    row
        `crop`, `bin`, `axes`, `window`, each may be missing or empty.
    shape
        Shape (Z, Y, X) of the file.
    name
        File name for messages.
    sparse
        Whether the slices are a sparse set, which is not to be changed along z.

    Raises
    ------
    Refused
        If a step makes no sense, or not for a volume of this shape.
    """
    factor = _factor(row, name)
    order, turned = _axes(row, name)
    start, kept = zip(*_ranges(row, shape, name), strict=True)
    size = tuple(edge // factor for edge in kept)
    if min(size) < 1:
        _refuse(name, "bin", f"at most {min(kept)} for what is kept of {shape}", row)
    if sparse and (factor > 1 or order[0] != 0 or turned[0] or kept[0] != shape[0]):
        raise Refused(
            f"{name}: expected a sparse set of slices unchanged along z, found"
            f" {told(row)}; crop y and x only, or window"
        )
    return Steps(name, shape, start, size, factor, order, turned, _window(row, name))


def voxels(row: Mapping[str, Any], shape: Sequence[int] | None) -> int | None:
    """Count the voxels of a converted volume; None where the file's shape is unknown."""
    if not shape:
        return None
    depth, height, width = shape
    return math.prod(read(row, (depth, height, width), "volume").grid)


def refuse_nonsense(row: Mapping[str, Any], name: str) -> None:
    """Refuse steps that make no sense for a volume of any shape."""
    _factor(row, name)
    _axes(row, name)
    _window(row, name)
    for start, stop in _cropped(row, name):
        if stop is not None and stop <= start:
            _refuse(name, "crop", "ends behind the starts", row)


def given(row: Mapping[str, Any]) -> dict[str, str]:
    """Pick the steps out of a row or attributes, those that are given."""
    return {name: str(row[name]) for name in COLUMNS if row.get(name)}


def moves(row: Mapping[str, Any]) -> bool:
    """Tell whether a row's steps may give other voxels than the file has."""
    return any(row.get(name) for name in ("crop", "bin", "axes"))


def told(row: Mapping[str, Any]) -> str:
    """Say the steps of a row in one line."""
    return "; ".join(f"{name} {text}" for name, text in given(row).items())


def _refuse(name: str, column: str, expected: str, row: Mapping[str, Any]) -> None:
    raise Refused(
        f"{name}: {column}: expected {expected}, found {row.get(column)!r}; correct"
        " volumes.tsv"
    )


def _factor(row: Mapping[str, Any], name: str) -> int:
    text = str(row.get("bin") or 1)
    if not (text.isdecimal() and 1 <= int(text) <= MOST_BINNED):
        _refuse(name, "bin", f"a whole number from 1 to {MOST_BINNED}", row)
    return int(text)


def _axes(row: Mapping[str, Any], name: str) -> tuple[Shape, tuple[bool, bool, bool]]:
    words = str(row.get("axes") or "z,y,x").split(",")
    letters = [word.removeprefix("-") for word in words]
    if sorted(letters) != sorted(AXES):
        _refuse(name, "axes", "z, y and x once each, such as z,-x,y", row)
    first, second, third = (AXES.index(letter) for letter in letters)
    a, b, c = (word.startswith("-") for word in words)
    return (first, second, third), (a, b, c)


def _cropped(row: Mapping[str, Any], name: str) -> list[tuple[int, int | None]]:
    text = str(row.get("crop") or ":,:,:")
    if not re.fullmatch(r"[0-9]*:[0-9]*(,[0-9]*:[0-9]*){2}", text):
        _refuse(name, "crop", "z0:z1,y0:y1,x0:x1", row)
    ends = [part.split(":") for part in text.split(",")]
    return [(int(low or 0), int(high) if high else None) for low, high in ends]


def _ranges(row: Mapping[str, Any], shape: Shape, name: str) -> list[tuple[int, int]]:
    """First voxel and number of voxels along z, y, x."""
    found = []
    for (start, stop), edge in zip(_cropped(row, name), shape, strict=True):
        end = edge if stop is None else stop
        if not start < end <= edge:
            _refuse(name, "crop", f"a part of the volume {shape}", row)
        found.append((start, end - start))
    return found


def _window(row: Mapping[str, Any], name: str) -> tuple[float, float, str] | None:
    if not row.get("window"):
        return None
    low, high, *rest = [*str(row["window"]).split(","), ""]
    dtype = ",".join(rest).strip(",") or "uint8"
    try:
        window = float(low), float(high), dtype
    except ValueError:
        window = math.nan, math.nan, dtype
    if not -math.inf < window[0] < window[1] < math.inf or dtype not in ("uint8", "uint16"):
        _refuse(name, "window", "low,high or low,high,uint16 with low below high", row)
    return window
