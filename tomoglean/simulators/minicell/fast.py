"""The fast mode: wedge, transfer and noise at once in Fourier space; for tests only.

No projections, no dose: the SNR is asked for, and the wedge is empty to rounding before
the volume is cropped. Published figures come from the full mode (`tilt`).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tomoglean.simulators import fields
from tomoglean.simulators.fields import Float
from tomoglean.simulators.minicell.microscope import Microscope

PAD_PX = 16


def wedge(shape: Sequence[int], *, tilt_max_deg: float) -> npt.NDArray[np.bool_]:
    """Frequencies that a single-axis tilt series about y measures.

    Parameters
    ----------
    shape
        Shape (Z, Y, X) in cubic voxels.
    tilt_max_deg
        Largest tilt, the same on both sides, in degrees; 90 measures all.

    Returns
    -------
    ndarray
        True where measured, on the half spectrum of `scipy.fft.rfftn`.
    """
    kz, _, kx = fields.frequencies(shape)
    if tilt_max_deg >= 90:
        return np.ones((shape[0], shape[1], kx.size), bool)
    seen = np.abs(kz) <= np.abs(kx) * np.tan(np.radians(tilt_max_deg)) + 1e-7
    return np.broadcast_to(seen, (shape[0], shape[1], kx.size))


def signal_and_noise(
    density: npt.NDArray[Any],
    rng: np.random.Generator,
    *,
    voxel_nm: float,
    microscope: Microscope,
    pad_px: int = PAD_PX,
) -> tuple[Float, Float]:
    """Signal and noise of a tomogram, apart.

    The noise is coloured as weighted back-projection colours it: in planes across the
    tilt axis its power rises with the frequency, and in the wedge there is none.

    Parameters
    ----------
    density
        Volume (Z, Y, X), protein 1 and ice 0.
    rng
        Source of the noise.
    voxel_nm
        Edge of the voxels in nm.
    microscope
        Tilt, lens and camera.
    pad_px
        Margin on every side in voxels that wedge streaks run into; it is cut off.

    Returns
    -------
    signal, noise
        Volumes like `density`, protein dark; the noise has a standard deviation of 1.
    """
    padded = np.pad(density, pad_px)
    kz, ky, kx = fields.frequencies(padded.shape)
    seen = wedge(padded.shape, tilt_max_deg=float(microscope.angles_deg.max()))
    radius = np.sqrt(kz * kz + ky * ky + kx * kx) / np.float32(voxel_nm)
    camera = microscope.modulation(radius)
    inner = (slice(pad_px, -pad_px or None),) * 3
    passed = microscope.transfer(radius) * camera * seen
    signal = -fields.filtered(padded, passed)[inner]
    colour = np.sqrt(np.hypot(kz, kx)) * seen
    if microscope.camera == "integrating":
        colour = colour * camera
    white = rng.standard_normal(padded.shape, dtype=np.float32)
    noise = fields.filtered(white, colour)[inner]
    return signal, noise / np.float32(noise.std(dtype=np.float64))
