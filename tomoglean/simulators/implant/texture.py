"""Textures: what makes the grey of one material uneven, as a factor on its attenuation."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tomoglean.simulators.fields import Float
from tomoglean.simulators.implant.looks import Look
from tomoglean.simulators.implant.skin import Skin
from tomoglean.simulators.waves import Waves, band
from tomoglean.volumes import random

Array = npt.NDArray[Any]

EMPTY = 0.75  # how much of its attenuation a material loses where it is cracked or hollow


@dataclass(frozen=True)
class Texture:
    """Factors on the attenuation of each material.

    Attributes
    ----------
    wear
        Cracks of the layer, tabulated over the screw's surface.
    waves
        Random fields by name, each of spread 1.
    crack_um
        Width of the cracks in um.
    canal_level, lacuna_level
        Levels of the random fields within which there is a canal or a lacuna.
    """

    wear: Skin
    waves: dict[str, Waves]
    crack_um: float
    canal_level: float
    lacuna_level: float

    def metal(self, look: Look) -> Float:
        """Grain, and bright precipitates rich in gadolinium."""
        grain = look.values(self.waves["metal"])
        precipitates = np.clip(look.values(self.waves["precipitates"]) - 1.7, 0, 1)
        return np.asarray(1 + 0.03 * grain + 0.45 * precipitates, np.float32)

    def layer(
        self, look: Look, s: Array, turns: Array, share: Array, thick: Array
    ) -> Float:
        """Grain, a rim rich in calcium phosphate, and cracks.

        Parameters
        ----------
        look
            Where.
        s, turns
            The same places along the axis (um) and about it.
        share
            How deep they lie in the layer, 0 outside and 1 at the metal.
        thick
            Thickness of the layer there, in um.
        """
        worn = self.wear.at(s, turns)
        coarse, fine = (look.values(self.waves[k]) for k in ("layer", "layer grain"))
        rim = np.exp(-np.clip(share, 0, 3) * thick / 6)
        solid = 1 + 0.09 * coarse + 0.08 * fine + 0.15 * rim
        upright = _inside(worn["cell"] - self.crack_um / 2)
        upright *= np.clip((worn["reach"] - share) * 6, 0, 1)
        along = _inside(np.abs(share - worn["split"]) * thick - worn["slit"] / 2)
        along *= np.clip(worn["slit"], 0, 1)
        cracked = np.maximum(upright, along)
        return np.asarray(solid * (1 - EMPTY * cracked), np.float32)

    def bone(self, look: Look) -> Float:
        """Uneven mineral, vessel canals and lacunae."""
        matrix = 1 + 0.06 * look.values(self.waves["mineral"])
        across = np.hypot(*(look.values(self.waves[k]) for k in ("canals", "more canals")))
        canal = np.clip(2.0 * (1.25 - across / self.canal_level), 0, 1)
        lacuna = np.clip(3 * (look.values(self.waves["lacunae"]) - self.lacuna_level), 0, 1)
        hollow = np.maximum(EMPTY * canal, 0.6 * lacuna)
        return np.asarray(matrix * (1 - hollow), np.float32)

    def marrow(self, look: Look) -> Float:
        """Fat and blood, unevenly."""
        return np.asarray(1 + 0.08 * look.values(self.waves["marrow"]), np.float32)


def _inside(distance_um: Array) -> Array:
    """1 within, 0 beyond a micrometre outside."""
    return np.clip(0.5 - distance_um, 0, 1)


def weave(
    seed: int, key: str, wear: Skin, *, crack_um: float, canal_um: float, lacuna_um: float
) -> Texture:
    """Draw the textures of one specimen.

    Parameters
    ----------
    seed, key
        Keys of the random choices.
    wear
        Cracks of the layer, tabulated.
    crack_um
        Width of the cracks in um.
    canal_um, lacuna_um
        Radius of vessel canals, and of lacunae, in um.
    """

    def field(name: str, wavelength: float) -> Waves:
        return band(random(seed, key, "texture", name), wavelength)

    apart = 18 * canal_um
    waves = {
        "metal": field("metal", 60.0),
        "precipitates": field("precipitates", 16.0),
        "layer": field("layer", 45.0),
        "layer grain": field("layer grain", 14.0),
        "mineral": field("mineral", 90.0),
        "canals": _along_z(field("canals", apart)),
        "more canals": _along_z(field("more canals", apart)),
        "lacunae": field("lacunae", 6 * lacuna_um),
        "marrow": field("marrow", 110.0),
    }
    # Near a zero a field rises by about its slope: the level at a canal's radius.
    level = 2 * np.pi / apart / np.sqrt(3) * canal_um * np.sqrt(2)
    return Texture(wear, waves, crack_um, float(level), 2.0)


def _along_z(waves: Waves) -> Waves:
    """The same field, three times as long along z: canals follow the bone."""
    return Waves(waves.vectors * np.array([1 / 3, 1, 1]), waves.phases, waves.spread)
