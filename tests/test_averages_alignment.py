"""Alignment finds turns and shifts that are known."""

from dataclasses import replace

import numpy as np
from machines import machine

from tomoglean.averages import alignment, correlations, fourier, geometry, sums
from tomoglean.averages.particles import Particle
from tomoglean.averages.settings import Setup
from tomoglean.volumes import Volume


def test_fit_finds_a_known_turn_and_shift():
    setup = Setup(1.0, 32, 1, 90.0, 1, 30.0, 5.0, 3.0, 1.0, False)
    cell = Volume(machine(geometry.offsets(48)), (1.0,) * 3)
    middle, shift = np.full(3, 24.0), np.array([2.0, -1.0, 3.0])
    cut = {"box_px": 32, "voxel_nm": 1.0}
    reference = geometry.crop(cell, middle, np.eye(3), **cut)
    away = geometry.turn(-60)
    box = geometry.crop(cell, middle - away @ shift, away, **cut)
    seen = fourier.wedge(32, away, 90)
    angle, found = alignment.fit(
        box, seen, alignment.references(reference, setup), np.zeros(3), setup
    )
    assert angle == 60
    assert found.tolist() == shift.tolist()


def test_moved_particle_shows_what_the_fit_promised():
    """A particle moved by the fit cuts the very box that it was fitted to."""
    setup = Setup(1.0, 32, 1, 90.0, 1, 30.0, 5.0, 3.0, 1.0, False)
    cell = Volume(machine(geometry.offsets(48)), (1.0,) * 3)
    normal, start = np.array([1.0, 0.0, 0.0]), np.array([22.0, 25.0, 23.0])
    particle = Particle(0, start, normal, -60.0, start)
    home = replace(particle, centre=np.full(3, 24.0), angle_deg=0.0)
    reference = sums.cut(home, home.frame, [cell], setup)
    box = sums.cut(particle, particle.frame, [cell], setup)
    seen = fourier.wedge(32, particle.frame, 90)
    fit = alignment.fit(
        box, seen, alignment.references(reference, setup), np.zeros(3), setup
    )
    moved = alignment.moved(particle, *fit, np.ones(3), setup)
    again = sums.cut(moved, moved.frame, [cell], setup)
    assert correlations.correlation(again, reference) > 0.9
    assert correlations.correlation(box, reference) < 0.5
