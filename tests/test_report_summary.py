"""The report opens with one light, figures with intervals, and the way to do it again."""

import json
import os
import sys
import time

import pytest
from test_report import Page, build, checked, full_study, study_in, table

from tomoglean import holders, logs, provenance, report, standing
from tomoglean.report import again, headlines, intervals, rows, states, summary
from tomoglean.report.again import Run
from tomoglean.report.sources import Source

STAMP = "2026-11-23 05:00:00,123"
CLEAN = Run("snakemake --cores 2", "c" * 40, "clean", "green")


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    """Make pages without pictures, as from a clean checkout, whoever changed it."""
    monkeypatch.setattr(report, "PARTS", ())
    monkeypatch.setattr(again, "git_state", lambda: ("c" * 40, "clean"))


@pytest.fixture
def full(tmp_path):
    """Make a study with something of everything and all its volumes checked."""
    study = full_study(tmp_path)
    finish(study)
    return study


def log(study, name: str, outputs: str, *lines: str):
    """Write a job's log whose first line names what it makes."""
    rule = name.split("/")[0]
    path = study.root / "logs" / f"{name}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    begun = f"INFO tomoglean.stage: rule {rule} for {outputs}"
    path.write_text("".join(f"{STAMP} {line}\n" for line in (begun, *lines)))
    return path


OK = "INFO tomoglean.stage: OK seconds=2.5"
ERROR = "ERROR tomoglean.stage: rod-1.tif: too short; copy it again"


def finish(study) -> None:
    """Leave what a finished study holds of its two volumes."""
    for volume in ("rod-1", "cell-1"):
        checked(study.root, volume, shape=[6, 20, 24], voxel_nm=[5000.0] * 3)


# -- intervals -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [
        (6, 6, 0.6097, 1.0),
        (0, 6, 0.0, 0.3903),
        (6, 16, 0.1848, 0.6136),
        (1, 2, 0.0945, 0.9055),
    ],
)
def test_wilson_gives_the_published_bounds(hits, count, low, high):
    assert intervals.wilson(hits, count) == pytest.approx((low, high), abs=1e-4)


def test_wilson_covers_nearly_95_percent():
    share, count = 0.7, 40
    terms = [1.0]
    for k in range(count):
        terms.append(terms[-1] * (count - k) / (k + 1) * share / (1 - share))
    covered = sum(
        term
        for hits, term in enumerate(terms)
        if intervals.wilson(hits, count)[0] <= share <= intervals.wilson(hits, count)[1]
    )
    assert 0.93 < covered / sum(terms) < 0.975


def test_without_anything_counted_there_is_no_interval():
    assert intervals.wilson(0, 0) is None
    assert intervals.per_hit(0, 0) is None


def test_more_hits_than_all_are_refused():
    with pytest.raises(ValueError, match="expected 0 to 2 hits, found 3"):
        intervals.wilson(3, 2)


def test_misses_per_hit_follow_from_the_share_of_hits():
    low, high = intervals.wilson(6, 16)
    assert intervals.per_hit(6, 10) == pytest.approx(((1 - high) / high, (1 - low) / low))


def test_without_a_hit_misses_per_hit_have_no_upper_bound():
    assert intervals.told(intervals.per_hit(0, 4)) == "at least 1.04"


@pytest.mark.parametrize(
    ("values", "said"),
    [([], "no figure of a single volume"), ([0.5], "one volume, so no interval"),
     ([0.5, 0.25], "0.250 to 0.500 in 2 volumes; an interval needs 3")],
)  # fmt: skip
def test_why_there_is_no_interval_is_said(values, said):
    assert intervals.why_none(values).startswith(said)


# -- headline figures ----------------------------------------------------------------


def scored(study, volumes: dict[str, float], *, bounds=("", "")) -> None:
    """Score the bone task of a study, on test volumes with these mean IoU."""
    evaluated = study.root / "results/evaluated/bone"
    facts = {"use": "test", "volumes": list(volumes), "mean_iou": {"final": 0.5}}
    provenance.write_json(facts, evaluated / "summary.json")
    shared = {"method": "final", "use": "test", "class": "mean", "dice": 0.7}
    found = [{**shared, "volume": v, "iou": iou} for v, iou in volumes.items()]
    pooled = {**shared, "volume": "pooled", "iou": 0.5}
    low, high = bounds
    found = [{**row, "iou_low": "", "iou_high": ""} for row in found]
    table(evaluated / "scores.csv", [*found, {**pooled, "iou_low": low, "iou_high": high}])


def bone(study):
    (figure,) = headlines.of_task(Source(study), "bone")
    return figure


def test_the_interval_over_volumes_is_that_of_the_scores(full):
    scored(full, {"a": 0.4, "b": 0.5, "c": 0.6}, bounds=(0.41, 0.59))
    assert bone(full).bounds == (0.41, 0.59)
    assert bone(full).interval == "95 % 0.410 to 0.590 (bootstrap over volumes)"
    assert (bone(full).n, bone(full).of) == (3, "test volumes")


def test_two_volumes_have_a_spread_and_no_interval(full):
    scored(full, {"a": 0.4, "b": 0.6})
    assert bone(full).bounds is None
    assert bone(full).interval == "0.400 to 0.600 in 2 volumes; an interval needs 3"


def test_one_scan_has_no_interval(full):
    full.tasks["bone"]["split"] = "within-volume"
    scored(full, {"rod-1": 0.4})
    assert bone(full).interval == "one scan, so no interval"


def test_picks_have_intervals_from_their_counts(full):
    ratio, precision, recall = headlines.of_task(Source(full), "t3ss")
    assert (ratio.what, ratio.n, ratio.of) == ("FP per TP", 2, "picks")
    assert precision.bounds == intervals.wilson(1, 2)
    assert recall.bounds == intervals.wilson(1, 2)
    assert ratio.bounds == pytest.approx(intervals.per_hit(1, 1))


def test_a_run_without_any_pick_says_so(full):
    none = {"tomograms": 1, "tp": 0, "fp": 0, "fn": 3, "fp_per_tp": None, "recall": 0.0}
    path = full.root / "results/evaluated/t3ss/summary.json"
    provenance.write_json({"headline": none, "use": "test"}, path)
    ratio, _, recall = headlines.of_task(Source(full), "t3ss")
    assert (ratio.text, ratio.interval) == ("n/a", "no picks, so no interval")
    assert recall.bounds == intervals.wilson(0, 3)


def test_the_page_tells_the_intervals(full):
    text = build(full).text
    assert "precision 0.50 (0.09 to 0.91); recall 0.50 (0.09 to 0.91)" in text
    assert "(Wilson, from counts)" in text


# -- states --------------------------------------------------------------------------


def state(study, volume="rod-1"):
    return states.of_volume(Source(study), volume)


def test_a_volume_with_all_its_answers_is_done(full):
    assert state(full).word == "done"


def test_a_volume_without_an_artefact_waits(full):
    (full.root / "results/converted/rod-1.h5").unlink()
    assert (state(full).word, state(full).line) == ("waiting", "not converted yet")


def test_a_trained_task_wants_its_answer(full):
    row = {"task": "bone", "volume": "rod-1", "kind": "clean", "use": "train"}
    full.labels.append(row)
    assert state(full).rule == "measured"


def test_a_refused_volume_says_why(full):
    checked(full.root, "rod-1", verdict="refused", messages=["rod-1.tif: too short"])
    assert (state(full).word, state(full).line) == ("refused", "rod-1.tif: too short")


def test_a_job_without_its_end_has_failed(full):
    log(full, "convert/rod-1", "results/converted/rod-1.h5", ERROR)
    found = state(full)
    assert (found.word, found.rule) == ("failed", "convert")
    assert found.line == "rod-1.tif: too short; copy it again"


def test_a_killed_job_has_failed_with_its_last_line(full):
    log(full, "convert/rod-1", "results/converted/rod-1.h5", "INFO x.y: 3 of 9 slabs")
    assert (state(full).word, state(full).line) == (
        "failed",
        "3 of 9 slabs (no error follows: it was ended from outside)",
    )


def test_a_job_that_ended_well_is_done(full):
    log(full, "convert/rod-1", "results/converted/rod-1.h5", ERROR, OK)
    assert state(full).word == "done"


def test_an_attempt_after_a_failed_one_counts(full):
    path = log(full, "convert/rod-1", "results/converted/rod-1.h5", ERROR)
    before = path.read_text()
    again_ = log(full, "convert/rod-1", "results/converted/rod-1.h5", OK).read_text()
    path.write_text(f"{before}{logs.AGAIN}\n{again_}")
    assert state(full).word == "done"


def test_results_newer_than_a_broken_log_count(full):
    path = log(full, "check/rod-1", "results/checked/rod-1.json", ERROR)
    now = time.time()
    os.utime(path, (now - 60, now - 60))
    assert state(full).word == "done"


def test_while_another_process_runs_the_study_jobs_run(full, monkeypatch):
    log(full, "convert/rod-1", "results/converted/rod-1.h5", "INFO x.y: 3 of 9 slabs")
    monkeypatch.setattr(states, "_is_run_elsewhere", lambda root: True)
    assert (state(full).word, state(full).line) == ("running", "3 of 9 slabs")


def test_a_damaged_note_of_who_runs_it_ends_nothing(full):
    path = full.root / holders.HOLDER
    path.parent.mkdir()
    path.write_text("{")
    assert state(full).word == "done"


def test_a_volume_waits_for_the_failed_training_of_its_task(full):
    full.labels.append({"task": "bone", "volume": "rod-1", "kind": "clean", "use": "train"})
    log(full, "train/bone/final", "results/trained/bone/final.weights.h5", ERROR)
    assert state(full).line == "waits for train of bone, which failed"


def test_logs_of_volumes_that_left_the_tables_do_not_count(full):
    log(full, "convert/gone-1", "results/converted/gone-1.h5", ERROR)
    assert states.failed(Source(full)) == []


def test_logs_of_rounds_that_left_the_settings_do_not_count(full):
    names = ("train/bone/control-gone", "segment/bone/control-gone/rod-1")
    for name in names:
        log(full, name, f"results/{name}.h5", ERROR)
    assert states.failed(Source(full)) == []
    assert state(full).word == "done"


def test_a_volume_may_be_called_like_a_round(full):
    full.volumes.append({**full.volumes[0], "volume": "final-9"})
    log(full, "measure/bone/final-9", "results/measured/bone/final-9.json", ERROR)
    assert [job.rule for job in states.failed(Source(full))] == ["measure"]


def test_a_job_that_ended_before_its_script_has_failed(full):
    standing.begin(full.root)
    job = standing.Job("convert", "rod-1", "logs/convert/rod-1.log", given_up=True)
    standing.note(full.root, [job])
    assert state(full).word == "failed"
    assert state(full).line.startswith("ended before its script began")
    assert light(full).tone == "bad"


def test_every_volume_is_counted_once(full):
    (full.root / "results/converted/cell-1.h5").unlink()
    counts = states.counts(Source(full))
    assert (counts["done"], counts["waiting"], sum(counts.values())) == (1, 1, 2)


def test_a_log_of_nonsense_ends_nothing(full):
    path = full.root / "logs/convert/rod-1.log"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\xff\x00 INFO tomoglean.stage: rule \n" * 10)
    assert state(full).word == "done"


def test_a_hostile_last_line_is_words_only(full):
    hostile = "ERROR tomoglean.stage: \x1b[2J<script>/home/ann/x/y.tif\x07"
    log(full, "convert/rod-1", "results/converted/rod-1.h5", hostile)
    assert "\x1b" not in state(full).line
    assert "ann" not in state(full).line
    page = build(full)
    assert not page.all("script")


# -- the light -----------------------------------------------------------------------


def light(study, outcome="green", run=CLEAN):
    return summary.light(Source(study), outcome, run)


def test_all_done_without_a_warning_is_green(full):
    assert (light(full).tone, light(full).word) == ("good", "Green")
    assert light(full).text == "All 2 volumes done, no warning."


def test_a_warning_is_amber_and_named(full):
    checked(full.root, "rod-1", verdict="warning", messages=["values are clipped"])
    assert light(full).tone == "warn"
    found = summary.warnings(Source(full), CLEAN)
    assert found == [{"where": "rod-1", "what": "values are clipped", "times": 1}]


def test_a_warning_of_several_jobs_is_one_with_its_count(full):
    line = "WARNING tomoglean.x: half the labels are unknown"
    for name in ("rod-1", "cell-1"):
        log(full, f"convert/{name}", f"results/converted/{name}.h5", line, OK)
    (found,) = summary.warnings(Source(full), CLEAN)
    assert (found["where"], found["times"]) == ("log of convert", 2)


def test_local_changes_are_a_warning(full):
    run = Run("snakemake", "c" * 40, "with local changes")
    (found,) = summary.warnings(Source(full), run)
    assert found["where"] == "checkout"


def test_what_waits_is_amber(full):
    (full.root / "results/converted/rod-1.h5").unlink()
    assert light(full).tone == "warn"
    assert "1 volume waiting" in light(full).text


@pytest.mark.parametrize("what", ["outcome", "refused", "job"])
def test_what_failed_is_red(full, what):
    if what == "refused":
        checked(full.root, "rod-1", verdict="refused", messages=["too short"])
    if what == "job":
        log(full, "train/bone/final", "results/trained/bone/final.weights.h5", ERROR)
    found = light(full, "failed" if what == "outcome" else "green")
    assert (found.tone, found.word) == ("bad", "Red")


def test_a_study_without_volumes_is_not_green(tmp_path):
    study = study_in(tmp_path, volumes=[], labels=[], config={"tasks": {}})
    assert light(study).text == "No volume yet."
    assert light(study).tone == "warn"


def test_the_light_is_a_word_and_a_shape_not_only_a_colour(full):
    page = build(full, "failed")
    assert "Red: " in page.text
    assert page.all("path")


def test_failed_jobs_stand_in_the_summary_with_their_last_line(full):
    log(full, "train/bone/final", "results/trained/bone/final.weights.h5", ERROR)
    page = build(full, "failed")
    assert "Failed jobs" in page.text
    assert page.text.index("too short; copy it again") < page.text.index("2019 said")


def test_many_warnings_are_cut_on_the_page_and_whole_beside_it(full):
    messages = [f"odd slice {n}" for n in range(summary.MOST_ROWS + 5)]
    checked(full.root, "rod-1", verdict="warning", messages=messages)
    page = build(full)
    assert "5 more rows are in results/report/warnings.csv" in page.text
    beside = (full.root / "results/report/warnings.csv").read_text()
    assert beside.count("odd slice") == len(messages)


# -- do it again ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--cores", "2", "--directory", "/data/ann/scan"], "--cores 2 --directory STUDY"),
        (["-d", "/data/ann/scan", "--profile", "slurm"], "-d STUDY --profile slurm"),
        (["--directory=/data/ann/scan"], "--directory=STUDY"),
        (
            ["-d", "x", f"--profile={again.PACKAGE}/profiles/slurm"],
            "-d STUDY --profile=profiles/slurm",
        ),
        (["-d", "x", "--profile", "/home/ann/mine"], "-d STUDY --profile '…/mine'"),
        (["-d", "x", "--config", "seed=2; rm"], "-d STUDY --config 'seed=2; rm'"),
        (
            ["-d", "x", "--default-resources", "slurm_account=ann", "mem_mb=1"],
            "-d STUDY --default-resources slurm_account=ACCOUNT mem_mb=1",
        ),
    ],
)
def test_the_call_is_told_as_it_was_without_folders(words, told, tmp_path, monkeypatch):
    monkeypatch.delenv("SNAKEMAKE_PROFILE", raising=False)
    assert again.called(words, tmp_path) == f"snakemake {told}"


@pytest.mark.parametrize("file", [f"{again.PACKAGE}/Snakefile", "../tomoglean/Snakefile"])
def test_a_call_within_the_study_is_told_from_the_checkout(file, tmp_path, monkeypatch):
    monkeypatch.delenv("SNAKEMAKE_PROFILE", raising=False)
    told = again.called(["-s", file, "-n"], tmp_path)
    assert told == "snakemake -s Snakefile -n --directory STUDY"


def test_a_call_in_the_checkout_itself_needs_no_folder(monkeypatch):
    monkeypatch.delenv("SNAKEMAKE_PROFILE", raising=False)
    assert again.called(["-n"], again.PACKAGE) == "snakemake -n"


def test_a_profile_of_the_environment_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("SNAKEMAKE_PROFILE", "slurm")
    assert again.called(["-n"], tmp_path) == (
        "snakemake -n --directory STUDY --profile slurm"
    )


def test_a_study_in_the_checkout_is_named_from_there():
    assert again.place(again.PACKAGE / "examples" / "demo") == "examples/demo"


@pytest.mark.parametrize(
    ("program", "expected"),
    [("/x/bin/snakemake", True), ("/x/snakemake/__main__.py", True), ("/x/pytest", False)],
)
def test_snakemake_is_known_by_name(program, expected):
    assert again.is_snakemake(program) is expected


def run_of(study, outcome, monkeypatch, program="/x/bin/snakemake"):
    monkeypatch.setattr(sys, "argv", [program, "--cores", "3"])
    return again.last_run(Source(study), outcome)


def test_the_run_that_ends_is_told(full, monkeypatch):
    run = run_of(full, "green", monkeypatch)
    assert run.command.startswith("snakemake --cores 3")
    assert run.ended.startswith("green, ")


def test_a_rebuilt_page_tells_the_run_before(full, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/x/bin/snakemake", "--cores", "3"])
    report.build(full, outcome="green")
    monkeypatch.setattr(sys, "argv", ["tomoglean", "report"])
    for _ in range(2):
        page = Page(report.build(full, outcome="rebuilt"))
        assert "snakemake --cores 3" in page.text


@pytest.mark.parametrize("text", ["{", "[]", '{"run": 3}', '{"run": {"command": 4}}'])
def test_a_damaged_record_of_the_run_is_none(full, text):
    path = full.root / "results" / again.RECORD
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    assert again.last_run(Source(full), "rebuilt").command == ""


def test_the_recipe_can_be_pasted(full):
    lines = again.recipe(Source(full), CLEAN).splitlines()
    assert lines[2] == f"git checkout {'c' * 40}"
    assert lines[3] == "make setup"
    assert lines[-1] == "snakemake --cores 2"


def test_a_run_from_changed_files_is_said_to_be_so(full):
    dirty = Run("snakemake", "c" * 40, "with local changes")
    assert "local changes" in again.caption(Source(full), dirty)
    assert "local changes" not in again.caption(Source(full), CLEAN)


def test_a_call_that_may_make_a_part_only_is_said_to(full):
    assert "it makes only these" in again.caption(Source(full), CLEAN)


@pytest.mark.parametrize(
    ("url", "told"),
    [("https://example.org/x.git", "https://example.org/x.git"),
     ("https://ann:secret@example.org/x", "REPOSITORY"), ("/home/ann/x", "REPOSITORY")],
)  # fmt: skip
def test_only_a_public_address_is_told(monkeypatch, url, told):
    monkeypatch.setattr(again, "git", lambda *words: url)
    assert again.repository() == told


# -- a row per volume ----------------------------------------------------------------


def test_a_volume_tells_its_scores(full):
    scored(full, {"rod-1": 0.4})
    text = str(rows.volumes_table(Source(full)).blocks[0].rows[0])
    assert "mean IoU 0.400" in text
    assert "mean Dice 0.700" in text


def test_a_volume_tells_its_hits_and_misses(full):
    (full.root / "results/picked/t3ss/final").mkdir(parents=True)
    (full.root / "results/picked/t3ss/final/cell-1.csv").write_text(
        "z,y,x,score\n1,2,3,.5\n"
    )
    text = str(rows.volumes_table(Source(full)).blocks[0].rows[1])
    assert "1 TP, 1 FP, 1 FN" in text
    assert "1 candidate" in text


def picked(study, *scores: float) -> str:
    """Pick candidates of some scores in a volume; return what its row tells."""
    lines = ["z,y,x,score", *(f"1,2,3,{score}" for score in scores)]
    path = study.root / "results/picked/t3ss/final/cell-1.csv"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(lines))
    return str(rows.volumes_table(Source(study)).blocks[0].rows[1])


def test_hits_and_misses_are_told_of_candidates_above_the_threshold(full):
    text = picked(full, 0.9, 0.8, 0.1, 0.1)
    assert "4 candidates,\\n2 above the threshold" in text
    assert "2 above the threshold:\\n1 TP, 1 FP, 1 FN" in text


def unjudged(study, **facts) -> None:
    table(study.root / "results/evaluated/t3ss/matches.csv", [{"volume": "other"}])
    provenance.write_json(facts, study.root / "results/evaluated/t3ss/summary.json")


def test_a_volume_without_truth_tells_how_many_reach_the_threshold(full):
    unjudged(full, threshold=0.5)
    text = picked(full, 0.9, 0.5, 0.1)
    assert "3 candidates,\\n2 above the threshold" in text
    assert "TP" not in text


def test_a_volume_with_nothing_to_find_and_nothing_found_is_scored(full):
    rounds = {"final": {"test": {"tomograms": 1}}}
    row = {"task": "t3ss", "volume": "cell-1", "kind": "points", "use": "test"}
    full.labels.append(row)
    unjudged(full, threshold=0.5, rounds=rounds)
    text = picked(full, 0.1)
    assert "0 above the threshold:\\n0 TP, 0 FP, 0 FN" in text


def test_without_a_threshold_nothing_is_said_to_be_above_it(full):
    unjudged(full)
    assert "above" not in picked(full, 0.9)


def test_a_volume_tells_what_implants_are_asked_for(full):
    facts = {"bone_contact_percent": 80.4, "bone_contact_gap_um": 5.0,
             "degradation_rate_mean_area_mm_per_year": 0.25,
             "volume_loss_percent": None}  # fmt: skip
    provenance.write_json(facts, full.root / "results/measured/bone/rod-1.json")
    text = str(rows.volumes_table(Source(full)).blocks[0].rows[0])
    assert "bone contact 80.4 % (within 5.00 µm)" in text
    assert "degradation rate 0.250 mm/year" in text
    assert "lost" not in text


def test_a_failed_volume_tells_the_stage_and_its_last_line(full):
    log(full, "convert/rod-1", "results/converted/rod-1.h5", ERROR)
    row = rows.volumes_table(Source(full)).blocks[0].rows[0]
    assert row[1].text == "failed"
    assert row[1].why == "convert: rod-1.tif: too short; copy it again"


def test_a_refused_volume_tells_why_below_its_row(full):
    checked(full.root, "rod-1", verdict="refused", messages=["no voxel size; set it"])
    row = rows.volumes_table(Source(full)).blocks[0].rows[0]
    assert (row[1].text, row[1].why) == ("refused", "no voxel size; set it")
    build(full)
    page = (full.root / "results/report.html").read_text()
    assert "<div>no voxel size; set it</div>" in page


def test_a_volume_of_which_nothing_is_said_has_no_line_below_its_row(full):
    row = rows.volumes_table(Source(full)).blocks[0].rows[0]
    assert (row[1].text, row[1].why) == ("done", "")
    build(full)
    assert 'class="why"' not in (full.root / "results/report.html").read_text()


def test_the_figures_for_machines_are_those_of_the_page(full):
    build(full)
    facts = json.loads((full.root / "results/report/report.json").read_text())
    (ratio,) = [f for f in facts["figures"] if f["figure"] == "FP per TP"]
    assert ratio["value"] == 1.0
    assert (facts["light"], facts["volumes_by_state"]["done"]) == ("green", 2)
