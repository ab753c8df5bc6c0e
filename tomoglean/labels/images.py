"""Lay label images over each other, and say what they hold."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tomoglean import study, tables, volumes
from tomoglean.formats import Row, Source, open_source
from tomoglean.labels.codes import Code, Colours, Labels, by_materials, code, decode
from tomoglean.provenance import Refused
from tomoglean.volumes import IGNORE

Pages = npt.NDArray[np.int64]


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
