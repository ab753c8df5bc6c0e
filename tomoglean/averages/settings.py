"""How particles are cut, aligned and averaged, and what follows for a box from that."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tomoglean.averages import fourier, geometry
from tomoglean.averages.geometry import Array, Box


@dataclass(frozen=True)
class Setup:
    """How particles are cut, aligned and averaged; the settings of `average`.

    Attributes
    ----------
    voxel_nm
        Edge of a box's voxels in nm; 0 if there is no tomogram.
    box_px, symmetry, tilt_max_deg, iterations, angle_step_deg, max_shift_nm, lowpass_nm
        As of `average`.
    regularisation, invert
        As of `average`.
    """

    voxel_nm: float
    box_px: int
    symmetry: int
    tilt_max_deg: float
    iterations: int
    angle_step_deg: float
    max_shift_nm: float
    lowpass_nm: float
    regularisation: float
    invert: bool

    @cached_property
    def mask(self) -> Box:
        """Soft ball that leaves the corners of a box out, values in [0, 1]."""
        far = np.linalg.norm(geometry.offsets(self.box_px), axis=-1)
        soft = np.clip((self.box_px / 2 - 1 - far) / (self.box_px / 8), 0, 1)
        return np.asarray(0.5 - 0.5 * np.cos(np.pi * soft), np.float32)

    @cached_property
    def passing(self) -> npt.NDArray[np.bool_]:
        """Frequencies up to the low-pass limit, in the half spectrum."""
        far = np.linalg.norm(fourier.frequencies(self.box_px), axis=-1)
        return np.asarray(far <= self.voxel_nm / self.lowpass_nm)

    @cached_property
    def angles_deg(self) -> Array:
        """In-plane angles that an alignment tries."""
        return np.arange(0.0, 360.0 / self.symmetry, self.angle_step_deg)
