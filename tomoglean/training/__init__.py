"""Train a network on labelled slices or patches.

Every batch is a pure function of (seed, epoch, step), so the same seed and number of
threads give the same weights to the bit.
"""

from tomoglean.training.batches import Framing, ahead, crop, order
from tomoglean.training.examples import Pool
from tomoglean.training.loop import Settings, fit
from tomoglean.training.validation import Judge, mean_iou, ranking

__all__ = [
    "Framing",
    "Judge",
    "Pool",
    "Settings",
    "ahead",
    "crop",
    "fit",
    "mean_iou",
    "order",
    "ranking",
]
