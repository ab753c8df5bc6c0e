"""Batches: which examples, cut where; pure functions of (seed, epoch, step)."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tomoglean import volumes
from tomoglean.networks import padding
from tomoglean.training.examples import Pool

IGNORE = volumes.IGNORE
Array = npt.NDArray[Any]
Batch = tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]


def order(
    pool: Pool, *, seed: int, epoch: int, steps: int, batch: int, share: float | None
) -> npt.NDArray[np.int64]:
    """Choose which examples make the batches of an epoch.

    Parameters
    ----------
    pool
        Examples.
    seed, epoch
        What the choice is keyed by.
    steps, batch
        Shape of the answer.
    share
        Share of positives in every batch of patches; None, or slices: as they come.

    Returns
    -------
    ndarray of shape (steps, batch)
        Places in the pool; each example comes once before any comes twice.
    """
    rng = volumes.random(seed, "order", epoch)
    if not pool.patches or share is None:
        return _dealt(np.arange(len(pool.items)), steps, batch, rng)
    positive = pool.item_labels() > 0
    many = min(max(round(share * batch), 1), batch - 1)
    drawn = _dealt(np.flatnonzero(positive), steps, many, rng)
    others = _dealt(np.flatnonzero(~positive), steps, batch - many, rng)
    return np.concatenate([drawn, others], axis=1)


def _dealt(
    places: npt.NDArray[np.int64], steps: int, batch: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    rounds = -(-steps * batch // len(places))
    dealt = np.concatenate([rng.permutation(places) for _ in range(rounds)])
    return dealt[: steps * batch].reshape(steps, batch)


def crop(
    image: Array, labels: Array, shape: Sequence[int], *, forced: bool, seed: Sequence[Any]
) -> tuple[Array, Array]:
    """Cut a random window out of a slice.

    Parameters
    ----------
    image
        Shape (H, W, C); reflected where it is smaller than the window.
    labels
        Shape (H, W); 255 beyond their border.
    shape
        Height and width of the window in pixels.
    forced
        Let the window hold a class other than the first, each class that is there with
        equal chance; no effect where there is none.
    seed
        Key of the random numbers: seed, then whatever tells this crop from others.
    """
    rng = volumes.random(*seed)
    lack = [max(want - have, 0) for want, have in zip(shape, labels.shape, strict=True)]
    width = [(one // 2, one - one // 2) for one in lack]
    if any(lack):
        image = np.pad(image, [*width, (0, 0)], mode="reflect")
        labels = np.pad(labels, width, constant_values=IGNORE)

    room = [have - want for want, have in zip(shape, labels.shape, strict=True)]
    corner = [int(rng.integers(one + 1)) for one in room]
    rare = [c for c in np.flatnonzero(np.bincount(labels.ravel())) if c not in (0, IGNORE)]
    if forced and rare:
        where = np.flatnonzero(labels == rng.choice(rare))
        target = np.unravel_index(rng.choice(where), labels.shape)
        inside = [int(rng.integers(size)) for size in shape]
        corner = [
            min(max(int(at) - off, 0), most)
            for at, off, most in zip(target, inside, room, strict=True)
        ]
    window = tuple(slice(c, c + size) for c, size in zip(corner, shape, strict=True))
    return image[window], labels[window]


@dataclass(frozen=True)
class Framing:
    """How examples become batches: window, legal size, share of forced windows."""

    window: tuple[int, int]
    multiple: int
    forced_share: float
    seed: int

    def assemble(self, pool: Pool, places: Sequence[int], *purpose: str | int) -> Batch:
        """Return images (B, H, W, C) and labels (B, H, W, 1), or (B, 1) of patches."""
        pairs = [
            self._one(pool, int(place), *purpose, row) for row, place in enumerate(places)
        ]
        images = np.stack([image for image, _ in pairs]).astype(np.float32, copy=False)
        labels = np.stack([label for _, label in pairs]).astype(np.int32)[..., None]
        return images, labels

    def _one(self, pool: Pool, place: int, *purpose: str | int) -> tuple[Array, Array]:
        image, labels = pool.load(place)
        if pool.patches:
            return image, labels
        forced = volumes.random(self.seed, "forced", *purpose).random() < self.forced_share
        seed = (self.seed, "crop", *purpose)
        image, labels = crop(image, labels, self.window, forced=bool(forced), seed=seed)
        border = padding.pad_px(labels.shape, self.multiple)
        return padding.pad(image, self.multiple), np.pad(
            labels, border, constant_values=IGNORE
        )


def ahead(make: Callable[[int], Batch], count: int, first: int = 0) -> Iterator[Batch]:
    """Make the next batch while the present one is being learnt, from the first on."""
    if first >= count:
        return
    with ThreadPoolExecutor(1) as worker:
        coming = worker.submit(make, first)
        for step in range(first + 1, count + 1):
            batch = coming.result()
            if step < count:
                coming = worker.submit(make, step)
            yield batch
