"""What is true of every site: where, how it lies to the missing wedge, how much is seen."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import fft

from tomoglean.simulators import fields
from tomoglean.simulators.minicell.annotator import wedge_class as wedge_class
from tomoglean.simulators.minicell.bodies import Body, Site, local

SAMPLE_NM, LEAST_PX = 2.0, 80
COLUMNS = (
    *("z", "y", "x", "nz", "ny", "nx", "class", "spin", "polarity"),
    *("wedge_angle", "wedge_class", "gap_nm", "visibility"),
)


def table(
    sites: Sequence[Site], bodies: Mapping[str, Body], *, tilt_max_deg: float
) -> pd.DataFrame:
    """Tell of every site what is true.

    Parameters
    ----------
    sites, bodies
        Of a scene.
    tilt_max_deg
        Largest tilt of the series in degrees.

    Returns
    -------
    DataFrame
        One row a site: z, y, x in nm (the centre of the first voxel is at 0), unit axis
        nz, ny, nx, class, spin in radians about the axis, polarity (+1: the axis points
        outward, along the needle), wedge_angle in degrees, wedge_class, gap_nm (NaN away
        from the envelope) and visibility in [0, 1] (NaN where nothing stands).
    """
    rows = [
        (
            *site.place_nm,
            *site.normal,
            *(site.kind, site.spin, 1),
            site.wedge_angle,
            wedge_class(site, tilt_max_deg),
            site.gap_nm or np.nan,
            visibility(site, bodies[site.kind], tilt_max_deg=tilt_max_deg),
        )
        for site in sites
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def visibility(site: Site, body: Body, *, tilt_max_deg: float) -> float:
    """Share of a body's power that a tilt series about y lets through.

    The power is that of the body alone in ice, without its mean, at voxels of 2 nm: what
    is above 1/4 nm is damped beyond use in a tomogram anyway.

    Parameters
    ----------
    site, body
        What stands where.
    tilt_max_deg
        Largest tilt in degrees, the same on both sides.

    Returns
    -------
    float
        In [0, 1]; NaN where nothing stands.
    """
    low, high, radius = body.extent(site)
    edge = max(LEAST_PX, round(2 * np.hypot((high - low) / 2, radius) / SAMPLE_NM) + 16)
    middle = (low + high) / 2 * site.normal
    axes = fields.grid((edge,) * 3, SAMPLE_NM)
    half_nm = (edge - 1) / 2 * SAMPLE_NM
    offsets = [
        axis + np.float32(off - half_nm) for axis, off in zip(axes, middle, strict=True)
    ]
    density, _ = body.draw(local(site, offsets, SAMPLE_NM))
    power = np.abs(fft.rfftn(density, workers=1)) ** 2
    # Half of the spectrum is not stored: all but the planes kx = 0 (and Nyquist) twice.
    power[..., 1 : (edge + 1) // 2] *= 2
    power[0, 0, 0] = 0
    kz, _, kx = fields.frequencies((edge,) * 3)
    steep = np.tan(np.radians(tilt_max_deg)) if tilt_max_deg < 90 else np.inf
    with np.errstate(invalid="ignore"):
        seen = ~(np.abs(kz) > np.abs(kx) * np.float32(steep))
    total = float(power.sum())
    return float((power * seen).sum()) / total if total else float("nan")
