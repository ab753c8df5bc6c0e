"""Surfaces drawn by VTK where pyvista is installed; it is no part of our environment.

VTK can die without a graphics library, so it works in a process of its own: a page never
depends on it.
"""

import importlib.util
import logging
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tomoglean.report.meshes import Floats, Mesh

LOG = logging.getLogger(__name__)
PATIENCE_S = 120
GLASS = 0.22
WHITE = 255


def available() -> bool:
    """Whether pyvista is installed."""
    return importlib.util.find_spec("pyvista") is not None


def draw(
    meshes: Sequence[Mesh], camera: Floats, window_px: tuple[int, int]
) -> npt.NDArray[np.uint8] | None:
    """Draw surfaces in a process of its own; None where that does not work out.

    Parameters
    ----------
    meshes
        What is drawn.
    camera
        Shape (4, 3), each row over z, y, x: the point looked at in nm, the way to the eye,
        the way up, and half the height of the picture in nm, repeated.
    window_px
        Width and height.

    Returns
    -------
    ndarray of shape (H, W, 4) or None
        Red, green, blue, opacity, uint8.
    """
    if not meshes or not available():
        return None
    with tempfile.TemporaryDirectory() as folder:
        scene, picture = Path(folder) / "scene.npz", Path(folder) / "picture.png"
        arrays: dict[str, Any] = {"camera": camera, "window": window_px}
        for place, mesh in enumerate(meshes):
            arrays[f"points{place}"], arrays[f"faces{place}"] = mesh.points, mesh.faces
        arrays["colours"] = [mesh.colour for mesh in meshes]
        arrays["glass"] = [mesh.glass for mesh in meshes]
        np.savez(scene, **arrays)
        command = [sys.executable, "-m", __name__, str(scene), str(picture)]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_S)  # noqa: S603 - our own module and files
            return np.array(Image.open(picture).convert("RGBA"))
        except (OSError, subprocess.SubprocessError) as error:
            LOG.warning("pyvista drew nothing (%s); matplotlib draws", type(error).__name__)
            return None


def main(scene: str, picture: str) -> None:
    """Draw a scene that `draw` wrote."""
    import pyvista  # type: ignore[import-not-found]

    stored = np.load(scene)
    plotter = pyvista.Plotter(off_screen=True, window_size=stored["window"].tolist())
    for place, (colour, glass) in enumerate(
        zip(stored["colours"], stored["glass"], strict=True)
    ):
        faces = stored[f"faces{place}"]
        cells = np.column_stack([np.full(len(faces), 3), faces]).ravel()
        body = pyvista.PolyData(
            np.ascontiguousarray(stored[f"points{place}"][:, ::-1]), cells
        )
        plotter.add_mesh(
            body,
            color=str(colour),
            opacity=GLASS if glass else 1.0,
            smooth_shading=True,
            split_sharp_edges=True,
            specular=0.15,
            ambient=0.2,
            diffuse=0.75,
        )
    target, eye, up, half = stored["camera"][:, ::-1]
    plotter.enable_parallel_projection()
    plotter.camera.focal_point = target
    plotter.camera.position = target + eye * 20 * half[0]
    plotter.camera.up = up
    plotter.camera.parallel_scale = half[0]
    plotter.camera.clipping_range = (half[0], 100 * half[0])
    plotter.set_background("white")
    shown = np.asarray(plotter.screenshot(None))[..., :3]
    empty = (shown == WHITE).all(axis=2)
    clear = np.where(empty, 0, WHITE).astype(np.uint8)
    Image.fromarray(np.dstack([shown, clear])).save(picture)


if __name__ == "__main__":
    main(*sys.argv[1:])
