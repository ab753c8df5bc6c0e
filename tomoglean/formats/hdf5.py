"""HDF5 and NeXus: one dataset of one file, and nothing that lies elsewhere."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tomoglean.formats.source import (
    MOST_BYTES_PER_SLICE,
    UNKNOWN,
    Format,
    Row,
    Source,
    Triple,
    native,
)
from tomoglean.provenance import Refused

FORMAT = Format(
    "HDF5",
    (".h5", ".hdf5", ".hdf", ".nxs", ".nx5"),
    "the dataset named in the column dataset, or the only 3D one",
    "h5py",
)


def recognises(path: Path, row: Row) -> bool:
    """Tell files of the format by their ending."""
    return FORMAT.fits(path)


@contextlib.contextmanager
def open_file(path: Path, row: Row) -> Iterator[Source]:
    """Open the dataset that the row names, or the only 3D one there is."""
    with h5py.File(path, "r", locking="best-effort") as file:
        name = row.get("dataset") or _only_volume(file, path)
        data = _resolve(file, name, path)
        warnings = _look_inside(data, path)
        yield Source(
            path.name,
            data.shape,
            native(data.dtype),
            lambda part: np.asarray(data[part]),
            _voxel_nm(data),
            warnings=warnings,
        )


def _only_volume(file: Any, path: Path) -> str:
    """Find the 3D dataset; `visititems` follows hard links only, never other files."""
    names: list[str] = []

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and len(item.shape or ()) == 3:
            names.append(name)

    file.visititems(note)
    if len(names) != 1:
        raise Refused(
            f"{path.name}: expected one 3D dataset or its path in the column dataset,"
            f" found {len(names)} ({', '.join(names[:5])}); fill in the column dataset"
        )
    return names[0]


def _resolve(file: Any, name: str, path: Path, depth: int = 8) -> Any:
    """Follow a path link by link; links that leave the file are refused."""
    node, parts = file, [part for part in name.split("/") if part]
    for position, part in enumerate(parts):
        link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
        if isinstance(link, h5py.SoftLink) and depth:
            base = link.path if link.path.startswith("/") else f"{node.name}/{link.path}"
            rest = "/".join([base, *parts[position + 1 :]])
            return _resolve(file, rest, path, depth - 1)
        if not isinstance(link, h5py.HardLink):
            what = "nothing" if link is None else "a link that leaves the file"
            raise Refused(
                f"{path.name}: expected a dataset at {name}, found {what} at {part!r};"
                " correct the column dataset or copy the data into the file"
            )
        node = node[part]
    return node


def _look_inside(data: Any, path: Path) -> list[str]:
    if not isinstance(data, h5py.Dataset) or len(data.shape or ()) != 3:
        found = f"shape {data.shape}" if isinstance(data, h5py.Dataset) else "a group"
        raise Refused(
            f"{path.name}: expected a 3D dataset at {data.name}, found {found};"
            " correct the column dataset"
        )
    if data.external or data.is_virtual or data.dtype.kind not in "biufc":
        raise Refused(
            f"{path.name}: expected numbers stored in the file itself at {data.name},"
            f" found {data.dtype} kept in other files or in no array; copy the data into it"
        )
    if data.id.get_storage_size() == 0:
        raise Refused(
            f"{path.name}: expected voxels at {data.name}, found none written;"
            " write the file again"
        )
    return _look_at_chunks(data, path) if data.chunks else []


def _look_at_chunks(data: Any, path: Path) -> list[str]:
    if math.prod(data.chunks) * data.dtype.itemsize > MOST_BYTES_PER_SLICE:
        raise Refused(
            f"{path.name}: expected chunks below 1 GiB, found {data.chunks}; rechunk it"
        )
    pairs = zip(data.shape, data.chunks, strict=True)
    expected = math.prod(math.ceil(edge / chunk) for edge, chunk in pairs)
    found = data.id.get_num_chunks()
    if found == expected:
        return []
    return [f"{path.name}: only {found} of {expected} chunks were ever written"]


def _voxel_nm(data: Any) -> Triple:
    """Read the voxel size from `voxel_nm` (ours) or `element_size_um` (Fiji, Ilastik)."""
    for holder in (data, data.parent):
        for name, unit_nm in (("voxel_nm", 1.0), ("element_size_um", 1000.0)):
            edges = np.ravel(holder.attrs.get(name, []))
            if edges.shape == (3,) and edges.dtype.kind in "iuf" and (edges > 0).all():
                z, y, x = (float(edge) * unit_nm for edge in edges)
                return z, y, x
    return UNKNOWN
