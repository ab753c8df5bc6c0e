"""Run `python -m tomoglean check` and watch the memory of its whole process tree."""

import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROC = Path("/proc")
GLANCE_SECONDS = 0.02


@dataclass
class Done:
    """How a check went: exit code, what it wrote, peak resident bytes of all processes."""

    code: int
    told: str
    errors: str
    peak: int


def check(path, *more, timeout=600):
    """Check one file in a process of its own."""
    command = [sys.executable, "-m", "tomoglean", "check", str(path), *more]
    limits = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command,
        cwd=Path(path).parent,
        env={**os.environ, **limits},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    peaks, ended = {}, threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, peaks, ended))
    watcher.start()
    try:
        told, errors = process.communicate(timeout=timeout)
    finally:
        process.kill()
        ended.set()
        watcher.join()
    return Done(process.returncode, told, errors, sum(peaks.values()))


def _watch(root, peaks, ended):
    """Keep the peak (VmHWM) of a process and its children, while they live."""
    while not ended.wait(GLANCE_SECONDS):
        for pid in [root, *_children(root)]:
            peaks[pid] = max(peaks.get(pid, 0), _peak(pid))


def _children(pid):
    try:
        found = (PROC / f"{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [one for child in map(int, found) for one in (child, *_children(child))]


def _peak(pid):
    try:
        lines = (PROC / f"{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    told = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    return int(told[0]) << 10 if told else 0
