"""Turn a labelled implant scan into the quantities of a degradation study.

Volumes are voxel counts, surfaces are meshes of a smoothed class mask, distances are
Euclidean between voxel centres. A scan is read in slabs along z within the bounding box of
the implant. The largest pieces in memory: for the shells, a slab with a margin as wide as
the outermost shell on every side, at about 60 bytes a voxel; for the closed implant, its
bounding box at 6 bytes a voxel.
"""

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.measure import marching_cubes

from tomoglean import volumes
from tomoglean.volumes import Volume

Box = tuple[slice, slice, slice]
Floats = npt.NDArray[np.float64]
Labels = Sequence[int]

SLAB = 64
TRUNCATE = 4.0
WEEKS_PER_YEAR = 365.25 / 7
FAR_UM = 1e9
SAME_UM = 1e-6


@dataclass(frozen=True)
class Faces:
    """Triangles of a surface.

    Attributes
    ----------
    centres
        Centres of shape (N, 3) in voxels, axes (z, y, x).
    normals
        Unit normals of shape (N, 3) in physical space, pointing out of the object.
    areas_um2
        Areas of shape (N,), in square micrometres.
    """

    centres: Floats
    normals: Floats
    areas_um2: Floats


@dataclass(frozen=True)
class Scan:
    """A labelled volume and what one walk through it told.

    Attributes
    ----------
    volume
        Labels of shape (Z, Y, X), uint8, 255 where unknown.
    counts
        Number of voxels of every label, shape (256,).
    boxes
        Bounding box of every label that occurs.
    """

    volume: Volume
    counts: npt.NDArray[np.int64]
    boxes: Mapping[int, Box]

    @functools.cached_property
    def voxel_um(self) -> Floats:
        """Voxel edges along z, y, x in micrometres."""
        return np.asarray(self.volume.voxel_nm) / 1e3

    def volume_mm3(self, labels: Labels) -> float:
        """Volume of some labels together, in cubic millimetres."""
        return self.cubic_mm(sum(int(self.counts[label]) for label in labels))

    def cubic_mm(self, voxels: int) -> float:
        """Volume of some voxels in mm3, rounded alike for all: equal ones leave no loss."""
        return voxels * float(np.prod(self.voxel_um)) * 1e-9

    def box(self, labels: Labels) -> Box | None:
        """Bounding box of some labels together; None if none of them occurs."""
        boxes = [self.boxes[label] for label in labels if label in self.boxes]
        if not boxes:
            return None
        z, y, x = (
            slice(min(b[axis].start for b in boxes), max(b[axis].stop for b in boxes))
            for axis in range(3)
        )
        return z, y, x


@dataclass
class Findings:
    """Values by name and, for every undefined one (None), the reason."""

    values: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def tell(self, name: str, value: Any) -> None:
        """Record a value."""
        self.values[name] = value

    def miss(self, reason: str, *names: str) -> None:
        """Record values that are not defined here."""
        for name in names:
            self.values[name] = None
            self.reasons[name] = reason


@dataclass(frozen=True)
class _Parts:
    """Labels of the parts of the scene; empty where there is no such class."""

    metal: Labels
    layer: Labels
    bone: Labels
    air: Labels

    @property
    def implant(self) -> Labels:
        return (*self.metal, *self.layer)


def measure(
    segmented: Volume,
    classes: Sequence[str],
    *,
    name: str = "",
    metal: str = "residual_metal",
    layer: str = "degradation_layer",
    bone: str = "bone",
    air: Sequence[str] = (),
    smoothing_px: float = 1.0,
    initial_volume_mm3: float | Mapping[str, float] | None = None,
    initial_area_mm2: float | Mapping[str, float] | None = None,
    weeks: float | Mapping[str, float] | None = None,
    contact_um: float | None = None,
    contact_curve_voxels: int = 10,
    shell_inner_um: float = 0.0,
    shell_outer_um: float = 500.0,
    shell_step_um: float = 25.0,
) -> dict[str, Any]:
    """Measure what is left of an implant and how it sits in the bone.

    The implant is metal and degradation layer together. Tissue is all that is neither
    implant nor named in `air`: labels rarely tell marrow from the medium around it.

    Parameters
    ----------
    segmented
        Labels of shape (Z, Y, X), uint8, 255 where unknown; may lie on disk.
    classes
        Class names; the place in the list is the label.
    name
        The volume's id, to look up settings given per volume.
    metal, layer, bone
        Which class is which.
    air
        Classes that are no tissue: air, embedding, gas.
    smoothing_px
        Sigma of the Gaussian over a class mask before it is meshed, in voxels.
    initial_volume_mm3, initial_area_mm2
        Implant before degradation in mm3 and mm2, one number or one a volume. Without a
        volume the closed implant (enclosed pores filled) stands for it.
    weeks
        Time since implantation in weeks, one number or one a volume.
    contact_um
        Widest gap that counts as bone contact in um; None for one voxel.
    contact_curve_voxels
        The curve of contact over the gap goes from 0 to so many voxels.
    shell_inner_um, shell_outer_um, shell_step_um
        Shells around the implant in which the bone volume fraction is taken, in um.

    Returns
    -------
    dict
        Values with their unit in the key; an undefined one is None, `reasons` says why.

    Raises
    ------
    ValueError
        If the shells have no extent.
    """
    if not 0 <= shell_inner_um < shell_outer_um:
        raise ValueError("the outer radius of the shells must exceed the inner one")
    scan = survey(segmented)
    parts = _Parts(*(_labels(classes, part) for part in ([metal], [layer], [bone], air)))
    found = Findings()
    _tell_shares(found, scan, classes)
    if segmented.z is not None:
        found.miss("a sparse set of slices has no volume and no surface", "volume_mm3")
        return {**found.values, "reasons": found.reasons}

    _tell_volumes(found, scan, classes, parts, _own(initial_volume_mm3, name))
    _tell_areas(found, scan, parts, smoothing_px)
    _tell_degradation(found, _own(initial_area_mm2, name), _own(weeks, name))
    edge_um = float(scan.voxel_um.max())
    curve_um: Floats = edge_um * np.arange(contact_curve_voxels + 1.0)
    _tell_contact(found, scan, parts, smoothing_px, contact_um or edge_um, curve_um)
    edges_um = np.arange(shell_inner_um, shell_outer_um, shell_step_um)
    _tell_shells(found, scan, parts, np.append(edges_um, shell_outer_um))
    return {**found.values, "reasons": found.reasons}


def survey(volume: Volume) -> Scan:
    """Count the voxels of every label and find where it lies, slab by slab."""
    counts = np.zeros(256, np.int64)
    boxes: dict[int, Box] = {}
    for slab in volumes.slabs(volume.shape[0], SLAB):
        block = np.asarray(volume.data[slab])
        counts += np.bincount(block.ravel(), minlength=256)
        for label, place in enumerate(ndimage.find_objects(block.astype(np.int32) + 1)):
            if place is not None:
                z, y, x = place
                moved = slice(z.start + slab.start, z.stop + slab.start), y, x
                boxes[label] = _union(boxes.get(label, moved), moved)
    return Scan(volume, counts, boxes)


def surface(scan: Scan, labels: Labels, *, smoothing_px: float = 1.0) -> Iterator[Faces]:
    """Mesh the surface of some labels together, slab by slab.

    Marching cubes (Lewiner et al. 2003) at level 0.5 of the Gaussian-smoothed mask. An
    object cut by the border of the volume is open there: the mask goes on as it ends, and
    of the cells that straddle the border, half counts (the surface is straight in them).

    Parameters
    ----------
    scan
        The labelled volume.
    labels
        Labels that form the object.
    smoothing_px
        Sigma of the Gaussian in voxels.

    Yields
    ------
    Faces
        Triangles of one slab; no triangle comes twice.
    """
    box = scan.box(labels)
    if box is None:
        return
    margin = math.ceil(TRUNCATE * smoothing_px) + 2
    box = _grown(box, [margin] * 3, scan.volume.shape)
    for cells in volumes.slabs(box[0].stop - box[0].start + 1, SLAB):
        # Cell c lies between slices c - 1 and c of the box; both ends are padded by one.
        low = max(box[0].start + cells.start - 1 - margin, box[0].start)
        high = min(box[0].start + cells.stop + margin, box[0].stop)
        mask = _mask(scan.volume, (slice(low, high), box[1], box[2]), labels)
        padded = np.pad(mask, 1, mode="edge").astype(np.float32)
        smooth = ndimage.gaussian_filter(
            padded, smoothing_px, mode="nearest", truncate=TRUNCATE
        )
        first = box[0].start + cells.start - low
        smooth = smooth[first : first + cells.stop - cells.start + 1]
        if smooth.min() < 0.5 < smooth.max():
            corner = low + first - 1, box[1].start - 1, box[2].start - 1
            yield _faces(smooth, np.asarray(corner), scan)


def area_um2(scan: Scan, labels: Labels, *, smoothing_px: float = 1.0) -> float:
    """Area of the surface of some labels together, in square micrometres."""
    parts = surface(scan, labels, smoothing_px=smoothing_px)
    return float(sum(faces.areas_um2.sum() for faces in parts))


def closed_voxels(scan: Scan, labels: Labels) -> int:
    """Count the voxels of an object, the pores that it encloses among them."""
    box = scan.box(labels)
    if box is None:
        return 0
    hollow = np.pad(~_mask(scan.volume, box, labels), 1, constant_values=True)
    pieces, _ = ndimage.label(hollow)
    return int(np.count_nonzero(pieces != pieces[0, 0, 0]))


def contact(
    scan: Scan,
    implant: Labels,
    bone: Labels,
    *,
    gaps_um: Floats,
    air: Labels = (),
    smoothing_px: float = 1.0,
) -> tuple[Floats, float]:
    """Find how much of an implant's surface lies within some distances of bone.

    The gap is the distance between voxel centres less one voxel, so 0 is touch. Surface
    that faces air, or that ends at the border of the volume, is left out.

    Parameters
    ----------
    scan
        The labelled volume.
    implant, bone, air
        Labels of the three.
    gaps_um
        Widest gap that counts as contact, shape (N,), in micrometres.
    smoothing_px
        Sigma of the Gaussian before meshing, in voxels.

    Returns
    -------
    touching_um2, facing_um2
        Area in contact at every gap, shape (N,), and area facing tissue.
    """
    touching = np.zeros(len(gaps_um))
    facing = 0.0
    for faces in surface(scan, implant, smoothing_px=smoothing_px):
        gap, kept = _gaps(scan, faces, bone, air, float(gaps_um.max()))
        areas = np.where(kept, faces.areas_um2, 0.0)
        facing += float(areas.sum())
        touching += [areas[gap <= limit + SAME_UM].sum() for limit in gaps_um]
    return touching, facing


def shells(
    scan: Scan, implant: Labels, bone: Labels, edges_um: Floats, *, air: Labels = ()
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Count bone and tissue voxels in shells around an implant.

    Parameters
    ----------
    scan
        The labelled volume.
    implant, bone, air
        Labels of the three.
    edges_um
        Rising distances of shape (N + 1,) in um; shell i holds edge i < d <= edge i + 1.

    Returns
    -------
    bone, tissue
        Number of voxels in every shell, shape (N,) each.
    """
    counts = np.zeros((2, len(edges_um) - 1), np.int64)
    box = scan.box(implant)
    if box is None:
        return counts[0], counts[1]
    reach = np.ceil(edges_um[-1] / scan.voxel_um).astype(int).tolist()
    box = _grown(box, reach, scan.volume.shape)
    for part in volumes.slabs(box[0].stop - box[0].start, max(SLAB, reach[0])):
        inner = slice(box[0].start + part.start, box[0].start + part.stop), box[1], box[2]
        outer = _grown(inner, [reach[0], 0, 0], scan.volume.shape)
        labels = np.asarray(scan.volume.data[outer])
        far_um = _distance_um(np.isin(labels, implant), scan.voxel_um)
        own = slice(inner[0].start - outer[0].start, inner[0].stop - outer[0].start)
        labels, far_um = labels[own], far_um[own]
        shell = np.searchsorted(edges_um, far_um - SAME_UM, side="left") - 1
        shell[np.isin(labels, [*implant, *air, volumes.IGNORE])] = -1
        for row, chosen in enumerate((np.isin(labels, bone), shell >= 0)):
            hit = shell[chosen & (shell >= 0) & (shell < counts.shape[1])]
            counts[row] += np.bincount(hit, minlength=counts.shape[1])
    return counts[0], counts[1]


def _faces(smooth: npt.NDArray[np.float32], corner: npt.NDArray[Any], scan: Scan) -> Faces:
    corners, triangles, _, _ = marching_cubes(smooth, 0.5, gradient_direction="descent")
    points = corners.astype(np.float64)[triangles] + corner
    edges = (points[:, 1:] - points[:, :1]) * scan.voxel_um
    # An odd permutation (z, y, x) of (x, y, z) turns the cross product round.
    crosses = np.cross(edges[:, 1], edges[:, 0])
    doubled = np.linalg.norm(crosses, axis=1)
    kept = doubled > 0
    centres, crosses, doubled = points[kept].mean(axis=1), crosses[kept], doubled[kept]
    last = np.asarray(scan.volume.shape) - 1
    beyond = ((centres < 0) | (centres > last)).sum(axis=1)
    return Faces(centres, crosses / doubled[:, None], doubled / 2 * 0.5**beyond)


def _gaps(
    scan: Scan, faces: Faces, bone: Labels, air: Labels, reach_um: float
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Gap to bone in um (exact up to the reach) and whether a face looks at tissue."""
    low = np.floor(faces.centres.min(axis=0)).astype(int)
    high = np.ceil(faces.centres.max(axis=0)).astype(int) + 1
    margin = (np.ceil(reach_um / scan.voxel_um).astype(int) + 2).tolist()
    span = slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])
    box = _grown(span, margin, scan.volume.shape)
    labels = np.asarray(scan.volume.data[box])
    corner = np.array([side.start for side in box])

    far_um = _distance_um(np.isin(labels, bone), scan.voxel_um)
    at_face_um = ndimage.map_coordinates(
        far_um, (faces.centres - corner).T, order=1, mode="nearest"
    )
    half_um = np.linalg.norm(faces.normals * scan.voxel_um, axis=1) / 2

    along = faces.normals / scan.voxel_um
    step = along / np.abs(along).max(axis=1, keepdims=True)
    within = np.clip(faces.centres, 0, np.array(scan.volume.shape) - 1)
    ahead = np.rint(within + step).astype(int)
    kept = np.all((ahead >= 0) & (ahead < scan.volume.shape), axis=1)
    place = np.clip(ahead - corner, 0, np.array(labels.shape) - 1)
    kept &= ~np.isin(labels[tuple(place.T)], air)
    return np.maximum(at_face_um - half_um, 0.0), kept


def _distance_um(mask: npt.NDArray[np.bool_], voxel_um: Floats) -> Floats:
    if not mask.any():
        return np.full(mask.shape, FAR_UM)
    far_um: Floats = ndimage.distance_transform_edt(~mask, sampling=voxel_um)
    return far_um


def _tell_shares(found: Findings, scan: Scan, classes: Sequence[str]) -> None:
    counts = {name: int(scan.counts[label]) for label, name in enumerate(classes)}
    total = sum(counts.values())
    found.tell("voxel_um", [float(edge) for edge in scan.voxel_um])
    found.tell("voxels", counts)
    if total:
        found.tell("share_percent", {c: 100 * n / total for c, n in counts.items()})
    else:
        found.miss("no voxel carries a label", "share_percent")


def _tell_volumes(
    found: Findings,
    scan: Scan,
    classes: Sequence[str],
    parts: _Parts,
    initial_mm3: float | None,
) -> None:
    every = {name: scan.volume_mm3([label]) for label, name in enumerate(classes)}
    found.tell("volume_mm3", every)
    names = (
        "initial_volume_mm3",
        "initial_volume_basis",
        "volume_loss_percent",
        "volume_loss_mm3",
    )
    if not scan.volume_mm3(parts.implant) and initial_mm3 is None:
        found.miss("no implant in this volume", *names)
        return
    basis = "settings" if initial_mm3 is not None else "closed implant"
    if initial_mm3 is None:
        initial_mm3 = scan.cubic_mm(closed_voxels(scan, parts.implant))
    found.tell("initial_volume_mm3", initial_mm3)
    found.tell("initial_volume_basis", basis)
    loss_mm3 = initial_mm3 - scan.volume_mm3(parts.metal)
    found.tell("volume_loss_percent", 100 * loss_mm3 / initial_mm3)
    found.tell("volume_loss_mm3", loss_mm3)


def _tell_areas(found: Findings, scan: Scan, parts: _Parts, smoothing_px: float) -> None:
    for part in ("metal", "implant", "bone"):
        labels: Labels = getattr(parts, part)
        area = area_um2(scan, labels, smoothing_px=smoothing_px)
        if area:
            found.tell(f"{part}_area_mm2", area * 1e-6)
        elif scan.box(labels) is None:
            found.miss(f"no {part} in this volume", f"{part}_area_mm2")
        else:
            found.miss(f"the {part} has no surface to mesh", f"{part}_area_mm2")
    metal_mm2, layer_mm3 = found.values["metal_area_mm2"], scan.volume_mm3(parts.layer)
    if metal_mm2 is None:
        found.miss(found.reasons["metal_area_mm2"], "layer_thickness_mean_um")
    else:
        found.tell("layer_thickness_mean_um", 1e3 * layer_mm3 / metal_mm2)


def _tell_degradation(
    found: Findings, initial_mm2: float | None, weeks: float | None
) -> None:
    """Rates in the forms in use: per initial, present and mean area; mean depth."""
    loss_mm3, present_mm2 = (
        found.values.get(name) for name in ("volume_loss_mm3", "metal_area_mm2")
    )
    mean_mm2 = (initial_mm2 + present_mm2) / 2 if initial_mm2 and present_mm2 else None
    areas = {"initial": initial_mm2, "present": present_mm2, "mean": mean_mm2}
    for form, area_mm2 in areas.items():
        name = f"degradation_rate_{form}_area_mm_per_year"
        if loss_mm3 is None or not area_mm2:
            found.miss(f"needs a volume loss and the {form} area", name)
        elif not weeks:
            found.miss("needs the weeks since implantation", name)
        else:
            found.tell(name, loss_mm3 / area_mm2 * WEEKS_PER_YEAR / weeks)
    if loss_mm3 is None or not initial_mm2:
        found.miss("needs a volume loss and the initial area", "degradation_depth_mm")
    else:
        found.tell("degradation_depth_mm", loss_mm3 / initial_mm2)


def _tell_contact(
    found: Findings,
    scan: Scan,
    parts: _Parts,
    smoothing_px: float,
    default_um: float,
    curve_um: Floats,
) -> None:
    found.tell("bone_contact_gap_um", default_um)
    found.tell("bone_contact_curve_gap_um", curve_um.tolist())
    names = (
        "bone_contact_percent",
        "bone_contact_curve_percent",
        "bone_contact_facing_area_mm2",
    )
    missing = _missing(scan, implant=parts.implant, bone=parts.bone)
    gaps_um = np.append(default_um, curve_um)
    touching, facing = np.zeros(len(gaps_um)), 0.0
    if not missing:
        touching, facing = contact(
            scan, parts.implant, parts.bone, gaps_um=gaps_um, air=parts.air,
            smoothing_px=smoothing_px,
        )  # fmt: skip
    if not facing:
        found.miss(missing or "no surface of the implant faces tissue", *names)
        return
    percent = (100 * touching / facing).tolist()
    found.tell("bone_contact_percent", percent[0])
    found.tell("bone_contact_curve_percent", percent[1:])
    found.tell("bone_contact_facing_area_mm2", facing * 1e-6)


def _tell_shells(found: Findings, scan: Scan, parts: _Parts, edges_um: Floats) -> None:
    found.tell("shell_edges_um", edges_um.tolist())
    names = "bone_volume_fraction", "bone_volume_fraction_profile"
    missing = _missing(scan, implant=parts.implant, bone=parts.bone)
    if missing:
        found.miss(missing, *names)
        return
    bone, tissue = shells(scan, parts.implant, parts.bone, edges_um, air=parts.air)
    if not tissue.sum():
        found.miss("no tissue in the shells around the implant", *names)
        return
    found.tell("bone_volume_fraction", float(bone.sum() / tissue.sum()))
    profile = [
        b / t if t else None for b, t in zip(bone.tolist(), tissue.tolist(), strict=True)
    ]
    found.tell("bone_volume_fraction_profile", profile)


def _missing(scan: Scan, **parts: Labels) -> str | None:
    absent = [part for part, labels in parts.items() if scan.box(labels) is None]
    return f"no {' and no '.join(absent)} in this volume" if absent else None


def _labels(classes: Sequence[str], names: Sequence[str]) -> Labels:
    return tuple(classes.index(name) for name in names if name in classes)


def _own(setting: float | Mapping[str, float] | None, name: str) -> float | None:
    return setting.get(name) if isinstance(setting, Mapping) else setting


def _mask(volume: Volume, box: Box, labels: Labels) -> npt.NDArray[np.bool_]:
    return np.isin(volume.data[box], labels)


def _union(one: Box, other: Box) -> Box:
    z, y, x = (
        slice(min(a.start, b.start), max(a.stop, b.stop))
        for a, b in zip(one, other, strict=True)
    )
    return z, y, x


def _grown(box: Box, margin: Sequence[int], shape: Sequence[int]) -> Box:
    z, y, x = (
        slice(max(side.start - by, 0), min(side.stop + by, length))
        for side, by, length in zip(box, margin, shape, strict=True)
    )
    return z, y, x
