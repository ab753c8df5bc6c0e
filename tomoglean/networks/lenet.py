"""LeNet-5, as of 1998 and modified, patch by patch or densely over whole slices.

Both see patches of 50 x 50 pixels: 50 -> 46 -> 23 -> 19 -> 9, so the second pool drops a
row and a column. Rows 48 and 49 are dead and the field seen is 48 wide; the patch keeps
its own centre, 24.5.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers, ops

from tomoglean.networks import dropping
from tomoglean.networks.patchwise import VARIANCE_FLOOR

NAMES = ("lenet5", "lenet5_modified")

# Which of the 6 maps each of the 16 second kernels sees (LeCun et al. 1998, table I).
CONNECTIONS = (
    *("012", "123", "234", "345", "045", "015"),
    *("0123", "1234", "2345", "0345", "0145", "0125", "0134", "1245", "0235"),
    "012345",
)


def build(
    name: str, patch_px: int = 50, dropout: float = 0.5, channels: int = 1
) -> keras.Model:
    """Build a patch classifier with two outputs: P(something else), P(a complex).

    Parameters
    ----------
    name
        `lenet5`: the net of LeCun et al. 1998 (doi:10.1109/5.726791): averaging
        subsampling with trainable gain and bias, the partial connection table, scaled tanh.
        It differs by the patch size (a 9 x 9 instead of a 5 x 5 kernel under the 120
        units), two softmax outputs in place of ten radial basis units, and Glorot
        initialisation.
        `lenet5_modified`: every patch brought to zero mean and unit variance, first kernels
        that sum to zero, no hidden bias, ReLU, max-pooling, dropout before the head.
    patch_px
        Edge of a patch in pixels, at least 16.
    dropout
        Share of the last hidden units left out in training, in [0, 1); only of the modified
        net.
    channels
        Slices that a patch is made of.

    Returns
    -------
    keras.Model
        (N, patch_px, patch_px, channels) standardised grey values -> (N, 2) probabilities.

    Raises
    ------
    ValueError
        If there is no such network or the patch is too small for it.
    """
    if patch_px < 16:
        raise ValueError(f"a patch has at least 16 px, found {patch_px}")
    stacks = {"lenet5": _of_1998, "lenet5_modified": _modified}
    if name not in stacks:
        raise ValueError(f"there is no network {name!r}; there are {', '.join(NAMES)}")
    return keras.Sequential(
        [keras.Input((patch_px, patch_px, channels)), *stacks[name](dropout)], name=name
    )


def _of_1998(_: float) -> list[layers.Layer]:
    return [
        layers.Conv2D(6, 5, activation=scaled_tanh, name="c1"),
        layers.AveragePooling2D(2, name="p2"),
        layers.DepthwiseConv2D(1, activation=scaled_tanh, name="s2"),
        TableConv2D(16, 5, activation=scaled_tanh, name="c3"),
        layers.AveragePooling2D(2, name="p4"),
        layers.DepthwiseConv2D(1, activation=scaled_tanh, name="s4"),
        layers.Flatten(name="flat"),
        layers.Dense(120, activation=scaled_tanh, name="c5"),
        layers.Dense(84, activation=scaled_tanh, name="f6"),
        layers.Dense(2, activation="softmax", name="out"),
    ]


def _modified(dropout: float) -> list[layers.Layer]:
    bare: dict[str, Any] = {"activation": "relu", "use_bias": False}
    return [
        PatchNormalisation(name="normal"),
        ZeroSumConv2D(6, 5, **bare, name="c1"),
        layers.MaxPooling2D(2, name="s2"),
        layers.Conv2D(16, 5, **bare, name="c3"),
        layers.MaxPooling2D(2, name="s4"),
        layers.Flatten(name="flat"),
        layers.Dense(120, **bare, name="c5"),
        layers.Dense(84, **bare, name="f6"),
        dropping.dropout(dropout),
        layers.Dense(2, activation="softmax", name="out"),
    ]


def scaled_tanh(x: Any) -> Any:
    """Return 1.7159 tanh(2x/3), the squashing function of 1998."""
    return 1.7159 * ops.tanh(x * (2.0 / 3.0))


class PatchNormalisation(layers.Layer):  # type: ignore[misc]
    """Bring every patch to zero mean and unit variance."""

    def call(self, patches: Any) -> Any:
        """Take the mean off and divide by sqrt(variance + floor)."""
        mean, variance = ops.moments(patches, axes=(1, 2, 3), keepdims=True)
        return (patches - mean) / ops.sqrt(variance + VARIANCE_FLOOR)


class ZeroSumConv2D(layers.Conv2D):  # type: ignore[misc]
    """A convolution whose kernels sum to zero, and so are blind to the mean grey value."""

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Convolve with the kernels less their means."""
        mean = ops.mean(kernel, axis=(0, 1, 2), keepdims=True)
        return super().convolution_op(inputs, kernel - mean)


class TableConv2D(layers.Conv2D):  # type: ignore[misc]
    """A convolution whose kernels see only some maps, by the table of 1998."""

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Convolve with what the table leaves of the kernels."""
        return super().convolution_op(inputs, kernel * connections())


def connections() -> npt.NDArray[np.float32]:
    """Return the table of 1998: shape (1, 1, 6, 16), 1 where a kernel sees a map."""
    table = [[str(seen) in kernel for kernel in CONNECTIONS] for seen in range(6)]
    return np.asarray(table, np.float32)[None, None]


def dense(model: keras.Model) -> keras.Model:
    """Turn a patch classifier into the same function of a whole slice.

    The trunk runs once over the slice, every pool becoming the maximum (or mean) of four
    shifted views and everything behind it dilated (Giusti et al. 2013, arXiv:1302.1700);
    the head, which is 92 % of the cost, runs only at the positions asked for. Equal to
    patch by patch evaluation up to float rounding.

    Parameters
    ----------
    model
        A network of `build`; its weights are shared, not copied.

    Returns
    -------
    keras.Model
        Inputs `image` (1, H, W, C), standardised; `positions` (N, 2) int32, top row and
        left column of every patch; `scale` (N,), 1/sigma of every patch by
        `patchwise.scales` (without effect in a network that does not normalise patches).
        Output (N,), P(a complex).
    """
    inputs = [
        keras.Input(batch_shape=(1, None, None, model.input_shape[3]), name="image"),
        keras.Input((2,), name="positions", dtype="int32"),
        keras.Input((), name="scale"),
    ]
    return keras.Model(inputs, DenseEvaluation(model, name="dense")(inputs))


class DenseEvaluation(layers.Layer):  # type: ignore[misc]
    """Evaluate a patch classifier at chosen positions of one slice."""

    def __init__(self, model: keras.Model, **options: Any) -> None:
        super().__init__(**options)
        self.model = model
        self.patch_px = int(model.input_shape[1])
        flat = [isinstance(layer, layers.Flatten) for layer in model.layers].index(True)
        self.trunk = model.layers[:flat]
        self.head = model.layers[flat + 1 :]
        self.normalised = any(isinstance(x, PatchNormalisation) for x in model.layers)

    def compute_output_spec(self, inputs: Sequence[Any]) -> keras.KerasTensor:
        """Say what comes out: one probability a position."""
        return keras.KerasTensor((inputs[1].shape[0],), dtype="float32")

    def call(self, inputs: Sequence[Any]) -> Any:
        """Run the trunk over the slice and the head at the positions."""
        image, positions, scale = inputs
        maps, dilation = run_trunk(self.trunk, image)
        across = self.model.get_layer("flat").input.shape[1]
        hidden = gather(maps, positions, across, dilation)
        if self.normalised:
            # Exact: with zero-sum first kernels, no bias and ReLU, sigma passes through.
            hidden = hidden * scale[:, None]
        for layer in self.head:
            hidden = layer(hidden, **_quiet(layer))
        return hidden[:, 1]


def _quiet(layer: layers.Layer) -> dict[str, bool]:
    return {"training": False} if isinstance(layer, layers.Dropout) else {}


def run_trunk(trunk: Sequence[layers.Layer], image: Any) -> tuple[Any, int]:
    """Run convolutions and pools at stride 1: the maps and their dilation."""
    dilation = 1
    for layer in trunk:
        if isinstance(layer, layers.MaxPooling2D | layers.AveragePooling2D):
            image = _pooled(image, dilation, isinstance(layer, layers.MaxPooling2D))
            dilation *= 2
        elif isinstance(layer, layers.DepthwiseConv2D):
            image = layer(image)
        elif isinstance(layer, layers.Conv2D):
            image = _dilated(layer, image, dilation)
    return image, dilation


def _pooled(image: Any, step: int, maximum: bool) -> Any:
    above, below = image[:, :-step], image[:, step:]
    views = [above[:, :, :-step], above[:, :, step:], below[:, :, :-step]]
    join = ops.maximum if maximum else ops.add
    joined = below[:, :, step:]
    for view in views:
        joined = join(joined, view)
    return joined if maximum else joined * 0.25


def _dilated(layer: layers.Conv2D, image: Any, dilation: int) -> Any:
    kernel = layer.kernel
    if isinstance(layer, ZeroSumConv2D):
        kernel = kernel - ops.mean(kernel, axis=(0, 1, 2), keepdims=True)
    if isinstance(layer, TableConv2D):
        kernel = kernel * connections()
    maps = ops.conv(image, kernel, padding="valid", dilation_rate=dilation)
    return layer.activation(maps + layer.bias if layer.use_bias else maps)


def gather(maps: Any, positions: Any, across: int, dilation: int) -> Any:
    """Collect what the head sees of the maps at every position.

    Parameters
    ----------
    maps
        Shape (1, H, W, C).
    positions
        Shape (N, 2): top row and left column of every patch.
    across
        Edge of the head's field in (dilated) map pixels.
    dilation
        Step between these in rows and columns.

    Returns
    -------
    tensor of shape (N, across * across * C)
    """
    width, channels = ops.shape(maps)[2], maps.shape[-1]
    steps = dilation * np.arange(across, dtype=np.int32)
    rows = positions[:, 0, None] + steps[None]
    columns = positions[:, 1, None] + steps[None]
    places = rows[:, :, None] * width + columns[:, None, :]
    taken = ops.take(ops.reshape(maps, (-1, channels)), places, axis=0)
    return ops.reshape(taken, (-1, across * across * channels))
