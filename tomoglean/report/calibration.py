"""Calibration in the report: what the network is sure of, is it right as often.

Voxels: the confidence stored beside the labels, against the truth, on some slices of the
volumes the figures speak of. Picks: the scores of all candidates, as the curve of the
evaluation counts them, against which of them are true.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tomoglean import volumes
from tomoglean.report import charts, figures, intervals, plots, slices, style
from tomoglean.report.blocks import Chart, Charts, Note
from tomoglean.report.sources import Row, Source, numbers
from tomoglean.scores import rates
from tomoglean.volumes import IGNORE, Volume

LOG = logging.getLogger(__name__)
BINS = 10
LEVELS = 256
MOST_SLICES = 48
MOST_OF_ONE = 16
MOST_VOXELS = 4_000_000
REPEATS = 400
Counts = npt.NDArray[np.int64]


# -- voxels --------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """Voxels of one volume by confidence.

    Attributes
    ----------
    counts
        Voxels that are wrong and right by the class they were given and its confidence
        (0..255), shape (256, 256, 2).
    slices
        How many slices were looked at.
    """

    counts: Counts
    slices: int

    @property
    def whole(self) -> Counts:
        """Voxels that are wrong and right by confidence, shape (256, 2)."""
        return np.asarray(self.counts.sum(axis=0))


def of_voxels(source: Source, task: str, names: Sequence[str]) -> list[Any]:
    """Draw how often voxels of a confidence are labelled right, and say so in a line."""
    samples = _samples(source, task, names)
    if not samples:
        return [Note("Calibration: n/a (no confidence beside true labels).")]
    bins = voxel_bins([one.whole for one in samples.values()], _seed(source))
    shown = plots.Reliability(
        bins,
        "Is the confidence right?",
        "confidence (probability given to the label)",
        "share of voxels labelled right",
        "of voxels",
        members=_members(samples) if len(samples) > 1 else {},
    )
    words = _voxel_words(samples, bins)
    alt = f"Share of voxels labelled right over confidence, {style.words(task)}: {words}"
    whole = Chart(plots.reliability(shown), alt, words)
    return [Charts([whole, _by_class(source, task, samples)], _caption(samples))]


def _seed(source: Source) -> int:
    return int(style.finite(source.study.config.get("seed")) or 0)


def _by_class(source: Source, task: str, samples: Mapping[str, Sample]) -> Chart:
    """Draw the same for the voxels that were given each class."""
    classes = source.classes(task)
    inks = [style.INK, *style.class_colours(classes).values()]
    counts = np.sum([one.counts for one in samples.values()], axis=0)
    lines, errors = {}, []
    for label, name in enumerate(classes):
        bins = voxel_bins([counts[label]], 0)
        lines[name] = _line(bins)
        found = f"{error(bins):.3f}" if bins else "n/a (never given)"
        errors.append(f"{style.words(name)} {found}")
    uri = charts.lines(
        lines,
        charts.Scales(
            "By the class that was given",
            "confidence (probability given to the label)",
            "share of voxels labelled right",
            y_range=charts.UNIT,
        ),
        charts.Marks(diagonal=True),
        inks=inks,
        size_inch=charts.TALL_INCH,
    )
    text = f"Expected calibration error: {', '.join(errors)}"
    return Chart(uri, f"Share of voxels labelled right by class given; {text}", text)


def _samples(source: Source, task: str, names: Sequence[str]) -> dict[str, Sample]:
    most = max(1, min(MOST_OF_ONE, MOST_SLICES // max(len(names), 1)))
    found = {name: _sample(source, task, name, most) for name in names}
    return {name: one for name, one in found.items() if one is not None}


def _sample(source: Source, task: str, volume: str, most: int) -> Sample | None:
    truth = slices.truth_of(source, task, volume)
    counts, looked = np.zeros((LEVELS, LEVELS, 2), np.int64), 0
    given = slices.predictions(source, task, volume) if truth is not None else {}
    share = max(1, most // max(len(given), 1))
    for path, speaks_for in given.values():
        try:
            more, seen = tally(path, truth, speaks_for, share)  # type: ignore[arg-type]
        except (OSError, KeyError, ValueError, IndexError) as error:
            LOG.warning("no calibration from %s: %s", path.name, error)
            continue
        counts, looked = counts + more, looked + seen
    return Sample(counts, looked) if counts.any() else None


def tally(
    segmented: Path, truth: Path, speaks_for: set[int] | None, most: int
) -> tuple[Counts, int]:
    """Count wrong and right voxels by label and confidence on slices spread over a volume.

    Parameters
    ----------
    segmented
        Labels with their confidence.
    truth
        True labels; 255 = unknown, not counted.
    speaks_for
        True z of the slices that count, None = all.
    most
        Most slices to read; fewer where slices are large (one holds enough voxels).

    Returns
    -------
    ndarray of shape (256, 256, 2), int
        Wrong and right voxels by given label and confidence.
    int
        The number of slices with any.

    Raises
    ------
    KeyError
        If there is no confidence beside the labels.
    ValueError
        If labels and truth differ in shape.
    """
    with (
        volumes.open_volume(segmented) as ours,
        volumes.open_volume(segmented, "confidence") as sure,
        volumes.open_volume(truth) as true,
    ):
        if ours.shape != true.shape:
            raise ValueError(f"labels of shape {ours.shape}, truth {true.shape}")
        depth = np.arange(ours.shape[0]) if ours.z is None else np.asarray(ours.z)
        places = [i for i, z in enumerate(depth) if speaks_for is None or z in speaks_for]
        counts, seen = np.zeros((LEVELS, LEVELS, 2), np.int64), 0
        most = min(most, max(1, MOST_VOXELS // (ours.shape[1] * ours.shape[2])))
        for place in spread(places, true, most):
            found = _count(ours.data[place], sure.data[place], true.data[place])
            counts, seen = counts + found, seen + bool(found.any())
    return counts, seen


def spread(places: Sequence[int], true: Volume, most: int) -> list[int]:
    """Choose slices evenly among those with labels in their middle row (else among all)."""
    if len(places) <= most:
        return list(places)
    middle = np.asarray(true.data[:, true.shape[1] // 2])
    known = [i for i in places if np.any(middle[i] != IGNORE)] or list(places)
    return [known[i] for i in figures.places(len(known), most)][:most]


def _count(ours: Any, sure: Any, true: Any) -> Counts:
    judged = (true != IGNORE) & (ours != IGNORE)
    given = ours[judged].astype(np.int64)
    codes = (given * LEVELS + sure[judged]) * 2 + (given == true[judged])
    shape = LEVELS, LEVELS, 2
    return np.bincount(codes, minlength=2 * LEVELS**2).reshape(shape)


def voxel_bins(members: Sequence[Counts], seed: int) -> list[plots.Bin]:
    """Put voxels into ten bins of confidence; intervals over three volumes or more."""
    units = np.array([_binned(one) for one in members])
    whole = units.sum(axis=0)
    total = whole[:, :2].sum()
    bins = []
    for place, (wrong, right, sure) in enumerate(whole.tolist()):
        if not wrong + right:
            continue
        bounds = rates.interval(
            units[:, place],
            lambda found: rates.ratio(found[1], found[0] + found[1]),
            repeats=REPEATS,
            seed=seed,
            purpose=f"calibration {place}",
        )
        bins.append(
            plots.Bin(
                place / BINS,
                (place + 1) / BINS,
                sure / (wrong + right),
                right / (wrong + right),
                (wrong + right) / total,
                (bounds[0], bounds[1]) if bounds else None,
            )
        )
    return bins


def _binned(counts: Counts) -> npt.NDArray[np.float64]:
    """Return wrong, right and summed confidence by bin, shape (10, 3)."""
    sure = np.arange(LEVELS) / (LEVELS - 1)
    place = np.minimum((sure * BINS).astype(int), BINS - 1)
    found = np.zeros((BINS, 3))
    for column, values in enumerate((*counts.T, counts.sum(axis=1) * sure)):
        found[:, column] = np.bincount(place, values, BINS)
    return found


def _members(samples: Mapping[str, Sample]) -> dict[str, charts.Line]:
    return {name: _line(voxel_bins([one.whole], 0)) for name, one in samples.items()}


def _line(bins: Sequence[plots.Bin]) -> charts.Line:
    return [one.confidence for one in bins], [one.right for one in bins]


def error(bins: Sequence[plots.Bin]) -> float:
    """Return the expected calibration error: the mean gap of the bins by their weight."""
    return sum(one.weight * abs(one.right - one.confidence) for one in bins)


def _voxel_words(samples: Mapping[str, Sample], bins: Sequence[plots.Bin]) -> str:
    sure = sum(one.weight * one.confidence for one in bins)
    right = sum(one.weight * one.right for one in bins)
    lean = "over-confident" if sure > right else "under-confident"
    return (
        f"Mean confidence {sure:.3f}, right {right:.3f}: {lean} by "
        f"{abs(sure - right):.3f}; expected calibration error {error(bins):.3f} over "
        f"{BINS} bins"
    )


def _caption(samples: Mapping[str, Sample]) -> str:
    looked = sum(one.slices for one in samples.values())
    voxels = sum(int(one.counts.sum()) for one in samples.values())
    told = f"From {looked} slices of {len(samples)} volumes, {voxels:,} voxels"
    told = told.replace(" 1 volumes", " 1 volume")
    if len(samples) >= rates.LEAST_UNITS:
        return f"{told}; bars: 95 % intervals over volumes."
    return f"{told}; too few volumes for intervals."


# -- picks ---------------------------------------------------------------------------


def of_picks(rows: Sequence[Row], threshold: float | None, use: str) -> list[Chart]:
    """Draw how many candidates of a score are true; nothing without any."""
    bins = pick_bins(rows)
    if not bins:
        return []
    shown = plots.Reliability(
        bins,
        "Is the score a probability?",
        "score of the candidate",
        "share that is true",
        "of candidates",
        mark=None if threshold is None else (threshold, "threshold"),
    )
    text = f"Expected calibration error {error(bins):.2f}; bars: 95 % Wilson intervals"
    alt = f"Share of true ones among candidates over their score on {use} volumes"
    return [Chart(plots.reliability(shown), f"{alt}; {text}", text)]


def pick_bins(rows: Sequence[Row]) -> list[plots.Bin]:
    """Put candidates into ten bins of score, from the rows of a curve.

    A curve counts true and false candidates of at least a score; the difference of two
    rows is what lies between them.
    """
    columns = [numbers(rows, name) for name in ("threshold", "tp", "fp")]
    known = np.array(columns, np.float64).T
    known = known[np.isfinite(known).all(axis=1)]
    known = known[np.argsort(-known[:, 0], kind="stable")]
    single = np.diff(known[:, 1:], axis=0, prepend=0.0).clip(0)
    place = np.clip(known[:, 0] * BINS, 0, BINS - 1).astype(int)
    return [
        _pick_bin(one, known[place == one, 0], single[place == one], single.sum())
        for one in range(BINS)
        if single[place == one].any()
    ]


def _pick_bin(
    place: int,
    scores: npt.NDArray[np.float64],
    counts: npt.NDArray[np.float64],
    total: float,
) -> plots.Bin:
    each = counts.sum(axis=1)
    true, number = float(counts[:, 0].sum()), float(each.sum())
    return plots.Bin(
        place / BINS,
        (place + 1) / BINS,
        float((scores * each).sum() / number),
        true / number,
        number / total,
        intervals.wilson(int(true), int(number)),
    )
