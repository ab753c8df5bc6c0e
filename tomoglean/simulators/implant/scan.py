"""Synchrotron micro-CT of a specimen: project, count photons, reconstruct, slice by slice.

Parallel and monochromatic X-rays, so no beam hardening. In this order: line integrals of
the field of view and of what lies beside it; absorption and one Laplacian of phase
(transport of intensity); scatter; photons (Poisson); the light's spread in the detector;
flat field and gains (rings); logarithm; filtered back-projection. Only a few slices'
projections are in memory at a time, and every random number is keyed by its slice.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from tomoglean.provenance import Refused
from tomoglean.simulators.fields import Float, weighted
from tomoglean.simulators.implant.surroundings import COARSE, Surroundings, middled
from tomoglean.simulators.projections import Projector, ramp
from tomoglean.volumes import random

MARGIN_PX = 8
CUT_SIGMAS = 3.0
FEWEST_PHOTONS = 0.5
UM_PER_CM = 1e4

T = TypeVar("T")
Plane = tuple[Float, Float]
Beside = Callable[
    [float, npt.NDArray[np.float64], npt.NDArray[np.float64], float], npt.NDArray[Any]
]


@dataclass(frozen=True)
class Scan:
    """Group `scan` of the settings (`config/schemas/phantom-implant.yaml` tells each)."""

    mode: str
    projections: int
    geometry: str
    overlap_px: int
    width: float
    photons: float
    blur_px: float
    distance_mm: float
    flats: int
    gain_error: float
    scatter: float
    drift_px: float
    flux_error: float
    padding: float
    filter: str


@dataclass(frozen=True)
class Beamline:
    """One scan of one field of view about an axis of rotation along z.

    Attributes
    ----------
    seed, name
        Keys of the noise.
    scan
        Settings of the imaging chain.
    shape
        Field of view (Z, Y, X) in voxels; the axis passes through its middle.
    voxel_um
        Edge of voxels and of detector pixels in um.
    reach_um
        Distance from the axis beyond which there is nothing, in um.
    """

    seed: int
    name: str
    scan: Scan
    shape: tuple[int, int, int]
    voxel_um: float
    reach_um: float

    @property
    def halo(self) -> int:
        """Number of slices that are needed above and below the field of view."""
        return self.phase_reach + self.blur_reach

    @property
    def heights(self) -> range:
        """Indices of all slices that `images` needs, those of the halo included."""
        return range(-self.halo, self.shape[0] + self.halo)

    def coordinates_um(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Coordinates y and x of the planes that `images` needs: a margin all round."""
        rows, columns = (self.voxel_um * middled(n) for n in self._plane_shape)
        return rows, columns

    def height_um(self, index: int) -> float:
        """Height of a slice; the middle of the field of view lies at 0."""
        return self.voxel_um * (index - (self.shape[0] - 1) / 2)

    def images(self, planes: Iterable[Plane], beside: Beside) -> Iterator[Float]:
        """Scan planes as they come and yield the reconstructed slices in their order.

        Parameters
        ----------
        planes
            Attenuation in 1/cm, and refractive decrement against that of the tissue, at
            every one of `heights`, on the grid of `coordinates_um`.
        beside
            Attenuation in 1/cm of what lies beside the field of view, as a function of z,
            y, x and edge of the voxels (um): (rows, columns) of a coarse plane.

        Yields
        ------
        ndarray of shape (Y, X)
            Attenuation in 1/cm.
        """
        around = self._rays_beside(beside)
        rays = (self._rays(*one) for one in zip(planes, around, strict=True))
        light = map(self._light, windows(rays, self.phase_reach))
        counts = (self._counts(z, one) for z, one in enumerate(light, -self.blur_reach))
        for z, near in enumerate(windows(counts, self.blur_reach)):
            yield self._reconstructed(self._rows(z, near))

    @cached_property
    def detector_px(self) -> int:
        """Width of the detector; of an off-centre scan about half of what it sees."""
        seen = self._seen_px
        return (seen + self.scan.overlap_px) // 2 if self._off_centre else seen

    @cached_property
    def angles_deg(self) -> npt.NDArray[np.float64]:
        """Angle of every projection: half a turn, or a whole one off centre."""
        turns = 2 if self._off_centre else 1
        number = self.scan.projections
        return np.asarray(np.arange(turns * number) * (180 / number))

    @property
    def _off_centre(self) -> bool:
        return self.scan.geometry == "off-centre"

    @cached_property
    def _seen_px(self) -> int:
        """Width of the projections over half a turn, from end to end."""
        seen = max(round(self.scan.width * max(self.shape[1:])), 2)
        if not self._off_centre:
            return seen
        seen += (seen + self.scan.overlap_px) % 2
        if self.scan.overlap_px >= seen:
            raise Refused(
                f"simulate: scan.overlap_px: expected less than {seen}, the width of the"
                f" scan, found {self.scan.overlap_px}; narrow the overlap"
            )
        return seen

    @property
    def _plane_shape(self) -> tuple[int, int]:
        _, rows, columns = self.shape
        return rows + 2 * MARGIN_PX, columns + 2 * MARGIN_PX

    @property
    def phase_reach(self) -> int:
        """Slices on each side that the fringes of a slice come from."""
        return 1 if self.scan.distance_mm else 0

    @property
    def blur_reach(self) -> int:
        """Slices on each side whose light spreads into a slice."""
        return int(CUT_SIGMAS * self.scan.blur_px + 0.5)

    @cached_property
    def _axis_px(self) -> npt.NDArray[np.float64]:
        """Where the axis truly meets the detector at every angle: it drifts."""
        middle = (self.scan.overlap_px - self._seen_px) / 4 if self._off_centre else 0.0
        number = len(self.angles_deg)
        waves = np.arange(1, 7)[:, None]
        rng = random(self.seed, self.name, "scan drift")
        heights = rng.standard_normal((6, 1)) / waves
        turns = waves * np.arange(number) / (2 * number) + rng.random((6, 1))
        drift = (heights * np.cos(2 * np.pi * turns)).sum(axis=0)
        drift -= drift.mean()
        drift *= self.scan.drift_px / max(float(drift.std()), 1e-9)
        return np.asarray(middle + drift)

    @cached_property
    def _projector(self) -> Projector:
        return Projector(
            self._plane_shape, self.angles_deg, self.detector_px, self._axis_px
        )

    @cached_property
    def _surroundings(self) -> Surroundings | None:
        if self.reach_um <= self.voxel_um * min(self._plane_shape) / 2:
            return None
        return Surroundings(
            self._plane_shape,
            self.reach_um / self.voxel_um,
            self.angles_deg,
            self.detector_px,
            self._axis_px,
        )

    def _rays(self, plane: Plane, around: Float) -> Plane:
        """Line integrals of attenuation, and of decrement in um, through one plane."""
        attenuation, decrement = plane
        rays = self._projector.project(attenuation) + around
        rays *= np.float32(self.voxel_um / UM_PER_CM)
        if not self.phase_reach:
            return rays, rays
        # Faded out in the margin: an edge there would make fringes.
        bend = self._projector.project(self._fade * decrement)
        return rays, bend * np.float32(self.voxel_um)

    def _rays_beside(self, beside: Beside) -> Iterator[Float]:
        """Projections of what lies beside every plane, the same for `COARSE` of them."""
        around = self._surroundings
        for layer, planes in groupby(self.heights, lambda z: z // COARSE):
            rays = np.zeros(1, np.float32)
            if around:
                z_um = self.height_um(layer * COARSE) + self.voxel_um * (COARSE - 1) / 2
                places_um = around.places_px * self.voxel_um
                edge_um = around.voxel_px * self.voxel_um
                rays = around.project(beside(z_um, places_um, places_um, edge_um))
            for _ in planes:
                yield rays

    @cached_property
    def _fade(self) -> Float:
        rise = np.sin(np.pi * (np.arange(MARGIN_PX) + 0.5) / (2 * MARGIN_PX)) ** 2
        sides = [
            np.concatenate([rise, np.ones(n - 2 * MARGIN_PX), rise[::-1]])
            for n in self._plane_shape
        ]
        return np.outer(*sides).astype(np.float32)

    def _light(self, near: list[Plane]) -> Float:
        """Light that reaches the detector, in its flat field's: absorption and phase.

        Transport of intensity over a short distance R: I = exp(-p) (1 + R laplace D),
        where D is the line integral of the decrement.
        """
        rays, bend = near[len(near) // 2]
        light = np.exp(-rays)
        if self.phase_reach:
            (_, above), (_, below) = near[0], near[-1]
            curvature = ndimage.convolve1d(bend, [1.0, -2.0, 1.0], axis=1, mode="nearest")
            curvature += above + below - 2 * bend
            distance_um = 1000 * self.scan.distance_mm
            light *= 1 + np.float32(distance_um / self.voxel_um**2) * curvature
        light += self.scan.scatter * light.mean(axis=1, keepdims=True)
        return np.maximum(light, 0)

    def _counts(self, z: int, light: Float) -> Float:
        """Photons by projection and pixel, and of the flat field as one more row.

        Each photon's light then spreads in the scintillator: along the row here.
        """
        rng, photons = random(self.seed, self.name, "scan photons", z), self.scan.photons
        flats = max(self.scan.flats, 1)
        flat = np.full(light.shape[1], photons * flats)
        if self.scan.flats:
            flat = rng.poisson(flat).astype(float)
        counts = rng.poisson(light * (photons * self._flux[:, None]))
        rows = np.concatenate([counts, flat[None] / flats]).astype(np.float32)
        return self._spread(rows)

    def _spread(self, rows: Float) -> Float:
        if not self.blur_reach:
            return rows
        return np.asarray(ndimage.correlate1d(rows, self.kernel, axis=1, mode="nearest"))

    @cached_property
    def _flux(self) -> npt.NDArray[np.float64]:
        rng = random(self.seed, self.name, "scan flux")
        return np.exp(self.scan.flux_error * rng.standard_normal(len(self.angles_deg)))

    @cached_property
    def kernel(self) -> Float:
        """Point spread of the detector, cut at 3 sigma."""
        places = np.arange(-self.blur_reach, self.blur_reach + 1)
        kernel = np.exp(-0.5 * (places / max(self.scan.blur_px, 1e-3)) ** 2)
        return np.asarray(kernel / kernel.sum(), np.float32)

    def _rows(self, z: int, near: list[Float]) -> Float:
        """Line integrals as measured: light spread across the rows, flat field, gains."""
        counts = weighted(self.kernel, np.stack(near)) if near[1:] else near[0]
        logs = np.log(np.maximum(counts, FEWEST_PHOTONS))
        rng = random(self.seed, self.name, "scan gain", z)
        gains = self.scan.gain_error * rng.standard_normal(logs.shape[1])
        return np.asarray(logs[-1] - logs[:-1] - gains, np.float32)

    def _reconstructed(self, rows: Float) -> Float:
        rows = self._filtered(self._stitched(rows) if self._off_centre else rows)
        step = np.full(1, np.pi / self.scan.projections)
        plane = self._back.back_project(rows, step)
        return plane * np.float32(UM_PER_CM / self.voxel_um)

    @cached_property
    def _back(self) -> Projector:
        """Geometry as the reconstruction believes it: no drift."""
        angles = self.angles_deg[: self.scan.projections]
        return Projector(self.shape[1:], angles, self._seen_px)

    def _stitched(self, rows: Float) -> Float:
        """Lay opposite views side by side, blended where they overlap."""
        number, lost = self.scan.projections, self._seen_px - self.detector_px
        place = middled(self._seen_px) / self.scan.overlap_px
        weight = np.clip(0.5 + place, 0, 1)
        right = np.pad(rows[:number], [(0, 0), (lost, 0)])
        left = np.pad(rows[number:, ::-1], [(0, 0), (0, lost)])
        return np.asarray(weight * right + (1 - weight) * left, np.float32)

    def _filtered(self, rows: Float) -> Float:
        """Continue the rows with their edge values, and filter them."""
        pad = round(self.scan.padding * rows.shape[1])
        wide = np.pad(rows, [(0, 0), (pad, pad)], mode="edge")
        length = fft.next_fast_len(2 * wide.shape[1], real=True)
        spectrum = fft.rfft(wide, length, axis=1, workers=1)
        spectrum *= (ramp(length) * window(self.scan.filter, length)).astype(np.float32)
        filtered = fft.irfft(spectrum, length, axis=1, workers=1)
        return np.asarray(filtered[:, pad : pad + rows.shape[1]], np.float32)


def window(name: str, length_px: int) -> npt.NDArray[np.float64]:
    """Window on top of the ramp filter, for `scipy.fft.rfftfreq(length_px)`.

    Parameters
    ----------
    name
        `ramp` (none), `shepp-logan` or `hann`.
    length_px
        Length of the transform.
    """
    frequency = fft.rfftfreq(length_px)
    windows = {
        "ramp": np.ones_like(frequency),
        "shepp-logan": np.sinc(frequency),
        "hann": np.cos(np.pi * frequency) ** 2,
    }
    return windows[name]


def windows(items: Iterable[T], reach: int) -> Iterator[list[T]]:
    """Every item with its `reach` neighbours on both sides; the first ones lack theirs."""
    near: deque[T] = deque(maxlen=2 * reach + 1)
    for item in items:
        near.append(item)
        if len(near) == near.maxlen:
            yield list(near)
