"""Time and peak memory of `check` on every hostile file of the tests.

    python benchmarks/hostile.py [CASE...]

Peak is the sum over the process tree, of VmHWM as the kernel keeps it; so at most a
little too high. The limits we promise: 512 MiB, 10 s, exit code 3, one line.
"""

import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import hostile  # noqa: E402 (lies in tests)
import watched  # noqa: E402


def main() -> None:
    """Print a line per case."""
    for name in sys.argv[1:] or hostile.CASES:
        with tempfile.TemporaryDirectory() as folder:
            inside = Path(folder) / "in"
            inside.mkdir()
            made = hostile.CASES[name](inside)
            path, *more = made if isinstance(made, tuple) else (made,)
            start = time.perf_counter()
            done = watched.check(path, *more)
            seconds = time.perf_counter() - start
            good = done.code == 3 and done.peak <= 512 << 20 and seconds <= 10
            sys.stdout.write(
                f"{'good' if good else 'BAD '} {name:30s} code {done.code}"
                f" {seconds:6.1f} s {done.peak >> 20:5d} MiB  {done.told[:150]}\n"
            )
            sys.stdout.flush()


main()
