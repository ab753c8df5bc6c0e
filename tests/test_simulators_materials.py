"""What X-rays see of the implant's materials: the sheet's table, and what follows."""

import numpy as np
import pytest

from tomoglean.provenance import Refused
from tomoglean.simulators.implant.materials import LEVELS, Material, optics

NAMES = ("marrow", "bone", "degradation_layer", "residual_metal")


def seen(level="paper-like", alloy=None, energy_kev=None, gadolinium_kept=None):
    return optics(Material(level, alloy, energy_kev, gadolinium_kept))


@pytest.mark.parametrize(
    ("alloy", "energy_kev", "expected"),
    [
        ("Mg", 30, (0.38, 2.56, 1.67, 1.62)),
        ("Mg-5Gd", 38, (0.28, 1.43, 0.99, 1.66)),
        ("Mg-10Gd", 60, (0.21, 0.60, 0.49, 2.67)),
    ],
)
def test_attenuation_is_that_of_the_table(alloy, energy_kev, expected):
    table = seen(alloy=alloy, energy_kev=energy_kev, gadolinium_kept=0.0)
    assert tuple(table.attenuation_per_cm[name] for name in NAMES) == expected


def test_air_and_gas_are_nothing():
    table = seen()
    for name in ("air", "gas"):
        assert table.attenuation_per_cm[name] == table.decrement[name] == 0


@pytest.mark.parametrize("kept", [0.0, 0.3, 1.0])
def test_the_layer_brightens_with_the_gadolinium_it_keeps(kept):
    table = seen(alloy="Mg-5Gd", energy_kev=38, gadolinium_kept=kept)
    layer = table.attenuation_per_cm["degradation_layer"]
    assert layer == pytest.approx(0.99 + kept * (1.66 - 0.94))


def test_decrements_are_those_of_the_sheet():
    table = seen("hard", energy_kev=30)
    assert table.decrement["residual_metal"] == pytest.approx(4.0e-7, rel=0.02)
    assert table.decrement["marrow"] == pytest.approx(2.6e-7, rel=0.02)


def test_decrements_fall_with_the_square_of_the_energy():
    low, high = seen("hard", energy_kev=30), seen("hard", energy_kev=60)
    for name in NAMES:
        assert low.decrement[name] == pytest.approx(4 * high.decrement[name])


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_is_an_alloy_an_energy_and_a_share(level):
    table = seen(level)
    assert (table.alloy, table.energy_kev, table.gadolinium_kept) == LEVELS[level]


def test_what_is_given_goes_before_the_level():
    table = seen("hard", alloy="Mg-5Gd", gadolinium_kept=0.5)
    assert (table.alloy, table.energy_kev, table.gadolinium_kept) == ("Mg-5Gd", 60, 0.5)


def contrast(level):
    """Least distance in grey between layer and metal or layer and bone, in bone."""
    table = seen(level).attenuation_per_cm
    layer = table["degradation_layer"]
    apart = [abs(layer - table[name]) for name in ("bone", "residual_metal")]
    return min(apart) / table["bone"]


def test_levels_grow_harder_from_the_table_alone():
    assert contrast("easy") > contrast("paper-like") > contrast("hard")


def test_a_voxel_of_two_materials_lies_between_them():
    table = seen("hard")
    shares = np.array([[[0.25]], [[0.75]]])
    texture = np.array([[[1.0]], [[0.5]]])
    attenuation, decrement = table.seen(shares, texture, ["marrow", "bone"])
    assert attenuation.item() == pytest.approx(0.25 * 0.21 + 0.75 * 0.5 * 0.60)
    parts = table.decrement["marrow"], table.decrement["bone"]
    assert decrement.item() == pytest.approx(0.25 * parts[0] + 0.375 * parts[1])
    assert attenuation.dtype == np.float32


def test_an_energy_beyond_the_table_is_refused():
    with pytest.raises(Refused, match="expected one of 30, 38, 60, found 45"):
        seen(energy_kev=45)


def test_pure_magnesium_keeps_no_gadolinium():
    with pytest.raises(Refused, match=r"expected 0 for pure Mg, found 0\.3"):
        seen("hard", gadolinium_kept=0.3)
