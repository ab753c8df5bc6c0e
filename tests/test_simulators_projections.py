"""Projections and their inverse, against scikit-image and against closed forms."""

import numpy as np
import pytest
from scipy import fft
from skimage.transform import iradon, radon

from tomoglean.simulators.projections import (
    Projector,
    filtered_back_projection,
    middle,
    ramp,
)

ANGLES_DEG = np.arange(0, 180, 3.0)
SHAPES = [(64, 64), (65, 65), (48, 80), (49, 81), (80, 48)]


def blobs(shape):
    """Two leaning Gaussians off the middle: smooth, no symmetry."""
    row, column = middle(shape)
    y, x = np.arange(shape[0])[:, None] - row, np.arange(shape[1]) - column
    one = np.exp(-((y - 5) ** 2) / 60 - (x + 7) ** 2 / 30)
    two = np.exp(-((y + 9) ** 2) / 20 - (x - 3) ** 2 / 50 - (y + 9) * (x - 3) / 60)
    return (one + 0.7 * two).astype(np.float32)


def in_a_square(plane):
    """The plane in a square of zeros, its middle where it was."""
    side = max(plane.shape)
    return np.pad(plane, [((side - n) // 2,) * 2 for n in plane.shape])


def offsets_of_skimage(side, length):
    """Where our axis of rotation meets the detector of `radon`, turned the other way.

    There the axis of rotation is sample n // 2 of plane and detector, here (n - 1) / 2.
    """
    angles = np.radians(ANGLES_DEG)
    pivot = side // 2 - (side - 1) / 2
    return length // 2 - (length - 1) / 2 - pivot * (np.cos(angles) + np.sin(angles))


@pytest.mark.parametrize("shape", SHAPES)
def test_projections_are_those_of_scikit_image(shape):
    plane = blobs(shape)
    square = in_a_square(plane)
    theirs = radon(square, theta=-ANGLES_DEG, circle=False).T
    length = theirs.shape[1]
    offsets = offsets_of_skimage(len(square), length)
    ours = Projector(shape, ANGLES_DEG, length, offsets).project(plane)
    # radon interpolates linearly, which costs it half a per cent.
    assert np.abs(ours - theirs).max() < 0.007 * theirs.max()


@pytest.mark.parametrize("shape", [(64, 64), (65, 65), (48, 80)])
def test_reconstruction_is_that_of_scikit_image(shape):
    plane = blobs(shape)
    square = in_a_square(plane)
    theirs = radon(square, theta=-ANGLES_DEG, circle=False)
    offsets = offsets_of_skimage(len(square), len(theirs))
    projector = Projector(shape, ANGLES_DEG, len(theirs), offsets)
    ours = filtered_back_projection(projector, theirs.T)
    whole = iradon(theirs, theta=-ANGLES_DEG, circle=False, output_size=len(square))
    cut = [(n - m) // 2 for n, m in zip(square.shape, shape, strict=True)]
    inner = whole[cut[0] : cut[0] + shape[0], cut[1] : cut[1] + shape[1]]
    assert np.abs(ours - inner).max() < 0.03 * plane.max()
    assert np.corrcoef(ours.ravel(), inner.ravel())[0, 1] > 0.999


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("detector_px", [110, 111])
def test_reconstruction_returns_what_was_projected(shape, detector_px):
    plane = blobs(shape)
    projector = Projector(shape, np.arange(0, 180, 1.5), detector_px)
    back = filtered_back_projection(projector, projector.project(plane))
    assert np.abs(back - plane).max() < 1e-4


@pytest.mark.parametrize("angle_deg", [0.0, 30.0, 90.0, 137.0, 245.0])
def test_a_point_falls_where_the_geometry_says(angle_deg):
    shape, point, offset = (40, 51), np.array([27.0, 12.0]), 2.75
    row, column = point - middle(shape)
    y, x = np.mgrid[: shape[0], : shape[1]]
    spot = np.exp(-((y - point[0]) ** 2 + (x - point[1]) ** 2) / 8)
    rows = Projector(shape, np.array([angle_deg]), 90, offset).project(spot)[0]
    place = rows @ np.arange(90) / rows.sum() - 89 / 2
    turn = np.radians(angle_deg)
    expected = column * np.cos(turn) + row * np.sin(turn) + offset
    assert place == pytest.approx(expected, abs=1e-3)


def test_a_gaussian_projects_to_a_gaussian():
    y, x = np.mgrid[:64, :64] - 31.5
    rows = Projector((64, 64), ANGLES_DEG, 64).project(np.exp(-(x**2 + y**2) / 32))
    s = np.arange(64) - 31.5
    expected = np.sqrt(32 * np.pi) * np.exp(-(s**2) / 32)
    np.testing.assert_allclose(rows, np.tile(expected, (len(rows), 1)), atol=1e-3)


def test_opposite_views_are_mirrored():
    plane = blobs((48, 80))
    rows = Projector((48, 80), np.array([25.0, 205.0]), 101).project(plane)
    np.testing.assert_allclose(rows[0], rows[1][::-1], atol=1e-3)


def test_offsets_may_differ_from_view_to_view():
    plane = blobs((48, 80))
    angles = np.array([10.0, 10.0])
    rows = Projector((48, 80), angles, 101, np.array([0.0, 3.0])).project(plane)
    np.testing.assert_allclose(rows[0][:-3], rows[1][3:], atol=1e-3)


@pytest.mark.parametrize("length_px", [64, 405, 729, 1000, 1458])
def test_the_ramp_is_the_frequency_and_keeps_the_mean(length_px):
    values = ramp(length_px)
    frequency = fft.rfftfreq(length_px)
    # Lengths such as 729 have a reciprocal that is not exact.
    assert np.abs(values - frequency)[1:].max() < 0.3 / length_px
    assert 0 < values[0] < 0.3 / length_px


def test_back_projection_is_the_adjoint_of_projection():
    rng = np.random.default_rng(0)
    plane = rng.standard_normal((33, 40)).astype(np.float32)
    projector = Projector(plane.shape, ANGLES_DEG, 61, 1.5)
    rows = rng.standard_normal((len(ANGLES_DEG), 61)).astype(np.float32)
    forth = float(np.vdot(projector.project(plane), rows))
    back = float(np.vdot(plane, projector.back_project(rows, np.ones(1))))
    assert forth == pytest.approx(back, rel=1e-3)


def test_a_plane_of_another_shape_is_an_error():
    with pytest.raises(ValueError, match=r"\(8, 9\) is expected, found \(9, 8\)"):
        Projector((8, 9), ANGLES_DEG, 12).project(np.zeros((9, 8), np.float32))
