"""What the minicell's tilt series gives, as Markdown tables.

    python benchmarks/tilt.py [checks | snr | sizes | modes] ...    default: all

checks: positions, noise, wedge and Thon rings beside what theory says.
snr: the same cells behind ice of 180, 320 and 400 nm, beside the expected values; and what
each part of the imaging chain does to it. sizes: CPU time and peak memory (VmHWM) of the
small and the full field of view, each in a process of its own. modes: CPU time of the fast
mode beside the full one.
"""

import json
import logging
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import fft, ndimage

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tomoglean import config
from tomoglean.simulators.minicell import scene, simulate_minicell, tilt
from tomoglean.simulators.minicell.microscope import Microscope

SMALL = {
    "field": {"shape_px": [224, 320, 320], "voxel_nm": 1.8},
    "cell": {"diameter_nm": [200, 300], "axis_ratio": [1.0, 1.6]},
}
FULL = {
    "field": {"shape_px": [300, 900, 900], "voxel_nm": 1.8},
    "cell": {"diameter_nm": [380, 480], "axis_ratio": [1.0, 1.6]},
}
FAST = {
    "field": {"shape_px": [64, 256, 256], "voxel_nm": 3.6},
    "microscope": {"mode": "fast"},
}
#: Signal-to-noise ratios that the parameter sheet expects, by thickness of the ice in nm.
EXPECTED = {180: 0.19, 320: 0.11, 400: 0.09}
CELLS = 3
CHANGES = {
    "as it is": {},
    "no errors of alignment": {"shift_nm": 0.0, "rotation_deg": 0.0},
    "camera records every electron": {"quantum_efficiency": 1.0},
    "integrating camera": {"camera": "integrating"},
    "mean free path 395 nm": {"mean_free_path_nm": 395.0},
    "defocus 3 um": {"defocus_um": 3.0},
    "ramp falls from 0.25 cycles a voxel": {"rolloff_start": 0.25},
    "tilts to 60 deg": {"tilt_max_deg": 60.0},
}


def specimen(name: str, **cell: Any) -> scene.Scene:
    """Build a small cell."""
    settings = {**SMALL, "cell": {**SMALL["cell"], **cell}}
    full = config.filled(settings, "phantom-minicell", "benchmark", "")
    margin = tilt.margin_px(224, microscope(tilt_max_deg=60.0))
    return scene.build(1, name, **scene.settings_of(full), margin_px=margin)


def microscope(**changes: Any) -> Microscope:
    """Microscope with the defaults but for some changes."""
    full = config.filled({"microscope": changes}, "phantom-minicell", "benchmark", "")
    return Microscope(**full["microscope"])


def seen(one: scene.Scene, ice_nm: float, scope: Microscope) -> tilt.Tomogram:
    """Record and reconstruct a specimen behind some ice."""
    where = {"ice_nm": ice_nm, "voxel_nm": one.voxel_nm, "microscope": scope}
    width = one.labels.shape[2]
    series = tilt.record(1, "benchmark", one.density, width_px=width, **where)
    return tilt.reconstruct(series, one.inside, **where)


def checks() -> Iterator[str]:
    """What comes out of the chain beside what theory says."""
    yield "| check | measured | theory |"
    yield "|---|---|---|"
    yield f"| largest error of 20 positions, voxels | {worst_position():.3f} | 0 |"
    scope, ice = microscope(), np.zeros((64, 64, 128), np.float32)
    where = {"ice_nm": 115.0, "voxel_nm": 1.8, "microscope": scope}
    series = tilt.record(1, "ice", ice, width_px=128, **where)
    found = tilt.reconstruct(series, np.ones(ice.shape, bool), **where)
    ramped = np.sum(scope.weights_rad**2 / series.means) / 12
    yield f"| variance of the noise | {found.noise**2:.3g} | {ramped:.3g} |"
    yield f"| power in the wedge over power in band | {hidden(found.image):.4f} | 0 |"
    yield f"| first zero of the Thon rings at 1.48 nm, nm | {first_zero():.2f} | 3.48 |"


def worst_position() -> float:
    """Largest error in voxels of soft balls at random places, without noise."""
    scope, rng = microscope(shift_nm=0.0, rotation_deg=0.0), np.random.default_rng(0)
    places, worst = rng.uniform(12, [36, 28, 52], (20, 3)), 0.0
    axes = np.ogrid[:48, :40, :64]
    for place in places:
        squares = sum((a - p) ** 2 for a, p in zip(axes, place, strict=True))
        ball = 0.5 * np.exp(-squares / 8).astype(np.float32)
        where = {"ice_nm": 80.0, "voxel_nm": 1.8, "microscope": scope}
        series = tilt.record(1, "ball", ball, width_px=64, **where)
        image = np.stack(list(tilt.back_projected(series.signal, 48, scope)), axis=1)
        low = np.rint(place).astype(int) - 4
        part = -image[tuple(slice(a, a + 9) for a in low)]
        part = np.clip(part - 0.3 * part.max(), 0, None)
        worst = max(worst, *np.abs(ndimage.center_of_mass(part) + low - place))
    return float(worst)


def hidden(image: np.ndarray) -> float:
    """Mean power well inside the wedge over that well outside, in a cropped tomogram."""
    cropped = image[:, :, 32:96] * (np.hanning(64)[:, None, None] * np.hanning(64))
    power = np.abs(fft.fftn(cropped)) ** 2
    kz, _, kx = np.meshgrid(*(fft.fftfreq(n) for n in power.shape), indexing="ij")
    angle, radius = np.degrees(np.arctan2(np.abs(kz), np.abs(kx))), np.hypot(kz, kx)
    band = (radius > 0.1) & (radius < 0.5)
    return float(power[band & (angle > 55)].mean() / power[band & (angle < 48)].mean())


def first_zero() -> float:
    """Period in nm at which a view of weak white matter at 1.48 nm has least power."""
    scope = microscope(shift_nm=0.0, rotation_deg=0.0, defocus_spread_um=0.0)
    matter = np.random.default_rng(0).normal(0, 0.02, (4, 256, 256)).astype(np.float32)
    where = {"ice_nm": 50.0, "voxel_nm": 1.48, "microscope": scope}
    view = tilt.record(1, "matter", matter, width_px=256, **where).signal[17]
    ky, kx = fft.fftfreq(256, 1.48), fft.rfftfreq(256, 1.48)
    edges = np.linspace(0.2, 0.335, 40)
    radius = np.hypot(ky[:, None], kx)
    total, _ = np.histogram(radius, edges, weights=np.abs(fft.rfft2(view)) ** 2)
    least = np.argmin(total / np.histogram(radius, edges)[0])
    return float(2 / (edges[least] + edges[least + 1]))


def snr() -> Iterator[str]:
    """SNR behind three thicknesses of ice, and what it hangs on."""
    cells = [specimen(f"cell-{index}") for index in range(CELLS)]
    yield "| ice, nm | electrons at 0 deg | at 51 deg | SNR of each cell | expected |"
    yield "|---|---|---|---|---|"
    scope = microscope()
    for ice_nm, expected in EXPECTED.items():
        found = [f"{seen(one, ice_nm, scope).snr:.2f}" for one in cells]
        behind = scope.electrons(1.8) * scope.passed(ice_nm)
        row = f"{behind[17]:.0f} | {behind[0]:.0f} | {', '.join(found)} | {expected}"
        yield f"| {ice_nm} | {row} |"
    yield ""
    yield "| 400 nm of ice, first cell | SNR | standard deviation of signal, noise |"
    yield "|---|---|---|"
    changed = [(what, cells[0], changes) for what, changes in CHANGES.items()]
    empty = {"cytosol_share": 1e-3, "periplasm_share": 0.0, "membrane_share": 0.0}
    changed += [("no proteins between the machines", specimen("cell-0", **empty), {})]
    bare = {**empty, "ribosomes_per_um3": 0.0}
    changed += [("nor ribosomes", specimen("cell-0", **bare), {})]
    for what, one, changes in changed:
        found = seen(one, 400, microscope(**changes))
        spreads = np.sqrt([found.signal_variance, found.noise_variance])
        yield f"| {what} | {found.snr:.2f} | {spreads[0]:.5f}, {spreads[1]:.5f} |"


def sizes() -> Iterator[str]:
    """CPU time and peak memory at both sizes, each in its own process."""
    yield "| field of view | CPU time, s | wall time, s | peak memory, MB | SNR |"
    yield "|---|---|---|---|---|"
    for name, settings in (("small", SMALL), ("full", FULL)):
        command = [sys.executable, __file__, "one", json.dumps(settings)]
        told = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - our own code
        shape = " x ".join(map(str, settings["field"]["shape_px"]))
        yield f"| {name}, {shape} | {told.stdout.strip()} |"


def one(settings: str) -> Iterator[str]:
    """Simulate one tomogram and tell what it took."""
    start = time.monotonic()
    made = simulate_minicell(seed=1, name="benchmark", settings=json.loads(settings))
    status = Path("/proc/self/status").read_text()
    peak = int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) >> 10
    wall, found = time.monotonic() - start, made.facts["snr"]
    yield f"{time.process_time():.0f} | {wall:.0f} | {peak} | {found:.2f}"


def modes() -> Iterator[str]:
    """CPU time of the fast mode and of the full mode on the same field of view."""
    yield "| mode | field of view | CPU time, s |"
    yield "|---|---|---|"
    for mode in ("fast", "full"):
        start = time.process_time()
        settings = {**FAST, "microscope": {"mode": mode}}
        simulate_minicell(seed=1, name="benchmark", settings=settings)
        spent = time.process_time() - start
        yield f"| {mode} | 64 x 256 x 256 at 3.6 nm | {spent:.1f} |"


PARTS: dict[str, Callable[[], Iterator[str]]] = {
    "checks": checks,
    "snr": snr,
    "sizes": sizes,
    "modes": modes,
}


def main(words: list[str]) -> None:
    """Print the tables asked for."""
    logging.basicConfig(level=logging.WARNING)
    if words[:1] == ["one"]:
        rows = [one(words[1])]
    else:
        rows = [PARTS[word]() for word in words or PARTS]
    for part in rows:
        for row in part:
            sys.stdout.write(row + "\n")
            sys.stdout.flush()
        sys.stdout.write("\n")


if __name__ == "__main__":
    main(sys.argv[1:])
