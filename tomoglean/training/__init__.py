"""Train a network on labelled slices or patches.

Every batch is a pure function of (seed, epoch, step), so the same seed and number of
threads give the same weights to the bit.
"""

from tomoglean.training.batches import Framing, ahead, crop, order
from tomoglean.training.checkpoints import Checkpoint
from tomoglean.training.examples import Pool
from tomoglean.training.keeping import Course, Interrupted
from tomoglean.training.loop import fit, fit_part
from tomoglean.training.run import Diverged
from tomoglean.training.settings import Settings
from tomoglean.training.validation import Judge, mean_iou, ranking

__all__ = [
    "Checkpoint",
    "Course",
    "Diverged",
    "Framing",
    "Interrupted",
    "Judge",
    "Pool",
    "Settings",
    "ahead",
    "crop",
    "fit",
    "fit_part",
    "mean_iou",
    "order",
    "ranking",
]
