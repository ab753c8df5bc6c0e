"""Learning curves of every round in the report."""

import math
from collections.abc import Sequence
from typing import Any

from tomoglean.report import charts, style
from tomoglean.report.blocks import Chart, Charts, Note
from tomoglean.report.sources import Row, Source, numbers

VALIDATION = {
    "val_iou": "mean IoU on validation data",
    "val_f1": "F1 on validation data",
}


def of_task(source: Source, task: str) -> list[Any]:
    """Draw one chart per round, and one with the validation score of all rounds."""
    rounds = {
        round_: source.rows(f"trained/{task}/{round_}.csv")
        for round_ in source.rounds("trained", task)
    }
    rounds = {round_: rows for round_, rows in rounds.items() if rows}
    if not rounds:
        return [Note("Nothing was trained yet.")]
    drawn = [_round(source, task, round_, rows) for round_, rows in rounds.items()]
    return [Charts([*_validation(rounds), *drawn])]


def _validation(rounds: dict[str, list[Row]]) -> list[Chart]:
    column = next(
        (c for c in VALIDATION if any(c in rows[0] for rows in rounds.values())), ""
    )
    curves = {
        round_: (numbers(rows, "epoch"), numbers(rows, column))
        for round_, rows in rounds.items()
        if any(map(math.isfinite, numbers(rows, column)))
    }
    if not curves:
        return []
    uri = charts.lines(
        curves,
        title="All rounds",
        x_label="epoch",
        y_label=VALIDATION[column],
        unit_range=True,
    )
    told = ", ".join(style.words(round_) for round_ in curves)
    return [Chart(uri, f"{VALIDATION[column]} over epochs for {told}")]


def _round(source: Source, task: str, round_: str, rows: Sequence[Row]) -> Chart:
    losses = {"training": numbers(rows, "loss"), "validation": numbers(rows, "val_loss")}
    known = {name: v for name, v in losses.items() if any(map(math.isfinite, v))}
    seconds = [s for s in numbers(rows, "seconds") if math.isfinite(s)]
    best = style.finite(source.json(f"trained/{task}/{round_}.json").get("best_epoch"))
    uri = charts.learning(numbers(rows, "epoch"), known, best, style.words(round_))
    spent = f", {style.duration(max(seconds))}" if seconds else ""
    return Chart(
        uri,
        f"Loss over epochs of {style.words(task)}, round {style.words(round_)}",
        f"{len(rows)} epochs{spent}",
    )
