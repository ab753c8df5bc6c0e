"""Write what a simulator made, byte for byte the same every time.

Volumes go out slab by slab, in a form that other programs read: TIFF, MRC, HDF5, or the
folder that a beamline's reconstruction leaves behind.
"""

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import tifffile

from tomoglean import tables, volumes
from tomoglean.formats import write_mrc as mrc
from tomoglean.formats import write_tiff as tiff
from tomoglean.formats.source import Source
from tomoglean.particles import star
from tomoglean.particles.source import Grid, particles
from tomoglean.provenance import Refused, replacing, write_text

#: Ending of a volume in each form; the beamline's is a folder.
FORMS = {"tiff": ".tif", "mrc": ".mrc", "hdf5": ".h5", "beamline": ""}
USUAL = {"implant": "tiff", "minicell": "mrc"}
#: What a phantom's files add to the name of the volume; labels have the volume's form.
PARTS = {
    "implant": {
        "volume": "{volume}",
        "truth": ".truth{labels}",
        "weak": ".weak{labels}",
        "corrected": ".corrected{labels}",
        "codes": ".codes.csv",
        "quantities": ".quantities.csv",
        "facts": ".json",
    },
    "minicell": {
        "volume": "{volume}",
        "labels": ".labels{labels}",
        "membranes": ".membranes{labels}",
        "distances": ".distances.h5",
        "codes": ".codes.csv",
        "points": ".points.csv",
        "picks": ".picks.csv",
        "star": ".star",
        "facts": ".json",
    },
}
UNLABELLED = {volumes.IGNORE: "unlabelled"}
RECONSTRUCTION = "float_rawBin1"
LOG = """\
scan_name : {name}
energy : {energy_ev:.1f} eV
sample_detector_distance : {distance_m:.6f} m
eff_pixel_size : {pixel_um:.6f} micron
eff_pixel_size_binned : {pixel_um:.6f} micron
raw_binning_factor : 1
"""


def paths(
    phantom: str, folder: str | os.PathLike[str], name: str, form: str = ""
) -> dict[str, Path]:
    """Name the files of one volume by what they hold.

    Parameters
    ----------
    phantom
        `implant` or `minicell`.
    folder, name
        Where they lie, and the name of the volume.
    form
        Of volume and labels, see FORMS; empty for the usual one of the phantom. Beside a
        beamline's folder labels are TIFF.

    Raises
    ------
    Refused
        If the phantom is not written in this form.
    """
    form = form or USUAL[phantom]
    if form == "beamline" and phantom != "implant":
        raise Refused(
            f"simulate: expected --form tiff, mrc or hdf5 for a {phantom}, found {form};"
            " choose one"
        )
    endings = {"volume": FORMS[form], "labels": FORMS[form] or FORMS["tiff"]}
    return {
        part: Path(folder) / (name + more.format(**endings))
        for part, more in PARTS[phantom].items()
    }


class Slices(Protocol):
    """A volume (Z, Y, X) in memory or on disk: an array, a memmap, an HDF5 dataset."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (Z, Y, X) in voxels."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the voxels."""

    def __getitem__(self, part: slice) -> npt.NDArray[Any]:
        """Read slices."""


def write_volume(
    data: Slices,
    path: str | os.PathLike[str],
    *,
    voxel_nm: float,
    names: Sequence[str] = (),
) -> None:
    """Write a volume; the ending of the path (.tif, .mrc, .h5) chooses the format.

    Parameters
    ----------
    data
        Volume (Z, Y, X): float32, or labels of uint8.
    path
        Where the file will stand.
    voxel_nm
        Edge of the cubic voxels in nm.
    names
        Of labels: what each value means, from 0 up.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == FORMS["hdf5"]:
        _write_hdf5(data, path, voxel_nm, names)
        return
    source = _source(data, path.name, voxel_nm, names)
    (mrc if path.suffix == FORMS["mrc"] else tiff).write(source, path)


def _source(data: Slices, name: str, voxel_nm: float, names: Sequence[str] = ()) -> Source:
    depth, height, width = data.shape
    edges = (voxel_nm, voxel_nm, voxel_nm)
    return Source(
        name,
        (depth, height, width),
        np.dtype(data.dtype),
        lambda part: data[part],
        edges,
        edges,
        materials={**dict(enumerate(names)), **UNLABELLED} if names else {},
    )


def _write_hdf5(data: Slices, path: Path, voxel_nm: float, names: Sequence[str]) -> None:
    layout = {"data": (data.shape, data.dtype)}
    edges = (voxel_nm, voxel_nm, voxel_nm)
    said: dict[str, Any] = {"classes": list(names)} if names else {}
    with volumes.create(path, layout, voxel_nm=edges, **said) as file:
        for slab in volumes.slabs(data.shape[0]):
            file["data"][slab] = data[slab]


def write_scan(
    data: Slices,
    folder: str | os.PathLike[str],
    *,
    voxel_um: float,
    energy_kev: float,
    distance_m: float,
) -> None:
    """Write a scan as the reconstruction at a beamline does: one TIFF a slice and a log.

    Below the folder, which is named after the scan, lie `reco/float_rawBin1` with the
    numbered slices and `reco/reco_rawBin1.log`. What was there before is replaced.

    Parameters
    ----------
    data
        Attenuation (Z, Y, X) in 1/cm, float32.
    folder
        Where the scan will lie.
    voxel_um
        Edge of the cubic voxels in um.
    energy_kev, distance_m
        Energy of the X-rays, and distance of specimen and detector.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".partial-{folder.name}-"))
    try:
        slices = partial / "reco" / RECONSTRUCTION
        slices.mkdir(parents=True)
        for number in range(data.shape[0]):
            file = slices / f"reco_{folder.name}_{number + 1:06d}.tif"
            image = data[slice(number, number + 1)][0]
            tifffile.imwrite(file, image, metadata=None, software=False)
        log = LOG.format(
            name=folder.name,
            energy_ev=1e3 * energy_kev,
            distance_m=distance_m,
            pixel_um=voxel_um,
        )
        write_text(log, partial / "reco" / "reco_rawBin1.log")
        partial.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_codes(names: Sequence[str], path: str | os.PathLike[str]) -> None:
    """Write what each value of a label volume means, as CSV: value, name."""
    known = {**dict(enumerate(names)), **UNLABELLED}
    rows = ({"value": value, "name": name} for value, name in known.items())
    tables.write_rows(rows, ("value", "name"), path)


def write_star(
    places_nm: npt.NDArray[np.float64],
    normals: npt.NDArray[np.float64],
    path: str | os.PathLike[str],
    *,
    name: str,
    shape: tuple[int, int, int],
    voxel_nm: float,
) -> None:
    """Write oriented points for RELION 5; the tomogram itself counts as unbinned.

    Parameters
    ----------
    places_nm, normals
        Shape (N, 3): positions in nm from the centre of the first voxel, and unit axes;
        z, y, x.
    path
        Where the file will stand.
    name
        Of the tomogram.
    shape, voxel_nm
        Shape (Z, Y, X) in voxels and edge of the cubic voxels in nm.
    """
    unbinned = {
        "bin1_shape": ",".join(map(str, shape)),
        "bin1_pixel_nm": repr(voxel_nm),
        "binning": "fourier",
    }
    grid = Grid(shape, (voxel_nm, voxel_nm, voxel_nm), name, unbinned)
    star.write(particles(places_nm / voxel_nm, normals), Path(path), grid)


def write_points(table: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write a table of sites as CSV; four decimals, an empty cell for what is unknown."""
    with replacing(path) as partial:
        table.to_csv(partial, index=False, float_format="%.4f", lineterminator="\n")
