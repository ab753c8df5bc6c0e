"""AmiraMesh: headers as Amira writes them, packed by hand."""

import zlib

import numpy as np
import pytest

from tomoglean.formats import amira, open_source
from tomoglean.provenance import Refused

VOLUME = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
HEADER = """# {first}


define Lattice {sizes}

Parameters {{
    Units {{
        Coordinates "{unit}"
    }}
    {more}
    Content "5x4x3 {kind}, uniform coordinates",
    BoundingBox {box},
    CoordType "{coordinates}"
}}

Lattice {{ {kind} {name} }} {at}

# Data section follows
@1
"""
MATERIALS = """Materials {
        Exterior {
            Color 0.1 0.2 0.3,
            Id 1
        }
        "residual metal" { Id 3 }
        Bone { Color 1 0 0, Id 2, Group { Deep 1 } }
    }
    History { Other { Id 9 } }"""
LITTLE = "AmiraMesh BINARY-LITTLE-ENDIAN 2.1"


def mesh(path, data, **told):
    """Write a header and the bytes behind it."""
    names = {"first": LITTLE, "sizes": "5 4 3", "unit": "nm", "more": "", "kind": "byte"}
    names |= {"box": "0 8 10 19 -4 0", "coordinates": "uniform", "name": "Data", "at": "@1"}
    path.write_bytes(HEADER.format(**(names | told)).encode() + data)
    return path


def runs(volume, longest=127):
    """Pack bytes: a run where a value repeats, or else single bytes as they are."""
    flat, packed, place = volume.tobytes(), bytearray(), 0
    while place < len(flat):
        end = place
        while end < len(flat) and flat[end] == flat[place] and end - place < longest:
            end += 1
        if end - place > 1:
            packed += bytes([end - place, flat[place]])
        else:
            packed += bytes([129, flat[place]])
        place = end
    return bytes(packed)


def rle(path, volume, packed=None, **told):
    packed = runs(volume) if packed is None else packed
    sizes = "{2} {1} {0}".format(*volume.shape)
    told = {"at": f"@1(HxByteRLE,{len(packed)})", "sizes": sizes, **told}
    return mesh(path, packed + b"\n", **told)


def read(path, **row):
    with open_source(path, row) as source:
        return source.read(slice(0, source.shape[0]))


def header(path, **row):
    with open_source(path, row) as source:
        return source


@pytest.fixture
def every_packing(tmp_path):
    packed = zlib.compress(VOLUME.tobytes())
    text = "\n".join(map(str, VOLUME.ravel())).encode() + b"\n"
    return {
        "plain": mesh(tmp_path / "plain.am", VOLUME.tobytes()),
        "rle": rle(tmp_path / "rle.am", VOLUME),
        "zip": mesh(tmp_path / "zip.am", packed, at=f"@1(HxZip,{len(packed)})"),
        "ascii": mesh(tmp_path / "ascii.am", text, first="AmiraMesh 3D ASCII 2.0"),
    }


PACKINGS = ["plain", "rle", "zip", "ascii"]


@pytest.mark.parametrize("name", PACKINGS)
def test_every_packing_gives_the_same_voxels(every_packing, name):
    with open_source(every_packing[name]) as source:
        assert (source.shape, source.dtype, source.format) == ((3, 4, 5), np.uint8, "amira")
        assert np.array_equal(source.read(slice(1, 3)), VOLUME[1:])
        assert np.array_equal(source.read(slice(0, 1)), VOLUME[:1])
        assert np.array_equal(source.read(slice(2, 3)), VOLUME[2:])
        assert source.warnings == []


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("short", "i2"), ("ushort", "u2"), ("int", "i4"), ("float", "f4"), ("double", "f8")],
)
@pytest.mark.parametrize(
    ("first", "order"),
    [
        (LITTLE, "<"),
        ("AmiraMesh 3D BINARY 2.0", ">"),
        ("Avizo BINARY-LITTLE-ENDIAN 2.1", "<"),
    ],
)
def test_types_and_byte_orders(tmp_path, kind, dtype, first, order):
    data = (VOLUME * 3.0 - 7).astype(order + dtype)
    path = mesh(tmp_path / "v.am", data.tobytes(), kind=kind, first=first)
    assert np.array_equal(read(path), data)
    assert header(path).dtype == np.dtype(dtype)


def test_older_and_newer_words_of_the_header(tmp_path):
    path = mesh(tmp_path / "v.am", VOLUME.tobytes(), at="= @1")
    assert np.array_equal(read(path), VOLUME)


def test_voxel_size_and_origin_from_the_bounding_box(tmp_path):
    """From centre to centre: 5 voxels over 8, 4 over 9, 3 over 4 (x, y, z)."""
    source = header(mesh(tmp_path / "v.am", VOLUME.tobytes(), unit="µm"))
    assert source.voxel_nm == (2000, 3000, 2000)
    assert source.origin_nm == (-4000, 10000, 0)


@pytest.mark.parametrize(
    "how", [{"unit": "furlong"}, {"unit": ""}, {"box": "0 8 0"}], ids=str
)
def test_a_voxel_size_not_known_is_told(tmp_path, how):
    source = header(mesh(tmp_path / "v.am", VOLUME.tobytes(), **how))
    assert source.voxel_nm is None
    assert "voxel size is not known" in source.warnings[0]


def test_a_box_of_nothing_is_no_voxel_size(tmp_path):
    path = mesh(tmp_path / "v.am", VOLUME.tobytes(), box="0 8 10 10 -4 0")
    assert header(path).voxel_nm is None


def test_names_of_materials_in_their_order(tmp_path):
    path = rle(tmp_path / "v.am", VOLUME, more=MATERIALS, name="Labels")
    assert header(path).materials == {0: "Exterior", 1: "residual metal", 2: "Bone"}


def test_a_grey_volume_has_no_materials(tmp_path):
    assert header(mesh(tmp_path / "v.am", VOLUME.tobytes())).materials == {}


@pytest.mark.parametrize("longest", [1, 2, 127])
def test_run_lengths_of_any_kind(tmp_path, longest):
    labels = np.repeat(np.random.default_rng(0).integers(0, 9, 300), 7).astype(np.uint8)
    labels = labels.reshape(3, 20, 35)
    path = rle(tmp_path / "v.am", labels, runs(labels, longest))
    assert np.array_equal(read(path), labels)


def test_runs_across_the_blocks_they_are_read_in(tmp_path, monkeypatch):
    monkeypatch.setattr(amira, "BLOCK", 7)
    labels = np.repeat(np.arange(60, dtype=np.uint8), 5).reshape(3, 10, 10)
    for longest in (1, 5):
        path = rle(tmp_path / "v.am", labels, runs(labels, longest))
        assert np.array_equal(read(path), labels)
    packed = zlib.compress(labels.tobytes())
    told = {"at": f"@1(HxZip,{len(packed)})", "sizes": "10 10 3"}
    assert np.array_equal(read(mesh(tmp_path / "v.am", packed, **told)), labels)


def test_longer_numbers_across_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(amira, "BLOCK", 7)
    data = (VOLUME * 1.5).astype(">f4")
    packed = zlib.compress(data.tobytes())
    told = {"first": "AmiraMesh 3D BINARY 2.0", "kind": "float"}
    path = mesh(tmp_path / "v.am", packed, at=f"@1(HxZip,{len(packed)})", **told)
    assert np.array_equal(read(path), data)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"first": "PLY ascii 1.0"}, "an AmiraMesh header"),
        ({"kind": "float[3]"}, r"found float\[3\]"),
        ({"kind": "complex"}, "found complex"),
        ({"coordinates": "rectilinear"}, "rectilinear coordinates"),
        ({"sizes": "5 4 0"}, "cannot hold them"),
        ({"sizes": "5 4 4"}, "bytes"),
        ({"sizes": "99999 99999 99999"}, "bytes"),
        ({"sizes": "5 4"}, "uniform lattice"),
        ({"sizes": "5 4 -3"}, "uniform lattice"),
        ({"at": "@2"}, "an AmiraMesh header"),
        ({"at": "@1(HxByteRLE,999999)"}, "in 999999"),
        ({"at": "@1(HxMagic,10)"}, "HxMagic"),
        ({"at": "@1(HxByteRLE,60)", "kind": "short"}, "bytes packed by HxByteRLE"),
        ({"at": "@1(HxZip,60)"}, "damage"),
    ],
    ids=str,
)
def test_headers_that_cannot_be_are_refused(tmp_path, how, message):
    with pytest.raises(Refused, match=rf"^v\.am: expected .*{message}"):
        read(mesh(tmp_path / "v.am", VOLUME.tobytes(), **how))


def test_a_header_without_end_is_read_no_further(tmp_path):
    path = tmp_path / "v.am"
    path.write_bytes(b"# AmiraMesh ASCII 2.0\n" + b"Parameters {\n" * 300_000)
    with pytest.raises(Refused, match="an AmiraMesh header"):
        read(path)


@pytest.mark.parametrize("name", PACKINGS)
def test_a_file_cut_off_is_refused(every_packing, name):
    path = every_packing[name]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(Refused, match=rf"^{path.name}: expected .* found .*; "):
        read(path)


@pytest.mark.parametrize("name", ["rle", "zip", "ascii"])
def test_more_voxels_than_declared_are_refused(every_packing, name):
    path = every_packing[name]
    path.write_bytes(path.read_bytes().replace(b"5 4 3", b"5 4 2"))
    with pytest.raises(Refused, match="expected 40 voxels, found more"):
        read(path)


def test_runs_that_inflate_without_end_are_never_held_whole(tmp_path):
    """Of 64 MiB of runs only the declared voxels are ever made."""
    path = rle(tmp_path / "v.am", VOLUME, b"\x7f\x01" * (1 << 19))
    with pytest.raises(Refused, match="expected 60 voxels, found more"):
        read(path)


def test_a_bomb_of_zlib_is_never_held_whole(tmp_path):
    packed = zlib.compress(bytes(1 << 26))
    path = mesh(tmp_path / "v.am", packed, at=f"@1(HxZip,{len(packed)})")
    with pytest.raises(Refused, match="expected 60 voxels, found more"):
        read(path)


@pytest.mark.parametrize("word", [b"nan?", b"1e999x", b"\xff"])
def test_words_that_are_no_numbers_are_refused(tmp_path, word):
    text = b" ".join([word] + [b"1"] * 59)
    path = mesh(tmp_path / "v.am", text, first="AmiraMesh ASCII 1.0", kind="float")
    with pytest.raises(Refused, match="damage"):
        read(path)


def test_a_row_that_tells_the_voxel_size_is_enough(tmp_path):
    source = header(mesh(tmp_path / "v.am", VOLUME.tobytes(), unit=""), voxel_nm="4")
    assert (source.voxel_nm, source.warnings) == ((4, 4, 4), [])
