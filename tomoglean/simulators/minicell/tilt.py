"""The full mode: a tilt series recorded with electrons, and its back-projection.

Every view is a plane projection of the specimen (no multislice): the wave takes up phase
and absorption of the matter along the beam, passes the lens, is recorded as single
electrons and blurred by the camera. Signal and noise stay apart to the end, so that the
SNR of a tomogram is measured, not asked for.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

from tomoglean.simulators import fields
from tomoglean.simulators.fields import Float
from tomoglean.simulators.minicell.microscope import Microscope, wavelength_nm
from tomoglean.simulators.projections import Projector, ramp
from tomoglean.volumes import random

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TiltSeries:
    """Aligned views of a specimen, tilted about y, in electrons a pixel.

    Attributes
    ----------
    angles_deg
        Tilt of every view in degrees; a point (z, x) from the middle of the specimen is
        seen at x cos(tilt) + z sin(tilt) from the middle of the view.
    counts, expected
        What was recorded and what would be with endless dose, of shape (views, Y, X).
    """

    angles_deg: npt.NDArray[np.float64]
    counts: Float
    expected: Float

    @property
    def means(self) -> Float:
        """Mean of every view in electrons a pixel."""
        return np.asarray(self.expected.mean(axis=(1, 2), dtype=np.float64), np.float32)

    @property
    def signal(self) -> Float:
        """Contrast (views, Y, X) without noise: relative to each view's mean."""
        return np.asarray(self.expected / self.means[:, None, None] - np.float32(1))

    @property
    def noise(self) -> Float:
        """Contrast (views, Y, X) of the noise alone."""
        return np.asarray((self.counts - self.expected) / self.means[:, None, None])


@dataclass(frozen=True)
class Tomogram:
    """A reconstruction and its measured noise.

    Attributes
    ----------
    image
        float32 (Z, Y, X), protein dark; the noise in the ice has standard deviation 1.
    noise
        Standard deviation of the noise in the ice, as contrast a voxel.
    signal_variance, noise_variance
        Over cell and envelope, as contrast squared; both 0 where there is no cell.
    """

    image: Float
    noise: float
    signal_variance: float
    noise_variance: float

    @property
    def snr(self) -> float | None:
        """Signal-to-noise ratio in cell and envelope, unfiltered; None without a cell."""
        return self.signal_variance / self.noise_variance if self.noise_variance else None


def margin_px(depth_px: int, microscope: Microscope) -> int:
    """Voxels beside the field of view that lie on rays through its middle plane.

    Rays through the corners of the field reach farther out: what is there is left out.
    """
    slope = np.tan(np.radians(np.abs(microscope.angles_deg).max()))
    return int(np.ceil(depth_px / 2 * slope))


def record(
    seed: int,
    name: str,
    density: npt.NDArray[Any],
    *,
    width_px: int,
    ice_nm: float,
    voxel_nm: float,
    microscope: Microscope,
) -> TiltSeries:
    """Record a tilt series of a specimen.

    Parameters
    ----------
    seed, name
        Keys of noise, defocus and alignment.
    density
        Specimen (Z, Y, X + what lies beside the field of view), protein 1 and ice 0.
    width_px
        Width of the views in pixels: the field of view.
    ice_nm
        Thickness of the ice in nm.
    voxel_nm
        Edge of the voxels in nm.
    microscope
        How it is recorded.
    """
    pad = _spread_px(microscope, voxel_nm)
    phases = _projected(density, width_px + 2 * pad, microscope)
    phases *= np.float32(microscope.phase_rad(voxel_nm))
    shape = len(phases), density.shape[1], width_px
    counts, expected = np.empty(shape, np.float32), np.empty(shape, np.float32)
    electrons = microscope.electrons(voxel_nm) * microscope.passed(ice_nm)
    for view, phase in enumerate(_told(phases, len(phases), "recording views")):
        brightness = _brightness(seed, name, view, phase, pad, voxel_nm, microscope)
        rng = random(seed, name, "shot noise", view)
        both = recorded(rng, electrons[view] * brightness, voxel_nm, microscope)
        inner = slice(pad, pad + shape[1]), slice(pad, pad + shape[2])
        counts[view], expected[view] = (image[inner] for image in both)
    return TiltSeries(microscope.angles_deg, counts, expected)


def _spread_px(microscope: Microscope, voxel_nm: float) -> int:
    """How far the lens spreads a point, and some more, in pixels."""
    spread_nm = wavelength_nm(microscope.voltage_kv) * microscope.defocus_um * 1e3
    return int(np.ceil(spread_nm / (2 * voxel_nm) / voxel_nm)) + 12


def _projected(density: npt.NDArray[Any], width_px: int, microscope: Microscope) -> Float:
    """Project along all tilts: (views, Y, width), in density times voxels."""
    depth, rows, across = density.shape
    projector = Projector((depth, across), microscope.angles_deg, width_px)
    views = np.empty((len(microscope.angles_deg), rows, width_px), np.float32)
    for row in _told(range(rows), rows, "projecting planes"):
        views[:, row] = projector.project(density[:, row])
    return views


def _brightness(
    seed: int,
    name: str,
    view: int,
    phase: Float,
    pad: int,
    voxel_nm: float,
    microscope: Microscope,
) -> Float:
    """Intensity relative to bare ice, of shape (Y + 2 pad and more, X + 2 pad and more)."""
    rng = random(seed, name, "view", view)
    blur_um, (down, across, turn) = rng.standard_normal(), rng.standard_normal(3)
    defocus_um = microscope.defocus_um
    if defocus_um:
        defocus_um += microscope.defocus_spread_um * blur_um
    wide = [fft.next_fast_len(n) for n in (phase.shape[0] + 2 * pad, phase.shape[1])]
    more = [(pad, wide[0] - phase.shape[0] - pad), (0, wide[1] - phase.shape[1])]
    image = imaged(np.pad(phase, more, mode="edge"), voxel_nm, defocus_um, microscope)
    shift_px = np.array([down, across]) * microscope.shift_nm / voxel_nm
    turned = moved(image, shift_px, np.radians(turn * microscope.rotation_deg))
    # Between voxels, the sheared image of a bead may swing below zero; electrons cannot.
    return np.maximum(turned, 0)


def imaged(
    phase: Float, voxel_nm: float, defocus_um: float, microscope: Microscope
) -> Float:
    """Intensity behind the lens of a wave that crossed a thin specimen.

    The specimen is a phase object that also absorbs: exp(i p - q p), with q from the
    amplitude contrast. For weak objects that is 1 - 2 p convolved with the transfer of
    `Microscope.transfer`; strong ones (gold) cannot turn negative.

    Parameters
    ----------
    phase
        Phase of shape (Y, X) in radians; taken as periodic.
    voxel_nm
        Edge of the pixels in nm.
    defocus_um
        Underfocus in um; 0 for no lens.
    microscope
        For the rest.
    """
    absorbed = np.tan(np.arcsin(microscope.amplitude_contrast))
    wave = np.exp(np.complex64(1j - absorbed) * phase)
    if defocus_um:
        ky, kx = (fft.fftfreq(n, voxel_nm) for n in phase.shape)
        turn = microscope.aberration(np.hypot(ky[:, None], kx), defocus_um)
        spectrum = fft.fft2(wave, workers=1, overwrite_x=True)
        spectrum *= np.exp(1j * turn).astype(np.complex64)
        wave = fft.ifft2(spectrum, workers=1, overwrite_x=True)
    return np.asarray(wave.real**2 + wave.imag**2, np.float32)


def moved(image: Float, shift_px: npt.NDArray[np.float64], turn_rad: float) -> Float:
    """Turn an image about its middle and shift it, without any blur.

    Three shears, each a shift of rows or columns in Fourier space (Unser et al. 1995,
    doi:10.1109/83.465102): exact for what the sampling holds, periodic at the borders.

    Parameters
    ----------
    image
        Image of shape (Y, X).
    shift_px
        Shift along y and x in pixels.
    turn_rad
        Angle from x towards y, in radians; small.
    """
    down, across = (np.arange(n) - (n - 1) / 2 for n in image.shape)
    lean = -np.tan(turn_rad / 2) * down
    once = _slid(image, lean)
    twice = _slid(once.T, np.sin(turn_rad) * across + shift_px[0]).T
    # The last shear also leans what has just been shifted along y: take that back.
    return _slid(twice, lean + (shift_px[1] + np.tan(turn_rad / 2) * shift_px[0]))


def _slid(image: Float, shifts_px: npt.NDArray[np.float64]) -> Float:
    """Shift every row along itself by its own distance."""
    lines = fft.rfft(image, axis=1, workers=1)
    turns = shifts_px[:, None] * fft.rfftfreq(image.shape[1])
    lines *= np.exp(-2j * np.pi * turns).astype(np.complex64)
    return np.asarray(fft.irfft(lines, image.shape[1], axis=1, workers=1), np.float32)


def recorded(
    rng: np.random.Generator, arriving: Float, voxel_nm: float, microscope: Microscope
) -> tuple[Float, Float]:
    """Record electrons with a camera.

    Parameters
    ----------
    rng
        Source of the shot noise.
    arriving
        Mean number of electrons a pixel, of shape (Y, X).
    voxel_nm, microscope
        Edge of the pixels in nm, and the camera.

    Returns
    -------
    counts, expected
        Electrons a pixel: one record, and the mean of all.
    """
    radius = np.hypot(*fields.frequencies(arriving.shape)) / voxel_nm
    modulation = microscope.modulation(radius)
    mean = microscope.quantum_efficiency * arriving
    expected = np.maximum(fields.filtered(mean, modulation), 0)
    if microscope.camera == "counting":
        return rng.poisson(expected).astype(np.float32), expected
    return fields.filtered(rng.poisson(mean), modulation), expected


def back_projected(
    contrast: Float, depth_px: int, microscope: Microscope
) -> Iterator[Float]:
    """Reconstruct planes (z, x) one after the other along y.

    Weighted back-projection: a ramp with the roll-off asked for; every view counts for
    its step in angle (Radermacher 2006, doi:10.1007/978-0-387-69008-7_9).

    Parameters
    ----------
    contrast
        Aligned views of shape (views, Y, X).
    depth_px
        Size of the planes along z in voxels.
    microscope
        Tilts and roll-off.

    Yields
    ------
    ndarray of shape (depth_px, X)
        Contrast a voxel.
    """
    width = contrast.shape[2]
    projector = Projector((depth_px, width), microscope.angles_deg, width)
    beyond = np.maximum(projector.frequencies - microscope.rolloff_start, 0)
    window = np.exp(-0.5 * np.square(beyond / microscope.rolloff_width))
    weights = microscope.weights_rad[:, None] * ramp(projector.length_px) * window
    for row in range(contrast.shape[1]):
        yield projector.back_project(contrast[:, row], weights)


def reconstruct(
    series: TiltSeries,
    inside: npt.NDArray[np.bool_],
    *,
    ice_nm: float,
    voxel_nm: float,
    microscope: Microscope,
) -> Tomogram:
    """Reconstruct a tomogram, and measure signal and noise apart.

    Parameters
    ----------
    series
        The tilt series.
    inside
        Cell and envelope, of shape (Z, Y, X): where signal and noise are measured.
    ice_nm
        Thickness of the ice about the middle of z in nm; the noise is measured in it, in
        the middle half along x, which all views reach.
    voxel_nm
        Edge of the voxels in nm.
    microscope
        How the series was recorded.
    """
    depth, rows, _ = inside.shape
    image, ice = np.empty(inside.shape, np.float32), _ice(inside.shape, ice_nm / voxel_nm)
    sums, squares, voxels = np.zeros(4), 0.0, 0
    planes = zip(
        back_projected(series.signal, depth, microscope),
        back_projected(series.noise, depth, microscope),
        strict=True,
    )
    for row, (signal, noise) in enumerate(_told(planes, rows, "reconstructing planes")):
        np.add(signal, noise, out=image[:, row])
        squares += float(np.square(noise[ice], dtype=np.float64).sum())
        where = inside[:, row]
        voxels += int(np.count_nonzero(where))
        sums += [m for part in (signal, noise) for m in _moments(part[where])]
    spread = float(np.sqrt(squares / (rows * noise[ice].size)))
    image *= np.float32(1 / spread)
    means = sums / max(voxels, 1)
    return Tomogram(
        image,
        spread,
        float(means[1] - means[0] ** 2),
        float(means[3] - means[2] ** 2),
    )


def clean(series: TiltSeries, tomogram: Tomogram, microscope: Microscope) -> Float:
    """Reconstruct without noise, in the units of the tomogram's image."""
    planes = back_projected(series.signal, tomogram.image.shape[0], microscope)
    image = np.empty(tomogram.image.shape, np.float32)
    for row, plane in enumerate(planes):
        np.multiply(plane, np.float32(1 / tomogram.noise), out=image[:, row])
    return image


def _told(work: Iterable[Any], total: int, what: str) -> Iterator[Any]:
    """Pass work through, and tell after each tenth how far it is."""
    for number, one in enumerate(work, start=1):
        yield one
        if number * 10 // total > (number - 1) * 10 // total:
            log.info("%s: %d of %d", what, number, total)


def _ice(shape: tuple[int, ...], ice_px: float) -> tuple[slice, slice]:
    """Rows and columns of a plane (z, x) that lie in the ice and near the middle."""
    depth, _, width = shape
    half = min(ice_px, depth) / 2
    low = int(np.floor(depth / 2 - half + 0.5))
    return slice(low, depth - low), slice(width // 4, width - width // 4)


def _moments(values: Float) -> tuple[float, float]:
    """Sum and sum of squares, not by BLAS: the same at any number of threads."""
    wide = values.astype(np.float64)
    return float(wide.sum()), float(np.square(wide).sum())
