"""How hard the implant phantom is: methods that know no shapes, level by level.

    python benchmarks/ladder.py [--volumes N] [--size Z Y X] [--photons N] [LEVEL...]

Each method learns from N whole volumes with true labels (more than any user has) and is
tested on N others; multi-Otsu and the user of the weak labels learn nothing. Prints, as
Markdown, the overlap of the classes' greys and the IoU of each class: the layer has to be
the hardest, and the order multi-Otsu < grey table < random forest. `watershed` floods the
gradient from voxels that the grey table is sure of.
"""

import argparse
import sys
import tempfile
from itertools import combinations
from pathlib import Path

import h5py
import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tomoglean.scores import baselines  # noqa: E402 (lies beside)
from tomoglean.simulators.implant import CLASSES, simulate_implant  # noqa: E402
from tomoglean.simulators.implant.difficulty import Confusion  # noqa: E402
from tomoglean.simulators.implant.materials import LEVELS  # noqa: E402

METHODS = ("weak labels", "multi-Otsu", "grey table", "watershed", "random forest")
FOREST = {"trees": 100, "depth": 20, "voxels": 60_000, "slices": 60}
SCALES_PX = (1.0, 2.0, 4.0)
SURE = 0.8


def main() -> None:
    """Print both tables."""
    wanted = arguments()
    overlaps, scores = {}, {}
    for level in wanted.levels:
        train = [volume(wanted, level, f"train-{i}") for i in range(wanted.volumes)]
        test = [volume(wanted, level, f"test-{i}") for i in range(wanted.volumes)]
        overlaps[level] = [one.facts["grey_overlap"] for one in test]
        scores[level] = ladder(train, test)
    say("| level | " + " | ".join(f"{a} / {b}" for a, b in combinations(CLASSES, 2)) + " |")
    say("|---" * 7 + "|")
    for level, tables in overlaps.items():
        means = [
            np.mean([t[f"{a}/{b}"] for t in tables]) for a, b in combinations(CLASSES, 2)
        ]
        say(f"| {level} | " + " | ".join(f"{m:.2f}" for m in means) + " |")
    say("\n| level | method | " + " | ".join(CLASSES) + " | mean without background |")
    say("|---" * 7 + "|")
    for level, confusions in scores.items():
        for method in METHODS:
            iou = list(confusions[method].iou().values())
            cells = [f"{value:.3f}" for value in (*iou, np.mean(iou[1:]))]
            say(f"| {level} | {method} | " + " | ".join(cells) + " |")


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("levels", nargs="*", default=list(LEVELS), metavar="LEVEL")
    parser.add_argument("--volumes", type=int, default=2)
    parser.add_argument("--size", type=int, nargs=3, default=[48, 160, 160])
    parser.add_argument("--photons", type=float)
    return parser.parse_args()


def volume(wanted, level, name):
    """Simulate one volume."""
    settings = {"field": {"shape_px": wanted.size}, "material": {"level": level}}
    if wanted.photons:
        settings["scan"] = {"photons": wanted.photons}
    return simulate_implant(seed=7, name=name, settings=settings)


def ladder(train, test):
    """Return the confusion of every method over all test volumes."""
    with tempfile.TemporaryDirectory() as folder:
        greys = baselines.learn_greys(
            [examples(one, Path(folder) / f"{i}.h5") for i, one in enumerate(train)], 4
        )
        forest = baselines.grow_forest(greys, **FOREST, sigmas_px=SCALES_PX, seed=0)
    table = baselines.grey_table(greys)
    found = {method: Confusion(CLASSES) for method in METHODS}
    for one in test:
        bins = greys.bins(one.image)
        bands = baselines.otsu(greys, np.bincount(bins.ravel(), minlength=baselines.BINS))
        found["weak labels"].add(one.weak, one.truth)
        found["multi-Otsu"].add(bands[bins], one.truth)
        found["grey table"].add(table[bins], one.truth)
        found["watershed"].add(flooded(one.image, bins, greys), one.truth)
        found["random forest"].add(np.stack([forest(z) for z in one.image]), one.truth)
    return found


def examples(one, path):
    """Write a volume as examples that the baselines learn from."""
    with h5py.File(path, "w") as file:
        file["z/images"], file["z/labels"] = one.image, one.truth
    return path


def flooded(image, bins, greys):
    """Flood the gradient of the smoothed image from voxels of a sure grey."""
    smooth = ndimage.gaussian_filter(image, 1.0)
    shares = greys.counts / np.maximum(greys.counts.sum(axis=0), 1)
    # A class that is never sure starts from the greys it is likeliest at.
    limit = np.minimum(SURE, 0.9 * shares.max(axis=1, keepdims=True))
    marks = np.where((shares >= limit).any(axis=0), shares.argmax(axis=0) + 1, 0)
    markers = marks[greys.bins(smooth)]
    slopes = ndimage.gaussian_gradient_magnitude(image, 1.0)
    return (watershed(slopes, markers) - 1).astype(np.uint8)


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
