"""Points in a table of text: what people and scripts write by hand.

Columns z, y, x; where known nz, ny, nx (axis), class, score and tomogram. The table of
flagellar motors of the BYU challenge (Kaggle, 2025) is read under its own names: axis 0
is z, and a row of -1 says that the tomogram has none.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tomoglean import tables
from tomoglean.formats.source import Format, Row
from tomoglean.particles import source
from tomoglean.particles.source import Grid, Particles
from tomoglean.provenance import Refused

FORMAT = Format(
    "table of points",
    (".csv", ".tsv"),
    "columns z, y, x, where known nz, ny, nx, class, score, tomogram; the row of"
    " labels.tsv says the unit; the BYU table of motors under its own column names",
)
UNIT = source.STATED
AXIS = ("nz", "ny", "nx")
OWN = (*tables.PLACE, "tomogram")
BYU = ("Motor axis 0", "Motor axis 1", "Motor axis 2", "tomo_id")


def read(path: Path, row: Row) -> Particles:
    """Read a table with commas (.csv) or tabs (.tsv); see the module.

    Raises
    ------
    Refused
        If a column of positions is missing or a cell is no number.
    """
    source.read_lines(path)
    rows = tables.read_rows(path, delimiter=_delimiter(path))
    columns = BYU if rows and BYU[0] in rows[0] else OWN
    _has(rows, columns[:3], path.name)
    tomograms = (
        tuple(cells[columns[3]] for cells in rows) if _with(rows, columns[3]) else ()
    )
    found = source.particles(
        source.numbers(
            [_cells(cells, columns[:3]) for cells in rows], columns[:3], path.name
        ),
        source.numbers([_cells(cells, AXIS, "0") for cells in rows], AXIS, path.name),
        classes=[cells.get("class", "") for cells in rows],
        scores=np.array([_score(cells, path.name) for cells in rows]),
        tomograms=tomograms,
        unit=UNIT,
    )
    if columns is OWN:
        return found
    chosen = source.of_tomogram(found, row.get("tomogram", ""), path.name)
    return chosen.only((chosen.positions != -1).all(axis=1))


def _delimiter(path: Path) -> str:
    return "\t" if path.name.lower().endswith(".tsv") else ","


def _with(rows: Sequence[Mapping[str, str]], column: str) -> bool:
    return bool(rows) and column in rows[0]


def _has(rows: Sequence[Mapping[str, str]], columns: Sequence[str], name: str) -> None:
    missing = [column for column in columns if rows and column not in rows[0]]
    if missing:
        raise Refused(
            f"{name}: expected the columns {', '.join(columns)}, found"
            f" {', '.join(rows[0])}; column {missing[0]} is missing"
        )


def _cells(
    cells: Mapping[str, str], columns: Sequence[str], default: str = ""
) -> list[str]:
    return [cells.get(column) or default for column in columns]


def _score(cells: Mapping[str, str], name: str) -> float:
    text = cells.get("score", "")
    return float(source.numbers([[text]], ["score"], name)[0, 0]) if text else np.nan


def write(found: Particles, path: Path, grid: Grid) -> None:
    """Write points in voxels: z, y, x, nz, ny, nx, class, score."""
    columns = (*tables.PLACE, *AXIS, "class", "score")
    table = [
        (*place, *axis, name, None if np.isnan(score) else score)
        for place, axis, name, score in zip(
            found.positions, found.normals, found.classes, found.scores, strict=True
        )
    ]
    rows = [dict(zip(columns, cells, strict=True)) for cells in table]
    tables.write_rows(rows, columns, path, delimiter=_delimiter(path))
