"""What a crate carries along: workflow, locks, a drawing, the study as it was asked."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from tomoglean import provenance
from tomoglean.crate.records import Job
from tomoglean.discretion import hide_all
from tomoglean.report import jobs as jobs_
from tomoglean.report import rulegraph
from tomoglean.study import Study

CHECKOUT = Path(__file__).resolve().parents[2]
FOLDER = "crate"
WORKFLOW = f"{FOLDER}/Snakefile"
README = "README.md"
CONFIG = f"{FOLDER}/config.yaml"
TABLES = (f"{FOLDER}/volumes.tsv", f"{FOLDER}/labels.tsv")
LOCK = f"{FOLDER}/envs/cpu.lock.txt"
DRAWING = f"{FOLDER}/rules.svg"
COPIED = ("Snakefile", "rules/*.smk", "workflow/scripts/*.py", "envs/*.lock.txt")
TEXT = """# Results of tomoglean

`report.html` shows what was found. `ro-crate-metadata.json` tells, for people and
machines, which job made which file of what, with which settings and versions (RO-Crate,
profile Provenance Run Crate). `crate/` holds the workflow, its locks and the study's
config and tables as they were then.

- `python -m tomoglean verify FOLDER` reads every file again and says what has changed.
- `sha256sum -c ro-crate-metadata.json.sha256` does so for the metadata alone.
- Folders outside the study are told as `outside-HASH/NAME`.
"""


@dataclass(frozen=True)
class Script:
    """What a rule runs: a script, below the crate's folder, and what the rule is for."""

    path: str
    meaning: str


def write(study: Study, jobs: Iterable[Job] = ()) -> None:
    """Copy workflow, locks, config and tables into `results/crate`; folders are hidden.

    The rules of the jobs are drawn beside them.

    A file that is there with the same text is left alone, one of an older workflow
    removed.
    """
    folder = study.root / "results" / FOLDER
    texts = {**_workflow(), **_asked(study), Path(DRAWING).name: _drawn(jobs)}
    for old in sorted(folder.rglob("*")):
        if old.is_file() and old.relative_to(folder).as_posix() not in texts:
            old.unlink()
    for name, text in {**texts, f"../{README}": TEXT}.items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != text.encode():
            provenance.write_text(text, path)


@cache
def _workflow() -> Mapping[str, str]:
    files = [file for pattern in COPIED for file in sorted(CHECKOUT.glob(pattern))]
    return {
        file.relative_to(CHECKOUT).as_posix(): file.read_text(encoding="utf-8")
        for file in files
    }


def _asked(study: Study) -> dict[str, str]:
    """Write the study's config with all defaults, and its tables."""
    config = yaml.safe_dump(hide_all(study.config), sort_keys=False, allow_unicode=True)
    tables = {"volumes.tsv": study.volumes, "labels.tsv": study.labels}
    texts = {name: _table(hide_all(rows)) for name, rows in tables.items()}
    return {"config.yaml": config, **texts}


def _drawn(jobs: Iterable[Job]) -> str:
    """Draw the rules of the jobs; like the crate, it depends on the records alone."""
    done = [
        jobs_.Job(
            job.rule,
            job.started,
            job.seconds,
            inputs=job.inputs,
            outputs=list(job.outputs),
        )
        for job in jobs
    ]
    return rulegraph.draw(rulegraph.of(done))[0]


def _table(rows: list[dict[str, str]]) -> str:
    lines = [list(rows[0]), *[list(row.values()) for row in rows]] if rows else []
    return "".join("\t".join(cells) + "\n" for cells in lines)


@cache
def scripts() -> Mapping[str, Script]:
    """Script of every rule of the workflow."""
    found: dict[str, Script] = {}
    for name, text in _workflow().items():
        if name.endswith(".smk"):
            found |= _scripts_in(text)
    return found


def _scripts_in(text: str) -> dict[str, Script]:
    found: dict[str, Script] = {}
    for part in re.split(r"^(?=rule |checkpoint |use rule )", text, flags=re.MULTILINE):
        if used := re.match(r"use rule (\w+) as (\w+)", part):
            found[used[2]] = found[used[1]]
        head = re.match(r"(?:rule|checkpoint) (\w+):\s+\"\"\"(.+?)\"\"\"", part, re.DOTALL)
        script = re.search(r"script:\s+\"\.\./(workflow/scripts/\w+\.py)\"", part)
        if head and script:
            found[head[1]] = Script(f"{FOLDER}/{script[1]}", " ".join(head[2].split()))
    return found
