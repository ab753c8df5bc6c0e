"""Half spectra of boxes, as `rfftn` lays them out: (B, B, B // 2 + 1) for a side of B.

The origin of a box is its voxel B // 2: a lone point there has the same spectrum, 1,
everywhere.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

from tomoglean.averages.geometry import Array, Box

Spectrum = npt.NDArray[np.complex64]

#: A wedge holds its own rim; rotation matrices are exact to less than that.
RIM = 1e-6
#: The tangent of 90 degrees has no end.
STEEPEST_DEG = 89.999


def spectrum(box: Box) -> Spectrum:
    """Transform a cube of side B into its half spectrum."""
    whole = fft.rfftn(fft.ifftshift(np.asarray(box, np.float32)), workers=1)
    return np.asarray(whole, np.complex64)


def inverse(half: npt.NDArray[Any], side: int) -> Box:
    """Return the cube of a half spectrum, shape (side, side, side)."""
    box = fft.irfftn(np.asarray(half, np.complex64), s=(side,) * 3, workers=1)
    return np.asarray(fft.fftshift(box), np.float32)


def frequencies(side: int) -> Array:
    """Return the frequencies of a half spectrum.

    Returns
    -------
    ndarray of shape (B, B, B // 2 + 1, 3)
        Frequencies (z, y, x) in 1/voxel.
    """
    axis, short = np.fft.fftfreq(side), np.fft.rfftfreq(side)
    return np.stack(np.meshgrid(axis, axis, short, indexing="ij"), axis=-1)


def multiplicity(side: int) -> Array:
    """Return how often each column of a half spectrum stands in the whole one.

    Returns
    -------
    ndarray of shape (B // 2 + 1,)
        1 for columns that are their own mates, else 2.
    """
    many = np.full(side // 2 + 1, 2.0)
    many[0] = 1.0
    many[-1] = 1.0 if side % 2 == 0 else 2.0
    return many


def wedge(box_px: int, rotation: Array, tilt_max_deg: float) -> Box:
    """Return which frequencies of a turned crop its tilt series has measured.

    With tilts about y up to t, a frequency (in tomogram axes) is measured where
    |k_z| <= |k_x| tan t. It turns as the crop does.

    Returns
    -------
    ndarray of shape (B, B, B // 2 + 1)
        1 where measured, else 0, laid out as by `rfftn`.
    """
    k = frequencies(box_px) @ np.asarray(rotation).T
    limit = np.tan(np.radians(min(tilt_max_deg, STEEPEST_DEG)))
    seen = np.abs(k[..., 0]) <= np.abs(k[..., 2]) * limit + RIM
    return np.asarray(seen, np.float32)
