"""TIFF and slices: what tags claim, what viewers show, what bombs hold."""

import lzma
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from tomoglean.formats import open_source, slices, tags
from tomoglean.formats.lengths import in_nm
from tomoglean.provenance import Refused

VOLUME = np.arange(3 * 4 * 5, dtype=np.uint16).reshape(3, 4, 5)
PAGE = np.arange(20, dtype=np.uint8).reshape(4, 5)
OME = '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{}</OME>'
PIXELS = '<Image ID="Image:0"><Pixels ID="Pixels:0" {}><TiffData/></Pixels></Image>'


def read(path, **row):
    with open_source(path, row) as source:
        return source.read(slice(0, source.shape[0]))


def header(path, **row):
    with open_source(path, row) as source:
        return source


def written(tmp_path, data=VOLUME, **how):
    path = tmp_path / "v.tif"
    tifffile.imwrite(path, data, **{"photometric": "minisblack", **how})
    return path


def tiff(path, *pages, order="<", big=False, links=None):
    """Write a TIFF byte by byte.

    A page is a dict of tags; under "strips" its list of strips. `links` are the numbers
    of the page that follows each page.
    """
    word, small = ("Q", "Q") if big else ("I", "H")
    start = struct.pack(order + "HHHQ", 43, 8, 0, 0) if big else struct.pack("<H", 42)
    if not big:
        start = struct.pack(order + "HI", 42, 0)
    body = bytearray((b"II" if order == "<" else b"MM") + start)
    places = []
    for page in pages:
        page = dict(page)
        strips = page.pop("strips", [PAGE.tobytes()])
        offsets = []
        for strip in strips:
            offsets.append(len(body))
            body += strip
        entries = {256: 5, 257: 4, 258: 8, 259: 1, 262: 1, 277: 1}
        entries |= {273: offsets, 279: [len(strip) for strip in strips]} | page
        entries = {code: value for code, value in entries.items() if value is not None}
        packed = []
        for code, value in sorted(entries.items()):
            values = value if isinstance(value, list) else [value]
            data = struct.pack(f"{order}{len(values)}{word}", *values)
            if len(values) > 1:
                data, place = struct.pack(order + word, len(body)), data
                body += place
            kind = 16 if big else 4
            packed.append(struct.pack(f"{order}HH{word}", code, kind, len(values)) + data)
        places.append(len(body))
        body += struct.pack(order + small, len(packed)) + b"".join(packed)
        body += struct.pack(order + word, 0)
    links = links or [*range(1, len(pages)), None]
    ends = [
        place
        + struct.calcsize("<" + small)
        + (20 if big else 12) * _entries(body, place, order + small)
        for place in places
    ]
    for end, link in zip(ends, links, strict=True):
        target = 0 if link is None else places[link]
        body[end : end + struct.calcsize("<" + word)] = struct.pack(order + word, target)
    body[8 if big else 4 : 16 if big else 8] = struct.pack(order + word, places[0])
    path.write_bytes(body)
    return path


def _entries(body, place, kind):
    return struct.unpack_from(kind, body, place)[0]


# -- what the tags must be -------------------------------------------------------------


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_file_made_by_hand_is_read(tmp_path, order, big):
    path = tiff(tmp_path / "v.tif", {}, {}, order=order, big=big)
    assert np.array_equal(read(path), np.stack([PAGE, PAGE]))


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(
    ("page", "message"),
    [
        ({256: 6}, "plain strips of 24 bytes, found 20"),
        ({257: 3}, "plain strips of 15 bytes, found 20"),
        ({258: 16}, "plain strips of 40 bytes, found 20"),
        ({279: 19}, "plain strips of 20 bytes, found 19"),
        ({278: 2}, "2 strips or tiles a page, found 1"),
        ({273: [16, 36], 279: [20, 20]}, "1 numbers in tag 273, found 2"),
        ({273: 2}, "in the header"),
        ({273: None}, "1 strips or tiles a page, found 0"),
        ({273: 10**6}, "cut off"),
        ({256: 0}, "edges"),
        ({257: 0}, "edges"),
        ({258: 0}, "0 bits"),
        ({258: [8, 16], 277: 2}, "samples of one size"),
        ({277: 0}, "samples a pixel"),
        ({277: 1000}, "samples a pixel, found 1000"),
        ({256: 2**31, 257: 2**31}, "at most 256 MiB"),
        ({256: 2**31, 257: 2**31, 258: 1}, "at most 256 MiB"),
        ({32997: 7}, "a page of pixels"),
        ({322: 2**31, 323: 2**31}, "at most 256 MiB"),
        ({322: 0, 323: 16}, "edges"),
        ({259: 7}, "number 7; save it without loss"),
        ({259: 99}, "number 99"),
    ],
    ids=str,
)
def test_tags_that_cannot_be_are_refused(tmp_path, page, message, big):
    path = tiff(tmp_path / "v.tif", page, big=big)
    with pytest.raises(Refused, match=rf"^v\.tif: expected .*{message}"):
        read(path)


def test_strips_that_overlap_are_refused(tmp_path):
    path = tiff(tmp_path / "v.tif", {}, {273: 8 + 10})
    with pytest.raises(Refused, match="some that overlap"):
        read(path)


def test_many_pages_of_the_same_strip_are_refused(tmp_path):
    path = tiff(tmp_path / "v.tif", {}, {273: 8})
    with pytest.raises(Refused, match="some that overlap"):
        read(path)


def test_a_strip_over_the_tags_is_refused(tmp_path):
    path = tiff(tmp_path / "v.tif", {273: 20})
    with pytest.raises(Refused, match="some that overlap"):
        read(path)


def test_an_empty_strip_was_never_written(tmp_path):
    path = tiff(tmp_path / "v.tif", {259: 8, "strips": [b"", b""], 278: 2})
    with pytest.raises(Refused, match="every strip written"):
        read(path)


def test_a_circle_of_pages_is_refused(tmp_path):
    path = tiff(tmp_path / "v.tif", {}, {}, links=[1, 0])
    with pytest.raises(Refused, match="directories one after another"):
        read(path)


def test_more_pages_than_anybody_has_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tags, "MOST_PAGES", 3)
    assert read(tiff(tmp_path / "v.tif", *[{}] * 3)).shape == (3, 4, 5)
    with pytest.raises(Refused, match="at most 3 pages"):
        read(tiff(tmp_path / "v.tif", *[{}] * 4))


def test_more_strips_than_anybody_has_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tags, "MOST_SEGMENTS", 5)
    with pytest.raises(Refused, match="at most 5 strips"):
        read(written(tmp_path, rowsperstrip=2))


def test_a_tag_beyond_the_end_is_refused(tmp_path):
    path = tiff(tmp_path / "v.tif", {})
    content = bytearray(path.read_bytes())
    place = content.index(struct.pack("<HHII", 258, 4, 1, 8))
    content[place + 4 : place + 8] = struct.pack("<I", 2**31)
    path.write_bytes(content)
    with pytest.raises(Refused, match=r"tags within \d+ bytes"):
        read(path)


def test_a_tag_given_twice_is_refused(tmp_path):
    path = tiff(tmp_path / "v.tif", {})
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack("<H", 257) + b"\4", b"\0\1\4", 1))
    with pytest.raises(Refused, match="every tag once"):
        read(path)


@pytest.mark.parametrize("how", [{}, {"tile": (16, 16)}, {"compression": "zlib"}], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_directory_is_no_other_volume(tmp_path, how, seed):
    """A directory with one byte changed is refused, or read with the same shape."""
    path = written(tmp_path, metadata=None, **how)
    content = path.read_bytes()
    random, same = np.random.default_rng(seed), 0
    for _ in range(40):
        damaged = bytearray(content)
        damaged[random.integers(8, 120)] = random.integers(256)
        path.write_bytes(damaged)
        try:
            with open_source(path) as source:
                assert source.shape[0] * source.shape[1] * source.shape[2] in (20, 40, 60)
                same += source.shape == VOLUME.shape
        except Refused:
            pass
    assert same < 40


# -- bombs -----------------------------------------------------------------------------


def deflated(size):
    """Deflate so many zeros in no time: one packed MiB, over and over (RFC 1950, 1951)."""
    packer = zlib.compressobj(9, wbits=-15)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    rest = packer.compress(bytes(size % (1 << 20))) + packer.flush()
    checksum = struct.pack(">HH", size % 65521, 1)
    return b"\x78\xda" + block * (size >> 20) + rest + checksum


def test_the_bombs_hold_what_they_claim():
    assert zlib.decompress(deflated((3 << 20) + 5)) == bytes((3 << 20) + 5)


def bomb_page(path):
    side = 1 << 15
    return tiff(path, {256: side, 257: side, 259: 8, "strips": [deflated(side * side)]})


def bomb_pages(path):
    strips = [deflated(1 << 24)]
    return tiff(path, *[{256: 4096, 257: 4096, 259: 8, "strips": strips}] * 64)


def bomb_page_below_the_total(path):
    edges = {256: 1 << 14, 257: 1 << 14}
    return tiff(path, {**edges, 259: 8, "strips": [deflated(1 << 28)]})


def bomb_strip(path):
    return tiff(path, {259: 8, "strips": [deflated(1 << 30)]})


def bomb_lzma(path):
    side = 1 << 13
    strip = lzma.compress(bytes(side * side))
    pages = [{256: side, 257: side, 259: 34925, "strips": [strip]}] * 16
    return tiff(path, *pages)


def bomb_directories(path):
    count = 10**6
    offsets = 8 + 18 * np.arange(count, dtype="<u4")
    table = np.zeros(count, [("n", "<u2"), ("entry", "V12"), ("next", "<u4")])
    table["n"], table["next"][:-1] = 1, offsets[1:]
    path.write_bytes(b"II*\0\x08\0\0\0" + table.tobytes())
    return path


def bomb_png(path):
    """Write a PNG that claims 16000 x 11000 and holds that many zeros."""
    path = path.with_suffix(".png")

    def chunk(kind, data):
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    wide, high = 16_000, 11_000
    head = struct.pack(">IIBBBBB", wide, high, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", head) + chunk(b"IDAT", deflated((3 * wide + 1) * high))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data + chunk(b"IEND", b""))
    return path


BOMBS = [
    *(bomb_page, bomb_pages, bomb_page_below_the_total, bomb_strip, bomb_lzma),
    *(bomb_directories, bomb_png),
]
OPEN = """
import re, sys
from pathlib import Path
from tomoglean.formats import open_source
from tomoglean.provenance import Refused
for path in sys.argv[1:]:
    try:
        with open_source(path) as source:
            source.read(slice(0, source.shape[0]))
        print("read", path)
    except Refused as refusal:
        print(refusal)
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) >> 10)
"""


def test_bombs_are_refused_below_512_mib(tmp_path):
    paths = [bomb(tmp_path / f"{bomb.__name__}.tif") for bomb in BOMBS]
    run = subprocess.run(
        [sys.executable, "-c", OPEN, *map(str, paths)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
    )
    *lines, mebibytes = run.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == [path.name for path in paths]
    assert int(mebibytes) < 512


def test_a_label_volume_compresses_well_and_is_no_bomb(tmp_path):
    labels = np.zeros((2, 4096, 4096), np.uint8)
    labels[1, 7] = 1
    path = written(tmp_path, labels, compression="zlib", compressionargs={"level": 9})
    assert labels.nbytes > tags.MOST_RATIO * path.stat().st_size
    assert read(path).sum() == 4096


# -- what the values mean --------------------------------------------------------------


@pytest.mark.parametrize("how", [{}, {"compression": "zlib"}, {"tile": (16, 16)}], ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_white_as_zero_is_turned_round(tmp_path, how, dtype):
    path = written(tmp_path, VOLUME.astype(dtype), photometric="miniswhite", **how)
    assert np.array_equal(read(path), np.iinfo(dtype).max - VOLUME.astype(dtype))
    assert header(path).dtype == dtype
    assert "turned round" in header(path).warnings[0]


def test_white_as_zero_is_turned_round_as_pillow_does(tmp_path):
    written(tmp_path, PAGE, photometric="miniswhite")
    with Image.open(tmp_path / "v.tif") as image:
        assert np.array_equal(read(tmp_path / "v.tif")[0], np.asarray(image))


def test_one_bit_with_white_as_zero(tmp_path):
    path = written(tmp_path, VOLUME > 20, photometric="miniswhite")
    assert np.array_equal(read(path), VOLUME <= 20)


def test_floats_with_white_as_zero_are_kept(tmp_path):
    path = written(tmp_path, VOLUME.astype(np.float32), photometric="miniswhite")
    assert np.array_equal(read(path), VOLUME)
    assert "are kept" in header(path).warnings[0]


@pytest.mark.parametrize("compression", ["zlib", "lzw", "packbits", "lzma", "zstd"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, ">u2"])
def test_compressions_without_loss(tmp_path, compression, dtype):
    order = ">" if np.dtype(dtype).str[0] == ">" else "<"
    path = written(tmp_path, VOLUME.astype(dtype), compression=compression, byteorder=order)
    assert np.array_equal(read(path), VOLUME)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floating_point_predictor(tmp_path, dtype):
    data = VOLUME.astype(dtype) / 3
    assert np.array_equal(
        read(written(tmp_path, data, compression="zlib", predictor=3)), data
    )


def test_tiles_that_reach_over_the_edge(tmp_path):
    data = np.arange(2 * 35 * 37, dtype=np.uint16).reshape(2, 35, 37)
    path = written(tmp_path, data, tile=(16, 32), compression="zlib", predictor=True)
    assert np.array_equal(read(path), data)


def test_many_strips_a_page(tmp_path):
    data = np.arange(2 * 35 * 37, dtype=np.uint16).reshape(2, 35, 37)
    path = written(tmp_path, data, rowsperstrip=4, compression="lzw")
    assert np.array_equal(read(path), data)


# -- ImageJ ----------------------------------------------------------------------------


def imagej(tmp_path, resolution=(0.5, 0.25), **told):
    how = {"imagej": True, "resolution": resolution, "photometric": None}
    return written(tmp_path, metadata={"axes": "ZYX", **told}, **how)


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("nm", 1), ("micron", 1e3), ("um", 1e3), ("\\u00B5m", 1e3), ("mm", 1e6), ("A", 0.1)],
)
def test_units_of_imagej(tmp_path, unit, factor):
    path = imagej(tmp_path, unit=unit, spacing=3.0)
    assert header(path).hint_nm == pytest.approx((3 * factor, 4 * factor, 2 * factor))


@pytest.mark.parametrize("unit", ["pixel", "inch", "", "furlong"])
def test_units_that_are_none(tmp_path, unit):
    assert header(imagej(tmp_path, unit=unit, spacing=3.0)).voxel_nm is None


@pytest.mark.parametrize("spacing", [{}, {"spacing": 0.0}, {"spacing": -2.0}])
def test_without_a_spacing_z_is_unknown(tmp_path, spacing):
    source = header(imagej(tmp_path, unit="nm", **spacing))
    assert source.hint_nm == pytest.approx((np.nan, 4, 2), nan_ok=True)
    assert source.voxel_nm is None


def test_a_resolution_of_nothing_is_none(tmp_path):
    path = imagej(tmp_path, unit="nm", spacing=3.0)
    content = path.read_bytes()
    place = content.index(struct.pack("<HHI", 282, 5, 1)) + 8
    (place,) = struct.unpack_from("<I", content, place)
    path.write_bytes(content[:place] + bytes(8) + content[place + 8 :])
    assert header(path).voxel_nm is None


def test_display_range_leaves_values_alone(tmp_path):
    assert np.array_equal(read(imagej(tmp_path, min=5.0, max=9.0)), VOLUME)


def test_the_origin_of_imagej_is_counted_in_voxels(tmp_path):
    path = imagej(tmp_path, unit="nm", spacing=3.0, zorigin=-10.0, xorigin=4.0)
    assert header(path).origin_nm == pytest.approx((30, 0, -8))


def test_pages_that_imagej_counted_must_be_there(tmp_path):
    path = imagej(tmp_path, unit="nm")
    path.write_bytes(path.read_bytes().replace(b"images=3", b"images=2"))
    with pytest.raises(Refused, match=r"^v\.tif: expected"):
        read(path)


# -- OME-TIFF --------------------------------------------------------------------------


def ome(tmp_path, pixels, **how):
    text = OME.format(PIXELS.format(pixels))
    return written(tmp_path, description=text, metadata=None, **how)


SIZES = 'SizeX="5" SizeY="4" SizeZ="3" SizeC="1" SizeT="1" Type="uint16"'


def test_ome_tells_the_voxel_size(tmp_path):
    edges = 'PhysicalSizeX="0.002" PhysicalSizeY="30" PhysicalSizeYUnit="Å"'
    edges += ' PhysicalSizeZ="4" PhysicalSizeZUnit="nm"'
    text = OME.format(PIXELS.format(f"{SIZES} {edges}")).encode()
    path = written(tmp_path, description=text, metadata=None)
    assert header(path).voxel_nm == pytest.approx((4, 3, 2))
    assert np.array_equal(read(path), VOLUME)


def test_ome_written_by_tifffile_is_read(tmp_path):
    told = {"axes": "ZYX", "PhysicalSizeX": 2.0, "PhysicalSizeXUnit": "nm"}
    path = tmp_path / "v.ome.tif"
    tifffile.imwrite(path, VOLUME, ome=True, metadata=told)
    assert header(path).hint_nm == pytest.approx((np.nan, np.nan, 2), nan_ok=True)
    assert np.array_equal(read(path), VOLUME)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('SizeZ="3"', 'SizeZ="4"'), "the 4 pages of its description"),
        (('SizeT="1"', 'SizeT="3"'), "3 time points"),
        (('SizeC="1"', 'SizeC="2"'), "2 channels"),
        (('SizeC="1"', 'SizeC="x"'), "damage"),
    ],
)
def test_ome_of_another_stack_is_refused(tmp_path, change, message):
    with pytest.raises(Refused, match=message):
        read(ome(tmp_path, SIZES.replace(*change)))


def test_two_images_in_one_ome_file_are_refused(tmp_path):
    text = OME.format(PIXELS.format(SIZES) * 2)
    with pytest.raises(Refused, match="found 2; write"):
        read(written(tmp_path, description=text, metadata=None))


def test_entities_in_ome_are_refused(tmp_path):
    laughs = '<!DOCTYPE OME [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>'
    text = laughs + OME.format(PIXELS.format(SIZES))[21:]
    with pytest.raises(Refused, match="a DOCTYPE"):
        read(written(tmp_path, description=text, metadata=None))


def test_files_that_ome_names_are_never_opened(tmp_path):
    other = tmp_path / "secret.tif"
    tifffile.imwrite(other, VOLUME + 1, photometric="minisblack")
    data = '<TiffData FirstZ="{}"><UUID FileName="secret.tif">urn:uuid:1</UUID></TiffData>'
    pixels = "".join(data.format(z) for z in range(3))
    text = OME.format(PIXELS.format(SIZES).replace("<TiffData/>", pixels))
    path = written(tmp_path, description=text, metadata=None)
    assert np.array_equal(read(path), VOLUME)


@pytest.mark.parametrize(
    ("unit", "expected"),
    [("µm", 1e3), ("\u03bcm", 1e3), ("Micron", 1e3), ("angstrom", 0.1), (None, np.nan)],
)
def test_lengths(unit, expected):
    assert in_nm(unit) == pytest.approx(expected, nan_ok=True)


# -- slices ----------------------------------------------------------------------------


def test_opening_a_folder_opens_one_slice_only(tmp_path, monkeypatch):
    for number in range(12):
        tifffile.imwrite(tmp_path / f"s{number}.tif", PAGE)
    opened = []
    real = slices.tiff.open_file
    monkeypatch.setattr(
        slices.tiff, "open_file", lambda path, row: opened.append(path) or real(path, row)
    )
    with open_source(tmp_path) as source:
        assert opened == [tmp_path / "s0.tif"]
        source.read(slice(4, 6))
    assert [path.name for path in opened[1:]] == ["s4.tif", "s5.tif"]


def test_what_is_odd_about_slices_is_told(tmp_path):
    (tmp_path / "v").mkdir()
    for number in range(2):
        path = tmp_path / "v" / f"{number}.tif"
        tifffile.imwrite(path, PAGE, photometric="miniswhite")
    source = header(tmp_path / "v")
    assert "0.tif: stored with 0 as white" in source.warnings[0]
    assert np.array_equal(read(tmp_path / "v")[1], 255 - PAGE)


def test_every_slice_is_turned_round_for_itself(tmp_path):
    (tmp_path / "v").mkdir()
    for number, sense in enumerate(["minisblack", "miniswhite"]):
        path = tmp_path / "v" / f"{number}.tif"
        tifffile.imwrite(path, PAGE, photometric=sense)
    assert np.array_equal(read(tmp_path / "v"), np.stack([PAGE, 255 - PAGE]))


# -- real files ------------------------------------------------------------------------

REAL = {
    "awkward_formats/electrode.tiff": ((256, 256, 256), "uint8", None),
    "bone_lhdl": ((150, 200, 200), "uint8", None),
    "concrete_xray/concrete_x-ray-bin16.tif": ((100, 100, 100), "uint16", None),
    "cryoet_microtubule/13pf_MT.tif": ((36, 206, 94), "uint8", (1.052, 1.052, 1.052)),
    "isbi2012_sstem/images": ((20, 512, 512), "uint8", None),
    "isbi2012_sstem/labels": ((20, 512, 512), "uint8", None),
    "sandstone_xrm/images": ((6, 1024, 996), "uint8", (np.nan, 2231.45, 2231.45)),
    "sbem_mito/images": ((8, 1024, 1024), "uint8", None),
    "sbem_mito/labels": ((8, 1024, 1024), "uint8", None),
    "vnc_sstem/stack1/raw": ((14, 1024, 1024), "uint8", None),
    "vnc_sstem/stack1/membranes": ((14, 1024, 1024), "uint8", None),
    "vnc_sstem/stack2/raw": ((4, 1024, 1024), "uint8", None),
}


@pytest.mark.skipif("TOMOGLEAN_DATA" not in os.environ, reason="TOMOGLEAN_DATA is not set")
@pytest.mark.parametrize("name", REAL)
def test_real_sets_are_read_whole(name):
    path = Path(os.environ["TOMOGLEAN_DATA"]) / name
    row = {"spacing": "50"} if "sandstone" in name else {}
    shape, dtype, edges = REAL[name]
    with open_source(path, row) as source:
        assert (source.shape, str(source.dtype)) == (shape, dtype)
        found = source.hint_nm
        assert found == pytest.approx(edges or (np.nan,) * 3, nan_ok=True, rel=1e-4)
        for z in range(shape[0]):
            assert source.read(slice(z, z + 1)).max() > 0
