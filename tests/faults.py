"""A small study on the real SLURM whose jobs obey: they wait, fail, save and go on.

Its rules file uses the profile `profiles/slurm` and the guard of the real Snakefile; its
one script (`tests/slurm/work.py`) counts to ten, saves what it counted beside its output
when it is told to end, goes on from there, and notes whatever happens in `history/`.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.slurm import cluster
from workflow import ROOT

QUICK = (
    *("--slurm-init-seconds-before-status-checks", "2"),
    *("--seconds-between-status-checks", "2"),
    *("--latency-wait", "10"),
    *("--set-resources", "train:device=cpu", "train_part:device=cpu"),
)
RULES = """
from tomoglean.stage import hold, release, tidy
tidy(workflow)
rule all:
    input: {wanted}
rule train:
    output: "results/trained/{{name}}.txt"
    log: "logs/train/{{name}}.log"
    resources: mem_mb=lambda wildcards, attempt: 300 * attempt, runtime={minutes}
    script: "work.py"
onstart: hold(workflow)
onsuccess: release()
onerror: release()
"""


@pytest.fixture(scope="session")
def slurm() -> Iterator[None]:
    """Start a SLURM on this machine, unless it runs; tests without one are skipped."""
    if not cluster.installed():
        pytest.skip("no SLURM: run tests/slurm/install.sh as root")
    with cluster.alone():
        cluster.start()
        yield
        for node in cluster.NODES:
            cluster.up(node)


class Study:
    """A study of jobs by name; each does what its order says.

    Parameters
    ----------
    folder
        A new folder.
    minutes
        Wall time of a job.
    orders
        By name: `fail N` (the first N attempts exit 1), `wait` (stop at five until told
        `go`), `deaf` (also never listen to SIGTERM, in the first attempt).
    """

    def __init__(self, folder: Path, *, minutes: int = 10, **orders: str) -> None:
        self.folder = folder
        for part in ("orders", "history", "profiles", "config"):
            (folder / part).mkdir(parents=True)
        (folder / "config" / "config.yaml").touch()
        for name, order in orders.items():
            (folder / "orders" / name).write_text(order)
        wanted = [f"results/trained/{name}.txt" for name in orders]
        (folder / "Snakefile").write_text(RULES.format(wanted=wanted, minutes=minutes))
        shutil.copy(ROOT / "tests" / "slurm" / "work.py", folder / "work.py")
        (folder / "profiles" / "default").symlink_to(ROOT / "profiles" / "default")

    def start(self, *words: str) -> "Head":
        """Start the one command of the user, with quick looks at the queue."""
        return Head(self.folder, *words)

    def run(self, *words: str, patience_s: float = 300) -> "Head":
        """Start it and wait for its end."""
        head = self.start(*words)
        head.wait(patience_s)
        return head

    def history(self, name: str) -> list[str]:
        """Return what the jobs of a name noted, line by line."""
        path = self.folder / "history" / name
        return path.read_text().splitlines() if path.exists() else []

    def began(self, name: str) -> list[str]:
        """Return the SLURM job, node and count at which each attempt began."""
        return [line for line in self.history(name) if line.startswith("began")]

    def await_(self, name: str, word: str, times: int = 1) -> str:
        """Wait until a job has noted a word, and return its last such line."""
        until(lambda: sum(word in line for line in self.history(name)) >= times)
        return [line for line in self.history(name) if word in line][-1]

    def go(self, name: str) -> None:
        """Let waiting jobs of a name go on."""
        (self.folder / "orders" / name).write_text("go")

    def result(self, name: str) -> str:
        """Return what a job made."""
        return (self.folder / "results" / "trained" / f"{name}.txt").read_text()

    def jobs(self) -> list[str]:
        """List the SLURM jobs that wait or run in this study."""
        lines = ask("squeue", "-h", "-o", "%A %Z").splitlines()
        return [line.split()[0] for line in lines if line.endswith(f" {self.folder}")]


def _hear_ctrl_c() -> None:
    """Undo what a shell does to its background jobs, and so to their children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Head:
    """A run of Snakemake in a study."""

    def __init__(self, folder: Path, *words: str, snakefile: Path | None = None) -> None:
        self.log = folder / f"run-{len(list(folder.glob('run-*.log')))}.log"
        command = [sys.executable, "-m", "snakemake", "--directory", str(folder)]
        command += ["-s", str(snakefile or folder / "Snakefile")]
        command += ["--profile", str(ROOT / "profiles" / "slurm"), *QUICK, *words]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env={**environment(), "PYTHONPATH": str(ROOT)},
                start_new_session=True,
                preexec_fn=_hear_ctrl_c,
            )

    def wait(self, patience_s: float = 300) -> int:
        """Wait for its end; a run that hangs is killed, and that is a failure."""
        try:
            return self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the run hangs:\n{self.said()[-3000:]}") from None

    def kill(self) -> None:
        """Kill the head as a machine that loses power would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def said(self) -> str:
        """Return all that it wrote."""
        return self.log.read_text(errors="replace")


def environment() -> dict[str, str]:
    """Return what a process needs to use the SLURM of the tests."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}
    return {**clean, **cluster.environment()}


def ask(*words: str) -> str:
    """Run a command of SLURM and return what it says."""
    done = subprocess.run(words, env=environment(), capture_output=True, text=True)
    return done.stdout


def until(what: Callable[[], object], patience_s: float = 400) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + patience_s
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.3)
