"""Project planes along many directions, and bring them back: the Fourier slice theorem.

The transform of a parallel projection is the plane's transform along a line through the
origin, so both ways are one non-uniform FFT (FINUFFT, doi:10.1137/18M120885X) a plane.
Micro-CT turns the specimen about z and projects planes (y, x); electron tomography tilts
it about y and projects planes (z, x).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import finufft
import numpy as np
import numpy.typing as npt
from scipy import fft

from tomoglean.simulators.fields import Float

ACCURACY = 1e-5


@dataclass(frozen=True)
class Projector:
    """Parallel projections of planes; not to be shared between threads.

    A point at (row, column) from the middle of the plane meets the detector at
    column * cos(angle) + row * sin(angle) from the detector's middle, plus the offset.
    The middle of n samples lies at (n - 1) / 2.

    Attributes
    ----------
    shape
        Rows and columns of a plane, in voxels.
    angles_deg
        Angle of every projection in degrees.
    detector_px
        Number of detector elements, each as wide as a voxel.
    offsets_px
        Where the axis of rotation meets the detector, from its middle: one number, or
        one for every angle.
    """

    shape: tuple[int, int]
    angles_deg: npt.NDArray[np.float64]
    detector_px: int
    offsets_px: npt.NDArray[np.float64] | float = 0.0

    @cached_property
    def length_px(self) -> int:
        """Length of the transforms: wide enough that nothing wraps around."""
        offset = 2 * float(np.abs(self.offsets_px).max())
        reach = np.hypot(*self.shape) + self.detector_px + offset
        return int(fft.next_fast_len(int(np.ceil(reach)) + 2, real=True))

    @cached_property
    def frequencies(self) -> npt.NDArray[np.float64]:
        """Frequencies along the detector in cycles per voxel, 0 to 1/2."""
        return fft.rfftfreq(self.length_px)

    def project(self, plane: npt.NDArray[Any]) -> Float:
        """Project a plane along all angles.

        Parameters
        ----------
        plane
            Values of shape `shape`; zero outside.

        Returns
        -------
        ndarray of shape (angles, detector_px)
            Line integrals, in values times voxels.
        """
        if plane.shape != self.shape:
            raise ValueError(f"a plane of {self.shape} is expected, found {plane.shape}")
        lines = self._to_lines.execute(np.ascontiguousarray(plane, np.complex64))
        lines = lines.reshape(len(self.angles_deg), -1) * self._shift
        rows = fft.irfft(lines, self.length_px, axis=1, workers=1)
        return np.asarray(rows[:, : self.detector_px], np.float32)

    def back_project(self, rows: npt.NDArray[Any], weights: npt.NDArray[Any]) -> Float:
        """Filter projections and smear them back over the plane.

        Parameters
        ----------
        rows
            Projections of shape (angles, detector_px); zero beyond the detector.
        weights
            Filter in frequency, broadcast against (angles, frequencies).

        Returns
        -------
        ndarray of shape `shape`
            Sum over all angles.
        """
        lines = fft.rfft(rows.astype(np.float32, copy=False), self.length_px, workers=1)
        # Every frequency but the first (and the last of an even length) stands for two.
        both = np.full(lines.shape[1], 2.0, np.float32)
        both[0] = 1.0
        if self.length_px % 2 == 0:
            both[-1] = 1.0
        lines = lines * np.conj(self._shift) * (weights * both / self.length_px)
        plane = self._to_plane.execute(np.ascontiguousarray(lines, np.complex64).ravel())
        return np.ascontiguousarray(plane.real)

    @cached_property
    def _points(self) -> tuple[Float, Float]:
        angles = np.radians(self.angles_deg)[:, None]
        radial = 2 * np.pi * self.frequencies
        down, across = np.sin(angles) * radial, np.cos(angles) * radial
        return down.ravel().astype(np.float32), across.ravel().astype(np.float32)

    @cached_property
    def _shift(self) -> npt.NDArray[np.complex64]:
        """Phases between the array's first sample, FINUFFT's origin, and the middles."""
        angles = np.radians(self.angles_deg)[:, None]
        rows, columns = ((n - 1) / 2 - n // 2 for n in self.shape)
        origin = rows * np.sin(angles) + columns * np.cos(angles)
        offsets = np.broadcast_to(self.offsets_px, (len(self.angles_deg),))[:, None]
        middle = (self.detector_px - 1) / 2 + offsets
        turns = (origin - middle) * self.frequencies
        return np.asarray(np.exp(2j * np.pi * turns), np.complex64)

    def _plan(self, kind: int, sign: int) -> finufft.Plan:
        plan = finufft.Plan(
            kind, self.shape, eps=ACCURACY, isign=sign, dtype="complex64", nthreads=1
        )
        plan.setpts(*self._points)
        return plan

    @cached_property
    def _to_lines(self) -> finufft.Plan:
        return self._plan(2, -1)

    @cached_property
    def _to_plane(self) -> finufft.Plan:
        return self._plan(1, 1)


def ramp(length_px: int) -> npt.NDArray[np.float64]:
    """Ramp filter of filtered back-projection, band-limited in space.

    Sampled in space and then transformed, so that the mean is kept (Kak & Slaney 1988,
    chapter 3, equation 61).

    Parameters
    ----------
    length_px
        Length of the transform (`Projector.length_px`).

    Returns
    -------
    ndarray
        About the frequency itself in cycles per voxel, for `scipy.fft.rfftfreq`.
    """
    places = np.rint(fft.fftfreq(length_px) * length_px)
    odd = places % 2 == 1
    kernel = np.zeros(length_px)
    kernel[odd] = -1 / (np.pi * places[odd]) ** 2
    kernel[0] = 0.25
    return np.asarray(fft.rfft(kernel).real)


def filtered_back_projection(
    projector: Projector, rows: npt.NDArray[Any], window: npt.NDArray[Any] | float = 1.0
) -> Float:
    """Reconstruct a plane from projections at equal angles over half a turn.

    Parameters
    ----------
    projector
        Geometry; the angles are taken as equally spaced over 180 degrees.
    rows
        Projections of shape (angles, detector_px), in values times voxels.
    window
        Further filter in frequency.

    Returns
    -------
    ndarray of shape `projector.shape`
        The values that were projected.
    """
    step = np.pi / len(projector.angles_deg)
    return projector.back_project(rows, step * ramp(projector.length_px) * window)


def middle(size: Sequence[int]) -> npt.NDArray[np.float64]:
    """Middle of an array in samples: where the axis of rotation passes."""
    return (np.asarray(size, float) - 1) / 2
