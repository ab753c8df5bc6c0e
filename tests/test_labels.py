import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from tomoglean import labels, tables, volumes
from tomoglean.formats.source import Source
from tomoglean.provenance import Refused, sha256_of_file
from tomoglean.volumes import Volume

SHAPE = (4, 3, 5)
CLASSES = ["background", "bone", "metal"]
TRUTH = (np.arange(60).reshape(SHAPE) % 3).astype(np.uint8)
COLOURS = {"background": [0, 0, 255], "bone": [0, 255, 0], "metal": [255, 0, 0]}
PAINTED = np.array(list(COLOURS.values()), np.uint8)[TRUTH]
ALL = 255


@pytest.fixture
def study(tmp_path):
    """Write a volume, label files, and bring the labels onto the volume."""

    class Study:
        root = tmp_path
        z = None
        first = 0

        def tiff(self, data, name="labels.tif", **row):
            kind = "rgb" if data.shape[-1] == 3 and data.ndim > 2 else "minisblack"
            tifffile.imwrite(tmp_path / name, data, photometric=kind)
            return {"task": "bone", "path": name, **row}

        def folder(self, images, name="labels", **row):
            (tmp_path / name).mkdir()
            for file, image in images.items():
                Image.fromarray(image).save(tmp_path / name / file)
            return {"task": "bone", "path": name, **row}

        def assemble(self, *rows, colours=None, shape=SHAPE):
            slabs = labels.assemble(
                rows,
                shape,
                classes=CLASSES,
                colours=colours,
                z=self.z,
                first=self.first,
                root=tmp_path,
            )
            return np.concatenate(list(slabs))

        def volume(self, voxel_nm=(2.0, 1.0, 1.0), z=None, **attrs):
            data = np.zeros(SHAPE, np.uint8)
            volumes.write(Volume(data, voxel_nm, z), tmp_path / "v.h5", **attrs)
            return tmp_path / "v.h5"

        def points(self, text, unit="voxel", **grid):
            (tmp_path / "points.csv").write_text(text)
            row = {"task": "t3ss", "path": "points.csv", "unit": unit}
            path = tmp_path / "converted.csv"
            labels.convert_points([row], self.volume(**grid), path, root=tmp_path)
            return tables.read_points(path)

    return Study()


# -- what stands for which class -------------------------------------------------------


def test_class_numbers_stand_for_themselves_and_255_for_unlabelled(study):
    data = TRUTH.copy()
    data[0, 0, 0] = ALL
    assert np.array_equal(study.assemble(study.tiff(data)), data)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.float32, np.int64])
def test_whole_numbers_of_any_type_are_class_numbers(study, dtype):
    row = study.tiff(TRUTH.astype(dtype))
    assert np.array_equal(study.assemble(row), TRUTH)


def test_colours_are_looked_up(study):
    assert np.array_equal(study.assemble(study.tiff(PAINTED), colours=COLOURS), TRUTH)


def test_grey_values_are_looked_up(study):
    grey = np.array([0, 255, 85], np.uint8)[TRUTH]
    colours = {"background": 0, "bone": 255, "metal": 85}
    assert np.array_equal(study.assemble(study.tiff(grey), colours=colours), TRUTH)


def test_255_is_a_class_like_others_where_the_table_says_so(study):
    inside = np.where(TRUTH == 1, 255, 0).astype(np.uint8)
    found = study.assemble(study.tiff(inside), colours={"background": 255, "bone": 0})
    assert np.array_equal(found, (TRUTH != 1))


def test_255_is_unknown_where_the_table_does_not_say_so(study):
    with pytest.raises(Refused, match=r"255 \(15 voxels\)"):
        study.assemble(study.tiff(np.full(SHAPE, 255, np.uint8)), colours={"background": 0})


def test_unlabelled_may_have_a_colour(study):
    colours = {**COLOURS, "unlabelled": [9, 9, 9]}
    painted = PAINTED.copy()
    painted[1] = 9
    found = study.assemble(study.tiff(painted), colours=colours)
    assert (found[1] == ALL).all()
    assert np.array_equal(found[2:], TRUTH[2:])


def test_a_grey_colour_is_found_in_colour_images_too(study):
    painted = np.zeros((*SHAPE, 3), np.uint8)
    painted[2, 1, 1] = 85
    found = study.assemble(study.tiff(painted), colours={"background": 0, "metal": 85})
    assert found[2, 1, 1] == 2


def test_unknown_numbers_are_listed_with_their_counts(study):
    data = TRUTH.copy()
    data[0, 0, :3] = (7, 7, 9)
    with pytest.raises(Refused, match=r"labels.tif: .*7 \(2 voxels\), 9 \(1 voxels\)"):
        study.assemble(study.tiff(data))


def test_unknown_colours_are_listed_with_their_counts(study):
    painted = PAINTED.copy()
    painted[0, 0, :2] = (254, 3, 1)
    with pytest.raises(Refused, match=r"\[254, 3, 1\] \(2 voxels\)"):
        study.assemble(study.tiff(painted), colours=COLOURS)


@pytest.mark.parametrize("value", [0.5, np.nan, -1.0, 70000.0])
def test_what_is_no_label_at_all_is_listed(study, value):
    data = TRUTH.astype(np.float32)
    data[0, 0, 0] = value
    with pytest.raises(Refused, match=rf"found {value:g} \(1 voxels\)"):
        study.assemble(study.tiff(data))


def test_a_colour_of_no_class_is_a_mistake_of_the_config():
    with pytest.raises(Refused, match=r"colours: .* found bown"):
        labels.code(CLASSES, {"bown": 0})


def test_one_colour_for_two_classes_is_a_mistake_of_the_config():
    with pytest.raises(Refused, match="one twice"):
        labels.code(CLASSES, {"bone": 255, "metal": [255, 255, 255]})


# -- which slices a file speaks for ----------------------------------------------------


def test_what_nobody_speaks_of_is_unlabelled_not_background(study):
    found = study.assemble(study.tiff(TRUTH, slices="1-2"))
    assert np.array_equal(found[1:3], TRUTH[1:3])
    assert (found[[0, 3]] == ALL).all()


def test_no_rows_leave_everything_unlabelled(study):
    assert (study.assemble() == ALL).all()


def test_pages_go_to_the_slices_of_their_row(study):
    found = study.assemble(study.tiff(TRUTH[:2], slices="1,3"))
    assert np.array_equal(found[[1, 3]], TRUTH[:2])
    assert (found[[0, 2]] == ALL).all()


def test_numbered_files_go_to_the_slices_of_their_number(study):
    found = study.assemble(study.folder({"s3.png": TRUTH[0], "s1.png": TRUTH[2]}))
    assert np.array_equal(found[[1, 3]], TRUTH[[2, 0]])
    assert (found[[0, 2]] == ALL).all()


def test_numbers_count_from_the_first_slice_of_the_volume(study):
    study.first = 20
    found = study.assemble(study.folder({"s21.png": TRUTH[1], "s23.png": TRUTH[3]}))
    assert np.array_equal(found[[1, 3]], TRUTH[[1, 3]])


def test_numbers_are_the_true_z_of_a_sparse_volume(study):
    study.z = np.array([0, 50, 100, 150])
    found = study.assemble(study.folder({"m_050.png": TRUTH[1], "m_150.png": TRUTH[3]}))
    assert np.array_equal(found[[1, 3]], TRUTH[[1, 3]])
    assert (found[[0, 2]] == ALL).all()


def test_slices_of_a_row_are_the_true_z_of_a_sparse_volume(study):
    study.z = np.array([0, 50, 100, 150])
    files = {f"m_{z:03d}.png": TRUTH[z // 50] for z in study.z}
    found = study.assemble(study.folder(files, slices="50,150"))
    assert np.array_equal(found[[1, 3]], TRUTH[[1, 3]])
    assert (found[[0, 2]] == ALL).all()


def test_a_single_image_goes_to_its_slice(study):
    Image.fromarray(TRUTH[2]).save(study.root / "one.png")
    found = study.assemble({"path": "one.png", "slices": "2"})
    assert np.array_equal(found[2], TRUTH[2])
    assert (found[[0, 1, 3]] == ALL).all()


def test_a_palette_image_is_read_through_its_palette(study):
    image = Image.fromarray(TRUTH[2] * 100).convert("P")
    image.save(study.root / "one.png")
    colours = {"background": 0, "bone": 100, "metal": 200}
    found = study.assemble({"path": "one.png", "slices": "2"}, colours=colours)
    assert np.array_equal(found[2], TRUTH[2])


def test_later_rows_lie_over_earlier_ones_where_they_say_something(study):
    corrected = np.full(SHAPE, ALL, np.uint8)
    corrected[0, 0, 0] = 2
    found = study.assemble(study.tiff(TRUTH), study.tiff(corrected, "corrected.tif"))
    assert found[0, 0, 0] == 2
    assert np.array_equal(found.ravel()[1:], TRUTH.ravel()[1:])


def test_labels_deeper_than_a_slab_arrive_whole(study):
    deep = np.resize(TRUTH, (150, 3, 5))
    assert np.array_equal(study.assemble(study.tiff(deep), shape=deep.shape), deep)


@pytest.mark.parametrize(
    "data",
    [TRUTH[:, :, :4], TRUTH.transpose(0, 2, 1).copy(), TRUTH[:3]],
    ids=["cut", "transposed", "shallow"],
)
def test_labels_of_another_shape_are_refused(study, data):
    with pytest.raises(Refused, match=r"volume's shape \(4, 3, 5\)"):
        study.assemble(study.tiff(data))


@pytest.mark.parametrize(
    ("file", "slices"), [("s9.png", ""), ("s1.png", "2"), ("s1.png", "9")]
)
def test_slices_that_do_not_exist_are_refused(study, file, slices):
    row = study.folder({file: TRUTH[0]}, slices=slices)
    with pytest.raises(Refused, match=f"no slice {slices or 9} in the"):
        study.assemble(row)


def test_pages_are_told_without_reading():
    def never(part):
        raise AssertionError(part)

    source = Source("l.tif", (2, 3, 5), np.dtype(np.uint8), never)
    found = labels.pages(source, {"slices": "0,3"}, SHAPE)
    assert found.tolist() == [0, -1, -1, 1]


# -- label volumes ---------------------------------------------------------------------


def test_a_label_volume_has_the_grid_of_its_volume(study):
    path = study.root / "labels.h5"
    grid = study.volume(voxel_nm=(3, 2, 1), z=np.array([0, 5, 10, 15]))
    labels.convert([study.tiff(TRUTH)], grid, path, classes=CLASSES, root=study.root)
    converted = volumes.read(path)
    assert np.array_equal(converted.data, TRUTH)
    assert converted.data.dtype == np.uint8
    assert converted.voxel_nm == (3, 2, 1)
    assert converted.z.tolist() == [0, 5, 10, 15]
    assert volumes.attributes(path)["classes"] == CLASSES


def test_a_label_volume_knows_the_first_number_of_its_volume(study):
    row, path = study.folder({"s21.png": TRUTH[1]}), study.root / "labels.h5"
    grid = study.volume(first_slice=20)
    labels.convert([row], grid, path, classes=CLASSES, root=study.root)
    assert np.array_equal(volumes.read(path).data[1], TRUTH[1])


def test_labels_that_say_nothing_are_refused_and_leave_no_file(study):
    row, path = study.tiff(np.full(SHAPE, ALL, np.uint8)), study.root / "labels.h5"
    with pytest.raises(Refused, match=r"labels.tif: .*every voxel unlabelled"):
        labels.convert([row], study.volume(), path, classes=CLASSES, root=study.root)
    assert not path.exists()


def test_labels_are_counted(study):
    labels_at_hand = TRUTH.copy()
    labels_at_hand[0] = ALL
    row, path = study.tiff(labels_at_hand), study.root / "labels.h5"
    facts = labels.convert([row], study.volume(), path, classes=CLASSES, root=study.root)
    assert facts["verdict"] == "ok"
    assert facts["unlabelled"] == TRUTH[0].size
    assert list(facts["voxels"]) == CLASSES
    assert list(facts["voxels"].values()) == [
        int((TRUTH[1:] == place).sum()) for place in range(len(CLASSES))
    ]


def test_labels_of_one_class_only_are_legal_and_told(study):
    row, path = study.tiff(np.zeros(SHAPE, np.uint8)), study.root / "labels.h5"
    facts = labels.convert([row], study.volume(), path, classes=CLASSES, root=study.root)
    assert facts["verdict"] == "warning"
    assert f"every labelled voxel is {CLASSES[0]}" in facts["messages"][0]
    assert not volumes.read(path).data.any()


def test_labels_stored_as_floats_are_taken_and_told(study):
    row, path = study.tiff(TRUTH.astype(np.float32)), study.root / "labels.h5"
    facts = labels.convert([row], study.volume(), path, classes=CLASSES, root=study.root)
    assert facts["messages"] == [
        "labels.tif: labels stored as float32, taken as whole numbers"
    ]
    assert np.array_equal(volumes.read(path).data, TRUTH)


# -- points ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "text"),
    [("voxel", "1,2,3"), ("nm", "4,6,9"), ("angstrom", "40,60,90")],
)
def test_points_of_any_unit_become_voxels(study, unit, text):
    points = study.points(f"z,y,x\n{text}\n", unit, voxel_nm=(4, 3, 3))
    assert points.positions.tolist() == [[1, 2, 3]]


def test_axes_and_classes_of_points_are_kept(study):
    points = study.points("z,y,x,nz,ny,nx,class\n1,1,1,0,0.6,-0.8,decoy\n")
    assert points.normals.tolist() == [[0, 0.6, -0.8]]
    assert points.classes == ("decoy",)


def test_points_without_a_class_are_of_their_task(study):
    assert study.points("z,y,x\n1,1,1\n").classes == ("t3ss",)


def test_no_points_are_a_valid_answer(study):
    points = study.points("z,y,x\n")
    assert points.positions.shape == (0, 3)
    assert (study.root / "converted.csv").read_text() == "z,y,x,nz,ny,nx,class\n"


def test_points_of_all_rows_are_together(study):
    rows = []
    for number in (1, 2):
        (study.root / f"{number}.csv").write_text(f"x,y,z\n{number},0,0\n")
        rows.append({"task": "t3ss", "path": f"{number}.csv", "unit": "voxel"})
    path = study.root / "p.csv"
    labels.convert_points(rows, study.volume(), path, root=study.root)
    assert tables.read_points(path).positions.tolist() == [[0, 0, 1], [0, 0, 2]]


@pytest.mark.parametrize("place", ["-0.6,0,0", "3.6,0,0", "0,0,4.6", "4,2,0"])
def test_a_point_outside_is_refused_by_its_number(study, place):
    with pytest.raises(Refused, match=r"points.csv: .*\(4, 3, 5\), found point 2 at"):
        study.points(f"z,y,x\n1,1,1\n{place}\n")


@pytest.mark.parametrize("place", ["-0.5,-0.5,-0.5", "3.5,2.5,4.5"])
def test_the_outer_faces_of_the_volume_are_inside(study, place):
    assert len(study.points(f"z,y,x\n{place}\n").positions) == 1


def test_points_of_a_sparse_volume_have_true_z(study):
    points = study.points("z,y,x\n15,1,1\n", z=np.array([0, 5, 10, 15]))
    assert points.positions.tolist() == [[15, 1, 1]]


@pytest.mark.parametrize("unit", ["", "um", "pixel"])
def test_a_unit_is_never_guessed(study, unit):
    with pytest.raises(Refused, match="expected the unit nm, angstrom or voxel"):
        study.points("z,y,x\n1,1,1\n", unit)


@pytest.mark.parametrize("text", ["z,y\n1,1\n", "z,y,x\n1,1,nan\n", "z,y,x\n1,one,1\n"])
def test_points_that_are_none_are_refused(study, text):
    with pytest.raises(Refused, match=r"points.csv: expected"):
        study.points(text)


# -- real labels -----------------------------------------------------------------------

REAL = {
    "sandstone_xrm/labels": (
        (6, 1024, 996),
        ["void", "clay", "quartz", "pyrite"],
        {"void": [0, 0, 255], "clay": [0, 255, 0], "quartz": [255, 0, 0]}
        | {"pyrite": [255, 255, 0]},
        np.arange(0, 300, 50),
        [0.492, 0.037, 0.460, 0.012],
    ),
    "isbi2012_sstem/labels": (
        (20, 512, 512),
        ["inside", "membrane"],
        {"inside": 255, "membrane": 0},
        None,
        [0.78, 0.22],
    ),
}


@pytest.mark.skipif("TOMOGLEAN_DATA" not in os.environ, reason="TOMOGLEAN_DATA is not set")
@pytest.mark.parametrize("name", REAL)
def test_real_labels_have_the_shares_that_are_known(name):
    shape, classes, colours, z, shares = REAL[name]
    rows = [{"path": str(Path(os.environ["TOMOGLEAN_DATA"]) / name)}]
    slabs = labels.assemble(rows, shape, classes=classes, colours=colours, z=z)
    found = np.concatenate(list(slabs))
    counts = np.bincount(found.ravel(), minlength=len(classes))
    assert counts / found.size == pytest.approx(shares, abs=0.01)


# -- the files that were planned with --------------------------------------------------


def test_labels_changed_since_the_plan_are_refused(study):
    row = study.tiff(TRUTH)
    planned = sha256_of_file(study.root / row["path"])
    labels.unchanged([row], [planned], study.root)
    labels.unchanged([row], [None], study.root)
    study.tiff(np.zeros_like(TRUTH))
    with pytest.raises(Refused, match=r"labels.tif: expected the file .* found it changed"):
        labels.unchanged([row], [planned], study.root)
