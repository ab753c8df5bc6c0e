"""Know who runs a study, so that nobody else writes into it; tell it, and end it.

`.tomoglean/run.json` in the study names the run that holds it: host, process, user and
the names of its SLURM jobs. A thread of the run touches the file as long as it lives. A
run that is dead holds nothing: the next one cancels its jobs, waits until they are gone,
and goes on.
"""

import contextlib
import fcntl
import getpass
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from tomoglean import processes, provenance, queues
from tomoglean.provenance import Refused

HOLDER = Path(".tomoglean/run.json")
SILENT_S = 600
BEAT_S = 30.0
LOOK_S = 2.0
PATIENCE_S = 300


@dataclass(frozen=True)
class Holder:
    """The run that holds a study.

    Parameters
    ----------
    host, space, boot
        The machine, its process namespace and its start: where `process` means anything.
    process, born
        The process and its start in clock ticks, as numbers are used again.
    user, since
        Who started it and when, in local time.
    runs
        Names of the SLURM jobs that are its own, or that it still has to end.
    inside
        The SLURM job that the run itself is in, if any.
    """

    host: str
    space: str
    boot: str
    process: int
    born: str
    user: str
    since: str
    runs: tuple[str, ...] = ()
    inside: str = ""

    @classmethod
    def here(cls, *runs: str) -> "Holder":
        """Describe this process."""
        return cls(
            host=socket.gethostname(),
            space=_text(lambda: os.readlink("/proc/self/ns/pid")),
            boot=_text(Path("/proc/sys/kernel/random/boot_id").read_text),
            process=os.getpid(),
            born=processes.born(os.getpid()),
            user=_user(),
            since=datetime.now().astimezone().isoformat(timespec="seconds"),
            runs=runs,
            inside=os.environ.get("SLURM_JOB_ID", ""),
        )

    def is_near(self) -> bool:
        """Say whether its process can be seen from here."""
        here = Holder.here()
        return (self.host, self.space) == (here.host, here.space)

    def is_alive(self, root: Path) -> bool:
        """Say whether it runs: by its process here, by its heartbeat elsewhere."""
        if self.is_near():
            same_start = self.boot == Holder.here().boot
            return same_start and self.born == processes.born(self.process) != ""
        return _silence_s(root) < SILENT_S and not self._is_over()

    def _is_over(self) -> bool:
        """Ask SLURM, which may hide the jobs of others: it is believed of our own."""
        return self.user == _user() and queues.is_over(self.inside)

    def told(self) -> str:
        """Name it in words."""
        return f"{self.user} on {self.host}, process {self.process}, since {self.since}"


def read(root: Path) -> Holder | None:
    """Read who holds a study, dead or alive; None if nobody does."""
    try:
        facts = provenance.read_json(root / HOLDER)
        return Holder(**{**facts, "runs": tuple(facts["runs"])})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError):
        raise Refused(
            f"{HOLDER}: expected who runs this study, found a damaged file; see with"
            " squeue that no job of yours runs here, then delete it"
        ) from None


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
            _write(root, self.me)
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
        _write(self.root, self.me)

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
                    _say("another run has taken this study over; no new jobs")
                    os.kill(os.getpid(), signal.SIGTERM)
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
            found = read(self.root)
        except (OSError, Refused):
            return True  # a file system that hiccups is no other run
        return found is not None and replace(found, runs=()) == replace(self.me, runs=())


def _refuse_the_living(root: Path) -> Holder | None:
    old = read(root)
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


def _write(root: Path, holder: Holder) -> None:
    provenance.write_json(asdict(holder), root / HOLDER)


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Keep two starting runs apart, where the file system can lock."""
    path = root / HOLDER.with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        with contextlib.suppress(OSError):
            fcntl.lockf(file, fcntl.LOCK_EX)
        yield


def _silence_s(root: Path) -> float:
    """Seconds since the last heartbeat, both by the clock of the file server."""
    try:
        beat_s = (root / HOLDER).stat().st_mtime
    except FileNotFoundError:  # given back since it was read
        return math.inf
    now = root / HOLDER.with_suffix(".now")
    try:
        now.touch()
        os.utime(now)
        return now.stat().st_mtime - beat_s
    except OSError:  # a study, or a file, of somebody else
        return time.time() - beat_s


def _text(source: Any) -> str:
    try:
        return str(source()).strip()
    except OSError:
        return ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


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
    holder = read(root)
    if holder is None:
        return "nobody runs this study\n"
    was_alive = holder.is_alive(root)
    if was_alive:
        _say(f"asking the run of {holder.told()} to end; this may take minutes")
        _ask_to_end(root, holder)
    ended = queues.end(holder.runs, patience_s=patience_s)
    if was_alive:
        _wait_for_the_end(root, holder, patience_s)
    if read(root) == holder and not holder.is_alive(root):
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
    if not request.exists():
        return False
    asked = _text(request.read_text)
    request.unlink(missing_ok=True)
    return all(f"{part}" in asked for part in (me.host, me.process, me.since))


def _wait_for_the_end(root: Path, holder: Holder, patience_s: float) -> None:
    """Wait for a head that has no jobs; one that waits for ever is killed at last."""
    deadline = time.monotonic() + patience_s
    while read(root) is not None and holder.is_alive(root):
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
