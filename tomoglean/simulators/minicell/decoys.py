"""What looks like a machine, or stands where one could: distractors by name.

All go in by `bodies.insert`, as machines do, and each has its own label.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tomoglean.simulators.fields import Float
from tomoglean.simulators.minicell.bodies import EMPTY, Body, Local, Site, sheet, solid
from tomoglean.simulators.minicell.complexes import (
    BASE,
    MOTOR,
    T3SS,
    injectisome_extent,
    needle,
    platform,
)
from tomoglean.simulators.minicell.distances import ball

# Densities relative to protein in ice (2.5 V above ice).
RIBOSOME, HEADS, GOLD, ICE = 1.3, 0.7, 8.6, 1.4
# A vesicle from the outer membrane and its folds hold what the periplasm holds: assumed.
GOLD_NM, LUMEN = 10.0, 0.15
LATTICE_NM, PLATE_NM = 12.0, 25.0
RIBOSOME_DEPTH_NM, POLYSOME_NM = 15.0, 23.0


@dataclass(frozen=True)
class Decoys:
    """Settings: what looks like a machine.

    Attributes
    ----------
    number, kinds
        How many stand in the envelope, and which kinds take turns.
    gold, ice
        Gold beads, and lumps of ice on its surface, per field of view.
    """

    number: int
    kinds: Sequence[str]
    gold: int
    ice: int


def ribosome(at: Local) -> Float:
    """A 70S ribosome of about 21 nm, its middle 15 nm below the inner membrane."""
    return _subunits(at, -at.site.top_nm - RIBOSOME_DEPTH_NM)


def polysome(at: Local) -> Float:
    """One to three ribosomes in a row below the inner membrane."""
    number = 1 + int(3 * min(at.site.size, 0.999))
    row = []
    for index in range(number):
        off = POLYSOME_NM * (index - (number - 1) / 2)
        sink = at.site.bend / 2 * off**2
        moved = replace(at, across=at.across - np.float32(off))
        row.append(_subunits(moved, -at.site.top_nm - RIBOSOME_DEPTH_NM - sink))
    return np.asarray(np.minimum.reduce(row), np.float32)


def _subunits(at: Local, middle: float) -> Float:
    large = ball(at, across=-1.5, aside=0, height=middle - 1.0, size=8.6)
    stalk = ball(at, across=-4.0, aside=6.5, height=middle + 4.0, size=3.2)
    crest = ball(at, across=-2.0, aside=-5.5, height=middle + 5.0, size=3.2)
    head = ball(at, across=6.5, aside=2.5, height=middle + 4.0, size=4.2)
    foot = ball(at, across=6.5, aside=-2.5, height=middle - 4.0, size=4.6)
    return np.asarray(np.minimum.reduce([large, stalk, crest, head, foot]), np.float32)


def ribosome_extent(site: Site) -> tuple[float, float, float]:
    """Extent of a ribosome."""
    return -site.top_nm - 27.0, -site.top_nm - 3.0, 12.0


def polysome_extent(site: Site) -> tuple[float, float, float]:
    """Extent of a row of ribosomes."""
    sink = abs(site.bend) / 2 * POLYSOME_NM**2
    return -site.top_nm - 27.0 - sink, -site.top_nm - 3.0 + sink, 12.0 + POLYSOME_NM


def array_radius_nm(site: Site) -> float:
    """Radius of a patch of chemoreceptors."""
    return 20.0 + 16.0 * site.size


def array(at: Local) -> Float:
    """Chemoreceptors: trimers of dimers on a honeycomb, a base plate 25 nm below the IM.

    The lattice constant is 12 nm; rods reach from 8 nm above the inner membrane to the
    plate, which is open in the middle of every hexagon. The patch follows the envelope.
    """
    reach = array_radius_nm(at.site)
    bent = at.height + np.float32(at.site.bend / 2) * at.radius**2 + at.site.top_nm
    side = LATTICE_NM / np.sqrt(3)
    trimers = np.minimum(_lattice(at, side), _lattice(at, -side))
    rods = np.maximum(trimers - 2.0, np.abs(bent + 8.5) - 16.5)
    open_plate = np.maximum(np.abs(bent + PLATE_NM) - 2.0, 3.0 - _lattice(at, 0.0))
    body = np.minimum(rods, open_plate)
    return np.asarray(np.maximum(body, at.radius - reach), np.float32)


def _lattice(at: Local, shift: float) -> Float:
    """Distance to the nearest axis of a hexagonal lattice, shifted across."""
    across, high = at.across - np.float32(shift), LATTICE_NM * np.sqrt(3)
    nearest = []
    for start in (0.0, 0.5):
        u = across / high - start
        v = at.aside / LATTICE_NM - start
        nearest.append(np.hypot((u - np.rint(u)) * high, (v - np.rint(v)) * LATTICE_NM))
    return np.asarray(np.minimum(*nearest), np.float32)


def array_extent(site: Site) -> tuple[float, float, float]:
    """Extent of a patch of chemoreceptors."""
    reach = array_radius_nm(site)
    sag = abs(site.bend) * reach**2 / 2
    return -site.top_nm - 28.0 - sag, -site.top_nm + 9.0, reach


def vesicle_radius_nm(site: Site) -> float:
    """Radius of a vesicle's mid-surface."""
    return 12.0 + 14.0 * site.size


def vesicle(at: Local) -> Float:
    """Vesicle that has left the outer membrane, its middle surface 5 nm off."""
    size = vesicle_radius_nm(at.site)
    return ball(at, across=0, aside=0, height=at.site.top_nm + size + 5.0, size=size)


def vesicle_extent(site: Site) -> tuple[float, float, float]:
    """Extent of a vesicle."""
    size = vesicle_radius_nm(site)
    return site.top_nm + 1.0, site.top_nm + 2 * size + 9.0, size + 4.0


def fold(at: Local) -> Float:
    """Fold of the outer membrane: a flat pouch as long as a needle, closed at its rim."""
    tall, wide = 20.0 + 25.0 * at.site.size, 8.0 + 14.0 * at.site.size
    up = np.maximum(np.abs(at.height - at.site.top_nm - tall / 2) - tall / 2, 0)
    out = np.maximum(np.abs(at.across) - wide, 0)
    return np.asarray(np.sqrt(up**2 + out**2 + at.aside**2) - 6.0, np.float32)


def fold_extent(site: Site) -> tuple[float, float, float]:
    """Extent of a fold."""
    return site.top_nm - 10.0, site.top_nm + 31.0 + 25.0 * site.size, 32.0


def ice_radius_nm(site: Site) -> float:
    """Mean radius of a lump of ice."""
    return 9.0 + 14.0 * site.size


def standoff_nm(site: Site, radius_nm: float) -> float:
    """Height of gold or ice: 0 in free ice; at the envelope it leans on the OM outside."""
    if site.gap_nm == 0:
        return 0.0
    return site.top_nm + radius_nm + 3.0 + 4.0 * site.size


def bead(at: Local) -> Float:
    """Gold bead of 10 nm."""
    radius = GOLD_NM / 2
    return ball(at, across=0, aside=0, height=standoff_nm(at.site, radius), size=radius)


def bead_extent(site: Site) -> tuple[float, float, float]:
    """Extent of a gold bead."""
    height = standoff_nm(site, GOLD_NM / 2)
    return height - GOLD_NM / 2, height + GOLD_NM / 2, GOLD_NM / 2


def lump(at: Local) -> Float:
    """Lump of ice with a bumpy surface."""
    size, long = ice_radius_nm(at.site), np.float32(ice_radius_nm(at.site) / 2)
    height = standoff_nm(at.site, size)
    bumps = np.cos(at.across / long) * np.cos(at.aside / long + 1)
    bumps = bumps + np.cos((at.height - np.float32(height)) / long)
    smooth = ball(at, across=0, aside=0, height=height, size=size)
    return np.asarray(smooth + np.float32(0.12 * size) * bumps, np.float32)


def lump_extent(site: Site) -> tuple[float, float, float]:
    """Extent of a lump of ice."""
    height, reach = standoff_nm(site, ice_radius_nm(site)), 1.25 * ice_radius_nm(site) + 2
    return height - reach, height + reach, reach


SINGLE_RIBOSOME = solid(ribosome, extent=ribosome_extent, strength=RIBOSOME)

BODIES: dict[str, Body] = {
    "t3ss": T3SS,
    "motor": MOTOR,
    "ribosome": solid(polysome, extent=polysome_extent, strength=RIBOSOME),
    "array": solid(array, extent=array_extent),
    "vesicle": sheet(vesicle, extent=vesicle_extent, strength=HEADS, lumen=LUMEN),
    "base_without_needle": solid(*BASE, platform, extent=injectisome_extent),
    "base_without_platform": solid(*BASE, needle, extent=injectisome_extent),
    "fold": sheet(fold, extent=fold_extent, strength=HEADS, lumen=LUMEN),
    "gold": solid(bead, extent=bead_extent, strength=GOLD),
    "ice": solid(lump, extent=lump_extent, strength=ICE),
    "empty": EMPTY,
}
