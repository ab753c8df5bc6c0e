import numpy as np
import pytest
from scipy import ndimage

from tomoglean.scores import surfaces


def sheet(place, thickness=1, shape=(9, 9, 9)):
    """A sheet across z, label 1."""
    labels = np.zeros(shape, np.uint8)
    labels[place : place + thickness] = 1
    return labels


def surface_dice(truth, predicted, tolerance_px, label=1):
    counts = surfaces.agreement(truth, predicted, classes=2, tolerance_px=tolerance_px)
    near_true, true, near_ours, ours = counts[label]
    return (near_true + near_ours) / (true + ours)


def test_equal_labels_agree_without_any_tolerance():
    assert surface_dice(sheet(4), sheet(4), 0) == 1.0


@pytest.mark.parametrize(
    ("tolerance_px", "expected"), [(0, 0.0), (1, 0.0), (1.9, 0.0), (2, 1.0)]
)
def test_a_sheet_two_voxels_off_agrees_at_a_tolerance_of_two(tolerance_px, expected):
    assert surface_dice(sheet(3), sheet(5), tolerance_px) == expected


def test_half_a_surface_missed_costs_half_of_the_true_surface():
    half = sheet(4)
    half[:, :, 4:] = 0
    # 81 true voxels of which 36 agree, 36 of ours agree (tolerance 0).
    assert surface_dice(sheet(4), half, 0) == pytest.approx(72 / 117)


def test_a_solid_block_has_its_shell_as_boundary():
    block = np.zeros((5, 5, 5), bool)
    block[1:4, 1:4, 1:4] = True
    assert surfaces.boundary(block).sum() == 26


def test_the_edge_of_the_field_of_view_is_no_boundary():
    assert not surfaces.boundary(np.ones((3, 3, 3), bool)).any()


@pytest.mark.parametrize("distance_px", [0, 1, 1.5, 2, 2.9])
def test_near_is_the_distance_transform_cut_off(distance_px):
    mask = np.random.default_rng(1).random((9, 8, 7)) < 0.02
    reference = ndimage.distance_transform_edt(~mask) <= distance_px
    assert np.array_equal(surfaces.near(mask, distance_px), reference)


@pytest.mark.parametrize("tolerance_px", [0, 1, 2])
def test_slabs_with_context_count_what_the_whole_counts(tolerance_px):
    rng = np.random.default_rng(2)
    truth, ours = rng.integers(0, 2, (2, 11, 6, 6)).astype(np.uint8)
    settings = {"classes": 2, "tolerance_px": tolerance_px}
    beyond = surfaces.margin(tolerance_px)
    total = np.zeros((2, surfaces.PARTS), int)
    for start in range(0, 11, 3):
        low, high = max(0, start - beyond), min(11, start + 3 + beyond)
        inner = slice(start - low, min(11, start + 3) - low)
        total += surfaces.agreement(
            truth[low:high], ours[low:high], inner=inner, **settings
        )
    assert np.array_equal(total, surfaces.agreement(truth, ours, **settings))
