"""One picture of a volume in seconds: three slices, a histogram, the facts.

Little is read, however large the volume: the central slice and every so manieth other, at
most 200 of them and 512 MiB; of a large chunked file the three central planes alone.
"""

import math
import os
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tomoglean import formats
from tomoglean.formats import Row, Source
from tomoglean.formats.stored import open_any
from tomoglean.provenance import Refused, replacing
from tomoglean.report import style
from tomoglean.volumes import IGNORE

Array = npt.NDArray[Any]

MOST_SLICES, FEWEST_SLICES = 200, 24
MOST_BYTES, SMALL_BYTES = 1 << 29, 1 << 27
MOST_VALUES = 1 << 22
PERCENTILES = (0.5, 50.0, 99.5)
MOST_CLASSES, MOST_LETTERS = 12, 90
BINS = 256

SIZE_INCH, DPI = (12.0, 8.0), 130
VIEW_INCH = (0.35, 0.35, 7.5, 7.05)  # left, bottom, width, height
GAP_INCH = 0.32
LEAST_INCH, ROOM_INCH = 0.25, 1.6
FACTS_INCH = (8.55, 0.35, 3.2, 7.05)
HISTOGRAM_INCH = 2.2
PLANE_COLOURS = {"z": style.BLUE, "y": style.ORANGE, "x": style.GREEN}
BACKGROUND, UNKNOWN = "#22282e", "#9aa3ab"
WARNING = "#a34700"


# -- look ----------------------------------------------------------------------------


@dataclass
class Look:
    """What was read of a volume.

    Attributes
    ----------
    planes
        Central planes by their axis: z (Y, X), y (n, X), x (Y, n), where n is the depth or
        the number of slices read.
    at
        Index of each plane along its axis.
    values
        Sample of the finite values, at most about four million.
    finite
        Share of the sampled voxels that are finite.
    slices
        How many slices the sample is from; 0 if from the three planes alone.
    """

    planes: dict[str, Array]
    at: dict[str, int]
    values: Array
    finite: float
    slices: int


def look(source: Source) -> Look:
    """Read the three central planes and a sample of the values.

    Raises
    ------
    Refused
        If the file is damaged there, or holds no real numbers.
    """
    if source.dtype.kind not in "iuf":
        raise Refused(
            f"{source.name}: expected real numbers, found {source.dtype}; save the volume"
            " itself, not its transform"
        )
    at = {axis: edge // 2 for axis, edge in zip("zyx", source.shape, strict=True)}
    planes, sampled, slices = _cut(source, at) if source.box else _leaf(source, at)
    step = max(1, math.ceil(sum(part.size for part in sampled) / MOST_VALUES))
    values = np.concatenate([part.reshape(-1)[::step] for part in sampled])
    good = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    return Look(planes, at, good, good.size / values.size, slices)


Read = tuple[dict[str, Array], list[Array], int]


def _cut(source: Source, at: Mapping[str, int]) -> Read:
    """Read the whole where it is small, else the three planes, as a chunked file can."""
    if math.prod(source.shape) * source.dtype.itemsize <= SMALL_BYTES:
        whole = source.read(slice(0, source.shape[0]))
        return _planes(lambda *box: whole[box], source, at), [whole], source.shape[0]
    planes = _planes(source.box, source, at)
    return planes, list(planes.values()), 0


def _planes(box: Any, source: Source, at: Mapping[str, int]) -> dict[str, Array]:
    whole = dict(zip("zyx", map(slice, source.shape), strict=True))
    planes = {}
    for number, (axis, index) in enumerate(at.items()):
        place = {**whole, axis: slice(index, index + 1)}
        planes[axis] = box(*place.values()).squeeze(number)
    return {**planes, "x": planes["x"].T}


def _leaf(source: Source, at: Mapping[str, int]) -> Read:
    """Leaf through the volume; of every slice met, a row and a column are kept."""
    places, (_, height, width) = places_of(source), source.shape
    step = _coprime(math.ceil(len(places) * height * width / MOST_VALUES), width)
    rows, columns, sampled = [], [], []
    for z in places:
        image = source.read(slice(z, z + 1))[0]
        rows.append(image[at["y"]].copy())
        columns.append(image[:, at["x"]].copy())
        sampled.append(image.reshape(-1)[::step].copy())
        if z == at["z"]:
            central = image
    planes = {"z": central, "y": np.stack(rows), "x": np.stack(columns, axis=1)}
    return planes, sampled, len(places)


def places_of(source: Source) -> list[int]:
    """Choose the slices to read: evenly spread, the central one among them."""
    depth, height, width = source.shape
    affordable = MOST_BYTES // (height * width * source.dtype.itemsize)
    count = min(depth, MOST_SLICES, max(FEWEST_SLICES, affordable))
    places = [int((n + 0.5) * depth / count) for n in range(count)]
    places[count // 2] = depth // 2
    return places


def _coprime(step: int, width: int) -> int:
    """Lengthen a step until it meets all columns of a slice alike."""
    while math.gcd(step, width) > 1:
        step += 1
    return step


# -- understand ----------------------------------------------------------------------


def classes_of(source: Source, seen: Look) -> list[int] | None:
    """Return the values of a label volume in order; None for grey values."""
    if source.dtype.kind not in "iu":
        return None
    values = np.unique(np.concatenate([seen.values, *map(np.ravel, seen.planes.values())]))
    named = bool(source.materials) and set(values.tolist()) <= set(source.materials)
    return values.tolist() if named or len(values) <= MOST_CLASSES else None


def colours_of(values: Sequence[int], named: Mapping[int, str]) -> dict[int, str]:
    """Give every label a colour: the lowest is background, 255 of several unlabelled."""
    open_ended = IGNORE in named or len(values) > 2
    classes = [v for v in sorted(named or values) if not (open_ended and v == IGNORE)]
    cycle = len(style.CLASS_COLOURS)
    inks = {v: style.CLASS_COLOURS[n % cycle] for n, v in enumerate(classes[1:])}
    return {**dict.fromkeys(values, UNKNOWN), classes[0]: BACKGROUND, **inks}


def window_of(values: Array) -> tuple[float, float]:
    """Return the grey values drawn black and white: percentiles, or else the extremes."""
    if not values.size:
        return 0.0, 1.0
    low, _, high = np.percentile(values, PERCENTILES).tolist()
    if not low < high:
        low, high = float(values.min()), float(values.max())
    return (low, high) if low < high else (low - 0.5, low + 0.5)


def facts(source: Source, seen: Look, path: Path) -> dict[str, str]:
    """Say in words what the volume is; whatever stems from a sample says so."""
    shape, edges = source.shape, source.voxel_nm
    told = {
        "format": f"{_format(source)}, {source.dtype}",
        "shape": " × ".join(map(str, shape)) + " (z, y, x)",
        "voxels": _amount(math.prod(shape)) + f", {_bytes(path)} on disk",
        "voxel size": _lengths(edges) if edges else "unknown: drawn as cubes",
    }
    if edges:
        seen_nm = [e * n for e, n in zip(edges, shape, strict=True)]
        told["field of view"] = _lengths(seen_nm[1:] if is_flat(source) else seen_nm)
    if any(source.origin_nm):
        told["origin"] = _lengths(source.origin_nm)
    if seen.values.size and classes_of(source, seen) is None:
        told |= _levels(seen.values)
    told["sample"] = f"{_amount(seen.values.size)} values of {_met(source, seen)}"
    return told


def _format(source: Source) -> str:
    names = {one.__name__.rpartition(".")[2]: one.FORMAT.name for one in formats.readers()}
    return names.get(source.format, source.format)


def _met(source: Source, seen: Look) -> str:
    if not seen.slices:
        return "the three planes"
    depth, met = source.shape[0], seen.slices
    return f"{met} of {depth} slices" if met < depth else "all slices"


def _levels(values: Array) -> dict[str, str]:
    wide = values.astype(np.float64)
    return {
        "range": f"{value(wide.min())} to {value(wide.max())}",
        "0.5, 50, 99.5 %": "; ".join(map(value, np.percentile(wide, PERCENTILES))),
        "mean, std": f"{value(wide.mean())}; {value(wide.std())}",
    }


def value(number: float) -> str:
    """Write a grey value with four digits, without an exponent up to ten millions."""
    return f"{number:.0f}" if 1e3 <= abs(number) < 1e7 else f"{number:.4g}"


def doubts(source: Source, seen: Look) -> list[str]:
    """Say what a person should know before using the volume."""
    found = list(source.warnings)
    if seen.finite < 1:
        share = 100 * (1 - seen.finite)
        found.append(f"{share:.2g} % of the sample is NaN or Inf (drawn red)")
    if seen.values.size and seen.values.min() == seen.values.max():
        found.append("one value only in all that was read")
    if source.shape[0] == 1:
        found.append("one slice only: a 2D image")
    elif is_flat(source) and source.z is not None:
        true = ", ".join(map(str, source.z[:6].tolist()))
        found.append(f"slices with gaps, z = {true} ...: no views from the side")
    return [line.removeprefix(f"{source.name}: ") for line in found]


def is_flat(source: Source) -> bool:
    """Tell whether a view from the side would mean nothing."""
    steps = np.ones(1) if source.z is None else np.diff(source.z)
    return source.shape[0] == 1 or bool((steps != 1).any())


def _lengths(edges_nm: Sequence[float]) -> str:
    """Write three lengths, as one where they agree, in the unit of the longest."""
    largest = max(map(abs, edges_nm))
    units = ((1e6, "mm"), (1e3, "µm"), (1.0, "nm"))
    factor, unit = next(((f, u) for f, u in units if largest >= f), (1.0, "nm"))
    numbers = [f"{edge / factor:.4g}" for edge in edges_nm]
    if len(set(numbers)) == 1:
        return f"{numbers[0]} {unit}" + (" (cubes)" if len(numbers) == 3 else " (square)")
    return " × ".join(numbers) + f" {unit}"


def _amount(count: int, of: str = "") -> str:
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= factor:
            return f"{count / factor:.3g} {unit}{of}"
    return f"{count} {of}".strip()


def _bytes(path: Path) -> str:
    parts = path.rglob("*") if path.is_dir() else [path]
    return _amount(sum(part.stat().st_size for part in parts if part.is_file()), "B")


# -- draw ----------------------------------------------------------------------------


def draw(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    row: Row | None = None,
) -> Path:
    """Draw a volume as one PNG; the same volume gives the same picture.

    Parameters
    ----------
    path
        A raw volume of any known format, or a volume file of a study.
    output
        The PNG; by default NAME.quicklook.png in the working folder.
    row
        Cells as in volumes.tsv, such as `dataset`, `voxel_nm`.

    Returns
    -------
    Path
        The PNG.

    Raises
    ------
    Refused
        If the volume cannot be read, or the PNG would lie among its slices.
    """
    path = Path(os.path.abspath(path))
    target = Path(output or f"{path.name}.quicklook.png")
    if target.suffix.lower() != ".png":
        raise Refused(f"{target.name}: expected the ending .png, found another; rename it")
    if path.is_dir() and target.resolve().is_relative_to(path.resolve()):
        raise Refused(
            f"{target.name}: expected a place outside the folder that is drawn, found one"
            " in it, as if it were a slice; say --output ../FILE.png"
        )
    with open_any(path, row) as source:
        figure = picture(source, path)
    with replacing(target) as partial:
        figure.savefig(partial, format="png", metadata={"Software": None})
    return target


def picture(source: Source, path: Path) -> Figure:
    """Draw an open volume; `path` is what its size on disk is told of."""
    with mpl.rc_context(style.CHART_SETTINGS):
        return _Picture(source, look(source), path).draw()


def title(path: Path) -> str:
    """Name a volume as a person would: within the results, or with its folder."""
    parts = path.resolve().parts
    last = parts[::-1].index("results") if "results" in parts else 2
    told = "/".join(parts[-last:])
    return told if len(told) <= MOST_LETTERS else f"… {told[-MOST_LETTERS:]}"


@dataclass
class _Picture:
    """The figure: three planes at one scale to the left, histogram and facts right."""

    source: Source
    seen: Look
    path: Path
    figure: Figure = field(
        default_factory=lambda: Figure(SIZE_INCH, dpi=DPI, facecolor="white")
    )

    def draw(self) -> Figure:
        FigureCanvasAgg(self.figure)
        self.classes = classes_of(self.source, self.seen)
        self.window = window_of(self.seen.values)
        self.text(VIEW_INCH[0], 7.62, title(self.path), size=13, weight="bold")
        edges = self.source.voxel_nm or (1.0, 1.0, 1.0)
        z, y, x = (e * n for e, n in zip(edges, self.source.shape, strict=True))
        self.views(z, y, x)
        bottom = self.histogram()
        self.facts(bottom - 0.55)
        return self.figure

    def text(self, left: float, bottom: float, said: str, **look: Any) -> Any:
        return self.figure.text(
            left / SIZE_INCH[0], bottom / SIZE_INCH[1], said, parse_math=False, **look
        )

    def axes(self, left: float, bottom: float, width: float, height: float) -> Axes:
        across, up = SIZE_INCH
        return self.figure.add_axes(
            (left / across, bottom / up, width / across, height / up)
        )

    def views(self, z: float, y: float, x: float) -> None:
        """Place the planes: z top left, x beside it, y below, all at one scale."""
        left, bottom, width, height = VIEW_INCH
        flat = is_flat(self.source)
        gap = 0.0 if flat else GAP_INCH
        deep = 0.0 if flat else z
        scale = min((width - gap) / (x + deep), (height - gap) / (y + deep))
        across, down = max(x * scale, LEAST_INCH), max(y * scale, LEAST_INCH)
        thick = max(deep * scale, LEAST_INCH)
        top = bottom + height
        main = self.plane("z", (left, top - down, across, down), "x", "y")
        self.scale_bar(main, x)
        if not flat:
            beside = (left + across + gap, top - down, thick, down)
            below = (left, top - down - gap - thick, across, thick)
            self.plane("x", beside, "z", "y")
            self.plane("y", below, "x", "z")

    def plane(
        self, axis: str, place: tuple[float, float, float, float], across: str, down: str
    ) -> Axes:
        axes = self.axes(*place)
        self.paint(axes, self.seen.planes[axis])
        for spine in axes.spines.values():
            spine.set(visible=True, color=PLANE_COLOURS[axis], linewidth=1.6)
        axes.set(xticks=[], yticks=[])
        if not is_flat(self.source):
            self.marks(axes, across, down)
        index, edge = self.seen.at[axis], self.source.shape["zyx".index(axis)]
        left, bottom, _, height = place
        said = f"{axis} = {self.true_place(axis)}"
        if place[2] > ROOM_INCH:
            known = axis != "z" or self.source.z is None
            said += f" of {edge}" if known else f", slice {index} of {edge}"
            said += f"   ({across} →, {down} ↓)"
        self.text(left, bottom + height + 0.06, said, size=8, color=PLANE_COLOURS[axis])
        return axes

    def true_place(self, axis: str) -> int:
        """Return where a plane lies; slices of a sparse set keep their number."""
        index, z = self.seen.at[axis], self.source.z
        return index if axis != "z" or z is None else int(z[index])

    def paint(self, axes: Axes, image: Array) -> None:
        """Draw a plane that fills its axes, whatever its number of pixels."""
        how: Any = {"extent": (0, 1, 1, 0), "aspect": "auto"}
        if self.classes is None:
            low, high = self.window
            shown = np.ma.masked_invalid(image.astype(np.float32))
            axes.imshow(shown, cmap=_greys(), vmin=low, vmax=high, **how)
            return
        colours = colours_of(self.classes, self.source.materials)
        places = np.searchsorted(self.classes, image)
        table = np.array([style.rgb(colours[label]) for label in self.classes], np.uint8)
        axes.imshow(table[places], interpolation="nearest", **how)

    def marks(self, axes: Axes, across: str, down: str) -> None:
        """Show by ticks where the other two planes cut this one."""
        for axis, line in ((across, axes.axvline), (down, axes.axhline)):
            edge = self.source.shape["zyx".index(axis)]
            if edge > 1:
                place = (self.seen.at[axis] + 0.5) / edge
                for ends in ((0, 0.035), (0.965, 1)):
                    line(place, *ends, color=PLANE_COLOURS[axis], linewidth=1.6)

    def scale_bar(self, axes: Axes, width: float) -> None:
        """Draw a bar of a round length in the corner, on a dark plate."""
        known = self.source.voxel_nm is not None
        length = style.scale_bar_nm(width) if known else max(1.0, style.scale_bar_nm(width))
        said = style.length(length) if known else f"{length:g} voxels"
        box = axes.get_position()
        aside, up = 0.09 / (box.width * SIZE_INCH[0]), 0.09 / (box.height * SIZE_INCH[1])
        share = length / width
        wide = max(share, 0.83 * aside * len(said)) + 2 * aside
        whole: Any = {"transform": axes.transAxes, "linewidth": 0}
        axes.add_patch(Rectangle((0, 0), wide, 4.2 * up, color="#000000a0", **whole))
        axes.add_patch(Rectangle((aside, up), share, 0.5 * up, color="white", **whole))
        axes.text(aside, 1.9 * up, said, color="white", size=8, transform=axes.transAxes)

    def histogram(self) -> float:
        """Draw the histogram, or the shares of the classes; return its lower edge."""
        left, bottom, width, height = FACTS_INCH
        low = bottom + height - HISTOGRAM_INCH
        aside = 0.0 if self.classes is None else 1.1
        axes = self.axes(left + aside, low, width - aside, HISTOGRAM_INCH)
        if not self.seen.values.size:
            axes.set_axis_off()
        elif self.classes is None:
            self.grey_histogram(axes)
        else:
            self.class_shares(axes, self.classes)
        return low

    def grey_histogram(self, axes: Axes) -> None:
        counts, edges = np.histogram(self.seen.values, bins_of(self.seen.values))
        axes.set_axisbelow(True)
        axes.stairs(counts, edges, fill=True, color=style.MUTED)
        axes.axvspan(*self.window, color=style.SKY, alpha=0.25, linewidth=0)
        axes.set(yscale="log", ylabel="voxels of the sample", xlim=(edges[0], edges[-1]))
        axes.set_ylim(bottom=0.7)
        low, high = self.window
        axes.set_title(
            f"drawn black to white: {value(low)} to {value(high)}", size=9, weight="normal"
        )

    def class_shares(self, axes: Axes, labels: Sequence[int]) -> None:
        colours = colours_of(labels, self.source.materials)
        shares = [float(np.mean(self.seen.values == label)) for label in labels]
        names = [self.source.materials.get(label, "") for label in labels]
        bars = axes.barh(range(len(labels)), shares, color=[colours[v] for v in labels])
        axes.bar_label(bars, [f"{100 * s:.2g} %" for s in shares], padding=3, size=8)
        told = [f"{v} {style.words(n)}"[:22] for v, n in zip(labels, names, strict=True)]
        axes.set_yticks(range(len(labels)), told, parse_math=False)
        axes.set(xlim=(0, 1.2 * max(shares)), xticks=[])
        axes.invert_yaxis()
        axes.grid(visible=False)
        axes.set_title("labels, share of the sample", size=9, weight="normal")

    def facts(self, top: float) -> None:
        """Write the facts in two columns, what is odd below them."""
        left = FACTS_INCH[0]
        for name, said in facts(self.source, self.seen, self.path).items():
            self.text(left, top, name, size=8, color=style.MUTED)
            self.text(left + 1.1, top, said, size=8)
            top -= 0.21
        lines = [part for one in doubts(self.source, self.seen) for part in _wrapped(one)]
        room = int((top - FACTS_INCH[1] - 0.1) / 0.17)
        if len(lines) > room:
            lines = [*lines[: room - 1], "… and more: python -m tomoglean check"]
        for number, line in enumerate(lines):
            self.text(left, top - 0.12 - 0.17 * number, line, size=7.5, color=WARNING)


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(line, 62, initial_indent="! ", subsequent_indent="  ")


def _greys() -> Any:
    """Return the grey scale, with NaN and infinity in vermillion."""
    return mpl.colormaps["gray"].with_extremes(bad=style.VERMILLION)


def bins_of(values: Array) -> Array:
    """Return at most about 256 bins; those of integers hold whole numbers of values."""
    low, high = float(values.min()), float(values.max())
    if values.dtype.kind in "iu":
        width = max(1.0, math.ceil((high - low + 1) / BINS))
        return np.arange(low - 0.5, high + width, width)
    return np.linspace(low, high if high > low else low + 1, BINS + 1)
