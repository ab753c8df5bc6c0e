"""Small tools of the phantoms: shares of voxels, frames, filters."""

import numpy as np
import pytest
from scipy import fft
from threadpoolctl import threadpool_limits

from tomoglean.simulators import fields


def test_ball_covers_its_volume():
    z, y, x = fields.grid((48, 48, 48))
    ball = np.sqrt((z - 23.3) ** 2 + (y - 23.9) ** 2 + (x - 22.6) ** 2) - 20
    exact = 4 / 3 * np.pi * 20**3
    assert fields.coverage(ball).sum(dtype=float) == pytest.approx(exact, rel=2e-3)


def test_a_plane_fills_half_of_the_voxel_it_halves():
    assert fields.coverage(np.array([-1.0, -0.25, 0.0, 0.25, 1.0])).tolist() == [
        *(1.0, 0.75, 0.5, 0.25, 0.0)
    ]


@pytest.mark.parametrize("shape", [(8, 9), (5, 6, 7)])
def test_filtering_multiplies_the_spectrum(shape):
    data = np.random.default_rng(0).standard_normal(shape)
    radius = np.sqrt(sum(k**2 for k in fields.frequencies(shape)))
    expected = fft.rfftn(data) * np.exp(-3 * radius)
    found = fft.rfftn(fields.filtered(data, np.exp(-3 * radius)))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_frequencies_are_those_of_a_real_transform():
    down, across = fields.frequencies((6, 8))
    np.testing.assert_allclose(down[:, 0], fft.fftfreq(6))
    np.testing.assert_allclose(across[0], fft.rfftfreq(8))


@pytest.mark.parametrize("normal", [(1.0, 0.0, 0.0), (0.3, -2.0, 0.5), (0.0, 0.0, -1.0)])
def test_a_frame_is_right_handed_and_ends_in_its_normal(normal):
    frame = fields.frame(normal)
    np.testing.assert_allclose(frame @ frame.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(frame) == pytest.approx(1)
    np.testing.assert_allclose(frame[2], normal / np.linalg.norm(normal))


def test_coordinates_along_a_frame():
    offsets = fields.grid((2, 3, 4), voxel=2.0)
    turned = fields.along(np.eye(3)[::-1], offsets)
    assert [part.max() for part in turned] == [6, 4, 2]


def test_weighted_sum_over_the_first_axis():
    parts = np.random.default_rng(0).random((3, 4, 5))
    expected = 0.5 * parts[0] - 2 * parts[1] + parts[2]
    found = fields.weighted(np.array([0.5, -2.0, 1.0]), parts)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert found.dtype == np.float32


@pytest.mark.parametrize("size", [250, 300, 727])
def test_weighted_sums_are_the_same_bytes_at_any_number_of_threads(size):
    parts = np.random.default_rng(0).random((6, size, size), np.float32)
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            found.append(fields.weighted(np.linspace(0.1, 1, 6), parts))
    np.testing.assert_array_equal(*found)
