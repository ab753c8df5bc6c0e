"""Jobs of a study as their records tell them."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import zip_longest
from pathlib import Path
from typing import Any

FOLDER = "provenance"
RESULTS = "results/"


@dataclass(frozen=True)
class Job:
    """One job that ended well.

    Attributes
    ----------
    rule
        Rule of the workflow.
    key
        Hash of code, settings and the keys of the inputs.
    started
        When it began, ISO 8601 in UTC.
    seconds
        How long its script worked.
    code
        Fingerprint of the code it reached.
    settings
        Its parameters by name.
    inputs
        Paths as the study names them (results/converted/a.h5, raw/a.tif).
    outputs
        Paths below results/, and the sha256 the job gave each (empty if it gave none).
    versions
        Versions of the software by package.
    """

    rule: str
    key: str
    started: str
    seconds: float
    code: str
    settings: dict[str, Any]
    inputs: tuple[str, ...]
    outputs: dict[str, str]
    versions: dict[str, str]

    @property
    def made(self) -> list[str]:
        """Inputs that other jobs made."""
        return [path for path in self.inputs if path.startswith(RESULTS)]

    @property
    def raw(self) -> dict[str, str]:
        """Files from outside as tables and config name them, and their sha256 if told."""
        rows = [self.settings.get("row"), *_listed(self.settings.get("rows"))]
        told = _listed(self.settings.get("sha256"))
        paths = [str(row.get("path", "")) for row in rows if isinstance(row, dict)]
        found = dict(zip_longest(paths, map(_text, told[: len(paths)]), fillvalue=""))
        start = self.settings.get("settings")
        if isinstance(start, dict) and start.get("start_from"):
            found[str(start["start_from"])] = _text(self.settings.get("start_sha256"))
        return {path: sha256 for path, sha256 in found.items() if not _inside(path)}

    @property
    def ended(self) -> str:
        """When its script ended, ISO 8601."""
        end = datetime.fromisoformat(self.started) + timedelta(seconds=self.seconds)
        return end.isoformat(timespec="seconds")

    @property
    def name(self) -> str:
        """Rule and first artefact, for people."""
        return f"{self.rule}: {min(self.outputs)}"


def read(results: Path) -> list[Job]:
    """Read the jobs of a study from `results/provenance`, in order of their start.

    A record that cannot be read, or whose artefact is gone, is left out.
    """
    jobs: dict[tuple[str, str, str], Job] = {}
    for record in _records(results / FOLDER):
        artefact = record["artefact"]
        if not (results / artefact).exists():
            continue
        job = _job(record)
        job = jobs.setdefault((job.rule, job.key, job.started), job)
        job.outputs[artefact] = str(record.get("sha256") or "")
    return sorted(jobs.values(), key=lambda job: (job.started, min(job.outputs)))


def _records(folder: Path) -> Iterable[dict[str, Any]]:
    for path in sorted(folder.rglob("*.json")):
        try:
            record = json.loads(path.read_bytes())
            datetime.fromisoformat(record["started"])
            if isinstance(record["artefact"], str) and path == folder / record_of(
                record["artefact"]
            ).removeprefix(f"{FOLDER}/"):
                yield record
        except (OSError, ValueError, KeyError, TypeError):
            continue


def record_of(artefact: str) -> str:
    """Path of an artefact's record, below results."""
    return f"{FOLDER}/{artefact}.json"


def _job(record: dict[str, Any]) -> Job:
    return Job(
        rule=str(record.get("rule", "unknown")),
        key=str(record.get("key", "")),
        started=str(record["started"]),
        seconds=float(record.get("seconds", 0)),
        code=str(record.get("code") or ""),
        settings=dict(record.get("settings") or {}),
        inputs=tuple(record.get("inputs") or ()),
        outputs={},
        versions=dict(record.get("versions") or {}),
    )


def raw(jobs: Iterable[Job]) -> dict[str, str]:
    """Files from outside that jobs read, and the sha256 that one of them told."""
    pairs = [pair for job in jobs for pair in job.raw.items()]
    return {path: sha256 for path, sha256 in pairs if len(sha256) == 64}


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _inside(path: str) -> bool:
    return not path or path.startswith(RESULTS)


def versions(jobs: Iterable[Job]) -> list[tuple[str, str]]:
    """All (package, version) pairs that jobs ran with."""
    return sorted({pair for job in jobs for pair in job.versions.items()})
