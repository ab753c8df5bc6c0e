"""OME-Zarr: what others wrote, what nobody wrote, and what we write ourselves."""

import gzip
import json
import math
import os
import shutil
import zlib

import numcodecs
import numpy as np
import pytest
import zarr
from numcodecs import Blosc

from tomoglean.formats import omezarr, open_source, pyramids, reader_of, zarrays
from tomoglean.formats.source import Source
from tomoglean.provenance import Refused

VOLUME = np.arange(3 * 4 * 5, dtype=np.uint16).reshape(3, 4, 5)


def read(path, **row):
    with open_source(path, row) as source:
        return source.read(slice(0, source.shape[0]))


def header(path, **row):
    with open_source(path, row) as source:
        return source


def scale(*values):
    return {"type": "scale", "scale": list(values)}


def translation(*values):
    return {"type": "translation", "translation": list(values)}


def axes(names, unit="nanometer"):
    kinds = {"t": "time", "c": "channel"}
    told = [{"name": name, "type": kinds.get(name, "space")} for name in names]
    return [
        axis | ({"unit": unit} if axis["name"] in "zyx" and unit else {}) for axis in told
    ]


def multiscale(names="zyx", unit="nanometer", paths=("0",), steps=None, **more):
    steps = steps or [scale(*[2.0] * len(names))]
    datasets = [{"path": path, "coordinateTransformations": steps} for path in paths]
    return {"axes": axes(names, unit), "datasets": datasets, **more}


def folder(path, images=None, arrays=None, version="0.4", **how):
    """Write an OME-Zarr with zarr itself: metadata, and arrays by path."""
    images = [multiscale()] if images is None else images
    two = version == "0.4"
    group = zarr.create_group(path, zarr_format=2 if two else 3, overwrite=True)
    if two:
        group.attrs.put({"multiscales": [image | {"version": version} for image in images]})
    else:
        group.attrs.put({"ome": {"version": version, "multiscales": images}})
    for name, data in (arrays or {"0": VOLUME}).items():
        settings = {"chunks": (1,) * (data.ndim - 3) + (2, 3, 2), **how}
        settings.setdefault("config", {"write_empty_chunks": True})
        group.create_array(name, data=data, **settings)
    return path


def change(path, **values):
    """Change the metadata of an array of zarr 2."""
    told = json.loads((path / "0" / ".zarray").read_text())
    (path / "0" / ".zarray").write_text(json.dumps(told | values))
    return path


@pytest.fixture
def image(tmp_path):
    return folder(tmp_path / "v.zarr")


# -- what is read ----------------------------------------------------------------------


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("names", ["zyx", "czyx", "tzyx", "tczyx"])
def test_volumes_of_others(tmp_path, names, version):
    data = VOLUME.reshape((1,) * (len(names) - 3) + VOLUME.shape)
    path = folder(tmp_path / "v.zarr", [multiscale(names)], {"0": data}, version)
    with open_source(path) as source:
        assert source.shape == (3, 4, 5)
        assert source.dtype == np.uint16
        assert source.format == "omezarr"
        assert np.array_equal(source.read(slice(1, 3)), VOLUME[1:])


@pytest.mark.parametrize("names", ["xyz", "yxz", "zxy", "xczy"])
def test_axes_in_another_order_are_put_right(tmp_path, names):
    order = ["zyx".index(name) for name in names if name in "zyx"]
    data = VOLUME.transpose(order)
    if "c" in names:
        data = np.expand_dims(data, names.index("c"))
    steps = [scale(*({"z": 5.0, "y": 3.0, "x": 2.0}.get(name, 1.0) for name in names))]
    path = folder(
        tmp_path / "v.zarr",
        [multiscale(names, steps=steps)],
        {"0": data},
        chunks=data.shape,
    )
    assert np.array_equal(read(path), VOLUME)
    assert header(path).voxel_nm == (5, 3, 2)


@pytest.mark.parametrize("dtype", ["|b1", "<i2", ">u2", "<f2", ">f4", "<f8", "|i1"])
def test_types_are_given_in_native_byte_order(tmp_path, dtype):
    data = VOLUME.astype(dtype)
    path = folder(tmp_path / "v.zarr", arrays={"0": data})
    assert np.array_equal(read(path), data)
    assert header(path).dtype.isnative


CODECS = [
    *(None, numcodecs.Zlib(), numcodecs.GZip(), numcodecs.BZ2(), numcodecs.LZMA()),
    *(numcodecs.LZ4(), numcodecs.Zstd(), Blosc("lz4"), Blosc("zstd", shuffle=2)),
]


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_every_codec_of_zarr_2(tmp_path, codec):
    path = folder(tmp_path / "v.zarr", compressors=codec, filters=None)
    assert np.array_equal(read(path), VOLUME)


@pytest.mark.parametrize("shards", [None, (4, 6, 6)])
@pytest.mark.parametrize(
    "codec",
    [None, zarr.codecs.GzipCodec(), zarr.codecs.BloscCodec(), zarr.codecs.ZstdCodec()],
)
def test_every_codec_of_zarr_3(tmp_path, codec, shards):
    path = folder(tmp_path / "v.zarr", version="0.5", compressors=codec, shards=shards)
    assert np.array_equal(read(path), VOLUME)
    with open_source(path) as source:
        assert np.array_equal(source.read(slice(2, 3)), VOLUME[2:])
        assert source.warnings == []


@pytest.mark.parametrize("dataset", ["", "1", "/1/"])
def test_the_row_names_the_level(tmp_path, dataset):
    levels = {"0": VOLUME, "1": VOLUME[:2, :2, :2] + 7}
    path = folder(tmp_path / "v.zarr", [multiscale(paths="01")], levels)
    expected = levels[dataset.strip("/") or "0"]
    assert np.array_equal(read(path, dataset=dataset), expected)


def test_the_finest_level_is_the_first_not_the_one_called_0(tmp_path):
    levels = {"0": VOLUME[:2, :2, :2], "fine": VOLUME}
    path = folder(tmp_path / "v.zarr", [multiscale(paths=["fine", "0"])], levels)
    assert header(path).shape == (3, 4, 5)


def test_a_level_that_is_not_there_is_refused_with_those_that_are(image):
    with pytest.raises(Refused, match=r"^v\.zarr: .*'7', found the levels \['0'\]"):
        read(image, dataset="7")


def test_a_label_image_below_is_named_by_its_path(image):
    folder(image / "labels" / "bone", arrays={"0": VOLUME + 1})
    assert np.array_equal(read(image, dataset="labels/bone"), VOLUME + 1)
    assert np.array_equal(read(image, dataset="labels/bone/0"), VOLUME + 1)


def test_a_bare_array_is_read_and_tells_no_voxel_size(tmp_path):
    zarr.create_array(tmp_path / "v.zarr", data=VOLUME, zarr_format=2)
    assert np.array_equal(read(tmp_path / "v.zarr"), VOLUME)
    assert header(tmp_path / "v.zarr").voxel_nm is None


def test_the_image_within_bioformats2raw(tmp_path):
    group = zarr.create_group(tmp_path / "v.zarr", zarr_format=2)
    group.attrs.put({"bioformats2raw.layout": 3})
    folder(tmp_path / "v.zarr" / "0")
    assert np.array_equal(read(tmp_path / "v.zarr"), VOLUME)
    folder(tmp_path / "v.zarr" / "1")
    with pytest.raises(Refused, match="column dataset"):
        read(tmp_path / "v.zarr")


def test_a_folder_is_known_by_what_it_holds(tmp_path):
    path = folder(tmp_path / "v")
    assert reader_of(path).FORMAT is omezarr.FORMAT
    assert np.array_equal(read(path), VOLUME)


def test_a_folder_yet_to_be_made_is_known_by_its_name(tmp_path):
    assert reader_of(tmp_path / "v.ome.zarr").FORMAT is omezarr.FORMAT


# -- voxel size and origin -------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "nm"),
    [("nanometer", 1), ("angstrom", 0.1), ("micrometer", 1e3), ("millimeter", 1e6)],
)
def test_units(tmp_path, unit, nm):
    steps = [scale(4.0, 3.0, 2.0), translation(10.0, 20.0, -30.0)]
    path = folder(tmp_path / "v.zarr", [multiscale(unit=unit, steps=steps)])
    assert header(path).voxel_nm == pytest.approx((4 * nm, 3 * nm, 2 * nm))
    assert header(path).origin_nm == pytest.approx((10 * nm, 20 * nm, -30 * nm))


@pytest.mark.parametrize("unit", [None, "parsec", "pixel"])
def test_an_unknown_unit_is_told(tmp_path, unit):
    source = header(folder(tmp_path / "v.zarr", [multiscale(unit=unit)]))
    assert source.voxel_nm is None
    assert "voxel size is not known" in source.warnings[0]


def test_the_transformation_of_the_image_follows_that_of_the_level(tmp_path):
    steps = [scale(4.0, 3.0, 2.0), translation(1.0, 2.0, 3.0)]
    whole = [scale(10.0, 10.0, 10.0), translation(5.0, 5.0, 5.0)]
    told = multiscale(steps=steps, coordinateTransformations=whole)
    source = header(folder(tmp_path / "v.zarr", [told]))
    assert source.voxel_nm == (40, 30, 20)
    assert source.origin_nm == (15, 25, 35)


@pytest.mark.parametrize(
    "step",
    [scale(1.0, 2.0), scale(0.0, 1.0, 1.0), scale(-1.0, 1.0, 1.0), {"type": "rotation"}],
    ids=str,
)
def test_a_scale_that_is_none_is_told(tmp_path, step):
    source = header(folder(tmp_path / "v.zarr", [multiscale(steps=[step])]))
    assert source.voxel_nm is None
    assert "voxel size is not known" in source.warnings[0]


# -- what nobody wrote -----------------------------------------------------------------


@pytest.mark.parametrize(("version", "chunk"), [("0.4", "0/0.0.0"), ("0.5", "0/c/0/0/0")])
def test_chunks_never_written_are_told(tmp_path, version, chunk):
    path = folder(tmp_path / "v.zarr", version=version)
    assert header(path).warnings == []
    (path / chunk).unlink()
    assert "only 11 of 12 chunks were written" in header(path).warnings[0]


def test_chunks_never_written_into_shards_are_told(tmp_path):
    data = np.array(VOLUME)
    data[:2, :3, :2] = 0
    path = folder(
        tmp_path / "v.zarr",
        *(None, {"0": data}, "0.5"),
        shards=(4, 6, 6),
        config={"write_empty_chunks": False},
    )
    assert "only 11 of 12 chunks" in header(path).warnings[0]


def test_no_chunk_at_all_is_refused(image):
    for file in (image / "0").iterdir():
        if file.name[0] != ".":
            file.unlink()
    with pytest.raises(Refused, match="expected 12 chunks in 0, found none written"):
        read(image)


def test_files_that_are_no_chunks_of_the_grid_do_not_count(image):
    (image / "0" / "0.0.0").rename(image / "0" / "9.0.0")
    (image / "0" / "0.0.0.0").write_bytes(b"")
    assert "only 11 of 12" in header(image).warnings[0]


@pytest.mark.parametrize("codec", CODECS, ids=str)
@pytest.mark.parametrize("left", [0, 1, 8, -10, -1])
def test_a_chunk_cut_off_is_refused(tmp_path, codec, left):
    image = folder(tmp_path / "v.zarr", compressors=codec, filters=None)
    chunk = image / "0" / "0.0.0"
    chunk.write_bytes(chunk.read_bytes()[:left])
    with pytest.raises(Refused, match=r"^v\.zarr: expected a readable file"):
        read(image)


# -- what cannot be one volume ---------------------------------------------------------


@pytest.mark.parametrize("names", ["czyx", "tzyx"])
def test_two_channels_or_times_are_refused(tmp_path, names):
    data = np.stack([VOLUME, VOLUME])
    path = folder(tmp_path / "v.zarr", [multiscale(names)], {"0": data})
    with pytest.raises(Refused, match=rf"found the axes {','.join(names)} with the shape"):
        read(path)


@pytest.mark.parametrize("names", ["zyy", "zy", "qyx", "tczyxx"])
def test_axes_that_are_no_volume_are_refused(tmp_path, names):
    with pytest.raises(Refused, match=r"^v\.zarr: expected"):
        read(folder(tmp_path / "v.zarr", [multiscale(names)]))


def test_another_version_is_refused(tmp_path):
    path = folder(tmp_path / "v.zarr")
    text = (path / ".zattrs").read_text()
    (path / ".zattrs").write_text(text.replace('"0.4"', '"0.2"'))
    with pytest.raises(Refused, match=r"0\.4 or 0\.5, found 1 of \['0\.2'"):
        read(path)


def test_two_images_are_refused(tmp_path):
    with pytest.raises(Refused, match="found 2 of"):
        read(folder(tmp_path / "v.zarr", [multiscale(), multiscale()]))


def test_an_empty_folder_is_refused(tmp_path):
    (tmp_path / "v.zarr").mkdir()
    with pytest.raises(Refused, match=r"no zarr data in v\.zarr"):
        read(tmp_path / "v.zarr")


def test_without_zarr_the_refusal_says_what_to_install(image, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "zarr", None)
    with pytest.raises(Refused, match=r"v\.zarr: expected the library zarr"):
        read(image)


# -- hostile ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "where", ["../secret.zarr/0", "/etc", "0/../../secret.zarr/0", "", "."]
)
def test_a_path_out_of_the_folder_is_refused(tmp_path, where):
    folder(tmp_path / "secret.zarr")
    path = folder(tmp_path / "v.zarr", [multiscale(paths=[where])])
    with pytest.raises(Refused, match="within its own folder"):
        read(path)


@pytest.mark.parametrize("dataset", ["../secret.zarr/0", "0/../../secret.zarr"])
def test_a_row_cannot_lead_out_of_the_folder(tmp_path, image, dataset):
    folder(tmp_path / "secret.zarr")
    with pytest.raises(Refused, match=r"^v\.zarr: expected"):
        read(image, dataset=dataset)


@pytest.mark.parametrize("what", ["0", "0/0.0.0", "0/.zarray", ".zattrs"])
def test_a_link_out_of_the_folder_is_refused(tmp_path, image, what):
    secret = folder(tmp_path / "secret.zarr", arrays={"0": VOLUME + 1})
    target = image / what
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    target.symlink_to(secret / what)
    with pytest.raises(Refused, match="own folder"):
        read(image)


@pytest.mark.parametrize(
    "values",
    [
        {"shape": [3, 4, -5]},
        {"shape": [3, 4]},
        {"shape": [3.5, 4, 5]},
        {"shape": "345"},
        {"shape": [True, 4, 5]},
        {"chunks": [0, 3, 2]},
        {"chunks": [2, 3]},
        {"chunks": [10**9, 10**9, 10**9]},
        {"shape": [10**6, 10**4, 10**4]},
        {"shape": [10**12, 4, 5]},
        {"shape": [3, 10**9, 10**9], "chunks": [1, 1000, 1000]},
        {"dtype": "|O"},
        {"dtype": "<U99"},
        {"dtype": "<c16"},
        {"dtype": "<M8[ns]"},
        {"dtype": [["a", "<u2"]]},
        {"dtype": 7},
        {"filters": [{"id": "pickle"}]},
        {"compressor": {"id": "msgpack2"}},
        {"compressor": {"id": "json2"}},
        {"compressor": "zlib"},
        {"order": "Q"},
    ],
    ids=str,
)
def test_metadata_that_cannot_be_are_refused(image, values):
    with pytest.raises(Refused, match=r"^v\.zarr: expected"):
        read(change(image, **values))


@pytest.mark.parametrize("text", ["", "[]", "{", "7", "[" * 10**5])
@pytest.mark.parametrize("name", [".zattrs", "0/.zarray"])
def test_metadata_that_are_none_are_refused(image, name, text):
    (image / name).write_text(text)
    with pytest.raises(Refused, match=r"^v\.zarr: expected"):
        read(image)


def test_metadata_of_any_size_are_not_read(image, monkeypatch):
    monkeypatch.setattr(zarrays, "MOST_JSON", 100)
    with pytest.raises(Refused, match="at most 16 MiB"):
        read(image)


ZEROS = bytes(8 << 20)
BOMBS = [
    (numcodecs.Zlib(), zlib.compress(ZEROS)),
    (numcodecs.GZip(), gzip.compress(ZEROS, mtime=0)),
    (numcodecs.BZ2(), numcodecs.BZ2().encode(ZEROS)),
    (numcodecs.LZMA(), numcodecs.LZMA().encode(ZEROS)),
    (numcodecs.LZ4(), numcodecs.LZ4().encode(ZEROS)),
    (numcodecs.Zstd(), numcodecs.Zstd().encode(ZEROS)),
    (Blosc("zstd"), Blosc("zstd").encode(ZEROS)),
    (None, ZEROS),
]


@pytest.mark.parametrize(("codec", "chunk"), BOMBS, ids=lambda value: str(value)[:9])
def test_a_chunk_that_unpacks_to_more_than_its_voxels_is_refused(
    tmp_path, codec, chunk, monkeypatch
):
    monkeypatch.setattr(zarrays, "HARMLESS_BYTES", 0)
    path = folder(tmp_path / "v.zarr", compressors=codec, filters=None)
    (path / "0" / "1.1.1").write_bytes(chunk)
    with pytest.raises(Refused, match=r"unpacks to more than 24 bytes"):
        read(path)


def test_a_zstd_frame_may_hide_its_size(tmp_path):
    """A frame without its size: 8 bytes in one raw block (RFC 8878, 3.1.1)."""
    voxels = np.arange(12, dtype=np.uint16).tobytes()
    frame = b"\x28\xb5\x2f\xfd\x00\x58" + (len(voxels) << 3 | 1).to_bytes(3, "little")
    path = folder(tmp_path / "v.zarr", compressors=numcodecs.Zstd(), filters=None)
    (path / "0" / "0.0.0").write_bytes(frame + voxels)
    assert read(path)[0, 0, :2].tolist() == [0, 1]
    blocks = (1 << 17 << 3 | 2).to_bytes(3, "little") + b"\0"
    bomb = frame[:6] + blocks * 99 + (3).to_bytes(3, "little") + b"\0"
    (path / "0" / "0.0.0").write_bytes(bomb)
    with pytest.raises(Refused, match="unpacks to more than 24 bytes"):
        read(path)


def test_bombs_in_shards_are_refused(tmp_path):
    data = np.zeros((64, 64, 64), np.uint8)
    path = folder(
        tmp_path / "v.zarr",
        *(None, {"0": data}, "0.5"),
        shards=(64, 64, 64),
        chunks=(32, 32, 32),
        compressors=zarr.codecs.GzipCodec(),
    )
    text = (path / "0" / "zarr.json").read_text()
    small = text.replace("64", "2").replace("32", "1")
    (path / "0" / "zarr.json").write_text(small)
    with pytest.raises(Refused, match=r"^v\.zarr: expected"):
        read(path)


# -- what is written -------------------------------------------------------------------


def source(data=VOLUME, voxel_nm=(5.0, 3.0, 2.0), **more):
    return Source(
        "v.h5", data.shape, data.dtype, lambda part: data[part], voxel_nm=voxel_nm, **more
    )


def write(path, data=VOLUME, **more):
    omezarr.write(source(data, **more), path)
    return path


def noise(shape, dtype):
    return np.random.default_rng(1).integers(0, 100, shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float16, np.float32])
@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 70, 3), (65, 2, 129), (7, 1, 1)])
def test_what_is_written_is_read_back(tmp_path, shape, dtype):
    data = noise(shape, dtype)
    path = write(tmp_path / "v.zarr", data, origin_nm=(7.0, -8.0, 9.5))
    assert np.array_equal(read(path), data)
    found = header(path)
    assert (found.dtype, found.voxel_nm) == (dtype, (5, 3, 2))
    assert (found.origin_nm, found.warnings) == ((7, -8, 9.5), [])


@pytest.mark.parametrize("materials", [{}, {0: "background", 1: "bone", 255: "ignore"}])
def test_what_is_written_is_valid(tmp_path, materials):
    models = pytest.importorskip("ome_zarr_models.v04")
    path = write(tmp_path / "v.zarr", noise((3, 200, 5), np.uint8), materials=materials)
    group = zarr.open_group(path, mode="r")
    kind = models.ImageLabel if materials else models.Image
    found = kind.from_zarr(group)
    assert len(found.attributes.multiscales[0].datasets) == 2
    assert header(path).materials == materials


def test_what_is_written_is_zarr_2_for_zarr_itself(tmp_path):
    path = write(tmp_path / "v.zarr", materials={1: "bone"})
    group = zarr.open_group(path, mode="r")
    assert group.metadata.zarr_format == 2
    assert np.array_equal(group["0"][...], VOLUME)
    assert group.attrs["image-label"]["colors"][0] == {
        "label-value": 1,
        "rgba": [230, 159, 0, 255],
    }


def test_the_coarser_levels_stand_where_the_finest_stands(tmp_path):
    """A ramp along x is 2 nm a voxel: every level gives it at its own positions."""
    ramp = np.broadcast_to(2.0 * np.arange(512, dtype=np.float32), (4, 2, 512))
    path = write(
        tmp_path / "v.zarr", ramp, voxel_nm=(2.0,) * 3, origin_nm=(0.0, 0.0, 100.0)
    )
    for level in "012":
        with open_source(path, {"dataset": level}) as found:
            assert found.voxel_nm[2] == 2 * 2 ** int(level)
            places = found.origin_nm[2] + found.voxel_nm[2] * np.arange(found.shape[2])
            assert np.allclose(found.read(slice(0, 1))[0, 0], places - 100)
    assert found.shape == (1, 1, 128)


def test_long_voxels_are_not_made_longer(tmp_path):
    path = write(
        tmp_path / "v.zarr", noise((3, 300, 5), np.uint8), voxel_nm=(50.0, 4.0, 4.0)
    )
    assert header(path, dataset="1").voxel_nm == (50, 8, 8)
    assert header(path, dataset="1").shape == (3, 150, 3)


def test_means_are_rounded_to_the_nearest():
    block = np.array([[[0, 1], [1, 1]]], np.uint8)
    assert pyramids.shrunk(block, (1, 2, 2), labels=False).tolist() == [[[1]]]
    assert pyramids.shrunk(block.astype(np.float32), (1, 2, 2), labels=False) == 0.75


def test_labels_take_the_value_met_most_often():
    block = np.array([[[9, 9, 3], [4, 5, 3]], [[9, 2, 3], [9, 2, 3]]], np.uint8)
    assert pyramids.shrunk(block, (2, 2, 2), labels=True).tolist() == [[[9, 3]]]


def test_of_labels_met_as_often_the_smallest_is_taken():
    block = np.array([[[7, 3], [3, 7]]], np.uint8)
    assert pyramids.shrunk(block, (1, 2, 2), labels=True).tolist() == [[[3]]]


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("factors", [(2, 2, 2), (1, 2, 2), (2, 1, 1), (1, 1, 1)])
def test_edges_that_are_odd(labels, factors):
    block = noise((3, 5, 7), np.int16)
    found = pyramids.shrunk(block, factors, labels=labels)
    expected = tuple(
        math.ceil(n / step) for n, step in zip((3, 5, 7), factors, strict=True)
    )
    assert found.shape == expected
    assert found.dtype == np.int16
    if factors == (1, 1, 1):
        assert np.array_equal(found, block)


def test_no_class_appears_that_was_not_there(tmp_path):
    labels = np.where(noise((9, 130, 131), np.uint8) > 50, 200, 10).astype(np.uint8)
    names = {10: "a", 200: "b"}
    path = write(tmp_path / "v.zarr", labels, materials=names, voxel_nm=(2.0,) * 3)
    assert set(np.unique(read(path, dataset="1"))) == {10, 200}
    assert header(path, dataset="1").shape == (5, 65, 66)


def test_slabs_are_small_whatever_the_size(tmp_path, monkeypatch):
    monkeypatch.setattr(pyramids, "SLAB_BYTES", 16 * 60 * 70)
    data, asked = noise((70, 60, 70), np.uint8), []
    wanted = Source(
        "v", data.shape, data.dtype, lambda part: asked.append(part) or data[part]
    )
    wanted.voxel_nm = (1.0, 1.0, 1.0)
    omezarr.write(wanted, tmp_path / "v.zarr")
    assert [part.stop - part.start for part in asked] == [16, 16, 16, 16, 6]
    assert np.array_equal(read(tmp_path / "v.zarr"), data)


def content(path):
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def test_the_same_volume_gives_the_same_bytes(tmp_path):
    data = noise((66, 130, 7), np.uint8)
    first = content(write(tmp_path / "a" / "v.zarr", data))
    assert content(write(tmp_path / "b" / "v.zarr", data)) == first


def test_an_older_folder_is_replaced_whole(tmp_path):
    write(tmp_path / "v.zarr", noise((3, 4, 300), np.uint8))
    write(tmp_path / "v.zarr")
    assert np.array_equal(read(tmp_path / "v.zarr"), VOLUME)
    assert sorted(os.listdir(tmp_path / "v.zarr")) == [".zattrs", ".zgroup", "0"]
    assert os.listdir(tmp_path) == ["v.zarr"]


def test_a_failure_leaves_the_older_folder_alone(tmp_path):
    write(tmp_path / "v.zarr")
    bad = source()
    bad.pages = lambda part: VOLUME[:0]
    with pytest.raises(Refused):
        omezarr.write(bad, tmp_path / "v.zarr")
    assert np.array_equal(read(tmp_path / "v.zarr"), VOLUME)
    assert os.listdir(tmp_path) == ["v.zarr"]


@pytest.mark.parametrize("lack", [{"voxel_nm": None}, {"z": np.array([0, 50, 100])}])
def test_what_has_no_place_in_the_format_is_refused(tmp_path, lack):
    with pytest.raises(
        Refused, match=r"^v\.h5: expected neighbouring slices and a voxel size"
    ):
        omezarr.write(source(**lack), tmp_path / "v.zarr")
    assert os.listdir(tmp_path) == []
