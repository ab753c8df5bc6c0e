"""Files made to harm whoever opens them; every maker gets a folder and returns a path.

`outside` beside the folder holds a canary: its content must appear in no message. Sizes
that a header only claims are terabytes; the files themselves are small or sparse.
"""

import io
import json
import os
import pickle
import struct
import zlib

import h5py
import numpy as np
import tifffile

CANARY = "canary-7f3a9c"
SMALL = np.arange(3 * 4 * 5, dtype=np.uint16).reshape(3, 4, 5)
BOMB_BYTES = 1 << 31


class Boom:
    """Writes a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def canary(folder):
    """Make the files that nobody may read, and return their folder."""
    outside = folder.parent / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "secret.raw").write_bytes((CANARY.encode() * 99)[: SMALL.nbytes])
    with h5py.File(outside / "secret.h5", "w") as file:
        file[CANARY] = file["v"] = SMALL
    (outside / "secret.tif").write_bytes(tiff_of(SMALL[0]))
    return outside


def tiff_of(data, **how):
    content = io.BytesIO()
    tifffile.imwrite(content, data, photometric="minisblack", **how)
    return content.getvalue()


def zeros(pack, count=BOMB_BYTES):
    """Compress many zeros without holding them."""
    block = bytes(1 << 20)
    return b"".join([*(pack.compress(block) for _ in range(count >> 20)), pack.flush()])


def sparse(path, head, size):
    """Write a head and let the file claim a size."""
    path.write_bytes(head)
    os.truncate(path, size)
    return path


# -- HDF5 ------------------------------------------------------------------------------


def hdf5(path, fill):
    with h5py.File(path, "w") as file:
        fill(file)
    return path


def h5_external_link(folder):
    target = str(canary(folder) / "secret.h5")

    def fill(file):
        file.attrs["default"] = "v"
        file["v"] = h5py.ExternalLink(target, "/v")

    return hdf5(folder / "link.h5", fill)


def virtual(path, layout):
    return hdf5(path, lambda file: file.create_virtual_dataset("v", layout))


def packed(file, shape, chunks, dtype="u1"):
    return file.create_dataset("v", shape, dtype, chunks=chunks, compression="gzip")


def h5_virtual(folder):
    layout = h5py.VirtualLayout(SMALL.shape, "u2")
    layout[:] = h5py.VirtualSource(canary(folder) / "secret.h5", "v", SMALL.shape)
    return hdf5(
        folder / "virtual.h5", lambda file: file.create_virtual_dataset("v", layout)
    )


def h5_virtual_without_source(folder):
    layout = h5py.VirtualLayout((10**4,) * 3, "f4")
    layout[:] = h5py.VirtualSource("gone.h5", "v", (10**4,) * 3)
    return virtual(folder / "sources.h5", layout)


def h5_virtual_of_itself(folder):
    for name, other in (("a", "b"), ("b", "a")):
        layout = h5py.VirtualLayout(SMALL.shape, "u2")
        layout[:] = h5py.VirtualSource(f"{other}.h5", "v", SMALL.shape)
        hdf5(
            folder / f"{name}.h5",
            lambda file, own=layout: file.create_virtual_dataset("v", own),
        )
    return folder / "a.h5"


def h5_external_storage(folder):
    outside = [(str(canary(folder) / "secret.raw"), 0, SMALL.nbytes)]
    return hdf5(
        folder / "raw.h5",
        lambda file: file.create_dataset("v", SMALL.shape, "u2", external=outside),
    )


def h5_external_device(folder):
    device = [("/dev/zero", 0, h5py.h5f.UNLIMITED)]
    return hdf5(
        folder / "device.h5",
        lambda file: file.create_dataset("v", (10**4,) * 3, "f4", external=device),
    )


def h5_shape_bomb(folder):
    def fill(file):
        file.create_dataset(
            "v", (10**4,) * 3, "f4", chunks=(64, 64, 64), compression="gzip"
        )
        file["v"][:64, :64, :64] = 1

    return hdf5(folder / "shape.h5", fill)


def h5_contiguous_bomb(folder):
    """4 TB early allocated in a sparse file are claimed and, as zeros, even there."""

    def fill(file):
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_layout(h5py.h5d.CONTIGUOUS)
        plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        space = h5py.h5s.create_simple((10**6, 1000, 1000))
        h5py.h5d.create(file.id, b"v", h5py.h5t.IEEE_F32LE, space, plist)

    return hdf5(folder / "contiguous.h5", fill)


def h5_chunk_bomb(folder):
    """A chunk that unpacks to far more than it says."""

    def fill(file):
        data = packed(file, (64, 64, 64), (64, 64, 64))
        data.id.write_direct_chunk((0, 0, 0), zeros(zlib.compressobj(9), 3 << 28))

    return hdf5(folder / "chunk.h5", fill)


def h5_many_chunk_bombs(folder):
    """Chunks that unpack to 64 MiB each instead of 4 kB."""
    bomb = zeros(zlib.compressobj(9), 1 << 26)

    def fill(file):
        data = packed(file, (400, 64, 64), (1, 64, 64))
        for z in range(400):
            data.id.write_direct_chunk((z, 0, 0), bomb)

    return hdf5(folder / "chunks.h5", fill)


def h5_large_chunk(folder):
    def fill(file):
        data = packed(file, (1, 16000, 16000), (1, 16000, 16000))
        data.id.write_direct_chunk((0, 0, 0), zeros(zlib.compressobj(9), 256 * 10**6))

    return hdf5(folder / "large.h5", fill)


def h5_link_loop(folder):
    def fill(file):
        file["v"], file["w"] = h5py.SoftLink("/w"), h5py.SoftLink("/v")
        file.attrs["default"] = "v"
        file["group"] = file["/"]

    return hdf5(folder / "loop.h5", fill)


def h5_deep_groups(folder):
    def fill(file):
        group = file
        for _ in range(5000):
            group = group.create_group("g")

    return hdf5(folder / "deep.h5", fill)


def h5_many_datasets(folder):
    def fill(file):
        file["v"] = SMALL
        for number in range(100_000):
            file[f"d{number}"] = file["v"] if number % 2 else h5py.SoftLink("/v")
        for number in range(11_000):
            file.create_group(f"g{number}")

    return hdf5(folder / "many.h5", fill)


def h5_attribute_bomb(folder):
    def fill(file):
        file["v"] = SMALL
        file["v"].attrs["voxel_nm"] = np.zeros(8000)

    path = hdf5(folder / "attribute.h5", fill)
    content = bytearray(path.read_bytes())
    place = content.index(struct.pack("<Q", 8000))
    content[place : place + 8] = struct.pack("<Q", 1 << 44)
    path.write_bytes(content)
    return path


# -- MRC, EM, raw, NumPy ---------------------------------------------------------------


def mrc_head(nx, ny, nz, mode=2, extra=0):
    head = bytearray(1024)
    struct.pack_into("<4i", head, 0, nx, ny, nz, mode)
    struct.pack_into("<3i3f", head, 28, nx, ny, nz, 10, 10, 10)
    struct.pack_into("<3i", head, 64, 1, 2, 3)
    struct.pack_into("<2i", head, 88, 0, extra)
    head[208:216] = b"MAP \x44\x44\0\0"
    return bytes(head)


def mrc(name, *sizes, **how):
    def make(folder):
        (folder / f"{name}.mrc").write_bytes(mrc_head(*sizes, **how) + bytes(4096))
        return folder / f"{name}.mrc"

    return make


def mrc_sparse(folder):
    head = mrc_head(4096, 4096, 16384)
    return sparse(folder / "sparse.mrc", head, 1024 + 4096 * 4096 * 16384 * 4)


def mrc_gz_bomb(folder):
    path = folder / "bomb.mrc.gz"
    pack = zlib.compressobj(9, wbits=31)
    head = pack.compress(mrc_head(64, 64, 64))
    path.write_bytes(head + zeros(pack))
    return path


def mrc_gz_true_to_its_header(folder):
    """2 GiB of zeros, as the header says."""
    path = folder / "true.mrc.gz"
    pack = zlib.compressobj(9, wbits=31)
    head = pack.compress(mrc_head(1024, 1024, 512))
    path.write_bytes(head + zeros(pack))
    return path


def em_bomb(folder):
    head = struct.pack("<4B3i", 6, 0, 0, 5, 10**5, 10**5, 10**5)
    (folder / "bomb.em").write_bytes(head.ljust(512, b"\0") + bytes(4096))
    return folder / "bomb.em"


def em_negative(folder):
    head = struct.pack("<4B3i", 6, 0, 0, 5, -4, -4, 4)
    (folder / "negative.em").write_bytes(head.ljust(512, b"\0") + bytes(4096))
    return folder / "negative.em"


def npy(path, header, body=b""):
    text = header.encode().ljust(64) + b"\n"
    path.write_bytes(b"\x93NUMPY\x02\0" + struct.pack("<I", len(text)) + text + body)
    return path


def npy_pickle(folder):
    header = "{'descr': '|O', 'fortran_order': False, 'shape': (1, 1, 1), }"
    return npy(folder / "pickle.npy", header, pickle.dumps(Boom(folder / "boom")))


def npy_is_a_pickle(folder):
    (folder / "plain.npy").write_bytes(pickle.dumps(Boom(folder / "boom")))
    return folder / "plain.npy"


def npy_shape_bomb(folder):
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (99999, 99999, 99999), }"
    return npy(folder / "shape.npy", header, bytes(4096))


def npy_long_header(folder):
    """A header of 200 MB, most of it brackets that a parser recurses into."""
    return npy(folder / "long.npy", "(" * (200 << 20))


def npy_lying_header(folder):
    path = folder / "lying.npy"
    path.write_bytes(b"\x93NUMPY\x02\0" + struct.pack("<I", (1 << 32) - 1) + b"{" * 99)
    return path


def raw_sparse(folder):
    path = sparse(folder / "sparse.raw", b"\1" * 4096, 1 << 40)
    return path, "--shape", "1024,16384,32768", "--dtype", "uint16"


def fifo(folder):
    os.mkfifo(folder / "pipe.mrc")
    return folder / "pipe.mrc"


def device(folder):
    (folder / "zero.raw").symlink_to("/dev/zero")
    return folder / "zero.raw", "--shape", "3,4,5", "--dtype", "uint8"


# -- TIFF, PNG, folders ----------------------------------------------------------------


def tags(*entries, order="<"):
    """Pack an IFD of (tag, type, count, value) and no next one."""
    rows = b"".join(struct.pack(f"{order}HHII", *entry) for entry in entries)
    return struct.pack(f"{order}H", len(entries)) + rows + bytes(4)


def tiff(path, width, height, body, compression=8, count=None):
    """Write one page of bytes whose only strip is `body`."""
    page = tags(
        *(
            (256, 4, 1, width),
            (257, 4, 1, height),
            (258, 3, 1, 8),
            (259, 3, 1, compression),
        ),
        *((262, 3, 1, 1), (273, 4, 1, 8 + len(body)), (277, 3, 1, 1), (278, 4, 1, height)),
        (279, 4, 1, len(body) if count is None else count),
    )
    page = page.replace(
        struct.pack("<HHII", 273, 4, 1, 8 + len(body)), struct.pack("<HHII", 273, 4, 1, 8)
    )
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(body)) + body + page)
    return path


def tiff_true_bomb(folder):
    """1 GiB of zeros in 1 MB, as its tags say."""
    return tiff(folder / "true.tif", 1 << 15, 1 << 15, zeros(zlib.compressobj(9), 1 << 30))


def tiff_bomb(folder):
    """2 GiB of zeros where the tags say 1 MiB."""
    return tiff(folder / "bomb.tif", 1024, 1024, zeros(zlib.compressobj(9)))


def tiff_huge(folder):
    return tiff(folder / "huge.tif", 2**31 - 1, 2**31 - 1, bytes(99), compression=1)


def tiff_lying_count(folder):
    return tiff(folder / "count.tif", 64, 64, bytes(99), compression=1, count=2**32 - 1)


def tiff_tile_bomb(folder):
    """One tile of 2^17 x 2^17 for a page of 16 x 16."""
    body = zeros(zlib.compressobj(9), 1 << 30)
    page = tags(
        *((256, 4, 1, 16), (257, 4, 1, 16), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1)),
        *((277, 3, 1, 1), (322, 4, 1, 1 << 17), (323, 4, 1, 1 << 17), (324, 4, 1, 8)),
        (325, 4, 1, len(body)),
    )
    path = folder / "tile.tif"
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(body)) + body + page)
    return path


def tiff_loop(folder):
    content = bytearray(tiff_of(SMALL[0]))
    first = struct.unpack_from("<I", content, 4)[0]
    entries = struct.unpack_from("<H", content, first)[0]
    struct.pack_into("<I", content, first + 2 + 12 * entries, first)
    (folder / "loop.tif").write_bytes(content)
    return folder / "loop.tif"


def tiff_many_pages(folder):
    """100,000 IFDs that all show the same four pixels, each page of another size."""
    body, place, parts = bytes(64), 72, []
    for number in range(100_000):
        page = tags(
            *((256, 4, 1, 2 + number % 7), (257, 4, 1, 2), (258, 3, 1, 8), (259, 3, 1, 1)),
            *(
                (262, 3, 1, 1),
                (273, 4, 1, 8),
                (278, 4, 1, 2),
                (279, 4, 1, 4 + 2 * (number % 7)),
            ),
        )
        place += len(page)
        parts.append(page[:-4] + struct.pack("<I", place if number < 99_999 else 0))
    (folder / "pages.tif").write_bytes(
        b"II*\0" + struct.pack("<I", 72) + body + b"".join(parts)
    )
    return folder / "pages.tif"


def chunk(kind, data):
    return (
        struct.pack(">I", len(data))
        + kind
        + data
        + struct.pack(">I", zlib.crc32(kind + data))
    )


def png(path, width, height, body):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )
    return path


def png_bomb(folder):
    (folder / "png").mkdir()
    body = zeros(zlib.compressobj(9))
    for z in range(3):
        png(folder / "png" / f"s{z}.png", 46000, 46000, body)
    return folder / "png"


def png_lying(folder):
    (folder / "lying").mkdir()
    for z in range(3):
        png(folder / "lying" / f"s{z}.png", 64, 64, zeros(zlib.compressobj(9)))
    return folder / "lying"


def slices_outside(folder):
    """Slices that are links to a file elsewhere."""
    target = canary(folder) / "secret.tif"
    (folder / "slices").mkdir()
    for z in range(3):
        (folder / "slices" / f"s{z}.tif").symlink_to(target)
    return folder / "slices"


def slices_of_pipes(folder):
    (folder / "pipes").mkdir()
    for z in range(3):
        os.mkfifo(folder / "pipes" / f"s{z}.tif")
    return folder / "pipes"


# -- NIfTI, Amira, Zarr ----------------------------------------------------------------


def nifti_head(shape, bits=32, code=16):
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, 3, *shape, 1, 1, 1, 1)
    struct.pack_into("<2h", head, 70, code, bits)
    struct.pack_into("<8f", head, 76, 1, 1, 1, 1, 1, 1, 1, 1)
    struct.pack_into("<3f", head, 108, 352, 1, 0)
    head[123], head[344:348] = 2, b"n+1\0"
    return bytes(head)


def nifti(folder):
    (folder / "huge.nii").write_bytes(nifti_head((32767,) * 3) + bytes(4096))
    return folder / "huge.nii"


def nifti_negative(folder):
    (folder / "negative.nii").write_bytes(nifti_head((-4, 4, 4)) + bytes(4096))
    return folder / "negative.nii"


def nifti_gz_bomb(folder):
    pack = zlib.compressobj(9, wbits=31)
    head = pack.compress(nifti_head((64, 64, 64)))
    (folder / "bomb.nii.gz").write_bytes(head + zeros(pack))
    return folder / "bomb.nii.gz"


def nifti_gz_true_to_its_header(folder):
    pack = zlib.compressobj(9, wbits=31)
    head = pack.compress(nifti_head((1024, 1024, 512)))
    (folder / "true.nii.gz").write_bytes(head + zeros(pack))
    return folder / "true.nii.gz"


def amira(folder, lattice="64 64 64", body=b"\x7f\0" * 9, packed="HxByteRLE"):
    text = (
        "# AmiraMesh BINARY-LITTLE-ENDIAN 2.1\n\n"
        f"define Lattice {lattice}\n\nParameters {{\n"
        '  CoordType "uniform",\n  BoundingBox 0 63 0 63 0 63\n}\n\n'
        f"Lattice {{ byte Labels }} @1({packed},{len(body)})\n\n"
        "# Data section follows\n@1\n"
    )
    (folder / "labels.am").write_bytes(text.encode() + body + b"\n")
    return folder / "labels.am"


def amira_rle_bomb(folder):
    """Runs that make 30 MB of the 262,144 voxels that there are."""
    return amira(folder, body=b"\x7f\1" * 240_000)


def amira_huge(folder):
    return amira(folder, "99999 99999 99999", b"\x7f\1" * 100)


def amira_long_header(folder):
    path = folder / "long.am"
    path.write_bytes(
        b"# AmiraMesh BINARY-LITTLE-ENDIAN 2.1\n" + b"Parameters {\n" * (16 << 20)
    )
    return path


def amira_zip_bomb(folder):
    return amira(folder, body=zeros(zlib.compressobj(9)), packed="HxZip")


def zarr(folder, shape, chunks, body):
    """Write an OME-Zarr 0.4 image of one level with one chunk."""
    path = folder / "v.zarr"
    (path / "0").mkdir(parents=True)
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"]
    scale = [{"type": "scale", "scale": [1.0, 1.0, 1.0]}]
    level = {"path": "0", "coordinateTransformations": scale}
    image = {"version": "0.4", "axes": axes, "datasets": [level]}
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    (path / ".zattrs").write_text(json.dumps({"multiscales": [image]}))
    array = {
        "zarr_format": 2,
        "shape": shape,
        "chunks": chunks,
        "dtype": "|u1",
        "compressor": {"id": "zlib", "level": 9},
        "fill_value": 0,
        "order": "C",
        "filters": None,
        "dimension_separator": "/",
    }
    (path / "0" / ".zarray").write_text(json.dumps(array))
    (path / "0" / "0" / "0").mkdir(parents=True)
    (path / "0" / "0" / "0" / "0").write_bytes(body)
    return path


def zarr_chunk_bomb(folder):
    return zarr(folder, [64] * 3, [64] * 3, zeros(zlib.compressobj(9)))


def zarr_large_chunk(folder):
    return zarr(folder, [2048] * 3, [2048] * 3, zeros(zlib.compressobj(9)))


def zarr_shape_bomb(folder):
    return zarr(folder, [10**6] * 3, [64] * 3, zlib.compress(bytes(64**3)))


def zarr_outside(folder):
    outside = canary(folder)
    path = zarr(folder, [3, 4, 5], [3, 4, 5], b"")
    place = path / "0" / "0" / "0" / "0"
    place.unlink()
    place.symlink_to(outside / "secret.raw")
    return path


CASES = {
    make.__name__: make
    for make in (
        *(h5_external_link, h5_virtual, h5_virtual_without_source, h5_virtual_of_itself),
        *(h5_external_storage, h5_external_device, h5_shape_bomb, h5_contiguous_bomb),
        *(h5_chunk_bomb, h5_many_chunk_bombs, h5_large_chunk, h5_link_loop),
        *(h5_deep_groups, h5_many_datasets, h5_attribute_bomb),
        *(mrc_sparse, mrc_gz_bomb, mrc_gz_true_to_its_header, em_bomb, em_negative),
        *(npy_pickle, npy_is_a_pickle, npy_shape_bomb, npy_long_header, npy_lying_header),
        *(raw_sparse, fifo, device),
        *(tiff_true_bomb, tiff_bomb, tiff_huge, tiff_lying_count, tiff_tile_bomb),
        *(tiff_loop, tiff_many_pages),
        *(png_bomb, png_lying, slices_outside, slices_of_pipes),
        *(nifti, nifti_negative, nifti_gz_bomb, nifti_gz_true_to_its_header),
        *(amira_rle_bomb, amira_huge, amira_long_header, amira_zip_bomb),
        *(zarr_chunk_bomb, zarr_large_chunk, zarr_shape_bomb, zarr_outside),
    )
} | {
    "mrc_huge": mrc("huge", 20000, 20000, 20000),
    "mrc_2_to_31": mrc("edges", 2**31 - 1, 2**31 - 1, 2**31 - 1),
    "mrc_negative": mrc("negative", -64, -64, 64),
    "mrc_long_extended_header": mrc("extended", 4, 4, 4, extra=2**31 - 1),
    "mrc_negative_extended_header": mrc("backwards", 4, 4, 4, extra=-1024),
}
