"""Fit particles to their own average, by a turn about the normal and a shift."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tomoglean.averages import fourier
from tomoglean.averages.fourier import Spectrum
from tomoglean.averages.geometry import Array, Box, crop, offsets, turn
from tomoglean.averages.particles import Particle
from tomoglean.averages.settings import Setup
from tomoglean.averages.sums import cut, summed
from tomoglean.volumes import Volume


def aligned(
    particles: Sequence[Particle], scans: Sequence[Volume], setup: Setup
) -> list[Particle]:
    """Fit every particle to the average of all.

    Parameters
    ----------
    particles
        Where they are now; may be none.
    scans
        The volumes that their `source` counts.
    setup
        Settings.

    Returns
    -------
    list of Particle
        The same ones, turned, and shifted within `max_shift_nm` of their starts.
    """
    if not particles:
        return []
    whole = summed(particles, scans, setup).map(setup.regularisation)
    turned = references(whole, setup)
    return [_fitted(particle, scans, turned, setup) for particle in particles]


def registered(
    particles: Sequence[Particle],
    target: Sequence[Particle],
    scans: Sequence[Volume],
    setup: Setup,
) -> list[Particle]:
    """Move a half as one body onto the other, so that the two can be compared.

    Parameters
    ----------
    particles, target
        The half that moves and the half that stays; at least one particle each.
    scans
        The volumes that their `source` counts.
    setup
        Settings.

    Returns
    -------
    list of Particle
        The half that moves, every particle by the same turn and shift.
    """
    body, other = (
        summed(half, scans, setup).map(setup.regularisation) for half in (particles, target)
    )
    every = np.ones((setup.box_px, setup.box_px, setup.box_px // 2 + 1), np.float32)
    best, shift = fit(body, every, references(other, setup), np.zeros(3), setup)
    return [
        moved(particle, best, shift, np.asarray(scans[particle.source].voxel_nm), setup)
        for particle in particles
    ]


def references(whole: Box, setup: Setup) -> list[Spectrum]:
    """Return spectra of the masked, low-passed reference at every in-plane angle.

    Parameters
    ----------
    whole
        An average of shape (B, B, B).
    setup
        Settings: the angles, the mask and the low-pass limit.

    Returns
    -------
    list of ndarray of shape (B, B, B // 2 + 1)
        One half spectrum for each of `setup.angles_deg`.
    """
    smooth = fourier.inverse(fourier.spectrum(whole) * setup.passing, setup.box_px)
    still = Volume(smooth, (1.0, 1.0, 1.0))
    middle = np.full(3, setup.box_px // 2)
    spectra = []
    for angle_deg in setup.angles_deg:
        box = crop(still, middle, turn(angle_deg).T, box_px=setup.box_px, voxel_nm=1.0)
        spectra.append(fourier.spectrum(setup.mask * box) * setup.passing)
    return spectra


def fit(
    box: Box, seen: Box, turned: Sequence[Spectrum], moved_px: Array, setup: Setup
) -> tuple[float, Array]:
    """Return the turn and the shift that fit a box to a reference.

    The score is the correlation within the measured frequencies: for every angle its
    maximum over the shifts that keep the particle within reach of its pick.

    Parameters
    ----------
    box
        A crop of shape (B, B, B).
    seen
        Frequencies that it has measured, see `wedge`.
    turned
        Spectra of the reference at every in-plane angle, see `references`.
    moved_px
        How far the particle has moved from its pick, (z, y, x) in its own frame.
    setup
        Settings.

    Returns
    -------
    float
        Angle in degrees, one of `setup.angles_deg`.
    ndarray of shape (3,)
        Shift (z, y, x) in voxels, in the frame of the particle.
    """
    reach = np.linalg.norm(offsets(setup.box_px) + moved_px, axis=-1)
    allowed = reach <= setup.max_shift_nm / setup.voxel_nm
    allowed[(setup.box_px // 2,) * 3] = True
    spectrum, many = fourier.spectrum(box) * seen, fourier.multiplicity(setup.box_px)
    scores, shifts = [], []
    for reference in turned:
        overlap = fourier.inverse(spectrum * reference.conj(), setup.box_px)
        best = int(np.argmax(np.where(allowed, overlap, -np.inf)))
        norm = np.sqrt((many * np.abs(reference * seen) ** 2).sum())
        scores.append(overlap.ravel()[best] / (norm or 1.0))
        shifts.append(np.array(np.unravel_index(best, overlap.shape)) - setup.box_px // 2)
    winner = int(np.argmax(scores))
    return float(setup.angles_deg[winner]), shifts[winner].astype(np.float64)


def moved(
    particle: Particle, angle_deg: float, shift_px: Array, voxel_nm: Array, setup: Setup
) -> Particle:
    """Return a particle as a fit has it.

    Parameters
    ----------
    particle
        What was fitted.
    angle_deg, shift_px
        What `fit` has found.
    voxel_nm
        Voxel edges (z, y, x) of its tomogram in nm.
    setup
        Settings.
    """
    step = particle.frame @ shift_px * setup.voxel_nm / voxel_nm
    return replace(
        particle, centre=particle.centre + step, angle_deg=particle.angle_deg + angle_deg
    )


def _fitted(
    particle: Particle, scans: Sequence[Volume], turned: Sequence[Spectrum], setup: Setup
) -> Particle:
    voxel_nm = np.asarray(scans[particle.source].voxel_nm)
    box = cut(particle, particle.frame, scans, setup)
    seen = fourier.wedge(setup.box_px, particle.frame, setup.tilt_max_deg)
    away_nm = particle.frame.T @ ((particle.centre - particle.start) * voxel_nm)
    best, shift = fit(box, seen, turned, away_nm / setup.voxel_nm, setup)
    return moved(particle, best, shift, voxel_nm, setup)
