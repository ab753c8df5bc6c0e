"""Dropout that goes on where it was: its random numbers are state of the network."""

import random
from typing import Any

import keras


def dropout(rate: float) -> Any:
    """Return a dropout layer with a seed of its own.

    Keras draws the same seed from the same source itself, but without one named PyTorch
    would take its global random numbers, which no checkpoint of ours holds.

    Parameters
    ----------
    rate
        Share of features dropped in training, in [0, 1).
    """
    seed = random.randint(1, 10**9) if rate else None  # noqa: S311 - no secret; as Keras
    return keras.layers.Dropout(rate, seed=seed, name="dropout")
