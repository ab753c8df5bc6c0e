"""Volumes on disk: chunked, checksummed HDF5 with axes (Z, Y, X) and voxels in nm."""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from tomoglean import chunks
from tomoglean.chunks import Dataset
from tomoglean.provenance import Refused, replacing

IGNORE = 255
CHUNK = chunks.CHUNK
WRITTEN_BACK = 1 << 16
FORMAT = "tomoglean-volume-1"

Layout = Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]


@dataclass(frozen=True)
class Volume:
    """A 3D image and the size of its voxels.

    Attributes
    ----------
    data
        Array of shape (Z, Y, X): in memory after `read`, on disk inside `open_volume`.
    voxel_nm
        Voxel edges along z, y, x in nm.
    z
        True z of every slice where only some slices exist (a sparse set), in units of
        voxel_nm[0]; None if the slices are neighbours.
    origin_nm
        Where the centre of voxel (0, 0, 0) stands in the frame of the raw file, as
        z, y, x in nm.
    """

    data: Any
    voxel_nm: tuple[float, float, float]
    z: npt.NDArray[np.int64] | None = None
    origin_nm: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (Z, Y, X) in voxels."""
        z, y, x = self.data.shape
        return int(z), int(y), int(x)


@contextlib.contextmanager
def open_volume(path: str | os.PathLike[str], dataset: str = "data") -> Iterator[Volume]:
    """Open a volume without reading it: slice `volume.data` to get arrays."""
    with h5py.File(path, "r", locking="best-effort") as file:
        voxel_nm = _triple(file.attrs["voxel_nm"])
        origin_nm = _triple(file.attrs.get("origin_nm", (0.0, 0.0, 0.0)))
        z = np.asarray(file["z"], np.int64) if "z" in file else None
        yield Volume(file[dataset], voxel_nm, z, origin_nm)


def _triple(values: Any) -> tuple[float, float, float]:
    z, y, x = (float(value) for value in values)
    return z, y, x


def read(path: str | os.PathLike[str], dataset: str = "data") -> Volume:
    """Read a whole volume; only for volumes known to be small."""
    with open_volume(path, dataset) as volume:
        return dataclasses.replace(volume, data=volume.data[...])


def attributes(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what a volume file says of itself (source, fingerprint, classes ...)."""
    with h5py.File(path, "r", locking="best-effort") as file:
        return {name: _plain(value) for name, value in file.attrs.items()}


def class_names(path: str | os.PathLike[str]) -> list[str]:
    """Read the class names, by label, that a label or segmentation file carries."""
    stored = attributes(path)["classes"]
    return list(json.loads(stored) if isinstance(stored, str) else stored)


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


class Writer:
    """A volume file in the making: `writer["data"][slab] = array`, and `writer.attrs`."""

    def __init__(self, file: h5py.File, datasets: Mapping[str, Dataset]) -> None:
        self.attrs, self._datasets = file.attrs, datasets

    def __getitem__(self, name: str) -> Dataset:
        """Return a dataset by name."""
        return self._datasets[name]


@contextlib.contextmanager
def create(
    path: str | os.PathLike[str],
    datasets: Mapping[str, tuple[tuple[int, ...], npt.DTypeLike]],
    *,
    voxel_nm: tuple[float, float, float],
    z: npt.NDArray[np.int64] | None = None,
    origin_nm: tuple[float, float, float] = (0.0, 0.0, 0.0),
    **attrs: Any,
) -> Iterator[Writer]:
    """Create a volume file to be filled slab by slab; it appears when the block ends.

    It is then complete, on disk and read back in part.

    Parameters
    ----------
    path
        Where the file will stand.
    datasets
        Shape and dtype of every dataset by name; the main one is called `data`. The last
        three axes are (Z, Y, X).
    voxel_nm
        Voxel edges along z, y, x in nm.
    z
        True z of every slice of a sparse set.
    origin_nm
        Where the centre of voxel (0, 0, 0) stands, as z, y, x in nm.
    attrs
        Whatever else the file says of itself.

    Raises
    ------
    Refused
        If the disk has no room for it, or it cannot be written or read back.
    """
    layout = {name: (shape, np.dtype(dtype)) for name, (shape, dtype) in datasets.items()}
    _has_room(Path(path), layout)
    with replacing(path) as partial:
        with (
            _opened(partial, Path(path).name) as file,
            ThreadPoolExecutor(chunks.THREADS) as pool,
        ):
            file.attrs["format"] = FORMAT
            file.attrs["voxel_nm"] = voxel_nm
            file.attrs["origin_nm"] = origin_nm
            file.attrs.update(attrs)
            if z is not None:
                file["z"] = np.asarray(z, np.int64)
            made = {
                name: Dataset(_dataset(file, name, *one), pool, partial.parent)
                for name, one in layout.items()
            }
            yield Writer(file, made)
            for dataset in made.values():
                dataset.finish()
        _verify(partial, layout, Path(path).name)


def _has_room(path: Path, layout: Layout) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    needed = sum(math.prod(shape) * dtype.itemsize for shape, dtype in layout.values())
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise Refused(
            f"{path.name}: expected {needed / 1e9:.3g} GB free on the disk of the results,"
            f" found {free / 1e9:.3g} GB; make room, then start again"
        )


@contextlib.contextmanager
def _opened(partial: Path, name: str) -> Iterator[h5py.File]:
    """Open a new HDF5 file that answers a full disk with a refusal.

    HDF5 itself dies by a signal when it cannot write on closing. Errors are therefore
    kept from it and raised afterwards.
    """
    with partial.open("r+b", buffering=0) as raw:
        guarded = _Guarded(raw)
        try:
            with h5py.File(guarded, "w") as file:
                yield file
        finally:
            if guarded.error:
                raise Refused(
                    f"{name}: expected to write the volume, found"
                    f" {guarded.error.strerror or guarded.error}; make room on the disk,"
                    " then start again"
                ) from guarded.error


class _Guarded:
    """A file whose writing never fails; what went wrong stands in `error`."""

    def __init__(self, raw: FileIO) -> None:
        self.raw = raw
        self.error: OSError | None = None
        for name in ("seek", "tell", "read", "readinto", "flush"):
            setattr(self, name, getattr(raw, name))

    def write(self, data: memoryview) -> int:
        """Write all of it, and have the system begin to put it on the disk."""
        size, done = len(data), 0
        try:
            start = self.raw.tell()
            while done < size and not self.error:
                done += self.raw.write(data[done:])
            if size >= WRITTEN_BACK and not self.error:
                _write_back(self.raw.fileno(), start, size)
        except OSError as error:
            self.error = self.error or error
        return size

    def truncate(self, size: int) -> int:
        """Set the length."""
        try:
            return self.raw.truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size


def _write_back(number: int, start: int, size: int) -> None:
    """Begin to write a part back: Linux does so for this advice and keeps dirty pages."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(number, start, size, os.POSIX_FADV_DONTNEED)


def _dataset(
    file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> h5py.Dataset:
    if not all(shape):
        return file.create_dataset(name, shape, dtype)
    shape_of_chunk = tuple(1 for _ in shape[:-3]) + tuple(min(CHUNK, n) for n in shape[-3:])
    filters = {"shuffle": True, "compression": "gzip", "compression_opts": chunks.LEVEL}
    return file.create_dataset(
        name, shape, dtype, chunks=shape_of_chunk, fletcher32=True, **filters
    )


def _verify(partial: Path, layout: Layout, name: str) -> None:
    """Open a file anew and read the last chunk of every dataset, with its checksum."""
    try:
        with h5py.File(partial, "r", locking="best-effort") as file:
            for dataset, (shape, _) in layout.items():
                file[dataset][tuple(slice(n - 1, n) for n in shape)]
    except (OSError, KeyError) as error:
        raise Refused(
            f"{name}: expected to read back what was written, found damage ({error});"
            " is the disk sound? Start again"
        ) from error


def write(
    volume: Volume,
    path: str | os.PathLike[str],
    *,
    extra: Mapping[str, npt.NDArray[Any]] | None = None,
    **attrs: Any,
) -> None:
    """Write a volume that is in memory, and further datasets of the same grid."""
    arrays = {"data": np.asarray(volume.data), **(extra or {})}
    layout = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    with create(
        path,
        layout,
        voxel_nm=volume.voxel_nm,
        z=volume.z,
        origin_nm=volume.origin_nm,
        **attrs,
    ) as file:
        for name, array in arrays.items():
            file[name][...] = array


def slabs(depth: int, thickness: int = CHUNK) -> Iterator[slice]:
    """Cut `depth` slices into slabs of at most `thickness`, in order."""
    for start in range(0, depth, thickness):
        yield slice(start, min(start + thickness, depth))


def thickness(bytes_per_slice: int, most: int) -> int:
    """Slices of a slab of at most so many bytes: a power of two up to a chunk's, or 1."""
    allowed = max(1, most // max(1, bytes_per_slice))
    return min(CHUNK, 1 << (allowed.bit_length() - 1))


def tiles(
    shape: tuple[int, ...], itemsize: int, most: int = 0
) -> Iterator[tuple[slice, slice]]:
    """Cut a volume into tiles of whole chunks of z and y, of about so many bytes.

    Unlike thin slabs they read every chunk once, however large the slices are. 0 takes
    `chunks.TILE_BYTES`.
    """
    depth, height, width = shape
    rows = max(1, (most or chunks.TILE_BYTES) // (CHUNK * CHUNK * width * itemsize)) * CHUNK
    for z in slabs(depth):
        for y in slabs(height, rows):
            yield z, y


def random(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return the random numbers for one purpose: keyed, never dependent on order."""
    text = "\x1f".join(str(part) for part in purpose)
    digest = hashlib.sha256(text.encode()).digest()
    return np.random.default_rng([seed, *np.frombuffer(digest, np.uint32)])
