"""Pictures of surfaces in space: parallel projection, a box with its edges in units.

Triangles are shaded, sorted from far to near and painted by matplotlib, or drawn by VTK
where pyvista is installed (`pretty`).
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from PIL import Image
from scipy import ndimage

from tomoglean.report import pretty, style
from tomoglean.report.figures import Bytes
from tomoglean.report.meshes import Floats, Mesh, Triple

WIDTH_PX, HEIGHTS_PX = 600, (240, 620)
FINER = 2
MARGIN = 0.1
LIGHT = (-0.4, 0.7, 0.6)
SHADE, GLOSS = 0.6, 0.12
CLEAR, RIM = 0.10, 0.55
SIDE = (-50.0, 28.0)
ALONG_Z = (-90.0, -90.0)
FACING = -0.1
WIDE, DEEP = 3.0, 2.0
View = tuple[float, float]


def draw(meshes: Sequence[Mesh], size_nm: Triple, view: View = SIDE) -> Bytes:
    """Draw surfaces inside the box of their volume.

    Parameters
    ----------
    meshes
        What is drawn.
    size_nm
        Edges of the volume along z, y, x in nm.
    view
        Azimuth and elevation of the eye in degrees; -90, -90 looks along z with x to
        the right and y downwards, as slices are shown.

    Returns
    -------
    ndarray of shape (H, W, 3)
        Red, green, blue, uint8.
    """
    turn = axes_of(view)
    corners = _corners(size_nm) @ turn.T
    span = np.ptp(corners[:, :2], axis=0)
    height_px = int(np.clip(round(WIDTH_PX * span[1] / span[0]), *HEIGHTS_PX))
    figure = Figure(figsize=(WIDTH_PX / 100, height_px / 100), dpi=100 * FINER)
    canvas = FigureCanvasAgg(figure)
    figure.set_facecolor("white")
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    _fit(axes, corners, height_px)
    _lines(axes, corners, back=True)
    if not _by_vtk(axes, meshes, size_nm, turn, height_px):
        _paint(axes, meshes, turn)
    _lines(axes, corners, back=False)
    _lengths(axes, corners, size_nm, view)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    finer = Image.fromarray(pixels[..., :3])
    return np.asarray(finer.resize((WIDTH_PX, height_px), Image.Resampling.BOX))


def axes_of(view: View) -> Floats:
    """Return right, up and towards the eye as rows, each over z, y, x."""
    azimuth, elevation = (math.radians(angle) for angle in view)
    eye = (
        math.sin(elevation),
        math.cos(elevation) * math.sin(azimuth),
        math.cos(elevation) * math.cos(azimuth),
    )
    right = (0.0, math.cos(azimuth), -math.sin(azimuth))
    up = (
        math.cos(elevation),
        -math.sin(elevation) * math.sin(azimuth),
        -math.sin(elevation) * math.cos(azimuth),
    )
    return np.array([right, up, eye])


def _by_vtk(
    axes: Axes, meshes: Sequence[Mesh], size_nm: Triple, turn: Floats, height_px: int
) -> bool:
    """Have the surfaces drawn by pyvista; False where it is not there or fails."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    half_nm = np.full(3, (high - low) / 2)
    camera = np.stack([np.asarray(size_nm) / 2, turn[2], turn[1], half_nm])
    window_px = WIDTH_PX * FINER, height_px * FINER
    picture = pretty.draw(meshes, camera, window_px)
    if picture is None:
        return False
    axes.imshow(picture, extent=(left, right, low, high), aspect="auto", zorder=2)
    return True


def _paint(axes: Axes, meshes: Sequence[Mesh], turn: Floats) -> None:
    """Paint all triangles that face the eye, or that one looks through, far ones first."""
    corners, colours, clear = [np.empty((0, 3, 3))], [np.empty((0, 4))], [np.empty(0, bool)]
    for mesh in meshes:
        normals = mesh.normals @ turn.T
        kept = np.ones(len(normals), bool) if mesh.glass else normals[:, 2] > FACING
        corners.append((mesh.points @ turn.T)[mesh.faces[kept]])
        colours.append(shaded(normals[kept], mesh.colour, glass=mesh.glass))
        clear.append(np.full(kept.sum(), mesh.glass))
    triangles, inks = np.concatenate(corners), np.concatenate(colours)
    glass = np.concatenate(clear)
    middles = triangles.mean(axis=1)
    order = np.argsort(middles[:, 2], kind="stable")
    order = order[seen(middles, _reach(triangles), ~glass)[order]]
    axes.add_collection(
        PolyCollection(
            list(triangles[order, :, :2]),
            facecolors=inks[order],
            edgecolors="none",
            antialiaseds=glass[order],
            zorder=2,
        )
    )


def _reach(triangles: Floats) -> float:
    """Return how far the largest triangles reach from their middle, in nm."""
    spread = np.abs(triangles - triangles.mean(axis=1, keepdims=True)).max(axis=(1, 2))
    return float(np.percentile(spread, 99)) if len(spread) else 1.0


def seen(
    middles: Floats, reach_nm: float, opaque: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Sort out most of what lies behind other triangles: painting them is what costs.

    The eye's field is cut into squares a few triangles wide. In each, what lies deeper
    than the nearest opaque triangle of the squares around, by some widths, is hidden.

    Parameters
    ----------
    middles
        Shape (N, 3): right, up and towards the eye, in nm.
    reach_nm
        How far triangles reach from their middle.
    opaque
        Which ones hide others, shape (N,).
    """
    if not opaque.any():
        return np.ones(len(middles), bool)
    square = WIDE * reach_nm
    place = np.floor((middles[:, :2] - middles[:, :2].min(axis=0)) / square).astype(int)
    front = np.full(place.max(axis=0) + 1, -np.inf)
    np.maximum.at(front, tuple(place[opaque].T), middles[opaque, 2])
    sure = ndimage.minimum_filter(front, 3, mode="constant", cval=-np.inf)
    return np.asarray(middles[:, 2] >= sure[tuple(place.T)] - DEEP * square)


def shaded(normals: Floats, colour: str, *, glass: bool) -> Floats:
    """Return the colour of triangles lit from above the viewer's left shoulder.

    Parameters
    ----------
    normals
        Unit vectors of shape (N, 3): right, up, towards the eye.
    colour
        Written #rrggbb.
    glass
        Clear where one looks straight at it, denser towards its rim.

    Returns
    -------
    ndarray of shape (N, 4)
        Red, green, blue, opacity, each in [0, 1].
    """
    light = np.asarray(LIGHT) / np.linalg.norm(LIGHT)
    facing = normals @ light
    lit = np.abs(facing) if glass else np.clip(facing, 0, 1)
    ink = np.asarray(style.rgb(colour)) / 255
    tint = ink * (SHADE + (1 - SHADE) * lit)[:, None] + GLOSS * (lit**12)[:, None]
    rim = (1 - np.abs(normals[:, 2]).clip(0, 1)) ** 2
    opacity = CLEAR + RIM * rim if glass else np.ones(len(normals))
    return np.column_stack([tint.clip(0, 1), opacity])


def _corners(size_nm: Triple) -> Floats:
    places = np.array([(z, y, x) for z in (0, 1) for y in (0, 1) for x in (0, 1)], float)
    return np.asarray(places * size_nm, np.float64)


def _lines(axes: Axes, corners: Floats, *, back: bool) -> None:
    """Draw the edges of the box that meet in its farthest corner, or all others."""
    far = int(np.argmin(np.round(corners[:, 2], 6)))
    edges = [(i, i ^ bit) for i in range(8) for bit in (1, 2, 4) if i < i ^ bit]
    shown = [edge for edge in edges if (far in edge) == back]
    lines = [corners[list(edge), :2] for edge in shown]
    ink, wide = (style.HAIRLINE, 0.8) if back else (style.MUTED, 0.7)
    axes.add_collection(
        LineCollection(lines, colors=ink, linewidths=wide, zorder=1 if back else 3)
    )


def _fit(axes: Axes, corners: Floats, height_px: int) -> None:
    low, high = corners[:, :2].min(axis=0), corners[:, :2].max(axis=0)
    middle, span = (low + high) / 2, high - low
    half = (0.5 + MARGIN) * max(span[0] / WIDTH_PX, span[1] / height_px)
    axes.set_xlim(middle[0] - half * WIDTH_PX, middle[0] + half * WIDTH_PX)
    axes.set_ylim(middle[1] - half * height_px, middle[1] + half * height_px)


def _lengths(axes: Axes, corners: Floats, size_nm: Triple, view: View) -> None:
    """Write the length beside one edge along each axis; z only where it is seen."""
    centre = corners[:, :2].mean(axis=0)
    ends = {"x": (0, 1), "y": (1, 3), "z": (0, 4)}
    for name, length_nm in zip("zyx", size_nm, strict=True):
        a, b = corners[list(ends[name]), :2]
        span = b - a
        if np.linalg.norm(span) < 0.05 * max(size_nm):
            continue
        away = np.array([span[1], -span[0]]) / np.linalg.norm(span)
        away *= np.sign(away @ ((a + b) / 2 - centre)) or 1.0
        angle = math.degrees(math.atan2(span[1], span[0]))
        axes.annotate(
            f"{name}  {style.length(length_nm)}",
            (a + b) / 2,
            xytext=tuple(away * 13),
            textcoords="offset points",
            rotation=(angle + 89) % 180 - 89,
            ha="center",
            va="center",
            fontsize=12,
            color=style.INK,
        )


def ball(centre: Sequence[float], radius_nm: float, colour: str) -> Mesh:
    """Mesh a sphere: how a true positive is marked."""
    tall, round_ = np.meshgrid(
        np.linspace(0, np.pi, 9), np.linspace(0, 2 * np.pi, 17), indexing="ij"
    )
    points = np.stack(
        [np.cos(tall), np.sin(tall) * np.sin(round_), np.sin(tall) * np.cos(round_)], -1
    )
    place = np.arange(points.shape[0] * points.shape[1]).reshape(points.shape[:2])
    a, b, c, d = place[:-1, :-1], place[1:, :-1], place[1:, 1:], place[:-1, 1:]
    faces = np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)], axis=0)
    return _shape(points.reshape(-1, 3), faces.reshape(-1, 3), centre, radius_nm, colour)


def cube(centre: Sequence[float], radius_nm: float, colour: str) -> Mesh:
    """Mesh a cube: how a false positive is marked."""
    points = 2 * _corners((1.0, 1.0, 1.0)) - 1
    sides = [
        *((0, 1, 3, 2), (4, 5, 7, 6), (0, 1, 5, 4)),
        *((2, 3, 7, 6), (0, 2, 6, 4), (1, 3, 7, 5)),
    ]
    faces = [half for a, b, c, d in sides for half in ((a, b, c), (a, c, d))]
    return _shape(points, np.array(faces), centre, 0.8 * radius_nm, colour)


def diamond(centre: Sequence[float], radius_nm: float, colour: str) -> Mesh:
    """Mesh an octahedron: how a missed complex is marked."""
    points = np.concatenate([np.eye(3), -np.eye(3)])
    faces = [(i, j, k) for i in (0, 3) for j in (1, 4) for k in (2, 5)]
    return _shape(points, np.array(faces), centre, 1.3 * radius_nm, colour)


SHAPES = {"TP": ball, "FP": cube, "FN": diamond, "pick": ball}


def _shape(
    points: Floats,
    faces: npt.NDArray[np.int64],
    centre: Sequence[float],
    radius_nm: float,
    colour: str,
) -> Mesh:
    """Scale and place a body that lies round the origin and has no dent."""
    a, b, c = (points[faces[:, i]] for i in range(3))
    normals = np.cross(b - a, c - a)
    kept = np.linalg.norm(normals, axis=1) > 1e-9
    normals = normals[kept] / np.linalg.norm(normals[kept], axis=1, keepdims=True)
    middle = points[faces[kept]].mean(axis=1)
    normals *= np.sign(np.einsum("ij,ij->i", normals, middle))[:, None]
    return Mesh(points * radius_nm + np.asarray(centre), faces[kept], normals, colour)
