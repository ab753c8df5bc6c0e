"""Random fields and soft edges that the phantoms are made of."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

Float = npt.NDArray[np.float32]


def frequencies(shape: Sequence[int]) -> list[Float]:
    """Frequencies of a real FFT in cycles per voxel, one open-grid array an axis.

    Parameters
    ----------
    shape
        Shape of the array that is transformed, in voxels.
    """
    axes = [fft.fftfreq(n) for n in shape[:-1]] + [fft.rfftfreq(shape[-1])]
    return [
        axis.astype(np.float32).reshape([-1 if i == j else 1 for j in range(len(shape))])
        for i, axis in enumerate(axes)
    ]


def filtered(data: npt.NDArray[Any], transfer: npt.NDArray[Any]) -> Float:
    """Multiply the spectrum of a real array with a transfer function.

    Parameters
    ----------
    data
        Real array of any shape; it is taken as periodic.
    transfer
        Real factors, broadcast against the spectrum of `scipy.fft.rfftn(data)`.
    """
    spectrum = fft.rfftn(data.astype(np.float32, copy=False), workers=1)
    spectrum *= transfer
    return np.asarray(fft.irfftn(spectrum, s=data.shape, workers=1), np.float32)


def coverage(distance_px: npt.NDArray[Any]) -> Float:
    """Share of each voxel that lies inside a smooth body.

    Parameters
    ----------
    distance_px
        Signed distance of the voxel's centre to the surface in voxels, negative inside.

    Returns
    -------
    ndarray
        Shares in [0, 1]; exact for a plane surface along an axis.
    """
    return np.clip(np.float32(0.5) - distance_px, 0, 1).astype(np.float32, copy=False)


def grid(shape: Sequence[int], voxel: float = 1.0) -> list[Float]:
    """Open-grid coordinates z, y, x of the voxel centres; the first voxel is at 0."""
    axes = np.ogrid[tuple(slice(n) for n in shape)]
    return [(axis * voxel).astype(np.float32) for axis in axes]


def along(axes: npt.NDArray[np.float64], offsets: Sequence[Float]) -> list[Float]:
    """Coordinates of open-grid offsets (z, y, x) in a frame given by its rows."""
    return [
        np.asarray(sum(np.float32(w) * c for w, c in zip(axis, offsets, strict=True)))
        for axis in axes
    ]


def frame(normal: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Right-handed frame whose last row is the given direction.

    Parameters
    ----------
    normal
        Direction (z, y, x); need not have unit length.

    Returns
    -------
    ndarray of shape (3, 3)
        Unit vectors as rows.
    """
    last = np.asarray(normal, float) / np.linalg.norm(normal)
    helper = np.eye(3)[np.argmin(np.abs(last))]
    first = np.cross(helper, last)
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(last, first), last])


def weighted(weights: npt.NDArray[Any], parts: npt.NDArray[Any]) -> Float:
    """Sum over the first axis with weights, the same bytes at any number of threads.

    A product of matrices would be handed to BLAS, which sums in an order of its own.
    """
    return np.asarray(np.einsum("i,i...->...", weights, parts), np.float32)
