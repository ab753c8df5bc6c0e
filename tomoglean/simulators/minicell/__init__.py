"""A minicell with type III secretion systems, as a cryo-electron tomogram shows it.

Definitions: the origin of a machine is the point of its axis midway between the
mid-surfaces of outer and inner membrane (OM, IM); its axis points outward along the
needle. The envelope's middle surface is a smooth ellipsoid, OM and IM lie half the local
gap above and below it, so origins and axes are exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tomoglean.provenance import Refused
from tomoglean.simulators import fields
from tomoglean.simulators.annotators import annotate
from tomoglean.simulators.fields import Float
from tomoglean.simulators.minicell.imaging import tilt_series
from tomoglean.simulators.minicell.machines import (
    DECOYS,
    LEAFLET_NM,
    NEEDLE_NM,
    NEEDLE_SD_NM,
    Site,
    insert,
    wedge_margin,
)
from tomoglean.volumes import random

BACKGROUND, MEMBRANE = 0, 1
SHEET_NM = 6.0
GAP_LIMITS_NM, SITE_GAP_NM, SITE_GAP_LIMITS_NM = (28.0, 40.0), (31.0, 2.5), (26.0, 36.0)
SITE_SPACING_NM = 45.0
# Densities relative to protein in ice; lipid tails are taken as ice.
HEADS, PEPTIDOGLYCAN, GOLD = 0.7, 0.3, 8.0
# A protein of the crowd is smaller than what the transfer passes: part of its contrast.
CROWD, CROWD_NM = 0.5, 1.7
# Variance of the signal in a default cell: sets the noise where there is no cell.
REFERENCE_VARIANCE = 0.0055


@dataclass(frozen=True)
class Minicell:
    """What `simulate_minicell` makes.

    Attributes
    ----------
    image
        Tomogram, float32 of shape (Z, Y, X), protein dark, noise of standard deviation 1.
    truth
        Labels int8: 1 within 3 nm of the mid-surface of OM or IM, else 0.
    points
        All sites, exact: machines (`t3ss`) and decoys by their names.
    picks
        An imperfect annotator's machines.
    facts
        Settings, counts, definitions; ready for JSON.
    """

    image: Float
    truth: npt.NDArray[np.int8]
    points: list[Site]
    picks: list[Site]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Waves:
    """A sum of plane waves: a smooth function that is exact between voxels."""

    vectors: npt.NDArray[np.float64]
    phases: npt.NDArray[np.float64]
    amplitude: float

    def __call__(self, z: Any, y: Any, x: Any) -> Any:
        """Value at the coordinates z, y, x in nm, numbers or arrays."""
        total = np.float32(0)
        for (kz, ky, kx), phase in zip(self.vectors, self.phases, strict=True):
            turn = np.float32(kz) * z + np.float32(ky) * y + np.float32(kx) * x
            total = total + np.cos(turn + np.float32(phase))
        return np.float32(self.amplitude * np.sqrt(2 / len(self.phases))) * total


def _waves(rng: np.random.Generator, length_nm: float, amplitude: float) -> Waves:
    directions = rng.standard_normal((6, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    lengths = length_nm * rng.uniform(0.7, 1.5, (6, 1))
    return Waves(2 * np.pi * directions / lengths, rng.uniform(0, 2 * np.pi, 6), amplitude)


@dataclass(frozen=True)
class Envelope:
    """Cell envelope as exact functions of the place (z, y, x) in nm.

    Attributes
    ----------
    centre_nm, axes_nm
        Centre, and semi-axes of the middle surface between OM and IM, in nm.
    rotation
        Rows are the directions of the semi-axes.
    ripple, swell
        Undulation of the middle surface, and variation of the gap, in nm.
    gap_nm
        Mean distance of the membranes in nm.
    sites
        Where the gap dimples to the site's own.
    """

    centre_nm: npt.NDArray[np.float64]
    axes_nm: npt.NDArray[np.float64]
    rotation: npt.NDArray[np.float64]
    ripple: Waves
    swell: Waves
    gap_nm: float
    sites: list[Site] = field(default_factory=list)

    def middle(self, z: Any, y: Any, x: Any) -> Any:
        """Signed distance in nm to the middle surface, first order; positive outside."""
        offsets = [
            c - np.float32(o) for c, o in zip((z, y, x), self.centre_nm, strict=True)
        ]
        near, far = np.float32(0), np.float32(1e-12)
        for axis, semi in zip(self.rotation, self.axes_nm, strict=True):
            along = sum(np.float32(w) * c for w, c in zip(axis, offsets, strict=True))
            near = near + np.square(along / np.float32(semi))
            far = far + np.square(along / np.float32(semi**2))
        level = np.sqrt(near)
        return level * (level - 1) / np.sqrt(far) + self.ripple(z, y, x)

    def gap(self, z: Any, y: Any, x: Any) -> Any:
        """Distance of the membranes in nm; at a site exactly the site's."""
        gap = np.clip(self.gap_nm + self.swell(z, y, x), *GAP_LIMITS_NM)
        for site in self.sites:
            dz, dy, dx = (c - o for c, o in zip((z, y, x), site.place_nm, strict=True))
            axial = site.normal[0] * dz + site.normal[1] * dy + site.normal[2] * dx
            beyond = np.maximum(np.abs(axial) - 25.0, 0)
            squares = dz * dz + dy * dy + dx * dx - axial * axial + beyond * beyond
            weight = np.exp(squares * (-0.5 / 15.0**2))
            gap = gap + weight * (site.gap_nm - gap)
        return gap

    def normal(self, place_nm: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Unit outward normal of the middle surface at a place in nm."""
        step = 0.5 * np.eye(3)
        slope = np.array(
            [self.middle(*(place_nm + s)) - self.middle(*(place_nm - s)) for s in step]
        )
        return np.asarray(slope / np.linalg.norm(slope), float)

    def random_place(self, rng: np.random.Generator) -> npt.NDArray[np.float64]:
        """Place on the middle surface in nm, uniform by area."""
        while True:
            direction = rng.standard_normal(3)
            direction /= np.linalg.norm(direction)
            stretch = np.linalg.norm(direction / self.axes_nm) * self.axes_nm.min()
            if rng.uniform() < stretch:
                break
        place = self.centre_nm + (self.axes_nm * direction) @ self.rotation
        for _ in range(6):
            place = place - float(self.middle(*place)) * self.normal(place)
        return np.asarray(place)


@dataclass(frozen=True)
class Scene:
    """A specimen in ice before any microscope: density, truth, what stands where.

    Attributes
    ----------
    density
        Protein 1, ice 0; float32 of shape (Z, Y, X).
    truth, inside
        Membrane labels; where cell and envelope are.
    sites
        Machines, decoys, gold.
    envelope
        The cell's; None where there is only ice.
    """

    density: Float
    truth: npt.NDArray[np.int8]
    inside: npt.NDArray[np.bool_]
    sites: list[Site]
    envelope: Envelope | None


def simulate_minicell(
    *,
    seed: int,
    name: str,
    shape_px: Sequence[int] = (128, 176, 176),
    voxel_nm: float = 1.8,
    cell: bool = True,
    diameter_nm: Sequence[float] = (205.0, 220.0),
    axis_ratio: Sequence[float] = (1.0, 1.2),
    gap_nm: float = 33.0,
    machines: int | Sequence[int] = (0, 0, 1, 2, 3),
    decoys: int = 6,
    gold: int = 2,
    tilt_max_deg: float = 51.0,
    defocus_um: float = 6.0,
    snr: float = 0.1,
    miss: float = 0.2,
    jitter_nm: float = 5.0,
    false: float = 0.08,
) -> Minicell:
    """Simulate a tomogram of a whole minicell, in one step in Fourier space.

    The fast mode: missing wedge, contrast transfer and noise of a given SNR are applied to
    the density at once; no tilt series, no dose. For tests and demos, not for published
    figures. The image is protein-dark.

    Parameters
    ----------
    seed, name
        Together they key every random choice; the name is the volume's id.
    shape_px
        Shape (Z, Y, X) in voxels.
    voxel_nm
        Edge of the voxels in nm.
    cell
        False for ice and gold only: no membrane, no sites.
    diameter_nm, axis_ratio
        Limits of the longest outer diameter in nm, and of longest over shortest.
    gap_nm
        Mean distance of OM and IM in nm.
    machines
        How many T3SS: a number, or numbers to choose from.
    decoys
        Number of decoys in the envelope, kinds in turn (see `machines.DECOYS`).
    gold
        Number of 10 nm gold beads in the ice.
    tilt_max_deg
        Largest tilt about y in degrees.
    defocus_um
        Underfocus in um; 0 switches the contrast transfer off.
    snr
        Variance of signal over variance of noise inside the cell, per voxel, unfiltered.
    miss, jitter_nm, false
        The annotator's: share of machines missed, error in nm, share of false picks.

    Raises
    ------
    Refused
        If the cell does not fit into the volume, or the sites not onto the cell.
    """
    settings = {
        key: value for key, value in locals().items() if key not in ("seed", "name")
    }
    scene = _scene(
        seed,
        name,
        tuple(int(n) for n in shape_px),
        voxel_nm,
        cell=cell,
        diameter_nm=diameter_nm,
        axis_ratio=axis_ratio,
        gap_nm=gap_nm,
        machines=machines,
        decoys=decoys,
        gold=gold,
    )
    image, variance = _tomogram(
        seed,
        name,
        scene,
        snr,
        voxel_nm=voxel_nm,
        tilt_max_deg=tilt_max_deg,
        defocus_um=defocus_um,
    )
    picks = annotate(
        seed,
        name,
        scene.sites,
        snr=snr,
        tilt_max_deg=tilt_max_deg,
        miss=miss,
        jitter_nm=jitter_nm,
        false=false,
    )
    facts = {
        "simulator": "minicell",
        "mode": "fast",
        "seed": seed,
        "name": name,
        "settings": settings,
        "classes": ["background", "membrane"],
        "contrast": "protein is dark",
        "origin": "midway between OM and IM; the first voxel is centred at 0 nm",
        "signal_variance": variance,
        **_counts(scene, picks, tilt_max_deg),
    }
    return Minicell(image, scene.truth, scene.sites, picks, facts)


def _scene(
    seed: int,
    name: str,
    shape: tuple[int, ...],
    voxel_nm: float,
    *,
    cell: bool,
    diameter_nm: Sequence[float],
    axis_ratio: Sequence[float],
    gap_nm: float,
    machines: int | Sequence[int],
    decoys: int,
    gold: int,
) -> Scene:
    """Put cell, machines, decoys and gold into the ice."""
    density = np.zeros(shape, np.float32)
    truth, inside = np.zeros(shape, np.int8), np.zeros(shape, bool)
    envelope = None
    if cell:
        size_nm = np.array(shape) * voxel_nm
        envelope = _envelope(seed, name, size_nm, diameter_nm, axis_ratio, gap_nm)
        number = _count(seed, name, machines)
        envelope = replace(envelope, sites=_sites(seed, name, envelope, number, decoys))
        truth, inside = _draw_cell(seed, name, density, envelope, voxel_nm)
    sites = list(envelope.sites) if envelope else []
    for site in sites:
        insert(density, site, voxel_nm=voxel_nm)
    sites += _draw_gold(seed, name, density, envelope, gold, voxel_nm)
    return Scene(density, truth, inside, sites, envelope)


def _tomogram(
    seed: int, name: str, scene: Scene, snr: float, **optics: Any
) -> tuple[Float, float]:
    """Image whose noise has a standard deviation of 1, and the signal's variance."""
    signal, noise = tilt_series(scene.density, random(seed, name, "noise"), **optics)
    variance = REFERENCE_VARIANCE
    if scene.envelope:
        variance = float(signal[scene.inside].var(dtype=np.float64))
    return signal / np.float32(np.sqrt(variance / snr)) + noise, variance


def _count(seed: int, name: str, machines: int | Sequence[int]) -> int:
    if isinstance(machines, int):
        return machines
    return int(random(seed, name, "machines").choice(np.asarray(machines)))


def _envelope(
    seed: int,
    name: str,
    size_nm: npt.NDArray[np.float64],
    diameter_nm: Sequence[float],
    axis_ratio: Sequence[float],
    gap_nm: float,
) -> Envelope:
    """Draw a cell; its shortest axis is nearest to z, as thin ice presses it."""
    rng = random(seed, name, "envelope")
    longest = rng.uniform(diameter_nm[0], diameter_nm[1])
    ratio = rng.uniform(axis_ratio[0], axis_ratio[1])
    outer = longest / 2 * np.array([1 / ratio, ratio ** -rng.uniform(0, 1), 1.0])
    tip, turn = np.radians(rng.uniform(-12, 12)), rng.uniform(0, np.pi)
    short = np.array([np.cos(tip), np.sin(tip) * np.cos(turn), np.sin(tip) * np.sin(turn)])
    # `frame` returns its direction last: roll it to the front, where the short axis is.
    rotation = np.roll(fields.frame(short), 1, axis=0)
    axes = outer - gap_nm / 2
    if 2 * (outer[0] + 4) > size_nm[0] or longest + 8 > size_nm[1:].min():
        raise Refused(
            f"simulate: expected a volume larger than the cell of {longest:.0f} nm (and "
            f"{2 * outer[0]:.0f} nm along z), found {np.round(size_nm).tolist()} nm; "
            "enlarge shape_px or lower diameter_nm"
        )
    if axes.min() < 1.6 * gap_nm:
        raise Refused(
            f"simulate: expected a cell wide enough for a gap of {gap_nm} nm, found "
            f"semi-axes of {np.round(outer).tolist()} nm; raise diameter_nm"
        )
    return Envelope(
        centre_nm=size_nm / 2 + rng.uniform(-4, 4, 3),
        axes_nm=axes,
        rotation=rotation,
        ripple=_waves(rng, 120.0, 1.2),
        swell=_waves(rng, 110.0, 2.5),
        gap_nm=gap_nm,
    )


def _sites(
    seed: int, name: str, envelope: Envelope, machines: int, decoys: int
) -> list[Site]:
    """Spread machines and decoys over the envelope: one rule for all of them."""
    rng = random(seed, name, "sites")
    first = int(rng.integers(len(DECOYS)))
    kinds = ["t3ss"] * machines
    kinds += [DECOYS[(first + index) % len(DECOYS)] for index in range(decoys)]
    places: list[npt.NDArray[np.float64]] = []
    sites = []
    for kind in kinds:
        place = _free_place(rng, envelope, places)
        places.append(place)
        local = np.clip(rng.normal(*SITE_GAP_NM), *SITE_GAP_LIMITS_NM)
        needle = np.clip(rng.normal(NEEDLE_NM, NEEDLE_SD_NM), 35, 67)
        spin, normal = rng.uniform(0, 2 * np.pi), envelope.normal(place)
        sites.append(Site(place, normal, kind, float(local), float(spin), float(needle)))
    return sites


def _free_place(
    rng: np.random.Generator,
    envelope: Envelope,
    taken: Sequence[npt.NDArray[np.float64]],
) -> npt.NDArray[np.float64]:
    for _ in range(500):
        place = envelope.random_place(rng)
        if all(np.linalg.norm(place - other) >= SITE_SPACING_NM for other in taken):
            return place
    raise Refused(
        f"simulate: expected room for all sites, found none for number {len(taken) + 1}; "
        "lower machines or decoys, or raise diameter_nm"
    )


def _draw_cell(
    seed: int, name: str, density: Float, envelope: Envelope, voxel_nm: float
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.bool_]]:
    """Draw membranes, peptidoglycan, periplasm and cytosol into a density, by maximum.

    Returns
    -------
    truth, inside
        Membrane labels, and where cell and envelope are.
    """
    shape = density.shape
    rng = random(seed, name, "cell")
    axes = fields.grid(shape, voxel_nm)
    middle = envelope.middle(*axes).astype(np.float32)
    half = (envelope.gap(*axes) / 2).astype(np.float32)
    outer, inner = middle - half, middle + half

    protein = fields.random_field(rng, shape, CROWD_NM / voxel_nm)
    uneven = 1 + 0.25 * fields.random_field(rng, shape, 5.0 / voxel_nm)
    for sheet in (outer, inner):
        np.maximum(density, uneven * _bilayer(sheet, voxel_nm), out=density)
        studded = _crowd(protein, 0.85) * (np.abs(sheet) < 4.0)
        np.maximum(density, studded, out=density)
    wall = np.abs(outer + 9.0) - (2.0 + 0.75 * np.clip(uneven - 1, -1, 1) * 2)
    glycan = PEPTIDOGLYCAN * uneven * np.clip(0.5 - wall / voxel_nm, 0, 1)
    np.maximum(density, glycan, out=density)
    periplasm = (outer < -3) & (inner > 3)
    np.maximum(density, _crowd(protein, 1.6) * periplasm, out=density)
    cytosol = inner < -4
    np.maximum(density, _crowd(protein, 0.95) * cytosol, out=density)
    _draw_ribosomes(seed, name, density, inner, envelope, voxel_nm)
    truth = (np.minimum(np.abs(outer), np.abs(inner)) <= SHEET_NM / 2).astype(np.int8)
    return truth, outer < SHEET_NM / 2


def _bilayer(sheet_nm: Float, voxel_nm: float) -> Float:
    """Two leaflets of head groups at +-2 nm, integrated over voxels."""
    own = 0.7
    spread = np.hypot(own, voxel_nm / np.sqrt(12))
    off = np.abs(sheet_nm) - LEAFLET_NM
    return np.asarray(
        HEADS * own / spread * np.exp(-0.5 * np.square(off / np.float32(spread))),
        np.float32,
    )


def _crowd(protein: Float, limit: float) -> Float:
    """Proteins of a few nm: the share of a normal field above `limit`, soft edges."""
    share = np.clip(0.5 + 1.5 * (protein - np.float32(limit)), 0, 1)
    return np.asarray(CROWD * share, np.float32)


def _draw_ribosomes(
    seed: int,
    name: str,
    density: Float,
    inner: Float,
    envelope: Envelope,
    voxel_nm: float,
) -> None:
    """Fill the cytosol with ribosomes as dense as 400 in a cell of 400 nm."""
    rng = random(seed, name, "ribosomes")
    places = np.argwhere(inner < -13.0)
    volume_nm3 = np.count_nonzero(inner < 0) * voxel_nm**3
    taken: list[npt.NDArray[np.float64]] = []
    for _ in range(int(400 * volume_nm3 / 2.57e7) if len(places) else 0):
        place = places[rng.integers(len(places))] * voxel_nm + rng.uniform(-0.5, 0.5, 3)
        axis, spin = rng.standard_normal(3), rng.uniform(0, 2 * np.pi)
        # Excluded volume: a ribosome stands in no other, nor in a machine's platform.
        crowded = any(np.linalg.norm(place - other) < 22 for other in taken)
        if crowded or any(_under(site, place) for site in envelope.sites):
            continue
        taken.append(place)
        # The body hangs 15 nm below its site: put the site so that it lands on `place`.
        normal = axis / np.linalg.norm(axis)
        body = Site(place + 15.0 * normal, normal, "ribosome", 0.0, spin, 0.0)
        insert(density, body, voxel_nm=voxel_nm)


def _under(site: Site, place: npt.NDArray[np.float64]) -> bool:
    """Whether a ribosome at `place` would reach the room under a site."""
    offset = place - site.place_nm
    axial = float(offset @ site.normal)
    lateral = float(np.linalg.norm(offset - axial * site.normal))
    return lateral < 26 and -site.gap_nm / 2 - 36 < axial < 0


def _draw_gold(
    seed: int,
    name: str,
    density: Float,
    envelope: Envelope | None,
    number: int,
    voxel_nm: float,
) -> list[Site]:
    """Scatter gold beads of 10 nm over the ice; their axis points away from the middle."""
    rng = random(seed, name, "gold")
    shape = density.shape
    size_nm = np.array(shape) * voxel_nm
    sites: list[Site] = []
    for _ in range(200 * number):
        place = rng.uniform(6, size_nm - 6)
        if len(sites) == number:
            break
        if envelope and float(envelope.middle(*place)) < envelope.gap_nm / 2 + 12:
            continue
        offset = place - size_nm / 2
        normal = envelope.normal(place) if envelope else offset / np.linalg.norm(offset)
        sites.append(Site(place, normal, "gold"))
        squares = sum(
            (c - o) ** 2 for c, o in zip(fields.grid(shape, voxel_nm), place, strict=True)
        )
        bead = np.clip(0.5 - (np.sqrt(squares) - 5.0) / voxel_nm, 0, 1)
        np.maximum(density, np.float32(GOLD) * bead, out=density)
    return sites


def _counts(scene: Scene, picks: Sequence[Site], tilt_max_deg: float) -> dict[str, Any]:
    kinds = [site.kind for site in scene.sites]
    hidden = [
        site
        for site in scene.sites
        if site.kind == "t3ss" and wedge_margin(site, tilt_max_deg) < 0
    ]
    envelope = scene.envelope
    return {
        "counts": {kind: kinds.count(kind) for kind in sorted(set(kinds))},
        "machines": kinds.count("t3ss"),
        "machines_in_wedge": len(hidden),
        "picks": len(picks),
        "semi_axes_nm": envelope.axes_nm.round(3).tolist() if envelope else None,
        "centre_nm": envelope.centre_nm.round(3).tolist() if envelope else None,
        "membrane_share": float(scene.truth.mean()),
    }
