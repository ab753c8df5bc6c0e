"""Checkpoints: all that a training needs to go on to the same bits, in one file.

HDF5 with the facts as JSON, and the arrays of the network, of the optimizer and of the best
weights so far; a sha256 over all of it tells a damaged file. Never a pickle. The file is
made in memory and written in one go, so a full disk is an error like any other.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from tomoglean.provenance import Refused, replacing

FORMAT = "tomoglean-checkpoint-1"
GROUPS = ("network", "optimizer", "best")
GROWTH = 1 << 24
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Checkpoint:
    """A training at one moment.

    Attributes
    ----------
    facts
        What JSON can hold: key, epochs done, steps done of the next one, learning curve,
        best epoch, number of threads, versions, processors.
    arrays
        Variables of the network (running means and the states of its random numbers among
        them) and of the optimizer, and the best weights, each in its own order.
    """

    facts: dict[str, Any]
    arrays: dict[str, list[Array]]

    @property
    def place(self) -> tuple[int, int]:
        """Epochs done, and steps done of the next one."""
        return int(self.facts["epoch"]), int(self.facts["step"])


def write(checkpoint: Checkpoint, path: str | os.PathLike[str]) -> None:
    """Write a checkpoint, as a whole or not at all.

    Raises
    ------
    Refused
        If it cannot be written, such as on a full disk; an older file stays as it was.
    """
    image = _image(checkpoint)
    try:
        with replacing(path) as partial:
            partial.write_bytes(image)
    except OSError as error:
        raise Refused(
            f"{path}: expected room for a checkpoint of {len(image) / 1e6:.0f} MB, found "
            f"{error.strerror or error}; free space, then the same command goes on from "
            "the last good one"
        ) from error


def _image(checkpoint: Checkpoint) -> memoryview:
    """Make the bytes of the file."""
    text = json.dumps({"format": FORMAT, **checkpoint.facts}).encode()
    memory = {"driver": "core", "backing_store": False, "block_size": GROWTH}
    with h5py.File("checkpoint", "w", **memory) as file:
        file["facts"] = np.frombuffer(text, np.uint8)
        for name in GROUPS:
            group = file.create_group(name)
            for number, array in enumerate(checkpoint.arrays[name]):
                group[f"{number:05d}"] = array
        file.attrs["sha256"] = _digest(text, checkpoint.arrays)
        file.flush()
        return memoryview(file.id.get_file_image())


def _digest(text: bytes, arrays: Mapping[str, Sequence[Array]]) -> str:
    digest = hashlib.sha256(text)
    for name in GROUPS:
        for array in arrays[name]:
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def facts(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what a checkpoint says of itself, without its arrays.

    Raises
    ------
    Refused
        If it is damaged, or no checkpoint.
    """
    with _opened(path) as file:
        return _facts(bytes(file["facts"][...]))


def _facts(text: bytes) -> dict[str, Any]:
    found = json.loads(text)
    if found.pop("format") != FORMAT:
        raise ValueError("another format")
    return dict(found)


def read(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint.

    Raises
    ------
    Refused
        If one byte of what counts is not as it was written, or it is no checkpoint.
    """
    with _opened(path) as file:
        text = bytes(file["facts"][...])
        arrays = {
            name: [file[name][each][...] for each in sorted(file[name])] for name in GROUPS
        }
        if _digest(text, arrays) != file.attrs["sha256"]:
            raise ValueError("another sha256")
        return Checkpoint(_facts(text), arrays)


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    try:
        with h5py.File(path, "r", locking="best-effort") as file:
            yield file
    except FileNotFoundError:
        raise
    except (
        MemoryError,
        OSError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        RuntimeError,
    ) as error:
        raise Refused(
            f"{path}: expected a whole {FORMAT}, found a damaged or foreign file; remove "
            "it, and the training goes on from an earlier one"
        ) from error
