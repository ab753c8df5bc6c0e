"""What the beam passes beside the field of view, seen in coarse voxels."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from tomoglean.simulators.fields import Float
from tomoglean.simulators.projections import Projector

COARSE = 4


@dataclass(frozen=True)
class Surroundings:
    """What the beam passes beside the field of view, in voxels some four times as wide.

    Attributes
    ----------
    inner
        Rows and columns of the field of view, which are left out, in fine voxels.
    reach_px
        Distance from the axis beyond which there is nothing, in fine voxels.
    angles_deg, detector_px, axis_px
        Angles, width of the detector, and where the axis meets it, in fine voxels.
    """

    inner: tuple[int, int]
    reach_px: float
    angles_deg: npt.NDArray[np.float64]
    detector_px: int
    axis_px: npt.NDArray[np.float64]

    @cached_property
    def voxel_px(self) -> float:
        """Edge of the coarse voxels; their faces meet those of the field of view."""
        return self.inner[1] / round(self.inner[1] / COARSE)

    @cached_property
    def places_px(self) -> npt.NDArray[np.float64]:
        """Centres of the coarse voxels along y or x, from the axis."""
        more = np.ceil((self.reach_px - self.inner[1] / 2) / self.voxel_px)
        number = round(self.inner[1] / self.voxel_px) + 2 * max(int(more), 0)
        return self.voxel_px * middled(number)

    def project(self, plane: npt.NDArray[Any]) -> Float:
        """Line integrals of a coarse plane, in values times fine voxels."""
        rows = self._projector.project(plane * self._outside) * np.float32(self.voxel_px)
        coarse = rows.shape[1]
        place = middled(self.detector_px) / self.voxel_px + (coarse - 1) / 2
        low = place.astype(int)
        weight = (place - low).astype(np.float32)
        return np.asarray(rows[:, low] * (1 - weight) + rows[:, low + 1] * weight)

    @cached_property
    def _outside(self) -> Float:
        """Share of each coarse voxel that lies outside the field of view."""
        edge = self.voxel_px / 2
        within = [
            np.clip((n / 2 + edge - np.abs(self.places_px)) / self.voxel_px, 0, 1)
            for n in self.inner
        ]
        return np.asarray(1 - np.outer(*within), np.float32)

    @cached_property
    def _projector(self) -> Projector:
        number = len(self.places_px)
        width = int(np.ceil(self.detector_px / self.voxel_px)) + 4
        offsets = self.axis_px / self.voxel_px
        return Projector((number, number), self.angles_deg, width, offsets)


def middled(number: int) -> npt.NDArray[np.float64]:
    """Places of samples of distance 1 about the middle of them all."""
    return np.arange(number, dtype=np.float64) - (number - 1) / 2
