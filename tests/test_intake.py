"""What falls between the parts of the intake: row and file, check and conversion, links."""

import os
import struct
import subprocess
import sys
import zlib

import h5py
import mrcfile
import numpy as np
import pytest
import tifffile
from PIL import Image

from tomoglean import checks, formats, rawfiles
from tomoglean.formats import raw

VOLUME = np.arange(1, 61, dtype=np.uint16).reshape(3, 4, 5)
RAW = {"shape": "3,4,5", "voxel_nm": "1"}


@pytest.fixture
def volume(tmp_path):
    with mrcfile.new(tmp_path / "v.mrc") as file:
        file.set_data(VOLUME)
        file.voxel_size = 10
    return {"path": str(tmp_path / "v.mrc")}


@pytest.mark.parametrize(
    ("dtype", "order"), [(">u2", ""), (">u2", "big"), ("uint16", "big")]
)
def test_a_byte_order_in_the_dtype_counts(tmp_path, dtype, order):
    (tmp_path / "v.raw").write_bytes(VOLUME.astype(">u2").tobytes())
    row = {"path": str(tmp_path / "v.raw"), "dtype": dtype, "byte_order": order, **RAW}
    assert checks.check(row)["maximum"] == 60


def test_two_byte_orders_are_refused(tmp_path):
    (tmp_path / "v.raw").write_bytes(VOLUME.tobytes())
    row = {"path": str(tmp_path / "v.raw"), "dtype": ">u2", "byte_order": "little", **RAW}
    assert checks.check(row)["verdict"] == "refused"


def test_a_dtype_that_is_none_is_refused(volume):
    (message,) = checks.check({**volume, "dtype": "foo"})["messages"]
    assert "expected the dtype foo" in message


def test_a_name_no_file_can_have_is_refused(tmp_path):
    facts = checks.check({"path": str(tmp_path / f"{'x' * 300}.mrc")})
    assert facts["verdict"] == "refused"


def test_complex_numbers_are_no_labels(volume, tmp_path):
    np.save(tmp_path / "l.npy", np.ones((3, 4, 5), np.complex64))
    rows = [{"path": str(tmp_path / "l.npy"), "kind": "clean"}]
    facts = checks.check_labels(rows, volume, classes=["a", "b"])
    assert "whole numbers, found complex64" in facts["messages"][0]


def test_points_of_a_sparse_set_count_its_true_z(tmp_path):
    folder = tmp_path / "s"
    folder.mkdir()
    for z, image in zip((0, 10, 20), VOLUME, strict=True):
        tifffile.imwrite(folder / f"s{z:02}.tif", image)
    (tmp_path / "p.csv").write_text("z,y,x\n20,3,3\n")
    rows = [
        {"path": str(tmp_path / "p.csv"), "kind": "points", "task": "t", "unit": "voxel"}
    ]
    row = {"path": str(folder), "voxel_nm": "1", "spacing": "10"}
    assert checks.check_labels(rows, row, classes=[])["points"] == 1


def test_channels_of_imagej_are_no_slices(tmp_path):
    tifffile.imwrite(tmp_path / "c.tif", VOLUME, imagej=True, metadata={"axes": "CYX"})
    facts = checks.check({"path": str(tmp_path / "c.tif"), "voxel_nm": "1"})
    assert "found 3 channels" in facts["messages"][0]


def test_slices_that_were_saved_as_channels_are_slices_and_told(tmp_path):
    data = np.arange(8 * 4 * 5, dtype=np.uint16).reshape(8, 4, 5)
    tifffile.imwrite(tmp_path / "c.tif", data, imagej=True, metadata={"axes": "CYX"})
    facts = checks.check({"path": str(tmp_path / "c.tif"), "voxel_nm": "1"})
    assert facts["shape"] == [8, 4, 5]
    assert facts["messages"] == ["c.tif: its 8 slices are called channels; taken as z"]


@pytest.mark.parametrize(("kind", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_png_that_would_lose_bits_is_refused(tmp_path, kind, channels):
    pixels = np.repeat(VOLUME[0, ..., None] * 500, channels, -1).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", 5, 4, 16, kind, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    chunks = [
        struct.pack(">I", len(data))
        + name
        + data
        + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    ]
    (tmp_path / "v.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    facts = checks.check({"path": str(tmp_path / "v.png"), "voxel_nm": "1"})
    assert "found 16 bits" in facts["messages"][0]


@pytest.fixture
def pair(tmp_path):
    """Header and voxels of ESRF, each in a folder of its own."""
    for folder in ("headers", "voxels"):
        (tmp_path / folder).mkdir()
    voxels = tmp_path / "voxels" / "v.vol"
    voxels.write_bytes(VOLUME.astype("<f4").tobytes())
    info = tmp_path / "headers" / "v.vol.info"
    info.write_text("NUM_X = 5\nNUM_Y = 4\nNUM_Z = 3\nvoxelSize = 1\n")
    return info, voxels


def test_voxels_that_are_a_link_out_of_the_folder_are_refused(pair):
    info, voxels = pair
    info.with_name("v.vol").symlink_to(voxels)
    facts = checks.check({"path": str(info)})
    assert "expected its voxels v.vol beside it" in facts["messages"][0]


def test_a_pair_may_be_linked_to_where_it_lies_as_a_pair(pair, tmp_path):
    info, voxels = pair
    voxels.with_name("v.vol.info").write_bytes(info.read_bytes())
    (tmp_path / "v.vol").symlink_to(voxels)
    (tmp_path / "v.vol.info").symlink_to(voxels.with_name("v.vol.info"))
    assert raw.lies_beside(tmp_path / "v.vol", tmp_path / "v.vol.info")
    assert checks.check({"path": str(tmp_path / "v.vol")})["maximum"] == 60


WAITS = (
    "import sys; from tomoglean import checks; print(checks.check({'path': sys.argv[1]}))"
)


def check_in_time(path):
    done = subprocess.run(
        [sys.executable, "-c", WAITS, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def test_a_log_that_is_a_pipe_is_passed_over(tmp_path):
    folder = tmp_path / "scan" / "reco" / "float_rawBin2"
    folder.mkdir(parents=True)
    for z, image in enumerate(VOLUME.astype(np.float32)):
        tifffile.imwrite(folder / f"s{z}.tif", image)
    os.mkfifo(folder.parent / "reco_rawBin2.log")
    assert "found no log without it" in check_in_time(tmp_path / "scan")


def test_a_chunk_that_is_a_pipe_is_refused(tmp_path):
    zarr = pytest.importorskip("zarr")
    zarr.save_array(tmp_path / "v.zarr", VOLUME, zarr_format=2)
    (tmp_path / "v.zarr" / "0.0.0").unlink()
    os.mkfifo(tmp_path / "v.zarr" / "0.0.0")
    assert "expected chunks in files" in check_in_time(tmp_path / "v.zarr")


def test_what_a_reader_runs_in_a_child_is_fingerprinted():
    found = rawfiles.readers([{"path": "v.h5"}])
    assert "tomoglean.formats.hdf5_inside" in found


# -- what the plan knows of the bytes --------------------------------------------------


@pytest.fixture
def remembered(tmp_path, monkeypatch):
    """Ask the plan for the hash of a volume, in a study of its own."""
    monkeypatch.chdir(tmp_path)
    return lambda name, **row: rawfiles.sha256(name, {"path": name, **row})


def write_linked(folder, value):
    with h5py.File(folder / "voxels.h5", "w") as file:
        file["data"] = np.full((2, 3, 4), value, np.uint8)


def test_a_changed_file_behind_a_link_is_noticed(remembered, tmp_path):
    write_linked(tmp_path, 1)
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["data"] = h5py.ExternalLink("voxels.h5", "data")
    before = remembered("v.h5", dataset="data")
    assert remembered("v.h5", dataset="data") == before
    write_linked(tmp_path, 2)
    assert remembered("v.h5", dataset="data") != before


def test_the_plan_and_the_check_hash_the_same(remembered, tmp_path):
    write_linked(tmp_path, np.uint8(3))
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["data"] = h5py.ExternalLink("voxels.h5", "data")
    row = {"dataset": "data"}
    with formats.open_source("v.h5", row) as source:
        told = formats.sha256("v.h5", row, source.linked)
    assert remembered("v.h5", dataset="data") == told


def test_unchanged_files_are_neither_opened_nor_hashed_again(
    remembered, tmp_path, monkeypatch
):
    write_linked(tmp_path, 1)
    before = remembered("voxels.h5")
    monkeypatch.setattr(formats, "files", None)
    monkeypatch.setattr(formats, "sha256", None)
    assert remembered("voxels.h5") == before


def test_a_new_slice_in_a_folder_is_noticed(remembered, tmp_path):
    (tmp_path / "slices").mkdir()
    tifffile.imwrite(tmp_path / "slices" / "s0.tif", VOLUME[0])
    before = remembered("slices")
    tifffile.imwrite(tmp_path / "slices" / "s1.tif", VOLUME[1])
    assert remembered("slices") != before


# -- slices of 1 bit among 8 bit -------------------------------------------------------


@pytest.mark.parametrize("first", [0, 1])
def test_white_of_one_bit_is_the_white_of_eight(tmp_path, first):
    white = np.array([[True, False], [False, True], [True, True]])
    for z in range(3):
        image = white if z % 2 == first else np.where(white, 255, 0).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / f"s{z}.png")
    facts = checks.check({"path": str(tmp_path), "voxel_nm": "1"})
    with formats.open_source(tmp_path) as source:
        assert np.array_equal(source.read(slice(0, 3)), [np.where(white, 255, 0)] * 3)
    assert len(facts["messages"]) == 1
    assert "slices of 1 bit among 8 bit: white is taken as 255" in facts["messages"][0]


def test_one_bit_alone_stays_zero_and_one(tmp_path):
    for z in range(2):
        Image.fromarray(np.eye(3, dtype=bool)).save(tmp_path / f"s{z}.png")
    with formats.open_source(tmp_path) as source:
        assert source.read(slice(0, 2)).max() == 1
