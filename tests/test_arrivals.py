"""New data: what is taken up, what waits, what is refused; and the watch that runs it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from planner import Planner

from tomoglean import arrivals, study, tables, watching
from tomoglean.provenance import Refused
from workflow import CONFIG, FAKE, ROOT, append, write_study

BLOCK = {"folder": "incoming", "pattern": "*.mrc", "tasks": ["bone"]}
LATER = 120.0


@pytest.fixture
def home(tmp_path):
    """Return a study with one folder in which data arrive."""
    folder = write_study(tmp_path / "study")
    (folder / "incoming").mkdir()
    configure(folder, BLOCK)
    return folder


def configure(folder: Path, *blocks: dict) -> None:
    text = yaml.safe_dump({**CONFIG, "arrivals": list(blocks)})
    (folder / "config" / "config.yaml").write_text(text)


def put(folder: Path, name: str, text: str = "voxels") -> Path:
    path = folder / "incoming" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def found(folder: Path, *, look: bool = True, after_s: float = LATER):
    read = study.read(folder)
    table = [row for row in read.volumes if row not in read.arrived.rows]
    blocks, now = read.config["arrivals"], time.time() + after_s
    return arrivals.find(blocks, table, folder, look=look, now=now)


def ids(folder: Path, **how) -> list[str]:
    return [row["volume"] for row in found(folder, **how).rows]


def test_a_complete_file_becomes_a_volume_named_after_it(home):
    put(home, "scan-7.mrc")
    put(home, "scan-7.txt")
    assert ids(home) == ["scan-7"]
    assert found(home).rows[0]["path"] == "incoming/scan-7.mrc"
    assert found(home).rows[0]["tasks"] == "bone"


def test_folders_and_dots_in_a_name_become_underscores(home):
    configure(home, {**BLOCK, "pattern": "*/*.mrc"})
    put(home, "day1/TS_01_10.00Apx.mrc")
    assert ids(home) == ["day1_TS_01_10_00Apx"]


def test_a_file_still_being_written_waits(home):
    put(home, "new.mrc")
    assert ids(home, after_s=59) == []
    assert found(home, after_s=59).waiting == ("incoming/new.mrc",)
    assert ids(home, after_s=61) == ["new"]


def test_a_time_turned_back_does_not_hide_that_a_file_is_being_written(home):
    path = put(home, "copied.mrc")
    os.utime(path, (1, 1))
    assert ids(home, after_s=1) == []


def test_an_empty_file_waits(home):
    put(home, "empty.mrc", "")
    assert ids(home) == []


def test_a_folder_of_slices_waits_for_its_youngest_slice(home):
    configure(home, {**BLOCK, "pattern": "scan*", "settle_s": 1})
    put(home, "scan1/0001.tif")
    time.sleep(1.1)
    assert ids(home, after_s=0) == ["scan1"]
    put(home, "scan1/0002.tif")
    assert ids(home, after_s=0) == []


def test_cells_of_the_row_come_from_the_config(home):
    configure(home, {**BLOCK, "row": {"voxel_nm": 810, "bin": "2"}})
    put(home, "a1.mrc")
    row = found(home).rows[0]
    assert (row["voxel_nm"], row["bin"], row["crop"]) == ("810", "2", "")


def test_a_row_of_the_table_for_the_same_file_wins(home):
    put(home, "mine.mrc")
    append(
        home / "config" / "volumes.tsv", ("better-name", "bone", "incoming/mine.mrc", "9")
    )
    assert ids(home) == []
    assert found(home).refused == ()


@pytest.mark.parametrize(
    "name", ["a b.mrc", "-rf.mrc", "ä.mrc", "x" * 65 + ".mrc", "a\nb.mrc", "$(id).mrc"]
)
def test_a_hostile_name_is_refused_in_one_line_and_stops_nobody(home, name):
    put(home, "good.mrc")
    put(home, name)
    assert ids(home) == ["good"]
    (line,) = found(home).refused
    assert line.isascii()
    assert line.isprintable()
    assert "rename it" in line


def test_the_name_of_another_volume_is_refused(home):
    put(home, "a.mrc")  # the table has a volume a, from another file
    assert ids(home) == []
    assert "another volume 'a'" in found(home).refused[0]


def test_hidden_files_are_not_looked_at(home):
    configure(home, {**BLOCK, "pattern": "**/*.mrc"})
    put(home, ".scan.mrc")
    put(home, ".rsync/scan.mrc")
    assert found(home) == arrivals.Arrivals()


@pytest.mark.parametrize("pattern", ["/etc/*", "../*", "a/../../*", ".."])
def test_a_pattern_does_not_lead_out_of_its_folder(home, pattern):
    configure(home, {**BLOCK, "pattern": pattern})
    with pytest.raises(Refused, match=r"arrivals\.0\.pattern"):
        study.read(home)


def test_a_missing_folder_and_an_unset_variable_are_refused(home):
    for folder, said in (("elsewhere", "no such folder"), ("$NOT_SET_HERE", "not set")):
        configure(home, {**BLOCK, "folder": folder})
        with pytest.raises(Refused, match=said):
            study.read(home)


def test_an_unknown_task_is_refused(home):
    configure(home, {**BLOCK, "tasks": ["bones"], "settle_s": 0})
    put(home, "new.mrc")
    with pytest.raises(Refused, match="unknown task 'bones'"):
        study.read(home, look=True)


def test_jobs_see_what_the_run_began_with(home):
    configure(home, {**BLOCK, "settle_s": 0})
    put(home, "first.mrc")
    arrivals.take_up(study.read(home, look=True).arrived.rows, home)
    put(home, "second.mrc")
    os.utime(home / "incoming" / "first.mrc")
    assert "first" in study.read(home).volumes_of("bone")
    assert "second" not in study.read(home).volumes_of("bone")
    assert "second" in study.read(home, look=True).volumes_of("bone")


def test_what_was_taken_up_stays_although_it_changes(home):
    put(home, "scan.mrc")
    arrivals.take_up(found(home).rows, home)
    put(home, "scan.mrc", "other voxels")
    assert ids(home, after_s=0) == ["scan"]


@pytest.mark.parametrize("blocks", [[BLOCK], [{**BLOCK, "folder": "a"}, BLOCK]])
def test_what_was_taken_up_keeps_its_id(home, blocks):
    (home / "a").mkdir()
    configure(home, *blocks)
    put(home, "scan_1.mrc")
    arrivals.take_up(found(home).rows, home)
    put(home, f"../{blocks[0]['folder']}/scan.1.mrc")  # is named alike, and sorted before
    again = found(home)
    assert [row["path"] for row in again.rows] == ["incoming/scan_1.mrc"]
    assert "found another volume 'scan_1'" in again.refused[0]


def test_what_was_taken_up_and_is_gone_leaves_the_study(home):
    path = put(home, "scan.mrc")
    arrivals.take_up(found(home).rows, home)
    path.unlink()
    assert ids(home) == []


def test_an_arrival_runs_its_chain_and_a_dry_run_takes_up_nothing(home, tmp_path):
    configure(home, {**BLOCK, "settle_s": 0})
    put(home, "new.mrc")
    planner = Planner(ROOT)
    planned = planner.plan(home, "bone_measure").jobs
    planner.close()
    assert ("measure", "results/measured/bone/new.json") in planned
    assert not (home / arrivals.REGISTER).exists()


# -- make watch ----------------------------------------------------------------------


def test_only_what_a_run_would_see_is_a_new_state(home):
    configure(home, {**BLOCK, "settle_s": 0})
    states = [watching.state(home)]
    (home / "results").mkdir()
    (home / "results" / "report.html").write_text("new")
    assert watching.state(home) == states[0]
    put(home, "new.mrc")
    states.append(watching.state(home))
    tables.locate("raw/a.mrc", home).write_text("other bytes")
    states.append(watching.state(home))
    append(home / "config" / "volumes.tsv", ("again", "bone", "raw/b.mrc", "10"))
    states.append(watching.state(home))
    assert len(set(states)) == 4


def test_what_is_no_study_is_refused(tmp_path):
    with pytest.raises(Refused, match=r"found no config/config\.yaml"):
        watching.Watch(tmp_path, [], 1.0)


def test_watch_repeats_nothing_until_something_changes(home, monkeypatch):
    looks, runs = iter("aaabba"), []
    watch = watching.Watch(home, [], 0.1)

    def look(_folder):
        now = next(looks, None)
        if now is None:
            watch.stopped.set()
        return now or "a"

    def call(module, *words):
        runs.append(module)
        return 1  # every run fails

    monkeypatch.setattr(watching, "state", look)
    monkeypatch.setattr(watch, "_call", call)
    monkeypatch.setattr(signal, "signal", lambda *ignored: None)
    assert watch.until_stopped() == 0
    assert runs == ["snakemake", "tomoglean"] * 3


@pytest.mark.parametrize(
    "words", [["-c2"], ["--cores=2"], ["--profile", "slurm"], ["-j", "1"]]
)
def test_all_cores_unless_the_words_say(home, words):
    assert watching.Watch(home, words, 1.0).words == words
    assert watching.Watch(home, ["-n"], 1.0).words == ["-n", "--cores", "all"]


def wait_for(condition, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_watch_runs_on_arrival_survives_a_failure_and_ends_on_a_signal(
    home, tmp_path, number
):
    configure(home, {**BLOCK, "settle_s": 1})
    words = ["watch", str(home), "--every", "0.5", "--", "--cores", "2", "bone_check"]
    environment = {**os.environ, "PYTHONPATH": str(FAKE), "FAKE_REFUSE": "-"}
    said = tmp_path / "said.txt"
    with said.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "tomoglean", *words],
            cwd=ROOT, env=environment, stdout=file, stderr=file,
        )  # fmt: skip
    try:
        wait_for(lambda: said.read_text().count("waiting for new data") == 1)
        (home / "config" / "config.yaml").write_text("tasks: [")
        wait_for(lambda: said.read_text().count("waiting for new data") == 2)
        configure(home, {**BLOCK, "settle_s": 1})
        put(home, "late.mrc")
        wait_for((home / "results" / "checked" / "late.json").exists)
        wait_for(lambda: said.read_text().count("the run ended well") >= 2)
        process.send_signal(number)
        assert process.wait(120) == 0, said.read_text()
    finally:
        process.kill()
    assert "stopped" in said.read_text()
    assert (home / "results" / "report.html").exists()


@pytest.mark.parametrize("every_s", [0.0, -1.0, float("nan"), float("inf")])
def test_a_watch_that_would_never_pause_is_refused(home, every_s):
    with pytest.raises(Refused, match=r"--every: expected 0\.1 to 86400 s"):
        watching.Watch(home, [], every_s)
