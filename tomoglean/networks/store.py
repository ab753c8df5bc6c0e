"""Models on disk: one file of weights and one JSON that says what they are.

Weights are plain numbers in HDF5, one dataset a variable in the model's own order.
Nothing here reads pickles, nor whole models: the network is built by our own code from the
architecture in the JSON.
"""

import os
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np
from keras import ops

from tomoglean import networks
from tomoglean.provenance import (
    Refused,
    read_json,
    replacing,
    sha256_of_file,
    write_json,
)

FORMAT = "tomoglean-model-1"
NEEDED = ("network", "architecture", "classes", "weights_sha256")


def is_finite(model: Any) -> bool:
    """Say whether every weight is a number."""
    return all(bool(np.isfinite(weight).all()) for weight in model.get_weights())


def save_weights(model: Any, path: str | os.PathLike[str]) -> str:
    """Write the weights of a model and return the file's sha256.

    Raises
    ------
    Refused
        If a weight is not finite; no file is written then.
    """
    if not is_finite(model):
        raise Refused(f"{path}: expected finite weights, found NaN or infinity; not saved")
    with replacing(path) as partial, h5py.File(partial, "w") as file:
        for place, weight in enumerate(model.weights):
            file[f"{place:04d}"] = ops.convert_to_numpy(weight)
            file[f"{place:04d}"].attrs["name"] = weight.path
    return sha256_of_file(path)


def save(
    model: Any,
    description: Mapping[str, Any],
    weights: str | os.PathLike[str],
    path: str | os.PathLike[str],
) -> None:
    """Write weights and the JSON that belongs to them.

    Parameters
    ----------
    model
        Keras model.
    description
        At least `network`, `architecture` and `classes`; format and sha256 are added.
    weights
        Path ending in `.weights.h5`.
    path
        Path of the JSON.
    """
    digest = save_weights(model, weights)
    write_json({"format": FORMAT, **description, "weights_sha256": digest}, path)


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the JSON of a model.

    Raises
    ------
    Refused
        If it is not one of ours.
    """
    found = read_json(path)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise Refused(f"{path}: expected a model of format {FORMAT}; train it again")
    lacking = [name for name in NEEDED if name not in found]
    if lacking:
        raise Refused(f"{path}: expected {', '.join(lacking)}, found none; train it again")
    return found


def load(
    weights: str | os.PathLike[str], path: str | os.PathLike[str]
) -> tuple[Any, dict[str, Any]]:
    """Build the network a JSON describes and fill in its weights.

    Returns
    -------
    keras.Model
        With the stored weights.
    dict
        The content of the JSON.

    Raises
    ------
    Refused
        If the weights are not those the JSON speaks of, do not fit or are not finite.
    """
    description = describe(path)
    digest, wanted = sha256_of_file(weights), description["weights_sha256"]
    if digest != wanted:
        raise Refused(
            f"{weights}: expected sha256 {wanted[:12]} as in {path}, "
            f"found {digest[:12]}; restore the file or train again"
        )
    model = networks.build(description["network"], **description["architecture"])
    fill(model, weights)
    return model, description


def fill(model: Any, weights: str | os.PathLike[str]) -> None:
    """Fill a model with stored weights.

    Raises
    ------
    Refused
        If their number or shapes differ from the model's, or one is not finite.
    """
    wanted = [tuple(weight.shape) for weight in model.weights]
    try:
        with h5py.File(weights, "r") as file:
            arrays = [file[name][...] for name in sorted(file)]
    except (OSError, AttributeError, TypeError) as error:
        raise Refused(
            f"{weights}: expected weights in HDF5, found none; train again"
        ) from error
    found = [array.shape for array in arrays]
    if found != wanted:
        raise Refused(
            f"{weights}: expected the weights of this architecture ({len(wanted)} arrays), "
            f"found others ({len(found)}); use the settings they were trained with"
        )
    if not all(np.isfinite(array).all() for array in arrays):
        raise Refused(f"{weights}: expected finite weights, found NaN or infinity")
    model.set_weights(arrays)
