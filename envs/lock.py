"""Write the locks and conda files from the short .in files: `make lock`.

Needs uv; run it after changing a .in file and commit what it writes.
"""

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAMES = {"cpu": "tomoglean", "gpu": "tomoglean-gpu"}
PIN = re.compile(r"^([A-Za-z0-9_.-]+(?:\[[^\]]+\])?==[^\\\n]+?)\s*\\?$", re.MULTILINE)


def pins(lock: str) -> list[str]:
    """Pinned requirements of a lock file, without their hashes."""
    return [pin.strip() for pin in PIN.findall(lock)]


def conda(name: str, lock: str) -> str:
    """Text of a conda environment that installs the same pins."""
    lines = [
        f"# Made by envs/lock.py; the same pins as {name}.lock.txt.",
        "channels: [conda-forge]",
        "dependencies:",
        "  - python=3.11",
        "  - pip",
        "  - pip:",
        *(f'      - "{pin}"' for pin in pins(lock)),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Compile both locks and write both conda files."""
    for kind, name in NAMES.items():
        lock = HERE / f"{kind}.lock.txt"
        options = ["--universal", "--generate-hashes", "--python-version", "3.11"]
        quiet = ["--quiet", "--no-header", "--no-annotate"]
        command = ["uv", "pip", "compile", *options, *quiet, f"{kind}.in", "-o", lock.name]
        subprocess.run(command, cwd=HERE, check=True)  # noqa: S603 - fixed words only
        (HERE / f"{name}.yaml").write_text(conda(kind, lock.read_text()))


if __name__ == "__main__":
    sys.exit(main())
