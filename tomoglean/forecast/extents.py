"""What is known of the volumes of a study before anything is read: shape and dtype."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tomoglean import formats, provenance, steps, tables, volumes
from tomoglean.provenance import Refused
from tomoglean.study import SIMULATED, Study

Row = dict[str, str]


@dataclass(frozen=True)
class Extent:
    """How large a volume is.

    Attributes
    ----------
    shape
        (Z, Y, X) in voxels.
    itemsize
        Bytes of a voxel.
    voxel_nm
        Voxel edges along z, y, x in nm; None if nobody knows them.
    sparse
        Whether only some slices exist.
    """

    shape: tuple[int, int, int]
    itemsize: int
    voxel_nm: tuple[float, float, float] | None = None
    sparse: bool = False

    @property
    def voxels(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)

    @property
    def chunked(self) -> int:
        """Number of voxels of whole chunks, as in a file that is not packed."""
        edges = [min(volumes.CHUNK, n) for n in self.shape]
        return math.prod(
            math.ceil(n / e) * e for n, e in zip(self.shape, edges, strict=True)
        )


def find(study: Study) -> tuple[dict[str, Extent], dict[str, str]]:
    """Find out how large every volume is, from headers and records only.

    Returns
    -------
    known
        Extent by volume.
    unknown
        Why not, by volume: one line each; such a volume is the matter of `check`.
    """
    known: dict[str, Extent] = {}
    unknown: dict[str, str] = {}
    for row in study.volumes:
        try:
            known[row["volume"]] = of_volume(study, row)
        except Refused as refusal:
            unknown[row["volume"]] = str(refusal)
    return known, unknown


def of_volume(study: Study, row: Row) -> Extent:
    """Find out how large one volume is: as converted, checked, simulated or as it lies.

    Raises
    ------
    Refused
        If it was refused before, or its header cannot be read.
    """
    ways: tuple[Callable[[Study, Row], Extent | None], ...] = (
        _converted,
        _checked,
        _simulated,
    )
    for way in ways:
        if (extent := way(study, row)) is not None:
            return extent
    return _header(study, row)


def _converted(study: Study, row: Row) -> Extent | None:
    path = study.root / "results" / "converted" / f"{row['volume']}.h5"
    try:
        with volumes.open_volume(path) as volume:
            size = np.dtype(volume.data.dtype).itemsize
            return Extent(volume.shape, size, volume.voxel_nm, volume.z is not None)
    except (OSError, KeyError, ValueError):
        return None


def _checked(study: Study, row: Row) -> Extent | None:
    path = study.root / "results" / "checked" / f"{row['volume']}.json"
    try:
        facts = provenance.read_json(path)
    except (OSError, ValueError):
        return None
    if facts.get("verdict") == "refused":
        messages = facts.get("messages") or ["refused by the check"]
        raise Refused(str(messages[0]))
    if not facts.get("shape") or not facts.get("dtype"):
        return None
    depth, height, width = facts["shape"]
    shape = (int(depth), int(height), int(width))
    sparse = bool(row.get("spacing"))
    return _after_steps(shape, np.dtype(facts["dtype"]), facts.get("voxel_nm"), row, sparse)


def _simulated(study: Study, row: Row) -> Extent | None:
    if not row["path"].startswith(SIMULATED):
        return None
    group = study.simulated()[Path(row["path"]).name.split(".")[0]]
    field = group["settings"]["field"]
    depth, height, width = field["shape_px"]
    edge = field.get("voxel_nm") or 1e3 * field["voxel_um"]
    edges = (edge, edge, edge)
    return _after_steps((depth, height, width), np.dtype(np.float32), edges, row, False)


def _header(study: Study, row: Row) -> Extent:
    with formats.open_source(tables.locate(row["path"], study.root), row) as source:
        sparse = bool(row.get("spacing")) or source.z is not None
        return _after_steps(source.shape, source.dtype, source.voxel_nm, row, sparse)


def _after_steps(
    shape: tuple[int, int, int], dtype: Any, edges: Any, row: Row, sparse: bool
) -> Extent:
    """Say how large a volume is once it is cropped, binned, turned and windowed."""
    taken = steps.read(row, shape, Path(row["path"]).name, sparse=sparse)
    voxel_nm = taken.voxel_nm((edges[0], edges[1], edges[2])) if edges else None
    return Extent(taken.grid, taken.dtype(np.dtype(dtype)).itemsize, voxel_nm, sparse)
