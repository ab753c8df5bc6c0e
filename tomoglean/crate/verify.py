"""Read everything again that a crate names, and say what is no longer as it was."""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tomoglean import formats, provenance, study, tables
from tomoglean.crate.files import HANDS, METADATA, SEAL, found
from tomoglean.crate.seal import is_sealed
from tomoglean.discretion import hide
from tomoglean.provenance import Refused

NAMED = "ni:///sha-256;"
NAMED_AWAY = 3
ALTERED = "no longer what its job wrote"


@dataclass(frozen=True, order=True)
class Finding:
    """One thing that is not as the crate tells it.

    Attributes
    ----------
    path
        Below results, or as a table of the study names it.
    what
        changed, missing, extra, unreadable, or away (raw data that are not here).
    why
        What was expected and what was found.
    """

    path: str
    what: str
    why: str

    def __str__(self) -> str:
        """Write it as one line."""
        return f"{self.what}: {self.path}: {self.why}"


def verify(folder: Path, expected: str = "") -> tuple[list[Finding], int]:
    """Compare every byte of a study's results with what its crate says of them.

    Parameters
    ----------
    folder
        The results, or the study they lie in. Raw data are read again too where the
        study's tables lie beside the results and name them.
    expected
        sha256 of `ro-crate-metadata.json`, if it was kept elsewhere.

    Returns
    -------
    tuple
        Findings in order of path, and how many artefacts and raw data were read.

    Raises
    ------
    Refused
        If there is no crate, or it is so damaged that nothing can be compared.
    """
    results = results_in(folder)
    metadata = results / METADATA
    findings = list(_of_crate(metadata, expected))
    try:
        told = _told(json.loads(metadata.read_bytes()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if not findings:
            raise Refused(f"{metadata}: expected a crate, found {error}") from None
        return findings, 1
    damaged = bool(findings)
    findings += _compared(results, told)
    raw, read = ([], 0) if damaged else _raw(results.parent, told)
    ours = sum(not path.startswith(NAMED) for path in told)
    return sorted({*findings, *raw}), 1 + ours + read


def results_in(folder: Path) -> Path:
    """Find the folder that holds a crate: the one named, or `results` in it."""
    for place in (folder, folder / "results"):
        if (place / METADATA).is_file():
            return place
    raise Refused(
        f"{folder}: expected {METADATA} in it or in its results, found none;"
        " write it with `python -m tomoglean crate STUDY`"
    )


def _of_crate(metadata: Path, expected: str) -> Iterator[Finding]:
    if not is_sealed(metadata):
        yield Finding(METADATA, "changed", f"it and {SEAL} no longer belong together")
    if expected and provenance.sha256_of_file(metadata) != expected.strip().lower():
        yield Finding(METADATA, "changed", "expected another sha256 than it has")


def _told(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Entities of a crate that tell a hash, by path or content."""
    return {
        unquote(entity["@id"].rstrip("/")): entity
        for entity in document["@graph"]
        if isinstance(entity.get("sha256"), str)
    }


def _compared(results: Path, told: Mapping[str, Mapping[str, Any]]) -> Iterable[Finding]:
    ours = {path: entity for path, entity in told.items() if not path.startswith(NAMED)}
    inside = {path for path in ours if _is_below(path)}
    for path in ours.keys() - inside:
        yield Finding(path, "unreadable", "a path that leaves results")
    with ThreadPoolExecutor(HANDS) as hands:
        places = sorted(inside)
        every = hands.map(lambda path: _one(results, path, ours[path]), places)
        yield from (finding for finding in every if finding)
    for path in found(results, inside):
        if path not in inside:
            yield Finding(path, "extra", "the crate does not name it")


def _is_below(path: str) -> bool:
    return not path.startswith("/") and ".." not in path.split("/")


def _one(results: Path, path: str, entity: Mapping[str, Any]) -> Finding | None:
    place, expected = results / path, entity["sha256"]
    if not place.exists():
        return Finding(path, "missing", "the crate names it")
    try:
        now = provenance.sha256_of(place)
    except OSError as error:
        return Finding(path, "unreadable", str(error.strerror))
    if now == expected:
        return None
    since = "its job wrote it" if ALTERED in str(entity.get("description")) else "the crate"
    return Finding(path, "changed", f"since {since}: sha256 {expected[:12]} is {now[:12]}")


def _raw(root: Path, told: Mapping[str, Mapping[str, Any]]) -> tuple[list[Finding], int]:
    """Compare raw data, where the study lies around the results and names them."""
    named = {
        name: path
        for path, entity in told.items()
        if path.startswith(NAMED)
        for name in (entity["name"], *_several(entity.get("alternateName", [])))
    }
    if not named or not study.is_study(root):
        return [], 0
    try:
        asked = study.read_anywhere(root)
    except Refused as refusal:
        return [Finding("config", "unreadable", str(refusal))], 0
    rows = {row["path"]: row for row in (*asked.volumes, *asked.labels)}
    known = {path: row for path, row in rows.items() if hide(path) in named}
    away = sorted(hide(path) for path in known if not _is_here(root, path))
    here = {path: row for path, row in known.items() if hide(path) not in away}
    every = [_raw_one(root, path, row, named[hide(path)]) for path, row in here.items()]
    return [finding for finding in (*every, _away(away, len(known))) if finding], len(here)


def _is_here(root: Path, path: str) -> bool:
    return tables.locate(path, root).exists()


def _away(paths: Sequence[str], every: int) -> Finding | None:
    """Tell of raw data that are not here, such as on tape: in one line, however many."""
    if not paths:
        return None
    named = ", ".join(paths[:NAMED_AWAY]) + (", .." if len(paths) > NAMED_AWAY else "")
    why = f"{len(paths)} of {every} files are not here, so they were not compared: {named}"
    return Finding("raw data", "away", why)


def _several(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def _raw_one(root: Path, path: str, row: Mapping[str, str], name: str) -> Finding | None:
    expected = base64.urlsafe_b64decode(name.removeprefix(NAMED) + "=").hex()
    try:
        now = formats.sha256(tables.locate(path, root), dict(row))
    except (OSError, Refused) as error:
        return Finding(hide(path), "unreadable", hide(str(error)))
    if now == expected:
        return None
    return Finding(hide(path), "changed", f"raw data: {expected[:12]} is {now[:12]}")
