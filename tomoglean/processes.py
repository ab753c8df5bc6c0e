"""Look at processes of this machine: alive, begun when, below whom, working where."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

PROC = Path("/proc")
SCRIPTS = ".snakemake/scripts/"


def born(process: int) -> str:
    """Tell when a process started, in clock ticks; empty if it is gone or a zombie."""
    fields = _stat(process)
    return fields[19] if fields and fields[0] not in "ZX" else ""


def below(process: int) -> list[int]:
    """List the descendants of a process."""
    parents = {one: fields[1] for one in _all() if (fields := _stat(one))}
    found = [process]
    for one in found:
        found += [child for child, parent in parents.items() if parent == str(one)]
    return found[1:]


def scripts_in(folder: Path) -> list[int]:
    """List the processes that run a script of Snakemake in a folder."""
    return [one for one in _all() if born(one) and _runs_a_script(one, folder)]


def _runs_a_script(process: int, folder: Path) -> bool:
    try:
        words = (PROC / str(process) / "cmdline").read_bytes().decode(errors="replace")
        return SCRIPTS in words and (PROC / str(process) / "cwd").samefile(folder)
    except OSError:
        return False


def opened_in(folder: Path) -> set[str]:
    """List the files that scripts of Snakemake in a folder have open, their logs too."""
    found = set()
    for one in scripts_in(folder):
        with contextlib.suppress(OSError):
            for handle in (PROC / str(one) / "fd").iterdir():
                with contextlib.suppress(OSError):
                    found.add(os.readlink(handle))
    return found


def end(processes: Sequence[int], *, patience_s: float) -> list[int]:
    """Ask processes to end and wait; return those that are still there."""
    known = {process: born(process) for process in processes}
    for process in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process, signal.SIGTERM)
    deadline = time.monotonic() + patience_s
    while True:
        left = [
            process for process, tick in known.items() if tick and born(process) == tick
        ]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)


def _all() -> Iterator[int]:
    return (int(path.name) for path in PROC.iterdir() if path.name.isdigit())


def _stat(process: int) -> list[str]:
    """Read state, parent, ... ; the name before them may hold blanks and brackets."""
    try:
        text = (PROC / str(process) / "stat").read_text(errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()
