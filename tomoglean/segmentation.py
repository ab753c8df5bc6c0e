"""Segment whole volumes slice by slice, along one or several axes, in bounded memory.

Every slice is seen whole (no tiles, no seams). The softmax of all axes is averaged (soft
vote): all axes but the last leave their votes in an unnamed scratch file beside the
output, which the operating system removes however the job ends; the last axis adds its own
and decides slab by slab. Works without TensorFlow.

Several jobs may share a volume: each asks about its own slices along every axis, so no
slice is cut and none is asked about twice, and another job gathers their votes. The labels
are the same to the byte for any number of jobs, also of a network that normalises by the
whole slice.
"""

import contextlib
import itertools
import json
import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from tomoglean import gathering, progress, volumes
from tomoglean.gathering import Block, Joined
from tomoglean.intensities import fingerprint, standardise
from tomoglean.networks.exported import Network
from tomoglean.provenance import Refused, key
from tomoglean.volumes import Volume
from tomoglean.voting import AXES, decide, on_disk, scratch, vote, vote_shares

logger = logging.getLogger(__name__)


def segment(
    source: str | os.PathLike[str],
    network: Network,
    output: str | os.PathLike[str],
    *,
    axes: Sequence[str] | None = None,
    weights: Mapping[str, float] | None = None,
    mirror: bool = False,
    memory_gb: float = 4.0,
    block: str | None = None,
    blocks: Sequence[str | os.PathLike[str]] = (),
) -> None:
    """Segment a converted volume into labels and confidence.

    Parameters
    ----------
    source
        Converted volume (Z, Y, X) with its fingerprint.
    network
        What to ask.
    output
        Volume file with `data`, the labels (uint8), and `confidence`, the probability of
        the label (uint8, 255 = 1). On a tie the lower label wins.
    axes
        Slicing axes out of z, y, x; None takes all three, or z for a sparse set of slices.
    weights
        Weight of each axis's vote, 1 for an axis not named; None weighs all alike.
    mirror
        Average over the four mirrored views of every slice (four times the work).
    memory_gb
        Memory for one slab of votes, in GB; the result does not depend on it. The network
        itself needs its own for one slice.
    block
        Words such as 3-of-4: ask only about this block's slices, and write what `blocks`
        takes.
    blocks
        Files of all blocks: gather them instead of asking the network.

    Raises
    ------
    Refused
        If axes or weights do not fit the volume, or a block is damaged or of another
        volume, network or setting.
    """
    attrs = volumes.attributes(source)
    with volumes.open_volume(source) as volume:
        shares = vote_shares(source, volume, axes, weights)
        if network.channels > 1 and volume.z is not None:
            raise Refused(f"{source}: a sparse set of slices has no neighbours for 2.5D")
        voter = _Voter(volume, fingerprint(attrs), network, mirror, memory_gb)
        made_for = key(attrs, volume.shape, shares, mirror, network.weights_sha256)
        if block is not None:
            _write_block(voter, shares, Block.read(block), output, made_for)
        elif blocks:
            with gathering.opened(blocks, made_for) as parts:
                _gather(voter, shares, parts, output)
        else:
            _segment(voter, shares, output)


def _segment(
    voter: "_Voter", shares: Mapping[str, float], output: str | os.PathLike[str]
) -> None:
    """Ask about all slices, and decide."""
    shape = (len(voter.network.classes), *voter.volume.shape)
    with (
        _labelled(voter, shares, output) as file,
        scratch(Path(output).parent, shape) as votes,
    ):
        _fill(file, voter.decide(shares, votes))


def _write_block(
    voter: "_Voter",
    shares: Mapping[str, float],
    block: Block,
    output: str | os.PathLike[str],
    made_for: str,
) -> None:
    """Ask about the slices of a block: its votes, or its labels where one axis decides."""
    own = {axis: block.share(voter.volume.shape[AXES.index(axis)]) for axis in shares}
    layout = _layout_of_block(voter, own)
    with gathering.writing(output, block, made_for, layout, voter.volume.voxel_nm) as file:
        for axis, within in own.items():
            for where, votes in voter.slabs(axis, shares[axis], within):
                place = _moved(where, AXES.index(axis), -within.start)
                if len(shares) > 1:
                    file[f"votes_{axis}"][place] = votes
                else:
                    _fill(file, [(place[1:], *decide(votes))])


def _layout_of_block(
    voter: "_Voter", own: Mapping[str, slice]
) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Shape and dtype of what a block holds."""
    layout: dict[str, tuple[tuple[int, ...], Any]] = {}
    for axis, within in own.items():
        shape = list(voter.volume.shape)
        shape[AXES.index(axis)] = within.stop - within.start
        votes = (len(voter.network.classes), *shape)
        layout[f"votes_{axis}"] = (votes, np.uint16)
        labels = (tuple(shape), np.uint8)
    return layout if len(own) > 1 else {"data": labels, "confidence": labels}


def _moved(where: tuple[slice, ...], axis: int, step: int) -> tuple[slice, ...]:
    """Move a place of votes (classes, Z, Y, X) along z, y or x."""
    moved = list(where)
    old = where[1 + axis]
    moved[1 + axis] = slice(old.start + step, old.stop + step)
    return tuple(moved)


def _gather(
    voter: "_Voter",
    shares: Mapping[str, float],
    parts: Sequence[h5py.File],
    output: str | os.PathLike[str],
) -> None:
    """Copy the labels of all blocks, or add their votes up and decide."""
    shape = voter.volume.shape
    if len(shares) == 1:
        number = AXES.index(next(iter(shares)))
        names = ("data", "confidence")
        labels = {name: Joined(parts, name, number, shape) for name in names}
        with _labelled(voter, shares, output) as file:
            gathering.copy(file, labels)
        return
    whole = (len(voter.network.classes), *shape)
    votes = [Joined(parts, f"votes_{axis}", 1 + AXES.index(axis), whole) for axis in shares]
    number = AXES.index([*shares][-1])
    with _labelled(voter, shares, output) as file:
        _fill(file, voter.added(number, votes, Path(output).parent))


def _sum(votes: Sequence[Joined], where: Sequence[slice]) -> npt.NDArray[np.uint16]:
    """Add up the votes of all axes for a place."""
    first, *others = votes
    total = first[tuple(where)]
    for other in others:
        total += other[tuple(where)]
    return total


@contextlib.contextmanager
def _labelled(
    voter: "_Voter", shares: Mapping[str, float], output: str | os.PathLike[str]
) -> Iterator[volumes.Writer]:
    """Create the file of labels and confidence."""
    volume, network = voter.volume, voter.network
    with volumes.create(
        output,
        dict.fromkeys(("data", "confidence"), (volume.shape, np.uint8)),
        voxel_nm=volume.voxel_nm,
        z=volume.z,
        origin_nm=volume.origin_nm,
        classes=json.dumps(network.classes),
        axes=json.dumps(shares),
        mirror=voter.mirror,
        weights_sha256=network.weights_sha256,
    ) as file:
        yield file


def _fill(file: volumes.Writer, decided: Iterable[tuple[Any, ...]]) -> None:
    for where, labels, confidence in decided:
        file["data"][where] = labels
        file["confidence"][where] = confidence


@dataclass(frozen=True)
class _Voter:
    """One network's votes on one volume."""

    volume: Volume
    scale: Mapping[str, float]
    network: Network
    mirror: bool
    memory_gb: float

    def decide(self, shares: Mapping[str, float], votes: Any) -> Iterator[tuple[Any, ...]]:
        """Yield (place, labels, confidence) slab by slab, once all axes have voted."""
        *first, last = shares
        for n, axis in enumerate(first):
            logger.info("voting along %s", axis)
            for where, own in self.slabs(axis, shares[axis]):
                votes[where] = own + votes[where] if n else own
        logger.info("voting along %s and deciding", last)
        for where, own in self.slabs(last, shares[last]):
            yield where[1:], *decide(own + votes[where] if first else own)

    def added(
        self, number: int, votes: Sequence[Joined], folder: Path
    ) -> Iterator[tuple[Any, ...]]:
        """Yield (place, labels, confidence) by layers of chunks, votes read tile by tile.

        The labels of a layer lie in an unnamed file meanwhile.
        """
        across = 0 if number else 1
        for layer in volumes.slabs(self.volume.shape[number]):
            where = self.place(number, layer)
            size = [part.stop - part.start for part in where[1:]]
            with on_disk(folder, (2, *size)) as found:
                for rows in volumes.slabs(size[across], self.rows(size, across)):
                    tile, into = list(where), [slice(None)] * 3
                    tile[1 + across] = into[across] = rows
                    for kept, new in zip(found, decide(_sum(votes, tile)), strict=True):
                        kept[tuple(into)] = new
                yield where[1:], *found

    def rows(self, size: Sequence[int], across: int) -> int:
        """Rows of a tile of votes: whole chunks within memory, but at least one."""
        bytes_a_row = math.prod(size) // size[across] * (4 * len(self.network.classes) + 8)
        allowed = int(self.memory_gb * 1e9 / bytes_a_row)
        return max(1, allowed // volumes.CHUNK) * volumes.CHUNK

    def slabs(
        self, axis: str, share: float, within: slice | None = None
    ) -> Iterator[tuple[tuple[slice, ...], npt.NDArray[np.uint16]]]:
        """Yield (place, votes (classes, Z, Y, X)) of every slab along an axis."""
        number = AXES.index(axis)
        own = within or slice(0, self.volume.shape[number])
        progress.tell(f"segment along {axis}", 0, own.stop - own.start, unit="slices")
        for part in volumes.slabs(own.stop - own.start, self.thickness(number)):
            slab = slice(own.start + part.start, own.start + part.stop)
            where = self.place(number, slab)
            size = [one.stop - one.start for one in where]
            block = np.empty(size, np.uint16)
            along = np.moveaxis(block, 1 + number, 0)
            for n, image in enumerate(self.images(number, slab)):
                along[n] = vote(np.moveaxis(self.ask(image), -1, 0), share)
            yield where, block
            progress.tell(
                f"segment along {axis}", part.stop, own.stop - own.start, unit="slices"
            )

    def place(self, number: int, slab: slice) -> tuple[slice, ...]:
        """Place of a slab among votes (classes, Z, Y, X)."""
        where = [slice(0, edge) for edge in (len(self.network.classes), *self.volume.shape)]
        where[1 + number] = slab
        return tuple(where)

    def thickness(self, number: int) -> int:
        """Slices of a slab: a chunk's, or less where memory does not allow it."""
        plane = int(np.prod(self.volume.shape)) // max(1, self.volume.shape[number])
        # Votes twice (own, those of other axes), and the volume's own slab.
        bytes_a_slice = plane * (2 * 2 * len(self.network.classes) + 8)
        allowed = max(1, int(self.memory_gb * 1e9 / max(1, bytes_a_slice)))
        return min(volumes.CHUNK, 1 << (allowed.bit_length() - 1))

    def images(self, number: int, slab: slice) -> Iterator[npt.NDArray[np.float32]]:
        """Yield the network's input (H, W, channels) for every slice of a slab.

        Beyond the ends of the volume the outermost slice stands for its neighbours.
        """
        depth, reach = self.volume.shape[number], self.network.channels // 2
        low = max(0, slab.start - reach)
        where = [slice(None)] * 3
        where[number] = slice(low, min(depth, slab.stop + reach))
        planes = np.moveaxis(self.volume.data[tuple(where)], number, 0)
        for centre in range(slab.start, slab.stop):
            near = np.arange(centre - reach, centre - reach + self.network.channels)
            rows = np.clip(near, 0, depth - 1) - low
            yield standardise(np.moveaxis(planes[rows], 0, -1), self.scale)

    def ask(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Ask the network, on request about all four mirrored views of an image."""
        if not self.mirror:
            return self.network.probabilities(image)
        total = np.zeros((*image.shape[:2], len(self.network.classes)), np.float32)
        for flips in itertools.product((1, -1), repeat=2):
            view = (slice(None, None, flips[0]), slice(None, None, flips[1]))
            total += self.network.probabilities(image[view])[view]
        total *= np.float32(0.25)
        return total
