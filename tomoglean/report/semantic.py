"""A semantic task in the report: the proof, the baselines, and what was measured."""

from collections.abc import Mapping, Sequence
from typing import Any

from tomoglean.report import calibration, quality, style
from tomoglean.report.blocks import Cell, Note, Table
from tomoglean.report.quality import MEAN, POOLED
from tomoglean.report.rows import cubic_unit
from tomoglean.report.sources import Row, Source, flat

FIGURES = {"iou": "IoU", "surface_dice": "Surface Dice"}
COUNTED = (
    "Shares count every voxel of a volume as the final round labels it, whatever surrounds "
    "the sample too."
)
USES = {
    "test": "volumes that served neither training nor stopping",
    "validate": "validation volumes, which also stopped the training",
    "train": "volumes the network was trained on",
}
SLICES = {"test": "test slices", "validate": "validation slices", "train": "slices"}
UNITS = (
    ("_mm_per_year", "mm/year"),
    ("_mm3", "mm³"),
    ("_um3", "µm³"),
    ("_nm3", "nm³"),
    ("_mm2", "mm²"),
    ("_mm", "mm"),
    ("_um", "µm"),
    ("_nm", "nm"),
    ("_px", "px"),
    ("_percent", "%"),
)


def question(source: Source, task: str) -> list[Any]:
    """Say what the task asks, and among which classes."""
    classes = ", ".join(style.words(name) for name in source.named_classes(task))
    return [Note(f"Which voxel is what? Classes: {classes}.")]


def proof(source: Source, task: str) -> list[Any]:
    """Return the tables of every method against the truth, on the volumes kept apart."""
    rows = source.rows(f"evaluated/{task}/scores.csv")
    use = shown_use(rows)
    if not use:
        reason = source.json(f"evaluated/{task}/summary.json").get("reason")
        return [Note(f"No figures: {reason or 'nothing was scored yet'}.")]
    shown = [row for row in rows if row.get("use") == use and row.get("volume") == POOLED]
    pooled = "all volumes pooled"
    if "same scan" in source.stamps(task):
        pooled = f"all {SLICES.get(use, use)} pooled"
    background = ", background too" if "background" in source.classes(task) else ""
    means = [row for row in shown if row.get("class") == MEAN]
    bounded = any(style.finite(row.get("iou_low")) is not None for row in means)
    brackets = "in brackets 95 % intervals over volumes; " if bounded else ""
    told = {
        column: f"On {kept_apart(source, task, use)}; {pooled}; the mean counts every class"
        f"{background}; {brackets if column == 'iou' else ''}best of a column in bold."
        for column in FIGURES
    }
    known = [
        column
        for column in FIGURES
        if any(style.finite(row.get(column)) is not None for row in shown)
    ]
    tables = [scores_table(source, task, shown, column, told[column]) for column in known]
    judged = [row for row in rows if row.get("use") == use]
    names = list(dict.fromkeys(row.get("volume", "") for row in judged))
    return [
        *tables[:1],
        *quality.by_class(source, task, judged),
        *tables[1:],
        *gap(source, task),
        *quality.confusion(source, task, use),
        *calibration.of_voxels(source, task, [n for n in names if n != POOLED]),
    ]


def kept_apart(source: Source, task: str, use: str) -> str:
    """Say what the figures are measured on; slices where volumes share their use."""
    told = USES.get(use, use)
    if "same scan" not in source.stamps(task):
        return told
    if source.study.tasks[task].get("cross_validation"):
        return "slices left out of training and stopping, each fold on its own"
    return told.replace("volumes", "slices")


def shown_use(rows: Sequence[Row]) -> str:
    """Return the best use there are figures for: test, validate, train or none."""
    return next((use for use in USES if any(row.get("use") == use for row in rows)), "")


def scores_table(
    source: Source, task: str, rows: Sequence[Row], column: str, caption: str
) -> Table:
    """Return one figure of every method (a row) and class (a column)."""
    classes = [*source.classes(task), MEAN]
    best = {
        name: max((_score(r, column) for r in rows if r.get("class") == name), default=0.0)
        for name in classes
    }
    methods: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        method = row.get("method", ""), row.get("labels", "")
        methods.setdefault(method, {})[row.get("class", "")] = row
    body = [
        [Cell(style.words(m)), Cell(style.words(labels)), *_scores(by_class, best, column)]
        for (m, labels), by_class in methods.items()
    ]
    head = ["method", "labels", *map(style.words, classes)]
    return Table(head, body, caption, source.stamps(task), title=FIGURES[column])


def _score(row: Row, column: str) -> float:
    found = style.finite(row.get(column))
    return -1.0 if found is None else found


def _scores(
    by_class: Mapping[str, Row], best: Mapping[str, float], column: str
) -> list[Cell]:
    cells = []
    for name, top in best.items():
        row = by_class.get(name, {})
        text = style.number(row.get(column))
        low, high = style.finite(row.get("iou_low")), style.finite(row.get("iou_high"))
        if column == "iou" and name == MEAN and low is not None and high is not None:
            text += f" ({low:.3f} to {high:.3f})"
        won = _score(row, column) == top >= 0
        cells.append(Cell(text, "number best" if won else "number"))
    return cells


def gap(source: Source, task: str) -> list[Any]:
    """Say what share of the gap to the oracle retraining closed, negative ones too."""
    found = source.json(f"evaluated/{task}/summary.json").get("gap_closed") or {}
    share = style.finite(found.get("value"))
    if share is None:
        reason = found.get("reason")
        told = f"Share of the gap to the oracle closed by retraining: n/a ({reason})."
        return [Note(told)] if reason and source.study.tasks[task].get("controls") else []
    control = (found.get("best_control") or {}).get("method", "best control")
    told = (
        f"Retraining closed {100 * share:+.0f} % of the gap between {style.words(control)} "
        f"and the oracle trained on the truth{_gap_figures(found)}."
    )
    if share < 0:
        return [Note(f"{told} Negative: it did worse than that control.", "warn")]
    return [Note(told)]


def _gap_figures(found: Mapping[str, Any]) -> str:
    """Tell the mean IoU at both ends of the gap, and ours."""
    control = (found.get("best_control") or {}).get("mean_iou")
    figures = {
        "control": control,
        "oracle": found.get("oracle"),
        "final": found.get("final"),
    }
    known = {
        name: style.number(v) for name, v in figures.items() if style.finite(v) is not None
    }
    told = ", ".join(f"{name} {figure}" for name, figure in known.items())
    return f" (mean IoU: {told})" if told else ""


def quantities(source: Source, task: str) -> list[Any]:
    """Return the table of what was measured in every volume, one quantity a row."""
    names = source.volumes(task)
    measured = {
        volume: flat(source.json(f"measured/{task}/{volume}.json")) for volume in names
    }
    measured = {volume: values for volume, values in measured.items() if values}
    if not measured:
        return []
    wanted = list(dict.fromkeys(name for values in measured.values() for name in values))
    bone_free = not any("volume_mm3 bone" in values for values in measured.values())
    rows = [
        _quantity_row(name, [values.get(name) for values in measured.values()])
        for name in wanted
        if _worth_showing(name) and any(v.get(name) is not None for v in measured.values())
        if not (bone_free and name.startswith("bone_"))
    ]
    table = Table(["quantity", *measured], rows, COUNTED, source.stamps(task), columns=8)
    return [table]


def _quantity_row(name: str, values: Sequence[Any]) -> list[Cell]:
    """Return a row of one quantity; volumes share the unit that suits the largest."""
    known = [found for value in values if (found := style.finite(value)) is not None]
    if not name.startswith("volume_mm3 ") or not known:
        return [Cell(quantity(name)), *(Cell(_value(v), "number") for v in values)]
    unit, factor, _ = cubic_unit(max(known))
    sizes = [style.finite(value) for value in values]
    told = [style.plain(None if size is None else size / factor) for size in sizes]
    title = quantity(name.replace("_mm3", unit, 1))
    return [Cell(title), *(Cell(text, "number") for text in told)]


def _worth_showing(name: str) -> bool:
    first = name.split()[0] if name else ""
    return first not in {"reasons", "voxels", "volume", "task", "voxel_um", "classes"}


def _value(value: Any) -> str:
    return str(value) if isinstance(value, str) else style.significant(value)


def quantity(name: str) -> str:
    """Write the name of a measured quantity with its unit in brackets.

    Examples
    --------
    >>> quantity("volume_mm3 bone")
    'volume of bone (mm³)'
    """
    first, _, rest = name.partition(" ")
    for ending, unit in UNITS:
        if first.endswith(ending):
            words = style.words(first.removesuffix(ending))
            return f"{words}{' of ' + style.words(rest) if rest else ''} ({unit})"
    return style.words(name)
