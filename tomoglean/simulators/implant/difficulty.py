"""How hard a scan is, in numbers: overlap of the classes' greys, errors of labels."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

BINS = 512


class Greys:
    """Histograms of the image within each class, filled part by part.

    Parameters
    ----------
    classes
        Names of the classes, by label.
    low, high
        Range of the histograms in 1/cm; what lies beyond counts in the last bins.
    """

    def __init__(self, classes: Sequence[str], low: float, high: float) -> None:
        self.classes = classes
        self.low, self.step = low, (high - low) / BINS
        self.counts = np.zeros((len(classes), BINS), np.int64)
        self.sums = np.zeros((len(classes), 2))

    def add(self, image: npt.NDArray[Any], truth: npt.NDArray[np.uint8]) -> None:
        """Count a part of the image, in 1/cm, by its true labels."""
        bins = np.clip((image - self.low) / self.step, 0, BINS - 1).astype(np.int64)
        places = truth.astype(np.int64) * BINS + bins
        self.counts += np.bincount(places.ravel(), minlength=self.counts.size).reshape(
            self.counts.shape
        )
        for power in (1, 2):
            values = image.ravel().astype(np.float64) ** power
            self.sums[:, power - 1] += np.bincount(
                truth.ravel(), values, minlength=len(self.classes)
            )

    def facts(self) -> dict[str, Any]:
        """Mean and spread of each class, and the overlap of each two of them.

        `grey_overlap` is the area that two normalised histograms share: 0 = a threshold
        parts them without error, 1 = it cannot tell them apart. `grey_separation` is the
        distance of the means in standard deviations (root mean square of both).
        """
        seen = [label for label, n in enumerate(self.counts.sum(axis=1)) if n]
        grey = {self.classes[label]: self._moments(label) for label in seen}
        pairs = list(combinations([self.classes[label] for label in seen], 2))
        return {
            "grey_per_cm": grey,
            "grey_overlap": {f"{a}/{b}": self._overlap(a, b) for a, b in pairs},
            "grey_separation": {
                f"{a}/{b}": _separation(grey[a], grey[b]) for a, b in pairs
            },
        }

    def _moments(self, label: int) -> dict[str, float]:
        mean, square = self.sums[label] / self.counts[label].sum()
        return {"mean": float(mean), "std": float(np.sqrt(max(square - mean**2, 0)))}

    def _overlap(self, *pair: str) -> float:
        one, other = (self.counts[self.classes.index(name)] for name in pair)
        return float(np.minimum(one / one.sum(), other / other.sum()).sum())


def _separation(one: dict[str, float], other: dict[str, float]) -> float | None:
    spread = np.sqrt((one["std"] ** 2 + other["std"] ** 2) / 2)
    return float(abs(one["mean"] - other["mean"]) / spread) if spread else None


class Confusion:
    """How often each label stands where each class is, counted part by part."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = classes
        self.counts = np.zeros((len(classes), len(classes)), np.int64)

    def add(self, labels: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8]) -> None:
        """Count a part."""
        number = len(self.classes)
        places = truth.ravel().astype(np.int64) * number + labels.ravel()
        self.counts += np.bincount(places, minlength=number**2).reshape(number, number)

    def iou(self) -> dict[str, float | None]:
        """Intersection over union of each class; None where there is neither."""
        right = np.diag(self.counts)
        union = self.counts.sum(axis=0) + self.counts.sum(axis=1) - right
        return {
            name: float(r / u) if u else None
            for name, r, u in zip(self.classes, right, union, strict=True)
        }

    def facts(self) -> dict[str, Any]:
        """Errors: IoU and volume error in per cent by class, wrong voxels in per cent."""
        true, said = self.counts.sum(axis=1), self.counts.sum(axis=0)
        volumes = {
            name: float(100 * (s - t) / t) if t else None
            for name, s, t in zip(self.classes, said, true, strict=True)
        }
        wrong = 100 * (1 - np.trace(self.counts) / max(self.counts.sum(), 1))
        return {
            "iou": self.iou(),
            "volume_error_percent": volumes,
            "wrong_percent": float(wrong),
        }
