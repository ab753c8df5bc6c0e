"""A person who picks machines to learn from: misses some, errs a little, is fooled."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tomoglean.simulators.minicell.bodies import Site, turned, wedge_margin
from tomoglean.volumes import random

#: Wedge classes, by the angle from the edge of the missing wedge.
OUTSIDE, EDGE, INSIDE = WEDGE_CLASSES = ("outside", "edge", "inside")
EDGE_DEG = 10.0
#: How often machines of each class are missed, relative to those in full view.
HARDNESS = {OUTSIDE: 1.0, EDGE: 1.7, INSIDE: 3.0}
#: What nobody takes for a machine.
PLAIN = ("gold", "ice", "empty")


@dataclass(frozen=True)
class Annotator:
    """How the picks err; units and limits in the schema `phantom-minicell`.

    Attributes
    ----------
    miss
        Share of machines missed, on average over all directions, at the usual SNR.
    usual_snr
        SNR for which `miss` holds; the odds to miss fall with the root of the SNR.
    jitter_nm
        Root-mean-square distance from pick to machine.
    tip_deg
        Standard deviation of the axis along each of two directions.
    false
        Share of false ones among the picks; they stand at decoys.
    """

    miss: float
    usual_snr: float
    jitter_nm: float
    tip_deg: float
    false: float


def wedge_class(site: Site, tilt_max_deg: float) -> str:
    """Tell whether a site's axis lies outside the missing wedge, inside, or near its edge.

    A site whose axis lies in the wedge has membranes that cannot be seen.
    """
    margin = wedge_margin(site, tilt_max_deg)
    if abs(margin) <= EDGE_DEG:
        return EDGE
    return OUTSIDE if margin > 0 else INSIDE


def chances(annotator: Annotator, *, snr: float, tilt_max_deg: float) -> dict[str, float]:
    """Chance to miss a machine of each wedge class.

    Wedge angles of directions spread evenly over the sphere are spread evenly over 0 to
    90 degrees, so the mean over all directions is `miss` at the usual SNR.
    """
    wedge = 90.0 - tilt_max_deg
    inside = max(wedge - EDGE_DEG, 0) / 90
    outside = max(tilt_max_deg - EDGE_DEG, 0) / 90
    shares = {OUTSIDE: outside, EDGE: 1 - inside - outside, INSIDE: inside}
    mean = sum(shares[one] * HARDNESS[one] for one in WEDGE_CLASSES)
    usual = {one: min(annotator.miss * HARDNESS[one] / mean, 1.0) for one in WEDGE_CLASSES}
    harder = float(np.sqrt(annotator.usual_snr / snr))
    return {one: p * harder / (1 - p + p * harder) for one, p in usual.items()}


def annotate(
    seed: int,
    name: str,
    sites: Sequence[Site],
    annotator: Annotator,
    *,
    kind: str,
    usual_number: float,
    snr: float,
    tilt_max_deg: float,
) -> list[Site]:
    """Pick machines as a tired annotator does.

    Parameters
    ----------
    seed, name
        Keys of the errors.
    sites
        All sites of a tomogram, of any kind.
    annotator
        How the picks err.
    kind
        Which sites are machines.
    usual_number
        Mean number of machines a tomogram, for the rate of false picks.
    snr
        Signal-to-noise ratio of the tomogram.
    tilt_max_deg
        Largest tilt in degrees.

    Returns
    -------
    list of Site
        Picks, all of the machines' kind, by place: their order tells nothing.
    """
    missed = chances(annotator, snr=snr, tilt_max_deg=tilt_max_deg)
    picks = []
    for index, site in enumerate(site for site in sites if site.kind == kind):
        rng = random(seed, name, "annotator", index)
        if rng.random() >= missed[wedge_class(site, tilt_max_deg)]:
            picks.append(_beside(rng, site, kind, annotator))
    picks += _false(seed, name, sites, annotator, kind, usual_number)
    return sorted(picks, key=lambda pick: tuple(pick.place_nm))


def _false(
    seed: int,
    name: str,
    sites: Sequence[Site],
    annotator: Annotator,
    kind: str,
    usual_number: float,
) -> list[Site]:
    """False picks: a Poisson number, also where there is no machine at all."""
    rng = random(seed, name, "annotator", "false")
    decoys = [site for site in sites if site.kind not in (kind, *PLAIN)]
    odds = annotator.false / (1 - annotator.false)
    number = rng.poisson(odds * usual_number * (1 - annotator.miss))
    chosen = rng.permutation(len(decoys))[:number]
    return [_beside(rng, decoys[index], kind, annotator) for index in chosen]


def _beside(rng: np.random.Generator, site: Site, kind: str, annotator: Annotator) -> Site:
    off_nm = rng.standard_normal(3) * annotator.jitter_nm / np.sqrt(3)
    tip = rng.standard_normal(3) * np.radians(annotator.tip_deg)
    # Along the axis a tip is none: only what lies across it counts.
    across = tip - (tip @ site.normal) * site.normal
    return Site(site.place_nm + off_nm, turned(site.normal, across), kind)
