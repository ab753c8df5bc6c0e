"""How a study was run, in words that run it again elsewhere."""

import os
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tomoglean.report.sources import PACKAGE, Source, discreet, git, git_state

RECORD = "report/report.json"
REPOSITORY = "REPOSITORY"
UNKNOWN = "snakemake --cores all --directory {study}"
ACCOUNT = re.compile(r"(\bslurm_account=)[^\s,]+")
FOLDERS = ("--directory", "-d")
SNAKEFILES = ("--snakefile", "-s")
HANDLED = ("green", "failed")


@dataclass(frozen=True)
class Run:
    """The last run of a study that ended in front of this report.

    Attributes
    ----------
    command
        The call of Snakemake, without private folders; empty if it is not known.
    commit, state
        The checkout it ran from, and whether files in it differed from the commit.
    ended
        When, and how: green or failed.
    """

    command: str
    commit: str
    state: str
    ended: str = ""

    @property
    def is_dirty(self) -> bool:
        """Whether the commit alone does not give the code that ran."""
        return self.state == "with local changes"


def last_run(source: Source, outcome: str) -> Run:
    """Return the run that ends now; for a page that is rebuilt, the one on record."""
    command, root = list(sys.argv), source.study.root
    if outcome in HANDLED and is_snakemake(command[0]):
        when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        return Run(called(command[1:], root), *git_state(), f"{outcome}, {when}")
    known = source.json(RECORD).get("run")
    known = known if isinstance(known, dict) else {}
    if known.get("command") and all(isinstance(v, str) for v in known.values()):
        return Run(**{name: known.get(name, "") for name in asdict(Run("", "", ""))})
    return Run("", *git_state())


def is_snakemake(program: str) -> bool:
    """Whether a program is Snakemake, by name or as a module."""
    path = Path(program)
    return "snakemake" in (path.name, path.parent.name)


def called(words: Sequence[str], root: Path) -> str:
    """Write a call of Snakemake so that it works elsewhere and names no private folder.

    Parameters
    ----------
    words
        What follows the program's name.
    root
        Folder of the study, told as it lies in the checkout, or as STUDY.

    Examples
    --------
    >>> called(["--cores", "2", "--directory=/home/ann/scan"], Path("/home/ann/scan"))
    'snakemake --cores 2 --directory=STUDY'
    """
    told, study = [], place(root)
    for before, word in zip(["", *words], words, strict=False):
        if before in FOLDERS:
            told.append(study)
        elif word.startswith("--directory="):
            told.append(f"--directory={study}")
        elif before in SNAKEFILES:
            told.append("Snakefile")
        else:
            told.append(_shared(word, root))
    here = not any(word in FOLDERS or word.startswith("--directory=") for word in words)
    if here and study != ".":  # called within the study, but told from the checkout
        told += ["--directory", study]
    profile = os.environ.get("SNAKEMAKE_PROFILE", "")
    if profile and not any(word.startswith("--profile") for word in words):
        told += ["--profile", _shared(profile, root)]
    return shlex.join(["snakemake", *told])


def _shared(word: str, root: Path) -> str:
    """Name what lies in the checkout from there, no folder outside and no account."""
    return ACCOUNT.sub(r"\1ACCOUNT", discreet(word.replace(f"{PACKAGE}/", ""), root))


def place(root: Path) -> str:
    """Name a study's folder as it lies in the checkout; STUDY if it lies elsewhere."""
    inside = root.resolve()
    return str(inside.relative_to(PACKAGE)) if inside.is_relative_to(PACKAGE) else "STUDY"


def recipe(source: Source, run: Run) -> str:
    """Return the lines that make the study again, to be copied into a shell."""
    commit = run.commit if run.commit != "unknown" else "COMMIT"
    return "\n".join(
        [
            f"git clone {repository()} tomoglean",
            "cd tomoglean",
            f"git checkout {commit}",
            "make setup",
            ". .venv/bin/activate",
            run.command or UNKNOWN.format(study=place(source.study.root)),
        ]
    )


def repository() -> str:
    """Return where the checkout was cloned from, if everybody may know and ask it."""
    url = git("remote", "get-url", "origin")
    return url if url.startswith("https://") and "@" not in url else REPOSITORY


def caption(source: Source, run: Run) -> str:
    """Say what the lines of the recipe leave open."""
    told = []
    if not run.command:
        told.append(
            "How the study was run is not on record: these lines run all of it with the"
            " code that made this page."
        )
    else:
        told.append(
            "The last line is the latest call; where it names results or rules, it makes"
            " only these: leave them out to make all."
        )
    if run.is_dirty:
        told.append(
            "The checkout had local changes: this commit alone does not give the code that"
            " ran."
        )
    if run.commit == "unknown":
        told.append("The code was no git checkout; the Provenance part tells its versions.")
    if repository() == REPOSITORY:
        told.append("REPOSITORY: where you have tomoglean from.")
    if place(source.study.root) == "STUDY":
        told.append(
            "STUDY: the folder that holds config/ and its raw data; results/crate/ keeps"
            " copies of config and tables."
        )
    return " ".join(told)


def record(run: Run) -> dict[str, Any]:
    """Return the run as the report keeps it for the next time it is rebuilt."""
    return asdict(run)
