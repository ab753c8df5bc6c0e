"""What lies around the implant: trabecular, cortical and new bone, gas, and the block."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from tomoglean.simulators.fields import Float
from tomoglean.simulators.implant.corrosion import Corroded, Corrosion
from tomoglean.simulators.implant.looks import Look, Sheet
from tomoglean.simulators.implant.screw import Pose, Screw
from tomoglean.simulators.implant.skin import spread, steepness
from tomoglean.simulators.waves import Waves, band
from tomoglean.volumes import random

Array = npt.NDArray[Any]

PLATES_KEPT = 0.8  # share of a trabecular plate that is no hole
OVERLAP_UM = 20.0  # how deep bone reaches below a layer that it touches
FAR_UM = 20.0  # gas farther away than this is not told from one this far away


@dataclass(frozen=True)
class Bone:
    """Settings of the surroundings: see `bone` in the schema for units and sources."""

    contact: float
    contact_patch_um: float
    gap_um: float
    shell_um: float
    volume_fraction: float
    trabecula_um: float
    cortical_at_um: float | None
    canal_um: float
    lacuna_um: float
    block_um: float


@dataclass(frozen=True)
class Trabeculae:
    """Plates with holes: where one random field is near 0 and another is not high.

    Attributes
    ----------
    plates, holes
        Independent random fields of spread 1; bone is |plates| < thin and holes < wide.
    thin, wide
        The two levels.
    """

    plates: Waves
    holes: Waves
    thin: float
    wide: float

    def distance(self, look: Look) -> Float:
        """First-order distance in um to the trabeculae, negative inside."""
        return np.maximum(
            _distance(look, self.plates, self.thin, folded=True),
            _distance(look, self.holes, self.wide, folded=False),
        )


def _distance(look: Look, waves: Waves, level: float, *, folded: bool) -> Float:
    values, steep = look.values(waves), look.steepness(waves)
    over = (np.abs(values) if folded else values) - np.float32(level)
    usual = np.sqrt(np.mean(np.sum(waves.vectors**2, axis=1)))
    return np.asarray(over / np.maximum(steep, np.float32(0.3 * usual)))


def trabeculae(seed: int, key: str, bone: Bone) -> Trabeculae:
    """Grow trabecular bone of the volume fraction and plate thickness asked for.

    The share of space inside is erf(thin / sqrt 2) for the plates, times the share of
    them that is no hole. The thickness is twice the volume over the surface of a plate,
    by the area of a Gaussian field's level sets (Adler 1981, The Geometry of Random
    Fields): 2 / pi * s * exp(-level^2 / 2) per volume, s = spread of a slope.
    """
    plates = bone.volume_fraction / PLATES_KEPT
    thin = float(np.sqrt(2) * special.erfinv(plates))
    per_slope = 4 / np.pi * np.exp(-(thin**2) / 2)
    slope = 2 * plates / (per_slope * bone.trabecula_um) if thin else 1.0
    wavelength = 2 * np.pi / (np.sqrt(3) * slope)
    return Trabeculae(
        band(random(seed, key, "plates"), wavelength, number=96),
        band(random(seed, key, "holes"), 0.9 * wavelength),
        thin,
        float(special.ndtri(PLATES_KEPT)),
    )


@dataclass(frozen=True)
class Wall:
    """Cortical bone: all that lies beyond a wavy plane along z.

    Attributes
    ----------
    at_um
        Distance of the plane from the middle of the field of view, in um.
    turn
        Direction of the plane's normal, in turns from x towards y.
    waves
        How far the surface departs from the plane, in um.
    """

    at_um: float
    turn: float
    waves: Waves

    def distance(self, look: Look) -> Float:
        """Distance in um to the cortical bone, negative inside."""
        _, y, x = look.places
        angle = 2 * np.pi * self.turn
        across = (np.cos(angle) * x + np.sin(angle) * y).astype(np.float32)
        return np.asarray(np.float32(self.at_um) - across + look.values(self.waves))


def wall(seed: int, key: str, bone: Bone) -> Wall | None:
    """Place the cortical bone beside the implant, if there is to be some."""
    if bone.cortical_at_um is None:
        return None
    rng = random(seed, key, "cortical")
    waves = band(rng, 6 * bone.trabecula_um, spread=0.3 * bone.trabecula_um)
    return Wall(bone.cortical_at_um, float(rng.uniform()), waves)


@dataclass(frozen=True)
class Apposition:
    """How bone meets the implant, tabulated over the screw's surface.

    Attributes
    ----------
    gap_um
        Least distance of any bone from the layer along the normal, in um, shape (rows,
        columns); 0 where they touch.
    shell_um
        Thickness of the new bone that begins there, in um; 0 where there is none.
    free_um
        Radius within which there is no bone, in um; below the layer where they touch.
    inner_um, outer_um
        Radius at which the new bone begins and ends, in um.
    """

    gap_um: Array
    shell_um: Array
    free_um: Array
    inner_um: Array
    outer_um: Array


def apposition(
    seed: int, key: str, screw: Screw, bone: Bone, corroded: Corroded, weights: Array
) -> Apposition:
    """Let bone grow onto the implant, so that it touches the share of surface asked for.

    Parameters
    ----------
    seed, key
        Keys of the random choices.
    screw, bone
        Settings.
    corroded
        The implant that bone grows onto.
    weights
        Area of the layer's surface of each node within the field of view.
    """
    scale = bone.contact_patch_um
    waves = band(random(seed, key, "contact"), 2 * scale, width=0.5)
    wish = spread(waves, corroded.nodes, screw.core_um, scale)
    over = wish - _limit(wish, weights, bone.contact)
    gap = bone.gap_um * np.clip(-over / 0.8, 0, 1)
    shell = bone.shell_um * np.clip((over + 0.8) / 1.2, 0, 1.3)
    below = OVERLAP_UM * np.clip(over / 0.05, 0, 1)
    moved = [gap - below, gap, gap + shell]
    free, inner, outer = (
        screw.surface(corroded.nodes.s_um, corroded.turns, -corroded.growth_um - away)
        for away in moved
    )
    return Apposition(gap, shell, free, inner, outer)


def _limit(wish: Array, weights: Array, contact: float) -> float:
    """Value that the share `contact` of the area exceeds."""
    order = np.argsort(wish, axis=None, kind="stable")
    share = np.cumsum(weights.ravel()[order])
    if share[-1] == 0 or contact >= 1:
        return float(wish.min() - 1.0)
    if contact <= 0:
        return float(wish.max() + 0.8)
    place = np.searchsorted(share, (1 - contact) * share[-1])
    return float(wish.ravel()[order[min(place, len(order) - 1)]])


@dataclass(frozen=True)
class Pores:
    """Gas pores: balls in the tissue.

    Attributes
    ----------
    centres_um
        Centres of shape (N, 3), axes (z, y, x), in um.
    radii_um
        Radii of shape (N,) in um.
    """

    centres_um: npt.NDArray[np.float64]
    radii_um: npt.NDArray[np.float64]

    def distance(self, look: Look) -> Float:
        """Distance in um to the nearest gas, negative inside, at most `FAR_UM`."""
        level = np.full(look.shape, FAR_UM, np.float32)
        for centre, radius in zip(self.centres_um, self.radii_um, strict=True):
            place = _window(look, centre, radius + FAR_UM)
            if place is not None:
                z, y, x = look.places
                square = (z - centre[0]) ** 2
                if isinstance(look, Sheet):
                    square = square + (y[place[0]] - centre[1]) ** 2
                    square = square + (x[:, place[1]] - centre[2]) ** 2
                else:
                    square = square + (y - centre[1]) ** 2 + (x - centre[2]) ** 2
                level[place] = np.minimum(level[place], np.sqrt(square) - radius)
        return level


def _window(look: Look, centre: Array, reach_um: float) -> tuple[Any, ...] | None:
    """Part of a look that may lie within reach of a point; None if there is none."""
    if not isinstance(look, Sheet):
        return (Ellipsis,)
    if abs(look.z_um - centre[0]) >= reach_um:
        return None
    ends = [
        np.searchsorted(axis, (middle - reach_um, middle + reach_um))
        for axis, middle in ((look.y_um, centre[1]), (look.x_um, centre[2]))
    ]
    if any(low == high for low, high in ends):
        return None
    return tuple(slice(low, high) for low, high in ends)


def pores(
    seed: int,
    key: str,
    pose: Pose,
    corrosion: Corrosion,
    corroded: Corroded,
    met: Apposition,
    weights: Array,
) -> Pores:
    """Let gas gather at the implant where no bone touches it.

    Parameters
    ----------
    seed, key
        Keys of the random choices.
    pose, corrosion
        How the screw lies, and the settings of the gas.
    corroded, met
        The implant and how bone meets it.
    weights
        Area of the layer's surface of each node within the field of view, in um2.
    """
    mean = 1e-6 * corrosion.gas_pores_per_mm2 * weights.sum()
    # More of them with the weeks: the first ones stay what they are.
    chance = random(seed, key, "gas", "number").uniform()
    number = int(stats.poisson.ppf(chance, mean))
    draws = random(seed, key, "gas").uniform(size=(number, 4))
    open_area = np.cumsum(np.where(met.gap_um > 0, weights, 0.0).ravel())
    if number == 0 or open_area[-1] == 0:
        return Pores(np.empty((0, 3)), np.empty(0))
    nodes = corroded.nodes
    row, column = np.divmod(
        np.searchsorted(open_area, draws[:, 0] * open_area[-1]), nodes.columns
    )
    sizes = np.exp(0.45 * special.ndtri(draws[:, 1] * 0.96 + 0.02))
    radii = corrosion.gas_radius_um * sizes
    steep = steepness(corroded.layer_um, nodes)[row, column]
    rho = corroded.layer_um[row, column] + radii * steep * (1.6 * draws[:, 2] - 0.4)
    places = pose.placed(nodes.s_um[row, 0], nodes.turns[0, column], rho)
    return Pores(places, radii)
