"""Which pick found which truth: one-to-one matching and the counting rules of others."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from tomoglean.scores import rates

Points = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
FREE = -1


@dataclass(frozen=True)
class Counts:
    """True positives, false positives and false negatives by some rule."""

    tp: int
    fp: int
    fn: int

    def rates(self, *betas: float) -> dict[str, float | int | None]:
        """Return the counts with precision, recall and the F scores asked for."""
        precision, recall = rates.precision_recall(self.tp, self.fp, self.fn)
        scores = {f"f{b:g}": rates.f_beta(self.tp, self.fp, self.fn, b) for b in betas}
        return {**vars(self), "precision": precision, "recall": recall, **scores}

    def __add__(self, other: "Counts") -> "Counts":
        """Pool the counts of two volumes."""
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)


def one_to_one(picks_nm: Points, truths_nm: Points, radius_nm: float) -> Indices:
    """Match picks and truths: as many pairs as possible, then the least total distance.

    Pairs further apart than the radius do not exist. The rest falls into groups that share
    no point; each is solved as a linear assignment in which a pair outside the radius
    costs more than all pairs inside together.

    Parameters
    ----------
    picks_nm, truths_nm
        Points of shape (N, 3) and (M, 3), in nm.
    radius_nm
        Largest distance of a match, in nm.

    Returns
    -------
    ndarray of shape (N,)
        Index of the truth matched with each pick, -1 where there is none.
    """
    matched = np.full(len(picks_nm), FREE, np.int64)
    pick, truth, gap = _pairs(picks_nm, truths_nm, radius_nm)
    for members in _groups(pick, truth, len(picks_nm), len(truths_nm)):
        rows, row = np.unique(pick[members], return_inverse=True)
        columns, column = np.unique(truth[members], return_inverse=True)
        forbidden = (min(len(rows), len(columns)) + 1) * (radius_nm + 1.0)
        cost = np.full((len(rows), len(columns)), forbidden)
        cost[row, column] = gap[members]
        for i, j in zip(*linear_sum_assignment(cost), strict=True):
            if cost[i, j] < forbidden:
                matched[rows[i]] = columns[j]
    return matched


def _pairs(
    picks_nm: Points, truths_nm: Points, radius_nm: float
) -> tuple[Indices, Indices, npt.NDArray[np.float64]]:
    if not len(picks_nm) or not len(truths_nm):
        nothing = np.zeros(0, np.int64)
        return nothing, nothing, np.zeros(0)
    near: Any = cKDTree(truths_nm).query_ball_point(picks_nm, radius_nm)
    pick = np.repeat(np.arange(len(near)), [len(found) for found in near])
    truth = np.array([index for found in near for index in found], np.int64)
    return pick, truth, np.linalg.norm(picks_nm[pick] - truths_nm[truth], axis=1)


def _groups(pick: Indices, truth: Indices, n_picks: int, n_truths: int) -> list[Indices]:
    if not len(pick):
        return []
    size = n_picks + n_truths
    graph: csr_array[Any] = coo_array(
        (np.ones(len(pick)), (pick, truth + n_picks)), (size, size)
    ).tocsr()
    group = connected_components(graph, directed=False)[1][pick]
    order = np.argsort(group, kind="stable")
    return list(np.split(order, np.flatnonzero(np.diff(group[order])) + 1))


def greedy(picks_nm: Points, truths_nm: Points, radius_nm: float) -> Indices:
    """Match best pick first, each with the nearest truth that is still free.

    A match never changes when worse picks are added, so the hits of any threshold are a
    prefix of this list; used for curves.

    Parameters
    ----------
    picks_nm
        Points of shape (N, 3) in nm, best first.
    truths_nm
        Points of shape (M, 3) in nm.
    radius_nm
        Largest distance of a match, in nm.

    Returns
    -------
    ndarray of shape (N,)
        Index of the truth matched with each pick, -1 where there is none.
    """
    matched = np.full(len(picks_nm), FREE, np.int64)
    pick, truth, gap = _pairs(picks_nm, truths_nm, radius_nm)
    taken: set[int] = set()
    for pair in np.lexsort((truth, gap, pick)):
        if matched[pick[pair]] == FREE and int(truth[pair]) not in taken:
            matched[pick[pair]] = truth[pair]
            taken.add(int(truth[pair]))
    return matched


def count(matched: Indices, truths: int) -> Counts:
    """Count hits, false picks (duplicates among them) and missed truths."""
    hits = int((matched != FREE).sum())
    return Counts(hits, len(matched) - hits, truths - hits)


def deepict(picks_nm: Points, truths_nm: Points, radius_nm: float) -> Counts:
    """Count as DeePiCt does: duplicates are neither hits nor false (greedy by score)."""
    matched = greedy(picks_nm, truths_nm, radius_nm)
    near = np.zeros(len(picks_nm), bool)
    near[_pairs(picks_nm, truths_nm, radius_nm)[0]] = True
    hits = int((matched != FREE).sum())
    return Counts(hits, int((~near).sum()), len(truths_nm) - hits)


def deepfinder(picks_nm: Points, truths_nm: Points, radius_nm: float) -> Counts:
    """Count as DeepFinder does: a truth is hit only if exactly one pick lies inside."""
    pick, truth, _ = _pairs(picks_nm, truths_nm, radius_nm)
    inside = np.bincount(truth, minlength=len(truths_nm))
    hits = int((inside == 1).sum())
    true_picks = np.unique(pick[inside[truth] == 1])
    return Counts(hits, len(picks_nm) - len(true_picks), len(truths_nm) - hits)


def czii(picks_nm: Points, truths_nm: Points, radius_nm: float) -> Counts:
    """Count as the CZII challenge does: a truth near any pick is hit, all else false.

    The challenge's radius is half the particle's radius.
    """
    truth = _pairs(picks_nm, truths_nm, radius_nm)[1]
    hits = len(np.unique(truth))
    return Counts(hits, max(0, len(picks_nm) - hits), len(truths_nm) - hits)
