"""Claims about how many jobs share a volume, and that changing it runs nothing again."""

import shutil
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from test_segmentation import SCALE, write_model, write_network

from tomoglean import blocks, forecast, provenance, stage, study, volumes
from tomoglean.fingerprint import fingerprint
from tomoglean.forecast import extents
from tomoglean.forecast.artefacts import Artefact
from tomoglean.forecast.sizes import Sizes
from tomoglean.forecast.work import Work
from tomoglean.plan import Plan
from tomoglean.volumes import Volume
from workflow import copy_checkout, edit, planned, snakemake, write_study

SEGMENTED = "results/segmented/membrane/final/v.h5"
GVOXEL = 1e9


# -- how many --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "voxels", "expected"),
    [
        ((1, None), 9e12, 1),
        ((4, None), None, 4),
        ((1, 1.0), None, 1),
        ((1, 1.0), GVOXEL, 1),
        ((1, 1.0), GVOXEL + 1, 2),
        ((1, 0.5), 1.449 * GVOXEL, 3),
        ((4, 1.0), GVOXEL, 4),
        ((1, 0.001), 9e12, 64),
    ],
)
def test_the_number_follows_from_settings_and_size(settings, voxels, expected):
    least, most = settings
    given = {"blocks": least, "block_gvoxels": most}
    assert blocks.number(given, voxels) == expected


def test_one_job_alone_makes_no_blocks():
    assert blocks.paths("results/segmented/a/final/v.h5", 1) == []


def test_blocks_have_names_that_no_artefact_has():
    parts = blocks.paths("results/segmented/a/final/v.h5", 3)
    assert parts[2] == "results/segmented/a/final/v.block-3-of-3.h5"
    assert all(map(blocks.is_block, parts))
    assert not blocks.is_block("results/segmented/a/final/block-1-of-3.h5")


def test_the_settings_of_a_job_do_not_say_in_how_many_jobs(tmp_path):
    plan = Plan(study.read(write_study(tmp_path)))
    found = plan.settings("segment")(SimpleNamespace(task="bone", round="final"))
    assert "axes" in found
    assert not {"blocks", "block_gvoxels"} & found.keys()


# -- by size ---------------------------------------------------------------------------


def plan_with(folder, monkeypatch, **block):
    """Return the plan of a study whose membrane task has these settings of segment."""
    config = write_study(folder) / "config" / "config.yaml"
    text = f"classes: [background, membrane]\n    segment: {block}\n"
    edit(config, "classes:\n    - background\n    - membrane\n", text)
    checked = str(folder / "v.json")
    output = SimpleNamespace(checked=checked)
    check = SimpleNamespace(get=lambda volume: SimpleNamespace(output=output))
    return Plan(study.read(folder), SimpleNamespace(check=check))


AT = SimpleNamespace(task="membrane", round="final", volume="v")


def test_a_large_volume_is_shared_once_it_is_checked(tmp_path, monkeypatch):
    plan = plan_with(tmp_path, monkeypatch, block_gvoxels=0.001)
    provenance.write_json({"shape": [100, 100, 250]}, tmp_path / "v.json")
    parts = plan.blocks("segment")(AT)
    assert parts == blocks.paths(SEGMENTED, 3)


def test_a_refused_volume_without_a_shape_stops_nothing(tmp_path, monkeypatch):
    plan = plan_with(tmp_path, monkeypatch, block_gvoxels=0.001)
    provenance.write_json({"verdict": "refused"}, tmp_path / "v.json")
    assert plan.blocks("segment")(AT) == []


def test_steps_of_the_row_make_a_volume_smaller(tmp_path, monkeypatch):
    plan = plan_with(tmp_path, monkeypatch, block_gvoxels=0.001)
    provenance.write_json({"shape": [100, 100, 250]}, tmp_path / "v.json")
    plan.study.row("v")["bin"] = "2"
    assert plan.blocks("segment")(AT) == []


def test_without_a_limit_the_check_is_not_waited_for(tmp_path):
    plan = Plan(study.read(write_study(tmp_path)))  # has no checkpoints to ask
    assert plan.blocks("segment")(AT) == []


# -- a finished artefact keeps its number ----------------------------------------------


def record_of(plan, number, **changes):
    """Write the record that a finished segmentation of so many blocks leaves."""
    parts = dict.fromkeys(blocks.paths(SEGMENTED, number), "k")
    facts = {
        "code": plan.code("segment")(AT),
        "settings": {"settings": plan.settings("segment")(AT)},
        "inputs": {"results/converted/v.h5": "k", **parts},
    }
    path = plan.study.root / stage.RECORDS / "segmented/membrane/final/v.h5.json"
    provenance.write_json({**facts, **changes}, path)


@pytest.mark.parametrize("number", [1, 3])
def test_a_finished_artefact_keeps_its_number(tmp_path, monkeypatch, number):
    plan = plan_with(tmp_path, monkeypatch, blocks=2)
    assert len(plan.blocks("segment")(AT)) == 2
    record_of(plan, number)
    assert plan.blocks("segment")(AT) == blocks.paths(SEGMENTED, number)


@pytest.mark.parametrize(
    "change",
    [{"code": "other"}, {"settings": {"settings": {"axes": ["z"]}}}, {"inputs": None}],
    ids=str,
)
def test_one_that_is_to_be_made_anew_takes_todays_number(tmp_path, monkeypatch, change):
    plan = plan_with(tmp_path, monkeypatch, blocks=2)
    record_of(plan, 1, **change)
    assert len(plan.blocks("segment")(AT)) == 2


def test_the_key_of_an_artefact_does_not_depend_on_its_blocks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def key(inputs):
        job = SimpleNamespace(params={"code": "c"}, input=inputs, output=["results/o.h5"])
        (tmp_path / "results").mkdir(exist_ok=True)
        (tmp_path / "results" / "o.h5").touch()
        for name in inputs:
            provenance.write_json({"key": name}, stage.RECORDS / f"{name[8:]}.json")
        return stage._records(SimpleNamespace(rule="segment", **vars(job)))["o.h5"]["key"]

    alone = key(["results/a.h5"])
    assert key(["results/a.h5", *blocks.paths("results/o.h5", 2)]) == alone
    assert key(["results/b.h5"]) != alone


# -- the workflow ----------------------------------------------------------------------

SCORES = "results/classified/t3ss/final/{}.h5"
ONLY = ("--allowed-rules", "classify", "classify_block", "--")
INPUTS = ("converted/v.h5", "masked/t3ss/v.h5", "trained/t3ss/final.onnx",
          "trained/t3ss/final.json")  # fmt: skip


def share_classify(folder, text):
    """Give the detection task's config these settings of classify."""
    block = "membrane: membrane\n    classify: {}"
    config = folder / "config" / "config.yaml"
    lines = config.read_text().splitlines(keepends=True)
    config.write_text("".join(line for line in lines if "classify: " not in line))
    edit(config, "membrane: membrane", block.format(text))


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Return a checkout, and a study in which two jobs shared the score map of a volume."""
    checkout = copy_checkout(tmp_path_factory.mktemp("checkout"))
    folder = write_study(tmp_path_factory.mktemp("shared") / "study")
    for name in (*INPUTS, "converted/w.h5", "masked/t3ss/w.h5"):
        provenance.write_text(name, folder / "results" / name)
    share_classify(folder, "{blocks: 2}")
    done = snakemake(checkout, folder, *ONLY, SCORES.format("v"))
    assert done.returncode == 0, done.stdout + done.stderr
    plan = Plan(study.read(folder))
    at = SimpleNamespace(task="t3ss", round="final", volume="v")
    settings = {"settings": plan.settings("classify")(at), "look": plan.look(at)}
    script = checkout / "workflow" / "scripts" / "classify.py"
    facts = {
        "code": fingerprint(script, root=checkout),
        "settings": settings,
        "inputs": dict.fromkeys(blocks.paths(SCORES.format("v"), 2), "k"),
    }
    record = f"{SCORES.format('v')[8:]}.json"
    provenance.write_json(facts, folder / stage.RECORDS / record)
    return checkout, folder


@pytest.fixture
def again(shared, tmp_path):
    """Return a function that says what another setting would run, for some volumes."""
    checkout, finished = shared
    folder = shutil.copytree(finished, tmp_path / "study", symlinks=True)

    def dry(text, volumes="v", **environment):
        share_classify(folder, text)
        names = map(SCORES.format, volumes)
        return planned(checkout, folder, *ONLY, *names, **environment)

    return dry


@pytest.mark.xdist_group("blocks")
def test_blocks_are_made_gathered_and_removed(shared):
    _, folder = shared
    assert (folder / SCORES.format("v")).exists()
    assert not list(folder.rglob("*.block-*.h5"))
    logs = {log.name for log in (folder / "logs" / "classify").rglob("v.block-*")}
    assert logs == {f"v.block-{n}-of-2.log" for n in (1, 2)}


@pytest.mark.xdist_group("blocks")
def test_another_number_runs_nothing_that_is_finished(again):
    assert again("{blocks: 3}", "vw") == {"classify": 1, "classify_block": 3}  # for w


@pytest.mark.slow
@pytest.mark.xdist_group("blocks")
@pytest.mark.parametrize("text", ["{blocks: 1}", "{blocks: 2}", "{blocks: 5}"])
def test_a_finished_artefact_stays_at_any_number(again, text):
    assert again(text) == Counter()


@pytest.mark.slow
@pytest.mark.xdist_group("blocks")
def test_a_changed_setting_makes_all_blocks_anew(again):
    assert again("{flips: [x], blocks: 3}") == {"classify": 1, "classify_block": 3}
    assert again("{flips: [x]}") == {"classify": 1}


@pytest.mark.slow
@pytest.mark.xdist_group("blocks")
def test_a_block_that_failed_runs_again_and_the_gathering_with_it(shared, tmp_path):
    checkout, finished = shared
    folder = shutil.copytree(finished, tmp_path / "study", symlinks=True)
    share_classify(folder, "{flips: [x], blocks: 2}")
    words = (*ONLY, SCORES.format("v"))
    assert snakemake(checkout, folder, *words, FAKE_FAIL="classify_block").returncode == 1
    assert planned(checkout, folder, *words) == {"classify": 1, "classify_block": 2}


@pytest.mark.slow
@pytest.mark.xdist_group("blocks")
def test_touched_inputs_of_removed_blocks_run_nothing(shared, tmp_path):
    checkout, finished = shared
    folder = shutil.copytree(finished, tmp_path / "study", symlinks=True)
    for name in INPUTS:
        (folder / "results" / name).touch()
    assert planned(checkout, folder, *ONLY, SCORES.format("v")) == Counter()


@pytest.mark.slow
def test_a_volume_is_shared_by_the_size_that_the_check_found(tmp_path):
    checkout = copy_checkout(tmp_path / "checkout")
    folder = write_study(tmp_path / "study")
    for name in INPUTS:
        provenance.write_text(name, folder / "results" / name)
    share_classify(folder, "{block_gvoxels: 0.001}")
    only = ("--allowed-rules", "check", *ONLY[1:], SCORES.format("v"))
    done = snakemake(checkout, folder, *only, FAKE_SHAPE="[100, 100, 250]")
    assert done.returncode == 0, done.stdout + done.stderr
    logs = {log.name for log in (folder / "logs" / "classify").rglob("v.block-*")}
    assert logs == {f"v.block-{n}-of-3.log" for n in (1, 2, 3)}
    assert planned(checkout, folder, *only) == Counter()


@pytest.mark.slow
def test_jobs_that_share_make_the_artefact_of_one_job(tmp_path):
    """The real scripts, run by Snakemake, alone and in three."""
    checkout = copy_checkout(tmp_path / "checkout")
    target = "results/segmented/bone/final/d.h5"
    only = ("--allowed-rules", "segment", "segment_block", "--", target)
    made = {}
    for number in (1, 3):
        folder = write_study(tmp_path / str(number))
        text = f"- bone\n    segment: {{blocks: {number}, axes: [z, x]}}\n"
        edit(folder / "config" / "config.yaml", "- bone\n", text)
        trained = folder / "results" / "trained" / "bone"
        trained.mkdir(parents=True)
        write_network(trained / "final.onnx", np.ones((2, 1, 5, 5)), [0, 1])
        write_model(trained / "final.json", ["background", "bone"])
        grey = np.random.default_rng(0).normal(0, 1, (140, 20, 90)).astype(np.float32)
        path = folder / "results" / "converted" / "d.h5"
        volumes.write(Volume(grey, (1.0, 1.0, 1.0)), path, **SCALE)
        done = snakemake(checkout, folder, *only, fake=False)
        assert done.returncode == 0, done.stdout + done.stderr
        record = folder / stage.RECORDS / f"{target[8:]}.json"
        key = provenance.read_json(record)["key"]
        made[number] = (folder / target).read_bytes(), key
        edit(folder / "config" / "config.yaml", f"blocks: {number}", "blocks: 2")
        found = snakemake(checkout, folder, "-n", *only, fake=False)
        assert "Nothing to be done" in found.stdout + found.stderr
    assert made[1] == made[3]


# -- the forecast ----------------------------------------------------------------------


def work_of(folder, tmp_path, monkeypatch, **block):
    plan = plan_with(folder, monkeypatch, **block)
    known = {"v": extents.Extent((64, 64, 128), 4)}
    return Work(Sizes(plan, known), {})


def test_blocks_count_as_jobs_and_their_votes_as_scratch(tmp_path, monkeypatch):
    artefact = Artefact("segment", SEGMENTED)
    one = work_of(tmp_path / "a", tmp_path, monkeypatch)
    four = work_of(tmp_path / "b", tmp_path, monkeypatch, blocks=4)
    assert (one.blocks(artefact), four.blocks(artefact)) == (0, 4)
    assert one.scratch(artefact) == 2 * 2 * 64 * 64 * 128  # one sum of votes, two classes
    assert four.scratch(artefact) == 3 * one.scratch(artefact)  # votes of three axes


def test_blocks_of_one_axis_hold_labels_only(tmp_path, monkeypatch):
    work = work_of(tmp_path / "a", tmp_path, monkeypatch, blocks=4, axes=["z"])
    artefact = Artefact("segment", SEGMENTED)
    assert work.scratch(artefact) == work.sizes.of(artefact)


def test_a_job_took_as_long_as_its_blocks_together(tmp_path):
    folder = tmp_path / "results" / "provenance" / "segmented/membrane/final"
    parts = blocks.paths(SEGMENTED, 2)
    inputs = dict.fromkeys(parts, "k")
    provenance.write_json({"seconds": 1.0, "inputs": inputs}, folder / "v.h5.json")
    artefact = Artefact("segment", SEGMENTED)
    assert forecast.seconds_of(tmp_path, artefact) is None
    for seconds, part in zip((20.0, 300.0), parts, strict=True):
        name = part.rpartition("/")[2]
        provenance.write_json({"seconds": seconds}, folder / f"{name}.json")
    assert forecast.seconds_of(tmp_path, artefact) == 321.0
