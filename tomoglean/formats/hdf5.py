"""HDF5 and NeXus: one dataset, opened in a child process.

The file is foreign and HDF5 has had memory errors that a file can use (such as
CVE-2025-6816), so this process never opens it: `sandbox.Child` does, and `hdf5_inside`
is what runs there. Links, virtual datasets and external storage are followed only to
files in the folder of the volume or in those that the column `linked` names.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tomoglean.formats.sandbox import Child
from tomoglean.formats.source import Array, Format, Row, Source, Triple, native
from tomoglean.provenance import Refused

FORMAT = Format(
    "HDF5",
    (".h5", ".hdf5", ".hdf", ".nxs", ".nx5"),
    "the dataset named in the column dataset, or the one that NeXus calls the default, or"
    " the only 3D one; links to other files only into the folder of the file and those of"
    " the column linked",
    "h5py",
)
INSIDE = "tomoglean.formats.hdf5_inside"
USES = (INSIDE,)
BLOCK_BYTES = 1 << 26
NUMBER = re.compile(r"[<>|=]?[biufc][0-9]{1,2}")


def recognises(path: Path, row: Row) -> bool:
    """Tell files of the format by their ending."""
    return FORMAT.fits(path)


@contextlib.contextmanager
def open_file(path: Path, row: Row) -> Iterator[Source]:
    """Open the dataset that the row names, the default of the file, or the only 3D one."""
    roots = _roots(path, row)
    with Child(path.name, INSIDE, roots) as child:
        told = child.ask(
            "open_volume",
            path=str(path.resolve()),
            dataset=row.get("dataset") or "",
            roots=[str(root) for root in roots],
        )
        yield _source(path, told, child, roots)


def files(path: Path, row: Row) -> list[Path]:
    """List the file and those that its voxels lie in; the file alone if it is damaged."""
    with contextlib.suppress(Refused), open_file(path, row) as source:
        return [path, *source.linked]
    return [path]


def scalars(
    path: str | os.PathLike[str], names: Mapping[str, str] | list[str]
) -> dict[str, float | str]:
    """Read single numbers and words of a foreign HDF5 file.

    Parameters
    ----------
    path
        HDF5 file.
    names
        Paths of datasets, such as "/entry/scan/n_angle"; of an array the first value is
        taken. A mapping gives them other names in the result.

    Returns
    -------
    dict
        By name; what is not there, or no number or word, is left out. Links to other
        files are not followed.

    Raises
    ------
    Refused
        If the file cannot be read.
    """
    path = Path(path)
    wanted = dict(names) if isinstance(names, Mapping) else {name: name for name in names}
    with Child(path.name, INSIDE, _roots(path, {})) as child:
        told = child.ask(
            "read_scalars", path=str(path.resolve()), names=list(wanted.values())
        )
    found = {name: told.get(place) for name, place in wanted.items()}
    return {
        name: value for name, value in found.items() if isinstance(value, float | int | str)
    }


def _roots(path: Path, row: Row) -> list[Path]:
    """List the folders that links may lead to."""
    own = path.resolve().parent
    said = [part.strip() for part in (row.get("linked") or "").split(",")]
    roots = [own / os.path.expandvars(folder) for folder in said if folder]
    for root in roots:
        if not root.is_dir():
            raise Refused(
                f"{path.name}: expected folders in the column linked, found"
                f" {root.name!r}, which is none; correct the row"
            )
    return [own, *(root.resolve() for root in roots)]


def _source(path: Path, told: Any, child: Child, roots: list[Path]) -> Source:
    """Make a volume of what the child tells, believing nothing that can be checked."""
    z, y, x = (int(edge) for edge in told["shape"])
    if not NUMBER.fullmatch(told["dtype"]):
        raise ValueError(f"dtype {told['dtype'][:20]!r}")
    linked = tuple(Path(file).resolve() for file in told["linked"])
    if not all(any(file.is_relative_to(root) for root in roots) for file in linked):
        raise ValueError("a link that leaves the folder")
    return Source(
        path.name,
        (z, y, x),
        native(told["dtype"]),
        _Pages(told, native(told["dtype"]), child).read,
        _triple(told["voxel_nm"]),
        origin_nm=_triple(told["origin_nm"] or (0, 0, 0)),
        linked=linked,
        warnings=[str(line) for line in told["warnings"]],
    )


def _triple(values: Any) -> Triple:
    z, y, x = (np.nan if value is None else float(value) for value in values)
    return z, y, x


class _Pages:
    """Slices of the dataset that a child has open, fetched in blocks of whole chunks."""

    def __init__(self, told: Any, dtype: np.dtype[Any], child: Child) -> None:
        self.shape = tuple(int(edge) for edge in told["shape"])
        self.chunk = tuple(
            min(max(1, int(edge)), most)
            for edge, most in zip(told["chunk"], self.shape[:2], strict=True)
        )
        self.dtype, self.child = dtype, child

    def read(self, part: slice) -> Array:
        """Read slices as (n, Y, X)."""
        start, stop, _ = part.indices(self.shape[0])
        slab = np.empty((stop - start, *self.shape[1:]), self.dtype)
        for z, y in self._blocks(slab):
            block = slab[z, y]
            fetched = block if block.flags.c_contiguous else np.empty_like(block, order="C")
            self._fetch(fetched, start + z.start, y.start)
            if fetched is not block:
                block[...] = fetched
        return slab

    def _blocks(self, slab: Array) -> Iterator[tuple[slice, slice]]:
        """Cut a slab along z, or along y where chunks are too deep for that."""
        depth, height, _ = slab.shape
        chunk_z, chunk_y = self.chunk
        thickness = BLOCK_BYTES // max(1, slab[:1].nbytes) // chunk_z * chunk_z
        if thickness or slab.nbytes <= BLOCK_BYTES:
            for z in range(0, depth, thickness or depth):
                yield slice(z, min(z + (thickness or depth), depth)), slice(0, height)
            return
        rows = max(1, BLOCK_BYTES // slab[:, :1].nbytes // chunk_y) * chunk_y
        for y in range(0, height, rows):
            yield slice(0, depth), slice(y, min(y + rows, height))

    def _fetch(self, block: Array, z: int, y: int) -> None:
        depth, height, _ = block.shape
        self.child.read_into(block, "read_block", z=[z, z + depth], y=[y, y + height])
