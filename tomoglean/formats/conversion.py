"""From any raw format to the one format of the pipeline."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from tomoglean import formats, tables, volumes
from tomoglean.formats import Row, Source, open_source
from tomoglean.formats.moments import Moments
from tomoglean.provenance import Refused, read_json


def convert(
    row: Row,
    checked: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] = ".",
) -> None:
    """Convert a raw volume slab by slab; the type of its voxels is kept.

    The file says `source`, `source_sha256`, `first_slice` (number of the first slice of
    a numbered series) and its fingerprint: `p_low` and `p_high`, the percentiles 0.5 and
    99.5, and `mean` and `std` of the values clipped to them.

    Parameters
    ----------
    row
        Row of volumes.tsv.
    checked
        What the check wrote about the volume.
    path
        Volume file to be made.
    root
        Folder to which paths of the row are relative.

    Raises
    ------
    Refused
        If the check refused the volume, or it has changed since.
    """
    facts = read_json(checked)
    if facts["verdict"] == "refused":
        raise Refused(facts["messages"][0])
    raw = tables.locate(row["path"], root)
    with open_source(raw, row) as source:
        if formats.sha256(raw, row, source.linked) != facts["sha256"]:
            raise Refused(
                f"{raw.name}: expected the file that was checked, found it changed; run"
                " again"
            )
        _write(source, facts, path)


def clip_range(facts: Mapping[str, Any]) -> tuple[float, float]:
    """Return the percentiles 0.5 and 99.5, or the extremes if those are one value."""
    low, high = facts["percentiles"]["0.5"], facts["percentiles"]["99.5"]
    return (low, high) if low < high else (facts["minimum"], facts["maximum"])


def _write(source: Source, facts: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    low, high = clip_range(facts)
    moments = Moments()
    with volumes.create(
        path,
        {"data": (source.shape, source.dtype)},
        voxel_nm=tuple(facts["voxel_nm"]),
        z=source.z,
        source=source.name,
        source_sha256=facts["sha256"],
        first_slice=source.first,
        p_low=low,
        p_high=high,
    ) as file:
        for part in volumes.slabs(source.shape[0]):
            slab = source.read(part)
            file["data"][part] = slab
            for image in slab:
                moments.add(np.clip(image.astype(np.float64), low, high))
        file.attrs.update(mean=moments.mean, std=moments.std)
