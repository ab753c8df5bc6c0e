"""Draw the phantoms as one would look at real data: slices, greys, spectra, projections.

    python benchmarks/phantoms.py docs/images

writes the figures of docs/implant.md and docs/minicell.md, from volumes of the sets
implant-small and minicell-small; some minutes on one core.
"""

import logging
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from scipy import fft

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
mpl.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402 - the backend is chosen first
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.patches import Patch  # noqa: E402

from tomoglean import benchmarks, config  # noqa: E402 - the checkout is no package
from tomoglean.report import figures, style  # noqa: E402
from tomoglean.simulators.implant import (  # noqa: E402
    CLASSES,
    Implant,
    simulate_implant,
)
from tomoglean.simulators.minicell import Minicell, simulate_minicell  # noqa: E402
from tomoglean.simulators.projections import Projector  # noqa: E402

Array = npt.NDArray[np.floating]
LEVELS = ("easy", "paper-like", "hard")
FEW, HALF_SLAB, LOWEST = 10, 4, 0.05
log = logging.getLogger(__name__)


# -- implant -----------------------------------------------------------------------------


def implant(name: str = "paper-test-001", **groups: dict[str, object]) -> Implant:
    """Simulate a volume of implant-small, with other settings where they are given."""
    found = benchmarks.read("implant-small")
    settings = config.merged(found.volume(name).settings, groups)
    return simulate_implant(seed=found.seed, name=name, settings=settings)


def implant_slices(folder: Path) -> None:
    """A slice across the screw and one along it: grey, truth, weak, corrected."""
    made = implant()
    depth, height, _ = made.truth.shape
    cuts = {"z": np.s_[depth // 2], "y": np.s_[:, height // 2]}
    figure, axes = plt.subplots(2, 4, figsize=(12.6, 4.9), layout="constrained")
    colours = list(style.class_colours(CLASSES).values())
    for row, (axis, cut) in zip(axes, cuts.items(), strict=True):
        shown = figures.grey(made.image[cut], figures.window(made.image[cut]))
        row[0].imshow(shown, cmap="gray")
        row[0].set_ylabel(f"across {axis}")
        labels = {"truth": made.truth, "weak": made.weak, "corrected": made.corrected}
        for ax, (title, one) in zip(row[1:], labels.items(), strict=True):
            ax.imshow(figures.overlay(shown, one[cut], colours))
            ax.set_title(title)
    axes[0, 0].set_title("scan")
    save(figure, axes, folder / "implant.webp")


def implant_physics(folder: Path) -> None:
    """Greys of the classes at each level, spectrum of the noise, a sinogram."""
    figure, axes = plt.subplots(1, 5, figsize=(15, 3), layout="constrained")
    few: dict[str, object] = {"shape_px": [FEW, 256, 256]}
    for ax, level in zip(axes, LEVELS, strict=False):
        histogram(ax, implant(field=few, material={"level": level}), level)
    noise_spectrum(axes[3], few)
    sinogram(axes[4], implant(field=few))
    figure.savefig(folder / "implant-physics.webp", dpi=80)


def histogram(ax: Axes, made: Implant, level: str) -> None:
    """Draw how often each grey occurs in each class."""
    known = {"background": "0.5", **style.class_colours(CLASSES)}
    edges = np.linspace(*np.percentile(made.image, [0.1, 99.9]), 120)
    for label, (name, colour) in enumerate(known.items()):
        greys = made.image[made.truth == label]
        share, _ = np.histogram(greys, edges)
        ax.plot(edges[:-1], share / max(len(greys), 1), color=colour, label=name)
    ax.set(title=level, xlabel="attenuation in 1/cm", yticks=[])
    overlaps = made.facts.get("grey_overlap", {})
    log.info("%s: overlap of greys %s", level, overlaps)
    if level == LEVELS[0]:
        ax.legend(fontsize=6)


def noise_spectrum(ax: Axes, few: dict[str, object]) -> None:
    """Draw the power of the photons' noise: the difference of two scans of one specimen."""
    still: dict[str, object] = {"drift_px": 0, "gain_error": 0, "flats": 0}
    corrosion: dict[str, object] = {"specimen": "twice"}
    two = [
        implant(name, field=few, corrosion=corrosion, scan=still).image
        for name in ("paper-test-001", "paper-test-002")
    ]
    noise = (two[0] - two[1]) / np.sqrt(2)
    power = np.mean(np.abs(fft.fft2(noise, workers=1)) ** 2, axis=0)
    frequency, mean = radial(power)
    ax.plot(frequency, mean / mean.max())
    ax.set(title="noise", xlabel="cycles per voxel", ylabel="power", yticks=[])
    middle = mean[(frequency > 0.2) & (frequency < 0.25)].mean()
    low = mean[(frequency > LOWEST / 2) & (frequency < LOWEST)].mean()
    log.info("noise power at .2-.25 over .025-.05 cycles: %.1f", middle / low)


def sinogram(ax: Axes, made: Implant) -> None:
    """Draw the projections of the middle slice of the reconstruction (no raw data)."""
    plane = np.asarray(made.image[FEW // 2])
    projector = Projector(plane.shape, np.arange(0.0, 180.0, 0.5), plane.shape[1])
    ax.imshow(projector.project(plane), cmap="gray", aspect="auto")
    ax.set(title="a slice projected", xlabel="detector", ylabel="angle", yticks=[])


# -- minicell ------------------------------------------------------------------------------


def minicell() -> Minicell:
    """Simulate the first cell of the tests of minicell-small that has three machines."""
    found = benchmarks.read("minicell-small")
    settings = config.merged(
        found.volume("test-001").settings, {"machines": {"number": [3]}}
    )
    return simulate_minicell(seed=found.seed, name="test-001", settings=settings)


def minicell_slices(made: Minicell, folder: Path) -> None:
    """Slices through a machine: as they are, averaged, and labels."""
    site = next(site for site in made.points if site.kind == "t3ss")
    z, y, _ = (round(float(c) / made.scene.voxel_nm) for c in site.place_nm)
    thick_z = made.image[max(z - HALF_SLAB, 0) : z + HALF_SLAB + 1].mean(axis=0)
    thick_y = made.image[:, max(y - HALF_SLAB, 0) : y + HALF_SLAB + 1].mean(axis=1)
    rows = [
        ("across z", made.image[z], thick_z, made.labels[z]),
        ("across y", made.image[:, y], thick_y, made.labels[:, y]),
    ]
    figure, axes = plt.subplots(2, 3, figsize=(12.6, 6.6), layout="constrained")
    for line, (title, *pictures, labels) in zip(axes, rows, strict=True):
        for ax, picture in zip(line, pictures, strict=False):
            ax.imshow(figures.grey(picture, figures.window(picture)), cmap="gray")
        line[0].set_ylabel(title)
        line[2].imshow(labels, cmap="tab20", interpolation="nearest", vmin=0, vmax=19)
    shown = sorted({int(value) for *_, labels in rows for value in np.unique(labels)})
    names, colours = made.facts["labels"], mpl.colormaps["tab20"].colors
    patches = [Patch(color=colours[value], label=names[value]) for value in shown]
    figure.legend(handles=patches, loc="outside right center", fontsize=8)
    for ax, title in zip(axes[0], ["one slice", "nine slices", "labels"], strict=True):
        ax.set_title(title)
    save(figure, axes, folder / "minicell.webp")


def minicell_physics(made: Minicell, folder: Path) -> None:
    """Two images of the tilt series, and the power of the tomogram."""
    series = made.series
    if series is None:
        raise SystemExit("expected a tilt series: minicell-small is of the full mode")
    figure, axes = plt.subplots(1, 4, figsize=(14, 3.4), layout="constrained")
    for ax, view in zip(axes, (len(series.counts) // 2, -1), strict=False):
        counts = series.counts[view]
        ax.imshow(figures.grey(counts, figures.window(counts)), cmap="gray")
        ax.set(title=f"tilt {series.angles_deg[view]:.0f} deg", xticks=[], yticks=[])
    middle = made.image[:, made.image.shape[1] // 4 :: 8]
    power = np.mean(np.abs(fft.fftn(middle, axes=(0, 2), workers=1)) ** 2, axis=1)
    axes[2].imshow(
        np.log(fft.fftshift(power) + 1e-3 * power.max()),
        extent=(-0.5, 0.5, -0.5, 0.5),
        cmap="gray",
    )
    axes[2].set(title="power", xlabel="k_x per voxel", ylabel="k_z per voxel")
    plane = np.mean(np.abs(fft.fft2(made.image, axes=(1, 2), workers=1)) ** 2, axis=0)
    frequency, mean = radial(plane)
    axes[3].semilogy(frequency / made.scene.voxel_nm, mean)
    axes[3].set(title="power across z", xlabel="1/nm")
    figure.savefig(folder / "minicell-physics.webp", dpi=80)
    facts = {key: made.facts[key] for key in ("snr", "ice_nm", "counts")}
    log.info("minicell: %s", facts)


# -- what both need ----------------------------------------------------------------------


def radial(power: Array) -> tuple[Array, Array]:
    """Mean power by frequency, up to 1/2 cycle a voxel, without the mean grey."""
    ky, kx = (fft.fftfreq(n) for n in power.shape)
    radius = np.hypot(ky[:, None], kx[None, :])
    bins = np.minimum((radius * 2 * 100).astype(int), 100)
    count = np.bincount(bins.ravel())
    mean = np.bincount(bins.ravel(), power.ravel()) / np.maximum(count, 1)
    return (np.arange(1, 100) + 0.5) / 200, mean[1:100]


def save(figure: plt.Figure, axes: npt.NDArray[np.object_], path: Path) -> None:
    """Write a figure of pictures without ticks."""
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main(folder: Path) -> None:
    """Write four figures."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logging.getLogger("tomoglean").setLevel(logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    implant_slices(folder)
    implant_physics(folder)
    made = minicell()
    minicell_slices(made, folder)
    minicell_physics(made, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
