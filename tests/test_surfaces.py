"""Pictures in space show what the labels hold, at the size they have."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from tomoglean import volumes
from tomoglean.report import meshes, pretty, rendering, style, surfaces
from tomoglean.report.sources import Source
from tomoglean.study import Study
from tomoglean.volumes import Volume

UNIT = (1.0, 1.0, 1.0)
CLASSES = ["background", "bone", "metal"]


def ball(radius=7.0, edge=24) -> np.ndarray:
    middle = (edge - 1) / 2
    z, y, x = np.ogrid[:edge, :edge, :edge]
    inside = (z - middle) ** 2 + (y - middle) ** 2 + (x - middle) ** 2 < radius**2
    return inside.astype(np.uint8)


def enclosed(mesh: meshes.Mesh) -> float:
    a, b, c = (mesh.points[mesh.faces[:, i]] for i in range(3))
    return abs(float(np.einsum("ij,ij->", a, np.cross(b, c)))) / 6


def middle_of(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    return picture[height // 2, width // 2].astype(int)


# -- cells ---------------------------------------------------------------------------


def test_shares_are_what_the_voxels_hold():
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[:, :, 1] = 1
    found = meshes.shares(Volume(labels, UNIT), [1], most=2)
    assert found.cell_nm == (2.0, 2.0, 2.0)
    assert found.of[1].tolist() == [[[0.5, 0.0]] * 2] * 2


def test_a_cell_across_two_tiles_is_whole():
    labels = np.ones((70, 4, 4), np.uint8)
    found = meshes.shares(Volume(labels, (1.0, 9.0, 9.0)), [1, 2], most=23)
    assert found.of[1].shape[0] == 24
    assert (found.of[1] == 1).all()
    assert not found.of[2].any()


def test_cells_are_nearly_cubes_whatever_the_voxels():
    labels = np.zeros((10, 100, 100), np.uint8)
    found = meshes.shares(Volume(labels, (50.0, 5.0, 5.0)), [1], most=20)
    assert found.cell_nm == (50.0, 25.0, 25.0)


def test_slices_that_are_no_neighbours_have_no_surface():
    sparse = Volume(np.ones((3, 4, 4), np.uint8), UNIT, z=np.array([0, 9, 30]))
    with pytest.raises(ValueError, match="neighbouring slices"):
        meshes.shares(sparse, [1])


# -- surfaces ------------------------------------------------------------------------


def test_a_ball_keeps_its_volume_in_nanometres():
    found = meshes.surface(ball().astype(np.float32), (5.0, 5.0, 5.0), "#000000")
    assert enclosed(found) == pytest.approx(ball().sum() * 125, rel=0.12)


def test_a_sheet_thinner_than_a_cell_does_not_vanish():
    labels = np.zeros((48, 48, 48), np.uint8)
    labels[22:24] = 1
    found = meshes.shares(Volume(labels, UNIT), [1], most=12)
    mesh = meshes.surface(found.of[1], found.cell_nm, "#000000")
    assert 0.5 < enclosed(mesh) / labels.sum() < 2.5


def test_normals_look_outwards():
    mesh = meshes.surface(ball().astype(np.float32), UNIT, "#000000")
    away = mesh.points[mesh.faces].mean(axis=1) - 12
    assert (np.einsum("ij,ij->i", away, mesh.normals) > 0).all()
    assert np.linalg.norm(mesh.normals, axis=1) == pytest.approx(1, abs=1e-6)


def test_a_body_stands_where_its_voxels_are():
    mesh = meshes.surface(ball().astype(np.float32), UNIT, "#000000")
    assert mesh.points.mean(axis=0) == pytest.approx([12, 12, 12], abs=0.01)


def test_what_is_cut_away_is_the_quarter_of_small_y_and_large_x():
    mesh = meshes.surface(np.ones((8, 20, 20), np.float32), UNIT, "#000000", cut=True)
    _, y, x = mesh.points.T
    assert not ((y < 9) & (x > 11)).any()
    assert ((y > 11) & (x > 11)).any()
    assert ((y < 9) & (x < 9)).any()


def test_nothing_has_no_surface():
    assert meshes.surface(np.zeros((8, 8, 8), np.float32), UNIT, "#000000") is None


# -- pictures ------------------------------------------------------------------------


@pytest.mark.parametrize("view", [rendering.SIDE, rendering.ALONG_Z])
def test_a_view_is_a_rotation(view):
    turn = rendering.axes_of(view)
    assert turn @ turn.T == pytest.approx(np.eye(3), abs=1e-12)


def test_along_z_lies_as_slices_do():
    right, up, _ = rendering.axes_of(rendering.ALONG_Z)
    assert right == pytest.approx([0, 0, 1])
    assert up == pytest.approx([0, -1, 0])


@pytest.mark.parametrize("near_first", [True, False])
def test_what_is_near_hides_what_is_far(near_first):
    size = (10.0, 10.0, 10.0)
    near = rendering.cube((2.0, 5.0, 5.0), 1.0, style.GREEN)
    far = rendering.ball((8.0, 5.0, 5.0), 3.0, style.ORANGE)
    scene = [near, far] if near_first else [far, near]
    shown = middle_of(rendering.draw(scene, size, rendering.ALONG_Z))
    wanted = np.array(style.rgb(style.GREEN))
    assert np.abs(shown / shown.max() - wanted / wanted.max()).max() < 0.25


def test_glass_lets_see_what_is_behind():
    size = (24.0, 24.0, 24.0)
    glass = meshes.surface(ball().astype(np.float32), UNIT, style.MUTED, glass=True)
    inside = rendering.ball((12.0, 12.0, 12.0), 3.0, style.VERMILLION)
    red, green, blue = middle_of(rendering.draw([glass, inside], size, rendering.ALONG_Z))
    assert red > 1.3 * green > 1.3 * blue


def test_hidden_triangles_are_not_painted_and_seen_ones_are():
    grid = np.stack(np.meshgrid(np.arange(30.0), np.arange(30.0)), -1).reshape(-1, 2)
    front = np.column_stack([grid, np.full(len(grid), 50.0)])
    back = np.column_stack([grid, np.zeros(len(grid))])
    opaque = np.ones(2 * len(grid), bool)
    shown = rendering.seen(np.concatenate([front, back]), 1.0, opaque)
    assert shown[: len(grid)].all()
    assert shown[len(grid) :].mean() < 0.5


def test_glass_hides_nothing():
    middles = np.array([[0.0, 0.0, 50.0], [0.0, 0.0, 0.0]])
    assert rendering.seen(middles, 1.0, np.array([False, True])).all()
    assert rendering.seen(middles, 1.0, np.zeros(2, bool)).all()


def test_an_empty_scene_is_the_box_alone():
    shown = rendering.draw([], (10.0, 20.0, 30.0))
    assert shown.min() < 200
    assert (shown == 255).all(axis=2).mean() > 0.9


def test_a_picture_is_as_tall_as_its_box():
    flat, tall = (rendering.draw([], (z, 20.0, 30.0)) for z in (2.0, 30.0))
    assert flat.shape[0] < tall.shape[0]
    assert flat.shape[1] == tall.shape[1] == rendering.WIDTH_PX


def test_the_same_scene_is_the_same_picture():
    scene = [rendering.ball((5.0, 5.0, 5.0), 2.0, style.BLUE)]
    first, second = (rendering.draw(scene, (10.0, 10.0, 10.0)) for _ in range(2))
    assert (first == second).all()


@pytest.mark.parametrize("outcome", list(rendering.SHAPES))
def test_a_mark_lies_round_its_place(outcome):
    mark = rendering.SHAPES[outcome]((10.0, 20.0, 30.0), 2.0, "#000000")
    assert mark.points.mean(axis=0) == pytest.approx([10, 20, 30], abs=0.2)
    away = mark.points[mark.faces].mean(axis=1) - [10, 20, 30]
    assert (np.einsum("ij,ij->i", away, mark.normals) > 0).all()
    assert 1.5 < np.linalg.norm(mark.points - [10, 20, 30], axis=1).max() < 3


def test_outcomes_differ_in_shape_too():
    shapes = {rendering.SHAPES[name] for name in ("TP", "FP", "FN")}
    assert len(shapes) == 3


# -- the page ------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path):
    tasks = {
        "bone": {"kind": "semantic", "classes": CLASSES},
        "membrane": {"kind": "semantic", "classes": ["background", "membrane"]},
        "t3ss": {"kind": "detection", "membrane": "membrane"},
    }
    rows = [
        {"volume": "rod-1", "tasks": "bone", "path": "x"},
        {"volume": "cell-1", "tasks": "membrane,t3ss", "path": "x"},
    ]
    config = {"seed": 1, "simulate": {}, "tasks": tasks}
    return Source(Study(config, rows, [], tmp_path))


def segment(source, task, volume, labels, folder="segmented/{}/final"):
    path = source.results / folder.format(task) / f"{volume}.h5"
    volumes.write(Volume(labels, (5.0, 5.0, 5.0)), path)
    return path


def pick(source, rows):
    path = source.results / "evaluated/t3ss/matches.csv"
    path.parent.mkdir(parents=True)
    head = ["round", "volume", "z", "y", "x", "score", "outcome"]
    lines = [",".join(map(str, row)) for row in [head, *rows]]
    path.write_text("\n".join(lines) + "\n")


def picture(frame) -> np.ndarray:
    data = base64.b64decode(frame.uri.split(",")[1])
    return np.asarray(Image.open(io.BytesIO(data)))


def test_prediction_and_truth_stand_side_by_side(source):
    segment(source, "bone", "rod-1", ball() + ball(4))
    segment(source, "bone", "rod-1", ball(), "converted/{}/test/clean")
    [panels] = surfaces.segments(source, "bone")
    assert [frame.caption.split(";")[0] for frame in panels.frames] == [
        "prediction",
        "truth",
    ]
    assert panels.legend == {"bone": style.ORANGE, "metal": style.SKY}
    assert "box 120 nm by 120 nm by 120 nm (z, y, x)" in panels.frames[0].alt


def test_the_cut_shows_the_inner_segment(source):
    segment(source, "bone", "rod-1", ball(10) + ball(6))
    [panels] = surfaces.segments(source, "bone")
    pixels = picture(panels.frames[0]).astype(int)
    bluish = pixels[..., 2] > pixels[..., 0] + 60
    assert bluish.mean() > 0.01


def test_without_any_class_a_line_says_so(source):
    segment(source, "bone", "rod-1", np.zeros((8, 8, 8), np.uint8))
    [note] = surfaces.segments(source, "bone")
    assert note.text == (
        "rod-1: no surface of the prediction; it holds none of the classes."
    )


def test_a_volume_not_segmented_yet_is_one_line(source):
    [note] = surfaces.segments(source, "bone")
    assert note.text == "rod-1: not segmented yet, so no surface."


def test_a_damaged_segmentation_is_one_line(source):
    segment(source, "bone", "rod-1", ball()).write_bytes(b"no HDF5")
    [note] = surfaces.segments(source, "bone")
    assert note.tone == "warn"
    assert note.text.startswith("rod-1: no pictures")


def test_candidates_stand_in_the_membrane(source):
    segment(source, "membrane", "cell-1", ball())
    rows = [
        ("final", "cell-1", 12, 12, 5, 0.9, "TP"),
        ("final", "cell-1", 5, 5, 5, "", "FN"),
    ]
    pick(source, rows)
    [panels] = surfaces.candidates(source, "t3ss")
    assert panels.title == "cell-1: 1 TP, 1 FN"
    assert len(panels.frames) == 2
    assert panels.legend == {
        "TP (ball)": style.GREEN,
        "FN (diamond)": style.BLUE,
        "membrane as segmented": style.MUTED,
    }


def test_it_is_told_where_not_all_candidates_are_marked(source, monkeypatch):
    monkeypatch.setattr(surfaces, "MOST_MARKS", 2)
    segment(source, "membrane", "cell-1", ball())
    pick(source, [("final", "cell-1", 12, 12, x, 0.9, "TP") for x in (5, 6, 7)])
    [panels] = surfaces.candidates(source, "t3ss")
    assert panels.title == "cell-1: 3 TP"
    assert panels.caption.endswith("; of 3 candidates the first 2 are marked")


def test_unjudged_candidates_are_picks(source):
    segment(source, "membrane", "cell-1", ball())
    path = source.results / "picked/t3ss/final/cell-1.csv"
    path.parent.mkdir(parents=True)
    path.write_text("z,y,x,score\n12,12,5,0.9\n")
    [panels] = surfaces.candidates(source, "t3ss")
    assert panels.title == "cell-1: 1 pick"


def test_no_candidate_shows_the_membrane_alone(source):
    segment(source, "membrane", "cell-1", ball())
    [panels] = surfaces.candidates(source, "t3ss")
    assert panels.title == "cell-1: no candidate"
    assert list(panels.legend) == ["membrane as segmented"]


def test_neither_membrane_nor_candidate_is_one_line(source):
    segment(source, "membrane", "cell-1", np.zeros((8, 8, 8), np.uint8))
    [note] = surfaces.candidates(source, "t3ss")
    assert note.text == "cell-1: neither membrane nor candidate, so nothing to draw."


def test_no_membrane_file_is_one_line(source):
    [note] = surfaces.candidates(source, "t3ss")
    assert "no membrane segmented yet" in note.text


def test_a_mark_stands_on_the_middle_of_its_voxel():
    [mark] = surfaces.marks([{"z": "1", "y": "2", "x": "3"}], (10.0, 10.0, 10.0), 100.0)
    assert (mark.points.max(axis=0) + mark.points.min(axis=0)) / 2 == pytest.approx(
        [15, 25, 35]
    )


def test_a_candidate_without_a_place_is_left_out():
    assert surfaces.marks([{"z": "", "y": "2", "x": "3"}], UNIT, 100.0) == []


def test_volumes_that_only_train_give_way_and_are_named(source):
    names = [f"v{i}" for i in range(surfaces.MOST_VOLUMES + 2)]
    source.study.volumes[:] = [{"volume": n, "tasks": "bone", "path": "x"} for n in names]
    labels = {"task": "bone", "volume": "v0", "kind": "clean", "use": "train"}
    source.study.labels.append(labels)
    told = [note.text for note in surfaces.segments(source, "bone")]
    assert len(told) == surfaces.MOST_VOLUMES + 1
    assert told[-1] == "Not drawn in space, to keep the page light: v5, v0."


# -- pyvista, if installed -----------------------------------------------------------


def test_without_pyvista_matplotlib_draws(monkeypatch):
    monkeypatch.setattr(pretty.importlib.util, "find_spec", lambda name: None)
    scene = [rendering.ball((5.0, 5.0, 5.0), 2.0, style.BLUE)]
    assert pretty.draw(scene, np.ones((4, 3)), (40, 30)) is None


def test_a_vtk_that_dies_leaves_the_picture_to_matplotlib(monkeypatch, caplog):
    monkeypatch.setattr(pretty, "available", lambda: True)
    monkeypatch.setattr(pretty.sys, "executable", "false")
    scene = [rendering.ball((5.0, 5.0, 5.0), 3.0, style.GREEN)]
    shown = middle_of(rendering.draw(scene, (10.0, 10.0, 10.0), rendering.ALONG_Z))
    assert shown[1] > shown[0] + 50
    assert "matplotlib draws" in caplog.text


def test_pyvista_draws_the_same_scene():
    pytest.importorskip("pyvista")
    scene = [
        rendering.ball((5.0, 3.0, 3.0), 2.0, style.GREEN),
        rendering.cube((5.0, 7.0, 7.0), 2.0, style.VERMILLION),
    ]
    for view in (rendering.SIDE, rendering.ALONG_Z):
        ours = rendering.draw(scene, (10.0, 10.0, 10.0), view).astype(int)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pretty, "available", lambda: False)
            plain = rendering.draw(scene, (10.0, 10.0, 10.0), view).astype(int)
        coloured = [np.ptp(picture, axis=2) > 40 for picture in (ours, plain)]
        assert np.logical_xor(*coloured).mean() < 0.02
        assert coloured[0].mean() > 0.01


def test_glass_of_pyvista_lets_see_what_is_behind():
    pytest.importorskip("pyvista")
    glass = meshes.surface(ball().astype(np.float32), UNIT, style.BLUE, glass=True)
    inside = rendering.ball((12.0, 12.0, 12.0), 3.0, style.VERMILLION)
    shown = rendering.draw([glass, inside], (24.0, 24.0, 24.0), rendering.ALONG_Z)
    red, _, blue = middle_of(shown)
    beside = shown[shown.shape[0] // 2, round(shown.shape[1] * 0.33)].astype(int)
    assert red > blue
    assert beside[2] > beside[0] + 30
