"""The rerun calculus: what a change costs, seen in the dry run, row by row.

Scripts are stood in for (tests/planner.py), the Snakefile, the rules, the tables, the
code fingerprints and Snakemake's own record are the real ones.
"""

import os
import shutil
import time
from collections import Counter

import pytest
from planner import Planner

from workflow import (
    ROOT,
    add_label,
    add_volume,
    copy_checkout,
    edit,
    write_study,
)

DETECTION_CHAIN = ("mask", "classify", "pick", "publish")

pytestmark = pytest.mark.xdist_group("rerun")  # they share one finished study


@pytest.fixture
def planned(planner):
    return lambda study, *words: planner.plan(study, *words).count


def test_nothing_changed_nothing_runs(planned, study):
    assert planned(study) == Counter()


def test_touched_files_reordered_rows_and_resources_run_nothing(planned, checkout, study):
    later = time.time() + 3600
    for path in [*study.glob("raw/*"), *study.rglob("results/converted/*.h5")]:
        os.utime(path, (later, later))
    for table in ("volumes", "labels"):
        path = study / "config" / f"{table}.tsv"
        head, *rows = path.read_text().splitlines(keepends=True)
        path.write_text("".join([head, *reversed(rows)]))
    edit(checkout / "tomoglean" / "costs.py", "base_mb=6000", "base_mb=7000")
    edit(checkout / "profiles" / "slurm" / "config.yaml", "maxcpu", "mincpu")
    assert planned(study) == Counter()


def test_a_touched_file_of_many_megabytes_runs_nothing(planner, planned, study):
    large = study / "raw" / "d.mrc"
    large.write_bytes(bytes(5_000_000))
    assert planner.say(study).code == 0
    later = time.time() + 3600
    os.utime(large, (later, later))
    assert planned(study) == Counter()


def test_comments_docstrings_and_log_messages_run_nothing(planned, checkout, study):
    for name in ("picks", "volumes"):
        path = checkout / "tomoglean" / f"{name}.py"
        path.write_text(path.read_text().replace('"""', '"""Now: ', 1) + "\n# a comment\n")
    script = checkout / "workflow" / "scripts" / "pick.py"
    script.write_text(script.read_text() + "\n# a comment\n")
    assert planned(study) == Counter()


def test_a_new_reader_runs_nothing(planned, checkout, study):
    reader = (ROOT / "tomoglean" / "formats" / "raw.py").read_text()
    (checkout / "tomoglean" / "formats" / "zebra.py").write_text(
        reader.replace('".raw"', '".zebra"')
    )
    assert planned(study) == Counter()


def test_a_new_clone_over_an_old_study_runs_nothing(study, tmp_path):
    fresh = copy_checkout(tmp_path / "fresh")
    later = time.time() + 3600
    for path in fresh.rglob("*"):
        os.utime(path, (later, later))
    another = Planner(fresh)
    assert another.plan(study).count == Counter()
    another.close()


def test_a_new_volume_to_predict_runs_its_own_chain_and_tables(planned, study):
    add_volume(study, "x", "membrane,t3ss")
    chain = (
        "check",
        "convert",
        "segment",
        "measure",
        "mask",
        "classify",
        "pick",
        "publish",
    )
    assert planned(study) == Counter((*chain, "average"))


def test_a_new_training_volume_trains_that_task_and_what_depends_on_it(planned, study):
    add_volume(study, "e", "bone")
    add_label(study, "bone", "e", "weak", "train")
    found = planned(study)
    assert found["check"] == found["convert"] == found["convert_labels"] == 1
    assert found["train"] >= 3
    assert found["segment"] >= 5
    assert found["relabel"] == 3
    assert not {"mask", "sample", "classify", "pick", "average"} & set(found)


def test_a_threshold_of_pick_runs_picks_and_after(planned, study):
    path = study / "config" / "config.yaml"
    edit(path, "membrane: membrane", "membrane: membrane\n    pick: {threshold: 0.11}")
    assert planned(study) == Counter(
        {"pick": 3, "evaluate_picks": 1, "publish": 3, "average": 1}
    )


def test_a_training_setting_of_one_control_trains_that_control(planned, study):
    path = study / "config" / "config.yaml"
    edit(path, "corrected:\n", "corrected:\n        train: {epochs: 3}\n")
    assert planned(study) == Counter({"train": 1, "export": 1, "segment": 1, "evaluate": 1})


def test_code_of_one_stage_runs_that_stage_and_what_follows(planned, checkout, study):
    script = checkout / "workflow" / "scripts" / "mask.py"
    script.write_text(script.read_text() + "\nassert True\n")
    found = planned(study)
    assert found == Counter(
        {
            "mask": 3, "sample": 2, "augment": 1, "train": 1, "export": 1, "classify": 3,
            "pick": 3, "evaluate_picks": 1, "publish": 3, "average": 1,
        }
    )  # fmt: skip


def test_one_function_of_a_shared_module_runs_the_stages_that_reach_it(
    planned, checkout, study
):
    path = checkout / "tomoglean" / "picks.py"
    path.write_text(path.read_text() + "\n\ndef nobody_calls_me() -> int:\n    return 1\n")
    assert planned(study) == Counter()
    edit(path, "\ndef find(", "\nREACHED = 1\n\n\ndef find(")
    assert planned(study) == Counter()
    edit(path, ") -> Array:", ") -> Array:  # changed below\n    assert REACHED\n")
    assert set(planned(study)) >= {"pick"}


def test_bytes_changed_under_the_same_time_run_their_chain(planned, study):
    raw = study / "raw" / "w.mrc"
    times = (raw.stat().st_atime, raw.stat().st_mtime)
    raw.write_text("raw W")
    os.utime(raw, times)
    found = planned(study)
    assert found["check"] == found["convert"] == found["mask"] == found["classify"] == 1
    assert "train" not in found


def test_a_job_that_failed_by_accident_runs_again_with_all_after_it(planner, study):
    path = study / "config" / "config.yaml"
    edit(path, "membrane: membrane", "membrane: membrane\n    mask: {within_nm: 11}")
    assert planner.say(study, fail="classify").code == 1
    assert planner.plan(study).count == {
        "classify": 3, "pick": 3, "evaluate_picks": 1, "publish": 3, "average": 1
    }  # fmt: skip


def test_r_runs_one_stage_again_and_what_follows(planned, study):
    found = planned(study, "-R", "segment")
    assert found["segment"] == 11  # bone: 4 final, 2 out of fold, 2 compared; membrane: 3
    assert {"measure", "mask", "evaluate"} <= set(found)
    assert "check" not in found


def test_a_target_by_task_and_stage(planned, study):
    shutil.rmtree(study / "results" / "segmented" / "bone" / "final")
    found = planned(study, "bone_segment")
    assert found["segment"] == 4
    assert set(found) == {"segment", "bone_segment"}


def test_a_refused_volume_ends_its_own_chain_and_the_tables_go_on(planner, tmp_path):
    study = write_study(tmp_path / "study")
    assert planner.say(study, refuse="w").code == 1
    assert not (study / "results" / "converted" / "w.h5").exists()
    assert (study / "results" / "published" / "t3ss" / "v.csv").exists()
    assert (study / "results" / "averaged" / "t3ss" / "summary.json").exists()
