"""Validation: how good a network is on volumes it does not learn from."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tomoglean import volumes
from tomoglean.training.batches import Batch, Framing
from tomoglean.training.examples import Pool

IGNORE = volumes.IGNORE
Array = npt.NDArray[Any]


def mean_iou(confusion: npt.NDArray[np.int64]) -> float | None:
    """Mean intersection over union of the classes present in the truth.

    Parameters
    ----------
    confusion
        Counts of shape (classes, classes), truth along the first axis.
    """
    truth, found = confusion.sum(axis=1), confusion.sum(axis=0)
    union = truth + found - np.diag(confusion)
    present = truth > 0
    if not present.any():
        return None
    return float(np.mean(np.diag(confusion)[present] / union[present]))


def ranking(
    truth: npt.NDArray[np.bool_], scores: npt.NDArray[np.floating[Any]]
) -> tuple[float, float] | None:
    """Best F1 over all thresholds, and average precision.

    Equal scores fall on the same side of any threshold.

    Returns
    -------
    tuple
        F1 and average precision, in [0, 1]; None if nothing is true.
    """
    if not truth.any():
        return None
    down = np.argsort(-scores, kind="stable")
    hits = np.cumsum(truth[down])
    last = np.flatnonzero(np.diff(scores[down], append=-np.inf))
    hits, taken = hits[last], last + 1
    precision, recall = hits / taken, hits / truth.sum()
    f1 = 2 * hits / (taken + truth.sum())
    return float(f1.max()), float(np.sum(np.diff(recall, prepend=0) * precision))


@dataclass(frozen=True)
class Judge:
    """Validation: the same images at every epoch.

    Attributes
    ----------
    batches
        What to look at; empty if there is no validation volume.
    loss
        As in training.
    classes
        Number of classes.
    patches
        Whether these are patches.
    """

    batches: Sequence[Batch]
    loss: Callable[[Any, Any], Any]
    classes: int
    patches: bool

    def judge(
        self, model: Any, before_batch: Callable[[], None] | None = None
    ) -> dict[str, float | None]:
        """Return val_loss and val_iou of slices, or val_loss, val_f1, val_ap of patches.

        What is to happen before each batch may break off by raising.
        """
        pairs = []
        for seen, truth in self.batches:
            if before_batch:
                before_batch()
            pairs.append((truth, model.predict_on_batch(seen)))
        each = [float(self.loss(truth, found)) for truth, found in pairs]
        result: dict[str, float | None] = {"val_loss": float(np.mean(each))}
        if self.patches:
            truth = np.concatenate([labels.ravel() for labels, _ in pairs])
            scores = np.concatenate([1 - found[:, 0] for _, found in pairs])
            known = truth != IGNORE
            best = ranking(truth[known] > 0, scores[known]) or (None, None)
            return result | dict(zip(("val_f1", "val_ap"), best, strict=True))
        confusion = sum(self._confusion(*pair) for pair in pairs)
        return result | {"val_iou": mean_iou(np.asarray(confusion))}

    def _confusion(self, truth: Array, found: Array) -> npt.NDArray[np.int64]:
        valid = truth[..., 0] != IGNORE
        pairs = truth[..., 0][valid] * self.classes + found.argmax(axis=-1)[valid]
        counts = np.bincount(pairs, minlength=self.classes**2)
        return counts.reshape(self.classes, self.classes)


def fixed(pool: Pool, framing: Framing, batch: int, most: int | None) -> list[Batch]:
    """Choose at most so many images evenly, in fixed windows and batches of one size.

    Where there are fewer images, each is looked at through several windows, up to as
    many as would cover it: a few labelled slices are judged by more than a corner.

    Parameters
    ----------
    pool
        Validation examples; there may be none.
    framing
        Window of slices.
    batch
        Images in a batch; the last is filled up with unlabelled ones.
    most
        Number of windows at most; None: 32 of slices or 2000 patches.
    """
    most = most or (2000 if pool.patches else 32)
    chosen = _chosen(pool, framing, most)
    count = len(chosen)
    batches = []
    for start in range(0, count, batch):
        places = chosen[start : start + batch]
        images, labels = framing.assemble(pool, places.tolist(), "validation", start)
        spare = batch - len(places)
        if spare:  # one size only, or the network is traced again
            images = np.concatenate([images, np.repeat(images[:1], spare, axis=0)])
            unknown = np.full((spare, *labels.shape[1:]), IGNORE, np.int32)
            labels = np.concatenate([labels, unknown])
        batches.append((images, labels))
    return batches


def _chosen(pool: Pool, framing: Framing, most: int) -> npt.NDArray[np.int64]:
    """Places of the images to look at, one for each window."""
    images = len(pool.items)
    if not images or images >= most:
        return np.linspace(0, images - 1, min(most, images)).round().astype(np.int64)
    covering = math.prod(pool.image_shape()[:2]) // math.prod(framing.window)
    windows = max(1, min(covering, most // images))
    return np.repeat(np.arange(images), windows)
