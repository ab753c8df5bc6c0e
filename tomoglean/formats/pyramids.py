"""Volumes written as OME-Zarr 0.4 (https://ngff.openmicroscopy.org/0.4), as pyramids."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tomoglean.formats.source import Array, Source, Triple, needed
from tomoglean.provenance import Refused

VERSION = "0.4"
COARSE_ENOUGH = 128
SLAB_BYTES = 1 << 27
CHUNKS = ((64, 64), (16, 128), (4, 256), (1, 512))
PACKING = {"cname": "zstd", "clevel": 1, "shuffle": 1}
IGNORE = 255
GREY = (128, 128, 128, 255)
# Those of report/style.py, in its order: a class looks the same wherever it is seen.
COLOURS = [
    *[(0, 0, 0, 0), (230, 159, 0, 255), (86, 180, 233, 255), (204, 121, 167, 255)],
    *[(0, 158, 115, 255), (0, 114, 178, 255), (213, 94, 0, 255), (240, 228, 66, 255)],
]


def write(source: Source, path: Path) -> None:
    """Write level by level; every coarser one is made of the one before."""
    if source.voxel_nm is None or source.z is not None:
        found = "none" if source.voxel_nm is None else "a sparse set of slices"
        raise Refused(
            f"{source.name}: expected neighbouring slices and a voxel size to write"
            f" {path.name}, found {found}; fill in voxel_nm, or write TIFF slices"
        )
    zarr = needed("zarr", path.name)
    with (
        replacing_folder(path) as folder,
        zarr.config.set({"async.concurrency": 2}),
        _one_thread(path),
    ):
        root = zarr.create_group(folder, zarr_format=2)
        levels = [_finest(root, source)]
        steps = [(1, 1, 1)]
        while max(levels[-1].shape) > COARSE_ENOUGH:
            factors = shrinking(source.voxel_nm, steps[-1])
            levels.append(_coarser(root, levels[-1], factors, bool(source.materials)))
            steps.append(tuple(np.multiply(steps[-1], factors).tolist()))
        root.attrs.put(_attributes(source, steps, path))


@contextlib.contextmanager
def _one_thread(path: Path) -> Iterator[None]:
    """Keep Blosc to one thread a chunk; more leave its blocks in the order they end."""
    blosc = needed("numcodecs.blosc", path.name)
    before, blosc.use_threads = blosc.use_threads, False
    try:
        yield
    finally:
        blosc.use_threads = before


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Write a folder as a whole or not at all.

    Yields a temporary folder beside it; when the block ends well its files are flushed to
    disk and it takes the place of `path`, otherwise it is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".partial-{path.name}-"))
    made, old = partial / path.name, partial / "old"
    try:
        made.mkdir()
        yield made
        _flush(made)
        _take_place(made, path, old)
    finally:
        shutil.rmtree(partial)


def _take_place(made: Path, path: Path, old: Path) -> None:
    if path.exists():
        path.rename(old)
    try:
        made.rename(path)
    except OSError:
        old.rename(path)
        raise


def _flush(folder: Path) -> None:
    for base, _, names in os.walk(folder):
        for name in names:
            with open(Path(base, name), "rb") as file:
                os.fsync(file.fileno())


def _create(root: Any, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """Create a level in chunks of 2^18 voxels, thin where slices are wide."""
    numcodecs = needed("numcodecs", name)
    slice_bytes = shape[1] * shape[2] * dtype.itemsize
    fitting = [pair for pair in CHUNKS if pair[0] * slice_bytes <= SLAB_BYTES]
    thick, wide = (fitting or CHUNKS[-1:])[0]
    return root.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=(min(thick, shape[0]), min(wide, shape[1]), min(wide, shape[2])),
        compressors=numcodecs.Blosc(**PACKING),
        filters=None,
        fill_value=0,
        chunk_key_encoding={"name": "v2", "separator": "/"},
        config={"write_empty_chunks": True},
    )


def _finest(root: Any, source: Source) -> Any:
    level = _create(root, "0", source.shape, source.dtype)
    for start in range(0, source.shape[0], level.chunks[0]):
        part = slice(start, min(start + level.chunks[0], source.shape[0]))
        level[part] = source.read(part)
    return level


def shrinking(voxel_nm: Triple, steps: tuple[int, int, int]) -> tuple[int, int, int]:
    """Choose the axes to be halved: not those whose voxels are long already.

    Examples
    --------
    >>> shrinking((50, 4, 4), (1, 1, 1))
    (1, 2, 2)
    """
    edges = np.multiply(voxel_nm, steps)
    z, y, x = (2 if edge < 2 * edges.min() else 1 for edge in edges)
    return z, y, x


def _coarser(root: Any, fine: Any, factors: tuple[int, int, int], labels: bool) -> Any:
    shape = tuple(-(-n // step) for n, step in zip(fine.shape, factors, strict=True))
    level = _create(root, str(int(fine.basename) + 1), shape, fine.dtype)
    thick = min(level.chunks[0], max(1, fine.chunks[0] // factors[0]))
    for start in range(0, shape[0], thick):
        stop = min(start + thick, shape[0])
        block = fine[start * factors[0] : stop * factors[0]]
        level[start:stop] = shrunk(block, factors, labels=labels)
    return level


def shrunk(block: Array, factors: tuple[int, int, int], *, labels: bool) -> Array:
    """Make one voxel of each 2 (or 1) along z, y, x; the last one is met twice if alone.

    Parameters
    ----------
    block
        Array of shape (n, Y, X).
    factors
        1 or 2 for each axis.
    labels
        Take the value met most often, of several the smallest; otherwise the mean, in
        integers rounded to the nearest (half to even).

    Returns
    -------
    ndarray of shape (ceil(n / factor), ...), of the same dtype
    """
    pads = [(0, -n % step) for n, step in zip(block.shape, factors, strict=True)]
    padded = np.pad(block, pads, mode="edge") if np.any(pads) else block
    shape = [n // step for n, step in zip(padded.shape, factors, strict=True)]
    images = padded.reshape(shape[0], factors[0], *padded.shape[1:])
    join = _most_frequent if labels else _mean
    found = [join(_corners(image, factors)) for image in images]
    return np.stack(found).astype(block.dtype, copy=False)


def _corners(images: Array, factors: tuple[int, int, int]) -> Array:
    """Return the voxels that become one, as (voxels, Y, X)."""
    parts = [
        image[y :: factors[1], x :: factors[2]]
        for image in images
        for y in range(factors[1])
        for x in range(factors[2])
    ]
    return np.stack(parts)


def _mean(corners: Array) -> Array:
    mean: Array = corners.mean(axis=0, dtype=np.float64)
    return np.rint(mean) if corners.dtype.kind in "iu" else mean


def _most_frequent(corners: Array) -> Array:
    corners = np.sort(corners, axis=0)
    times = np.zeros(corners.shape, np.uint8)
    for corner in corners:
        times += corners == corner
    best = np.argmax(times, axis=0)[None]
    found: Array = np.take_along_axis(corners, best, axis=0)[0]
    return found


def _attributes(source: Source, steps: list[Any], path: Path) -> dict[str, Any]:
    image = {
        "version": VERSION,
        "name": path.name.partition(".")[0],
        "axes": [{"name": axis, "type": "space", "unit": "nanometer"} for axis in "zyx"],
        "datasets": [
            {
                "path": str(number),
                "coordinateTransformations": _transformations(source, step),
            }
            for number, step in enumerate(steps)
        ],
        "type": "mode" if source.materials else "mean",
    }
    labels = {"image-label": _label(source.materials)} if source.materials else {}
    return {"multiscales": [image], **labels}


def _transformations(source: Source, steps: Triple) -> list[dict[str, Any]]:
    """Place the centre of the first voxel where the centre of those it was made of is."""
    edges = np.array(source.voxel_nm)
    start = np.array(source.origin_nm) + edges * (np.array(steps) - 1) / 2
    return [
        {"type": "scale", "scale": (edges * steps).tolist()},
        {"type": "translation", "translation": start.tolist()},
    ]


def _label(materials: Mapping[int, str]) -> dict[str, Any]:
    values = sorted(materials)
    return {
        "version": VERSION,
        "colors": [{"label-value": n, "rgba": list(colour(n))} for n in values],
        "properties": [{"label-value": n, "name": materials[n]} for n in values],
    }


def colour(value: int) -> tuple[int, int, int, int]:
    """Return the colour of a label (doi:10.1038/nmeth.1618): 0 clear, 255 grey."""
    if value == IGNORE:
        return GREY
    return COLOURS[0] if value == 0 else COLOURS[1 + (value - 1) % (len(COLOURS) - 1)]
