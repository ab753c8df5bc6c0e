"""Our records against Snakemake's: what is lost comes back, what changed is still seen."""

import json
import os
import shutil
import time
from base64 import urlsafe_b64encode
from collections import Counter
from pathlib import Path

import pytest

from tomoglean import keys, provenance
from workflow import edit

pytestmark = pytest.mark.xdist_group("rerun")
NAME = "results/picked/t3ss/final/v.csv"
INPUT = "results/masked/t3ss/v.h5"


def record(folder: Path, name: str, key: str, inputs: dict, **more: str) -> Path:
    """Write an artefact with a record of ours."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"made as {key}")
    artefact = name.removeprefix("results/")
    facts = {
        "artefact": artefact, "rule": "pick", "key": key, "code": "c0de",
        "settings": {"threshold": 0.5, "names": ["a", None, True]}, "inputs": inputs,
        "sha256": provenance.sha256_of(path), **more,
    }  # fmt: skip
    provenance.write_json(facts, folder / keys.RECORDS / f"{artefact}.json")
    return path


def snakemakes(folder: Path, name: str) -> dict:
    place = folder / ".snakemake" / "metadata" / urlsafe_b64encode(name.encode()).decode()
    return json.loads(place.read_text())


@pytest.fixture
def pair(tmp_path):
    """Return a study of two artefacts, one made from the other."""
    record(tmp_path, INPUT, "k1", {})
    record(tmp_path, NAME, "k2", {INPUT: "k1"})
    return tmp_path


def test_a_lost_record_is_written_anew(pair):
    assert keys.restore(pair) == 2
    found = snakemakes(pair, NAME)
    assert found["input"] == [INPUT]
    assert found["params"] == sorted(["0.5", "['a', None, True]", "'c0de'"])
    sha256 = provenance.sha256_of(pair / INPUT)
    assert found["input_checksums"] == {INPUT: f"sha256:{sha256}"}


def test_others_who_share_the_study_may_write_beside_what_was_restored(pair):
    old = os.umask(0o002)
    try:
        pair.chmod(0o2775)
        keys.restore(pair)
    finally:
        os.umask(old)
    assert (pair / ".snakemake" / "metadata").stat().st_mode & 0o7777 == 0o2775


def test_a_record_that_is_there_is_left_alone(pair):
    place = pair / ".snakemake" / "metadata"
    place.mkdir(parents=True)
    (place / "b3RoZXI=").write_text("{}")
    assert keys.restore(pair) == 0
    assert [path.name for path in place.iterdir()] == ["b3RoZXI="]


def test_an_artefact_made_from_another_version_of_its_input_is_told_as_such(pair):
    record(pair, INPUT, "another key", {})
    keys.restore(pair)
    assert snakemakes(pair, NAME)["input"] != [INPUT]
    assert snakemakes(pair, NAME)["input_checksums"] == {}
    assert snakemakes(pair, INPUT)["input"] == []


def test_what_is_gone_or_was_never_recorded_is_not_made_up(pair):
    (pair / NAME).unlink()
    (pair / "results" / "stray.h5").write_text("from elsewhere")
    assert keys.restore(pair) == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"artefact": 3}', "null", '"text"'])
def test_a_damaged_record_is_passed_over(pair, text):
    (pair / keys.RECORDS / "picked/t3ss/final/v.csv.json").write_text(text)
    assert keys.restore(pair) == 1


def test_a_long_path_is_told_in_folders(tmp_path):
    name = f"results/segmented/{'t' * 64}/control-{'c' * 64}/{'v' * 64}.h5"
    record(tmp_path, name, "k", {})
    assert keys.restore(tmp_path) == 1
    text = urlsafe_b64encode(name.encode()).decode()
    assert (tmp_path / ".snakemake/metadata" / f"@{text[:254]}" / text[254:]).is_file()


def test_what_ended_without_its_head_is_told_like_all_else(pair):
    place = pair / ".snakemake" / "metadata"
    keys.restore(pair)
    for path in place.iterdir():
        if path.name == urlsafe_b64encode(NAME.encode()).decode():
            path.unlink()
    assert keys.restore(pair) == 0
    assert keys.restore(pair, [NAME, "results/unknown.h5"]) == 1
    assert snakemakes(pair, NAME)["input"] == [INPUT]


def test_a_study_that_cannot_be_written_stops_nothing(pair, monkeypatch):
    def refuse(*ignored):
        raise PermissionError

    monkeypatch.setattr(keys, "_write", refuse)
    assert keys.restore(pair) == 0
    assert not list((pair / ".snakemake").glob("*metadata*"))


def tell(folder: Path, name: str, **facts: object) -> Path:
    """Change what Snakemake knows of an artefact."""
    place = folder / ".snakemake" / "metadata" / urlsafe_b64encode(name.encode()).decode()
    place.write_text(json.dumps({**json.loads(place.read_text()), **facts}))
    return place


def test_settings_edited_during_a_run_are_told_as_the_job_read_them(pair):
    keys.restore(pair)
    right = snakemakes(pair, NAME)
    tell(pair, NAME, params=["0.7"])
    assert keys.correct(pair) == 1
    assert snakemakes(pair, NAME) == right
    assert keys.correct(pair) == 0


def test_what_was_told_by_hand_long_after_the_job_stays(pair):
    keys.restore(pair)
    place = tell(pair, NAME, params=["0.7"])
    later = time.time() + 2 * keys.SKEW_NS / 1e9
    os.utime(place, (later, later))
    assert keys.correct(pair) == 0


def test_a_path_that_nobody_knows_any_more_corrects_nothing(pair):
    record(pair, NAME, "k2", {}, settings={"path": "outside-0123456789ab/v.mrc"})
    keys.restore(pair)
    tell(pair, NAME, params=["'/home/ann/v.mrc'"])
    assert keys.correct(pair) == 0


# -- with Snakemake ------------------------------------------------------------------


def test_what_is_restored_is_what_snakemake_wrote(study):
    place = study / ".snakemake" / "metadata"
    names = sorted(path.name for path in place.iterdir())
    true = {name: json.loads((place / name).read_text()) for name in names}
    shutil.rmtree(study / ".snakemake")
    assert keys.restore(study) == len(true) > 100
    compared = ("rule", "input", "params", "record_format_version", "input_checksums")
    for name in names:
        found = json.loads((place / name).read_text())
        for part in compared:
            assert found[part] == true[name][part], (true[name]["rule"], part)


def test_a_setting_edited_during_a_run_and_put_back_runs_its_stage(planner, study):
    """As on a cluster: the job read another threshold than the head of its run."""
    path = min((study / keys.RECORDS / "picked" / "t3ss" / "final").iterdir())
    facts = provenance.read_json(path)
    facts["settings"]["settings"]["threshold"] = 0.123
    provenance.write_json(facts, path)
    assert planner.plan(study).count["pick"] == 1


def test_lost_and_nothing_changed_nothing_runs(planner, study):
    shutil.rmtree(study / ".snakemake")
    assert planner.plan(study).count == Counter()


def test_lost_and_copied_without_times_nothing_runs(planner, study):
    shutil.rmtree(study / ".snakemake")
    for place, path in enumerate(sorted(study.rglob("*"), reverse=True)):
        os.utime(path, (1e9 + place, 1e9 + place))
    assert planner.plan(study).count == Counter()


def test_lost_and_a_changed_setting_runs_that_stage_and_what_follows(planner, study):
    shutil.rmtree(study / ".snakemake")
    path = study / "config" / "config.yaml"
    edit(path, "membrane: membrane", "membrane: membrane\n    pick: {threshold: 0.11}")
    assert planner.plan(study).count == {
        "pick": 3, "evaluate_picks": 1, "publish": 3, "average": 1
    }  # fmt: skip


def test_lost_and_changed_code_runs_that_stage_and_what_follows(planner, study):
    shutil.rmtree(study / ".snakemake")
    script = planner.checkout / "workflow" / "scripts" / "publish.py"
    script.write_text(script.read_text() + "\nassert True\n")
    assert planner.plan(study).count == {"publish": 3, "average": 1}


def test_lost_and_changed_bytes_run_their_chain(planner, study):
    shutil.rmtree(study / ".snakemake")
    (study / "raw" / "d.mrc").write_text("RAW D")
    assert planner.plan(study).count["convert"] == 1


def test_lost_after_a_failure_runs_what_had_not_run(planner, study):
    path = study / "config" / "config.yaml"
    edit(path, "membrane: membrane", "membrane: membrane\n    mask: {within_nm: 11}")
    assert planner.say(study, fail="classify").code == 1
    shutil.rmtree(study / ".snakemake")
    assert planner.plan(study).count == {
        "classify": 3, "pick": 3, "evaluate_picks": 1, "publish": 3, "average": 1
    }  # fmt: skip


@pytest.mark.slow
def test_two_thousand_artefacts_cost_less_than_a_second_of_cpu(tmp_path):
    record(tmp_path, INPUT, "k1", {})
    for number in range(2000):
        record(tmp_path, f"results/picked/t3ss/final/v{number}.csv", "k2", {INPUT: "k1"})
    begin = time.process_time()
    assert keys.restore(tmp_path) == 2001
    assert time.process_time() - begin < 1.0
