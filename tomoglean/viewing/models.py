"""Write an IMOD model: outlines of every class in every slice, and the points.

Numbers are big-endian; see `tomoglean.particles.imod` for the facts and where the centre
of a voxel lies. 3dmod opens it on image.mrc of the same folder.
"""

import struct
from collections.abc import Iterator
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

MOST_POINTS = 4_000_000
SMOOTH_PX = 0.25
LONGEST_NAME = 63
SPHERE_PX = 6
Outline = npt.NDArray[np.float64]


def write(scene: Scene, path: Path) -> str:
    """Write the model of a scene.

    Outlines of more than 4 million points in all are thinned out to every 2nd, 4th ..
    slice.

    Returns
    -------
    str
        A line on what was thinned out; empty if nothing was.
    """
    step = 1
    while (parts := _outlines(scene, step)) is None:
        step *= 2
    parts += [_points(points) for points in scene.points]
    with replacing(path) as partial:
        partial.write_bytes(b"".join([_header(scene, len(parts)), *parts, b"IEOF"]))
    return "" if step == 1 else f"{path.name}: outlines in every {step}th slice only"


def _outlines(scene: Scene, step: int) -> list[bytes] | None:
    """Return the objects of all classes; None if they hold too many points."""
    parts, left = [], MOST_POINTS
    for labels in scene.labels:
        contours: dict[int, list[Outline]] = {value: [] for value in labels.classes}
        for value, outline in _traced(labels, step):
            contours[value].append(outline)
            left -= len(outline)
            if left < 0:
                return None
        for value, name in labels.classes.items():
            ink = labels.colours[value]
            parts.append(_object(f"{labels.name} {name}", ink, contours[value], 0))
    return parts


def _traced(labels: Labels, step: int) -> Iterator[tuple[int, Outline]]:
    """Trace every class slice by slice: value and corners (x, y, z) in the model."""
    with stored.open_stored(labels.path) as source:
        for z in range(0, source.shape[0], step):
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
    ringed = np.pad(mask, 1)
    found = [approximate_polygon(line, SMOOTH_PX) for line in find_contours(ringed, 0.5)]
    return [line[:-1] - 1.0 for line in found if len(line) > 3]


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
