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
    carries `weights_sha256` and the whole model JSON (`model`) as metadata. The output
    `probabilities` has shape (1, H, W, classes). A patch classifier is exported in its
    dense form, with the further inputs and the output shape of `lenet.dense`.

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
    """Convert a Keras model to an ONNX graph in memory.

    Inputs keep their names; one called `image` has batch size 1, all others are free in
    length. The output is called `probabilities`.
    """
    import tensorflow as tf
    import tf2onnx

    names = [tensor.name for tensor in model.inputs]
    signature = [
        tf.TensorSpec(_shape(tensor), tensor.dtype, name=tensor.name)
        for tensor in model.inputs
    ]

    def answer(*tensors: Any) -> Any:
        given = dict(zip(names, tensors, strict=True))
        given = given if len(given) > 1 else tensors[0]
        return {"probabilities": model(given, training=False)}

    function = tf.function(answer, input_signature=signature)
    graph, _ = tf2onnx.convert.from_function(
        function, input_signature=signature, opset=OPSET
    )
    return graph


def _shape(tensor: Any) -> tuple[int | None, ...]:
    return (1 if tensor.name == "image" else None, *tensor.shape[1:])
