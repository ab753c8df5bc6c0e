"""A scan without projections: its blur, fringes, rings and noise laid on the specimen.

For tests only: no truncation, scatter or drift; rings are whole and their strength and
the noise are those of the projections on average over the field of view.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from tomoglean.simulators.fields import Float, filtered, frequencies, weighted
from tomoglean.simulators.implant.scan import (
    MARGIN_PX,
    UM_PER_CM,
    Beamline,
    Plane,
    window,
    windows,
)
from tomoglean.simulators.projections import ramp
from tomoglean.volumes import random

# A gain that is wrong by g makes half a ring of about g RING / sqrt(radius) per pixel:
# measured by reconstructing random gains without and with a Shepp-Logan window.
RING = 0.45


def images(line: Beamline, planes: Iterable[Plane]) -> Iterator[Float]:
    """Yield slices as a scan would show them, about.

    Parameters
    ----------
    line
        The scan; its `heights` and `coordinates_um` are those of the planes.
    planes
        Attenuation in 1/cm, and refractive decrement against that of the tissue.

    Yields
    ------
    ndarray of shape (Y, X)
        Attenuation in 1/cm.
    """
    fringed = (_fringed(line, near) for near in windows(planes, line.phase_reach))
    inner = (slice(MARGIN_PX, -MARGIN_PX),) * 2
    for z, near in enumerate(windows(fringed, line.blur_reach)):
        plane = weighted(line.kernel, np.stack(near))
        for axis in range(2):
            plane = ndimage.correlate1d(plane, line.kernel, axis=axis, mode="nearest")
        noise = noise_per_cm(line, float(near[len(near) // 2].mean()))
        yield plane[inner] + _rings(line, z) + np.float32(noise) * _noise(line, z)


def _fringed(line: Beamline, near: list[Plane]) -> Float:
    """Attenuation less the Laplacian of the decrement: what the fringes reconstruct to."""
    attenuation, decrement = near[len(near) // 2]
    if not line.phase_reach:
        return attenuation
    curvature = ndimage.laplace(decrement, mode="nearest")
    curvature += near[0][1] + near[-1][1] - 2 * decrement
    distance_um = 1000 * line.scan.distance_mm
    return attenuation - np.float32(UM_PER_CM * distance_um / line.voxel_um**2) * curvature


def noise_per_cm(line: Beamline, attenuation_per_cm: float) -> float:
    """Standard deviation of a reconstruction's noise in 1/cm.

    Each of N projections brings its filtered noise with the weight pi / N.

    Parameters
    ----------
    line
        The scan.
    attenuation_per_cm
        Mean attenuation along the beam's way.
    """
    cm = line.voxel_um / UM_PER_CM
    way_cm = np.pi / 2 * line.reach_um / UM_PER_CM
    photons = line.scan.photons * np.exp(-attenuation_per_cm * way_cm)
    length = fft.next_fast_len(4 * line.detector_px, real=True)
    response = ramp(length) * _transfer(line, fft.rfftfreq(length))
    energy = np.mean(response**2) * np.sum(line.kernel.astype(float) ** 2)
    return float(np.pi * np.sqrt(energy / (line.scan.projections * photons)) / cm)


def _transfer(
    line: Beamline, frequency: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Window of the reconstruction and point spread of the detector, along a row."""
    points = np.linspace(0, 0.5, 513)
    apodised = window(line.scan.filter, 1024)
    places = np.arange(len(line.kernel)) - line.blur_reach
    waves = np.cos(2 * np.pi * np.outer(points, places))
    spread = np.sum(waves * line.kernel, axis=1)
    return np.asarray(np.interp(frequency, points, apodised * spread, right=0.0))


def _noise(line: Beamline, z: int) -> Float:
    """Noise of standard deviation 1 whose power rises with the frequency."""
    rng = random(line.seed, line.name, "image-space noise", z)
    radius = np.hypot(*frequencies(line.shape[1:]))
    transfer = np.sqrt(radius) * _transfer(line, radius)
    noise = filtered(rng.standard_normal(line.shape[1:], dtype=np.float32), transfer)
    return noise / np.float32(noise.std(dtype=np.float64))


def _rings(line: Beamline, z: int) -> Float:
    """Rings about the axis, from the gains of the detector's pixels."""
    _, rows, columns = line.shape
    y, x = np.ogrid[:rows, :columns]
    radius = np.hypot(y - (rows - 1) / 2, x - (columns - 1) / 2)
    low = radius.astype(int)
    rng = random(line.seed, line.name, "scan gain", z)
    gains = rng.standard_normal(low.max() + 2) / np.sqrt(np.arange(low.max() + 2) + 0.5)
    weight = radius - low
    rings = gains[low] * (1 - weight) + gains[low + 1] * weight
    strength = RING * line.scan.gain_error / (line.voxel_um / UM_PER_CM)
    return np.asarray(strength * rings, np.float32)
