"""A semantic task in the report: the proof, the baselines, and slices to look at."""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tomoglean import volumes
from tomoglean.report import figures, style
from tomoglean.report.blocks import Cell, Frame, Heading, Note, Panels, Section, Table
from tomoglean.report.sources import Row, Source, attributes, flat
from tomoglean.volumes import Volume

MOST_VOLUMES = 20
MANY_VOLUMES = 8
SMALL_EDGE_PX = 320
POOLED = ("pooled", "all", "", "mean")
MEAN = ("mean", "foreground", "mean foreground")
UNITS = (
    ("_mm_per_year", "mm/year"),
    ("_mm3", "mm³"),
    ("_mm2", "mm²"),
    ("_mm", "mm"),
    ("_um", "µm"),
    ("_percent", "%"),
)


def section(source: Source, task: str) -> Section:
    """Tell what one semantic task found and how good it is."""
    blocks = [*proof(source, task), *quantities(source, task), *pictures(source, task)]
    classes = ", ".join(style.words(name) for name in source.classes(task)[1:])
    lead = f"Which voxel is what? Classes: {classes}."
    return Section(
        f"task-{task}", style.words(task), blocks, lead=lead, stamps=source.stamps(task)
    )


# -- numbers -------------------------------------------------------------------------


def proof(source: Source, task: str) -> list[Any]:
    """Return the tables of every method against the truth, on the volumes kept apart."""
    rows = source.rows(f"evaluated/{task}/scores.csv")
    use = next((use for use in ("test", "validate") if _of_use(rows, use)), "")
    title = Heading("How good is it?", f"proof-{task}", source.stamps(task))
    if not use:
        return [title, Note("No labelled volume was kept apart and scored, so no figures.")]
    shown = _of_use(rows, use)
    which = {
        "test": "volumes that served neither training nor stopping",
        "validate": "validation volumes (no test volume), which also stopped the training",
    }[use]
    tables: list[Any] = [title, _table(source, task, shown, "iou", f"IoU on {which}.")]
    if any(style.finite(row.get("surface_dice")) is not None for row in shown):
        tables.append(
            _table(source, task, shown, "surface_dice", "Surface Dice, same rows.")
        )
    return [*tables, *shares(source, task)]


def _of_use(rows: Sequence[Row], use: str) -> list[Row]:
    return [row for row in rows if row.get("use") == use]


def _table(
    source: Source, task: str, rows: Sequence[Row], column: str, caption: str
) -> Table:
    names = source.classes(task)[1:]
    scored = scores(rows, column)
    columns = [*names, "mean"] if len(names) > 1 else names
    best = {
        name: max((values.get(name, -math.inf) for values in scored.values()), default=0.0)
        for name in columns
    }
    body = [
        [Cell(style.words(method)), Cell(style.words(labels)), *_figures(values, best)]
        for (method, labels), values in scored.items()
    ]
    head = ["method", "labels", *map(style.words, columns)]
    caption = f"{caption} Best of each column in bold."
    return Table(head, body, caption, source.stamps(task), empty="No method was scored.")


def _figures(values: Mapping[str, float], best: Mapping[str, float]) -> list[Cell]:
    return [
        Cell(
            style.number(values.get(name)),
            "number best" if values.get(name) == top else "number",
        )
        for name, top in best.items()
    ]


def scores(rows: Sequence[Row], column: str) -> dict[tuple[str, str], dict[str, float]]:
    """Return one figure per method, labels and class, over all volumes.

    The pooled row of a class is taken where there is one, else the mean over volumes;
    the mean over the foreground classes is added as `mean`.
    """
    found: dict[tuple[str, str], dict[str, list[tuple[bool, float]]]] = {}
    for row in rows:
        value = style.finite(row.get(column))
        method = found.setdefault((row.get("method", ""), row.get("labels", "")), {})
        if value is not None:
            pooled = row.get("volume", "") in POOLED
            name = "mean" if row.get("class") in MEAN else row.get("class", "")
            method.setdefault(name, []).append((pooled, value))
    tidy = {
        method: {name: _pooled(values) for name, values in classes.items()}
        for method, classes in found.items()
    }
    return {method: _with_mean(values) for method, values in tidy.items()}


def _pooled(values: Sequence[tuple[bool, float]]) -> float:
    pooled = [value for is_pooled, value in values if is_pooled]
    return pooled[0] if pooled else float(np.mean([value for _, value in values]))


def _with_mean(values: dict[str, float]) -> dict[str, float]:
    foreground = [
        value for name, value in values.items() if name not in ("mean", "background")
    ]
    if "mean" not in values and foreground:
        return {**values, "mean": float(np.mean(foreground))}
    return values


def shares(source: Source, task: str) -> list[Any]:
    """Say what share of the gap to the oracle retraining closed, negative ones too."""
    summary = flat(source.json(f"evaluated/{task}/summary.json"))
    found = {name: value for name, value in summary.items() if "share" in name.split()[-1]}
    notes = []
    for name, value in found.items():
        share = style.finite(value)
        if share is not None:
            tone = "warn" if share < 0 else "plain"
            notes.append(Note(f"{style.words(name)}: {100 * share:+.1f} %", tone))
    return notes


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
    rows = [
        [
            Cell(quantity(name)),
            *[Cell(_value(v.get(name)), "number") for v in measured.values()],
        ]
        for name in wanted
        if _worth_showing(name) and any(v.get(name) is not None for v in measured.values())
    ]
    table = Table(["quantity", *measured], rows, "", source.stamps(task))
    return [Heading("Measured", f"measured-{task}"), table]


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


# -- pictures ------------------------------------------------------------------------


@dataclass(frozen=True)
class Slice:
    """One slice: where it lies, what the network says of it, and how wrong it is."""

    index: int
    predicted: Path
    round: str
    wrong: float | None


def pictures(source: Source, task: str) -> list[Any]:
    """Show the central and the worst slice of every volume."""
    names = source.volumes(task)
    blocks: list[Any] = [Heading("Slices", f"slices-{task}", source.stamps(task))]
    for volume in names[:MOST_VOLUMES]:
        try:
            blocks += _volume(source, task, volume, len(names))
        except (OSError, KeyError, ValueError) as error:
            blocks.append(Note(f"{volume}: no pictures ({type(error).__name__}).", "warn"))
    if len(names) > MOST_VOLUMES:
        rest = ", ".join(names[MOST_VOLUMES:])
        blocks.append(
            Note(f"Pictures are kept to {MOST_VOLUMES} volumes; left out: {rest}.")
        )
    return blocks


def _volume(source: Source, task: str, volume: str, count: int) -> list[Any]:
    raw = source.results / f"converted/{volume}.h5"
    segmented = predictions(source, task, volume)
    if not raw.exists() or not segmented:
        missing = "converted" if not raw.exists() else "segmented"
        return [Note(f"{volume}: not {missing} yet, so no pictures.")]
    truth = truth_of(source, task, volume)
    edge = figures.EDGE_PX if count <= MANY_VOLUMES else SMALL_EDGE_PX
    chosen = choose(segmented, truth)
    return [
        _panels(source, task, volume, why, picked, raw, truth, edge)
        for why, picked in chosen.items()
    ]


def predictions(
    source: Source, task: str, volume: str
) -> dict[str, tuple[Path, set[int] | None]]:
    """Return segmentations of a volume by round, and the true z each speaks for.

    With cross-validation, every fold speaks for the slices it never saw; otherwise the
    final round (or the best there is) speaks for all.
    """
    found = {
        round_: source.results / f"segmented/{task}/{round_}/{volume}.h5"
        for round_ in source.rounds("segmented", task)
    }
    found = {round_: path for round_, path in found.items() if path.is_file()}
    folds = {round_: path for round_, path in found.items() if round_.startswith("final-")}
    if folds and source.study.tasks[task].get("cross_validation"):
        return {
            round_: (path, set(source.study.keep(task, round_, "test") or []))
            for round_, path in folds.items()
        }
    return {round_: (path, None) for round_, path in list(found.items())[:1]}


def truth_of(source: Source, task: str, volume: str) -> Path | None:
    """Return a volume's best labels: clean before weak, kept apart before trained on."""
    paths = [
        source.results / f"converted/{task}/{use}/{kind}/{volume}.h5"
        for kind in ("truth", "clean")
        for use in ("test", "validate", "train")
    ]
    return next((path for path in paths if path.is_file()), None)


def choose(
    segmented: Mapping[str, tuple[Path, set[int] | None]], truth: Path | None
) -> dict[str, Slice]:
    """Pick the central slice and, where there is truth, the one with most errors."""
    looked: list[Slice] = []
    for round_, (path, speaks_for) in segmented.items():
        with _opened(path, truth) as (predicted, true):
            for index in _candidates(predicted, true, speaks_for):
                wrong = _wrong(predicted, true, index)
                looked.append(Slice(index, path, round_, wrong))
    if not looked:
        return {}
    judged = [one for one in looked if one.wrong is not None]
    middle = sum(one.index for one in judged or looked) / len(judged or looked)
    central = min(judged or looked, key=lambda one: abs(one.index - middle))
    if truth is None or not judged:
        return {"central slice": central}
    worst = max(judged, key=lambda one: one.wrong or 0.0)
    which = f"worst of {len(judged)} slices" if len(judged) > 1 else "only slice"
    if worst == central:
        return {f"central and {which}": central}
    return {"central slice": central, which: worst}


@contextlib.contextmanager
def _opened(path: Path, other: Path | None) -> Iterator[tuple[Volume, Volume | None]]:
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(volumes.open_volume(path))
        second = stack.enter_context(volumes.open_volume(other)) if other else None
        yield first, second


def _candidates(
    predicted: Volume, true: Volume | None, speaks_for: set[int] | None
) -> list[int]:
    depth = predicted.shape[0]
    if true is None:
        return [depth // 2]
    places = range(depth) if speaks_for is not None else figures.places(depth)
    true_z = range(depth) if predicted.z is None else predicted.z.tolist()
    return [i for i in places if speaks_for is None or true_z[i] in speaks_for]


def _wrong(predicted: Volume, true: Volume | None, index: int) -> float | None:
    if true is None or true.shape != predicted.shape:
        return None
    return figures.wrong_share(predicted.data[index], true.data[index])


def _panels(
    source: Source,
    task: str,
    volume: str,
    why: str,
    chosen: Slice,
    raw: Path,
    truth: Path | None,
    edge: int,
) -> Panels:
    with _opened(raw, chosen.predicted) as (grey, predicted):
        image = np.asarray(grey.data[chosen.index], np.float64)
        shown = figures.window(image, attributes(raw))
        labels = {"prediction": predicted.data[chosen.index]} if predicted else {}
        z = chosen.index if grey.z is None else int(grey.z[chosen.index])
        voxel_nm = grey.voxel_nm
    if truth is not None:
        with volumes.open_volume(truth) as true:
            labels["truth"] = true.data[chosen.index]
    else:
        confidence = _confidence(chosen)
    colours = style.class_colours(source.classes(task))
    size = figures.size_px(image.shape, voxel_nm[1:], edge)
    base = figures.enlarge(figures.grey(image, shown), size)
    large = {name: figures.enlarge(v, size, labels=True) for name, v in labels.items()}
    pictures = {"raw": figures.colour(base)}
    for name, values in large.items():
        pictures[name] = figures.overlay(base, values, list(colours.values()))
    if truth is not None:
        pictures["errors"] = figures.errors(base, large["prediction"], large["truth"])
    elif confidence is not None:
        pictures["confidence (0 blue to 1 yellow)"] = figures.enlarge(
            figures.heat(confidence), size
        )
    place = f"{volume}, z = {z}"
    frames = [
        frame(
            pixels,
            f"{style.words(task)}: {name} of {place}",
            name,
            image.shape[1] * voxel_nm[2],
        )
        for name, pixels in pictures.items()
    ]
    legend = {style.words(name): ink for name, ink in colours.items()}
    if truth is not None:
        legend |= _error_legend(colours)
    facts = [
        f"z = {z}",
        *_wrong_words(chosen),
        f"grey window {style.significant(shown[0])} to {style.significant(shown[1])}",
        f"round {chosen.round}",
        *(["voxels without truth are darker"] if truth is not None else []),
    ]
    return Panels(f"{volume}: {why}", frames, "; ".join(facts), legend)


def _wrong_words(chosen: Slice) -> list[str]:
    return [] if chosen.wrong is None else [f"{100 * chosen.wrong:.1f} % of voxels wrong"]


def _confidence(chosen: Slice) -> Any:
    try:
        with volumes.open_volume(chosen.predicted, "confidence") as confidence:
            return np.asarray(confidence.data[chosen.index], np.float64) / 255
    except KeyError:
        return None


def _error_legend(colours: Mapping[str, str]) -> dict[str, str]:
    kinds = dict(style.ERROR_COLOURS)
    if len(colours) < 2:
        kinds.pop("wrong class")
    return {f"error: {kind}": ink for kind, ink in kinds.items()}


def frame(
    pixels: figures.Bytes, alt: str, caption: str, width_nm: float, **more: Any
) -> Frame:
    """Put a picture into the page with its scale bar."""
    height, width = pixels.shape[:2]
    bar_nm = style.scale_bar_nm(width_nm)
    return Frame(
        figures.webp(pixels),
        f"{alt}; scale bar {style.length(bar_nm)}",
        caption,
        width,
        height,
        100 * bar_nm / width_nm,
        style.length(bar_nm),
        **more,
    )
