"""Score labels of volumes: every round beside the baselines and the weak labels."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tomoglean import volumes
from tomoglean.provenance import Refused
from tomoglean.scores import baselines, rates
from tomoglean.scores.tallies import FIGURES, Labeller, Labels, Tally, tally
from tomoglean.volumes import Volume

POOLED, MEAN = "pooled", "mean"
FINAL, WEAK_LABELS, CONTROL = "final", "weak_labels", "control-"
STAMPS = {"within-volume": "same scan", "between-volumes": "held-out volumes"}
SCORES = [
    "method", "labels", "split", "use", "volume", "class", *FIGURES, "iou_low", "iou_high",
    "n_truth", "n_predicted", "n_shared",
]  # fmt: skip
CONFUSION = ["method", "use", "truth", "predicted", "voxels", "share_of_truth"]

Files = Sequence[str | os.PathLike[str]]
Row = dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found, ready to be written."""

    scores: list[Row]
    confusion: list[Row]
    summary: dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One volume to be judged in one round, and its files.

    `slices` holds the true z of the slices that count; None = all.
    """

    round: str
    use: str
    volume: str
    slices: tuple[int, ...] | None
    predicted: Path
    truth: Path
    converted: Path

    @property
    def method(self) -> str:
        """Round without the number of a cross-validation fold: these are pooled."""
        folded = self.slices is not None or self.round.startswith(f"{FINAL}-")
        return re.sub(r"-\d+$", "", self.round) if folded else self.round


@dataclass
class Ledger:
    """Tallies by method and use, then by volume."""

    tallies: dict[tuple[str, str], dict[str, Tally]] = field(default_factory=dict)

    def add(self, method: str, use: str, volume: str, counted: Tally) -> None:
        """Enter a volume, or further slices of it."""
        known = self.tallies.setdefault((method, use), {})
        known[volume] = known[volume] + counted if volume in known else counted

    def methods(self, use: str) -> dict[str, Tally]:
        """Pool the volumes of a use, method by method."""
        return {
            method: pool(list(members.values()))
            for (method, other), members in self.tallies.items()
            if other == use
        }


def pool(tallies: Sequence[Tally]) -> Tally:
    """Sum the tallies of one volume or more."""
    total = tallies[0]
    for one in tallies[1:]:
        total = total + one
    return total


def evaluate(
    cases: Sequence[Mapping[str, Any]],
    predicted: Files,
    truth: Files,
    converted: Files,
    *,
    examples: Files,
    example_rounds: Sequence[str],
    weak: Files,
    classes: Sequence[str],
    labels: Mapping[str, str],
    split: str,
    seed: int,
    tolerance_px: float,
    oracle: str,
    bootstrap: int,
    **learning: Any,
) -> Evaluation:
    """Score every round, the baselines and the weak labels on the same volumes.

    Parameters
    ----------
    cases
        One mapping a file, in the order of the files: `round`, `use`, `volume`, `slices`
        (true z that count, None = all).
    predicted, truth, converted
        Labels to judge, true labels (255 = unknown, not counted) and grey values.
    examples, example_rounds
        Examples files the baselines learn from, and the round each belongs to.
    weak
        Weak labels of some of the volumes, in files named after them.
    labels
        What each round learned from, such as weak or relabelled+clean, by round.
    classes
        Names of the classes, in the order of their labels.
    split
        `between-volumes` or `within-volume`; the latter stamps every row "same scan".
    seed
        Seed of the forest and of the intervals.
    tolerance_px
        Distance within which surfaces agree, in voxels.
    oracle
        Name of the control that was trained on the truth.
    bootstrap
        Number of draws for the 95 % intervals over volumes.
    learning
        Settings of `baselines.learn`: which ones, and the forest's.

    Raises
    ------
    Refused
        If shapes differ or the truth holds a label without a class.
    """
    everything = list(_cases(cases, predicted, truth, converted))
    judge = Judge(Ledger(), len(classes), tolerance_px)
    for case in everything:
        judge.stored(case.method, case, case.predicted)

    final = [case for case in everything if case.method == FINAL]
    rounds = list(zip(examples, example_rounds, strict=True))
    for name in dict.fromkeys(case.round for case in final):
        paths = [path for path, round_ in rounds if round_ == name]
        fitted = baselines.learn(paths, classes=len(classes), seed=seed, **learning)
        for case in (case for case in final if case.round == name):
            with baselines.labellers(fitted, case.converted) as labellers:
                for method, labeller in labellers.items():
                    judge(method, case, labeller)

    hand_made = {Path(path).stem: Path(path) for path in weak}
    for case in (case for case in final if case.volume in hand_made):
        judge.stored(WEAK_LABELS, case, hand_made[case.volume])

    context = Context(tuple(classes), STAMPS[split], bootstrap, seed, labels)
    return Evaluation(
        scores=list(score_rows(judge.ledger, context)),
        confusion=list(confusion_rows(judge.ledger, context)),
        summary=summarise(judge.ledger, context, CONTROL + oracle),
    )


def _cases(
    cases: Sequence[Mapping[str, Any]], predicted: Files, truth: Files, converted: Files
) -> Iterator[Case]:
    for case, *files in zip(cases, predicted, truth, converted, strict=True):
        slices = case.get("slices")
        yield Case(
            str(case["round"]),
            str(case["use"]),
            str(case["volume"]),
            None if slices is None else tuple(slices),
            *map(Path, files),
        )


@dataclass(frozen=True)
class Judge:
    """Compares labels with the truth of a case and enters the tally in a ledger."""

    ledger: Ledger
    classes: int
    tolerance_px: float

    def __call__(self, method: str, case: Case, labeller: Labeller) -> None:
        """Judge labels that are made slab by slab."""
        with volumes.open_volume(case.truth) as truth:
            counted = tally(
                labeller,
                truth,
                classes=self.classes,
                tolerance_px=self.tolerance_px,
                slices=case.slices,
            )
        self.ledger.add(method, case.use, case.volume, counted)

    def stored(self, method: str, case: Case, path: Path) -> None:
        """Judge labels that are stored in a file."""
        with volumes.open_volume(path) as labels, volumes.open_volume(case.truth) as truth:
            if labels.shape != truth.shape:
                raise Refused(
                    f"{path.name}: expected labels of shape {truth.shape} as in the truth, "
                    f"found {labels.shape}; label the same scan"
                )
            self(method, case, _reader(labels))


def _reader(volume: Volume) -> Labeller:
    def read(rows: slice) -> Labels:
        return np.asarray(volume.data[rows])

    return read


@dataclass(frozen=True)
class Context:
    """What all rows share: class names, the stamp of the split, how to draw intervals."""

    classes: tuple[str, ...]
    stamp: str
    bootstrap: int
    seed: int
    labels: Mapping[str, str]

    def label_state(self, method: str) -> str:
        """Name the labels a method learned from; baselines learn from the final ones."""
        if method == WEAK_LABELS:
            return "weak"
        return self.labels.get(method, self.labels.get(FINAL, FINAL))


def score_rows(ledger: Ledger, context: Context) -> Iterator[Row]:
    """Give one row a method, volume and class; `pooled` and `mean` stand for all."""
    for (method, use), members in ledger.tallies.items():
        shared = {
            "method": method,
            "labels": context.label_state(method),
            "split": context.stamp,
            "use": use,
        }
        for volume, counted in members.items():
            for row in _class_rows(counted, context):
                yield {**shared, "volume": volume, **row}
        bounds = iou_intervals(list(members.values()), method, context)
        for row in _class_rows(pool(list(members.values())), context):
            low, high = bounds[row["class"]] or (None, None)
            yield {**shared, "volume": POOLED, **row, "iou_low": low, "iou_high": high}


def _class_rows(counted: Tally, context: Context) -> Iterator[Row]:
    for name, figures in zip(context.classes, counted.figures(), strict=True):
        yield {"class": name, **figures}
    yield {"class": MEAN, **counted.averages()}


def iou_intervals(
    members: Sequence[Tally], method: str, context: Context
) -> dict[str, list[float] | None]:
    """Bootstrap IoU over volumes, by class and for their `mean`; None for fewer than 3."""

    def of(label: int) -> Callable[[npt.NDArray[Any]], float | None]:
        return lambda confusion: _iou(confusion)[label]

    def average(confusion: npt.NDArray[Any]) -> float | None:
        return rates.mean(_iou(confusion))

    figures = {name: of(label) for label, name in enumerate(context.classes)}
    units = np.array([one.confusion for one in members])
    return {
        name: rates.interval(
            units,
            figure,
            repeats=context.bootstrap,
            seed=context.seed,
            purpose=f"iou {method}",
        )
        for name, figure in {**figures, MEAN: average}.items()
    }


def _iou(confusion: npt.NDArray[Any]) -> list[float | None]:
    shared = np.diag(confusion)
    union = confusion.sum(axis=1) + confusion.sum(axis=0)[:-1] - shared
    return [rates.ratio(hit, whole) for hit, whole in zip(shared, union, strict=True)]


def confusion_rows(ledger: Ledger, context: Context) -> Iterator[Row]:
    """Give one row a method, true class and predicted class, volumes pooled."""
    predicted = (*context.classes, "unlabelled")
    for use in dict.fromkeys(use for _, use in ledger.tallies):
        for method, counted in ledger.methods(use).items():
            for true, row in zip(context.classes, counted.confusion, strict=True):
                for ours, count in zip(predicted, row.tolist(), strict=True):
                    yield {
                        "method": method,
                        "use": use,
                        "truth": true,
                        "predicted": ours,
                        "voxels": count,
                        "share_of_truth": rates.ratio(count, row.sum()),
                    }


def summarise(ledger: Ledger, context: Context, oracle: str) -> dict[str, Any]:
    """Gather the headline figures: pooled over the test volumes, else validation.

    Returns
    -------
    dict
        `use`, `volumes`, per method `mean_iou`, its interval, and per class IoU, Dice,
        surface-Dice and volume error; `best_baseline`, `margin_over_best_baseline`,
        `gap_closed`. None where undefined, with a reason beside it.
    """
    uses = [use for _, use in ledger.tallies]
    use = next((one for one in ("test", "validate", "train") if one in uses), None)
    pooled = ledger.methods(use) if use else {}
    mean_iou = {name: counted.averages()["iou"] for name, counted in pooled.items()}
    members = {name: ledger.tallies[name, use].values() for name in pooled if use}
    by_class = {
        figure: {
            name: dict(
                zip(context.classes, (f[figure] for f in counted.figures()), strict=True)
            )
            for name, counted in pooled.items()
        }
        for figure in FIGURES
    }
    best = _best(mean_iou, baselines.METHODS)
    final = mean_iou.get(FINAL)
    over = None if best is None or final is None else final - best[1]
    return {
        "kind": "semantic",
        "split": context.stamp,
        "use": use,
        "reason": None if use else "no volume with true labels has been segmented",
        "classes": list(context.classes),
        "volumes": sorted(
            {v for (_, u), vs in ledger.tallies.items() if u == use for v in vs}
        ),
        "mean_iou": mean_iou,
        "mean_iou_interval": {
            name: iou_intervals(list(tallies), name, context)[MEAN]
            for name, tallies in members.items()
        },
        "mean_surface_dice": {n: t.averages()["surface_dice"] for n, t in pooled.items()},
        **by_class,
        "labels": {name: context.label_state(name) for name in pooled},
        "best_baseline": best and {"method": best[0], "mean_iou": best[1]},
        "margin_over_best_baseline": over,
        "gap_closed": gap_closed(mean_iou, oracle, context.labels),
    }


def _best(
    figures: Mapping[str, float | None], names: Sequence[str]
) -> tuple[str, float] | None:
    known = [(name, figures.get(name)) for name in names]
    defined = [(name, value) for name, value in known if value is not None]
    return max(defined, key=lambda pair: pair[1], default=None)


def gap_closed(
    mean_iou: Mapping[str, float | None], oracle: str, labels: Mapping[str, str]
) -> dict[str, Any]:
    """Share of the gap between the best control and the oracle that retraining closes.

    Controls are all rounds that do without relabelled labels: `labels` names, by round,
    what each learned from.

    Negative where retraining does worse than the best control; None with a reason where
    there is no gap to close.
    """
    controls = [
        name
        for name in mean_iou
        if name in labels
        and "relabelled" not in labels[name]
        and name not in (oracle, FINAL)
    ]
    best = _best(mean_iou, controls)
    top, final = mean_iou.get(oracle), mean_iou.get(FINAL)
    found: dict[str, Any] = {"value": None, "reason": None, "final": final, "oracle": top}
    found["best_control"] = best and {"method": best[0], "mean_iou": best[1]}
    if best is None or top is None or final is None:
        missing = {"control": best, "oracle": top, "final round": final}
        names = [name for name, value in missing.items() if value is None]
        return {**found, "reason": f"no {' and no '.join(names)} among the rounds"}
    if top <= best[1]:
        return {**found, "reason": "the oracle is no better than the best control"}
    return {**found, "value": (final - best[1]) / (top - best[1])}
