"""Bring labels and points of all kinds onto the grid of their volume.

A label volume holds the place of the class in the task's list of classes, and 255 where
nobody said anything: unlabelled is not background.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from tomoglean import formats, tables, volumes
from tomoglean.formats import Row
from tomoglean.labels.codes import Code, Colours, by_materials, code, decode
from tomoglean.labels.images import Survey, assemble, pages
from tomoglean.labels.positions import (
    convert_points,
    counted,
    follow,
    points,
    publish_picks,
)
from tomoglean.labels.targets import Target, by_grid, on_grid, target
from tomoglean.provenance import Refused

__all__ = [
    "Code",
    "Colours",
    "Survey",
    "Target",
    "assemble",
    "by_grid",
    "by_materials",
    "code",
    "convert",
    "convert_points",
    "counted",
    "decode",
    "follow",
    "on_grid",
    "pages",
    "points",
    "publish_picks",
    "target",
    "unchanged",
]


def unchanged(
    rows: Sequence[Row],
    sha256: Sequence[str | None],
    root: str | os.PathLike[str] = ".",
) -> None:
    """Make sure that files are those that were planned with; None = still to be made.

    Raises
    ------
    Refused
        If one has changed since.
    """
    for row, planned in zip(rows, sha256, strict=True):
        path = tables.locate(row["path"], root)
        if planned and formats.sha256(path, row) != planned:
            raise Refused(
                f"{path.name}: expected the file that was planned with, found it changed;"
                " run again"
            )


def convert(
    rows: Sequence[Row],
    volume: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    classes: Sequence[str],
    colours: Colours | None = None,
    root: str | os.PathLike[str] = ".",
) -> dict[str, Any]:
    """Write the labels of a volume, see `assemble`, and say what they hold.

    Returns
    -------
    dict
        See `Survey.facts`.

    Raises
    ------
    Refused
        If nothing is labelled, or see `assemble`.
    """
    survey = Survey(rows, classes)
    with volumes.open_volume(volume) as grid:
        shape, z = grid.shape, grid.z
        voxel_nm, origin_nm = grid.voxel_nm, grid.origin_nm
    layout = {"data": (shape, np.uint8)}
    with volumes.create(
        path, layout, voxel_nm=voxel_nm, z=z, origin_nm=origin_nm, classes=classes
    ) as file:
        for place, labels in on_grid(
            rows, target(volume), survey.remarks, classes, colours, root
        ):
            file["data"][place] = labels
            survey.count(labels)
        return survey.facts()
