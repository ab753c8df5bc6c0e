"""Losses that know what they do not know: label 255 takes no part in anything."""

from collections.abc import Callable, Sequence
from typing import Any

from keras import ops

IGNORE = 255
TINY = 1e-7


def _one_hot(labels: Any, classes: int) -> tuple[Any, Any]:
    """Labels of any shape as (N, classes) float32, and the validity (N, 1)."""
    flat = ops.cast(ops.reshape(labels, (-1,)), "int32")
    valid = ops.cast(flat != IGNORE, "float32")[:, None]
    known = ops.where(flat == IGNORE, 0, flat)
    return ops.one_hot(known, classes) * valid, valid


def dice(labels: Any, probabilities: Any) -> Any:
    """One minus the mean Dice of the classes that the labels hold.

    Ignored voxels are out of the intersection and of both sums; everything is pooled
    over the batch; classes absent from the labels are skipped (V-Net's linear form,
    arXiv:1606.04797).

    Parameters
    ----------
    labels
        Integers of shape (B, ...), 255 where unknown.
    probabilities
        Softmax output of shape (B, ..., classes).

    Returns
    -------
    scalar
        In [0, 1]; 0 if no voxel is valid.
    """
    classes = probabilities.shape[-1]
    truth, valid = _one_hot(labels, classes)
    found = ops.reshape(probabilities, (-1, classes)) * valid

    size = ops.sum(truth, axis=0)
    present = ops.cast(size > 0, "float32")
    overlap = 2 * ops.sum(truth * found, axis=0)
    both = ops.maximum(size + ops.sum(found, axis=0), TINY)
    missing = ops.sum(present * (1 - overlap / both))
    return missing / ops.maximum(ops.sum(present), 1.0)


def cross_entropy(
    labels: Any, probabilities: Any, weights: Sequence[float] | None = None
) -> Any:
    """Mean negative log probability of the right class over the valid voxels.

    Parameters
    ----------
    labels
        Integers of shape (B, ...), 255 where unknown.
    probabilities
        Softmax output of shape (B, ..., classes).
    weights
        Weight of each class; the mean is then the weighted mean.

    Returns
    -------
    scalar
        0 if no voxel is valid.
    """
    classes = probabilities.shape[-1]
    truth, _ = _one_hot(labels, classes)
    if weights is not None:
        truth = truth * ops.convert_to_tensor([float(w) for w in weights], "float32")
    found = ops.reshape(probabilities, (-1, classes))
    surprise = -ops.sum(truth * ops.log(found + TINY))
    return surprise / ops.maximum(ops.sum(truth), TINY)


def dice_cross_entropy(weights: Sequence[float] | None = None) -> Callable[[Any, Any], Any]:
    """Return the loss for slices: Dice plus cross-entropy."""

    def loss(labels: Any, probabilities: Any) -> Any:
        entropy = cross_entropy(labels, probabilities, weights)
        return dice(labels, probabilities) + entropy

    return loss


def weighted_cross_entropy(
    weights: Sequence[float] | None = None,
) -> Callable[[Any, Any], Any]:
    """Return the loss for patches: cross-entropy with a weight for each class."""

    def loss(labels: Any, probabilities: Any) -> Any:
        return cross_entropy(labels, probabilities, weights)

    return loss
