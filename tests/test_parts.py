"""Which parts a training has: by its settings, and by what is finished already."""

import json
from types import SimpleNamespace

import pytest
from test_training import bright_squares, outputs, put
from trainings import set_training, trained, write_training_study

from tomoglean import attempts, demands, parts, training
from tomoglean.forecast import artefacts, extents, sizes
from tomoglean.plan import Plan
from tomoglean.study import read
from tomoglean.training import checkpoints
from workflow import ROOT, planned, snakemake

SETTINGS = {"epochs": 15, "learning_rate": 0.001}


def record(folder, name, before=None, settings=SETTINGS):
    """Write the record of a finished job of a training."""
    inputs = {"results/sliced/bone/final/train/a.h5": "k"}
    if before:
        inputs[parts.path("bone", "final", before)] = "k"
    path = folder / parts.RECORDS / "bone" / f"final.{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    made_of = {"settings": {"settings": settings}, "inputs": inputs}
    path.write_text(json.dumps(made_of))


def chain(folder, every, **settings):
    return parts.chain("bone", "final", {**SETTINGS, **settings}, every, folder)


# -- the chain -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "expected"),
    [(None, []), (15, []), (99, []), (5, [5, 10]), (4, [4, 8, 12]), (14, [14])],
)
def test_a_new_training_passes_on_at_multiples(tmp_path, every, expected):
    assert chain(tmp_path, every) == expected


@pytest.mark.parametrize("every", [None, 1, 4, 5])
def test_a_finished_training_keeps_its_parts(tmp_path, every):
    record(tmp_path, "epoch-4.h5")
    record(tmp_path, "epoch-8.h5", before=4)
    record(tmp_path, "weights.h5", before=8)
    assert chain(tmp_path, every) == [4, 8]


@pytest.mark.parametrize("every", [1, 5])
def test_a_training_finished_in_one_job_stays_so(tmp_path, every):
    record(tmp_path, "weights.h5")
    assert chain(tmp_path, every) == []


@pytest.mark.parametrize(("every", "expected"), [(4, [4, 8, 12]), (5, [4, 8, 13])])
def test_a_training_under_way_keeps_the_parts_it_has(tmp_path, every, expected):
    record(tmp_path, "epoch-4.h5")
    record(tmp_path, "epoch-8.h5", before=4)
    assert chain(tmp_path, every) == expected
    assert chain(tmp_path, None) == [4, 8]


def test_the_chain_stays_the_same_while_it_is_being_made(tmp_path):
    record(tmp_path, "epoch-3.h5")
    before = chain(tmp_path, 5)
    for epoch, earlier in zip(before[1:], before, strict=False):
        record(tmp_path, f"epoch-{epoch}.h5", before=earlier)
        assert chain(tmp_path, 5) == before
    record(tmp_path, "weights.h5", before=before[-1])
    assert chain(tmp_path, 5) == before == [3, 8, 13]


def test_what_other_settings_made_does_not_count(tmp_path):
    record(tmp_path, "epoch-4.h5")
    record(tmp_path, "weights.h5", before=4)
    assert chain(tmp_path, 5, learning_rate=0.1) == [5, 10]


def test_other_rounds_and_damaged_records_do_not_count(tmp_path):
    folder = tmp_path / parts.RECORDS / "bone"
    folder.mkdir(parents=True)
    record(tmp_path, "epoch-4.h5")
    (folder / "final.epoch-4.h5.json").rename(folder / "weak-0.epoch-4.h5.json")
    (folder / "final.epoch-2.h5.json").write_text("{")
    (folder / "final.weights.h5.json").write_text("[]")
    assert chain(tmp_path, 6) == [6, 12]


@pytest.mark.parametrize(
    ("epoch", "before"), [("4", None), ("8", 4), ("6", 4), ("99", 12), (None, 12)]
)
def test_every_job_goes_on_from_the_part_before(epoch, before):
    assert parts.previous([4, 8, 12], epoch) == before


def test_names_tell_the_epoch():
    name = parts.path("bone", "final", 12)
    assert name == "results/trained/bone/final.epoch-12.h5"
    assert parts.epoch_of(name) == 12
    assert parts.epoch_of("results/trained/epoch-4/final.weights.h5") is None


# -- in the plan ---------------------------------------------------------------------


@pytest.fixture
def study(tmp_path):
    return write_training_study(tmp_path / "study", epochs_per_job=3, epochs=8)


def plan(study):
    return Plan(read(study))


def test_the_plan_asks_for_every_part(study):
    wanted = plan(study).everything("bone", "train")
    names = [path.removeprefix("results/trained/bone/") for path in wanted]
    assert names[:3] == ["final.epoch-3.h5", "final.epoch-6.h5", "final.weights.h5"]


def test_how_a_training_is_run_is_no_setting_of_its_result(study):
    settings = plan(study).settings("train")
    at = artefacts.Artefact("train", parts.path("bone", "final", 3)).at
    assert not set(settings(at)) & {"epochs_per_job", "save_minutes"}
    assert plan(study).save_minutes(at) == "0"


def test_a_job_learns_its_own_epochs(study):
    whole = plan(study)
    jobs = [a for a in artefacts.wanted(whole).values() if a.stage == "train"]
    epochs = {artefact.job: artefact.at for artefact in jobs}
    assert len(epochs) == 3
    before = [whole.previous(at) for at in epochs.values()]
    assert before == [
        [],
        [parts.path("bone", "final", 3)],
        [parts.path("bone", "final", 6)],
    ]


def test_the_time_that_a_job_asks_for_is_that_of_its_own_epochs(study):
    whole = plan(study)
    asked = demands.Demands(whole)
    jobs = [{"epoch": "3"}, {"epoch": "6"}, {}]
    jobs = [SimpleNamespace(task="bone", round="final", **job) for job in jobs]
    work = [asked.work("train", job) for job in jobs]
    assert work == pytest.approx([work[0], work[0], work[0] * 2 / 3])
    assert work[0] > 0


def test_a_part_is_as_large_as_the_forecast_says(in_two, study):
    made = (in_two[1] / "w.epoch-2.h5").stat().st_size
    set_training(study, **{**TRAIN, "ema": 0, "epochs_per_job": 2})
    whole = plan(study)
    part = artefacts.Artefact("train", parts.path("bone", "final", 2))
    known, _ = extents.find(whole.study)
    assert made == pytest.approx(sizes.Sizes(whole, known).of(part), rel=0.5)


# -- the training itself -------------------------------------------------------------


KEY = "ab" * 32
TRAIN = {"width": 2, "depth": 1, "input_px": 17, "batch": 4, "steps_per_epoch": 2}


def job(folder, examples, outputs, previous=(), **settings):
    attempts.train(
        *([examples], [], [examples], previous, outputs),
        key=KEY,
        save_minutes=10,
        classes=["background", "thing"],
        seed=1,
        **{**TRAIN, "epochs": 3, **settings},
    )


@pytest.fixture(scope="module")
def in_two(tmp_path_factory):
    """Return a training of two jobs, another of one job, and their examples."""
    folder = tmp_path_factory.mktemp("parts")
    examples = put(folder / "a.h5", {"z": bright_squares()})
    whole, parted = folder / "whole", folder / "parted"
    names = {name: str(path) for name, path in outputs(parted).items()}
    part = str(parted / "w.epoch-2.h5")
    for each in (whole, parted):
        each.mkdir()
    job(whole, examples, {name: str(path) for name, path in outputs(whole).items()})
    job(parted, examples, {"part": part})
    for slot in parts.Kept(part, KEY).slots:
        slot.unlink(missing_ok=True)
    job(parted, examples, names, [part])
    return whole, parted, examples


def test_a_training_in_parts_ends_with_the_same_bits(in_two):
    for name in ("weights", "last"):
        one, two = (outputs(folder)[name].read_bytes() for folder in in_two[:2])
        assert one == two
    one, two = (json.loads(outputs(folder)["model"].read_text()) for folder in in_two[:2])
    assert {**one, "seconds": 0} == {**two, "seconds": 0}


def test_a_part_ends_at_its_epoch(in_two):
    found = checkpoints.read(in_two[1] / "w.epoch-2.h5")
    assert found.place == (2, 0)
    assert not found.facts["ended"]
    assert len(found.facts["rows"]) == 2


def test_parts_after_early_stopping_are_copies(in_two, tmp_path, monkeypatch):
    old = checkpoints.read(in_two[1] / "w.epoch-2.h5")
    stopped = training.Checkpoint({**old.facts, "ended": True}, old.arrays)
    checkpoints.write(stopped, tmp_path / "w.epoch-2.h5")
    monkeypatch.setattr(training.run.Run, "learn", None)
    outputs = {"part": str(tmp_path / "w.epoch-9.h5")}
    job(tmp_path, in_two[2], outputs, [str(tmp_path / "w.epoch-2.h5")], epochs=12)
    copy = checkpoints.read(tmp_path / "w.epoch-9.h5")
    assert {**copy.facts, "seconds": 0} == {**stopped.facts, "seconds": 0}


def test_a_damaged_part_is_refused_and_not_passed_over(in_two, tmp_path):
    part = tmp_path / "w.epoch-2.h5"
    part.write_bytes((in_two[1] / "w.epoch-2.h5").read_bytes()[:-100])
    with pytest.raises(training.checkpoints.Refused, match=r"w\.epoch-2\.h5: expected a"):
        job(tmp_path, in_two[2], {"part": str(tmp_path / "w.epoch-3.h5")}, [str(part)])


# -- in Snakemake --------------------------------------------------------------------


@pytest.mark.slow
def test_parts_in_the_workflow_give_the_same_bits(tmp_path):
    whole = write_training_study(tmp_path / "whole", epochs=3)
    parted = write_training_study(tmp_path / "parted", epochs=3, epochs_per_job=1)
    for study in (whole, parted):
        done = snakemake(ROOT, study, "bone_train", fake=False)
        assert done.returncode == 0, done.stderr
    assert trained(parted) == trained(whole)


@pytest.mark.slow
def test_another_number_of_epochs_per_job_runs_nothing_that_is_finished(tmp_path):
    study = write_training_study(tmp_path / "study", epochs=4, epochs_per_job=2)
    assert snakemake(ROOT, study, "bone_train").returncode == 0
    made_of = plan(study).settings("train")(SimpleNamespace(task="bone", round="final"))
    record(study, "epoch-2.h5", settings=made_of)
    record(study, "weights.h5", before=2, settings=made_of)
    for every in (1, None):
        set_training(study, epochs=4, epochs_per_job=every, save_minutes=7)
        assert planned(ROOT, study, "bone_train") == {}
    set_training(study, epochs=4, epochs_per_job=1, learning_rate=0.01)
    expected = {"train_part": 3, "train": 1, "bone_train": 1}
    assert planned(ROOT, study, "bone_train") == expected
