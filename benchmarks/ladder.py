"""How hard the implant phantom is: methods that know no shapes, level by level.

    python benchmarks/ladder.py [--volumes N] [--size Z Y X] [--photons N] [LEVEL...]

Each method learns from N whole volumes with true labels (more than any user has) and is
tested on N others; multi-Otsu and the user of the weak labels learn nothing. Prints, as
Markdown: the overlap of the classes' greys; the IoU of each class, its mean and the share
of voxels that are right; what a forest of one level is worth at another. The layer has to
be the hardest class, and the order multi-Otsu < grey table < random forest. `watershed`
floods the gradient from voxels that the grey table is sure of. Volumes are standardised one
by one, as the pipeline does.
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
EVERY = 6


def main() -> None:
    """Print the tables."""
    wanted = arguments()
    overlaps, scores, forests, tests = {}, {}, {}, {}
    for level in wanted.levels:
        train = [volume(wanted, level, f"train-{i}") for i in range(wanted.volumes)]
        tests[level] = [volume(wanted, level, f"test-{i}") for i in range(wanted.volumes)]
        overlaps[level] = [one.facts["grey_overlap"] for one in tests[level]]
        greys, forests[level] = learned(train)
        scores[level] = ladder(greys, forests[level], tests[level])
    show_overlaps(overlaps)
    show_scores(scores)
    show_levels(forests, tests)


def show_overlaps(overlaps) -> None:
    """Print how far the greys of each two classes overlap."""
    pairs = [f"{a}/{b}" for a, b in combinations(CLASSES, 2)]
    say("| level | " + " | ".join(pairs) + " |")
    say("|---" * (1 + len(pairs)) + "|")
    for level, tables in overlaps.items():
        means = [np.mean([table[pair] for table in tables]) for pair in pairs]
        say(f"| {level} | " + " | ".join(f"{mean:.2f}" for mean in means) + " |")


def show_scores(scores) -> None:
    """Print the IoU of each class by method."""
    say(
        "\n| level | method | "
        + " | ".join(CLASSES)
        + " | mean without background | right |"
    )
    say("|---" * 8 + "|")
    for level, confusions in scores.items():
        for method in METHODS:
            facts = confusions[method].facts()
            iou, right = list(facts["iou"].values()), 1 - facts["wrong_percent"] / 100
            cells = [f"{value:.3f}" for value in (*iou, np.mean(iou[1:]), right)]
            say(f"| {level} | {method} | " + " | ".join(cells) + " |")


def show_levels(forests, tests) -> None:
    """Print the mean IoU without background of each forest at each level."""
    say("\n| forest of | " + " | ".join(f"at {level}" for level in tests) + " |")
    say("|---" * (1 + len(tests)) + "|")
    for level, forest in forests.items():
        cells = []
        for volumes in tests.values():
            confusion = Confusion(CLASSES)
            for one in volumes:
                for z in range(0, len(one.truth), EVERY):
                    confusion.add(forest(standard(one.image)[z]), one.truth[z])
            cells.append(f"{np.mean(list(confusion.iou().values())[1:]):.3f}")
        say(f"| {level} | " + " | ".join(cells) + " |")


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


def learned(train):
    """Return how often each class takes each grey, and a forest."""
    with tempfile.TemporaryDirectory() as folder:
        greys = baselines.learn_greys(
            [examples(one, Path(folder) / f"{i}.h5") for i, one in enumerate(train)], 4
        )
        forest = baselines.grow_forest(greys, **FOREST, sigmas_px=SCALES_PX, seed=0)
    return greys, forest


def examples(one, path):
    """Write a volume as examples that the baselines learn from."""
    with h5py.File(path, "w") as file:
        file["z/images"], file["z/labels"] = standard(one.image), one.truth
    return path


def standard(image):
    """Return an image of mean 0 and standard deviation 1."""
    return (image - image.mean()) / image.std()


def ladder(greys, forest, test):
    """Return the confusion of every method over all test volumes."""
    table = baselines.grey_table(greys)
    found = {method: Confusion(CLASSES) for method in METHODS}
    for one in test:
        image = standard(one.image)
        bins = greys.bins(image)
        bands = baselines.otsu(greys, np.bincount(bins.ravel(), minlength=baselines.BINS))
        found["weak labels"].add(one.weak, one.truth)
        found["multi-Otsu"].add(bands[bins], one.truth)
        found["grey table"].add(table[bins], one.truth)
        found["watershed"].add(flooded(image, greys), one.truth)
        for z, truth in enumerate(one.truth):
            found["random forest"].add(forest(image[z]), truth)
    return found


def flooded(image, greys):
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
