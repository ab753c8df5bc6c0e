import numpy as np
import pytest

from tomoglean import intensities

SCALE = {"p_low": 10.0, "p_high": 30.0, "mean": 20.0, "std": 5.0}


def test_mean_becomes_zero_and_one_deviation_one():
    found = intensities.standardise(np.array([20, 25, 15], np.uint16), SCALE)
    np.testing.assert_array_equal(found, np.array([0, 1, -1], np.float32))


def test_values_beyond_the_percentiles_are_clipped():
    found = intensities.standardise(np.array([-1e6, 1e6]), SCALE)
    np.testing.assert_array_equal(found, [-2, 2])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32, np.float64])
def test_any_dtype_gives_float32(dtype):
    found = intensities.standardise(np.full((2, 3, 4), 25, dtype), SCALE)
    assert found.dtype == np.float32
    assert found.shape == (2, 3, 4)
    assert np.all(found == 1)


def test_slab_by_slab_equals_the_whole():
    values = np.random.default_rng(1).normal(20, 9, (7, 5, 3))
    parts = [intensities.standardise(part, SCALE) for part in values]
    np.testing.assert_array_equal(np.stack(parts), intensities.standardise(values, SCALE))


def test_constant_volume_gives_zeros():
    flat = {"p_low": 3.0, "p_high": 3.0, "mean": 3.0, "std": 0.0}
    assert not intensities.standardise(np.full(4, 3.0), flat).any()


def test_missing_fingerprint_is_named():
    with pytest.raises(ValueError, match="p_high, std"):
        intensities.standardise(np.zeros(1), {"p_low": 0, "mean": 0})


KNOWN = {"p_low": -100.0, "p_high": 100.0, "mean": 0.0, "std": 1.0}


@pytest.mark.parametrize(
    ("reach", "expected"), [(0, [0, 1, 2, 3, 4]), (1, [1 / 3, 1, 2, 3, 11 / 3])]
)
def test_thick_slices_are_means_and_the_last_slice_repeats(reach, expected):
    ramp = np.arange(5, dtype=np.float32)[:, None, None] * np.ones((1, 2, 3), np.float32)
    found = intensities.thick_slices(ramp, 5, slice(0, 5), KNOWN, reach=reach)
    np.testing.assert_allclose(found[:, 0, 0, 0], expected, rtol=1e-6)


def test_neighbours_of_thick_slices_touch_and_do_not_overlap():
    ramp = np.arange(20, dtype=np.float32)[:, None, None] * np.ones((1, 2, 3), np.float32)
    found = intensities.thick_slices(ramp, 20, slice(9, 11), KNOWN, reach=1, neighbours=2)
    assert found.shape == (2, 2, 3, 5)
    assert found[0, 0, 0].tolist() == [3, 6, 9, 12, 15]
    assert found[1, 0, 0].tolist() == [4, 7, 10, 13, 16]


def test_thick_slices_do_not_depend_on_the_slab():
    grey = np.random.default_rng(1).normal(size=(9, 4, 5)).astype(np.float32)
    look = {"reach": 1, "neighbours": 1}
    whole = intensities.thick_slices(grey, 9, slice(0, 9), KNOWN, **look)
    parts = [
        intensities.thick_slices(grey, 9, slab, KNOWN, **look)
        for slab in (slice(0, 4), slice(4, 9))
    ]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
