"""Writing volumes for other programs: read back by ours and by independent readers."""

import errno
import json
import shutil
import struct
import subprocess
import sys
from collections import namedtuple

import mrcfile
import numpy as np
import pytest
import tifffile

from tomoglean import __main__ as command
from tomoglean import formats, volumes
from tomoglean.formats import Source, open_source, write_tiff, writing
from tomoglean.formats.stored import is_stored, open_stored
from tomoglean.provenance import Refused
from tomoglean.volumes import Volume

SHAPE = (3, 4, 5)
EDGES_NM = (1.5, 2.0, 0.75)
ORIGIN_NM = (-30.0, 12.5, 400.0)
CLASSES = ["background", "bone", "degradation_layer"]
RAMP = np.arange(60).reshape(SHAPE)
LABELS = (RAMP % 3).astype(np.uint8)
WITH_UNKNOWN = np.where(RAMP == 7, 255, LABELS).astype(np.uint8)
STAGES = {
    "labels": LABELS,
    "labels with unknown": WITH_UNKNOWN,
    "confidence": (RAMP * 4).astype(np.uint8),
    "scores": (RAMP / 64).astype(np.float16),
    "grey": (RAMP * 0.1 - 3).astype(np.float32),
    "counts": (RAMP * 1000).astype(np.uint16),
    "signed": (RAMP * 1000 - 30000).astype(np.int16),
}


def source(data, **facts):
    """Hold an array as if it came from a file."""
    known = {"voxel_nm": EDGES_NM, "origin_nm": ORIGIN_NM, **facts}
    return Source("made.h5", data.shape, data.dtype, lambda part: data[part], **known)


def written(tmp_path, name, data, **facts):
    formats.write(source(data, **facts), tmp_path / name)
    return tmp_path / name


@pytest.mark.parametrize("ending", ["mrc", "rec", "tif", "tiff"])
@pytest.mark.parametrize("data", STAGES.values(), ids=STAGES)
def test_our_readers_find_what_was_written(tmp_path, ending, data):
    with open_source(written(tmp_path, f"out.{ending}", data)) as found:
        assert found.shape == SHAPE
        assert np.array_equal(found.read(slice(0, 3)), data)
        assert np.allclose(found.voxel_nm, EDGES_NM, rtol=1e-6)


@pytest.mark.parametrize("data", STAGES.values(), ids=STAGES)
def test_our_reader_finds_the_origin_in_mrc(tmp_path, data):
    with open_source(written(tmp_path, "out.mrc", data)) as found:
        assert found.origin_nm == pytest.approx(ORIGIN_NM)


@pytest.mark.parametrize("data", STAGES.values(), ids=STAGES)
def test_mrcfile_finds_the_voxels_and_a_valid_file(tmp_path, data):
    path = written(tmp_path, "out.mrc", data)
    assert mrcfile.validate(path)
    assert np.array_equal(mrcfile.read(path), data)


@pytest.mark.parametrize("data", STAGES.values(), ids=STAGES)
def test_tifffile_finds_the_voxels(tmp_path, data):
    assert np.array_equal(tifffile.imread(written(tmp_path, "out.tif", data)), data)


# -- MRC -----------------------------------------------------------------------------


def test_mrc_says_voxel_size_and_origin_in_angstrom_and_order_x_y_z(tmp_path):
    header = written(tmp_path, "out.mrc", LABELS).read_bytes()[:1024]
    assert struct.unpack_from("<3i", header, 0) == (5, 4, 3)
    cell = struct.unpack_from("<3f", header, 40)
    assert cell == pytest.approx((5 * 7.5, 4 * 20.0, 3 * 15.0))
    assert struct.unpack_from("<3f", header, 196) == (4000.0, 125.0, -300.0)
    assert struct.unpack_from("<3i", header, 16) == (0, 0, 0)


def test_imod_is_told_that_bytes_and_origin_are_those_of_the_standard(tmp_path):
    header = written(tmp_path, "out.mrc", LABELS).read_bytes()[:1024]
    stamp, flags = struct.unpack_from("<2i", header, 152)
    assert stamp == 1146047817
    assert flags & 1  # bytes are signed
    assert flags & 4  # the origin has the sign of MRC2014
    assert struct.unpack_from("<i", header, 108) == (20140,)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("labels", 0),
        ("labels with unknown", 6),
        ("confidence", 6),
        ("scores", 2),
        ("grey", 2),
        ("counts", 6),
        ("signed", 1),
    ],
)
def test_the_mode_of_mrc_is_one_that_every_program_reads_alike(tmp_path, name, mode):
    header = written(tmp_path, "out.mrc", STAGES[name]).read_bytes()[:1024]
    assert struct.unpack_from("<i", header, 12) == (mode,)


def test_mrc_statistics_are_those_of_the_voxels(tmp_path):
    data = STAGES["grey"]
    with mrcfile.open(written(tmp_path, "out.mrc", data)) as file:
        stated = [float(file.header[name]) for name in ("dmin", "dmax", "dmean", "rms")]
    wide = data.astype(float)
    assert stated == pytest.approx([wide.min(), wide.max(), wide.mean(), wide.std()])


def test_nan_stays_out_of_the_statistics(tmp_path):
    data = STAGES["grey"].copy()
    data[1, 2, 3] = np.nan
    with mrcfile.open(written(tmp_path, "out.mrc", data)) as file:
        assert float(file.header.dmean) == pytest.approx(np.nanmean(data, dtype=float))
        assert np.isnan(file.data[1, 2, 3])


def test_mrc_labels_name_the_classes(tmp_path):
    names = {0: "background", 1: "bone", 2: "Knochen (weiß)\n"}
    with mrcfile.open(written(tmp_path, "out.mrc", LABELS, materials=names)) as file:
        said = file.get_labels()
    assert said[1].rstrip() == "0 = background; 1 = bone; 2 = Knochen (wei?)"


def test_more_names_than_the_header_holds_are_left_out(tmp_path):
    names = {value: f"class-number-{value}" for value in range(200)}
    path = written(tmp_path, "out.mrc", LABELS, materials=names)
    assert mrcfile.validate(path)
    with mrcfile.open(path) as file:
        assert len(file.get_labels()) == 10


@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64", "uint64", "float64"])
def test_mrc_keeps_wide_numbers_where_float32_can(tmp_path, dtype):
    data = (RAMP * 1000).astype(dtype)
    assert np.array_equal(mrcfile.read(written(tmp_path, "out.mrc", data)), data)


@pytest.mark.parametrize(
    ("dtype", "value"), [("int32", 2**24 + 1), ("uint64", 2**64 - 1), ("float64", 1e300)]
)
def test_mrc_refuses_numbers_that_float32_would_change(tmp_path, dtype, value):
    data = RAMP.astype(dtype)
    data[2, 3, 4] = value
    with pytest.raises(Refused, match=r"made\.h5"):
        written(tmp_path, "out.mrc", data)
    assert list(tmp_path.iterdir()) == []


# -- TIFF ----------------------------------------------------------------------------


def imagej(path):
    with tifffile.TiffFile(path) as file:
        assert file.is_imagej
        return file.imagej_metadata, file.pages.first


@pytest.mark.parametrize(
    ("factor", "unit", "unit_nm"), [(1, "nm", 1), (1000, "micron", 1000)]
)
def test_imagej_finds_the_voxel_size_along_every_axis(tmp_path, factor, unit, unit_nm):
    edges = tuple(edge * factor for edge in EDGES_NM)
    told, page = imagej(written(tmp_path, "out.tif", LABELS, voxel_nm=edges))
    assert told["unit"] == unit
    assert told["images"] == told["slices"] == 3
    x, y = page.resolution
    found = (told["spacing"] * unit_nm, unit_nm / y, unit_nm / x)
    assert found == pytest.approx(edges, rel=1e-6)


def test_imagej_finds_the_origin_as_the_place_of_zero_in_voxels(tmp_path):
    told, _ = imagej(written(tmp_path, "out.tif", LABELS))
    # ImageJ: place = (index - origin) * edge; index 0 lies at the origin in nm.
    for axis, at_nm, edge in zip("zyx", ORIGIN_NM, EDGES_NM, strict=True):
        assert (0 - told[f"{axis}origin"]) * edge == pytest.approx(at_nm)


def test_tiff_labels_are_named_and_shown_over_their_range(tmp_path):
    names = {**dict(enumerate(CLASSES)), 255: "unlabelled"}
    path = written(tmp_path, "out.tif", WITH_UNKNOWN, materials=names)
    told, _ = imagej(path)
    assert (told["min"], told["max"]) == (0, 2)
    with tifffile.TiffFile(path) as file:
        assert "label 2 = degradation_layer" in file.pages.first.description


def test_bytes_are_deflated_and_grey_values_lie_in_a_row(tmp_path):
    _, page = imagej(written(tmp_path, "labels.tif", LABELS))
    assert page.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
    with tifffile.TiffFile(written(tmp_path, "grey.tif", STAGES["grey"])) as file:
        assert file.pages.first.compression == 1
        offsets = [page.dataoffsets[0] for page in file.pages]
    assert np.diff(offsets).tolist() == [4 * 5 * 4] * 2  # as ImageJ reads plain stacks


@pytest.mark.parametrize("name", ["labels", "grey"])
def test_above_4_gb_a_tiff_is_a_bigtiff_with_the_same_facts(tmp_path, monkeypatch, name):
    monkeypatch.setattr(write_tiff, "LARGEST_CLASSIC", 10)
    path = written(tmp_path, "out.tif", STAGES[name])
    with tifffile.TiffFile(path) as file:
        assert file.is_bigtiff
    assert np.array_equal(tifffile.imread(path), STAGES[name])
    with open_source(path) as found:
        assert np.allclose(found.voxel_nm, EDGES_NM, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["int8", "int32", "uint32", "int64", "uint64", "float64"])
def test_tiff_holds_other_types_as_imagej_can_read_them(tmp_path, dtype):
    data = RAMP.astype(dtype)
    found = tifffile.imread(written(tmp_path, "out.tif", data))
    assert np.array_equal(found, data)
    assert found.dtype.name in ("int16", "int32", "uint32", "float32")


# -- all writers ---------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["mrc", "tif"])
def test_the_same_volume_gives_the_same_bytes_whatever_the_slabs(
    tmp_path, monkeypatch, ending
):
    data = STAGES["grey"]
    first = written(tmp_path, f"a.{ending}", data).read_bytes()
    monkeypatch.setattr(writing, "SLAB_BYTES", 1)
    read = []
    one = source(data)
    one.pages = lambda part: (read.append(part), data[part])[1]
    formats.write(one, tmp_path / f"b.{ending}")
    assert (tmp_path / f"b.{ending}").read_bytes() == first
    assert [part.stop - part.start for part in read] == [1, 1, 1]


@pytest.mark.parametrize(
    ("shape", "thickness"),
    [((200, 64, 64), 64), ((200, 8192, 8192), 2), ((9, 20000, 20000), 1)],
)
def test_slabs_stay_within_256_mib_and_fit_chunks(shape, thickness):
    dtype = np.dtype(np.uint16)

    class Enough(Exception):
        pass

    def pages(part):
        assert part == slice(0, thickness)
        raise Enough

    huge = Source("huge", shape, dtype, pages)
    huge.read = huge.pages
    with pytest.raises(Enough):
        next(writing.slabs(huge))


@pytest.mark.parametrize("name", ["out.mrc.gz", "out.png", "out", "out.h5"])
def test_an_unknown_ending_is_refused_with_those_there_are(tmp_path, name):
    with pytest.raises(Refused, match=r"expected one of the endings .*\.mrc"):
        written(tmp_path, name, LABELS)


@pytest.mark.parametrize("name", ["out.mrc", "out.tif"])
def test_nothing_is_written_without_a_voxel_size(tmp_path, name):
    with pytest.raises(Refused, match="expected a voxel size"):
        written(tmp_path, name, LABELS, voxel_nm=None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out.mrc", "out.tif"])
def test_complex_numbers_are_refused(tmp_path, name):
    with pytest.raises(Refused, match="expected real numbers"):
        written(tmp_path, name, RAMP.astype(np.complex64))


def test_a_disk_that_is_too_small_is_refused_before_writing(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 41, 59))
    with pytest.raises(Refused, match=r"out\.mrc: .*free"):
        written(tmp_path, "out.mrc", LABELS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out.mrc", "out.tif"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_leaves_nothing_and_one_line(tmp_path, name, code):
    (tmp_path / name).write_text("older")

    def pages(part):
        if part.start:
            raise OSError(code, "No space left on device")
        return np.zeros((part.stop, 8192, 8192), np.uint16)

    full = Source(
        "made.h5", (99, 8192, 8192), np.dtype(np.uint16), pages, voxel_nm=EDGES_NM
    )
    full.read_colours = pages  # reading would turn it into a damaged file
    with pytest.raises(Refused, match=f"{name}: .*free some"):
        formats.write(full, tmp_path / name)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["older"]


SMALL_DISK = """
import resource, sys
import numpy as np
from tomoglean import formats, provenance
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
noise = np.random.default_rng(1).integers(0, 120, (90, 64, 64)).astype(np.uint8)
made = formats.Source(
    "made", noise.shape, noise.dtype, lambda part: noise[part], voxel_nm=(1.0, 1.0, 1.0)
)
try:
    formats.write(made, sys.argv[1])
except provenance.Refused as refused:
    print(refused)
"""


@pytest.mark.parametrize("name", ["out.mrc", "out.tif"])
def test_a_file_that_may_not_grow_leaves_nothing_and_one_line(tmp_path, name):
    words = [sys.executable, "-c", SMALL_DISK, str(tmp_path / name)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{name}: expected")
    assert list(tmp_path.iterdir()) == []


# -- our own volume files ------------------------------------------------------------


@pytest.fixture
def segmented(tmp_path):
    """Write a small segmentation of which every part is known."""
    path = tmp_path / "mini.h5"
    volumes.write(
        Volume(WITH_UNKNOWN, EDGES_NM, origin_nm=ORIGIN_NM),
        path,
        extra={"confidence": STAGES["confidence"]},
        classes=json.dumps(CLASSES),
    )
    return path


def test_a_stored_segmentation_knows_names_place_and_size(segmented):
    with open_stored(segmented) as found:
        assert found.materials == {**dict(enumerate(CLASSES)), 255: "unlabelled"}
        assert found.origin_nm == ORIGIN_NM
        assert found.voxel_nm == EDGES_NM
        assert np.array_equal(found.read(slice(1, 3)), WITH_UNKNOWN[1:3])


def test_confidence_has_no_class_names(segmented):
    with open_stored(segmented, "confidence") as found:
        assert not found.materials
        assert np.array_equal(found.read(slice(0, 3)), STAGES["confidence"])


def test_scores_between_voxels_are_written_where_they_hold(tmp_path):
    path = tmp_path / "scores.h5"
    volumes.write(Volume(STAGES["scores"], EDGES_NM), path, offset_voxel=(0.0, 0.5, 0.5))
    with open_stored(path) as found:
        assert found.origin_nm == (0.0, 1.0, 0.375)


def test_evenly_sparse_slices_keep_their_true_distance_and_place(tmp_path):
    path = tmp_path / "sparse.h5"
    volumes.write(Volume(LABELS, EDGES_NM, np.array([10, 14, 18])), path)
    with open_stored(path) as found:
        assert found.voxel_nm == (6.0, 2.0, 0.75)
        assert found.origin_nm == (15.0, 0.0, 0.0)
        assert found.z is None
        assert not found.warnings


def test_unevenly_sparse_slices_are_warned_of(tmp_path):
    path = tmp_path / "sparse.h5"
    volumes.write(Volume(LABELS, EDGES_NM, np.array([1, 2, 5])), path)
    with open_stored(path) as found:
        assert found.voxel_nm == EDGES_NM
        assert found.z.tolist() == [1, 2, 5]
        assert "no neighbours (z = 1, 2, 5" in found.warnings[0]


@pytest.mark.parametrize("dataset", ["normals", "nothing"])
def test_a_dataset_that_is_no_volume_is_refused_with_those_there_are(tmp_path, dataset):
    path = tmp_path / "mask.h5"
    extra = {"normals": np.zeros((3, *SHAPE), np.int8)}
    volumes.write(Volume(LABELS, EDGES_NM), path, extra=extra)
    with (
        pytest.raises(Refused, match=f"'{dataset}', found data"),
        open_stored(path, dataset),
    ):
        pass


def test_foreign_hdf5_is_no_volume_file(tmp_path):
    import h5py

    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["data"] = LABELS
    assert not is_stored(tmp_path / "foreign.h5")
    with pytest.raises(Refused, match=r"foreign\.h5"), open_stored(tmp_path / "foreign.h5"):
        pass


# -- the command ---------------------------------------------------------------------


def test_export_writes_labels_or_confidence(segmented, tmp_path, capsys):
    for dataset, data in (("data", WITH_UNKNOWN), ("confidence", STAGES["confidence"])):
        target = tmp_path / f"{dataset}.mrc"
        words = ["export", str(segmented), str(target), "--dataset", dataset]
        assert command.main(words) == 0
        assert str(target) in capsys.readouterr().out
        assert np.array_equal(mrcfile.read(target), data)


def test_export_turns_one_foreign_format_into_another(tmp_path):
    tifffile.imwrite(tmp_path / "scan.tif", STAGES["counts"], photometric="minisblack")
    target = tmp_path / "scan.mrc"
    words = ["export", str(tmp_path / "scan.tif"), str(target), "--voxel-nm", "3,2,1"]
    assert command.main(words) == 0
    with open_source(target) as found:
        assert found.voxel_nm == pytest.approx((3, 2, 1))
        assert np.array_equal(found.read(slice(0, 3)), STAGES["counts"])


def test_export_replaces_nothing_unasked(segmented, tmp_path, capsys):
    target = tmp_path / "out.mrc"
    target.write_text("mine")
    assert command.main(["export", str(segmented), str(target)]) == 3
    assert target.read_text() == "mine"
    assert "--force" in capsys.readouterr().err
    assert command.main(["export", str(segmented), str(target), "--force"]) == 0
    assert mrcfile.validate(target)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["mini.h5", "out.jpg"], "out.jpg: expected one of the endings"),
        (["none.h5", "out.mrc"], "none.h5: expected a file"),
        (["mini.h5", "out.mrc", "--dataset", "x"], "mini.h5: expected a 3D dataset"),
        (["mini.h5", "mini.h5", "--force"], "mini.h5: expected one of the endings"),
    ],
)
def test_export_refuses_with_one_line_and_code_3(
    segmented, monkeypatch, capsys, words, told
):
    monkeypatch.chdir(segmented.parent)
    assert command.main(["export", *words]) == 3
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1


def test_export_tells_what_is_odd_about_the_volume(tmp_path, capsys):
    path = tmp_path / "sparse.h5"
    volumes.write(Volume(LABELS, EDGES_NM, np.array([1, 2, 5])), path)
    assert command.main(["export", str(path), str(tmp_path / "out.tif")]) == 0
    assert "no neighbours" in capsys.readouterr().out
