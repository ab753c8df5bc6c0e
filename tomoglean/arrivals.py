"""Take up volumes that arrive in folders named in the config, without editing the table.

A file (or folder of slices) is taken up once it has not changed for some seconds, and
stays. What has been taken up is written to `.tomoglean/arrivals.json` of the study when
a run begins: every job of the run sees the same volumes, whatever arrives meanwhile. A
volume whose file has gone, alone or with its folder, stays as far as it was converted.
"""

import contextlib
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePath
from typing import Any

from tomoglean import config as configs
from tomoglean import formats, provenance, tables
from tomoglean.provenance import Refused

REGISTER = Path(".tomoglean/arrivals.json")
CONFIG = Path("config/config.yaml")
KEPT = ("results/checked/{}.json", "results/converted/{}.h5")
OWN = ("volume", "tasks", "path")
ID = re.compile("[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
Row = dict[str, str]


@dataclass(frozen=True)
class Arrivals:
    """What has come in.

    Attributes
    ----------
    rows
        Rows as in volumes.tsv, in order of id.
    refused
        One line for each path that cannot be taken up.
    waiting
        Paths that are still being written.
    absent
        One line for each folder that is not there; nothing new can come from it.
    gone
        Ids of volumes among `rows` whose raw files are no longer there.
    """

    rows: tuple[Row, ...] = ()
    refused: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    gone: frozenset[str] = frozenset()


def find(
    blocks: Sequence[Mapping[str, Any]],
    table: Sequence[Row],
    root: Path,
    *,
    look: bool,
    now: float | None = None,
) -> Arrivals:
    """Find the volumes that have arrived.

    Parameters
    ----------
    blocks
        `arrivals` of the config.
    table
        Rows of volumes.tsv; a row for the same file wins, and so does an id.
    root
        Folder of the study.
    look
        Whether new volumes count; otherwise only those that were taken up before.
    now
        Time in s since 1970, that of the clock if not given.

    Returns
    -------
    Arrivals
        What can be used, what cannot, and what is not complete yet.
    """
    known = _register(root) if blocks else set()
    rows: dict[str, Row] = {}
    refused, waiting, gone = [], [], set()
    own = {_same(tables.locate(row["path"], root)) for row in table}
    ids = {row["volume"] for row in table}
    for path, name, block in _candidates(blocks, root, known):
        place = tables.locate(path, root)
        if _same(place) in own:
            continue
        there = os.path.exists(place)
        try:
            row = _row(path, name, block, ids)
        except Refused as refusal:
            refused += [str(refusal)] if there else []
            continue
        volume = row["volume"]
        if not there:
            if not _is_kept(volume, root):
                continue
            gone.add(volume)
        elif path not in known and not _settled(row, root, block["settle_s"], now):
            waiting += [path] if look else []
            continue
        ids.add(volume)
        own.add(_same(place))
        if look or path in known:
            rows[volume] = row
    ordered = tuple(rows[volume] for volume in sorted(rows))
    absent = tuple(_absent(blocks, root))
    return Arrivals(ordered, tuple(refused), tuple(waiting), absent, frozenset(gone))


def shared_row(block: Mapping[str, Any], where: str, name: str = CONFIG.name) -> Row:
    """Check what a block of the config says, and return the row its volumes share.

    Parameters
    ----------
    block
        One of `arrivals`.
    where
        Where it stands, such as arrivals.1.
    name
        Name of the config, for messages.

    Raises
    ------
    Refused
        If the pattern cannot be looked for, or a cell is none of volumes.tsv.
    """
    for column in OWN:
        if column in block["row"]:
            raise Refused(
                f"{name}: {where}.row.{column}: expected none, as every arrival has its"
                " own; take it out"
            )
    pattern = block["pattern"]
    try:
        list(Path(os.devnull).glob(pattern))
    except (ValueError, NotImplementedError, re.error) as error:
        raise Refused(
            f"{name}: {where}.pattern: cannot look for {pattern!r}: {error}; correct it"
        ) from None
    row = {"volume": "x", "tasks": "x", "path": "x", **_cells(block)}
    return configs.filled(row, "volumes", name, f"{where}.row")


def take_up(rows: Sequence[Row], root: Path = Path()) -> None:
    """Write down what a run begins with; nothing is written where nothing is new."""
    known = _register(root)
    paths = known | {row["path"] for row in rows}
    if paths != known:
        provenance.write_json({"taken_up": sorted(paths)}, root / REGISTER)


def _register(root: Path) -> set[str]:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return set(map(str, provenance.read_json(root / REGISTER)["taken_up"]))
    return set()


def _candidates(
    blocks: Sequence[Mapping[str, Any]], root: Path, known: set[str]
) -> list[tuple[str, str, Mapping[str, Any]]]:
    """List paths, names and blocks; what was taken up comes first and keeps its id."""
    found = [
        (path, name, block)
        for block in blocks
        for path, name in sorted({*_matches(block, root), *_gone(block, root, known)})
    ]
    return sorted(found, key=lambda one: one[0] not in known)


def _matches(block: Mapping[str, Any], root: Path) -> Iterator[tuple[str, str]]:
    """Yield paths as a table would name them, and their names within the folder."""
    folder = tables.locate(block["folder"], root)
    for found in _glob(folder, block["pattern"]):
        name = found.relative_to(folder)
        if not any(part.startswith(".") for part in name.parts):
            yield f"{_head(block)}{name}", str(name)


def _glob(folder: Path, pattern: str) -> list[Path]:
    with contextlib.suppress(OSError):  # what vanishes under a look is not there
        return list(folder.glob(pattern)) if os.path.isdir(folder) else []
    return []


def _gone(
    block: Mapping[str, Any], root: Path, known: set[str]
) -> Iterator[tuple[str, str]]:
    """Yield what was taken up out of a folder and is no longer there."""
    head, pattern = _head(block), PurePath(block["pattern"]).parts
    for path in known:
        name = path.removeprefix(head)
        asked = name != path and _fits(PurePath(name).parts, pattern)
        if asked and not os.path.exists(tables.locate(path, root)):
            yield path, name


def _head(block: Mapping[str, Any]) -> str:
    return f"{block['folder'].rstrip('/')}/"


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Match a path as `glob` would, where there is no file any more."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return _fits(parts, pattern[1:]) or bool(parts and _fits(parts[1:], pattern))
    fits = bool(parts) and fnmatchcase(parts[0], pattern[0])
    return fits and _fits(parts[1:], pattern[1:])


def _is_kept(volume: str, root: Path) -> bool:
    """Tell whether a volume was converted, so that nobody needs its raw file again."""
    return all(os.path.exists(root / name.format(volume)) for name in KEPT)


def _absent(blocks: Sequence[Mapping[str, Any]], root: Path) -> Iterator[str]:
    for number, block in enumerate(blocks, start=1):
        folder = tables.locate(block["folder"], root)
        why = (
            "the environment variable is not set"
            if "$" in str(folder)
            else "no such folder"
        )
        if not os.path.isdir(folder):
            yield (
                f"{root / CONFIG}: arrivals.{number}: {block['folder']}: {why}; nothing new"
                " is taken up from it"
            )


def _row(path: str, name: str, block: Mapping[str, Any], ids: set[str]) -> Row:
    """Make the row of an arrival; its id is its name, without ending."""
    parts = Path(name).with_suffix("").parts
    volume = "_".join(parts).replace(".", "_")
    where = f"arrivals: {path!a}"
    if not ID.fullmatch(volume) or not path.isprintable() or "\t" in path:
        raise Refused(
            f"{where}: expected a name of letters, digits, - and _, found"
            f" {volume!a}; rename it, or give it a row in volumes.tsv"
        )
    if volume in ids:
        raise Refused(
            f"{where}: expected a name of its own, found another volume {volume!r}; rename"
            " it, or give it a row in volumes.tsv"
        )
    own = {"volume": volume, "tasks": ",".join(block["tasks"]), "path": path}
    full = configs.filled({**_cells(block), **own}, "volumes", where, "")
    return {column: full[column] for column in configs.read_schema("volumes")["properties"]}


def _cells(block: Mapping[str, Any]) -> Row:
    return {column: str(cell) for column, cell in block["row"].items()}


def _settled(row: Row, root: Path, settle_s: float, now: float | None) -> bool:
    """Tell whether a volume is complete: none of its files has changed for a while.

    The time of the last change of any kind counts, as the file system sets it: tools
    that copy can turn back the time of modification, not this one.
    """
    path = tables.locate(row["path"], root)
    try:
        states = [file.stat() for file in (path, *formats.files(path, row))]
    except OSError:
        return False
    moment = time.time() if now is None else now
    old = all(moment - state.st_ctime >= settle_s for state in states)
    return old and any(state.st_size for state in states[1:])


def _same(path: Path) -> str:
    return os.path.realpath(path)
