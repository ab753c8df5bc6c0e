"""Slices of a segmented volume: raw, prediction, truth, errors and confidence."""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tomoglean import volumes
from tomoglean.report import each, figures, style
from tomoglean.report.blocks import ColourBar, Frame, Note, Panels
from tomoglean.report.planes import AXES, Plane, Triple, across, told
from tomoglean.report.sources import Source, attributes
from tomoglean.volumes import Volume

CERTAIN = 255
OF_CANDIDATES, BRIEF = 0.3, 0.25
PLAIN = figures.Detail()
FOLD = re.compile(r"final-\d+")


@dataclass(frozen=True)
class Slice:
    """One slice across z: where it lies, what the network says, and how wrong it is."""

    index: int
    predicted: Path
    round: str
    wrong: float | None


@dataclass(frozen=True)
class Look:
    """One volume to be shown: whose, which files, in what detail, its classes.

    `colours` holds all classes but the first, by name.
    """

    task: str
    volume: str
    use: str
    raw: Path
    truth: Path | None
    detail: figures.Detail
    first: str
    colours: Mapping[str, str]


@dataclass(frozen=True)
class Shot:
    """One slice of a volume across any axis, which segmentation is shown, and why."""

    plane: Plane
    predicted: Path
    round: str
    why: str


def blocks(source: Source, task: str) -> list[Any]:
    """Show every volume across all axes, and its worst slice; of trained ones one slice.

    Parameters
    ----------
    source, task
        A study and one of its semantic tasks.

    Returns
    -------
    list of blocks
        One set of pictures a volume, or a line on why there is none; those of volumes
        that were trained on lie in a fold.
    """
    names = source.volumes(task)
    trained = [name for name in names if trained_on(source, task, name)]
    shown = each.volume(names, lambda name: _volume(source, task, name), trained)
    return [*shown, *lightened(source)]


def detail(source: Source) -> figures.Detail:
    """Return how much detail the page leaves room for, by what it has to show."""
    weight = 0.0
    for task, block in source.study.tasks.items():
        part = OF_CANDIDATES if block.get("kind") == "detection" else 1.0
        names = source.volumes(task)[: each.MOST_VOLUMES]
        trained = sum(source.uses(task, name) == ["train"] for name in names)
        weight += part * (len(names) - trained + BRIEF * trained)
    return figures.detail(weight)


def lightened(source: Source) -> list[Any]:
    """Say it if pictures are kept smaller than they could be."""
    kept = detail(source)
    if kept.edge_px >= figures.EDGE_PX:
        return []
    told = f"Many volumes share this page: pictures are kept to {kept.edge_px} px, as WebP"
    return [Note(f"{told} of quality {kept.quality} or, where noisy, less.")]


def _volume(source: Source, task: str, volume: str) -> list[Any]:
    raw = source.results / f"converted/{volume}.h5"
    segmented = predictions(source, task, volume)
    if not raw.exists() or not segmented:
        missing = "converted" if not raw.exists() else "segmented"
        return [Note(f"{volume}: not {missing} yet, so no pictures.")]
    truth = truth_of(source, task, volume)
    use, kept = _served(source, task, volume, truth), detail(source)
    classes = source.classes(task)
    colours = style.class_colours(classes)
    look = Look(task, volume, use, raw, truth, kept, classes[0], colours)
    return [_panels(look, shots(choose(segmented, truth), raw, brief=use == "train"))]


def shots(chosen: Mapping[str, Slice], raw: Path, *, brief: bool) -> list[Shot]:
    """Return the slices to be shown: central ones across z, y, x, then the worst.

    Parameters
    ----------
    chosen
        Slices across z by why they were chosen, the central one first.
    raw
        The volume.
    brief
        Whether the central slice across z is enough.

    Returns
    -------
    list of Shot
        Across z alone where slices are no neighbours, or speak for different folds.
    """
    found = [
        Shot(Plane("z", one.index), one.predicted, one.round, why)
        for why, one in chosen.items()
    ]
    if not found:
        raise ValueError("no slice to show; is the segmentation of other slices?")
    if brief:
        return found[:1]
    with volumes.open_volume(raw) as grey:
        alone = _alone(grey, found[0].round)
        sides = [
            across(axis, grey.shape[AXES.index(axis)] // 2, grey.shape, grey.voxel_nm)
            for axis in "yx"
        ]
    first = found[0]
    if alone:
        return found
    others = [Shot(side, first.predicted, first.round, "central slice") for side in sides]
    return [first, *others, *found[1:]]


def _alone(grey: Volume, round_: str) -> str:
    """Say why a volume is shown across z alone; nothing where it is not."""
    if FOLD.fullmatch(round_):
        return "across z alone, as each fold speaks for slices of its own"
    if grey.z is not None:
        return "across z alone, as its slices are no neighbours"
    return "across z alone, as it is one voxel thin" if min(grey.shape) < 2 else ""


def _served(source: Source, task: str, volume: str, truth: Path | None) -> str:
    """Say what the slices shown served; within one volume that is not what it served."""
    if source.study.tasks[task].get("cross_validation"):
        return "left out"
    if truth is not None and "same scan" in source.stamps(task):
        return truth.parts[-3]
    return ", ".join(source.uses(task, volume)) or "predict"


def trained_on(source: Source, task: str, volume: str) -> bool:
    """Whether what is shown of a volume served training and nothing else."""
    return _served(source, task, volume, truth_of(source, task, volume)) == "train"


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
    if speaks_for is None:
        return figures.places(depth)
    true_z = range(depth) if predicted.z is None else predicted.z.tolist()
    spoken = [i for i in range(depth) if true_z[i] in speaks_for]
    return sorted(spoken[place] for place in figures.places(len(spoken)))


def _wrong(predicted: Volume, true: Volume | None, index: int) -> float | None:
    if true is None or true.shape != predicted.shape:
        return None
    return figures.wrong_share(predicted.data[index], true.data[index])


# -- pictures ------------------------------------------------------------------------


def _panels(look: Look, chosen: Sequence[Shot]) -> Panels:
    with volumes.open_volume(look.raw) as grey:
        flat = [np.asarray(shot.plane.cut(grey.data), np.float64) for shot in chosen]
        places = [_place(shot.plane, grey) for shot in chosen]
        voxel_nm, alone = grey.voxel_nm, _alone(grey, chosen[0].round)
    shown = figures.window(
        np.concatenate([one.ravel() for one in flat]), attributes(look.raw)
    )
    rows = [
        _row(look, shot, figures.grey(image, shown), place, voxel_nm)
        for shot, image, place in zip(chosen, flat, places, strict=True)
    ]
    facts = [
        f"grey window {style.significant(shown[0])} to {style.significant(shown[1])}",
        *told([shot.plane for shot in chosen]),
        f"round {', '.join(dict.fromkeys(shot.round for shot in chosen))}",
        *_truth_words(look, chosen),
        *([alone] if alone else []),
    ]
    legend = {style.words(name): ink for name, ink in look.colours.items()}
    legend |= _error_legend(look.colours) if look.truth else {}
    sure = any("confidence" in one.alt for row in rows for one in row)
    bars = [_confidence_bar(len(look.colours) + 1)] if sure else []
    frames = [one for row in rows for one in row]
    title = f"{look.volume} ({look.use})"
    return Panels(title, frames, "; ".join(facts), legend, len(rows[0]), bars)


def _place(plane: Plane, grey: Volume) -> str:
    """Write where a slice lies; in a sparse set by its true z."""
    sparse = plane.axis == "z" and grey.z is not None
    index = int(grey.z[plane.index]) if sparse and grey.z is not None else plane.index
    return f"{plane.axis} = {index}"


def _row(
    look: Look, shot: Shot, image: figures.Bytes, place: str, voxel_nm: Triple
) -> list[Frame]:
    """Return one slice as raw, prediction, truth, errors and confidence."""
    edges = shot.plane.edges(voxel_nm)
    height, width = image.shape
    size = figures.size_px((height, width), edges, look.detail.edge_px)
    layers = _layers(look, shot, figures.enlarge(image, size), size)
    title = f"{place}, {shot.why}"
    return [
        frame(
            pixels,
            f"{name} of {style.words(look.task)}, {look.volume}, {title}",
            f"{title}: {name}" if name == "raw" else name,
            width * edges[1],
            detail=look.detail,
        )
        for name, pixels in layers.items()
    ]


def _layers(
    look: Look, shot: Shot, base: figures.Bytes, size: tuple[int, int]
) -> dict[str, figures.Bytes]:
    layers = {"raw": figures.colour(base)}
    colours = list(look.colours.values())
    with _opened(shot.predicted, look.truth) as (predicted, true):
        ours = shot.plane.cut(predicted.data)
        drawn = figures.enlarge(ours, size, labels=True)
        layers["prediction"] = figures.overlay(base, drawn, colours)
        if true is not None and true.shape == predicted.shape:
            theirs = shot.plane.cut(true.data)
            wrong = figures.wrong_share(ours, theirs)
            theirs = figures.enlarge(theirs, size, labels=True)
            layers["truth"] = figures.overlay(base, theirs, colours)
            layers[_errors(wrong)] = figures.errors(base, drawn, theirs)
    sure = _confidence(shot)
    if sure is not None:
        heat = figures.heat(sure, 1 / (len(colours) + 1))
        layers["confidence"] = figures.enlarge(heat, size)
    return layers


def _errors(wrong: float | None) -> str:
    return "errors" if wrong is None else f"errors: {100 * wrong:.1f} % of voxels wrong"


def _truth_words(look: Look, chosen: Sequence[Shot]) -> list[str]:
    """Say what has no colour of its own: voxels without truth, a named class 0."""
    if look.truth is None:
        return []
    with volumes.open_volume(look.truth) as true:
        unknown = any(
            np.any(shot.plane.cut(true.data) == volumes.IGNORE) for shot in chosen
        )
    words = ["voxels without truth are darker"] if unknown else []
    if look.first != "background":
        name = style.words(look.first)
        words.append(f"{name} has no colour; extra: {name} in truth, missed: predicted")
    return words


def _confidence(shot: Shot) -> figures.Grey | None:
    try:
        with volumes.open_volume(shot.predicted, "confidence") as confidence:
            return np.asarray(shot.plane.cut(confidence.data), np.float64) / CERTAIN
    except KeyError:
        return None


def _confidence_bar(classes: int) -> ColourBar:
    low = f"{1 / classes:.2g} (a guess among {classes})"
    text = "confidence, the probability given to the class predicted"
    return ColourBar(text, low, "1 (certain)", figures.heat_colours())


def _error_legend(colours: Mapping[str, str]) -> dict[str, str]:
    kinds = dict(style.ERROR_COLOURS)
    if len(colours) < 2:
        kinds.pop("wrong class")
    return {f"error: {kind}": ink for kind, ink in kinds.items()}


def frame(
    pixels: figures.Bytes,
    alt: str,
    caption: str,
    width_nm: float,
    *,
    detail: figures.Detail = PLAIN,
    **more: Any,
) -> Frame:
    """Put a picture into the page with its scale bar."""
    height, width = pixels.shape[:2]
    bar_nm = style.scale_bar_nm(width_nm)
    return Frame(
        figures.webp(pixels, detail.quality, detail.most_bytes),
        f"{alt}; scale bar {style.length(bar_nm)}",
        caption,
        width,
        height,
        100 * bar_nm / width_nm,
        style.length(bar_nm),
        **more,
    )
