"""How far a study has come: what every job's log ends with, and so each volume's state."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tomoglean import holders, logs, standing
from tomoglean.provenance import Refused
from tomoglean.report.sources import Source, discreet
from tomoglean.report.style import words
from tomoglean.study import Study

MOST_BYTES = 1 << 20
LINE_LETTERS = 300
BEGIN = re.compile(r" INFO tomoglean\.stage: rule (\S+) for (.+)")
ENDED = " (no error follows: it was ended from outside)"
ROUNDS = ("weak", "final", "control")
WORDS = ("done", "failed", "refused", "running", "waiting")


@dataclass(frozen=True)
class Job:
    """What a job's log tells of it.

    Attributes
    ----------
    rule
        Its rule.
    outputs
        What it makes, as paths of the study (results/...); of one that ended before its
        script began, the log it would have written.
    state
        done, failed or running.
    line
        What went wrong, or else the last line it wrote, without its time.
    warned
        Its warnings, in order.
    """

    rule: str
    outputs: tuple[str, ...]
    state: str
    line: str
    warned: tuple[str, ...] = ()

    def speaks_of(self, word: str) -> bool:
        """Whether a volume, task or round stands in the names of what it makes."""
        return any(word in _names(path) for path in self.outputs)


@dataclass(frozen=True)
class State:
    """How far a volume has come: one of `WORDS`, at which rule, and what was said."""

    word: str
    rule: str = ""
    line: str = ""


def jobs(source: Source) -> list[Job]:
    """Return all jobs that left a log, in order of its name, then those without.

    Jobs of a round that the settings of its task name no more are left out.
    """
    return source.once("jobs", lambda: list(_jobs_that_count(source)))


def _jobs_that_count(source: Source) -> Iterator[Job]:
    for job in (*_jobs(source), *_unbegun(source.study.root)):
        if not any(_is_left(source.study, path) for path in job.outputs):
            yield job


def _is_left(study: Study, path: str) -> bool:
    """Whether a path is of a round that its task has no more."""
    task, round_, *_ = [part.split(".")[0] for part in path.split("/")[2:]] + ["", ""]
    if task not in study.tasks or round_.partition("-")[0] not in ROUNDS:
        return False
    volumes = {row["volume"] for row in study.volumes}
    return round_ not in {*study.rounds(task), *volumes}


def _unbegun(root: Path) -> Iterator[Job]:
    """Find the jobs of the latest run that ended before they could write a log."""
    for found in standing.look(root):
        if found.state == "failed" and not found.since:
            yield Job(found.job.rule, (found.job.log,), found.state, found.line)


def _jobs(source: Source) -> Iterator[Job]:
    root = source.study.root
    unfinished = "running" if _is_run_elsewhere(root) else "failed"
    for path in sorted((root / "logs").rglob("*.log")):
        attempt, text = logs.last_attempt(path), _text(path).rpartition(logs.AGAIN)[2]
        begun = BEGIN.findall(text)
        if attempt is None or not begun:
            continue
        rule, outputs = begun[-1][0], tuple(begun[-1][1].split(", "))
        over = attempt.well or _is_made(root, outputs, path)
        heads = (logs.HEAD.match(line) for line in text.split("\n"))
        warned = [head[4] for head in heads if head and head[2] == "WARNING"]
        state = "done" if over else unfinished
        line = _short(attempt.line, root)
        if state == "failed" and not attempt.failed:
            line += ENDED
        yield Job(rule, outputs, state, line, tuple(_short(one, root) for one in warned))


def failed(source: Source) -> list[Job]:
    """Return the jobs that ended without their result, those of the study's tables first.

    Logs of volumes and tasks that the tables name no more are left out.
    """
    known = {row["volume"] for row in source.study.volumes} | set(source.study.tasks)
    return [
        job
        for job in jobs(source)
        if job.state == "failed" and any(job.speaks_of(word) for word in known)
    ]


def of_volume(source: Source, volume: str) -> State:
    """Say how far a volume has come, and what stopped it."""
    if reason := source.refused().get(volume):
        return State("refused", "check", reason)
    for job in jobs(source):
        if job.state != "done" and job.speaks_of(volume):
            return State(job.state, job.rule, job.line)
    missing = [path for path in expected(source, volume) if not _is_there(source, path)]
    if not missing:
        return State("done")
    return _waiting(source, volume, missing[0])


def _waiting(source: Source, volume: str, missing: str) -> State:
    """Say what a volume waits for: a failed job of its task, or simply its turn."""
    stage = missing.split("/")[0]
    for task in source.study.tasks:
        for job in failed(source):
            if volume in source.study.volumes_of(task) and job.speaks_of(task):
                told = f"waits for {job.rule} of {words(task)}, which failed"
                return State("waiting", job.rule, told)
    return State("waiting", stage, f"not {stage} yet")


def expected(source: Source, volume: str) -> list[str]:
    """Return what a finished study holds of a volume, below results/, first made first."""
    study = source.study
    paths = [f"checked/{volume}.json", f"converted/{volume}.h5"]
    for task in study.tasks:
        if volume in study.volumes_of(task) and study.labelled(task, use="train"):
            paths += _answers(source, task, volume)
    return paths


def _answers(source: Source, task: str, volume: str) -> list[str]:
    if source.study.tasks[task].get("kind") == "detection":
        return [f"picked/{task}/final/{volume}.csv"]
    return [f"segmented/{task}/final/{volume}.h5", f"measured/{task}/{volume}.json"]


def counts(source: Source) -> dict[str, int]:
    """Count the volumes by their state, every state named."""
    found = [of_volume(source, row["volume"]).word for row in source.study.volumes]
    return {word: found.count(word) for word in WORDS}


def _is_there(source: Source, path: str) -> bool:
    return (source.results / path).is_file()


def _is_run_elsewhere(root: Path) -> bool:
    """Whether another process runs the study; in its own handlers a run is over."""
    try:
        holder = holders.read(root)
    except (Refused, OSError):
        return False
    return bool(holder and holder.process != os.getpid() and holder.is_alive(root))


def _is_made(root: Path, outputs: tuple[str, ...], log: Path) -> bool:
    """Whether all outputs are there with records at least as new as the log."""
    records = [
        root / "results/provenance" / f"{path.removeprefix('results/')}.json"
        for path in outputs
    ]
    try:
        oldest = min(path.stat().st_mtime for path in records)
        return oldest >= log.stat().st_mtime and all((root / o).exists() for o in outputs)
    except OSError:
        return False


def _names(path: str) -> set[str]:
    return {part.split(".")[0] for part in path.split("/")[2:]}


def _short(line: str, root: Path) -> str:
    """Take folders and what cannot be printed out of a line, and cut it."""
    text = discreet(logs.plain(line), root)
    return text if len(text) <= LINE_LETTERS else f"{text[:LINE_LETTERS]} …"


def _text(path: Path) -> str:
    """Read a log; of a huge one its beginning and its end."""
    try:
        with open(path, "rb") as file:
            head = file.read(MOST_BYTES)
            size = os.fstat(file.fileno()).st_size
            if size > MOST_BYTES:
                file.seek(max(size - MOST_BYTES // 2, MOST_BYTES))
                head += b"\n" + file.read()
    except OSError:
        return ""
    return head.decode("utf-8", "replace")
