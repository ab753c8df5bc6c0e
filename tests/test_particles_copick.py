"""Claims about copick picks: angstrom, shifts and axes of transformations, one object."""

import json

import numpy as np
import pytest

from tomoglean import particles
from tomoglean.particles import Grid, source
from tomoglean.provenance import Refused

GRID = Grid((31, 41, 53), (2.0, 1.0, 1.0), "m1")
TURN = [[0, 0, 1, 0], [0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]]  # takes z to x


def point(x, y, z, **more):
    return {"location": {"x": x, "y": y, "z": z}, **more}


@pytest.fixture
def picks(tmp_path):
    def write(*points, **more):
        head = {"pickable_object_name": "t3ss", "user_id": "u", "session_id": "1"}
        content = {**head, "run_name": "TS_1", "unit": "angstrom", **more}
        (tmp_path / "p.json").write_text(json.dumps({**content, "points": list(points)}))
        return tmp_path / "p.json"

    return write


def test_locations_are_angstrom_from_the_centre_of_the_first_voxel(picks):
    found = particles.points(picks(point(0, 0, 0), point(30, 20, 100)), {}, GRID)
    assert found.positions.tolist() == [[0, 0, 0], [5, 2, 3]]
    assert found.classes == ("t3ss", "t3ss")


def test_the_translation_is_a_shift_and_the_rotation_turns_z_to_the_axis(picks):
    moved = np.array(TURN, float)
    moved[:3, 3] = (10, -10, 20)
    path = picks(point(30, 20, 100, transformation_=moved.tolist(), score=0.25))
    found = particles.points(path, {}, GRID)
    assert found.positions.tolist() == [[6, 1, 4]]
    assert found.normals.tolist() == [[0, 0, 1]]
    assert found.scores.tolist() == [0.25]


def test_the_unit_matrix_says_nothing_of_the_axis(picks):
    path = picks(point(1, 1, 1, transformation_=np.eye(4).tolist()), point(1, 1, 1))
    assert not particles.read(path).normals.any()


def test_the_run_is_the_tomogram(picks):
    assert len(particles.read(picks(point(1, 1, 1)), {"tomogram": "TS_1"})) == 1
    with pytest.raises(Refused, match="the tomogram 'TS_2' of its row, found TS_1"):
        particles.read(picks(point(1, 1, 1)), {"tomogram": "TS_2"})


def test_no_points_are_a_valid_answer(picks, tmp_path):
    assert len(particles.read(picks())) == 0
    (tmp_path / "p.json").write_text('{"points": null}')
    assert len(particles.read(tmp_path / "p.json")) == 0


def test_another_unit_is_refused(picks):
    with pytest.raises(Refused, match="expected the unit angstrom, found 'nm'"):
        particles.read(picks(point(1, 1, 1), unit="nm"))


@pytest.mark.parametrize(
    "damaged",
    [
        {"location": {"x": 1, "y": 2}},
        {"location": None},
        {},
        3,
        point(1, 2, "three"),
        point(1, 2, 3, transformation_=[[1, 0], [0, 1]]),
        point(1, 2, 3, score="good"),
    ],
)
def test_damaged_points_are_refused_in_one_line(picks, damaged):
    with pytest.raises(Refused, match=r"p\.json: expected a readable file") as refusal:
        particles.read(picks(damaged))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_place_that_is_no_number_is_refused(picks, value):
    with pytest.raises(Refused, match="column y of particle 1"):
        particles.read(picks(point(1, value, 1)))


@pytest.mark.parametrize(
    "matrix",
    [2 * np.eye(4), np.diag([2.0, 1, 1, 1]), np.ones((4, 4)), np.diag([0, 0, 0, 1])],
)
def test_what_is_no_rotation_is_refused(picks, matrix):
    path = picks(point(1, 1, 1, transformation_=matrix.tolist()))
    with pytest.raises(Refused, match="expected rotations with a shift"):
        particles.read(path)


def test_other_json_is_refused(tmp_path):
    (tmp_path / "p.json").write_text('{"verdict": "ok"}')
    with pytest.raises(Refused, match="expected copick picks with the key points"):
        particles.read(tmp_path / "p.json")


def test_what_is_written_is_what_copick_asks_for(tmp_path):
    normals = np.array([[0, 0.6, 0.8], [1, 0, 0], [0, 0, 0]])
    made = source.particles(
        np.array([[5, 2, 3.5], [0, 0, 0], [1, 1, 1]]), normals, classes=["t_3 s"] * 3
    )
    particles.write(made, tmp_path / "p.json", GRID)
    content = json.loads((tmp_path / "p.json").read_text())
    assert content["pickable_object_name"] == "t-3-s"
    assert (content["user_id"], content["session_id"]) == ("tomoglean", "0")
    assert (content["run_name"], content["unit"]) == ("m1", "angstrom")
    assert content["voxel_spacing"] == 10
    assert content["points"][0]["location"] == {"x": 35, "y": 20, "z": 100}
    matrices = [np.array(p["transformation_"]) for p in content["points"]]
    for matrix, normal in zip(matrices[:2], normals, strict=False):
        np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-8)
        assert np.linalg.det(matrix) == pytest.approx(1)
        np.testing.assert_allclose(matrix[:3, 2], normal[::-1], atol=1e-8)
    assert np.array_equal(matrices[2], np.eye(4))
    assert content["points"][0]["score"] is None


def test_several_classes_are_several_files(tmp_path):
    made = source.particles(np.ones((2, 3)), classes=["a", "b"])
    with pytest.raises(Refused, match=r"p\.json: expected one class .* found a, b"):
        particles.write(made, tmp_path / "p.json", GRID)
