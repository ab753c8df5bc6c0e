"""Seven days, ten killings: a training through ten faults ends in the same bits."""

import os
import random
import signal
import subprocess
import time
from hashlib import sha256
from pathlib import Path

import breakable
import pytest
from faults import ROOT, Head, ask, until
from faults import slurm as slurm

from tests.slurm import cluster
from tomoglean import processes

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("slurm")]
SEED = int(os.environ.get("TOMOGLEAN_KILLINGS", "2019"))
KILLINGS = 10
LONG = {"epochs": 60, "steps_per_epoch": 20, "epochs_per_job": 20}
RESULTS = [breakable.WEIGHTS, breakable.WEIGHTS.replace("final", "final.last")]


class Killed:
    """A training on SLURM, and what befalls it."""

    def __init__(self, study: Path) -> None:
        self.study = study
        self.start()

    def start(self) -> None:
        """Give the one command of the user."""
        words = ("--retries", str(KILLINGS), "--", breakable.WEIGHTS)
        self.head = Head(self.study, *words, snakefile=ROOT / "Snakefile")

    def job(self) -> str:
        """Return the number of the SLURM job that trains, if one runs."""
        lines = ask("squeue", "-h", "-t", "R", "-o", "%A %Z").splitlines()
        return next((line.split()[0] for line in lines if str(self.study) in line), "")

    def node(self) -> str:
        """Return where it runs."""
        return ask("squeue", "-h", "-j", self.job(), "-o", "%N").strip()

    def await_progress(self) -> None:
        """Wait until the running attempt has saved something of its own."""
        until(lambda: self.head.process.poll() is not None or self.job())
        since = time.time()
        try:
            until(lambda: self.head.process.poll() is not None or self.saved() > since, 300)
        except AssertionError:
            pytest.fail(f"no progress in 300 s\n{self.told()}")

    def told(self) -> str:
        """Return what the queue, the head and the jobs say last."""
        logs = sorted((self.study / "logs").rglob("*.log"))
        ends = [f"{path}:\n{path.read_text()[-1500:]}" for path in logs]
        return "\n".join([ask("squeue"), ask("sinfo"), self.head.said()[-3000:], *ends])

    def saved(self) -> float:
        """Return when the training was saved last."""
        kept = (self.study / "results" / "trained" / "bone").glob("final*.running-*")
        return max(map(_changed, kept), default=0)

    # -- the faults --

    def scancel(self) -> None:
        """Cancel the job, as a user does."""
        ask("scancel", self.job())

    def kill_process(self) -> None:
        """Kill the training itself, as a machine without memory does."""
        for process in processes.scripts_in(self.study):
            os.kill(process, signal.SIGKILL)

    def wall_time(self) -> None:
        """Let the job meet its wall time now."""
        ask("scontrol", "update", f"JobId={self.job()}", "TimeLimit=1")

    def kill_node(self) -> None:
        """Take the node away, and bring it back when it has been noticed."""
        job, node = self.job(), self.node()
        cluster.down(node)
        until(lambda: ask("squeue", "-h", "-j", job, "-t", "R", "-o", "%A") == "")
        cluster.up(node)

    def kill_head(self) -> None:
        """Kill the head while its job runs; then the same command again."""
        self.head.kill()
        self.start()


def _changed(path: Path) -> float:
    """When a file was changed; never, if it was replaced meanwhile."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0


FAULTS = ("scancel", "kill_process", "wall_time", "kill_node", "kill_head")


def digests(study: Path) -> list[str]:
    """Hash the weights of a study, the best and the last."""
    return [sha256((study / name).read_bytes()).hexdigest() for name in RESULTS]


def test_a_training_killed_ten_times_ends_in_the_same_bits(tmp_path):
    chance = random.Random(SEED)
    calm = breakable.prepare(tmp_path / "calm", **LONG)
    study = breakable.copy(calm, tmp_path / "killed")
    breakable.here(calm, "--", breakable.WEIGHTS)

    drawn = [*FAULTS, *chance.choices(FAULTS, k=KILLINGS - len(FAULTS))]
    chance.shuffle(drawn)
    killed, jobs = Killed(study), []
    for fault in drawn:
        killed.await_progress()
        time.sleep(chance.uniform(0, 2))
        assert killed.head.process.poll() is None, f"over before {fault}, after {jobs}"
        jobs.append((fault, killed.job()))
        getattr(killed, fault)()
        until(lambda: jobs[-1][1] not in ask("squeue", "-h", "-o", "%A").split())
    assert killed.head.wait(600) == 0, killed.head.said()[-3000:]

    assert len({job for _, job in jobs}) == KILLINGS
    assert digests(study) == digests(calm)
    assert str(study) not in ask("squeue", "-h", "-o", "%Z")
    assert processes.scripts_in(study) == []


def test_the_harness_sees_a_node_die(tmp_path):
    """Guard of the test above: a node that is taken away takes its processes along."""
    words = ["sbatch", "--parsable", "-o", str(tmp_path / "log"), "-D", str(tmp_path)]
    job = ask(*words, "-p", "maxcpu", "--wrap", "sleep 600").strip()
    until(lambda: ask("squeue", "-h", "-j", job, "-t", "R", "-o", "%N"))
    node = ask("squeue", "-h", "-j", job, "-o", "%N").strip()
    sleeping = ["pgrep", "-f", "^sleep 600$"]
    until(lambda: subprocess.run(sleeping, capture_output=True).returncode == 0)
    cluster.down(node)
    try:
        assert subprocess.run(sleeping, capture_output=True).returncode == 1
    finally:
        cluster.up(node)
        ask("scancel", job)
