import struct

import numpy as np
import pytest

from tomoglean.formats import open_source
from tomoglean.provenance import Refused

VOLUME = np.arange(3 * 4 * 5).reshape(3, 4, 5)
CODES = {"i1": 1, "i2": 2, "i4": 4, "f4": 5, "c8": 8, "f8": 9}


def write(path, data, machine=6, code=None, numbers=(0,) * 40, order="<"):
    """Write the 512 bytes and the voxels as the description says, x fastest."""
    z, y, x = data.shape
    head = bytes([machine, 0, 0, code or CODES[data.dtype.str[1:]]])
    head += struct.pack(f"{order}3i", x, y, z) + b" " * 80
    head += struct.pack(f"{order}40i", *numbers) + b"\0" * 256
    path.write_bytes(head + data.astype(data.dtype.newbyteorder(order)).tobytes())
    return path


def header(path, **row):
    with open_source(path, row) as source:
        return source


def read(path, **row):
    with open_source(path, row) as source:
        return source.read(slice(0, source.shape[0]))


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize(("machine", "order"), [(0, ">"), (3, ">"), (5, ">"), (6, "<")])
def test_every_type_in_every_byte_order(tmp_path, code, machine, order):
    data = (VOLUME - 30).astype(code)
    path = write(tmp_path / "v.em", data, machine, order=order)
    assert np.array_equal(read(path), data)
    assert read(path).dtype == np.dtype(code)
    assert header(path).format == "em"


@pytest.mark.parametrize(("machine", "order"), [(1, "<"), (2, ">")])
def test_whole_numbers_of_old_machines_are_read_but_not_their_floats(
    tmp_path, machine, order
):
    data = VOLUME.astype("i2")
    assert np.array_equal(read(write(tmp_path / "v.em", data, machine, order=order)), data)
    write(tmp_path / "v.em", VOLUME.astype("f4"), machine, order=order)
    with pytest.raises(Refused, match=r"^v\.em: expected floats as today's machines"):
        read(tmp_path / "v.em")


def test_a_slab_is_the_slab_of_the_volume(tmp_path):
    with open_source(write(tmp_path / "v.em", VOLUME.astype("f4"))) as source:
        assert np.array_equal(source.read(slice(1, 3)), VOLUME[1:3])


def test_bytes_are_signed_and_that_is_told(tmp_path):
    path = write(tmp_path / "v.em", np.full((1, 2, 3), -1, "i1"))
    assert read(path).min() == -1
    assert "signed" in header(path).notes[0]


def test_the_pixel_by_convention_is_told_and_not_used(tmp_path):
    numbers = [0] * 40
    numbers[6] = 6800
    path = write(tmp_path / "v.em", VOLUME.astype("f4"), numbers=numbers)
    assert header(path).voxel_nm is None
    assert "6.8 nm or angstrom" in header(path).notes[0]
    assert header(path, voxel_nm="0.68").voxel_nm == (0.68, 0.68, 0.68)


@pytest.mark.parametrize("extra", [-1, 1])
def test_the_size_must_fit_exactly(tmp_path, extra):
    path = write(tmp_path / "v.em", VOLUME.astype("f4"))
    path.write_bytes((path.read_bytes() + b"\0")[: 512 + 240 + extra])
    with pytest.raises(Refused, match=r"^v\.em: expected 752 bytes .* found"):
        read(path)


@pytest.mark.parametrize(
    ("offset", "content"),
    [
        (0, b"\x04"),
        (0, b"\x07"),
        (3, b"\x00"),
        (3, b"\x03"),
        (3, b"\x0a"),
        (0, b"\x05"),
        (4, struct.pack("<i", 0)),
        (4, struct.pack("<i", -5)),
        (8, struct.pack("<i", 2**31 - 1)),
        (12, struct.pack("<i", 4)),
    ],
)
def test_headers_that_cannot_be_are_refused(tmp_path, offset, content):
    path = write(tmp_path / "v.em", VOLUME.astype("f4"))
    damaged = bytearray(path.read_bytes())
    damaged[offset : offset + len(content)] = content
    path.write_bytes(damaged)
    with pytest.raises(Refused, match=r"^v\.em: expected"):
        read(path)


@pytest.mark.parametrize("content", [b"x", b"\x06\0\0\x05" * 10, b"<html>" * 200])
def test_what_is_no_em_file_is_refused(tmp_path, content):
    (tmp_path / "v.em").write_bytes(content)
    with pytest.raises(Refused, match=r"^v\.em: expected"):
        read(tmp_path / "v.em")


def test_two_negative_sizes_do_not_make_a_volume(tmp_path):
    path = write(tmp_path / "v.em", VOLUME.astype("f4"))
    damaged = bytearray(path.read_bytes())
    damaged[4:12] = struct.pack("<2i", -5, -4)
    path.write_bytes(damaged)
    with pytest.raises(Refused, match=r"^v\.em: expected"):
        read(path)
