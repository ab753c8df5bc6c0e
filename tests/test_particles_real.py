"""Real files of points, against parsers that share nothing with ours."""

import os
import struct
from pathlib import Path

import dynamotable
import imodmodel
import numpy as np
import pandas as pd
import pytest
import starfile
from scipy.spatial.transform import Rotation

from tomoglean import particles
from tomoglean.particles import Grid

pytestmark = pytest.mark.skipif(
    "TOMOGLEAN_DATA" not in os.environ, reason="TOMOGLEAN_DATA is not set"
)
DATA = Path(os.environ.get("TOMOGLEAN_DATA", "."))


def test_the_imod_model():
    path = DATA / "awkward_formats" / "correct189.mod"
    frame = imodmodel.read(path)
    found = particles.points(path, {}, Grid((225, 720, 507), (1.0, 1.0, 1.0)))
    assert len(found) == 74
    offsets = frame[["z", "y", "x"]].to_numpy() - found.positions
    assert np.unique(offsets, axis=0).tolist() == [[0, 0.5, 0.5]]


@pytest.mark.parametrize(("tomogram", "count"), [("1", 305), ("16", 658), ("25", 228)])
def test_the_dynamo_table(tomogram, count):
    path = DATA / "awkward_formats" / "crop.tbl"
    frame = dynamotable.read(path)
    rows = frame[frame["tomo"] == int(tomogram)]
    found = particles.read(path, {"tomogram": tomogram})
    assert len(found) == len(rows) == count
    expected = [rows[axis] + rows[f"d{axis}"] - 1 for axis in "zyx"]
    np.testing.assert_allclose(found.positions, np.transpose(expected))


def test_the_axes_of_the_dynamo_table_run_along_its_filaments():
    """The particles of a filament follow one another, all in one direction."""
    path = DATA / "awkward_formats" / "crop.tbl"
    frame = dynamotable.read(path)
    cosines = []
    for tomogram in sorted(frame["tomo"].unique()):
        region = frame["reg"][frame["tomo"] == tomogram].to_numpy()
        found = particles.read(path, {"tomogram": f"{tomogram}"})
        steps = np.diff(found.positions, axis=0)
        lengths = np.linalg.norm(steps, axis=1)
        chosen = (np.diff(region) == 0) & (lengths < 12)
        along = steps[chosen] / lengths[chosen, None]
        cosines += (along * found.normals[:-1][chosen]).sum(axis=1).tolist()
    assert len(cosines) > 4000
    assert np.degrees(np.arccos(np.mean(cosines))) < 2


def test_the_motive_list():
    path = DATA / "awkward_formats" / "au_1.em"
    data = path.read_bytes()
    fields, count, _ = struct.unpack("<3i", data[4:16])
    table = np.array(struct.unpack(f"<{fields * count}f", data[512:])).reshape(
        count, fields
    )
    found = particles.read(path, {"tomogram": "160"})
    assert len(found) == count == 64
    expected = table[:, [9, 8, 7]] + table[:, [12, 11, 10]] - 1
    np.testing.assert_allclose(found.positions, expected, atol=1e-4)
    turned = Rotation.from_euler("zxz", table[:, [16, 18, 17]], degrees=True)
    axes = turned.apply([0, 0, 1])[:, ::-1]
    np.testing.assert_allclose(found.normals, axes, atol=1e-5)


def test_the_star_file():
    path = DATA / "em_maps" / "atpase.star"
    frame = starfile.read(path)
    found = particles.read(path, {"tomogram": "tomo_0054"})
    assert len(found) == len(frame) == 933
    expected = [frame[f"rlnCoordinate{axis}"] for axis in "ZYX"]
    np.testing.assert_allclose(found.positions, np.transpose(expected))
    angles = frame[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]]
    turned = Rotation.from_euler("ZYZ", angles, degrees=True).inv().apply([0, 0, 1])
    np.testing.assert_allclose(found.normals, turned[:, ::-1], atol=1e-9)


def test_the_motors_of_byu():
    path = DATA / "byu_motor_labels" / "train_labels.csv"
    frame = pd.read_csv(path)
    motors = 0
    for tomogram, rows in list(frame.groupby("tomo_id"))[:40]:
        shape = rows[[f"Array shape (axis {axis})" for axis in range(3)]].to_numpy()[0]
        voxel_nm = float(rows["Voxel spacing"].iloc[0]) / 10
        grid = Grid(tuple(shape.tolist()), (voxel_nm,) * 3)
        cells = {"unit": "voxel", "tomogram": tomogram}
        found = particles.points(path, cells, grid)
        expected = rows[[f"Motor axis {axis}" for axis in range(3)]].to_numpy()
        expected = expected[expected[:, 0] >= 0]
        assert np.array_equal(found.positions, expected)
        motors += len(found)
    assert motors > 10
