"""IMOD models: points drawn in 3dmod.

Facts from https://bio3d.colorado.edu/imod/doc/binspec.html (all numbers big-endian):
coordinates are voxels of the volume that was displayed and "range from 0 to NX in X and 0
to NY in Y, but from -0.5 to NZ - 0.5 in Z". So the centre of voxel (0, 0, 0) is
x = 0.5, y = 0.5, z = 0, and half a voxel is taken off x and y only. If only a part of the
volume was loaded, a coordinate in the whole file is larger by (otrans - ctrans) / cscale
of the chunk MINX (https://bio3d.colorado.edu/imod/doc/asciispec.html).

The models are parsed here: imodmodel 0.1 never returns from a file without its end and
allocates whatever a contour claims. It is the judge in the tests.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tomoglean.formats.source import Format, Row
from tomoglean.particles import source
from tomoglean.particles.source import Array, Grid, Particles
from tomoglean.provenance import Refused, replacing

FORMAT = Format(
    "IMOD model",
    (".mod",),
    "scattered points and open contours, names of objects as classes; no axes; closed"
    " contours of several points and models of a turned volume are refused",
)
UNIT = "voxel"
HALF = np.array([0.5, 0.5, 0.0])
MAGIC = b"IMODV1.2"
HEADER = 240
OBJECT = 176
CONTOUR = 16
MESH = 16
FLAGS_AT, OBJECT_FLAGS_AT = 8 + 128 + 4 * 4, 64 + 64 + 4
OPEN, SCATTERED, CONTOUR_OPEN = 1 << 3, 1 << 9, 1 << 3
Z_FROM_MINUS_HALF, NEW_TO_3DMOD, ORIGIN_KNOWN = 1 << 10, 1 << 11, 1 << 14
TURNED = (1 << 16) | (1 << 17)
UNIT_NM = -9


@dataclass
class _Object:
    """One object of a model: its name, whether its contours are closed, its points."""

    name: str
    closed: bool
    contours: list[Array] = field(default_factory=list)


def read(path: Path, row: Row) -> Particles:
    """Read the points of all objects of a model, in their order.

    Raises
    ------
    Refused
        If the file is no whole model, its contours are closed, or it was drawn on a
        turned volume.
    """
    data = source.read_bytes(path)
    if data[:8] != MAGIC or len(data) < HEADER:
        raise Refused(
            f"{path.name}: expected an IMOD model (IMODV1.2), found another file; save"
            " the model with 3dmod"
        )
    flags = struct.unpack_from(">I", data, FLAGS_AT)[0]
    if flags & TURNED:
        raise Refused(
            f"{path.name}: expected a model of the volume as it is, found one saved on a"
            " flipped or turned volume; turn it back in 3dmod and save again"
        )
    objects, image = _contents(data, path.name)
    offset, pixel_nm = _image(image, flags, path.name)
    points = [points for each in objects for points in each.contours]
    places = np.concatenate([np.empty((0, 3)), *points]) + offset - HALF
    source.few(len(places), path.name)
    source.finite(places, "xyz", path.name)
    names = [each.name for each in objects for part in each.contours for _ in part]
    return source.particles(places[:, ::-1], classes=names, unit=UNIT, pixel_nm=pixel_nm)


def _chunks(data: bytes, name: str) -> Iterator[tuple[bytes, bytes]]:
    """Yield the chunks of a model by name; none may reach beyond the file."""
    start = HEADER
    while data[start : start + 4] != b"IEOF":
        kind, head = data[start : start + 4], start + 4
        start = head + _size(kind, data[head : head + OBJECT])
        if start + 4 > len(data):
            raise Refused(
                f"{name}: expected a whole model that ends with IEOF, found its end in"
                f" {kind!r}; the file is cut off or damaged: copy it again"
            )
        yield kind, data[head:start]


def _size(kind: bytes, head: bytes) -> int:
    """Tell the bytes of a chunk after its name; more than any file has if unreadable."""
    if kind == b"OBJT":
        return OBJECT
    if len(head) < 8:
        return source.MOST_BYTES
    first, second = struct.unpack_from(">2I", head)
    if kind == b"CONT":
        return CONTOUR + 12 * int(first)
    if kind == b"MESH":
        return MESH + 12 * int(first) + 4 * int(second)
    return 4 + int(first)


def _contents(data: bytes, name: str) -> tuple[list[_Object], bytes]:
    """Return the objects with their points, and the chunk MINX (empty if none)."""
    objects: list[_Object] = []
    image = b""
    for kind, chunk in _chunks(data, name):
        if kind == b"OBJT":
            flags = struct.unpack_from(">I", chunk, OBJECT_FLAGS_AT)[0]
            label = chunk[:64].split(b"\0")[0].decode("utf-8", "replace").strip()
            objects.append(_Object(label, not flags & (OPEN | SCATTERED)))
        elif kind == b"CONT" and objects:
            objects[-1].contours.append(_points(chunk, objects[-1], len(objects), name))
        elif kind == b"MINX" and len(chunk) == 4 + 72:
            image = chunk[4:]
    return objects, image


def _points(chunk: bytes, owner: _Object, number: int, name: str) -> Array:
    """Return the points of a contour, of shape (N, 3): x, y, z."""
    points = np.frombuffer(chunk, ">f4", offset=CONTOUR).reshape(-1, 3)
    is_open = struct.unpack_from(">I", chunk, 4)[0] & CONTOUR_OPEN
    if owner.closed and len(points) > 1 and not is_open:
        raise Refused(
            f"{name}: expected scattered points or open contours, found closed contours"
            f" in object {number}; in 3dmod set the type of the object to scattered"
        )
    return points.astype(np.float64)


def _image(chunk: bytes, flags: int, name: str) -> tuple[Array, float | None]:
    """Tell where the displayed part began, as x, y, z in voxels, and its voxels in nm."""
    if not chunk:
        return np.zeros(3), None
    triples = np.frombuffer(chunk, ">f4").reshape(6, 3).astype(np.float64)
    _, origin, _, scale, loaded, turned = triples
    usable = np.isfinite(triples[1:]).all() and (scale > 0).all()
    moved = origin - loaded if flags & ORIGIN_KNOWN else np.zeros(3)
    if not usable or (moved.any() and turned.any()):
        raise Refused(
            f"{name}: expected a model of the whole volume, found one of a part of a"
            " turned volume; load the whole volume in 3dmod and save again"
        )
    told = (scale != 1).any() and np.ptp(scale) <= source.TOLERANCE * scale.min()
    return moved / scale, float(scale[0]) * source.NM["angstrom"] if told else None


# -- writing -------------------------------------------------------------------------


def write(found: Particles, path: Path, grid: Grid) -> None:
    """Write a model of scattered points, one object a class; axes and scores are lost.

    Coordinates are voxels of the volume; no chunk MINX ties them to an origin, so that
    3dmod shows them on any file of this volume.
    """
    names = sorted(set(found.classes)) or [""]
    parts = [_header(grid, len(names))]
    for name in names:
        chosen = found.only(np.array(found.classes, object) == name)
        parts.append(_object(name, chosen.positions[:, ::-1] + HALF))
    with replacing(path) as partial:
        partial.write_bytes(b"".join([*parts, b"IEOF"]))


def _header(grid: Grid, objects: int) -> bytes:
    depth, height, width = grid.shape
    edge_z, edge = grid.voxel_nm[0], grid.voxel_nm[2]
    flags = Z_FROM_MINUS_HALF | NEW_TO_3DMOD
    return MAGIC + struct.pack(
        ">128s4iI4i6f5ifii3f",
        *(b"tomoglean", width, height, depth, objects, flags, 1, 1, 0, 255),
        *(0, 0, 0, 1, 1, edge_z / edge),
        *(0, 0, 0, 3, 128, edge, UNIT_NM, 0, 0, 0, 0),
    )


def _object(name: str, points: Array) -> bytes:
    label = name.encode()[:63]
    flags = OPEN | SCATTERED
    head = struct.pack(
        ">64s16IiIii3fi8B2i",
        *(label, *[0] * 16, 1, flags, 0, 1, 0.0, 1.0, 0.0, 5),
        *(1, 3, 1, 1, 0, 0, 0, 0, 0, 0),
    )
    contour = struct.pack(">i3i", len(points), CONTOUR_OPEN, 0, 0)
    return b"OBJT" + head + b"CONT" + contour + points.astype(">f4").tobytes()
