"""The type III secretion system, and what looks like it, as soft bodies.

Every body is a signed distance in nm in the frame of its site: `height` along the
outward normal from the origin (midway between the membranes), `radius` and `angle` about
it. Sizes after Kudryashev et al. 2013 (eLife 00792), Park et al. 2018 (eLife 39514) and
Hu et al. 2015 (PNAS 112:1047). Rings are smooth: of all symmetries only the sixfold of
the pods survives at 1.8 nm.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tomoglean.simulators.fields import Float, along, frame
from tomoglean.simulators.minicell.bodies import NEEDLE_NM as NEEDLE_NM
from tomoglean.simulators.minicell.bodies import Site as Site
from tomoglean.simulators.minicell.bodies import turned as turned
from tomoglean.simulators.minicell.bodies import wedge_margin as wedge_margin

NEEDLE_SD_NM = 4.8
BELOW_NM, AROUND_NM, LEAFLET_NM = 48.0, 24.0, 2.0


def _union(*bodies: npt.NDArray[Any]) -> Float:
    return np.asarray(np.minimum.reduce(bodies), np.float32)


def _ring(radius: Float, height: Float, *, of: float, at: float, thick: float) -> Float:
    return np.asarray(np.hypot(radius - of, height - at) - thick, np.float32)


def _rod(radius: Float, height: Float, *, thick: float, low: float, high: float) -> Float:
    ends = np.maximum(low - height, height - high)
    return np.asarray(np.maximum(radius - thick, ends), np.float32)


def _tube(
    radius: Float, height: Float, *, of: float, thick: float, low: float, high: float
) -> Float:
    return _rod(np.abs(radius - of), height, thick=thick, low=low, high=high)


def _base(radius: Float, height: Float, angle: Float, site: Site) -> Float:
    """Rings, neck and inner rod, stretched to the local gap; export torus below."""
    outer, inner = site.gap_nm / 2, -site.gap_nm / 2
    parts = (
        _ring(radius, height, of=6.0, at=outer, thick=2.8),
        _tube(radius, height, of=6.0, thick=1.6, low=inner + 9, high=outer),
        _ring(radius, height, of=9.0, at=inner + 7, thick=3.2),
        _ring(radius, height, of=10.5, at=inner - 3, thick=2.8),
        _rod(radius, height, thick=3.5, low=inner, high=outer + 2),
        np.hypot((radius - 3.0) / 2.5, (height - inner + 8.0) / 3.0) * 2.7 - 2.7,
    )
    return _union(*parts)


def _platform(radius: Float, height: Float, angle: Float, site: Site) -> Float:
    """Sorting platform: six pods 34 nm across, a hub below them, spokes between."""
    top = -site.gap_nm / 2 - 7.0
    sector = np.abs((angle % (np.pi / 3)) - np.pi / 6)
    along, aside = radius * np.cos(sector), radius * np.sin(sector)
    reach = np.maximum(np.maximum(top - 17.0 - height, height - top + 3.0), 0)
    pods = np.sqrt((along - 14.0) ** 2 + aside**2 + reach**2) - 3.0
    spokes = np.maximum(np.hypot(aside, height - top + 19.0) - 1.8, along - 14.0)
    hub = np.hypot(radius, (height - top + 20.0) * 1.3) - 6.0
    return _union(pods, spokes, hub)


def _needle(radius: Float, height: Float, angle: Float, site: Site) -> Float:
    low, high = site.gap_nm / 2, site.gap_nm / 2 + site.needle_nm
    return _rod(radius, height, thick=4.0, low=low, high=high)


def _ribosome(radius: Float, height: Float, angle: Float, site: Site) -> Float:
    """A ribosome of about 21 nm right below the inner membrane: two subunits."""
    at = -site.gap_nm / 2 - 15.0
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    large = np.sqrt(x**2 + y**2 + (height - at) ** 2) - 9.5
    small = np.sqrt((x - 6.0) ** 2 + y**2 + (height - at - 3.0) ** 2) - 7.0
    return _union(large, small)


def _cluster(radius: Float, height: Float, angle: Float, site: Site) -> Float:
    """Lump of protein that fills the periplasm and leans on both membranes."""
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    one = np.sqrt((x - 4.0) ** 2 + y**2 + (0.7 * (height - 5.0)) ** 2) - 7.5
    other = np.sqrt((x + 3.0) ** 2 + (y - 3.0) ** 2 + (0.8 * (height + 9.0)) ** 2) - 7.5
    return _union(one, other)


def _vesicle(radius: Float, height: Float, angle: Float, site: Site) -> Float:
    """Vesicle that leaves the outer membrane: its two leaflets."""
    size = 9.0 + site.needle_nm / 6
    off_nm = np.hypot(radius, height - site.gap_nm / 2 - size - 7.0) - size
    return np.asarray(np.abs(np.abs(off_nm) - LEAFLET_NM) - 0.8, np.float32)


Part = Callable[[Float, Float, Float, Site], Float]

PARTS: dict[str, tuple[Part, ...]] = {
    "t3ss": (_base, _platform, _needle),
    "base_without_needle": (_base, _platform),
    "base_without_platform": (_base, _needle),
    "ribosome": (_ribosome,),
    "periplasmic_cluster": (_cluster,),
    "vesicle": (_vesicle,),
    "empty": (),
}
# Density of each kind; where none is given it is protein, which is 1.
STRENGTHS = {"ribosome": 1.3, "vesicle": 0.7}
DECOYS = tuple(kind for kind in PARTS if kind != "t3ss")


def distance(site: Site, offsets: Sequence[Float]) -> Float:
    """Signed distance in nm to everything that stands at a site, negative inside.

    Parameters
    ----------
    site
        What stands where; all kinds go through this one function.
    offsets
        Coordinates z, y, x in nm relative to the site's origin, broadcastable.

    Returns
    -------
    ndarray
        Distance; large and positive everywhere at an empty site.
    """
    across, aside, height = along(frame(site.normal), offsets)
    radius = np.hypot(across, aside)
    angle = np.arctan2(aside, across) + np.float32(site.spin)
    bodies = [part(radius, height, angle, site) for part in PARTS[site.kind]]
    return _union(np.full(radius.shape, 1e3), *bodies)


def insert(density: Float, site: Site, *, voxel_nm: float) -> None:
    """Put a site's body into a density, by maximum and never by sum.

    Parameters
    ----------
    density
        Volume (Z, Y, X), changed in place; protein is 1, ice 0. The first voxel is centred
        at 0 nm.
    site
        What stands where.
    voxel_nm
        Edge of the voxels in nm.
    """
    ends = np.stack(
        [
            site.place_nm - (site.gap_nm / 2 + BELOW_NM) * site.normal,
            site.place_nm + (site.gap_nm / 2 + site.needle_nm + 6) * site.normal,
        ]
    )
    low = np.floor((ends.min(0) - AROUND_NM) / voxel_nm).astype(int).clip(0)
    high = np.ceil((ends.max(0) + AROUND_NM) / voxel_nm).astype(int) + 1
    box = tuple(slice(a, max(b, a)) for a, b in zip(low, high, strict=True))
    part = density[box]
    if not part.size:
        return
    z, y, x = np.ogrid[tuple(slice(a, a + n) for a, n in zip(low, part.shape, strict=True))]
    offsets = [
        (axis * voxel_nm - origin).astype(np.float32)
        for axis, origin in zip((z, y, x), site.place_nm, strict=True)
    ]
    body = distance(site, offsets)
    share = np.clip(0.5 - body / voxel_nm, 0, 1)
    np.maximum(part, STRENGTHS.get(site.kind, 1.0) * share, out=part)
