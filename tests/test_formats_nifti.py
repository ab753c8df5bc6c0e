"""NIfTI: bytes written by hand and by nibabel."""

import contextlib
import gzip
import os
import struct
import sys

import nibabel
import numpy as np
import pytest

from tomoglean.formats import nifti, open_source
from tomoglean.provenance import Refused

VOLUME = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5)
MM, MICRON = 2, 3
STRAIGHT = [[2, 0, 0, 7], [0, 3, 0, 8], [0, 0, 5, 9]]


def by_hand(
    path,
    data=VOLUME,
    *,
    order="<",
    dim=None,
    code=4,
    bits=16,
    edges=(2, 3, 5),
    offset=352,
    scale=(0, 0),
    units=MM,
    rows=None,
    magic=b"n+1\0",
    tail=b"",
):
    """Write NIfTI-1 field by field, as nifti1.h has them."""
    z, y, x = data.shape
    dim = dim or (3, x, y, z, 1, 1, 1, 1)
    head = struct.pack(order + "i36x8h", 348, *dim)
    head += struct.pack(order + "14xhhh", code, bits, 0)
    head += struct.pack(order + "8f3f", 1, *edges, 0, 0, 0, 0, offset, *scale)
    head += struct.pack(order + "hBB", 0, 0, units)
    head += bytes(252 - len(head))
    head += struct.pack(order + "hh24x", 0, 1 if rows else 0)
    head += struct.pack(order + "12f", *np.ravel(rows or np.zeros((3, 4))))
    head += bytes(344 - len(head)) + magic
    content = head.ljust(352, b"\0") + data.astype(data.dtype.newbyteorder(order)).tobytes()
    content += tail
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)
    return path


def read(path, **row):
    with open_source(path, row) as source:
        return source.read(slice(0, source.shape[0]))


def header(path, **row):
    with open_source(path, row) as source:
        return source


def saved(path, data=VOLUME, affine=None, unit="mm", kind=nibabel.Nifti1Image):
    """Write z, y, x data with nibabel, which has x, y, z."""
    image = kind(data.T, np.diag([2, 3, 5, 1]) if affine is None else affine)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_bytes_written_by_hand(tmp_path, order, name):
    path = by_hand(tmp_path / name, order=order)
    with open_source(path) as source:
        assert (source.shape, source.dtype, source.format) == ((3, 4, 5), np.int16, "nifti")
        assert source.dtype.isnative
        assert np.array_equal(source.read(slice(1, 3)), VOLUME[1:])
        assert np.array_equal(source.read(slice(0, 1)), VOLUME[:1])
        assert (source.voxel_nm, source.warnings) == ((5e6, 3e6, 2e6), [])


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64, np.uint16])
def test_what_nibabel_writes(tmp_path, name, dtype, kind):
    path = saved(tmp_path / name, VOLUME.astype(dtype), kind=kind)
    assert np.array_equal(read(path), VOLUME)
    assert header(path).dtype == dtype


@pytest.mark.parametrize(
    ("units", "nm"), [(1, 1e9), (MM, 1e6), (MICRON, 1e3), (MICRON + 8, 1e3)]
)
def test_units_of_length(tmp_path, units, nm):
    path = by_hand(tmp_path / "v.nii", units=units)
    assert header(path).voxel_nm == pytest.approx((5 * nm, 3 * nm, 2 * nm))


@pytest.mark.parametrize(
    "how",
    [{"units": 0}, {"units": 8}, {"edges": (2, 0, 5)}, {"edges": (np.nan, 3, 5)}],
    ids=str,
)
def test_a_voxel_size_not_known_is_told(tmp_path, how):
    source = header(by_hand(tmp_path / "v.nii", **how))
    assert source.voxel_nm is None
    assert "voxel size is not known" in source.warnings[0]


def test_the_origin_comes_from_a_straight_affine(tmp_path):
    source = header(by_hand(tmp_path / "v.nii", rows=STRAIGHT, units=MICRON))
    assert source.origin_nm == (9e3, 8e3, 7e3)
    assert source.warnings == []


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([[-2, 0, 0, 7], [0, -3, 0, 8], [0, 0, 5, 9]], "flipped along x, y"),
        ([[0, 3, 0, 7], [2, 0, 0, 8], [0, 0, 5, 9]], "a permutation of the axes"),
        ([[2, 0.3, 0, 7], [0.2, 3, 0, 8], [0, 0, 5, 9]], "oblique"),
        ([[4, 0, 0, 7], [0, 3, 0, 8], [0, 0, 5, 9]], "of other voxels"),
        ([[np.nan, 0, 0, 7], [0, 3, 0, 8], [0, 0, 5, 9]], "not finite"),
    ],
)
def test_an_affine_that_turns_is_told_and_never_applied(tmp_path, rows, told):
    path = by_hand(tmp_path / "v.nii", rows=rows)
    source = header(path)
    assert f"its affine is {told}" in source.warnings[0]
    assert (source.voxel_nm, source.origin_nm) == ((5e6, 3e6, 2e6), (0, 0, 0))
    assert np.array_equal(read(path), VOLUME)


def test_scaled_numbers_become_float(tmp_path):
    path = by_hand(tmp_path / "v.nii", scale=(0.5, -3))
    assert header(path).dtype == np.float32
    assert np.array_equal(read(path), VOLUME * np.float32(0.5) - 3)


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
def test_scaled_numbers_are_those_of_nibabel(tmp_path, name):
    path = by_hand(tmp_path / name, scale=(0.125, 7))
    assert np.allclose(read(path), nibabel.load(path).get_fdata().T)


def test_long_integers_keep_their_digits_when_scaled(tmp_path):
    data = np.full((1, 2, 2), 2**30 + 1, np.int32)
    path = by_hand(tmp_path / "v.nii", data, code=8, bits=32, scale=(2, 1))
    assert read(path).max() == 2**31 + 3


@pytest.mark.parametrize("scale", [(0, 5), (1, 0), (np.nan, 1), (np.inf, 0)])
def test_a_scale_that_is_none_leaves_the_numbers(tmp_path, scale):
    path = by_hand(tmp_path / "v.nii", scale=scale)
    assert header(path).dtype == np.int16
    assert np.array_equal(read(path), VOLUME)


def test_a_fourth_axis_of_one_is_none(tmp_path):
    path = by_hand(tmp_path / "v.nii", dim=(4, 5, 4, 3, 1, 0, 0, 0))
    assert np.array_equal(read(path), VOLUME)


def test_one_slice_is_a_volume_of_one(tmp_path):
    path = by_hand(tmp_path / "v.nii", VOLUME[:1], dim=(2, 5, 4, 0, 0, 0, 0, 0))
    assert read(path).shape == (1, 4, 5)


def test_an_extension_before_the_voxels_is_skipped(tmp_path):
    data = np.concatenate([np.zeros(8, np.int16), VOLUME.ravel()]).reshape(1, 1, -1)
    path = by_hand(tmp_path / "v.nii", data, dim=(3, 5, 4, 3, 1, 1, 1, 1), offset=368)
    assert np.array_equal(read(path), VOLUME)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"dim": (4, 5, 4, 3, 2, 1, 1, 1)}, r"dimensions \[5, 4, 3, 2\]"),
        ({"dim": (5, 5, 4, 3, 1, 3, 1, 1)}, "one volume a file"),
        ({"dim": (3, 5, 4, -3, 1, 1, 1, 1)}, "one volume"),
        ({"dim": (0, 5, 4, 3, 1, 1, 1, 1)}, "one volume"),
        ({"dim": (99, 5, 4, 3, 1, 1, 1, 1)}, "one volume"),
        ({"dim": (3, 32767, 32767, 32767, 1, 1, 1, 1)}, "bytes"),
        ({"dim": (3, 5, 4, 4, 1, 1, 1, 1)}, "bytes"),
        ({"code": 128, "bits": 24}, r"real numbers, found the datatype 128"),
        ({"code": 32, "bits": 64}, r"datatype 32"),
        ({"code": 1}, "real numbers, found the datatype 1"),
        ({"code": 9999}, "damage"),
        ({"offset": 0}, "behind the header"),
        ({"offset": -9000}, "behind the header"),
        ({"offset": np.nan}, "behind the header"),
        ({"offset": np.inf}, "behind the header"),
        ({"offset": 4000}, "bytes"),
        ({"magic": b"ni1\0"}, "pair of .hdr and .img"),
        ({"magic": b"\0\0\0\0"}, "found b'"),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
def test_headers_that_cannot_be_are_refused(tmp_path, how, message, name):
    with pytest.raises(Refused, match=rf"^{name}: expected .*{message}"):
        read(by_hand(tmp_path / name, **how))


def test_bytes_behind_the_voxels_are_told(tmp_path):
    assert (
        "7 bytes follow" in header(by_hand(tmp_path / "v.nii", tail=bytes(7))).warnings[0]
    )


def test_a_compressed_file_with_more_than_its_voxels_is_refused(tmp_path):
    with pytest.raises(Refused, match="once decompressed, found more"):
        read(by_hand(tmp_path / "v.nii.gz", tail=bytes(10)))


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    """A few bytes cannot hold the 8 GiB of a header, 8 GiB never are asked for."""
    path = by_hand(tmp_path / "v.nii.gz", dim=(3, 2000, 2000, 1000, 1, 1, 1, 1))
    with pytest.raises(Refused, match="that cannot hold them"):
        header(path)


@pytest.mark.parametrize("share", [0.1, 0.6, 0.95])
@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
def test_a_file_cut_off_is_refused(tmp_path, name, share):
    noise = np.random.default_rng(0).integers(0, 9999, (9, 20, 20)).astype(np.int16)
    content = by_hand(tmp_path / name, noise).read_bytes()
    (tmp_path / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(Refused, match=rf"^{name}: expected .* found .*; "):
        read(tmp_path / name)


def test_a_compressed_file_with_a_flipped_bit_is_refused(tmp_path):
    content = bytearray(by_hand(tmp_path / "v.nii.gz").read_bytes())
    content[-6] ^= 1  # in its checksum
    (tmp_path / "v.nii.gz").write_bytes(content)
    with pytest.raises(Refused, match="damage"):
        read(tmp_path / "v.nii.gz")


def test_slabs_in_order_decompress_once(tmp_path, monkeypatch):
    """The places asked for only grow, so nothing is decompressed twice."""
    places = []
    real = nifti.compressed.read_array
    monkeypatch.setattr(
        nifti.compressed,
        "read_array",
        lambda stream, *rest: (
            places.append((stream.tell(), rest[-1])) or real(stream, *rest)
        ),
    )
    with open_source(by_hand(tmp_path / "v.nii.gz")) as source:
        for z in range(3):
            source.read(slice(z, z + 1))
    assert [before for before, _ in places[1:]] == [wanted for _, wanted in places[1:]]


def test_without_nibabel_the_refusal_says_what_to_install(tmp_path, monkeypatch):
    path = by_hand(tmp_path / "v.nii")
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(Refused, match=r"v\.nii: expected the library nibabel"):
        read(path)


def test_a_damaged_header_is_read_or_refused(tmp_path):
    content = by_hand(tmp_path / "v.nii", rows=STRAIGHT).read_bytes()
    random = np.random.default_rng(3)
    for _ in range(200):
        damaged = bytearray(content)
        for place in random.integers(0, 352, 3):
            damaged[place] = random.integers(256)
        (tmp_path / "v.nii").write_bytes(damaged)
        with contextlib.suppress(Refused):
            assert read(tmp_path / "v.nii").size
    assert os.listdir(tmp_path) == ["v.nii"]


def test_a_row_that_tells_the_voxel_size_is_enough(tmp_path):
    source = header(by_hand(tmp_path / "v.nii", units=0), voxel_nm="4")
    assert (source.voxel_nm, source.warnings) == ((4, 4, 4), [])
