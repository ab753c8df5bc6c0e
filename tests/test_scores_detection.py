import json

import numpy as np
import pytest

from tomoglean import tables, volumes
from tomoglean.provenance import Refused
from tomoglean.scores import curves, detection
from tomoglean.scores.tomograms import Tomogram

SETTINGS = {
    "radius_nm": 15.0,
    "radii_nm": [5.0, 20.0],
    "particle_radius_nm": 20.0,
    "tilt_max_deg": 60.0,
    "threshold": 0.5,
    "bootstrap": 50,
    "seed": 1,
}
VOXEL_NM = (2.0, 1.0, 1.0)


def points(*places):
    return np.array(places, float).reshape(-1, 3)


def tomogram(picks=(), truths=(), scores=None, decoys=(), axes=None, true_axes=None):
    """A tomogram of one nm voxels; scores fall by a tenth unless given."""
    picks, truths = points(*picks), points(*truths)
    falling = 0.9 - 0.1 * np.arange(len(picks))
    return Tomogram(
        volume="v",
        voxel_nm=np.ones(3),
        picks_nm=picks,
        scores=falling if scores is None else np.array(scores, float),
        picks_axis=np.zeros_like(picks) if axes is None else points(*axes),
        truths_nm=truths,
        truths_axis=np.zeros_like(truths) if true_axes is None else points(*true_axes),
        decoys_nm=points(*[place for place, _ in decoys]),
        decoys=tuple(name for _, name in decoys),
    )


@pytest.fixture
def files(tmp_path):
    """Write a volume, its picks (x in voxels, score) and its truth (x, class)."""

    def write(name, picks, truth):
        paths = [tmp_path / f"{name}.{ending}" for ending in ("picks", "truth", "h5")]
        places = points(*[(4, 0, x) for x, _ in picks])
        scores = np.array([score for _, score in picks], float)
        found = tables.Picks(places, places * VOXEL_NM, np.zeros_like(places), scores)
        tables.write_picks(found, paths[0])
        places = points(*[(4, 0, x) for x, _ in truth])
        names = tuple(kind for _, kind in truth)
        tables.write_points(tables.Points(places, np.zeros_like(places), names), paths[1])
        volumes.write(volumes.Volume(np.zeros((1, 1, 1)), VOXEL_NM), paths[2])
        return paths

    return write


def evaluate(*cases, **changes):
    named = [
        {"round": name, "use": use, "volume": volume} for name, use, volume, _ in cases
    ]
    paths = [[str(paths[n]) for *_, paths in cases] for n in range(3)]
    return detection.evaluate(named, *paths, target=["t3ss"], **{**SETTINGS, **changes})


@pytest.fixture
def study(files):
    """Validation asks for a threshold of .6; one hit, one false, one missed in test."""
    seen = files("a", [(10, 0.8), (100, 0.6), (300, 0.5)], [(10, "t3ss"), (100, "")])
    new = files(
        "b",
        [(10, 0.7), (50, 0.65), (200, 0.4)],
        [(10, "t3ss"), (200, "t3ss"), (50, "motor")],
    )
    return evaluate(("final", "validate", "a", seen), ("final", "test", "b", new))


def test_threshold_is_the_best_of_the_validation_volumes(study):
    assert study.summary["threshold"] == 0.6


def test_threshold_of_validation_is_applied_to_test(study):
    test = study.summary["headline"]
    assert [test[name] for name in ("tp", "fp", "fn")] == [1, 1, 1]


def test_test_volumes_do_not_move_the_threshold(files):
    seen = files("a", [(10, 0.8)], [(10, "t3ss")])
    low = files("b", [(10, 0.1)], [(10, "t3ss")])
    found = evaluate(("final", "validate", "a", seen), ("final", "test", "b", low))
    assert found.summary["headline"]["tp"] == 0


def test_headline_is_the_final_round_on_test_volumes(study):
    assert study.summary["use"] == "test"
    assert study.summary["headline"] == study.summary["rounds"]["final"]["test"]


def test_rounds_have_their_own_thresholds(files):
    good = files("a", [(10, 0.8), (99, 0.3)], [(10, "t3ss")])
    low = files("b", [(10, 0.2), (99, 0.1)], [(10, "t3ss")])
    found = evaluate(
        ("final", "validate", "a", good), ("control-lenet5", "validate", "a", low)
    )
    rounds = found.summary["rounds"]
    assert rounds["final"]["threshold"] == 0.8
    assert rounds["control-lenet5"]["threshold"] == 0.2


def test_every_pick_above_the_threshold_and_every_missed_truth_is_a_row(study):
    rows = [(row["outcome"], row["x"]) for row in study.matches if row["use"] == "test"]
    assert rows == [("TP", 10), ("FP", 50), ("FN", 200)]


def test_match_positions_are_voxels(study):
    assert {row["z"] for row in study.matches} == {4}


def test_a_false_pick_is_named_after_the_decoy_it_sits_on(study):
    assert study.summary["headline"]["false_positive_causes"] == {"motor": 1}


def test_matches_and_curve_carry_the_announced_columns(study):
    assert list(study.matches[0]) == detection.MATCHES
    assert list(study.curve[0]) == detection.CURVE


def test_distance_uses_the_voxel_size_along_each_axis(tmp_path, files):
    paths = files("a", [(0, 0.9)], [(0, "t3ss")])
    moved = tables.Points(points((12, 0, 0)), np.zeros((1, 3)), ("t3ss",))
    tables.write_points(moved, paths[1])
    # 8 slices of 2 nm apart: beyond 15 nm, within 16 nm.
    assert evaluate(("final", "test", "a", paths)).summary["headline"]["tp"] == 0
    wider = evaluate(("final", "test", "a", paths), radius_nm=16.0)
    assert wider.summary["headline"]["rmse_nm"] == pytest.approx(16.0)


def test_no_files_give_valid_empty_tables():
    found = evaluate()
    assert (found.matches, found.curve) == ([], [])
    assert found.summary["headline"] is None
    assert found.summary["threshold"] == SETTINGS["threshold"]
    assert found.summary["reason"]


@pytest.mark.parametrize("use", ["test", "validate"])
@pytest.mark.parametrize(
    ("picks", "truth"), [([], []), ([], [(1, "t3ss")]), ([(1, 0.9)], [])]
)
def test_summary_is_valid_json_whatever_is_missing(files, picks, truth, use):
    found = evaluate(("final", use, "a", files("a", picks, truth)))
    json.dumps(found.summary, allow_nan=False)


def test_without_validation_the_setting_serves_and_the_summary_says_so(files):
    paths = files("a", [(10, 0.8)], [(10, "t3ss")])
    final = evaluate(("final", "test", "a", paths), threshold=0.25).summary["rounds"][
        "final"
    ]
    assert (final["threshold"], final["threshold_from"]) == (0.25, "setting")
    assert "no validation volume" in final["threshold_reason"]


def test_a_tomogram_without_truth_adds_its_false_picks(files):
    empty = files("a", [(10, 0.8), (99, 0.7)], [])
    full = files("b", [(10, 0.8)], [(10, "t3ss")])
    found = evaluate(("final", "test", "a", empty), ("final", "test", "b", full))
    test = found.summary["headline"]
    assert (test["tp"], test["fp"], test["fp_per_tp"]) == (1, 2, 2.0)
    assert test["tomograms_without_truth"] == 1


def test_a_table_of_picks_without_scores_is_refused(files):
    paths = files("a", [(10, 0.8)], [])
    text = paths[0].read_text().replace("score", "weight")
    paths[0].write_text(text)
    with pytest.raises(Refused, match="score"):
        evaluate(("final", "test", "a", paths))


def test_a_larger_radius_never_finds_less(study):
    radii = study.summary["headline"]["radii"]
    assert list(radii) == ["5", "15", "20"]
    hits = [radii[name]["tp"] for name in radii]
    assert hits == sorted(hits)


def test_duplicates_are_false_and_named_so():
    one = tomogram(picks=[(0, 0, 0), (0, 0, 1)], truths=[(0, 0, 0)])
    rows = detection.match_rows([one], 15.0)
    assert [(row["outcome"], row["cause"]) for row in rows] == [
        ("TP", ""),
        ("FP", "duplicate"),
    ]


def test_a_false_pick_far_from_everything_is_background():
    one = tomogram(picks=[(0, 0, 0)], decoys=[((0, 0, 16), "gold")])
    assert detection.match_rows([one], 15.0)[0]["cause"] == "background"


def test_the_nearest_decoy_gives_the_name():
    decoys = [((0, 0, 9), "gold"), ((0, 0, 3), "motor")]
    one = tomogram(picks=[(0, 0, 0)], decoys=decoys)
    assert detection.match_rows([one], 15.0)[0]["cause"] == "motor"


def test_average_precision_of_a_perfect_list_is_one():
    one = tomogram(picks=[(0, 0, 0), (0, 0, 99)], truths=[(0, 0, 0), (0, 0, 99)])
    assert curves.average_precision(curves.curve([one], 5.0)) == 1.0


def test_average_precision_by_hand():
    # Ranks: hit, false, hit of two truths: 1/2 * 1 + 1/2 * 2/3.
    one = tomogram(
        picks=[(0, 0, 0), (0, 50, 0), (0, 0, 99)], truths=[(0, 0, 0), (0, 0, 99)]
    )
    assert curves.average_precision(curves.curve([one], 5.0)) == pytest.approx(5 / 6)


def test_picks_of_one_score_enter_the_curve_together():
    one = tomogram(picks=[(0, 0, 0), (0, 50, 0)], truths=[(0, 0, 0)], scores=[0.5, 0.5])
    rows = curves.curve([one], 5.0).rows()
    assert [(row["tp"], row["fp"]) for row in rows] == [(1, 1)]


def test_average_precision_without_truth_is_undefined():
    assert curves.average_precision(curves.curve([tomogram([(0, 0, 0)])], 5.0)) is None


def test_froc_by_hand():
    # Two tomograms: a hit, then a false pick (.5 per tomogram), then a hit.
    one = tomogram(
        picks=[(0, 0, 0), (0, 50, 0), (0, 0, 99)], truths=[(0, 0, 0), (0, 0, 99)]
    )
    found = curves.froc(curves.curve([one, tomogram()], 5.0))
    assert found == {"0.1": 0.5, "0.25": 0.5, "0.5": 1.0, "1": 1.0, "2": 1.0}


def test_froc_is_zero_where_the_first_pick_costs_too_much():
    one = tomogram(picks=[(0, 50, 0)], truths=[(0, 0, 0)])
    assert curves.froc(curves.curve([one], 5.0))["0.5"] == 0.0


def test_equal_f1_takes_the_higher_threshold():
    # F1 is 2 * 1 / (1 + 2) after the first pick and 2 * 2 / (4 + 2) after the fourth.
    picks = [(0, 0, 0), (0, 50, 0), (0, 90, 0), (0, 0, 99)]
    one = tomogram(picks=picks, truths=[(0, 0, 0), (0, 0, 99)])
    chosen = curves.choose_threshold([one], 5.0, 0.1)
    assert chosen["threshold"] == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("validation", "reason"),
    [
        ([], "no validation volume"),
        ([tomogram([(0, 0, 0)])], "no true point"),
        ([tomogram([(0, 0, 0)], [(0, 0, 99)])], "no pick hits"),
    ],
)
def test_a_validation_that_decides_nothing_says_why(validation, reason):
    chosen = curves.choose_threshold(validation, 5.0, 0.3)
    assert chosen["threshold"] == 0.3
    assert reason in chosen["threshold_reason"]


def test_localisation_error_is_split_along_and_across_the_axis():
    one = tomogram(picks=[(3, 4, 0)], truths=[(0, 0, 0)], true_axes=[(1, 0, 0)])
    errors = detection.errors([one], 15.0)
    assert errors["rmse_nm"] == pytest.approx(5.0)
    assert errors["rmse_axial_nm"] == pytest.approx(3.0)
    assert errors["rmse_lateral_nm"] == pytest.approx(4.0)


def test_a_flipped_axis_is_no_axis_error_but_wrong_polarity():
    axes = {"axes": [(-1, 0, 0)], "true_axes": [(1, 0, 0)]}
    errors = detection.errors([tomogram([(0, 0, 0)], [(0, 0, 0)], **axes)], 15.0)
    assert errors["axis_error_deg"] == pytest.approx(0.0)
    assert errors["polarity_correct"] == 0.0


def test_axis_error_is_the_angle_between_the_axes():
    axes = {"axes": [(1, 1, 0)], "true_axes": [(1, 0, 0)]}
    errors = detection.errors([tomogram([(0, 0, 0)], [(0, 0, 0)], **axes)], 15.0)
    assert errors["axis_error_deg"] == pytest.approx(45.0)


def test_errors_without_hits_or_axes_are_undefined():
    assert set(detection.errors([tomogram()], 15.0).values()) == {None}


@pytest.mark.parametrize(
    ("normal", "expected"),
    [((1, 0, 0), 0.0), ((0, 0, -1), 90.0), ((1, 0, 1), 45.0), ((-1, 5, 1), 45.0)],
)
def test_wedge_angle_of_a_normal(normal, expected):
    assert detection.wedge_angles(points(normal)) == pytest.approx(expected)


def test_recall_is_split_by_the_missing_wedge():
    # +-60 degrees: normals within 30 degrees of the beam are unseen.
    one = tomogram(
        picks=[(0, 0, 0)],
        truths=[(0, 0, 0), (0, 0, 99), (0, 99, 0)],
        true_axes=[(0, 0, 1), (1, 0, 0), (0, 0, 0)],
    )
    recall = detection.wedge_recall([one], 15.0, 60.0)
    assert recall["outside"] == {"truths": 1, "recall": 1.0}
    assert recall["inside"] == {"truths": 1, "recall": 0.0}
    assert recall["edge"] == {"truths": 0, "recall": None}
    assert recall["unknown"] == {"truths": 1, "recall": 0.0}


def test_the_other_rules_count_the_same_picks_differently():
    one = tomogram(picks=[(0, 0, 0), (0, 0, 1), (0, 50, 0)], truths=[(0, 0, 0)])
    rules = detection.other_rules([one], 15.0, 20.0)
    counts = {name: (rule["tp"], rule["fp"], rule["fn"]) for name, rule in rules.items()}
    assert counts == {"deepict": (1, 1, 0), "deepfinder": (0, 3, 1), "czii": (1, 2, 0)}


def test_the_czii_rule_takes_half_the_particle_radius():
    one = tomogram(picks=[(0, 0, 11)], truths=[(0, 0, 0)])
    assert detection.other_rules([one], 15.0, 20.0)["czii"]["tp"] == 0


def test_count_error_keeps_its_sign_in_the_mean_only():
    more = tomogram(picks=[(0, 0, 0)])
    less = tomogram(truths=[(0, 0, 0)])
    found = detection.figures([more, less], 15.0)
    assert found["count_error_mean"] == 0.0
    assert found["count_error_mean_absolute"] == 1.0


def test_three_tomograms_give_an_interval_around_the_recall():
    hit = tomogram([(0, 0, 0)], [(0, 0, 0)])
    missed = tomogram([], [(0, 0, 0)])
    low, high = detection.intervals([hit, hit, missed], 15.0, 200, 1)["recall"]
    assert low < 2 / 3 < high
