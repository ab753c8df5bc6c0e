"""Where one looks at a specimen: on a plane, or at scattered points."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tomoglean.simulators.fields import Float
from tomoglean.simulators.waves import AT_ONCE, Waves

Array = npt.NDArray[Any]


class Look(Protocol):
    """Places at which functions of space are evaluated; lengths in um."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of what comes back."""

    @property
    def places(self) -> tuple[Array, Array, Array]:
        """Coordinates z, y, x in um, each broadcastable to `shape`."""

    def values(self, waves: Waves) -> Float:
        """Values of a random field at the places."""

    def steepness(self, waves: Waves) -> Float:
        """Length of its gradient there, per um."""


@dataclass(frozen=True)
class Sheet:
    """The places of a plane across z.

    Attributes
    ----------
    z_um
        Height of the plane in um.
    y_um, x_um
        Coordinates of its rows and columns in um, one-dimensional.
    """

    z_um: float
    y_um: Array
    x_um: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""
        return len(self.y_um), len(self.x_um)

    @property
    def places(self) -> tuple[Array, Array, Array]:
        """Coordinates z, y, x in um: a number, a column and a row."""
        z = np.full((1, 1), self.z_um)
        return z, np.asarray(self.y_um)[:, None], np.asarray(self.x_um)[None, :]

    def values(self, waves: Waves) -> Float:
        """Values of a random field, shape (Y, X)."""
        return waves.plane(self.z_um, self.y_um, self.x_um)

    def steepness(self, waves: Waves) -> Float:
        """Length of the gradient of a random field, shape (Y, X)."""
        kz, ky, kx = waves.vectors.T
        rows = np.asarray(self.y_um)[:, None] * ky + (kz * self.z_um + waves.phases)
        columns = kx[:, None] * np.asarray(self.x_um)
        down = waves.amplitude * np.concatenate([np.sin(rows), np.cos(rows)], axis=1)
        across = np.concatenate([np.cos(columns), np.sin(columns)]).astype(np.float32)
        squares = np.zeros(self.shape, np.float32)
        for k in waves.vectors.T:
            slope = (down * np.tile(k, 2)).astype(np.float32) @ across
            squares += slope * slope
        return np.sqrt(squares)


@dataclass(frozen=True)
class Cloud:
    """Scattered places.

    Attributes
    ----------
    points_um
        Coordinates of shape (N, 3), axes (z, y, x), in um.
    """

    points_um: npt.NDArray[np.float64]

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of the points."""
        return (len(self.points_um),)

    @property
    def places(self) -> tuple[Array, Array, Array]:
        """Coordinates z, y, x in um, shape (N,) each."""
        z, y, x = self.points_um.T
        return z, y, x

    def values(self, waves: Waves) -> Float:
        """Values of a random field, shape (N,)."""
        return waves.at(self.points_um).astype(np.float32)

    def steepness(self, waves: Waves) -> Float:
        """Length of the gradient of a random field, shape (N,)."""
        lengths = np.empty(len(self.points_um), np.float32)
        for start in range(0, len(lengths), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            turns = self.points_um[part] @ waves.vectors.T + waves.phases
            slopes = waves.amplitude * np.sin(turns) @ waves.vectors
            lengths[part] = np.linalg.norm(slopes, axis=1)
        return lengths
