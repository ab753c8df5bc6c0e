"""Share every batch among several processors of one machine.

Each processor runs the network on its part of the batch; the loss is that of the whole
batch, so the gradient is that of one processor up to float rounding. (Keras gives every
replica of TensorFlow's MirroredStrategy the whole batch in `train_on_batch` and adds the
losses up, and Dice pooled over a batch is no mean over its parts: neither would be the same
training.) Batch normalisation sees the part that its processor sees.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from tomoglean.provenance import Refused
from tomoglean.training import machine
from tomoglean.training.settings import Settings


def learner(model: Any, settings: Settings) -> Any:
    """Return what learns: the network itself, or its shares on several processors.

    Raises
    ------
    Refused
        If there are not so many processors of one kind, the batch cannot be shared
        evenly, or XLA shall compile for several.
    """
    count = settings.devices
    if count == 1:
        return model
    if settings.batch % count or settings.jit:
        raise Refused(
            f"train.devices: expected a batch that {count} devices share evenly and jit "
            f"off, found batch {settings.batch} and jit {settings.jit}; change train.batch "
            "or train.jit"
        )
    found = machine.devices()
    if len(found) < count:
        raise Refused(
            f"train.devices: expected {count} GPUs, found {len(found)} devices of "
            f"{keras.backend.backend()} ({', '.join(found) or 'none'}); ask for a node "
            "with more, or set train.devices: 1"
        )
    return Shared(model, found[:count])


class Shared(keras.Model):  # type: ignore[misc]
    """A network whose batches are shared among processors.

    Parameters
    ----------
    model
        The network; its variables are shared, not copied.
    devices
        Names of the processors, such as GPU:0.
    """

    def __init__(self, model: Any, devices: Sequence[str]) -> None:
        super().__init__(name=f"{model.name}_shared")
        self.model, self.devices = model, tuple(devices)

    def call(self, images: Any, training: bool | None = None) -> Any:
        """Evaluate each part of the batch on its own processor."""
        found = []
        shares = ops.split(images, len(self.devices), axis=0)
        for name, share in zip(self.devices, shares, strict=True):
            with keras.device(name):
                found.append(self.model(share, training=training))
        return ops.concatenate(found, axis=0)
