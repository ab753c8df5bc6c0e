"""Ask SLURM for the jobs of a run, and end them."""

import os
import re
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from tomoglean.provenance import Refused

FIELDS = "%i|%T|%M|%l|%R|%k"
PATIENCE_S = 60
LOOKS = 3
PREEMPTED, FORGOTTEN = "PREEMPTED", "FORGOTTEN"


@dataclass(frozen=True)
class Job:
    """One job that waits or runs.

    `spent` and `limit` are SLURM's times such as 1-02:03:04; `where` is the node, or in
    brackets why the job waits; `what` tells rule and wildcards.
    """

    number: str
    state: str
    spent: str
    limit: str
    where: str
    what: str


def alive(runs: Sequence[str]) -> list[Job]:
    """List the jobs of these runs (names of their jobs) that are not over.

    Raises
    ------
    Refused
        If SLURM does not answer: then nobody knows.
    """
    if not runs:
        return []
    names = ",".join(runs)
    text = _ask("squeue", "--all", "--noheader", "--name", names, "--format", FIELDS)
    return [_job(line) for line in text.splitlines() if line.strip()]


def _job(line: str) -> Job:
    number, state, spent, limit, where, what = line.strip().split("|", 5)
    what = what.removeprefix("rule_").replace("_wildcards_", " ")
    return Job(number, state, spent, limit, where, "" if what == "(null)" else what)


def is_over(number: str) -> bool:
    """Say whether a job has ended for sure; no number, or no answer, is no."""
    try:
        return (
            bool(number)
            and number not in _ask("squeue", "--all", "--noheader", "-o", "%A").split()
        )
    except Refused:
        return False


def cancel(jobs: Sequence[Job]) -> None:
    """End jobs as SLURM does: a signal first, so that a training saves."""
    if jobs:
        _ask("scancel", *[job.number for job in jobs], check=False)


def end(runs: Sequence[str], *, patience_s: float, every_s: float = 1.0) -> list[Job]:
    """Cancel what is alive of these runs, wait until it is gone, return what was.

    Raises
    ------
    Refused
        If some of it is still there after `patience_s` seconds.
    """
    deadline = time.monotonic() + patience_s
    found: dict[str, Job] = {}
    while left := alive(runs):
        cancel([job for job in left if job.number not in found])
        found |= {job.number: job for job in left}
        if time.monotonic() > deadline:
            raise Refused(_still_there(left, patience_s))
        time.sleep(every_s)
    return list(found.values())


def _still_there(left: Sequence[Job], patience_s: float) -> str:
    names = ", ".join(f"{job.number} ({job.state.lower()})" for job in left[:5])
    return (
        f"SLURM: expected the cancelled jobs of an earlier run to be gone within "
        f"{patience_s:.0f} s, found {len(left)}: {names}; look at them with squeue,"
        " then start again"
    )


class Looks:
    """What SLURM says of the jobs that a run waits for, one look after the other.

    The plugin takes a job that was preempted, and one that SLURM lists no more, for one
    that still runs, and waits for ever.

    Parameters
    ----------
    run
        Name of the run's jobs.
    """

    def __init__(self, run: str) -> None:
        self.run = run
        self.seen: set[str] = set()
        self.missed: set[str] = set()

    def over(self, waited: Collection[str]) -> dict[str, str]:
        """Tell which jobs are over of those that are waited for, and how.

        Parameters
        ----------
        waited
            Numbers of jobs.

        Returns
        -------
        dict
            `PREEMPTED` or `FORGOTTEN` by number; a job is forgotten if SLURM has listed it
            before and two looks have missed it. Nothing where SLURM does not answer.
        """
        try:
            text = _ask("squeue", "--all", "--noheader", "--states=all", "--name", self.run,
                        "--format", "%i|%T")  # fmt: skip
        except Refused:
            return {}
        listed = dict(
            line.strip().split("|", 1) for line in text.splitlines() if "|" in line
        )
        gone = (self.seen & set(waited)) - listed.keys()
        found = dict.fromkeys(gone & self.missed, FORGOTTEN)
        self.seen |= listed.keys()
        self.missed = gone
        lost = [number for number in waited if listed.get(number) == PREEMPTED]
        return {**found, **dict.fromkeys(lost, PREEMPTED)}


def forgets_too_early(first_look_s: float) -> str | None:
    """Say what is wrong if SLURM forgets ended jobs before the plugin has seen their end.

    The plugin then asks sacct instead, and does not know its words for a cancelled job.

    Parameters
    ----------
    first_look_s
        Seconds from a submission to the first look, as the profile says.
    """
    try:
        settings = _ask("scontrol", "show", "config")
    except Refused:
        return None
    found = re.search(r"^MinJobAge\s*=\s*(\d+)", settings, re.MULTILINE)
    if found is None or int(found[1]) >= LOOKS * first_look_s:
        return None
    return (
        f"this SLURM forgets a job {found[1]} s after its end: the plugin will ask sacct,"
        f" and wait for ever after scancel; set slurm-init-seconds-before-status-checks to"
        f" {int(found[1]) // LOOKS} in the profile, or end runs with `make cancel` only"
    )


def _ask(*words: str, check: bool = True) -> str:
    try:
        done = subprocess.run(  # noqa: S603  # a fixed program, words of our own
            words,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
            env={**_without_filters(os.environ), "SLURM_TIME_FORMAT": "standard"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Refused(_silent(words[0], type(error).__name__)) from None
    if check and done.returncode:
        lines = [*done.stderr.strip().splitlines(), f"exit code {done.returncode}"]
        raise Refused(_silent(words[0], lines[0]))
    return done.stdout


def _without_filters(words: Mapping[str, str]) -> dict[str, str]:
    """Leave out what would hide jobs, such as SQUEUE_PARTITION of the user's own shell."""
    filters = ("SQUEUE_", "SCANCEL_")
    return {name: word for name, word in words.items() if not name.startswith(filters)}


def _silent(program: str, why: str) -> str:
    return (
        f"SLURM: expected {program} to tell which jobs of an earlier run are alive, found"
        f" {why}; start again where SLURM answers"
    )
