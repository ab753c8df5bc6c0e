"""Labels as people make them: biased, incomplete, a little beside the truth."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.filters import threshold_multiotsu

from tomoglean.simulators import fields
from tomoglean.simulators.fields import Float
from tomoglean.simulators.minicell.machines import Site, turned, wedge_margin
from tomoglean.volumes import random


def weak_labels(
    seed: int, name: str, image: Float, *, around: Float
) -> npt.NDArray[np.uint8]:
    """Label an implant as a user would in an afternoon.

    Multi-Otsu on the smoothed image, a hand-drawn region about the implant, and inside it
    the rule "rough or grey is degradation layer, smooth and bright is metal".

    Parameters
    ----------
    seed, name
        Keys of the hand's error.
    image
        Scan of shape (Z, Y, X).
    around
        Share of implant and layer in each voxel: what the user draws around.

    Returns
    -------
    ndarray of shape (Z, Y, X)
        0 background, 1 bone, 2 degradation layer, 3 residual metal.
    """
    rng = random(seed, name, "hand-drawn region")
    hand = 0.42 + 0.12 * fields.random_field(rng, image.shape, 9)
    region = ndimage.gaussian_filter(around, 3.0) > hand

    smooth = ndimage.gaussian_filter(image, 1.5)
    dark, bright = threshold_multiotsu(smooth, classes=3, nbins=128)
    rough = np.sqrt(
        np.maximum(
            ndimage.uniform_filter(smooth**2, 5) - ndimage.uniform_filter(smooth, 5) ** 2, 0
        )
    )
    metal = region & (smooth > bright) & (rough < np.median(rough[region]) * 1.1)
    labels = np.asarray(smooth > dark, np.uint8)
    labels[region & (smooth > 0.6 * dark)] = 2
    labels[ndimage.binary_opening(metal, iterations=1)] = 3
    return labels


def annotate(
    seed: int,
    name: str,
    sites: Sequence[Site],
    *,
    snr: float,
    tilt_max_deg: float,
    miss: float,
    jitter_nm: float,
    false: float,
) -> list[Site]:
    """Pick machines as a tired annotator does.

    Machines hidden by the missing wedge are missed three times as often as those in
    full view, and all of them more often where the noise is stronger.

    Parameters
    ----------
    seed, name
        Keys of the errors.
    sites
        All sites of a tomogram, of any kind.
    snr
        Signal-to-noise ratio of the tomogram; `miss` holds at 0.1.
    tilt_max_deg
        Largest tilt in degrees.
    miss, false
        Share of machines missed on average, and of false picks among the picks.
    jitter_nm
        Root-mean-square distance from pick to machine in nm.

    Returns
    -------
    list of Site
        Picks, all of kind `t3ss`.
    """
    rng = random(seed, name, "annotator")
    picks: list[Site] = []
    decoys = [site for site in sites if site.kind not in ("t3ss", "gold")]
    hard = miss * np.sqrt(0.1 / max(snr, 1e-3))
    for site in sites:
        chance, wrong, which = rng.random(3)
        error = rng.standard_normal((2, 3))
        if site.kind != "t3ss":
            continue
        # .6, 1.0 and 1.8 average to 1 over a sphere at a tilt of 51 degrees.
        margin = wedge_margin(site, tilt_max_deg)
        factor = 0.6 if margin > 10 else 1.0 if margin > -10 else 1.8
        if chance >= min(hard * factor, 0.95):
            picks.append(_beside(site, error, jitter_nm))
        if decoys and wrong < false / (1 - false) * (1 - miss):
            picks.append(_beside(decoys[int(which * len(decoys))], error[::-1], jitter_nm))
    return picks


def _beside(site: Site, error: npt.NDArray[np.float64], jitter_nm: float) -> Site:
    place = site.place_nm + error[0] * jitter_nm / np.sqrt(3)
    return Site(place, turned(site.normal, error[1] * 0.12), "t3ss")
