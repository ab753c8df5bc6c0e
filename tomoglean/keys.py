"""Give Snakemake its record back where ours knows better: lost, or not yet written.

Every artefact has a record `results/provenance/<artefact>.json` with its key, a hash of
code, settings and the keys of its inputs. Snakemake keeps a record of its own in
`.snakemake` of the study, and compares with it. Where that is lost (a study copied
without its hidden folders), it is written anew from ours, and so it is for jobs that ended
well after the head of their run had died. What has changed since is then found by
Snakemake itself, as ever. Standard library only.
"""

import contextlib
import json
import os
import shutil
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from tomoglean import discretion, provenance

RECORDS = Path("results/provenance")
HASHES = Path(".tomoglean/sha256.json")
SNAKEMAKE = Path(".snakemake")
LOOKED = Path(".tomoglean/looked")
SKEW_NS = 3600 * 10**9
FORMAT_VERSION = 6  # of Snakemake's records
CHANGED = "<made from another version of {}>"
Record = dict[str, Any]


def restore(root: Path = Path(), settled: Iterable[str] = ()) -> int:
    """Write what Snakemake's record lacks, from ours.

    Costs two looks into folders where nothing is missing.

    Parameters
    ----------
    root
        Folder of the study.
    settled
        Artefacts that were finished without Snakemake's noticing, see `leftovers`.

    Returns
    -------
    int
        How many artefacts Snakemake was told of.
    """
    if not (root / RECORDS).is_dir():
        return 0
    with contextlib.suppress(OSError):  # a dry run in somebody else's study
        return _restore_lost(root) or _restore_some(root, settled)
    return 0


def _restore_lost(root: Path) -> int:
    place = root / SNAKEMAKE / "metadata"
    if place.is_dir() and any(place.iterdir()):
        return 0
    records = {name: record for name, record in _all(root) if (root / name).exists()}
    if not records:
        return 0
    place.parent.mkdir(exist_ok=True)
    partial = place.with_name(f".metadata-{uuid4().hex}")
    partial.mkdir()  # as the umask and the folder say: others may share the study
    try:
        known = _Known(root, records)
        for name, record in records.items():
            _write(known.metadata(name, record), partial / _encoded(name))
        (place.parent / "incomplete").mkdir(exist_ok=True)
        partial.replace(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return len(records)


def _restore_some(root: Path, names: Iterable[str]) -> int:
    found = {name: _read(root / RECORDS / _record_name(name)) for name in names}
    records = {name: record for name, record in found.items() if record}
    known = _Known(root, records)
    for name, record in records.items():
        place = root / SNAKEMAKE / "metadata" / _encoded(name)
        _write(known.metadata(name, record), place)
    return len(records)


def correct(root: Path = Path()) -> int:
    """Take our word where Snakemake tells of other settings or code.

    A job on a cluster reads config and code when it begins, and Snakemake notes what they
    were when the run began: where somebody edits them in between, our record is right.

    Parameters
    ----------
    root
        Folder of a study that nobody runs.

    Returns
    -------
    int
        How many artefacts Snakemake was told of anew.
    """
    with contextlib.suppress(OSError):  # a dry run in somebody else's study
        return _correct(root, time.time_ns())
    return 0


def _correct(root: Path, now_ns: int) -> int:
    looked = root / LOOKED
    since_ns = looked.stat().st_mtime_ns - SKEW_NS if looked.exists() else 0
    records = dict(_all(root, since_ns))
    known = _Known(root, records)
    wrong = [name for name, record in records.items() if known.contradicts(name, record)]
    _restore_some(root, wrong)
    looked.parent.mkdir(exist_ok=True)
    looked.touch()
    os.utime(looked, ns=(now_ns, now_ns))
    return len(wrong)


class _Known:
    """Records of a study, and what Snakemake would have written of them."""

    def __init__(self, root: Path, records: Mapping[str, Record]) -> None:
        self.root = root
        self.records = dict(records)
        self.paths = discretion.known_in(root)
        self.raw: dict[str, str | None] = {}
        with contextlib.suppress(OSError, ValueError):
            self.hashes = provenance.read_json(root / HASHES)
            return
        self.hashes = {}

    def metadata(self, name: str, record: Record) -> Record:
        """Put a record into Snakemake's words; folders that it hides are known here."""
        record = discretion.reveal(record, self.paths) if self.paths else record
        inputs = record["inputs"]
        changed = [CHANGED.format(path) for path in inputs if self._changed(path, record)]
        return {
            "rule": record["rule"],
            "input": sorted([*inputs, *record.get("repeated", []), *changed]),
            "log": [],
            "shellcmd": None,
            "params": _params(record),
            "code": None,
            "record_format_version": FORMAT_VERSION,
            "incomplete": False,
            "endtime": (self.root / name).stat().st_mtime,
            "input_checksums": {} if changed else self._checksums(record),
        }

    def contradicts(self, name: str, record: Record) -> bool:
        """Tell whether Snakemake knows an artefact, but by other settings or code."""
        ours = _params(discretion.reveal(record, self.paths))
        own = self.root / RECORDS / _record_name(name)
        file = self.root / SNAKEMAKE / "metadata" / _encoded(name)
        with contextlib.suppress(OSError, ValueError, KeyError):
            if file.stat().st_mtime_ns > own.stat().st_mtime_ns + SKEW_NS:
                return False  # told later by hand, as `--touch` does
            theirs = json.loads(file.read_bytes())["params"]
            hidden = any(discretion.HIDDEN in text for text in ours)
            return bool(theirs != ours and not hidden and (self.root / name).exists())
        return False

    def record(self, path: str) -> Record | None:
        """Our record of a path, None where it has none."""
        if path not in self.records:
            found = _read(self.root / RECORDS / _record_name(path))
            self.records[path] = found or {}
        return self.records[path] or None

    def _changed(self, path: str, record: Record) -> bool:
        """Tell whether an input has been made anew, in another way, since it was read."""
        now = self.record(path)
        return now is not None and now["key"] != record["inputs"][path]

    def _checksums(self, record: Record) -> dict[str, str]:
        """Checksums by input; Snakemake asks for them where an input is newer."""
        found = {path: self._checksum(path) for path in record["inputs"]}
        return {path: f"sha256:{sha256}" for path, sha256 in found.items() if sha256}

    def _checksum(self, path: str) -> str | None:
        """Checksum of what lies there: for raw files a changed one is a changed setting."""
        record = self.record(path)
        if record is None and path not in self.raw:
            self.raw[path] = self._checksum_of_raw(path)
        return record.get("sha256") if record else self.raw[path]

    def _checksum_of_raw(self, path: str) -> str | None:
        """Remembered, or taken now where times alone would make a stage run again."""
        file, entry = self.root / path, self.hashes.get(path, {})
        stamp = entry.get("stamp", [])
        if not file.is_file() or [part[0] for part in stamp] not in ([], [path]):
            return None
        status = file.stat()
        if stamp and stamp[0][1:3] == [status.st_size, status.st_mtime_ns]:
            return str(entry["sha256"])
        newer = status.st_mtime_ns > self._oldest_of(path)
        return provenance.sha256_of_file(file) if newer else None

    def _oldest_of(self, path: str) -> int:
        """Time of the oldest artefact that was made from a raw file."""
        made = [name for name, record in self.records.items()
                if record and path in record["inputs"]]  # fmt: skip
        there = [self.root / name for name in made if (self.root / name).exists()]
        return min(file.stat().st_mtime_ns for file in there)


def _params(record: Record) -> list[str]:
    """Put settings and code into Snakemake's words."""
    return sorted(repr(value) for value in (*record["settings"].values(), record["code"]))


def _all(root: Path, since_ns: int = 0) -> Iterator[tuple[str, Record]]:
    for folder, _, names in os.walk(root / RECORDS):
        for name in names:
            path = Path(folder, name)
            if since_ns and path.stat().st_mtime_ns < since_ns:
                continue
            if name.endswith(".json") and (record := _read(path)):
                yield f"results/{record['artefact']}", record


def _read(path: Path) -> Record | None:
    """Read one of our records; None if it is no whole one."""
    try:
        record = json.loads(path.read_bytes())
        whole = isinstance(record["settings"], dict) and isinstance(record["inputs"], dict)
        named = all(isinstance(record[key], str) for key in ("artefact", "key", "rule"))
        return record if whole and named and "code" in record else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _record_name(path: str) -> str:
    return f"{path.removeprefix('results/')}.json"


def _encoded(path: str) -> Path:
    """Name of Snakemake's record of a path: base64, in folders where that is long."""
    text = urlsafe_b64encode(path.encode()).decode()
    parts = [text[start : start + 254] for start in range(0, len(text), 254)]
    return Path(*[f"@{part}" for part in parts[:-1]], parts[-1])


def _write(metadata: Record, path: Path) -> None:
    """Write without waiting for the disk: what is lost once more is restored once more."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(metadata), encoding="utf-8")
