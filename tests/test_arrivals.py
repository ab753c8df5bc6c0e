"""New data: what is taken up, what waits, what is refused; and the watch that runs it."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from planner import Planner

from tomoglean import (
    arrivals,
    holders,
    preflight,
    provenance,
    running,
    study,
    tables,
    watching,
)
from tomoglean.provenance import Refused
from tomoglean.report import overview
from tomoglean.report.sources import Source
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
    with pytest.raises(Refused, match=r"arrivals\.1\.pattern: expected a .* in it, found"):
        study.read(home)


MISTAKES = {
    "unknown task": ({"tasks": ["bones"]}, "tasks: unknown task 'bones'"),
    "no task name": ({"tasks": ["b one"]}, "tasks.1: expected letters, digits, - and _"),
    "unknown column": ({"row": {"voxel": 5}}, "row.voxel: unknown key"),
    "ill value": ({"row": {"voxel_nm": "big"}}, "row.voxel_nm: expected one number of nm"),
    "ill crop": ({"row": {"crop": "5:2,:,:"}}, "row"),
    "its own path": ({"row": {"path": "raw/a.mrc"}}, "row.path: expected none"),
    "ill pattern": ({"pattern": "a**/*.mrc"}, "pattern: cannot look for 'a**/*.mrc'"),
    "no pattern": ({"pattern": ""}, "pattern: expected a pattern below the folder"),
    "no folder": ({"folder": ""}, "folder: expected text, found ''"),
}


@pytest.mark.parametrize(("words", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_found_before_any_file_comes(home, words, said):
    configure(home, BLOCK, {**BLOCK, **words})
    with pytest.raises(Refused) as refusal:
        study.read(home)
    assert str(refusal.value).startswith(f"{home}/config/config.yaml: arrivals.2.{said}")
    assert "^" not in str(refusal.value)


def test_a_mistake_does_not_drop_what_was_taken_up(home):
    put(home, "scan.mrc")
    arrivals.take_up(found(home).rows, home)
    configure(home, {**BLOCK, "row": {"voxel_nm": "big"}})
    with pytest.raises(Refused, match=r"config\.yaml: arrivals\.1\.row"):
        study.read(home)


@pytest.mark.parametrize(
    ("folder", "said"), [("elsewhere", "no such folder"), ("$NOT_SET_HERE", "not set")]
)
def test_a_missing_folder_is_told_and_refuses_nothing(home, folder, said):
    configure(home, BLOCK, {**BLOCK, "folder": folder})
    (line,) = study.read(home, look=True).arrived.absent
    assert line.startswith(f"{home}/config/config.yaml: arrivals.2: {folder}: ")
    assert said in line


def finish(folder: Path, volume: str) -> None:
    """Leave what a run makes of a volume that it takes up."""
    provenance.write_json({"verdict": "ok"}, folder / f"results/checked/{volume}.json")
    provenance.write_json({}, folder / f"results/converted/{volume}.h5")


@pytest.fixture
def departed(home, monkeypatch):
    """Return a study whose beamtime is over: data gone, variable unset, results there."""
    monkeypatch.setenv("BEAMTIME", str(home / "incoming"))
    configure(home, {**BLOCK, "folder": "$BEAMTIME", "pattern": "**/*.mrc", "settle_s": 0})
    for name in ("scan.mrc", "day1/scan.mrc", "unfinished.mrc"):
        put(home, name)
    arrivals.take_up(study.read(home, look=True).arrived.rows, home)
    for volume in ("scan", "day1_scan"):
        finish(home, volume)
    monkeypatch.delenv("BEAMTIME")
    return home


@pytest.mark.parametrize("look", [True, False])
def test_finished_volumes_stay_when_their_folder_is_gone(departed, look):
    read = study.read(departed, look=look)
    assert read.arrived.gone == {"scan", "day1_scan"}
    assert {"scan", "day1_scan"} <= set(read.volumes_of("bone"))
    assert "unfinished" not in read.volumes_of("bone")
    assert read.arrived.refused == ()


def test_a_finished_volume_stays_when_its_file_is_gone(home):
    path = put(home, "scan.mrc")
    arrivals.take_up(found(home).rows, home)
    finish(home, "scan")
    path.unlink()
    assert ids(home) == ["scan"]
    path.parent.rmdir()
    assert ids(home) == ["scan"]


def test_the_check_of_a_study_says_that_a_file_has_gone_and_goes_on(departed):
    told = {f.name: f for f in preflight.findings(study.read(departed))}
    assert "gone" in str(told["scan"])
    assert not told["scan"].refused


def test_a_run_makes_nothing_again_of_what_has_gone(departed):
    planner = Planner(ROOT)
    said = planner.plan(departed, "bone_check", "results/measured/bone/scan.json")
    planner.close()
    assert said.code == 0, said.text
    assert "the environment variable is not set" in said.text
    made = {name for _, name in said.jobs}
    assert "results/measured/bone/scan.json" in made
    assert not {"results/checked/scan.json", "results/converted/scan.h5"} & made


def test_refused_arrivals_stand_in_the_report_and_in_the_check(home):
    put(home, "a b.mrc")
    read = study.read(home)
    (note,) = overview.alerts(Source(read), "green", "")
    assert "rename it" in note.text
    assert str(home) not in note.text
    told = [text for text, passed in preflight.look(read) if not passed]
    assert any("'incoming/a b.mrc'" in text for text in told)


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


@pytest.mark.parametrize("name", [".config.yaml.swp", "volumes.tsv~"])
def test_what_an_editor_keeps_is_no_new_state(home, name):
    before = watching.state(home)
    (home / "config" / name).write_text("x")
    assert watching.state(home) == before


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


def test_a_refused_arrival_and_a_missing_folder_are_new_states(home):
    states = [watching.state(home)]
    put(home, "a b.mrc")
    states.append(watching.state(home))
    (home / "incoming").rename(home / "elsewhere")
    states.append(watching.state(home))
    assert len(set(states)) == 3


def test_a_file_system_that_hiccups_ends_no_watch(home, monkeypatch, caplog):
    looks, runs = iter("a!!b"), []
    watch = watching.Watch(home, [], 0.1)

    def look(_folder):
        now = next(looks, "")
        if now == "!":
            raise OSError(errno.ESTALE, "Stale file handle")
        if not now:
            watch.stopped.set()
        return now

    monkeypatch.setattr(watching, "state", look)
    monkeypatch.setattr(watch, "_call", lambda *words: runs.append(words[0]) or 0)
    monkeypatch.setattr(signal, "signal", lambda *ignored: None)
    assert watch.until_stopped() == 0
    assert runs.count("snakemake") == 2
    assert caplog.text.count("Stale file handle; trying again") == 1


def watched(home, monkeypatch, calls, looks="aa"):
    """Watch a study for some looks; a call is what `calls` makes of its module."""
    watch = watching.Watch(home, [], 0.1)
    left = iter(looks)

    def look(_folder):
        now = next(left, None)
        if now is None:
            watch.stopped.set()
        return now or looks[-1]

    made = []

    def call(*words):
        made.append(words)
        return calls(words[0])

    monkeypatch.setattr(watching, "state", look)
    monkeypatch.setattr(watch, "_call", call)
    monkeypatch.setattr(signal, "signal", lambda *ignored: None)
    watch.until_stopped()
    return made


@pytest.mark.parametrize("code", [0, 1])
def test_the_page_of_the_run_itself_is_kept(home, monkeypatch, code):
    def leave_a_page(_module):
        provenance.write_text("run", home / watching.REPORT)
        return code

    assert [words[0] for words in watched(home, monkeypatch, leave_a_page)] == ["snakemake"]


@pytest.mark.parametrize(("code", "ended"), [(0, "green"), (1, "failed")])
def test_a_run_that_left_no_page_gets_one_that_says_how_it_ended(
    home, monkeypatch, code, ended
):
    provenance.write_text("of an older run", home / watching.REPORT)
    made = watched(home, monkeypatch, lambda _module: code)
    assert made[1] == ("tomoglean", "report", str(home), "--ended", ended)


def test_a_study_that_another_run_holds_is_tried_again(home, monkeypatch, caplog):
    caplog.set_level("INFO")
    other = running.Hold(home)
    looks = iter(range(9))

    def held_twice(root):
        if next(looks) == 2:
            other.release()
        return read(root)

    read = holders.read
    monkeypatch.setattr(holders, "read", held_twice)
    made = watched(home, monkeypatch, lambda _module: 0, "aaaa")
    assert [words[0] for words in made] == ["snakemake", "tomoglean"]
    assert caplog.text.count("holds this study; trying again") == 1


def test_a_run_that_another_one_forestalled_is_tried_again(home, monkeypatch, caplog):
    caplog.set_level("INFO")
    others = []

    def forestalled(module):
        if module == "snakemake" and not others:
            others.append(running.Hold(home))
            return 1
        return 0

    made = watched(home, monkeypatch, forestalled, "aa")
    others[0].release()
    assert [words[0] for words in made] == ["snakemake"]
    assert "the run ended" not in caplog.text


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
