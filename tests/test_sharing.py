"""Several processors that share a batch learn what one would."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tomoglean import training
from tomoglean.provenance import Refused
from tomoglean.training import machine, sharing

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = """
import json, sys
sys.path.insert(0, {root!r})
import keras, numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
from tomoglean import networks
from tomoglean.networks import losses
from tomoglean.training import machine, sharing

rng = np.random.default_rng(0)
images = rng.normal(size=(4, 16, 16, 1)).astype("float32")
labels = (images > 0).astype("int32")
labels[0, :8] = 255  # unknown: the halves of the batch do not weigh the same
labels[3] = 1

def learn(devices):
    keras.utils.set_random_seed(1)
    model = networks.build("unet", classes=2, width=2, depth=2, norm="instance")
    learner = sharing.Shared(model, devices) if devices else model
    learner.compile(keras.optimizers.SGD(1.0), losses.dice_cross_entropy())
    before = model.get_weights()
    loss = float(learner.train_on_batch(images, labels))
    return loss, [b - a for a, b in zip(model.get_weights(), before)]

one, two = learn(()), learn(machine.devices())
largest = max(float(abs(gradient).max()) for gradient in one[1])
apart = max(float(abs(a - b).max()) for a, b in zip(one[1], two[1]))
print(json.dumps([machine.devices(), one[0], two[0], largest, apart]))
"""


@pytest.fixture(scope="module")
def learnt():
    """Loss and gradient of one step on one processor and on two."""
    words = [sys.executable, "-c", PROGRAM.format(root=str(ROOT))]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_two_processors_are_told_apart(learnt):
    assert learnt[0] == ["CPU:0", "CPU:1"]


@pytest.mark.slow
def test_the_loss_is_that_of_the_whole_batch(learnt):
    assert learnt[2] == pytest.approx(learnt[1], rel=1e-6)


@pytest.mark.slow
def test_the_gradient_is_that_of_the_whole_batch(learnt):
    largest, apart = learnt[3:]
    assert largest > 0.01
    assert apart < 1e-5 * largest


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"devices": 3, "batch": 8}, "3 devices share evenly.*found batch 8"),
        ({"devices": 2, "jit": True}, "found batch 8 and jit True"),
        ({"devices": 9, "batch": 9}, "expected 9 GPUs, found 1 devices of tensorflow"),
    ],
)
def test_what_cannot_be_shared_is_refused(monkeypatch, settings, message):
    monkeypatch.setattr(machine, "devices", lambda: ["GPU:0"])
    with pytest.raises(Refused, match=message):
        sharing.learner(None, training.Settings(**settings))


def test_one_processor_learns_by_the_network_itself():
    network = object()
    assert sharing.learner(network, training.Settings()) is network


TRAINING = """
import sys
sys.path[:0] = [{tests!r}, {root!r}]
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
import pytest
from pathlib import Path
from test_checkpoints import attempt, interrupted, results
from test_training import bright_squares, put
folder = Path(sys.argv[1])
examples = put(folder / "a.h5", {{"z": bright_squares()}})
held_out = put(folder / "v.h5", {{"z": bright_squares(5, seed=9)}}, volume="v")
soft = {{"dropout": 0.3, "ema": 0.9, "devices": 2}}
whole = results(attempt(folder / "one", examples, held_out, **soft))
with pytest.MonkeyPatch.context() as patch:
    interrupted(folder / "two", (examples, held_out), patch, step=2, **soft)
assert results(attempt(folder / "two", examples, held_out, **soft)) == whole
"""


@pytest.mark.slow
def test_a_shared_training_that_was_broken_off_ends_with_the_same_bits(tmp_path):
    code = TRAINING.format(tests=str(ROOT / "tests"), root=str(ROOT))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True, env=environment)
