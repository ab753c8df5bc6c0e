"""U-Net: voxel-wise classes of a slice.

Layout of Ronneberger et al. 2015 (arXiv:1505.04597) with 'same' convolutions. Recipe
`plain` is that network; recipe `modern` adds normalisation after each convolution and a
leaky ReLU, and leaves out the convolution after upsampling (nnU-Net, arXiv:1809.10486,
shows that such details weigh more than new layouts). Width, depth and input size are free.
"""

from typing import Any

import keras

from tomoglean.networks import dropping
from tomoglean.provenance import Refused

LEAK = 0.01


def multiple(depth: int) -> int:
    """Return the number of which every side of the input must be a multiple."""
    return int(2 ** (depth - 1))


def build(
    name: str = "unet",
    *,
    classes: int,
    width: int = 32,
    depth: int = 5,
    channels: int = 1,
    dim: float = 2,
    recipe: str = "modern",
    norm: str = "batch",
    dropout: float = 0.0,
) -> Any:
    """Build a U-Net.

    Parameters
    ----------
    name
        Name of the network in its registry; there is one here.
    classes
        Number of classes.
    width
        Filters of the first level; each further level has twice as many.
    depth
        Number of levels; the sides of the input are multiples of 2^(depth - 1), see
        `tomoglean.networks.padding`.
    channels
        Channels of the input: 1, or the number of neighbouring slices for `dim` 2.5.
    dim
        2, or 2.5 for neighbouring slices as channels.
    recipe
        'modern' or 'plain' (see above).
    norm
        'batch', 'instance' or 'none'; the plain recipe has none.
    dropout
        Share of the deepest features dropped in training, in [0, 1).

    Returns
    -------
    keras.Model
        From float32 images (B, H, W, channels) to softmax probabilities
        (B, H, W, classes).

    Raises
    ------
    Refused
        If `dim` is 3.
    """
    if dim == 3:
        raise Refused("train.dim: expected 2 or 2.5, found 3; dim 3 comes later")

    norm = "none" if recipe == "plain" else norm
    image = keras.Input((None, None, channels), name="image")
    features, skips = image, []
    for level in range(depth - 1):
        features = _block(features, width * 2**level, f"down{level}", recipe, norm)
        skips.append(features)
        features = keras.layers.MaxPooling2D(2, name=f"pool{level}")(features)
    features = _block(features, width * 2 ** (depth - 1), "bottom", recipe, norm)
    if dropout:
        features = dropping.dropout(dropout)(features)
    for level in reversed(range(depth - 1)):
        features = _join(features, skips[level], width * 2**level, f"up{level}", recipe)
        features = _block(features, width * 2**level, f"up{level}", recipe, norm)
    head = keras.layers.Conv2D(classes, 1, activation="softmax", name="probabilities")
    return keras.Model(image, head(features), name=name)


def _join(features: Any, skip: Any, filters: int, name: str, recipe: str) -> Any:
    features = keras.layers.UpSampling2D(2, name=f"{name}_larger")(features)
    if recipe == "plain":
        layer = keras.layers.Conv2D(filters, 2, padding="same", name=f"{name}_conv")
        features = layer(features)
    return keras.layers.Concatenate(name=f"{name}_join")([skip, features])


def _block(features: Any, filters: int, name: str, recipe: str, norm: str) -> Any:
    for part in "ab":
        features = keras.layers.Conv2D(
            filters,
            3,
            padding="same",
            use_bias=norm == "none",
            kernel_initializer="he_normal",
            name=f"{name}{part}",
        )(features)
        features = _normalise(features, norm, f"{name}{part}_norm")
        slope = 0.0 if recipe == "plain" else LEAK
        layer = keras.layers.LeakyReLU(negative_slope=slope, name=f"{name}{part}_relu")
        features = layer(features)
    return features


def _normalise(features: Any, norm: str, name: str) -> Any:
    if norm == "none":
        return features
    if norm == "instance":
        layer = keras.layers.GroupNormalization(groups=-1, epsilon=1e-5, name=name)
    else:  # short trainings need statistics that follow within tens of steps
        layer = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)
    return layer(features)
