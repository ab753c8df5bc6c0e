"""RELION particle files, of versions 3 to 5.

Up to version 4 `rlnCoordinateX/Y/Z` count pixels from 0; version 4 says in the optics
table which (`rlnTomoTiltSeriesPixelSize`: those of the unbinned tomogram). Version 5 has
`rlnCenteredCoordinateX/Y/ZAngst`: angstrom from the middle of the tomogram, half its shape
(relion-documents, Reference/STA/Datatypes/particle_set). Shifts are taken off: position -=
A_subtomogram origin (`ParticleSet::getPosition`), where the origins are
`rlnOriginX/Y/ZAngst`, or before 3.1 `rlnOriginX/Y/Z` in pixels of the particle images.
The orientation is A_subtomogram A_particle (`rlnTomoSubtomogramRot/Tilt/Psi`,
`rlnAngleRot/Tilt/Psi`) with A as in RELION's Euler::anglesToMatrix3; it takes z to the
particle's axis, for A alone (-sin tilt cos psi, sin tilt sin psi, cos tilt) in x, y, z.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tomoglean import tables
from tomoglean.formats.source import Format, Row
from tomoglean.particles import source
from tomoglean.particles.source import Array, Grid, Particles
from tomoglean.provenance import Refused

FORMAT = Format(
    "RELION STAR",
    (".star",),
    "coordinates in pixels (versions 3, 4) or centred angstrom (5), shifts taken off, axis"
    " from the angles; the cell tomogram chooses by rlnTomoName or rlnMicrographName",
)
UNIT = ""
ANGSTROM = 10.0
PIXELS = tuple(f"rlnCoordinate{axis}" for axis in "XYZ")
CENTRED = tuple(f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ")
ANGLES = tuple(f"rlnAngle{angle}" for angle in ("Rot", "Tilt", "Psi"))
PRE_ANGLES = tuple(f"rlnTomoSubtomogram{angle}" for angle in ("Rot", "Tilt", "Psi"))
ORIGINS = tuple(f"rlnOrigin{axis}" for axis in "XYZ")
ORIGINS_ANGSTROM = tuple(f"rlnOrigin{axis}Angst" for axis in "XYZ")
IMAGE = ("rlnDetectorPixelSize", "rlnMagnification")
NAMES = ("rlnTomoName", "rlnMicrographName")
PIXEL = "rlnTomoTiltSeriesPixelSize"
MICRON = 1000.0
Columns = Mapping[str, Sequence[str]]


def read(path: Path, row: Row) -> Particles:
    """Read the particles of a STAR file.

    Raises
    ------
    Refused
        If it has no table of coordinates, a row is short or a cell no number.
    """
    source.read_lines(path)
    blocks = tables.read_star(path)
    columns = _block(blocks, path.name)
    centred = CENTRED[0] in columns
    places = _table(columns, CENTRED if centred else PIXELS, path.name)
    before = _matrices(columns, PRE_ANGLES, path.name)
    turned = before @ _matrices(columns, ANGLES, path.name)
    pixels, shifts_nm = _origins(columns, path.name)
    places = places - np.einsum("nij,nj->ni", before, pixels)
    return source.particles(
        places[:, ::-1],
        _axes(turned),
        scores=None,
        tomograms=_tomograms(columns),
        unit="angstrom" if centred else "voxel",
        centred=centred,
        pixel_nm=None if centred else _pixel_nm(blocks, path.name),
        shifts_nm=-np.einsum("nij,nj->ni", before, shifts_nm)[:, ::-1],
    )


def _block(blocks: Mapping[str, Mapping[str, Sequence[tables.Cell]]], name: str) -> Columns:
    """Find the one table that holds coordinates."""
    found = [
        {label: [str(cell) for cell in cells] for label, cells in columns.items()}
        for columns in blocks.values()
        if CENTRED[0] in columns or PIXELS[0] in columns
    ]
    if len(found) != 1:
        raise Refused(
            f"{name}: expected one table with {PIXELS[0]} or {CENTRED[0]}, found"
            f" {len(found)}; is this a particle file?"
        )
    return found[0]


def _table(columns: Columns, labels: Sequence[str], name: str) -> Array:
    """Return three columns as numbers; zeros if none of them is there."""
    missing = [label for label in labels if label not in columns]
    if missing:
        raise Refused(
            f"{name}: expected the columns {', '.join(labels)}, found no {missing[0]};"
            " export the particles again"
        )
    rows = list(zip(*(columns[label] for label in labels), strict=True))
    return source.numbers(rows, labels, name)


def _optional(columns: Columns, labels: Sequence[str], name: str) -> Array:
    if not set(labels) & columns.keys():
        return np.zeros((len(next(iter(columns.values()))), len(labels)))
    return _table(columns, labels, name)


def _origins(columns: Columns, name: str) -> tuple[Array, Array]:
    """Return shifts as they stand in pixels, and in nm; each of shape (N, 3): x, y, z."""
    pixels = _optional(columns, ORIGINS, name)
    shifts_nm = _optional(columns, ORIGINS_ANGSTROM, name) / ANGSTROM
    if not pixels.any() or not set(IMAGE) <= columns.keys():
        return pixels, shifts_nm
    size_micron, magnification = _table(columns, IMAGE, name).T
    image_nm = MICRON * size_micron / magnification
    return np.zeros_like(pixels), shifts_nm + pixels * image_nm[:, None]


def _matrices(columns: Columns, labels: Sequence[str], name: str) -> Array:
    """Return RELION's matrix A of three angles, of shape (N, 3, 3), for x, y, z."""
    rot, tilt, psi = np.radians(_optional(columns, labels, name)).T
    return _about_z(psi) @ _about_y(tilt) @ _about_z(rot)


def _about_z(angle: Array) -> Array:
    c, s, zero, one = np.cos(angle), np.sin(angle), 0 * angle, 0 * angle + 1
    return np.array([[c, s, zero], [-s, c, zero], [zero, zero, one]]).transpose(2, 0, 1)


def _about_y(angle: Array) -> Array:
    c, s, zero, one = np.cos(angle), np.sin(angle), 0 * angle, 0 * angle + 1
    return np.array([[c, zero, -s], [zero, one, zero], [s, zero, c]]).transpose(2, 0, 1)


def _axes(matrices: Array) -> Array:
    """Return where each matrix takes z, along z, y, x; zeros for the unit matrix."""
    unknown = (matrices == np.eye(3)).all(axis=(1, 2))
    return np.where(unknown[:, None], 0.0, matrices[:, ::-1, 2])


def _tomograms(columns: Columns) -> tuple[str, ...]:
    """Name the tomogram of every particle; without its folder where that is enough."""
    label = next((label for label in NAMES if label in columns), "")
    names = columns.get(label, ())
    short = [name.rpartition("/")[2] for name in names]
    return tuple(short if len(set(short)) == len(set(names)) else names)


def _pixel_nm(
    blocks: Mapping[str, Mapping[str, Sequence[tables.Cell]]], name: str
) -> float | None:
    """Tell which pixels version 4 counts; None if the file does not say."""
    cells = {str(cell) for columns in blocks.values() for cell in columns.get(PIXEL, ())}
    if not cells:
        return None
    sizes = {source.positive(cell, name, PIXEL) for cell in cells} - {None}
    if len(sizes) != 1:
        raise Refused(
            f"{name}: expected one {PIXEL}, found {len(sizes)}; keep one tomogram's rows"
        )
    return float(sizes.pop() or 0) / ANGSTROM


# -- writing: version 5 --------------------------------------------------------------


def write(found: Particles, path: Path, grid: Grid) -> None:
    """Write a particle file for RELION 5; see `blocks`."""
    tables.write_star(blocks(found, grid), path)


def centred_angstrom(positions: Array, grid: Grid) -> Array:
    """Turn positions into RELION 5's centred coordinates.

    These are (i1 - size/2) x pixel of the unbinned tomogram, in angstrom, where i1 is the
    unbinned pixel: b i if the volume was binned by cropping its Fourier transform,
    b i + (b - 1)/2 if by averaging b pixels.

    Parameters
    ----------
    positions
        Shape (N, 3): z, y, x in voxels of the (binned) volume.
    grid
        The volume; `unbinned` must say how it was binned.

    Returns
    -------
    ndarray of shape (N, 3)
        x, y, z in angstrom.

    Raises
    ------
    Refused
        If the volume's row does not say how it was binned.
    """
    shape, pixel_nm, binning = source.unbinned(grid)
    edges = np.array(grid.voxel_nm)
    shift_nm = (edges - pixel_nm) / 2 if binning == "average" else 0.0
    centred_nm = positions * edges + shift_nm - shape / 2 * pixel_nm
    return np.asarray(ANGSTROM * centred_nm[:, ::-1])


def angles(normals: Array) -> Array:
    """Turn normals into RELION's angles; rot about the axis is free and left 0.

    Parameters
    ----------
    normals
        Shape (N, 3): unit vectors along z, y, x; a zero vector gives zero angles.

    Returns
    -------
    ndarray of shape (N, 3)
        rot, tilt, psi in degrees; tilt in [0, 180], psi in (-180, 180].
    """
    nx, ny, tilt, upright = source.tilted(normals)
    across = np.hypot(nx, ny)
    psi = np.where(across > 0, np.degrees(np.arctan2(ny, -nx)), upright)
    return np.asarray(np.column_stack([np.zeros_like(tilt), tilt, psi]))


def blocks(found: Particles, grid: Grid) -> tables.Blocks:
    """Describe particles as the blocks of a RELION 5 particle file.

    Parameters
    ----------
    found
        Particles in voxels of the volume.
    grid
        The (binned) volume.

    Returns
    -------
    dict
        Blocks `optics` and `particles`, columns by name; for `tables.write_star`.

    Raises
    ------
    Refused
        If the volume's row does not say how it was binned.
    """
    _, pixel_nm, _ = source.unbinned(grid)
    places = centred_angstrom(found.positions, grid)
    turned = angles(found.normals)
    name, count = grid.volume, len(found)
    columns = {
        "rlnTomoName": [name] * count,
        "rlnTomoParticleName": [f"{name}/{number}" for number in range(1, count + 1)],
        "rlnOpticsGroup": [1] * count,
        **{label: places[:, place].tolist() for place, label in enumerate(CENTRED)},
        **{label: turned[:, place].tolist() for place, label in enumerate(ANGLES)},
        "rlnAngleTiltPrior": turned[:, 1].tolist(),
        "rlnAnglePsiPrior": turned[:, 2].tolist(),
    }
    optics = {
        "rlnOpticsGroup": [1],
        "rlnOpticsGroupName": ["opticsGroup1"],
        PIXEL: [ANGSTROM * pixel_nm],
    }
    return {"optics": optics, "particles": columns}
