"""Networks as ONNX: inference without TensorFlow, and to the same numbers."""

import json
import os
from typing import Any

from tomoglean import networks
from tomoglean.networks import store
from tomoglean.provenance import replacing

OPSET = 17


def write(
    weights: str | os.PathLike[str],
    model: str | os.PathLike[str],
    path: str | os.PathLike[str],
) -> None:
    """Export a trained model for ONNX Runtime.

    The file has one input `image`, float32 of shape (1, H, W, C) with free H and W, and
    carries `weights_sha256` and the whole model JSON (`model`) as metadata. A single
    output is called `probabilities`, of shape (1, H, W, classes).

    Parameters
    ----------
    weights
        Weights of the model.
    model
        Its JSON.
    path
        The ONNX file to write.
    """
    import onnx

    trained, description = store.load(weights, model)
    graph = convert(networks.dense(description["network"], trained))
    facts = {
        "weights_sha256": description["weights_sha256"],
        "model": json.dumps(description),
    }
    onnx.helper.set_model_props(graph, facts)
    with replacing(path) as partial:
        onnx.save(graph, os.fspath(partial))


def convert(model: Any) -> Any:
    """Convert a Keras model with one input to an ONNX graph in memory.

    Outputs keep the names of the model's outputs; one alone is called `probabilities`.
    """
    import tensorflow as tf
    import tf2onnx

    names = ["probabilities"] if len(model.outputs) == 1 else list(model.output_names)
    shape = (1, *model.inputs[0].shape[1:])
    signature = [tf.TensorSpec(shape, tf.float32, name="image")]

    def answer(image: Any) -> Any:
        outputs = model(image, training=False)
        outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
        return dict(zip(names, outputs, strict=True))

    function = tf.function(answer, input_signature=signature)
    graph, _ = tf2onnx.convert.from_function(
        function, input_signature=signature, opset=OPSET
    )
    return graph
