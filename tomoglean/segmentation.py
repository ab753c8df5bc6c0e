"""Segment whole volumes slice by slice, along one or several axes, in bounded memory.

Every slice is seen whole (no tiles, no seams). The softmax of all axes is averaged (soft
vote): all axes but the last leave their votes in an unnamed scratch file beside the
output, which the operating system removes however the job ends; the last axis adds its own
and decides slab by slab. Works without TensorFlow.
"""

import contextlib
import itertools
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from tomoglean import volumes
from tomoglean.intensities import fingerprint, standardise
from tomoglean.networks import padding
from tomoglean.provenance import Refused, read_json
from tomoglean.volumes import Volume

logger = logging.getLogger(__name__)

AXES = "zyx"
#: Votes of all axes for one class: below 65,535, so that rounding never overflows.
FULL = 60_000
CERTAIN = 255


@dataclass(frozen=True)
class Network:
    """A trained 2D or 2.5D network, ready to be asked.

    Attributes
    ----------
    session
        ONNX Runtime session: `image` (1, H, W, channels) -> `probabilities`
        (1, H, W, classes).
    classes
        Class names by label.
    multiple
        H and W must be multiples of this, in pixels; images are padded to it.
    channels
        Neighbouring slices the network sees at once (1 in 2D).
    weights_sha256
        Hash of the weights file that the network was made of.
    """

    session: Any
    classes: tuple[str, ...]
    multiple: int
    channels: int
    weights_sha256: str

    def probabilities(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Ask for the class probabilities of one image of any size.

        The image is padded to a legal size by reflection and the answer cropped back.

        Parameters
        ----------
        image
            Standardised grey values of shape (H, W, channels).

        Returns
        -------
        ndarray of shape (H, W, classes)
            Probabilities, adding up to 1.

        Raises
        ------
        ValueError
            If the network answers with NaN or infinity.
        """
        padded = np.ascontiguousarray(padding.pad(image, self.multiple)[None])
        (answer,) = self.session.run(["probabilities"], {"image": padded})
        found: npt.NDArray[np.float32] = padding.crop_back(answer[0], image.shape[:2])
        if not np.isfinite(found).all():
            raise ValueError("the network answers with NaN: its weights are broken")
        return found


def load(
    network: str | os.PathLike[str], model: str | os.PathLike[str], *, threads: int = 1
) -> Network:
    """Load an exported network and check that it belongs to its model file.

    Parameters
    ----------
    network
        ONNX file; its metadata hold `weights_sha256`.
    model
        JSON file beside the weights: classes, weights_sha256, architecture (depth).
    threads
        Threads of one convolution. The answer is the same for any number.

    Raises
    ------
    Refused
        If the two come from different weights, or differ in the number of classes.
    """
    facts = read_json(model)
    session = _session(network, threads)
    sha256 = session.get_modelmeta().custom_metadata_map.get("weights_sha256", "none")
    if sha256 != facts["weights_sha256"]:
        raise Refused(
            f"{network}: expected the export of weights {facts['weights_sha256'][:12]} "
            f"named in {Path(model).name}, found {sha256[:12]}; run export again"
        )
    classes = tuple(facts["classes"])
    made_for = session.get_outputs()[0].shape[-1]
    if made_for != len(classes):
        raise Refused(
            f"{network}: expected {len(classes)} classes, found {made_for}; train again"
        )
    channels = int(session.get_inputs()[0].shape[-1])
    return Network(session, classes, _multiple(facts), channels, sha256)


def _multiple(facts: Mapping[str, Any]) -> int:
    """Each level but the first halves the image: its sides must stay whole."""
    depth = int(facts["architecture"].get("depth", 1))
    return int(2 ** (depth - 1))


def _session(network: str | os.PathLike[str], threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Slices of three axes have three shapes: an arena would keep the largest of each.
    options.enable_cpu_mem_arena = False
    return onnxruntime.InferenceSession(
        os.fspath(network), options, providers=["CPUExecutionProvider"]
    )


def segment(
    source: str | os.PathLike[str],
    network: Network,
    output: str | os.PathLike[str],
    *,
    axes: Sequence[str] | None = None,
    weights: Mapping[str, float] | None = None,
    mirror: bool = False,
    memory_gb: float = 4.0,
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

    Raises
    ------
    Refused
        If axes or weights do not fit the volume.
    """
    scale = fingerprint(volumes.attributes(source))
    with volumes.open_volume(source) as volume:
        shares = vote_shares(source, volume, axes, weights)
        if network.channels > 1 and volume.z is not None:
            raise Refused(f"{source}: a sparse set of slices has no neighbours for 2.5D")
        voter = _Voter(volume, scale, network, mirror, memory_gb)
        layout = dict.fromkeys(("data", "confidence"), (volume.shape, np.uint8))
        with (
            volumes.create(
                output,
                layout,
                voxel_nm=volume.voxel_nm,
                z=volume.z,
                origin_nm=volume.origin_nm,
                classes=json.dumps(network.classes),
                axes=json.dumps(shares),
                mirror=mirror,
                weights_sha256=network.weights_sha256,
            ) as file,
            _scratch(Path(output).parent, (len(network.classes), *volume.shape)) as votes,
        ):
            for where, labels, confidence in voter.decide(shares, votes):
                file["data"][where] = labels
                file["confidence"][where] = confidence


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
def _scratch(folder: Path, shape: tuple[int, ...]) -> Iterator[Any]:
    """Lend an unnamed dataset of votes: chunked so that any axis reads it evenly."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as space, h5py.File(space, "w") as file:
        chunks = (1, *(min(volumes.CHUNK, n) for n in shape[1:]))
        yield file.create_dataset("votes", shape, np.uint16, chunks=chunks)


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

    def slabs(
        self, axis: str, share: float
    ) -> Iterator[tuple[tuple[slice, ...], npt.NDArray[np.uint16]]]:
        """Yield (place, votes (classes, Z, Y, X)) of every slab along an axis."""
        number = AXES.index(axis)
        shape = self.volume.shape
        for slab in volumes.slabs(shape[number], self.thickness(number)):
            where = [slice(None)] * 4
            where[1 + number] = slab
            size = list(shape)
            size[number] = slab.stop - slab.start
            block = np.empty((len(self.network.classes), *size), np.uint16)
            along = np.moveaxis(block, 1 + number, 0)
            for n, image in enumerate(self.images(number, slab)):
                along[n] = vote(np.moveaxis(self.ask(image), -1, 0), share)
            yield tuple(where), block

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
