"""Bring labels and points of all kinds onto the grid of their volume.

A label volume holds the place of the class in the task's list of classes, and 255 where
nobody said anything: unlabelled is not background.
"""

import contextlib
import itertools
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from tomoglean import formats, particles, steps, study, tables, volumes
from tomoglean.formats import Row, Source, open_source
from tomoglean.particles import Grid, Particles
from tomoglean.provenance import Refused
from tomoglean.steps import Steps
from tomoglean.volumes import IGNORE

Labels = npt.NDArray[np.uint8]
Colours = Mapping[str, int | Sequence[int]]
Pages = npt.NDArray[np.int64]
GREY = (1 << 32) | (1 << 16) | 1
HIGHEST = (1 << 16) - 1
CONVERTED = "converted"
SLAB_BYTES = 1 << 26

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Code:
    """How label images code the classes.

    Attributes
    ----------
    colours
        Known colours in ascending order, each as red << 32 | green << 16 | blue.
    values
        Class of each of them.
    told
        The same for people.
    """

    colours: npt.NDArray[np.int64]
    values: Labels
    told: str


def code(classes: Sequence[str], colours: Colours | None = None) -> Code:
    """Tell how label images code the classes.

    Parameters
    ----------
    classes
        Class names; their place is their value.
    colours
        Colour [red, green, blue] or grey value by class; `unlabelled` may be one of
        them. Without, images hold the classes' places, and 255 = unlabelled.

    Raises
    ------
    Refused
        If a colour stands for no class, or for two.
    """
    known: dict[str, int | Sequence[int]] = dict(colours or {})
    places = {name: place for place, name in enumerate(classes)} | {"unlabelled": IGNORE}
    if unknown := known.keys() - places.keys():
        raise Refused(
            f"colours: expected the classes {', '.join(classes)}, found"
            f" {', '.join(sorted(unknown))}; correct the config"
        )
    coded = {_number(colour): name for name, colour in (known or places).items()}
    if len(coded) < len(known):
        raise Refused("colours: expected one colour a class, found one twice; correct it")
    return Code(
        np.array(sorted(coded), np.int64),
        np.array([places[coded[number]] for number in sorted(coded)], np.uint8),
        ", ".join(f"{name} = {_tell(number)}" for number, name in coded.items()),
    )


def _number(colour: int | Sequence[int]) -> int:
    if isinstance(colour, int):
        return colour * GREY
    red, green, blue = colour
    return red << 32 | green << 16 | blue


def _tell(number: int) -> str:
    red, green, blue = number >> 32, number >> 16 & HIGHEST, number & HIGHEST
    return str(red) if red == green == blue else f"[{red}, {green}, {blue}]"


def by_materials(source: Source, classes: Sequence[str]) -> Code | None:
    """Take the code from the names of label values that a file brings (Amira).

    Names are compared without regard to case; `Exterior` is the first class unless a
    class has that name.

    Raises
    ------
    Refused
        If a name is no class.
    """
    if not source.materials:
        return None
    known = {name.lower(): name for name in classes}
    known = {"exterior": classes[0], "unlabelled": "unlabelled"} | known
    values = {value: known.get(name.lower()) for value, name in source.materials.items()}
    if None in values.values():
        raise Refused(
            f"{source.name}: expected the materials {', '.join(classes)}, found"
            f" {', '.join(source.materials.values())}; rename them there or in the task's"
            " classes, or give the task's colours"
        )
    places = {name: place for place, name in enumerate(classes)} | {"unlabelled": IGNORE}
    order = sorted(values)
    return Code(
        np.array(order, np.int64) * GREY,
        np.array([places[str(values[value])] for value in order], np.uint8),
        ", ".join(f"{values[value]} = {value}" for value in order),
    )


def decode(image: npt.NDArray[Any], known: Code, name: str) -> Labels:
    """Turn an image of labels into classes.

    Parameters
    ----------
    image
        Grey values of shape (N, Y, X) or colours of shape (N, Y, X, 3).
    known
        What stands for which class.
    name
        File name for messages.

    Returns
    -------
    ndarray
        Classes (uint8) of shape (N, Y, X), 255 where unlabelled.

    Raises
    ------
    Refused
        If the image holds anything else; values and how often they occur are listed.
    """
    found = _numbers(image, name)
    place = np.searchsorted(known.colours, found).clip(max=len(known.colours) - 1)
    strange = known.colours[place] != found
    if strange.any():
        values, counts = np.unique(found[strange], return_counts=True)
        _refuse([_tell(int(value)) for value in values], counts, known.told, name)
    labels: Labels = known.values[place]
    return labels


def _numbers(image: npt.NDArray[Any], name: str) -> npt.NDArray[np.int64]:
    """Give every pixel its colour as one number, as in `Code`."""
    wrong = (image < 0) | (image > HIGHEST)
    if image.dtype.kind == "f":
        wrong |= image != np.rint(image)
    if wrong.any():
        values, counts = np.unique(image[wrong], return_counts=True)
        _refuse([f"{value:g}" for value in values], counts, "whole numbers", name)
    whole = image.astype(np.int64)
    if whole.ndim < 4:
        return whole * np.int64(GREY)
    numbers: Pages = whole[..., 0] << 32 | whole[..., 1] << 16 | whole[..., 2]
    return numbers


def _refuse(
    values: Sequence[str], counts: npt.NDArray[np.int64], known: str, name: str
) -> None:
    pairs = list(zip(values, counts.tolist(), strict=True))
    listed = ", ".join(f"{value} ({count} voxels)" for value, count in pairs[:8])
    more = f" and {len(pairs) - 8} more" if len(pairs) > 8 else ""
    raise Refused(
        f"{name}: expected the labels {known}, found {listed}{more}; correct the image, or"
        " the classes and colours of the task"
    )


def pages(
    source: Source,
    row: Row,
    shape: tuple[int, int, int],
    *,
    z: npt.NDArray[np.int64] | None = None,
    first: int = 0,
) -> Pages:
    """Tell which page of a label file belongs to which slice of the volume.

    Numbered files go by their number: the true z of a sparse volume, otherwise counted
    from the volume's own first number. Files as deep as the volume go slice by slice,
    others need as many `slices` in their row as they have pages.

    Parameters
    ----------
    source
        Labels.
    row
        Row of labels.tsv; `slices` limits what it speaks for.
    shape
        Shape (Z, Y, X) of the volume.
    z
        True z of the slices of a sparse volume.
    first
        Number of the first slice of a volume that came as numbered slices.

    Returns
    -------
    ndarray of shape (Z,)
        Page of each slice, -1 where the row says nothing.

    Raises
    ------
    Refused
        If labels and volume do not fit.
    """
    places = np.arange(shape[0]) if z is None else z
    wanted = np.array(study.slice_numbers(row.get("slices") or ""), np.int64)
    limited = wanted.size > 0
    wanted = wanted if limited else places
    if source.z is not None:
        given = source.z - (first if z is None else 0)
        wanted = wanted if limited else given
    elif source.shape[0] == shape[0]:
        given = places
    else:
        given = wanted
    if source.shape[1:] != shape[1:] or len(given) != source.shape[0]:
        raise Refused(
            f"{source.name}: expected labels of the volume's shape {shape}, or as many"
            f" pages as slices in their row, found {source.shape}; correct file or row"
        )
    for have, what in ((places, "volume"), (given, "labels")):
        if missing := sorted(set(wanted.tolist()) - set(have.tolist())):
            raise Refused(
                f"{source.name}: expected labels of slices that exist, found no slice"
                f" {missing[0]} in the {what}; correct the row or the files' numbers"
            )
    page_of = {int(at): page for page, at in enumerate(given)}
    chosen = set(wanted.tolist())
    return np.array([page_of[at] if at in chosen else -1 for at in places.tolist()])


def assemble(
    rows: Sequence[Row],
    shape: tuple[int, int, int],
    *,
    classes: Sequence[str],
    colours: Colours | None = None,
    z: npt.NDArray[np.int64] | None = None,
    first: int = 0,
    root: str | os.PathLike[str] = ".",
    remarks: list[str] | None = None,
    parts: Iterable[slice] | None = None,
) -> Iterator[Labels]:
    """Assemble the labels of a volume, slab by slab, from all that is said of it.

    Parameters
    ----------
    rows
        Rows of labels.tsv; later ones lie over earlier ones.
    shape
        Shape (Z, Y, X) of the volume.
    classes, colours
        See `code`.
    z, first
        See `pages`.
    root
        Folder to which paths are relative.
    remarks
        Takes what is odd about the files, one line each.
    parts
        Slabs wanted; None takes those of `volumes.slabs`.

    Yields
    ------
    ndarray
        Slabs of shape (n, Y, X): classes, 255 where unlabelled.

    Raises
    ------
    Refused
        If a file cannot be read, does not fit the volume, or holds unknown labels.
    """
    given = code(classes, colours)
    with contextlib.ExitStack() as stack:
        given_by: list[tuple[Source, Pages, Code]] = []
        for row in rows:
            path = tables.locate(row["path"], root)
            source = stack.enter_context(open_source(path, {**row, "spacing": "any"}))
            _refuse_complex(source)
            known = given if colours else by_materials(source, classes) or given
            given_by.append((source, pages(source, row, shape, z=z, first=first), known))
            if remarks is not None:
                remarks += _remarks(source)
        for slab in parts or volumes.slabs(shape[0]):
            labels = np.full((slab.stop - slab.start, *shape[1:]), IGNORE, np.uint8)
            for source, page_of, known in given_by:
                _lay_over(labels, source, page_of[slab], known)
            yield labels


def _refuse_complex(source: Source) -> None:
    if source.dtype.kind not in "iuf":
        raise Refused(
            f"{source.name}: expected labels as whole numbers, found {source.dtype}; save"
            " the labels themselves"
        )


def _remarks(source: Source) -> list[str]:
    if source.dtype.kind != "f":
        return source.warnings
    said = f"{source.name}: labels stored as {source.dtype}, taken as whole numbers"
    return [*source.warnings, said]


def _lay_over(labels: Labels, source: Source, page_of: Pages, known: Code) -> None:
    places = np.flatnonzero(page_of >= 0)
    for place, image in zip(places, _images(source, page_of[places]), strict=True):
        said = decode(image, known, source.name)[0]
        np.copyto(labels[place], said, where=said != IGNORE)


def _images(source: Source, wanted: Pages) -> Iterator[npt.NDArray[Any]]:
    """Read pages, each of shape (1, Y, X[, 3]): at once where they are neighbours."""
    if wanted.size and np.all(np.diff(wanted) == 1):
        block = source.read_colours(slice(int(wanted[0]), int(wanted[-1]) + 1))
        yield from (image[None] for image in block)
    else:
        for page in wanted.tolist():
            yield source.read_colours(slice(page, page + 1))


@dataclass
class Survey:
    """What the labels of a volume hold: count them slab by slab, then ask.

    Attributes
    ----------
    rows
        Rows of labels.tsv they come from.
    classes
        Class names; their place is their value.
    remarks
        What is odd, one line each.
    """

    rows: Sequence[Row]
    classes: Sequence[str]
    remarks: list[str] = field(default_factory=list)
    _counts: npt.NDArray[np.int64] = field(
        default_factory=lambda: np.zeros(IGNORE + 1, np.int64)
    )

    @property
    def name(self) -> str:
        """Names of the files."""
        return ", ".join(tables.locate(row["path"]).name for row in self.rows)

    def count(self, labels: Labels) -> None:
        """Take in a slab."""
        self._counts += np.bincount(labels.ravel(), minlength=IGNORE + 1)

    def facts(self) -> dict[str, Any]:
        """Say what was found.

        Returns
        -------
        dict
            `labels`: file names; `verdict`: ok or warning; `messages`; `voxels`: count
            by class; `unlabelled`: count.

        Raises
        ------
        Refused
            If nothing is labelled.
        """
        voxels = dict(zip(self.classes, self._counts.tolist(), strict=False))
        if not any(voxels.values()):
            raise Refused(
                f"{self.name}: expected labels, found every voxel unlabelled; correct the"
                " file or take its row out of labels.tsv"
            )
        found = [name for name, count in voxels.items() if count]
        alone = f"{self.name}: every labelled voxel is {found[0]}; is that meant?"
        messages = [*self.remarks, *([alone] if len(found) == 1 else [])]
        return {
            "labels": self.name,
            "verdict": "warning" if messages else "ok",
            "messages": messages,
            "voxels": voxels,
            "unlabelled": int(self._counts[IGNORE]),
        }


def unchanged(
    rows: Sequence[Row],
    sha256: Sequence[str | None],
    root: str | os.PathLike[str] = ".",
) -> None:
    """Make sure that files are those that were planned with; None = still to be made.

    Raises
    ------
    Refused
        If one has changed since.
    """
    for row, planned in zip(rows, sha256, strict=True):
        path = tables.locate(row["path"], root)
        if planned and formats.sha256(path, row) != planned:
            raise Refused(
                f"{path.name}: expected the file that was planned with, found it changed;"
                " run again"
            )


def convert(
    rows: Sequence[Row],
    volume: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    classes: Sequence[str],
    colours: Colours | None = None,
    root: str | os.PathLike[str] = ".",
) -> dict[str, Any]:
    """Write the labels of a volume, see `assemble`, and say what they hold.

    Returns
    -------
    dict
        See `Survey.facts`.

    Raises
    ------
    Refused
        If nothing is labelled, or see `assemble`.
    """
    survey = Survey(rows, classes)
    with volumes.open_volume(volume) as grid:
        shape, z = grid.shape, grid.z
        voxel_nm, origin_nm = grid.voxel_nm, grid.origin_nm
    layout = {"data": (shape, np.uint8)}
    with volumes.create(
        path, layout, voxel_nm=voxel_nm, z=z, origin_nm=origin_nm, classes=classes
    ) as file:
        for place, labels in on_grid(
            rows, target(volume), survey.remarks, classes, colours, root
        ):
            file["data"][place] = labels
            survey.count(labels)
        return survey.facts()


@dataclass(frozen=True)
class Target:
    """Where labels and points belong: the voxels of a converted volume.

    Attributes
    ----------
    steps
        What lies between the raw file and the converted volume.
    voxel_nm
        Edges of the converted voxels along z, y, x in nm; NaN where unknown.
    z
        True z of the slices of a sparse set.
    first
        Number of the first slice of a numbered series.
    """

    steps: Steps
    voxel_nm: tuple[float, float, float]
    z: npt.NDArray[np.int64] | None = None
    first: int = 0


def target(volume: str | os.PathLike[str]) -> Target:
    """Return where labels of a converted volume belong."""
    said = volumes.attributes(volume)
    with volumes.open_volume(volume) as grid:
        z, y, x = said.get("source_shape", grid.shape)
        name = str(said.get("source", os.path.basename(volume)))
        done = steps.read(said, (z, y, x), name, sparse=grid.z is not None)
        return Target(done, grid.voxel_nm, grid.z, int(said.get("first_slice", 0)))


def on_grid(
    rows: Sequence[Row],
    target: Target,
    remarks: list[str],
    classes: Sequence[str],
    colours: Colours | None,
    root: str | os.PathLike[str],
) -> Iterator[tuple[tuple[slice, ...], Labels]]:
    """Yield places on the grid of the converted volume, and what is said there.

    Rows on the grid of the file take the volume's steps. Those on the converted grid
    (`grid` of labels.tsv) lie over them.
    """
    done = target.steps

    def assembled(
        rows: Sequence[Row], shape: tuple[int, int, int], parts: Iterable[slice]
    ) -> Iterator[Labels]:
        return assemble(
            rows, shape, classes=classes, colours=colours, z=target.z,
            first=target.first, root=root, remarks=remarks, parts=parts,
        )  # fmt: skip

    if not done.moved:
        thin = list(volumes.slabs(done.grid[0], _thickness(done.grid)))
        for slab, labels in zip(thin, assembled(rows, done.grid, thin), strict=True):
            yield (slab,), labels
        return
    plan = list(done.parts(_thickness(done.shape, done.factor)))
    own, later = by_grid(rows)
    followed = assembled(own, done.shape, [part for part, _ in plan])
    with _Over(done.grid) as over:
        if later:
            over.fill(assembled(later, done.grid, over.slabs))
        for (_, place), labels in zip(plan, followed, strict=True):
            yield place, over.lay(place, done.apply_to_labels(labels))


def by_grid(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Part the rows into those on the grid of the file, and on the converted one."""
    later = [row for row in rows if row.get("grid") == CONVERTED]
    return [row for row in rows if row not in later], later


def _thickness(shape: tuple[int, int, int], factor: int = 1) -> int:
    return volumes.thickness(factor * shape[1] * shape[2], SLAB_BYTES)


class _Over:
    """Labels of the converted grid, kept on disk to be laid over others."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        self.slabs = list(volumes.slabs(shape[0], _thickness(shape)))
        self.file: h5py.File | None = None

    def __enter__(self) -> "_Over":
        self.space = tempfile.TemporaryFile()
        return self

    def __exit__(self, *error: object) -> None:
        if self.file:
            self.file.close()
        self.space.close()

    def fill(self, assembled: Iterable[Labels]) -> None:
        """Take in the labels, slab by slab."""
        self.file = h5py.File(self.space, "w")
        self.file.create_dataset("data", self.shape, np.uint8)
        for slab, labels in zip(self.slabs, assembled, strict=True):
            self.file["data"][slab] = labels

    def lay(self, place: tuple[slice, ...], labels: Labels) -> Labels:
        """Lay the labels of a place over others."""
        if not self.file:
            return labels
        said = self.file["data"][place]
        over: Labels = np.where(said != IGNORE, said, labels)
        return over


def points(
    rows: Sequence[Row], grid: Grid, *, root: str | os.PathLike[str] = "."
) -> tables.Points:
    """Read all points of a volume in voxels; centres of voxels have whole numbers.

    Parameters
    ----------
    rows
        Rows of labels.tsv: `path`, `unit`, `tomogram`, `pixel_nm`, and `task`, which is
        the class of points without one.
    grid
        The volume.
    root
        Folder to which paths are relative.

    Raises
    ------
    Refused
        See `particles.points`.
    """
    found = [particles.points(tables.locate(row["path"], root), row, grid) for row in rows]
    return _joined(found)


def _joined(found: Sequence[tables.Points | Particles]) -> tables.Points:
    return tables.Points(
        np.concatenate([np.empty((0, 3)), *(part.positions for part in found)]),
        np.concatenate([np.empty((0, 3)), *(part.normals for part in found)]),
        tuple(name for part in found for name in part.classes),
    )


def follow(
    row: Row,
    target: Target,
    *,
    name: str = "",
    unbinned: Mapping[str, str] | None = None,
    root: str | os.PathLike[str] = ".",
) -> tables.Points:
    """Read points on the grid their row names, in voxels of the converted volume.

    Points of the file that lie outside what was cropped are left out, and told.

    Raises
    ------
    Refused
        See `points`.
    """
    done, z = target.steps, target.z
    own = done.moved and row.get("grid") != CONVERTED
    shape, voxel_nm = done.grid, target.voxel_nm
    if own:
        shape, voxel_nm = done.shape, done.file_voxel_nm(voxel_nm)
    if z is not None:
        shape = (int(z.max()) + 1, *shape[1:])
    known = (unbinned or {}) if own or not done.moved else {}
    there = points([row], Grid(shape, voxel_nm, name, unbinned=known), root=root)
    return _placed(there, done, z is not None) if own else there


def _placed(points: tables.Points, done: Steps, sparse: bool) -> tables.Points:
    places = steps.place(points.positions, done)
    kept = steps.inside(places, done, flat=sparse)
    if not kept.all():
        log.warning("%s: %d points lie outside the crop", done.name, (~kept).sum())
    classes = tuple(itertools.compress(points.classes, kept))
    return tables.Points(places[kept], steps.turn(points.normals, done)[kept], classes)


def convert_points(
    rows: Sequence[Row],
    volume: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    unbinned: Mapping[str, str] | None = None,
    root: str | os.PathLike[str] = ".",
) -> dict[str, Any]:
    """Write the points of a volume in voxels; none at all is a valid answer, and told.

    Parameters
    ----------
    rows, root
        See `points`.
    volume
        The converted volume.
    path
        Where the table will stand.
    unbinned
        Cells `bin1_shape`, `bin1_pixel_nm` and `binning` of the volume's row.

    Returns
    -------
    dict
        See `counted`.
    """
    place = target(volume)
    found = [follow(row, place, unbinned=unbinned, root=root) for row in rows]
    tables.write_points(_joined(found), path)
    return counted(rows, sum(len(part.positions) for part in found))


def counted(rows: Sequence[Row], count: int) -> dict[str, Any]:
    """Say of points what `Survey.facts` says of labels: none at all is a warning."""
    names = ", ".join(tables.locate(row["path"]).name for row in rows)
    empty = [] if count else [f"{names}: no points at all; is that meant?"]
    return {
        "labels": names,
        "verdict": "warning" if empty else "ok",
        "messages": empty,
        "points": count,
    }


def publish_picks(
    picks: tables.Picks,
    volume: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    name: str,
    label: str,
    unbinned: Mapping[str, str],
) -> None:
    """Write picks for another program, which knows the raw file and not what became of it.

    Parameters
    ----------
    picks
        Picks in voxels of the converted volume.
    volume
        The converted volume.
    path
        Where the file will stand; its ending tells the format. It counts voxels of the
        raw file, also where that was cropped, binned or turned.
    name, label
        Names of the tomogram and of what was picked.
    unbinned
        Cells `bin1_shape`, `bin1_pixel_nm` and `binning` of the volume's row.

    Raises
    ------
    Refused
        See `particles.write`.
    """
    place = target(volume)
    done, voxel_nm = place.steps, place.steps.file_voxel_nm(place.voxel_nm)
    found = replace(
        particles.of_picks(picks, label),
        positions=steps.back(picks.positions, done),
        normals=steps.turn_back(picks.normals, done),
    )
    particles.write(found, path, Grid(done.shape, voxel_nm, name, unbinned))
