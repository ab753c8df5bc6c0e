import itertools
import logging
import subprocess
import sys
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tomoglean import chunks, volumes
from tomoglean.provenance import Refused
from tomoglean.volumes import Volume

RNG = np.random.default_rng(5)
READ = """
import sys, h5py, numpy
assert not any(name.startswith(("tomoglean", "isal", "hdf5plugin")) for name in sys.modules)
with h5py.File(sys.argv[1]) as file:
    numpy.save(sys.argv[2], file["data"][...])
"""


def noisy(shape, dtype=np.float32):
    """Grey values whose high bytes shrink and whose low bytes do not."""
    return RNG.normal(1000, 100, shape).astype(dtype)


def written(path, data, **attrs):
    volumes.write(Volume(data, (1.0, 2.0, 3.0)), path, **attrs)
    return path


# -- HDF5's own ways, done by ourselves ------------------------------------------------


def stored_by_hdf5(path, payload):
    """Let HDF5 write bytes with its fletcher32 filter; return what lies in the file."""
    with h5py.File(path, "w") as file:
        data = np.frombuffer(payload, np.uint8)
        made = file.create_dataset("d", data=data, chunks=data.shape, fletcher32=True)
        file.flush()
        return made.id.read_direct_chunk((0,))[1]


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    payload=st.one_of(
        st.binary(min_size=1, max_size=2000),
        st.integers(1, 3000).map(lambda n: b"\0" * n),
        st.integers(1, 3000).map(lambda n: b"\xff" * n),
        st.integers(1, 3000).map(lambda n: b"\0" * n + b"\1"),
    )
)
def test_the_sum_is_that_of_hdf5(tmp_path, payload):
    stored = stored_by_hdf5(tmp_path / "f.h5", payload)
    assert stored == payload + chunks.fletcher32(payload).to_bytes(4, "little")


@pytest.mark.parametrize("length", [*range(1, 20), 255, 256, 257, 719, 720, 721, 1_000_003])
@pytest.mark.parametrize("kind", ["noise", "ff", "words"])
def test_the_sum_is_that_of_hdf5_for_every_length(tmp_path, length, kind):
    payload = {
        "noise": RNG.bytes(length),
        "ff": b"\xff" * length,
        "words": (b"\xff\xfe\0\1" * length)[:length],
    }[kind]
    stored = stored_by_hdf5(tmp_path / "f.h5", payload)
    assert stored[-4:] == chunks.fletcher32(payload).to_bytes(4, "little")


def test_a_chunk_too_large_for_the_sum_is_not_summed_wrongly():
    with pytest.raises(ValueError, match="at most"):
        chunks.fletcher32(bytes(chunks.MOST_SUMMED + 1))


@settings(max_examples=60, deadline=None)
@given(
    planes=st.integers(1, 8),
    length=st.integers(1, 200_000),
    noise=st.lists(st.booleans(), min_size=8, max_size=8),
)
def test_a_stream_is_zlibs_whatever_planes_are_stored(planes, length, noise):
    rng = np.random.default_rng(length)
    data = rng.integers(0, 256, (planes, length), np.uint8)
    data[np.logical_not(noise[:planes])] //= 64
    assert zlib.decompress(b"".join(chunks.deflated(data))) == data.tobytes()


def test_noise_is_stored_and_costs_next_to_nothing():
    noise = RNG.integers(0, 256, (1, 64**3), np.uint8)
    stream = b"".join(chunks.deflated(noise))
    assert noise.size < len(stream) < noise.size + 64


def test_what_shrinks_is_deflated():
    stream = b"".join(chunks.deflated(np.zeros((4, 64**3), np.uint8)))
    assert len(stream) < 64**3 / 50


# -- what others read ------------------------------------------------------------------


ANYWHERE = """
import sys
import numpy as np
from tomoglean import chunks
draw, kept = np.random.default_rng(int(sys.argv[1])), []
x = np.indices((64, 64, 64))
ball = ((x - 30) ** 2).sum(axis=0) < 500
plane = (2 * ball + ((x[0] + x[1]) % 17 < 3)).astype(np.uint8).reshape(1, -1)
rows = np.zeros((64, 64, 20), np.uint8)
rows[:, :2] = draw.integers(100, 170, (64, 2, 20))
found = set()
for _ in range(400):
    kept = [*kept, draw.integers(0, 9, draw.integers(1, 200_000))][-draw.integers(1, 9) :]
    chunks.deflated(kept[-1].astype(np.uint8).reshape(1, -1))
    for planes in (plane, rows.reshape(1, -1)):
        found.add(b"".join(chunks.deflated(planes.copy())))
print(len(found))
"""


@pytest.mark.slow
def test_the_bytes_depend_on_no_place_in_memory():
    """At the levels 1 and 2 of ISA-L they did, in one process of six."""
    words = [[sys.executable, "-c", ANYWHERE, str(seed)] for seed in range(24)]
    done = [subprocess.run(one, capture_output=True, text=True) for one in words]
    assert [one.stdout for one in done] == ["2\n"] * len(done), done[0].stderr


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "f2", "f4", "f8"])
def test_plain_h5py_reads_it_in_another_process(tmp_path, dtype):
    data = RNG.normal(60, 9, (70, 65, 3)).astype(dtype)
    path = written(tmp_path / "v.h5", data)
    out = str(tmp_path / "read.npy")
    subprocess.run([sys.executable, "-c", READ, str(path), out], check=True, cwd=tmp_path)
    back = np.load(out)
    assert back.dtype == data.dtype
    assert np.array_equal(back, data)


def test_the_dataset_is_an_ordinary_one(tmp_path):
    with h5py.File(written(tmp_path / "v.h5", noisy((70, 65, 3)))) as file:
        data = file["data"]
        assert (data.chunks, data.compression) == ((64, 64, 3), "gzip")
        assert data.shuffle
        assert data.fletcher32
        assert data.id.get_num_chunks() == 4
        assert {data.id.get_chunk_info(n).filter_mask for n in range(4)} == {0}


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_one_flipped_bit_is_found(tmp_path, dtype):
    path = written(tmp_path / "v.h5", noisy((5, 64, 64), dtype))
    with h5py.File(path) as file:
        place = file["data"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[place.byte_offset + place.size // 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(OSError, match=r"[Cc]an't"):
        volumes.read(path)


def test_noise_like_grey_values_get_smaller(tmp_path):
    data = noisy((64, 64, 64))
    assert written(tmp_path / "v.h5", data).stat().st_size < data.nbytes / 1.15


def test_without_isal_zlib_writes_the_same_values_and_says_so(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.setitem(sys.modules, "isal", None)
    chunks._library.cache_clear()
    data = noisy((9, 70, 8))
    with caplog.at_level(logging.WARNING):
        path = written(tmp_path / "v.h5", data)
    chunks._library.cache_clear()
    assert np.array_equal(volumes.read(path).data, data)
    assert [line for line in caplog.messages if "isal is not installed" in line]


# -- parts of all kinds ----------------------------------------------------------------


SHAPE = (130, 70, 67)


def filled(path, data, cuts, axis, order=1):
    """Write a volume in parts along an axis."""
    with volumes.create(
        path, {"data": (data.shape, data.dtype)}, voxel_nm=(1.0, 1.0, 1.0)
    ) as file:
        edges = [0, *cuts, data.shape[axis]]
        for start, stop in list(itertools.pairwise(edges))[::order]:
            where = [slice(None)] * data.ndim
            where[axis] = slice(start, stop)
            file["data"][tuple(where)] = data[tuple(where)]
    return path


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("band_bytes", [1 << 10, 1 << 30])
@pytest.mark.parametrize("step", [1, 16, 40, 64])
def test_thin_parts_along_any_axis_give_the_bytes_of_the_whole(
    tmp_path, monkeypatch, axis, step, band_bytes
):
    monkeypatch.setattr(chunks, "BAND_BYTES", band_bytes)
    monkeypatch.setattr(chunks, "TILE_BYTES", band_bytes)
    data = noisy(SHAPE, np.uint16)
    cuts = range(step, SHAPE[axis], step)
    thin = filled(tmp_path / "thin.h5", data, cuts, axis)
    assert np.array_equal(volumes.read(thin).data, data)


def test_the_bytes_depend_on_no_slabs_of_whole_chunks(tmp_path):
    data = noisy(SHAPE)
    whole = filled(tmp_path / "a.h5", data, [], 0)
    for cuts in ([64], [64, 128]):
        assert filled(tmp_path / "b.h5", data, cuts, 0).read_bytes() == whole.read_bytes()


def test_thin_slices_give_the_same_bytes_as_thick_ones(tmp_path):
    data = noisy(SHAPE)
    thick = filled(tmp_path / "a.h5", data, [64, 128], 0)
    thin = filled(tmp_path / "b.h5", data, range(5, 130, 5), 0)
    assert thin.read_bytes() == thick.read_bytes()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_change_no_byte(tmp_path, monkeypatch, threads):
    data = noisy(SHAPE)
    reference = written(tmp_path / "a.h5", data).read_bytes()
    monkeypatch.setattr(chunks, "THREADS", threads)
    assert written(tmp_path / "b.h5", data).read_bytes() == reference


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_parts_in_any_place_and_order_give_the_array(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("parts") / "v.h5"
    array = np.zeros(SHAPE, np.uint8)
    with volumes.create(
        path, {"data": (SHAPE, np.uint8)}, voxel_nm=(1.0, 1.0, 1.0)
    ) as file:
        for _ in range(data.draw(st.integers(1, 5))):
            ends = [sorted(data.draw(st.tuples(*2 * [st.integers(0, n)]))) for n in SHAPE]
            where = tuple(slice(*pair) for pair in ends)
            value = data.draw(st.integers(0, 255))
            array[where] = value
            file["data"][where] = value
    assert np.array_equal(volumes.read(path).data, array)


def test_several_datasets_may_grow_in_turn(tmp_path):
    one, two = noisy(SHAPE, np.uint8), noisy((3, *SHAPE), np.int8)
    layout = {"data": (SHAPE, np.uint8), "normals": (two.shape, np.int8)}
    with volumes.create(tmp_path / "v.h5", layout, voxel_nm=(1.0, 1.0, 1.0)) as file:
        for slab in volumes.slabs(SHAPE[0], 24):
            file["data"][slab] = one[slab]
            file["normals"][:, slab] = two[:, slab]
    assert np.array_equal(volumes.read(tmp_path / "v.h5").data, one)
    assert np.array_equal(volumes.read(tmp_path / "v.h5", "normals").data, two)


def test_what_was_written_can_be_read_before_the_end(tmp_path):
    data = noisy((20, 8, 9))
    with volumes.create(
        tmp_path / "v.h5", {"data": (data.shape, data.dtype)}, voxel_nm=(1.0, 1.0, 1.0)
    ) as file:
        file["data"][:10] = data[:10]
        assert np.array_equal(file["data"][:10], data[:10])
        file["data"][10:] = data[10:]
    assert np.array_equal(volumes.read(tmp_path / "v.h5").data, data)


def test_values_become_the_type_of_the_dataset(tmp_path):
    with volumes.create(
        tmp_path / "v.h5", {"data": ((2, 3, 4), np.float16)}, voxel_nm=(1.0, 1.0, 1.0)
    ) as file:
        file["data"][:] = np.full((2, 3, 4), 1.5)
    assert volumes.read(tmp_path / "v.h5").data.dtype == np.float16


def test_an_empty_volume_is_legal(tmp_path):
    data = np.zeros((0, 3, 4), np.uint8)
    assert volumes.read(written(tmp_path / "v.h5", data)).shape == (0, 3, 4)


def test_a_band_of_thin_parts_takes_little_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "BAND_BYTES", 1 << 16)
    monkeypatch.setattr(chunks, "TILE_BYTES", 1 << 16)
    shape = (64, 1024, 256)  # 32 MiB
    with volumes.create(
        tmp_path / "v.h5", {"data": (shape, np.uint16)}, voxel_nm=(1.0, 1.0, 1.0)
    ) as file:
        image = noisy((1, *shape[1:]), np.uint16)
        tracemalloc.start()
        for z in range(shape[0]):
            file["data"][z : z + 1] = image
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 12e6


def test_tiles_cover_a_volume_once_in_whole_chunks():
    seen = np.zeros((130, 200, 3), int)
    for tile in volumes.tiles(seen.shape, 4, most=64 * 64 * 3 * 4):
        assert seen[tile].size <= 64 * 64 * 3
        seen[tile] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize(
    ("size", "most", "expected"),
    [(1, 1 << 20, 64), (100, 6400, 64), (100, 6399, 32), (100, 150, 1), (100, 1, 1)],
)
def test_thickness_is_a_power_of_two_within_the_memory(size, most, expected):
    assert volumes.thickness(size, most) == expected


# -- what a file says ------------------------------------------------------------------


def test_origin_and_voxel_size_are_kept(tmp_path):
    volume = Volume(noisy((2, 3, 4)), (1.0, 2.0, 3.0), None, (-5.0, 0.0, 7.5))
    volumes.write(volume, tmp_path / "v.h5")
    back = volumes.read(tmp_path / "v.h5")
    assert (back.voxel_nm, back.origin_nm) == ((1, 2, 3), (-5, 0, 7.5))


def test_the_origin_is_zero_where_nobody_gave_one(tmp_path):
    path = written(tmp_path / "v.h5", noisy((2, 3, 4)))
    assert volumes.read(path).origin_nm == (0, 0, 0)
    with h5py.File(path, "a") as file:
        del file.attrs["origin_nm"]
    assert volumes.read(path).origin_nm == (0, 0, 0)


def test_the_same_volume_gives_the_same_bytes(tmp_path):
    data = noisy((9, 70, 8))
    one = written(tmp_path / "a.h5", data, source="s").read_bytes()
    assert written(tmp_path / "b.h5", data, source="s").read_bytes() == one


# -- nothing but whole files -----------------------------------------------------------


def test_a_disk_without_room_is_refused_before_writing(tmp_path, monkeypatch):
    room = volumes.shutil.disk_usage(tmp_path)._replace(free=999)
    monkeypatch.setattr(volumes.shutil, "disk_usage", lambda path: room)
    with pytest.raises(Refused, match=r"^v\.h5: expected .* GB free .*; make room"):
        written(tmp_path / "v.h5", np.zeros((10, 10, 10), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    real = volumes._Guarded

    class Full(real):
        def __init__(self, raw):
            super().__init__(raw)
            self.left = 300_000

        def write(self, data):
            self.left -= len(data)
            if self.left < 0:
                self.error = self.error or OSError(28, "No space left on device")
            return len(data) if self.error else super().write(data)

    monkeypatch.setattr(volumes, "_Guarded", Full)
    with pytest.raises(Refused, match=r"^v\.h5: .*No space left on device.*make room"):
        written(tmp_path / "v.h5", noisy((70, 64, 64)))
    assert list(tmp_path.iterdir()) == []


def test_an_error_in_the_block_leaves_nothing(tmp_path):
    layout = {"data": ((70, 8, 8), np.uint8)}
    with pytest.raises(ZeroDivisionError):  # noqa: PT012, SIM117 (the block is the point)
        with volumes.create(tmp_path / "v.h5", layout, voxel_nm=(1.0, 1.0, 1.0)) as file:
            file["data"][:5] = 1
            raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_read_back_is_not_put_in_place(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "_sum", lambda *data: 1)
    with pytest.raises(Refused, match=r"^v\.h5: expected to read back"):
        written(tmp_path / "v.h5", noisy((4, 5, 6)))
    assert list(tmp_path.iterdir()) == []


def test_work_stays_in_order(monkeypatch):
    with ThreadPoolExecutor(3) as pool:
        found = list(chunks._ahead(pool, lambda n: bytes([n]), range(100)))
    assert found == [bytes([n]) for n in range(100)]
