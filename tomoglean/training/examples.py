"""Labelled examples on disk: every slice or patch and its warped copies, by place."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from tomoglean import augment, volumes
from tomoglean.intensities import FINGERPRINT
from tomoglean.provenance import Refused

IGNORE = volumes.IGNORE
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Source:
    """Examples of one volume along one axis.

    Attributes
    ----------
    examples
        Group with `images` and `labels`.
    warps
        Rows of `augment.plan`, originals among them.
    made
        Group with the pixels of these rows if they were materialised.
    """

    examples: h5py.Group
    warps: Array
    made: h5py.Group | None


class Pool:
    """All examples of some volumes, each known by its place.

    Parameters
    ----------
    stack
        Closes the files.
    examples
        Examples files.
    augmented
        Their warps, in any order; without, only the originals.

    Raises
    ------
    Refused
        If an augmented file belongs to none of the examples.
    """

    def __init__(
        self,
        stack: ExitStack,
        examples: Sequence[str | os.PathLike[str]],
        augmented: Sequence[str | os.PathLike[str]] = (),
    ) -> None:
        files = [_open(stack, path) for path in examples]
        opened = [_open(stack, path) for path in augmented]
        warps = {str(file.attrs["volume"]): file for file in opened}
        self.volumes = [str(file.attrs["volume"]) for file in files]
        self.facts = [dict(file.attrs) for file in files]
        strangers = sorted(set(warps) - set(self.volumes))
        if strangers:
            raise Refused(
                f"{strangers[0]}: augmented, but not among the examples; slice it"
            )
        self.sources = [
            _source(file[name], warps.get(volume), name)
            for file, volume in zip(files, self.volumes, strict=True)
            for name in sorted(file)
        ]
        self.items = np.array(
            [
                (place, row)
                for place, source in enumerate(self.sources)
                for row in range(len(source.warps))
            ],
            np.int64,
        ).reshape(-1, 2)
        self.patches = any(facts["kind"] == "patches" for facts in self.facts)
        if self.patches:
            self.items = self.items[self.item_labels() != IGNORE]

    def item_labels(self) -> npt.NDArray[np.uint8]:
        """Return the label of every patch."""
        each = [s.examples["labels"][...][s.warps[:, 0].astype(int)] for s in self.sources]
        every = np.concatenate(each) if each else np.zeros(0, np.uint8)
        offsets = np.cumsum([0, *(len(source.warps) for source in self.sources)])
        labels: npt.NDArray[np.uint8] = every[offsets[self.items[:, 0]] + self.items[:, 1]]
        return labels

    def load(self, place: int) -> tuple[Array, Array]:
        """Return image (H, W, C) and labels, (H, W) or one number."""
        number, row = self.items[place]
        source = self.sources[number]
        if source.made is not None:
            image, labels = source.made["images"][row], source.made["labels"][row]
        else:
            warp = source.warps[row]
            index = int(warp[0])
            image, labels = augment.apply(
                source.examples["images"][index], source.examples["labels"][index], warp
            )
        return np.atleast_3d(image), labels

    def image_shape(self) -> tuple[int, int, int]:
        """Largest height and width of the images, and their channels."""
        shapes = [
            (*source.examples["images"].shape[1:], 1)[:3]
            for source in self.sources
            if len(source.warps)
        ]
        height, width, channels = np.max(shapes, axis=0).tolist()
        return height, width, channels

    def label_values(self) -> set[int]:
        """Return the classes that occur; looks no further once there are two."""
        seen: set[int] = set()
        for source in self.sources:
            for labels in source.examples["labels"]:
                seen |= set(np.unique(labels).tolist()) - {IGNORE}
                if len(seen) > 1:
                    return seen
        return seen


def _open(stack: ExitStack, path: str | os.PathLike[str]) -> h5py.File:
    return stack.enter_context(h5py.File(path, "r", locking="best-effort"))


def _source(group: h5py.Group, augmented: h5py.File | None, name: str) -> Source:
    count = len(group["labels"])
    if augmented is None:
        warps = augment.plan(count, seed=0, volume="", group=name, copies=0)
        return Source(group, warps, None)
    made = augmented[name]
    return Source(group, made["warps"][...], made if "images" in made else None)


def fingerprint(pool: Pool) -> dict[str, Any]:
    """Fingerprint of the data: median over the training volumes, and each of them."""
    known = [facts for facts in pool.facts if all(name in facts for name in FINGERPRINT)]
    each = {
        str(facts["volume"]): {name: float(facts[name]) for name in FINGERPRINT}
        for facts in known
    }
    median = {
        name: float(np.median([one[name] for one in each.values()]))
        for name in (FINGERPRINT if each else ())
    }
    return {**median, "volumes": each}
