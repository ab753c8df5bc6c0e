"""A minicell in ice, before any microscope: density, labels, what stands where.

The first voxel of the field of view is centred at 0 nm. Protein is 1 (2.5 V above ice),
ice 0; densities combine by maximum, never by sum.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from tomoglean.provenance import Refused
from tomoglean.simulators import waves
from tomoglean.simulators.fields import Float, coverage
from tomoglean.simulators.minicell import crowd, sites
from tomoglean.simulators.minicell.bodies import Body, Site, Vector, bilayer, insert
from tomoglean.simulators.minicell.decoys import RIBOSOME_DEPTH_NM, SINGLE_RIBOSOME, Decoys
from tomoglean.simulators.minicell.envelope import Cell, Envelope, draw
from tomoglean.simulators.minicell.sites import Machines
from tomoglean.simulators.waves import Waves
from tomoglean.volumes import random

LABELS = (
    *("ice", "outer_membrane", "peptidoglycan", "inner_membrane", "periplasm", "cytosol"),
    *("t3ss", "motor", "map", "ribosome", "array", "vesicle", "base_without_needle"),
    *("base_without_platform", "fold", "gold", "ice_lump"),
)
CODES = {name: code for code, name in enumerate(LABELS)}
LABEL_OF_KIND = {"ice": "ice_lump"}
SHEET_NM, FAR_NM, ICE_SPARE_NM = 6.0, 1e3, 40.0


class _Grid(TypedDict):
    voxel_nm: float
    margin_px: int


@dataclass(frozen=True)
class Field:
    """Settings: what is reconstructed; see the schema for units."""

    shape_px: Sequence[int]
    voxel_nm: float
    cell: bool
    ice_nm: float


@dataclass(frozen=True)
class Scene:
    """A specimen in ice.

    Attributes
    ----------
    density
        Float32 of shape (Z, Y, X + 2 margin_px): what lies beside the field of view along
        x is projected into it at high tilt.
    margin_px
        Index along x at which the field of view begins.
    voxel_nm, ice_nm
        Edge of the voxels, and thickness of the ice.
    labels
        Codes (`LABELS`), uint8 of shape (Z, Y, X).
    sites
        Machines and decoys inside the field of view, in nm.
    envelope
        The cell's; None where there is only ice.
    bodies
        What stands at a site of each kind.
    """

    density: Float
    margin_px: int
    voxel_nm: float
    ice_nm: float
    labels: npt.NDArray[np.uint8]
    sites: list[Site]
    envelope: Envelope | None
    bodies: Mapping[str, Body]

    def distances(self, slab: slice = slice(None)) -> tuple[Float, Float]:
        """Signed distances in nm to the mid-surfaces of OM and IM; positive outside.

        Parameters
        ----------
        slab
            Slices along z.

        Returns
        -------
        outer, inner
            Float32 arrays (slices, Y, X); 1000 everywhere where there is no cell.
        """
        rows = range(*slab.indices(self.labels.shape[0]))
        shape = (len(rows), *self.labels.shape[1:])
        both = np.full((2, *shape), FAR_NM, np.float32)
        if self.envelope:
            y, x = (np.arange(n) * self.voxel_nm for n in shape[1:])
            for index, row in enumerate(rows):
                both[:, index] = self.envelope.plane(row * self.voxel_nm, y, x)
        return both[0], both[1]

    @cached_property
    def inside(self) -> npt.NDArray[np.bool_]:
        """Voxels (Z, Y, X) of cell and envelope: up to 3 nm beyond the OM's mid-surface."""
        inside = np.zeros(self.labels.shape, bool)
        if self.envelope:
            for z, y, x in _planes(self.envelope, inside.shape, self.voxel_nm, 0):
                outer, _ = self.envelope.plane(
                    z * self.voxel_nm, _nm(y, self.voxel_nm), _nm(x, self.voxel_nm)
                )
                inside[z, y, x] = outer < SHEET_NM / 2
        return inside


def build(
    seed: int,
    name: str,
    *,
    field: Field,
    cell: Cell,
    machines: Machines,
    decoys: Decoys,
    margin_px: int = 0,
) -> Scene:
    """Put cell, machines, decoys and gold into the ice.

    Parameters
    ----------
    seed, name
        Together they key every random choice.
    field, cell, machines, decoys
        Settings, groups of the schema `phantom-minicell`.
    margin_px
        Voxels on both sides along x that are drawn beside the field of view. What stands
        in the field does not depend on it.

    Returns
    -------
    Scene
        Density, labels and sites.

    Raises
    ------
    Refused
        If the cell does not fit into the field, the sites not onto the cell, or a map
        cannot be read.
    """
    size_nm = np.array(field.shape_px) * field.voxel_nm
    envelope, standing = None, list[Site]()
    kinds = sites.bodies(machines)
    if field.cell:
        envelope = draw(seed, name, cell, size_nm=size_nm)
        envelope, standing = sites.in_envelope(
            seed, name, envelope, machines, decoys, size_nm
        )
    ice_nm = field.ice_nm or _ice_around(envelope, size_nm)
    standing += sites.in_ice(seed, name, envelope, decoys, size_nm=size_nm, ice_nm=ice_nm)
    depth, height, width = field.shape_px
    scene = Scene(
        density=np.zeros((depth, height, width + 2 * margin_px), np.float32),
        margin_px=margin_px,
        voxel_nm=field.voxel_nm,
        ice_nm=ice_nm,
        labels=np.zeros((depth, height, width), np.uint8),
        sites=[site for site in standing if _within(site, size_nm - field.voxel_nm)],
        envelope=envelope,
        bodies=kinds,
    )
    if envelope:
        _draw_cell(seed, name, scene, cell, envelope)
    for site in standing:
        _stand(scene, site)
    return scene


def _within(site: Site, last_nm: Vector) -> bool:
    """Whether a site lies between the centres of the first and the last voxel."""
    return bool(np.all(site.place_nm >= 0) and np.all(site.place_nm <= last_nm))


def _ice_around(envelope: Envelope | None, size_nm: Vector) -> float:
    """Thickness of the ice: the cell's and a little more."""
    if envelope is None:
        return float(size_nm[0])
    return float(2 * (envelope.shape.reach_nm()[0] + envelope.gap_nm / 2) + ICE_SPARE_NM)


def _stand(scene: Scene, site: Site) -> None:
    """Draw what stands at a site and label it."""
    where, mask = insert(scene.density, site, scene.bodies[site.kind], **_grid(scene))
    if not mask.any():
        return
    z, y, x = where
    first, last = np.clip(
        [x.start - scene.margin_px, x.stop - scene.margin_px], 0, scene.labels.shape[2]
    )
    shown = mask[:, :, first + scene.margin_px - x.start : last + scene.margin_px - x.start]
    scene.labels[z, y, first:last][shown] = CODES[LABEL_OF_KIND.get(site.kind, site.kind)]


def _draw_cell(seed: int, name: str, scene: Scene, cell: Cell, envelope: Envelope) -> None:
    """Draw envelope, ribosomes and proteins."""
    wall = _Wall.draw(seed, name, cell)
    shape, voxel_nm, margin = scene.density.shape, scene.voxel_nm, scene.margin_px
    for z, rows, columns in _planes(envelope, shape, voxel_nm, margin):
        _draw_plane(scene, cell, envelope, wall, z, rows, columns)
    _fill_cell(seed, name, scene, cell, envelope)


def _fill_cell(seed: int, name: str, scene: Scene, cell: Cell, envelope: Envelope) -> None:
    """Draw ribosomes and proteins, clear of what stands in the envelope."""
    grid, bounds = _grid(scene), _bounds(scene, envelope)
    standing = [(site, scene.bodies[site.kind]) for site in envelope.dimples]
    ribosomes = crowd.ribosomes(
        seed, name, envelope, cell.ribosomes_per_um3, standing, bounds
    )
    for site in ribosomes:
        insert(scene.density, site, SINGLE_RIBOSOME, **grid)
    middles = [site.place_nm - RIBOSOME_DEPTH_NM * site.normal for site in ribosomes]
    places, radii = crowd.proteins(
        seed, name, envelope, cell, standing, np.reshape(middles, (-1, 3)), bounds
    )
    crowd.stamp(scene.density, places, radii, **grid)


def _bounds(scene: Scene, envelope: Envelope) -> tuple[Vector, Vector]:
    """Corners of the box that is filled: the cell's, within three fields along x."""
    size, reach = np.array(scene.labels.shape) * scene.voxel_nm, envelope.reach_nm()
    beside = np.array([0, 0, size[2]]) + 20
    low = np.maximum(envelope.centre_nm - reach, -beside)
    return low, np.minimum(envelope.centre_nm + reach, size + beside)


def _grid(scene: Scene) -> _Grid:
    return {"voxel_nm": scene.voxel_nm, "margin_px": scene.margin_px}


def _planes(
    envelope: Envelope, shape: Sequence[int], voxel_nm: float, margin_px: int
) -> Iterator[tuple[int, slice, slice]]:
    """Slices of the box around a cell, in a volume with a margin on both sides of x."""
    shift = np.array([0, 0, margin_px])
    reach = envelope.reach_nm()
    low = np.floor((envelope.centre_nm - reach) / voxel_nm).astype(int) + shift
    high = np.ceil((envelope.centre_nm + reach) / voxel_nm).astype(int) + shift + 1
    first, last = np.clip(low, 0, shape), np.clip(high, 0, shape)
    for z in range(int(first[0]), int(last[0])):
        yield z, slice(int(first[1]), int(last[1])), slice(int(first[2]), int(last[2]))


def _nm(voxels: slice, voxel_nm: float, first: int = 0) -> Vector:
    """Coordinates of voxels along an axis, where `first` is at 0 nm."""
    return np.arange(voxels.start - first, voxels.stop - first) * voxel_nm


@dataclass(frozen=True)
class _Wall:
    """Thickness and depth of the peptidoglycan, in nm, as they vary from place to place."""

    thick: Waves
    depth: Waves
    mean_nm: float
    mean_depth_nm: float

    @staticmethod
    def draw(seed: int, name: str, cell: Cell) -> "_Wall":
        rng = random(seed, name, "wall")
        (mean, spread), (low, high) = cell.wall_nm, cell.wall_depth_nm
        thick = waves.band(rng, 40.0, number=24, spread=spread)
        depth = waves.band(rng, 80.0, number=24, spread=(high - low) / 4)
        return _Wall(thick, depth, mean, (low + high) / 2)


def _draw_plane(
    scene: Scene,
    cell: Cell,
    envelope: Envelope,
    wall: _Wall,
    z: int,
    rows: slice,
    columns: slice,
) -> None:
    """Membranes and wall of one slice, and its compartments."""
    voxel_nm = scene.voxel_nm
    y, x = _nm(rows, voxel_nm), _nm(columns, voxel_nm, scene.margin_px)
    outer, inner = envelope.plane(z * voxel_nm, y, x)
    part = scene.density[z, rows, columns]
    for distance in (outer, inner):
        near = np.abs(distance) < 5 + voxel_nm
        lipid = bilayer(distance[near], voxel_nm, cell.heads_nm)
        part[near] = np.maximum(part[near], np.float32(cell.heads_density) * lipid)
    off = np.abs(outer + wall.mean_depth_nm + wall.depth.plane(z * voxel_nm, y, x))
    half = np.maximum(wall.mean_nm + wall.thick.plane(z * voxel_nm, y, x), 1.0) / 2
    share = coverage((off - half) / np.float32(voxel_nm))
    np.maximum(part, np.float32(cell.wall_density) * share, out=part)
    _label_plane(scene, z, rows, columns, outer, inner, share)


def _label_plane(
    scene: Scene,
    z: int,
    rows: slice,
    columns: slice,
    outer: Float,
    inner: Float,
    wall: Float,
) -> None:
    codes = np.zeros((len(outer), len(outer[0])), np.uint8)
    codes[outer < 0] = CODES["periplasm"]
    codes[inner < 0] = CODES["cytosol"]
    codes[wall >= 0.5] = CODES["peptidoglycan"]
    codes[np.abs(outer) <= SHEET_NM / 2] = CODES["outer_membrane"]
    codes[np.abs(inner) <= SHEET_NM / 2] = CODES["inner_membrane"]
    first = columns.start - scene.margin_px
    left, right = max(first, 0), min(first + codes.shape[1], scene.labels.shape[2])
    if right > left:
        scene.labels[z, rows, left:right] = codes[:, left - first : right - first]


def settings_of(groups: Mapping[str, Any]) -> dict[str, Any]:
    """Groups of filled settings as what `build` takes.

    Raises
    ------
    Refused
        If machines are to be decoys too.
    """
    machines, decoys = Machines(**groups["machines"]), Decoys(**groups["decoys"])
    if machines.kind == "t3ss" and "t3ss" in decoys.kinds:
        raise Refused(
            "simulate: decoys.kinds: expected none of machines.kind, found t3ss; take it"
            " out"
        )
    return {
        "field": Field(**groups["field"]),
        "cell": Cell(**groups["cell"]),
        "machines": machines,
        "decoys": decoys,
    }
