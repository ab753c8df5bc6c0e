"""The complexes that stand in the envelope: injectisome (T3SS) and flagellar motor.

Injectisome after Kudryashev et al. 2013 (eLife 00792: ring diameters, export torus), Park
et al. 2018 (eLife 39514: base, needle), Hu et al. 2015 (PNAS 112:1047: platform) and
Schraidt & Marlovits 2011 (C15 outer ring, C24 inner rings, C3 in common). Heights are
told from the membranes, so the base stretches with the local gap.
"""

import numpy as np

from tomoglean.simulators.fields import Float
from tomoglean.simulators.minicell.bodies import Local, Site, solid
from tomoglean.simulators.minicell.distances import ball, ring, rod, scallops, tube


def outer_ring(at: Local) -> Float:
    """Secretin's ring in the outer membrane: 12 nm across, 15 subunits."""
    thick = 2.8 + scallops(at, fold=15, of=6.0, deep=0.5)
    return ring(at, of=6.0, height=at.site.top_nm, thick=thick)


def periplasmic_ring(at: Local) -> Float:
    """Ring above the inner membrane: 18 nm across, 24 subunits."""
    thick = 3.2 + scallops(at, fold=24, of=9.0, deep=0.5)
    return ring(at, of=9.0, height=7.0 - at.site.top_nm, thick=thick)


def cytoplasmic_ring(at: Local) -> Float:
    """Ring below the inner membrane: 21 nm across, 24 subunits."""
    thick = 2.8 + scallops(at, fold=24, of=10.5, deep=0.5)
    return ring(at, of=10.5, height=-3.0 - at.site.top_nm, thick=thick)


def neck(at: Local) -> Float:
    """Secretin's neck between the rings: a tube of 15 subunits."""
    thick = 1.6 + scallops(at, fold=15, of=6.0, deep=0.3)
    top = at.site.top_nm
    return tube(at, of=6.0, thick=thick, low=9.0 - top, high=top)


def inner_rod(at: Local) -> Float:
    """Rod that carries the needle through the base."""
    return rod(at, thick=3.5, low=-at.site.top_nm, high=at.site.top_nm)


def export_torus(at: Local) -> Float:
    """Export gate: a torus 11 nm wide and 6 nm high whose top is 5 nm below the IM."""
    top = -at.site.top_nm - 5.0
    scaled = np.hypot((at.radius - 3.0) / 2.5, (at.height - top + 3.0) / 3.0)
    return np.asarray(2.7 * (scaled - 1), np.float32)


def platform(at: Local) -> Float:
    """Sorting platform: six pods 34 nm across, a hub below them, spokes between."""
    top = -at.site.top_nm - 7.0
    sector = np.abs(at.angle % (np.pi / 3) - np.pi / 6)
    outward, aside = at.radius * np.cos(sector), at.radius * np.sin(sector)
    reach = np.maximum(np.maximum(top - 17.0 - at.height, at.height - top + 1.0), 0)
    pods = np.sqrt((outward - 14.0) ** 2 + aside**2 + reach**2) - 3.0
    spokes = np.maximum(np.hypot(aside, at.height - top + 18.0) - 1.8, outward - 14.0)
    hub = np.hypot(at.radius, (at.height - top + 18.2) * 1.3) - 6.0
    return np.asarray(np.minimum(np.minimum(pods, spokes), hub), np.float32)


def needle(at: Local) -> Float:
    """Needle of 8 nm beyond the outer membrane."""
    top = at.site.top_nm
    return rod(at, thick=4.0, low=top, high=top + at.site.needle_nm)


BASE = (outer_ring, periplasmic_ring, cytoplasmic_ring, neck, inner_rod, export_torus)


def injectisome_extent(site: Site) -> tuple[float, float, float]:
    """Extent of an injectisome, with or without all of its parts."""
    return -site.top_nm - 33.0, site.top_nm + site.needle_nm, 18.0


def bushing(at: Local) -> Float:
    """L and P rings of the motor: 26 nm across, 26 subunits, between OM and cell wall."""
    top, more = at.site.top_nm, scallops(at, fold=26, of=10.5, deep=0.5)
    rings = (
        ring(at, of=10.0, height=top, thick=3.0 + more),
        ring(at, of=9.5, height=top - 9.0, thick=3.5 + more),
        tube(at, of=9.5, thick=2.0, low=top - 9.0, high=top),
    )
    return np.asarray(np.minimum.reduce(rings), np.float32)


def ms_ring(at: Local) -> Float:
    """MS ring in the inner membrane, about 26 nm across, and the motor's export gate."""
    low = -at.site.top_nm
    gate = ring(at, of=4.0, height=low - 13.0, thick=3.5)
    disc = ring(at, of=8.5, height=low, thick=4.2)
    return np.asarray(np.minimum(gate, disc), np.float32)


def c_ring(at: Local) -> Float:
    """Cytoplasmic ring: 45 nm across, 34 subunits."""
    low, more = -at.site.top_nm, scallops(at, fold=34, of=20.0, deep=0.5)
    wall = tube(at, of=20.0, thick=2.5 + more, low=low - 20.0, high=low - 5.0)
    joint = ring(at, of=15.0, height=low - 4.5, thick=2.8)
    hub = ball(at, across=0, aside=0, height=low - 21.0, size=5.0)
    return np.asarray(np.minimum(np.minimum(wall, joint), hub), np.float32)


def shaft(at: Local) -> Float:
    """Rod of 11 nm through the periplasm."""
    return rod(at, thick=5.5, low=-at.site.top_nm, high=at.site.top_nm)


def hook(at: Local) -> Float:
    """Hook of 18 nm beyond the outer membrane."""
    top = at.site.top_nm
    return rod(at, thick=9.0, low=top, high=top + at.site.needle_nm)


def motor_extent(site: Site) -> tuple[float, float, float]:
    """Extent of a flagellar motor."""
    return -site.top_nm - 27.0, site.top_nm + site.needle_nm, 24.0


T3SS = solid(*BASE, platform, needle, extent=injectisome_extent)
MOTOR = solid(bushing, ms_ring, c_ring, shaft, hook, extent=motor_extent)
