"""Files of a study's results and their hashes; a file is read once, not at every run."""

import contextlib
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tomoglean import provenance
from tomoglean.crate.records import FOLDER, Job, record_of

METADATA = "ro-crate-metadata.json"
SEAL = f"{METADATA}.sha256"
MEMORY = Path(".tomoglean/outputs.json")
LEFT_OUT = ("viewed",)  # made to be looked at, and made anew at will
HANDS = 4
Stamp = list[list[Any]]


@dataclass(frozen=True)
class Kept:
    """A file, or a folder that is one artefact, below results.

    Attributes
    ----------
    path
        Below results, with forward slashes.
    size
        In bytes, of all its files.
    sha256
        Of the file; of a folder, see `provenance.sha256_of`.
    folder
        Whether it is a folder.
    altered
        Whether it is no longer what its job wrote; `sha256` is then that of the job.
    """

    path: str
    size: int
    sha256: str
    folder: bool
    altered: bool = False


def kept(root: Path, jobs: Iterable[Job]) -> list[Kept]:
    """Take stock of a study's results.

    Parameters
    ----------
    root
        Folder of the study.
    jobs
        Its jobs. What they say of their files' hashes is believed while the file is
        older than the record; a file that is younger is hashed and compared.

    Returns
    -------
    list of Kept
        In order of path. Hashes of files whose size, times and inode are those of last
        time come from `.tomoglean/outputs.json`.
    """
    results = root / "results"
    told = {path: sha256 for job in jobs for path, sha256 in job.outputs.items()}
    known = _remembered(root)
    stamps = {path: stamp_of(results / path) for path in found(results, told)}
    fresh = {path: stamp for path, stamp in stamps.items() if not _same(known, path, stamp)}
    hashes = _hashed(results, fresh, told)
    known = {path: known[path] for path in stamps.keys() - fresh.keys()} | {
        path: {"stamp": stamp, "sha256": hashes[path]} for path, stamp in fresh.items()
    }
    with contextlib.suppress(OSError):
        provenance.write_json(known, root / MEMORY)
    return [
        _kept(results, path, known[path]["sha256"], told.get(path, ""))
        for path in sorted(stamps)
    ]


def _kept(results: Path, path: str, now: str, told: str) -> Kept:
    place = results / path
    size = sum(part[1] for part in stamp_of(place))
    return Kept(path, size, told or now, place.is_dir(), bool(told) and now != told)


def found(results: Path, artefacts: Iterable[str] = ()) -> list[str]:
    """List what lies in a results folder.

    Left out are the crate's own metadata, halves of files, running checkpoints, and
    what `view` made. A folder that is an artefact counts as one.
    """
    whole = {path for path in artefacts if (results / path).is_dir()}
    listed = {path for path in artefacts if (results / path).exists()}
    for place, folders, names in os.walk(results):
        here = Path(place).relative_to(results)
        folders[:] = sorted(
            name
            for name in folders
            if (here / name).as_posix() not in whole and str(here / name) not in LEFT_OUT
        )
        listed |= {(here / name).as_posix() for name in names if _counts(here, name)}
    return sorted(listed)


def _counts(here: Path, name: str) -> bool:
    own = here == Path() and name in (METADATA, SEAL)
    passing = name.startswith(".partial-") or ".running-" in name
    return not own and not passing


def stamp_of(place: Path) -> Stamp:
    """Tell whether a file or folder may have changed, without reading it."""
    files = sorted(file for file in place.rglob("*") if file.is_file())
    stats = [(file, file.stat()) for file in (files if place.is_dir() else [place])]
    return [
        [file.name, now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino]
        for file, now in stats
    ]


def _same(known: Mapping[str, Any], path: str, stamp: Stamp) -> bool:
    entry = known.get(path)
    return isinstance(entry, dict) and entry.get("stamp") == stamp and "sha256" in entry


def _hashed(
    results: Path, fresh: Mapping[str, Stamp], told: Mapping[str, str]
) -> dict[str, str]:
    def sha256(path: str) -> str:
        if told.get(path) and _untouched(results, path, fresh[path]):
            return told[path]
        return provenance.sha256_of(results / path)

    with ThreadPoolExecutor(HANDS) as hands:
        return dict(zip(fresh, hands.map(sha256, fresh), strict=True))


def _untouched(results: Path, path: str, stamp: Stamp) -> bool:
    """Tell whether a file is older than the record its job wrote after it."""
    with contextlib.suppress(OSError):
        written = (results / record_of(path)).stat().st_mtime_ns
        return all(part[2] <= written for part in stamp)
    return False


def _remembered(root: Path) -> dict[str, Any]:
    try:
        known: dict[str, Any] = provenance.read_json(root / MEMORY)
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def is_record(path: str) -> bool:
    """Whether a file below results is the record of a job."""
    return path.startswith(f"{FOLDER}/") and path.endswith(".json")
