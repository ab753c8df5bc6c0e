"""Mean, standard deviation and percentiles of more voxels than memory holds."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass
class Moments:
    """Running mean and spread, merged part by part (doi:10.1080/00031305.1983.10483115).

    The result depends on the parts and their order, never on threads.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, values: npt.NDArray[Any]) -> None:
        """Take in an array of any shape; it is small enough for a copy in float64."""
        if not values.size:
            return
        values = values.astype(np.float64)
        mean = float(values.mean())
        gap, total = mean - self.mean, self.count + values.size
        self.squares += float(np.square(values - mean).sum())
        self.squares += gap**2 * self.count * values.size / total
        self.mean += gap * values.size / total
        self.count = total

    @property
    def std(self) -> float:
        """Standard deviation of the population."""
        return math.sqrt(self.squares / self.count) if self.count else 0.0


PIECE = 1 << 16
MOST_LEVELS = 1 << 16
MOST_SAMPLES = 1 << 22


class Clipped:
    """Mean and spread of grey values clipped to a range.

    Whole numbers of up to 16 bits are counted, which is exact; others go to `Moments`
    in pieces that stay in the cache.

    Parameters
    ----------
    low, high
        The range.
    dtype
        Type of the grey values.
    """

    def __init__(self, low: float, high: float, dtype: np.dtype[Any]) -> None:
        self.low, self.high = low, high
        self.moments = Moments()
        self.least = np.iinfo(dtype).min if dtype.kind in "iu" else 0
        levels = 1 << 8 * dtype.itemsize
        counted = dtype.kind in "iu" and levels <= MOST_LEVELS
        self.counts = np.zeros(levels, np.int64) if counted else None

    def add(self, block: npt.NDArray[Any]) -> None:
        """Take in an array of any shape."""
        for image in block:
            flat = image.reshape(-1)
            for start in range(0, flat.size, PIECE):
                self._add(flat[start : start + PIECE])

    def _add(self, values: npt.NDArray[Any]) -> None:
        if self.counts is None:
            self.moments.add(np.clip(values.astype(np.float64), self.low, self.high))
        else:
            places = values.astype(np.intp) - self.least
            found = np.bincount(places)
            self.counts[: found.size] += found

    def facts(self) -> dict[str, float]:
        """Say `mean` and `std`."""
        if self.counts is None:
            return {"mean": self.moments.mean, "std": self.moments.std}
        levels = np.arange(self.counts.size, dtype=np.float64) + self.least
        levels = np.clip(levels, self.low, self.high)
        mean = float(levels @ self.counts / self.counts.sum())
        squares = float(np.square(levels - mean) @ self.counts / self.counts.sum())
        return {"mean": mean, "std": math.sqrt(squares)}


def sampling_step(shape: tuple[int, int, int], most: int = MOST_SAMPLES) -> int:
    """Choose every how manieth voxel serves the percentiles.

    All of them up to `most`; beyond, a step without a common factor with the length of a
    row, so that all columns are met alike.
    """
    step = math.ceil(math.prod(shape) / most)
    while math.gcd(step, shape[2]) > 1:
        step += 1
    return step


@dataclass
class Sample:
    """Up to four million voxels, evenly from the whole volume, for its percentiles.

    Attributes
    ----------
    step
        Every how manieth voxel is taken.
    """

    step: int
    seen: int = 0
    chosen: list[npt.NDArray[Any]] = field(default_factory=list)

    @classmethod
    def of(cls, shape: tuple[int, int, int]) -> "Sample":
        """Choose the step by the shape of the volume."""
        return cls(sampling_step(shape, MOST_SAMPLES))

    def add(self, block: npt.NDArray[Any]) -> None:
        """Take in an array of any shape."""
        for image in block:
            self.chosen.append(
                image.reshape(-1)[-self.seen % self.step :: self.step].copy()
            )
            self.seen += image.size

    def clip_range(self) -> dict[str, float]:
        """Say `p_low` and `p_high`, the percentiles 0.5 and 99.5.

        If those are one value, then the least and greatest value of the sample.
        """
        values = np.concatenate(self.chosen).astype(np.float64)
        low, high = np.percentile(values, [0.5, 99.5]).tolist()
        if low == high:
            low, high = float(values.min()), float(values.max())
        return {"p_low": low, "p_high": high}
