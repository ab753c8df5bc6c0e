"""Galleries name every candidate by its line and place; the FSC has its levels marked."""

import mrcfile
import numpy as np
import pytest
from test_report import scan, study_in, table
from test_report_learning import words

from tomoglean import provenance, volumes
from tomoglean.report import averaging, candidates
from tomoglean.report.candidates import Candidate
from tomoglean.report.sources import Source
from tomoglean.volumes import Volume

SHAPE = (8, 60, 60)
CELL_NM = (2.0, 4.0, 4.0)


def match(outcome, place, score="", **more):
    z, y, x = place
    row = {"round": "final", "use": "test", "volume": "cell-1", "z": z, "y": y, "x": x}
    return {
        **row,
        "score": score,
        "outcome": outcome,
        "distance_nm": "",
        "cause": "",
    } | more


def picks(root, places):
    rows = [{"z": z, "y": y, "x": x, "score": s} for (z, y, x), s in places]
    table(root / "results/picked/t3ss/final/cell-1.csv", rows)


def judged(root, rows, shape=SHAPE):
    """Write matches of one volume, its picks above and below them, and its raw data."""
    table(root / "results/evaluated/t3ss/matches.csv", rows)
    summary = {"rounds": {"final": {"test": {}}}, "threshold": 0.5, "radius_nm": 8.0}
    provenance.write_json(summary, root / "results/evaluated/t3ss/summary.json")
    raw = np.random.default_rng(1).normal(size=shape)
    volumes.write(Volume(raw, CELL_NM), root / "results/converted/cell-1.h5")
    return Source(study_in(root))


def score_map(root, values, kind="classified/t3ss/final"):
    volumes.write(Volume(values, CELL_NM), root / f"results/{kind}/cell-1.h5")


def galleries_of(source):
    found = candidates.galleries(source, "t3ss")
    return {b.tone: b for b in found if b.kind == "gallery"}


def captions(source):
    return {
        tone: [f.caption.split("\n") for f in shown.frames]
        for tone, shown in galleries_of(source).items()
    }


# -- ids and places ------------------------------------------------------------------


def test_a_candidate_is_named_by_its_line_among_the_picks(tmp_path):
    picks(tmp_path, [((1, 5, 5), 0.9), ((3, 20, 30), 0.8)])
    source = judged(tmp_path, [match("TP", (3, 20, 30), 0.8)])
    assert captions(source)["tp"][0][0] == "cell-1 #2"


def test_places_are_told_in_voxels_and_nanometres(tmp_path):
    source = judged(tmp_path, [match("TP", (3, 20, 30), 0.8)])
    assert captions(source)["tp"][0][1:4] == ["score 0.80", "3, 20, 30 px", "6, 80, 120 nm"]


def test_a_pick_that_is_in_no_table_has_no_line(tmp_path):
    picks(tmp_path, [((1, 5, 5), 0.9)])
    source = judged(tmp_path, [match("TP", (3, 20, 30), 0.8)])
    assert captions(source)["tp"][0][0] == "cell-1 #?"


def test_a_missed_truth_is_named_by_its_line_among_the_points(tmp_path):
    source = judged(tmp_path, [match("FN", (4, 2, 58))])
    points = [{"z": z, "y": 2, "x": 58} for z in (1, 2, 4)]
    table(tmp_path / "results/converted/t3ss/test/points/cell-1.csv", points)
    assert captions(source)["fn"][0][0] == "cell-1 truth 3"


@pytest.mark.parametrize(
    ("place", "line"),
    [((1, 2, 3), 1), ((1, 2, 3.005), 1), ((1, 2, 3.5), None), ((7, 8, 9), 3)],
)
def test_a_line_is_found_by_its_place(place, line):
    rows = [{"z": "1", "y": "2", "x": "3"}, {"z": "", "y": "x", "x": "nan"},
            {"z": "7", "y": "8", "x": "9"}]  # fmt: skip
    assert candidates.line_of(rows, place) == line
    assert candidates.line_of([], place) is None


def test_what_a_false_pick_is_and_how_far_a_true_one_is_off_are_told(tmp_path):
    rows = [match("FP", (3, 30, 30), 0.7, cause="base_without_needle")]
    rows += [match("TP", (3, 20, 20), 0.9, distance_nm="2.04")]
    found = captions(judged(tmp_path, rows))
    assert found["fp"][0][-1] == "base without needle"
    assert found["tp"][0][-1] == "2.0 nm off"


# -- order and number ----------------------------------------------------------------


def test_every_gallery_is_in_order_of_score(tmp_path):
    rows = [match("FP", (3, y, 30), s) for y, s in ((10, 0.6), (20, 0.9), (30, 0.7))]
    told = [c[1] for c in captions(judged(tmp_path, rows))["fp"]]
    assert told == ["score 0.90", "score 0.70", "score 0.60"]


def test_a_long_gallery_says_what_it_leaves_out(tmp_path):
    rows = [match("TP", (3, 20, 10 + n), 0.5 + n / 100) for n in range(30)]
    shown = galleries_of(judged(tmp_path, rows))["tp"]
    assert len(shown.frames) == candidates.GALLERY_SIZE
    assert shown.title.startswith("TP: 30 true positives")
    assert shown.title.endswith("the first 20")


def test_an_empty_gallery_says_so(tmp_path):
    shown = galleries_of(judged(tmp_path, [match("TP", (3, 20, 30), 0.8)]))
    assert (shown["fp"].caption, shown["fp"].frames) == ("None.", [])
    assert shown["tp"].caption == ""


def test_only_volumes_of_the_shown_use_are_in_the_galleries(tmp_path):
    rows = [match("TP", (3, 20, 30), 0.8), match("TP", (3, 9, 9), 0.9, use="validate")]
    assert len(captions(judged(tmp_path, rows))["tp"]) == 1


def test_the_threshold_and_the_lists_are_told(tmp_path):
    found = candidates.galleries(judged(tmp_path, [match("TP", (3, 2, 3), 0.8)]), "t3ss")
    notes = [b.text for b in found if b.kind == "note"]
    assert "of score 0.500 or more on test volumes" in notes[0]
    assert "results/picked/t3ss/final/VOLUME.csv" in notes[1]


def test_candidates_without_truth_are_shown_best_first(tmp_path):
    picks(tmp_path, [((1, 5, 5), 0.6), ((3, 20, 30), 0.8)])
    scan(tmp_path, "cell-1", SHAPE)
    [shown] = candidates.galleries(Source(study_in(tmp_path)), "t3ss")
    assert "2 candidates, not judged" in shown.title
    assert [f.caption.split("\n")[0] for f in shown.frames] == ["cell-1 #2", "cell-1 #1"]


def test_no_candidate_is_one_line(tmp_path):
    [note] = candidates.galleries(Source(study_in(tmp_path)), "t3ss")
    assert note.text == "No candidate so far."


@pytest.mark.parametrize("place", [("", 1, 2), ("nan", 1, 2), (900, -50, 7)])
def test_a_place_that_is_none_ends_nothing(tmp_path, place):
    found = captions(
        judged(tmp_path, [match("FP", place, 0.9), match("FP", (3, 9, 9), 0.8)])
    )
    assert "3, 9, 9 px" in found["fp"][-1]


def test_a_volume_that_is_gone_leaves_no_picture(tmp_path):
    source = judged(tmp_path, [match("TP", (3, 20, 30), 0.8, volume="gone")])
    assert captions(source)["tp"] == []


# -- missed ones ---------------------------------------------------------------------


def lost(place=(4.0, 30.0, 30.0)):
    return Candidate("cell-1", 1, "FN", place, None)


def test_a_missed_one_tells_the_highest_score_within_the_radius(tmp_path):
    scores = np.zeros(SHAPE)
    scores[4, 30, 32], scores[4, 30, 33] = 0.4, 0.9
    score_map(tmp_path, scores)
    found = candidates.missed(Source(study_in(tmp_path)), "t3ss", lost(), 8.0)
    assert found.score == 0.4


def test_the_radius_is_in_nanometres_along_every_axis(tmp_path):
    scores = np.zeros(SHAPE)
    scores[7, 30, 30], scores[4, 33, 30] = 0.4, 0.9
    score_map(tmp_path, scores)
    found = candidates.missed(Source(study_in(tmp_path)), "t3ss", lost(), 6.0)
    assert found.score == 0.4


@pytest.mark.parametrize(("value", "remark"), [(0, "outside the mask"), (1, "")])
def test_what_was_never_searched_is_said_to_be_so(tmp_path, value, remark):
    score_map(tmp_path, np.zeros(SHAPE))
    score_map(tmp_path, np.full(SHAPE, value, np.uint8), "masked/t3ss")
    found = candidates.missed(Source(study_in(tmp_path)), "t3ss", lost(), 8.0)
    assert found.remark == remark


def test_the_nearest_to_being_found_comes_first(tmp_path):
    scores = np.zeros(SHAPE)
    scores[4, 10, 10], scores[4, 40, 40] = 0.2, 0.4
    score_map(tmp_path, scores)
    source = judged(tmp_path, [match("FN", (4, 10, 10)), match("FN", (4, 40, 40))])
    assert [c[1] for c in captions(source)["fn"]] == ["map 0.40", "map 0.20"]


@pytest.mark.parametrize("place", [(4.0, 30.0, 30.0), (400.0, 3.0, 3.0)])
def test_without_a_map_a_missed_one_stays_as_it_is(tmp_path, place):
    if place[0] > 8:
        score_map(tmp_path, np.ones(SHAPE))
    one = lost(place)
    assert candidates.missed(Source(study_in(tmp_path)), "t3ss", one, 8.0) == one


# -- the average ---------------------------------------------------------------------


def averaged(root, kind="average", scale=1.0):
    data = np.random.default_rng(2).normal(size=(8, 8, 8)).astype(np.float32) * scale
    path = root / f"results/averaged/t3ss/{kind}.mrc"
    path.parent.mkdir(parents=True, exist_ok=True)
    with mrcfile.new(path) as file:
        file.set_data(data)
        file.voxel_size = 18.0


def correlations(root, **summary):
    averaged(root)
    rows = [
        {"frequency_per_nm": f / 20, "fsc": 1 - f / 10, "fsc_control": 0} for f in range(11)
    ]
    table(root / "results/averaged/t3ss/fsc.csv", rows)
    provenance.write_json(summary, root / "results/averaged/t3ss/summary.json")
    shown = averaging.blocks(Source(study_in(root)), "t3ss")
    return next(b for b in shown if b.kind == "charts").charts[0]


def test_both_levels_of_the_fsc_are_marked_with_their_length(tmp_path):
    chart = correlations(tmp_path, resolution_fsc_143_nm=5.07, resolution_fsc_500_nm=7.44)
    found = words(chart.uri)
    assert {"0.143", "0.5", "7.4 nm at 0.5", "5.1 nm at 0.143"} <= set(found)
    assert "spatial frequency (1/nm)" in found
    assert "correlation (no unit)" in found
    assert chart.alt.endswith("7.4 nm at 0.5; 5.1 nm at 0.143")


@pytest.mark.parametrize("length", [None, 0, "x"])
def test_a_level_that_is_never_crossed_has_no_dot(tmp_path, length):
    chart = correlations(tmp_path, resolution_fsc_143_nm=length)
    assert not any("nm at" in text for text in words(chart.uri))
    assert chart.caption == ""


def test_the_control_is_shown_in_the_window_of_the_average(tmp_path):
    averaged(tmp_path)
    averaged(tmp_path, "control", scale=0.1)
    shown = averaging.blocks(Source(study_in(tmp_path)), "t3ss")
    first, second = (b.caption for b in shown if b.kind == "panels")
    assert first.split("window ")[1] == second.split("window ")[1]
