"""Functions on the screw's surface, tabulated over its axis and the angle about it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from tomoglean.simulators.fields import Float
from tomoglean.simulators.waves import Waves

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Lattice:
    """Nodes of a table over the axis (rows) and the angle (columns, periodic).

    Attributes
    ----------
    start_um, step_um
        Place of the first row along the axis, and distance of two rows, in um.
    rows, columns
        Number of nodes each way.
    """

    start_um: float
    step_um: float
    rows: int
    columns: int

    @property
    def s_um(self) -> npt.NDArray[np.float64]:
        """Places of the rows along the axis, shape (rows, 1), in um."""
        rows = np.arange(self.rows, dtype=np.float64)[:, None]
        return np.asarray(self.start_um + self.step_um * rows, np.float64)

    @property
    def turns(self) -> npt.NDArray[np.float64]:
        """Angles of the columns in turns, shape (1, columns)."""
        return (np.arange(self.columns) / self.columns)[None, :]

    @property
    def angle_step(self) -> float:
        """Angle between two columns, in radians."""
        return float(2 * np.pi / self.columns)


def lattice(half_um: float, girth_um: float, step_um: float) -> Lattice:
    """Lay nodes about every `step_um` over a screw of half length and radius given."""
    half = int(np.ceil(half_um / step_um))
    columns = int(np.ceil(2 * np.pi * girth_um / step_um / 8)) * 8
    return Lattice(-half * step_um, step_um, 2 * half + 1, columns)


@dataclass(frozen=True)
class Skin:
    """Tables over one lattice, linear between the nodes.

    Attributes
    ----------
    lattice
        Where the nodes lie.
    names
        What stands in each table.
    tables
        Values, float32 of shape (rows, columns, number of names).
    """

    lattice: Lattice
    names: tuple[str, ...]
    tables: Float

    def table(self, name: str) -> npt.NDArray[np.float64]:
        """One table, float64 of shape (rows, columns)."""
        return self.tables[..., self.names.index(name)].astype(float)

    def at(self, s_um: Array, turns: Array) -> dict[str, Float]:
        """Values at places along the axis (um) and about it (turns), by name.

        Beyond the first and the last row the table goes on as it ends.
        """
        nodes = self.lattice
        row = np.clip((s_um - nodes.start_um) / nodes.step_um, 0, nodes.rows - 1.001)
        column = (turns % 1.0) * nodes.columns
        top, left = row.astype(np.int64), column.astype(np.int64)
        down = (row - top).astype(np.float32)[..., None]
        right = (column - left).astype(np.float32)[..., None]
        left %= nodes.columns
        flat = self.tables.reshape(-1, len(self.names))
        base, beside = top * nodes.columns + left, (left + 1) % nodes.columns - left
        upper = flat[base] * (1 - right) + flat[base + beside] * right
        base += nodes.columns
        lower = flat[base] * (1 - right) + flat[base + beside] * right
        mixed = upper * (1 - down) + lower * down
        return {name: mixed[..., i] for i, name in enumerate(self.names)}


def skin(nodes: Lattice, **tables: Array) -> Skin:
    """Put tables of shape (rows, columns) over one lattice."""
    stack = np.stack([t.astype(np.float32) for t in tables.values()], axis=-1)
    return Skin(nodes, tuple(tables), stack)


def spread(
    waves: Waves, nodes: Lattice, girth_um: float, scale_um: float
) -> npt.NDArray[np.float64]:
    """Tabulate a smooth random field on the cylinder that stands for the surface.

    It is evaluated on a lattice an eighth of its scale wide, and a little beyond the
    ends, and filled in by cubic splines.

    Parameters
    ----------
    waves
        The field; coordinates are those of the screw's own frame, in um.
    nodes
        The lattice.
    girth_um
        Radius of the cylinder in um.
    scale_um
        Length over which the field changes, in um.
    """
    skip = max(1, int(scale_um / 8 / nodes.step_um))
    columns = max(8, nodes.columns // skip)
    beyond = 0 if skip == 1 else 6
    rows = np.arange(-beyond, -(-(nodes.rows - 1) // skip) + 1 + beyond)
    s_um = nodes.start_um + nodes.step_um * skip * rows[:, None]
    values = waves.at(cylinder(s_um, np.arange(columns)[None, :] / columns, girth_um))
    if skip == 1:
        return values
    wrapped = np.pad(values, ((0, 0), (8, 8)), mode="wrap")
    places = np.meshgrid(
        beyond + np.arange(nodes.rows) / skip,
        8 + np.arange(nodes.columns) * columns / nodes.columns,
        indexing="ij",
    )
    return np.asarray(ndimage.map_coordinates(wrapped, places, order=3, mode="nearest"))


def cylinder(s_um: Array, turns: Array, girth_um: float) -> npt.NDArray[np.float64]:
    """Points (..., 3) of a cylinder in its own frame (along, across, aside), in um."""
    angle = 2 * np.pi * np.asarray(turns)
    parts = s_um, girth_um * np.cos(angle), girth_um * np.sin(angle)
    return np.stack(np.broadcast_arrays(*parts), axis=-1)


def slopes(radius_um: Array, nodes: Lattice) -> tuple[Array, Array]:
    """Slopes of a height field along the axis and about it, both without unit."""
    along = np.gradient(radius_um, nodes.step_um, axis=0)
    turned = np.pad(radius_um, ((0, 0), (1, 1)), mode="wrap")
    about = (turned[:, 2:] - turned[:, :-2]) / (2 * nodes.angle_step)
    return along, about / np.maximum(radius_um, 5.0)


def steepness(radius_um: Array, nodes: Lattice) -> Array:
    """Area of a height field per area of the cylinder through it: at least 1."""
    along, about = slopes(radius_um, nodes)
    return np.asarray(np.sqrt(1 + along**2 + about**2))
