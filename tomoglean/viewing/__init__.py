"""Look at a volume in other programs: files and commands, ready to be used.

A folder gets the image and its labels as OME-Zarr (Neuroglancer, napari) and as MRC (IMOD,
ChimeraX, Fiji), and one small file a program that opens them together with the points.
"""

import dataclasses
import json
import re
import shlex
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path

import numpy as np

from tomoglean import formats, provenance
from tomoglean.formats import stored, write_mrc
from tomoglean.formats.source import Source
from tomoglean.provenance import Refused
from tomoglean.viewing import models, neuroglancer, scripts, serving
from tomoglean.viewing.scene import Kept, Labels, Scene, ids, of_file, of_study, told

__all__ = [
    "PORT",
    "PROGRAMS",
    "Scene",
    "ids",
    "is_viewed",
    "of_file",
    "of_study",
    "prepare",
    "serve",
    "told",
]

PORT = 8765
NOTE = "made-by-tomoglean.json"
PROGRAMS = ("napari", "imod", "chimerax", "fiji", "neuroglancer")
ON_ZARR, ON_MRC = {"napari", "neuroglancer"}, {"imod", "chimerax", "fiji"}
Masks = dict[tuple[str, int], str]


def prepare(
    scene: Scene,
    folder: Path,
    programs: Collection[str] = PROGRAMS,
    *,
    port: int = PORT,
) -> list[str]:
    """Write what the programs open.

    What is there and was made from the same files stays.

    Parameters
    ----------
    scene
        What to show.
    folder
        A new folder, or one written here before.
    programs
        Which of PROGRAMS are wanted.
    port
        Where Neuroglancer will find the volumes on this machine.

    Returns
    -------
    list of str
        Lines for a person: what there is, and a command for each program.

    Raises
    ------
    Refused
        If the folder holds other things, or the disk is too small.
    """
    kept = _own(folder)
    lines = told(scene)
    wanted = set(programs)
    _volumes(scene, folder, kept, wanted)
    if "napari" in wanted:
        provenance.write_json(scripts.layers(scene), folder / "layers.json")
        provenance.write_text(scripts.NAPARI, folder / "open_napari.py")
    if "imod" in wanted:
        lines += filter(None, [models.write(scene, folder / "marks.mod")])
    if "chimerax" in wanted:
        _write_chimerax(scene, folder, kept)
    if "fiji" in wanted:
        provenance.write_text(scripts.macro(scene, _dtypes(folder)), folder / "open.ijm")
    if "neuroglancer" in wanted:
        state = neuroglancer.state(scene, f"http://{serving.HOST}:{port}")
        provenance.write_json(state, folder / "neuroglancer.json")
    return [*lines, *_commands(folder, programs, port)]


def is_viewed(folder: Path) -> bool:
    """Whether a folder was written by `prepare`."""
    return (folder / NOTE).is_file()


@contextmanager
def serve(
    folder: Path, port: int = PORT
) -> Iterator[tuple[ThreadingHTTPServer, list[str]]]:
    """Hand a folder to Neuroglancer on this machine.

    Yields
    ------
    server
        To be run by `serve_forever`.
    list of str
        Addresses to open in a browser; one that needs no network comes first.

    Raises
    ------
    Refused
        If the folder holds no state of Neuroglancer, or the port is taken.
    """
    path = folder / "neuroglancer.json"
    if not (is_viewed(folder) and path.is_file()):
        raise Refused(
            f"{folder}: expected a folder with neuroglancer.json, found none; write one by"
            " `tomoglean view VOLUME`"
        )
    text = path.read_text(encoding="utf-8")
    base = rf'"zarr://http://{re.escape(serving.HOST)}:\d+/'
    text = re.sub(base, f'"zarr://http://{serving.HOST}:{port}/', text)
    viewer = serving.viewer(json.loads(text))
    own = [str(viewer.get_viewer_url())] if viewer else []
    origins = [serving.PUBLIC, *(link.partition("/v/")[0] for link in own)]
    with serving.server(folder, port, origins) as server:
        provenance.write_text(text, path)
        yield server, [*own, serving.address(port)]


def _own(folder: Path) -> Kept:
    """Open a folder's note; a folder of somebody else's is refused."""
    note = folder / NOTE
    if folder.exists() and not (
        folder.is_dir() and (is_viewed(folder) or _is_empty(folder))
    ):
        raise Refused(
            f"{folder}: expected a new or empty folder, found other things; name another by"
            " --to"
        )
    folder.mkdir(parents=True, exist_ok=True)
    found = provenance.read_json(note) if note.is_file() else {}
    return Kept(note, dict(found.get("made from", {})))


def _is_empty(folder: Path) -> bool:
    return next(folder.iterdir(), None) is None


def _volumes(scene: Scene, folder: Path, kept: Kept, wanted: set[str]) -> None:
    """Write image and labels in the formats that the programs read."""
    endings = ["ome.zarr"] if wanted & ON_ZARR else []
    endings += ["mrc"] if wanted & ON_MRC else []
    for ending in endings:
        with stored.open_any(scene.path, scene.row) as source:
            _write(source, scene.path, folder / f"image.{ending}", kept)
        for labels in scene.labels:
            if ending == "mrc" and "fiji" not in wanted:
                continue
            with stored.open_stored(labels.path) as source:
                target = folder / f"{labels.name}.labels.{ending}"
                _write(source, labels.path, target, kept)


def _write(source: Source, path: Path, target: Path, kept: Kept) -> None:
    if not kept.is_fresh(target, path):
        formats.write(source, target)
        kept.add(target, path)


def _write_chimerax(scene: Scene, folder: Path, kept: Kept) -> None:
    masks: Masks = {}
    for labels in scene.labels:
        for value in labels.classes:
            name = masks[labels.name, value] = f"{labels.name}.class-{value}.mrc"
            with _mask(labels, value) as source:
                _write(source, labels.path, folder / name, kept)
    for points in scene.points:
        text = scripts.markers(points, scene)
        provenance.write_text(text, folder / f"{points.file}.cmm")
    provenance.write_text(scripts.commands(scene, masks), folder / "open.cxc")


@contextmanager
def _mask(labels: Labels, value: int) -> Iterator[Source]:
    """Open the voxels of one class as 0 and 1."""
    with stored.open_stored(labels.path) as source:
        pages: Callable[[slice], np.ndarray] = source.pages
        yield dataclasses.replace(
            source,
            pages=lambda part: (np.asarray(pages(part)) == value).astype(np.uint8),
            materials={},
            box=None,
        )


def _dtypes(folder: Path) -> dict[str, str]:
    """Read the type of the voxels of every MRC file in a folder."""
    modes = {mode: name for name, mode in write_mrc.MODES.items()}
    found = {}
    for path in folder.glob("*.mrc"):
        with path.open("rb") as file:
            words = np.frombuffer(file.read(16), "<i4")
        found[path.name] = modes[int(words[3])]
    return found


def _commands(folder: Path, programs: Collection[str], port: int) -> list[str]:
    at = {name: shlex.quote(str(folder / name)) for name in _OPENED}
    serve = f"tomoglean view --serve {shlex.quote(str(folder))}"
    lines = {
        "napari": f"python {at['open_napari.py']}",
        "imod": f"3dmod {at['image.mrc']} {at['marks.mod']}",
        "chimerax": f"chimerax {at['open.cxc']}",
        "fiji": f"fiji -macro {at['open.ijm']} {shlex.quote(str(folder.resolve()))}",
        "neuroglancer": serve + (f" --port {port}" if port != PORT else ""),
    }
    return [f"  {name:<13} {lines[name]}" for name in PROGRAMS if name in programs]


_OPENED = ("open_napari.py", "image.mrc", "marks.mod", "open.cxc", "open.ijm")
