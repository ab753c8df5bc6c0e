"""Draw the README's picture from the demo's results: `python docs/picture.py`."""

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
mpl.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402 - the backend is chosen first

from tomoglean import tables, volumes  # noqa: E402 - the checkout is put on the path first
from tomoglean.report import figures, style  # noqa: E402

CLASSES = ["background", "bone", "degradation_layer", "residual_metal"]
IMPLANT, CELL = "implant-05", "mini-08"
RESULTS = ROOT / "examples" / "demo" / "results"
HALF_SLAB = 4


def implant(axes: list[plt.Axes]) -> None:
    """Draw the scan, what the network says, and the truth."""
    grey = volumes.read(RESULTS / f"converted/{IMPLANT}.h5").data
    found = volumes.read(RESULTS / f"segmented/bone/final/{IMPLANT}.h5").data
    truth = volumes.read(RESULTS / f"converted/bone/test/clean/{IMPLANT}.h5").data
    z = len(grey) // 2
    shown = figures.grey(grey[z], figures.window(grey[z]))
    colours = list(style.class_colours(CLASSES).values())
    pictures = [shown, *(figures.overlay(shown, one[z], colours) for one in (found, truth))]
    titles = ["implant (simulated scan)", "bone, layer, metal: found", "truth"]
    for ax, picture, title in zip(axes, pictures, titles, strict=True):
        ax.imshow(picture, cmap="gray")
        ax.set_title(title)


def cell(axes: list[plt.Axes]) -> None:
    """Draw the tomogram, the membrane found in it, and candidates beside true machines."""
    grey = volumes.read(RESULTS / f"converted/{CELL}.h5").data
    membrane = volumes.read(RESULTS / f"segmented/membrane/final/{CELL}.h5").data
    picks = tables.read_picks(RESULTS / f"published/t3ss/{CELL}.csv").positions
    points = tables.read_points(RESULTS / f"converted/t3ss/test/points/{CELL}.csv")
    true = points.positions[np.array(points.classes) == "t3ss"]
    z = round(float(min(true[:, 0], key=lambda place: abs(place - len(grey) / 2))))
    thick = grey[z - HALF_SLAB : z + HALF_SLAB + 1].mean(axis=0)
    shown = figures.grey(thick, figures.window(thick))
    named = list(style.class_colours(["background", "membrane"]).values())
    pictures = [shown, figures.overlay(shown, membrane[z], named), shown]
    titles = ["minicell (simulated tomogram)", "membrane: found", "T3SS: found o, true +"]
    for ax, picture, title in zip(axes, pictures, titles, strict=True):
        ax.imshow(picture, cmap="gray")
        ax.set_title(title)
    for places, mark, colour in ((picks, "o", style.ORANGE), (true, "+", style.BLUE)):
        near = places[np.abs(places[:, 0] - z) <= 2 * HALF_SLAB]
        axes[2].plot(near[:, 2], near[:, 1], mark, ms=14, mfc="none", mec=colour, mew=2)


def main() -> None:
    """Write docs/images/result.webp."""
    figure, axes = plt.subplots(2, 3, figsize=(10.5, 7.2), layout="constrained")
    implant(list(axes[0]))
    cell(list(axes[1]))
    for ax in axes.flat:
        ax.set_axis_off()
    figure.savefig(ROOT / "docs" / "images" / "result.webp", dpi=100)


if __name__ == "__main__":
    main()
