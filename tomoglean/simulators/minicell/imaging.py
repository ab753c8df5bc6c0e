"""What a tilt series leaves of a density: missing wedge, contrast transfer, noise."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tomoglean.simulators import fields
from tomoglean.simulators.fields import Float


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


def wavelength_nm(voltage_kv: float) -> float:
    """Relativistic wavelength of electrons in nm."""
    volts = voltage_kv * 1e3
    return float(1.226426 / np.sqrt(volts * (1 + 0.978466e-6 * volts)))


def contrast_transfer(
    frequency: npt.NDArray[np.floating],
    *,
    defocus_um: float,
    voltage_kv: float = 300.0,
    cs_mm: float = 2.7,
    amplitude_contrast: float = 0.07,
) -> Float:
    """Contrast transfer function, positive where protein is dark in the image.

    Parameters
    ----------
    frequency
        Spatial frequency in 1/nm.
    defocus_um
        Underfocus in um; 0 stands for no transfer function at all (all ones).
    voltage_kv, cs_mm, amplitude_contrast
        Of the microscope.
    """
    if defocus_um == 0:
        return np.ones(np.shape(frequency), np.float32)
    squares, length = np.square(frequency, dtype=np.float64), wavelength_nm(voltage_kv)
    phase = np.pi * length * defocus_um * 1e3 * squares
    phase -= np.pi / 2 * cs_mm * 1e6 * length**3 * squares**2
    return np.asarray(np.sin(phase + np.arcsin(amplitude_contrast)), np.float32)


def tilt_series(
    density: Float,
    rng: np.random.Generator,
    *,
    voxel_nm: float,
    tilt_max_deg: float,
    defocus_um: float,
    pad_px: int = 16,
) -> tuple[Float, Float]:
    """Signal and noise of a tomogram, apart, in one step in Fourier space.

    The fast mode: no projections, no dose; the noise is as white as the detector lets it
    be inside the measured region and zero outside. Wedge streaks run into a margin that
    is cut off at the end.

    Parameters
    ----------
    density
        Volume (Z, Y, X), protein 1 and ice 0.
    rng
        Source of the noise.
    voxel_nm
        Edge of the voxels in nm.
    tilt_max_deg, defocus_um
        See `wedge` and `contrast_transfer`.
    pad_px
        Margin on every side in voxels.

    Returns
    -------
    signal, noise
        Volumes like `density`, protein dark; the noise has a standard deviation of 1.
    """
    padded = np.pad(density, pad_px)
    shape = padded.shape
    seen = wedge(shape, tilt_max_deg=tilt_max_deg)
    radius = np.sqrt(sum(k * k for k in fields.frequencies(shape)))
    transfer = contrast_transfer(radius / voxel_nm, defocus_um=defocus_um)
    detector = np.exp(-1.6 * radius**2).astype(np.float32)
    inner = (slice(pad_px, -pad_px or None),) * 3
    signal = -fields.filtered(padded, transfer * detector * seen)[inner]
    white = rng.standard_normal(shape, dtype=np.float32)
    noise = fields.filtered(white, detector * seen)[inner]
    return signal, noise / np.float32(noise.std(dtype=np.float64))
