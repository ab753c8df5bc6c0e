"""One attempt at a training: what earlier ones left beside its files, then the training.

Importing this is cheap; Keras is loaded only when there is something to learn.
"""

import errno
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tomoglean import parts
from tomoglean.provenance import Refused, read_json, write_json

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
Paths = Sequence[str | os.PathLike[str]]


def train(
    examples: Paths,
    augmented: Paths,
    validation: Paths,
    previous: Paths,
    outputs: Mapping[str, Any],
    *,
    key: str,
    save_minutes: str | float,
    **settings: Any,
) -> None:
    """Train, or go on with a training that was broken off.

    Parameters
    ----------
    examples, augmented, validation
        See `training.fit`.
    previous
        Checkpoint of the part before, if there is one.
    outputs
        The files `weights`, `last`, `model` and `curve` of `training.fit`, or the
        checkpoint `part` of `training.fit_part`.
    key
        Key of the training: what is kept under another one is never used.
    save_minutes
        Minutes between two saves.
    settings
        All else that `training.fit` takes.

    Raises
    ------
    Refused
        If the training ended with NaN before, does so now, or the disk is full; as
        `training.fit`.
    """
    kept = parts.Kept(next(iter(outputs.values())), key)
    refuse_if_hopeless(kept.note)
    from tomoglean import training

    before = Path(previous[0]) if previous else None
    course = training.Course(key, kept.slots, before, float(save_minutes))
    more: dict[str, Any] = {**outputs, "course": course, **settings}
    try:
        if "part" in outputs:
            more["until"] = parts.epoch_of(outputs["part"])
            training.fit_part(examples, augmented, validation, **more)
        else:
            training.fit(examples, augmented, validation, **more)
    except training.Diverged as error:
        write_json({"key": key, "message": str(error)}, kept.note)
        raise
    except OSError as error:
        _refuse_if_full(error)
        raise


def refuse_if_hopeless(note: Path) -> None:
    """Spare a training that would end with NaN again.

    Raises
    ------
    Refused
        With the message of the attempt that did.
    """
    if note.is_file():
        raise Refused(
            f"{read_json(note)['message']} (found before: change a setting, or remove "
            f"{note} to try the same again)"
        )


def _refuse_if_full(error: OSError) -> None:
    if error.errno in FULL:
        raise Refused(
            f"train: expected room on the disk, found {error.strerror}; free space, then "
            "the same command goes on from the last checkpoint"
        ) from error
