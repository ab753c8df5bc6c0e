"""Alignment finds turns and shifts that are known."""

from dataclasses import replace

import numpy as np
import pytest
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


@pytest.mark.parametrize(
    ("moved_px", "expected"),
    [((0, 0, 0), [0, 0, 4]), ((0, 0, 2), [0, 0, 2]), ((9, 0, 0), [0, 0, 0])],
    ids=["at its pick", "half of the way", "out of reach"],
)
def test_fit_keeps_within_reach_of_the_pick(moved_px, expected):
    """What lies five voxels away is fetched by the four that are allowed in all."""
    setup = Setup(1.0, 32, 1, 90.0, 1, 360.0, 4.0, 3.0, 1.0, False)
    cell = Volume(machine(geometry.offsets(48)), (1.0,) * 3)
    cut = {"rotation": np.eye(3), "box_px": 32, "voxel_nm": 1.0}
    reference = geometry.crop(cell, np.full(3, 24.0), **cut)
    box = geometry.crop(cell, np.array([24.0, 24.0, 19.0]), **cut)
    turned, every = alignment.references(reference, setup), np.ones((32, 32, 17))
    _, shift = alignment.fit(box, every, turned, np.array(moved_px), setup)
    assert shift.tolist() == expected


def test_shifts_are_in_voxels_of_the_box_and_places_in_those_of_the_tomogram():
    setup = Setup(2.0, 32, 1, 90.0, 1, 30.0, 5.0, 3.0, 1.0, False)
    start = np.array([10.0, 20.0, 30.0])
    upright = Particle(0, start, np.array([1.0, 0.0, 0.0]), 0.0, start)
    found = alignment.moved(
        upright, 15.0, np.array([3.0, 0, 0]), np.array([4.0, 1, 1]), setup
    )
    assert found.centre == pytest.approx([11.5, 20, 30])
    assert found.start.tolist() == start.tolist()
    assert found.angle_deg == 15


def test_a_half_is_laid_over_the_other_as_one_body():
    """Three particles that all lie the same way off come back by the same way."""
    setup = Setup(1.0, 32, 1, 90.0, 1, 30.0, 5.0, 3.0, 1.0, False)
    cell = Volume(machine(geometry.offsets(48)), (1.0,) * 3)
    normal, home = np.array([1.0, 0.0, 0.0]), np.full(3, 24.0)
    off = home + np.array([-2.0, 1.0, 2.0])
    stays = [Particle(0, home, normal, 0.0, home)] * 2
    goes = [Particle(0, off, normal, -60.0, off)] * 3
    found = alignment.registered(goes, stays, [cell], setup)
    assert [particle.angle_deg for particle in found] == [0, 0, 0]
    assert [np.abs(p.centre - home).max() < 0.7 for p in found] == [True] * 3
