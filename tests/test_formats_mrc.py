"""What is special about MRC; files are written byte by byte as MRC2014 and IMOD say."""

import bz2
import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomoglean import checks
from tomoglean.formats import compressed, mrc, open_source
from tomoglean.provenance import Refused

VOLUME = np.arange(3 * 4 * 5).reshape(3, 4, 5)
MODES = {"i1": 0, "i2": 1, "f4": 2, "u2": 6, "f2": 12}
IMOD = 1146047817
PACK = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress}


def mrc_bytes(
    data,
    order="<",
    *,
    mode=None,
    shape=None,
    start=(0, 0, 0),
    grid=None,
    cell=(50.0, 40.0, 30.0),
    angles=(90.0, 90.0, 90.0),
    axes=(1, 2, 3),
    space_group=1,
    extended=b"",
    version=0,
    imod=(0, 0),
    origin=(0.0, 0.0, 0.0),
    stamp=None,
):
    """Write the words of the header at their places; sections, rows, columns of data."""
    sections, rows, columns = shape or data.shape
    mode = MODES[data.dtype.str[1:]] if mode is None else mode
    head = bytearray(1024)
    put = lambda at, kind, *values: struct.pack_into(order + kind, head, at, *values)  # noqa: E731
    put(0, "4i", columns, rows, sections, mode)
    put(16, "3i", *start)
    put(28, "3i", *(grid or (columns, rows, sections)))
    put(40, "6f", *cell, *angles)
    put(64, "3i", *axes)
    put(88, "2i", space_group, len(extended))
    put(108, "i", version)
    put(152, "2i", *imod)
    put(196, "3f", *origin)
    head[208:212] = b"MAP "
    head[212:216] = (
        {"<": b"DD\0\0", ">": b"\x11\x11\0\0"}[order] if stamp is None else stamp
    )
    voxels = data.astype(data.dtype.newbyteorder(order)).tobytes()
    return bytes(head) + extended + voxels


def write(path, *args, **kwargs):
    path.write_bytes(PACK.get(path.suffix, bytes)(mrc_bytes(*args, **kwargs)))
    return path


def header(path, **row):
    with open_source(path, row) as source:
        return source


def read(path, **row):
    with open_source(path, row) as source:
        return source.read(slice(0, source.shape[0]))


def read_ends(path):
    with open_source(path) as source:
        source.read(slice(0, 1))
        source.read(slice(source.shape[0] - 1, source.shape[0]))


# -- modes and byte order --------------------------------------------------------------


@pytest.mark.parametrize("dtype", MODES)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("packing", PACK)
def test_every_mode_in_every_order_and_packing(tmp_path, dtype, order, packing):
    data = (VOLUME - (30 if dtype != "u2" else 0)).astype(dtype)
    path = write(tmp_path / f"v.mrc{packing}", data, order, extended=b"\1" * 160)
    assert np.array_equal(read(path), data)
    assert read(path).dtype == np.dtype(dtype)
    source = header(path)
    assert (source.format, source.shape, source.warnings) == ("mrc", (3, 4, 5), [])
    assert source.voxel_nm == pytest.approx((1, 1, 1))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("stamp", [b"\0\0\0\0", b"    ", b"\x11\x11\0\0", b"DA\0\0"])
@pytest.mark.parametrize("dtype", MODES)
def test_sizes_decide_the_byte_order_where_the_stamp_does_not(
    tmp_path, order, stamp, dtype
):
    data = VOLUME.astype(dtype)
    path = write(tmp_path / "v.mrc", data, order, stamp=stamp)
    assert np.array_equal(read(path), data)
    right = {"<": b"DA\0\0", ">": b"\x11\x11\0\0"}[order]
    told = [line for line in header(path).warnings if "machine stamp" in line]
    assert len(told) == (stamp != right)


@pytest.mark.parametrize("columns", [4, 5])
@pytest.mark.parametrize("packing", PACK)
def test_four_bits_are_two_voxels_a_byte_the_low_ones_first(tmp_path, columns, packing):
    values = np.arange(3 * 4 * columns).reshape(3, 4, columns) % 16
    padded = np.pad(values, [(0, 0), (0, 0), (0, columns % 2)]).astype(np.uint8)
    stored = padded[..., ::2] + 16 * padded[..., 1::2]
    path = write(
        tmp_path / f"v.mrc{packing}", stored.astype("i1"), mode=101, shape=values.shape
    )
    assert read(path).dtype == np.uint8
    assert np.array_equal(read(path), values)
    with open_source(path) as source:
        assert np.array_equal(source.read(slice(1, 2)), values[1:2])


def test_half_bytes_in_mode_0_are_refused(tmp_path):
    path = write(tmp_path / "v.mrc", VOLUME.astype("i1"), imod=(IMOD, 17))
    with pytest.raises(Refused, match=r"^v\.mrc: expected one value a byte"):
        read(path)


@pytest.mark.parametrize("mode", [3, 16, 5, 77, -1, 102])
def test_other_modes_are_refused(tmp_path, mode):
    path = write(tmp_path / "v.mrc", VOLUME.astype("f4"), mode=mode)
    with pytest.raises(Refused, match=rf"^v\.mrc: expected an MRC mode .* mode {mode};"):
        read(path)


# -- axes ------------------------------------------------------------------------------

ORDERS = [(1, 2, 3), (1, 3, 2), (2, 1, 3), (2, 3, 1), (3, 1, 2), (3, 2, 1)]


def as_stored(volume, axes):
    """Turn (Z, Y, X) into sections, rows, columns, where axes name columns first."""
    return np.ascontiguousarray(volume.transpose([3 - axis for axis in axes[::-1]]))


@pytest.mark.parametrize("axes", ORDERS)
@pytest.mark.parametrize("packing", PACK)
def test_axes_in_every_order_are_put_right(tmp_path, axes, packing):
    data = as_stored(VOLUME.astype("i2"), axes)
    path = write(
        tmp_path / f"v.map{packing}", data, axes=axes, grid=(5, 4, 3), cell=(5.0, 8.0, 9.0)
    )
    assert np.array_equal(read(path), VOLUME)
    with open_source(path) as source:
        assert np.array_equal(source.read(slice(1, 3)), VOLUME[1:3])
        assert np.array_equal(source.read(slice(0, 1)), VOLUME[:1])
    source = header(path)
    assert source.shape == (3, 4, 5)
    assert source.voxel_nm == pytest.approx((0.3, 0.2, 0.1))
    assert len(source.notes) == (axes != (1, 2, 3))


def test_big_turned_files_must_be_decompressed_first(tmp_path, monkeypatch):
    monkeypatch.setattr(mrc, "MOST_TURNED_BYTES", 239)
    data = as_stored(VOLUME.astype("f4"), (3, 2, 1))
    assert np.array_equal(read(write(tmp_path / "v.mrc", data, axes=(3, 2, 1))), VOLUME)
    path = write(tmp_path / "v.mrc.gz", data, axes=(3, 2, 1))
    with pytest.raises(Refused, match=r"^v\.mrc\.gz: .*decompress it first"):
        read(path)


def test_a_cell_that_is_no_box_is_told(tmp_path):
    path = write(tmp_path / "v.map", VOLUME.astype("f4"), angles=(90.0, 94.3, 90.0))
    assert "94.3" in header(path).warnings[0]
    path = write(tmp_path / "w.map", VOLUME.astype("f4"), angles=(0.0, 0.0, 0.0))
    assert header(path).warnings == []


def test_a_stack_of_images_is_told(tmp_path):
    path = write(tmp_path / "v.mrc", VOLUME.astype("f4"), grid=(5, 4, 1), space_group=0)
    assert "stack of images" in header(path).warnings[0]


# -- voxel size and origin -------------------------------------------------------------


@pytest.mark.parametrize("cell", [(0.0, 0.0, 0.0), (50.0, np.nan, 30.0), (-1.0, 1.0, 1.0)])
def test_a_cell_that_is_none_gives_no_voxel_size(tmp_path, cell):
    assert (
        header(write(tmp_path / "v.mrc", VOLUME.astype("f4"), cell=cell)).voxel_nm is None
    )


def test_a_grid_of_no_voxels_gives_no_voxel_size(tmp_path):
    path = write(tmp_path / "v.mrc", VOLUME.astype("f4"), grid=(0, 4, 3))
    assert header(path).voxel_nm is None


def test_the_grid_may_be_larger_than_the_map(tmp_path):
    path = write(tmp_path / "v.mrc", VOLUME.astype("f4"), grid=(100, 80, 60))
    assert header(path).voxel_nm == pytest.approx((0.05, 0.05, 0.05))


@pytest.mark.parametrize("share", [1.004, 1.2])
def test_nearly_equal_edges_are_equal_for_the_check(tmp_path, share):
    path = write(tmp_path / "v.mrc", VOLUME.astype("f4"), cell=(50.0, 40.0, 30.0 * share))
    told = checks.check({"path": str(path)})["messages"]
    assert bool(told) == (share > 1.01)


def test_the_origin_is_in_angstrom_and_x_y_z(tmp_path):
    path = write(tmp_path / "v.mrc", VOLUME.astype("f4"), origin=(10.0, -20.0, 30.0))
    assert header(path).origin_nm == pytest.approx((3, -2, 1))


@pytest.mark.parametrize(
    ("flags", "version", "sign"),
    [
        (0, 0, -1),
        (1, 0, -1),
        (9, 7, -1),
        (4, 0, 1),
        (13, 0, 1),
        (0, 20140, 1),
        (9, 20141, 1),
        (4, 20140, 1),
    ],
)
def test_the_origin_of_imod_has_the_other_sign_unless_flag_or_version_say_so(
    tmp_path, flags, version, sign
):
    path = write(
        tmp_path / "v.mrc",
        VOLUME.astype("f4"),
        origin=(10.0, -20.0, 0.0),
        imod=(IMOD, flags),
        version=version,
    )
    found = header(path).origin_nm
    assert found == pytest.approx((0, -2 * sign, sign))
    assert not np.signbit(found[0])


def test_the_flags_count_only_with_the_stamp_of_imod(tmp_path):
    path = write(
        tmp_path / "v.mrc", VOLUME.astype("f4"), origin=(10.0, 0.0, 0.0), imod=(7, 0)
    )
    assert header(path).origin_nm == pytest.approx((0, 0, 1))


@pytest.mark.parametrize("axes", ORDERS)
def test_without_an_origin_the_start_of_the_grid_counts_in_order_of_storage(tmp_path, axes):
    along = {1: 7, 2: -8, 3: 9}  # voxels along x, y, z
    path = write(
        tmp_path / "v.map",
        as_stored(VOLUME.astype("f4"), axes),
        axes=axes,
        grid=(5, 4, 3),
        cell=(5.0, 8.0, 9.0),
        start=tuple(along[axis] for axis in axes),
    )
    assert header(path).origin_nm == pytest.approx((2.7, -1.6, 0.7))


def test_the_origin_goes_before_the_start_of_the_grid(tmp_path):
    path = write(
        tmp_path / "v.mrc", VOLUME.astype("f4"), origin=(10.0, 0.0, 0.0), start=(5, 5, 5)
    )
    assert header(path).origin_nm == pytest.approx((0, 0, 1))


@pytest.mark.parametrize("origin", [(np.nan, 0.0, 0.0), (np.inf, 1.0, 0.0)])
def test_an_origin_that_is_no_number_is_none(tmp_path, origin):
    path = write(tmp_path / "v.mrc", VOLUME.astype("f4"), origin=origin)
    assert header(path).origin_nm == (0, 0, 0)


# -- the size of the file --------------------------------------------------------------


@pytest.mark.parametrize("packing", PACK)
def test_a_file_that_is_too_short_is_refused(tmp_path, packing):
    path = tmp_path / f"v.mrc{packing}"
    content = mrc_bytes(VOLUME.astype("f4"))
    for end in (0, 500, 1024, 1100, len(content) - 1):
        path.write_bytes(PACK[packing](content[:end]))
        with pytest.raises(Refused, match=rf"^v\.mrc{packing}: expected .* found .*; "):
            read(path)


@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize("extra", [1, 79])
def test_a_few_bytes_too_many_are_told(tmp_path, packing, extra):
    path = tmp_path / f"v.mrc{packing}"
    path.write_bytes(PACK[packing](mrc_bytes(VOLUME.astype("f4")) + b"\0" * extra))
    with open_source(path) as source:
        assert np.array_equal(source.read(slice(0, 3)), VOLUME)
        assert np.array_equal(source.read(slice(0, 3)), VOLUME)
    assert source.warnings == [
        f"{path.name}: {extra} bytes follow the voxels and are ignored"
    ]


@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize("shape", [(2, 4, 5), (3, 4, 2), (1, 1, 1)])
def test_a_header_that_leaves_sections_over_lies(tmp_path, packing, shape):
    path = write(tmp_path / f"v.mrc{packing}", VOLUME.astype("f4"), shape=shape)
    with pytest.raises(Refused, match=r"room for at least one section more"):
        read(path)


@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize("shape", [(4, 4, 5), (60000, 60000, 60000), (0, 4, 5), (3, -4, 5)])
def test_a_header_that_promises_too_much_is_refused(tmp_path, packing, shape):
    path = write(tmp_path / f"v.mrc{packing}", VOLUME.astype("f4"), shape=shape)
    with pytest.raises(Refused, match=rf"^v\.mrc{packing}: expected"):
        read_ends(path)


@pytest.mark.parametrize("size", [-1, 2**31 - 1, 241])
@pytest.mark.parametrize("packing", PACK)
def test_a_lying_extended_header_is_refused(tmp_path, size, packing):
    content = bytearray(mrc_bytes(VOLUME.astype("f4")))
    content[92:96] = struct.pack("<i", size)
    path = tmp_path / f"v.mrc{packing}"
    path.write_bytes(PACK[packing](bytes(content)))
    with pytest.raises(Refused, match=rf"^v\.mrc{packing}: expected"):
        read(path)


# -- compressed ------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["mrc", "rec", "map", "ccp4"])
@pytest.mark.parametrize("packing", [".gz", ".bz2", ".GZ"])
def test_compressed_files_are_told_by_their_ending(tmp_path, ending, packing):
    path = tmp_path / f"v.{ending}{packing}"
    path.write_bytes(PACK[packing.lower()](mrc_bytes(VOLUME.astype("f4"))))
    assert header(path).format == "mrc"
    assert np.array_equal(read(path), VOLUME)


def test_a_file_that_is_decompressed_already_is_read_as_it_is(tmp_path):
    (tmp_path / "v.map.gz").write_bytes(mrc_bytes(VOLUME.astype("f4")))
    assert np.array_equal(read(tmp_path / "v.map.gz"), VOLUME)


def test_a_plain_file_may_begin_like_a_compressed_one(tmp_path):
    image = np.ones((1, 1, 0x8B1F), np.int8)
    path = write(tmp_path / "v.mrc", image)
    assert path.read_bytes()[:2] == compressed.GZIP
    assert read(path).shape == (1, 1, 0x8B1F)


def test_gzip_of_several_members_is_one_file(tmp_path):
    content = mrc_bytes(VOLUME.astype("f4"))
    parts = [gzip.compress(content[:1100]), gzip.compress(content[1100:])]
    (tmp_path / "v.mrc.gz").write_bytes(b"".join(parts))
    assert np.array_equal(read(tmp_path / "v.mrc.gz"), VOLUME)


@pytest.mark.parametrize("packing", [".gz", ".bz2"])
def test_every_cut_of_a_compressed_file_is_refused(tmp_path, packing):
    path = write(tmp_path / f"v.mrc{packing}", VOLUME.astype("f4"))
    content = path.read_bytes()
    for end in range(0, len(content), 7):
        path.write_bytes(content[:end])
        with pytest.raises(Refused, match=rf"^v\.mrc{packing}: expected"):
            read(path)


@pytest.mark.parametrize("packing", [".gz", ".bz2"])
def test_a_flipped_bit_in_compressed_voxels_is_found(tmp_path, packing):
    path = write(tmp_path / f"v.mrc{packing}", VOLUME.astype("f4"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(Refused, match=rf"^v\.mrc{packing}: expected"):
        read(path)


@pytest.mark.parametrize("packing", [".gz", ".bz2"])
def test_slabs_in_order_decompress_a_file_once(tmp_path, packing, monkeypatch):
    data = np.random.default_rng(0).integers(-99, 99, (60, 64, 65)).astype("i2")
    path = write(tmp_path / f"v.mrc{packing}", data)
    wanted = []
    monkeypatch.setattr(compressed, "BLOCK", 1 << 14)
    with compressed.opened(path) as stream:

        class Watched:
            def seek(self, place):
                wanted.append((stream.tell(), place))
                return stream.seek(place)

            def readinto(self, view):
                return stream.readinto(view)

        for z in range(60):
            found = compressed.read_array(
                Watched(), "v", (1, 64, 65), np.dtype("<i2"), 1024 + z * 64 * 65 * 2
            )
            assert np.array_equal(found[0], data[z])
    assert all(before <= place for before, place in wanted)
    with open_source(path) as source:
        parts = [source.read(slice(z, z + 4)) for z in range(0, 60, 4)]
        assert np.array_equal(np.concatenate(parts), data)
        assert np.array_equal(source.read(slice(7, 9)), data[7:9])


def test_a_bomb_is_not_unpacked(tmp_path):
    """Behind the voxels lie 64 MiB of zeros, of which one section at most is looked at."""
    content = mrc_bytes(VOLUME.astype("f4"))
    bomb = gzip.compress(content + b"\0" * (1 << 26), compresslevel=1)
    (tmp_path / "v.mrc.gz").write_bytes(bomb)
    with compressed.opened(tmp_path / "v.mrc.gz") as stream:
        assert compressed.left_over(stream, len(content), 80) == 80
        assert stream.tell() < len(content) + 100
    with pytest.raises(Refused, match="one section more"):
        read(tmp_path / "v.mrc.gz")


@given(
    columns=st.integers(1, 9),
    rows=st.integers(1, 5),
    sections=st.integers(1, 5),
    dtype=st.sampled_from(sorted(MODES)),
    order=st.sampled_from("<>"),
    axes=st.sampled_from(ORDERS),
    packing=st.sampled_from(sorted(PACK)),
    start=st.integers(0, 4),
)
def test_any_file_gives_the_voxels_it_was_made_of(
    tmp_path_factory, columns, rows, sections, dtype, order, axes, packing, start
):
    volume = (np.arange(sections * rows * columns) % 100).reshape(sections, rows, columns)
    path = tmp_path_factory.mktemp("m") / f"v.rec{packing}"
    write(path, as_stored(volume.astype(dtype), axes), order, axes=axes)
    begin = min(start, sections - 1)
    with open_source(path) as source:
        assert np.array_equal(source.read(slice(begin, sections)), volume[begin:])


# -- real files ------------------------------------------------------------------------

REAL = {
    "awkward_formats/EMD-3001.map": ((73, 25, 43), (0.045875, 0.03925, 0.044825)),
    "awkward_formats/test_image_membrane.rec": ((16, 16, 16), (1.97333, 1.97333, 1.97333)),
    "em_maps/EMD-3197.map": ((20, 20, 20), (1.14, 1.14, 1.14)),
    "em_maps/4v4r.mrc": ((66, 66, 66), (1, 1, 1)),
}
ORIGINS = {
    "awkward_formats/EMD-3001.map": (0, -12 * 0.03925, -21 * 0.044825),
    "awkward_formats/test_image_membrane.rec": (-70.05333, 1064.8699, 799.5946),
    "em_maps/EMD-3197.map": (0, 0, -2.28),
    "em_maps/4v4r.mrc": (-33, -33, -33),
}
SAME = {
    "awkward_formats/EMD-3001.map": "awkward_formats/EMD-3001.map.bz2",
    "em_maps/EMD-3197.map": "em_maps/emd_3197.map.gz",
}


@pytest.mark.skipif("TOMOGLEAN_DATA" not in os.environ, reason="TOMOGLEAN_DATA is not set")
class TestReal:
    folder = Path(os.environ.get("TOMOGLEAN_DATA", ""))

    @pytest.mark.parametrize("name", REAL)
    def test_sizes_and_origins(self, name):
        source = header(self.folder / name)
        assert (source.shape, source.voxel_nm) == (
            REAL[name][0],
            pytest.approx(REAL[name][1], rel=1e-4),
        )
        assert source.origin_nm == pytest.approx(ORIGINS[name], rel=1e-4)

    @pytest.mark.parametrize("name", SAME)
    def test_a_compressed_copy_has_the_same_voxels(self, name):
        assert np.array_equal(read(self.folder / name), read(self.folder / SAME[name]))

    def test_turned_voxels_are_those_that_the_bytes_hold(self):
        path = self.folder / "awkward_formats" / "EMD-3001.map"
        stored = np.frombuffer(path.read_bytes(), "<f4", offset=1184).reshape(25, 43, 73)
        assert np.array_equal(read(path), np.einsum("yxz->zyx", stored))
