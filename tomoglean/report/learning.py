"""How every round learned, in the report: curves on one scale, and what each gained."""

import contextlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tomoglean.report import charts, style
from tomoglean.report.blocks import Cell, Chart, Charts, Note, Table
from tomoglean.report.sources import Row, Source, numbers

VALIDATION = {
    "val_iou": "mean IoU on validation data",
    "val_f1": "F1 on validation data",
}
SHORT = {"val_iou": "val. mean IoU", "val_f1": "val. F1", "": ""}
KINDS = ("weak", "relabelled", "relabelled+clean", "weak+clean", "clean", "truth")
CAPTION = (
    "All rounds on one scale, in the order of their labels. Dotted: the epoch whose "
    "weights were kept; grey: the gap between the losses. The training loss is measured on "
    "augmented pieces against the labels of the round, the validation loss on the labels "
    "kept for validation: a gap can be overfitting or faults in the labels learned from."
)


@dataclass(frozen=True)
class Round:
    """What one round left behind.

    Attributes
    ----------
    name, labels
        The round, and the kinds of labels it learned from.
    rows
        One row an epoch.
    column
        The column that chose the epoch, empty without validation data.
    chosen
        The epoch whose weights were kept, None if nothing says so.
    """

    name: str
    labels: str
    rows: Sequence[Row]
    column: str
    chosen: float | None

    @property
    def is_fold(self) -> bool:
        """Whether other folds stand beside it: weak-0, final-3."""
        return re.search(r"-\d+$", self.name) is not None

    @property
    def order(self) -> tuple[bool, int, str]:
        """Place in the story: weak, retrained, corrected, the oracle; folds at the end."""
        known = KINDS.index(self.labels) if self.labels in KINDS else len(KINDS)
        return self.is_fold, known, self.name

    def at_chosen(self, column: str) -> float | None:
        """Return a figure after the kept epoch."""
        rows = [r for r in self.rows if style.finite(r.get("epoch")) == self.chosen]
        return style.finite(rows[0].get(column)) if rows and column else None

    @property
    def gap(self) -> float | None:
        """Validation loss less training loss after the kept epoch."""
        return less(self.at_chosen("val_loss"), self.at_chosen("loss"))


@dataclass(frozen=True)
class Scale:
    """Where the axes of all rounds of a task end, so that their charts can be compared."""

    highest_loss: float
    last_epoch: float
    score: charts.Range

    @classmethod
    def of(cls, rounds: Sequence[Round]) -> "Scale":
        """Take in every value of every round, scores to the next tenth."""
        losses = [v for one in rounds for v in _known(one, "loss", "val_loss")]
        epochs = [v for one in rounds for v in _known(one, "epoch")]
        scores = [v for one in rounds if one.column for v in _known(one, one.column)]
        low, high = min(scores, default=0.0), max(scores, default=1.0)
        score = math.floor(10 * low) / 10, min(math.ceil(10 * high) / 10, 1.0)
        limits = score if score[1] > score[0] else (0.0, 1.0)
        return cls(max(losses, default=1.0) or 1.0, max(epochs, default=1.0), limits)


def of_task(source: Source, task: str) -> list[Any]:
    """Draw one chart per round on a shared scale, and tell what each round gained."""
    rounds = rounds_of(source, task)
    if not rounds:
        return [Note("Nothing was trained yet.")]
    scale = Scale.of(rounds)
    drawn = [_chart(task, one, scale) for one in rounds]
    shown = Charts([*_together(rounds, scale), *drawn], CAPTION)
    return [shown, *told(source, task, rounds)]


def rounds_of(source: Source, task: str) -> list[Round]:
    """Return the rounds that left a learning curve: weak, retrained, corrected, oracle."""
    names = source.rounds("trained", task)
    rows = {name: source.rows(f"trained/{task}/{name}.csv") for name in names}
    found = [_round(source, task, name, part) for name, part in rows.items() if part]
    return sorted(found, key=lambda one: one.order)


def _round(source: Source, task: str, name: str, rows: Sequence[Row]) -> Round:
    column = next((c for c in VALIDATION if any(map(math.isfinite, numbers(rows, c)))), "")
    chosen = source.json(f"trained/{task}/{name}.json").get("best_epoch")
    labels = learned_from(source, task, name)
    return Round(name, labels, rows, column, style.finite(chosen))


def learned_from(source: Source, task: str, round_: str) -> str:
    """Name the kinds of labels a round learned from, such as relabelled+clean."""
    if source.study.tasks[task].get("kind") == "detection":
        return "points"
    with contextlib.suppress(KeyError):
        return "+".join(source.study.wanted_kinds(task, round_))
    return ""


def _known(one: Round, *columns: str) -> list[float]:
    return [v for c in columns for v in numbers(one.rows, c) if math.isfinite(v)]


def _together(rounds: Sequence[Round], scale: Scale) -> list[Chart]:
    """Draw the validation score of all rounds over one another."""
    column = next((one.column for one in rounds if one.column), "")
    curves = {
        one.name: (numbers(one.rows, "epoch"), numbers(one.rows, column))
        for one in rounds
        if one.column == column != ""
    }
    if not curves:
        return []
    uri = charts.lines(
        curves,
        charts.Scales("All rounds", "epoch", VALIDATION[column], y_range=scale.score),
        size_inch=charts.TALL_INCH,
    )
    names = ", ".join(style.words(name) for name in curves)
    return [Chart(uri, f"{VALIDATION[column]} over epochs for {names}")]


def _chart(task: str, one: Round, scale: Scale) -> Chart:
    losses = {"training": numbers(one.rows, "loss")}
    losses["validation"] = numbers(one.rows, "val_loss")
    learned = charts.Learned(
        style.words(one.name),
        numbers(one.rows, "epoch"),
        {name: v for name, v in losses.items() if any(map(math.isfinite, v))},
        numbers(one.rows, one.column) if one.column else [],
        SHORT[one.column],
        one.chosen,
        scale.highest_loss,
        scale.last_epoch,
        scale.score,
    )
    alt = f"Loss over epochs of {style.words(task)}, round {style.words(one.name)}"
    kept = "" if one.chosen is None else f"; weights of epoch {one.chosen:g} were kept"
    return Chart(charts.learning(learned), alt + kept, _facts(one))


def _facts(one: Round) -> str:
    seconds = _known(one, "seconds")
    facts = (
        [f"learned from {one.labels} labels"] if one.labels not in {"", "points"} else []
    )
    facts += [f"{len(one.rows)} epochs"]
    facts += [style.duration(max(seconds))] if seconds else []
    return ", ".join(facts)


# -- what each round gained ----------------------------------------------------------


def told(source: Source, task: str, rounds: Sequence[Round]) -> list[Any]:
    """Say in a line and a table what each round gained on validation and test data."""
    held = held_out(source, task)
    first = next((one for one in rounds if one.name == "weak"), None)
    if first is None or len(rounds) < 2:
        first = None
    rows = [_told(one, first, held) for one in rounds]
    score = next((VALIDATION[one.column] for one in rounds if one.column), "validation")
    head = ["round", "labels", "epoch kept", "training loss", "validation loss", "gap"]
    head += ["validation", held.short]
    caption = (
        "After the kept epoch; gap: validation loss less training loss; validation: "
        f"{score}; {held.short}: {held.what}."
    )
    if first is not None:
        caption += " In brackets: the difference to the round on weak labels."
    table = Table(head, rows, caption, source.stamps(task), title="What each round gained")
    return [*_story(rounds, held, score), table]


@dataclass(frozen=True)
class Held:
    """Figures of rounds on data kept apart, and what they are."""

    short: str
    what: str
    figures: Mapping[str, float | None]


def held_out(source: Source, task: str) -> Held:
    """Return the figure of every round on the test data (else what there is)."""
    summary = source.json(f"evaluated/{task}/summary.json")
    use = str(summary.get("use") or "test")
    kind = "slices" if "same scan" in source.stamps(task) else "volumes"
    if source.study.tasks[task].get("kind") == "detection":
        rounds = summary.get("rounds") or {}
        figures = {n: style.finite((r.get(use) or {}).get("f1")) for n, r in rounds.items()}
        return Held(use, f"F1 of picks on {use} {kind}", figures)
    means = (summary.get("mean_iou") or {}).items()
    if source.study.tasks[task].get("cross_validation"):
        pooled = style.number(dict(means).get("final"))
        return Held(use, f"told of the folds pooled, mean IoU {pooled} on {use} {kind}", {})
    return Held(use, f"mean IoU on {use} {kind}", {n: style.finite(v) for n, v in means})


def _told(one: Round, first: Round | None, held: Held) -> list[Cell]:
    scores = one.at_chosen(one.column), held.figures.get(one.name)
    against: tuple[float | None, float | None] = (None, None)
    if first is not None and one is not first:
        against = first.at_chosen(first.column), held.figures.get(first.name)
    losses = one.at_chosen("loss"), one.at_chosen("val_loss")
    numbers_ = [*map(style.number, losses), signed(one.gap)]
    numbers_ += [_against(*pair) for pair in zip(scores, against, strict=True)]
    epoch = "n/a" if one.chosen is None else f"{one.chosen:g} of {len(one.rows)}"
    return [
        Cell(style.words(one.name)),
        Cell(one.labels or "n/a"),
        Cell(epoch, "number"),
        *(Cell(text, "number") for text in numbers_),
    ]


def _against(value: float | None, first: float | None) -> str:
    gained = less(value, first)
    return style.number(value) + ("" if gained is None else f" ({gained:+.3f})")


def _story(rounds: Sequence[Round], held: Held, score: str) -> list[Note]:
    """Tell the way from weak labels to corrected ones in one line."""
    steps = [r for r in rounds if not r.is_fold and r.labels in KINDS[:3]]
    if len(steps) < 2:
        return []
    names = " → ".join(f"{style.words(r.name)} ({r.labels})" for r in steps)
    parts = [
        f"{what} {' → '.join(map(style.number, values))}"
        for what, values in (
            (score, [one.at_chosen(one.column) for one in steps]),
            (held.what, [held.figures.get(one.name) for one in steps]),
        )
        if any(value is not None for value in values)
    ]
    return [Note(f"{names}: {'; '.join(parts)}.")] if parts else []


def less(value: float | None, other: float | None) -> float | None:
    """Return the difference of two figures, None where one is missing."""
    return None if value is None or other is None else value - other


def signed(value: float | None) -> str:
    """Write a difference with its sign.

    Examples
    --------
    >>> signed(0.25), signed(None)
    ('+0.250', 'n/a')
    """
    return "n/a" if value is None else f"{value:+.3f}"
