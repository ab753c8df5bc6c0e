"""Networks by name: code builds them, files carry only their numbers.

Importing this package is cheap; Keras is loaded by the first `build`.
"""

import importlib
from typing import Any

from tomoglean.provenance import Refused

NETWORKS = {
    "unet": "tomoglean.networks.unet",
    "lenet5": "tomoglean.networks.lenet",
    "lenet5_modified": "tomoglean.networks.lenet",
}


def build(network: str, **architecture: Any) -> Any:
    """Build a network with fresh weights.

    Parameters
    ----------
    network
        Name in `NETWORKS`.
    architecture
        Keyword arguments of the `build` of that network's module.

    Returns
    -------
    keras.Model
        From images (B, H, W, C) to class probabilities.

    Raises
    ------
    Refused
        If there is no network of that name.
    """
    if network not in NETWORKS:
        raise Refused(
            f"network: expected one of {', '.join(NETWORKS)}, found {network!r}; "
            "correct the setting train.network"
        )
    return importlib.import_module(NETWORKS[network]).build(network, **architecture)


def dense(network: str, model: Any) -> Any:
    """Return the form of a trained network that is evaluated on whole slices.

    That is the network itself where it already takes any size, and the exact dilated
    equivalent of a network that was trained on patches.
    """
    module = importlib.import_module(NETWORKS[network])
    return module.dense(model) if hasattr(module, "dense") else model
