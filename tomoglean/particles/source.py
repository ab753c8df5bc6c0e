"""What every reader of points yields, and how it becomes voxels of a volume.

In this package the centre of voxel (0, 0, 0) is the position (0, 0, 0), in voxels and in
nm. Readers bring the conventions of their format to that: some count from 1, some put
the corner at 0, some count from the middle of the tomogram.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tomoglean.formats.source import Row, Triple
from tomoglean.provenance import Refused

Array = npt.NDArray[np.float64]
NM = {"nm": 1.0, "angstrom": 0.1}
UNITS = (*NM, "voxel")
BINNINGS = ("fourier", "average")
MOST_BYTES = 64 << 20
MOST = 1_000_000
TOLERANCE = 0.01
STATED = "stated"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Grid:
    """The volume that points belong to.

    Attributes
    ----------
    shape
        Shape (Z, Y, X) in voxels.
    voxel_nm
        Voxel edges along z, y, x in nm.
    volume
        Its name, as files of many tomograms call it.
    unbinned
        Cells `bin1_shape`, `bin1_pixel_nm` and `binning` of its row of volumes.tsv.
    """

    shape: tuple[int, int, int]
    voxel_nm: Triple
    volume: str = ""
    unbinned: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Particles:
    """Oriented points of one file.

    Attributes
    ----------
    positions
        Shape (N, 3): z, y, x in `unit`; the centre of the first voxel is 0.
    normals
        Shape (N, 3): unit axis of each particle along z, y, x; zeros where unknown.
    classes
        N names of what stands there; empty where the file does not say.
    scores
        Shape (N,): how good each particle is; NaN where the file does not say.
    tomograms
        N names or numbers of the tomograms, as text; empty if the file knows none.
    unit
        voxel, nm or angstrom, or `stated`: only the row of the file knows.
    centred
        True if positions count from the middle of the tomogram.
    pixel_nm
        Edge of the voxels that positions count, in nm, where the file says.
    shifts_nm
        Shape (N, 3): what is to be added to the positions, in nm.
    """

    positions: Array
    normals: Array
    classes: tuple[str, ...]
    scores: Array
    tomograms: tuple[str, ...] = ()
    unit: str = "voxel"
    centred: bool = False
    pixel_nm: float | None = None
    shifts_nm: Array | None = None

    def __len__(self) -> int:
        """Count the particles."""
        return len(self.positions)

    def only(self, chosen: npt.NDArray[np.bool_]) -> "Particles":
        """Keep some of the particles."""
        places = np.flatnonzero(chosen).tolist()
        return replace(
            self,
            positions=self.positions[chosen],
            normals=self.normals[chosen],
            classes=tuple(self.classes[place] for place in places),
            scores=self.scores[chosen],
            tomograms=tuple(self.tomograms[place] for place in places)
            if self.tomograms
            else (),
            shifts_nm=None if self.shifts_nm is None else self.shifts_nm[chosen],
        )


def particles(
    positions: Array,
    normals: Array | None = None,
    *,
    classes: Sequence[str] = (),
    scores: Array | None = None,
    **more: object,
) -> Particles:
    """Make particles; what is not known is left out."""
    count = len(positions)
    return replace(
        Particles(
            np.asarray(positions, np.float64).reshape(count, 3),
            np.zeros((count, 3)) if normals is None else normals,
            tuple(classes) or ("",) * count,
            np.full(count, np.nan) if scores is None else np.asarray(scores, np.float64),
        ),
        **more,  # type: ignore[arg-type]
    )


# -- reading -------------------------------------------------------------------------


def read_bytes(path: Path) -> bytes:
    """Read a whole file of points.

    Raises
    ------
    Refused
        If it holds more than 64 MiB.
    """
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise Refused(
            f"{path.name}: expected at most {MOST_BYTES >> 20} MiB of points, found"
            f" {size >> 20} MiB; keep the particles of this study only"
        )
    return path.read_bytes()


def read_lines(path: Path) -> list[str]:
    """Read a text file of points.

    Raises
    ------
    Refused
        If it is no UTF-8 text, or has more than a million lines.
    """
    data = read_bytes(path)
    few(data.count(b"\n"), path.name)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise Refused(f"{path.name}: expected UTF-8 text, found bytes; save it as UTF-8")
    return text.splitlines()


def few(count: int, name: str) -> None:
    """Refuse more than a million particles."""
    if count > MOST:
        raise Refused(
            f"{name}: expected at most {MOST} particles, found {count}; keep those of"
            " this study only"
        )


def numbers(rows: Iterable[Sequence[str]], columns: Sequence[str], name: str) -> Array:
    """Turn cells into finite numbers, of shape (rows, columns).

    Raises
    ------
    Refused
        If a cell is no finite number.
    """
    found = [[number(cell) for cell in row] for row in rows]
    table = np.array(found, np.float64).reshape(len(found), len(columns))
    finite(table, columns, name)
    return table


def number(cell: str) -> float:
    """Read a number; NaN if the text is none."""
    try:
        return np.nan if "_" in cell else float(cell)
    except ValueError:
        return np.nan


def finite(table: Array, columns: Sequence[str], name: str) -> None:
    """Refuse what is no finite number, naming the first of it."""
    bad = np.argwhere(~np.isfinite(table))
    if len(bad):
        row, column = bad[0].tolist()
        raise Refused(
            f"{name}: expected numbers, found none or one without end in column"
            f" {columns[column]} of particle {row + 1}; correct the file"
        )


def of_tomogram(found: Particles, wanted: str, name: str) -> Particles:
    """Choose the particles of one tomogram.

    Parameters
    ----------
    found
        All particles of a file.
    wanted
        Cell `tomogram` of the row; empty if the file has only one.
    name
        File name for messages.

    Raises
    ------
    Refused
        If the file has several tomograms and none is chosen, or does not know the one
        that is.
    """
    if wanted and not found.tomograms and len(found):
        raise Refused(
            f"{name}: expected the tomogram {wanted!r} of its row, found a file that does"
            " not tell tomograms; leave tomogram empty in labels.tsv"
        )
    known = sorted(set(found.tomograms))
    if not wanted and len(known) > 1:
        raise Refused(
            f"{name}: expected one tomogram, found {len(known)}: {_listed(known)}; fill in"
            " tomogram in labels.tsv"
        )
    if wanted and known and wanted not in known:
        raise Refused(
            f"{name}: expected the tomogram {wanted!r} of its row, found"
            f" {_listed(known)}; correct tomogram in labels.tsv"
        )
    return found.only(np.array(found.tomograms) == wanted) if wanted and known else found


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


# -- axes ----------------------------------------------------------------------------


def known(axes: Array, triples: Array) -> Array:
    """Forget the axes of particles whose three angles are all 0: nobody turned them."""
    return np.where((triples == 0).all(axis=1)[:, None], 0.0, axes)


def tilted(normals: Array) -> tuple[Array, Array, Array, Array]:
    """Split axes into x, y, their tilt from z in degrees, and whether z is the axis.

    Formats tell an axis by tilt and azimuth; for +z and -z any azimuth will do. A known
    axis gets 180 there, so that it is not taken for an unknown one (three zeros).
    """
    nz, ny, nx = np.asarray(normals, np.float64).reshape(-1, 3).T
    across = np.hypot(nx, ny)
    upright = np.where((across == 0) & (nz != 0), 180.0, 0.0)
    return nx, ny, np.degrees(np.arctan2(across, nz)), upright


# -- to voxels of the volume ---------------------------------------------------------


def to_voxels(found: Particles, row: Row, grid: Grid, name: str) -> Array:
    """Express positions in voxels of a volume; centres of voxels have whole numbers.

    Parameters
    ----------
    found
        Particles as their file has them.
    row
        Row of labels.tsv: `unit` (nm, angstrom, voxel; empty where the format fixes it)
        and `pixel_nm`, the edge of the voxels counted if not those of the volume.
    grid
        The volume.
    name
        File name for messages.

    Returns
    -------
    ndarray
        Shape (N, 3): z, y, x in voxels. Nobody has looked yet whether they are inside.

    Raises
    ------
    Refused
        If the unit is unknown or contradicts the format, or the positions count voxels
        of another size and nobody said how the volume was binned.
    """
    unit = _unit(found.unit, row.get("unit", ""), name)
    edges = np.array(grid.voxel_nm)
    if unit == "voxel":
        places = _rebinned(found, row, grid, name)
    else:
        _no_pixel(row, name)
        lengths_nm = found.positions * NM[unit]
        places = (lengths_nm + (_middle_nm(grid) if found.centred else 0.0)) / edges
    if found.shifts_nm is not None:
        places = places + found.shifts_nm / edges
    return np.asarray(places, np.float64)


def _unit(fixed: str, said: str, name: str) -> str:
    if said not in {"", *UNITS} or (fixed == STATED and not said):
        raise Refused(
            f"{name}: expected the unit nm, angstrom or voxel, found {said!r}; fill it in"
        )
    if fixed == STATED:
        return said
    if said and said != fixed:
        raise Refused(
            f"{name}: expected the unit {fixed}, which its format fixes, found {said!r};"
            " leave unit empty in labels.tsv"
        )
    return fixed


def _no_pixel(row: Row, name: str) -> None:
    if row.get("pixel_nm"):
        raise Refused(
            f"{name}: expected no pixel_nm, which only positions in voxels need, found"
            f" {row['pixel_nm']!r}; leave it empty in labels.tsv"
        )


def _rebinned(found: Particles, row: Row, grid: Grid, name: str) -> Array:
    """Count voxels of the volume instead of those of another binning."""
    edges = np.array(grid.voxel_nm)
    pixel_nm = _pixel_nm(found, row, grid, name)
    if pixel_nm is None or _close(pixel_nm, edges):
        return found.positions
    binning = grid.unbinned.get("binning", "")
    if binning not in BINNINGS:
        raise Refused(
            f"{name}: expected to know how {pixel_nm:g} nm became voxels of"
            f" {edges[-1]:g} nm, found binning {binning!r}; fill in binning"
            f" ({' or '.join(BINNINGS)}) in volumes.tsv"
        )
    factor = edges / pixel_nm
    lost = (factor - 1) / 2 if binning == "average" else 0.0
    return np.asarray((found.positions - lost) / factor)


def _pixel_nm(found: Particles, row: Row, grid: Grid, name: str) -> float | None:
    """Tell which voxels positions count; None: those of the volume."""
    said = positive(row.get("pixel_nm", ""), name, "pixel_nm in labels.tsv")
    if said or found.pixel_nm is None:
        return said
    unbinned = positive(grid.unbinned.get("bin1_pixel_nm", ""), name, "bin1_pixel_nm")
    fits = _close(found.pixel_nm, np.array(grid.voxel_nm))
    if not fits and not (unbinned and _close(found.pixel_nm, np.array([unbinned]))):
        raise Refused(
            f"{name}: expected positions that count voxels of the volume"
            f" ({grid.voxel_nm[-1]:g} nm), found a file made on voxels of"
            f" {found.pixel_nm:g} nm; fill in pixel_nm in labels.tsv"
        )
    return found.pixel_nm


def _close(pixel_nm: float, edges: Array) -> bool:
    return bool((np.abs(edges / pixel_nm - 1) <= TOLERANCE).all())


def positive(text: str, name: str, what: str) -> float | None:
    """Read a positive number; None if the text is empty."""
    if not text:
        return None
    value = number(text)
    if not 0 < value < np.inf:
        raise Refused(f"{name}: {what}: expected a positive number, found {text!r}")
    return value


def _middle_nm(grid: Grid) -> Array:
    """Say where the middle of the tomogram stands, half its shape from voxel 0, in nm."""
    if not grid.unbinned.get("bin1_shape"):
        return np.asarray(np.array(grid.shape) / 2 * np.array(grid.voxel_nm))
    shape, pixel_nm, binning = unbinned(grid)
    lost_nm = (np.array(grid.voxel_nm) - pixel_nm) / 2 if binning == "average" else 0.0
    return np.asarray(shape / 2 * pixel_nm - lost_nm)


def unbinned(grid: Grid) -> tuple[Array, float, str]:
    """Return shape in pixels, pixel in nm and kind of binning of a volume's row.

    Raises
    ------
    Refused
        If the row of volumes.tsv does not say them.
    """
    names = ("bin1_shape", "bin1_pixel_nm", "binning")
    found = {name: grid.unbinned.get(name, "") for name in names}
    shape = np.array([number(edge) for edge in found["bin1_shape"].split(",")])
    pixel_nm = number(found["bin1_pixel_nm"])
    usable = shape.shape == (3,) and (shape > 0).all() and 0 < pixel_nm < np.inf
    if not usable or found["binning"] not in BINNINGS:
        said = ", ".join(f"{name}={value!r}" for name, value in found.items())
        raise Refused(
            f"volume {grid.volume or '?'}: expected bin1_shape (z,y,x), bin1_pixel_nm "
            f"and binning ({' or '.join(BINNINGS)}) for STAR, found {said}; "
            "fill them in in volumes.tsv"
        )
    return shape, pixel_nm, found["binning"]


def inside(places: Array, shape: tuple[int, int, int], told: Particles, name: str) -> None:
    """Refuse a point outside the volume, by its number.

    Parameters
    ----------
    places
        Shape (N, 3): z, y, x in voxels.
    shape
        Shape (Z, Y, X) of the volume.
    told
        The same as the file has them, for the message.
    name
        File name for messages.
    """
    outside = ~((places >= -0.5) & (places <= np.array(shape) - 0.5)).all(axis=1)
    if outside.any():
        number = int(np.flatnonzero(outside)[0])
        place = ", ".join(f"{value:g}" for value in places[number])
        found = ", ".join(f"{value:g}" for value in told.positions[number])
        raise Refused(
            f"{name}: expected points inside the volume {shape}, found point {number + 1}"
            f" at z, y, x = {found} in the file, {place} in voxels; correct its unit or"
            " the order of its columns"
        )
