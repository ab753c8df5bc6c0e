"""Know who runs a study, so that nobody else writes into it; tell it, and end it.

`.tomoglean/run.json` in the study names the run that holds it: host, process, user and
the names of its SLURM jobs. A thread of the run touches the file as long as it lives. A
run that is dead holds nothing: the next one cancels its jobs, waits until they are gone,
and goes on.
"""

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

from tomoglean import holders, processes, provenance, queues
from tomoglean.holders import HOLDER, Holder
from tomoglean.provenance import Refused

STARTING = Path(".tomoglean/run.starting")
STALE_S = 150
BEAT_S = 30.0
LOOK_S = 2.0
PATIENCE_S = 300


# -- holding ---------------------------------------------------------------------------


class Hold:
    """A study held by this process until it is released.

    Parameters
    ----------
    root
        The study.
    run
        Name of this run's SLURM jobs, if there are any.
    note
        Called with each heartbeat and at the end; its faults end no run.

    Raises
    ------
    Refused
        If another run holds it, or jobs of a dead one cannot be ended.
    """

    def __init__(
        self, root: Path, run: str | None = None, note: Callable[[], None] | None = None
    ) -> None:
        self.root, self._note = root, note
        self.runs = (run,) if run else ()
        with _alone(root):
            old = _refuse_the_living(root)
            owed = tuple(name for name in old.runs if name != run) if old else ()
            self.me = Holder.here(*owed, *self.runs)
            holders.write(root, self.me)
        self._over = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)
        self._heart.start()
        if old:
            self._take_over(old, owed)

    def _take_over(self, old: Holder, owed: tuple[str, ...]) -> None:
        """End the jobs of dead runs; what cannot be ended stays noted."""
        try:
            if left := queues.alive(owed):
                _say(f"the run of {old.told()} is dead; ending its {len(left)} jobs first")
            queues.end(owed, patience_s=PATIENCE_S)
            if old.is_near():
                _end_scripts(self.root, old)
        except Refused:
            self._stop()
            raise
        self.me = replace(self.me, runs=self.runs)
        holders.write(self.root, self.me)

    def release(self, *, patience_s: float = 60.0) -> None:
        """Give the study back, unless jobs of this run cannot be ended in time."""
        self._stop()
        self.take_note()
        left = queues.end(self.runs, patience_s=patience_s)
        if left:
            _say(f"ended {len(left)} jobs that this run would have left behind")
        if self._is_mine():
            (self.root / HOLDER).unlink(missing_ok=True)

    def _stop(self) -> None:
        self._over.set()
        self._heart.join()

    def _beat(self) -> None:
        last = time.monotonic()
        while not self._over.wait(LOOK_S):
            if _asked_to_end(self.root, self.me):
                _say("asked to end; no new jobs")
                os.kill(os.getpid(), signal.SIGTERM)
            if time.monotonic() - last >= BEAT_S:
                last = time.monotonic()
                if not self._is_mine():
                    self._yield()
                    return
                with contextlib.suppress(OSError):
                    os.utime(self.root / HOLDER)
                self.take_note()

    def take_note(self) -> None:
        """Let the run note how far it has come."""
        if self._note:
            with contextlib.suppress(Exception):  # such as a set that changes meanwhile
                self._note()

    def _is_mine(self) -> bool:
        try:
            found = holders.read(self.root)
        except (OSError, Refused):
            return True  # a file system that hiccups is no other run
        return found is not None and replace(found, runs=()) == replace(self.me, runs=())

    def _yield(self) -> None:
        """Leave a study to another run, or to nobody if its note was removed."""
        if (self.root / HOLDER).exists():
            _say("another run has taken this study over; ending at once")
            _give_way()
        else:
            _say(f"{HOLDER} has been removed; no new jobs")
            os.kill(os.getpid(), signal.SIGTERM)


def _give_way() -> None:
    """Die without another look at a study that has gone to another run.

    A run that ends in peace removes the outputs of the jobs that it takes for failed, and
    waits for its scripts: here these are files that the other run is making.
    """
    for process in [*processes.below(os.getpid()), os.getpid()]:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process, signal.SIGKILL)


def _refuse_the_living(root: Path) -> Holder | None:
    old = holders.read(root)
    if old and old.is_alive(root):
        study = os.path.abspath(root)
        raise Refused(
            f"{study}: expected no other run in this study, found that of {old.told()};"
            f" wait for its end, or end it with `make cancel STUDY={study}`"
        )
    return old


def _end_scripts(root: Path, old: Holder) -> None:
    """End what a dead run without a cluster left on this machine."""
    orphans = processes.scripts_in(root)
    if orphans:
        _say(f"the run of {old.told()} is dead; ending its {len(orphans)} scripts first")
    if left := processes.end(orphans, patience_s=PATIENCE_S):
        raise Refused(
            f"{os.path.abspath(root)}: expected the scripts of a dead run to end, found"
            f" process {left[0]} alive; end it with `kill -9 {left[0]}`, then start again"
        )


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Keep two starting runs apart by a file that only one can make.

    Locks are no help: some file systems of clusters have none, on others each machine
    has its own.
    """
    mark = json.dumps(asdict(Holder.here()))
    path = root / STARTING
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _claim(root, mark)
    except OSError as error:
        raise Refused(
            f"{os.path.abspath(path.parent)}: expected a folder that one may write in, "
            f"found {error.strerror}; run a copy of the study, or ask its owner"
        ) from None
    try:
        yield
        if holders.text(path.read_text) != mark:
            raise Refused(
                f"{os.path.abspath(root)}: expected no other run to start, found one that "
                "began together with this; see `make status`, then start again"
            )
    finally:
        if holders.text(path.read_text) == mark:
            path.unlink(missing_ok=True)


def _claim(root: Path, mark: str) -> None:
    """Make the file of those that start, as soon as nobody else has it."""
    path = root / STARTING
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(mark)
            return
        except FileExistsError:
            if _is_left(root):
                path.unlink(missing_ok=True)
                continue
        if time.monotonic() > deadline:
            raise Refused(
                f"{os.path.abspath(path)}: expected a starting run to be ready within "
                f"{PATIENCE_S:.0f} s, found it still at it; if it is dead, delete the file"
            )
        time.sleep(0.05)


def _is_left(root: Path) -> bool:
    """Say whether a start was broken off: by its process here, by its age elsewhere."""
    try:
        starting = Holder(**json.loads((root / STARTING).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return False
    except (OSError, ValueError, TypeError):  # not yet written, or no more
        return holders.age_s(root, STARTING) > STALE_S
    if starting.is_near():
        return not starting.is_alive(root)
    return holders.age_s(root, STARTING) > STALE_S


def _say(text: str) -> None:
    sys.stderr.write(f"tomoglean: {text}\n")


# -- cancel ----------------------------------------------------------------------------


def cancel(root: Path, *, patience_s: float = PATIENCE_S) -> str:
    """End the run of a study and its jobs; trainings save first.

    Returns
    -------
    str
        What was ended, in one line.

    Raises
    ------
    Refused
        If something is still there after `patience_s` seconds.
    """
    holder = holders.read(root)
    if holder is None:
        return "nobody runs this study\n"
    was_alive = holder.is_alive(root)
    if was_alive:
        _say(f"asking the run of {holder.told()} to end; this may take minutes")
        _ask_to_end(root, holder)
    ended = queues.end(holder.runs, patience_s=patience_s)
    if was_alive:
        _wait_for_the_end(root, holder, patience_s)
    if holders.read(root) == holder and not holder.is_alive(root):
        (root / HOLDER).unlink(missing_ok=True)
    return f"ended the run of {holder.told()} and {len(ended)} jobs on SLURM\n"


def _ask_to_end(root: Path, holder: Holder) -> None:
    request = root / HOLDER.with_suffix(".end")
    provenance.write_json([holder.host, holder.process, holder.since], request)
    deadline = time.monotonic() + 2 * BEAT_S
    while request.exists() and holder.is_alive(root) and time.monotonic() < deadline:
        time.sleep(LOOK_S / 4)
    request.unlink(missing_ok=True)
    if holder.is_near():
        processes.end(processes.below(holder.process), patience_s=0)


def _asked_to_end(root: Path, me: Holder) -> bool:
    request = root / HOLDER.with_suffix(".end")
    try:
        if not request.exists():
            return False
        asked = request.read_text(encoding="utf-8", errors="replace")
        request.unlink(missing_ok=True)
    except OSError:  # a file system that hiccups asks for nothing, and stops no heart
        return False
    return all(f"{part}" in asked for part in (me.host, me.process, me.since))


def _wait_for_the_end(root: Path, holder: Holder, patience_s: float) -> None:
    """Wait for a head that has no jobs; one that waits for ever is killed at last."""
    deadline = time.monotonic() + patience_s
    while holders.read(root) is not None and holder.is_alive(root):
        queues.end(holder.runs, patience_s=patience_s)
        if time.monotonic() > deadline:
            _kill(root, holder, patience_s)
        time.sleep(0.5)


def _kill(root: Path, holder: Holder, patience_s: float) -> None:
    if not holder.is_near():
        raise Refused(
            f"{os.path.abspath(root)}: expected the run of {holder.told()} to end within"
            f" {patience_s:.0f} s, found it alive without jobs; end it on {holder.host}"
        )
    _say(f"process {holder.process} has no jobs and does not end; killing it")
    try:
        os.kill(holder.process, signal.SIGKILL)
    except ProcessLookupError:
        return
    except PermissionError:
        raise Refused(
            f"{os.path.abspath(root)}: expected a run of one's own, found that of"
            f" {holder.told()}; ask them to end it"
        ) from None
