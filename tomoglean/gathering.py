"""Write the blocks of a volume, and put them together without packing them anew.

A block holds whole layers of chunks along one axis, so that a chunk of it is, byte for
byte, a chunk of the whole: it is copied as it lies in the file, its checksum looked at.
Each block says what it was made for; one that was made for something else is refused.
"""

import contextlib
import itertools
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from tomoglean import chunks, volumes
from tomoglean.provenance import Refused
from tomoglean.volumes import CHUNK, Writer

Array = npt.NDArray[Any]
SUM_BYTES = chunks.SUM_BYTES


@dataclass(frozen=True)
class Block:
    """The share of one of several jobs.

    Attributes
    ----------
    number, of
        This one, counted from 1, and how many there are.
    """

    number: int
    of: int

    @property
    def name(self) -> str:
        """Words such as 3-of-4."""
        return f"{self.number}-of-{self.of}"

    @classmethod
    def read(cls, text: str) -> "Block":
        """Read words such as 3-of-4."""
        number, _, of = text.partition("-of-")
        return cls(int(number), int(of))

    def share(self, depth: int) -> slice:
        """Slices out of `depth` that are this block's: whole layers of chunks, or none."""
        layers = math.ceil(depth / CHUNK)
        first, last = (layers * n // self.of for n in (self.number - 1, self.number))
        return slice(min(CHUNK * first, depth), min(CHUNK * last, depth))


# -- one block -------------------------------------------------------------------------


@contextlib.contextmanager
def writing(
    path: str | os.PathLike[str],
    block: Block,
    made_for: str,
    datasets: Mapping[str, tuple[tuple[int, ...], npt.DTypeLike]],
    voxel_nm: tuple[float, float, float],
) -> Iterator[Writer]:
    """Create the file of a block; datasets without a voxel are left out.

    Parameters
    ----------
    path
        Where the block will stand.
    block
        Which one it is.
    made_for
        Key of everything that decides what is in it.
    datasets
        Shape and dtype by name, as in `volumes.create`.
    voxel_nm
        Voxel edges in nm.
    """
    some = {name: one for name, one in datasets.items() if all(one[0])}
    with volumes.create(
        path, some, voxel_nm=voxel_nm, block=block.name, made_for=made_for
    ) as file:
        yield file


@contextlib.contextmanager
def opened(
    paths: Sequence[str | os.PathLike[str]], made_for: str
) -> Iterator[list[h5py.File]]:
    """Open all blocks of an artefact, in their order.

    Raises
    ------
    Refused
        If one is damaged, or is another block or one of something else.
    """
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(_open(Path(path), Block(n, len(paths)), made_for))
            for n, path in enumerate(paths, 1)
        ]


@contextlib.contextmanager
def _open(path: Path, block: Block, made_for: str) -> Iterator[h5py.File]:
    try:
        file = h5py.File(path, "r", locking="best-effort")
    except OSError as error:
        raise damaged(path, error) from error
    with file:
        found = file.attrs.get("block", "none"), file.attrs.get("made_for", "none")
        if found != (block.name, made_for):
            told = f"{found[0]} of {str(found[1])[:12]}"
            raise Refused(
                f"{path}: expected block {block.name} of {made_for[:12]}, found {told}; "
                "remove the file, then start again"
            )
        yield file


def damaged(path: str | os.PathLike[str], why: object) -> Refused:
    """Say that a block cannot be read."""
    told = " ".join(str(why).split())
    return Refused(
        f"{path}: expected a whole block, found damage ({told}); remove the file, then "
        "start again"
    )


# -- all of them -----------------------------------------------------------------------


class Joined:
    """A dataset whose parts, side by side along one axis, lie in blocks.

    Parameters
    ----------
    files
        All blocks, in their order.
    name
        Dataset.
    axis
        Axis along which it is cut.
    shape
        Shape of the whole.

    Raises
    ------
    Refused
        If a part is missing or has another shape.
    """

    def __init__(
        self, files: Sequence[h5py.File], name: str, axis: int, shape: Sequence[int]
    ) -> None:
        self.axis, self.shape = axis, tuple(shape)
        self.parts: list[tuple[slice, h5py.Dataset]] = []
        for n, file in enumerate(files, 1):
            share = Block(n, len(files)).share(self.shape[axis])
            if share.stop > share.start:
                self.parts.append((share, self._part(file, name, share)))

    def _part(self, file: h5py.File, name: str, share: slice) -> h5py.Dataset:
        expected = list(self.shape)
        expected[self.axis] = share.stop - share.start
        stored = file.get(name)
        if not isinstance(stored, h5py.Dataset) or stored.shape != tuple(expected):
            found = getattr(stored, "shape", "nothing")
            raise damaged(file.filename, f"{name}: {found} instead of {tuple(expected)}")
        if stored.chunks and stored.id.get_num_chunks() < _chunks_of(stored):
            raise damaged(file.filename, f"{name}: chunks are missing")
        return stored

    def __getitem__(self, where: tuple[slice, ...]) -> Array:
        """Read a place, given by slices with starts and stops."""
        parts = list(self._overlaps(where))
        if len(parts) == 1:
            return _read(*parts[0][1:])
        size = [part.stop - part.start for part in where]
        found = np.empty(size, self.parts[0][1].dtype)
        for place, stored, inside in parts:
            found[place] = _read(stored, inside)
        return found

    def _overlaps(
        self, where: tuple[slice, ...]
    ) -> Iterator[tuple[tuple[slice, ...], h5py.Dataset, tuple[slice, ...]]]:
        """Yield where a part lies in a place, the part, and the place in the part."""
        wanted = where[self.axis]
        for share, stored in self.parts:
            low, high = max(share.start, wanted.start), min(share.stop, wanted.stop)
            if low < high:
                place = [slice(None)] * len(where)
                place[self.axis] = slice(low - wanted.start, high - wanted.start)
                inside = list(where)
                inside[self.axis] = slice(low - share.start, high - share.start)
                yield tuple(place), stored, tuple(inside)

    def copy(self, layer: slice, target: chunks.Dataset) -> None:
        """Copy a layer of chunks along the axis to a dataset of the whole's shape."""
        edges = target.stored.chunks
        ranges = [
            range(0, edge, step) for edge, step in zip(self.shape, edges, strict=True)
        ]
        ranges[self.axis] = range(layer.start, layer.stop, edges[self.axis])
        for corner in itertools.product(*ranges):
            where = tuple(
                slice(at, min(at + step, edge))
                for at, step, edge in zip(corner, edges, self.shape, strict=True)
            )
            ((_, stored, inside),) = self._overlaps(where)
            if stored.chunks == edges:
                place = tuple(part.start for part in inside)
                target.stored.id.write_direct_chunk(corner, _packed(stored, place))
            else:  # a last layer so thin that its block has smaller chunks
                target[where] = _read(stored, inside)


def copy(file: Writer, joined: Mapping[str, Joined]) -> None:
    """Copy datasets layer by layer, in the order in which one job alone writes them."""
    first = next(iter(joined.values()))
    for layer in volumes.slabs(first.shape[first.axis]):
        for name, source in joined.items():
            source.copy(layer, file[name])


def _chunks_of(stored: h5py.Dataset) -> int:
    """Number of chunks of a complete dataset."""
    edges = zip(stored.shape, stored.chunks, strict=True)
    return math.prod(math.ceil(edge / step) for edge, step in edges)


def _read(stored: h5py.Dataset, where: tuple[slice, ...]) -> Array:
    """Read a place of a block; HDF5 looks at the checksums."""
    try:
        return np.asarray(stored[where])
    except OSError as error:
        raise damaged(stored.file.filename, error) from error


def _packed(stored: h5py.Dataset, place: tuple[int, ...]) -> bytes:
    """Read a chunk as it lies in the file, and look at its checksum."""
    try:
        _, raw = stored.id.read_direct_chunk(place)
    except (OSError, RuntimeError, ValueError) as error:
        raise damaged(stored.file.filename, error) from error
    own, told = raw[:-SUM_BYTES], raw[-SUM_BYTES:]
    if chunks.fletcher32(own) != int.from_bytes(told, "little"):
        raise damaged(stored.file.filename, f"wrong checksum of chunk {place}")
    return bytes(raw)
