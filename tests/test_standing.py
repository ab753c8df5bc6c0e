"""`status` tells each job that runs or has failed, from the notes of the head and logs."""

import json
import os
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest
import ready
from test_running import another, dead, held_by_process, until

from tomoglean import holders, processes, provenance, queues, running, standing
from tomoglean.__main__ import main
from workflow import ROOT, write_study

WELL = "INFO tomoglean.stage: OK seconds=2.29"
ERROR = "ERROR tomoglean.stage: raw.mrc: expected 9 bytes, found 8; copy it again"
STEP = "INFO tomoglean.progress: train: 4 of 200 steps (2 %)"
WRITER = "import sys, time; log = open(sys.argv[1], 'a'); time.sleep(60)"


@pytest.fixture
def study(tmp_path):
    """Return an empty study."""
    folder = tmp_path / "study"
    (folder / "config").mkdir(parents=True)
    (folder / "config" / "config.yaml").write_text("{}")
    return folder


def job(name):
    return standing.Job("train", f"bone {name}", f"logs/train/bone/{name}.log")


def write_log(study, name, *lines):
    """Write a log whose first line names its rule."""
    path = study / job(name).log
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = ("INFO tomoglean.stage: rule train for results/x", *lines)
    path.write_text("".join(f"2026-11-23 03:08:59,641 {line}\n" for line in whole))
    return path


def begin(study, *names):
    standing.begin(study)
    standing.note(study, [job(name) for name in names])


def states(study, *queue):
    return {one.job.what.split()[-1]: one.state for one in standing.look(study, queue)}


@contextmanager
def writing(study, path):
    """Run what looks like a script of Snakemake with its log open."""
    words = [sys.executable, "-c", WRITER, str(path), ".snakemake/scripts/tmp1.train.py"]
    with subprocess.Popen(words, cwd=study) as process:
        try:
            until(lambda: str(path) in processes.opened_in(study))
            yield
        finally:
            process.kill()


# -- how a job stands ------------------------------------------------------------------


def test_logs_tell_what_is_done_failed_and_waiting(study):
    begin(study, "a", "b", "c")
    write_log(study, "a", WELL)
    write_log(study, "b", ERROR)
    assert states(study) == {"a": "done", "b": "failed", "c": "waiting"}


def given_up(study, name):
    standing.begin(study)
    standing.note(study, [replace(job(name), given_up=True)])


@pytest.mark.parametrize(
    ("log", "line"),
    [
        ((), "ended before its script began; see the last file in"),
        ((WELL,), "ended well, but Snakemake did not take its outputs"),
    ],
)
def test_a_job_that_was_given_up_without_an_error_has_failed(study, log, line):
    given_up(study, "a")
    if log:
        write_log(study, "a", *log)
    (found,) = standing.look(study)
    assert found.state == "failed"
    assert found.line.startswith(line)


def test_why_a_job_failed_says_more_than_that_it_was_given_up(study):
    given_up(study, "a")
    write_log(study, "a", ERROR)
    (found,) = standing.look(study)
    assert found.line == "raw.mrc: expected 9 bytes, found 8; copy it again"


def test_a_note_of_an_older_version_is_understood(study):
    begin(study, "a")
    facts = json.loads((study / standing.JOBS).read_text())
    older = [{k: one[k] for k in ("rule", "what", "log")} for one in facts]
    (study / standing.JOBS).write_text(json.dumps(older))
    assert states(study) == {"a": "waiting"}


def test_a_log_from_before_the_run_counts_no_more(study):
    path = write_log(study, "a", WELL)
    os.utime(path, (1, 1))
    begin(study, "a")
    assert states(study) == {"a": "waiting"}


def test_a_job_runs_as_long_as_a_process_has_its_log(study):
    begin(study, "a")
    path = write_log(study, "a", STEP)
    with writing(study, path):
        assert states(study) == {"a": "running"}
    (found,) = standing.look(study)
    assert found.state == "failed"
    assert found.line == "broken off after: train: 4 of 200 steps (2 %)"


def queued(state, name):
    return queues.Job("12", state, "1:02", "2:00", "node1", f"train bone_{name}")


@pytest.mark.parametrize(
    ("lines", "queue", "state"),
    [
        ((STEP,), [("RUNNING", "a")], "running"),
        ((STEP,), [("RUNNING", "b")], "failed"),
        ((STEP,), [], "failed"),
        ((STEP,), [("RUNNING", "group")], "running"),
        ((ERROR,), [("RUNNING", "b")], "failed"),
        ((ERROR,), [("PENDING", "a")], "waiting"),
        ((STEP,), [("PENDING", "a")], "waiting"),
        ((WELL,), [("RUNNING", "a")], "done"),
    ],
)
def test_on_slurm_the_queue_tells_who_runs_and_who_comes_again(
    study,
    lines,
    queue,
    state,
):
    with another() as process:
        held_by_process(study, process.pid, "mine")
        begin(study, "a", "b")
        write_log(study, "a", *lines)
        assert states(study, *(queued(*one) for one in queue))["a"] == state


def test_from_another_machine_a_job_runs_as_long_as_its_head(study):
    begin(study, "a")
    write_log(study, "a", STEP)
    with another() as process:
        holder = held_by_process(study, process.pid)
        facts = {**holder.__dict__, "host": "elsewhere"}
        provenance.write_json(facts, study / holders.HOLDER)
        assert states(study) == {"a": "running"}
        os.utime(study / holders.HOLDER, (1, 1))
        assert states(study) == {"a": "failed"}


@pytest.mark.parametrize("text", ["{", "[1]", '[{"rule": "x"}]', "{}", "null", '"jobs"'])
def test_a_damaged_note_of_jobs_tells_of_none(study, text):
    begin(study, "a")
    (study / standing.JOBS).write_text(text)
    assert standing.look(study) == []


# -- what is told ----------------------------------------------------------------------


def test_status_counts_jobs_and_tells_those_that_run_or_failed(study):
    begin(study, "a", "b", "c", "d")
    write_log(study, "a", WELL)
    write_log(study, "b", ERROR)
    with another() as process, writing(study, write_log(study, "c", STEP)):
        held_by_process(study, process.pid)
        said = standing.status(study, 200).splitlines()
    assert said[0].startswith("run by ")
    assert said[1:] == [
        "4 jobs of the latest run: 1 done, 1 running, 1 waiting, 1 failed",
        "  running train bone c, since 2026-11-23 03:08:59: train: 4 of 200 steps (2 %)",
        "  failed train bone b, began 2026-11-23 03:08:59: raw.mrc: expected 9 bytes, "
        "found 8; copy it again (logs/train/bone/b.log)",
    ]


def test_status_tells_of_a_run_after_its_end(study, capsys):
    begin(study, "a", "b")
    write_log(study, "a", WELL)
    assert main(["status", str(study)]) == 0
    assert capsys.readouterr().out == (
        "nobody runs this study\n"
        "2 jobs of the latest run: 1 done, 0 running, 1 waiting, 0 failed\n"
    )


def test_status_tells_jobs_though_slurm_does_not_answer(study, monkeypatch):
    dead(study, "old")
    begin(study, "a")
    monkeypatch.setenv("PATH", "/nowhere")
    said = standing.status(study)
    assert "expected squeue to tell" in said
    assert "1 jobs of the latest run" in said


def test_hostile_lines_are_plain_and_cut_to_the_width(study):
    begin(study, "a")
    write_log(study, "a", "ERROR tomoglean.stage: \x1b[31m\u202ered\rover" + "x" * 500)
    lines = standing.status(study, width=80).split("\n")
    assert len(lines) == 4
    assert all(line.isprintable() and len(line) <= 80 for line in lines)
    assert lines[2].endswith("…")


def test_of_many_that_failed_some_are_told(study):
    names = [f"n{number}" for number in range(standing.SHOWN + 3)]
    begin(study, *names)
    for name in names:
        write_log(study, name, ERROR)
    said = standing.status(study)
    assert said.count("  failed ") == standing.SHOWN
    assert said.endswith("  and 3 more\n")


def test_refused_volumes_are_told_with_the_reason(tmp_path):
    study = write_study(tmp_path / "study")
    checked = study / "results" / "checked"
    refused = {"verdict": "refused", "messages": ["a.mrc: expected \x1b[0m", "more"]}
    provenance.write_json(refused, checked / "a.json")
    provenance.write_json({**refused, "verdict": "ok"}, checked / "b.json")
    (checked / "c.json").write_text("{")
    provenance.write_json(refused, checked / "left.json")
    said = standing.status(study, 200).splitlines()
    assert said[1:] == ["1 volumes refused", "  refused a: a.mrc: expected [0m; more"]


def test_status_of_thousands_of_jobs_is_quick(study):
    names = [f"n{number}" for number in range(1000)]
    begin(study, *names)
    for name in names:
        write_log(study, name, WELL)
    start = time.process_time()
    standing.status(study)
    assert time.process_time() - start < 1


def test_asking_needs_no_snakemake():
    code = "import sys; from tomoglean import standing; print('snakemake' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout == "False\n"


# -- what the head notes ---------------------------------------------------------------

RULES = """
from tomoglean.stage import hold, release
def after(wildcards):
    checkpoints.look.get()
    return [f"results/{name}.txt" for name in ("good", "bad", "broken", "empty")]
rule all:
    input: after
checkpoint look:
    output: "results/look.txt"
    log: "logs/look.log"
    script: "work.py"
rule later:
    output: "results/{name}.txt"
    log: "logs/{name}.log"
    script: "work.py"
rule broken:
    output: "results/broken.txt"
    log: "logs/broken.log"
    script: "broken.py"
rule empty:
    output: "results/empty.txt"
    log: "logs/empty.log"
    shell: "echo '2026-11-23 03:08:59,641 INFO tomoglean.stage: OK seconds=1' > {log}"
ruleorder: broken > empty > later
onstart: hold(workflow)
onsuccess: release()
onerror: release()
"""
WORK = """
from pathlib import Path
from tomoglean.provenance import Refused
from tomoglean.stage import begin
begin(snakemake)
if "bad" in snakemake.output[0]:
    raise Refused("bad: expected good, found bad; mend it")
Path(snakemake.output[0]).touch()
"""


def test_a_run_notes_its_jobs_also_those_after_a_checkpoint(study):
    (study / "Snakefile").write_text(textwrap.dedent(RULES))
    (study / "work.py").write_text(WORK)
    (study / "broken.py").write_text("import nothing_of_this_name")
    words = ["--cores", "1", "--keep-going", "--retries", "1", "--directory", str(study)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words += ["-s", str(study / "Snakefile")]
    done = ready.run(words, folder=study, environment=environment)
    assert done.returncode == 1
    facts = json.loads((study / standing.JOBS).read_text())
    rules = [one["rule"] for one in facts]
    assert rules == ["later", "broken", "empty", "later", "look"], done.stderr
    said = standing.status(study, 200).splitlines()
    assert said[:2] == [
        "nobody runs this study",
        "5 jobs of the latest run: 2 done, 0 running, 0 waiting, 3 failed",
    ]
    assert said[2].startswith("  failed broken: ended before its script began; see")
    assert said[3].startswith("  failed empty, began 2026-11-23 03:08:59: ended well, but")
    assert said[4].endswith("bad: expected good, found bad; mend it (logs/bad.log)")
    assert (study / "logs" / "bad.log").read_text().count("tried again") == 1


def test_a_note_that_cannot_be_taken_ends_no_run(study):
    taken = []

    def note():
        taken.append(1)
        raise RuntimeError("set changed size during iteration")

    running.Hold(study, note=note).release()
    assert taken == [1]
    assert holders.read(study) is None
