"""What ends a real job on the real SLURM at once, in one line, and stops nobody else."""

import shutil
import subprocess
from contextlib import contextmanager

import breakable
import pytest
from faults import ROOT, Head, ask
from faults import slurm as slurm

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("slurm")]
LOG = "logs/train/bone/final.log"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Return a real study whose next job is its training."""
    return breakable.prepare(tmp_path_factory.mktemp("prepared") / "study")


@pytest.fixture
def study(prepared, tmp_path):
    """Return a copy of it."""
    return breakable.copy(prepared, tmp_path / "study")


def run(study, *words):
    head = Head(study, *words, snakefile=ROOT / "Snakefile")
    head.wait()
    return head


@contextmanager
def small_disk(folder, size):
    """Put a small file system where the training writes."""
    folder.mkdir(parents=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True
    )
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_gpu_asked_where_none_is_ends_the_job_with_a_line(study, monkeypatch):
    """The backend is one that might see a GPU; else nothing would be submitted."""
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    gpu = ("--set-resources", "train:device=gpu", "--retries", "0")
    head = run(study, *gpu, "--", breakable.WEIGHTS)
    assert head.process.returncode == 1
    log = (study / LOG).read_text()
    assert "expected a GPU" in log, head.said()[-3000:]
    assert "Traceback" not in log
    assert str(study) not in ask("squeue", "-h", "-o", "%Z")


def test_a_full_disk_ends_the_job_with_a_line_and_the_same_command_goes_on(study):
    folder = study / "results" / "trained"
    with small_disk(folder, "48k"):
        head = run(study, "--retries", "0", "--", breakable.WEIGHTS)
        assert head.process.returncode == 1
        log = (study / LOG).read_text()
        assert "No space left on device; free space, then the same command" in log
        assert "Traceback" not in log
        subprocess.run(["mount", "-o", "remount,size=64m", folder], check=True)
        again = run(study, "--", breakable.WEIGHTS)
        assert again.process.returncode == 0, again.said()[-3000:]


def test_a_refused_volume_stops_nobody_and_stands_in_the_report(study):
    broken = study / "raw" / "b.tif"
    broken.write_bytes(broken.read_bytes()[:50_000])
    for name in ("results/converted", "results/checked", ".tomoglean", ".snakemake"):
        shutil.rmtree(study / name)
    wanted = ["results/converted/a.h5", "results/converted/b.h5"]
    head = run(study, "--retries", "0", "--", *wanted)
    assert head.process.returncode == 1
    assert (study / wanted[0]).is_file(), head.said()[-5000:]
    assert not (study / wanted[1]).exists()
    assert "b was refused" in (study / "results" / "report.html").read_text()
