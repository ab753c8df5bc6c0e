"""copick picks: one JSON file an object of a run (https://copick.github.io/copick).

Facts from src/copick/models.py and util/formats.py of copick 1: `points[].location` {x, y,
z} in angstrom, where voxel i is centred at i times the voxel spacing (as ChimeraX and
napari place grids); `transformation_` is 4 x 4 and takes the object into the tomogram: its
rotation turns z to the particle's axis, its translation is a shift in angstrom. The unit
matrix is the default, so it says nothing of the axis. One file holds one object
(`pickable_object_name`), whose name is the class, of one run (`run_name`).
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tomoglean.formats.source import Format, Row
from tomoglean.particles import source
from tomoglean.particles.source import Array, Grid, Particles
from tomoglean.provenance import Refused, write_json

FORMAT = Format(
    "copick picks",
    (".json",),
    "location in angstrom + shift, axis from the transformation, pickable_object_name as"
    " class; the cell tomogram is compared with run_name",
)
UNIT = "angstrom"
UNKNOWN = np.eye(4)
ANGSTROM = 10.0
EXACT = 1e-6
USER, SESSION = "tomoglean", "0"


def read(path: Path, row: Row) -> Particles:
    """Read the picks of one object.

    Raises
    ------
    Refused
        If the file is no such JSON, its unit is no angstrom, or a location or a
        transformation is damaged.
    """
    content = _content(path)
    points = content.get("points") or []
    source.few(len(points), path.name)
    places = [[point["location"][axis] for axis in "zyx"] for point in points]
    matrices = [point.get("transformation_") or UNKNOWN for point in points]
    turns = _matrices(matrices, len(points), path.name)
    table = np.array(places, np.float64).reshape(-1, 3) + turns[:, 2::-1, 3]
    source.finite(table, "zyx", path.name)
    scores = [point.get("score") for point in points]
    run = content.get("run_name") or ""
    return source.particles(
        table,
        _axes(turns),
        classes=[str(content.get("pickable_object_name") or "")] * len(points),
        scores=np.array([np.nan if s is None else s for s in scores], np.float64),
        tomograms=(str(run),) * len(points) if run else (),
        unit=UNIT,
    )


def _content(path: Path) -> Mapping[str, Any]:
    content = json.loads(source.read_bytes(path).decode("utf-8-sig"))
    if not isinstance(content, dict) or "points" not in content:
        raise Refused(
            f"{path.name}: expected copick picks with the key points, found other JSON;"
            " export the picks again"
        )
    unit = content.get("unit", UNIT)
    if unit != UNIT:
        raise Refused(f"{path.name}: expected the unit angstrom, found {unit!r}")
    return content


def _matrices(found: list[Any], count: int, name: str) -> Array:
    """Return the transformations, of shape (N, 4, 4), each a rotation and a shift."""
    turns = np.array(found, np.float64).reshape(count, 4, 4)
    square = turns[:, :3, :3] @ turns[:, :3, :3].transpose(0, 2, 1)
    rigid = np.allclose(square, np.eye(3), atol=source.TOLERANCE)
    if not (rigid and np.allclose(turns[:, 3], UNKNOWN[3])):
        raise Refused(
            f"{name}: expected rotations with a shift in transformation_, found other"
            " matrices; export the picks again"
        )
    return turns


def _axes(turns: Array) -> Array:
    """Return where each rotation takes z, along z, y, x; zeros for the unit matrix."""
    turned = np.abs(turns[:, :3, :3] - np.eye(3)).max(axis=(1, 2), initial=0) > EXACT
    return np.where(turned[:, None], turns[:, 2::-1, 2], 0.0)


# -- writing -------------------------------------------------------------------------


def write(found: Particles, path: Path, grid: Grid) -> None:
    """Write the picks of one object.

    copick finds it as ExperimentRuns/RUN/Picks/USER_SESSION_OBJECT.json; the names in
    the file are tomoglean, 0 and the class.

    Raises
    ------
    Refused
        If there are particles of several classes.
    """
    names = sorted(set(found.classes)) or [""]
    if len(names) > 1:
        raise Refused(
            f"{path.name}: expected one class a copick file, found {', '.join(names)};"
            " write one file a class"
        )
    voxel_angstrom = ANGSTROM * np.array(grid.voxel_nm)
    points = [
        {
            "location": dict(zip("xyz", np.round(place[::-1], 4).tolist(), strict=True)),
            "transformation_": _turn(axis).tolist(),
            "instance_id": 0,
            "score": None if np.isnan(score) else round(float(score), 6),
        }
        for place, axis, score in zip(
            found.positions * voxel_angstrom, found.normals, found.scores, strict=True
        )
    ]
    head = {
        "pickable_object_name": _safe(names[0]) or "particle",
        "user_id": USER,
        "session_id": SESSION,
        "run_name": grid.volume,
        "voxel_spacing": round(float(voxel_angstrom[-1]), 6),
        "unit": UNIT,
        "trust_orientation": bool(found.normals.any()),
    }
    write_json({**head, "points": points}, path)


def _safe(name: str) -> str:
    """Replace what copick does not allow in names (util/escape.py)."""
    return re.sub(r'[<>:"/\\|?*\s_]', "-", name)


def _turn(axis: Array) -> Array:
    """Return a matrix that turns z to an axis (z, y, x); the unit matrix if unknown."""
    matrix = np.eye(4)
    if not axis.any():
        return matrix
    third = axis[::-1] / np.linalg.norm(axis)
    helper = np.eye(3)[np.argmin(np.abs(third))]
    first = np.cross(third, helper)
    first /= np.linalg.norm(first)
    matrix[:3, :3] = np.column_stack([first, np.cross(third, first), third])
    return np.round(matrix, 9)
