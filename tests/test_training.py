"""Training: the right batches, the same bits twice, and no NaN ever kept."""

import csv
import json
from contextlib import ExitStack
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from tomoglean import augment, config, training
from tomoglean.networks import store
from tomoglean.provenance import Refused
from tomoglean.training import loop, validation

CLASSES = ["background", "thing"]
TINY = {
    "width": 2,
    "depth": 2,
    "input_px": 17,
    "batch": 4,
    "epochs": 2,
    "steps_per_epoch": 3,
}
FINGERPRINT = {"p_low": 0.0, "p_high": 9.0, "mean": 4.0, "std": 2.0}


def put(path, groups, *, volume="a", kind="slices", **more):
    """Write an examples file from (images, labels) by group."""
    with h5py.File(path, "w") as file:
        file.attrs.update({"volume": volume, "kind": kind, **FINGERPRINT, **more})
        for name, (images, labels) in groups.items():
            file[f"{name}/images"] = images.astype(np.float32)
            file[f"{name}/labels"] = np.asarray(labels, np.uint8)
            file[f"{name}/index"] = np.arange(len(labels))
    return path


def bright_squares(count=6, shape=(24, 30), seed=0):
    """Slices with one bright square of class 1 each."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((count, *shape), np.uint8)
    for one in labels:
        y, x = rng.integers(0, 12, 2)
        one[y : y + 8, x : x + 8] = 1
    return labels + 0.3 * rng.normal(size=labels.shape), labels


def crosses(count=12, seed=0):
    """Patches of 16 px, every third with a bright centre."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(count) % 3 == 0).astype(np.uint8)
    images = 0.3 * rng.normal(size=(count, 16, 16))
    images[labels == 1, 6:10, 6:10] += 2
    return images, labels


@pytest.fixture
def stack():
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def slices_file(tmp_path):
    return put(tmp_path / "a.h5", {"z": bright_squares(), "y": bright_squares(2, (24, 24))})


@pytest.fixture
def patches_file(tmp_path):
    return put(tmp_path / "p.h5", {"patches": crosses()}, kind="patches")


# -- examples ------------------------------------------------------------------------


def test_a_pool_holds_every_copy_of_every_slice(slices_file, tmp_path, stack):
    augment.write(slices_file, tmp_path / "aug.h5")
    pool = training.Pool(stack, [slices_file], [tmp_path / "aug.h5"])
    assert len(pool.items) == 6 * 8


def test_without_augmentation_there_are_the_originals(slices_file, stack):
    pool = training.Pool(stack, [slices_file])
    assert len(pool.items) == 8
    image, labels = pool.load(2)
    with h5py.File(slices_file) as file:
        assert np.array_equal(image[..., 0], file["z/images"][0])
        assert np.array_equal(labels, file["z/labels"][0])


def test_materialised_pixels_are_those_computed(slices_file, tmp_path, stack):
    augment.write(slices_file, tmp_path / "numbers.h5", seed=3)
    augment.write(slices_file, tmp_path / "pixels.h5", seed=3, materialise=True)
    numbers = training.Pool(stack, [slices_file], [tmp_path / "numbers.h5"])
    pixels = training.Pool(stack, [slices_file], [tmp_path / "pixels.h5"])
    for place in range(len(numbers.items)):
        for one, two in zip(numbers.load(place), pixels.load(place), strict=True):
            assert np.array_equal(one, two)


def test_unlabelled_patches_are_left_out(tmp_path, stack):
    images, labels = crosses()
    labels[:5] = 255
    path = put(tmp_path / "p.h5", {"patches": (images, labels)}, kind="patches")
    pool = training.Pool(stack, [path])
    assert len(pool.items) == 7
    assert 255 not in pool.item_labels()


def test_a_volume_without_examples_is_harmless(slices_file, tmp_path, stack):
    empty = {"z": (np.zeros((0, 9, 9)), np.zeros((0, 9, 9)))}
    path = put(tmp_path / "empty.h5", empty, volume="b")
    pool = training.Pool(stack, [path, slices_file])
    assert len(pool.items) == 8
    assert pool.image_shape() == (24, 30, 1)


def test_warps_of_a_stranger_are_refused(slices_file, tmp_path, stack):
    other = put(tmp_path / "b.h5", {"z": bright_squares()}, volume="b")
    augment.write(other, tmp_path / "aug.h5")
    with pytest.raises(Refused, match="b: augmented"):
        training.Pool(stack, [slices_file], [tmp_path / "aug.h5"])


# -- batches -------------------------------------------------------------------------


def test_every_slice_comes_once_before_any_comes_twice(slices_file, stack):
    pool = training.Pool(stack, [slices_file])
    places = training.order(pool, seed=1, epoch=1, steps=3, batch=4, share=0.5)
    assert sorted(places.ravel()[:8]) == list(range(8))
    assert len(set(places.ravel()[8:])) == 4


def test_the_order_depends_on_the_epoch_alone(slices_file, stack):
    pool = training.Pool(stack, [slices_file])
    one, same, other = (
        training.order(pool, seed=1, epoch=epoch, steps=2, batch=4, share=None)
        for epoch in (1, 1, 2)
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(("share", "positives"), [(0.5, 2), (0.25, 1), (0.0, 1), (1.0, 3)])
def test_every_batch_of_patches_has_its_share_of_positives(
    patches_file, stack, share, positives
):
    pool = training.Pool(stack, [patches_file])
    places = training.order(pool, seed=1, epoch=1, steps=5, batch=4, share=share)
    assert (pool.item_labels()[places] > 0).sum(axis=1).tolist() == [positives] * 5


def test_a_forced_crop_holds_the_rare_class():
    labels = np.zeros((60, 60), np.uint8)
    labels[3, 55] = 1
    for key in range(20):
        seed = (1, key)
        _, found = training.crop(labels[..., None], labels, (8, 8), forced=True, seed=seed)
        assert found.shape == (8, 8)
        assert (found == 1).sum() == 1


def test_forced_crops_give_each_class_its_turn():
    labels = np.zeros((60, 60), np.uint8)
    labels[:, 30:] = 1
    labels[50, 5] = 2
    rare = [
        2 in training.crop(labels[..., None], labels, (8, 8), forced=True, seed=(1, key))[1]
        for key in range(60)
    ]
    assert 15 < sum(rare) < 45


def test_crops_reach_every_place():
    image = np.arange(25.0).reshape(5, 5, 1)
    labels = np.zeros((5, 5), np.uint8)
    corners = {
        training.crop(image, labels, (4, 4), forced=False, seed=(1, key))[0][0, 0, 0]
        for key in range(60)
    }
    assert corners == {0, 1, 5, 6}


def test_a_slice_smaller_than_the_window_is_reflected_and_not_labelled_there():
    image = np.arange(12.0).reshape(3, 4, 1)
    labels = np.ones((3, 4), np.uint8)
    seen, truth = training.crop(image, labels, (5, 4), forced=True, seed=(1, 0))
    assert seen[:, 0, 0].tolist() == [4, 0, 4, 8, 4]
    assert truth[:, 0].tolist() == [255, 1, 1, 1, 255]


@pytest.mark.parametrize(("window", "padded"), [(17, 32), (16, 16), (600, 608)])
def test_any_window_is_padded_to_a_legal_size(slices_file, stack, window, padded):
    pool = training.Pool(stack, [slices_file])
    framing = training.Framing((window, window), 16, 0.3, 1)
    images, labels = framing.assemble(pool, [0, 1], "train", 1, 1)
    assert images.shape == labels.shape == (2, padded, padded, 1)
    assert (labels[:, 0] == 255).all() == (padded > window)


def test_a_batch_depends_on_its_key_alone(slices_file, stack):
    pool = training.Pool(stack, [slices_file])
    framing = training.Framing((8, 8), 2, 0.3, 1)
    one, same, other = (framing.assemble(pool, [3], "train", 1, k)[0] for k in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_batches_are_made_ahead_in_order():
    assert list(training.ahead(lambda step: step, 5)) == [0, 1, 2, 3, 4]


# -- validation ----------------------------------------------------------------------


def test_mean_iou_by_hand():
    # class 0: 3 of 3 + 1 + 2, class 1: 4 of 4 + 2 + 1; class 2 is not in the truth
    confusion = np.asarray([[3, 1, 0], [2, 4, 0], [0, 0, 0]])
    assert training.mean_iou(confusion) == pytest.approx((3 / 6 + 4 / 7) / 2)


def test_mean_iou_of_nothing_is_unknown():
    assert training.mean_iou(np.zeros((2, 2), np.int64)) is None


def test_best_f1_and_average_precision_by_hand():
    truth = np.asarray([True, False, True, False])
    f1, average = training.ranking(truth, np.asarray([0.9, 0.8, 0.7, 0.1]))
    assert f1 == pytest.approx(2 * 2 / (3 + 2))
    assert average == pytest.approx((1 + 2 / 3) / 2)


def test_equal_scores_cannot_be_told_apart():
    truth = np.asarray([True, False])
    assert training.ranking(truth, np.asarray([0.5, 0.5])) == pytest.approx((2 / 3, 0.5))


def test_nothing_true_has_no_rank():
    assert training.ranking(np.zeros(3, bool), np.arange(3.0)) is None


@pytest.fixture
def watched(stack, tmp_path):
    """Windows of 12 x 15 that validation looks at, in `count` slices of 24 x 30."""

    def windows(count, most):
        path = put(tmp_path / "v.h5", {"z": bright_squares(count)}, volume="v")
        framing = training.Framing((12, 15), 1, 0.33, 1)
        return validation.fixed(training.Pool(stack, [path]), framing, 4, most)

    return windows


def test_few_validation_slices_are_seen_through_several_windows(watched):
    labels = np.concatenate([labels for _, labels in watched(1, 32)])
    assert labels.shape == (2 * 2, 12, 15, 1)
    assert len({one.tobytes() for one in labels}) > 1


@pytest.mark.parametrize(("count", "most", "windows"), [(2, 5, 4), (3, 5, 3), (6, 5, 5)])
def test_validation_never_looks_at_more_than_it_may(watched, count, most, windows):
    known = [
        (labels != 255).any(axis=(1, 2, 3)).sum() for _, labels in watched(count, most)
    ]
    assert sum(known) == windows


# -- training ------------------------------------------------------------------------


def outputs(folder):
    return {
        "weights": folder / "w.weights.h5",
        "last": folder / "w.last.weights.h5",
        "model": folder / "w.json",
        "curve": folder / "w.csv",
    }


def fit(folder, examples, validation=(), augmented=(), **settings):
    folder.mkdir(exist_ok=True)
    training.fit(
        examples,
        augmented,
        validation,
        classes=CLASSES,
        seed=settings.pop("seed", 1),
        **outputs(folder),
        **{**TINY, **settings},
    )
    return outputs(folder)


def numbers(path):
    with h5py.File(path) as file:
        return [file[name][...] for name in sorted(file)]


def same(one, two):
    return all(
        np.array_equal(a, b) for a, b in zip(numbers(one), numbers(two), strict=True)
    )


def learning_curve(files):
    return list(csv.DictReader(files["curve"].open()))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    examples = put(folder / "a.h5", {"z": bright_squares()})
    validation = put(folder / "v.h5", {"z": bright_squares(5, seed=9)}, volume="v")
    augment.write(examples, folder / "aug.h5")
    run = {
        "examples": [examples],
        "validation": [validation],
        "augmented": [folder / "aug.h5"],
    }
    slow = {"epochs": 4, "steps_per_epoch": 20, "learning_rate": 0.03, "ema": 0.5}
    return fit(folder / "one", **run, **slow), fit(folder / "two", **run, **slow)


def test_the_same_seed_gives_the_same_weights(trained):
    one, two = trained
    assert same(one["weights"], two["weights"])
    assert same(one["last"], two["last"])


def test_a_training_tells_how_far_it_is(tmp_path, slices_file, caplog):
    with caplog.at_level("INFO", "tomoglean.progress"):
        fit(tmp_path / "told", [slices_file], epochs=2, steps_per_epoch=3)
    assert [line for line in caplog.messages if line.startswith("train: 6 steps in ")]


def test_the_log_tells_only_what_an_epoch_found(tmp_path, slices_file, caplog):
    with caplog.at_level("INFO", "tomoglean.training"):
        fit(tmp_path / "told", [slices_file], epochs=1, steps_per_epoch=1)
    [line] = [line for line in caplog.messages if line.startswith("epoch 1, ")]
    assert [part.split()[0] for part in line.split(", ")] == (
        ["epoch", "step", "loss", "seconds"]
    )


def test_a_tiny_net_learns_bright_squares(trained):
    curve = learning_curve(trained[0])
    assert float(curve[-1]["loss"]) < 0.5 * float(curve[0]["loss"])
    assert max(float(row["val_iou"]) for row in curve) > 0.7


def test_the_learning_rate_rises_in_a_line_and_falls_to_zero():
    settings = training.Settings(learning_rate=0.01, epochs=5, warmup_steps=10)
    rate = loop._optimizer(settings, steps=20)._learning_rate
    assert [float(rate(step)) for step in (0, 5, 10, 100)] == pytest.approx(
        [0, 0.005, 0.01, 0], abs=1e-7
    )


def test_without_warm_up_the_learning_rate_starts_at_its_first_value():
    settings = training.Settings(learning_rate=0.01, epochs=5)
    rate = loop._optimizer(settings, steps=20)._learning_rate
    assert [float(rate(step)) for step in (0, 50, 100)] == pytest.approx(
        [0.01, 0.005, 0], abs=1e-7
    )


def test_the_curve_has_a_line_per_epoch(trained):
    curve = learning_curve(trained[0])
    assert [row["epoch"] for row in curve] == list("1234")
    assert [row["step"] for row in curve] == ["20", "40", "60", "80"]
    assert list(curve[0]) == ["epoch", "step", "loss", "val_loss", "val_iou", "seconds"]


def test_the_stored_weights_are_those_of_the_best_epoch(trained):
    curve = learning_curve(trained[0])
    facts = json.loads(trained[0]["model"].read_text())
    best = max(float(row["val_iou"]) for row in curve)
    assert float(curve[facts["best_epoch"] - 1]["val_iou"]) == best
    assert same(trained[0]["weights"], trained[0]["last"]) == (facts["best_epoch"] == 4)


def test_the_model_says_what_it_is(trained):
    model, facts = store.load(trained[0]["weights"], trained[0]["model"])
    assert model.input_shape == (None, None, None, 1)
    assert facts["classes"] == CLASSES
    assert (facts["kind"], facts["pad_multiple"], facts["axes"]) == ("slices", 2, ["z"])
    assert (facts["trained_on"], facts["validated_on"]) == (["a"], ["v"])
    assert facts["fingerprint"]["mean"] == 4
    assert facts["fingerprint"]["volumes"]["a"] == FINGERPRINT
    assert facts["examples"] == 36
    assert facts["settings"]["learning_rate"] == 0.03
    assert facts["engine"][facts["engine"]["backend"]][0].isdigit()


@pytest.fixture(scope="module")
def untrained(trained, tmp_path_factory):
    """One epoch from older weights, without any validation."""
    folder = tmp_path_factory.mktemp("untrained")
    examples = put(folder / "a.h5", {"z": bright_squares()})
    still = {"learning_rate": 1e-12, "weight_decay": 0, "epochs": 1, "steps_per_epoch": 1}
    older = str(trained[0]["weights"])
    return fit(folder / "out", [examples], start_from=older, **still)


def test_training_goes_on_from_older_weights(trained, untrained):
    kernels = zip(numbers(trained[0]["weights"]), numbers(untrained["last"]), strict=True)
    assert all(np.allclose(one, two, atol=1e-9) for one, two in kernels if one.ndim == 4)


def test_without_validation_the_best_is_the_last(untrained):
    facts = json.loads(untrained["model"].read_text())
    assert facts["early_stopping"] is False
    assert facts["best_is"] == "last: no validation"
    assert same(untrained["weights"], untrained["last"])
    assert learning_curve(untrained)[0]["val_iou"] == ""


def test_older_weights_of_another_net_are_refused(trained, slices_file, tmp_path):
    older = str(trained[0]["weights"])
    with pytest.raises(Refused, match="expected the weights of this architecture"):
        fit(tmp_path / "out", [slices_file], start_from=older, width=3)


def test_training_stops_when_nothing_gets_better(tmp_path):
    examples = put(tmp_path / "a.h5", {"z": bright_squares()})
    still = {"learning_rate": 1e-30, "weight_decay": 0, "norm": "none"}
    files = fit(tmp_path / "out", [examples], [examples], epochs=9, patience=2, **still)
    assert len(learning_curve(files)) == 3
    assert json.loads(files["model"].read_text())["best_epoch"] == 1


def test_patches_are_learnt(tmp_path):
    examples = put(tmp_path / "p.h5", {"patches": crosses(60)}, kind="patches")
    held_out = put(
        tmp_path / "v.h5", {"patches": crosses(30, 5)}, kind="patches", volume="v"
    )
    augment.write(examples, tmp_path / "aug.h5", copies=1)
    files = fit(
        tmp_path / "out",
        [examples],
        [held_out],
        [tmp_path / "aug.h5"],
        network="lenet5_modified",
        steps_per_epoch=20,
        class_weights=[1, 2],
    )
    assert float(learning_curve(files)[-1]["val_f1"]) > 0.9
    facts = json.loads(files["model"].read_text())
    assert (facts["kind"], facts["architecture"]["patch_px"]) == ("patches", 16)


# -- refusals ------------------------------------------------------------------------


def nothing_left(folder):
    return [path.name for path in folder.iterdir()] == []


def test_nan_ends_the_job_and_leaves_nothing(tmp_path):
    images, labels = bright_squares()
    examples = put(tmp_path / "a.h5", {"z": (np.full_like(images, np.nan), labels)})
    with pytest.raises(Refused, match=r"finite loss.*epoch 1, step 1;"):
        fit(tmp_path / "out", [examples])
    assert nothing_left(tmp_path / "out")


@pytest.mark.parametrize(
    ("labels", "found"), [(0, "found only background"), (1, "thing"), (255, "no class")]
)
def test_labels_of_one_class_are_refused(tmp_path, labels, found):
    images, _ = bright_squares()
    path = put(tmp_path / "a.h5", {"z": (images, np.full(images.shape, labels))})
    with pytest.raises(Refused, match=f"at least two classes.*{found}"):
        fit(tmp_path / "out", [path])


def test_no_examples_are_refused(tmp_path):
    with pytest.raises(Refused, match="expected labelled examples"):
        fit(tmp_path / "out", [])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dim": 2.5}, "expected 2 for slices of 1 channels"),
        ({"dim": 3}, "dim 3 comes later"),
        ({"network": "lenet5"}, "expected a network for slices"),
        ({"class_weights": [1, 2, 3]}, "expected 2 numbers, found 3"),
    ],
)
def test_settings_that_do_not_fit_are_refused(slices_file, tmp_path, settings, message):
    with pytest.raises(Refused, match=message):
        fit(tmp_path / "out", [slices_file], **settings)


def test_a_unet_is_refused_for_patches(patches_file, tmp_path):
    with pytest.raises(Refused, match="expected a network for patches"):
        fit(tmp_path / "out", [patches_file])


def test_the_schema_and_the_code_have_the_same_defaults():
    path = Path(__file__).parent.parent / "config/schemas/train.yaml"
    schema = yaml.safe_load(path.read_text())["properties"]
    defaults = {name: entry["default"] for name, entry in schema.items()}
    assert config.counted(defaults, "train", "semantic") == vars(training.Settings())
