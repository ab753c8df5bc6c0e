"""Simulate one volume and write all its files, for the rules and the command line."""

import contextlib
import logging
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tomoglean.provenance import write_json
from tomoglean.simulators import outputs
from tomoglean.simulators.implant import simulate_implant
from tomoglean.simulators.minicell import simulate_minicell

#: Volumes of more bytes than this wait on disk until they are written.
MOST_IN_MEMORY = 1 << 27
TOLD = 10

Facts = Mapping[str, Any]
Into = Callable[[str, tuple[int, int, int], npt.DTypeLike], Any]

log = logging.getLogger(__name__)


def implant(
    *,
    seed: int,
    name: str,
    settings: Mapping[str, Any],
    paths: Mapping[str, Path],
    facts: Facts | None = None,
) -> None:
    """Simulate and write an implant scan; memory does not grow with the volume.

    Parameters
    ----------
    seed, name, settings
        See `simulate_implant`.
    paths
        Where the files will stand, by what they hold (`files.PARTS`).
    facts
        What else the JSON file shall say.
    """
    with scratch(paths["volume"].parent) as into:
        made = simulate_implant(
            seed=seed, name=name, settings=settings, into=into, told=tell
        )
        outputs.write_implant(made, paths)
    write_json({**made.facts, **(facts or {})}, paths["facts"])


@contextlib.contextmanager
def scratch(folder: Path) -> Iterator[Into]:
    """Give room for volumes in the making: memory for small ones, else files.

    Parameters
    ----------
    folder
        Where the files lie until the block ends; there they are removed.

    Yields
    ------
    function
        From a name, a shape (Z, Y, X) and a dtype to an array.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as room:

        def into(part: str, shape: tuple[int, int, int], dtype: npt.DTypeLike) -> Any:
            if math.prod(shape) * np.dtype(dtype).itemsize <= MOST_IN_MEMORY:
                return np.empty(shape, dtype)
            return np.memmap(Path(room) / part, dtype, "w+", shape=shape)

        yield into


def tell(stage: str, done: int, total: int) -> None:
    """Log how far a stage is, ten times in all."""
    if done * TOLD // total > (done - 1) * TOLD // total:
        log.info("%s: %d of %d", stage, done, total)


def minicell(
    *,
    seed: int,
    name: str,
    settings: Mapping[str, Any],
    paths: Mapping[str, Path],
    facts: Facts | None = None,
) -> None:
    """Simulate and write a tomogram; see `implant` for the parameters."""
    made = simulate_minicell(seed=seed, name=name, settings=settings)
    outputs.write_minicell(made, paths)
    write_json({**made.facts, **(facts or {})}, paths["facts"])


MAKERS = {"implant": implant, "minicell": minicell}
