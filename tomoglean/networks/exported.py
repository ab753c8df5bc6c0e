"""Ask an exported network slice by slice, by ONNX Runtime; needs no Keras."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tomoglean.networks import padding
from tomoglean.provenance import Refused, read_json


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
