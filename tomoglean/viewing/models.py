"""Write an IMOD model: outlines of every class in every slice, and the points.

Numbers are big-endian; see `tomoglean.particles.imod` for the facts and where the centre
of a voxel lies. 3dmod opens it on image.mrc of the same folder.
"""

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from skimage.measure import approximate_polygon, find_contours

from tomoglean.formats import stored
from tomoglean.particles.imod import HALF, MAGIC, NEW_TO_3DMOD, OPEN, SCATTERED, UNIT_NM
from tomoglean.particles.imod import Z_FROM_MINUS_HALF as FROM_MINUS_HALF
from tomoglean.provenance import replacing
from tomoglean.report import style
from tomoglean.viewing.scene import Labels, Points, Scene

MOST_CORNERS = 4_000_000
SAMPLED = 8
SMOOTH_PX = 0.25
LONGEST_NAME = 63
SPHERE_PX = 6
Outline = npt.NDArray[np.float64]


def write(scene: Scene, path: Path) -> str:
    """Write the model of a scene.

    Where outlines would have more than about 4 million corners in all, only one slice in
    2, 4, 8 .. is outlined.

    Returns
    -------
    str
        A line on what was left out; empty if nothing was.
    """
    step = 1
    while sum(_corners(labels) for labels in scene.labels) > MOST_CORNERS * step:
        step *= 2
    parts = [part for labels in scene.labels for part in _outlined(labels, step)]
    parts += [_points(points) for points in scene.points]
    with replacing(path) as partial:
        partial.write_bytes(b"".join([_header(scene, len(parts)), *parts, b"IEOF"]))
    return "" if step == 1 else f"  {path.name}: outlines in one slice of {step} only"


def _corners(labels: Labels) -> float:
    """Estimate the corners of all outlines from some slices."""
    with stored.open_stored(labels.path) as source:
        depth = source.shape[0]
    places = sorted(set(np.linspace(0, depth - 1, SAMPLED).astype(int).tolist()))
    return sum(len(line) for _, line in _traced(labels, places)) * depth / len(places)


def _outlined(labels: Labels, step: int) -> list[bytes]:
    """Return an object for each class."""
    contours: dict[int, list[Outline]] = {value: [] for value in labels.classes}
    with stored.open_stored(labels.path) as source:
        places = range(0, source.shape[0], step)
    for value, outline in _traced(labels, places):
        contours[value].append(outline)
    return [
        _object(f"{labels.name} {name}", labels.colours[value], contours[value], 0)
        for value, name in labels.classes.items()
    ]


def _traced(labels: Labels, places: Iterable[int]) -> Iterator[tuple[int, Outline]]:
    """Trace every class in some slices: value and corners (x, y, z) in the model."""
    with stored.open_stored(labels.path) as source:
        for z in places:
            image = source.read(slice(z, z + 1))[0]
            for value in np.intersect1d(image, list(labels.classes)).tolist():
                for outline in outlines(image == value):
                    depth = np.full((len(outline), 1), float(z))
                    yield value, np.hstack([outline[:, ::-1], depth]) + HALF


def outlines(mask: npt.NDArray[np.bool_]) -> list[Outline]:
    """Trace a mask (Y, X) as closed outlines, half a voxel outside its voxels' centres.

    Returns
    -------
    list of ndarray of shape (N, 2)
        Corners y, x; holes have outlines of their own. The last is not the first.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return []
    corner = np.array([rows[0], columns[0]])
    part = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    found = find_contours(np.pad(part, 1), 0.5)
    simple = [approximate_polygon(line, SMOOTH_PX) for line in found]
    return [line[:-1] - 1.0 + corner for line in simple if len(line) > 3]


def _header(scene: Scene, objects: int) -> bytes:
    depth, height, width = scene.shape
    edge_z, edge = scene.voxel_nm[0], scene.voxel_nm[2]
    return MAGIC + struct.pack(
        ">128s4iI4i6f5ifii3f",
        *(b"tomoglean", width, height, depth, objects, FROM_MINUS_HALF | NEW_TO_3DMOD),
        *(1, 1, 0, 255, 0, 0, 0, 1, 1, edge_z / edge, 0, 0, 0, 3, 128, edge, UNIT_NM),
        *(0, 0, 0, 0),
    )


def _points(points: Points) -> bytes:
    places = points.positions[:, ::-1] + HALF
    return _object(points.name, points.colour, [places], OPEN | SCATTERED)


def _object(name: str, colour: str, contours: list[Outline], flags: int) -> bytes:
    """Return one object with its contours; each of shape (N, 3): x, y, z."""
    label = "".join(c if c.isprintable() else "?" for c in name).encode()[:LONGEST_NAME]
    red, green, blue = (shade / 255 for shade in style.rgb(colour))
    size = SPHERE_PX if flags & SCATTERED else 0
    head = struct.pack(
        ">64s16IiIii3fi8B2i",
        *(label, *[0] * 16, len(contours), flags, 0, 1, red, green, blue, size),
        *(1, 3, 1, 2, 0, 0, 0, 0, 0, 0),
    )
    return b"OBJT" + head + b"".join(_contour(one, flags) for one in contours)


def _contour(places: Any, flags: int) -> bytes:
    is_open = 1 << 3 if flags & OPEN else 0
    head = struct.pack(">i3i", len(places), is_open, 0, 0)
    return b"CONT" + head + np.asarray(places, ">f4").tobytes()
