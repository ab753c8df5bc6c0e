"""Slide a patch classifier over slices, only where the mask allows, in bounded memory.

Several jobs may share a volume: each scores its own slices along z, and another job
gathers them. The scores are the same to the byte for any number of jobs.
"""

import contextlib
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
import numpy.typing as npt

from tomoglean import gathering, patches, progress, volumes
from tomoglean.gathering import Block, Joined
from tomoglean.intensities import thick_slices
from tomoglean.networks import patchwise
from tomoglean.provenance import Refused, key, read_json
from tomoglean.volumes import Volume

Image = npt.NDArray[np.float32]
Scored = tuple[Image, npt.NDArray[np.bool_]]


@dataclass(frozen=True)
class Classifier:
    """A patch classifier in its dense form.

    Attributes
    ----------
    session
        ONNX Runtime session with inputs `image`, `positions` and, where patches are
        normalised one by one, `scale`.
    patch_px
        Edge of a patch in pixels.
    weights_sha256
        Hash of the weights file that the network was made of.
    """

    session: Any
    patch_px: int
    weights_sha256: str = ""

    def probabilities(
        self, image: Image, positions: npt.NDArray[np.int32], flips: Sequence[str] = ()
    ) -> Image:
        """Return P(a complex) of the patches at the positions.

        Parameters
        ----------
        image
            Shape (H, W, C), standardised, framed.
        positions
            Shape (N, 2): top row, left column.
        flips
            The answer is the mean over the patches mirrored along these axes or not: two
            views for one axis, eight for three.

        Returns
        -------
        ndarray of float32, shape (N,)
        """
        views = [(image, positions)]
        for axis in flips:
            views += [mirrored(*view, axis, self.patch_px) for view in views]
        return np.asarray(np.mean([self._answer(*view) for view in views], axis=0))

    def _answer(self, image: Image, positions: npt.NDArray[np.int32]) -> Image:
        feeds = {"image": image[None], "positions": positions}
        if any(feed.name == "scale" for feed in self.session.get_inputs()):
            feeds["scale"] = patchwise.scales(image, positions, self.patch_px)
        return np.asarray(self.session.run(None, feeds)[0], np.float32).reshape(-1)


def mirrored(
    image: Image, positions: npt.NDArray[np.int32], axis: str, patch_px: int
) -> tuple[Image, npt.NDArray[np.int32]]:
    """Mirror a framed slice along y, x or z (its channels), and its patches with it.

    Parameters
    ----------
    image
        Shape (H, W, C).
    positions
        Shape (N, 2): top row, left column of each patch.
    axis
        `y`, `x` or `z`.
    patch_px
        Edge of a patch in pixels.
    """
    number = "yxz".index(axis)
    moved = positions.copy()
    if axis != "z":
        moved[:, number] = image.shape[number] - patch_px - positions[:, number]
    return np.ascontiguousarray(np.flip(image, number)), moved


def load(network: str | os.PathLike[str], model: str | os.PathLike[str]) -> Classifier:
    """Load an exported classifier for ONNX Runtime.

    Parameters
    ----------
    network
        The ONNX file of the dense form.
    model
        The JSON of the model.

    Raises
    ------
    Refused
        If the two do not belong together.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # One thread a slice: the number of threads never changes a bit of the scores.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        os.fspath(network), options, providers=["CPUExecutionProvider"]
    )
    description = read_json(model)
    found = session.get_modelmeta().custom_metadata_map.get("weights_sha256")
    if found != description["weights_sha256"]:
        raise Refused(f"{network}: expected the network of {model}, found another; export")
    patch_px = int(description["architecture"].get("patch_px", 50))
    return Classifier(session, patch_px, found)


def classify(
    volume: str | os.PathLike[str],
    mask: str | os.PathLike[str],
    classifier: Classifier,
    out: str | os.PathLike[str],
    *,
    thickness_nm: float = 0.0,
    neighbours: int = 0,
    flips: Sequence[str] = (),
    smooth_nm: float = 0.0,
    batch: int = 4096,
    threads: int = 1,
    block: str | None = None,
    blocks: Sequence[str | os.PathLike[str]] = (),
) -> None:
    """Write how likely a complex is centred at every voxel of the mask.

    The score of voxel (z, y, x) is that of the patch centred at (z, y + 0.5, x + 0.5); the
    attribute `offset_voxel` of the map says so, and `picks` adds it.

    Parameters
    ----------
    volume
        A converted volume with its fingerprint.
    mask
        Where to look (dataset `data`, not zero), of the same shape.
    classifier
        From `load`.
    out
        The score map: float16 in [0, 1], zero outside the mask.
    thickness_nm, neighbours
        Slices that the classifier was trained on, as in `patches.sample`.
    flips
        Axes (y, x, z) along which patches are mirrored; scores are means over all views.
    smooth_nm
        Scores are averaged along z over so many nm to either side, within the mask; 0 for
        none.
    batch
        Patches evaluated at once: 5 kB each.
    threads
        Slices evaluated at once; the same bytes for any number.
    block
        Words such as 3-of-4: classify only this block's slices along z, and those that
        their average along z needs besides; write what `blocks` takes.
    blocks
        Files of all blocks: gather them instead of classifying.

    Raises
    ------
    Refused
        If volume and mask differ in shape, or a block is damaged or of another volume,
        mask, network or setting.
    """
    known = volumes.attributes(volume)
    with volumes.open_volume(volume) as image, volumes.open_volume(mask) as inside:
        if image.shape != inside.shape:
            raise Refused(
                f"{mask}: expected the shape {image.shape} of {volume}, "
                f"found {inside.shape}; make the mask again"
            )
        reach = round(thickness_nm / 2 / image.voxel_nm[0])
        smooth = round(smooth_nm / image.voxel_nm[0])
        look = {"reach": reach, "neighbours": neighbours}
        made_for = key(
            *(known, volumes.attributes(mask), image.shape, look, smooth, list(flips)),
            classifier.weights_sha256,
        )
        if blocks:
            _gather(out, image, classifier, blocks, made_for)
            return
        depth = image.shape[0]
        own = Block.read(block).share(depth) if block else slice(0, depth)
        seen = slice(max(0, own.start - smooth), min(depth, own.stop + smooth))
        with (
            _scores(out, image, classifier, block, made_for) as file,
            ThreadPoolExecutor(threads) as pool,
        ):
            scored = _score_slices(
                image, inside, known, classifier, flips, batch, pool, look, seen
            )
            slices = islice(smoothed(scored, smooth), own.start - seen.start, None)
            number = own.stop - own.start
            progress.tell("classify", 0, number, unit="slices")
            for slab in volumes.slabs(number):
                some = list(islice(slices, slab.stop - slab.start))
                file["data"][slab] = np.asarray(some, np.float16)
                progress.tell("classify", slab.stop, number, unit="slices")


def _scores(
    out: str | os.PathLike[str],
    image: Volume,
    classifier: Classifier,
    block: str | None = None,
    made_for: str = "",
) -> contextlib.AbstractContextManager[volumes.Writer]:
    """Create the file of the scores, or of a block of them."""
    if block:
        one = Block.read(block)
        own = one.share(image.shape[0])
        layout = {"data": ((own.stop - own.start, *image.shape[1:]), np.float16)}
        return gathering.writing(out, one, made_for, layout, image.voxel_nm)
    offset = patches.centre_offset(classifier.patch_px)
    return volumes.create(
        out,
        {"data": (image.shape, np.float16)},
        voxel_nm=image.voxel_nm,
        origin_nm=image.origin_nm,
        offset_voxel=(0.0, offset, offset),
    )


def _gather(
    out: str | os.PathLike[str],
    image: Volume,
    classifier: Classifier,
    blocks: Sequence[str | os.PathLike[str]],
    made_for: str,
) -> None:
    """Copy the scores of all blocks."""
    with gathering.opened(blocks, made_for) as parts:
        scores = Joined(parts, "data", 0, image.shape)
        with _scores(out, image, classifier) as file:
            gathering.copy(file, {"data": scores})


def _score_slices(
    volume: Volume,
    mask: Volume,
    known: dict[str, Any],
    classifier: Classifier,
    flips: Sequence[str],
    batch: int,
    pool: ThreadPoolExecutor,
    look: dict[str, int],
    seen: slice,
) -> Iterator[Scored]:
    """Yield scores and mask of every slice out of `seen`, in order."""

    def score(grey: Any, inside: npt.NDArray[np.bool_]) -> Image:
        return score_slice(classifier, grey, inside, flips, batch)

    for part in volumes.slabs(seen.stop - seen.start):
        slab = slice(seen.start + part.start, seen.start + part.stop)
        inside = np.asarray(mask.data[slab]) != 0
        if inside.any():
            grey = thick_slices(volume.data, volume.shape[0], slab, known, **look)
            yield from zip(pool.map(score, grey, inside), inside, strict=True)
        else:
            yield from zip(np.zeros(inside.shape, np.float32), inside, strict=True)


def score_slice(
    classifier: Classifier,
    image: Image,
    mask: npt.NDArray[np.bool_],
    flips: Sequence[str] = (),
    batch: int = 4096,
) -> Image:
    """Score the voxels of one slice that lie in the mask.

    Parameters
    ----------
    classifier
        From `load`.
    image
        Shape (Y, X, C), standardised.
    mask
        Shape (Y, X).
    flips
        Axes along which patches are mirrored.
    batch
        Patches evaluated at once.

    Returns
    -------
    ndarray of float32, shape (Y, X)
        In [0, 1], zero outside the mask.
    """
    scores = np.zeros(mask.shape, np.float32)
    places = np.argwhere(mask).astype(np.int32)
    framed = patches.frame(image, classifier.patch_px)
    for start in range(0, len(places), batch):
        some = places[start : start + batch]
        low, high = some.min(axis=0), some.max(axis=0) + classifier.patch_px
        window = np.ascontiguousarray(framed[low[0] : high[0], low[1] : high[1]])
        found = classifier.probabilities(window, some - low, flips)
        scores[tuple(some.T)] = np.clip(found, 0, 1)
    return scores


def smoothed(slices: Iterable[Scored], reach: int) -> Iterator[Image]:
    """Average scores along z over `reach` slices to either side, within the mask.

    Holds 2 reach + 1 slices at a time.
    """
    window: deque[Scored | None] = deque(maxlen=2 * reach + 1)
    ends: list[None] = [None] * reach
    for item in chain(ends, slices, ends):
        window.append(item)
        centre = window[reach] if len(window) > 2 * reach else None
        if centre is not None:
            known = [scored for scored in window if scored is not None]
            total = np.sum([scores for scores, _ in known], axis=0, dtype=np.float64)
            count = np.sum([inside for _, inside in known], axis=0)
            mean = np.where(centre[1], total / np.maximum(count, 1), 0)
            yield mean.astype(np.float32)
