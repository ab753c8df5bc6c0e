"""Smooth random functions that are exact everywhere, not only on a grid."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tomoglean.simulators.fields import Float

AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Waves:
    """A sum of plane waves of equal amplitude: a random field without a grid.

    The same specimen can so be looked at with any voxel size, at any point, slice by slice,
    and its values do not depend on how the work is shared out.

    Attributes
    ----------
    vectors
        Wave vectors of shape (N, 3), axes (z, y, x), in radians per unit of length.
    phases
        Phases of shape (N,) in radians.
    spread
        Standard deviation of the field.
    """

    vectors: npt.NDArray[np.float64]
    phases: npt.NDArray[np.float64]
    spread: float = 1.0

    @property
    def amplitude(self) -> float:
        """Amplitude of each wave."""
        return float(self.spread * np.sqrt(2 / len(self.phases)))

    def at(self, points: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Values at points (..., 3), axes (z, y, x)."""
        places = np.asarray(points, float)
        flat, values = places.reshape(-1, 3), np.empty(places.size // 3)
        for start in range(0, len(flat), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            turns = flat[part] @ self.vectors.T + self.phases
            values[part] = np.cos(turns, out=turns).sum(axis=1)
        return self.amplitude * values.reshape(places.shape[:-1])

    def plane(self, z: float, y: npt.ArrayLike, x: npt.ArrayLike) -> Float:
        """Values on the plane at height z.

        Parameters
        ----------
        z
            Height of the plane.
        y, x
            Coordinates of its rows and columns, one-dimensional.

        Returns
        -------
        ndarray of shape (len(y), len(x))
            Values; a product of two matrices, so that many waves cost little.
        """
        kz, ky, kx = self.vectors.T
        rows = np.asarray(y, float)[:, None] * ky + (kz * z + self.phases)
        columns = kx[:, None] * np.asarray(x, float)
        down = np.concatenate([np.cos(rows), -np.sin(rows)], axis=1)
        across = np.concatenate([np.cos(columns), np.sin(columns)])
        down *= self.amplitude
        return np.asarray(down.astype(np.float32) @ across.astype(np.float32))


def band(
    rng: np.random.Generator,
    wavelength: float,
    *,
    number: int = 64,
    width: float = 0.3,
    spread: float = 1.0,
) -> Waves:
    """Random field whose waves have about one length and all directions alike.

    Parameters
    ----------
    rng
        Source of directions, lengths and phases.
    wavelength
        Middle wavelength, in the unit of length of the coordinates.
    number
        Number of waves: 64 and more come near to a Gaussian field.
    width
        The lengths differ by this share, uniformly to both sides, in [0, 1).
    spread
        Standard deviation of the field.
    """
    lengths = wavelength * rng.uniform(1 - width, 1 + width, (number, 1))
    vectors = 2 * np.pi / lengths * _directions(rng, number)
    return Waves(vectors, rng.uniform(0, 2 * np.pi, number), spread)


def gaussian(
    rng: np.random.Generator, scale: float, *, number: int = 128, spread: float = 1.0
) -> Waves:
    """Random field with a Gaussian correlation: white noise blurred by a Gaussian.

    Parameters
    ----------
    rng
        Source of the waves.
    scale
        Standard deviation of that Gaussian, in the unit of length of the coordinates.
    number, spread
        See `band`.
    """
    vectors = rng.standard_normal((number, 3)) / (np.sqrt(2) * scale)
    return Waves(vectors, rng.uniform(0, 2 * np.pi, number), spread)


def _directions(rng: np.random.Generator, number: int) -> Any:
    vectors = rng.standard_normal((number, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
