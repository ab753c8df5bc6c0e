"""Slices across every axis keep their place, their proportions and what they mean."""

import numpy as np
import pytest

from tomoglean import volumes
from tomoglean.report import figures, places, planes, slices, style
from tomoglean.report.planes import Plane
from tomoglean.report.sources import Source
from tomoglean.study import Study
from tomoglean.volumes import Volume

SHAPE = (4, 6, 10)
EDGES = (50.0, 5.0, 4.0)
CLASSES = ["background", "bone", "metal"]
NUMBERED = np.arange(4 * 6 * 10).reshape(SHAPE)


# -- planes --------------------------------------------------------------------------


def test_across_z_a_slice_lies_as_it_is_stored():
    assert (Plane("z", 2).cut(NUMBERED) == NUMBERED[2]).all()


@pytest.mark.parametrize(("axis", "column"), [("y", 1), ("x", 2)])
def test_across_y_and_x_z_runs_upwards(axis, column):
    cut = Plane(axis, 3).cut(NUMBERED)
    assert (cut[-1] == np.take(NUMBERED[0], 3, axis=column - 1)).all()
    assert (cut[0] == np.take(NUMBERED[3], 3, axis=column - 1)).all()


def test_a_turned_slice_has_z_to_the_right():
    assert (Plane("y", 3, turned=True).cut(NUMBERED) == NUMBERED[:, 3].T).all()


@pytest.mark.parametrize("plane", [Plane("z", 1), Plane("y", 2), Plane("x", 3)])
@pytest.mark.parametrize("turned", [False, True])
def test_a_point_is_found_where_its_voxel_is_drawn(plane, turned):
    if turned and plane.axis != "z":
        plane = Plane(plane.axis, plane.index, turned=True)
    point = [2, 4, 7]
    point[plane.number] = plane.index
    row, column, off = plane.place(point, SHAPE)
    assert plane.cut(NUMBERED)[row, column] == NUMBERED[tuple(point)]
    assert off == 0


def test_how_far_a_point_lies_off_the_slice_is_told():
    assert Plane("x", 3).place((0, 0, 7.5), SHAPE)[2] == 4.5


def test_proportions_are_those_of_the_voxels():
    assert Plane("z", 0).edges(EDGES) == (5.0, 4.0)
    assert Plane("y", 0).edges(EDGES) == (50.0, 4.0)
    assert Plane("x", 0).edges(EDGES) == (50.0, 5.0)
    assert Plane("x", 0, turned=True).edges(EDGES) == (5.0, 50.0)


@pytest.mark.parametrize(
    "plane", [Plane("z", 1), Plane("y", 2), Plane("x", 3, turned=True)]
)
def test_the_shape_is_that_of_the_slice(plane):
    assert plane.cut(NUMBERED).shape == plane.shape(SHAPE)


def test_a_thick_slice_is_a_mean_that_ends_at_the_border():
    data = np.zeros((5, 2, 2))
    data[0], data[1], data[4] = 2.0, 4.0, 9.0
    assert (Plane("z", 0).cut(data, 3) == 3.0).all()
    assert (Plane("z", 4).cut(data, 3) == 4.5).all()


def test_a_tall_volume_is_laid_down():
    assert planes.across("y", 3, (100, 20, 20), (1.0, 1.0, 1.0)).turned
    assert not planes.across("y", 3, (20, 20, 20), (1.0, 1.0, 1.0)).turned
    assert planes.across("x", 3, (20, 20, 20), (5.0, 1.0, 1.0)).turned
    assert not planes.across("z", 3, (100, 20, 20), (1.0, 1.0, 1.0)).turned


def test_how_z_runs_is_said_once():
    upright, turned = Plane("y", 1), Plane("x", 1, turned=True)
    assert planes.told([Plane("z", 1)]) == []
    both = planes.told([Plane("z", 1), upright, Plane("x", 2)])
    assert both == ["z runs upwards in slices across y and x"]
    assert len(planes.told([upright, turned])) == 2


# -- what is shown of a segmented volume ---------------------------------------------


def source_in(root, *, use="test", **task) -> Source:
    tasks = {
        "bone": {"kind": "semantic", "classes": CLASSES, **task},
        "t3ss": {"kind": "detection", "membrane": "bone"},
    }
    rows = [{"volume": "rod-1", "tasks": "bone,t3ss", "path": "x"}]
    labels = [
        {"task": task, "volume": "rod-1", "kind": "clean", "use": use} for task in tasks
    ]
    config = {"seed": 1, "simulate": {}, "tasks": tasks}
    return Source(Study(config, rows, labels, root))


def filled(source, z=None, *, use="test"):
    labels = np.zeros((12, 20, 24), np.uint8)
    labels[:, 5:15, 6:18] = 1
    wrong = labels.copy()
    wrong[9, 5:9] = 0
    sure = np.full_like(labels, 255)
    raw = Volume(labels * 100.0, EDGES, z)
    volumes.write(raw, source.results / "converted/rod-1.h5", p_low=0.0, p_high=100.0)
    path = source.results / "segmented/bone/final/rod-1.h5"
    volumes.write(Volume(wrong, EDGES, z), path, extra={"confidence": sure})
    path = source.results / f"converted/bone/{use}/clean/rod-1.h5"
    volumes.write(Volume(labels, EDGES, z), path)


@pytest.fixture
def source(tmp_path):
    found = source_in(tmp_path)
    filled(found)
    return found


def firsts(panels):
    return [frame.caption for frame in panels.frames[:: panels.columns]]


def test_a_held_out_volume_is_shown_across_all_axes_and_at_its_worst(source):
    [panels] = slices.blocks(source, "bone")
    assert firsts(panels) == [
        "z = 6, central slice: raw",
        "y = 10, central slice: raw",
        "x = 12, central slice: raw",
        "z = 9, worst of 12 slices: raw",
    ]


def test_every_slice_is_raw_prediction_truth_errors_and_confidence(source):
    [panels] = slices.blocks(source, "bone")
    captions = [frame.caption for frame in panels.frames[-5:]]
    assert captions[1:3] == ["prediction", "truth"]
    assert captions[3] == "errors: 10.0 % of voxels wrong"
    assert captions[4] == "confidence"
    assert panels.columns == 5


def test_slices_across_keep_the_proportions_of_voxels_that_are_no_cubes(source):
    [panels] = slices.blocks(source, "bone")
    across_y = panels.frames[5]
    assert across_y.height / across_y.width == pytest.approx(
        24 * 4 / (12 * 50), rel=0.02
    )  # laid down: 600 nm of z to the right
    assert "z runs to the right" in panels.caption


def test_a_volume_that_was_trained_on_is_shown_by_one_slice(tmp_path):
    trained = source_in(tmp_path, use="train")
    filled(trained, use="train")
    [panels] = slices.blocks(trained, "bone")
    assert firsts(panels) == ["z = 6, central slice: raw"]


def test_slices_that_are_no_neighbours_are_shown_across_z_only(tmp_path):
    sparse = source_in(tmp_path)
    filled(sparse, np.arange(12) * 7)
    [panels] = slices.blocks(sparse, "bone")
    assert firsts(panels) == [
        "z = 42, central slice: raw",
        "z = 63, worst of 12 slices: raw",
    ]


def test_without_truth_there_are_neither_errors_nor_their_colours(source):
    (source.results / "converted/bone/test/clean/rod-1.h5").unlink()
    [panels] = slices.blocks(source, "bone")
    assert panels.columns == 3
    assert not [name for name in panels.legend if "error" in name]


def test_the_colour_bar_says_what_confidence_means(source):
    [panels] = slices.blocks(source, "bone")
    [bar] = panels.bars
    assert "probability given to the class predicted" in bar.text
    assert (bar.low, bar.high) == ("0.33 (a guess among 3)", "1 (certain)")


def test_a_guess_is_dark_and_certainty_is_bright():
    colours = figures.heat_colours()
    heat = figures.heat(np.array([[1 / 3, 1.0]]), 1 / 3)
    assert tuple(heat[0, 0]) == style.rgb(colours[0])
    assert tuple(heat[0, 1]) == style.rgb(colours[-1])


def test_the_grey_window_is_stated(source):
    [panels] = slices.blocks(source, "bone")
    assert "grey window 0 to 100" in panels.caption


def test_every_slice_has_a_scale_bar_of_its_own(source):
    [panels] = slices.blocks(source, "bone")
    texts = {frame.bar_text for frame in panels.frames[:: panels.columns]}
    assert texts == {"20 nm", "100 nm"}


# -- what is shown of candidates -----------------------------------------------------


def picked(source, rows):
    path = source.results / "evaluated/t3ss/matches.csv"
    path.parent.mkdir(parents=True)
    lines = [",".join(map(str, row)) for row in rows]
    path.write_text("\n".join(["volume,z,y,x,score,outcome", *lines]) + "\n")


def test_candidates_are_shown_across_all_axes_where_most_lie(source):
    picked(source, [("rod-1", 2, 4, 6, 0.9, "TP"), ("rod-1", 9, 15, 20, 0.8, "FP")])
    [panels] = places.pictures(source, "t3ss")
    told = [caption.split(",")[0] for caption in firsts(panels)]
    assert told == ["z = 2", "y = 4", "x = 6", "z = 9"]


def test_the_densest_slice_is_found_without_comparing_all_with_all(monkeypatch):
    found = np.random.default_rng(1).integers(0, 500, 300).astype(float)
    crowd = (np.abs(found[:, None] - found[None]) <= 4.0).sum(axis=1)
    assert places._densest(found, 4.0, 500) == found[np.argmax(crowd)]
    assert places._densest(np.repeat([7.0, 3.0], [60_000, 50_000]), 1.0, 500) == 7


def test_marks_of_a_slice_across_y_lie_at_x_and_z(source):
    rows = [{"z": "2", "y": "4", "x": "6", "outcome": "TP"}]
    grey = Volume(np.zeros((12, 20, 24)), EDGES)
    [mark] = places._marks(rows, Plane("y", 4), grey, (240, 120))
    assert (mark.x, mark.y) == (65.0, 95.0)


def test_marks_far_off_the_slice_are_left_out():
    rows = [{"z": "2", "y": "14", "x": "6"}]
    grey = Volume(np.zeros((12, 20, 24)), EDGES)
    assert places._marks(rows, Plane("y", 4), grey, (240, 120)) == []


def test_a_score_map_brings_its_colour_bar(source):
    assert places.pictures(source, "t3ss")[0].bars == []
    path = source.results / "classified/t3ss/final/rod-1.h5"
    volumes.write(Volume(np.zeros((12, 20, 24), np.float32), EDGES), path)
    [panels] = places.pictures(source, "t3ss")
    assert panels.bars == [places.SCORE_BAR]
    assert panels.columns == 2


# -- detail --------------------------------------------------------------------------


def test_more_volumes_leave_less_detail_for_each():
    found = [figures.detail(count) for count in (1, 12, 18, 30, 60)]
    for kept in ("edge_px", "quality", "most_bytes"):
        values = [getattr(one, kept) for one in found]
        assert values == sorted(set(values), reverse=True)


@pytest.mark.parametrize("volumes", [8, 20, 34, 60])
def test_all_pictures_together_stay_within_their_share(volumes):
    allowed = figures.detail(volumes).most_bytes
    uris = volumes * figures.PICTURES * allowed * 4 / 3
    assert uris <= figures.SHARE_BYTES


@pytest.mark.parametrize("most_bytes", [12_000, 20_000, 25_000])
def test_noise_is_kept_in_less_quality_until_it_is_light_enough(most_bytes):
    noise = np.random.default_rng(1).integers(0, 255, (210, 210), np.uint8)
    heavy = len(figures.webp(noise))
    light = len(figures.webp(noise, most_bytes=most_bytes))
    assert light <= 4 / 3 * most_bytes + 40 < heavy


def test_a_picture_that_is_light_keeps_its_quality():
    flat = np.full((99, 99), 7, np.uint8)
    assert figures.webp(flat, most_bytes=10_000) == figures.webp(flat)


def test_volumes_shown_by_fewer_pictures_count_less(tmp_path):
    trained, tested = source_in(tmp_path, use="train"), source_in(tmp_path)
    for source in (trained, tested):
        row = source.study.volumes[0]
        names = [f"v{i}" for i in range(15)]
        source.study.volumes[:] = [{**row, "volume": name} for name in names]
        label = source.study.labels[0]
        source.study.labels[:] = [
            {**label, "volume": name, "task": task}
            for name in names
            for task in ("bone", "t3ss")
        ]
    assert slices.detail(trained).edge_px > slices.detail(tested).edge_px


def test_a_page_of_many_volumes_says_that_pictures_are_small(source):
    assert slices.lightened(source) == []
    row = source.study.volumes[0]
    source.study.volumes[:] = [{**row, "volume": f"v{i}"} for i in range(15)]
    [note] = slices.lightened(source)
    assert "pictures are kept to 270 px" in note.text
