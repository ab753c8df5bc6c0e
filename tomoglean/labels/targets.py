"""Bring label images from the grid of the raw file to that of the converted volume."""

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import h5py
import numpy as np
import numpy.typing as npt

from tomoglean import steps, volumes
from tomoglean.formats import Row
from tomoglean.labels.codes import Colours, Labels
from tomoglean.labels.images import assemble
from tomoglean.steps import Steps
from tomoglean.volumes import IGNORE

CONVERTED = "converted"
SLAB_BYTES = 1 << 26


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
