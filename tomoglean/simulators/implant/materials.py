"""What X-rays see of each material: attenuation and refraction, by alloy and energy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tomoglean.provenance import Refused
from tomoglean.simulators.fields import Float, weighted

ENERGIES_KEV = (30, 38, 60)

# Linear attenuation in 1/cm at these energies, from xraydb's cross-sections; densities of
# 1.82 (Mg-5Gd) and 1.90 g/cm3 (Mg-10Gd) and the mixture of the degradation layer (volumes:
# .45 Mg(OH)2, .15 calcium phosphate, .4 water; no gadolinium) are assumed.
ATTENUATION = {
    "Mg": (1.62, 0.94, 0.45),
    "Mg-5Gd": (2.96, 1.66, 1.51),
    "Mg-10Gd": (4.41, 2.43, 2.67),
    "degradation_layer": (1.67, 0.99, 0.49),
    "bone": (2.56, 1.43, 0.60),
    "water": (0.38, 0.28, 0.21),
}

# Moles of electrons per cm3: density times Z/A (NIST tables; mixtures as above).
ELECTRONS = {
    "Mg": 0.858,
    "Mg-5Gd": 0.891,
    "Mg-10Gd": 0.922,
    "degradation_layer": 1.004,
    "bone": 0.988,
    "water": 0.555,
}

# Refractive decrement = r_e (hc)^2 N_A / 2 pi x moles of electrons / energy^2, far from
# absorption edges, in cm3 keV2 / mol: 4.0e-7 for Mg and 2.6e-7 for water at 30 keV.
REFRACTION = 4.152e-4

LEVELS: dict[str, tuple[str, int, float]] = {
    "easy": ("Mg-10Gd", 38, 0.0),
    "paper-like": ("Mg-5Gd", 38, 0.4),
    "hard": ("Mg", 60, 0.0),
}


@dataclass(frozen=True)
class Material:
    """Group `material` of the settings: the alloy and the X-rays.

    Attributes
    ----------
    level
        `easy`, `paper-like` or `hard`: sets what is left open (None) below.
    alloy
        `Mg`, `Mg-5Gd` or `Mg-10Gd` (per cent by mass).
    energy_kev
        Energy of the X-rays in keV: 30, 38 or 60.
    gadolinium_kept
        Share of the alloy's gadolinium, volume for volume, that the layer holds.
    """

    level: str
    alloy: str | None
    energy_kev: int | None
    gadolinium_kept: float | None


@dataclass(frozen=True)
class Optics:
    """Alloy and energy, all chosen, and what follows from them.

    Attributes
    ----------
    alloy, energy_kev, gadolinium_kept
        See `Material`.
    attenuation_per_cm
        Linear attenuation in 1/cm by material of the specimen.
    decrement
        Refractive decrement (1 - n) by material of the specimen.
    """

    alloy: str
    energy_kev: int
    gadolinium_kept: float
    attenuation_per_cm: Mapping[str, float]
    decrement: Mapping[str, float]

    def seen(
        self, shares: npt.NDArray[Any], texture: npt.NDArray[Any], materials: Sequence[str]
    ) -> tuple[Float, Float]:
        """Attenuation in 1/cm and decrement of voxels that several materials share.

        Parameters
        ----------
        shares
            Share of each material in each voxel, of shape (materials, Y, X).
        texture
            Density of each material there, relative to its mean: broadcast to `shares`.
        materials
            Names of the materials, in the order of `shares`.
        """
        amounts = np.asarray(shares * texture, np.float32)
        attenuation = _values(self.attenuation_per_cm, materials)
        decrement = _values(self.decrement, materials)
        return weighted(attenuation, amounts), weighted(decrement, amounts)


def _values(table: Mapping[str, float], materials: Sequence[str]) -> Float:
    return np.array([table[name] for name in materials], np.float32)


def optics(material: Material) -> Optics:
    """Look up what the X-rays see.

    Parameters
    ----------
    material
        Alloy and energy, or the level that sets them.

    Raises
    ------
    Refused
        If the energy is not in the table, or a layer is to keep gadolinium that the alloy
        does not hold.
    """
    usual_alloy, usual_energy, usual_kept = LEVELS[material.level]
    alloy = material.alloy or usual_alloy
    energy = material.energy_kev or usual_energy
    kept = usual_kept if material.gadolinium_kept is None else material.gadolinium_kept
    if energy not in ENERGIES_KEV:
        raise Refused(
            f"simulate: material.energy_kev: expected one of 30, 38, 60, found {energy}; "
            "choose an energy of the attenuation table"
        )
    if alloy == "Mg" and material.gadolinium_kept:
        raise Refused(
            "simulate: material.gadolinium_kept: expected 0 for pure Mg, found"
            f" {kept:g}; choose an alloy with gadolinium"
        )
    attenuation = _attenuation(alloy, ENERGIES_KEV.index(energy), kept)
    return Optics(alloy, energy, kept, attenuation, _decrement(alloy, energy))


def _attenuation(alloy: str, column: int, kept: float) -> dict[str, float]:
    table = {name: values[column] for name, values in ATTENUATION.items()}
    gadolinium = table[alloy] - table["Mg"]
    layer = table["degradation_layer"] + kept * gadolinium
    return _of_materials(table[alloy], layer, table["bone"], table["water"])


def _decrement(alloy: str, energy_kev: int) -> dict[str, float]:
    factor = REFRACTION / energy_kev**2
    table = {name: factor * moles for name, moles in ELECTRONS.items()}
    return _of_materials(
        table[alloy], table["degradation_layer"], table["bone"], table["water"]
    )


def _of_materials(
    metal: float, layer: float, bone: float, water: float
) -> dict[str, float]:
    """Name the specimen's materials: marrow counts as water, air and gas as nothing."""
    return {
        "air": 0.0,
        "gas": 0.0,
        "marrow": water,
        "bone": bone,
        "degradation_layer": layer,
        "residual_metal": metal,
    }
