"""A Snakemake that has already been started: each command line is a fork of it.

`python tests/ready.py` imports Snakemake once and then answers one line of JSON with
another. Nothing of one command lives on in the next, and nothing of our package is
imported beforehand, so that each fork runs the code of its own checkout.
"""

import atexit
import json
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from functools import cache
from pathlib import Path


@cache
def _started() -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(process.wait)
    atexit.register(process.stdin.close)
    return process


def run(
    words: list[str], *, folder: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Do what `python -m snakemake WORDS` does in a folder."""
    process = _started()
    asked = {"words": words, "folder": str(folder), "environment": environment}
    process.stdin.write(json.dumps(asked) + "\n")
    process.stdin.flush()
    return subprocess.CompletedProcess(words, *json.loads(process.stdout.readline()))


# -- the process that answers --------------------------------------------------------


def serve() -> None:
    """Answer until nobody asks."""
    import smart_open  # noqa: F401 - Snakemake needs it when it reads a Snakefile
    from snakemake import cli, storage  # noqa: F401

    cli.get_argument_parser()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(**json.loads(line))) + "\n")
        sys.stdout.flush()


def answer(words: list[str], **where) -> tuple[int, str, str]:
    """Run one command line in a fork; return its exit code, and what it said and where."""
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as complained:
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(said.fileno(), 1)
            os.dup2(complained.fileno(), 2)
            be_snakemake(words, **where)
        _, status = os.waitpid(child, 0)
        said.seek(0)
        complained.seek(0)
        return os.waitstatus_to_exitcode(status), said.read(), complained.read()


def be_snakemake(words: list[str], folder: str, environment: dict[str, str]) -> None:
    """Run it as if it had just been started, and end the process."""
    from snakemake import cli

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    paths = [folder, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.path[:1] = paths  # was the folder of this file
    for path in paths:
        if (Path(path) / "sitecustomize.py").exists():
            runpy.run_path(str(Path(path) / "sitecustomize.py"))
    sys.argv = ["snakemake", *words]
    code = 1
    try:
        cli.main(words)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
        sys.stderr.write(f"{end.code}\n" if isinstance(end.code, str) else "")
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
