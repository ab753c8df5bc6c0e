"""Files of phantoms: read back by our readers, the same bytes every time."""

import csv

import h5py
import mrcfile
import numpy as np
import pytest
import tifffile

from tomoglean import formats, particles
from tomoglean.formats import stored
from tomoglean.particles.source import Grid
from tomoglean.provenance import Refused
from tomoglean.simulators import files

GREY = np.random.default_rng(1).standard_normal((5, 6, 7)).astype(np.float32)
LABELS = (np.arange(5 * 6 * 7, dtype=np.uint8) % 3).reshape(5, 6, 7)
NAMES = ("ice", "membrane", "t3ss")


def opened(path, **row):
    with stored.open_any(path, row) as source:
        return source, source.read(slice(0, source.shape[0]))


# -- volumes -------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".tif", ".mrc", ".h5"])
def test_volumes_come_back_with_their_voxel_size(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    files.write_volume(GREY, path, voxel_nm=1.35)
    source, found = opened(path)
    assert np.array_equal(found, GREY)
    assert source.voxel_nm == pytest.approx((1.35, 1.35, 1.35), rel=1e-6)


@pytest.mark.parametrize("ending", [".tif", ".mrc", ".h5"])
def test_labels_come_back_with_255_as_it_is(tmp_path, ending):
    labels = LABELS.copy()
    labels[0, 0, 0] = 255
    path = tmp_path / f"a{ending}"
    files.write_volume(labels, path, voxel_nm=5000.0, names=NAMES)
    assert np.array_equal(opened(path)[1], labels)


def test_labels_tell_what_they_mean(tmp_path):
    files.write_volume(LABELS, tmp_path / "a.h5", voxel_nm=2.0, names=NAMES)
    source, _ = opened(tmp_path / "a.h5")
    assert dict(source.materials) == {
        0: "ice", 1: "membrane", 2: "t3ss", 255: "unlabelled"
    }  # fmt: skip


@pytest.mark.parametrize("ending", [".tif", ".mrc", ".h5"])
def test_the_same_volume_is_the_same_bytes(tmp_path, ending):
    paths = [tmp_path / f"{name}{ending}" for name in "ab"]
    for path in paths:
        files.write_volume(GREY, path, voxel_nm=1.8)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_volumes_on_disk_go_out_slab_by_slab(tmp_path):
    """Nothing but slices of z is ever asked for, never the whole volume."""

    class Watched:
        shape, dtype, thickest = (70, 6, 7), np.dtype(np.float32), 0

        def __getitem__(self, part):
            count = len(range(*part.indices(70)))
            Watched.thickest = max(Watched.thickest, count)
            return np.zeros((count, 6, 7), np.float32)

    for ending in (".tif", ".mrc", ".h5"):
        files.write_volume(Watched(), tmp_path / f"a{ending}", voxel_nm=1.0)
    assert 0 < Watched.thickest <= 64


def test_an_unfinished_volume_leaves_nothing(tmp_path):
    class Broken:
        shape, dtype = (4, 6, 7), np.dtype(np.float32)

        def __getitem__(self, part):
            raise RuntimeError("power cut")

    for ending in (".tif", ".mrc", ".h5"):
        with pytest.raises((RuntimeError, Refused), match="power cut"):
            files.write_volume(Broken(), tmp_path / f"a{ending}", voxel_nm=1.0)
    assert list(tmp_path.iterdir()) == []


# -- the beamline's form -------------------------------------------------------------


@pytest.fixture
def scan(tmp_path):
    files.write_scan(
        GREY, tmp_path / "screw-1", voxel_um=4.8, energy_kev=38.0, distance_m=0.03
    )
    return tmp_path / "screw-1"


def test_the_beamline_reader_takes_a_scan_for_one_of_its_own(scan):
    source, found = opened(scan)
    assert source.format == "beamline"
    assert np.array_equal(found, GREY)
    assert source.voxel_nm == pytest.approx((4800, 4800, 4800))
    assert source.warnings == []


def test_the_log_tells_energy_and_distance(scan):
    told = opened(scan)[0].acquisition
    assert told["scan_name"] == "screw-1"
    assert told["energy_ev"] == 38_000
    assert told["sample_detector_distance_m"] == 0.03
    assert told["raw_binning"] == 1


def test_a_scan_is_one_plain_float_image_a_slice(scan):
    slices = sorted((scan / "reco" / "float_rawBin1").iterdir())
    assert len(slices) == len(GREY)
    for path, image in zip(slices, GREY, strict=True):
        with tifffile.TiffFile(path) as file:
            assert len(file.pages) == 1
            assert file.pages[0].dtype == np.float32
            assert np.array_equal(file.asarray(), image)


def test_a_scan_replaces_an_older_one_and_leaves_no_parts(scan):
    files.write_scan(GREY[:3], scan, voxel_um=5.0, energy_kev=30, distance_m=0.1)
    assert opened(scan)[0].shape == (3, 6, 7)
    assert [path.name for path in scan.parent.iterdir()] == ["screw-1"]


def test_the_same_scan_is_the_same_bytes(scan, tmp_path):
    files.write_scan(
        GREY, tmp_path / "b" / "screw-1", voxel_um=4.8, energy_kev=38, distance_m=0.03
    )
    assert formats.sha256(scan) == formats.sha256(tmp_path / "b" / "screw-1")


# -- tables --------------------------------------------------------------------------


def test_codes_are_listed_with_unlabelled(tmp_path):
    files.write_codes(NAMES, tmp_path / "codes.csv")
    with (tmp_path / "codes.csv").open() as file:
        rows = {int(row["value"]): row["name"] for row in csv.DictReader(file)}
    assert rows == {0: "ice", 1: "membrane", 2: "t3ss", 255: "unlabelled"}


def test_relion_gets_angstrom_from_the_middle(tmp_path):
    """A point in the middle of an even volume is RELION's origin; x goes first."""
    normals = np.array([[1.0, 0, 0], [0, 0, 1]])
    places = np.array([[20.0, 30, 40], [21, 32, 44]])
    files.write_star(
        places, normals, tmp_path / "a.star", name="a", shape=(20, 30, 40), voxel_nm=2.0
    )
    found = particles.read(tmp_path / "a.star")
    assert found.positions * 0.1 == pytest.approx(places - [20, 30, 40], abs=1e-6)
    text = (tmp_path / "a.star").read_text()
    assert "rlnCenteredCoordinateXAngst" in text
    assert "rlnTomoName" in text


def test_relion_points_come_back_in_voxels(tmp_path):
    rng = np.random.default_rng(3)
    places, normals = rng.uniform(5, 30, (9, 3)), rng.standard_normal((9, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    shape = (21, 33, 18)
    files.write_star(
        places, normals, tmp_path / "a.star", name="a", shape=shape, voxel_nm=1.8
    )
    unbinned = {"bin1_shape": "21,33,18", "bin1_pixel_nm": "1.8", "binning": "fourier"}
    grid = Grid(shape, (1.8, 1.8, 1.8), "a", unbinned)
    found = particles.points(tmp_path / "a.star", {}, grid)
    assert found.positions * 1.8 == pytest.approx(places, abs=0.01)
    assert np.sum(found.normals * normals, axis=1) == pytest.approx(1, abs=1e-6)


def test_no_points_are_a_table_too(tmp_path):
    none = np.zeros((0, 3))
    files.write_star(
        none, none, tmp_path / "a.star", name="a", shape=(4, 4, 4), voxel_nm=1.0
    )
    assert len(particles.read(tmp_path / "a.star")) == 0


# -- names ---------------------------------------------------------------------------


@pytest.mark.parametrize("phantom", ["implant", "minicell"])
@pytest.mark.parametrize("form", ["", "tiff", "mrc", "hdf5"])
def test_every_part_has_a_name_of_its_own(phantom, form):
    paths = files.paths(phantom, "out", "a", form)
    assert len(set(paths.values())) == len(files.PARTS[phantom])
    assert {path.name.partition(".")[0] for path in paths.values()} == {"a"}


def test_beside_a_beamline_folder_labels_are_tiff():
    paths = files.paths("implant", "out", "a", "beamline")
    assert paths["volume"].name == "a"
    assert paths["truth"].name == "a.truth.tif"


def test_a_tomogram_has_no_beamline_form():
    with pytest.raises(Refused, match="expected --form tiff, mrc or hdf5 for a minicell"):
        files.paths("minicell", "out", "a", "beamline")


def test_mrc_holds_the_slices_along_z(tmp_path):
    files.write_volume(GREY, tmp_path / "a.mrc", voxel_nm=1.8)
    with mrcfile.open(tmp_path / "a.mrc") as file:
        assert np.array_equal(file.data, GREY)
        assert float(file.voxel_size.x) == pytest.approx(18.0)


def test_hdf5_is_packed_in_chunks_with_checksums(tmp_path):
    files.write_volume(GREY, tmp_path / "a.h5", voxel_nm=1.8)
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["data"].fletcher32
        assert file["data"].chunks
