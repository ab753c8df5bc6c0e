"""Signed distances in nm to simple bodies of revolution, negative inside."""

import numpy as np

from tomoglean.simulators.fields import Float
from tomoglean.simulators.minicell.bodies import Local


def ring(at: Local, *, of: float, height: float, thick: Float | float) -> Float:
    """Torus of radius `of` at a height; `thick` is the radius of its tube."""
    return np.asarray(np.hypot(at.radius - of, at.height - height) - thick, np.float32)


def rod(at: Local, *, thick: float, low: float, high: float) -> Float:
    """Cylinder of radius `thick` about the axis."""
    ends = np.maximum(low - at.height, at.height - high)
    return np.asarray(np.maximum(at.radius - thick, ends), np.float32)


def tube(at: Local, *, of: float, thick: Float | float, low: float, high: float) -> Float:
    """Hollow cylinder of mean radius `of`; `thick` is half its wall."""
    ends = np.maximum(low - at.height, at.height - high)
    return np.asarray(np.maximum(np.abs(at.radius - of) - thick, ends), np.float32)


def ball(at: Local, *, across: float, aside: float, height: float, size: float) -> Float:
    """Ball of radius `size` about a point."""
    squares = (
        (at.across - across) ** 2 + (at.aside - aside) ** 2 + (at.height - height) ** 2
    )
    return np.asarray(np.sqrt(squares) - size, np.float32)


def scallops(at: Local, *, fold: int, of: float, deep: float) -> Float | float:
    """Modulation with `fold` subunits around a ring of radius `of`, as a voxel leaves it.

    A voxel averages over its edge (sinc), and past the Nyquist frequency of the arc
    between neighbours nothing is left: there the ring is smooth.
    """
    arc_nm = 2 * np.pi * of / fold
    if 2 * at.edge_nm >= arc_nm:
        return 0.0
    left = np.float32(deep * np.sinc(at.edge_nm / arc_nm))
    return np.asarray(left * np.cos(fold * at.angle), np.float32)
