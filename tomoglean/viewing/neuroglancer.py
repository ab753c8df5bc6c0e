"""Write a state of Neuroglancer: layers of OME-Zarr volumes and of points.

Neuroglancer puts the centre of the first voxel of OME-Zarr where its translation says
(src/datasource/zarr/ome.ts shifts by half a voxel), so positions in voxels, plus the
origin in voxels, are its coordinates.
"""

import math
from typing import Any

import numpy as np

from tomoglean.viewing.scene import Labels, Points, Scene

ORDER = (2, 1, 0)


def state(scene: Scene, base: str) -> dict[str, Any]:
    """Return the state of the viewer, as its JSON.

    Parameters
    ----------
    scene
        What to show.
    base
        URL below which the OME-Zarr folders are served, without a slash at its end.
    """
    layers = [_image(scene, base)]
    layers += [_segmentation(labels, base) for labels in scene.labels]
    layers += [_annotations(points, scene) for points in scene.points]
    return {
        "dimensions": _dimensions(scene),
        "position": _place(_first_look(scene), scene),
        "crossSectionScale": max(scene.shape) / 400,
        "projectionScale": max(scene.shape) * 1.5,
        "layers": layers,
        "layout": "4panel",
    }


def _first_look(scene: Scene) -> Any:
    """Return the best point, or the middle where there is none, as z, y, x."""
    for points in scene.points:
        if len(points.positions):
            return points.positions[np.argmax(np.nan_to_num(points.scores))]
    return [(n - 1) / 2 for n in scene.shape]


def _dimensions(scene: Scene) -> dict[str, Any]:
    return {"zyx"[axis]: [scene.voxel_nm[axis] * 1e-9, "m"] for axis in ORDER}


def _place(voxel: Any, scene: Scene) -> list[float]:
    """Return a position (z, y, x) in voxels of the scene as x, y, z of the viewer."""
    return [
        float(voxel[axis] + scene.origin_nm[axis] / scene.voxel_nm[axis]) for axis in ORDER
    ]


def _image(scene: Scene, base: str) -> dict[str, Any]:
    return {
        "type": "image",
        "source": f"zarr://{base}/image.ome.zarr",
        "shaderControls": {"normalized": {"range": list(scene.window)}},
        "name": scene.name,
    }


def _segmentation(labels: Labels, base: str) -> dict[str, Any]:
    named = ", ".join(f"{value} {name}" for value, name in labels.classes.items())
    return {
        "type": "segmentation",
        "source": f"zarr://{base}/{labels.name}.labels.ome.zarr",
        "segments": [str(value) for value in labels.classes],
        "segmentColors": {str(value): ink for value, ink in labels.colours.items()},
        "selectedAlpha": 0.35,
        "name": f"{labels.name}: {named}",
    }


def _annotations(points: Points, scene: Scene) -> dict[str, Any]:
    transform = {"outputDimensions": _dimensions(scene)}
    return {
        "type": "annotation",
        "source": {"url": "local://annotations", "transform": transform},
        "annotationColor": points.colour,
        "annotations": [
            {
                "type": "point",
                "id": str(number),
                "point": _place(place, scene),
                "description": describe(number, score),
            }
            for number, (place, score) in enumerate(
                zip(points.positions, points.scores, strict=True), start=1
            )
        ],
        "name": points.name,
    }


def describe(number: int, score: float) -> str:
    """Name a point by its number and its score, if it has one.

    Examples
    --------
    >>> describe(3, 0.8765), describe(4, float("nan"))
    ('3: score 0.877', '4')
    """
    return f"{number}: score {score:.3f}" if math.isfinite(score) else str(number)
