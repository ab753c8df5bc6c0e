import numpy as np
import pytest

from tomoglean import formats
from tomoglean.formats import open_source
from tomoglean.provenance import Refused

VOLUME = np.arange(3 * 4 * 5).reshape(3, 4, 5)
INFO = """\
! PyHST_SLAVE VOLUME INFO FILE
NUM_X =  5
NUM_Y =  4
NUM_Z =  3
voxelSize =  2.4
BYTEORDER = LOWBYTEFIRST
ValMin =  0.0
ValMax =  1.0
s1 =  0.0
s2 =  1.0
S1 =  0.0
S2 =  1.0
"""


FLOATS = VOLUME.astype("<f4")


def write(folder, data=FLOATS, info=INFO, name="v.vol"):
    (folder / name).write_bytes(data.tobytes())
    (folder / f"{name}.info").write_text(info)
    return folder / name


def header(path, **row):
    with open_source(path, row) as source:
        return source


def read(path, **row):
    with open_source(path, row) as source:
        return source.read(slice(0, source.shape[0]))


@pytest.mark.parametrize("name", ["v.vol", "v.vol.info"])
def test_either_of_the_two_is_the_volume(tmp_path, name):
    write(tmp_path)
    source = header(tmp_path / name)
    assert (source.format, source.name, source.shape) == ("esrf", name, (3, 4, 5))
    assert source.dtype == np.float32
    assert np.array_equal(read(tmp_path / name), VOLUME)


def test_the_voxel_size_is_in_micron(tmp_path):
    assert header(write(tmp_path)).voxel_nm == pytest.approx((2400, 2400, 2400))


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "x"])
def test_a_voxel_size_that_is_none_is_unknown(tmp_path, text):
    path = write(tmp_path, info=INFO.replace("2.4", text))
    assert header(path).voxel_nm is None
    assert header(path, voxel_nm="2400").voxel_nm == (2400, 2400, 2400)


def test_big_endian(tmp_path):
    info = INFO.replace("LOWBYTEFIRST", "HIGHBYTEFIRST")
    assert np.array_equal(read(write(tmp_path, VOLUME.astype(">f4"), info)), VOLUME)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float64"])
def test_other_types_where_the_text_says_so(tmp_path, dtype):
    path = write(
        tmp_path, VOLUME.astype(dtype), INFO + f"DATA_TYPE = {dtype}\n", name="v.raw"
    )
    assert np.array_equal(read(path), VOLUME)
    assert header(path).dtype == np.dtype(dtype)


def test_what_is_said_twice_counts_as_said_first(tmp_path):
    assert np.array_equal(read(write(tmp_path, info=INFO + "NUM_X = 7\n")), VOLUME)


def test_a_slab_is_the_slab_of_the_volume(tmp_path):
    with open_source(write(tmp_path)) as source:
        assert np.array_equal(source.read(slice(1, 3)), VOLUME[1:3])


def test_both_files_identify_the_volume(tmp_path):
    path = write(tmp_path)
    both = [tmp_path / "v.vol.info", path]
    assert formats.files(path) == formats.files(both[0]) == both


def test_voxels_without_a_text_are_raw(tmp_path):
    path = write(tmp_path)
    (tmp_path / "v.vol.info").unlink()
    assert header(path, shape="3,4,5", dtype="float32").format == "raw"


@pytest.mark.parametrize("extra", [-1, 1])
def test_the_size_must_fit_exactly(tmp_path, extra):
    path = write(tmp_path)
    path.write_bytes((path.read_bytes() + b"\0")[: 240 + extra])
    with pytest.raises(Refused, match=r"^v\.vol: expected 240 bytes"):
        read(path)


def test_a_text_without_voxels_is_refused(tmp_path):
    write(tmp_path).unlink()
    with pytest.raises(Refused, match=r"^v\.vol\.info: expected its voxels v\.vol"):
        read(tmp_path / "v.vol.info")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("NUM_X =  5", "NUM_X =  6"),
        ("NUM_X =  5", "NUM_X =  0"),
        ("NUM_X =  5", "NUM_X =  -5"),
        ("NUM_X =  5", "NUM_X =  5.0"),
        ("NUM_X =  5", "NUM_X =  99999999999"),
        ("NUM_X =  5", "NUM_Q =  5"),
        ("LOWBYTEFIRST", "MIDDLEBYTEFIRST"),
        ("S2 =  1.0", "DATA_TYPE = PACKED_BINARY"),
        ("S2 =  1.0", "DATA_TYPE = object"),
        (INFO, "nothing at all"),
        (INFO, "\0" * 99),
        (INFO, "NUM_X = 5\n" * 200_000),
    ],
    ids=lambda text: text[:20],
)
def test_texts_that_cannot_be_are_refused(tmp_path, old, new):
    with pytest.raises(Refused, match=r"^v\.vol(\.info)?: expected") as refusal:
        read(write(tmp_path, info=INFO.replace(old, new)))
    assert len(str(refusal.value)) < 300
