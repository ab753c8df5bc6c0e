"""What the body has made of the screw: metal left, degradation layer, pits, cracks.

Every surface is a height field over the screw's axis: the screw's own surface, moved along
its normal by a depth that differs from place to place. So volumes and areas are integrals
over a table. A later scan of the same specimen moves the same surfaces further.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize
from scipy.spatial import KDTree

from tomoglean.provenance import Refused
from tomoglean.simulators.implant.screw import Pose, Screw
from tomoglean.simulators.implant.skin import (
    Lattice,
    Skin,
    cylinder,
    skin,
    spread,
    steepness,
)
from tomoglean.simulators.waves import band
from tomoglean.volumes import random

Array = npt.NDArray[Any]
WEEKS_PER_YEAR = 365.25 / 7


@dataclass(frozen=True)
class Corrosion:
    """Settings of corrosion: see `corrosion` in the schema for units and sources."""

    specimen: str | None
    weeks: float
    rate_mm_per_year: float
    unevenness: float
    patch_um: float
    swelling: float
    pits_per_mm2: float
    pitting: float
    crack_um: float
    crack_spacing_um: float
    gas_pores_per_mm2: float
    gas_radius_um: float

    @property
    def loss_um(self) -> float:
        """Volume of metal lost without pits over the initial area, in um."""
        return 1e3 * self.rate_mm_per_year * self.weeks / WEEKS_PER_YEAR


@dataclass(frozen=True)
class Corroded:
    """The screw and what has become of it, tabulated.

    Attributes
    ----------
    nodes
        Where the tables have their nodes.
    turns
        Angle of the nodes on the thread, in turns.
    initial_um, metal_um, layer_um
        Radius of the initial surface, of the residual metal and of the outer surface of
        the degradation layer, shape (rows, columns), in um.
    depth_um, growth_um
        How deep along the normal the metal is eaten, pits included, and how far the
        layer has grown outward, in um.
    """

    nodes: Lattice
    turns: Array
    initial_um: Array
    metal_um: Array
    layer_um: Array
    depth_um: Array
    growth_um: Array


def corrode(
    seed: int, key: str, screw: Screw, pose: Pose, corrosion: Corrosion, nodes: Lattice
) -> Corroded:
    """Corrode a screw.

    The depth is a log-normal field on the surface, scaled so that the piece of the screw
    under the table has lost `Corrosion.loss_um` times its initial area; pits come on top.

    Parameters
    ----------
    seed, key
        Keys of the random choices.
    screw, pose, corrosion
        Settings, and how the screw lies.
    nodes
        Where the surfaces are tabulated.

    Raises
    ------
    Refused
        If so much loss leaves no metal.
    """
    turns = nodes.turns - pose.turn
    uneven, swelling = _unevenness(seed, key, screw, corrosion, nodes)
    initial = screw.surface(nodes.s_um, turns)
    even_um = uneven * _scale(screw, corrosion, nodes, turns, uneven, initial)
    growth = corrosion.swelling * corrosion.loss_um * swelling
    depth = even_um + _pits(seed, key, screw, corrosion, nodes)
    return Corroded(
        nodes=nodes,
        turns=turns,
        initial_um=initial,
        metal_um=screw.surface(nodes.s_um, turns, depth),
        layer_um=screw.surface(nodes.s_um, turns, -growth),
        depth_um=depth,
        growth_um=growth,
    )


def _unevenness(
    seed: int, key: str, screw: Screw, corrosion: Corrosion, nodes: Lattice
) -> tuple[Array, Array]:
    """Relative depth and relative growth, both of mean 1, and alike in part."""

    def field(purpose: str, share: float) -> Array:
        scale = share * corrosion.patch_um
        waves = band(random(seed, key, "corrosion", purpose), scale, width=0.5)
        return spread(waves, nodes, screw.core_um, 0.5 * scale)

    def mean_one(logarithm: Array) -> Array:
        values = np.exp(logarithm)
        values = np.minimum(values / values.mean(), 3.0)
        return np.asarray(values / values.mean())

    spread_by, common = corrosion.unevenness, field("common", 4.0)
    depth = 0.8 * common + 0.55 * field("depth", 1.7) + 0.15 * field("fine depth", 0.6)
    growth = 0.6 * common + 0.75 * field("growth", 2.0) + 0.25 * field("fine growth", 0.6)
    return mean_one(spread_by * depth), mean_one(spread_by * growth)


def _scale(
    screw: Screw,
    corrosion: Corrosion,
    nodes: Lattice,
    turns: Array,
    uneven: Array,
    initial: Array,
) -> float:
    """Factor of the relative depth that loses just as much metal as asked for."""
    if corrosion.loss_um == 0:
        return 0.0
    some = np.s_[::2, ::2]
    area = (np.maximum(initial, 0) * steepness(initial, nodes))[some].mean()
    whole = np.mean(np.maximum(initial[some], 0) ** 2) / 2

    def lacking(scale: float) -> float:
        depth = scale * uneven[some]
        left = screw.surface(nodes.s_um[::2], turns[:, ::2], depth)
        return float(
            whole - np.mean(np.maximum(left, 0) ** 2) / 2 - corrosion.loss_um * area
        )

    highest = 2 * screw.largest_um
    if lacking(highest) < 0:
        raise Refused(
            f"simulate: expected metal to be left after corrosion.weeks"
            f" {corrosion.weeks:g}, found a loss of {corrosion.loss_um:.0f} um from a core"
            f" of {screw.core_um:g} um; take fewer weeks or a lower rate_mm_per_year"
        )
    return float(optimize.brentq(lacking, 0, highest, xtol=1e-7 * highest))


def _pits(seed: int, key: str, screw: Screw, corrosion: Corrosion, nodes: Lattice) -> Array:
    """Depth of the pits in um: rounded hollows with a ragged rim, grown with the loss."""
    deepest = max(corrosion.pitting - 1, 0) * corrosion.loss_um
    depth = np.zeros((nodes.rows, nodes.columns))
    rng = random(seed, key, "pits")
    girth = screw.core_um
    area_mm2 = 2e-6 * np.pi * girth * nodes.step_um * nodes.rows
    number = int(rng.poisson(corrosion.pits_per_mm2 * area_mm2))
    if deepest == 0 or number == 0:
        return depth
    rim = band(random(seed, key, "rim"), corrosion.patch_um, width=0.5)
    ragged = np.clip(1 + 0.2 * spread(rim, nodes, girth, corrosion.patch_um), 0.5, 1.5)
    for size, aspect, row, turn, stretch in rng.uniform(
        (0.3, 0.6, 0, 0, 0.7), (1.0, 1.3, nodes.rows, 1, 1.4), (number, 5)
    ):
        wide = aspect * size * deepest
        place, off_um = _around(nodes, girth, row, turn, stretch, 1.5 * wide)
        near = off_um / (wide * ragged[place])
        # A height field knows no undercut; the power keeps the wall from being a cliff.
        hollow = size * deepest * np.clip(1 - near**2, 0, 1) ** 0.7
        depth[place] = np.maximum(depth[place], hollow)
    return depth


def _around(
    nodes: Lattice, girth: float, row: float, turn: float, stretch: float, wide: float
) -> tuple[tuple[Array, ...], Array]:
    """Nodes around a point of the surface, and how far they are from it, in um."""
    reach = int(wide * max(stretch, 1 / stretch) / nodes.step_um) + 1
    arc_um = nodes.angle_step * girth
    half = min(int(reach * nodes.step_um / arc_um) + 1, nodes.columns // 2 - 1)
    rows = np.arange(max(int(row) - reach, 0), min(int(row) + reach + 1, nodes.rows))
    columns = int(turn * nodes.columns) + np.arange(-half, half + 1)
    up = (rows - row)[:, None] * nodes.step_um * stretch
    aside = (columns - turn * nodes.columns)[None, :] * arc_um / stretch
    return np.ix_(rows, columns % nodes.columns), np.hypot(up, aside)


def wear(seed: int, key: str, screw: Screw, corrosion: Corrosion, nodes: Lattice) -> Skin:
    """Tabulate where the degradation layer is cracked.

    Cracks stand upright in it and part it into cells like drying mud; others part it
    along itself.

    Returns
    -------
    Skin
        `cell`: distance to the nearest upright crack in um; `reach`: how deep it goes, as
        a share of the thickness; `split`, `slit`: at which share of the thickness it is
        parted along, and how wide, in um.
    """
    rng, girth, wide = (
        random(seed, key, "cracks"),
        screw.core_um,
        corrosion.crack_spacing_um,
    )
    length = nodes.step_um * nodes.rows

    def field(purpose: str, scale: float) -> Array:
        waves = band(random(seed, key, "wear", purpose), scale)
        return spread(waves, nodes, girth, scale)

    number = max(int(2 * np.pi * girth * length / wide**2), 3)
    s = nodes.start_um + length * rng.uniform(size=number)
    seeds = KDTree(cylinder(s, rng.uniform(size=number), girth))
    here = cylinder(nodes.s_um, nodes.turns, girth)
    bent = np.stack([field(axis, 0.9 * wide) for axis in "abc"], axis=-1)
    near = np.asarray(seeds.query(here + 0.12 * wide * bent, k=2)[0])
    return skin(
        nodes,
        cell=(near[..., 1] - near[..., 0]) / 2,
        reach=np.clip(0.7 + 0.5 * field("reach", 2 * wide), 0, 1.2),
        split=0.5 + 0.22 * field("split", 2 * wide),
        slit=corrosion.crack_um * np.clip(1.5 * field("slit", 2.5 * wide) - 0.6, 0, 1.3),
    )
