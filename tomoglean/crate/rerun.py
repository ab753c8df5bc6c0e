"""Do some jobs once more in a scratch folder, and compare what they make, byte by byte."""

import csv
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tomoglean import provenance, study
from tomoglean.crate import records
from tomoglean.crate.copies import CHECKOUT
from tomoglean.crate.records import Job
from tomoglean.discretion import hide
from tomoglean.provenance import Refused

CHECK = "check"  # others ask which volumes it refused
MARK = Path(".tomoglean/scratch")
LINKED_NOT = ("config", "results", "logs", ".snakemake", ".tomoglean")
TIMES = "seconds"
SAME, OTHER = "same bytes", "other bytes"


@dataclass(frozen=True)
class Again:
    """What came of doing a job once more.

    Attributes
    ----------
    name
        Rule and first artefact.
    same
        Whether every file is the same; times that a file tells of itself do not count.
    told
        What is the same and what is not.
    """

    name: str
    same: bool
    told: str

    def __str__(self) -> str:
        """Write it as one line."""
        return f"{'same' if self.same else 'DIFFERS'}: {self.name}: {self.told}"


def drawn(jobs: Sequence[Job], number: int, seed: int, longest_s: float) -> list[Job]:
    """Draw jobs by chance, none twice, of those that took no longer than `longest_s`."""
    short = [job for job in jobs if job.seconds <= longest_s]
    return random.Random(seed).sample(short, min(number, len(short)))  # noqa: S311 - no secret


def rerun(root: Path, jobs: Sequence[Job], *, cores: int = 1) -> Iterator[Again]:
    """Do jobs of a study again, each by Snakemake in a folder of its own.

    Parameters
    ----------
    root
        The study. Nothing in it is written; the scratch folder holds links to its files.
    jobs
        Which jobs to do.
    cores
        How many cores a job may use.

    Raises
    ------
    Refused
        If the folder is no study.
    """
    if not study.is_study(root):
        raise Refused(
            f"{root}: --rerun: expected a study around the results, found no"
            " config/config.yaml; jobs can only be done again where the study lies"
        )
    for job in jobs:
        with tempfile.TemporaryDirectory(prefix="tomoglean-rerun-") as scratch:
            place = Path(scratch) / "study"
            _set_up(root.resolve(), place, job)
            yield _compared(root, place, job, _make(place, job, cores))


def _set_up(root: Path, place: Path, job: Job) -> None:
    """Make a study whose files are links, apart from those of the job."""
    place.mkdir()
    shutil.copytree(root / "config", place / "config")
    for entry in root.iterdir():
        if entry.name not in LINKED_NOT:
            (place / entry.name).symlink_to(entry)
    left_out = {str(Path(path)) for path in job.outputs}
    for source in (root / "results").rglob("*"):
        name = source.relative_to(root / "results")
        own = any(str(part) in left_out for part in (name, *name.parents))
        if source.is_file() and not own:
            _link(source, place / "results" / name)
    (place / MARK).parent.mkdir()
    (place / MARK).touch()
    if (known := root / ".tomoglean" / "sha256.json").is_file():
        shutil.copy2(known, place / ".tomoglean" / known.name)


def _link(source: Path, target: Path) -> None:
    """Link a file; the link is as old as the file, or Snakemake would take it for newer."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(source)
    times = source.stat()
    os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns), follow_symlinks=False)


def _make(place: Path, job: Job, cores: int) -> str:
    """Run Snakemake for a job; returns why it failed, or nothing."""
    command = [sys.executable, "-m", "snakemake", "-s", str(CHECKOUT / "Snakefile")]
    command += ["--directory", str(place), "--cores", str(cores), "--quiet", "all"]
    command += ["--rerun-triggers", "mtime", "--allowed-rules", job.rule, CHECK, "--"]
    targets = [f"results/{path}" for path in job.outputs]
    done = subprocess.run(  # noqa: S603 - our own Snakefile, paths from our records
        [*command, *targets], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return "" if done.returncode == 0 else hide(lines[-1] if lines else "no message")


def _compared(root: Path, place: Path, job: Job, failed: str) -> Again:
    if failed:
        return Again(job.name, False, f"could not be done again: {failed}")
    words = {path: _difference(root, place, path) for path in sorted(job.outputs)}
    same = all(word != OTHER for word in words.values())
    told = "; ".join(f"{path}: {word}" for path, word in words.items())
    if set(words.values()) == {SAME}:
        told = f"{len(words)} of {len(words)} files, {SAME}"
    code = "" if same or _code(place, job) == job.code else " (the code has changed since)"
    return Again(job.name, same, f"{told}{code}")


def _difference(root: Path, place: Path, path: str) -> str:
    old, new = (folder / "results" / path for folder in (root, place))
    if provenance.sha256_of(old) == provenance.sha256_of(new):
        return SAME
    return "same but for times" if _timeless(old) == _timeless(new) else OTHER


def _timeless(path: Path) -> object:
    """Read a JSON or CSV file without the seconds it tells."""
    try:
        if path.suffix == ".json":
            return json.loads(path.read_bytes(), object_hook=_without_times)
        if path.suffix == ".csv":
            with open(path, newline="", encoding="utf-8") as file:
                return [_without_times(row) for row in csv.DictReader(file)]
    except (OSError, ValueError):
        pass
    return object()  # like nothing else


def _without_times(entries: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in entries.items() if name != TIMES}


def _code(place: Path, job: Job) -> str:
    made = records.read(place / "results")
    return next((new.code for new in made if set(new.outputs) & set(job.outputs)), "")
