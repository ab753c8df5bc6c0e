"""A script ends well only with a record; a look at a study breaks nothing."""

import asyncio
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
from test_running import until

from tomoglean import leftovers, logs, provenance, stage, usage
from workflow import ROOT

SCRIPT = """
import sys
from types import SimpleNamespace as Has
sys.path.insert(0, {root!r})
from tomoglean.stage import begin
begin(Has(log=["job.log"], output=["results/a.csv"], input=[], params={{"code": "c"}},
          rule="pick", resources=Has()))
open("results/a.csv", "w").close()
"""


FULL = """
import h5py, numpy, resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
with h5py.File("results/a.h5", "w") as file:
    for name in range(20):
        file[str(name)] = numpy.ones({floats}, "f4")
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, unlimited[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
"""


@pytest.fixture
def job(tmp_path):
    """Return a script that makes results/a.csv, and where it is run."""
    (tmp_path / "results").mkdir()
    return [sys.executable, "-c", SCRIPT.format(root=str(ROOT))], tmp_path


def run(job):
    words, folder = job
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)


def test_a_job_that_ends_well_leaves_a_record(job):
    assert run(job).returncode == 0
    assert (job[1] / "results" / "provenance" / "a.csv.json").is_file()
    assert "OK seconds=" in (job[1] / "job.log").read_text()


def test_a_record_tells_what_the_job_took_and_what_it_ran_on(job):
    run(job)
    record = provenance.read_json(job[1] / "results/provenance/a.csv.json")
    assert 5 < record["memory_mb"] < 2000
    assert 0 <= record["cpu_seconds"] < 60
    assert record["machine"] == usage.machine()
    assert record["checkout"]["commit"] == usage.checkout()[0]


@pytest.mark.parametrize(
    ("last", "told"),
    [
        ("raise KeyboardInterrupt", "pick: interrupted"),
        ("raise ValueError", "ValueError"),
        ("raise ValueError('odd')", "odd"),
    ],
)
def test_why_a_job_ended_is_never_left_empty(job, last, told):
    done = run(([*job[0][:2], f"{job[0][2]}{last}"], job[1]))
    assert done.returncode != 0
    assert logs.last_attempt(job[1] / "job.log").line == told
    interrupted = "Keyboard" in last
    assert ("Traceback" in (job[1] / "job.log").read_text()) is not interrupted
    assert ("Traceback" in done.stderr) is not interrupted


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_job_with_a_record_ends_well_whatever_it_is_told(job, number):
    """Snakemake removes the outputs of one that a signal ends; others plan with them."""
    words, folder = job
    late = "import atexit, time\natexit.register(time.sleep, 3)\n"  # after the record
    with subprocess.Popen([*words[:2], late + words[2]], cwd=folder) as process:
        until((folder / "results" / "provenance" / "a.csv.json").exists)
        process.send_signal(number)
    assert process.returncode == 0


def test_what_a_job_took_counts_in_no_key(job):
    keys = set()
    for load in ("", "x = b'x' * 90_000_000"):
        run(([*job[0][:2], job[0][2] + load], job[1]))
        record = provenance.read_json(job[1] / "results/provenance/a.csv.json")
        keys.add((record["key"], record["sha256"], record["memory_mb"] > 90))
    assert len({key for key, *_ in keys}) == 1
    assert {large for *_, large in keys} == {False, True}


def test_a_job_whose_record_cannot_be_written_fails(job):
    """The record of an older artefact would lend its key to what follows."""
    (job[1] / "results" / "provenance").write_text("in the way")
    done = run(job)
    assert done.returncode == 1
    assert "provenance" in done.stderr
    assert "OK seconds=" not in (job[1] / "job.log").read_text()


@pytest.mark.parametrize("floats", [1000, 100_000])
def test_a_job_whose_file_hdf5_could_not_write_fails_with_a_line(job, floats):
    """HDF5 tells nobody who can hear it, leaves zeros, and breaks down at the end."""
    words, folder = job
    done = run(([*words[:2], words[2] + FULL.format(floats=floats)], folder))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "pick: expected room on the disk, found File too large; free space, then the same"
        " command goes on"
    )
    assert "expected room on the disk" in (folder / "job.log").read_text()
    assert not (folder / "results" / "provenance").exists()


@pytest.mark.parametrize("own", [False, True])
def test_a_training_that_cannot_go_on_from_what_is_saved_says_so(
    tmp_path, monkeypatch, caplog, own
):
    monkeypatch.chdir(tmp_path)
    inputs = SimpleNamespace(examples=[], augmented=[], validation=[])
    begun = SimpleNamespace(
        params={"code": "c"}, input=inputs, output=["results/trained/bone/final.json"]
    )
    saved = tmp_path / "results" / "trained" / "bone"
    saved.mkdir(parents=True)
    (saved / "final.running-0123456789ab-0.h5").touch()
    if own:
        key = stage.training_key(begun)
        caplog.clear()
        (saved / f"final.running-{key[:12]}-1.h5").touch()
    stage.training_key(begun)
    assert ("final.running-0123456789ab-0.h5 is of other code" in caplog.text) is not own


def test_a_dry_run_in_a_study_that_cannot_be_written_goes_on(tmp_path, monkeypatch):
    def refuse(root):
        raise PermissionError(13, "Permission denied")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(leftovers, "settle", refuse)
    stage.tidy(SimpleNamespace(is_main_process=True))


class Patient:
    """An executor that waits for all jobs without end, as the plugin does."""

    def __init__(self):
        self.well, self.failed = [], []
        self.report_job_success = self.well.append
        self.report_job_error = lambda job, msg, **_: self.failed.append((job, msg))

    async def check_active_jobs(self, jobs):
        for job in jobs:
            yield job


def look(over, *jobs):
    """Let an executor look at its jobs once; return it, and whom it still waits for."""
    patient = Patient()
    stage.wait_for_the_living(patient, lambda _: over)

    async def waited():
        return [job async for job in patient.check_active_jobs(list(jobs))]

    return patient, asyncio.run(waited())


def submitted(number):
    job = SimpleNamespace(output=["results/a.csv"])
    return SimpleNamespace(external_jobid=number, job=job, aux={})


def test_a_job_that_is_over_is_not_waited_for():
    lost, living = submitted("6"), submitted("7")
    patient, waited = look({"6": "PREEMPTED"}, lost, living)
    assert waited == [living]
    assert patient.failed == [(lost, "SLURM job 6: preempted; retries make it again")]


@pytest.mark.parametrize("whole", [True, False])
def test_a_forgotten_job_has_ended_well_if_its_outputs_are_whole(monkeypatch, whole):
    monkeypatch.setattr(leftovers, "are_finished", lambda *_: whole)
    job = submitted("6")
    patient, waited = look({"6": "FORGOTTEN"}, job)
    assert waited == []
    assert (patient.well == [job], len(patient.failed)) == (whole, int(not whole))


def test_a_run_whose_artefacts_went_with_a_dead_one_plans_again(monkeypatch, capsys):
    called = []
    monkeypatch.setattr(stage.os, "execv", lambda *words: called.append(words))
    monkeypatch.setattr(stage, "release", lambda: called.append("released"))
    monkeypatch.setattr(sys, "argv", ["/x/bin/snakemake", "--cores", "2"])
    stage._plan_again_without(["results/a.h5"])
    words = [sys.executable, "/x/bin/snakemake", "--cores", "2"]
    assert called == ["released", (sys.executable, words)]
    assert "results/a.h5 went with the job" in capsys.readouterr().err


def test_a_run_that_lost_nothing_goes_on(monkeypatch):
    monkeypatch.setattr(stage.os, "execv", lambda *_: pytest.fail("began anew"))
    stage._plan_again_without([])
