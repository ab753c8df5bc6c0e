"""Volumes on disk: chunked, checksummed HDF5 with axes (Z, Y, X) and voxels in nm."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from tomoglean.provenance import replacing

IGNORE = 255
CHUNK = 64
FORMAT = "tomoglean-volume-1"


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
    """

    data: Any
    voxel_nm: tuple[float, float, float]
    z: npt.NDArray[np.int64] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (Z, Y, X) in voxels."""
        z, y, x = self.data.shape
        return int(z), int(y), int(x)


@contextlib.contextmanager
def open_volume(path: str | os.PathLike[str], dataset: str = "data") -> Iterator[Volume]:
    """Open a volume without reading it: slice `volume.data` to get arrays."""
    with h5py.File(path, "r", locking="best-effort") as file:
        depth, height, width = (float(edge) for edge in file.attrs["voxel_nm"])
        z = np.asarray(file["z"], np.int64) if "z" in file else None
        yield Volume(file[dataset], (depth, height, width), z)


def read(path: str | os.PathLike[str], dataset: str = "data") -> Volume:
    """Read a whole volume; only for volumes known to be small."""
    with open_volume(path, dataset) as volume:
        return Volume(volume.data[...], volume.voxel_nm, volume.z)


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


@contextlib.contextmanager
def create(
    path: str | os.PathLike[str],
    datasets: Mapping[str, tuple[tuple[int, ...], npt.DTypeLike]],
    *,
    voxel_nm: tuple[float, float, float],
    z: npt.NDArray[np.int64] | None = None,
    **attrs: Any,
) -> Iterator[h5py.File]:
    """Create a volume file to be filled slab by slab; it appears when the block ends.

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
    attrs
        Whatever else the file says of itself.
    """
    with (
        replacing(path) as partial,
        h5py.File(partial, "w", locking="best-effort") as file,
    ):
        file.attrs["format"] = FORMAT
        file.attrs["voxel_nm"] = voxel_nm
        file.attrs.update(attrs)
        if z is not None:
            file["z"] = np.asarray(z, np.int64)
        for name, (shape, dtype) in datasets.items():
            _create_dataset(file, name, shape, np.dtype(dtype))
        yield file


def _create_dataset(
    file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> None:
    chunks = tuple(1 for _ in shape[:-3]) + tuple(min(CHUNK, n) for n in shape[-3:])
    packed = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
    file.create_dataset(
        name,
        shape,
        dtype,
        chunks=chunks if all(shape) else None,
        fletcher32=bool(all(shape)),
        **(packed if dtype.itemsize == 1 and all(shape) else {}),
    )


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
    with create(path, layout, voxel_nm=volume.voxel_nm, z=volume.z, **attrs) as file:
        for name, array in arrays.items():
            file[name][...] = array


def slabs(depth: int, thickness: int = CHUNK) -> Iterator[slice]:
    """Cut `depth` slices into slabs of at most `thickness`, in order."""
    for start in range(0, depth, thickness):
        yield slice(start, min(start + thickness, depth))


def random(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return the random numbers for one purpose: keyed, never dependent on order."""
    text = "\x1f".join(str(part) for part in purpose)
    digest = hashlib.sha256(text.encode()).digest()
    return np.random.default_rng([seed, *np.frombuffer(digest, np.uint32)])
