"""Whether the installed packages are those of a lock."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from tomoglean import provenance
from tomoglean.report.sources import PACKAGE

FOLDER = PACKAGE / "envs"
PINNED = re.compile(r"^(?=\S)[^#\\\n]+", re.MULTILINE)
SHOWN = 8


@dataclass(frozen=True)
class Lock:
    """A lock, and how what is installed differs from it.

    Attributes
    ----------
    name
        Of its file, such as cpu.lock.txt.
    sha256
        Of its file.
    packages
        How many packages it asks for on this machine.
    other
        Locked and installed version of each package that is installed in another one.
    missing
        Locked packages that are not installed.
    """

    name: str
    sha256: str
    packages: int
    other: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    @property
    def is_met(self) -> bool:
        """Whether everything it asks for is installed, in these versions."""
        return not self.other and not self.missing

    def __str__(self) -> str:
        """Say it in a line."""
        if self.is_met:
            return f"installed as locked: all {self.packages} packages of {self.name}"
        told = [
            f"{name} {now} instead of {then}" for name, (then, now) in self.other.items()
        ]
        told += [f"no {name}" for name in self.missing]
        more = f" and {len(told) - SHOWN} more" if len(told) > SHOWN else ""
        return (
            f"not as locked: {len(told)} of {self.packages} packages of {self.name} "
            f"differ: {', '.join(told[:SHOWN])}{more}"
        )


def compared(folder: Path = FOLDER) -> list[Lock]:
    """Compare what is installed with each lock of an environment.

    Parameters
    ----------
    folder
        Where the locks (*.lock.txt) lie.

    Returns
    -------
    list of Lock
        The one that fits best first. Locks of tools that set the environment up are
        left out.
    """
    files = [file for file in folder.glob("*.lock.txt") if not file.name.startswith("uv.")]
    found = [_compared(file) for file in sorted(files)]
    return sorted(found, key=lambda lock: len(lock.other) + len(lock.missing))


def _compared(file: Path) -> Lock:
    locked, now = asked(file.read_text(encoding="utf-8")), _installed()
    other = {
        name: (version, now[name])
        for name, version in locked.items()
        if now.get(name, version) != version
    }
    missing = tuple(name for name in locked if name not in now)
    sha256 = provenance.sha256_of_file(file)
    return Lock(file.name, sha256, len(locked), other, missing)


def asked(text: str) -> dict[str, str]:
    r"""Read a lock: version by package, of what it asks for on this machine.

    Examples
    --------
    >>> asked("numpy==2.4.6 \\\n    --hash=sha256:00\nfew==1 ; python_version < '3'\n")
    {'numpy': '2.4.6'}
    """
    found: dict[str, str] = {}
    for line in PINNED.findall(text):
        try:
            wanted = Requirement(line.strip())
        except InvalidRequirement:
            continue
        if not wanted.marker or wanted.marker.evaluate():
            version = str(wanted.specifier).removeprefix("==")
            found[_plain(wanted.name)] = version
    return found


@cache
def _installed() -> dict[str, str]:
    """Version by package of this Python."""
    names = [(dist.metadata["Name"], dist.version) for dist in metadata.distributions()]
    return {_plain(name): version for name, version in reversed(names) if name}


def _plain(name: str) -> str:
    """Write a package's name as all of its spellings are written (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
