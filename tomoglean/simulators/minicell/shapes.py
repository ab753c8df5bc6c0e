"""Closed smooth surfaces that a cell's envelope follows: ellipsoid and rod."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Ellipsoid:
    """Ellipsoid about its own centre.

    Attributes
    ----------
    axes_nm
        Semi-axes in nm.
    rotation
        Rows are the directions (z, y, x) of the semi-axes.
    """

    axes_nm: Vector
    rotation: Vector

    def nearest(self, z: Any, y: Any, x: Any) -> tuple[Any, list[Any]]:
        """Signed distance in nm from offsets to the centre, and the nearest point.

        Two steps of Newton's method towards the surface along the slope: exact for a
        sphere; for an axis ratio of 1.6 within 0.2 nm up to 20 nm from the surface.
        """
        first, slope = self._step(z, y, x)
        place = [c - first * d for c, d in zip((z, y, x), slope, strict=True)]
        second, slope = self._step(*place)
        place = [c - second * d for c, d in zip(place, slope, strict=True)]
        return first + second, place

    def _step(self, z: Any, y: Any, x: Any) -> tuple[Any, list[Any]]:
        """First-order distance and its unit direction."""
        square, slope = np.float32(0), [np.float32(0)] * 3
        for axis, semi in zip(self.rotation, self.axes_nm, strict=True):
            wz, wy, wx = (np.float32(w) for w in axis)
            scaled = (wz * z + wy * y + wx * x) / np.float32(semi)
            square = square + scaled * scaled
            scaled = scaled / np.float32(semi)
            parts = (wz * scaled, wy * scaled, wx * scaled)
            slope = [total + part for total, part in zip(slope, parts, strict=True)]
        level = np.sqrt(square)
        steep = np.sqrt(sum(part * part for part in slope)) + np.float32(1e-9)
        return level * (level - 1) / steep, [part / steep for part in slope]

    def reach_nm(self) -> Vector:
        """Half the edges (z, y, x) of the box around it in nm."""
        return np.asarray(np.linalg.norm(self.rotation * self.axes_nm[:, None], axis=0))

    def somewhere(self, rng: np.random.Generator) -> Vector:
        """Offset (z, y, x) of a point of the surface in nm, uniform by area."""
        while True:
            direction = rng.standard_normal(3)
            direction /= np.linalg.norm(direction)
            share = np.linalg.norm(direction / self.axes_nm) * self.axes_nm.min()
            if rng.uniform() < share:
                return np.asarray((self.axes_nm * direction) @ self.rotation)


@dataclass(frozen=True)
class Rod:
    """Cylinder with round caps.

    Attributes
    ----------
    radius_nm, half_nm
        Radius, and half the length of the straight part, in nm.
    axis
        Unit direction (z, y, x).
    """

    radius_nm: float
    half_nm: float
    axis: Vector

    def nearest(self, z: Any, y: Any, x: Any) -> tuple[Any, list[Any]]:
        """Signed distance in nm from offsets to the centre and nearest point; exact."""
        wz, wy, wx = (np.float32(w) for w in self.axis)
        along = wz * z + wy * y + wx * x
        on_axis = np.clip(along, -np.float32(self.half_nm), np.float32(self.half_nm))
        spine = [w * on_axis for w in (wz, wy, wx)]
        across = [c - s for c, s in zip((z, y, x), spine, strict=True)]
        radius = np.sqrt(sum(c * c for c in across)) + np.float32(1e-6)
        stretch = np.float32(self.radius_nm) / radius
        place = [s + c * stretch for s, c in zip(spine, across, strict=True)]
        return radius - np.float32(self.radius_nm), place

    def reach_nm(self) -> Vector:
        """Half the edges (z, y, x) of the box around it in nm."""
        return np.asarray(np.abs(self.axis) * self.half_nm + self.radius_nm)

    def somewhere(self, rng: np.random.Generator) -> Vector:
        """Offset (z, y, x) of a point of the surface in nm, uniform by area."""
        direction = rng.standard_normal(3)
        direction /= np.linalg.norm(direction)
        side = float(direction @ self.axis)
        if rng.uniform() * (self.half_nm + self.radius_nm) < self.radius_nm:
            return np.asarray(
                self.radius_nm * direction + np.sign(side) * self.half_nm * self.axis
            )
        across = direction - side * self.axis
        across *= self.radius_nm / np.linalg.norm(across)
        return np.asarray(across + rng.uniform(-1, 1) * self.half_nm * self.axis)
