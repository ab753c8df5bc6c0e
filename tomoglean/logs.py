"""Logs of jobs: keep what the attempts before wrote, and tell how the last one went.

Snakemake removes the log of a job before it tries the job again. Here each attempt gives
its log a second name, by which the next attempt finds it and puts it first.
"""

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

FORM = "%(asctime)s %(levelname)s %(name)s: %(message)s"
KEPT = 1 << 17
MOST = 1 << 22
TAIL = 1 << 12
AGAIN = "-- tried again; the attempts before stand above --"
WELL = "INFO tomoglean.stage: OK seconds="
HEAD = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d{3} ([A-Z]+) ([\w.]+): (.*)")


@dataclass(frozen=True)
class Attempt:
    """One attempt at a job, as its log tells it.

    Attributes
    ----------
    began
        When, in local time of its machine; empty if the log does not say.
    line
        What went wrong, or else the last line; without time and module, and without
        letters that cannot be printed.
    well, failed
        Whether it has ended well, or with an error. One that is at work is neither, nor
        is one that was killed.
    """

    began: str
    line: str
    well: bool
    failed: bool


def begin(path: str | os.PathLike[str]) -> None:
    """Start the log of a job, below what earlier attempts at it have left."""
    path, kept = Path(path), _kept(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    before = _end_of(kept, KEPT)
    path.write_text(f"{before.rstrip()}\n{AGAIN}\n" if before else "", encoding="utf-8")
    with contextlib.suppress(OSError):  # some file systems give no second names
        kept.unlink(missing_ok=True)
        os.link(path, kept)


def end_well(path: str | os.PathLike[str]) -> None:
    """Forget the attempts of a job that has ended well; its log still shows them."""
    with contextlib.suppress(OSError):
        _kept(path).unlink(missing_ok=True)


def last_attempt(path: str | os.PathLike[str]) -> Attempt | None:
    """Tell the last attempt at a job; None if there is no log."""
    path = Path(path)
    lines = _lines(_end_of(path, TAIL))
    if lines and WELL not in lines[-1]:
        lines = _lines(_end_of(path, MOST).rpartition(f"{AGAIN}\n")[2])
    if not lines:
        return Attempt("", "", well=False, failed=False) if path.exists() else None
    heads = [found for line in lines if (found := HEAD.match(line))]
    errors = [h[4] for h in heads if h[2] == "ERROR" and h[3] == "tomoglean.stage"]
    last = HEAD.match(lines[-1])
    return Attempt(
        began=heads[0][1] if heads else "",
        line=plain(errors[-1] if errors else last[4] if last else lines[-1]),
        well=WELL in lines[-1],
        failed=bool(errors),
    )


def plain(text: str) -> str:
    """Write what cannot be printed (line ends, terminal codes) as blanks."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _kept(path: str | os.PathLike[str]) -> Path:
    """Name a log a second time, in its own folder: not all links reach farther."""
    path = Path(path)
    return path.with_name(f".{path.name}.before")


def _end_of(path: Path, size: int) -> str:
    """Read the last bytes of a file, from the beginning of a line; empty if it is gone."""
    try:
        with path.open("rb") as file:
            whole = file.seek(0, os.SEEK_END)
            file.seek(max(whole - size, 0))
            found = file.read(size)
    except OSError:
        return ""
    cut = found.partition(b"\n")[2] if whole > size else found
    return cut.decode(errors="replace")


def _lines(text: str) -> list[str]:
    return [line for line in text.split("\n") if line.strip()]
