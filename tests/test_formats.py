import json
import os
import struct
from pathlib import Path

import h5py
import mrcfile
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tomoglean import formats
from tomoglean.formats import Source, open_source, slices
from tomoglean.formats.moments import Moments
from tomoglean.formats.source import parse_shape, parse_triple
from tomoglean.provenance import Refused

VOLUME = np.arange(3 * 4 * 5, dtype=np.uint16).reshape(3, 4, 5)


def read(path, **row):
    with open_source(path, row) as source:
        return source.read(slice(0, source.shape[0]))


def header(path, **row) -> Source:
    with open_source(path, row) as source:
        return source


def complaint(path, **row):
    """Return the refusal, "" if there is none."""
    try:
        read(path, **row)
    except Refused as refusal:
        return str(refusal)
    return ""


def write_mrc(path, data, voxel_angstrom=10.0):
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(data)
        file.voxel_size = voxel_angstrom
    return path


def patched(path, offset, data):
    content = bytearray(path.read_bytes())
    content[offset : offset + len(data)] = data
    path.write_bytes(content)
    return path


def write_raw(path, data, head=b""):
    path.write_bytes(head + data.tobytes())
    return path


def write_slices(folder, names, volume=VOLUME):
    folder.mkdir()
    for name, image in zip(names, volume, strict=True):
        if name.endswith("png"):
            Image.fromarray(image.astype(np.uint8)).save(folder / name)
        else:
            tifffile.imwrite(folder / name, image)
    return folder


@pytest.fixture
def every_format(tmp_path):
    """One volume in every format, with the row it needs."""
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["entry/data"] = VOLUME
    tifffile.imwrite(tmp_path / "v.tif", VOLUME, photometric="minisblack")
    return {
        "mrc": (write_mrc(tmp_path / "v.mrc", VOLUME), {}),
        "tiff": (tmp_path / "v.tif", {}),
        "hdf5": (tmp_path / "v.h5", {}),
        "raw": (
            write_raw(tmp_path / "v.raw", VOLUME),
            {"shape": "3,4,5", "dtype": "uint16"},
        ),
        "slices": (write_slices(tmp_path / "v", ["1.tif", "2.tif", "3.tif"]), {}),
    }


FORMATS = ["mrc", "tiff", "hdf5", "raw", "slices"]


# -- what all formats share ------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_voxels(every_format, name):
    path, row = every_format[name]
    assert np.array_equal(read(path, **row), VOLUME)


@pytest.mark.parametrize("name", FORMATS)
def test_a_slab_is_the_slab_of_the_volume(every_format, name):
    path, row = every_format[name]
    with open_source(path, row) as source:
        assert np.array_equal(source.read(slice(1, 3)), VOLUME[1:3])


@pytest.mark.parametrize("name", FORMATS)
def test_shape_dtype_and_format_are_known_without_reading(every_format, name):
    path, row = every_format[name]
    source = header(path, **row)
    assert (source.shape, source.dtype, source.format) == ((3, 4, 5), np.uint16, name)


def test_every_format_is_found_by_itself():
    found = {reader.__name__.rpartition(".")[2] for reader in formats.readers()}
    assert found >= set(FORMATS)


def test_the_reader_of_a_file_yet_to_be_made_is_known():
    reader = formats.reader_of("results/simulated/minicell/mini-01.mrc")
    assert reader.__name__ == "tomoglean.formats.mrc"


def test_an_unknown_ending_is_refused_with_the_known_formats(tmp_path):
    (tmp_path / "v.xyz").write_text("voxels")
    with pytest.raises(Refused, match=r"v\.xyz: expected one of .*MRC.*'\.xyz'"):
        read(tmp_path / "v.xyz")


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "slices"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9])
def test_a_file_cut_off_is_refused(every_format, name, share):
    path, row = every_format[name]
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(Refused, match=rf"^{path.name}: expected .* found .*; "):
        read(path, **row)


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "slices"])
def test_a_text_file_is_refused(every_format, name):
    path, row = every_format[name]
    path.write_text("<html>404 not found</html>\n" * 60)
    with pytest.raises(Refused, match=rf"^{path.name}: expected"):
        read(path, **row)


@pytest.mark.parametrize("ending", ["mrc", "tif", "h5"])
def test_a_git_lfs_pointer_says_what_to_do(tmp_path, ending):
    path = tmp_path / f"v.{ending}"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(Refused, match="git lfs pull"):
        read(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(Refused, match=r"none\.mrc: expected a file or folder"):
        read(tmp_path / "none.mrc")


@pytest.mark.parametrize("row", [{"shape": "3,5,4"}, {"dtype": "int16"}, {"shape": "3,4"}])
@pytest.mark.parametrize("name", ["mrc", "tiff", "hdf5", "slices"])
def test_a_file_must_be_what_its_row_says(every_format, name, row):
    path, own = every_format[name]
    with pytest.raises(Refused, match="correct the row"):
        read(path, **{**own, **row})


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    name=st.sampled_from(["mrc", "tiff", "hdf5"]),
    bites=st.lists(st.tuples(st.integers(0, 299), st.integers(0, 255)), max_size=3),
)
def test_a_damaged_header_is_read_or_refused_but_never_crashes(every_format, name, bites):
    path, row = every_format[name]
    content = path.read_bytes()
    damaged = bytearray(content)
    for place, value in bites:
        damaged[place] = value
    mutant = path.with_name(f"mutant{path.suffix}")
    mutant.write_bytes(damaged)
    message = complaint(mutant, **row)
    assert message == "" or message.startswith("mutant")
    assert "\n" not in message


def test_messages_name_the_file_but_not_its_folder(tmp_path):
    path = tmp_path / "v.png"
    path.write_bytes(b"no png at all")
    with pytest.raises(Refused) as refusal:
        read(path)
    assert str(tmp_path) not in str(refusal.value)


# -- voxel size ------------------------------------------------------------------------


def test_the_voxel_size_of_the_table_goes_first_and_differences_are_told(tmp_path):
    source = header(write_mrc(tmp_path / "v.mrc", VOLUME, 10.0), voxel_nm="2")
    assert source.voxel_nm == (2, 2, 2)
    assert len(source.warnings) == 1
    assert "1, 1, 1" in source.warnings[0]


def test_a_difference_below_one_percent_is_no_difference(tmp_path):
    source = header(write_mrc(tmp_path / "v.mrc", VOLUME, 10.0), voxel_nm="1.009")
    assert source.warnings == []


def test_three_voxel_edges_are_z_y_x(tmp_path):
    path = write_mrc(tmp_path / "v.mrc", VOLUME, (10.0, 20.0, 30.0))
    assert header(path).voxel_nm == pytest.approx((3, 2, 1))
    assert header(path, voxel_nm="3,2,1").warnings == []


def test_nobody_knows_the_voxels_of_a_bare_tiff(every_format):
    assert header(every_format["tiff"][0]).voxel_nm is None


@pytest.mark.parametrize("text", ["0", "-1", "1,2", "1,2,3,4", "a", "inf", "nan", ""])
def test_lengths_that_are_none_are_refused(text):
    with pytest.raises(Refused, match="one or three positive numbers"):
        parse_triple(text, "v.mrc: voxel_nm")


@pytest.mark.parametrize("text", ["4", "1.5,2,3", "0,1,1"])
def test_shapes_that_are_none_are_refused(text):
    with pytest.raises(Refused, match=r"v\.raw: shape"):
        parse_shape(text, "v.raw: shape")


# -- MRC -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint16", "float16", "float32", ">f4"])
def test_mrc_keeps_its_dtype_in_native_byte_order(tmp_path, dtype):
    path = write_mrc(tmp_path / "v.mrc", VOLUME.astype(dtype))
    found = read(path)
    assert found.dtype == np.dtype(dtype).newbyteorder("=")
    assert np.array_equal(found, VOLUME)


def test_mrc_axes_in_another_order_are_put_right(tmp_path):
    stored = VOLUME.transpose(1, 2, 0)  # sections y, rows x, columns z
    path = write_mrc(tmp_path / "v.mrc", np.ascontiguousarray(stored))
    patched(path, 64, struct.pack("<iii", 3, 1, 2))
    assert np.array_equal(read(path), VOLUME)
    assert "another order" in header(path).notes[0]


def test_mrc_axes_that_are_no_order_are_refused(tmp_path):
    path = patched(write_mrc(tmp_path / "v.mrc", VOLUME), 64, struct.pack("<iii", 1, 1, 2))
    with pytest.raises(Refused, match="mapc, mapr, maps"):
        read(path)


def test_imod_bytes_are_unsigned_where_its_flag_says_so(tmp_path):
    path = write_mrc(tmp_path / "v.mrc", np.full((1, 2, 2), -56, np.int8))
    patched(path, 152, struct.pack("<ii", 1146047817, 0))
    assert read(path).tolist() == [[[200, 200], [200, 200]]]
    assert "unsigned" in header(path).warnings[0]


def test_imod_bytes_are_signed_where_its_flag_says_so(tmp_path):
    path = write_mrc(tmp_path / "v.mrc", np.full((1, 2, 2), -56, np.int8))
    assert read(patched(path, 152, struct.pack("<ii", 1146047817, 1))).min() == -56


def test_mrc_voxel_size_zero_is_unknown(tmp_path):
    assert header(write_mrc(tmp_path / "v.mrc", VOLUME, 0)).voxel_nm is None


def test_mrc_extended_header_is_skipped(tmp_path):
    path = tmp_path / "v.mrc"
    with mrcfile.new(path) as file:
        file.set_data(VOLUME)
        file.set_extended_header(np.frombuffer(b"\x01" * 4096, "V4096"))
    assert np.array_equal(read(path), VOLUME)


def test_bytes_after_the_voxels_are_told(tmp_path):
    path = write_mrc(tmp_path / "v.mrc", VOLUME)
    path.write_bytes(path.read_bytes() + b"\0" * 7)
    assert "7 bytes follow" in header(path).warnings[0]


@pytest.mark.parametrize(
    ("offset", "value"), [(0, -5), (8, 4), (8, 2**31 - 1), (12, 77), (88, 501), (92, -9000)]
)
def test_mrc_headers_that_cannot_be_are_refused(tmp_path, offset, value):
    path = write_mrc(tmp_path / "v.mrc", VOLUME)
    with pytest.raises(Refused, match=r"^v\.mrc: expected"):
        read(patched(path, offset, struct.pack("<i", value)))


# -- TIFF ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how",
    [
        {"byteorder": ">"},
        {"bigtiff": True, "tile": (16, 16)},
        {"compression": "zlib", "predictor": True},
        {"compression": "lzw"},
        {"rowsperstrip": 1},
    ],
    ids=str,
)
def test_tiff_of_all_kinds(tmp_path, how):
    tifffile.imwrite(tmp_path / "v.tif", VOLUME, photometric="minisblack", **how)
    assert np.array_equal(read(tmp_path / "v.tif"), VOLUME)


def test_tiff_pages_written_one_by_one_are_one_volume(tmp_path):
    with tifffile.TiffWriter(tmp_path / "v.tif") as file:
        for page in VOLUME:
            file.write(page, contiguous=False)
    assert np.array_equal(read(tmp_path / "v.tif"), VOLUME)


@pytest.mark.parametrize(
    "odd", [VOLUME[1, :, :4], VOLUME[1].astype(np.uint8)], ids=["shape", "dtype"]
)
def test_tiff_pages_that_differ_are_refused(tmp_path, odd):
    with tifffile.TiffWriter(tmp_path / "v.tif") as file:
        for page in (VOLUME[0], odd, VOLUME[2]):
            file.write(page, contiguous=False)
    with pytest.raises(Refused, match="one shape and dtype"):
        read(tmp_path / "v.tif")


def test_two_time_points_are_refused(tmp_path):
    both = np.stack([VOLUME, VOLUME])
    tifffile.imwrite(tmp_path / "v.tif", both, imagej=True, metadata={"axes": "TZYX"})
    with pytest.raises(Refused, match="TZYX"):
        read(tmp_path / "v.tif")


def test_one_bit_becomes_uint8(tmp_path):
    mask = VOLUME > 20
    tifffile.imwrite(tmp_path / "v.tif", mask, photometric="minisblack")
    assert read(tmp_path / "v.tif").dtype == np.uint8
    assert np.array_equal(read(tmp_path / "v.tif"), mask)


def test_imagej_tells_the_voxel_size(tmp_path):
    tifffile.imwrite(
        tmp_path / "v.tif",
        VOLUME,
        imagej=True,
        resolution=(0.5, 0.25),
        metadata={"spacing": 3.0, "unit": "micron", "axes": "ZYX"},
    )
    assert header(tmp_path / "v.tif").voxel_nm == pytest.approx((3000, 4000, 2000))


def test_printer_resolution_is_no_voxel_size(tmp_path):
    tifffile.imwrite(tmp_path / "v.tif", VOLUME[0], resolution=(300, 300))
    assert header(tmp_path / "v.tif").voxel_nm is None


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"photometric": "miniswhite"}, "0 as white"),
        ({"resolution": (100, 50), "photometric": "minisblack"}, "not square"),
    ],
)
def test_oddities_of_tiff_are_told(tmp_path, how, message):
    tifffile.imwrite(tmp_path / "v.tif", VOLUME, **how)
    assert message in header(tmp_path / "v.tif").warnings[0]


def test_equal_channels_are_grey(tmp_path):
    grey = VOLUME.astype(np.uint8)
    tifffile.imwrite(tmp_path / "v.tif", np.stack([grey] * 3, -1), photometric="rgb")
    assert np.array_equal(read(tmp_path / "v.tif"), grey)


def test_planar_colours_are_colours(tmp_path):
    colours = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)
    tifffile.imwrite(
        tmp_path / "v.tif", colours, photometric="rgb", planarconfig="separate"
    )
    with open_source(tmp_path / "v.tif") as source:
        found = source.read_colours(slice(0, 2))
    assert np.array_equal(found, np.moveaxis(colours, 1, -1))


def test_a_palette_is_looked_up(tmp_path):
    palette = np.zeros((3, 256), np.uint16)
    palette[:, 1] = 7 << 8
    page = np.eye(4, dtype=np.uint8)
    tifffile.imwrite(tmp_path / "v.tif", page, photometric="palette", colormap=palette)
    assert np.array_equal(read(tmp_path / "v.tif")[0], 7 * page)


def test_colours_are_no_grey_values(tmp_path):
    colours = np.zeros((2, 4, 5, 3), np.uint8)
    colours[1, 2, 3] = (255, 0, 0)
    tifffile.imwrite(tmp_path / "v.tif", colours, photometric="rgb")
    with pytest.raises(Refused, match="expected grey values, found colours"):
        read(tmp_path / "v.tif")


# -- slices ----------------------------------------------------------------------------


def test_slices_without_leading_zeros_come_in_numeric_order(tmp_path):
    volume = np.arange(12, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 2), np.uint8)
    write_slices(tmp_path / "v", [f"s{number}.tif" for number in range(1, 13)], volume)
    source = header(tmp_path / "v")
    assert np.array_equal(read(tmp_path / "v"), volume)
    assert (source.z, source.first) == (None, 1)


def test_a_missing_slice_is_named(tmp_path):
    write_slices(tmp_path / "v", ["s_0004.tif", "s_0005.tif", "s_0007.tif"])
    with pytest.raises(Refused, match=r"found none with the number 6"):
        read(tmp_path / "v")


def test_spacing_makes_a_sparse_set_legal(tmp_path):
    write_slices(tmp_path / "v", ["s0000.tif", "s0050.tif", "s0100.tif"])
    assert header(tmp_path / "v", spacing="50").z.tolist() == [0, 50, 100]


def test_without_spacing_the_refusal_says_which_it_would_be(tmp_path):
    write_slices(tmp_path / "v", ["s0000.tif", "s0050.tif", "s0100.tif"])
    with pytest.raises(Refused, match=r"column spacing \(50\)"):
        read(tmp_path / "v")


def test_a_gap_in_a_sparse_set_is_a_gap(tmp_path):
    write_slices(tmp_path / "v", ["s0000.tif", "s0050.tif", "s0150.tif"])
    with pytest.raises(Refused, match="number 100"):
        read(tmp_path / "v", spacing="50")


def test_any_spacing_allows_any_gap(tmp_path):
    write_slices(tmp_path / "v", ["s3.png", "s4.png", "s9.png"])
    assert header(tmp_path / "v", spacing="any").z.tolist() == [3, 4, 9]


@pytest.mark.parametrize("spacing", ["0", "-1", "x", "1.5"])
def test_spacing_is_a_whole_number(tmp_path, spacing):
    write_slices(tmp_path / "v", ["s0.tif", "s1.tif", "s2.tif"])
    with pytest.raises(Refused, match="spacing as a whole number"):
        read(tmp_path / "v", spacing=spacing)


def test_the_number_is_where_names_differ(tmp_path):
    names = [f"scan3_{number:04d}_bin2.tif" for number in (7, 8, 9)]
    assert list(slices.number(write_slices(tmp_path / "v", names))) == [7, 8, 9]


def test_other_files_are_passed_over(tmp_path):
    write_slices(tmp_path / "v", ["1.tif", "2.tif", "3.tif"])
    (tmp_path / "v" / "reco.log").write_text("eff_pixel_size 2.4")
    (tmp_path / "v" / ".hidden.tif").write_text("")
    assert np.array_equal(read(tmp_path / "v"), VOLUME)


@pytest.mark.parametrize(
    "names",
    [
        ["a1.tif", "b2.tif", "a3.tif"],
        ["1.tif", "2.png", "3.tif"],
        ["1_1.tif", "1_2.tif", "2_1.tif"],
        ["1.tif", "01.tif", "2.tif"],
        ["a.tif", "b.tif", "c.tif"],
    ],
    ids=str,
)
def test_more_than_one_series_in_a_folder_is_refused(tmp_path, names):
    with pytest.raises(Refused, match="one series"):
        read(write_slices(tmp_path / "v", names))


@pytest.mark.parametrize("odd", ["broken link", "pipe", "folder"])
def test_slices_that_are_no_files_are_refused_and_not_opened(tmp_path, odd):
    folder = write_slices(tmp_path / "v", ["1.tif", "2.tif", "3.tif"])
    make = {
        "broken link": lambda path: path.symlink_to("gone.tif"),
        "pipe": os.mkfifo,
        "folder": lambda path: path.mkdir(),
    }
    make[odd](folder / "4.tif")
    with pytest.raises(Refused, match=r"^4\.tif: expected a slice, found no file"):
        header(folder)


def test_an_empty_folder_is_refused(tmp_path):
    (tmp_path / "v").mkdir()
    with pytest.raises(Refused, match="found none in the folder"):
        read(tmp_path / "v")


def test_slices_that_differ_are_refused_by_name(tmp_path):
    write_slices(tmp_path / "v", ["1.tif", "2.tif", "3.tif"])
    tifffile.imwrite(tmp_path / "v" / "2.tif", VOLUME[1, :, :3])
    with pytest.raises(Refused, match=r"^2\.tif: expected a slice like the first"):
        read(tmp_path / "v")


def test_a_damaged_slice_is_named(tmp_path):
    write_slices(tmp_path / "v", ["1.png", "2.png", "3.png"])
    (tmp_path / "v" / "2.png").write_bytes(b"nothing")
    with pytest.raises(Refused, match=r"^2\.png: expected"):
        read(tmp_path / "v")


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA"])
def test_png_of_all_kinds(tmp_path, mode):
    page = np.array([[0, 255], [255, 0]], np.uint8)
    Image.fromarray(page).convert(mode).save(tmp_path / "v.png")
    assert np.array_equal(read(tmp_path / "v.png")[0] > 0, page > 0)


def test_png_of_sixteen_bits(tmp_path):
    page = np.array([[0, 60000], [1, 2]], np.uint16)
    Image.fromarray(page).save(tmp_path / "v.png")
    assert np.array_equal(read(tmp_path / "v.png")[0], page)


# -- raw -------------------------------------------------------------------------------


def test_raw_with_header_and_big_endian(tmp_path):
    path = write_raw(tmp_path / "v.raw", VOLUME.astype(">u2"), head=b"0123456")
    row = {"shape": "3,4,5", "dtype": "uint16", "byte_order": "big", "header_bytes": "7"}
    assert np.array_equal(read(path, **row), VOLUME)
    assert header(path, **row).dtype.isnative


@pytest.mark.parametrize("extra", [-1, 1])
def test_raw_size_must_fit_exactly(tmp_path, extra):
    path = write_raw(tmp_path / "v.raw", VOLUME)
    path.write_bytes((path.read_bytes() + b"\0")[: VOLUME.nbytes + extra])
    with pytest.raises(Refused, match=f"expected {VOLUME.nbytes} bytes"):
        read(path, shape="3,4,5", dtype="uint16")


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"shape": "3,4,5"},
        {"dtype": "uint16"},
        {"shape": "3,4,5", "dtype": "object"},
        {"shape": "3,4,5", "dtype": "voxels"},
        {"shape": "3,4,5", "dtype": "uint16", "byte_order": "middle"},
        {"shape": "3,4,5", "dtype": "uint16", "header_bytes": "-1"},
        {"shape": "999999999,999999999,999999999", "dtype": "uint16"},
    ],
    ids=str,
)
def test_raw_needs_a_full_declaration(tmp_path, row):
    with pytest.raises(Refused, match=r"^v\.raw: expected"):
        read(write_raw(tmp_path / "v.raw", VOLUME), **row)


# -- moments ---------------------------------------------------------------------------


@given(st.lists(st.lists(st.integers(0, 10**6), max_size=5), min_size=1, max_size=5))
def test_moments_in_parts_are_those_of_the_whole(parts):
    moments = Moments()
    for part in parts:
        moments.add(np.array(part))
    everything = np.concatenate([np.array(part, float) for part in parts])
    assert moments.count == everything.size
    if everything.size:
        assert moments.mean == pytest.approx(everything.mean())
        assert moments.std == pytest.approx(everything.std(), abs=1e-6)


# -- real files ------------------------------------------------------------------------

REAL = {
    "awkward_formats/EMD-3001.map": ((73, 25, 43), "float32"),
    "awkward_formats/HAADFscan.mrc": ((1, 16, 16), "uint16"),
    "awkward_formats/electrode.tiff": ((256, 256, 256), "uint8"),
    "awkward_formats/test_blob_detect.rec": ((27, 32, 22), "int8"),
    "awkward_formats/test_image_membrane.rec": ((16, 16, 16), "int16"),
    "awkward_formats/tilt_stack.mrc": ((4, 240, 232), "float32"),
    "cryoet_microtubule/13pf_MT.tif": ((36, 206, 94), "uint8"),
    "isbi2012_sstem/images": ((20, 512, 512), "uint8"),
    "sandstone_xrm/images": ((6, 1024, 996), "uint8"),
}


@pytest.mark.skipif("TOMOGLEAN_DATA" not in os.environ, reason="TOMOGLEAN_DATA is not set")
@pytest.mark.parametrize("name", REAL)
def test_real_files_open(name):
    path = Path(os.environ["TOMOGLEAN_DATA"]) / name
    row = {"spacing": "50"} if "sandstone" in name else {}
    with open_source(path, row) as source:
        assert (source.shape, str(source.dtype)) == REAL[name]
        assert source.read(slice(0, 1)).shape == (1, *source.shape[1:])


def test_json_can_hold_what_a_source_says(every_format):
    source = header(every_format["mrc"][0])
    assert json.loads(json.dumps([source.shape, source.voxel_nm])) == [
        [3, 4, 5],
        [1.0, 1.0, 1.0],
    ]
