"""Count what a labelling gets right, slab by slab, and turn counts into figures."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tomoglean import volumes
from tomoglean.provenance import Refused
from tomoglean.scores import rates, surfaces
from tomoglean.volumes import IGNORE, Volume

SLAB_VOXELS = 1 << 26
FIGURES = ("iou", "dice", "surface_dice", "volume_error_percent")

Labels = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]
Labeller = Callable[[slice], Labels]


@dataclass(frozen=True)
class Tally:
    """Voxels of one method on one volume, or on several.

    Attributes
    ----------
    confusion
        Voxels by true and predicted class, shape (C, C + 1); the last column counts voxels
        the method left unlabelled.
    surface
        Counts of `surfaces.agreement`, shape (C, 4); None where the truth is not dense.
    """

    confusion: Integers
    surface: Integers | None

    def __add__(self, other: "Tally") -> "Tally":
        """Pool two volumes; surfaces only if both have them."""
        known = self.surface is not None and other.surface is not None
        surface = self.surface + other.surface if known else None  # type: ignore[operator]
        return Tally(self.confusion + other.confusion, surface)

    def figures(self) -> list[dict[str, float | int | None]]:
        """Return IoU, Dice, surface-Dice and volume error of each class, in order.

        None where a figure is undefined: IoU and Dice where a class is neither in the
        truth nor in the prediction, the volume error where it is not in the truth.
        """
        shared = np.diag(self.confusion)
        true, ours = self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        found: list[dict[str, float | int | None]] = []
        for label, (hit, n_truth, n_ours) in enumerate(
            zip(shared, true, ours, strict=False)
        ):
            error = rates.ratio(100.0 * (n_ours - n_truth), n_truth)
            found.append(
                {
                    "iou": rates.ratio(hit, n_truth + n_ours - hit),
                    "dice": rates.ratio(2 * hit, n_truth + n_ours),
                    "surface_dice": self._surface_dice(label),
                    "volume_error_percent": error,
                    "n_truth": int(n_truth),
                    "n_predicted": int(n_ours),
                    "n_shared": int(hit),
                }
            )
        return found

    def _surface_dice(self, label: int) -> float | None:
        if self.surface is None:
            return None
        near_true, true, near_ours, ours = self.surface[label]
        return rates.ratio(near_true + near_ours, true + ours)

    def averages(self) -> dict[str, float | None]:
        """Average the figures over the classes where they are defined, not the error."""
        classes = self.figures()
        return {name: rates.mean([one[name] for one in classes]) for name in FIGURES[:3]}


def tally(
    labeller: Labeller,
    truth: Volume,
    *,
    classes: int,
    tolerance_px: float,
    slices: Collection[int] | None = None,
    slab_voxels: int = SLAB_VOXELS,
) -> Tally:
    """Compare the labels of a volume with the truth, slab by slab.

    Parameters
    ----------
    labeller
        Returns labels of shape (n, Y, X) for a range of slices.
    truth
        True labels; 255 = unknown, not counted.
    classes
        Number of classes.
    tolerance_px
        Distance within which surfaces agree, in voxels.
    slices
        True z of the slices that count; None = all. Surfaces need neighbours: they are
        compared only where all slices count, the set is not sparse and no label unknown.
    slab_voxels
        Most voxels to hold at once.

    Raises
    ------
    Refused
        If the truth holds a label without a class.
    """
    confusion = np.zeros((classes, classes + 1), np.int64)
    surface = np.zeros((classes, surfaces.PARTS), np.int64)
    dense = slices is None and truth.z is None
    beyond = surfaces.margin(tolerance_px) if dense else 0
    for outer, inner in _ranges(truth, slices, beyond, slab_voxels):
        true, ours = np.asarray(truth.data[outer]), labeller(outer)
        confusion += _confusion(true[inner], ours[inner], classes)
        dense = dense and not np.any(true == IGNORE)
        if dense:
            surface += surfaces.agreement(
                true, ours, classes=classes, tolerance_px=tolerance_px, inner=inner
            )
    return Tally(confusion, surface if dense else None)


def _ranges(
    truth: Volume, slices: Collection[int] | None, beyond: int, slab_voxels: int
) -> Iterator[tuple[slice, slice]]:
    """Cut into ranges with context, and say which slices of each are its own."""
    depth, height, width = truth.shape
    if slices is not None:
        true_z = np.arange(depth) if truth.z is None else truth.z
        for place in np.flatnonzero(np.isin(true_z, list(slices))).tolist():
            yield slice(place, place + 1), slice(0, 1)
        return
    thickness = min(volumes.CHUNK, max(1, slab_voxels // max(1, height * width)))
    for own in volumes.slabs(depth, thickness):
        start = max(0, own.start - beyond)
        outer = slice(start, min(depth, own.stop + beyond))
        yield outer, slice(own.start - start, own.stop - start)


def _confusion(true: Labels, ours: Labels, classes: int) -> Integers:
    known = true != IGNORE
    codes = true[known].astype(np.int64)
    if codes.size and codes.max() >= classes:
        raise Refused(
            f"true labels: expected values below {classes} or {IGNORE}, found "
            f"{codes.max()}; list every class in the config"
        )
    width = classes + 1
    codes = codes * width + np.minimum(ours[known], classes)
    return np.bincount(codes, minlength=classes * width).reshape(classes, width)
