"""Better labels from weak ones, out-of-fold predictions and a few corrected slices.

What a network is told again, and what it is better not told: networks average out random
label errors but learn biased ones (arXiv:2107.02189), and a network retrained on its own
confident output learns its own bias. So a voxel keeps a label only if the prediction is
confident by a standard measured on corrected slices, class by class, or if two witnesses
(weak label and prediction) agree; the rest is ignored.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tomoglean import volumes
from tomoglean.provenance import Refused
from tomoglean.volumes import IGNORE

LEVELS = 256
Paths = Sequence[str | os.PathLike[str]]


@dataclass
class Calibration:
    """How often each class's predictions were right, by confidence.

    Attributes
    ----------
    right, seen
        Numbers of voxels of shape (classes, 256): predicted as the class with that
        confidence, and right; predicted so at all.
    """

    right: npt.NDArray[np.int64]
    seen: npt.NDArray[np.int64]

    @classmethod
    def empty(cls, classes: int) -> "Calibration":
        """Start counting."""
        return cls(np.zeros((classes, LEVELS), int), np.zeros((classes, LEVELS), int))

    def count(
        self,
        labels: npt.NDArray[np.uint8],
        confidence: npt.NDArray[np.uint8],
        truth: npt.NDArray[np.uint8],
    ) -> None:
        """Count the voxels whose truth is known (three arrays of the same shape)."""
        known = (truth != IGNORE) & (labels < len(self.seen))
        places = labels[known].astype(np.int64) * LEVELS + confidence[known]
        hits = truth[known] == labels[known]
        for total, chosen in ((self.seen, places), (self.right, places[hits])):
            total += np.bincount(chosen, minlength=total.size).reshape(total.shape)

    def thresholds(
        self,
        *,
        target_precision: float,
        keep_share: float,
        default_threshold: float,
        min_voxels: int,
    ) -> list[int]:
        """Lowest confidence (0 to 255) at which each class is precise enough.

        It is lowered where it would drop more than 1 - `keep_share` of the class's voxels,
        for a rare textured class dies otherwise, and is the default for a class seen in
        fewer than `min_voxels` voxels.
        """
        default = round(default_threshold * (LEVELS - 1))
        return [
            lowest_confidence(right, seen, target_precision, keep_share)
            if seen.sum() >= max(1, min_voxels)
            else default
            for right, seen in zip(self.right, self.seen, strict=True)
        ]


def lowest_confidence(
    right: npt.NDArray[np.int64],
    seen: npt.NDArray[np.int64],
    target_precision: float,
    keep_share: float,
) -> int:
    """Lowest confidence at which the voxels from there upwards are precise enough.

    Parameters
    ----------
    right, seen
        Numbers of voxels of one class by confidence, of shape (256,).
    target_precision
        Least share of right voxels among those kept, in [0, 1].
    keep_share
        Least share of voxels kept, in [0, 1]; it wins over the precision.

    Returns
    -------
    int
        Confidence in 0 to 255.
    """
    kept = np.cumsum(seen[::-1])[::-1]
    correct = np.cumsum(right[::-1])[::-1]
    precise = np.flatnonzero((kept > 0) & (correct >= target_precision * kept))
    plenty = np.flatnonzero(kept >= keep_share * kept[0])
    return int(min(precise[0] if precise.size else LEVELS - 1, plenty[-1]))


def relabel(
    weak: str | os.PathLike[str],
    predicted: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    calibration_predicted: Paths = (),
    calibration_corrected: Paths = (),
    target_precision: float = 0.9,
    keep_share: float = 0.5,
    default_threshold: float = 0.95,
    min_voxels: int = 200,
    keep_agreeing: bool = True,
) -> None:
    """Write better labels of one volume.

    The prediction where it is at least as confident as its class's threshold; else, with
    `keep_agreeing`, the weak label where it says the same as the prediction; else 255.
    Corrected labels come in where slices are cut: there the later kind of label wins.

    Parameters
    ----------
    weak
        Weak labels (Z, Y, X), 255 = unlabelled.
    predicted
        Out-of-fold segmentation of the same volume: labels and confidence, by a network
        that never saw this volume's weak labels.
    output
        Where the labels go. Attributes: classes, thresholds (confidence in [0, 1]),
        calibration_voxels, share_ignored (of the predictions) by class,
        share_changed (of the voxels that have a weak and a new label), all as JSON.
    calibration_predicted, calibration_corrected
        Out-of-fold segmentations of training volumes, and their corrected labels, in the
        same order. Without them every class takes the default threshold.
    target_precision
        Precision a class's kept predictions shall have on the calibration voxels.
    keep_share
        Least share of each class's predictions to keep, whatever their precision.
    default_threshold
        Least confidence in [0, 1] of a class without calibration voxels. High, because
        uncorrected self-training spreads the bias that all folds share.
    min_voxels
        A class predicted in fewer calibration voxels counts as uncalibrated.
    keep_agreeing
        Keep unsure predictions that the weak label confirms.

    Raises
    ------
    Refused
        If files that belong together differ in shape or classes.
    """
    classes = volumes.class_names(predicted)
    calibration = calibrate(calibration_predicted, calibration_corrected, classes)
    thresholds = calibration.thresholds(
        target_precision=target_precision,
        keep_share=keep_share,
        default_threshold=default_threshold,
        min_voxels=min_voxels,
    )
    tally = _Tally(len(classes))
    with (
        volumes.open_volume(predicted) as labels,
        volumes.create(
            output,
            {"data": (labels.shape, np.uint8)},
            voxel_nm=labels.voxel_nm,
            z=labels.z,
            origin_nm=labels.origin_nm,
        ) as file,
    ):
        for slab in volumes.slabs(labels.shape[0]):
            guess, confidence = _prediction(predicted, slab)
            hint = _labels(weak, slab, predicted)
            new = fuse(hint, guess, confidence, thresholds, keep_agreeing)
            tally.count(hint, guess, new)
            file["data"][slab] = new
        facts = {
            "classes": classes,
            "thresholds": _by_class(classes, [level / 255 for level in thresholds]),
            "calibration_voxels": _by_class(classes, calibration.seen.sum(1).tolist()),
            **tally.shares(classes),
        }
        file.attrs.update({name: json.dumps(value) for name, value in facts.items()})


def fuse(
    weak: npt.NDArray[np.uint8],
    predicted: npt.NDArray[np.uint8],
    confidence: npt.NDArray[np.uint8],
    thresholds: Sequence[int],
    keep_agreeing: bool = True,
) -> npt.NDArray[np.uint8]:
    """Keep the predictions that are confident, or that the weak labels confirm.

    Parameters
    ----------
    weak, predicted, confidence
        Three arrays of one shape; weak labels 255 where unlabelled, confidence 255 = 1.
    thresholds
        Least confidence by label, 0 to 255.
    keep_agreeing
        Whether agreement excuses a lack of confidence.

    Returns
    -------
    ndarray of uint8
        Labels of the same shape, 255 where neither holds.
    """
    least = np.full(LEVELS, LEVELS, np.int16)
    least[: len(thresholds)] = thresholds
    keep = confidence >= least[predicted]
    if keep_agreeing:
        keep |= weak == predicted
    return np.where(keep, predicted, np.uint8(IGNORE))


def calibrate(predicted: Paths, corrected: Paths, classes: Sequence[str]) -> Calibration:
    """Count on the corrected voxels of all calibration volumes, slab by slab."""
    calibration = Calibration.empty(len(classes))
    for guess, truth in zip(predicted, corrected, strict=True):
        if volumes.class_names(guess) != list(classes):
            raise Refused(
                f"{guess}: expected classes {', '.join(classes)}, found "
                f"{', '.join(volumes.class_names(guess))}; segment it again"
            )
        with volumes.open_volume(guess) as volume:
            depth = volume.shape[0]
        for slab in volumes.slabs(depth):
            known = _labels(truth, slab, guess)
            if (known != IGNORE).any():
                calibration.count(*_prediction(guess, slab), known)
    return calibration


def _prediction(
    path: str | os.PathLike[str], slab: slice
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    with (
        volumes.open_volume(path) as labels,
        volumes.open_volume(path, "confidence") as confidence,
    ):
        return labels.data[slab], confidence.data[slab]


def _labels(
    path: str | os.PathLike[str], slab: slice, like: str | os.PathLike[str]
) -> npt.NDArray[np.uint8]:
    with volumes.open_volume(path) as labels, volumes.open_volume(like) as other:
        if labels.shape != other.shape:
            raise Refused(
                f"{path}: expected the shape {other.shape} of {Path(like).name}, found "
                f"{labels.shape}; do both speak of the same volume?"
            )
        found: npt.NDArray[np.uint8] = labels.data[slab]
        return found


def _by_class(classes: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    return dict(zip(classes, values, strict=True))


class _Tally:
    """Counts what relabelling did to a volume."""

    def __init__(self, classes: int) -> None:
        self.predicted = np.zeros(classes, int)
        self.ignored = np.zeros(classes, int)
        self.compared = self.changed = 0

    def count(
        self,
        weak: npt.NDArray[np.uint8],
        predicted: npt.NDArray[np.uint8],
        new: npt.NDArray[np.uint8],
    ) -> None:
        """Count one slab."""
        classes = len(self.predicted)
        self.predicted += np.bincount(predicted.ravel(), minlength=classes)
        self.ignored += np.bincount(predicted[new == IGNORE], minlength=classes)
        both = (weak != IGNORE) & (new != IGNORE)
        self.compared += int(both.sum())
        self.changed += int((weak[both] != new[both]).sum())

    def shares(self, classes: Sequence[str]) -> Mapping[str, Any]:
        """Shares by class and over all; null where there was nothing to share."""
        pairs = zip(self.ignored.tolist(), self.predicted.tolist(), strict=True)
        return {
            "share_ignored": _by_class(classes, [_share(*pair) for pair in pairs]),
            "share_changed": _share(self.changed, self.compared),
        }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
