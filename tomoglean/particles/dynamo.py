"""Dynamo tables: one line a particle, at least 26 columns of numbers.

Columns, counted from 1 (https://wiki.dynamo.biozentrum.unibas.ch/w/index.php/
Table_convention): 4-6 shift dx, dy, dz and 24-26 position x, y, z in voxels; 7-9 tdrot,
tilt, narot in degrees; 10 cross correlation; 20 number of the tomogram. Dynamo counts
voxels from 1 (.../Volume_center), so 1 is taken off. A table of Dynamo turns the
template by the inverse of m = Rz(narot) Rx(tilt) Rz(tdrot) (.../Table_convention,
"Convention interpretation"), which puts its z axis at
(sin tdrot sin tilt, cos tdrot sin tilt, cos tilt) in x, y, z. That agrees with the
filaments of a real table to 1.3 degrees (tests/test_particles_real.py).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tomoglean.formats.source import Format, Row
from tomoglean.particles import source
from tomoglean.particles.source import Array, Grid, Particles
from tomoglean.provenance import Refused, write_text

FORMAT = Format(
    "Dynamo table",
    (".tbl",),
    "position (24-26) + shift (4-6) in voxels from 1; axis from the angles (7-9); the"
    " cell tomogram chooses by column 20",
)
UNIT = "voxel"
COLUMNS = (4, 5, 6, 7, 8, 9, 20, 24, 25, 26)
LEAST = 26
WRITTEN = 35


def read(path: Path, row: Row) -> Particles:
    """Read a table; columns that are not needed may hold anything.

    Raises
    ------
    Refused
        If a line is short or a needed cell is no number.
    """
    lines = enumerate(source.read_lines(path), start=1)
    rows = [(number, line.split()) for number, line in lines if line.strip()]
    for number, cells in rows:
        if len(cells) < LEAST:
            raise Refused(
                f"{path.name}: expected at least {LEAST} columns, found {len(cells)} in"
                f" line {number}; copy the table again"
            )
    chosen = [[cells[column - 1] for column in COLUMNS] for _, cells in rows]
    table = source.numbers(chosen, [str(column) for column in COLUMNS], path.name)
    return source.particles(
        (table[:, 7:] + table[:, :3] - 1)[:, ::-1],
        axes(table[:, 3:6]),
        scores=_scores([cells[9] for _, cells in rows]),
        tomograms=tuple(f"{number:.0f}" for number in table[:, 6]),
        unit=UNIT,
    )


def _scores(cells: Sequence[str]) -> Array:
    """Read cross correlations; Dynamo leaves NaN where none was measured."""
    return np.array([source.number(cell) for cell in cells], np.float64)


def axes(angles: Array) -> Array:
    """Turn tdrot, tilt, narot in degrees into axes along z, y, x."""
    tdrot, tilt, _ = np.radians(angles).T
    across = np.sin(tilt)
    found = [np.cos(tilt), np.cos(tdrot) * across, np.sin(tdrot) * across]
    return source.known(np.column_stack(found), angles)


def angles(normals: Array) -> Array:
    """Turn axes along z, y, x into tdrot, tilt, narot; narot about the axis is free: 0."""
    nx, ny, tilt, upright = source.tilted(normals)
    tdrot = np.degrees(np.arctan2(nx, ny))
    return np.column_stack([tdrot * (upright == 0) + upright, tilt, np.zeros_like(tilt)])


def write(found: Particles, path: Path, grid: Grid) -> None:
    """Write a table: whole positions in 24-26, the rest in the shifts, tomogram 1."""
    places = found.positions[:, ::-1] + 1
    table = np.zeros((len(found), WRITTEN))
    table[:, 0] = np.arange(1, len(found) + 1)
    table[:, 1:3] = table[:, 12] = 1
    table[:, 23:26] = np.rint(places)
    table[:, 3:6] = places - np.rint(places)
    table[:, 6:9] = angles(found.normals)
    table[:, 9] = np.nan_to_num(found.scores)
    table[:, [19, 21]] = 1
    table[:, 30:32] = np.column_stack([table[:, 0], np.ones(len(found))])
    lines = [" ".join(f"{cell:.6g}" for cell in line) for line in table]
    write_text("".join(f"{line}\n" for line in lines), path)
