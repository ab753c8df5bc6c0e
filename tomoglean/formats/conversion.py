"""From any raw format to the one format of the pipeline."""

import logging
import math
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from tomoglean import formats, steps, tables, volumes
from tomoglean.chunks import Dataset
from tomoglean.formats import Row, Source, open_source
from tomoglean.formats.moments import Clipped, Sample
from tomoglean.provenance import Refused, read_json
from tomoglean.steps import Steps

SLAB_BYTES = 1 << 27
Array = npt.NDArray[Any]

log = logging.getLogger(__name__)


def convert(
    row: Row,
    checked: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] = ".",
) -> None:
    """Convert a raw volume slab by slab, with the steps of its row (see `steps`).

    Without a window the type of the voxels is kept. The file says `source`,
    `source_sha256`, `source_shape`, `first_slice` (number of the first slice of a
    numbered series), its steps as they stand in the row, and its fingerprint: `p_low`
    and `p_high`, the percentiles 0.5 and 99.5, and `mean` and `std` of the values clipped
    to them.

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
        If the check refused the volume, it has changed since, or a step does not fit.
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
        taken = steps.read(row, source.shape, source.name, sparse=source.z is not None)
        _write(source, facts, row, taken, path)


def clip_range(facts: Mapping[str, Any]) -> tuple[float, float]:
    """Return the percentiles 0.5 and 99.5, or the extremes if those are one value."""
    low, high = facts["percentiles"]["0.5"], facts["percentiles"]["99.5"]
    return (low, high) if low < high else (facts["minimum"], facts["maximum"])


def _write(
    source: Source,
    facts: Mapping[str, Any],
    row: Row,
    taken: Steps,
    path: str | os.PathLike[str],
) -> None:
    voxel_nm = tuple(facts["voxel_nm"])
    dtype = taken.dtype(source.dtype)
    if taken.mirrored:
        log.warning("%s: axes %s mirror the volume", source.name, row["axes"])
    with volumes.create(
        path,
        {"data": (taken.grid, dtype)},
        voxel_nm=taken.voxel_nm(voxel_nm),
        z=source.z,
        origin_nm=taken.origin_nm(source.origin_nm, voxel_nm),
        source=source.name,
        source_sha256=facts["sha256"],
        source_shape=source.shape,
        first_slice=source.first,
        **steps.given(row),
    ) as file:
        data = file["data"]
        if steps.given(row):
            for place, block in _blocks(source, taken):
                data[place] = block
            file.attrs.update(_fingerprint(data, dtype))
        else:
            low, high = clip_range(facts)
            clipped = Clipped(low, high, dtype)
            for place, block in _blocks(source, taken):
                data[place] = block
                clipped.add(block)
            file.attrs.update(p_low=low, p_high=high, **clipped.facts())


def _blocks(source: Source, taken: Steps) -> Iterator[tuple[tuple[slice, ...], Array]]:
    """Read slab after slab, the next one while the last is being written."""

    def block(part: slice) -> Array:
        return taken.apply(source.read(part))

    with ThreadPoolExecutor(1) as ahead:
        coming: tuple[tuple[slice, ...], Future[Array]] | None = None
        for part, place in taken.parts(_thickness(source, taken)):
            last, coming = coming, (place, ahead.submit(block, part))
            if last:
                yield last[0], last[1].result()
        if coming:
            yield coming[0], coming[1].result()


def _thickness(source: Source, taken: Steps) -> int:
    """Converted slices of a slab: a layer of chunks, or what fits into memory.

    A file that is mapped into memory takes none as long as its values are not changed.
    """
    if taken.factor == 1 and taken.window is None and _is_mapped(source):
        return volumes.CHUNK
    size = taken.factor * math.prod(source.shape[1:]) * source.dtype.itemsize
    return volumes.thickness(size, SLAB_BYTES)


def _is_mapped(source: Source) -> bool:
    """Tell whether reading twice gives the same memory."""
    first, second = source.read(slice(0, 1)), source.read(slice(0, 1))
    return np.may_share_memory(first, second)


def _fingerprint(data: Dataset, dtype: np.dtype[Any]) -> dict[str, float]:
    """Measure what was written: its percentiles, and the moments between them."""
    depth, height, width = data.shape
    sample = Sample.of((depth, height, width))
    for tile in volumes.tiles(data.shape, dtype.itemsize):
        sample.add(data[tile])
    limits = sample.clip_range()
    clipped = Clipped(limits["p_low"], limits["p_high"], dtype)
    for tile in volumes.tiles(data.shape, dtype.itemsize):
        clipped.add(data[tile])
    return {**limits, **clipped.facts()}
