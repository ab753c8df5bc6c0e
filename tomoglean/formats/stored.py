"""Open the pipeline's own volume files as a `Source`, to show or to write them."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tomoglean import volumes
from tomoglean.formats import Row, open_source
from tomoglean.formats.source import Source, Triple, readable
from tomoglean.provenance import Refused

SNIFFED_BYTES = 1 << 16
UNLABELLED = "unlabelled"
#: What the parts of a segmentation are called outside, and their datasets.
LAYERS = {"labels": "data", "confidence": "confidence"}


def is_stored(path: str | os.PathLike[str]) -> bool:
    """Tell the pipeline's own volume files, without opening foreign HDF5."""
    path = Path(path)
    if path.suffix != ".h5" or not path.is_file():
        return False
    with path.open("rb") as file:
        return volumes.FORMAT.encode() in file.read(SNIFFED_BYTES)


@contextlib.contextmanager
def open_stored(path: str | os.PathLike[str], dataset: str = "data") -> Iterator[Source]:
    """Open one dataset of a volume file of any stage.

    Parameters
    ----------
    path
        Such as results/converted/VOLUME.h5 or results/segmented/TASK/final/VOLUME.h5.
    dataset
        `data`, or what else the file holds, such as `confidence`.

    Yields
    ------
    Source
        With voxel size and origin; labels have their class names, and 255 as unlabelled.
        Slices of a sparse set keep their true distance where it is even.

    Raises
    ------
    Refused
        If it is no such file, or holds no such 3D dataset.
    """
    path = Path(path)
    if not is_stored(path):
        raise Refused(
            f"{path.name}: expected a volume file of a study, found none; name a file such"
            " as results/segmented/TASK/final/VOLUME.h5"
        )
    with readable(path.name, "HDF5"):
        names = _datasets(path)
    if dataset not in names:
        raise Refused(
            f"{path.name}: expected a 3D dataset {dataset!r}, found {', '.join(names)};"
            " name one of these"
        )
    with volumes.open_volume(path, dataset) as volume:
        yield _source(path, dataset, volume, volumes.attributes(path))


@contextlib.contextmanager
def open_any(path: str | os.PathLike[str], row: Row | None = None) -> Iterator[Source]:
    """Open a volume file of a study or a raw volume of any format.

    Parameters
    ----------
    path, row
        As for `open_source`; `dataset` names the dataset of a volume file.
    """
    row = row or {}
    if is_stored(path):
        opened = open_stored(path, row.get("dataset") or "data")
    else:
        opened = open_source(path, row)
    with opened as source:
        yield source


def _datasets(path: Path) -> list[str]:
    with h5py.File(path, "r", locking="best-effort") as file:
        return [name for name, item in file.items() if getattr(item, "ndim", 0) == 3]


def _source(
    path: Path, dataset: str, volume: volumes.Volume, attrs: dict[str, Any]
) -> Source:
    edges, origin, warnings = _placed(path.name, volume, attrs)
    source = Source(
        path.name,
        volume.shape,
        volume.data.dtype,
        lambda part: np.asarray(volume.data[part]),
        edges,
        edges,
        volume.z if warnings else None,
        format="tomoglean volume",
        origin_nm=origin,
        box=lambda z, y, x: np.asarray(volume.data[z, y, x]),
        warnings=warnings,
    )
    if "classes" in attrs and dataset == "data" and source.dtype == np.uint8:
        names = volumes.class_names(path)
        source.materials = {**dict(enumerate(names)), volumes.IGNORE: UNLABELLED}
    return source


def _placed(
    name: str, volume: volumes.Volume, attrs: dict[str, Any]
) -> tuple[Triple, Triple, list[str]]:
    """Return voxel edges, origin (both z, y, x in nm) and what is odd about them."""
    edges = np.array(volume.voxel_nm)
    origin = np.array(volume.origin_nm, float)
    origin += np.array(attrs.get("offset_voxel", (0.0, 0.0, 0.0))) * edges
    warnings = []
    if volume.z is not None and len(volume.z):
        steps = set(np.diff(volume.z).tolist()) or {1}
        origin[0] += float(volume.z[0]) * edges[0]
        edges[0] *= min(steps) if len(steps) == 1 else 1
        if len(steps) > 1:
            told = ", ".join(map(str, volume.z[:10].tolist()))
            warnings.append(
                f"{name}: its slices are no neighbours (z = {told} ...), so no distance"
                " along z is right"
            )
    z, y, x = edges.tolist()
    oz, oy, ox = origin.tolist()
    return (z, y, x), (oz, oy, ox), warnings
