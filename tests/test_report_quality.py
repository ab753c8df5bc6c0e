"""Proof in the report: figures per class with intervals, mix-ups, curves, calibration."""

import numpy as np
import pytest
from test_report import CLASSES, VOXEL_NM, study_in, table
from test_report_learning import svg, words

from tomoglean import provenance, volumes
from tomoglean.report import (
    calibration,
    charts,
    detection,
    intervals,
    plots,
    quality,
    semantic,
)
from tomoglean.report.sources import Source
from tomoglean.volumes import IGNORE, Volume


def score(method, class_, iou, volume="pooled", labels="clean", **more):
    row = {"method": method, "labels": labels, "use": "test", "volume": volume}
    bounds = {"iou_low": "", "iou_high": "", **more}
    return {name: str(v) for name, v in {**row, "class": class_, "iou": iou}.items()} | {
        name: str(v) for name, v in bounds.items()
    }


def dots_of(rows):
    """Return what the chart of a class draws, by method."""
    order = sorted({r["method"]: r for r in rows}.values(), key=quality._order)
    return {r["method"]: quality._dot(r["method"], rows, "#112233") for r in order}


@pytest.fixture
def undrawn(monkeypatch):
    """Leave charts empty where only words are looked at."""
    monkeypatch.setattr(charts, "draw_figure", lambda *_: "data:image/svg+xml,")


# -- figures of every class ----------------------------------------------------------


def test_every_class_and_the_mean_have_a_chart(tmp_path):
    rows = [score("final", name, 0.5) for name in (*CLASSES, "mean")]
    [shown] = quality.by_class(Source(study_in(tmp_path)), "bone", rows)
    assert len(shown.charts) == 5
    assert "Residual metal" in words(shown.charts[3].uri)
    assert "Mean of the classes" in words(shown.charts[4].uri)


def test_a_class_without_rows_has_no_chart(tmp_path, undrawn):
    rows = [score("final", "bone", 0.5)]
    [shown] = quality.by_class(Source(study_in(tmp_path)), "bone", rows)
    assert len(shown.charts) == 1
    assert quality.by_class(Source(study_in(tmp_path)), "bone", []) == []


def test_the_final_round_stands_first_and_baselines_last():
    methods = ["otsu", "weak", "control-oracle", "final", "weak_labels"]
    assert list(dots_of([score(m, "bone", 0.5) for m in methods])) == [
        *("final", "control-oracle", "weak"),
        *("otsu", "weak_labels"),
    ]


def test_only_the_final_round_is_filled_and_baselines_are_grey():
    dots = dots_of([score(m, "bone", 0.5) for m in ("final", "weak", "otsu")])
    assert [dot.filled for dot in dots.values()] == [True, False, False]
    assert dots["weak"].ink == "#112233" != dots["otsu"].ink


def test_the_interval_is_that_of_the_table():
    dots = dots_of([score("final", "bone", 0.5, iou_low=0.4, iou_high=0.7)])
    assert dots["final"].bounds == (0.4, 0.7)


def test_single_volumes_are_ticks_beside_the_pooled_figure():
    rows = [score("final", "bone", v, n) for v, n in ((0.4, "a"), (0.6, "b"), (0.5, "c"))]
    dot = dots_of([*rows, score("final", "bone", 0.52)])["final"]
    assert (dot.value, list(dot.members)) == (0.52, [0.4, 0.6, 0.5])


@pytest.mark.parametrize(("count", "told"), [(1, "one volume has"), (2, "2 volumes have")])
def test_without_an_interval_the_reason_is_told(tmp_path, undrawn, count, told):
    rows = [score("final", "bone", 0.5, f"v{n}") for n in range(count)]
    [shown] = quality.by_class(Source(study_in(tmp_path)), "bone", rows)
    assert told in shown.caption
    assert "No intervals" in shown.caption


def test_with_an_interval_its_volumes_are_counted(tmp_path, undrawn):
    rows = [score("final", "bone", 0.5, f"v{n}") for n in range(3)]
    rows += [score("final", "bone", 0.5, iou_low=0.4, iou_high=0.6)]
    [shown] = quality.by_class(Source(study_in(tmp_path)), "bone", rows)
    assert "95 % intervals over 3 volumes" in shown.caption


def test_an_undefined_figure_is_written_and_not_drawn():
    dot = plots.Dot("final", None, None, [], "#000000")
    assert "n/a" in words(plots.dots([dot], title="Bone", x_label="IoU"))


def test_a_name_is_never_read_as_a_formula():
    dot = plots.Dot(r"$\frac$", 0.5, None, [], "#000000")
    assert r"$\frac$" in words(plots.dots([dot], title="$x$", x_label="IoU"))


def test_a_scale_of_ratios_has_plain_numbers():
    line = ([0.1, 0.2, 0.3], [0.2, 1.0, 20.0])
    uri = charts.lines({"a": line}, charts.Scales("t", "x", "y", log=True))
    assert {"1", "10"} <= set(words(uri))
    assert not [text for text in words(uri) if "$" in text]


def test_a_class_keeps_its_colour_in_charts(tmp_path):
    rows = [score("final", "bone", 0.5)]
    [shown] = quality.by_class(Source(study_in(tmp_path)), "bone", rows)
    assert "#e69f00" in svg(shown.charts[0].uri)


# -- what was taken for what ---------------------------------------------------------


def confusion(tmp_path, counts):
    rows = [
        {"method": m, "use": "test", "truth": true, "predicted": ours, "voxels": n,
         "share_of_truth": "" if not sum(row.values()) else n / sum(row.values())}
        for m in ("final", "otsu")
        for true, row in counts.items() for ours, n in row.items()
    ]  # fmt: skip
    table(tmp_path / "results/evaluated/bone/confusion.csv", rows)
    return quality.confusion(Source(study_in(tmp_path)), "bone", "test")


MIXED = {
    "background": {"background": 9000, "bone": 1000, "unlabelled": 0},
    "bone": {"background": 30, "bone": 10, "unlabelled": 0},
}


def test_mix_ups_are_told_as_counts_and_percent(tmp_path):
    [drawn] = confusion(tmp_path, MIXED)
    assert [[c.text for c in row[1:]] for row in drawn.rows] == [
        ["9,000\n90.0 %", "1,000\n10.0 %"],
        ["30\n75.0 %", "10\n25.0 %"],
    ]


def test_right_and_wrong_differ_in_colour_and_shares_in_depth(tmp_path):
    [drawn] = confusion(tmp_path, MIXED)
    assert [[c.look for c in row[1:]] for row in drawn.rows] == [
        ["share right shade-9", "share wrong shade-1"],
        ["share wrong shade-8", "share right shade-2"],
    ]


def test_unlabelled_voxels_have_a_column_only_if_there_are_any(tmp_path):
    [drawn] = confusion(tmp_path, MIXED)
    assert "unlabelled" not in drawn.head
    [drawn] = confusion(tmp_path, MIXED | {"bone": {**MIXED["bone"], "unlabelled": 5}})
    assert "unlabelled" in drawn.head


def test_a_class_without_truth_has_no_shares(tmp_path):
    [drawn] = confusion(tmp_path, {"bone": {"background": 0, "bone": 0}})
    assert [cell.text for cell in drawn.rows[0][1:]] == ["n/a", "n/a"]


def test_without_rows_there_is_no_table(tmp_path):
    assert quality.confusion(Source(study_in(tmp_path)), "bone", "test") == []


def test_the_gap_is_told_with_the_figures_it_lies_between(tmp_path):
    best = {"method": "control-corrected", "mean_iou": 0.862}
    found = {"value": -4.59, "final": 0.811, "oracle": 0.873, "best_control": best}
    summary = tmp_path / "results/evaluated/bone/summary.json"
    provenance.write_json({"gap_closed": found}, summary)
    [note] = semantic.gap(Source(study_in(tmp_path)), "bone")
    assert "(mean IoU: control 0.862, oracle 0.873, final 0.811)" in note.text


# -- calibration of voxels -----------------------------------------------------------


def labelled(root, ours, sure, true, volume="rod-1"):
    """Write labels with a confidence, and the truth beside them."""
    path = root / f"results/segmented/bone/final/{volume}.h5"
    extra = {"confidence": np.asarray(sure, np.uint8)}
    volumes.write(Volume(np.asarray(ours, np.uint8), VOXEL_NM), path, extra=extra)
    path = root / f"results/converted/bone/test/clean/{volume}.h5"
    volumes.write(Volume(np.asarray(true, np.uint8), VOXEL_NM), path)


def tallied(root, most=99, speaks_for=None):
    segmented = root / "results/segmented/bone/final/rod-1.h5"
    truth = root / "results/converted/bone/test/clean/rod-1.h5"
    return calibration.tally(segmented, truth, speaks_for, most)


def test_voxels_are_counted_by_label_confidence_and_whether_they_are_right(tmp_path):
    labelled(tmp_path, [[[1, 1, 0]]], [[[255, 255, 128]]], [[[1, 0, 0]]])
    counts, seen = tallied(tmp_path)
    assert counts[1, 255].tolist() == [1, 1]
    assert counts[0, 128].tolist() == [0, 1]
    assert (int(counts.sum()), seen) == (3, 1)


def test_voxels_without_truth_or_label_are_not_counted(tmp_path):
    labelled(tmp_path, [[[1, IGNORE, 0]]], [[[255, 255, 255]]], [[[IGNORE, 0, 0]]])
    assert int(tallied(tmp_path)[0].sum()) == 1


def test_only_slices_a_fold_never_saw_are_counted(tmp_path):
    labelled(tmp_path, *(np.ones((4, 2, 2)),) * 3)
    counts, seen = tallied(tmp_path, speaks_for={1, 3})
    assert (int(counts.sum()), seen) == (8, 2)


def test_among_many_slices_those_with_labels_are_read(tmp_path):
    true = np.full((40, 2, 2), IGNORE, np.uint8)
    true[7], true[31] = 1, 1
    labelled(tmp_path, np.ones((40, 2, 2)), np.ones((40, 2, 2)), true)
    assert tallied(tmp_path, most=2)[1] == 2


def test_of_large_slices_fewer_are_read(tmp_path, monkeypatch):
    labelled(tmp_path, *(np.ones((9, 4, 4)),) * 3)
    monkeypatch.setattr(calibration, "MOST_VOXELS", 3 * 16)
    assert tallied(tmp_path)[1] == 3
    monkeypatch.setattr(calibration, "MOST_VOXELS", 1)
    assert tallied(tmp_path)[1] == 1


def test_labels_of_another_shape_are_an_error(tmp_path):
    labelled(tmp_path, np.ones((1, 2, 2)), np.ones((1, 2, 2)), np.ones((1, 2, 3)))
    with pytest.raises(ValueError, match="shape"):
        tallied(tmp_path)


def counts_of(**levels):
    """Return counts from right and wrong voxels by confidence in percent."""
    counts = np.zeros((256, 2), np.int64)
    for percent, pair in levels.items():
        counts[round(int(percent[1:]) * 2.55)] = pair
    return counts


def test_what_is_as_right_as_it_says_has_no_error():
    bins = calibration.voxel_bins([counts_of(p60=(40, 60), p100=(0, 100))], 1)
    assert [(b.confidence, b.right, b.weight) for b in bins] == [
        (0.6, 0.6, 0.5),
        (1, 1, 0.5),
    ]
    assert calibration.error(bins) == pytest.approx(0, abs=1e-12)


def test_the_error_is_the_mean_gap_by_weight():
    bins = calibration.voxel_bins([counts_of(p60=(100, 0), p100=(0, 300))], 1)
    assert calibration.error(bins) == pytest.approx(0.25 * 0.6)


def test_intervals_need_three_volumes():
    one = counts_of(p60=(40, 60))
    assert calibration.voxel_bins([one, one], 1)[0].bounds is None
    three = calibration.voxel_bins([one, counts_of(p60=(90, 10)), one], 1)
    low, high = three[0].bounds
    assert 0.1 <= low < three[0].right < high <= 0.6


def test_confidence_beyond_the_truth_is_called_over_confident(tmp_path, undrawn):
    ours, true = np.ones((2, 4, 4)), np.ones((2, 4, 4))
    true[:, :2] = 0
    labelled(tmp_path, ours, np.full((2, 4, 4), 255), true)
    [shown] = calibration.of_voxels(Source(study_in(tmp_path)), "bone", ["rod-1"])
    assert "over-confident by 0.500" in shown.charts[0].caption
    assert shown.caption == (
        "From 2 slices of 1 volume, 32 voxels; too few volumes for intervals."
    )
    assert "background n/a (never given), bone 0.500" in shown.charts[1].caption


def test_without_confidence_or_truth_calibration_says_so(tmp_path):
    source = Source(study_in(tmp_path))
    [note] = calibration.of_voxels(source, "bone", ["rod-1"])
    assert note.text == "Calibration: n/a (no confidence beside true labels)."
    labelled(tmp_path, *(np.ones((2, 4, 4)),) * 3)
    (tmp_path / "results/segmented/bone/final/rod-1.h5").write_bytes(b"broken")
    [note] = calibration.of_voxels(Source(study_in(tmp_path)), "bone", ["rod-1"])
    assert "n/a" in note.text


def test_many_volumes_are_read_at_few_slices_each(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        calibration, "tally", lambda *given: (asked.append(given[3]) or np.zeros(1), 0)
    )
    labelled(tmp_path, *(np.ones((2, 4, 4)),) * 3)
    calibration.of_voxels(Source(study_in(tmp_path)), "bone", ["rod-1"] + ["x"] * 19)
    assert asked == [calibration.MOST_SLICES // 20]


def test_the_proof_shows_calibration_of_the_volumes_it_speaks_of(tmp_path, undrawn):
    labelled(tmp_path, *(np.ones((2, 4, 4)),) * 3)
    rows = [score("final", "bone", 0.5, name) for name in ("rod-1", "pooled")]
    table(tmp_path / "results/evaluated/bone/scores.csv", rows)
    shown = semantic.proof(Source(study_in(tmp_path)), "bone")
    assert [b.kind for b in shown] == ["table", "charts", "charts"]
    assert shown[-1].charts[0].alt.startswith("Share of voxels labelled right")


# -- detection -----------------------------------------------------------------------


def curve_rows(pairs):
    """Return the rows of a curve from scores and whether they are true, best first."""
    found, tp, fp = [], 0, 0
    for value, true in pairs:
        tp, fp = tp + true, fp + (not true)
        found.append({"threshold": str(value), "tp": str(tp), "fp": str(fp)})
    return found


def test_candidates_are_counted_between_the_rows_of_the_curve():
    rows = curve_rows([(0.95, True), (0.92, True), (0.91, False), (0.25, False)])
    low, high = calibration.pick_bins(rows)
    assert (low.low, low.right, low.weight) == (0.2, 0.0, 0.25)
    assert (high.low, high.right, high.weight) == (0.9, pytest.approx(2 / 3), 0.75)
    assert high.confidence == pytest.approx((0.95 + 0.92 + 0.91) / 3)


@pytest.mark.parametrize("rows", [[], [{"threshold": "", "tp": "x", "fp": ""}]])
def test_no_candidate_has_no_reliability(rows):
    assert calibration.of_picks(rows, 0.5, "test") == []


def test_the_threshold_stands_on_the_reliability_of_picks():
    rows = curve_rows([(0.9, True), (0.2, False)])
    [chart] = calibration.of_picks(rows, 0.577, "test")
    assert "threshold 0.577" in "".join(words(chart.uri))


def figure(**changes):
    counts = {"tomograms": 4, "tp": 6, "fp": 12, "fn": 0}
    bounds = {"precision": [0.1, 0.6], "recall": [1.0, 1.0]}
    return {**counts, "precision": 1 / 3, "recall": 1.0, "intervals": bounds} | changes


def test_a_rate_on_which_all_volumes_agree_gets_its_interval_from_counts():
    assert detection._rate(figure(), "recall") == "1.00\n0.61 to 1.00 *"
    assert detection._rate(figure(), "precision") == "0.33\n0.10 to 0.60"


def test_a_rate_without_interval_stands_alone():
    assert "\n" not in detection._rate(figure(intervals={"f1": None}), "f1")


def test_headline_and_table_tell_the_same_interval():
    many = figure(intervals={"fp_per_tp": [0.5, 4.0]})
    few = figure(intervals={"fp_per_tp": None})
    assert intervals.of_rate(many, "fp_per_tp") == ((0.5, 4.0), intervals.OVER_VOLUMES)
    assert detection._rate(many, "fp_per_tp").endswith("0.50 to 4.00")
    assert intervals.of_rate(few, "fp_per_tp")[1] == intervals.FROM_COUNTS
    assert detection._rate(few, "fp_per_tp").endswith(" *")


def detected(root, **changes):
    rounds = {"final": {"threshold": 0.5, "test": figure(**changes)}}
    found = {"use": "test", "rounds": rounds, "radius_nm": 15.0}
    provenance.write_json(found, root / "results/evaluated/t3ss/summary.json")
    rows = curve_rows([(0.9, True), (0.8, False), (0.6, False), (0.4, False)])
    more = {"round": "final", "use": "test", "precision": 0.5, "recall": 0.5,
            "fp_per_tomogram": 1.0}  # fmt: skip
    path = root / "results/evaluated/t3ss/curve.csv"
    table(path, [{**row, **more} for row in rows])
    return detection.rates(Source(study_in(root)), "t3ss")


def test_the_ratio_of_true_to_false_is_told_at_the_working_point(tmp_path):
    *_, shown = detected(tmp_path)
    assert "final TP : FP = 6 : 12, 1 : 2.00" in shown.caption
    assert "1 FP per TP" in words(shown.charts[2].uri)
    assert len(shown.charts) == 4


def test_what_false_picks_are_is_told_most_frequent_first(tmp_path, undrawn):
    found = detected(tmp_path, false_positive_causes={"background": 2, "motor_x": 10})
    [note] = [b for b in found if b.kind == "note"]
    assert note.text.endswith("are: 10 motor x, 2 background.")


def test_too_few_volumes_for_intervals_are_counted(tmp_path, undrawn):
    found = detected(tmp_path, tomograms=1, intervals={"recall": None})
    assert "from the counts (*), as 1 volume is too few" in found[0].caption
    assert "intervals over the 4 volumes" in detected(tmp_path)[0].caption


def test_the_working_point_lies_on_the_axes_of_every_curve():
    rounds = {"final": {"threshold": 0.5, "test": figure(fp_per_tp=2.0)}}
    for x, y, _ in detection.CURVES.values():
        assert detection._working_points(rounds, "test", x, y)["final"]


def test_a_scale_of_ratios_leaves_out_what_has_no_place_on_it():
    rows = [{"tp": "0", "fp": "3"}, {"tp": "2", "fp": "0"}, {"tp": "2", "fp": "3"}]
    assert [detection._fp_per_tp(row) for row in rows] == ["", "", "1.5"]
