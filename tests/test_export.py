"""Export: ONNX Runtime and Keras give the same numbers."""

import json

import keras
import numpy as np
import onnxruntime
import pytest

from tomoglean import networks
from tomoglean.networks import export, padding, store, unet
from tomoglean.networks.patchwise import VARIANCE_FLOOR

ARCHITECTURE = {"classes": 3, "width": 2, "depth": 4}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    keras.utils.set_random_seed(0)
    model = networks.build("unet", **ARCHITECTURE)
    # Everything but the kernels starts at 0 or 1, where a mistake would not be seen.
    rng = np.random.default_rng(0)
    shaken = [w + 0.1 * rng.random(w.shape) * (w.ndim == 1) for w in model.get_weights()]
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
    assert (probabilities.name, probabilities.shape[3]) == ("probabilities", 3)


def test_the_file_says_which_weights_it_carries(exported):
    _, session, path = exported
    facts = session.get_modelmeta().custom_metadata_map
    description = json.loads(path.read_text())
    assert facts["weights_sha256"] == description["weights_sha256"]
    assert json.loads(facts["model"]) == description


@pytest.mark.parametrize("network", ["lenet5", "lenet5_modified"])
def test_a_patch_classifier_is_exported_in_its_dense_form(network, tmp_path):
    model = networks.build(network)
    weights, path = tmp_path / "a.weights.h5", tmp_path / "a.json"
    store.save(
        model, {"network": network, "architecture": {}, "classes": []}, weights, path
    )
    export.write(weights, path, tmp_path / "a.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")

    slab = np.random.default_rng(2).normal(size=(60, 70)).astype(np.float32)
    places = [(0, 0), (3, 7), (10, 20)]
    patches = np.stack([slab[y : y + 50, x : x + 50] for y, x in places])[..., None]
    scale = 1 / np.sqrt(patches.var(axis=(1, 2, 3)) + VARIANCE_FLOOR)
    feeds = {
        "image": slab[None, ..., None],
        "positions": np.asarray(places, np.int32),
        "scale": scale.astype(np.float32),
    }
    wanted = {one.name for one in session.get_inputs()}
    (found,) = session.run(
        ["probabilities"], {name: feeds[name] for name in feeds if name in wanted}
    )
    assert np.abs(found - model.predict_on_batch(patches)[:, 1]).max() <= 1e-5
