"""Claims about EM motive lists: 20 numbers a particle, from 1, any machine's bytes."""

import struct

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tomoglean import particles
from tomoglean.particles import Grid, em, source
from tomoglean.provenance import Refused

GRID = Grid((31, 41, 53), (1.8, 1.8, 1.8), "m1")


def particle(x, y, z, *, shift=(0, 0, 0), angles=(0, 0, 0), tomogram=3, score=0.5):
    """List the twenty numbers of one particle; angles are phi, psi, theta."""
    return [score, 0, 0, 1, tomogram, 1, 1, x, y, z, *shift, 0, 0, 0, *angles, 1]


@pytest.fixture
def motl(tmp_path):
    def write(*rows, machine=6, kind=5, order="<", cell="f", size=None):
        size = size or (20, len(rows), 1)
        head = bytes([machine, 0, 0, kind]) + struct.pack(f"{order}3i", *size)
        numbers = [number for row in rows for number in row]
        data = struct.pack(f"{order}{len(numbers)}{cell}", *numbers)
        (tmp_path / "p.em").write_bytes(head.ljust(512, b"\0") + data)
        return tmp_path / "p.em"

    return write


def test_the_first_voxel_is_one_and_shifts_are_added(motl):
    found = particles.read(
        motl(particle(1, 1, 1), particle(10, 20, 5, shift=(0.25, 0, -2)))
    )
    assert found.positions.tolist() == [[0, 0, 0], [2, 19, 9.25]]
    assert found.scores.tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    "kind",
    [
        {"machine": 6, "order": "<"},
        {"machine": 5, "order": ">"},
        {"machine": 3, "order": ">"},
        {"kind": 9, "cell": "d"},
    ],
)
def test_lists_of_any_machine_are_read(motl, kind):
    assert particles.read(motl(particle(4, 3, 2), **kind)).positions.tolist() == [[1, 2, 3]]


def test_the_tomogram_is_row_5(motl):
    path = motl(particle(1, 1, 1), particle(2, 1, 1, tomogram=160))
    assert len(particles.read(path, {"tomogram": "160"})) == 1
    with pytest.raises(Refused, match="found 2: 160, 3"):
        particles.read(path)


def test_the_axis_is_z_turned_about_z_x_z(motl):
    phi, psi, theta = 25.0, -70.0, 130.0
    # phi about z first, then theta about x, then psi about z; all axes fixed.
    turned = Rotation.from_euler("zxz", (phi, theta, psi), degrees=True).apply([0, 0, 1])
    found = particles.read(motl(particle(1, 1, 1, angles=(phi, psi, theta))))
    np.testing.assert_allclose(found.normals, [turned[::-1]], atol=1e-6)


def test_angles_of_zero_are_no_axis(motl):
    assert not particles.read(motl(particle(1, 1, 1))).normals.any()


def test_angles_and_axes_are_inverse():
    normals = np.random.default_rng(2).normal(size=(50, 3))
    normals[:6] = np.concatenate([np.eye(3), -np.eye(3)])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    np.testing.assert_allclose(em.axes(em.angles(normals)), normals, atol=1e-12)


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ((21, 1, 1), "20 x N x 1 numbers, found 21 x 1 x 1; is this a volume"),
        ((20, 1, 2), "20 x 1 x 2"),
        ((20, 2, 1), "expected 672 bytes for 2 particles, found 592"),
        ((20, -1, 1), "20 x -1 x 1"),
        ((20, 2**31 - 1, 1), "at most 1000000 particles"),
    ],
)
def test_a_header_that_lies_is_refused(motl, size, said):
    with pytest.raises(Refused, match=said):
        particles.read(motl(particle(1, 1, 1), size=size))


def test_whole_numbers_are_no_motive_list(motl):
    with pytest.raises(Refused, match="expected an EM file of float32 or float64"):
        particles.read(motl(particle(1, 1, 1), kind=2))


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_place_that_is_no_number_is_refused(motl, number):
    with pytest.raises(Refused, match="column row 9 of particle 1"):
        particles.read(motl(particle(1, number, 1)))


def test_what_is_written_has_whole_positions_and_the_rest_in_shifts(tmp_path):
    made = source.particles(
        np.array([[5.0, 20.5, 9.75]]), np.array([[0.0, 0.6, 0.8]]), scores=np.array([0.5])
    )
    particles.write(made, tmp_path / "p.em", GRID)
    data = (tmp_path / "p.em").read_bytes()
    assert len(data) == 512 + 80
    assert (data[0], data[3], *struct.unpack("<3i", data[4:16])) == (6, 5, 20, 1, 1)
    row = struct.unpack("<20f", data[512:])
    assert row[:7] == (0.5, 0, 0, 1, 1, 1, 1)
    assert row[7:13] == (11, 22, 6, -0.25, -0.5, 0) or row[8] + row[11] == 21.5
    turned = Rotation.from_euler("zxz", (row[16], row[18], row[17]), degrees=True)
    np.testing.assert_allclose(turned.apply([0, 0, 1]), (0.8, 0.6, 0), atol=1e-6)
