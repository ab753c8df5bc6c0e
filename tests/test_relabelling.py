import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tomoglean import relabelling, volumes
from tomoglean.provenance import Refused
from tomoglean.relabelling import Calibration
from tomoglean.volumes import IGNORE, Volume

CLASSES = ["background", "bone", "metal"]
SETTINGS = {
    "target_precision": 0.9,
    "keep_share": 0.5,
    "default_threshold": 0.8,
    "min_voxels": 1,
}


def bytes_of(*values):
    return np.array(values, np.uint8)


def histogram(**by_confidence):
    """Count voxels by confidence: c128=4 puts four at 128."""
    found = np.zeros(256, int)
    for name, number in by_confidence.items():
        found[int(name[1:])] = number
    return found


@pytest.fixture
def save(tmp_path):
    """Return a function that writes labels, or a prediction if confidence is given."""

    def write(name, labels, confidence=None, classes=CLASSES):
        labels = np.asarray(labels, np.uint8)
        extra = {} if confidence is None else {"confidence": np.uint8(confidence)}
        path = tmp_path / f"{name}.h5"
        attrs = {"classes": json.dumps(classes)}
        volumes.write(Volume(labels, (1, 2, 3)), path, extra=extra, **attrs)
        return path

    return write


def relabel(tmp_path, weak, predicted, **more):
    relabelling.relabel(weak, predicted, tmp_path / "new.h5", **more)
    attrs = volumes.attributes(tmp_path / "new.h5")
    facts = {
        name: json.loads(attrs[name])
        for name in ("thresholds", "calibration_voxels", "share_ignored", "share_changed")
    }
    return volumes.read(tmp_path / "new.h5").data, facts


# The rule for one voxel


@pytest.mark.parametrize(
    ("weak", "predicted", "confidence", "expected"),
    [
        (0, 1, 200, 1),  # confident: the prediction wins over the weak label
        (IGNORE, 1, 200, 1),  # also where there is none
        (1, 1, 10, 1),  # unsure, but confirmed
        (0, 1, 199, IGNORE),  # unsure and contradicted
        (IGNORE, 1, 199, IGNORE),  # unsure and alone
        (0, 2, 100, 2),  # every class has its own threshold
    ],
)
def test_rule(weak, predicted, confidence, expected):
    found = relabelling.fuse(
        bytes_of(weak), bytes_of(predicted), bytes_of(confidence), [200, 200, 100]
    )
    assert found.tolist() == [expected]


def test_agreement_is_no_excuse_if_so_set():
    one, low = bytes_of(1), bytes_of(10)
    assert relabelling.fuse(one, one, low, [200] * 3, keep_agreeing=False) == IGNORE


labels = hnp.arrays(np.uint8, 20, elements=st.sampled_from([0, 1, 2]))
levels = hnp.arrays(np.uint8, 20)


@given(labels, labels, levels, st.lists(st.integers(0, 255), min_size=3, max_size=3))
def test_a_new_label_is_always_the_prediction_or_ignore(weak, guess, sure, thresholds):
    new = relabelling.fuse(weak, guess, sure, thresholds)
    assert np.all((new == guess) | (new == IGNORE))
    assert np.all(new[weak == guess] == guess[weak == guess])


# Thresholds


def test_threshold_is_the_lowest_that_is_precise_enough():
    seen = histogram(c50=100, c100=100, c200=100)
    right = histogram(c50=10, c100=90, c200=100)
    found = relabelling.lowest_confidence(right, seen, 0.95, 0.0)
    assert found == 51  # from 51 upwards 190 of 200 are right


def test_precise_class_keeps_everything():
    seen = histogram(c30=100, c200=100)
    assert relabelling.lowest_confidence(seen, seen, 0.9, 0.0) == 0


def test_rare_class_does_not_die_of_its_precision():
    seen = histogram(c60=40, c90=60)
    wrong = np.zeros(256, int)
    assert relabelling.lowest_confidence(wrong, seen, 0.9, 0.5) == 90
    assert relabelling.lowest_confidence(wrong, seen, 0.9, 0.7) == 60
    assert relabelling.lowest_confidence(wrong, seen, 0.9, 0.0) == 255


@given(
    hnp.arrays(np.int64, 256, elements=st.integers(0, 50)),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_promises_hold_for_any_counts(seen, target, share):
    right = seen // 2
    level = relabelling.lowest_confidence(right, seen, target, share)
    kept = seen[level:].sum()
    assert kept >= share * seen.sum()
    if 0 < target <= right.sum() / max(1, seen.sum()):
        assert level == 0


def test_every_class_gets_its_own_threshold():
    calibration = Calibration.empty(3)
    guess = np.repeat(bytes_of(0, 1), 100)
    sure = np.tile(np.repeat(bytes_of(100, 200), 50), 2)
    truth = guess.copy()
    truth[100:150] = 0  # what was called bone at 100 was none
    calibration.count(guess, sure, truth)
    found = calibration.thresholds(**SETTINGS)
    assert found == [0, 101, round(0.8 * 255)]


def test_unlabelled_voxels_do_not_calibrate():
    calibration = Calibration.empty(3)
    calibration.count(bytes_of(0, 0), bytes_of(9, 9), bytes_of(0, IGNORE))
    assert calibration.seen.sum() == calibration.right.sum() == 1


def test_few_voxels_do_not_calibrate():
    calibration = Calibration.empty(3)
    calibration.count(bytes_of(0, 0), bytes_of(9, 9), bytes_of(0, 0))
    found = calibration.thresholds(**(SETTINGS | {"min_voxels": 3}))
    assert found == [204] * 3


# Files


def test_without_calibration_the_default_holds_and_is_stated(tmp_path, save):
    weak = save("weak", np.zeros((1, 1, 2)))
    predicted = save("predicted", np.ones((1, 1, 2)), [[[203, 204]]])
    new, facts = relabel(tmp_path, weak, predicted, default_threshold=0.8)
    assert new.ravel().tolist() == [IGNORE, 1]
    assert facts["thresholds"] == dict.fromkeys(CLASSES, 0.8)
    assert facts["calibration_voxels"] == dict.fromkeys(CLASSES, 0)
    assert facts["share_ignored"] == {"background": None, "bone": 0.5, "metal": None}
    assert facts["share_changed"] == 1


def test_calibration_comes_from_the_corrected_voxels_of_other_volumes(tmp_path, save):
    weak = save("weak", np.zeros((1, 1, 2)))
    predicted = save("predicted", np.ones((1, 1, 2)), [[[99, 101]]])
    # 300 corrected voxels of bone: right from confidence 101 upwards.
    other = save("other", np.ones((2, 3, 100)), np.full((2, 3, 100), 101))
    clean = np.full((2, 3, 100), IGNORE)
    clean[1] = 1
    other_too = save("third", np.ones((3, 3, 100)), np.full((3, 3, 100), 100))
    wrong = np.full((3, 3, 100), IGNORE)
    wrong[0] = 2
    new, facts = relabel(
        tmp_path,
        weak,
        predicted,
        calibration_predicted=[other, other_too],
        calibration_corrected=[save("a", clean), save("b", wrong)],
    )
    assert new.ravel().tolist() == [IGNORE, 1]
    assert facts["thresholds"]["bone"] == 101 / 255
    assert facts["calibration_voxels"] == {"background": 0, "bone": 600, "metal": 0}


def test_slabs_change_nothing(tmp_path, save, monkeypatch):
    rng = np.random.default_rng(5)
    shape = (150, 4, 5)
    weak = save("weak", rng.choice([0, 1, 2, IGNORE], shape))
    guess = rng.integers(0, 3, shape)
    predicted = save("predicted", guess, rng.integers(0, 256, shape))
    clean = save("clean", np.where(rng.random(shape) < 0.8, guess, 0))
    more = {"calibration_predicted": [predicted], "calibration_corrected": [clean]}
    first = relabel(tmp_path, weak, predicted, **more)
    monkeypatch.setattr(volumes, "slabs", lambda depth: [slice(0, depth)])
    second = relabel(tmp_path, weak, predicted, **more)
    np.testing.assert_array_equal(first[0], second[0])
    assert first[1] == second[1]
    assert 0 < first[1]["share_ignored"]["bone"] < 1


def test_grid_and_classes_are_passed_on(tmp_path, save):
    weak = save("weak", np.zeros((1, 1, 2)))
    relabel(tmp_path, weak, save("p", np.ones((1, 1, 2)), np.ones((1, 1, 2))))
    attrs = volumes.attributes(tmp_path / "new.h5")
    assert attrs["voxel_nm"] == [1, 2, 3]
    assert json.loads(attrs["classes"]) == CLASSES


def test_labels_of_another_volume_are_refused(tmp_path, save):
    weak = save("weak", np.zeros((1, 1, 3)))
    predicted = save("predicted", np.ones((1, 1, 2)), np.ones((1, 1, 2)))
    with pytest.raises(Refused, match=r"weak\.h5: expected the shape"):
        relabel(tmp_path, weak, predicted)
    assert not (tmp_path / "new.h5").exists()


def test_calibration_of_another_task_is_refused(tmp_path, save):
    weak = save("weak", np.zeros((1, 1, 2)))
    predicted = save("predicted", np.ones((1, 1, 2)), np.ones((1, 1, 2)))
    other = save("other", np.ones((1, 1, 2)), np.ones((1, 1, 2)), classes=["a", "b", "c"])
    with pytest.raises(Refused, match=r"other.*background, bone, metal.*a, b, c"):
        relabel(
            tmp_path,
            weak,
            predicted,
            calibration_predicted=[other],
            calibration_corrected=[weak],
        )


@pytest.mark.parametrize("stored", ['["a", "b"]', ["a", "b"]])
def test_class_names_are_read_from_text_or_list(tmp_path, stored):
    volumes.write(Volume(np.zeros((1, 1, 1)), (1, 1, 1)), tmp_path / "v.h5", classes=stored)
    assert volumes.class_names(tmp_path / "v.h5") == ["a", "b"]
