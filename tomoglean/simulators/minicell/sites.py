"""Where machines and decoys stand: one rule for all of them, so that none is given away."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice

import numpy as np

from tomoglean.provenance import Refused
from tomoglean.simulators.minicell.bodies import Body, Site, Vector
from tomoglean.simulators.minicell.decoys import BODIES, Decoys
from tomoglean.simulators.minicell.envelope import Envelope
from tomoglean.simulators.minicell.maps import read_body
from tomoglean.volumes import random

TRIES = 1000
ICE_ROOM_NM, FREE_NM = 10.0, 12.0


@dataclass(frozen=True)
class Machines:
    """Settings: the complexes that are looked for; see the schema for units."""

    kind: str
    number: Sequence[int]
    needle_nm: Sequence[float]
    gap_limits_nm: Sequence[float]
    spacing_nm: float
    map: str | None
    map_axis: Sequence[float]
    map_origin_nm: Sequence[float]
    map_level: float | None


def bodies(machines: Machines) -> Mapping[str, Body]:
    """Return the body of every kind, the map's among them if there is one."""
    if machines.kind != "map":
        return BODIES
    if not machines.map:
        raise Refused(
            "simulate: machines.map: expected the path of a map for machines.kind map, "
            "found none; set it or take another kind"
        )
    own = read_body(
        machines.map,
        axis=machines.map_axis,
        origin_nm=machines.map_origin_nm,
        level=machines.map_level,
    )
    return {**BODIES, "map": own}


def in_envelope(
    seed: int,
    name: str,
    envelope: Envelope,
    machines: Machines,
    decoys: Decoys,
    size_nm: Vector,
) -> tuple[Envelope, list[Site]]:
    """Spread machines and decoys over the envelope, and dimple it at each of them.

    Parameters
    ----------
    seed, name
        Keys of the draw.
    envelope
        Without dimples.
    machines, decoys
        Settings.
    size_nm
        Edges (z, y, x) of the field of view: sites lie inside.

    Returns
    -------
    envelope, sites
        The envelope with dimples, and the sites exactly midway between its membranes,
        machines first.

    Raises
    ------
    Refused
        If there is no room for all of them.
    """
    rng = random(seed, name, "sites")
    number = int(random(seed, name, "machines").choice(np.asarray(machines.number)))
    kinds = [machines.kind] * number + _decoy_kinds(seed, name, machines, decoys)
    rough: list[Site] = []
    for kind in kinds:
        place = _free_place(rng, envelope, rough, machines.spacing_nm, size_nm)
        rough.append(_dressed(rng, envelope, kind, place, machines))
    dimpled = replace(envelope, dimples=tuple(rough))
    return dimpled, [dimpled.settled(site) for site in rough]


def _decoy_kinds(seed: int, name: str, machines: Machines, decoys: Decoys) -> list[str]:
    """Kinds in turn from a random one on; a machine's kind is never a decoy."""
    kinds = ["t3ss" if kind == machines.kind else kind for kind in decoys.kinds]
    first = int(random(seed, name, "decoys").integers(len(kinds)))
    return list(islice(cycle(kinds), first, first + decoys.number))


def _free_place(
    rng: np.random.Generator,
    envelope: Envelope,
    taken: Sequence[Site],
    spacing_nm: float,
    size_nm: Vector,
) -> Vector:
    for _ in range(TRIES):
        place = envelope.centre_nm + envelope.shape.somewhere(rng)
        inside = np.all(place >= 0) and np.all(place <= size_nm)
        gaps = [np.linalg.norm(place - other.place_nm) for other in taken]
        if inside and all(gap >= spacing_nm for gap in gaps):
            return envelope.settled_place(place)
    raise Refused(
        f"simulate: expected room for all sites, found none for number {len(taken) + 1}; "
        "lower machines.number or decoys.number, or raise cell.diameter_nm"
    )


def _dressed(
    rng: np.random.Generator,
    envelope: Envelope,
    kind: str,
    place: Vector,
    machines: Machines,
) -> Site:
    """Give a place its axis, turn and sizes; the gap is the local one within limits."""
    outer, inner = envelope.at(place[None])
    (mean, spread), (narrow, wide) = machines.needle_nm, machines.gap_limits_nm
    return Site(
        place_nm=place,
        normal=envelope.normal(place),
        kind=kind,
        gap_nm=min(max(float(inner[0] - outer[0]), narrow), wide),
        spin=float(rng.uniform(0, 2 * np.pi)),
        needle_nm=float(mean + spread * np.clip(rng.standard_normal(), -3, 3)),
        size=float(rng.uniform()),
        bend=envelope.bend(place),
    )


def in_ice(
    seed: int,
    name: str,
    envelope: Envelope | None,
    decoys: Decoys,
    *,
    size_nm: Vector,
    ice_nm: float,
) -> list[Site]:
    """Scatter gold beads in the ice and lumps of ice on it, also beside the field of view.

    The same things stand in the field whatever the margin: three fields in a row along x
    are always filled.
    """
    wide = size_nm * np.array([1, 1, 3])
    gold = [
        _floating(seed, name, envelope, "gold", index, wide, ice_nm)
        for index in range(3 * decoys.gold)
    ]
    ice = [
        _floating(seed, name, envelope, "ice", index, wide, ice_nm)
        for index in range(3 * decoys.ice)
    ]
    return [site for site in gold + ice if site is not None]


def _floating(
    seed: int,
    name: str,
    envelope: Envelope | None,
    kind: str,
    index: int,
    wide: Vector,
    ice_nm: float,
) -> Site | None:
    """One bead or lump outside the cell; its axis points away from the cell or the ice."""
    rng = random(seed, name, kind, index)
    half = min(ice_nm, wide[0] - 2 * ICE_ROOM_NM) / 2
    for _ in range(TRIES):
        place = rng.uniform(0, wide) - np.array([0, 0, wide[2] / 3])
        side = np.sign(place[0] - wide[0] / 2) or 1.0
        height = side * half if kind == "ice" else rng.uniform(-half, half)
        place[0] = wide[0] / 2 + height
        site = Site(place, np.array([side, 0.0, 0.0]), kind, size=float(rng.uniform()))
        if envelope is None:
            return site
        low, high, _ = BODIES[kind].extent(site)
        if envelope.at(place[None])[0][0] > FREE_NM + (high - low) / 2:
            axis = envelope.normal(place) if kind == "gold" else site.normal
            return replace(site, normal=axis)
    return None
