"""Pictures volume by volume: what was trained on lies in a fold, what fails is one line."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from tomoglean.report.blocks import Folded, Note

LOG = logging.getLogger(__name__)
MOST_VOLUMES = 20


def volume(
    names: Sequence[str], show: Callable[[str], list[Any]], trained: Sequence[str] = ()
) -> list[Any]:
    """Show volumes one by one; one that cannot be read is one line, and so is the rest.

    Parameters
    ----------
    names
        The volumes, in the order they are shown.
    show
        What makes the blocks of one volume.
    trained
        Those that were trained on: they come last, in one fold, unless there are no
        others.

    Returns
    -------
    list of blocks
        Of `MOST_VOLUMES` volumes at most.
    """
    near, rest = names[:MOST_VOLUMES], names[MOST_VOLUMES:]
    apart = [name for name in near if name not in trained]
    known = [name for name in near if name in trained]
    shown = _all(apart or known, show)
    if apart and known:
        shown.append(Folded(_title(known), _all(known, show)))
    if rest:
        told = f"Pictures are kept to {MOST_VOLUMES} volumes; left out: {', '.join(rest)}."
        shown.append(Note(told))
    return shown


def _all(names: Sequence[str], show: Callable[[str], list[Any]]) -> list[Any]:
    return [block for name in names for block in _one(name, show)]


def _one(name: str, show: Callable[[str], list[Any]]) -> list[Any]:
    try:
        return show(name)
    except (OSError, KeyError, ValueError, IndexError) as error:
        LOG.warning("no pictures of %s: %s", name, error)
        return [Note(f"{name}: no pictures ({type(error).__name__}).", "warn")]


def _title(names: Sequence[str]) -> str:
    many = "volumes that were" if len(names) > 1 else "volume that was"
    return f"{len(names)} {many} trained on: {', '.join(names)}"
