"""Average subtomograms, honest about the missing wedge and about chance.

A particle's own frame has the membrane normal as z axis, and its origin lies in voxel
box_px // 2 of a crop, where the Fourier transform has it.

Crops are read from disk one at a time: memory holds some 20 boxes and, while aligning,
one more for every in-plane angle.
"""

import contextlib
import os
from collections.abc import Sequence

from tomoglean import volumes
from tomoglean.averages.control import random_particles
from tomoglean.averages.correlations import correlation, resolution_nm, shell_correlation
from tomoglean.averages.fourier import wedge
from tomoglean.averages.geometry import crop, frame, turn
from tomoglean.averages.maps import Maps, reconstruct, write_mrc
from tomoglean.averages.particles import Particle, picked
from tomoglean.averages.result import FSC_COLUMNS, Result, assess
from tomoglean.averages.settings import Setup
from tomoglean.averages.sums import Sums, summed
from tomoglean.tables import Picks

__all__ = [
    "FSC_COLUMNS",
    "Maps",
    "Particle",
    "Result",
    "Setup",
    "Sums",
    "average",
    "correlation",
    "crop",
    "frame",
    "reconstruct",
    "resolution_nm",
    "shell_correlation",
    "summed",
    "turn",
    "wedge",
    "write_mrc",
]

Path = str | os.PathLike[str]


def average(
    picks: Sequence[Picks],
    tomograms: Sequence[Path],
    masks: Sequence[Path],
    *,
    seed: int,
    box_px: int = 48,
    symmetry: int = 1,
    tilt_max_deg: float = 60.0,
    iterations: int = 2,
    angle_step_deg: float = 30.0,
    max_shift_nm: float = 6.0,
    lowpass_nm: float = 6.0,
    regularisation: float = 1.0,
    invert: bool = False,
) -> Result:
    """Average picks in Fourier space, every one weighted by what its tilts have seen.

    The halves are split before anything else and aligned each to itself; at the end the
    second is laid over the first as a whole. The control goes the same way: as many
    random places of the membrane mask, at the same depths in the membrane.

    Parameters
    ----------
    picks
        Candidates of every tomogram.
    tomograms, masks
        Volume files, and files of `mask` with `data`, `distance_nm` and `normals`.
    seed
        Seed of the halves, the first in-plane angles and the control.
    box_px
        Side of a crop in voxels, even.
    symmetry
        n of the Cn symmetry imposed about the normal.
    tilt_max_deg
        Highest tilt of the single-axis tilt series about y, in degrees.
    iterations
        Rounds of alignment; 0 trusts the picks.
    angle_step_deg
        Step of the search about the normal, in degrees.
    max_shift_nm
        Farthest that a particle may move from its pick, in nm.
    lowpass_nm
        Finest detail that alignment looks at, in nm.
    regularisation
        Added to the sum of weights, in particles; damps what few have seen.
    invert
        Turn the contrast round, to bright protein from dark.

    Returns
    -------
    Result
        Valid also without tomograms or picks: the maps are zero then.

    Raises
    ------
    ValueError
        If the lists differ in length or the box is odd.
    """
    if box_px % 2:
        raise ValueError(f"the box has an even side, not {box_px}")
    with contextlib.ExitStack() as stack:
        scans = [stack.enter_context(volumes.open_volume(path)) for path in tomograms]
        voxel_nm = min((min(scan.voxel_nm) for scan in scans), default=0.0)
        setup = Setup(
            voxel_nm, box_px, symmetry, tilt_max_deg, iterations, angle_step_deg,
            max_shift_nm, lowpass_nm, regularisation, invert,
        )  # fmt: skip
        found, skipped = picked(picks, scans, setup, seed)
        chance = random_particles(found, scans, masks, setup, seed)
        maps = reconstruct(found, scans, setup, volumes.random(seed, "halves"))
        control = reconstruct(chance, scans, setup, volumes.random(seed, "control"))
    return assess(maps, control, setup, sum(map(len, picks)), skipped)
