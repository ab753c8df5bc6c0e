"""Motive lists in EM files: 20 numbers a particle (AV3, TOM, Artiatomi, novaSTA).

Rows, counted from 1: 1 score; 4 number of the particle; 5 number of the tomogram; 6
object; 8-10 position x, y, z and 11-13 shift, in voxels; 17 phi, 18 psi, 19 theta in
degrees; 20 class. They come from MATLAB, so voxels count from 1 and 1 is taken off, as
ArtiaX (src/io/Artiatomi) and copick (util/formats.py) do. The particle is the reference
turned by phi about z, theta about x, psi about z, axes fixed (cryoCAT, cryomotl.py; TOM:
https://doi.org/10.1016/j.jsb.2004.10.006), which puts its z axis at
(sin psi sin theta, -cos psi sin theta, cos theta) in x, y, z.
The file: 512 bytes of header (byte 1 machine, byte 4 type, then nx = 20, ny = particles,
nz = 1 as int32), then the numbers (TOM toolbox, tom_emread).
"""

import struct
from pathlib import Path

import numpy as np

from tomoglean.formats.source import Format, Row
from tomoglean.particles import source
from tomoglean.particles.source import Array, Grid, Particles
from tomoglean.provenance import Refused, replacing

FORMAT = Format(
    "EM motive list",
    (".em",),
    "20 x N numbers: position (rows 8-10) + shift (11-13) in voxels from 1; axis from the"
    " angles (17-19); the cell tomogram chooses by row 5",
)
UNIT = "voxel"
HEADER = 512
FIELDS = 20
ORDERS = {0: ">", 3: ">", 5: ">", 6: "<"}
TYPES = {5: "f4", 9: "f8"}
NEEDED = (5, 8, 9, 10, 11, 12, 13, 17, 18, 19)


def read(path: Path, row: Row) -> Particles:
    """Read a motive list.

    Raises
    ------
    Refused
        If the header is none of a list of 20 x N real numbers, or does not agree with
        the size of the file, or a needed number is none.
    """
    table = _table(source.read_bytes(path), path.name).astype(np.float64)
    columns = [f"row {number}" for number in NEEDED]
    source.finite(table[:, [number - 1 for number in NEEDED]], columns, path.name)
    return source.particles(
        (table[:, 7:10] + table[:, 10:13] - 1)[:, ::-1],
        axes(table[:, 16:19]),
        scores=table[:, 0],
        tomograms=tuple(f"{number:.0f}" for number in table[:, 4]),
        unit=UNIT,
    )


def _table(data: bytes, name: str) -> Array:
    """Return the numbers as an array of shape (particles, 20)."""
    order = ORDERS.get(data[0], "<") if data else "<"
    kind = TYPES.get(data[3]) if len(data) >= HEADER else None
    if not kind:
        raise Refused(
            f"{name}: expected an EM file of float32 or float64, found another header;"
            " is this a motive list?"
        )
    fields, count, depth = struct.unpack(f"{order}3i", data[4:16])
    if fields != FIELDS or depth != 1 or count < 0:
        raise Refused(
            f"{name}: expected a motive list of {FIELDS} x N x 1 numbers, found"
            f" {fields} x {count} x {depth}; is this a volume?"
        )
    source.few(count, name)
    expected = HEADER + FIELDS * count * np.dtype(kind).itemsize
    if len(data) != expected:
        raise Refused(
            f"{name}: expected {expected} bytes for {count} particles, found {len(data)};"
            " copy the file again"
        )
    return np.frombuffer(data, order + kind, offset=HEADER).reshape(count, FIELDS)


def axes(angles: Array) -> Array:
    """Turn phi, psi, theta in degrees into axes along z, y, x."""
    _, psi, theta = np.radians(angles).T
    across = np.sin(theta)
    found = [np.cos(theta), -np.cos(psi) * across, np.sin(psi) * across]
    return source.known(np.column_stack(found), angles)


def angles(normals: Array) -> Array:
    """Turn axes along z, y, x into phi, psi, theta; phi about the axis is free: 0."""
    nx, ny, theta, upright = source.tilted(normals)
    psi = np.where(upright == 0, np.degrees(np.arctan2(nx, -ny)), upright)
    psi = np.where(theta > 0, psi, upright)
    return np.column_stack([np.zeros_like(psi), psi, theta])


def write(found: Particles, path: Path, grid: Grid) -> None:
    """Write a motive list: whole positions, the rest in the shifts, tomogram 1."""
    places = found.positions[:, ::-1] + 1
    table = np.zeros((len(found), FIELDS), "<f4")
    table[:, 0] = np.nan_to_num(found.scores)
    table[:, 3] = np.arange(1, len(found) + 1)
    table[:, [4, 5, 6, 19]] = 1
    table[:, 7:10] = np.rint(places)
    table[:, 10:13] = places - np.rint(places)
    table[:, 16:19] = angles(found.normals)
    header = struct.pack("<4b3i", 6, 0, 0, 5, FIELDS, len(found), 1).ljust(HEADER, b"\0")
    with replacing(path) as partial:
        partial.write_bytes(header + table.tobytes())
