"""Sum particles in Fourier space, every one weighted by what its tilts have seen."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tomoglean.averages.fourier import Spectrum, inverse, spectrum, wedge
from tomoglean.averages.geometry import Array, Box, crop, turn
from tomoglean.averages.particles import Particle
from tomoglean.averages.settings import Setup
from tomoglean.volumes import Volume


@dataclass(frozen=True)
class Sums:
    """Half spectra of shape (B, B, B // 2 + 1): weighted sum and sum of weights."""

    signal: Spectrum
    weight: Box

    def __add__(self, other: "Sums") -> "Sums":
        """Join two sets of particles."""
        return Sums(self.signal + other.signal, self.weight + other.weight)

    def map(self, regularisation: float) -> Box:
        """Divide by the weights and return to real space, shape (B, B, B)."""
        mean = self.signal / (self.weight + np.float32(regularisation))
        return inverse(mean, self.weight.shape[0])


def summed(particles: Sequence[Particle], scans: Sequence[Volume], setup: Setup) -> Sums:
    """Sum spectra and weights, every particle once for each turn of the symmetry."""
    shape = (setup.box_px, setup.box_px, setup.box_px // 2 + 1)
    signal, weight = np.zeros(shape, np.complex64), np.zeros(shape, np.float32)
    for particle in particles:
        for copy in range(setup.symmetry):
            rotation = particle.frame @ turn(360 * copy / setup.symmetry)
            seen = wedge(setup.box_px, rotation, setup.tilt_max_deg) / setup.symmetry
            signal += seen * spectrum(cut(particle, rotation, scans, setup))
            weight += seen
    return Sums(signal, weight)


def cut(particle: Particle, rotation: Array, scans: Sequence[Volume], setup: Setup) -> Box:
    """Cut a particle out of its tomogram, with its contrast as the settings have it.

    Parameters
    ----------
    particle
        What to cut out.
    rotation
        Rotation from the box to the tomogram, shape (3, 3): the particle's frame, or
        that after a turn of the symmetry.
    scans
        The volumes that its `source` counts.
    setup
        Settings.

    Returns
    -------
    ndarray of shape (B, B, B)
        See `crop`.
    """
    scan = scans[particle.source]
    box = crop(
        scan, particle.centre, rotation, box_px=setup.box_px, voxel_nm=setup.voxel_nm
    )
    return -box if setup.invert else box
