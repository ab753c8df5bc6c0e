"""Keep a training: save it every so often and when told to end, and find it again."""

import logging
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tomoglean.provenance import Refused
from tomoglean.training import checkpoints
from tomoglean.training.checkpoints import Checkpoint

log = logging.getLogger(__name__)
Read = TypeVar("Read")
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
#: A save takes at most one part in so many of the time.
SHARE = 100


class Interrupted(Refused):
    """A training that was told to end, and has saved all it needs to go on."""


class Stop(Exception):
    """Raised between two steps of a training that was told to end."""


@dataclass(frozen=True)
class Course:
    """Where a training is kept, and what it goes on from.

    Attributes
    ----------
    key
        What tells this training from others; a checkpoint of another key is refused.
    slots
        Two files of one checkpoint each, written in turn, so that the last good one
        stays until a newer one is whole.
    previous
        Checkpoint of the part before, if there is one.
    save_minutes
        Minutes between two saves; saving takes a hundredth of the time at most, whatever
        this says, unless it is 0: then every step is saved.
    """

    key: str
    slots: tuple[Path, Path]
    previous: Path | None = None
    save_minutes: float = 10.0


class Keeper:
    """Decides when a training is saved, and saves it.

    Parameters
    ----------
    course
        Where to; None never saves, and leaves all signals alone.
    """

    def __init__(self, course: Course | None) -> None:
        self.course = course
        self.told = 0
        self.saved, self.cost = time.monotonic(), 0.0
        self.turn = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take SIGTERM, SIGUSR1 and SIGINT as the wish to end; nothing is broken off."""
        if self.course is None:
            yield
            return
        before = {number: signal.signal(number, self.hear) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def hear(self, number: int, frame: Any) -> None:
        """Remember a signal until the step is done."""
        self.told = number

    def look(self) -> None:
        """End between two steps if that was asked for.

        Raises
        ------
        Stop
            If a signal came.
        """
        if self.told:
            raise Stop

    def after_step(self, state: Callable[[], Checkpoint]) -> None:
        """Save if it is time to, end if that was asked for."""
        self.look()
        if self.course is None:
            return
        span = 60 * self.course.save_minutes
        pause = max(span, SHARE * self.cost) if span else 0.0
        if time.monotonic() - self.saved >= pause:
            self.save(state())

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint into the slot whose turn it is."""
        if self.course is None:
            return
        started = time.monotonic()
        checkpoints.write(checkpoint, self.course.slots[self.turn])
        self.turn = 1 - self.turn
        self.saved = time.monotonic()
        self.cost = self.saved - started
        epoch, step = checkpoint.place
        log.info("saved after %d epochs and %d steps in %.2f s", epoch, step, self.cost)

    def newest(self, until: int) -> Checkpoint | None:
        """Read the furthest checkpoint there is, see `newest`; the other slot is next."""
        found = newest(self.course, until) if self.course else None
        if found is None or self.course is None:
            return None
        self.turn = int(found[1] == self.course.slots[0])
        return found[0]


def newest(course: Course, until: int) -> tuple[Checkpoint, Path] | None:
    """Read the furthest checkpoint of a training that lies not beyond an epoch.

    A damaged one in a slot is passed over with a warning: an earlier one gives the same
    result.

    Raises
    ------
    Refused
        If a checkpoint is that of another training, or the part before is damaged.
    """
    places = {path: _place(path, course) for path in (*course.slots, course.previous)}
    good = [(place, path) for path, place in places.items() if place and path]
    for place, path in sorted(good, reverse=True):
        checkpoint = None
        if place <= (until, 0):
            checkpoint = _unless_damaged(path, course, checkpoints.read)
        if checkpoint:
            log.info("%s: goes on after %d epochs and %d steps", path, *place)
            return checkpoint, path
    return None


def _place(path: Path | None, course: Course) -> tuple[int, int] | None:
    """Epochs and steps done in a checkpoint; None if there is no good one."""
    if path is None or (path != course.previous and not path.exists()):
        return None
    facts = _unless_damaged(path, course, checkpoints.facts)
    if facts is None:
        return None
    if facts["key"] != course.key:
        raise Refused(
            f"{path}: expected a checkpoint of training {course.key[:12]}, found one of "
            f"{facts['key'][:12]} (other code, settings or examples); remove it"
        )
    return int(facts["epoch"]), int(facts["step"])


def _unless_damaged(
    path: Path, course: Course, read: Callable[[Path], Read]
) -> Read | None:
    try:
        return read(path)
    except Refused as damage:
        if path == course.previous:
            raise
        log.warning("%s", damage)
        return None
