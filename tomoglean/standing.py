"""Tell how far the run of a study has come, from its own notes and logs.

The head notes which jobs its run consists of (`.tomoglean/jobs.json`); the log of a job
tells the rest. Nothing here needs Snakemake, and nothing is written by asking.
"""

import contextlib
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tomoglean import holders, logs, processes, provenance, queues, study
from tomoglean.holders import Holder
from tomoglean.provenance import Refused

JOBS = Path(".tomoglean/jobs.json")
BEGAN = Path(".tomoglean/jobs.began")
STATES = ("done", "running", "waiting", "failed")
SHOWN = 20
WIDE = 160
UNBEGUN = "ended before its script began"
UNTAKEN = "ended well, but Snakemake did not take its outputs"
SEE = "see the last file in .snakemake/log, on SLURM also .snakemake/slurm_logs"


@dataclass(frozen=True)
class Job:
    """One job of a run: its rule, what it works on (wildcards in words), its log.

    `given_up` says that it failed and that the head makes no more attempts at it.
    """

    rule: str
    what: str
    log: str
    given_up: bool = False

    @property
    def name(self) -> str:
        """Rule and what it works on."""
        return logs.plain(f"{self.rule} {self.what}")


@dataclass(frozen=True)
class Found:
    """How a job stands.

    Attributes
    ----------
    job
        Which.
    state
        One of `STATES`. A job that was killed has failed; one whose turn has not come,
        or comes again, waits.
    since
        When its last attempt began, in local time; empty if there was none.
    line
        What went wrong, or the last line of its log.
    """

    job: Job
    state: str
    since: str = ""
    line: str = ""


# -- what the head notes ---------------------------------------------------------------


def begin(root: Path) -> None:
    """Note that a run begins: logs from before count no more."""
    (root / BEGAN).parent.mkdir(parents=True, exist_ok=True)
    (root / BEGAN).touch()
    os.utime(root / BEGAN)


def note(root: Path, jobs: Iterable[Job]) -> None:
    """Note which jobs the run consists of, as far as is known."""
    facts = [asdict(job) for job in sorted(jobs, key=lambda job: job.log)]
    if facts != _read(root):
        provenance.write_json(facts, root / JOBS)


def _read(root: Path) -> list[dict[str, Any]] | None:
    try:
        return list(provenance.read_json(root / JOBS))
    except (OSError, ValueError, TypeError):
        return None


# -- looking ---------------------------------------------------------------------------


def look(root: Path, queue: Sequence[queues.Job] = ()) -> list[Found]:
    """Tell how each job of the latest run stands, dead or alive.

    Parameters
    ----------
    root
        The study.
    queue
        The run's jobs on SLURM that are not over.
    """
    try:
        jobs = [Job(**facts) for facts in _read(root) or []]
        began_s = (root / BEGAN).stat().st_mtime
    except (OSError, TypeError):
        return []
    look = _Look(root, began_s, queue, {job.name for job in jobs})
    return [look.at(job) for job in jobs]


class _Look:
    """What tells a job that is at work from one that was killed."""

    def __init__(
        self, root: Path, began_s: float, queue: Sequence[queues.Job], names: set[str]
    ) -> None:
        self.root, self.began_s = root, began_s
        holder = _holder(root)
        self.on_slurm = bool(holder and holder.runs)
        self.alive = bool(holder and holder.is_alive(root))
        self.near = holder is None or holder.is_near()
        self.open = processes.opened_in(root) if not self.on_slurm and self.near else None
        self.queued = {_name(one): one.state for one in queue}
        # the name of a group of jobs tells none of them
        self.group = any(one not in _names(names) for one in self.queued)

    def at(self, job: Job) -> Found:
        path = self.root / job.log
        attempt = logs.last_attempt(path) if self._is_new(path) else None
        if job.given_up and not (attempt and attempt.failed):
            return _without_word(job, attempt)
        if attempt is None:
            return Found(job, "waiting")
        if attempt.well:
            return Found(job, "done", attempt.began, attempt.line)
        if self._waits_again(job):
            line = f"comes again after: {attempt.line}"
            return Found(job, "waiting", attempt.began, line)
        if attempt.failed:
            return Found(job, "failed", attempt.began, attempt.line)
        if self._is_at_work(job, path):
            return Found(job, "running", attempt.began, attempt.line)
        return _without_word(job, attempt)

    def _is_new(self, path: Path) -> bool:
        """Say whether a log is of this run, both by the clock of the file server."""
        try:
            return path.stat().st_mtime >= self.began_s
        except OSError:
            return False

    def _waits_again(self, job: Job) -> bool:
        return self.queued.get(_name_on_slurm(job.name)) == "PENDING"

    def _is_at_work(self, job: Job, path: Path) -> bool:
        if self.open is not None:
            return os.path.realpath(path) in self.open
        if self.on_slurm:
            return self.group or _name_on_slurm(job.name) in self.queued
        return self.alive


def _without_word(job: Job, attempt: logs.Attempt | None) -> Found:
    """Say what is known of a job that failed and left no error in its log."""
    if attempt is None or not attempt.line:
        return Found(job, "failed", "", f"{UNBEGUN}; {SEE}")
    if attempt.well:
        return Found(job, "failed", attempt.began, f"{UNTAKEN}; {SEE}")
    return Found(job, "failed", attempt.began, f"broken off after: {attempt.line}")


def _holder(root: Path) -> Holder | None:
    try:
        return holders.read(root)
    except (OSError, Refused):
        return None


def _name(job: queues.Job) -> str:
    return _name_on_slurm(job.what)


def _names(names: set[str]) -> set[str]:
    return {_name_on_slurm(name) for name in names}


def _name_on_slurm(name: str) -> str:
    """Write a job as the comment of its SLURM job does: wildcards joined by lines."""
    return name.replace(" ", "_").replace("/", "_")


# -- telling ---------------------------------------------------------------------------


def status(root: Path, width: int | None = None) -> str:
    """Tell who runs a study, what its jobs do and what went wrong.

    Parameters
    ----------
    root
        The study.
    width
        Letters in a line; None: those of the terminal.
    """
    width = width or shutil.get_terminal_size((WIDE, 0)).columns
    lines, queue = _told_holder(root)
    found = look(root, queue)
    lines += _told_counts(found)
    for state, meaning in (("running", "since"), ("failed", "began")):
        lines += _told_jobs([one for one in found if one.state == state], meaning)
    lines += _told_refused(root)
    return "".join(f"{_cut(line, width)}\n" for line in lines)


def _told_holder(root: Path) -> tuple[list[str], list[queues.Job]]:
    holder = holders.read(root)
    if holder is None:
        return ["nobody runs this study"], []
    alive = holder.is_alive(root)
    lines = [f"{'run by' if alive else 'dead run of'} {holder.told()}"]
    queue: list[queues.Job] = []
    try:
        queue = queues.alive(holder.runs)
        lines += [f"{len(queue)} jobs wait or run on SLURM"] if holder.runs else []
    except Refused as refusal:
        lines += [str(refusal)]
    lines += [
        f"  {job.number} {job.state} {job.spent} of {job.limit} {job.where} {job.what}"
        for job in queue
    ]
    if not alive:
        lines += ["the next run ends these jobs, then goes on; or `make cancel`"]
    return lines, queue


def _told_counts(found: Sequence[Found]) -> list[str]:
    if not found:
        return []
    counts = Counter(one.state for one in found)
    told = ", ".join(f"{counts[state]} {state}" for state in STATES)
    return [f"{len(found)} jobs of the latest run: {told}"]


def _told_jobs(found: Sequence[Found], meaning: str) -> list[str]:
    lines = [
        f"  {one.state} {one.job.name}"
        + (f", {meaning} {one.since}: {one.line}" if one.since else f": {one.line}")
        + (f" ({one.job.log})" if one.state == "failed" and one.since else "")
        for one in sorted(found, key=lambda one: one.since)[:SHOWN]
    ]
    more = len(found) - SHOWN
    return lines + ([f"  and {more} more"] if more > 0 else [])


def _told_refused(root: Path) -> list[str]:
    refused = _refused(root)
    lines = [f"{len(refused)} volumes refused"] if refused else []
    lines += [f"  refused {name}: {why}" for name, why in refused[:SHOWN]]
    more = len(refused) - SHOWN
    return lines + ([f"  and {more} more"] if more > 0 else [])


def _refused(root: Path) -> list[tuple[str, str]]:
    """List the volumes that were refused, with the reasons."""
    found = []
    with contextlib.suppress(Refused, OSError):
        for row in study.as_written(root).volumes:
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                path = root / "results" / "checked" / f"{row['volume']}.json"
                facts = provenance.read_json(path)
                if facts["verdict"] == "refused":
                    found.append((row["volume"], "; ".join(facts["messages"])))
    return found


def _cut(line: str, width: int) -> str:
    line = line[: len(line) - len(line.lstrip())] + logs.plain(line)
    return line if len(line) <= width else f"{line[: max(width - 1, 1)]}…"
