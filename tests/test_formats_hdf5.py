"""HDF5 and NeXus: which dataset, which voxels, and which files may be read."""

import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from inside import Inside

from tomoglean.formats import hdf5, hdf5_inside, open_source, sandbox, sha256
from tomoglean.formats.sandbox import FRAME, Child
from tomoglean.provenance import Refused

WITH_CHILD = (
    *("external", "damaged_byte", "larger_than_memory", "scalars", "lies", "identify"),
    *("outlives", "blocks_of_any_size"),
)
VOLUME = np.arange(3 * 4 * 5, dtype=np.uint16).reshape(3, 4, 5)
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def quick(request, monkeypatch):
    """Spare most tests the 0.2 s that a child needs to start."""
    if not any(word in request.node.name for word in WITH_CHILD):
        monkeypatch.setattr(hdf5, "Child", Inside)


def made(path, fill):
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        fill(file)
    return path


def volume_file(path, data=VOLUME, name="v"):
    return made(path, lambda file: file.update({name: data}))


def read(path, **row):
    with open_source(path, row) as source:
        return source.read(slice(0, source.shape[0]))


def header(path, **row):
    with open_source(path, row) as source:
        return source


def refusal(path, **row):
    with pytest.raises(Refused) as caught:
        read(path, **row)
    assert str(caught.value).startswith(f"{path.name}: expected ")
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


# -- which dataset ---------------------------------------------------------------------


def test_two_datasets_need_a_path(tmp_path):
    path = made(tmp_path / "v.h5", lambda file: file.update({"a": VOLUME, "b": VOLUME + 1}))
    assert "found 2 (a, b)" in refusal(path)
    assert np.array_equal(read(path, dataset="/b"), VOLUME + 1)


def test_flat_and_textual_datasets_beside_the_volume_do_not_disturb(tmp_path):
    content = {"entry/v": VOLUME, "entry/flat": VOLUME[0], "entry/title": "Mg10Gd"}
    assert np.array_equal(
        read(made(tmp_path / "v.h5", lambda f: f.update(content))), VOLUME
    )


def test_a_hard_link_is_no_second_volume(tmp_path):
    def fill(file):
        file["a/v"] = VOLUME
        file["b"] = file["a"]
        file["a/again"] = file["/"]

    assert np.array_equal(read(made(tmp_path / "v.h5", fill)), VOLUME)


@pytest.mark.parametrize("target", ["/deep/v", "deep/v"])
def test_a_soft_link_within_the_file_is_followed(tmp_path, target):
    def fill(file):
        file["deep/v"] = VOLUME
        file["link"] = h5py.SoftLink(target)

    assert np.array_equal(read(made(tmp_path / "v.h5", fill), dataset="link"), VOLUME)


def test_a_link_in_a_circle_is_refused(tmp_path):
    path = made(tmp_path / "v.h5", lambda file: file.update({"a": h5py.SoftLink("/a")}))
    assert "links without an end" in refusal(path, dataset="a")


@pytest.mark.parametrize("value", [VOLUME[0], "text", None], ids=["2d", "text", "nothing"])
@pytest.mark.parametrize("dataset", ["", "v"])
def test_what_is_no_volume_is_refused(tmp_path, value, dataset):
    content = {} if value is None else {"v": value}
    refusal(made(tmp_path / "v.h5", lambda file: file.update(content)), dataset=dataset)


def test_a_trailing_axis_of_one_is_left_out(tmp_path):
    path = volume_file(tmp_path / "v.h5", VOLUME[..., None])
    assert np.array_equal(read(path), VOLUME)
    assert "last axis" in header(path).warnings[0]


def test_four_dimensions_are_no_volume(tmp_path):
    assert "one 3D dataset" in refusal(volume_file(tmp_path / "v.h5", VOLUME[None]))


# -- NeXus -----------------------------------------------------------------------------


def nexus(file, default=True, axes=("z", "y", "x"), units="um"):
    """Write what https://manual.nexusformat.org/datarules.html asks for."""
    file["entry/data/counts"] = VOLUME
    file["entry/data/reference"] = VOLUME + 1
    file["entry/data"].attrs.update(NX_class="NXdata", signal="counts", axes=axes)
    if default:
        file.attrs["default"] = "entry"
        file["entry"].attrs["default"] = "data"
    for name, start, step, length in zip(
        "zyx", (9, 8, 7), (3, 2, 1), VOLUME.shape, strict=True
    ):
        axis = file.create_dataset(
            f"entry/data/{name}", data=start + step * np.arange(length)
        )
        axis.attrs["units"] = units


def test_the_default_of_nexus_is_the_volume(tmp_path):
    assert np.array_equal(read(made(tmp_path / "v.nxs", nexus)), VOLUME)


def test_a_group_nxdata_named_by_the_row_gives_its_signal(tmp_path):
    path = made(tmp_path / "v.nxs", lambda file: nexus(file, default=False))
    assert np.array_equal(read(path, dataset="entry/data"), VOLUME)


def test_the_row_goes_before_the_default(tmp_path):
    path = made(tmp_path / "v.nxs", nexus)
    assert np.array_equal(read(path, dataset="entry/data/reference"), VOLUME + 1)


def test_the_default_may_be_a_soft_link(tmp_path):
    def fill(file):
        nexus(file)
        file["scan/v"] = VOLUME + 2
        del file["entry/data/counts"]
        file["entry/data/counts"] = h5py.SoftLink("/scan/v")

    path = made(tmp_path / "v.nxs", fill)
    assert np.array_equal(read(path), VOLUME + 2)
    assert header(path).voxel_nm == pytest.approx((3000, 2000, 1000))


def test_a_default_that_is_flat_leaves_the_only_volume(tmp_path):
    def fill(file):
        file["entry/plot/curve"] = np.arange(9)
        file["entry/plot"].attrs.update(NX_class="NXdata", signal="curve")
        file["entry"].attrs["default"], file.attrs["default"] = "plot", "entry"
        file["entry/v"] = VOLUME

    assert np.array_equal(read(made(tmp_path / "v.nxs", fill)), VOLUME)


def test_the_only_nxdata_needs_no_default(tmp_path):
    path = made(tmp_path / "v.nxs", lambda file: nexus(file, default=False))
    assert np.array_equal(read(path), VOLUME)


@pytest.mark.parametrize(
    ("units", "nm"), [("nm", 1), ("um", 1e3), ("µm", 1e3), ("mm", 1e6)]
)
def test_regular_axes_tell_voxels_and_origin(tmp_path, units, nm):
    source = header(made(tmp_path / "v.nxs", lambda file: nexus(file, units=units)))
    assert source.voxel_nm == pytest.approx((3 * nm, 2 * nm, nm))
    assert source.origin_nm == pytest.approx((9 * nm, 8 * nm, 7 * nm))


@pytest.mark.parametrize("units", ["", "pixel", "fortnight"])
def test_axes_without_a_length_tell_nothing(tmp_path, units):
    source = header(made(tmp_path / "v.nxs", lambda file: nexus(file, units=units)))
    assert source.voxel_nm is None
    assert source.origin_nm == (0, 0, 0)


def test_edges_of_bins_are_half_a_voxel_before_the_centres(tmp_path):
    def fill(file):
        nexus(file)
        del file["entry/data/x"]
        file["entry/data/x"] = 10.0 + np.arange(6)
        file["entry/data/x"].attrs["units"] = "nm"

    source = header(made(tmp_path / "v.nxs", fill))
    assert (source.voxel_nm[2], source.origin_nm[2]) == pytest.approx((1, 10.5))


def test_axes_that_are_not_regular_tell_nothing_but_a_warning(tmp_path):
    def fill(file):
        nexus(file)
        file["entry/data/y"][...] = [0, 1, 2, 9]

    source = header(made(tmp_path / "v.nxs", fill))
    assert source.voxel_nm is None
    assert "axis y is not regular" in source.warnings[0]


@pytest.mark.parametrize(
    ("name", "value"), [("voxel_nm", (3, 2, 1)), ("element_size_um", (0.003, 0.002, 0.001))]
)
def test_attributes_may_tell_the_voxel_size(tmp_path, name, value):
    def fill(file):
        file["v"] = VOLUME
        file["v"].attrs[name] = value
        file["v"].attrs["origin_nm"] = (6.0, -5.0, 4.0)

    source = header(made(tmp_path / "v.h5", fill))
    assert source.voxel_nm == pytest.approx((3, 2, 1))
    assert source.origin_nm == (6, -5, 4)


@pytest.mark.parametrize("value", [(0, 1, 1), (-1, 1, 1), (1, 1), "thin", (np.nan, 1, 1)])
def test_attributes_that_are_no_voxel_size_tell_nothing(tmp_path, value):
    def fill(file):
        file["v"] = VOLUME
        file["v"].attrs["voxel_nm"] = value

    assert header(made(tmp_path / "v.h5", fill)).voxel_nm is None


# -- which voxels ----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["|i1", "<u2", ">u2", ">i4", "<f2", ">f4", "<f8", ">u8"])
def test_numbers_come_in_native_byte_order(tmp_path, dtype):
    found = read(volume_file(tmp_path / "v.h5", VOLUME.astype(dtype)))
    assert found.dtype == np.dtype(dtype).newbyteorder("=")
    assert np.array_equal(found, VOLUME)


def test_true_and_false_are_one_and_zero(tmp_path):
    found = read(volume_file(tmp_path / "v.h5", VOLUME > 7))
    assert found.dtype == np.uint8
    assert np.array_equal(found, VOLUME > 7)


@pytest.mark.parametrize(
    "dtype",
    [[("re", "f4"), ("x", "i2")], h5py.string_dtype(), "S3", h5py.vlen_dtype("u1"),
     h5py.ref_dtype, "V4"],
    ids=["compound", "text", "bytes", "ragged", "reference", "opaque"],
)  # fmt: skip
def test_voxels_that_are_no_numbers_are_refused(tmp_path, dtype):
    path = made(tmp_path / "v.h5", lambda file: file.create_dataset("v", (3, 4, 5), dtype))
    refusal(path)


@pytest.mark.parametrize("chunks", [(3, 2, 3), (1, 4, 5), (2, 1, 5), None])
@pytest.mark.parametrize("block", [1, 41, 95])
def test_blocks_of_any_size_make_the_same_slab(tmp_path, monkeypatch, chunks, block):
    path = made(
        tmp_path / "v.h5", lambda file: file.create_dataset("v", data=VOLUME, chunks=chunks)
    )
    monkeypatch.setattr(hdf5, "BLOCK_BYTES", block)
    with open_source(path) as source:
        assert np.array_equal(source.read(slice(1, 3)), VOLUME[1:3])
        assert np.array_equal(source.read(slice(0, 3)), VOLUME)


def test_nothing_ever_written_is_refused(tmp_path):
    path = made(
        tmp_path / "v.h5",
        lambda f: f.create_dataset("v", (10**4,) * 3, "f4", chunks=(64,) * 3),
    )
    assert "none written" in refusal(path)


def test_chunks_never_written_are_told(tmp_path):
    def fill(file):
        file.create_dataset("v", (3, 4, 5), "u2", chunks=(1, 4, 5))[0] = VOLUME[0]

    assert "only 1 of 3 chunks" in header(made(tmp_path / "v.h5", fill)).warnings[0]


def test_terabytes_of_which_little_was_written_are_refused(tmp_path):
    def fill(file):
        file.create_dataset("v", (10**4,) * 3, "f4", chunks=(64, 64, 64))[:64, :64, :64] = 1

    assert "1 of 3869893 chunks" in refusal(made(tmp_path / "v.h5", fill))


def test_chunks_larger_than_memory_allows_are_refused(tmp_path):
    def fill(file):
        file.create_dataset("v", (600, 600, 600), "u1", chunks=(600, 600, 600))[0, 0] = 1

    path = made(tmp_path / "v.h5", fill)
    assert "128 MiB" in refusal(path)


def test_one_damaged_byte_under_a_checksum_is_refused(tmp_path):
    path = made(
        tmp_path / "v.h5",
        lambda f: f.create_dataset("v", data=VOLUME, chunks=(3, 4, 5), fletcher32=True),
    )
    content = bytearray(path.read_bytes())
    content[content.index(VOLUME.tobytes()) + 50] ^= 1
    path.write_bytes(content)
    assert "v.h5" in refusal(path)


def test_a_compression_nobody_knows_says_what_to_install(tmp_path):
    def fill(file):
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((3, 4, 5))
        plist.set_filter(32008, h5py.h5z.FLAG_OPTIONAL, (0, 2))
        space = h5py.h5s.create_simple((3, 4, 5))
        data = h5py.h5d.create(file.id, b"v", h5py.h5t.NATIVE_UINT16, space, plist)
        data.write_direct_chunk((0, 0, 0), VOLUME.tobytes())

    if h5py.h5z.filter_avail(32008):
        pytest.skip("hdf5plugin is installed")
    assert "pip install hdf5plugin" in refusal(made(tmp_path / "v.h5", fill))


# -- which files -----------------------------------------------------------------------


def link_to(path, target, dataset="/v"):
    return made(path, lambda f: f.update({"link": h5py.ExternalLink(str(target), dataset)}))


def virtual_of(path, target, dataset="v", shape=VOLUME.shape):
    def fill(file):
        layout = h5py.VirtualLayout(VOLUME.shape, "uint16")
        source = h5py.VirtualSource(str(target), dataset, shape)
        layout[: shape[0]] = source[: VOLUME.shape[0]]
        file.create_virtual_dataset("link", layout)

    return made(path, fill)


def external_of(path, target, size=VOLUME.nbytes):
    def fill(file):
        outside = [(str(target), 0, size)]
        file.create_dataset("link", VOLUME.shape, VOLUME.dtype, external=outside)

    return made(path, fill)


WAYS = {"link": link_to, "virtual": virtual_of, "external": external_of}


def other(path, way):
    """Make the file that holds the voxels."""
    path.parent.mkdir(exist_ok=True)
    if way == "external":
        path.write_bytes(VOLUME.tobytes())
        return path
    return volume_file(path)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", ["other.h5", "deeper/other.h5"])
def test_links_within_the_folder_are_followed_and_listed(tmp_path, monkeypatch, way, place):
    target = other(tmp_path / place, way)
    path = WAYS[way](tmp_path / "v.h5", place)
    monkeypatch.chdir("/")
    assert np.array_equal(read(path, dataset="link"), VOLUME)
    assert header(path, dataset="link").linked == (target.resolve(),)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("written", ["absolute", "../", "symlink"])
def test_links_that_leave_the_folder_are_refused(tmp_path, way, written):
    target = other(tmp_path / "outside" / "other.h5", way)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "soft.h5").symlink_to(target)
    names = {"absolute": target, "../": "../outside/other.h5", "symlink": "soft.h5"}
    path = WAYS[way](tmp_path / "in" / "v.h5", names[written])
    assert "leaves the file's folder" in refusal(path, dataset="link")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("said", ["../outside", "/nonsense/../{}", "$OUTSIDE", "../in, {}"])
def test_the_column_linked_allows_further_folders(tmp_path, monkeypatch, way, said):
    target = other(tmp_path / "outside" / "other.h5", way)
    path = WAYS[way](tmp_path / "in" / "v.h5", target)
    monkeypatch.setenv("OUTSIDE", str(target.parent))
    row = {"dataset": "link", "linked": said.format(target.parent)}
    if "nonsense" in said:
        assert "column linked" in refusal(path, **row)
    else:
        assert np.array_equal(read(path, **row), VOLUME)


@pytest.mark.parametrize("way", WAYS)
def test_missing_targets_are_refused(tmp_path, way):
    assert "'gone.h5'" in refusal(WAYS[way](tmp_path / "v.h5", "gone.h5"), dataset="link")


@pytest.mark.parametrize("way", WAYS)
def test_hidden_files_are_nobodys_voxels(tmp_path, way):
    other(tmp_path / ".ssh" / "id_rsa", way)
    path = WAYS[way](tmp_path / "v.h5", ".ssh/id_rsa")
    assert "leaves the file's folder" in refusal(path, dataset="link")


@pytest.mark.parametrize("way", WAYS)
def test_a_pipe_is_no_target(tmp_path, way):
    os.mkfifo(tmp_path / "pipe")
    assert "'pipe'" in refusal(WAYS[way](tmp_path / "v.h5", "pipe"), dataset="link")


@pytest.mark.parametrize("dataset", ["group/v", "soft", "/soft"])
def test_ways_around_are_refused_as_well(tmp_path, dataset):
    target = volume_file(tmp_path / "outside" / "other.h5")

    def fill(file):
        file["link"] = h5py.ExternalLink(str(target), "/v")
        file["group"] = h5py.ExternalLink(str(target), "/")
        file["soft"] = h5py.SoftLink("/link")

    path = made(tmp_path / "in" / "v.h5", fill)
    assert "leaves the file's folder" in refusal(path, dataset=dataset)


@pytest.mark.parametrize("way", WAYS)
def test_the_neighbour_of_a_folder_is_outside(tmp_path, way):
    target = other(tmp_path / "scan-1-other" / "other.h5", way)
    path = WAYS[way](tmp_path / "scan-1" / "v.h5", target)
    assert "leaves the file's folder" in refusal(path, dataset="link")


def test_a_source_that_itself_leaves_the_folder_is_refused(tmp_path):
    """HDF5 would follow the link inside the source, behind the back of a first look."""
    outside = volume_file(tmp_path / "outside" / "other.h5")
    link_to(tmp_path / "in" / "between.h5", outside)
    path = virtual_of(tmp_path / "in" / "v.h5", "between.h5", "link")
    assert "leaves the file's folder" in refusal(path, dataset="link")


def test_a_source_that_is_virtual_is_followed_to_its_end(tmp_path):
    volume_file(tmp_path / "third.h5")
    virtual_of(tmp_path / "second.h5", "third.h5")
    path = virtual_of(tmp_path / "v.h5", "second.h5", "link")
    assert np.array_equal(read(path, dataset="link"), VOLUME)
    (tmp_path / "third.h5").unlink()
    assert "'third.h5'" in refusal(path, dataset="link")


def test_sources_that_are_each_other_end(tmp_path):
    virtual_of(tmp_path / "a.h5", "b.h5", "link")
    virtual_of(tmp_path / "b.h5", "a.h5", "link")
    assert "sources without an end" in refusal(tmp_path / "a.h5", dataset="link")


def test_external_links_that_are_each_other_end(tmp_path):
    link_to(tmp_path / "a.h5", "b.h5", "/link")
    link_to(tmp_path / "b.h5", "a.h5", "/link")
    assert "links without an end" in refusal(tmp_path / "a.h5", dataset="link")


def test_a_virtual_dataset_must_be_covered_by_its_sources(tmp_path):
    volume_file(tmp_path / "other.h5", VOLUME[:2])
    path = virtual_of(tmp_path / "v.h5", "other.h5", shape=(2, 4, 5))
    assert "1 sources for some of them" in refusal(path, dataset="link")


def test_a_source_must_be_as_large_as_the_part_named(tmp_path):
    volume_file(tmp_path / "other.h5", VOLUME[:2])
    path = virtual_of(tmp_path / "v.h5", "other.h5")
    assert "shape (2, 4, 5)" in refusal(path, dataset="link")


def test_a_virtual_stack_of_files_is_one_volume(tmp_path):
    layout = h5py.VirtualLayout(VOLUME.shape, "uint16")
    for z, image in enumerate(VOLUME):
        volume_file(tmp_path / f"part-{z}.h5", image[None])
        layout[z] = h5py.VirtualSource(f"part-{z}.h5", "v", (1, 4, 5))[0]
    path = made(tmp_path / "v.h5", lambda file: file.create_virtual_dataset("v", layout))
    assert np.array_equal(read(path), VOLUME)
    assert [file.name for file in header(path).linked] == [
        "part-0.h5",
        "part-1.h5",
        "part-2.h5",
    ]


def test_external_storage_must_be_long_enough(tmp_path):
    (tmp_path / "other").write_bytes(VOLUME.tobytes()[:-1])
    assert "in external files" in refusal(
        external_of(tmp_path / "v.h5", "other"), dataset="link"
    )


@pytest.mark.parametrize("way", WAYS)
def test_the_bytes_of_linked_files_identify_the_volume(tmp_path, way):
    target = other(tmp_path / "other.h5", way)
    path = WAYS[way](tmp_path / "v.h5", "other.h5")
    before = sha256(path, {}, header(path, dataset="link").linked)
    content = bytearray(target.read_bytes())
    content[-1] ^= 1
    target.write_bytes(content)
    assert sha256(path, {}, header(path, dataset="link").linked) != before


def test_a_volume_given_as_a_link_has_the_folder_of_its_target(tmp_path):
    volume_file(tmp_path / "data" / "other.h5")
    link_to(tmp_path / "data" / "v.h5", "other.h5")
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "v.h5").symlink_to(tmp_path / "data" / "v.h5")
    volume_file(tmp_path / "study" / "other.h5", VOLUME + 1)
    assert np.array_equal(read(tmp_path / "study" / "v.h5", dataset="link"), VOLUME)


# -- single values ---------------------------------------------------------------------


def test_scalars_are_numbers_and_words_by_name(tmp_path):
    content = {
        "entry/n": 1200,
        "entry/t": [0.5, 0.7],
        "who": "P07",
        "bytes": np.bytes_("x"),
    }
    path = made(tmp_path / "s.h5", lambda file: file.update(content))
    names = {
        "angles": "/entry/n",
        "time": "entry/t",
        "who": "who",
        "b": "bytes",
        "no": "/x/y",
    }
    assert hdf5.scalars(path, names) == {
        "angles": 1200,
        "time": 0.5,
        "who": "P07",
        "b": "x",
    }
    assert hdf5.scalars(path, ["who"]) == {"who": "P07"}


def test_scalars_of_other_files_are_left_out(tmp_path):
    made(tmp_path / "other.h5", lambda file: file.update({"v": 7}))
    assert hdf5.scalars(link_to(tmp_path / "v.h5", "other.h5"), ["link"]) == {}


def test_scalars_of_no_hdf5_file_are_refused(tmp_path):
    (tmp_path / "v.h5").write_bytes(b"no file of this kind" * 99)
    with pytest.raises(Refused, match=r"^v\.h5: expected a readable file"):
        hdf5.scalars(tmp_path / "v.h5", ["n"])


# -- the child -------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Return a function that starts a child serving a module of some source text."""

    def start(text, *folders):
        (tmp_path / "code").mkdir()
        (tmp_path / "code" / "evil.py").write_text(f"FORMAT_NAME = 'HDF5'\n{text}\n")
        old = sandbox._environment()
        paths = f"{old['PYTHONPATH']}{os.pathsep}{tmp_path / 'code'}"
        monkeypatch.setattr(sandbox, "_environment", lambda: {**old, "PYTHONPATH": paths})
        return Child("v.h5", "evil", folders)

    return start


def death(served, text, seconds=5):
    with (
        served(f"import os, signal, sys, time\ndef call():\n    {text}") as child,
        pytest.raises(Refused) as caught,
    ):
        child.ask("call", seconds)
    assert str(caught.value).startswith("v.h5: expected")
    return str(caught.value)


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE"])
def test_a_crash_is_a_refusal(served, name):
    assert f"crashes ({name})" in death(served, f"os.kill(os.getpid(), signal.{name})")


def test_an_end_is_a_refusal(served):
    assert "ended (7)" in death(served, "os._exit(7)")


def test_processor_time_is_bounded(served):
    assert "too long" in death(served, "while True: pass", seconds=1)


def test_sleeping_is_bounded(served, monkeypatch):
    monkeypatch.setattr(sandbox, "PATIENCE", 0)
    assert "too long" in death(served, "time.sleep(1000)", seconds=1)


def test_memory_is_bounded(served):
    assert "MemoryError" in death(served, "bytearray(1 << 30)")


def test_512_mib_can_be_read_in_blocks_beside_the_limit():
    assert hdf5.BLOCK_BYTES + 2 * hdf5_inside.MOST_CHUNK_BYTES <= sandbox.MEMORY_BYTES


def test_a_child_writes_no_file(served, tmp_path):
    (tmp_path / "made").touch()
    told = death(
        served, f"os.write(os.open({str(tmp_path / 'made')!r}, os.O_WRONLY), b'x')"
    )
    assert "File too large" in told
    assert (tmp_path / "made").read_bytes() == b""


def test_a_child_knows_no_secrets(served, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    monkeypatch.setenv("HDF5_VDS_PREFIX", "/somewhere/else")
    with served("import os\ndef call():\n    return sorted(os.environ)") as child:
        names = child.ask("call")
    assert not {"SECRET_TOKEN", "HDF5_VDS_PREFIX", "HOME", "USER"} & set(names)


def test_the_kernel_refuses_files_of_other_folders(served, tmp_path):
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "secret").write_text("seen")
    text = "from pathlib import Path\ndef call(path):\n    return Path(path).read_text()"
    code = "from tomoglean.formats.landlock import confine; print(confine([]))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    if done.stdout != "True\n":
        pytest.skip("this kernel knows no Landlock")
    with served(text, tmp_path / "in") as child:
        assert child.ask("call", path=str(tmp_path / "in" / "secret")) == "seen"
        with pytest.raises(Refused, match="PermissionError"):
            child.ask("call", path=str(tmp_path / "out" / "secret"))


@pytest.mark.parametrize(
    "frame",
    [
        FRAME.pack(b"V", 1 << 62),
        FRAME.pack(b"V", (1 << 20) + 1),
        FRAME.pack(b"R", 1 << 40),
        FRAME.pack(b"B", 7),
        FRAME.pack(b"x", 0),
        b"\0\1",
    ],
    ids=["endless", "long", "long refusal", "other size", "other kind", "half a frame"],
)
def test_answers_of_another_size_or_kind_are_refused(served, frame):
    text = f"os.write(3, {frame!r}); os.write(sys.stdout.fileno(), b''); os._exit(0)"
    with (
        served(f"import os, sys\ndef call():\n    {text}") as child,
        pytest.raises(Refused, match=r"^v\.h5: expected"),
    ):
        child.read_into(np.empty(9, np.uint8), "call")


def test_what_the_child_says_is_one_printable_line(served):
    said = death(served, "raise ValueError('a\\n\\x1b[31mred\\x07' + 'x' * 9999)")
    assert said.isprintable()
    assert len(said) <= sandbox.MOST_REFUSED


@pytest.mark.parametrize(
    "lie",
    [
        {"shape": [3, 4]},
        {"shape": ["a", 4, 5]},
        {"dtype": "O"},
        {"dtype": "V8"},
        {"linked": ["/etc/passwd"]},
        {"voxel_nm": 3},
    ],
)
def test_a_child_that_lies_about_the_volume_is_refused(tmp_path, monkeypatch, lie):
    ask = Child.ask
    monkeypatch.setattr(Child, "ask", lambda *a, **k: {**ask(*a, **k), **lie})
    refusal(volume_file(tmp_path / "v.h5"))


def test_the_child_loads_no_more_than_it_needs():
    code = (
        "import sys; import tomoglean.formats.hdf5_inside;"
        "print(*{'tensorflow', 'keras', 'tifffile', 'scipy', 'yaml'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


def test_no_child_outlives_its_volume(tmp_path):
    path = volume_file(tmp_path / "v.h5")
    with Child("v.h5", hdf5.INSIDE) as child:
        child.ask("open_volume", path=str(path), dataset="", roots=[])
    assert child._process.returncode == -signal.SIGKILL


def test_the_frame_is_a_byte_and_a_length():
    assert FRAME.pack(b"V", 5) == b"V" + struct.pack("<Q", 5)


def test_links_that_nobody_named_are_told(tmp_path):
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["raw/far"] = h5py.ExternalLink("other.h5", "/data")
    told = r"only when named: raw/far\); fill in"
    with pytest.raises(Refused, match=told), open_source(tmp_path / "v.h5"):
        pass
