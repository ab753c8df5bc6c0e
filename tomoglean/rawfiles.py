"""Raw files as the plan sees them: what reads them, what to watch, their hash."""

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tomoglean import formats, particles, provenance, study, tables
from tomoglean.keys import HASHES


def readers(rows: list[dict[str, str]]) -> tuple[str, ...]:
    """Modules that read some files; a file of no known format is the check's matter."""
    modules = set[str]()
    for row in rows:
        with contextlib.suppress(provenance.Refused):
            reader = formats.reader_of(tables.locate(row["path"]), row)
            modules |= {reader.__name__, *getattr(reader, "USES", ())}
    return tuple(sorted(modules))


def particle_readers(paths: Iterable[str]) -> tuple[str, ...]:
    """Modules that read or write some files of points."""
    return tuple(sorted({particles.reader_of(path).__name__ for path in paths}))


def files(paths: Iterable[str]) -> list[str]:
    """Keep what Snakemake can watch: single files, there or to be simulated."""
    resolved = [(path, tables.locate(path)) for path in paths]
    return [
        str(file)
        for path, file in resolved
        if path.startswith(study.SIMULATED) or file.is_file()
    ]


def sha256(path: str, row: formats.Row | None = None) -> str | None:
    """Hash raw bytes, again only when size, mtime, ctime or inode differ.

    Which files belong to a file (a header's voxels, what HDF5 links to) is asked again
    only if it, or what its row says of it, differs.
    """
    if path.startswith(study.SIMULATED):
        return None
    known = provenance.read_json(HASHES) if HASHES.is_file() else {}
    source, entry = tables.locate(path), known.get(path, {})
    asked = [(row or {}).get(column, "") for column in ("dataset", "linked")]
    parts = [Path(mark[0]) for mark in entry.get("stamp", [])]
    own = stamp([source])
    if source.is_dir() or (own, asked) != (entry.get("own"), entry.get("asked")):
        parts = formats.files(source, row)
    marks = stamp(parts)
    if (own, asked, marks) != tuple(entry.get(part) for part in ("own", "asked", "stamp")):
        digest = formats.sha256(source, row)
        known[path] = {"own": own, "asked": asked, "stamp": marks, "sha256": digest}
        provenance.write_json(known, HASHES)
    return str(known[path]["sha256"])


def known_sha256(path: str) -> str | None:
    """Hash that raw bytes had when they were last there."""
    known = provenance.read_json(HASHES) if HASHES.is_file() else {}
    return str(known[path]["sha256"]) if path in known else None


def stamp(paths: Iterable[Path]) -> list[list[Any]]:
    """Tell whether files may have changed, without reading them."""
    stats = [(file, file.stat()) for file in paths if file.is_file()]
    return [
        [str(file), now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino]
        for file, now in stats
    ]
