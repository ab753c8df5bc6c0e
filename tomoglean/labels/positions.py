"""Bring points to the voxels of the converted volume, and picks back to the raw file."""

import itertools
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tomoglean import particles, steps, tables
from tomoglean.formats import Row
from tomoglean.labels.targets import CONVERTED, Target, target
from tomoglean.particles import Grid, Particles
from tomoglean.steps import Steps

log = logging.getLogger(__name__)


def points(
    rows: Sequence[Row], grid: Grid, *, root: str | os.PathLike[str] = "."
) -> tables.Points:
    """Read all points of a volume in voxels; centres of voxels have whole numbers.

    Parameters
    ----------
    rows
        Rows of labels.tsv: `path`, `unit`, `tomogram`, `pixel_nm`, and `task`, which is
        the class of points without one.
    grid
        The volume.
    root
        Folder to which paths are relative.

    Raises
    ------
    Refused
        See `particles.points`.
    """
    found = [particles.points(tables.locate(row["path"], root), row, grid) for row in rows]
    return _joined(found)


def _joined(found: Sequence[tables.Points | Particles]) -> tables.Points:
    return tables.Points(
        np.concatenate([np.empty((0, 3)), *(part.positions for part in found)]),
        np.concatenate([np.empty((0, 3)), *(part.normals for part in found)]),
        tuple(name for part in found for name in part.classes),
    )


def follow(
    row: Row,
    target: Target,
    *,
    name: str = "",
    unbinned: Mapping[str, str] | None = None,
    root: str | os.PathLike[str] = ".",
) -> tables.Points:
    """Read points on the grid their row names, in voxels of the converted volume.

    Points of the file that lie outside what was cropped are left out, and told.

    Raises
    ------
    Refused
        See `points`.
    """
    done, z = target.steps, target.z
    own = done.moved and row.get("grid") != CONVERTED
    shape, voxel_nm = done.grid, target.voxel_nm
    if own:
        shape, voxel_nm = done.shape, done.file_voxel_nm(voxel_nm)
    if z is not None:
        shape = (int(z.max()) + 1, *shape[1:])
    known = (unbinned or {}) if own or not done.moved else {}
    there = points([row], Grid(shape, voxel_nm, name, unbinned=known), root=root)
    return _placed(there, done, z is not None) if own else there


def _placed(points: tables.Points, done: Steps, sparse: bool) -> tables.Points:
    places = steps.place(points.positions, done)
    kept = steps.inside(places, done, flat=sparse)
    if not kept.all():
        log.warning("%s: %d points lie outside the crop", done.name, (~kept).sum())
    classes = tuple(itertools.compress(points.classes, kept))
    return tables.Points(places[kept], steps.turn(points.normals, done)[kept], classes)


def convert_points(
    rows: Sequence[Row],
    volume: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    unbinned: Mapping[str, str] | None = None,
    root: str | os.PathLike[str] = ".",
) -> dict[str, Any]:
    """Write the points of a volume in voxels; none at all is a valid answer, and told.

    Parameters
    ----------
    rows, root
        See `points`.
    volume
        The converted volume.
    path
        Where the table will stand.
    unbinned
        Cells `bin1_shape`, `bin1_pixel_nm` and `binning` of the volume's row.

    Returns
    -------
    dict
        See `counted`.
    """
    place = target(volume)
    found = [follow(row, place, unbinned=unbinned, root=root) for row in rows]
    tables.write_points(_joined(found), path)
    return counted(rows, sum(len(part.positions) for part in found))


def counted(rows: Sequence[Row], count: int) -> dict[str, Any]:
    """Say of points what `Survey.facts` says of labels: none at all is a warning."""
    names = ", ".join(tables.locate(row["path"]).name for row in rows)
    empty = [] if count else [f"{names}: no points at all; is that meant?"]
    return {
        "labels": names,
        "verdict": "warning" if empty else "ok",
        "messages": empty,
        "points": count,
    }


def publish_picks(
    picks: tables.Picks,
    volume: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    name: str,
    label: str,
    unbinned: Mapping[str, str],
) -> None:
    """Write picks for another program, which knows the raw file and not what became of it.

    Parameters
    ----------
    picks
        Picks in voxels of the converted volume.
    volume
        The converted volume.
    path
        Where the file will stand; its ending tells the format. It counts voxels of the
        raw file, also where that was cropped, binned or turned.
    name, label
        Names of the tomogram and of what was picked.
    unbinned
        Cells `bin1_shape`, `bin1_pixel_nm` and `binning` of the volume's row.

    Raises
    ------
    Refused
        See `particles.write`.
    """
    place = target(volume)
    done, voxel_nm = place.steps, place.steps.file_voxel_nm(place.voxel_nm)
    found = replace(
        particles.of_picks(picks, label),
        positions=steps.back(picks.positions, done),
        normals=steps.turn_back(picks.normals, done),
    )
    particles.write(found, path, Grid(done.shape, voxel_nm, name, unbinned))
