"""Turn the answers along several axes into votes, and votes into labels."""

import contextlib
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from tomoglean import volumes
from tomoglean.provenance import Refused
from tomoglean.volumes import Volume

AXES = "zyx"
#: Votes of all axes for one class: below 65,535, so that rounding never overflows.
FULL = 60_000
CERTAIN = 255


def vote_shares(
    source: str | os.PathLike[str],
    volume: Volume,
    axes: Sequence[str] | None,
    weights: Mapping[str, float] | None,
) -> dict[str, float]:
    """Share of the vote by slicing axis, adding up to 1; axes without a share left out.

    Raises
    ------
    Refused
        If a sparse set of slices shall be cut along y or x, an axis is unknown or named
        twice, or no weight is left.
    """
    if axes is None:
        axes = AXES if volume.z is None else "z"
    if not axes or len(set(axes)) < len(axes) or set(axes) - set(AXES):
        raise Refused(f"axes: expected one to three of z, y, x, found {list(axes)}")
    if volume.z is not None and set(axes) != {"z"}:
        raise Refused(f"{source}: a sparse set of slices allows axes: [z], found {axes}")
    given = {axis: float((weights or {}).get(axis, 1.0)) for axis in axes}
    total = sum(given.values())
    if total <= 0 or min(given.values()) < 0:
        raise Refused(f"weights: expected none below 0 and one above, found {given}")
    return {axis: weight / total for axis, weight in given.items() if weight}


def vote(probabilities: npt.NDArray[np.float32], share: float) -> npt.NDArray[np.uint16]:
    """Turn probabilities into whole votes out of `FULL`, rounded."""
    scaled = np.rint(np.clip(probabilities, 0, 1) * np.float32(share * FULL))
    votes: npt.NDArray[np.uint16] = scaled.astype(np.uint16)
    return votes


def decide(
    votes: npt.NDArray[np.uint16],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Give every voxel the label with most votes, and say how sure that is.

    Parameters
    ----------
    votes
        Votes of shape (classes, Z, Y, X) out of `FULL`.

    Returns
    -------
    labels, confidence
        Both uint8 of shape (Z, Y, X); confidence is the share of the votes, 255 = all.
    """
    best = votes[0].copy()
    labels = np.zeros(votes.shape[1:], np.uint8)
    for label in range(1, len(votes)):
        better = votes[label] > best
        labels[better] = label
        np.maximum(best, votes[label], out=best)
    confidence = (best.astype(np.uint32) * CERTAIN + FULL // 2) // FULL
    return labels, np.minimum(confidence, CERTAIN).astype(np.uint8)


@contextlib.contextmanager
def scratch(folder: Path, shape: tuple[int, ...]) -> Iterator[Any]:
    """Lend an unnamed dataset of votes: chunked so that any axis reads it evenly."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as space, h5py.File(space, "w") as file:
        chunks = (1, *(min(volumes.CHUNK, n) for n in shape[1:]))
        yield file.create_dataset("votes", shape, np.uint16, chunks=chunks)


@contextlib.contextmanager
def on_disk(folder: Path, shape: tuple[int, ...]) -> Iterator[npt.NDArray[np.uint8]]:
    """Lend an array that lies in an unnamed file, whose room is taken beforehand.

    Raises
    ------
    Refused
        If the disk is full: found only on writing, that would end the process.
    """
    size = math.prod(shape)
    with tempfile.TemporaryFile(dir=folder) as space:
        try:
            os.posix_fallocate(space.fileno(), 0, size)
        except OSError as error:
            raise Refused(
                f"{folder}: expected {size / 1e9:.3g} GB free for a layer of labels, found"
                f" {error.strerror}; make room, then start again"
            ) from error
        yield np.memmap(space, np.uint8, "r+", shape=shape)
