"""Keep what the jobs of a dead run finished: Snakemake alone would make it again.

Snakemake marks the outputs of a job as incomplete when it is submitted, and takes the mark
away when the head of the run sees the job end. Jobs outlive a head that is killed. Our
files appear under their name only when they are whole, and the record in
`results/provenance/` is written last; so an artefact with a record younger than its mark
is finished.
"""

import base64
import binascii
import contextlib
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from tomoglean import blocks

#: What `provenance.replacing` writes to; `published` volumes in folders are never that.
PARTIAL = re.compile(r"\.partial-[0-9a-f]{8}-[0-9]+-.+")
STALE_S = 3600
INCOMPLETE = Path(".snakemake/incomplete")
METADATA = Path(".snakemake/metadata")
RECORDS = Path("results/provenance")


def settle(root: Path) -> list[str]:
    """Unmark finished artefacts of a study that nobody runs; return their names.

    Snakemake's own record of them, older than they are, is removed too: then their record
    of provenance decides whether they are up to date.
    """
    settled = []
    for mark, name in list(_marks(root / INCOMPLETE)):
        if _is_finished(root, name, mark.stat().st_mtime_ns):
            (root / METADATA / mark.relative_to(root / INCOMPLETE)).unlink(missing_ok=True)
            mark.unlink(missing_ok=True)
            settled.append(name)
    return settled


def are_finished(root: Path, names: Collection[str]) -> bool:
    """Tell whether a job of a run has made its artefacts since it was submitted."""
    since_ns = {}
    for mark, name in _marks(root / INCOMPLETE):
        with contextlib.suppress(OSError):  # the mark of another job that has just ended
            since_ns[name] = mark.stat().st_mtime_ns
    return all(
        name in since_ns and _is_finished(root, name, since_ns[name]) for name in names
    )


def sweep(root: Path, needed: Collection[str] = ()) -> list[str]:
    """Remove blocks that a dead run had gathered but not removed any more.

    Parameters
    ----------
    root
        Folder of a study that is held.
    needed
        Files that this run will read: they stay.

    Returns
    -------
    list of str
        Blocks that were older than the record of what was made of them.
    """
    swept = []
    for folder in blocks.FOLDERS.values():
        for block in (root / "results" / folder).glob("*/*/*.h5"):
            whole = block.with_name(blocks.NAME.sub(".h5", block.name))
            names = [str(path.relative_to(root)) for path in (block, whole)]
            if whole == block or names[0] in needed:
                continue
            if _is_finished(root, names[1], block.stat().st_mtime_ns):
                block.unlink(missing_ok=True)
                swept.append(names[0])
    return swept


def clear(root: Path, now_s: float) -> int:
    """Remove half-written files of jobs that were killed, and return their bytes.

    A job of the same machine removes them (see `provenance.replacing`); the next attempt
    is often made on another one.

    Parameters
    ----------
    root
        Folder of a study that is held, so that no job of an earlier run is alive.
    now_s
        Time by the clock of the file server; what was written to in the hour before stays.
    """
    freed = 0
    for folder, folders, names in os.walk(root / "results"):
        folders[:] = [name for name in folders if not name.endswith(".zarr")]
        for path in (Path(folder, name) for name in names if PARTIAL.fullmatch(name)):
            with contextlib.suppress(OSError):
                found = path.stat()
                if now_s - found.st_mtime > STALE_S:
                    path.unlink()
                    freed += found.st_size
    return freed


def _marks(folder: Path) -> Iterator[tuple[Path, str]]:
    """List marks and whose they are: Base64, long names in parts that begin with @."""
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        parts = path.relative_to(folder).parts
        text = "".join(part.removeprefix("@") for part in parts)
        with contextlib.suppress(binascii.Error, UnicodeDecodeError):
            yield path, base64.urlsafe_b64decode(text).decode()


def _is_finished(root: Path, name: str, since_ns: int) -> bool:
    """Tell whether an artefact and its record are there, and no older than that."""
    record = root / RECORDS / f"{name.removeprefix('results/')}.json"
    try:
        times = [path.stat().st_mtime_ns for path in (root / name, record)]
    except OSError:
        return False
    return min(times) >= since_ns
