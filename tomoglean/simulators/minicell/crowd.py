"""What fills a cell: ribosomes, and proteins as globules of sizes after their masses."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from tomoglean.simulators.fields import Float
from tomoglean.simulators.minicell.bodies import Body, Site, Vector, touched
from tomoglean.simulators.minicell.envelope import Cell, Envelope
from tomoglean.volumes import random

Standing = Sequence[tuple[Site, Body]]
# Radius of a globule of 1 Da in nm (Erickson 2009, Biol Proced Online 11:32).
RADIUS_NM = 0.066
MASS_LIMITS_KDA = (10.0, 500.0)
RIBOSOME_NM, AT_ONCE, TRIES_EACH = 11.0, 4096, 8
# Proteins of a membrane stand near its middle and are small.
SHEET_REACH_NM, SHEET_LARGEST_NM = 1.5, 2.6


def ribosomes(
    seed: int,
    name: str,
    envelope: Envelope,
    per_um3: float,
    standing: Standing,
    bounds_nm: tuple[Vector, Vector],
) -> list[Site]:
    """Spread ribosomes over the cytosol, none inside another or in what stands there.

    Parameters
    ----------
    seed, name
        Keys of the places.
    envelope
        Of the cell.
    per_um3
        How many there are in a cubic micrometre of cytosol, if they find room.
    standing
        Sites and their bodies, which ribosomes keep clear of.
    bounds_nm
        Corners (z, y, x) of the box that is filled.

    Returns
    -------
    list of Site
        Ribosomes as sites of kind `ribosome`, with no gap; their body hangs 15 nm below.
    """
    rng = random(seed, name, "ribosomes")
    low, high = bounds_nm
    mean = per_um3 * 1e-9 * float(np.prod(high - low))
    places = rng.uniform(low, high, (rng.poisson(TRIES_EACH * mean), 3))
    turns, spins = rng.standard_normal(places.shape), rng.uniform(0, 2 * np.pi, len(places))
    _, inner = envelope.at(places)
    wanted = round(np.count_nonzero(inner < 0) / TRIES_EACH)
    free = inner < -RIBOSOME_NM - 2
    for site, body in standing:
        free[free] = ~touched(site, body, places[free], np.full(free.sum(), RIBOSOME_NM))
    kept: list[int] = []
    for index in np.flatnonzero(free):
        if len(kept) == wanted:
            break
        gaps = np.linalg.norm(places[kept] - places[index], axis=1)
        if np.all(gaps >= 2 * RIBOSOME_NM - 1):
            kept.append(int(index))
    turns /= np.linalg.norm(turns, axis=1, keepdims=True)
    return [
        Site(places[i] + 15.0 * turns[i], turns[i], "ribosome", 0.0, float(spins[i]))
        for i in kept
    ]


def proteins(
    seed: int,
    name: str,
    envelope: Envelope,
    cell: Cell,
    standing: Standing,
    ribosomes_nm: Vector,
    bounds_nm: tuple[Vector, Vector],
) -> tuple[Vector, Vector]:
    """Scatter proteins over cytosol, periplasm and membranes.

    Parameters
    ----------
    seed, name
        Keys of the places.
    envelope, cell
        Of the cell, and the shares of volume that protein takes there.
    standing
        Sites and their bodies, which proteins keep clear of.
    ribosomes_nm
        Middles (N, 3) of the ribosomes, which they keep clear of too.
    bounds_nm
        Corners (z, y, x) of the box that is filled.

    Returns
    -------
    places_nm, radii_nm
        Centres (N, 3) and radii (N,).
    """
    rng = random(seed, name, "proteins")
    low, high = bounds_nm
    shares = np.array([cell.cytosol_share, cell.periplasm_share, cell.membrane_share])
    # Places are independent, so that of a volume f is left free with exp(-n v).
    number = np.abs(np.log(1 - shares)) / _mean_volume_nm3(cell.protein_kda)
    most = number.max()
    places = rng.uniform(low, high, (rng.poisson(most * np.prod(high - low)), 3))
    chance, radii = (
        rng.uniform(0, most, len(places)),
        _radii(rng, len(places), cell.protein_kda),
    )
    outer, inner = envelope.at(places)
    in_sheet = np.minimum(np.abs(outer), np.abs(inner)) < SHEET_REACH_NM
    radii = np.where(in_sheet, np.minimum(radii, SHEET_LARGEST_NM), radii)
    wanted = np.select(
        [in_sheet, inner < -radii - 2, (outer < 0) & (inner > 0)],
        [number[2], number[0], number[1]],
    )
    kept = chance < wanted
    places, radii = places[kept], radii[kept]
    free = _clear_of(ribosomes_nm, places, radii)
    for site, body in standing:
        free[free] = ~touched(site, body, places[free], radii[free])
    return places[free], radii[free]


def _clear_of(ribosomes_nm: Vector, places: Vector, radii: Vector) -> npt.NDArray[np.bool_]:
    if not len(ribosomes_nm):
        return np.ones(len(places), bool)
    gaps, _ = KDTree(ribosomes_nm).query(places)
    return np.asarray(gaps > RIBOSOME_NM - 1 + radii)


def _radii(rng: np.random.Generator, number: int, masses_kda: Sequence[float]) -> Vector:
    median, spread = masses_kda
    masses = median * np.exp(spread * rng.standard_normal(number))
    return np.asarray(RADIUS_NM * np.cbrt(1e3 * np.clip(masses, *MASS_LIMITS_KDA)))


def _mean_volume_nm3(masses_kda: Sequence[float]) -> float:
    """Mean volume of a globule: of a fixed large sample of the masses."""
    radii = _radii(np.random.default_rng(0), 1 << 16, masses_kda)
    return float(4 / 3 * np.pi * np.mean(radii**3))


def stamp(
    density: Float, places_nm: Vector, radii_nm: Vector, *, voxel_nm: float, margin_px: int
) -> None:
    """Put balls into a density, by maximum.

    Parameters
    ----------
    density
        Volume (Z, Y, X), changed in place.
    places_nm, radii_nm
        Centres (N, 3) and radii (N,).
    voxel_nm, margin_px
        Edge of the voxels, and index of the voxel along x that is centred at 0 nm.
    """
    places = places_nm / voxel_nm + np.array([0, 0, margin_px])
    radii, flat = radii_nm / voxel_nm, density.reshape(-1)
    reach = np.ceil(radii + 0.5).astype(int)
    for half in np.unique(reach):
        chosen = np.flatnonzero(reach == half)
        cube = np.argwhere(np.ones((2 * half + 1,) * 3)) - half
        for start in range(0, len(chosen), AT_ONCE):
            some = chosen[start : start + AT_ONCE]
            voxels = np.rint(places[some])[:, None].astype(np.int64) + cube
            gaps = np.sqrt(((voxels - places[some][:, None]) ** 2).sum(-1))
            share = _ball_share(gaps, radii[some][:, None])
            fits = ((voxels >= 0) & (voxels < density.shape)).all(-1) & (share > 0)
            index = np.ravel_multi_index(tuple(voxels[fits].T), density.shape)
            np.maximum.at(flat, index, share[fits].astype(np.float32))


def _ball_share(gaps_px: Vector, radii_px: Vector) -> npt.NDArray[np.float64]:
    """Share of a voxel in a ball, whose sum over voxels is the ball's volume."""
    # A linear edge of one voxel holds pi r / 3 more than the ball: shrink it to that.
    return np.clip(0.5 + radii_px - 1 / (12 * radii_px) - gaps_px, 0, 1)
