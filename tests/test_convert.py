import mrcfile
import numpy as np
import pytest
import tifffile

from tomoglean import checks, volumes
from tomoglean.formats import conversion
from tomoglean.provenance import Refused, sha256_of, write_json

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
