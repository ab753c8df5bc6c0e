"""Every fault that clusters are known for, on a real SLURM: a run heals or ends well."""

import re
import signal
import subprocess
import sys

import pytest
from faults import ROOT, Study, ask, environment, until
from faults import slurm as slurm

from tests.slurm import cluster

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("slurm")]
WHOLE = "".join(f"{number}\n" for number in range(10))


def attempts(study, name):
    """Return job, node and first count of each attempt."""
    return [tuple(line.split()[1:4]) for line in study.began(name)]


def tomoglean(study, word):
    """Run a command of ours on a study and return what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "tomoglean", word, str(study.folder)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_well(study, *names):
    """Nobody wrote beside another, nothing is left in the queue, the results are whole."""
    for name in names:
        assert "SECOND WRITER" not in study.history(name)
        assert study.result(name) == WHOLE
    assert study.jobs() == []


def test_a_job_that_fails_once_runs_again_with_more_memory(tmp_path):
    study = Study(tmp_path, a="fail 1")
    head = study.run()
    assert head.process.returncode == 0, head.said()
    jobs = [job for job, *_ in attempts(study, "a")]
    asked = [re.search(r"mem=(\w+)", ask("scontrol", "show", "job", job)) for job in jobs]
    assert [memory[1] for memory in asked] == ["300M", "600M"]
    assert_well(study, "a")


def test_jobs_that_meet_their_wall_time_go_on_in_the_next(tmp_path):
    """One listens to the signal before the end and saves; one is killed by SLURM."""
    study = Study(tmp_path, minutes=2, a="wait", b="deaf")
    head = study.start("--set-resources", "train:slurm_extra=--signal=TERM@60")
    study.await_("a", "saved 5")
    study.go("a")
    study.await_("b", "began", times=2)
    assert head.wait() == 0, head.said()
    (lost, *_), _ = attempts(study, "b")
    assert "JobState=TIMEOUT" in ask("scontrol", "show", "job", lost)
    assert attempts(study, "a")[1][2] == "5"
    assert_well(study, "a", "b")


def test_scancel_ends_a_run_when_its_retries_are_spent(tmp_path):
    study = Study(tmp_path, a="wait")
    head = study.start("--retries", "1")
    for attempt in (1, 2):
        study.await_("a", "waits", times=attempt)
        ask("scancel", attempts(study, "a")[-1][0])
        study.await_("a", "saved 5", times=attempt)
    assert head.wait(120) == 1
    assert study.jobs() == []
    study.go("a")
    assert study.run().process.returncode == 0
    assert [count for *_, count in attempts(study, "a")] == ["0", "5", "5"]
    assert_well(study, "a")


def test_a_job_whose_node_dies_runs_on_another(tmp_path):
    study = Study(tmp_path, a="wait")
    head = study.start()
    study.await_("a", "waits")
    ((_, node, _),) = attempts(study, "a")
    cluster.down(node)
    try:
        study.await_("a", "waits", times=2)
        study.go("a")
        assert head.wait() == 0, head.said()
    finally:
        cluster.up(node)
    assert attempts(study, "a")[1][1] != node
    assert_well(study, "a")


def test_jobs_whose_nodes_are_taken_back_come_again(tmp_path):
    """One saves in time; one is killed, which the plugin takes for at work."""
    study = Study(tmp_path, a="wait", b="deaf")
    head = study.start("--set-resources", "train:slurm_partition=allcpu")
    study.await_("a", "waits")
    study.await_("b", "waits")
    ((lost, *_),) = attempts(study, "b")
    taker = ["-p", "maxcpu", "--nodes=2", "--exclusive", "-o", "/dev/null"]
    owner = ask("sbatch", "--parsable", *taker, "--wrap", "sleep 600").strip()
    try:
        until(lambda: "JobState=PREEMPTED" in ask("scontrol", "show", "job", lost))
    finally:
        ask("scancel", owner)
    study.await_("a", "waits", times=2)
    study.go("a")
    assert head.wait() == 0, head.said()
    assert f"SLURM job {lost}: preempted; retries make it again" in head.said()
    assert attempts(study, "a")[1][2] == "5"
    assert_well(study, "a", "b")


def test_the_same_command_goes_on_after_the_head_was_killed(tmp_path):
    """`a` still runs when the second head starts, `b` ended without any head."""
    study = Study(tmp_path, a="wait", b="wait")
    head = study.start()
    study.await_("a", "waits")
    study.await_("b", "waits")
    head.kill()
    study.go("b")
    study.await_("b", "ended")
    again = study.start()
    study.await_("a", "saved 5")
    study.go("a")
    assert again.wait() == 0, again.said()
    assert "ending its 1 jobs first" in again.said()
    assert [count for *_, count in attempts(study, "a")] == ["0", "5"]
    assert len(attempts(study, "b")) == 1
    assert_well(study, "a", "b")


def test_a_head_that_is_terminated_submits_nothing_more_and_lets_jobs_end(tmp_path):
    study = Study(tmp_path, a="wait", b="wait")
    head = study.start("--jobs", "1")
    until(lambda: study.history("a") or study.history("b"))
    first, second = ("a", "b") if study.history("a") else ("b", "a")
    study.await_(first, "waits")
    head.process.send_signal(signal.SIGTERM)
    study.go(first)
    assert head.wait() == 1
    assert study.history(second) == []
    study.go(second)
    assert study.run().process.returncode == 0
    assert len(attempts(study, first)) == len(attempts(study, second)) == 1
    assert_well(study, "a", "b")


def test_a_second_run_is_refused_and_cancel_ends_the_first(tmp_path):
    study = Study(tmp_path, a="wait")
    head = study.start()
    study.await_("a", "waits")

    second = study.run()
    assert second.process.returncode != 0
    line = next(line for line in second.said().splitlines() if "expected no other" in line)
    assert f"process {head.process.pid}," in line
    assert len(study.jobs()) == 1
    assert "RUNNING" in tomoglean(study, "status")

    assert "1 jobs on SLURM" in tomoglean(study, "cancel")
    assert head.wait(60) == 1
    assert study.history("a")[-1] == "saved 5"
    assert tomoglean(study, "status").startswith("nobody runs this study\n1 jobs of")

    study.go("a")
    assert study.run().process.returncode == 0
    assert_well(study, "a")


def test_ctrl_c_lets_jobs_save_and_leaves_none(tmp_path):
    study = Study(tmp_path, a="wait")
    head = study.start()
    study.await_("a", "waits")
    head.process.send_signal(signal.SIGINT)
    assert head.wait(120) == 1
    assert study.history("a")[-1] == "saved 5"
    assert study.jobs() == []
