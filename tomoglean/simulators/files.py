"""Write what a simulator made, byte for byte the same every time."""

import os
from collections.abc import Sequence
from typing import Any

import mrcfile
import numpy as np
import numpy.typing as npt
import pandas as pd
import tifffile

from tomoglean.provenance import replacing
from tomoglean.simulators.minicell.machines import Site

COLUMNS = ["z", "y", "x", "nz", "ny", "nx", "class", "wedge_angle"]


def write_tiff(data: npt.NDArray[Any], path: str | os.PathLike[str]) -> None:
    """Write a volume (Z, Y, X) as a TIFF of one page a slice."""
    with replacing(path) as partial:
        tifffile.imwrite(
            partial, data, photometric="minisblack", metadata=None, software=False
        )


def write_mrc(
    data: npt.NDArray[Any], path: str | os.PathLike[str], *, voxel_nm: float
) -> None:
    """Write a volume (Z, Y, X) as MRC with its voxel size and without a date.

    Parameters
    ----------
    data
        float32, or int8 for labels.
    path
        Where the file will stand.
    voxel_nm
        Edge of the cubic voxels in nm (the file holds angstrom).
    """
    with replacing(path) as partial, mrcfile.new(partial, overwrite=True) as file:
        file.set_data(data)
        file.voxel_size = 10.0 * voxel_nm
        # mrcfile signs with the time of day: the same volume must be the same bytes.
        file.header.label[:] = b""
        file.header.nlabl = 0


def write_points(sites: Sequence[Site], path: str | os.PathLike[str]) -> None:
    """Write sites as CSV: z, y, x in nm, unit normal outward, class, wedge angle.

    The centre of the first voxel is at 0 nm; the angle is in degrees.
    """
    rows = [(*site.place_nm, *site.normal, site.kind, site.wedge_angle) for site in sites]
    table = pd.DataFrame(rows, columns=COLUMNS)
    with replacing(path) as partial:
        table.to_csv(partial, index=False, float_format="%.4f", lineterminator="\n")


def read_points(path: str | os.PathLike[str]) -> list[Site]:
    """Read what `write_points` wrote."""
    table = pd.read_csv(path)
    return [
        Site(
            place_nm=np.asarray(row[:3], float),
            normal=np.asarray(row[3:6], float),
            kind=str(row[6]),
        )
        for row in table[COLUMNS].itertuples(index=False)
    ]
