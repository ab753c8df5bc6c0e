import h5py
import numpy as np
import pytest

from tomoglean import volumes
from tomoglean.scores import baselines
from tomoglean.volumes import Volume

FINGERPRINT = {"p_low": 0.0, "p_high": 100.0, "mean": 50.0, "std": 25.0}
SETTINGS = {
    "baselines": list(baselines.METHODS),
    "forest_trees": 20,
    "forest_depth": 10,
    "forest_voxels": 400,
    "forest_slices": 4,
    "forest_sigmas_px": [1, 2],
}


@pytest.fixture
def write(tmp_path):
    """Write an examples file: slices and labels by axis."""

    def written(name="train.h5", **axes):
        with h5py.File(tmp_path / name, "w") as file:
            for axis, (images, labels) in axes.items():
                file[f"{axis}/images"] = np.asarray(images, np.float32)
                file[f"{axis}/labels"] = np.asarray(labels, np.uint8)
        return tmp_path / name

    return written


def ramp(classes):
    """Slices whose grey value is that of the class, classes in equal stripes."""
    labels = np.repeat(np.arange(len(classes)), 6)[None, None].repeat(18, axis=1)
    return np.array(classes, float)[labels], labels


def texture(seed, count=3):
    """Two classes of equal mean grey: smooth on the left, rough on the right."""
    noise = np.random.default_rng(seed).normal(size=(count, 40, 40))
    labels = np.zeros(noise.shape, np.uint8)
    labels[:, :, 20:] = 1
    return np.where(labels == 1, noise, 0.05 * noise), labels


def histogram(greys, image):
    return np.bincount(greys.bins(np.asarray(image)).ravel(), minlength=256)


def test_grey_values_are_counted_by_class(write):
    greys = baselines.learn_greys([write(z=ramp([0.0, 1.0]))], 2)
    assert greys.counts.sum(axis=1).tolist() == [108, 108]
    assert greys.counts[0, 0] == greys.counts[1, 255] == 108


def test_unlabelled_voxels_are_not_counted(write):
    images, labels = ramp([0.0, 1.0])
    labels = np.where(labels == 1, 255, labels)
    assert baselines.learn_greys([write(z=(images, labels))], 2).present().tolist() == [0]


def test_slices_along_z_come_before_those_of_other_axes(write):
    greys = baselines.learn_greys([write(z=ramp([0, 1]), x=ramp([5, 9]))], 2)
    assert (greys.low, greys.high) == (0, 1)


def test_other_axes_serve_where_there_is_none_along_z(write):
    empty = (np.zeros((0, 18, 12)), np.zeros((0, 18, 12)))
    greys = baselines.learn_greys([write(z=empty, x=ramp([5, 9]))], 2)
    assert (greys.low, greys.high) == (5, 9)


def test_the_middle_channel_of_thick_slices_is_used(write):
    images, labels = ramp([0, 1])
    thick = np.stack([images + 50, images, images - 50], axis=-1)
    assert baselines.learn_greys([write(z=(thick, labels))], 2).high == 1


def test_otsu_orders_bands_by_what_training_calls_brighter(write):
    # Class 0 is the brightest, class 2 the darkest.
    images, _ = ramp([3.0, 2.0, 1.0])
    greys = baselines.learn_greys([write(z=ramp([3.0, 2.0, 1.0]))], 3)
    table = baselines.otsu(greys, histogram(greys, images))
    assert table[greys.bins(np.array([3.0, 2.0, 1.0]))].tolist() == [0, 1, 2]


def test_otsu_finds_thresholds_in_the_volume_itself(write):
    greys = baselines.learn_greys([write(z=ramp([0.0, 1.0]))], 2)
    darker = np.array([0.1] * 50 + [0.4] * 50)
    table = baselines.otsu(greys, histogram(greys, darker))
    assert table[greys.bins(np.array([0.1, 0.4]))].tolist() == [0, 1]


def test_otsu_of_a_constant_volume_is_the_darkest_class(write):
    greys = baselines.learn_greys([write(z=ramp([1.0, 0.0]))], 2)
    table = baselines.otsu(greys, histogram(greys, np.zeros(9)))
    assert set(table.tolist()) == {1}


def test_grey_table_is_bayes_rule_on_the_counts(write):
    # At grey 1, class 0 was seen twice as often as class 1.
    images = np.array([[[0.0, 1, 1, 1, 2]]])
    labels = np.array([[[0, 0, 0, 1, 1]]])
    greys = baselines.learn_greys([write(z=(images, labels))], 2)
    table = baselines.grey_table(greys)
    assert table[greys.bins(np.array([0.0, 1.0, 2.0]))].tolist() == [0, 0, 1]


def test_grey_table_asks_the_nearest_grey_it_knows(write):
    greys = baselines.learn_greys([write(z=ramp([0.0, 1.0]))], 2)
    table = baselines.grey_table(greys)
    assert table[greys.bins(np.array([0.4, 0.6]))].tolist() == [0, 1]


def test_features_have_a_column_for_the_grey_and_six_a_scale():
    assert baselines.features(np.zeros((5, 7), np.float32), [1, 2, 4]).shape == (35, 19)


def test_features_of_a_constant_are_constant_and_without_slope():
    found = baselines.features(np.full((20, 20), 3, np.float32), [1, 2])
    grey, *rest = np.ptp(found, axis=0)
    assert grey == 0
    assert np.max(rest) < 1e-2
    assert np.abs(found[:, [2, 3, 4, 5, 6]]).max() < 1e-2


def test_features_measure_slope_and_curvature():
    y = np.arange(41, dtype=np.float32)[:, None].repeat(41, axis=1)
    middle = 20 * 41 + 20
    slope = baselines.features(3 * y, [1])[middle]
    curved = baselines.features(y * y, [1])[middle]
    assert slope[2] == pytest.approx(3, rel=1e-3)
    assert curved[[3, 4, 5]] == pytest.approx([2, 0, 2], abs=1e-2)


def test_forest_tells_textures_of_equal_grey_apart(write):
    greys = baselines.learn_greys([write(z=texture(1))], 2)
    forest = baselines.grow_forest(
        greys, trees=20, depth=10, voxels=400, slices=4, sigmas_px=[1, 2], seed=1
    )
    images, labels = texture(2, count=1)
    found = forest(images[0].astype(np.float32))
    assert np.mean(found == labels[0]) > 0.9


def test_forest_learns_a_class_that_only_one_slice_of_many_holds(write):
    images, labels = texture(1, count=30)
    images[17, :8, :8], labels[17, :8, :8] = 9.0, 2
    greys = baselines.learn_greys([write(z=(images, labels))], 3)
    forest = baselines.grow_forest(
        greys, trees=20, depth=10, voxels=300, slices=2, sigmas_px=[1], seed=1
    )
    assert forest(images[17].astype(np.float32))[3, 3] == 2


def test_votes_are_weighted_by_frequency_where_that_helps():
    # Both classes look alike, class 0 is nine times as frequent: say 0 everywhere.
    votes = np.full((20, 2), 0.5) + np.array([-0.01, 0.01])
    codes = np.repeat([0, 1], 10)
    weights = baselines._best_weights(votes, codes, np.array([9.0, 1.0]))
    assert (votes * weights).argmax(axis=1).tolist() == [0] * 20


def test_the_same_seed_grows_the_same_forest(write):
    path = write(z=texture(1))
    image = texture(2)[0][0].astype(np.float32)
    first, second = (
        baselines.learn([path], classes=2, seed=3, **SETTINGS).forest(image)
        for _ in range(2)
    )
    assert np.array_equal(first, second)


@pytest.mark.parametrize("wanted", [[], ["otsu"], ["grey_table", "random_forest"]])
def test_only_the_baselines_asked_for_are_run(tmp_path, write, wanted):
    path = tmp_path / "volume.h5"
    volumes.write(Volume(np.eye(8)[None] * 90, (1.0, 1.0, 1.0)), path, **FINGERPRINT)
    settings = {**SETTINGS, "baselines": wanted}
    fitted = baselines.learn([write(z=texture(1))], classes=2, seed=1, **settings)
    with baselines.labellers(fitted, path) as found:
        assert list(found) == wanted


def test_nothing_labelled_gives_no_baseline(tmp_path):
    path = tmp_path / "volume.h5"
    volumes.write(Volume(np.zeros((1, 4, 4)), (1.0, 1.0, 1.0)), path, **FINGERPRINT)
    fitted = baselines.learn([], classes=2, seed=1, **SETTINGS)
    with baselines.labellers(fitted, path) as found:
        assert found == {}


def test_volumes_are_normalised_as_the_examples_were(tmp_path, write):
    # Examples at -1 and 1 are raw 25 and 75 by the volume's fingerprint.
    path = tmp_path / "volume.h5"
    raw = np.array([[[25, 75, 75]]], np.uint8)
    volumes.write(Volume(raw, (1.0, 1.0, 1.0)), path, **FINGERPRINT)
    settings = {**SETTINGS, "baselines": ["grey_table"]}
    fitted = baselines.learn([write(z=ramp([-1, 1]))], classes=2, seed=1, **settings)
    with baselines.labellers(fitted, path) as found:
        assert found["grey_table"](slice(0, 1)).tolist() == [[[0, 1, 1]]]
