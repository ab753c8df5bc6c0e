"""OME-Zarr in a local folder: multiscale images of the open microscopy environment.

Facts: https://ngff.openmicroscopy.org/0.4 (on zarr 2) and /0.5 (on zarr 3),
doi:10.1038/s41592-021-01326-w. Written is 0.4: of the programs of our users all read it,
while MoBIE in Fiji did not read 0.5 in July 2026
(https://github.com/mobie/mobie-utils-python/pull/148), nor napari-ome-zarr with ome-zarr
below 0.12 (https://github.com/ome/ome-zarr-py/issues/470).
"""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tomoglean.formats import pyramids, zarrays
from tomoglean.formats.lengths import in_nm
from tomoglean.formats.source import UNKNOWN, Array, Format, Row, Source, Triple, native
from tomoglean.provenance import Refused

FORMAT = Format(
    "OME-Zarr",
    (".zarr",),
    "0.4 and 0.5 in a local folder; the finest level, or the one named in the column"
    " dataset; written as 0.4, which more programs read",
    "zarr",
)
MARKS = ("zarr.json", ".zgroup", ".zattrs", ".zarray")
VERSIONS = {"0.4", "0.5", None}
SPACE = "zyx"
MOST_AXES = 5
ORIGIN = (0.0, 0.0, 0.0)


def recognises(path: Path, row: Row) -> bool:
    """Tell folders that end with .zarr, or hold the metadata of zarr."""
    if path.is_dir():
        named = path.name.lower().endswith(FORMAT.endings)
        return named or any((path / mark).is_file() for mark in MARKS)
    return path.name.lower().endswith(FORMAT.endings) and not path.exists()


@dataclass(frozen=True)
class _Chosen:
    """An array, and what the multiscale says of it; no axes where there is none."""

    node: zarrays.Node
    axes: Sequence[Mapping[str, Any]] = ()
    transformations: Sequence[Mapping[str, Any]] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)


@contextlib.contextmanager
def open_file(path: Path, row: Row) -> Iterator[Source]:
    """Open the level that the row names in `dataset`, or the finest one.

    Raises
    ------
    Refused
        If there is no such level, more than one channel or time, no chunk at all, or
        anything that leads out of the folder.
    """
    chosen = _choose(path, path, row.get("dataset", "").strip("/"))
    array = zarrays.layout(chosen.node, path)
    order = _order(chosen, array.shape, path)
    warnings = _unwritten(array, path)
    told = list[str]() if row.get("voxel_nm") else warnings
    hint_nm, origin_nm = _place(chosen, order, path, told)
    data = zarrays.opened(array, path.name)

    def read(part: slice) -> Array:
        with zarrays.few_at_once(array, path.name):
            return zarrays.slab(data, part, order)

    z, y, x = (array.shape[axis] for axis in order)
    yield Source(
        path.name,
        (z, y, x),
        native(array.dtype),
        read,
        hint_nm,
        origin_nm=origin_nm,
        materials=_materials(chosen.attributes),
        warnings=warnings,
    )


def _choose(folder: Path, root: Path, wanted: str) -> _Chosen:
    """Go down to the array wanted: a level, or the path of an image or array."""
    node = zarrays.read_node(folder, root)
    if node is None and not wanted:
        raise _nothing(root, f"no zarr data in {folder.name}", wanted)
    if node and node.kind == "array":
        if wanted:
            raise _nothing(root, f"an array at {folder.name}", wanted)
        return _Chosen(node)
    node = node or zarrays.Node(folder, 0, "folder", {}, {})
    told = node.attributes.get("ome", node.attributes)
    if levels := _levels(told, root):
        level = wanted or next(iter(levels))
        if level in levels:
            return _level(node, told, level, levels[level], root)
    if not wanted and told.get("bioformats2raw.layout") and not (folder / "1").exists():
        return _choose(zarrays.child(folder, "0", root), root, "")
    head, _, rest = wanted.partition("/")
    below = zarrays.child(folder, head, root) if head else folder
    if not head or not below.is_dir():
        raise _nothing(root, f"the levels {list(levels)}", wanted)
    return _choose(below, root, rest)


def _nothing(root: Path, found: str, wanted: str) -> Refused:
    return Refused(
        f"{root.name}: expected a level or array {wanted!r}, found {found}; fill in or"
        " correct the column dataset"
    )


def _levels(told: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """Return the levels of the only multiscale by path, finest first."""
    images = told.get("multiscales") or []
    versions = {told.get("version"), *(image.get("version") for image in images)}
    if images and (len(images) > 1 or not versions <= VERSIONS):
        raise Refused(
            f"{root.name}: expected one image of OME-Zarr 0.4 or 0.5, found {len(images)}"
            f" of {sorted(map(str, versions))}; convert it, or name an array in the column"
            " dataset"
        )
    return {str(level["path"]): level for image in images for level in image["datasets"]}


def _level(
    node: zarrays.Node, told: Mapping[str, Any], name: str, level: Any, root: Path
) -> _Chosen:
    array = zarrays.read_node(zarrays.child(node.folder, name, root), root)
    if array is None or array.kind != "array":
        raise _nothing(root, "no array there; copy the folder again", name)
    image = told["multiscales"][0]
    steps = [
        *level.get("coordinateTransformations", []),
        *image.get("coordinateTransformations", []),
    ]
    return _Chosen(array, image.get("axes", ()), steps, told)


def _order(chosen: _Chosen, shape: tuple[int, ...], root: Path) -> tuple[int, int, int]:
    """Return where the axes z, y, x stand; all others must be of length 1."""
    names = [str(axis["name"]).lower() for axis in chosen.axes]
    names = names or list("tczyx")[-len(shape) :]
    others = [n for name, n in zip(names, shape, strict=False) if name not in SPACE]
    complete = len(names) == len(shape) <= MOST_AXES and set(SPACE) <= set(names)
    if not complete or len(set(names)) < len(names) or any(n != 1 for n in others):
        raise Refused(
            f"{root.name}: expected one volume (Z, Y, X), found the axes"
            f" {','.join(names)} with the shape {shape}; write one channel a folder"
        )
    return names.index("z"), names.index("y"), names.index("x")


def _unwritten(array: zarrays.Layout, root: Path) -> list[str]:
    written = zarrays.count(array, root)
    if written >= array.expected:
        return []
    return [
        f"{root.name}: only {written} of {array.expected} chunks were written; the others"
        " are read as empty"
    ]


def _place(
    chosen: _Chosen, order: Sequence[int], root: Path, warnings: list[str]
) -> tuple[Triple, Triple]:
    """Return voxel size and origin in nm, as the transformations one after another say."""
    if not chosen.axes:
        return UNKNOWN, ORIGIN
    scale, shift = np.ones(len(chosen.axes)), np.zeros(len(chosen.axes))
    for step in chosen.transformations:
        if step.get("type") == "scale":
            factors = _numbers(step, len(scale))
            scale, shift = scale * factors, shift * factors
        elif step.get("type") == "translation":
            shift = shift + _numbers(step, len(scale))
        elif step.get("type") != "identity":
            scale *= math.nan
    units = [chosen.axes[axis].get("unit") for axis in order]
    nm = np.array([in_nm(unit) for unit in units])
    edges = scale[list(order)] * nm
    if not (edges > 0).all() or not np.isfinite(edges).all():
        warnings.append(
            f"{root.name}: its voxel size is not known (scale {scale[list(order)]}, units"
            f" {units}, z, y, x)"
        )
        return UNKNOWN, ORIGIN
    starts = np.nan_to_num(shift[list(order)] * nm)
    return tuple(map(float, edges)), tuple(map(float, starts))  # type: ignore[return-value]


def _numbers(step: Mapping[str, Any], number: int) -> Any:
    found = np.asarray(step.get(step["type"], np.nan), np.float64)
    return found if found.shape == (number,) else np.full(number, np.nan)


def _materials(attributes: Mapping[str, Any]) -> dict[int, str]:
    """Read the names of label values from the properties of an image-label."""
    told = (attributes.get("image-label") or {}).get("properties") or []
    return {
        int(entry["label-value"]): str(entry["name"])
        for entry in told
        if isinstance(entry, dict) and "name" in entry and "label-value" in entry
    }


def write(source: Source, path: Path) -> None:
    """Write a volume as OME-Zarr 0.4 with coarser and coarser levels, slab by slab.

    A volume with names of label values (`materials`) is a label image: its coarser levels
    hold the value met most often, and names and colours are written. Any other is an
    image, its coarser levels are means. Voxel size and origin are written in nanometres.

    Parameters
    ----------
    source
        Volume with `voxel_nm`, no sparse set of slices.
    path
        Folder to be made; one that exists is replaced when the new one is complete.

    Raises
    ------
    Refused
        If the voxel size is not known, or slices are missing.
    """
    pyramids.write(source, path)
