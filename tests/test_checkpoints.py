"""A training that was broken off and goes on ends with the same bits."""

import csv
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import pytest
from test_training import TINY, bright_squares, crosses, outputs, put

from tomoglean import attempts, augment, networks, parts, training
from tomoglean.provenance import Refused, write_json
from tomoglean.training import checkpoints, keeping, machine, run

ROOT = Path(__file__).resolve().parent.parent
KEY = "ab" * 32
SOFT = {"depth": 1, "ema": 0.9, "dropout": 0.3, "epochs": 3}
MODIFIED = "lenet5_modified"
PATCHES = {"network": MODIFIED, "epochs": 2, "class_weights": [1, 2]}


def attempt(
    folder, examples, validation, augmented=(), *, key=KEY, save_minutes=10, **more
):
    """Make one attempt at a training; its files lie in the folder."""
    folder.mkdir(exist_ok=True)
    attempts.train(
        [examples],
        list(augmented),
        [validation],
        [],
        {name: str(path) for name, path in outputs(folder).items()},
        key=key,
        save_minutes=save_minutes,
        classes=["background", "thing"],
        seed=1,
        **{**TINY, **more},
    )
    return outputs(folder)


@contextmanager
def told_to_end(monkeypatch, *, step=None, validation=None, number=signal.SIGTERM):
    """Send ourselves a signal after a step of this attempt, or before a validation."""
    calls = {"step": 0, "validation": 0}

    def counting(name, original, at):
        def called(*words):
            calls[name] += 1
            if calls[name] == at:
                os.kill(os.getpid(), number)
            return original(*words)

        return called

    with monkeypatch.context() as patch:
        after, judge = keeping.Keeper.after_step, training.Judge.judge
        patch.setattr(keeping.Keeper, "after_step", counting("step", after, step))
        patch.setattr(training.Judge, "judge", counting("validation", judge, validation))
        yield


def results(files):
    """What a training made, without its times."""
    facts = json.loads(files["model"].read_text())
    facts.pop("seconds")
    rows = [{**row, "seconds": ""} for row in csv.DictReader(files["curve"].open())]
    hashes = [
        hashlib.sha256(files[one].read_bytes()).hexdigest() for one in ("weights", "last")
    ]
    return hashes, facts, rows


@pytest.fixture(scope="module")
def slices(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slices")
    examples = put(folder / "a.h5", {"z": bright_squares()})
    validation = put(folder / "v.h5", {"z": bright_squares(5, seed=9)}, volume="v")
    augment.write(examples, folder / "aug.h5")
    return examples, validation, [folder / "aug.h5"]


@pytest.fixture(scope="module")
def patches(tmp_path_factory):
    folder = tmp_path_factory.mktemp("patches")
    examples = put(folder / "p.h5", {"patches": crosses(40)}, kind="patches")
    held_out = {"patches": crosses(20, 5)}
    return examples, put(folder / "v.h5", held_out, kind="patches", volume="v")


@pytest.fixture(scope="module")
def observed(slices, tmp_path_factory):
    """Return what an undisturbed training made, and the loss of each of its steps."""
    losses = []

    def tell(*_, loss=None, **__):
        losses.extend([] if loss is None else [loss])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run.progress, "tell", tell)
        files = attempt(tmp_path_factory.mktemp("whole") / "w", *slices, **SOFT)
    return results(files), losses


@pytest.fixture(scope="module")
def undisturbed(observed):
    return observed[0]


# -- the same bits -------------------------------------------------------------------


def interrupted(folder, examples, patch, *, step=None, validation=None, **settings):
    """Break a training off and say where it was saved."""
    number = settings.pop("number", signal.SIGTERM)
    when = told_to_end(patch, step=step, validation=validation, number=number)
    with when, pytest.raises(training.Interrupted) as ended:
        attempt(folder, *examples, **(settings or SOFT))
    return str(ended.value).partition(";")[0]


@pytest.fixture(scope="module")
def disturbed(slices, tmp_path_factory):
    """Return a training that was broken off twice and then finished, and where."""
    folder = tmp_path_factory.mktemp("disturbed") / "w"
    with pytest.MonkeyPatch.context() as patch:
        told = [interrupted(folder, slices, patch, validation=1)]
        within = {"step": 2, "number": signal.SIGUSR1}
        told.append(interrupted(folder, slices, patch, **within))
    attempt(folder, *slices, **SOFT)
    return folder, told


@pytest.fixture
def finished(disturbed, tmp_path):
    return shutil.copytree(disturbed[0], tmp_path / "w")


@pytest.fixture
def nothing_is_learnt(monkeypatch):
    monkeypatch.setattr(run.Run, "learn", None)


def test_it_tells_where_it_was_saved(disturbed):
    places = [(1, 3), (2, 2)]  # three steps an epoch, then validation
    assert disturbed[1] == [f"train: saved at epoch {e}, step {s}" for e, s in places]


def test_a_training_broken_off_twice_ends_with_the_same_bits(disturbed, undisturbed):
    assert results(outputs(disturbed[0])) == undisturbed


def test_the_loss_of_an_epoch_is_the_mean_of_its_steps(observed):
    (_, _, rows), losses = observed
    means = np.reshape(losses, (3, 3)).mean(axis=1)
    assert [float(row["loss"]) for row in rows] == pytest.approx(means, abs=1e-6)


@pytest.mark.usefixtures("nothing_is_learnt")
def test_a_finished_training_whose_results_were_lost_writes_them_again(
    slices, undisturbed, finished
):
    for path in outputs(finished).values():
        path.unlink()
    assert results(attempt(finished, *slices, **SOFT)) == undisturbed


@pytest.mark.slow
def test_whenever_it_is_told_to_end_it_ends_with_the_same_bits(
    slices, undisturbed, tmp_path, monkeypatch
):
    for when in (
        {"step": 1},
        {"step": 2},  # the last of the epoch
        {"validation": 1},
        {"step": 3, "number": signal.SIGINT},
        {"validation": 2, "number": signal.SIGUSR1},
    ):
        interrupted(tmp_path / "w", slices, monkeypatch, **when)
    assert results(attempt(tmp_path / "w", *slices, **SOFT)) == undisturbed


@pytest.mark.slow
def test_patches_with_dropout_end_with_the_same_bits(patches, tmp_path, monkeypatch):
    whole = results(attempt(tmp_path / "one", *patches, **PATCHES))
    with told_to_end(monkeypatch, step=4), pytest.raises(training.Interrupted):
        attempt(tmp_path / "two", *patches, **PATCHES)
    assert results(attempt(tmp_path / "two", *patches, **PATCHES)) == whole


SLICES_OF_ALL_KINDS = [
    {"jit": True, "ema": 0.9, "dropout": 0.3},
    {"norm": "instance", "warmup_steps": 4},
    {"recipe": "plain", "dropout": 0.5, "input_px": None},
]
PATCHES_OF_ALL_KINDS = [
    {"network": "lenet5", "ema": 0.5},
    {"network": "lenet5_modified", "jit": True, "positive_share": None},
]


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 4, 9])
@pytest.mark.parametrize("settings", [*SLICES_OF_ALL_KINDS, *PATCHES_OF_ALL_KINDS])
def test_every_kind_of_training_ends_with_the_same_bits(
    slices, patches, tmp_path, monkeypatch, settings, step
):
    examples = patches if "network" in settings else slices
    settings = {**settings, "epochs": 4}
    whole = results(attempt(tmp_path / "one", *examples, **settings))
    with told_to_end(monkeypatch, step=step), pytest.raises(training.Interrupted):
        attempt(tmp_path / "two", *examples, **settings)
    assert results(attempt(tmp_path / "two", *examples, **settings)) == whole


@contextmanager
def crashing(monkeypatch, step):
    """Let the process die, as far as the training can tell, after so many steps."""
    original, calls = keeping.Keeper.after_step, []

    def dying(keeper, state):
        original(keeper, state)
        calls.append(1)
        if len(calls) == step:
            raise SystemError("the node died")

    with monkeypatch.context() as patch:
        patch.setattr(keeping.Keeper, "after_step", dying)
        yield


def slots(folder, key=KEY):
    return parts.Kept(str(outputs(folder)["weights"]), key).slots


@pytest.mark.slow
def test_a_training_that_died_goes_on_from_its_last_save(
    slices, undisturbed, tmp_path, monkeypatch
):
    with crashing(monkeypatch, step=5), pytest.raises(SystemError):
        attempt(tmp_path / "w", *slices, save_minutes=0, **SOFT)
    places = [checkpoints.read(slot).place for slot in slots(tmp_path / "w")]
    assert places == [(1, 2), (1, 1)]
    flip(slots(tmp_path / "w")[0])
    assert results(attempt(tmp_path / "w", *slices, **SOFT)) == undisturbed


LIVE = """
import sys
sys.path[:0] = [{tests!r}, {root!r}]
from pathlib import Path
from test_checkpoints import SOFT, attempt
where = [Path(each) for each in sys.argv[1:]]
attempt(where[0], where[1], where[2], where[3:], save_minutes=0, **SOFT)
"""


@pytest.mark.slow
def test_a_process_killed_for_good_loses_nothing(slices, undisturbed, tmp_path):
    code = LIVE.format(tests=str(ROOT / "tests"), root=str(ROOT))
    examples, validation, augmented = slices
    words = [sys.executable, "-c", code, tmp_path / "w", examples, validation, *augmented]
    first = subprocess.Popen(words)
    while not slots(tmp_path / "w")[1].exists() and first.poll() is None:
        time.sleep(0.05)
    first.kill()
    assert first.wait() == -signal.SIGKILL
    subprocess.run(words, check=True)
    assert results(outputs(tmp_path / "w")) == undisturbed


# -- when it saves -------------------------------------------------------------------


def test_signals_are_left_as_they_were(tmp_path):
    before = [signal.getsignal(number) for number in keeping.SIGNALS]
    with keeper(tmp_path).listening():
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(number) for number in keeping.SIGNALS] == before


@pytest.fixture
def checkpoint():
    rng = np.random.default_rng(0)
    facts = {"key": KEY, "epoch": 2, "step": 7, "loss_sum": 0.1, "best": -np.inf}
    arrays = {
        "network": [rng.random((3, 4), np.float32), np.arange(2, dtype=np.uint32)],
        "optimizer": [np.asarray(5)],
        "best": [],
    }
    return training.Checkpoint(facts, arrays)


def keeper(folder, **more):
    names = (folder / "a-0.h5", folder / "a-1.h5")
    return keeping.Keeper(training.Course(KEY, names, **more))


@pytest.mark.parametrize(
    ("minutes", "cost_s", "passed_s", "saved"),
    [(1, 0, 59, 0), (1, 0, 61, 1), (1, 2, 61, 0), (1, 2, 201, 1), (0, 9, 0, 1)],
)
def test_it_saves_every_so_often_but_for_a_hundredth_of_the_time_at_most(
    tmp_path, checkpoint, minutes, cost_s, passed_s, saved
):
    keeping_it = keeper(tmp_path, save_minutes=minutes)
    keeping_it.cost = cost_s
    keeping_it.saved -= passed_s
    keeping_it.after_step(lambda: checkpoint)
    assert len(list(tmp_path.iterdir())) == saved


def test_the_last_good_checkpoint_stays_while_the_next_is_written(tmp_path, checkpoint):
    keeping_it = keeper(tmp_path)
    for _ in range(3):
        keeping_it.save(checkpoint)
        newest = keeping_it.course.slots[1 - keeping_it.turn]
        again = keeper(tmp_path)
        assert again.newest(9).place == (2, 7)
        flip(newest)
    assert len(list(tmp_path.iterdir())) == 2


def test_after_a_resume_the_older_slot_is_written_first(tmp_path, checkpoint):
    for slot, epoch in zip(keeper(tmp_path).course.slots, (2, 1), strict=True):
        facts = {**checkpoint.facts, "epoch": epoch}
        checkpoints.write(training.Checkpoint(facts, checkpoint.arrays), slot)
    again = keeper(tmp_path)
    assert again.newest(9).place == (2, 7)
    again.save(checkpoint)
    assert checkpoints.read(again.course.slots[1]).place == (2, 7)


def test_what_lies_beyond_the_part_is_not_used(tmp_path, checkpoint):
    keeper(tmp_path).save(checkpoint)
    assert keeper(tmp_path).newest(2) is None
    assert keeper(tmp_path).newest(3).place == (2, 7)


# -- the file ------------------------------------------------------------------------


def flip(path):
    """Change one byte of the numbers in a file."""
    content = bytearray(path.read_bytes())
    content[content.index(b"{") + 5] ^= 1
    path.write_bytes(content)


def test_a_checkpoint_comes_back_as_it_was(tmp_path, checkpoint):
    checkpoints.write(checkpoint, tmp_path / "c.h5")
    found = checkpoints.read(tmp_path / "c.h5")
    assert str(found.facts) == str(checkpoint.facts)
    for name, arrays in checkpoint.arrays.items():
        for one, two in zip(arrays, found.arrays[name], strict=True):
            assert (one == two).all()
            assert one.dtype == two.dtype


def test_the_same_state_gives_the_same_file(tmp_path, checkpoint):
    for name in ("one.h5", "two.h5"):
        checkpoints.write(checkpoint, tmp_path / name)
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()


def test_no_changed_byte_changes_what_is_read(tmp_path, checkpoint):
    path = tmp_path / "c.h5"
    checkpoints.write(checkpoint, path)
    whole, wanted = path.read_bytes(), str(checkpoints.read(path))
    noticed = 0
    for place in range(0, len(whole), 97):
        content = bytearray(whole)
        content[place] ^= 0x10
        path.write_bytes(content)
        try:
            assert str(checkpoints.read(path)) == wanted
        except Refused:
            noticed += 1
    assert noticed > 5


@pytest.mark.parametrize("content", [b"", b"no HDF5", b"cut"])
def test_a_foreign_file_is_refused(tmp_path, checkpoint, content):
    path = tmp_path / "c.h5"
    checkpoints.write(checkpoint, path)
    path.write_bytes(path.read_bytes()[:900] if content == b"cut" else content)
    with pytest.raises(Refused, match=r"c\.h5: expected a whole tomoglean-checkpoint-1"):
        checkpoints.read(path)


@contextmanager
def full_disk(room):
    """Let no file grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_ends_the_job_with_a_line_and_spares_the_last_good_one(
    tmp_path, checkpoint
):
    keeping_it = keeper(tmp_path)
    keeping_it.save(checkpoint)
    with full_disk(1000), pytest.raises(Refused, match="expected room for a checkpoint of"):
        keeping_it.save(checkpoint)
    assert [path.name for path in tmp_path.iterdir()] == ["a-0.h5"]
    assert keeper(tmp_path).newest(9).place == (2, 7)


def test_a_disk_that_fills_up_elsewhere_ends_the_job_with_a_line_too(tmp_path, monkeypatch):
    def full(*words, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(training, "fit", full)
    with pytest.raises(Refused, match=r"train: expected room on the disk, found No space"):
        attempt(tmp_path / "w", tmp_path / "a.h5", tmp_path / "v.h5")


@pytest.mark.parametrize(
    ("network", "words"), [("unet", {"classes": 2, "width": 2, "depth": 1}), (MODIFIED, {})]
)
def test_random_numbers_of_dropout_are_state_of_the_network(network, words):
    def states(seed):
        keras.utils.set_random_seed(seed)
        model = networks.build(network, dropout=0.5, **words)
        generator = model.get_layer("dropout").seed_generator
        assert generator._initial_seed  # torch would use its global numbers without one
        assert any(variable is generator.state for variable in model.variables)
        return np.asarray(generator.state).tolist()

    assert states(1) == states(1) != states(2)


# -- what does not belong together ---------------------------------------------------


def change(path, **facts):
    old = checkpoints.read(path)
    checkpoints.write(training.Checkpoint({**old.facts, **facts}, old.arrays), path)


def newest(folder):
    return max(slots(folder), key=lambda slot: checkpoints.read(slot).place)


def test_a_checkpoint_of_another_training_is_refused(slices, finished):
    change(newest(finished), key="cd" * 32)
    expected = "of training abababababab, found one of cdcdcdcdcdcd"
    with pytest.raises(Refused, match=expected):
        attempt(finished, *slices, **SOFT)


def test_another_number_of_threads_is_refused(slices, finished):
    change(newest(finished), threads=64)
    with pytest.raises(Refused, match="expected 64 threads as in the checkpoint"):
        attempt(finished, *slices, **SOFT)


@pytest.mark.usefixtures("nothing_is_learnt")
def test_another_processor_is_warned_of_and_told(slices, finished, caplog):
    change(newest(finished), processors=["Abacus"], versions={"keras": "0"})
    files = attempt(finished, *slices, **SOFT)
    assert "goes on on" in caplog.text
    assert "Abacus began" in caplog.text
    assert "other versions" in caplog.text
    told = json.loads(files["model"].read_text())["processors"]
    assert told == ["Abacus", machine.processor()]


def test_what_another_key_keeps_is_not_touched():
    weights = "results/trained/bone/final.weights.h5"
    one, other = (parts.Kept(weights, key * 32) for key in ("ab", "cd"))
    files = {*one.slots, one.note, *other.slots, other.note}
    assert len(files) == 6
    assert str(one.slots[0]) == "results/trained/bone/final.running-abababababab-0.h5"


# -- NaN -----------------------------------------------------------------------------


@pytest.fixture
def hopeless(slices, tmp_path):
    images, labels = bright_squares()
    path = put(tmp_path / "nan.h5", {"z": (np.full_like(images, np.nan), labels)})
    with pytest.raises(training.Diverged, match="finite loss"):
        attempt(tmp_path / "w", path, slices[1])
    return path


def test_after_nan_the_next_attempt_ends_without_loading_keras(hopeless, tmp_path):
    program = (
        "import sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from tomoglean import attempts\n"
        f"files = {{'weights': {str(outputs(tmp_path / 'w')['weights'])!r}}}\n"
        "try:\n"
        f"    attempts.train([], [], [], [], files, key={KEY!r}, save_minutes=1)\n"
        "finally:\n"
        "    assert not {'keras', 'tensorflow', 'h5py'} & set(sys.modules)\n"
    )
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    told = done.stderr.splitlines()[-1]
    assert "expected finite loss, found NaN or infinity in epoch 1, step 1" in told
    assert "found before: change a setting, or remove" in told


def test_a_note_is_told_and_without_it_nothing_is_refused(tmp_path):
    attempts.refuse_if_hopeless(tmp_path / "final.nan-ab12.json")
    write_json({"message": "train: NaN"}, tmp_path / "final.nan-ab12.json")
    with pytest.raises(Refused, match=r"train: NaN \(found before: change a setting"):
        attempts.refuse_if_hopeless(tmp_path / "final.nan-ab12.json")


def test_what_was_kept_is_forgotten_once_the_results_are_taken_on(tmp_path):
    stays = ["final.weights.h5", "control-final.running-ab12-0.h5", "final.json"]
    partial = ".partial-0a1b2c3d-77-x_y-"
    stays.append(f"{partial}control-final.running-ab12-1.h5")
    goes = ["final.running-ab12-0.h5", "final.running-cd34-1.h5", "final.nan-ab12.json"]
    goes.append(f"{partial}final.running-ab12-1.h5")
    for name in stays + goes:
        (tmp_path / name).touch()
    parts.forget(tmp_path / "final.weights.h5")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(stays)
