import json

import h5py
import numpy as np
import pytest

from tomoglean import tables, volumes
from tomoglean.provenance import Refused
from tomoglean.scores import semantic
from tomoglean.volumes import Volume

CLASSES = ["background", "bone"]
FINGERPRINT = {"p_low": 0.0, "p_high": 255.0, "mean": 0.0, "std": 1.0}
LABELS = {
    "weak": "weak",
    "final": "relabelled+clean",
    "control-a": "weak+clean",
    "control-b": "clean",
    "control-retrained": "relabelled",
    "control-oracle": "truth",
}
SETTINGS = {
    "labels": LABELS,
    "split": "between-volumes",
    "seed": 1,
    "tolerance_px": 1.0,
    "oracle": "oracle",
    "bootstrap": 50,
    "baselines": ["otsu", "grey_table"],
    "forest_trees": 10,
    "forest_depth": 5,
    "forest_voxels": 200,
    "forest_slices": 4,
    "forest_sigmas_px": [1],
}
TRUTH = [0, 0, 1, 1]


@pytest.fixture
def study(tmp_path):
    """Evaluate rounds given as {(round, use, volume): labels of four slices}."""

    def save(name, values, **attrs):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        data = np.repeat(np.array(values, np.uint8), 4).reshape(-1, 2, 2)
        volumes.write(Volume(data, (1.0, 1.0, 1.0)), path, **attrs)
        return path

    def run(rounds, weak=None, slices=None, examples=(), truth=TRUTH, **changes):
        cases = [
            {"round": r, "use": u, "volume": v, "slices": (slices or {}).get(r)}
            for r, u, v in rounds
        ]
        predicted = [
            save(f"{r}-{u}-{v}.h5", values) for (r, u, v), values in rounds.items()
        ]
        true = [save(f"{u}-{v}.truth.h5", truth) for _, u, v in rounds]
        grey = [
            save(f"{v}.grey.h5", 10 * np.array(TRUTH), **FINGERPRINT) for _, _, v in rounds
        ]
        drawn = [save(f"weak/{v}.h5", values) for v, values in (weak or {}).items()]
        return semantic.evaluate(
            cases,
            predicted,
            true,
            grey,
            examples=[path for path, _ in examples],
            example_rounds=[name for _, name in examples],
            weak=drawn,
            classes=CLASSES,
            **{**SETTINGS, **changes},
        )

    return run


@pytest.fixture
def examples(tmp_path):
    """Write an examples file in which bone is bright, or dark."""

    def write(name, bright):
        with h5py.File(tmp_path / name, "w") as file:
            file["z/images"] = np.array([[[0, 10] * 4]], np.float32)
            file["z/labels"] = np.array([[[0, 1] * 4 if bright else [1, 0] * 4]], np.uint8)
        return tmp_path / name

    return write


def row(found, **wanted):
    rows = [r for r in found.scores if all(r[k] == v for k, v in wanted.items())]
    assert len(rows) == 1
    return rows[0]


def test_a_row_for_every_class_their_mean_and_the_pool(study):
    found = study({("final", "test", "a"): TRUTH})
    assert [(r["volume"], r["class"]) for r in found.scores] == [
        (volume, name)
        for volume in ("a", "pooled")
        for name in ("background", "bone", "mean")
    ]


def test_rows_can_be_written_with_the_announced_columns(study, tmp_path):
    found = study({("final", "test", "a"): TRUTH})
    tables.write_rows(found.scores, semantic.SCORES, tmp_path / "scores.csv")
    tables.write_rows(found.confusion, semantic.CONFUSION, tmp_path / "confusion.csv")
    assert (tmp_path / "scores.csv").read_text().startswith("method,labels,split,use")


def test_pooled_figures_count_the_voxels_of_all_volumes(study):
    found = study(
        {("final", "test", "a"): [0, 0, 1, 1], ("final", "test", "b"): [0, 0, 0, 0]}
    )
    # Bone: 2 of 4 slices found, none invented.
    assert row(found, volume="pooled", **{"class": "bone"})["iou"] == 0.5


def test_uses_are_never_pooled_together(study):
    found = study({("final", "test", "a"): TRUTH, ("final", "validate", "b"): [0] * 4})
    assert found.summary["use"] == "test"
    assert found.summary["mean_iou"]["final"] == 1.0


def test_every_round_is_a_method_of_its_own(study):
    found = study(
        {("final", "test", "a"): TRUTH, ("weak", "test", "a"): [0, 0, 0, 1]}
    ).summary
    assert found["iou"]["weak"] == {"background": pytest.approx(2 / 3), "bone": 0.5}


@pytest.mark.parametrize(
    ("method", "state"),
    [
        ("weak", "weak"),
        ("weak_labels", "weak"),
        ("final", "relabelled+clean"),
        ("random_forest", "relabelled+clean"),
        ("control-b", "clean"),
    ],
)
def test_state_of_the_labels_behind_a_method(method, state):
    context = semantic.Context(tuple(CLASSES), "", 0, 1, LABELS)
    assert context.label_state(method) == state


def test_retraining_is_no_control_of_itself_but_the_first_net_is():
    figures = {"final": 0.7, "control-oracle": 0.9, "control-retrained": 0.8, "weak": 0.6}
    gap = semantic.gap_closed(figures, "control-oracle", LABELS)
    assert gap["best_control"]["method"] == "weak"


def test_weak_labels_are_judged_like_a_method(study):
    found = study({("final", "test", "a"): TRUTH}, weak={"a": [0, 255, 1, 1]})
    assert found.summary["iou"]["weak_labels"] == {"background": 0.5, "bone": 1.0}


def test_weak_labels_of_other_volumes_are_left_out(study):
    found = study({("final", "test", "a"): TRUTH}, weak={"b": TRUTH})
    assert "weak_labels" not in found.summary["mean_iou"]


def test_baselines_learn_from_the_examples_of_the_final_round(study, examples):
    found = study(
        {("final", "test", "a"): [0] * 4}, examples=[(examples("e.h5", True), "final")]
    )
    assert found.summary["mean_iou"]["otsu"] == 1.0
    assert found.summary["best_baseline"]["mean_iou"] == 1.0
    assert found.summary["margin_over_best_baseline"] < 0


def test_all_three_baselines_stand_beside_the_network(study, examples):
    names = ["otsu", "grey_table", "random_forest"]
    found = study(
        {("final", "test", "a"): TRUTH},
        examples=[(examples("e.h5", True), "final")],
        baselines=names,
    )
    assert list(found.summary["mean_iou"]) == ["final", *names]


def test_folds_of_a_cross_validation_are_pooled_over_their_slices(study):
    found = study(
        {
            ("final-0", "test", "a"): [0, 0, 0, 0],
            ("final-1", "test", "a"): [1, 1, 1, 1],
        },
        slices={"final-0": [0, 1], "final-1": [2, 3]},
    )
    assert found.summary["mean_iou"] == {"final": 1.0}


def test_baselines_of_a_fold_never_see_the_examples_of_another(study, examples):
    found = study(
        {("final-0", "test", "a"): TRUTH, ("final-1", "test", "a"): TRUTH},
        slices={"final-0": [0, 2], "final-1": [1, 3]},
        examples=[
            (examples("e0.h5", True), "final-0"),
            (examples("e1.h5", False), "final-1"),
        ],
        baselines=["grey_table"],
    )
    # The second fold was taught the opposite: half of the slices are right.
    assert found.summary["iou"]["grey_table"]["bone"] == pytest.approx(1 / 3)


def test_a_control_whose_name_ends_in_a_number_is_no_fold(study):
    found = study({("control-slices-10", "test", "a"): TRUTH})
    assert "control-slices-10" in found.summary["mean_iou"]


def test_one_scan_in_two_uses_is_stamped(study):
    found = study({("final", "test", "a"): TRUTH}, split="within-volume")
    assert found.summary["split"] == "same scan"
    assert {r["split"] for r in found.scores} == {"same scan"}


def test_no_files_give_valid_empty_tables(study):
    found = study({})
    assert (found.scores, found.confusion) == ([], [])
    assert found.summary["reason"]
    json.dumps(found.summary, allow_nan=False)


def test_nothing_known_of_the_truth_leaves_figures_empty(study):
    found = study({("final", "test", "a"): TRUTH}, truth=[255] * 4)
    json.dumps(found.summary, allow_nan=False)
    assert found.summary["mean_iou"]["final"] is None


def test_three_volumes_give_an_interval_and_two_do_not(study):
    rounds = {("final", "test", v): [0, 0, 0, int(v == "a")] for v in "abc"}
    low, high = study(rounds).summary["mean_iou_interval"]["final"]
    assert low < study(rounds).summary["mean_iou"]["final"] < high
    del rounds["final", "test", "c"]
    assert study(rounds).summary["mean_iou_interval"]["final"] is None


def test_confusion_gives_voxels_and_their_share_of_the_truth(study):
    found = study({("final", "test", "a"): [0, 0, 0, 1]})
    counts = {
        (r["truth"], r["predicted"]): (r["voxels"], r["share_of_truth"])
        for r in found.confusion
    }
    assert counts["bone", "background"] == (4, 0.5)
    assert counts["bone", "unlabelled"] == (0, 0.0)


def test_gap_is_measured_from_the_best_control_to_the_oracle():
    figures = {"final": 0.7, "control-oracle": 0.9, "control-a": 0.5, "control-b": 0.6}
    gap = semantic.gap_closed(figures, "control-oracle", LABELS)
    assert gap["value"] == pytest.approx(1 / 3)
    assert gap["best_control"]["method"] == "control-b"


def test_a_negative_share_is_printed_and_not_hidden():
    figures = {"final": 0.5, "control-oracle": 0.9, "control-a": 0.7}
    assert semantic.gap_closed(figures, "control-oracle", LABELS)["value"] == pytest.approx(
        -1
    )


@pytest.mark.parametrize(
    ("figures", "reason"),
    [
        ({"final": 0.5}, "no control and no oracle"),
        ({"final": 0.5, "control-a": 0.4}, "no oracle"),
        ({"final": 0.5, "control-a": 0.9, "control-oracle": 0.9}, "no better"),
    ],
)
def test_without_a_gap_the_share_is_undefined_and_says_why(figures, reason):
    gap = semantic.gap_closed(figures, "control-oracle", LABELS)
    assert gap["value"] is None
    assert reason in gap["reason"]


def test_labels_of_another_shape_are_refused(study):
    with pytest.raises(Refused, match="expected labels of shape"):
        study({("final", "test", "a"): [0, 1]})
