"""Picks and truth of one tomogram, side by side in nm."""

import os
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tomoglean import tables, volumes
from tomoglean.scores.matching import Points


@dataclass(frozen=True)
class Tomogram:
    """Picks of one volume beside its truth, both in nm, the best pick first.

    Attributes
    ----------
    volume
        The volume's id.
    voxel_nm
        Voxel edges along z, y, x.
    picks_nm, scores, picks_axis
        Positions (N, 3), scores (N,) and axes (N, 3; zero where unknown).
    truths_nm, truths_axis
        Positions (M, 3) and axes (M, 3; zero where unknown).
    decoys_nm, decoys
        Positions (D, 3) and names of what is known not to be a target.
    """

    volume: str
    voxel_nm: npt.NDArray[np.float64]
    picks_nm: Points
    scores: npt.NDArray[np.float64]
    picks_axis: Points
    truths_nm: Points
    truths_axis: Points
    decoys_nm: Points
    decoys: tuple[str, ...]

    def above(self, threshold: float) -> "Tomogram":
        """Keep the picks that reach a threshold."""
        kept = int((self.scores >= threshold).sum())
        return replace(
            self,
            picks_nm=self.picks_nm[:kept],
            scores=self.scores[:kept],
            picks_axis=self.picks_axis[:kept],
        )


def read(
    volume: str,
    picks: str | os.PathLike[str],
    truth: str | os.PathLike[str],
    converted: str | os.PathLike[str],
    target: Collection[str],
) -> Tomogram:
    """Read one volume's picks and truth and bring both to nm.

    Parameters
    ----------
    volume
        The volume's id.
    picks, truth, converted
        Candidates (CSV), true points (CSV), and the volume, which knows its voxel size.
    target
        Classes of the points searched for; points without a class count too, all others
        are decoys.
    """
    edges = np.array(volumes.attributes(converted)["voxel_nm"], np.float64)
    found = tables.read_picks(picks)
    points = tables.read_points(truth)
    z, y, x = found.positions.T
    order = np.lexsort((x, y, z, -found.scores))
    wanted = np.array([name in ("", *target) for name in points.classes], bool)
    return Tomogram(
        volume=volume,
        voxel_nm=edges,
        picks_nm=found.positions[order] * edges,
        scores=found.scores[order],
        picks_axis=found.normals[order],
        truths_nm=points.positions[wanted] * edges,
        truths_axis=points.normals[wanted],
        decoys_nm=points.positions[~wanted] * edges,
        decoys=tuple(
            name for name, ours in zip(points.classes, wanted, strict=True) if not ours
        ),
    )
