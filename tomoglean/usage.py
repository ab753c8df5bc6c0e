"""What a job took, and what it ran on: time, memory, machine and checkout.

Machines are told by what they are, never by their names. Standard library only.
"""

import contextlib
import os
import re
import resource
import shutil
import subprocess
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[1]
STATUS = Path("/proc/self/status")
PROCESSORS = Path("/proc/cpuinfo")
MEMORY = Path("/proc/meminfo")
NVIDIA = Path("/proc/driver/nvidia/gpus")
PATIENCE_S = 20


def told(before_s: float = 0.0) -> dict[str, Any]:
    """Return what a job's record tells of its cost and of where it ran.

    Parameters
    ----------
    before_s
        Processor time in s that was spent before the job began.

    Returns
    -------
    dict
        `memory_mb`, `cpu_seconds` and `machine`; see the functions below.
    """
    return {
        "memory_mb": peak_memory_mb(),
        "cpu_seconds": round(cpu_seconds() - before_s, 2),
        "machine": machine(),
    }


def peak_memory_mb() -> float:
    """Peak of resident memory of this process or its largest child, in 10^6 bytes.

    Linux counts a parent's memory as that of a program it starts, but for `VmHWM`: so
    the kernel's own word is taken for this process. Children are those that have ended.
    """
    own = _kilobytes(STATUS, "VmHWM") or _kilobytes_of(resource.RUSAGE_SELF)
    return round(max(own, _kilobytes_of(resource.RUSAGE_CHILDREN)) * 1024 / 1e6, 1)


def _kilobytes_of(who: int) -> int:
    return resource.getrusage(who).ru_maxrss


def cpu_seconds() -> float:
    """Time on processors of this process and its children, in s."""
    every = [
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    return round(sum(one.ru_utime + one.ru_stime for one in every), 2)


def machine() -> dict[str, Any]:
    """Tell what kind of machine this is.

    Returns
    -------
    dict
        `processor`, `cores` that this process may use, `memory_gb` of the machine in
        10^9 bytes (0 where the system does not tell it), and `gpus`, the kinds of them.
    """
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(_kilobytes(MEMORY, "MemTotal") * 1024 / 1e9, 1),
        "gpus": gpus(),
    }


def processor() -> str:
    """Model of the processor, as the system names it."""
    found = re.search(
        r"^(?:model name|Model|cpu model)\s*:\s*(.+)$", _text(PROCESSORS), re.M
    )
    return " ".join(found[1].split()) if found else os.uname().machine


def gpus() -> list[str]:
    """Models of the GPUs that the driver of NVIDIA knows."""
    texts = [_text(file) for file in sorted(NVIDIA.glob("*/information"))]
    found = [re.search(r"^Model:\s*(.+)$", text, re.M) for text in texts]
    return [model[1].strip() for model in found if model]


def checkout() -> tuple[str, str]:
    """Commit of the checkout, and whether its files differ from it.

    Returns
    -------
    tuple of str
        The commit (`unknown` without git), and `clean`, `with local changes` or
        `no git checkout`.
    """
    git = shutil.which("git")
    if git is None or not (CHECKOUT / ".git").exists():
        return "unknown", "no git checkout"
    commit = _git(git, "rev-parse", "HEAD")
    changes = _git(git, "status", "--porcelain", "--untracked-files=no")
    if commit is None or changes is None:
        return commit or "unknown", "not to be told: git failed"
    return commit, "with local changes" if changes else "clean"


def _git(git: str, *words: str) -> str | None:
    """Ask git, which is not to write anything; None if it fails."""
    command = [git, "--no-optional-locks", "-C", str(CHECKOUT), *words]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(  # noqa: S603 - fixed words, found executable
            command, capture_output=True, text=True, check=True, timeout=PATIENCE_S
        )
        return done.stdout.strip()
    return None


def _kilobytes(file: Path, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", _text(file), re.M)
    return int(found[1]) if found else 0


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
