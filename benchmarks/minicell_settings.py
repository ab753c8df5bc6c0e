"""What a minicell network loses on tomograms recorded otherwise: dose, wedge, defocus.

    python benchmarks/reference_chain.py FOLDER --train 40 --validate 10 --test 24
    python benchmarks/minicell_settings.py FOLDER --count 16 --jobs 2

The reference chain's network, trained and stopped at the set's own settings, searches the
same test cells again, recorded with one setting of the microscope changed. The threshold is
the one that reached the recall at home; whatever was made in FOLDER is used again.
"""

import argparse
import json
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from reference_chain import RADIUS_NM, RECALL, at_recall, searched, simulated

from tomoglean import benchmarks
from tomoglean.scores import curves, detection
from tomoglean.scores.tomograms import Tomogram

Recording = tuple[Path, str, dict[str, Any]]
CHANGES: dict[str, dict[str, float]] = {
    "home": {},
    "half the dose": {"dose_per_a2": 40.0},
    "tilts to 40 deg": {"tilt_max_deg": 40.0},
    "defocus 3 um": {"defocus_um": 3.0},
}


def recorded(
    folder: Path, change: str, count: int
) -> list[tuple[Path, str, dict[str, Any]]]:
    """List the test cells of the set as a changed microscope records them."""
    found = benchmarks.read("minicell-small")
    settings = found.volume("test-001").settings
    settings.setdefault("microscope", {}).update(CHANGES[change])
    place = folder if not CHANGES[change] else folder / change.replace(" ", "-")
    place.mkdir(exist_ok=True)
    for name in ("lenet5.onnx", "lenet5.json"):
        if not (place / name).exists():
            shutil.copy(folder / name, place / name)
    return [(place, f"test-{n:03d}", settings) for n in range(1, count + 1)]


def found_in(one: Recording) -> Tomogram | None:
    """Record one cell, and search it."""
    place, name, settings = one
    seed = benchmarks.read("minicell-small").seed
    path = simulated(place, seed, name, settings)
    return searched(path) if path else None


def figures(members: list[Tomogram], threshold: float) -> dict[str, Any]:
    """Give the average precision, and what is found above a threshold."""
    points = curves.curve(members, RADIUS_NM)
    above = detection.figures([one.above(threshold) for one in members], RADIUS_NM)
    kept = ("tomograms", "truths", "tp", "fp", "fn", "precision", "recall")
    return {"ap": curves.average_precision(points), **{name: above[name] for name in kept}}


def main() -> None:
    """Print a line for every change, home first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    threshold = None
    for change in CHANGES:
        with ProcessPoolExecutor(asked.jobs) as pool:
            made = pool.map(found_in, recorded(asked.folder, change, asked.count))
            members = [one for one in made if one]
        threshold = threshold or at_recall(members, RECALL)["threshold"]
        row = {"threshold": threshold, **figures(members, threshold)}
        print(json.dumps({"change": change, **row}), flush=True)


if __name__ == "__main__":
    main()
