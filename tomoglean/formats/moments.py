"""Mean and standard deviation of more voxels than memory holds."""

import math
from dataclasses import dataclass
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
