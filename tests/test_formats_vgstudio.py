import numpy as np
import pytest

from tomoglean import formats
from tomoglean.formats import open_source
from tomoglean.provenance import Refused

VOLUME = np.arange(3 * 4 * 5).reshape(3, 4, 5)
HEADER = """\
{{volume1}}
[representation]
size = {size}
datatype = {kind}
datarange = 0 -1
bitsperelement = {bits}
[file1]
SkipHeader = {skip}
FileFormat = raw
Size = {size}
Name = {name}
Datatype = {kind}
datarange = 0 -1
BitsPerElement = {bits}
{{volumeprimitive12}}
[geometry]
resolution = {resolution}
unit = {unit}
[volume]
volume = volume1
"""
PLAIN = {
    "size": "5 4 3",
    "kind": "float",
    "bits": "32",
    "skip": "0",
    "name": "v.vol",
    "resolution": "0.001 0.002 0.003",
    "unit": "mm",
}


FLOATS = VOLUME.astype("<f4")


def write(folder, data=FLOATS, text=HEADER, **changes):
    (folder / "v.vol").write_bytes(data.tobytes())
    (folder / "v.vgi").write_text(text.format(**(PLAIN | changes)))
    return folder / "v.vgi"


def header(path, **row):
    with open_source(path, row) as source:
        return source


def read(path, **row):
    with open_source(path, row) as source:
        return source.read(slice(0, source.shape[0]))


@pytest.mark.parametrize("name", ["v.vgi", "v.vol"])
def test_either_of_the_two_is_the_volume(tmp_path, name):
    write(tmp_path)
    source = header(tmp_path / name)
    assert (source.format, source.name, source.shape) == ("vgstudio", name, (3, 4, 5))
    assert np.array_equal(read(tmp_path / name), VOLUME)


@pytest.mark.parametrize(
    ("kind", "bits", "dtype"),
    [
        ("unsigned integer", 8, "u1"),
        ("unsigned integer", 16, "u2"),
        ("unsigned integer", 32, "u4"),
        ("integer", 8, "i1"),
        ("signed integer", 16, "i2"),
        ("Signed Integer", 32, "i4"),
        ("float", 32, "f4"),
        ("Float", 64, "f8"),
    ],
)
def test_every_type(tmp_path, kind, bits, dtype):
    data = VOLUME.astype(f"<{dtype}")
    found = read(write(tmp_path, data, kind=kind, bits=bits))
    assert found.dtype == np.dtype(dtype)
    assert np.array_equal(found, data)


def test_a_slab_is_the_slab_of_the_volume(tmp_path):
    with open_source(write(tmp_path)) as source:
        assert np.array_equal(source.read(slice(1, 3)), VOLUME[1:3])


@pytest.mark.parametrize(
    ("unit", "nm"),
    [("mm", 1e6), ("µm", 1e3), ("um", 1e3), ("nm", 1), ("cm", 1e7), ("MM", 1e6)],
)
def test_the_voxel_size_is_the_resolution_in_its_unit(tmp_path, unit, nm):
    path = write(tmp_path, unit=unit)
    assert header(path).voxel_nm == pytest.approx((0.003 * nm, 0.002 * nm, 0.001 * nm))


@pytest.mark.parametrize(
    "changes",
    [
        {"unit": "furlong"},
        {"unit": ""},
        {"resolution": "0 0 0"},
        {"resolution": "1 1"},
        {"resolution": "a b c"},
        {"resolution": "nan 1 1"},
    ],
    ids=str,
)
def test_a_resolution_that_is_none_is_told_and_not_used(tmp_path, changes):
    source = header(write(tmp_path, **changes))
    assert source.voxel_nm is None
    assert "no voxel size" in source.warnings[0]


def test_bytes_before_the_voxels_are_skipped_where_the_header_says_so(tmp_path):
    path = write(tmp_path, skip="7")
    (tmp_path / "v.vol").write_bytes(b"1234567" + VOLUME.astype("<f4").tobytes())
    assert np.array_equal(read(path), VOLUME)


def test_windows_line_ends_do_no_harm(tmp_path):
    path = write(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert np.array_equal(read(path), VOLUME)


def test_both_files_identify_the_volume(tmp_path):
    path = write(tmp_path)
    assert formats.files(path) == [path, tmp_path / "v.vol"]
    assert formats.files(tmp_path / "v.vol") == formats.files(path)
    before = formats.sha256(path)
    write(tmp_path, VOLUME.astype("<f4") + 1)
    assert formats.sha256(path) != before


def test_a_pair_yet_to_be_copied_has_its_header_as_file(tmp_path):
    assert formats.files(tmp_path / "v.vgi") == [tmp_path / "v.vgi"]


def test_voxels_without_a_header_are_raw(tmp_path):
    write(tmp_path).unlink()
    row = {"shape": "3,4,5", "dtype": "float32"}
    assert header(tmp_path / "v.vol", **row).format == "raw"
    with pytest.raises(Refused, match="expected the columns shape"):
        read(tmp_path / "v.vol")


def test_a_header_without_voxels_is_refused(tmp_path):
    write(tmp_path)
    (tmp_path / "v.vol").unlink()
    with pytest.raises(Refused, match=r"^v\.vgi: expected its voxels v\.vol beside it"):
        read(tmp_path / "v.vgi")


def test_a_header_of_other_voxels_is_refused(tmp_path):
    write(tmp_path, name="w.vol")
    (tmp_path / "w.vol").write_bytes((tmp_path / "v.vol").read_bytes())
    assert np.array_equal(read(tmp_path / "v.vgi"), VOLUME)
    with pytest.raises(
        Refused, match=r"expected its voxels w\.vol beside it, found v\.vol"
    ):
        read(tmp_path / "v.vol")


@pytest.mark.parametrize(
    "name",
    ["../secret.vol", "/etc/passwd", "..", ".", "", "sub/v.vol", "C:\\v.vol", "..\\v.vol"],
)
def test_voxels_elsewhere_are_refused(tmp_path, name):
    (tmp_path / "secret.vol").write_bytes(VOLUME.astype("<f4").tobytes())
    (tmp_path / "in").mkdir()
    path = write(tmp_path / "in", name=name)
    with pytest.raises(Refused, match="expected the name of a file beside it") as refusal:
        read(path)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("extra", [-1, 1])
def test_the_size_must_fit_exactly(tmp_path, extra):
    path = write(tmp_path)
    content = (tmp_path / "v.vol").read_bytes() + b"\0"
    (tmp_path / "v.vol").write_bytes(content[: 240 + extra])
    with pytest.raises(Refused, match=r"^v\.vol: expected 240 bytes"):
        read(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"size": "5 4"},
        {"size": "5 4 0"},
        {"size": "5 4 -3"},
        {"size": "5 4 3.0"},
        {"size": "999999999 999999999 999999999"},
        {"size": "5 4 99999999999999999999"},
        {"bits": "12"},
        {"bits": ""},
        {"bits": "-8"},
        {"bits": "9" * 5000},
        {"kind": "complex"},
        {"skip": "-1"},
        {"skip": "many"},
    ],
    ids=lambda changes: str(changes)[:40],
)
def test_headers_that_cannot_be_are_refused(tmp_path, changes):
    with pytest.raises(Refused, match=r"^v\.v(gi|ol): expected") as refusal:
        read(write(tmp_path, **changes))
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[volume]", "[file2]\nName = w.vol", "several"),
        ("[volume]", "{volume2}\n[file1]\nName = w.vol", "found 2"),
        ("[file1]", "[data]", "found 0"),
        ("FileFormat = raw", "FileFormat = tiff", "plain voxels"),
        ("[representation]\nsize = {size}", "[representation]\nsize = 4 5 3", "one size"),
    ],
)
def test_headers_of_more_than_one_plain_volume_are_refused(tmp_path, old, new, words):
    text = HEADER.replace(old, new.replace("{v", "{{v").replace("2}", "2}}"))
    with pytest.raises(Refused, match=words):
        read(write(tmp_path, text=text))


@pytest.mark.parametrize("content", [b"\0" * 100, b"[file1]\n" * 600_000, b"no header"])
def test_what_is_no_header_is_refused(tmp_path, content):
    path = write(tmp_path)
    path.write_bytes(content)
    with pytest.raises(Refused, match=r"^v\.vgi: expected"):
        read(path)
