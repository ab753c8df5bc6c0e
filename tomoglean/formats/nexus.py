"""What NeXus says: which dataset is the default, and where its voxels stand.

https://manual.nexusformat.org/datarules.html: `@default` leads from the file to an entry
and on to a group NXdata, whose `@signal` names the dataset and `@axes` its coordinates.
"""

import contextlib
import math
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np

from tomoglean.formats.lengths import in_nm
from tomoglean.formats.source import UNKNOWN, Triple
from tomoglean.provenance import Refused

Node = Callable[[Any, str], Any]
MOST_STEPS = 8
MOST_COORDINATES = 1 << 20
REGULAR = 0.01


def default(node: Node, file: Any) -> Any:
    """Follow `@default` from group to group down to an NXdata; None if there is none."""
    group = file
    for _ in range(MOST_STEPS):
        if is_data(group):
            return group
        name = _word(group, "default")
        if not name or link(group, name) is None:
            return None
        group = node(group.file, f"{group.name}/{name}")
    return None


def is_data(item: Any) -> bool:
    """Tell whether an item is a group of class NXdata."""
    return isinstance(item, h5py.Group) and _word(item, "NX_class") == "NXdata"


def link(group: Any, name: str) -> int | None:
    """Return the type of a link without following it; None if there is none."""
    if not isinstance(group, h5py.Group):
        return None
    links, key = group.id.links, name.encode(errors="surrogateescape")
    return int(links.get_info(key).type) if name and links.exists(key) else None


def signal(node: Node, group: Any) -> Any:
    """Return the dataset that an NXdata group is about; None if it does not say."""
    name = _word(group, "signal") or "data"
    return (
        node(group.file, f"{group.name}/{name}") if link(group, name) is not None else None
    )


def _word(item: Any, name: str) -> str:
    value = item.attrs.get(name, "") if hasattr(item, "attrs") else ""
    value = value.decode(errors="replace") if isinstance(value, bytes) else value
    return value if isinstance(value, str) else ""


def calibration(
    node: Node, data: Any, group: Any
) -> tuple[Triple, Triple | None, list[str]]:
    """Read voxel size and origin in nm, z, y, x, and what is odd about them.

    In this order: attributes `voxel_nm` and `origin_nm` (ours), `element_size_um`
    (ilastik and the HDF5 plugin of Fiji), the axes of NeXus.
    """
    for holder in (data, group):
        origin = _three(holder, "origin_nm")
        for name, unit_nm in (("voxel_nm", 1.0), ("element_size_um", 1e3)):
            if (edges := _three(holder, name)) and min(edges) > 0:
                z, y, x = (edge * unit_nm for edge in edges)
                return (z, y, x), origin, []
    return _from_axes(node, data, group)


def _three(holder: Any, name: str) -> Triple | None:
    values = np.ravel(holder.attrs.get(name, []))
    if values.shape != (3,) or values.dtype.kind not in "iuf":
        return None
    z, y, x = (float(value) for value in values)
    return (z, y, x) if all(map(math.isfinite, (z, y, x))) else None


def _from_axes(
    node: Node, data: Any, group: Any
) -> tuple[Triple, Triple | None, list[str]]:
    names = [
        name.decode(errors="replace") if isinstance(name, bytes) else str(name)
        for name in np.ravel(group.attrs.get("axes", []))[:4]
    ]
    if len(names) < 3:
        return UNKNOWN, None, []
    warnings: list[str] = []
    found = [
        _axis(_coordinates(node, group, name), length, name, warnings)
        for name, length in zip(names[:3], data.shape, strict=False)
    ]
    z, y, x = (step for step, _ in found)
    starts = [start for _, start in found]
    origin = (starts[0], starts[1], starts[2]) if not np.isnan(starts).any() else None
    return (z, y, x), origin, warnings


def _coordinates(node: Node, group: Any, name: str) -> Any:
    """Return the dataset of an axis that is stored as such; None if there is none."""
    if link(group, name) is None:
        return None
    with contextlib.suppress(Refused):
        axis = node(group.file, f"{group.name}/{name}")
        stored = isinstance(axis, h5py.Dataset) and not (axis.is_virtual or axis.external)
        return axis if stored and axis.dtype.kind in "iuf" else None
    return None


def _axis(axis: Any, length: int, name: str, warnings: list[str]) -> tuple[float, float]:
    """Return step and start of an axis in nm; NaN if it does not tell."""
    unit_nm = in_nm(_word(axis, "units"))
    lengths = {length, length + 1} - {0, 1}
    if axis is None or math.isnan(unit_nm) or axis.ndim != 1 or axis.size not in lengths:
        return math.nan, math.nan
    if axis.size > MOST_COORDINATES:
        return math.nan, math.nan
    values = axis[...].astype(float) * unit_nm
    steps = np.diff(values)
    step = float(steps.mean())
    if not step or not np.abs(steps / step - 1).max() <= REGULAR:
        warnings.append(f"its axis {name} is not regular; its voxel size was not used")
        return math.nan, math.nan
    start = float(values[0]) + (step / 2 if axis.size > length else 0.0)
    return abs(step), start if step > 0 else math.nan
