"""What the child process does with a foreign HDF5 file; see `hdf5` and `sandbox`."""

import contextlib
import importlib
import math
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tomoglean.formats import nexus
from tomoglean.formats.source import Array, native
from tomoglean.provenance import Refused

with contextlib.suppress(ImportError):
    importlib.import_module("hdf5plugin")

FORMAT_NAME = "HDF5"
MOST_OBJECTS = 10_000
MOST_LINKS = 32
MOST_CHUNKS = 1_000_000
MOST_SEARCHED = 100_000
MOST_SOURCES = 4096
MOST_NESTED = 8
MOST_CHUNK_BYTES = 1 << 27
LARGE_BYTES = 1 << 30
MOST_RATIO = 2000
FOREIGN_FILTERS = {32001: "blosc", 32004: "lz4", 32008: "bitshuffle", 32015: "zstd"}
OPENED: list[Any] = []


def open_volume(path: str, dataset: str, roots: list[str]) -> dict[str, Any]:
    """Find the volume of a file and say what it is; `read_block` then reads it.

    Returns
    -------
    dict
        `shape`, `dtype`, `chunk` (slices and rows best read at once),
        `voxel_nm` and `origin_nm` (z, y, x; None = not known), `linked` (other files
        that hold voxels), `warnings`.
    """
    _forget()
    tree = _Tree(Path(path), [Path(root) for root in roots])
    data, group = _volume(tree, dataset)
    tree.inspect(data)
    if data.external:
        os.chdir(Path(data.file.filename).parent)  # where HDF5 looks for it
    OPENED.append(data)
    voxel_nm, origin_nm, warnings = nexus.calibration(tree.node, data, group)
    if len(data.shape) == 4:
        warnings.append("its last axis of length 1 was left out")
    return {
        "shape": data.shape[:3],
        "dtype": native(data.dtype).str,
        "chunk": data.chunks[:2] if data.chunks else (1, 1),
        "voxel_nm": [None if math.isnan(edge) else edge for edge in voxel_nm],
        "origin_nm": origin_nm,
        "linked": sorted(map(str, (tree.files.keys() | tree.plain) - {tree.path})),
        "warnings": [f"{tree.path.name}: {line}" for line in tree.warnings + warnings],
    }


def _forget() -> None:
    for data in OPENED:
        data.file.close()
    OPENED.clear()


def read_block(z: list[int], y: list[int]) -> Array:
    """Read rows y of slices z as (n, Y, X) in native byte order."""
    data = OPENED[-1]
    part: tuple[Any, ...] = slice(*z), slice(*y), slice(None)
    block = data[(*part, 0) if len(data.shape) == 4 else part]
    return np.ascontiguousarray(block).astype(native(data.dtype), copy=False)


def read_scalars(path: str, names: list[str]) -> dict[str, float | str]:
    """Read the first value of datasets, as far as they are numbers or words."""
    tree = _Tree(Path(path), [])
    found = {}
    for name in names:
        with contextlib.suppress(Refused):
            item = tree.node(tree.open(tree.path), name)
            if isinstance(item, h5py.Dataset) and (value := _scalar(item)) is not None:
                found[name] = value
    return found


def _scalar(item: Any) -> float | str | None:
    if item.size is None or item.size < 1 or item.is_virtual or item.external:
        return None
    value = item[(0,) * item.ndim]
    if isinstance(value, bytes):
        return value.decode(errors="replace")[:1000]
    if isinstance(value, str):
        return value[:1000]
    number = float(value) if np.dtype(item.dtype).kind in "biuf" else math.nan
    return number if math.isfinite(number) else None


@dataclass
class _Tree:
    """A file and those it may link to.

    Attributes
    ----------
    path
        The file, resolved.
    roots
        Folders that links may lead to; none = links to other files are refused.
    files
        HDF5 files opened so far.
    plain
        Files of external storage.
    """

    path: Path
    roots: list[Path]
    files: dict[Path, Any] = field(default_factory=dict)
    plain: set[Path] = field(default_factory=set)
    links: int = 0
    sources: int = 0
    inspected: set[tuple[str, str]] = field(default_factory=set)
    within: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def open(self, path: Path) -> Any:
        """Open a file once."""
        if path not in self.files:
            self.files[path] = h5py.File(path, "r", locking="best-effort")
        return self.files[path]

    def refuse(self, expected: str, found: str, do: str) -> Refused:
        """Make a refusal that names the file."""
        return Refused(f"{self.path.name}: expected {expected}, found {found}; {do}")

    def target(self, name: str, file: Any) -> Path:
        """Find the file that a link of another file names; it must be allowed."""
        path = (Path(file.filename).parent / name).resolve()
        root = next((root for root in self.roots if path.is_relative_to(root)), None)
        if root is None or any(
            part.startswith(".") for part in path.relative_to(root).parts
        ):
            raise self.refuse(
                "links to files beside it",
                f"one that leaves the file's folder, to {path.name!r}",
                "copy the data into the file, or name the folder in the column linked",
            )
        if not (path.exists() and stat.S_ISREG(path.stat().st_mode)):
            raise self.refuse(
                f"the linked file {path.name!r}", "none", "copy it to where the link leads"
            )
        return path

    def node(self, file: Any, name: str) -> Any:
        """Follow a path link by link; h5py must not, since it follows them anywhere."""
        node, parts = file, [part for part in name.split("/") if part not in ("", ".")]
        for position, part in enumerate(parts):
            kind = nexus.link(node, part)
            if kind == h5py.h5l.TYPE_HARD:
                node = node[part]
                continue
            self.links += 1
            if kind is None or self.links > MOST_LINKS:
                what = f"nothing at {part!r}" if kind is None else "links without an end"
                raise self.refuse(
                    f"a dataset at {name[:100]}", what, "correct the column dataset"
                )
            return self._linked(node, part, "/".join(parts[position + 1 :]))
        return node

    def _linked(self, group: Any, name: str, rest: str) -> Any:
        """Follow a soft or external link of a group, and then the rest of the path."""
        value = group.id.links.get_val(name.encode(errors="surrogateescape"))
        texts = value if isinstance(value, tuple) else (value,)
        *other, path = [os.fsdecode(text) for text in texts]
        if other:
            return self.node(self.open(self.target(other[0], group.file)), f"{path}/{rest}")
        base = path if path.startswith("/") else f"{group.name}/{path}"
        return self.node(group.file, f"{base}/{rest}")

    def inspect(self, data: Any, virtual: bool = False) -> None:
        """Refuse a dataset whose voxels are no numbers, not there, or not allowed."""
        self._must_be_numbers(data)
        if data.is_virtual:
            self._inspect_sources(data)
        elif data.external and not virtual:
            self._inspect_external(data)
        elif data.external:
            raise self.refuse(
                "virtual datasets of plain ones", "external storage", "copy the data"
            )
        elif data.id.get_storage_size() == 0:
            raise self.refuse(
                f"voxels at {data.name}", "none written", "write the file again"
            )
        elif data.chunks:
            self._inspect_chunks(data)
        elif data.id.get_offset() is not None:
            self._inspect_plain(data)

    def _must_be_numbers(self, data: Any) -> None:
        if data.dtype.kind not in "biufc" or data.dtype.itemsize > 16:
            raise self.refuse(
                f"numbers at {data.name}", f"{data.dtype}", "correct the column dataset"
            )

    def _inspect_plain(self, data: Any) -> None:
        end = data.id.get_offset() + data.nbytes
        size = Path(data.file.filename).stat().st_size
        if end > size:
            raise self.refuse(f"{end} bytes", f"{size}", "copy the file again")

    def _inspect_chunks(self, data: Any) -> None:
        self._can_unpack(data)
        chunk_bytes = math.prod(data.chunks) * data.dtype.itemsize
        if chunk_bytes > MOST_CHUNK_BYTES:
            raise self.refuse("chunks of at most 128 MiB", f"{data.chunks}", "rechunk it")
        pairs = zip(data.shape, data.chunks, strict=True)
        expected = math.prod(math.ceil(edge / chunk) for edge, chunk in pairs)
        written, stored = data.id.get_num_chunks(), data.id.get_storage_size()
        sparse = 2 * written < expected or data.nbytes > MOST_RATIO * stored
        if data.nbytes > LARGE_BYTES and sparse:
            raise self.refuse(
                f"{data.nbytes} bytes of voxels at {data.name}",
                f"{stored} bytes in {written} of {expected} chunks",
                "write the file again",
            )
        if not _chunks_fit(data):
            raise self.refuse(
                f"chunks that fit {data.name}", "others", "copy the file again"
            )
        if written < expected:
            self.warnings.append(f"only {written} of {expected} chunks were ever written")

    def _can_unpack(self, data: Any) -> None:
        plist = data.id.get_create_plist()
        for number in range(plist.get_nfilters()):
            code = plist.get_filter(number)[0]
            if not h5py.h5z.filter_avail(code):
                name = FOREIGN_FILTERS.get(code, "unknown")
                raise self.refuse(
                    "a compression that this HDF5 knows",
                    f"filter {code} ({name})",
                    "pip install hdf5plugin, or save it with gzip",
                )

    def _inspect_external(self, data: Any) -> None:
        """Every file of external storage must be there, and long enough."""
        held = 0
        for name, offset, size in data.external:
            path = self.target(name, data.file)
            there = max(0, path.stat().st_size - offset)
            held += there if size >= h5py.h5f.UNLIMITED else min(size, there)
            self.plain.add(path)
        if held < data.nbytes:
            raise self.refuse(
                f"{data.nbytes} bytes in external files", f"{held}", "copy them again"
            )

    def _inspect_sources(self, data: Any) -> None:
        """Every source must be there: HDF5 itself reads missing ones as zeros."""
        sources = data.virtual_sources()
        if len(sources) > MOST_SOURCES or not _cover(sources, data):
            raise self.refuse(
                f"sources for all voxels of {data.name}",
                f"{len(sources)} sources for some of them",
                "write the file again",
            )
        for source in sources:
            self._inspect_source(data, source)

    def _inspect_source(self, data: Any, source: Any) -> None:
        name, dataset = source.file_name, source.dset_name
        self.sources += 1
        if self.sources > MOST_SOURCES or "%" in name + dataset:
            raise self.refuse("few sources with plain names", f"{name!r}", "copy the data")
        file = data.file if name == "." else self.open(self.target(name, data.file))
        found = self.node(file, dataset)
        fits = isinstance(found, h5py.Dataset) and found.file == file
        if not fits or not _holds(found.shape, source):
            raise self.refuse(
                f"the part named of the dataset {dataset!r} in {name!r}",
                f"shape {found.shape}" if fits else "none",
                "write the file again",
            )
        self._inspect_once(found)

    def _inspect_once(self, found: Any) -> None:
        """Inspect a source; HDF5 crashes on virtual datasets that contain themselves."""
        key = found.file.filename, found.name
        if key in self.within or len(self.within) > MOST_NESTED:
            raise self.refuse(
                "sources that hold voxels", "sources without an end", "copy the data"
            )
        if key not in self.inspected:
            self.within.append(key)
            self.inspect(found, virtual=True)
            self.inspected.add(self.within.pop())


def _chunks_fit(data: Any) -> bool:
    """Tell whether chunks stand on the grid, lie in the file and can be unpacked.

    Filters may be left out for a chunk that they would not make smaller; if all are, it
    has its full size. At most a million chunks are looked at, and searched for up to a
    hundred thousand.
    """
    found: list[tuple[int, ...]] = []

    def note(chunk: Any) -> bool | None:
        found.append(
            (*chunk.chunk_offset, chunk.byte_offset, chunk.size, chunk.filter_mask)
        )
        return len(found) >= MOST_CHUNKS or None

    data.id.chunk_iter(note)
    *at, start, size, mask = np.array(found, np.uint64).T
    every = np.uint64((1 << data.id.get_create_plist().get_nfilters()) - 1)
    whole = math.prod(data.chunks) * data.dtype.itemsize
    on_grid = all(
        ((place < edge) & (place % chunk == 0)).all()
        for place, edge, chunk in zip(at, data.shape, data.chunks, strict=True)
    )
    in_file = (start + size <= Path(data.file.filename).stat().st_size).all()
    unpacked = mask & every == every
    if len(found) <= MOST_SEARCHED and not all(_is_found(data, chunk) for chunk in found):
        return False
    return bool(
        on_grid and in_file and (mask <= every).all() and (size[unpacked] == whole).all()
    )


def _is_found(data: Any, chunk: tuple[int, ...]) -> bool:
    """Tell whether HDF5 finds a chunk that it lists: if not, it reads zeros silently."""
    try:
        data.id.read_direct_chunk(chunk[: data.ndim], out=np.empty(0, np.uint8))
    except ValueError:
        return True  # the chunk is there, and too large for no bytes
    except RuntimeError:
        return False
    return False


def _cover(sources: list[Any], data: Any) -> bool:
    """Tell whether the sources of a virtual dataset give every voxel of it."""
    union = h5py.h5s.create_simple(data.shape)
    union.select_none()
    for source in sources:
        if source.vspace.get_select_type() == h5py.h5s.SEL_ALL:
            return True
        if not source.vspace.is_regular_hyperslab():
            return False
        start, stride, count, block = source.vspace.get_regular_hyperslab()
        union.select_hyperslab(start, count, stride, block, op=h5py.h5s.SELECT_OR)
    return bool(union.get_select_npoints() == math.prod(data.shape))


def _holds(shape: tuple[int, ...], source: Any) -> bool:
    """Tell whether a dataset of some shape holds the part that a source names."""
    if source.src_space.get_select_type() == h5py.h5s.SEL_ALL:
        return bool(math.prod(shape) == source.vspace.get_select_npoints())
    _, last = source.src_space.get_select_bounds()
    return len(last) == len(shape) and all(np.less(last, shape))


def _volume(tree: _Tree, dataset: str) -> tuple[Any, Any]:
    """Return the dataset, and the group whose attributes describe it."""
    file = tree.open(tree.path)
    item = tree.node(file, dataset) if dataset else nexus.default(tree.node, file)
    if nexus.is_data(item):
        item, group = nexus.signal(tree.node, item), item
        if _is_volume(item):
            return item, group
    if not dataset:
        return _only_volume(tree, file)
    if not _is_volume(item):
        found = f"shape {item.shape}" if isinstance(item, h5py.Dataset) else "a group"
        raise tree.refuse(
            f"a 3D dataset at {dataset[:100]}", found, "correct the column dataset"
        )
    return item, item.parent


def _is_volume(item: Any) -> bool:
    shape: tuple[int, ...] = (item.shape or ()) if isinstance(item, h5py.Dataset) else ()
    return len(shape) == 3 or (len(shape) == 4 and shape[-1] == 1)


def _only_volume(tree: _Tree, file: Any) -> tuple[Any, Any]:
    """Find the only 3D dataset of a file, or that of its only NXdata."""
    items = list(_objects(tree, file))
    found = [(item, item.parent) for item in items if _is_volume(item)]
    if len(found) > 1:
        named = [
            (nexus.signal(tree.node, item), item) for item in items if nexus.is_data(item)
        ]
        volumes = [pair for pair in named if _is_volume(pair[0])]
        found = volumes if len(volumes) == 1 else found
    if len(found) != 1:
        names = [item.name.lstrip("/") for item, _ in found] or [*_links(file, items)]
        kind = "" if found or not names else "links, followed only when named: "
        raise tree.refuse(
            "one 3D dataset or its path in the column dataset",
            f"{len(found)} ({kind}{', '.join(names[:5])})",
            "fill in the column dataset",
        )
    return found[0]


def _links(file: Any, items: list[Any]) -> Iterator[str]:
    """Name the links of a file that `_objects` passed over."""
    for group in [file, *(item for item in items if isinstance(item, h5py.Group))]:
        for name in sorted(group):
            if nexus.link(group, name) != h5py.h5l.TYPE_HARD:
                yield f"{group.name}/{name}".lstrip("/")


def _objects(tree: _Tree, file: Any) -> Iterator[Any]:
    """Walk over groups and datasets along hard links, each once."""
    seen, waiting, links = {h5py.h5o.get_info(file.id).addr}, [file], 0
    while waiting:
        group = waiting.pop()
        links += len(group)
        if links > MOST_OBJECTS:
            raise tree.refuse(
                "the path of the volume in the column dataset",
                f"more than {MOST_OBJECTS} groups and datasets",
                "fill in the column dataset",
            )
        for name in sorted(group):
            if nexus.link(group, name) != h5py.h5l.TYPE_HARD:
                continue
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address not in seen:
                seen.add(address)
                yield item
                if isinstance(item, h5py.Group):
                    waiting.append(item)
