import numpy as np
import pytest

from tomoglean.provenance import Refused
from tomoglean.scores.tallies import Tally, tally
from tomoglean.volumes import Volume

VOXEL_NM = (1.0, 1.0, 1.0)


def labels(*values):
    """A volume of one voxel per slice."""
    return np.array(values, np.uint8).reshape(-1, 1, 1)


def judge(truth, ours, classes=2, z=None, **options):
    places = None if z is None else np.array(z)
    volume = Volume(truth, VOXEL_NM, places)
    settings = {"classes": classes, "tolerance_px": 1.0, **options}
    return tally(lambda rows: ours[rows], volume, **settings)


def test_confusion_is_truth_by_prediction():
    found = judge(labels(0, 0, 1, 1), labels(0, 1, 1, 1))
    assert found.confusion.tolist() == [[1, 1, 0], [0, 2, 0]]


def test_unknown_truth_does_not_count():
    assert judge(labels(0, 255), labels(0, 1)).confusion.sum() == 1


def test_what_a_method_leaves_unlabelled_is_missed():
    found = judge(labels(1, 1), labels(1, 255))
    assert found.figures()[1]["iou"] == 0.5


def test_iou_dice_and_volume_error_by_hand():
    # Class 1: 2 true, 3 predicted, 1 shared.
    figures = judge(labels(1, 1, 0, 0, 0), labels(1, 0, 1, 1, 0)).figures()[1]
    assert figures["iou"] == pytest.approx(1 / 4)
    assert figures["dice"] == pytest.approx(2 / 5)
    assert figures["volume_error_percent"] == pytest.approx(50.0)


def test_a_class_that_nobody_has_seen_is_undefined():
    figures = judge(labels(0, 1), labels(0, 1), classes=3).figures()[2]
    undefined = ("iou", "dice", "surface_dice", "volume_error_percent")
    assert [figures[name] for name in undefined] == [None] * 4


def test_a_class_invented_by_the_prediction_has_iou_zero_and_no_volume_error():
    figures = judge(labels(0, 0), labels(0, 1)).figures()[1]
    assert (figures["iou"], figures["volume_error_percent"]) == (0.0, None)


def test_means_leave_undefined_classes_out():
    assert judge(labels(0, 1), labels(0, 1), classes=5).averages()["iou"] == 1.0


def test_only_the_slices_asked_for_count():
    found = judge(labels(0, 1, 1), labels(1, 1, 1), slices=[1])
    assert found.confusion.tolist() == [[0, 0, 0], [0, 1, 0]]


def test_slices_of_a_sparse_set_are_named_by_their_true_z():
    found = judge(labels(0, 1, 1), labels(1, 1, 1), z=[5, 40, 77], slices=[40, 1])
    assert found.confusion.tolist() == [[0, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize(
    "options", [{"slices": [0, 1]}, {"z": [0, 9]}], ids=["some slices", "sparse set"]
)
def test_surfaces_need_neighbouring_slices(options):
    assert judge(labels(0, 1), labels(0, 1), **options).surface is None


def test_surfaces_need_dense_truth():
    assert judge(labels(0, 255, 1), labels(0, 1, 1)).surface is None


def test_surface_dice_of_equal_labels_is_one():
    assert judge(labels(0, 0, 1), labels(0, 0, 1)).figures()[1]["surface_dice"] == 1.0


@pytest.mark.parametrize("slab_voxels", [1, 20, 1000])
def test_slab_thickness_changes_nothing(slab_voxels):
    rng = np.random.default_rng(1)
    truth, ours = rng.integers(0, 3, (2, 7, 5, 4)).astype(np.uint8)
    whole = judge(truth, ours, 3)
    cut = judge(truth, ours, 3, slab_voxels=slab_voxels)
    assert np.array_equal(whole.confusion, cut.confusion)
    assert np.array_equal(whole.surface, cut.surface)


def test_pooling_adds_voxels_and_not_rates():
    big = Tally(np.array([[90, 10, 0], [0, 0, 0]]), None)
    small = Tally(np.array([[0, 1, 0], [0, 0, 0]]), None)
    assert (big + small).figures()[0]["iou"] == pytest.approx(90 / 101)


def test_one_volume_without_surface_leaves_the_pool_without():
    surface = np.ones((2, 4), int)
    table = np.zeros((2, 3), int)
    assert (Tally(table, surface) + Tally(table, None)).surface is None


def test_a_truth_label_without_a_class_is_refused():
    with pytest.raises(Refused, match="found 7"):
        judge(labels(0, 7), labels(0, 1))
