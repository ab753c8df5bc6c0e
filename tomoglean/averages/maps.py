"""Average particles as a whole and in two halves that never saw each other."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mrcfile
import numpy as np
import numpy.typing as npt

from tomoglean.averages.alignment import aligned, registered
from tomoglean.averages.geometry import Array, Box
from tomoglean.averages.particles import Particle
from tomoglean.averages.settings import Setup
from tomoglean.averages.sums import summed
from tomoglean.provenance import replacing
from tomoglean.volumes import Volume


@dataclass(frozen=True)
class Maps:
    """The average of a set of particles, and of its two halves.

    Attributes
    ----------
    whole, half1, half2
        Averages of shape (B, B, B).
    sizes
        Particles in each half.
    shifts_nm
        How far every particle has moved from its start, shape (N,), half by half.
    """

    whole: Box
    half1: Box
    half2: Box
    sizes: tuple[int, int]
    shifts_nm: Array


def reconstruct(
    particles: Sequence[Particle],
    tomograms: Sequence[Volume],
    setup: Setup,
    rng: np.random.Generator,
) -> Maps:
    """Split particles into halves, align each half to itself, average.

    Parameters
    ----------
    particles
        Where to begin; may be none.
    tomograms
        The volumes that their `source` counts.
    setup
        Settings.
    rng
        Random numbers for the split.
    """
    order = rng.permutation(len(particles))
    halves = [[particles[i] for i in order[part::2]] for part in (0, 1)]
    for _ in range(setup.iterations):
        halves = [aligned(half, tomograms, setup) for half in halves]
    if setup.iterations and all(halves):
        halves[1] = registered(halves[1], halves[0], tomograms, setup)
    first, second = (summed(half, tomograms, setup) for half in halves)
    moves_nm = [
        (p.centre - p.start) * tomograms[p.source].voxel_nm for half in halves for p in half
    ]
    return Maps(
        whole=(first + second).map(setup.regularisation),
        half1=first.map(setup.regularisation),
        half2=second.map(setup.regularisation),
        sizes=(len(halves[0]), len(halves[1])),
        shifts_nm=np.linalg.norm(np.reshape(moves_nm, (-1, 3)), axis=1),
    )


def write_mrc(
    data: npt.NDArray[Any], path: str | os.PathLike[str], *, voxel_nm: float
) -> None:
    """Write a box as MRC, float32, with its voxel size and without a date."""
    with replacing(path) as partial, mrcfile.new(partial, overwrite=True) as file:
        file.set_data(np.asarray(data, np.float32))
        file.set_volume()
        file.voxel_size = 10.0 * voxel_nm
        # mrcfile signs with the time of day: the same map must be the same bytes.
        file.header.label[:] = b""
        file.header.nlabl = 0
