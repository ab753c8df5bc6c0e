"""Cell envelope: outer membrane, peptidoglycan, inner membrane, as exact functions.

The middle surface is an ellipsoid or a rod that undulates a little; outer and inner
membrane (OM, IM) lie half the local gap above and below it. Nothing depends on a grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tomoglean.provenance import Refused
from tomoglean.simulators import fields, waves
from tomoglean.simulators.fields import Float
from tomoglean.simulators.minicell.bodies import Site
from tomoglean.simulators.minicell.shapes import Ellipsoid, Rod, Vector
from tomoglean.simulators.waves import Waves
from tomoglean.volumes import random

GAP_LIMITS_NM = (28.0, 40.0)
DIMPLE_NM, DIMPLE_HEIGHT_NM = 15.0, 25.0
FADE_NM, WAVES = 45.0, 16


@dataclass(frozen=True)
class Cell:
    """Settings: the cell, its envelope and what fills it; see the schema for units."""

    shape: str
    diameter_nm: Sequence[float]
    axis_ratio: Sequence[float]
    length_nm: Sequence[float]
    gap_nm: float
    gap_spread_nm: float
    ripple_nm: float
    heads_nm: float
    heads_density: float
    wall_nm: Sequence[float]
    wall_depth_nm: Sequence[float]
    wall_density: float
    cytosol_share: float
    periplasm_share: float
    membrane_share: float
    protein_kda: Sequence[float]
    ribosomes_per_um3: float


@dataclass(frozen=True)
class Envelope:
    """Cell envelope as functions of the place in nm.

    Attributes
    ----------
    centre_nm, shape
        Centre, and the smooth middle surface between OM and IM about it.
    ripple, swell
        Undulation of the middle surface, and variation of the gap, in nm.
    gap_nm
        Mean distance of the membranes in nm.
    dimples
        Sites at which the gap is pulled to the site's own.
    """

    centre_nm: Vector
    shape: Ellipsoid | Rod
    ripple: Waves
    swell: Waves
    gap_nm: float
    dimples: tuple[Site, ...] = field(default=())

    def at(self, points: npt.ArrayLike) -> tuple[Vector, Vector]:
        """Signed distances in nm to OM and IM at points (N, 3); positive outside."""
        places = np.asarray(points, float)
        z, y, x = (places - self.centre_nm).T
        middle, gap = self._surfaces(z, y, x)
        for site in self.dimples:
            gap += _dimple(site, *places.T) * (site.gap_nm - gap)
        return middle - gap / 2, middle + gap / 2

    def _surfaces(self, z: Any, y: Any, x: Any) -> tuple[Any, Any]:
        """Distance to the middle surface, and the gap before dimples, from offsets.

        Undulations are those of the nearest point of the smooth shape: along a normal
        nothing changes, so distances stay distances. They fade out far from it.
        """
        middle, place = self.shape.nearest(z, y, x)
        near = np.abs(middle) < 2 * FADE_NM
        some = [np.broadcast_to(part, near.shape)[near] for part in place]
        fade = np.minimum(2 - np.abs(middle[near]) / np.float32(FADE_NM), 1)
        middle[near] += fade * _waves(self.ripple, *some)
        gap = np.full_like(middle, self.gap_nm)
        gap[near] += fade * _waves(self.swell, *some)
        return middle, np.clip(gap, *GAP_LIMITS_NM, out=gap)

    def plane(self, z: float, y: Vector, x: Vector) -> tuple[Float, Float]:
        """Signed distances in nm to OM and IM on a plane; positive outside.

        Parameters
        ----------
        z
            Height of the plane in nm.
        y, x
            Coordinates of its rows and columns in nm, evenly spaced and rising.

        Returns
        -------
        outer, inner
            Float32 arrays of shape (len(y), len(x)). To first order distances: within
            3 % up to 40 nm from the surface.
        """
        high = np.float32(z - self.centre_nm[0])
        down = (y[:, None] - self.centre_nm[1]).astype(np.float32)
        across = (x[None, :] - self.centre_nm[2]).astype(np.float32)
        middle, gap = self._surfaces(high, down, across)
        for site in self.dimples:
            _pull(gap, site, z, y, x)
        gap *= np.float32(0.5)
        return middle - gap, middle + gap

    def middle(self, points: npt.ArrayLike) -> Vector:
        """Signed distance in nm to the middle surface at points (N, 3)."""
        outer, inner = self.at(points)
        return (outer + inner) / 2

    def normal(self, place_nm: Vector) -> Vector:
        """Unit outward normal of the middle surface at a place in nm."""
        step = 0.5 * np.eye(3)
        values = self.middle(np.concatenate([place_nm + step, place_nm - step]))
        slope = values[:3] - values[3:]
        return np.asarray(slope / np.linalg.norm(slope))

    def bend(self, place_nm: Vector, step_nm: float = 8.0) -> float:
        """Mean curvature of the middle surface at a place in 1/nm; positive on a ball."""
        step = step_nm * np.eye(3)
        values = self.middle(np.concatenate([place_nm + step, place_nm - step]))
        here = float(self.middle(place_nm[None])[0])
        return float((values.sum() - 6 * here) / step_nm**2 / 2)

    def settled_place(self, place_nm: Vector) -> Vector:
        """Move a place onto the middle surface along its normal."""
        place = np.asarray(place_nm)
        for _ in range(3):
            place = place - float(self.middle(place[None])[0]) * self.normal(place)
        return place

    def reach_nm(self) -> Vector:
        """Half the edges (z, y, x) of a box about the centre that holds all of it."""
        return self.shape.reach_nm() + GAP_LIMITS_NM[1] / 2 + 4 * self.ripple.spread + 4

    def settled(self, site: Site) -> Site:
        """Move a site along its axis to the midpoint of OM and IM, and tell their gap."""
        heights = np.array([site.gap_nm / 2, -site.gap_nm / 2])
        for _ in range(6):
            outer, inner = self.at(site.place_nm + heights[:, None] * site.normal)
            heights -= np.array([outer[0], inner[1]])
        place = site.place_nm + heights.mean() * site.normal
        return replace(site, place_nm=place, gap_nm=float(heights[0] - heights[1]))


def _waves(field: Waves, z: Any, y: Any, x: Any) -> Any:
    """Sum of plane waves at any places, in the precision of these."""
    total = np.zeros_like(z)
    for (kz, ky, kx), phase in zip(field.vectors, field.phases, strict=True):
        turn = z * z.dtype.type(kz)
        turn += y * z.dtype.type(ky)
        turn += x * z.dtype.type(kx)
        turn += z.dtype.type(phase)
        total += np.cos(turn, out=turn)
    total *= z.dtype.type(field.amplitude)
    return total


def _dimple(site: Site, z: Any, y: Any, x: Any) -> Any:
    """Share by which a site sets the gap: 1 on its axis, falling over 15 nm."""
    dz, dy, dx = (c - o for c, o in zip((z, y, x), site.place_nm, strict=True))
    axial = site.normal[0] * dz + site.normal[1] * dy + site.normal[2] * dx
    beyond = np.maximum(np.abs(axial) - DIMPLE_HEIGHT_NM, 0)
    squares = dz * dz + dy * dy + dx * dx - axial * axial + beyond * beyond
    return np.exp(squares * (-0.5 / DIMPLE_NM**2))


def _pull(gap: Float, site: Site, z: float, y: Vector, x: Vector) -> None:
    """Pull the gap of a plane to that of a site, where the site can be felt."""
    reach = 4.5 * DIMPLE_NM + DIMPLE_HEIGHT_NM
    if abs(z - site.place_nm[0]) > reach:
        return
    rows, columns = (
        slice(*np.searchsorted(axis, [place - reach, place + reach]))
        for axis, place in zip((y, x), site.place_nm[1:], strict=True)
    )
    part = gap[rows, columns]
    weight = _dimple(site, z, y[rows, None], x[None, columns])
    part += weight.astype(np.float32) * (np.float32(site.gap_nm) - part)


def draw(seed: int, name: str, cell: Cell, *, size_nm: Vector) -> Envelope:
    """Draw a cell that fits into a field of view.

    Parameters
    ----------
    seed, name
        Keys of the draw.
    cell
        Settings.
    size_nm
        Edges (z, y, x) of the field of view in nm.

    Returns
    -------
    Envelope
        Without dimples yet. The shortest axis of an ellipsoid is nearest to z, as thin
        ice presses it; it lies near the middle of the field.

    Raises
    ------
    Refused
        If the cell does not fit into the field of view, or is too thin for its envelope.
    """
    rng = random(seed, name, "envelope")
    longest = rng.uniform(cell.diameter_nm[0], cell.diameter_nm[1])
    if longest < 4.2 * cell.gap_nm:
        raise Refused(
            f"simulate: expected a cell wide enough for a gap of {cell.gap_nm:g} nm, found "
            f"a diameter of {longest:.0f} nm; raise cell.diameter_nm"
        )
    shape = (_rod if cell.shape == "rod" else _ellipsoid)(rng, cell, longest)
    needed = 2 * (shape.reach_nm() + cell.gap_nm / 2 + 4)
    along_z = slice(0, 1 if cell.shape == "rod" else 3)
    if np.any(needed[along_z] > size_nm[along_z]):
        raise Refused(
            f"simulate: expected a field of at least {np.round(needed).tolist()} nm for "
            f"the cell, found {np.round(size_nm).tolist()} nm; enlarge field.shape_px or "
            "lower cell.diameter_nm"
        )
    spare = np.clip(size_nm - needed, 0, None) / 2 * np.array([0.25, 0.25, 0.25])
    return Envelope(
        centre_nm=size_nm / 2 + spare * rng.uniform(-1, 1, 3),
        shape=shape,
        ripple=waves.band(rng, 120.0, number=WAVES, spread=cell.ripple_nm),
        swell=waves.band(rng, 110.0, number=WAVES, spread=cell.gap_spread_nm),
        gap_nm=cell.gap_nm,
    )


def _ellipsoid(rng: np.random.Generator, cell: Cell, longest: float) -> Ellipsoid:
    ratio = rng.uniform(cell.axis_ratio[0], cell.axis_ratio[1])
    outer = longest / 2 * np.array([1 / ratio, ratio ** -rng.uniform(0, 1), 1.0])
    tip, turn = np.radians(rng.uniform(-12, 12)), rng.uniform(0, np.pi)
    short = np.array([np.cos(tip), np.sin(tip) * np.cos(turn), np.sin(tip) * np.sin(turn)])
    # `frame` returns its direction last: roll it to the front, where the short axis is.
    rotation = np.roll(fields.frame(short), 1, axis=0)
    return Ellipsoid(outer - cell.gap_nm / 2, rotation)


def _rod(rng: np.random.Generator, cell: Cell, thick: float) -> Rod:
    length, turn = rng.uniform(cell.length_nm[0], cell.length_nm[1]), rng.uniform(0, np.pi)
    axis = np.array([0.0, np.sin(turn), np.cos(turn)])
    return Rod((thick - cell.gap_nm) / 2, max(0.0, (length - thick) / 2), axis)
