"""Take up volumes that arrive in folders named in the config, without editing the table.

A file (or folder of slices) is taken up once it has not changed for some seconds, and
stays. What has been taken up is written to `.tomoglean/arrivals.json` of the study when
a run begins: every job of the run sees the same volumes, whatever arrives meanwhile.
"""

import contextlib
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tomoglean import config as configs
from tomoglean import formats, provenance, tables
from tomoglean.provenance import Refused

REGISTER = Path(".tomoglean/arrivals.json")
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
    """

    rows: tuple[Row, ...] = ()
    refused: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()


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
        Whether to look into the folders; otherwise only what was taken up before counts.
    now
        Time in s since 1970, that of the clock if not given.

    Returns
    -------
    Arrivals
        What can be used, what cannot, and what is not complete yet.
    """
    known = _register(root) if blocks else set()
    rows: dict[str, Row] = {}
    refused, waiting = [], []
    own = {_same(tables.locate(row["path"], root)) for row in table}
    ids = {row["volume"] for row in table}
    for path, name, block in _candidates(blocks, root, known):
        if _same(tables.locate(path, root)) in own:
            continue
        if path not in known and not look:
            continue
        try:
            row = _row(path, name, block, ids)
        except Refused as refusal:
            refused.append(str(refusal))
            continue
        if path in known or _settled(row, root, block["settle_s"], now):
            ids.add(row["volume"])
            own.add(_same(tables.locate(path, root)))
            rows[row["volume"]] = row
        else:
            waiting.append(path)
    ordered = tuple(rows[volume] for volume in sorted(rows))
    return Arrivals(ordered, tuple(refused), tuple(waiting))


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
        for path, name in sorted(_matches(block, root))
    ]
    return sorted(found, key=lambda one: one[0] not in known)


def _matches(block: Mapping[str, Any], root: Path) -> Iterator[tuple[str, str]]:
    """Yield paths as a table would name them, and their names within the folder."""
    folder = tables.locate(block["folder"], root)
    where = f"{root / 'config' / 'config.yaml'}: arrivals: {block['folder']}"
    if "$" in str(folder):
        raise Refused(
            f"{where}: the environment variable is not set; export it to where data arrive"
        )
    if not folder.is_dir():
        raise Refused(
            f"{where}: no such folder; make it, or take the block out of the config"
        )
    for found in _glob(folder, block["pattern"], where):
        name = found.relative_to(folder)
        if not any(part.startswith(".") for part in name.parts):
            yield f"{block['folder'].rstrip('/')}/{name}", str(name)


def _glob(folder: Path, pattern: str, where: str) -> list[Path]:
    try:
        return sorted(folder.glob(pattern))
    except (ValueError, NotImplementedError) as error:
        raise Refused(f"{where}: pattern {pattern!r}: {error}; correct it") from None


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
    columns = {column: str(cell) for column, cell in block["row"].items()}
    row = {"volume": volume, "tasks": ",".join(block["tasks"]), "path": path, **columns}
    full = configs.filled(row, "volumes", where, "")
    return {column: full[column] for column in configs.read_schema("volumes")["properties"]}


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
