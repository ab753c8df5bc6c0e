"""Slices of a segmented volume in the report: raw, prediction, truth and errors."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tomoglean import volumes
from tomoglean.report import figures, style
from tomoglean.report.blocks import Frame, Note, Panels
from tomoglean.report.sources import Source, attributes
from tomoglean.volumes import Volume

LOG = logging.getLogger(__name__)
MOST_VOLUMES = 20
MANY_VOLUMES = 8
SMALL_EDGE_PX = 320


@dataclass(frozen=True)
class Look:
    """One slice to be shown: whose, from which files, how large (px), its class 0."""

    task: str
    volume: str
    use: str
    raw: Path
    truth: Path | None
    chosen: "Slice"
    edge_px: int
    first: str = "background"


@dataclass(frozen=True)
class Slice:
    """One slice: where it lies, what the network says of it, and how wrong it is."""

    index: int
    predicted: Path
    round: str
    wrong: float | None


def blocks(source: Source, task: str) -> list[Any]:
    """Show the central and the worst slice of every volume."""
    names = source.volumes(task)
    return per_volume(names, lambda name: _volume(source, task, name, len(names)))


def per_volume(names: Sequence[str], show: Callable[[str], list[Any]]) -> list[Any]:
    """Show volumes one by one; one that cannot be read is one line, and so is the rest."""
    shown: list[Any] = []
    for name in names[:MOST_VOLUMES]:
        try:
            shown += show(name)
        except (OSError, KeyError, ValueError, IndexError) as error:
            LOG.warning("no pictures of %s: %s", name, error)
            shown.append(Note(f"{name}: no pictures ({type(error).__name__}).", "warn"))
    if rest := names[MOST_VOLUMES:]:
        told = f"Pictures are kept to {MOST_VOLUMES} volumes; left out: {', '.join(rest)}."
        shown.append(Note(told))
    return shown


def edge_px(count: int) -> int:
    """Return how large pictures are, so that a page of many volumes stays light."""
    return figures.EDGE_PX if count <= MANY_VOLUMES else SMALL_EDGE_PX


def _volume(source: Source, task: str, volume: str, count: int) -> list[Any]:
    raw = source.results / f"converted/{volume}.h5"
    segmented = predictions(source, task, volume)
    if not raw.exists() or not segmented:
        missing = "converted" if not raw.exists() else "segmented"
        return [Note(f"{volume}: not {missing} yet, so no pictures.")]
    truth = truth_of(source, task, volume)
    colours = style.class_colours(source.classes(task))
    use = _served(source, task, volume, truth)
    first, edge = source.classes(task)[0], edge_px(count)
    return [
        _panels(Look(task, volume, use, raw, truth, picked, edge, first), why, colours)
        for why, picked in choose(segmented, truth).items()
    ]


def _served(source: Source, task: str, volume: str, truth: Path | None) -> str:
    """Say what the slices shown served; within one volume that is not what it served."""
    if source.study.tasks[task].get("cross_validation"):
        return "left out"
    if truth is not None and "same scan" in source.stamps(task):
        return truth.parts[-3]
    return ", ".join(source.uses(task, volume)) or "predict"


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


def _panels(look: Look, why: str, colours: Mapping[str, str]) -> Panels:
    index = look.chosen.index
    with volumes.open_volume(look.raw) as grey:
        image = np.asarray(grey.data[index], np.float64)
        z = index if grey.z is None else int(grey.z[index])
        voxel_nm = grey.voxel_nm
    shown = figures.window(image, attributes(look.raw))
    size = figures.size_px((image.shape[0], image.shape[1]), voxel_nm[1:], look.edge_px)
    base = figures.enlarge(figures.grey(image, shown), size)
    place = f"{style.words(look.task)}, {look.volume}, z = {z}"
    frames = [
        frame(pixels, f"{name} of {place}", name, image.shape[1] * voxel_nm[2])
        for name, pixels in _layers(look, base, size, list(colours.values())).items()
    ]
    legend = {style.words(name): ink for name, ink in colours.items()}
    facts = [
        f"z = {z}",
        *_wrong_words(look.chosen),
        f"grey window {style.significant(shown[0])} to {style.significant(shown[1])}",
        f"round {look.chosen.round}",
        *_truth_words(look),
    ]
    if look.truth:
        legend |= _error_legend(colours)
    return Panels(f"{look.volume} ({look.use}): {why}", frames, "; ".join(facts), legend)


def _layers(
    look: Look, base: figures.Bytes, size: tuple[int, int], colours: list[str]
) -> dict[str, figures.Bytes]:
    index = look.chosen.index
    layers = {"raw": figures.colour(base)}
    with _opened(look.chosen.predicted, look.truth) as (predicted, true):
        ours = figures.enlarge(predicted.data[index], size, labels=True)
        layers["prediction"] = figures.overlay(base, ours, colours)
        if true is not None:
            theirs = figures.enlarge(true.data[index], size, labels=True)
            layers["truth"] = figures.overlay(base, theirs, colours)
            layers["errors"] = figures.errors(base, ours, theirs)
            return layers
    confidence = _confidence(look.chosen)
    if confidence is not None:
        heat = figures.enlarge(figures.heat(confidence), size)
        layers["confidence (0 blue to 1 yellow)"] = heat
    return layers


def _wrong_words(chosen: Slice) -> list[str]:
    return [] if chosen.wrong is None else [f"{100 * chosen.wrong:.1f} % of voxels wrong"]


def _truth_words(look: Look) -> list[str]:
    """Say what has no colour of its own: voxels without truth, a named class 0."""
    if look.truth is None:
        return []
    with volumes.open_volume(look.truth) as true:
        unknown = np.any(true.data[look.chosen.index] == volumes.IGNORE)
    told = ["voxels without truth are darker"] if unknown else []
    if look.first != "background":
        name = style.words(look.first)
        told.append(f"{name} has no colour; extra: {name} in truth, missed: predicted")
    return told


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
