"""Claims about tables of points: their own columns and those of the BYU motors."""

import numpy as np
import pytest

from tomoglean import particles
from tomoglean.particles import Grid, source
from tomoglean.provenance import Refused

GRID = Grid((31, 41, 53), (1.8, 1.8, 1.8), "m1")
BYU = "row_id,tomo_id,Motor axis 0,Motor axis 1,Motor axis 2,Number of motors\n"


@pytest.fixture
def table(tmp_path):
    def write(text, name="p.csv"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def test_columns_go_by_their_names(table):
    path = table("class,x,y,z,nx,score\ndecoy,3,2,1,1,0.5\n,6,5,4,,\n")
    found = particles.read(path)
    assert found.positions.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert found.normals.tolist() == [[0, 0, 1], [0, 0, 0]]
    assert found.classes == ("decoy", "")
    assert found.scores[0] == 0.5
    assert np.isnan(found.scores[1])


def test_tabs_divide_a_tsv(table):
    assert particles.read(table("z\ty\tx\n1\t2\t3\n", "p.tsv")).positions.tolist() == [
        [1, 2, 3]
    ]


def test_a_column_of_tomograms_chooses(table):
    path = table("tomogram,z,y,x\n007,1,1,1\n7,2,2,2\n")
    assert particles.read(path, {"tomogram": "007"}).positions.tolist() == [[1, 1, 1]]
    with pytest.raises(Refused, match="found 2: 007, 7"):
        particles.read(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("z,y\n1,1\n", "expected the columns z, y, x, found z, y; column x is missing"),
        ("z,y,x\n1,1\n", "column x of particle 1"),
        ("z,y,x\n1,1,1\n1,nan,1\n", "column y of particle 2"),
        ("z,y,x,score\n1,1,1,high\n", "column score"),
    ],
)
def test_points_that_are_none_are_refused(table, text, said):
    with pytest.raises(Refused, match=rf"p\.csv: .*{said}"):
        particles.read(table(text))


def test_a_table_of_text_needs_a_unit(table):
    with pytest.raises(Refused, match="expected the unit nm, angstrom or voxel, found ''"):
        particles.points(table("z,y,x\n1,1,1\n"), {}, GRID)


def test_motors_of_byu_are_read_by_their_own_columns(table):
    path = table(f"{BYU}0,t1,-1.0,-1.0,-1.0,0\n1,t2,9,8,7,2\n2,t2,3,2,1,2\n")
    assert particles.read(path, {"tomogram": "t2"}).positions.tolist() == [
        [9, 8, 7],
        [3, 2, 1],
    ]
    assert len(particles.read(path, {"tomogram": "t1"})) == 0
    with pytest.raises(Refused, match="expected one tomogram, found 2: t1, t2"):
        particles.read(path)


def test_what_is_written_is_the_table_of_the_pipeline(tmp_path):
    made = source.particles(np.array([[1, 2, 3.5]]), classes=["a"], scores=np.array([0.5]))
    particles.write(made, tmp_path / "p.csv", GRID)
    assert (tmp_path / "p.csv").read_text() == (
        "z,y,x,nz,ny,nx,class,score\n1,2,3.5,0,0,0,a,0.5\n"
    )
