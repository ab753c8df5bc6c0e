"""Know who holds a study, dead or alive.

`.tomoglean/run.json` in the study names the run that holds it: host, process, user and
the names of its SLURM jobs.
"""

import getpass
import math
import os
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from tomoglean import processes, provenance, queues
from tomoglean.provenance import Refused

HOLDER = Path(".tomoglean/run.json")
SILENT_S = 600
JOB = ("SLURM_JOB_ID", "SLURM_RESTART_COUNT", "SLURMD_NODENAME")
#: What SLURM said as this process began; the plugin takes it out of the environment.
_BEGAN = {name: os.environ.get(name, "") for name in JOB}


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
    inside, restarts
        The SLURM job that the run itself is in, if any, and how often SLURM has put that
        job back into the queue.
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
    restarts: str = ""

    @classmethod
    def here(cls, *runs: str) -> "Holder":
        """Describe this process."""
        return cls(
            host=socket.gethostname(),
            space=text(lambda: os.readlink("/proc/self/ns/pid")),
            boot=text(Path("/proc/sys/kernel/random/boot_id").read_text),
            process=os.getpid(),
            born=processes.born(os.getpid()),
            user=_user(),
            since=datetime.now().astimezone().isoformat(timespec="seconds"),
            runs=runs,
            **_inside(),
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
        return age_s(root, HOLDER) < SILENT_S and not self._is_over()

    def _is_over(self) -> bool:
        """Ask SLURM, which may hide the jobs of others: it is believed of our own."""
        if self.user != _user():
            return False
        here = Holder.here()
        again = self.inside == here.inside and self.restarts != here.restarts
        return bool(self.inside and again) or queues.is_over(self.inside)

    def told(self) -> str:
        """Name it in words."""
        return f"{self.user} on {self.host}, process {self.process}, since {self.since}"


def _inside() -> dict[str, str]:
    """Tell the SLURM job that ends this process when it ends.

    The shell of `salloc` is in none: it lives on, on its own machine, as does its run.
    """
    job, restarts, node = (os.environ.get(name, "") or _BEGAN[name] for name in JOB)
    return {"inside": job, "restarts": restarts} if node else {}


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


def write(root: Path, holder: Holder) -> None:
    """Note who holds a study."""
    provenance.write_json(asdict(holder), root / HOLDER)


def age_s(root: Path, name: Path) -> float:
    """Seconds since a file was touched, both by the clock of the file server."""
    try:
        touched_s = (root / name).stat().st_mtime
    except FileNotFoundError:  # given back since it was read
        return math.inf
    now = root / HOLDER.with_suffix(".now")
    try:
        now.touch()
        os.utime(now)
        return now.stat().st_mtime - touched_s
    except OSError:  # a study, or a file, of somebody else
        return time.time() - touched_s


def text(source: Callable[[], object]) -> str:
    """Ask for a text; none if it cannot be had."""
    try:
        return str(source()).strip()
    except OSError:
        return ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
