"""Labels as people make them: biased, incomplete, a little beside the truth."""

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.filters import threshold_multiotsu

from tomoglean.simulators import fields
from tomoglean.simulators.fields import Float
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
