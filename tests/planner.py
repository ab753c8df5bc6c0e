"""Ask Snakemake what it would do, many times, and pay for its start once.

`Planner(checkout)` starts `python tests/planner.py CHECKOUT`, which imports Snakemake and
the checkout's package once and then answers one line of JSON with another. Each answer is
made by a fork, so nothing of one lives on in the next. Snakefile, rules, tables, code
fingerprints and Snakemake's own record are the real ones; scripts are stood in for: an
output is the hash of all that its job may read.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

JOB = re.compile(r"^ *(?:local)?(?:rule|checkpoint) (\w+):\n((?: +.*: .*\n)+)", re.M)
OUTPUT = re.compile(r"^ +output: (.*)$", re.MULTILINE)


@dataclass
class Said:
    """What Snakemake said to one command line."""

    code: int
    text: str

    @property
    def jobs(self) -> set[tuple[str, str]]:
        """Rule and first output of every job that is planned, or was begun."""
        found = set()
        for rule, block in JOB.findall(self.text):
            output = OUTPUT.search(block)
            if output:
                found.add((rule, output[1].split(", ")[0]))
        return found

    @property
    def count(self) -> Counter[str]:
        """Jobs by rule, those without output too."""
        rows = re.search(
            r"^job +count\n[- ]+\n(.*?)^total", self.text, re.MULTILINE | re.DOTALL
        )
        pairs = re.findall(r"^(\w+) +(\d+)$", rows[1], re.M) if rows else []
        return Counter({name: int(n) for name, n in pairs if name != "all"})


class Planner:
    """A Snakemake that waits for questions; close it."""

    def __init__(self, checkout: Path) -> None:
        self.checkout = checkout
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__)), str(checkout)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def say(self, study: Path, *words: str, fail: str = "", refuse: str = "") -> Said:
        """Run one command line; scripts named `fail` do, checks named `refuse` refuse."""
        asked = {"study": str(study), "words": words, "fail": fail, "refuse": refuse}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return Said(*json.loads(self.process.stdout.readline()))

    def plan(self, study: Path, *words: str) -> Said:
        """Make a dry run; it must succeed."""
        said = self.say(study, "-n", *words)
        assert said.code == 0, said.text
        assert said.count or "Nothing to be done" in said.text, said.text
        return said

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


# -- the process that answers --------------------------------------------------------


def serve(checkout: Path) -> None:
    """Answer until nobody asks."""
    sys.path.insert(0, str(checkout))
    os.chdir(checkout)
    import smart_open  # noqa: F401 - Snakemake needs it when it reads a Snakefile
    from snakemake import cli, storage  # noqa: F401

    from tomoglean import formats, plan  # noqa: F401 - what costs time, once

    formats.readers()
    cli.get_argument_parser()
    for line in sys.stdin:
        asked = json.loads(line)
        common = ["-s", str(checkout / "Snakefile"), "--directory", asked.pop("study")]
        words = [*common, "--cores", "2", *asked.pop("words")]
        sys.stdout.write(json.dumps(answer(words, **asked)) + "\n")
        sys.stdout.flush()


def answer(words: list[str], **trouble: str) -> tuple[int, str]:
    """Run one command line in a fork; return its exit code and all it said."""
    with tempfile.TemporaryFile("w+") as said:
        child = os.fork()
        if child == 0:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            run(words, **trouble)
        _, status = os.waitpid(child, 0)
        said.seek(0)
        return os.waitstatus_to_exitcode(status), said.read()


def run(words: list[str], fail: str, refuse: str) -> None:
    """Be Snakemake with these words, and end the process."""
    from snakemake import cli, workflow

    import tomoglean

    report = SimpleNamespace(build=lambda *ignored, **too: "not made here")
    tomoglean.report = sys.modules["tomoglean.report"] = report  # spares matplotlib
    from tomoglean import stage

    def script(path, basedir, input, output, params, wildcards, *others):
        names = [str(name) for name in output]
        broken = Path(path).stem == "convert" and "refused" in Path(input[0]).read_text()
        if broken or (fail and Path(path).stem == fail):
            raise OSError("failed by accident")
        verdict = "refused" if refuse and f"checked/{refuse}." in names[0] else "ok"
        told = json.loads(json.dumps(dict(params.items()), default=str))
        stand_in(Path(path).stem, told, map(str, input), names, verdict)
        note(Path(path).stem, input, output, params)

    def note(rule, input, output, params):
        job = SimpleNamespace(rule=rule, input=input, output=output, params=params.items())
        for artefact, record in stage._records(job).items():
            place = stage.RECORDS / f"{artefact}.json"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(json.dumps(record))

    workflow.script = script
    stage._versions = dict
    code = 1
    try:
        cli.main(words)
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def stand_in(stem, params, inputs, outputs, verdict):
    """Write every output of a job as a pure function of what the job may read."""
    read = {name: digest(Path(name)) for name in inputs}
    for name in outputs:
        told = json.dumps([name, stem, params, read], sort_keys=True).encode()
        text = {
            "verdict": verdict,
            "messages": [],
            "made": hashlib.sha256(told).hexdigest(),
        }
        file = Path(name)
        if file.suffix == ".zarr":
            file.mkdir(parents=True)
            file = file / "zarr.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(text))


def digest(path: Path) -> str:
    """Hash a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
