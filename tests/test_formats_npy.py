import pickle
import struct

import numpy as np
import pytest

from tomoglean.formats import open_source
from tomoglean.provenance import Refused

VOLUME = np.arange(3 * 4 * 5).reshape(3, 4, 5)


def save(path, data):
    np.save(path, data)
    return path


def header(path, **row):
    with open_source(path, row) as source:
        return source


def read(path, **row):
    with open_source(path, row) as source:
        return source.read(slice(0, source.shape[0]))


@pytest.mark.parametrize("dtype", ["u1", "<i2", ">u2", ">i4", "<f2", "<f4", ">f8", "<c8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_type_in_every_order(tmp_path, dtype, order):
    data = np.array(VOLUME, dtype, order=order)
    path = save(tmp_path / "v.npy", data)
    assert np.array_equal(read(path), VOLUME)
    assert read(path).dtype == np.dtype(dtype).newbyteorder("=")
    assert header(path).shape == (3, 4, 5)
    assert header(path).format == "npy"


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_slab_is_the_slab_of_the_volume(tmp_path, order):
    path = save(tmp_path / "v.npy", np.array(VOLUME, order=order))
    with open_source(path) as source:
        assert np.array_equal(source.read(slice(1, 3)), VOLUME[1:3])


def test_bool_becomes_uint8(tmp_path):
    found = read(save(tmp_path / "v.npy", VOLUME > 20))
    assert found.dtype == np.uint8
    assert np.array_equal(found, VOLUME > 20)


@pytest.mark.parametrize("order", ["C", "F"])
def test_two_axes_are_one_slice(tmp_path, order):
    path = save(tmp_path / "v.npy", np.array(VOLUME[1], order=order))
    assert np.array_equal(read(path), VOLUME[1:2])


def test_nobody_knows_the_voxel_size(tmp_path):
    path = save(tmp_path / "v.npy", VOLUME)
    assert header(path).voxel_nm is None
    assert header(path, voxel_nm="3,2,1").voxel_nm == (3, 2, 1)


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return open, (self.mark, "w")


def test_nothing_is_ever_unpickled(tmp_path):
    trap = np.array([Trap(tmp_path / "mark")], object)
    np.save(tmp_path / "v.npy", trap.reshape(1, 1, 1), allow_pickle=True)
    with pytest.raises(Refused, match=r"^v\.npy: expected"):
        read(tmp_path / "v.npy")
    (tmp_path / "w.npy").write_bytes(pickle.dumps(Trap(tmp_path / "mark")))
    with pytest.raises(Refused, match=r"^w\.npy: expected"):
        read(tmp_path / "w.npy")
    assert not (tmp_path / "mark").exists()


def test_an_archive_is_refused_with_the_way_out(tmp_path):
    np.savez(tmp_path / "v.npz", a=VOLUME)
    with pytest.raises(Refused, match=r"^v\.npz: .*numpy\.save"):
        read(tmp_path / "v.npz")


@pytest.mark.parametrize(
    "data",
    [
        np.zeros(5),
        np.zeros((2, 3, 4, 3)),
        np.zeros(()),
        np.zeros((2, 2, 2), "datetime64[s]"),
        np.full((2, 2, 2), "a"),
        np.zeros((2, 2, 2), [("a", "f4"), ("b", "f4")]),
        np.zeros((0, 2, 2)),
    ],
    ids=str,
)
def test_what_is_no_volume_is_refused(tmp_path, data):
    with pytest.raises(Refused, match=r"^v\.npy: expected"):
        read(save(tmp_path / "v.npy", data))


@pytest.mark.parametrize("extra", [-1, 1])
@pytest.mark.parametrize("order", ["C", "F"])
def test_the_size_must_fit_exactly(tmp_path, extra, order):
    path = save(tmp_path / "v.npy", np.array(VOLUME, "f4", order=order))
    path.write_bytes((path.read_bytes() + b"\0")[: 128 + 240 + extra])
    with pytest.raises(Refused, match=r"^v\.npy: expected 368 bytes"):
        read(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"(3, 4, 5)", b"(3, 4, 6)"),
        (b"(3, 4, 5)", b"(-3,-4,5)"),
        (b"(3, 4, 5)", b"(9, 9**9)"),
        (b"'<f4'", b"'<f8'"),
        (b"'<f4'", b"'|O8'"),
        (b"'descr'", b"'descx'"),
        (b"\x93NUMPY\x01", b"\x93NUMPY\x03"),
        (b"\x93NUMPY\x01", b"\x93NUMPY\x09"),
        (b"\x93NUMPY", b"\x93NUMPX"),
    ],
    ids=str,
)
def test_headers_that_cannot_be_are_refused(tmp_path, old, new):
    path = save(tmp_path / "v.npy", VOLUME.astype("f4"))
    path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(Refused, match=r"^v\.npy: expected"):
        read(path)


def test_a_giant_shape_allocates_nothing(tmp_path):
    path = save(tmp_path / "v.npy", VOLUME.astype("f4"))
    content = path.read_bytes().replace(b"(3, 4, 5), }    ", b"(2**40,)*3, }")
    path.write_bytes(content)
    with pytest.raises(Refused, match=r"^v\.npy: expected"):
        read(path)
    head = path.read_bytes().replace(b"(2**40,)*3, }", b"(99999999,9,9)}")
    path.write_bytes(head)
    with pytest.raises(Refused, match=r"^v\.npy: expected"):
        read(path)


def test_a_header_longer_than_any_array_needs_is_not_read(tmp_path):
    path = tmp_path / "v.npy"
    path.write_bytes(b"\x93NUMPY\x02\0" + struct.pack("<I", 65537) + b" " * 65537)
    with pytest.raises(Refused, match=r"^v\.npy: expected a header of at most 64 KiB"):
        header(path)
