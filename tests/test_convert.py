import tracemalloc

import mrcfile
import numpy as np
import pytest
import tifffile

from tomoglean import checks, chunks, formats, volumes
from tomoglean.formats import conversion, moments
from tomoglean.provenance import Refused, read_json, sha256_of, write_json

NOISE = np.random.default_rng(3).normal(100, 20, (70, 12, 9)).astype(np.float32)


@pytest.fixture
def convert(tmp_path):
    """Write, check and convert a TIFF volume."""

    def run(data, **row):
        tifffile.imwrite(tmp_path / "scan.tif", data, photometric="minisblack")
        return of(tmp_path / "scan.tif", **row)

    def of(path, **row):
        row = {"volume": "v1", "path": str(path), "voxel_nm": "5", **row}
        write_json(checks.check(row), tmp_path / "v1.json")
        conversion.convert(row, tmp_path / "v1.json", tmp_path / "v1.h5")
        return tmp_path / "v1.h5"

    run.of = of
    return run


def test_voxels_and_their_size_are_kept(convert):
    volume = volumes.read(convert(NOISE, voxel_nm="3,2,1"))
    assert np.array_equal(volume.data, NOISE)
    assert volume.voxel_nm == (3, 2, 1)
    assert volume.z is None


@pytest.mark.parametrize(
    ("raw", "kept"),
    [("uint8", "uint8"), (">u2", "uint16"), (">f4", "float32"), ("int16", "int16")],
)
def test_the_dtype_is_kept_in_native_byte_order(convert, tmp_path, raw, kept):
    data = NOISE.astype(raw)
    order = {"byteorder": ">"} if raw.startswith(">") else {}
    tifffile.imwrite(tmp_path / "raw.tif", data, photometric="minisblack", **order)
    converted = volumes.read(convert.of(tmp_path / "raw.tif"))
    assert converted.data.dtype == np.dtype(kept)
    assert converted.data.dtype.isnative
    assert np.array_equal(converted.data, data)


def test_bool_becomes_uint8(convert):
    assert volumes.read(convert(NOISE > 100)).data.dtype == np.uint8


def test_the_source_is_named_and_hashed(convert, tmp_path):
    attrs = volumes.attributes(convert(NOISE))
    assert attrs["source"] == "scan.tif"
    assert attrs["source_sha256"] == sha256_of(tmp_path / "scan.tif")


def test_the_fingerprint_is_that_of_the_clipped_values(convert):
    attrs = volumes.attributes(convert(NOISE))
    low, high = np.percentile(NOISE.astype(float), [0.5, 99.5])
    clipped = np.clip(NOISE.astype(float), low, high)
    found = [attrs[name] for name in ("p_low", "p_high", "mean", "std")]
    assert found == pytest.approx([low, high, clipped.mean(), clipped.std()])


def test_a_volume_of_rare_objects_still_has_a_spread(convert):
    data = np.zeros((10, 40, 40), np.uint8)
    data[5, 5, 5] = 200
    attrs = volumes.attributes(convert(data))
    assert (attrs["p_low"], attrs["p_high"]) == (0, 200)
    assert attrs["std"] > 0


def test_the_same_input_gives_the_same_bytes(convert):
    first = convert(NOISE).read_bytes()
    assert convert(NOISE).read_bytes() == first


def test_a_sparse_set_keeps_its_true_z(convert, tmp_path):
    (tmp_path / "s").mkdir()
    for number in (0, 50, 100):
        tifffile.imwrite(tmp_path / "s" / f"s{number:04d}.tif", NOISE[number % 7])
    volume = volumes.read(convert.of(tmp_path / "s", spacing="50"))
    assert volume.z.tolist() == [0, 50, 100]
    assert np.array_equal(volume.data[1], NOISE[1])


def test_the_number_of_the_first_slice_is_kept(convert, tmp_path):
    (tmp_path / "s").mkdir()
    for number in (20, 21):
        tifffile.imwrite(tmp_path / "s" / f"s{number}.tif", NOISE[number])
    converted = convert.of(tmp_path / "s")
    assert volumes.attributes(converted)["first_slice"] == 20
    assert volumes.read(converted).z is None


def test_mrc_brings_its_own_voxel_size(convert, tmp_path):
    with mrcfile.new(tmp_path / "v.mrc") as file:
        file.set_data(NOISE)
        file.voxel_size = 15.6
    volume = volumes.read(convert.of(tmp_path / "v.mrc", voxel_nm=""))
    assert volume.voxel_nm == pytest.approx((1.56, 1.56, 1.56))


def test_a_refused_volume_is_not_converted(convert, tmp_path):
    with pytest.raises(Refused, match="one value everywhere"):
        convert(np.ones((3, 4, 5), np.uint8))
    assert not (tmp_path / "v1.h5").exists()


def test_a_file_changed_since_its_check_is_not_converted(convert, tmp_path):
    convert(NOISE)
    tifffile.imwrite(tmp_path / "scan.tif", NOISE + 1, photometric="minisblack")
    row = {"path": str(tmp_path / "scan.tif"), "voxel_nm": "5"}
    with pytest.raises(Refused, match="found it changed"):
        conversion.convert(row, tmp_path / "v1.json", tmp_path / "other.h5")
    assert not (tmp_path / "other.h5").exists()


# -- steps -----------------------------------------------------------------------------


ODD = np.random.default_rng(4).integers(0, 60000, (37, 22, 19)).astype(np.uint16)


def expected(data, crop, factor, order, turned):
    data = data[crop]
    z, y, x = (edge // factor for edge in data.shape)
    data = data[: z * factor, : y * factor, : x * factor].astype(float)
    data = data.reshape(z, factor, y, factor, x, factor).mean((1, 3, 5))
    return np.flip(np.rint(data).transpose(order), [n for n in range(3) if turned[n]])


@pytest.mark.parametrize("slab_bytes", [1, 5000, 1 << 27])
def test_crop_bin_and_axes_are_done_in_this_order_for_any_memory(
    convert, monkeypatch, slab_bytes
):
    monkeypatch.setattr(conversion, "SLAB_BYTES", slab_bytes)
    path = convert(ODD, crop="3:36,:21,2:19", bin="3", axes="-x,z,-y", voxel_nm="1,2,3")
    volume = volumes.read(path)
    crop = (slice(3, 36), slice(0, 21), slice(2, 19))
    whole = expected(ODD, crop, 3, (2, 0, 1), (True, False, True))
    assert volume.data.dtype == np.uint16
    assert np.array_equal(volume.data, whole)
    assert volume.voxel_nm == (9, 3, 6)
    # x: voxels 2 + 3 * 4 .. 16, the middle is 15; z: the middle of 3..5; y: of 18..20.
    assert volume.origin_nm == (-15 * 3, 4 * 1, -19 * 2)


def test_the_steps_and_the_files_own_shape_are_on_record(convert):
    steps = {"crop": "3:36,:21,2:19", "bin": "3", "axes": "-x,z,-y", "window": "0,60000"}
    attrs = volumes.attributes(convert(ODD, **steps))
    assert {name: attrs[name] for name in steps} == steps
    assert attrs["source_shape"] == [37, 22, 19]


def test_a_volume_without_steps_names_none(convert):
    assert not {"crop", "bin", "axes", "window"} & volumes.attributes(convert(ODD)).keys()


def test_a_window_makes_eight_bits(convert):
    volume = volumes.read(convert(NOISE, window="50,150"))
    share = (np.clip(NOISE.astype(float), 50, 150) - 50) / 100
    assert volume.data.dtype == np.uint8
    assert np.array_equal(volume.data, np.rint(255 * share))


@pytest.mark.parametrize(
    "row", [{"window": "60,130"}, {"crop": "5:60,1:,:7"}, {"bin": "2"}]
)
def test_the_fingerprint_is_that_of_the_converted_values(convert, row):
    path = convert(NOISE, **row)
    attrs, data = volumes.attributes(path), volumes.read(path).data.astype(float)
    low, high = np.percentile(data, [0.5, 99.5])
    clipped = np.clip(data, low, high)
    found = [attrs[name] for name in ("p_low", "p_high", "mean", "std")]
    assert found == pytest.approx([low, high, clipped.mean(), clipped.std()])


def test_a_crop_of_one_value_still_has_a_fingerprint(convert):
    data = ODD.copy()
    data[:4, :4, :4] = 7
    attrs = volumes.attributes(convert(data, crop=":4,:4,:4"))
    assert (attrs["p_low"], attrs["p_high"], attrs["std"]) == (7, 7, 0)


def test_the_origin_of_the_file_is_passed_on(convert, tmp_path):
    with mrcfile.new(tmp_path / "v.mrc") as file:
        file.set_data(NOISE)
        file.voxel_size = 10
    with formats.open_source(tmp_path / "v.mrc") as source:
        origin_nm = source.origin_nm
    found = volumes.read(convert.of(tmp_path / "v.mrc", voxel_nm="1", crop="7:,:,2:"))
    moved = (origin_nm[0] + 7, origin_nm[1], origin_nm[2] + 2)
    assert found.origin_nm == pytest.approx(moved)


def test_a_crop_outside_the_volume_is_refused_by_the_check(convert, tmp_path):
    with pytest.raises(Refused, match=r"^scan\.tif: crop: expected a part of the volume"):
        convert(ODD, crop="0:38,:,:")
    assert read_json(tmp_path / "v1.json")["verdict"] == "refused"


def test_mirroring_is_told(convert, caplog):
    convert(ODD, axes="-z,y,x")
    assert "axes -z,y,x mirror the volume" in caplog.text
    caplog.clear()
    convert(ODD, axes="-z,-y,x")
    assert "mirror" not in caplog.text


@pytest.mark.parametrize("slab_bytes", [1, 3000, 1 << 27])
def test_memory_changes_no_byte(convert, monkeypatch, slab_bytes):
    whole = convert(NOISE).read_bytes()
    monkeypatch.setattr(conversion, "SLAB_BYTES", slab_bytes)
    assert convert(NOISE).read_bytes() == whole


def test_a_mapped_file_gives_the_bytes_of_a_read_one(convert, tmp_path, monkeypatch):
    NOISE.tofile(tmp_path / "v.raw")
    row = {"shape": "70,12,9", "dtype": "float32"}
    mapped = convert.of(tmp_path / "v.raw", **row).read_bytes()
    monkeypatch.setattr(conversion, "_is_mapped", lambda source: False)
    assert convert.of(tmp_path / "v.raw", **row).read_bytes() == mapped


@pytest.mark.parametrize("row", [{}, {"axes": "x,y,z"}, {"bin": "2"}])
def test_memory_stays_far_below_the_volume(convert, tmp_path, monkeypatch, row):
    monkeypatch.setattr(conversion, "SLAB_BYTES", 1 << 20)
    for limit in ("BAND_BYTES", "TILE_BYTES"):
        monkeypatch.setattr(chunks, limit, 1 << 20)
    monkeypatch.setattr(moments, "MOST_SAMPLES", 1 << 12)
    data = np.random.default_rng(0).integers(0, 9999, (128, 256, 320), np.uint16)  # 21 MB
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, data, photometric="minisblack")
    facts = {"verdict": "ok", "sha256": formats.sha256(path), "voxel_nm": [5, 5, 5]}
    facts |= {"percentiles": {"0.5": 5, "99.5": 9990}, "minimum": 0, "maximum": 9998}
    write_json(facts, tmp_path / "v.json")
    tracemalloc.start()
    conversion.convert({"path": str(path), **row}, tmp_path / "v.json", tmp_path / "v.h5")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12e6
