"""Models on disk: what was saved comes back, anything else is refused."""

import h5py
import numpy as np
import pytest

from tomoglean import networks
from tomoglean.networks import store
from tomoglean.provenance import Refused, read_json, write_json

ARCHITECTURE = {"classes": 2, "width": 2, "depth": 2}


@pytest.fixture
def saved(tmp_path):
    model = networks.build("unet", **ARCHITECTURE)
    weights, path = tmp_path / "a.weights.h5", tmp_path / "a.json"
    description = {"network": "unet", "architecture": ARCHITECTURE, "classes": ["a", "b"]}
    store.save(model, description, weights, path)
    return model, weights, path


def test_weights_come_back_as_they_were(saved):
    model, weights, path = saved
    again, _ = store.load(weights, path)
    pairs = zip(model.get_weights(), again.get_weights(), strict=True)
    assert all(np.array_equal(one, two) for one, two in pairs)


def test_the_description_comes_back(saved):
    _, weights, path = saved
    assert store.load(weights, path)[1]["classes"] == ["a", "b"]


def test_one_changed_byte_is_noticed(saved):
    _, weights, path = saved
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    with pytest.raises(Refused, match="expected sha256"):
        store.load(weights, path)


def test_nan_is_never_saved(tmp_path):
    model = networks.build("unet", **ARCHITECTURE)
    model.set_weights([np.full_like(weight, np.nan) for weight in model.get_weights()])
    with pytest.raises(Refused, match="finite"):
        store.save_weights(model, tmp_path / "a.weights.h5")
    assert list(tmp_path.iterdir()) == []


def test_nan_is_never_loaded(saved):
    _, weights, _ = saved
    with h5py.File(weights, "r+") as file:
        file["0000"][...] = np.nan
    with pytest.raises(Refused, match="finite"):
        store.fill(networks.build("unet", **ARCHITECTURE), weights)


def test_weights_of_another_architecture_are_refused(saved):
    _, weights, _ = saved
    wider = networks.build("unet", classes=2, width=3, depth=2)
    with pytest.raises(Refused, match="expected the weights of this architecture"):
        store.fill(wider, weights)


def test_a_file_of_another_kind_is_refused(saved, tmp_path):
    _, weights, _ = saved
    write_json({"some": "json"}, tmp_path / "other.json")
    with pytest.raises(Refused, match="expected a model"):
        store.load(weights, tmp_path / "other.json")


def test_a_description_without_architecture_is_refused(saved):
    _, weights, path = saved
    lacking = read_json(path)
    del lacking["architecture"]
    write_json(lacking, path)
    with pytest.raises(Refused, match="expected architecture"):
        store.load(weights, path)


def test_a_file_that_holds_no_weights_is_refused(saved, tmp_path):
    model, *_ = saved
    (tmp_path / "text").write_text("no weights")
    with pytest.raises(Refused, match="expected weights in HDF5"):
        store.fill(model, tmp_path / "text")
