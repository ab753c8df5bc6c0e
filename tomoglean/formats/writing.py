"""What every writer shares: slabs in a type the format holds, never the whole volume."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tomoglean.formats.source import Array, Source, Triple
from tomoglean.provenance import Refused

SLAB_BYTES = 1 << 28
THICKEST = 64


def slabs(source: Source) -> Iterator[Array]:
    """Read a volume from its first slice to its last, at most 256 MiB at once.

    A slab is a power of two of slices thick, so that it divides the chunks of a file.
    """
    depth, height, width = source.shape
    allowed = SLAB_BYTES // (height * width * source.dtype.itemsize)
    step = min(THICKEST, 1 << max(0, allowed.bit_length() - 1))
    for start in range(0, depth, step):
        yield source.read(slice(start, min(start + step, depth)))


def stored_dtype(source: Source, table: Mapping[str, str], format: str) -> np.dtype[Any]:
    """Look up the type a format has for the voxels of a volume.

    Raises
    ------
    Refused
        If it has none, as for complex numbers.
    """
    if source.dtype.name not in table:
        raise Refused(
            f"{source.name}: expected real numbers to write as {format}, found"
            f" {source.dtype}; save the volume itself, not its transform"
        )
    return np.dtype(table[source.dtype.name])


def cast(block: Array, dtype: npt.DTypeLike, name: str) -> Array:
    """Bring voxels to another type: integers exactly, fractions to its precision.

    Raises
    ------
    Refused
        If an integer would change or a finite number become infinite.
    """
    if block.dtype == dtype:
        return block
    with np.errstate(all="ignore"):
        found = block.astype(dtype)
        if block.dtype.kind == "f":
            kept = np.isfinite(found) == np.isfinite(block)
        else:
            kept = found.astype(block.dtype) == block
    if not kept.all():
        raise Refused(
            f"{name}: expected values that {np.dtype(dtype)} can hold, found"
            f" {block[~kept][0]}; write OME-Zarr, or scale the volume"
        )
    return found


def voxel_nm(source: Source) -> Triple:
    """Return the voxel edges (z, y, x) in nm; nothing is written without them.

    Raises
    ------
    Refused
        If nobody knows them.
    """
    if source.voxel_nm is None or not all(0 < e < math.inf for e in source.voxel_nm):
        raise Refused(
            f"{source.name}: expected a voxel size to write with the volume, found"
            f" {source.voxel_nm}; state it (--voxel-nm Z,Y,X)"
        )
    return source.voxel_nm


def legend(source: Source) -> list[str]:
    """Write the names of label values, such as `1 = bone`, in plain ASCII."""
    return [
        f"{value} = {' '.join(name.encode('ascii', 'replace').decode().split())}"
        for value, name in sorted(source.materials.items())
    ]
