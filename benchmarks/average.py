"""What averaging machines of the minicell phantom gives, in known poses.

    python benchmarks/average.py --machines 600 --voxel 1.8 --jobs 2

Kudryashev et al. 2013 (eLife 00792) reached about 4 nm with 624 machines at 6 um of
underfocus: the phantom's tomograms must carry as much and no more. Machines are cut out in
their true poses and averaged with the missing wedge; the Fourier shell correlation with
the average of the true densities in the same poses falls to 0.5 at the resolution told.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial, reduce
from operator import add
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tomoglean import averages
from tomoglean.averages import Particle, Setup
from tomoglean.simulators.fields import Float, frame
from tomoglean.simulators.minicell import simulate_minicell
from tomoglean.simulators.minicell.bodies import Site
from tomoglean.volumes import Volume

EACH, WIDE_NM = 12, 115.0
SIZE_NM = 380.0, 430.0, 430.0
Sums = tuple[averages.Sums, averages.Sums, int]


def settings(voxel_nm: float, **microscope: object) -> dict[str, dict[str, object]]:
    """Cells of 300 nm with many machines and no decoys."""
    shape = [round(size / voxel_nm / 2) * 2 for size in SIZE_NM]
    return {
        "field": {"shape_px": shape, "voxel_nm": voxel_nm},
        "cell": {"diameter_nm": [280.0, 300.0], "axis_ratio": [1.0, 1.1]},
        "machines": {"number": [EACH]},
        "decoys": {"number": 0, "gold": 0, "ice": 0},
        "microscope": microscope,
    }


def angle_deg(site: Site) -> float:
    """Free angle of `averages.frame` at which all machines are turned alike."""
    across, aside, _ = frame(site.normal)
    x_axis = np.cos(site.spin) * across - np.sin(site.spin) * aside
    _, y, x = averages.frame(site.normal).T
    return float(np.degrees(np.arctan2(x_axis @ y, x_axis @ x)))


def particles(sites: list[Site], voxel_nm: float) -> Iterator[Particle]:
    """Machines in their true poses."""
    for site in sites:
        if site.kind == "t3ss":
            centre = site.place_nm / voxel_nm
            yield Particle(0, centre, site.normal, angle_deg(site), centre)


def summed(index: int, *, voxel_nm: float) -> Sums:
    """Sum image and density of one cell's machines; densities know every direction."""
    made = simulate_minicell(seed=1, name=f"average-{index}", settings=settings(voxel_nm))
    box_px = 2 * round(WIDE_NM / voxel_nm / 2)
    setup = Setup(voxel_nm, box_px, 1, 51.0, 0, 5.0, 0.0, 4.0, 1e-3, False)
    margin = made.scene.margin_px
    density: Float = made.scene.density[:, :, margin : margin + made.image.shape[2]]
    found = list(particles(made.points, voxel_nm))
    both: list[averages.Sums] = []
    for data, limit in ((-made.image, 51.0), (density, 90.0)):
        scan = Volume(data, (voxel_nm,) * 3)
        part = Setup(**{**vars(setup), "tilt_max_deg": limit})
        both.append(averages.summed(found, [scan], part))
    return both[0], both[1], len(found)


def main() -> None:
    """Average machines and print the resolution."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--machines", type=int, default=600)
    parser.add_argument("--voxel", type=float, default=1.8)
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    work = partial(summed, voxel_nm=asked.voxel)
    with ProcessPoolExecutor(asked.jobs) as pool:
        parts = list(pool.map(work, range(-(-asked.machines // EACH))))
    image = reduce(add, (part[0] for part in parts))
    truth = reduce(add, (part[1] for part in parts))
    count = sum(part[2] for part in parts)
    box_px = image.weight.shape[0]
    mask = Setup(asked.voxel, box_px, 1, 51.0, 0, 5.0, 0.0, 4.0, 1e-3, False).mask
    fsc = averages.shell_correlation(image.map(1e-3) * mask, truth.map(1e-3) * mask)
    frequency = np.arange(1, box_px // 2 + 1) / (box_px * asked.voxel)
    print(
        json.dumps(
            {
                "machines": count,
                "voxel_nm": asked.voxel,
                "resolution_nm": averages.resolution_nm(frequency, fsc, 0.5),
                "fsc": [
                    [round(1 / f, 2), round(float(v), 3)]
                    for f, v in zip(frequency, fsc, strict=True)
                ],
            }
        )
    )


if __name__ == "__main__":
    main()
