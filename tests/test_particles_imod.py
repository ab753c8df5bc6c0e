"""Claims about IMOD models: half a voxel in x and y, none in z; imodmodel is the judge."""

import struct

import imodmodel
import numpy as np
import pandas as pd
import pytest
from imodmodel.models import MINX, Contour, ContourHeader, ImodModel, Object, ObjectHeader

from tomoglean import particles
from tomoglean.particles import Grid, source
from tomoglean.provenance import Refused

GRID = Grid((31, 41, 53), (1.8, 1.8, 1.8), "m1")
SCATTERED, OPEN, CLOSED = 1 << 9, 1 << 3, 0


@pytest.fixture
def model(tmp_path):
    def write(*objects, minx=None, flags=1 << 10):
        """Write objects (name, flags, contours of points x, y, z) by imodmodel."""
        made = ImodModel(minx=minx)
        made.header.flags = flags
        for name, kind, contours in objects:
            parts = [
                Contour(points=np.array(points, float).reshape(-1, 3))
                for points in contours
            ]
            for part in parts:
                part.header = ContourHeader(psize=len(part.points))
            made.objects.append(
                Object(header=ObjectHeader(name=name, flags=kind), contours=parts)
            )
        made.to_file(tmp_path / "p.mod")
        return tmp_path / "p.mod"

    return write


def image(otrans=(0, 0, 0), ctrans=(0, 0, 0), cscale=(1, 1, 1), crot=(0, 0, 0)):
    zeros = (0.0, 0.0, 0.0)
    return MINX(
        oscale=(1, 1, 1), otrans=otrans, orot=zeros, cscale=cscale, ctrans=ctrans, crot=crot
    )


def test_the_centre_of_the_first_voxel_is_half_half_none(model):
    path = model(("", SCATTERED, [[(0.5, 0.5, 0), (10, 20, 5)]]))
    assert particles.read(path).positions.tolist() == [[0, 0, 0], [5, 19.5, 9.5]]


@pytest.mark.parametrize("kind", [SCATTERED, OPEN, SCATTERED | OPEN])
def test_scattered_points_and_open_contours_are_read(model, kind):
    path = model(("a", kind, [[(1, 1, 1), (2, 2, 2)], [(3, 3, 3)]]))
    assert particles.read(path).positions[:, 0].tolist() == [1, 2, 3]


def test_names_of_objects_are_classes(model):
    path = model(("t3ss", SCATTERED, [[(1, 1, 1)]]), ("", SCATTERED, [[(2, 2, 2)], []]))
    assert particles.read(path).classes == ("t3ss", "")
    found = particles.points(path, {"task": "other"}, GRID)
    assert found.classes == ("t3ss", "other")


def test_closed_contours_are_areas_but_a_single_point_is_a_point(model):
    assert len(particles.read(model(("a", CLOSED, [[(1, 1, 1)], [(2, 2, 2)]])))) == 2
    path = model(("a", OPEN, [[(1, 1, 1)]]), ("b", CLOSED, [[(1, 1, 1), (2, 2, 2)]]))
    with pytest.raises(Refused, match="found closed contours in object 2"):
        particles.read(path)


def test_sizes_and_other_chunks_are_passed_over(model):
    path = model(("a", SCATTERED, [[(1, 1, 1)]]))
    data = path.read_bytes()
    mesh = struct.pack(">4s2iI2h", b"MESH", 1, 2, 0, 0, 0) + bytes(12 + 8)
    more = b"SIZE" + struct.pack(">if", 4, 12.0) + b"LABL" + struct.pack(">i", 3) + b"abc"
    path.write_bytes(data[:-4] + more + mesh + b"IEOF")
    assert len(particles.read(path)) == 1


def test_points_of_a_loaded_part_are_moved_to_the_whole_volume(model):
    # Loaded from pixel 10 in x, 20 in y: ctrans is the origin less so many pixels.
    part = image(otrans=(5, 5, 5), ctrans=(-175, -355, 5), cscale=(18, 18, 18))
    path = model(("", SCATTERED, [[(0.5, 0.5, 0)]]), minx=part, flags=1 << 14)
    assert particles.points(path, {}, GRID).positions.tolist() == [[0, 20, 10]]


def test_without_a_known_origin_nothing_is_moved(model):
    part = image(otrans=(5, 5, 5), ctrans=(-175, -355, 5))
    path = model(("", SCATTERED, [[(0.5, 0.5, 0)]]), minx=part, flags=0)
    assert particles.read(path).positions.tolist() == [[0, 0, 0]]


def test_the_voxels_of_the_image_must_be_those_of_the_volume(model):
    point = ("", SCATTERED, [[(1, 1, 1)]])
    assert particles.read(model(point, minx=image(cscale=(18, 18, 18)))).pixel_nm == 1.8
    assert particles.read(model(point, minx=image())).pixel_nm is None
    with pytest.raises(Refused, match=r"a file made on voxels of 0\.9 nm"):
        particles.points(model(point, minx=image(cscale=(9, 9, 9))), {}, GRID)


def test_a_part_of_a_turned_volume_is_refused(model):
    part = image(otrans=(5, 0, 0), crot=(-90, 0, 0))
    path = model(("", SCATTERED, [[(1, 1, 1)]]), minx=part, flags=1 << 14)
    with pytest.raises(Refused, match="a part of a turned volume"):
        particles.read(path)


@pytest.mark.parametrize("bit", [16, 17])
def test_a_model_of_a_flipped_volume_is_refused(model, bit):
    with pytest.raises(Refused, match="flipped or turned volume"):
        particles.read(model(("", SCATTERED, [[(1, 1, 1)]]), flags=1 << bit))


def test_a_contour_that_claims_too_much_is_refused_at_once(model):
    path = model(("", SCATTERED, [[(1, 1, 1)]]))
    data = bytearray(path.read_bytes())
    at = data.index(b"CONT") + 4
    data[at : at + 4] = struct.pack(">I", 2**32 - 1)
    path.write_bytes(data)
    with pytest.raises(Refused, match="expected a whole model that ends with IEOF"):
        particles.read(path)


def test_a_model_without_an_end_is_refused(model):
    path = model(("", SCATTERED, [[(1, 1, 1)]]))
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(Refused, match="cut off or damaged"):
        particles.read(path)


def test_a_point_that_is_none_is_refused(model):
    with pytest.raises(Refused, match="column y of particle 1"):
        particles.read(model(("", SCATTERED, [[(1, np.nan, 1)]])))


def test_imodmodel_reads_what_is_written(tmp_path):
    places = np.array([[5.0, 20.5, 9.75], [0, 0, 0], [30, 40, 52]])
    made = source.particles(places, classes=["b", "a", "b"])
    particles.write(made, tmp_path / "p.mod", GRID)
    judge = ImodModel.from_file(tmp_path / "p.mod")
    header = judge.header
    assert (header.xmax, header.ymax, header.zmax) == (53, 41, 31)
    assert header.flags.z_coordinates_start_from_negative_half
    assert (header.units, header.xscale, header.zscale) == (-9, 1, 1)
    assert header.pixelsize == pytest.approx(1.8)
    assert (header.res, header.thresh, header.drawmode) == (3, 128, 1)
    assert [part.header.name for part in judge.objects] == ["a", "b"]
    assert all(part.header.flags.scattered for part in judge.objects)
    assert [part.header.contsize for part in judge.objects] == [1, 1]
    frame = imodmodel.read(tmp_path / "p.mod")
    assert isinstance(frame, pd.DataFrame)
    assert frame[["x", "y", "z"]].to_numpy().tolist() == [
        [0.5, 0.5, 0],
        [10.25, 21, 5],
        [52.5, 40.5, 30],
    ]
