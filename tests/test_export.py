"""Export: ONNX Runtime and Keras give the same numbers."""

import json

import numpy as np
import onnxruntime
import pytest

from tomoglean import networks
from tomoglean.networks import export, padding, store, unet

ARCHITECTURE = {"classes": 3, "width": 2, "depth": 4}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    model = networks.build("unet", **ARCHITECTURE)
    shaken = [
        w + 0.1 * np.random.default_rng(0).random(w.shape) for w in model.get_weights()
    ]
    model.set_weights(shaken)
    weights, path = folder / "a.weights.h5", folder / "a.json"
    facts = {"network": "unet", "architecture": ARCHITECTURE, "classes": ["a", "b", "c"]}
    store.save(model, facts, weights, path)
    export.write(weights, path, folder / "a.onnx")
    return model, onnxruntime.InferenceSession(folder / "a.onnx"), path


@pytest.mark.parametrize("shape", [(600, 600), (75, 101)])
def test_onnx_runtime_agrees_with_keras(exported, shape):
    model, session, _ = exported
    image = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    batch = padding.pad(image, unet.multiple(4))[None, ..., None]
    (found,) = session.run(["probabilities"], {"image": batch})
    assert found.std() > 0.01
    assert np.abs(found - model.predict_on_batch(batch)).max() <= 1e-5


def test_names_and_shapes_are_those_promised(exported):
    _, session, _ = exported
    (image,), (probabilities,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.type, image.shape[0]) == ("image", "tensor(float)", 1)
    assert image.shape[3] == 1
    assert probabilities.name == "probabilities"


def test_the_file_says_which_weights_it_carries(exported):
    _, session, path = exported
    facts = session.get_modelmeta().custom_metadata_map
    description = json.loads(path.read_text())
    assert facts["weights_sha256"] == description["weights_sha256"]
    assert json.loads(facts["model"]) == description
