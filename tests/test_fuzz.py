"""Damaged headers: the right voxels, a warning that tells, or a refusal; never silence.

`make fuzz` runs 10,000 of each format with a new seed, which it prints. The row of a
damaged file says shape, dtype and voxel size, as volumes.tsv can; without a row, a header
byte that makes another legal header is right by definition.
"""

import os
import struct

import h5py
import mrcfile
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tomoglean.formats import hdf5, open_source
from tomoglean.formats.sandbox import Child
from tomoglean.provenance import Refused

NUMBER = int(os.environ.get("TOMOGLEAN_FUZZ", "100"))
SEED = int(os.environ.get("TOMOGLEAN_FUZZ_SEED", "0"))
VOLUME = (np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5) - 17) * 331
ROW = {"shape": "3,4,5", "dtype": "int16", "voxel_nm": "1"}
NUMBERS = (0, 1, 2, 3, 4, 5, 8, 60, 120, 255, 256, 1 << 15, (1 << 16) - 1, 1 << 24)
BIG = ((1 << 31) - 1, 1 << 31, (1 << 32) - 1)
fuzzed = settings(
    max_examples=NUMBER,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def bites(size):
    """Bytes and whole numbers that are written over parts of a header."""
    byte = st.tuples(st.just("<B"), st.integers(0, size - 1), st.integers(0, 255))
    short = st.tuples(
        st.sampled_from(["<H", ">H"]),
        st.integers(0, size // 2 - 1).map(lambda place: 2 * place),
        st.sampled_from([number for number in NUMBERS if number < 1 << 16]),
    )
    long = st.tuples(
        st.sampled_from(["<I", ">I"]),
        st.integers(0, size // 4 - 1).map(lambda place: 4 * place),
        st.sampled_from(NUMBERS + BIG),
    )
    return st.lists(st.one_of(byte, short, long), min_size=1, max_size=3)


def bitten(content, damage, voxels):
    """Apply damage everywhere but in the voxels; return the places that changed."""
    damaged = bytearray(content)
    for form, place, value in damage:
        damaged[place : place + struct.calcsize(form)] = struct.pack(form, value)
    damaged = damaged[: len(content)]
    damaged[voxels] = content[voxels]
    changed = {at for at, byte in enumerate(damaged) if byte != content[at]}
    return bytes(damaged), changed


def outcome(path, expected=VOLUME, row=ROW):
    """Return right, warned, refused or silent."""
    try:
        with open_source(path, row) as source:
            found = source.read(slice(0, source.shape[0]))
    except Refused as refusal:
        named = str(refusal).startswith(f"{path.name}: ") and str(refusal).isprintable()
        return "refused" if named else f"badly refused: {refusal}"
    same = found.shape == expected.shape and found.dtype == expected.dtype
    if same and np.array_equal(found, expected) and source.voxel_nm == (1, 1, 1):
        return "right"
    return "warned" if source.warnings else "silent"


def mrc(path):
    with mrcfile.new(path) as file:
        file.set_data(VOLUME)
        file.voxel_size = 10.0
    return slice(1024, 1024 + VOLUME.nbytes)


def em(path):
    head = struct.pack("<4B3i", 6, 0, 0, 2, 5, 4, 3).ljust(512, b"\0")
    path.write_bytes(head + VOLUME.tobytes())
    return slice(512, 512 + VOLUME.nbytes)


def tiff(path, **how):
    tifffile.imwrite(path, VOLUME, photometric="minisblack", **how)
    with tifffile.TiffFile(path) as file:
        starts = [start for page in file.pages for start in page.dataoffsets]
        ends = [
            start + count
            for page in file.pages
            for start, count in zip(page.dataoffsets, page.databytecounts, strict=True)
        ]
    return slice(min(starts), max(ends))


def h5(path, libver="earliest", **how):
    with h5py.File(path, "w", libver=libver) as file:
        data = file.create_dataset("entry/v", data=VOLUME, **how)
        if data.chunks is None:
            start, size = data.id.get_offset(), VOLUME.nbytes
        else:
            chunk = data.id.get_chunk_info(0)
            start, size = chunk.byte_offset, chunk.size
        file["entry/v"].attrs["voxel_nm"] = (1.0, 1.0, 1.0)
    return slice(start, start + size)


MADE = {
    "mrc": ("v.mrc", mrc),
    "em": ("v.em", em),
    "tiff": ("v.tif", tiff),
    "tiff-deflate": ("v.tif", lambda path: tiff(path, compression="zlib")),
    "tiff-imagej": (
        "v.tif",
        lambda path: tiff(path, imagej=True, metadata={"axes": "ZYX"}),
    ),
    "hdf5": ("v.h5", h5),
    "hdf5-latest": (
        "v.h5",
        lambda path: h5(path, "latest", chunks=(3, 4, 5), fletcher32=True),
    ),
    "hdf5-gzip": ("v.h5", lambda path: h5(path, chunks=(3, 4, 5), compression="gzip")),
}


QUICK = {"mrc", "em", "tiff", "hdf5-gzip"}
CASES = [
    pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in MADE
]


class Lasting:
    """A child that goes on from file to file until one kills it."""

    child = None

    def __init__(self, name, module, folders=()):
        if Lasting.child is None or Lasting.child._process.poll() is not None:
            Lasting.child = Child(name, module, folders)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def ask(self, *arguments, **more):
        return Lasting.child.ask(*arguments, **more)

    def read_into(self, *arguments, **more):
        return Lasting.child.read_into(*arguments, **more)


@pytest.fixture
def lasting(monkeypatch):
    monkeypatch.setattr(hdf5, "Child", Lasting)
    yield
    if Lasting.child is not None:
        Lasting.child.__exit__()
        Lasting.child = None


@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("lasting")
def test_a_damaged_header_is_never_silent(tmp_path, name):
    ending, make = MADE[name]
    path = tmp_path / ending
    voxels = make(path)
    content = path.read_bytes()
    assert outcome(path) == "right"
    tally = {}

    @seed(SEED)
    @fuzzed
    @given(st.data())
    def look(data):
        damage = data.draw(bites(min(len(content), 4096)))
        end = data.draw(st.just(len(content)) | st.integers(0, len(content) + 64))
        damaged, changed = bitten(content, damage, voxels)
        path.write_bytes(damaged.ljust(end, b"\0")[:end])
        found = outcome(path)
        tally[found] = tally.get(found, 0) + 1
        if found == "silent" and os.environ.get("TOMOGLEAN_FUZZ_TELL"):
            print("SILENT", name, damage, sorted(changed))
        else:
            assert found in {"right", "warned", "refused"}, (found, damage)

    look()
    print(f"{name}: seed {SEED}, {tally}")


@pytest.mark.parametrize(
    ("name", "bite"),
    [
        ("tiff", (">I", 88, 1)),  # the strip begins in a value of another tag
        ("tiff-imagej", ("<B", 90, 90)),
        ("tiff-imagej", ("<H", 54, 3)),  # CCITT of 16 bits decodes to zeros
        ("hdf5-gzip", ("<I", 2464, 3)),  # the chunk stands beside the grid
        ("hdf5-gzip", ("<B", 2493, 46)),  # HDF5 lists the chunk but does not find it
        ("hdf5-gzip", (">H", 2494, 8)),
    ],
)
@pytest.mark.usefixtures("lasting")
def test_damage_that_once_was_silent_is_refused(tmp_path, name, bite):
    ending, make = MADE[name]
    path = tmp_path / ending
    voxels = make(path)
    path.write_bytes(bitten(path.read_bytes(), [bite], voxels)[0])
    assert outcome(path) == "refused"


CELLS = {
    "shape": ["3,4,5", "5,4,3", "60,1,1", "3,4,10", "3,4", "-3,-4,5", "1e9,1e9,1e9"],
    "dtype": ["int16", ">i2", "uint16", "uint8", "float16", "float32", "object", "S2"],
    "header_bytes": ["7", "0", "60", "67", "1e1", "-7", "99999999999999999999"],
    "byte_order": ["little", "big", "", "native"],
}
TEXTS = st.text("0123456789,.-+ eEuintflo<>|\0\n", max_size=12)


def said(content, row):
    """Read plain voxels as a row says, by other means."""
    order = {"big": ">", "little": "<", "": "|"}[row["byte_order"]]
    shape = tuple(int(float(edge)) for edge in row["shape"].split(","))
    dtype = np.dtype(row["dtype"]).newbyteorder(order)
    start = int(row["header_bytes"] or 0)
    assert len(content) == start + dtype.itemsize * np.prod(shape)
    return np.frombuffer(content, dtype, offset=start).reshape(shape)


@seed(SEED)
@fuzzed
@given(
    cells=st.fixed_dictionaries(
        {name: st.just(texts[0]) | st.sampled_from(texts) for name, texts in CELLS.items()}
    ),
    column=st.sampled_from(list(CELLS)),
    text=st.none() | TEXTS,
    size=st.just(127) | st.integers(1, 300),
)
def test_raw_voxels_are_what_the_row_says_or_refused(tmp_path, cells, column, text, size):
    content = (bytes(range(7)) + VOLUME.tobytes()).ljust(size, b"\1")[:size]
    path = tmp_path / "v.raw"
    path.write_bytes(content)
    row = {**cells, **({} if text is None else {column: text})}
    try:
        with open_source(path, row) as source:
            found = source.read(slice(0, source.shape[0]))
    except Refused as refusal:
        told = str(refusal)
    else:
        told = "v.raw: "
        assert np.array_equal(found, said(content, row), equal_nan=found.dtype.kind == "f")
    assert told.startswith("v.raw: ")
    assert len(told.splitlines()) == 1
