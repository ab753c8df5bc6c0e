"""What follows from the settings for every box."""

import numpy as np
import pytest

from tomoglean.averages import fourier, geometry
from tomoglean.averages.settings import Setup


def setup(*, symmetry=1, lowpass_nm=6.0):
    return Setup(2.0, 16, symmetry, 60.0, 2, 30.0, 5.0, lowpass_nm, 1.0, False)


def test_mask_is_a_soft_ball():
    mask, far = setup().mask, np.linalg.norm(geometry.offsets(16), axis=-1)
    assert np.all(mask[far <= 5] == 1)
    assert not mask[far >= 7].any()
    assert mask[far == 6] == pytest.approx(0.5)


@pytest.mark.parametrize("lowpass_nm", [4.5, 6.0, 20.0])
def test_only_details_coarser_than_the_limit_pass(lowpass_nm):
    found = setup(lowpass_nm=lowpass_nm)
    frequency_per_nm = np.linalg.norm(fourier.frequencies(16), axis=-1) / 2.0
    assert frequency_per_nm[found.passing].max() <= 1 / lowpass_nm + 1e-12
    assert frequency_per_nm[~found.passing].min() > 1 / lowpass_nm - 1e-12


@pytest.mark.parametrize(("symmetry", "number"), [(1, 12), (4, 3), (5, 3), (24, 1)])
def test_angles_stay_within_one_turn_of_the_symmetry(symmetry, number):
    angles = setup(symmetry=symmetry).angles_deg
    assert angles.tolist() == [30.0 * step for step in range(number)]
