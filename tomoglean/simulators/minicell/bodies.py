"""What stands at a site, and the one way in which it is put into a density.

A body is a function of the place in the frame of its site: `height` along the axis from
the origin, `radius` and `angle` about it. It answers with a density (protein 1, ice 0)
integrated over an edge, so that the same body is drawn at any voxel size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tomoglean.simulators.fields import Float, along, coverage, frame

Vector = npt.NDArray[np.float64]
Box = tuple[slice, slice, slice]
NEEDLE_NM, SHEET_NM, COARSE_NM = 51.0, 6.0, 4.0
# Head groups 3.9 nm apart in a membrane of 6 nm are so thick.
HEADS_THICK_NM = 2.1


@dataclass(frozen=True)
class Site:
    """A place in the envelope (or in the ice, for gold) where something may sit.

    Attributes
    ----------
    place_nm
        Origin (z, y, x) in nm: on the axis, midway between OM and IM mid-surfaces.
    normal
        Unit axis (z, y, x), outward.
    kind
        `t3ss`, or the name of another body.
    gap_nm
        Distance of the membranes along the axis in nm; 0 if unknown.
    spin
        Turn about the axis in radians.
    needle_nm
        Length of the needle (hook) beyond the outer membrane in nm.
    size
        How large the body is among its kind, from 0 to 1.
    bend
        Mean curvature of the envelope at the site in 1/nm.
    """

    place_nm: Vector
    normal: Vector
    kind: str
    gap_nm: float = 0.0
    spin: float = 0.0
    needle_nm: float = NEEDLE_NM
    size: float = 0.5
    bend: float = 0.0

    @property
    def wedge_angle(self) -> float:
        """Angle atan2(|n_x|, |n_z|) in degrees; unseen below 90 - largest tilt."""
        z, _, x = np.abs(self.normal)
        return float(np.degrees(np.arctan2(x, z)))

    @property
    def top_nm(self) -> float:
        """Height of the outer membrane's mid-surface in nm; the inner one's is minus."""
        return self.gap_nm / 2


def wedge_margin(site: Site, tilt_max_deg: float) -> float:
    """Angle by which a site lies outside the missing wedge in degrees; negative inside."""
    return site.wedge_angle - (90.0 - tilt_max_deg)


def turned(normal: Vector, by: Vector) -> Vector:
    """Tip a unit vector by a small vector (radians) across it."""
    moved = normal + by
    return np.asarray(moved / np.linalg.norm(moved))


@dataclass(frozen=True)
class Local:
    """Places in the frame of a site.

    Attributes
    ----------
    site
        The site.
    across, aside, height
        Cartesian coordinates in nm, height along the axis; across is at the spin.
    edge_nm
        Length that densities are integrated over: the voxel's edge.
    """

    site: Site
    across: Float
    aside: Float
    height: Float
    edge_nm: float

    @property
    def radius(self) -> Float:
        """Distance from the axis in nm."""
        return np.hypot(self.across, self.aside)

    @property
    def angle(self) -> Float:
        """Angle about the axis in radians."""
        return np.arctan2(self.aside, self.across)


Part = Callable[[Local], Float]
Drawing = Callable[[Local], tuple[Float, Float]]
Extent = Callable[[Site], tuple[float, float, float]]


@dataclass(frozen=True)
class Body:
    """What can stand at a site.

    Attributes
    ----------
    draw
        Its density, and the signed distance in nm to its surface (negative inside), at
        places in the frame of the site.
    extent
        Its lowest and highest point along the axis and its largest radius, in nm.
    """

    draw: Drawing
    extent: Extent


def solid(*parts: Part, extent: Extent, strength: float = 1.0) -> Body:
    """Body filled evenly: its parts are signed distances in nm, united."""

    def draw(at: Local) -> tuple[Float, Float]:
        nearest = np.minimum.reduce([part(at) for part in parts])
        share = coverage(nearest / np.float32(at.edge_nm))
        return np.float32(strength) * share, nearest

    return Body(draw, extent)


def sheet(
    mid: Part,
    *,
    extent: Extent,
    strength: float,
    lumen: float = 0.0,
    heads_nm: float = 3.9,
) -> Body:
    """Closed lipid bilayer; `mid` is the signed distance in nm to its mid-surface.

    `strength` is the density of the head groups, `lumen` that of what is inside.
    """

    def draw(at: Local) -> tuple[Float, Float]:
        off = mid(at)
        density = np.float32(strength) * bilayer(off, at.edge_nm, heads_nm)
        if lumen:
            inside = coverage((off + np.float32(SHEET_NM / 2)) / np.float32(at.edge_nm))
            density = np.maximum(density, np.float32(lumen) * inside)
        return density, np.abs(off) - np.float32(SHEET_NM / 2)

    return Body(draw, extent)


def bilayer(distance_nm: Float, edge_nm: float, heads_nm: float) -> Float:
    """Density of two layers of head groups, each `HEADS_THICK_NM`, over a voxel.

    Parameters
    ----------
    distance_nm
        Distance to the mid-surface.
    edge_nm
        Edge of the voxel.
    heads_nm
        Distance of the two layers; inside them the density is 1.
    """
    # Such a layer and a cube have these variances along any direction.
    spread = np.float32(np.sqrt((HEADS_THICK_NM**2 + edge_nm**2) / 12))
    off = (np.abs(distance_nm) - np.float32(heads_nm / 2)) / spread
    other = (np.abs(distance_nm) + np.float32(heads_nm / 2)) / spread
    total = np.exp(np.float32(-0.5) * off * off) + np.exp(np.float32(-0.5) * other * other)
    height = HEADS_THICK_NM / (spread * np.float32(np.sqrt(2 * np.pi)))
    return np.asarray(height * total, np.float32)


def _nothing(at: Local) -> tuple[Float, Float]:
    shape = np.shape(at.height)
    return np.zeros(shape, np.float32), np.full(shape, 1e3, np.float32)


EMPTY = Body(_nothing, lambda site: (0.0, 0.0, 0.0))


def local(site: Site, offsets: Sequence[Float], edge_nm: float) -> Local:
    """Coordinates in the frame of a site from offsets (z, y, x) to its origin in nm."""
    first, second, height = along(frame(site.normal), offsets)
    cosine, sine = np.float32(np.cos(site.spin)), np.float32(np.sin(site.spin))
    across, aside = cosine * first - sine * second, sine * first + cosine * second
    return Local(site, across, aside, height, edge_nm)


def box(
    site: Site, body: Body, shape: Sequence[int], voxel_nm: float, margin_px: int
) -> Box:
    """Voxels that a body may reach, in a volume with a margin on both sides of x."""
    low, high, radius = body.extent(site)
    ends = site.place_nm + np.array([[low], [high]]) * site.normal
    aside = radius * np.sqrt(np.clip(1 - site.normal**2, 0, 1)) + 2 * voxel_nm
    shift = np.array([0, 0, margin_px])
    first = np.floor((ends.min(0) - aside) / voxel_nm).astype(int) + shift
    last = np.ceil((ends.max(0) + aside) / voxel_nm).astype(int) + shift + 1
    first, last = np.clip(first, 0, shape), np.clip(last, 0, shape)
    z, y, x = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    return z, y, x


def insert(
    density: Float, site: Site, body: Body, *, voxel_nm: float, margin_px: int = 0
) -> tuple[Box, npt.NDArray[np.bool_]]:
    """Put a body into a density, by maximum and never by sum.

    Parameters
    ----------
    density
        Volume (Z, Y, X), changed in place; protein is 1, ice 0.
    site, body
        Where, and what; all kinds go through this one function.
    voxel_nm
        Edge of the voxels in nm.
    margin_px
        Index of the voxel along x that is centred at 0 nm; along z and y it is 0.

    Returns
    -------
    box, mask
        The part of the volume that was looked at, and where in it the body stands.
    """
    where = box(site, body, density.shape, voxel_nm, margin_px)
    part = density[where]
    if not part.size:
        return where, np.zeros(part.shape, bool)
    first_nm = site.place_nm + voxel_nm * np.array([0, 0, margin_px])
    offsets = [
        (axis * voxel_nm - origin).astype(np.float32)
        for axis, origin in zip(np.ogrid[where], first_nm, strict=True)
    ]
    drawn, distance = body.draw(local(site, offsets, voxel_nm))
    np.maximum(part, drawn, out=part)
    return where, distance <= 0


def touched(
    site: Site, body: Body, places_nm: Vector, reach_nm: Vector
) -> npt.NDArray[np.bool_]:
    """Whether balls would touch a body.

    Parameters
    ----------
    site, body
        What stands where.
    places_nm, reach_nm
        Centres (N, 3) and radii (N,) of the balls in nm.
    """
    low, high, radius = body.extent(site)
    off = places_nm - site.place_nm
    height = off @ site.normal
    beside = np.sqrt(np.maximum((off**2).sum(1) - height**2, 0))
    hit = (height > low - reach_nm) & (height < high + reach_nm)
    hit &= beside < radius + reach_nm
    chosen = np.flatnonzero(hit)
    offsets = [part.astype(np.float32) for part in off[chosen].T]
    _, distance = body.draw(local(site, offsets, COARSE_NM))
    hit[chosen] = distance < reach_nm[chosen]
    return np.asarray(hit)
