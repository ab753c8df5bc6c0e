"""Tables on disk: rows of text, points, picks (CSV) and RELION 5 STAR."""

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tomoglean.provenance import Refused, write_text

Array = npt.NDArray[np.float64]
Cell = str | int | float
Column = Sequence[Cell]
Blocks = dict[str, dict[str, Column]]

PLACE = ("z", "y", "x")
PLACE_NM = ("z_nm", "y_nm", "x_nm")
NORMAL = ("nz", "ny", "nx")
DECIMALS = 6


@dataclass(frozen=True)
class Points:
    """Labelled points of one volume.

    Attributes
    ----------
    positions
        Shape (N, 3): z, y, x in voxels, or in another unit if the reader says so.
    normals
        Shape (N, 3): unit axis along z, y, x, pointing outward; zeros where unknown.
    classes
        N names of what stands there.
    """

    positions: Array
    normals: Array
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Picks:
    """Candidates of one volume, best first.

    Attributes
    ----------
    positions, positions_nm
        Shape (N, 3): z, y, x in voxels and in nm.
    normals
        Shape (N, 3): unit membrane normal along z, y, x, outward; zeros where unknown.
    scores
        Shape (N,), in [0, 1].
    """

    positions: Array
    positions_nm: Array
    normals: Array
    scores: Array

    def __len__(self) -> int:
        """Count the candidates."""
        return len(self.scores)

    def above(self, threshold: float | None) -> "Picks":
        """Keep the candidates that score at least `threshold`; None keeps all."""
        keep = self.scores >= (-np.inf if threshold is None else threshold)
        return Picks(
            self.positions[keep],
            self.positions_nm[keep],
            self.normals[keep],
            self.scores[keep],
        )


def locate(path: str, root: str | os.PathLike[str] = ".") -> Path:
    """Resolve a path of a table: $VARIABLES are filled in, the rest is below `root`."""
    return Path(root) / os.path.expanduser(os.path.expandvars(path))


def read_rows(
    path: str | os.PathLike[str], *, delimiter: str = "\t"
) -> list[dict[str, str]]:
    """Read a table as it stands: every cell is text, "NA" and "007" included.

    The first line that is neither empty nor a comment (`#`) names the columns. Blanks
    around a cell are dropped; cells left out at the end of a row are empty.

    Raises
    ------
    Refused
        If the file is no UTF-8 table, a column has no name or the name of another, a row
        has more cells than there are columns, or blanks stand for TABs.
    """
    return [row for _, row in read_lines(path, delimiter=delimiter)]


def read_lines(
    path: str | os.PathLike[str], *, delimiter: str = "\t"
) -> list[tuple[int, dict[str, str]]]:
    """Read a table as `read_rows` does, each row with the number of its line."""
    lines = _table_lines(path)
    rows = csv.reader((line for _, line in lines), delimiter=delimiter, strict=True)
    try:
        cells = [[cell.strip() for cell in row] for row in rows]
    except csv.Error as error:
        raise Refused(f"{path}: expected a table, found {error}") from None
    if not cells:
        return []
    header = cells[0]
    _check_header(header, path, delimiter)
    # A quoted cell may span lines; then the lines cannot be numbered, only the rows.
    numbers: Iterable[int] = [number for number, _ in lines]
    if len(lines) != len(cells):
        numbers = range(1, len(cells) + 1)
    for number, row in zip(numbers, cells, strict=True):
        if any(row[len(header) :]):
            raise Refused(
                f"{path}: expected {len(header)} cells in line {number}, "
                f"found {len(row)}; remove what has no column"
            )
        if len(header) > len(row) == 1:
            _check_delimiter(row[0], f"{path}, line {number}", delimiter)
    return [
        (number, dict(zip(header, row + [""] * (len(header) - len(row)), strict=False)))
        for number, row in zip(numbers, cells, strict=True)
        if row is not header and any(row)
    ]


def _table_lines(path: str | os.PathLike[str]) -> list[tuple[int, str]]:
    """Return the lines that count, with their numbers from 1."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise Refused(f"{path}: expected UTF-8 text; save the table as UTF-8") from None
    return [
        (number, line)
        for number, line in enumerate(io.StringIO(text, newline=None), start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]


def _check_header(
    header: Sequence[str], path: str | os.PathLike[str], delimiter: str
) -> None:
    if len(header) == 1:
        _check_delimiter(header[0], str(path), delimiter)
    for name in header:
        if not name or header.count(name) > 1:
            times = f"{name!r} {header.count(name)} times"
            raise Refused(
                f"{path}: expected a first line with the name of each column, found"
                f" {times if name else 'a column without a name'}; correct that line"
            )


def _check_delimiter(line: str, where: str, delimiter: str) -> None:
    """Refuse a line without a TAB that looks as if another mark stood for it."""
    marks = {";": "semicolons", ",": "commas", " ": "blanks"}
    found = next((word for mark, word in marks.items() if mark in line), None)
    if delimiter == "\t" and found:
        raise Refused(
            f"{where}: expected TABs between the columns, found {found}; save the table as"
            " text with TABs (a terminal may paste TABs as blanks)"
        )


def write_rows(
    rows: Iterable[Mapping[str, Any]],
    columns: Sequence[str],
    path: str | os.PathLike[str],
    *,
    delimiter: str = ",",
) -> None:
    """Write rows as CSV with these columns; the header stands even without rows.

    Floats are rounded to six decimals, None becomes an empty cell.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(value) for name, value in row.items()})
    write_text(text.getvalue(), path)


def _cell(value: Any) -> Any:
    return _rounded(value) if isinstance(value, float | np.floating) else value


def _rounded(value: float | np.floating[Any]) -> str:
    text = f"{value:.{DECIMALS}f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def read_points(path: str | os.PathLike[str]) -> Points:
    """Read points: columns z, y, x and, where known, nz, ny, nx, class.

    Raises
    ------
    Refused
        If z, y or x is missing, or a number is none or not finite.
    """
    rows = read_rows(path, delimiter=",")
    return Points(
        positions=_numbers(rows, PLACE, path),
        normals=_numbers(rows, NORMAL, path, default="0"),
        classes=tuple(row.get("class", "") for row in rows),
    )


def write_points(points: Points, path: str | os.PathLike[str]) -> None:
    """Write points as CSV: z, y, x, nz, ny, nx, class."""
    columns = (*PLACE, *NORMAL, "class")
    cells = zip(points.positions, points.normals, points.classes, strict=True)
    rows = [dict(zip(columns, (*p, *n, name), strict=True)) for p, n, name in cells]
    write_rows(rows, columns, path)


def read_picks(path: str | os.PathLike[str]) -> Picks:
    """Read picks written by `write_picks`.

    Raises
    ------
    Refused
        If a column of positions or the score is missing, or a number is not finite.
    """
    rows = read_rows(path, delimiter=",")
    return Picks(
        positions=_numbers(rows, PLACE, path),
        positions_nm=_numbers(rows, PLACE_NM, path),
        normals=_numbers(rows, NORMAL, path, default="0"),
        scores=_numbers(rows, ("score",), path)[:, 0],
    )


def write_picks(picks: Picks, path: str | os.PathLike[str]) -> None:
    """Write picks as CSV, in their order: z, y, x, z_nm, ..., nz, ..., score."""
    columns = (*PLACE, *PLACE_NM, *NORMAL, "score")
    table = np.column_stack(
        [picks.positions, picks.positions_nm, picks.normals, picks.scores]
    )
    rows = [dict(zip(columns, row, strict=True)) for row in table]
    write_rows(rows, columns, path)


def _numbers(
    rows: Sequence[Mapping[str, str]],
    columns: Sequence[str],
    path: str | os.PathLike[str],
    default: str = "",
) -> Array:
    """Return the columns as an array of shape (rows, columns)."""
    numbers = np.empty((len(rows), len(columns)))
    for index, row in enumerate(rows):
        for place, name in enumerate(columns):
            numbers[index, place] = _number(row.get(name) or default, name, path)
    return numbers


def _number(text: str, name: str, path: str | os.PathLike[str]) -> float:
    try:
        number = float(text)
    except ValueError:
        number = np.nan
    if not np.isfinite(number):
        raise Refused(f"{path}: expected a number in column {name}, found {text!r}")
    return number


def write_star(
    blocks: Mapping[str, Mapping[str, Column]], path: str | os.PathLike[str]
) -> None:
    """Write a STAR file, one loop a block (Hall 1991, as RELION reads it).

    Parameters
    ----------
    blocks
        Columns of equal length by name (without underscore), by name of the block.
    path
        Where the file will stand.

    Raises
    ------
    ValueError
        If the columns of a block differ in length, or a text is empty or holds blanks.
    """
    write_text("\n".join(_block(name, blocks[name]) for name in blocks), path)


def _block(name: str, columns: Mapping[str, Column]) -> str:
    lines = [f"data_{name}", "", "loop_"]
    lines += [f"_{column} #{number}" for number, column in enumerate(columns, start=1)]
    for row in zip(*columns.values(), strict=True):
        lines.append(" ".join(_star_cell(value) for value in row))
    return "\n".join(lines) + "\n"


def _star_cell(value: Cell) -> str:
    text = str(_cell(value))
    if not text or text.split() != [text]:
        raise ValueError(f"a STAR cell is one word, found {text!r}")
    return text


def read_star(path: str | os.PathLike[str]) -> Blocks:
    """Read the loops of a STAR file: columns of text by name, by name of the block.

    Raises
    ------
    Refused
        If a row does not have one cell a column.
    """
    blocks: Blocks = {}
    block = ""
    names: list[str] = []
    rows: list[list[str]] = []
    for line in [*Path(path).read_text(encoding="utf-8").splitlines(), "data_"]:
        words = line.split("#")[0].split() if line.startswith("_") else line.split()
        if line.startswith("data_"):
            if names:
                blocks[block] = _star_columns(names, rows, path)
            block, names, rows = line.strip().removeprefix("data_"), [], []
        elif line.startswith("_"):
            names.append(words[0][1:])
        elif words and words[0] != "loop_" and not words[0].startswith("#"):
            rows.append(words)
    return blocks


def _star_columns(
    names: list[str], rows: list[list[str]], path: str | os.PathLike[str]
) -> dict[str, Column]:
    for row in rows:
        if len(row) != len(names):
            raise Refused(f"{path}: expected {len(names)} cells, found {row!r}")
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}
