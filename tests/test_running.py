"""One run at a time holds a study; the dead hold nothing, and leave no second writer."""

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress

import pytest

from tomoglean import holders, processes, provenance, queues, running
from tomoglean.__main__ import main
from tomoglean.provenance import Refused
from workflow import ROOT

SLEEP = "import time; time.sleep(60)"
SQUEUE = """#!/bin/sh
[ -e {folder}/silent ] && {{ echo 'slurm_load_jobs error: no controller' >&2; exit 1; }}
echo "$@" >> {folder}/asked
cat {folder}/jobs
"""
SCANCEL = """#!/bin/sh
echo "$@" >> {folder}/cancelled
[ -e {folder}/stuck ] || : > {folder}/jobs
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Pretend to be a SLURM: `jobs` holds what squeue prints, `cancelled` who was ended."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, text in (("squeue", SQUEUE), ("scancel", SCANCEL)):
        (folder / name).write_text(text.format(folder=folder))
        (folder / name).chmod(0o755)
    (folder / "jobs").touch()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


@pytest.fixture
def study(tmp_path):
    """Return an empty study."""
    folder = tmp_path / "study"
    (folder / "config").mkdir(parents=True)
    (folder / "config" / "config.yaml").write_text("{}")
    return folder


@contextmanager
def another(*words, cwd=None):
    """Run a Python process and kill it in the end."""
    process = subprocess.Popen([sys.executable, "-c", SLEEP, *words], cwd=cwd)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def held(study, **facts):
    """Note a holder: this process with other facts."""
    holder = dataclasses.replace(holders.Holder.here(), **facts)
    provenance.write_json(dataclasses.asdict(holder), study / holders.HOLDER)
    return holder


def held_by_process(study, process, *runs):
    return held(study, process=process, born=processes.born(process), runs=runs)


def dead(study, *runs):
    """Note a holder whose process is gone."""
    with another() as process:
        return held_by_process(study, process.pid, *runs)


# -- who holds -------------------------------------------------------------------------


def test_a_run_holds_its_study_until_it_gives_it_back(study):
    hold = running.Hold(study)
    assert holders.read(study).process == os.getpid()
    hold.release()
    assert holders.read(study) is None


def test_a_second_run_is_refused_and_told_who_holds(study):
    with another() as process:
        held_by_process(study, process.pid)
        with pytest.raises(Refused) as refusal:
            running.Hold(study)
    text = str(refusal.value)
    holder = holders.Holder.here()
    for fact in (str(study), holder.host, f"process {process.pid}", holder.user, "since"):
        assert fact in text
    assert "\n" not in text


def test_a_refused_run_leaves_the_holder_alone(study):
    with another() as process:
        holder = held_by_process(study, process.pid)
        with pytest.raises(Refused):
            running.Hold(study)
        assert holders.read(study) == holder


def test_a_killed_run_holds_nothing(study):
    dead(study)
    running.Hold(study).release()


def test_a_zombie_holds_nothing(study):
    with another() as process:
        holder = held_by_process(study, process.pid)
        process.kill()
        while processes.born(process.pid):
            time.sleep(0.01)
        assert os.path.exists(f"/proc/{process.pid}")
        assert not holder.is_alive(study)


def test_a_used_again_process_number_is_no_holder(study):
    with another() as process:
        assert not held(study, process=process.pid, born="1").is_alive(study)


def test_a_machine_that_was_started_anew_holds_nothing(study):
    assert not held(study, boot="before").is_alive(study)


def test_a_stopped_run_still_holds(study):
    with another() as process:
        process.send_signal(signal.SIGSTOP)
        assert held_by_process(study, process.pid).is_alive(study)


@pytest.mark.parametrize(
    ("facts", "ago_s", "alive"),
    [
        ({"host": "elsewhere"}, 10, True),
        ({"host": "elsewhere"}, holders.SILENT_S + 10, False),
        ({"space": "a container"}, 10, True),
    ],
)
def test_a_run_elsewhere_is_known_by_its_heartbeat(study, facts, ago_s, alive):
    holder = held(study, **facts)
    then = time.time() - ago_s
    os.utime(study / holders.HOLDER, (then, then))
    assert holder.is_alive(study) is alive


@pytest.mark.parametrize(
    ("jobs", "silent", "alive"),
    [("76\n78\n", False, False), ("77\n", False, True), ("", True, True)],
)
def test_a_run_inside_a_job_elsewhere_ends_with_the_job(study, slurm, jobs, silent, alive):
    (slurm / "jobs").write_text(jobs)
    if silent:
        (slurm / "silent").touch()
    assert held(study, host="elsewhere", inside="77").is_alive(study) is alive


@pytest.mark.parametrize(("now", "alive"), [("", True), ("1", False)])
def test_a_run_in_a_job_that_slurm_has_put_back_into_the_queue_is_over(
    study, slurm, monkeypatch, now, alive
):
    """Its next start has the same number, and is not kept out by the one before."""
    (slurm / "jobs").write_text("77\n")
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURMD_NODENAME", "node1")
    before = held(study, host="elsewhere")
    if now:
        monkeypatch.setenv("SLURM_RESTART_COUNT", now)
    assert before.is_alive(study) is alive


def test_a_slurm_that_hides_the_jobs_of_others_ends_no_run_of_theirs(study, slurm):
    theirs = held(study, host="elsewhere", inside="77", user="somebody-else")
    assert theirs.is_alive(study)


def test_a_run_elsewhere_that_has_just_given_its_study_back_is_over(study):
    holder = held(study, host="elsewhere")
    (study / holders.HOLDER).unlink()
    assert not holder.is_alive(study)


@pytest.mark.parametrize(("ago_s", "alive"), [(10, True), (holders.SILENT_S + 10, False)])
def test_where_one_may_only_read_the_own_clock_counts(study, monkeypatch, ago_s, alive):
    holder = held(study, host="elsewhere")
    then = time.time() - ago_s
    os.utime(study / holders.HOLDER, (then, then))
    monkeypatch.setattr(holders.Path, "touch", forbidden)
    assert holder.is_alive(study) is alive


def forbidden(*_, **__):
    raise PermissionError(13, "Permission denied")


@pytest.mark.parametrize(("node", "inside"), [("node1", "77"), ("", "")])
def test_a_run_knows_the_job_it_is_in(monkeypatch, node, inside):
    """The shell of `salloc` tells a job too, but outlives it: on no node of SLURM."""
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURMD_NODENAME", node)
    assert holders.Holder.here().inside == inside


def test_a_damaged_note_is_refused_with_what_to_do(study):
    (study / ".tomoglean").mkdir()
    (study / holders.HOLDER).write_text("{")
    with pytest.raises(Refused, match="delete it"):
        running.Hold(study)


def test_of_many_that_start_at_once_one_holds(study):
    code = (
        "import sys, pathlib, time; from tomoglean import running\n"
        "try: running.Hold(pathlib.Path(sys.argv[1])); print('held', flush=True)\n"
        "except running.Refused: print('refused', flush=True)\n"
        "sys.stdin.read()"
    )
    starts = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(study)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    said = [start.stdout.readline().strip() for start in starts]
    for start in starts:
        start.communicate()
    assert sorted(said) == ["held"] + ["refused"] * 5


def test_two_that_start_on_machines_without_locks_are_kept_apart(study):
    """The other is between looking and writing; then it holds the study."""
    starting = start(study, host="elsewhere")
    other = held(study, host="elsewhere")
    threading.Timer(0.3, starting.unlink).start()
    before = time.monotonic()
    with pytest.raises(Refused, match="found that of"):
        running.Hold(study)
    assert time.monotonic() - before > 0.2
    assert holders.read(study) == other


def start(study, **facts):
    """Leave what a run has while it starts: this process with other facts."""
    path = study / running.STARTING
    path.parent.mkdir(exist_ok=True)
    holder = dataclasses.replace(holders.Holder.here(), **facts)
    path.write_text(json.dumps(dataclasses.asdict(holder)))
    return path


def test_a_start_that_was_broken_off_here_is_seen_at_once(study, monkeypatch):
    with another() as process:
        start(study, process=process.pid, born=processes.born(process.pid))
    monkeypatch.setattr(running, "PATIENCE_S", 0)
    running.Hold(study).release()
    assert not (study / running.STARTING).exists()


@pytest.mark.parametrize("text", [None, "", "{", "[]"])
def test_a_start_that_was_broken_off_elsewhere_is_known_by_its_age(
    study, monkeypatch, text
):
    path = start(study, host="elsewhere")
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(running, "PATIENCE_S", 0)
    with pytest.raises(Refused, match="still at it; if it is dead, delete"):
        running.Hold(study)
    then = time.time() - running.STALE_S - 10
    os.utime(path, (then, then))
    monkeypatch.setattr(running, "PATIENCE_S", 10)
    running.Hold(study).release()


def test_a_run_whose_start_another_took_over_goes_no_further(study, monkeypatch):
    monkeypatch.setattr(
        holders, "write", lambda *_: start(study, host="elsewhere", process=1)
    )
    with pytest.raises(Refused, match="began together with this"):
        running.Hold(study)
    assert (study / running.STARTING).exists()


@pytest.mark.parametrize("place", ["mkdir", "open"])
def test_a_study_of_somebody_else_is_refused_with_a_line(study, monkeypatch, place):
    monkeypatch.setattr(running.Path, place, forbidden)
    with pytest.raises(Refused, match=r"\.tomoglean: expected a folder .*Permission"):
        running.Hold(study)


# -- the heart -------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch):
    """Let hearts beat fast."""
    monkeypatch.setattr(running, "BEAT_S", 0.05)
    monkeypatch.setattr(running, "LOOK_S", 0.02)


@pytest.fixture
def terminated(monkeypatch):
    """Count the times this process is asked to end, instead of ending it."""
    seen = []
    old = signal.signal(signal.SIGTERM, lambda *_: seen.append(1))
    yield seen
    signal.signal(signal.SIGTERM, old)


def until(what, patience_s=20):
    """Wait for something to become true."""
    deadline = time.monotonic() + patience_s
    while not what() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert what()


def test_the_job_that_a_run_is_in_is_known_though_the_plugin_hides_it():
    code = (
        "import os; from tomoglean import holders; del os.environ['SLURM_JOB_ID']; "
        "print(holders.Holder.here().inside)"
    )
    words = [sys.executable, "-c", code]
    environment = {**os.environ, "SLURM_JOB_ID": "77", "SLURMD_NODENAME": "node1"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout == "77\n", done.stderr


def test_a_run_shows_that_it_lives(study, quick):
    hold = running.Hold(study)
    os.utime(study / holders.HOLDER, (1, 1))
    until(lambda: (study / holders.HOLDER).stat().st_mtime > 1)
    hold.release()


def test_a_file_system_that_hiccups_stops_no_heart(study, quick, monkeypatch):
    seen, exists = [], running.Path.exists

    def hiccup(path):
        if path.suffix == ".end" and not seen:
            seen.append(path)
            raise OSError(errno.ESTALE, "Stale file handle")
        return exists(path)

    monkeypatch.setattr(running.Path, "exists", hiccup)
    hold = running.Hold(study)
    until(lambda: seen)
    os.utime(study / holders.HOLDER, (1, 1))
    until(lambda: (study / holders.HOLDER).stat().st_mtime > 1)
    hold.release()


def test_a_run_whose_note_was_removed_submits_nothing_more(study, quick, terminated):
    hold = running.Hold(study)
    (study / holders.HOLDER).unlink()
    until(lambda: terminated)
    hold.release()


def test_a_run_that_was_taken_over_ends_at_once_with_its_scripts(study):
    """It slept, say: what it cleaned up in peace would be what the other run makes."""
    code = RUN.replace("running.LOOK_S =", "running.BEAT_S = running.LOOK_S =")
    command = [sys.executable, "-c", code, str(study)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        script = int(run.stdout.readline())
        other = held(study, host="elsewhere")
        assert run.wait(20) == -signal.SIGKILL
    until(lambda: not processes.born(script))
    assert holders.read(study) == other


# -- dead runs and their jobs ----------------------------------------------------------


def test_jobs_of_a_dead_run_are_ended_before_a_new_one_goes_on(study, slurm, capsys):
    dead(study, "tomoglean_old")
    (slurm / "jobs").write_text(
        "7|RUNNING|1:00|2:00|node1|rule_train_wildcards_bone_weak\n"
    )
    running.Hold(study, "tomoglean_new").release()
    assert (slurm / "cancelled").read_text() == "7\n"
    assert "--name tomoglean_old" in (slurm / "asked").read_text()
    assert "ending its 1 jobs" in capsys.readouterr().err


def test_a_run_does_not_go_on_while_old_jobs_are_alive(study, slurm, monkeypatch):
    dead(study, "old")
    (slurm / "jobs").write_text("7|COMPLETING|1:00|2:00|node1|rule_train\n")
    (slurm / "stuck").touch()
    monkeypatch.setattr(running, "PATIENCE_S", 0)
    with pytest.raises(Refused, match=r"7 \(completing\)"):
        running.Hold(study, "new")


def test_what_could_not_be_ended_is_still_owed_by_the_next(study, slurm):
    dead(study, "old")
    (slurm / "silent").touch()
    with pytest.raises(Refused, match="no controller"):
        running.Hold(study, "new")
    assert set(holders.read(study).runs) == {"old", "new"}


def test_where_there_is_no_slurm_old_jobs_are_not_forgotten(study, monkeypatch):
    dead(study, "old")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Refused, match="start again where SLURM answers"):
        running.Hold(study)


def test_a_run_without_slurm_asks_no_slurm(study, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    dead(study)
    running.Hold(study).release()


def test_a_run_leaves_no_job_behind(study, slurm):
    hold = running.Hold(study, "mine")
    (slurm / "jobs").write_text("9|PENDING|0:00|2:00|(None)|rule_convert_wildcards_a\n")
    hold.release()
    assert (slurm / "cancelled").read_text() == "9\n"
    assert holders.read(study) is None


def test_a_run_with_jobs_that_stay_keeps_its_study(study, slurm):
    hold = running.Hold(study, "mine")
    (slurm / "jobs").write_text("9|RUNNING|0:00|2:00|node1|rule_convert\n")
    (slurm / "stuck").touch()
    with pytest.raises(Refused):
        hold.release(patience_s=0)
    assert holders.read(study).runs == ("mine",)


def test_scripts_of_a_dead_local_run_are_ended_and_no_others(study, tmp_path):
    dead(study)
    script = ".snakemake/scripts/tmp1.train.py"
    with (
        another(script, cwd=study) as orphan,
        another(script, cwd=tmp_path) as elsewhere,
        another("train.py", cwd=study) as other,
    ):
        until(lambda: orphan.pid in processes.scripts_in(study))
        running.Hold(study).release()
        assert orphan.wait(10) == -signal.SIGTERM
        assert elsewhere.poll() is None
        assert other.poll() is None


# -- status and cancel -----------------------------------------------------------------


def test_status_names_the_run_and_its_jobs(study, slurm, capsys):
    with another() as process:
        held_by_process(study, process.pid, "mine")
        (slurm / "jobs").write_text(
            "12|RUNNING|1:02|2-00:00:00|max-a100-01|rule_train_wildcards_bone_weak\n"
            "13|PENDING|0:00|10:00|(Resources)|rule_convert_wildcards_a\n"
        )
        assert main(["status", str(study)]) == 0
    said = capsys.readouterr().out
    assert f"process {process.pid}" in said
    assert "12 RUNNING 1:02 of 2-00:00:00 max-a100-01 train bone_weak" in said
    assert "13 PENDING 0:00 of 10:00 (Resources) convert a" in said


def test_status_of_a_dead_run_says_so(study, slurm, capsys):
    dead(study, "old")
    main(["status", str(study)])
    assert capsys.readouterr().out.startswith("dead run of ")


@pytest.mark.parametrize("word", ["status", "cancel"])
def test_nobody_runs_a_fresh_study(study, word, capsys):
    assert main([word, str(study)]) == 0
    assert capsys.readouterr().out == "nobody runs this study\n"


def test_cancel_ends_the_jobs_of_a_dead_run(study, slurm):
    dead(study, "old")
    (slurm / "jobs").write_text("7|RUNNING|1:00|2:00|node1|rule_train\n")
    assert "1 jobs" in running.cancel(study)
    assert (slurm / "cancelled").read_text() == "7\n"
    assert holders.read(study) is None


RUN = """
import pathlib, signal, subprocess, sys, time
from tomoglean import running
running.LOOK_S = 0.05
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
hold = running.Hold(pathlib.Path(sys.argv[1]))
print(child.pid, flush=True)
while not asked: time.sleep(0.02)
print("child", child.wait(), flush=True)
hold.release()
"""


def test_cancel_ends_a_run_and_its_scripts(study):
    command = [sys.executable, "-c", RUN, str(study)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        run.stdout.readline()
        assert "ended the run" in running.cancel(study, patience_s=30)
        assert run.stdout.read() == f"child {-signal.SIGTERM}\n"
        assert run.wait() == 0


def test_cancel_kills_a_head_that_waits_for_ever(study, slurm):
    """The plugin does, where sacct says `CANCELLED by` (it knows `CANCELLED` only)."""
    code = RUN.replace("lambda *_: asked.append(1)", "signal.SIG_IGN")
    command = [sys.executable, "-c", code, str(study)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        run.stdout.readline()
        assert "ended the run" in running.cancel(study, patience_s=0.5)
        assert run.wait() == -signal.SIGKILL
    assert holders.read(study) is None


def test_a_request_to_end_another_run_is_not_ours(study, quick, terminated):
    hold = running.Hold(study)
    request = study / holders.HOLDER.with_suffix(".end")
    provenance.write_json(["elsewhere", 1, "yesterday"], request)
    until(lambda: not request.exists())
    hold.release()
    assert not terminated


# -- the queue -------------------------------------------------------------------------


def test_nobody_asks_for_no_runs(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert queues.alive([]) == []


def test_a_comment_may_hold_what_parts_fields(slurm):
    (slurm / "jobs").write_text("5|RUNNING|1|2|n|rule_x_wildcards_a|b\n")
    assert queues.alive(["r"])[0].what == "x a|b"


@pytest.mark.parametrize(
    ("age_s", "said"), [(300, None), (120, None), (60, "to 20 in the profile"), ("", None)]
)
def test_a_slurm_that_forgets_too_early_is_told(slurm, age_s, said):
    (slurm / "scontrol").write_text(f"#!/bin/sh\necho 'MinJobAge   = {age_s} sec'\n")
    (slurm / "scontrol").chmod(0o755)
    found = queues.forgets_too_early(40)
    assert said in found if said else found is None


def test_what_users_hide_from_themselves_is_seen(slurm, monkeypatch):
    """Partitions can be hidden for all, and variables of a shell choose among jobs."""
    monkeypatch.setenv("SQUEUE_PARTITION", "maxgpu")
    squeue = slurm / "squeue"
    squeue.write_text(f"{squeue.read_text()}env > {slurm}/environment\n")
    queues.alive(["r"])
    assert "SQUEUE_" not in (slurm / "environment").read_text()
    assert "--all" in (slurm / "asked").read_text()


def test_a_preempted_job_is_over(slurm):
    (slurm / "jobs").write_text("5|RUNNING\n6|PREEMPTED\n7|PREEMPTED\n")
    assert queues.Looks("r").over(["5", "6"]) == {"6": "PREEMPTED"}


def test_a_job_that_two_looks_have_missed_is_forgotten(slurm):
    looks = queues.Looks("r")
    (slurm / "jobs").write_text("5|RUNNING\n6|RUNNING\n")
    assert looks.over(["5", "6"]) == {}
    (slurm / "jobs").write_text("5|RUNNING\n")
    assert looks.over(["5", "6"]) == {}
    assert looks.over(["5", "6"]) == {"6": "FORGOTTEN"}


def test_a_job_that_slurm_never_listed_is_waited_for(slurm):
    looks = queues.Looks("r")
    assert [looks.over(["5"]) for _ in range(3)] == [{}, {}, {}]


def test_a_silent_slurm_forgets_no_job(slurm):
    looks = queues.Looks("r")
    (slurm / "jobs").write_text("5|RUNNING\n")
    looks.over(["5"])
    (slurm / "silent").touch()
    assert [looks.over(["5"]) for _ in range(3)] == [{}, {}, {}]


def test_jobs_are_ended_once_not_at_every_look(slurm):
    (slurm / "jobs").write_text("5|RUNNING|1|2|n|rule_x\n")
    (slurm / "stuck").touch()
    with suppress(Refused):
        queues.end(["r"], patience_s=0.2, every_s=0.05)
    assert (slurm / "cancelled").read_text().count("5") == 1


# -- processes -------------------------------------------------------------------------


def test_descendants_reach_grandchildren():
    code = (
        "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', "
        f"{SLEEP!r}]); print(p.pid, flush=True); p.wait()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as child:
        grandchild = int(child.stdout.readline())
        assert {child.pid, grandchild} <= set(processes.below(os.getpid()))
        os.kill(grandchild, signal.SIGKILL)


def test_a_process_that_ignores_the_signal_is_told(tmp_path):
    code = "import signal, time; signal.signal(15, 1); print(1, flush=True); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as stubborn:
        stubborn.stdout.readline()
        assert processes.end([stubborn.pid], patience_s=0.2) == [stubborn.pid]
        stubborn.kill()


def test_the_note_is_plain_json(study):
    hold = running.Hold(study)
    facts = json.loads((study / holders.HOLDER).read_text())
    assert facts["process"] == os.getpid()
    hold.release()
