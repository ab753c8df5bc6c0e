"""What a scan of the specimen should be measured to hold, from its functions alone.

No voxel takes part. Volumes of the implant are integrals over the tables of its surfaces;
surfaces are sums over their nodes; bone, which is a level set of a random field, is sampled
by scrambled Sobol points, and the standard error of independent scramblings is told.
Distances are those to the nearest of the surfaces' nodes (at most 2 um apart). Keys are
those of `tomoglean.measures` where the quantity is the same.
"""

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree
from scipy.stats import qmc

from tomoglean.simulators.implant.corrosion import WEEKS_PER_YEAR
from tomoglean.simulators.implant.specimen import Specimen, areas_um2, rows_within
from tomoglean.volumes import random

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

SCRAMBLES = 8
MOST_NODES = 400_000
MOST_BALLS = 30_000
RADII = 8
BALL_LEVELS = (0.25, 0.4, 0.5, 0.6, 0.75)


def volume_um3(specimen: Specimen, radius_um: Array) -> float:
    """Volume inside a height field over the screw's axis, within the field of view.

    Parameters
    ----------
    specimen
        Tells lattice, pose and field of view.
    radius_um
        Radius at the nodes, shape (rows, columns), in um.

    Returns
    -------
    float
        Volume in um3. The sides of the field cut every radius where they cross it, its
        top and bottom cut the piece of the axis that a row stands for.
    """
    field, nodes, pose = specimen.field, specimen.corroded.nodes, specimen.pose
    none = np.zeros((1, 1))
    outward = pose.placed(none, nodes.turns, none + 1) - pose.centre_um
    origins = pose.placed(nodes.s_um, none, none)
    low, high = np.zeros(radius_um.shape), np.maximum(radius_um, 0.0)
    for axis in (1, 2):
        slope, start, half = outward[..., axis], origins[..., axis], field.size_um[axis] / 2
        steep = np.where(np.abs(slope) < 1e-12, 1e-12, slope)
        ends = np.sort([(-half - start) / steep, (half - start) / steep], axis=0)
        low, high = np.maximum(low, ends[0]), np.minimum(high, ends[1])
    total, long_um = 0.0, np.maximum(high - low, 0.0)
    for place, weight in zip(*np.polynomial.legendre.leggauss(RADII), strict=True):
        rho = low + long_um * (place + 1) / 2
        share = rows_within(origins[..., 0] + rho * outward[..., 0], nodes, pose, field)
        total += weight / 2 * float(np.sum(share * rho * long_um))
    return total * nodes.step_um * nodes.angle_step


class Surface:
    """Nodes of one height field as points of a surface within the field of view.

    Attributes
    ----------
    every
        All nodes of the table as points (N, 3) in um: the body goes on beyond the field.
    kept
        Which of them lie within the field of view.
    areas_um2
        Area that each of these stands for.
    """

    def __init__(self, specimen: Specimen, radius_um: Array) -> None:
        nodes, pose = specimen.corroded.nodes, specimen.pose
        areas = areas_um2(radius_um, nodes, pose, specimen.field)
        self.area_um2 = float(areas.sum())
        thin = _thin(specimen)
        places = pose.placed(nodes.s_um, nodes.turns, np.maximum(radius_um, 0.0))[thin]
        self.kept = areas[thin] > 0
        self.every: Floats = places.reshape(-1, 3)
        self.points: Floats = places[self.kept]
        self.areas_um2: Floats = areas[thin][self.kept]

    @cached_property
    def tree(self) -> KDTree:
        """All nodes, to be asked for the nearest one."""
        return KDTree(self.every)

    def distance_um(self, points_um: Array) -> Floats:
        """Distance in um of points (N, 3) to the nearest node."""
        return np.asarray(self.tree.query(points_um)[0])


def _thin(specimen: Specimen) -> tuple[slice, slice]:
    """Nodes about 2 um apart, and not too many of them."""
    nodes = specimen.corroded.nodes
    many = int(np.ceil(np.sqrt(nodes.rows * nodes.columns / MOST_NODES)))
    fine = max(1, int(2.0 / nodes.step_um))
    return np.s_[:: max(many, fine), :: max(many, fine)]


def truth(
    specimen: Specimen,
    *,
    contact_um: float | None = None,
    curve_um: Array | None = None,
    shell_edges_um: Array | None = None,
    samples: int = 1 << 13,
) -> dict[str, Any]:
    """Tell the quantities of a specimen within its field of view.

    Parameters
    ----------
    specimen
        The specimen.
    contact_um
        Widest gap that counts as contact, in um; None for one voxel.
    curve_um
        Gaps at which contact is told; None for 0 to 10 voxels.
    shell_edges_um
        Rising distances from the layer in um between which the bone volume fraction is
        told; None for 0 to 500 um by 25 um, as far as the field of view reaches.
    samples
        Sobol points of each scrambling, a power of 2.

    Returns
    -------
    dict
        Values with their unit in the key; one that is not defined here is None.
    """
    voxel_um = specimen.field.voxel_um
    surfaces = {
        "initial": Surface(specimen, specimen.corroded.initial_um),
        "metal": Surface(specimen, specimen.corroded.metal_um),
        "implant": Surface(specimen, specimen.corroded.layer_um),
    }
    curve = voxel_um * np.arange(11.0) if curve_um is None else np.asarray(curve_um)
    edges = np.arange(0, 501.0, 25.0) if shell_edges_um is None else shell_edges_um
    gap_um = voxel_um if contact_um is None else contact_um
    found = _degradation(specimen, surfaces)
    found |= _depth(surfaces) | _thickness(specimen, surfaces)
    found |= _cross_section(specimen)
    found |= _contact(specimen, surfaces["implant"], gap_um, curve)
    return found | _tissue(specimen, surfaces["implant"], np.asarray(edges), samples)


def _degradation(specimen: Specimen, surfaces: dict[str, Surface]) -> dict[str, Any]:
    corroded, weeks = specimen.corroded, specimen.corrosion.weeks
    initial, metal, layer = (
        volume_um3(specimen, radius)
        for radius in (corroded.initial_um, corroded.metal_um, corroded.layer_um)
    )
    initial_um2, metal_um2 = surfaces["initial"].area_um2, surfaces["metal"].area_um2
    forms = {
        "initial": initial_um2,
        "present": metal_um2,
        "mean": (initial_um2 + metal_um2) / 2,
    }
    per_year = 1e-3 * WEEKS_PER_YEAR / weeks if weeks else 0.0
    rates = {
        f"degradation_rate_{form}_area_mm_per_year": (
            (initial - metal) / area_um2 * per_year if weeks and area_um2 else None
        )
        for form, area_um2 in forms.items()
    }
    return {
        "initial_volume_mm3": initial * 1e-9,
        "residual_metal_mm3": metal * 1e-9,
        "degradation_layer_mm3": (layer - metal) * 1e-9,
        "volume_loss_mm3": (initial - metal) * 1e-9,
        "volume_loss_percent": 100 * (initial - metal) / initial,
        "initial_area_mm2": initial_um2 * 1e-6,
        "metal_area_mm2": metal_um2 * 1e-6,
        "implant_area_mm2": surfaces["implant"].area_um2 * 1e-6,
        "degradation_depth_mm": (initial - metal) / initial_um2 * 1e-3,
        **rates,
        "asked_loss_um": specimen.corrosion.loss_um,
        "layer_thickness_mean_um": (layer - metal) / metal_um2 if metal_um2 else None,
    }


def _depth(surfaces: dict[str, Surface]) -> dict[str, Any]:
    """Distance from the initial surface to the metal left."""
    initial = surfaces["initial"]
    depth = surfaces["metal"].distance_um(initial.points)
    mean = float(np.average(depth, weights=initial.areas_um2))
    return {
        "local_depth_mean_um": mean,
        "local_depth_p95_um": _quantile(depth, initial.areas_um2, 0.95),
        "local_depth_max_um": float(depth.max()),
        "pitting_factor": float(depth.max() / mean) if mean > 0 else None,
    }


def _thickness(specimen: Specimen, surfaces: dict[str, Surface]) -> dict[str, Any]:
    """Local thickness of the layer: the largest ball inside it that holds a point."""
    keys = [f"layer_thickness_local_{k}_um" for k in ("mean", "sem", "p5", "p95", "max")]
    points = _inside_layer(specimen)
    if not len(points):
        return dict.fromkeys(keys)
    centres, radii = _balls(specimen, surfaces)
    thick = np.full(len(points), 0.0)
    held = KDTree(points).query_ball_point(centres, radii)
    for members, radius in zip(held, radii, strict=True):
        thick[members] = np.maximum(thick[members], 2 * radius)
    thick = thick[thick > 0]
    spread = float(thick.std() / np.sqrt(len(thick)))
    rest = np.quantile(thick, [0.05, 0.95, 1.0]).tolist()
    return dict(zip(keys, [float(thick.mean()), spread, *rest], strict=True))


def _balls(specimen: Specimen, surfaces: dict[str, Surface]) -> tuple[Floats, Floats]:
    """The largest ball of each ray through the layer that touches both of its surfaces."""
    some = slice(None, None, -(-len(surfaces["metal"].every) // MOST_BALLS))
    metal = surfaces["metal"].every[some]
    through = surfaces["implant"].every[some] - metal
    best, radii = metal, np.zeros(len(metal))
    for share in BALL_LEVELS:
        centres = metal + share * through
        size = np.minimum(*(surfaces[k].distance_um(centres) for k in ("metal", "implant")))
        best = np.where((size > radii)[:, None], centres, best)
        radii = np.maximum(size, radii)
    near = np.all(np.abs(best) < specimen.field.size_um / 2 + radii[:, None], axis=1)
    return best[near], radii[near]


def _inside_layer(specimen: Specimen, number: int = 4096) -> Floats:
    """Points spread evenly over the layer within the field of view, shape (N, 3)."""
    corroded, nodes = specimen.corroded, specimen.corroded.nodes
    inner, outer = np.maximum(corroded.metal_um, 0), np.maximum(corroded.layer_um, 0)
    rings = np.cumsum((outer**2 - inner**2).clip(0))
    if rings[-1] < 1e-6:
        return np.empty((0, 3))
    draws = qmc.Sobol(2, rng=random(0, "quantities", "layer")).random(number)
    place = np.searchsorted(rings, draws[:, 0] * rings[-1])
    row, column = np.divmod(np.minimum(place, rings.size - 1), nodes.columns)
    low, high = inner[row, column] ** 2, outer[row, column] ** 2
    rho = np.sqrt(low + draws[:, 1] * (high - low))
    points = specimen.pose.placed(nodes.s_um[row, 0], nodes.turns[0, column], rho)
    kept: Floats = points[_within(specimen, points)]
    return kept


def _cross_section(specimen: Specimen) -> dict[str, Any]:
    """Least area of metal across the axis, of all that lie in the field of view whole."""
    corroded, nodes = specimen.corroded, specimen.corroded.nodes
    places = specimen.pose.placed(nodes.s_um, nodes.turns, corroded.initial_um)
    whole = _within(specimen, places).all(axis=1)
    if not whole.any():
        return {"least_cross_section_mm2": None, "least_cross_section_percent": None}
    now, before = (
        np.sum(np.maximum(radius, 0) ** 2, axis=1)[whole] * nodes.angle_step / 2
        for radius in (corroded.metal_um, corroded.initial_um)
    )
    least, whole_least = float(now.min()), float(before.min())
    return {
        "least_cross_section_mm2": least * 1e-6,
        "least_cross_section_percent": 100 * least / whole_least,
        "least_cross_section_at_um": float(nodes.s_um[whole, 0][now.argmin()]),
    }


def _contact(
    specimen: Specimen, layer: Surface, gap_um: float, curve_um: Floats
) -> dict[str, Any]:
    """Share of the layer's surface that has bone within a distance.

    Known up to the widest gap that new bone leaves; beyond it None, for there the
    trabeculae begin, and their nearest point is not a function of the surface.
    """
    gaps, areas = contact_gaps(specimen, layer)
    facing = float(areas.sum() / layer.areas_um2.sum() * layer.area_um2)
    known = specimen.bone.gap_um

    def percent(limit: float) -> float | None:
        if limit > known or not len(areas):
            return None
        return float(100 * areas[gaps <= limit].sum() / areas.sum())

    return {
        "bone_contact_gap_um": gap_um,
        "bone_contact_percent": percent(gap_um),
        "bone_contact_curve_gap_um": curve_um.tolist(),
        "bone_contact_curve_percent": [percent(limit) for limit in curve_um.tolist()],
        "bone_contact_facing_area_mm2": facing * 1e-6,
    }


def contact_gaps(specimen: Specimen, layer: Surface) -> tuple[Floats, Floats]:
    """Gap to new bone in um at the nodes of the layer, and the areas they stand for.

    Surface that faces gas has no bone in touch with it; surface beyond the block of tissue
    is left out.
    """
    thin, met, nodes = _thin(specimen), specimen.met, specimen.corroded.nodes
    bone = specimen.pose.placed(nodes.s_um, nodes.turns, met.inner_um)[thin]
    grown = met.shell_um[thin] > 0
    touch = (met.gap_um[thin] <= 0) & grown
    found = bone[grown]
    found = found[specimen.gas_um(found) > 0] if len(found) else found
    gaps = np.full(len(layer.points), np.inf)
    if len(found):
        gaps = np.asarray(KDTree(found).query(layer.points)[0])
    free = specimen.gas_um(layer.points) > 0
    gaps[touch[layer.kept] & free] = 0.0
    facing = np.hypot(*layer.points[:, 1:].T) < specimen.bone.block_um
    return gaps[facing], layer.areas_um2[facing]


def _tissue(
    specimen: Specimen, layer: Surface, edges_um: Floats, samples: int
) -> dict[str, Any]:
    """Volumes of bone, gas and marrow, and the share of bone in shells."""
    size = specimen.field.size_um
    tallies = []
    for scramble in range(SCRAMBLES):
        sobol = qmc.Sobol(3, rng=random(0, "quantities", "tissue", scramble))
        points = (sobol.random(samples) - 0.5) * size
        tallies.append(_tally(specimen, layer, points, edges_um) / samples)
    mean = np.mean(tallies, axis=0)
    error = np.std(tallies, axis=0, ddof=1) / np.sqrt(SCRAMBLES)
    names = "bone_mm3", "gas_mm3", "marrow_mm3", "air_mm3"
    volume = float(np.prod(size)) * 1e-9
    found = {name: float(mean[i] * volume) for i, name in enumerate(names)}
    found |= {f"{name}_sem": float(error[i] * volume) for i, name in enumerate(names)}
    bone, open_space = mean[4:].reshape(2, -1)
    shells = np.array(tallies)[:, 4:].reshape(SCRAMBLES, 2, -1)
    profile = [_ratio(b, t) for b, t in zip(bone, open_space, strict=True)]
    wobble = [_ratio_error(shells[:, 0, i], shells[:, 1, i]) for i in range(len(profile))]
    return {
        **found,
        "shell_edges_um": edges_um.tolist(),
        "bone_volume_fraction": _ratio(bone.sum(), open_space.sum()),
        "bone_volume_fraction_sem": _ratio_error(*shells.sum(axis=2).T),
        "bone_volume_fraction_profile": profile,
        "bone_volume_fraction_profile_sem": wobble,
    }


def _tally(specimen: Specimen, layer: Surface, points: Floats, edges_um: Floats) -> Floats:
    """Points in bone, gas, marrow and air, then in bone and in tissue by shell."""
    seen = specimen.at(points)
    open_space = (seen.layer > 0) & (seen.metal > 0)
    air = open_space & (seen.block > 0)
    gas = open_space & ~air & (seen.gas < 0)
    bone = open_space & ~air & ~gas & (seen.bone < 0)
    tissue = open_space & ~air
    distance = layer.distance_um(points[tissue])
    shells = [
        np.histogram(distance[chosen], edges_um)[0]
        for chosen in (bone[tissue], np.ones(len(distance), bool))
    ]
    counts = [np.count_nonzero(part) for part in (bone, gas, tissue & ~gas & ~bone, air)]
    return np.concatenate([counts, *shells]).astype(float)


def _within(specimen: Specimen, points: Array) -> Array:
    return np.asarray(np.all(np.abs(points) <= specimen.field.size_um / 2, axis=-1))


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole > 0 else None


def _ratio_error(part: Floats, whole: Floats) -> float | None:
    """Standard error of a ratio of means over independent scramblings."""
    if whole.sum() <= 0:
        return None
    off = part - whole * (part.sum() / whole.sum())
    return float(off.std(ddof=1) / np.sqrt(len(off)) / whole.mean())


def _quantile(values: Array, weights: Array, share: float) -> float:
    order = np.argsort(values, kind="stable")
    whole = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(whole, share * whole[-1])])
