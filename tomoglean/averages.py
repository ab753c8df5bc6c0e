"""Average subtomograms, honest about the missing wedge and about chance.

A particle's own frame has the membrane normal as z axis, and its origin lies in voxel
box_px // 2 of a crop, where the Fourier transform has it. A frame is a rotation matrix in
axes (z, y, x): its columns are the particle's axes seen from the tomogram, so that
offset_in_tomogram = frame @ offset_in_particle.

Crops are read from disk one at a time: memory holds some 20 boxes and, while aligning,
one more for every in-plane angle.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import mrcfile
import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from tomoglean import volumes
from tomoglean.provenance import replacing
from tomoglean.tables import Picks
from tomoglean.volumes import Volume

Array = npt.NDArray[np.float64]
Box = npt.NDArray[np.float32]
Path = str | os.PathLike[str]

FSC_COLUMNS = ("frequency_per_nm", "fsc", "fsc_control")
FREE_ANGLE_PX = 1e-6
LEAST_INSIDE = 0.75
DRAWN_PER_PICK = 50


@dataclass(frozen=True)
class Particle:
    """Where a particle lies and how it is turned.

    Attributes
    ----------
    source
        Which of the tomograms it lies in.
    centre
        Its origin (z, y, x) in voxels of the tomogram.
    normal
        Unit membrane normal (z, y, x), outward: its z axis.
    angle_deg
        Free angle about the normal, see `frame`.
    start
        The origin before any alignment.
    """

    source: int
    centre: Array
    normal: Array
    angle_deg: float
    start: Array

    @property
    def frame(self) -> Array:
        """Rotation from the particle to the tomogram, shape (3, 3)."""
        return frame(self.normal, self.angle_deg)


@dataclass(frozen=True)
class Setup:
    """How particles are cut, aligned and averaged; the settings of `average`."""

    voxel_nm: float
    box_px: int
    symmetry: int
    tilt_max_deg: float
    iterations: int
    angle_step_deg: float
    max_shift_nm: float
    lowpass_nm: float
    regularisation: float
    invert: bool

    @cached_property
    def mask(self) -> Box:
        """Soft ball that leaves the corners of a box out, values in [0, 1]."""
        far = np.linalg.norm(_offsets(self.box_px), axis=-1)
        soft = np.clip((self.box_px / 2 - 1 - far) / (self.box_px / 8), 0, 1)
        return np.asarray(0.5 - 0.5 * np.cos(np.pi * soft), np.float32)

    @cached_property
    def passing(self) -> npt.NDArray[np.bool_]:
        """Frequencies up to the low-pass limit, in the half spectrum."""
        far = np.linalg.norm(_frequencies(self.box_px), axis=-1)
        return np.asarray(far <= self.voxel_nm / self.lowpass_nm)

    @cached_property
    def angles_deg(self) -> Array:
        """In-plane angles that an alignment tries."""
        return np.arange(0.0, 360.0 / self.symmetry, self.angle_step_deg)


@dataclass(frozen=True)
class Sums:
    """Half spectra of shape (B, B, B // 2 + 1): weighted sum and sum of weights."""

    signal: npt.NDArray[np.complex64]
    weight: Box

    def __add__(self, other: "Sums") -> "Sums":
        """Join two sets of particles."""
        return Sums(self.signal + other.signal, self.weight + other.weight)

    def map(self, regularisation: float) -> Box:
        """Divide by the weights and return to real space, shape (B, B, B)."""
        spectrum = self.signal / (self.weight + np.float32(regularisation))
        side = self.weight.shape[0]
        return np.asarray(_inverse(spectrum, side), np.float32)


@dataclass(frozen=True)
class Maps:
    """The average of a set of particles, and of its two halves; each (B, B, B)."""

    whole: Box
    half1: Box
    half2: Box
    sizes: tuple[int, int]
    shifts_nm: Array


@dataclass(frozen=True)
class Result:
    """What a run of averaging leaves.

    Attributes
    ----------
    maps, control
        Averages of the picks, and of random places in the same membrane.
    voxel_nm
        Edge of their voxels; 0 if there was no tomogram.
    fsc
        Rows of FSC_COLUMNS.
    summary
        Figures by name; None where undefined, with a reason in `reasons`.
    """

    maps: Maps
    control: Maps
    voxel_nm: float
    fsc: list[dict[str, float | None]]
    summary: dict[str, Any]


def average(
    picks: Sequence[Picks],
    tomograms: Sequence[Path],
    masks: Sequence[Path],
    *,
    seed: int,
    box_px: int = 48,
    symmetry: int = 1,
    tilt_max_deg: float = 60.0,
    iterations: int = 2,
    angle_step_deg: float = 30.0,
    max_shift_nm: float = 6.0,
    lowpass_nm: float = 6.0,
    regularisation: float = 1.0,
    invert: bool = False,
) -> Result:
    """Average picks in Fourier space, every one weighted by what its tilts have seen.

    The halves are split before anything else and aligned each to itself; at the end the
    second is laid over the first as a whole. The control goes the same way: as many
    random places of the membrane mask, at the same depths in the membrane.

    Parameters
    ----------
    picks
        Candidates of every tomogram.
    tomograms, masks
        Volume files, and files of `mask` with `data`, `distance_nm` and `normals`.
    seed
        Seed of the halves, the first in-plane angles and the control.
    box_px
        Side of a crop in voxels, even.
    symmetry
        n of the Cn symmetry imposed about the normal.
    tilt_max_deg
        Highest tilt of the single-axis tilt series about y, in degrees.
    iterations
        Rounds of alignment; 0 trusts the picks.
    angle_step_deg
        Step of the search about the normal, in degrees.
    max_shift_nm
        Farthest that a particle may move from its pick, in nm.
    lowpass_nm
        Finest detail that alignment looks at, in nm.
    regularisation
        Added to the sum of weights, in particles; damps what few have seen.
    invert
        Turn the contrast round, to bright protein from dark.

    Returns
    -------
    Result
        Valid also without tomograms or picks: the maps are zero then.

    Raises
    ------
    ValueError
        If the lists differ in length or the box is odd.
    """
    if box_px % 2:
        raise ValueError(f"the box has an even side, not {box_px}")
    with contextlib.ExitStack() as stack:
        scans = [stack.enter_context(volumes.open_volume(path)) for path in tomograms]
        voxel_nm = min((min(scan.voxel_nm) for scan in scans), default=0.0)
        setup = Setup(
            voxel_nm, box_px, symmetry, tilt_max_deg, iterations, angle_step_deg,
            max_shift_nm, lowpass_nm, regularisation, invert,
        )  # fmt: skip
        found, skipped = _particles(picks, scans, setup, seed)
        chance = _random_particles(found, scans, masks, setup, seed)
        maps = reconstruct(found, scans, setup, volumes.random(seed, "halves"))
        control = reconstruct(chance, scans, setup, volumes.random(seed, "control"))
    return _result(maps, control, setup, sum(map(len, picks)), skipped)


def frame(normal: npt.ArrayLike, angle_deg: float = 0.0) -> Array:
    """Return the rotation that turns a particle's axes into the tomogram's.

    Parameters
    ----------
    normal
        The particle's z axis (z, y, x) in the tomogram; need not be of unit length.
    angle_deg
        Turn about it, from the particle's x towards its y, in degrees.

    Returns
    -------
    ndarray of shape (3, 3)
        Columns are the particle's z, y, x axes in tomogram axes (z, y, x).

    Raises
    ------
    ValueError
        If the normal has no length.
    """
    axis = np.asarray(normal, np.float64)
    if not np.linalg.norm(axis):
        raise ValueError("a particle needs a normal")
    axis = axis / np.linalg.norm(axis)
    helper = np.eye(3)[np.argmin(np.abs(axis))]
    y = helper - (helper @ axis) * axis
    y /= np.linalg.norm(y)
    # In axes (z, y, x) the cross product has the other sign: x = y x z becomes z x y.
    x = np.cross(axis, y)
    return np.column_stack([axis, y, x]) @ turn(angle_deg)


def turn(angle_deg: float) -> Array:
    """Return the rotation about z from x towards y, axes (z, y, x), shape (3, 3)."""
    cos, sin = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    return np.array([[1.0, 0.0, 0.0], [0.0, cos, sin], [0.0, -sin, cos]])


def crop(
    tomogram: Volume, centre: Array, rotation: Array, *, box_px: int, voxel_nm: float
) -> Box:
    """Cut a turned box out of a tomogram, by linear interpolation.

    Parameters
    ----------
    tomogram
        Volume of shape (Z, Y, X); only the part around the centre is read.
    centre
        Where the box's voxel box_px // 2 lies, (z, y, x) in voxels of the tomogram.
    rotation
        Rotation from the box to the tomogram, shape (3, 3), see `frame`.
    box_px, voxel_nm
        Side of the box in its voxels, and edge of those in nm.

    Returns
    -------
    ndarray of shape (box_px, box_px, box_px)
        Grey values with mean 0 and deviation 1; outside the tomogram, the mean.
    """
    offsets = _offsets(box_px) @ np.asarray(rotation).T * voxel_nm
    places = np.asarray(centre) + offsets / np.asarray(tomogram.voxel_nm)
    low = np.maximum(np.floor(places.min(axis=(0, 1, 2))).astype(int), 0)
    high = np.ceil(places.max(axis=(0, 1, 2))).astype(int) + 1
    part = tomogram.data[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    if not part.size:
        return np.zeros((box_px,) * 3, np.float32)
    cut = ndimage.map_coordinates(
        np.asarray(part, np.float32),
        np.moveaxis(places - low, -1, 0),
        order=1,
        cval=float(np.mean(part, dtype=np.float64)),
    )
    deviation = float(cut.std())
    return np.asarray((cut - cut.mean()) / (deviation or 1.0), np.float32)


def wedge(box_px: int, rotation: Array, tilt_max_deg: float) -> Box:
    """Return which frequencies of a turned crop its tilt series has measured.

    With tilts about y up to t, a frequency (in tomogram axes) is measured where
    |k_z| <= |k_x| tan t. It turns as the crop does.

    Returns
    -------
    ndarray of shape (B, B, B // 2 + 1)
        1 where measured, else 0, laid out as by `rfftn`.
    """
    k = _frequencies(box_px) @ np.asarray(rotation).T
    limit = np.tan(np.radians(min(tilt_max_deg, 89.999)))
    seen = np.abs(k[..., 0]) <= np.abs(k[..., 2]) * limit + FREE_ANGLE_PX
    return np.asarray(seen, np.float32)


def reconstruct(
    particles: Sequence[Particle],
    tomograms: Sequence[Volume],
    setup: Setup,
    rng: np.random.Generator,
) -> Maps:
    """Split particles into halves, align each half to itself, average.

    Parameters
    ----------
    particles
        Where to begin; may be none.
    tomograms
        The volumes that their `source` counts.
    setup
        Settings.
    rng
        Random numbers for the split.
    """
    order = rng.permutation(len(particles))
    halves = [[particles[i] for i in order[part::2]] for part in (0, 1)]
    for _ in range(setup.iterations):
        halves = [_aligned(half, tomograms, setup) for half in halves]
    if setup.iterations and all(halves):
        halves[1] = _registered(halves[1], halves[0], tomograms, setup)
    first, second = (summed(half, tomograms, setup) for half in halves)
    moves_nm = [
        (p.centre - p.start) * tomograms[p.source].voxel_nm for half in halves for p in half
    ]
    return Maps(
        whole=(first + second).map(setup.regularisation),
        half1=first.map(setup.regularisation),
        half2=second.map(setup.regularisation),
        sizes=(len(halves[0]), len(halves[1])),
        shifts_nm=np.linalg.norm(np.reshape(moves_nm, (-1, 3)), axis=1),
    )


def correlation(
    one: npt.NDArray[Any], other: npt.NDArray[Any], mask: npt.NDArray[Any] | None = None
) -> float:
    """Return Pearson's correlation of two boxes, weighted by a mask.

    Returns
    -------
    float
        In [-1, 1]; NaN where one of them is constant.
    """
    weight = np.ones(one.shape) if mask is None else np.asarray(mask, np.float64)
    weight = weight / weight.sum()
    a, b = (np.asarray(box, np.float64) for box in (one, other))
    a, b = a - (weight * a).sum(), b - (weight * b).sum()
    norm = np.sqrt((weight * a * a).sum() * (weight * b * b).sum())
    return float((weight * a * b).sum() / norm) if norm > 0 else float("nan")


def shell_correlation(one: Box, other: Box) -> Array:
    """Return the Fourier shell correlation (Harauz and van Heel 1986) of two cubes.

    Returns
    -------
    ndarray of shape (B // 2,)
        Value of the shell with radius 1, 2 .. B // 2 frequency steps; NaN without power.
    """
    side = one.shape[0]
    a, b = (np.asarray(_spectrum(box), np.complex128) for box in (one, other))
    radius = np.rint(np.linalg.norm(_frequencies(side), axis=-1) * side).astype(int)
    many = _multiplicity(side)
    cross, power_a, power_b = (
        np.bincount(radius.ravel(), (many * values).ravel())[1 : side // 2 + 1]
        for values in ((a * b.conj()).real, np.abs(a) ** 2, np.abs(b) ** 2)
    )
    norm = np.sqrt(power_a * power_b)
    return np.asarray(np.where(norm > 0, cross / np.where(norm > 0, norm, 1), np.nan))


def resolution_nm(
    frequency_per_nm: npt.ArrayLike, fsc: npt.ArrayLike, level: float
) -> float | None:
    """Return where the shell correlation first falls below a level, in nm.

    Linear between shells; the finest frequency if it never falls below; None if it
    starts below or is undefined.
    """
    frequency, value = np.asarray(frequency_per_nm), np.asarray(fsc)
    if not len(value) or not value[0] >= level:
        return None
    below = np.flatnonzero(~(value >= level))
    if not len(below):
        return float(1 / frequency[-1])
    last = below[0] - 1
    drop = value[last] - value[last + 1]
    part = (value[last] - level) / drop if np.isfinite(drop) else 0.0
    return float(1 / (frequency[last] + part * (frequency[last + 1] - frequency[last])))


def write_mrc(data: npt.NDArray[Any], path: Path, *, voxel_nm: float) -> None:
    """Write a box as MRC, float32, with its voxel size and without a date."""
    with replacing(path) as partial, mrcfile.new(partial, overwrite=True) as file:
        file.set_data(np.asarray(data, np.float32))
        file.set_volume()
        file.voxel_size = 10.0 * voxel_nm
        # mrcfile signs with the time of day: the same map must be the same bytes.
        file.header.label[:] = b""
        file.header.nlabl = 0


def _particles(
    picks: Sequence[Picks], scans: Sequence[Volume], setup: Setup, seed: int
) -> tuple[list[Particle], dict[str, int]]:
    """Return the picks that can be averaged, and how many cannot for which reason."""
    kept: list[Particle] = []
    skipped = {"n_without_normal": 0, "n_near_border": 0}
    for source, (table, scan) in enumerate(zip(picks, scans, strict=True)):
        for centre, normal in zip(table.positions, table.normals, strict=True):
            if np.linalg.norm(normal) < FREE_ANGLE_PX:
                skipped["n_without_normal"] += 1
            elif _inside(centre, scan, setup) < LEAST_INSIDE:
                skipped["n_near_border"] += 1
            else:
                kept.append(_particle(source, centre, normal, len(kept), seed, "pick"))
    return kept, skipped


def _particle(
    source: int, centre: Array, normal: Array, index: int, seed: int, purpose: str
) -> Particle:
    """Turn it at random: wedges that all lie alike would leave their mark."""
    angle_deg = float(volumes.random(seed, "angle", purpose, index).uniform(0, 360))
    return Particle(source, centre, normal / np.linalg.norm(normal), angle_deg, centre)


def _inside(centre: Array, scan: Volume, setup: Setup) -> float:
    """Share of an upright box around the centre that lies in the tomogram."""
    half = setup.box_px / 2 * setup.voxel_nm / np.asarray(scan.voxel_nm)
    shape = np.asarray(scan.shape)
    within = np.minimum(centre + half, shape - 1) - np.maximum(centre - half, 0)
    return float(np.prod(np.clip(within / (2 * half), 0, 1)))


def _random_particles(
    found: Sequence[Particle],
    scans: Sequence[Volume],
    masks: Sequence[Path],
    setup: Setup,
    seed: int,
) -> list[Particle]:
    """Draw as many places of the same membranes, at the same depths in them."""
    drawn: list[Particle] = []
    for source, (scan, mask) in enumerate(zip(scans, masks, strict=True)):
        own = [particle for particle in found if particle.source == source]
        if not own:
            continue
        rng = volumes.random(seed, "control places", source)
        places, depths_nm, normals = _draw(mask, max(DRAWN_PER_PICK * len(own), 1000), rng)
        usable = np.linalg.norm(normals, axis=1) > 0.5
        inside = [_inside(place, scan, setup) for place in places]
        usable &= np.array(inside) >= LEAST_INSIDE
        places, depths_nm, normals = places[usable], depths_nm[usable], normals[usable]
        for depth_nm in _depths(mask, own)[: len(places)]:
            misfit = np.maximum(np.abs(depths_nm - depth_nm), setup.voxel_nm)
            best = int(np.argmin(misfit))
            depths_nm[best] = np.inf
            drawn.append(
                _particle(source, places[best], normals[best], len(drawn), seed, "control")
            )
    return drawn


def _depths(mask: Path, particles: Sequence[Particle]) -> Array:
    with volumes.open_volume(mask, "distance_nm") as distance_nm:
        last = np.array(distance_nm.shape) - 1
        spots = [np.clip(np.rint(p.centre).astype(int), 0, last) for p in particles]
        found = [distance_nm.data[tuple(spot)] for spot in spots]
    return np.nan_to_num(np.array(found, np.float64))


def _draw(mask: Path, number: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Draw mask voxels without replacement: places, distances in nm, normals."""
    with volumes.open_volume(mask) as chosen:
        slabs = volumes.slabs(chosen.shape[0])
        counts = [int(np.count_nonzero(chosen.data[slab])) for slab in slabs]
    total = sum(counts)
    ranks = np.sort(rng.choice(total, min(number, total), replace=False))
    rows = list(_mask_voxels(mask, ranks, counts))
    table = rng.permutation(np.concatenate([np.empty((0, 7)), *rows]))
    return table[:, :3], np.nan_to_num(table[:, 3]), table[:, 4:]


def _mask_voxels(
    mask: Path, ranks: npt.NDArray[np.int64], counts: Sequence[int]
) -> Iterator[Array]:
    """Look up mask voxels by rank, slab by slab: z, y, x, distance, normal."""
    first = 0
    with (
        volumes.open_volume(mask) as chosen,
        volumes.open_volume(mask, "distance_nm") as distance_nm,
        volumes.open_volume(mask, "normals") as normals,
    ):
        for slab, count in zip(volumes.slabs(chosen.shape[0]), counts, strict=True):
            own = ranks[(ranks >= first) & (ranks < first + count)] - first
            first += count
            spots = np.argwhere(chosen.data[slab])[own]
            depths = np.asarray(distance_nm.data[slab], np.float64)[tuple(spots.T)]
            axes = normals.data[:, slab][(slice(None), *spots.T)].T / 127.0
            yield np.column_stack([spots + np.array([slab.start, 0, 0]), depths, axes])


def _cut(particle: Particle, rotation: Array, scans: Sequence[Volume], setup: Setup) -> Box:
    scan = scans[particle.source]
    box = crop(
        scan, particle.centre, rotation, box_px=setup.box_px, voxel_nm=setup.voxel_nm
    )
    return -box if setup.invert else box


def summed(particles: Sequence[Particle], scans: Sequence[Volume], setup: Setup) -> Sums:
    """Sum spectra and weights, every particle once for each turn of the symmetry."""
    shape = (setup.box_px, setup.box_px, setup.box_px // 2 + 1)
    signal, weight = np.zeros(shape, np.complex64), np.zeros(shape, np.float32)
    for particle in particles:
        for copy in range(setup.symmetry):
            rotation = particle.frame @ turn(360 * copy / setup.symmetry)
            seen = wedge(setup.box_px, rotation, setup.tilt_max_deg) / setup.symmetry
            signal += seen * _spectrum(_cut(particle, rotation, scans, setup))
            weight += seen
    return Sums(signal, weight)


def _aligned(
    particles: Sequence[Particle], scans: Sequence[Volume], setup: Setup
) -> list[Particle]:
    """Fit every particle to the average of all."""
    if not particles:
        return []
    whole = summed(particles, scans, setup).map(setup.regularisation)
    turned = _turned(whole, setup)
    fitted = []
    for particle in particles:
        voxel_nm = np.asarray(scans[particle.source].voxel_nm)
        box = _cut(particle, particle.frame, scans, setup)
        seen = wedge(setup.box_px, particle.frame, setup.tilt_max_deg)
        moved = particle.frame.T @ ((particle.centre - particle.start) * voxel_nm)
        best, shift = _fit(box, seen, turned, moved / setup.voxel_nm, setup)
        fitted.append(_moved(particle, best, shift, voxel_nm, setup))
    return fitted


def _registered(
    particles: Sequence[Particle],
    target: Sequence[Particle],
    scans: Sequence[Volume],
    setup: Setup,
) -> list[Particle]:
    """Move a half as one body onto the other, so that the two can be compared."""
    body, other = (
        summed(half, scans, setup).map(setup.regularisation) for half in (particles, target)
    )
    every = np.ones((setup.box_px, setup.box_px, setup.box_px // 2 + 1), np.float32)
    best, shift = _fit(body, every, _turned(other, setup), np.zeros(3), setup)
    return [
        _moved(particle, best, shift, np.asarray(scans[particle.source].voxel_nm), setup)
        for particle in particles
    ]


def _moved(
    particle: Particle, angle_deg: float, shift_px: Array, voxel_nm: Array, setup: Setup
) -> Particle:
    step = particle.frame @ shift_px * setup.voxel_nm / voxel_nm
    return replace(
        particle, centre=particle.centre + step, angle_deg=particle.angle_deg + angle_deg
    )


def _turned(whole: Box, setup: Setup) -> list[npt.NDArray[np.complex64]]:
    """Spectra of the masked, low-passed reference at every in-plane angle."""
    smooth = np.asarray(_inverse(_spectrum(whole) * setup.passing, setup.box_px))
    still = Volume(smooth, (1.0, 1.0, 1.0))
    middle = np.full(3, setup.box_px // 2)
    spectra = []
    for angle_deg in setup.angles_deg:
        box = crop(still, middle, turn(angle_deg).T, box_px=setup.box_px, voxel_nm=1.0)
        spectra.append(_spectrum(setup.mask * box) * setup.passing)
    return spectra


def _fit(
    box: Box,
    seen: Box,
    turned: Sequence[npt.NDArray[np.complex64]],
    moved_px: Array,
    setup: Setup,
) -> tuple[float, Array]:
    """Return the turn (degrees) and the shift (voxels) that fit a box to a reference.

    The score is the correlation within the measured frequencies: for every angle its
    maximum over the shifts that keep the particle within reach of its pick.
    """
    reach = np.linalg.norm(_offsets(setup.box_px) + moved_px, axis=-1)
    allowed = reach <= setup.max_shift_nm / setup.voxel_nm
    allowed[(setup.box_px // 2,) * 3] = True
    spectrum, many = _spectrum(box) * seen, _multiplicity(setup.box_px)
    scores, shifts = [], []
    for reference in turned:
        overlap = _inverse(spectrum * reference.conj(), setup.box_px)
        best = int(np.argmax(np.where(allowed, overlap, -np.inf)))
        norm = np.sqrt((many * np.abs(reference * seen) ** 2).sum())
        scores.append(overlap.ravel()[best] / (norm or 1.0))
        shifts.append(np.array(np.unravel_index(best, overlap.shape)) - setup.box_px // 2)
    winner = int(np.argmax(scores))
    return float(setup.angles_deg[winner]), shifts[winner].astype(np.float64)


def _result(
    maps: Maps, control: Maps, setup: Setup, n_picks: int, skipped: dict[str, int]
) -> Result:
    steps = np.arange(1, setup.box_px // 2 + 1)
    frequency = steps / (setup.box_px * (setup.voxel_nm or 1.0))
    curves = [
        shell_correlation(setup.mask * each.half1, setup.mask * each.half2)
        for each in (maps, control)
    ]
    rows = [
        dict(zip(FSC_COLUMNS, map(_number, row), strict=True))
        for row in zip(frequency, *curves, strict=True)
    ]
    summary: dict[str, Any] = {
        **_counts(maps, control, setup, n_picks, skipped),
        **_agreement(maps, control, setup),
        "resolution_fsc_143_nm": resolution_nm(frequency, curves[0], 0.143),
        "resolution_fsc_500_nm": resolution_nm(frequency, curves[0], 0.5),
        "control_resolution_fsc_143_nm": resolution_nm(frequency, curves[1], 0.143),
        "control_resolution_fsc_500_nm": resolution_nm(frequency, curves[1], 0.5),
    }
    summary["reasons"] = {
        name: _reason(name, maps, control)
        for name, value in summary.items()
        if value is None
    }
    return Result(maps, control, setup.voxel_nm, rows if setup.voxel_nm else [], summary)


def _counts(
    maps: Maps, control: Maps, setup: Setup, n_picks: int, skipped: dict[str, int]
) -> dict[str, Any]:
    return {
        "n_picks": n_picks,
        "n_used": sum(maps.sizes),
        **skipped,
        "n_half1": maps.sizes[0],
        "n_half2": maps.sizes[1],
        "n_control": sum(control.sizes),
        "voxel_nm": setup.voxel_nm or None,
        "box_px": setup.box_px,
        "symmetry": setup.symmetry,
        "iterations": setup.iterations,
        "mean_shift_nm": _number(maps.shifts_nm.mean()) if sum(maps.sizes) else None,
    }


def _agreement(maps: Maps, control: Maps, setup: Setup) -> dict[str, float | None]:
    pairs = {
        "half_correlation": (maps.half1, maps.half2),
        "control_half_correlation": (control.half1, control.half2),
        "control_correlation": (maps.whole, control.whole),
    }
    return {
        name: _number(correlation(one, other, setup.mask))
        for name, (one, other) in pairs.items()
    }


def _reason(name: str, maps: Maps, control: Maps) -> str:
    used = sum(maps.sizes)
    if name == "voxel_nm":
        return "no tomogram"
    if not used:
        return "no pick to average"
    if name.startswith("control") and not sum(control.sizes):
        return "no place in the membrane mask for a control"
    if used < 2 or (name.startswith("control") and sum(control.sizes) < 2):
        return "two halves need two particles"
    return "the halves do not agree at any frequency"


def _number(value: float | np.floating[Any]) -> float | None:
    return float(value) if np.isfinite(value) else None


def _offsets(box_px: int) -> Array:
    """Offsets (z, y, x) of a box's voxels from its origin, shape (B, B, B, 3)."""
    axis = np.arange(box_px, dtype=np.float64) - box_px // 2
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)


def _frequencies(side: int) -> Array:
    """Frequencies (z, y, x) in 1/voxel of a half spectrum, shape (B, B, B // 2 + 1, 3)."""
    axis, short = np.fft.fftfreq(side), np.fft.rfftfreq(side)
    return np.stack(np.meshgrid(axis, axis, short, indexing="ij"), axis=-1)


def _multiplicity(side: int) -> Array:
    """How often each column of a half spectrum stands in the whole, shape (B // 2 + 1,)."""
    many = np.full(side // 2 + 1, 2.0)
    many[0] = 1.0
    many[-1] = 1.0 if side % 2 == 0 else 2.0
    return many


def _spectrum(box: Box) -> npt.NDArray[np.complex64]:
    """Half spectrum with the origin of the box at its voxel B // 2."""
    whole = fft.rfftn(fft.ifftshift(np.asarray(box, np.float32)), workers=1)
    return np.asarray(whole, np.complex64)


def _inverse(spectrum: npt.NDArray[Any], side: int) -> Box:
    box = fft.irfftn(np.asarray(spectrum, np.complex64), s=(side,) * 3, workers=1)
    return np.asarray(fft.fftshift(box), np.float32)
