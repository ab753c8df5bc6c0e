"""Networks by name: code builds them, files carry only their numbers.

Importing this package is cheap; Keras is loaded by the first `build`.
"""

from collections.abc import Callable
from typing import Any

from tomoglean.provenance import Refused


def _unet(**architecture: Any) -> Any:
    from tomoglean.networks import unet

    return unet.build(**architecture)


def _lenet5(**architecture: Any) -> Any:
    from tomoglean.networks import lenet

    return lenet.build(name="lenet5", **architecture)


def _lenet5_modified(**architecture: Any) -> Any:
    from tomoglean.networks import lenet

    return lenet.build(name="lenet5_modified", **architecture)


def _dense_lenet(model: Any) -> Any:
    from tomoglean.networks import lenet

    return lenet.dense(model)


NETWORKS: dict[str, Callable[..., Any]] = {
    "unet": _unet,
    "lenet5": _lenet5,
    "lenet5_modified": _lenet5_modified,
}
DENSE: dict[str, Callable[[Any], Any]] = {
    "lenet5": _dense_lenet,
    "lenet5_modified": _dense_lenet,
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
    return NETWORKS[network](**architecture)


def dense(network: str, model: Any) -> Any:
    """Return the form of a trained network that is evaluated on whole slices.

    That is the network itself where it already takes any size, and the exact dilated
    equivalent of a network that was trained on patches.
    """
    return DENSE[network](model) if network in DENSE else model
