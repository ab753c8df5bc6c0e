"""Slices of a volume across any of its axes, as they lie on the page.

Across z, y runs down and x to the right. Across y and x, z runs upwards; in a volume much
taller than wide it runs to the right instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Triple = tuple[float, float, float]
AXES = "zyx"
TALL = 1.5


@dataclass(frozen=True)
class Plane:
    """One slice.

    Attributes
    ----------
    axis
        The axis it lies across: z, y or x.
    index
        Its place along that axis, in voxels.
    turned
        Whether z runs to the right (across y and x only).
    """

    axis: str
    index: int
    turned: bool = False

    @property
    def number(self) -> int:
        """Place of the axis in (z, y, x)."""
        return AXES.index(self.axis)

    @property
    def within(self) -> tuple[int, int]:
        """Places of the axes that run along the height and the width of the picture."""
        high, wide = (axis for axis in range(3) if axis != self.number)
        return (wide, high) if self.turned else (high, wide)

    @property
    def upwards(self) -> bool:
        """Whether the height of the picture runs against its axis."""
        return self.axis != "z" and not self.turned

    def cut(self, data: Any, thickness: int = 1) -> npt.NDArray[Any]:
        """Read the slice, shape (H, W), as a mean over neighbours if thicker than one.

        Parameters
        ----------
        data
            Volume of shape (Z, Y, X), in memory or on disk.
        thickness
            Slices averaged, an odd number; fewer at the border.
        """
        place: list[Any] = [slice(None)] * 3
        low = max(self.index - thickness // 2, 0)
        place[self.number] = slice(low, self.index + thickness // 2 + 1)
        slab = np.asarray(data[tuple(place)])
        if thickness == 1:
            flat = slab.take(0, axis=self.number)
        else:
            flat = slab.mean(axis=self.number, dtype=np.float64)
        if self.turned:
            return np.ascontiguousarray(flat.T)
        return np.ascontiguousarray(flat[::-1]) if self.upwards else flat

    def edges(self, voxel_nm: Sequence[float]) -> tuple[float, float]:
        """Return the edges of a pixel, height and width, in nm."""
        high, wide = self.within
        return float(voxel_nm[high]), float(voxel_nm[wide])

    def shape(self, shape: Sequence[int]) -> tuple[int, int]:
        """Return height and width in voxels for a volume of shape (Z, Y, X)."""
        high, wide = self.within
        return int(shape[high]), int(shape[wide])

    def place(
        self, point: Sequence[float], shape: Sequence[int]
    ) -> tuple[float, float, float]:
        """Return row and column of a point z, y, x, and how far off the slice it lies.

        All in voxels; a row or column of 0 is the middle of the first pixel.
        """
        high, wide = self.within
        row = shape[high] - 1 - point[high] if self.upwards else point[high]
        return row, point[wide], abs(point[self.number] - self.index)


def across(axis: str, index: int, shape: Sequence[int], voxel_nm: Sequence[float]) -> Plane:
    """Return a slice across an axis, turned if the volume is much taller than wide."""
    plane = Plane(axis, index)
    if axis == "z":
        return plane
    high, wide = np.multiply(plane.shape(shape), plane.edges(voxel_nm))
    return Plane(axis, index, turned=bool(high > TALL * wide))


def told(planes: Sequence[Plane]) -> list[str]:
    """Say how z runs where it is in the picture."""
    ways = {
        plane.axis: "to the right" if plane.turned else "upwards"
        for plane in planes
        if plane.axis != "z"
    }
    if len(set(ways.values())) == 1:
        return [f"z runs {next(iter(ways.values()))} in slices across {' and '.join(ways)}"]
    return [f"z runs {way} in slices across {axis}" for axis, way in ways.items()]
