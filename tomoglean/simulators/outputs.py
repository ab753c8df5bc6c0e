"""Write everything of a simulated volume but its facts."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tomoglean import tables, volumes
from tomoglean.simulators import files
from tomoglean.simulators.implant import Implant
from tomoglean.simulators.minicell import Minicell
from tomoglean.simulators.minicell.bodies import Site
from tomoglean.simulators.minicell.scene import SHEET_NM, Scene

Paths = Mapping[str, Path]
SLAB = 16
QUANTITIES = ("quantity", "at", "value", "unit")
UNITS = (
    *(("_mm_per_year", "mm/year"), ("_percent", "%"), ("_mm3", "mm3"), ("_mm2", "mm2")),
    *(("_mm", "mm"), ("_um", "um")),
)


def write_implant(implant: Implant, paths: Paths) -> None:
    """Write everything of an implant but its facts."""
    settings, optics = implant.facts["settings"], implant.facts["optics"]
    voxel_um = settings["field"]["voxel_um"]
    if paths["volume"].suffix:
        files.write_volume(implant.image, paths["volume"], voxel_nm=1e3 * voxel_um)
    else:
        files.write_scan(
            implant.image,
            paths["volume"],
            voxel_um=voxel_um,
            energy_kev=optics["energy_kev"],
            distance_m=1e-3 * settings["scan"]["distance_mm"],
        )
    names = implant.facts["classes"]
    for part in ("truth", "weak", "corrected"):
        labels = getattr(implant, part)
        files.write_volume(labels, paths[part], voxel_nm=1e3 * voxel_um, names=names)
    files.write_codes(names, paths["codes"])
    rows = list(_quantities("", implant.facts.get("truth", {})))
    tables.write_rows(rows, QUANTITIES, paths["quantities"])


def _quantities(name: str, value: Any, at: str = "") -> Iterator[dict[str, Any]]:
    """Write nested facts as rows; a list has one row an entry, named by its place."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _quantities(f"{name}.{key}" if name else str(key), part, at)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for place, part in enumerate(value):
            yield from _quantities(name, part, str(place))
    else:
        shown = f"{value:.9g}" if isinstance(value, float) else value
        yield {"quantity": name, "at": at, "value": shown, "unit": _unit(name)}


def _unit(name: str) -> str:
    """Tell the unit that the name of a quantity ends with, `_sem` aside; 1 is none."""
    bare = name.removesuffix("_sem")
    return next((unit for ending, unit in UNITS if bare.endswith(ending)), "1")


def write_minicell(minicell: Minicell, paths: Paths) -> None:
    """Write everything of a minicell but its facts."""
    scene, facts = minicell.scene, minicell.facts
    files.write_volume(minicell.image, paths["volume"], voxel_nm=scene.voxel_nm)
    files.write_volume(
        scene.labels, paths["labels"], voxel_nm=scene.voxel_nm, names=facts["labels"]
    )
    files.write_codes(facts["labels"], paths["codes"])
    membranes = _write_distances(scene, paths["distances"])
    files.write_volume(
        membranes, paths["membranes"], voxel_nm=scene.voxel_nm, names=facts["classes"]
    )
    files.write_points(minicell.table(), paths["points"])
    files.write_points(_placed(minicell.picks), paths["picks"])
    _write_machines(minicell, paths["star"])


def _placed(sites: Sequence[Site]) -> pd.DataFrame:
    rows = [(*site.place_nm, *site.normal, site.kind) for site in sites]
    return pd.DataFrame(rows, columns=["z", "y", "x", "nz", "ny", "nx", "class"])


def _write_distances(scene: Scene, path: Path) -> npt.NDArray[np.uint8]:
    """Write the distances of every voxel to both membranes; return where they are.

    Dataset `data` tells the distance to the outer membrane's mid-surface in nm, `inner`
    that to the inner one's, float16: positive outside, 1000 everywhere without a cell.
    """
    shape = scene.labels.shape
    membranes = np.zeros(shape, np.uint8)
    layout = {"data": (shape, np.float16), "inner": (shape, np.float16)}
    edges = (scene.voxel_nm,) * 3
    with volumes.create(path, layout, voxel_nm=edges, unit="nm") as file:
        for slab in volumes.slabs(shape[0], SLAB):
            outer, inner = scene.distances(slab)
            file["data"][slab], file["inner"][slab] = outer, inner
            nearest = np.minimum(np.abs(outer), np.abs(inner))
            membranes[slab] = nearest <= SHEET_NM / 2
    return membranes


def _write_machines(minicell: Minicell, path: Path) -> None:
    kind = minicell.facts["settings"]["machines"]["kind"]
    machines = [site for site in minicell.scene.sites if site.kind == kind]
    depth, height, width = minicell.scene.labels.shape
    files.write_star(
        np.array([site.place_nm for site in machines]).reshape(-1, 3),
        np.array([site.normal for site in machines]).reshape(-1, 3),
        path,
        name=minicell.facts["name"],
        shape=(depth, height, width),
        voxel_nm=minicell.scene.voxel_nm,
    )
