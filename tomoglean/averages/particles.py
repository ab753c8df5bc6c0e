"""Particles: where they lie and how they are turned, and which picks can be one.

A particle's own frame has the membrane normal as z axis, and its origin lies in voxel
box_px // 2 of a crop.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tomoglean import volumes
from tomoglean.averages import geometry
from tomoglean.averages.geometry import Array
from tomoglean.averages.settings import Setup
from tomoglean.tables import Picks
from tomoglean.volumes import Volume

LEAST_INSIDE = 0.75
LEAST_NORMAL = 1e-6


@dataclass(frozen=True)
class Particle:
    """Where a particle lies and how it is turned.

    Attributes
    ----------
    source
        Which of the tomograms it lies in.
    centre
        Its origin (z, y, x) in voxels of the tomogram.
    normal
        Unit membrane normal (z, y, x), outward: its z axis.
    angle_deg
        Free angle about the normal, see `frame`.
    start
        The origin before any alignment.
    """

    source: int
    centre: Array
    normal: Array
    angle_deg: float
    start: Array

    @property
    def frame(self) -> Array:
        """Rotation from the particle to the tomogram, shape (3, 3)."""
        return geometry.frame(self.normal, self.angle_deg)


def picked(
    picks: Sequence[Picks], scans: Sequence[Volume], setup: Setup, seed: int
) -> tuple[list[Particle], dict[str, int]]:
    """Turn picks into particles, where they can be averaged.

    Parameters
    ----------
    picks, scans
        Candidates of every tomogram, and the tomograms.
    setup
        Settings: how large a box is.
    seed
        Seed of the free angles.

    Returns
    -------
    list of Particle
        In the order of the picks.
    dict
        How many were left out for which reason: `n_without_normal`, `n_near_border`.
    """
    kept: list[Particle] = []
    skipped = {"n_without_normal": 0, "n_near_border": 0}
    for source, (table, scan) in enumerate(zip(picks, scans, strict=True)):
        for centre, normal in zip(table.positions, table.normals, strict=True):
            if np.linalg.norm(normal) < LEAST_NORMAL:
                skipped["n_without_normal"] += 1
            elif not fits(centre, scan, setup):
                skipped["n_near_border"] += 1
            else:
                kept.append(placed(source, centre, normal, len(kept), seed, "pick"))
    return kept, skipped


def placed(
    source: int, centre: Array, normal: Array, index: int, seed: int, purpose: str
) -> Particle:
    """Return a particle turned at random: wedges that lie alike would leave their mark.

    Parameters
    ----------
    source, centre, normal
        As of `Particle`; the normal need not be of unit length.
    index, seed, purpose
        What its free angle follows from: its number among those of a purpose.
    """
    angle_deg = float(volumes.random(seed, "angle", purpose, index).uniform(0, 360))
    return Particle(source, centre, normal / np.linalg.norm(normal), angle_deg, centre)


def fits(centre: Array, scan: Volume, setup: Setup) -> bool:
    """Tell whether enough of an upright box around a centre lies in the tomogram."""
    half = setup.box_px / 2 * setup.voxel_nm / np.asarray(scan.voxel_nm)
    shape = np.asarray(scan.shape)
    within = np.minimum(centre + half, shape - 1) - np.maximum(centre - half, 0)
    return bool(np.prod(np.clip(within / (2 * half), 0, 1)) >= LEAST_INSIDE)
