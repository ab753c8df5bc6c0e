"""Claims about Dynamo tables: columns, voxels from 1, where the template's axis points."""

import dynamotable
import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation

from tomoglean import particles
from tomoglean.particles import Grid, dynamo, source
from tomoglean.provenance import Refused

GRID = Grid((31, 41, 53), (1.8, 1.8, 1.8), "m1")
# tdrot, tilt, narot and the same turn as RELION's rot, tilt, psi, by eulerangles 1.0.2.
EULERANGLES = [
    ((10, 40, 75), (-15, 40, 100)),
    ((0, 90, 0), (-90, 90, 90)),
    ((33, 120, -50), (-140, 120, 123)),
]


@pytest.fixture
def table(tmp_path):
    def write(**columns):
        count = len(next(iter(columns.values()), ()))
        frame = pd.DataFrame(columns, index=range(count))
        dynamotable.write(frame, str(tmp_path / "p.tbl"))
        return tmp_path / "p.tbl"

    return write


def test_the_first_voxel_is_one_and_shifts_are_added(table):
    path = table(x=[1, 10], y=[1, 20], z=[1, 5], dx=[0, 0.25], dy=[0, 0], dz=[0, -0.5])
    assert particles.read(path).positions.tolist() == [[0, 0, 0], [3.5, 19, 9.25]]


def test_the_tomogram_is_column_20(table):
    path = table(x=[1, 2, 3], y=[1, 1, 1], z=[1, 1, 1], tomo=[7, 12, 7])
    found = particles.read(path, {"tomogram": "7"})
    assert found.positions[:, 2].tolist() == [0, 2]
    with pytest.raises(Refused, match="expected one tomogram, found 2: 12, 7"):
        particles.read(path)


@pytest.mark.parametrize(("angles", "relion"), EULERANGLES)
def test_the_axis_is_that_of_relion_by_eulerangles(angles, relion):
    turned = Rotation.from_euler("ZYZ", relion, degrees=True).inv().apply([0, 0, 1])
    found = dynamo.axes(np.array([angles], float))
    np.testing.assert_allclose(found, [turned[::-1]], atol=1e-9)


def test_the_axis_is_the_third_row_of_dynamos_matrix():
    angles = np.random.default_rng(1).uniform(-180, 180, (9, 3))
    matrices = Rotation.from_euler("zxz", angles, degrees=True).as_matrix()
    np.testing.assert_allclose(dynamo.axes(angles), matrices[:, 2, ::-1], atol=1e-12)


def test_angles_of_zero_are_no_axis(table):
    path = table(x=[1, 2], y=[1, 1], z=[1, 1], tdrot=[0, 180])
    assert particles.read(path).normals.tolist() == [[0, 0, 0], [1, 0, 0]]


def test_columns_that_nobody_needs_may_hold_anything(tmp_path):
    cells = ["1"] * 35
    cells[27], cells[9] = "1.2+0.5i", "NaN"
    (tmp_path / "p.tbl").write_text(" ".join(cells) + "\n\n")
    found = particles.read(tmp_path / "p.tbl")
    assert found.positions.tolist() == [[1, 1, 1]]
    assert np.isnan(found.scores).all()


def test_26_columns_are_enough_and_25_are_refused(tmp_path):
    path = tmp_path / "p.tbl"
    path.write_text("\t".join(["1"] * 26) + "\n")
    assert len(particles.read(path)) == 1
    path.write_text("\n".join([" ".join(["1"] * 26), " ".join(["1"] * 25)]))
    with pytest.raises(Refused, match=r"p\.tbl: .* at least 26 .*25 in line 2"):
        particles.read(path)


@pytest.mark.parametrize("cell", ["NaN", "Inf", "1+2i"])
def test_a_place_that_is_no_number_is_refused(tmp_path, cell):
    (tmp_path / "p.tbl").write_text(" ".join(["1"] * 23 + [cell, "1", "1"]))
    with pytest.raises(Refused, match="column 24 of particle 1"):
        particles.read(tmp_path / "p.tbl")


def test_dynamotable_reads_what_is_written(tmp_path):
    made = source.particles(
        np.array([[5.0, 20.5, 9.75]]), np.array([[0.0, 0.6, 0.8]]), scores=np.array([0.5])
    )
    particles.write(made, tmp_path / "p.tbl", GRID)
    frame = dynamotable.read(tmp_path / "p.tbl")
    at = [frame[axis][0] + frame[f"d{axis}"][0] for axis in "xyz"]
    assert at == pytest.approx([10.75, 21.5, 6])
    assert frame["x"][0] == 11
    assert (frame["cc"][0], frame["tomo"][0], frame["tag"][0]) == (0.5, 1, 1)
    angles = frame[["tdrot", "tilt", "narot"]].to_numpy(float)
    np.testing.assert_allclose(dynamo.axes(angles), [[0, 0.6, 0.8]], atol=1e-5)
    assert frame.shape == (1, 35)


def test_angles_and_axes_are_inverse():
    normals = np.random.default_rng(2).normal(size=(50, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    np.testing.assert_allclose(dynamo.axes(dynamo.angles(normals)), normals, atol=1e-12)
