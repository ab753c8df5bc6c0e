"""Charts as vector graphics inside the page, all drawn in the one style."""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from tomoglean.report import style
from tomoglean.report.figures import data_uri

SIZE_INCH = (4.3, 2.9)
TALL_INCH = (4.3, 3.5)
Line = tuple[Sequence[float], Sequence[float]]
Range = tuple[float, float]
Point = tuple[float, float]
UNIT: Range = (-0.03, 1.03)
DASHES = ("-", "--", "-.", ":")


def draw(paint: Callable[[Axes], None], size_inch: tuple[float, float] = SIZE_INCH) -> str:
    """Draw one chart in the report's style and return it as a data URI."""
    return draw_figure(lambda figure: paint(figure.subplots()), size_inch)


def draw_figure(
    paint: Callable[[Figure], None], size_inch: tuple[float, float] = SIZE_INCH
) -> str:
    """Draw a figure of one part or several in the report's style, as a data URI."""
    with mpl.rc_context(style.CHART_SETTINGS):
        figure = Figure(figsize=size_inch, layout="constrained")
        FigureCanvasSVG(figure)
        paint(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue().replace("'DejaVu Sans'", style.SYSTEM_FONT.replace('"', "'"))
    return data_uri(text.encode(), "image/svg+xml")


@dataclass(frozen=True)
class Learned:
    """How one round learned.

    Attributes
    ----------
    title
        Words on top.
    epochs
        Numbers of the epochs.
    losses
        Training and validation loss after every epoch; NaN where there is none.
    score
        The validation score that chose the epoch, 0..1; NaN where there is none.
    score_label
        What that score is.
    chosen
        The epoch whose weights were kept.
    highest_loss
        Where the axis of the loss ends: the same for all rounds of a task.
    last_epoch
        Where the axis of the epochs ends: the same for all rounds of a task.
    score_range
        Where the axis of the score starts and ends: the same for all rounds of a task.
    """

    title: str
    epochs: Sequence[float]
    losses: Mapping[str, Sequence[float]]
    score: Sequence[float]
    score_label: str
    chosen: float | None
    highest_loss: float
    last_epoch: float
    score_range: Range = (0.0, 1.03)


def learning(learned: Learned) -> str:
    """Draw losses over epochs above the validation score, the kept epoch marked."""

    def paint(figure: Figure) -> None:
        scored = any(map(math.isfinite, learned.score))
        heights = [1.5, 1.0] if scored else [1.0]
        parts = figure.subplots(
            len(heights), 1, sharex=True, squeeze=False, height_ratios=heights
        )[:, 0]
        _losses(parts[0], learned)
        if scored:
            _score(parts[1], learned)
        for axes in parts:
            if learned.chosen is not None:
                axes.axvline(learned.chosen, color=style.MUTED, linewidth=1, linestyle=":")
        parts[-1].set(xlabel="epoch", xlim=(0.5, learned.last_epoch + 0.5))
        parts[-1].xaxis.set_major_locator(MaxNLocator(integer=True))

    return draw_figure(paint, TALL_INCH)


def _losses(axes: Axes, learned: Learned) -> None:
    looks = {"training": (style.BLUE, "-"), "validation": (style.VERMILLION, "--")}
    for name, values in learned.losses.items():
        ink, dash = looks.get(name, (style.INK, ":"))
        axes.plot(
            learned.epochs, values, color=ink, linestyle=dash, label=name, **_dot(values)
        )
    if len(learned.losses) == 2:
        first, second = learned.losses.values()
        axes.fill_between(
            learned.epochs, first, second, color=style.MUTED, alpha=0.13, lw=0
        )
    axes.set(title=learned.title, ylabel="loss (no unit)")
    axes.set_ylim(0, 1.05 * learned.highest_loss)
    if learned.losses:
        axes.legend(loc="upper right", ncols=2)


def _score(axes: Axes, learned: Learned) -> None:
    axes.plot(learned.epochs, learned.score, color=style.INK, **_dot(learned.score))
    low, high = learned.score_range
    beyond = 0.05 * (high - low)
    axes.set(ylabel=learned.score_label, ylim=(low - beyond, high + beyond))
    kept = dict(zip(learned.epochs, learned.score, strict=True)).get(learned.chosen or 0)
    if learned.chosen is None or kept is None or not math.isfinite(kept):
        return
    axes.plot([learned.chosen], [kept], "o", ms=6, mfc="white", mec=style.INK, mew=1.6)
    text = f"kept: epoch {learned.chosen:g}, {kept:.3f}"
    place: dict[str, Any] = {"xycoords": "axes fraction", "ha": "right", "fontsize": 8}
    axes.annotate(text, (0.98, 0.06), color=style.INK, **place)


@dataclass(frozen=True)
class Scales:
    """What the axes of a chart are, and where they start and end.

    Attributes
    ----------
    title, x, y
        Words on the chart and along its axes; with units.
    x_range, y_range
        Where x and y start and end; None: where the curves do.
    log
        Whether y is a scale of ratios.
    lengths
        Whether x is a spatial frequency, told as the length 1/x it stands for.
    """

    title: str
    x: str
    y: str
    x_range: Range | None = None
    y_range: Range | None = None
    log: bool = False
    lengths: bool = False

    def put(self, axes: Axes) -> None:
        """Give the axes of a chart these words, starts and ends."""
        axes.set(title=self.title, xlabel=self.x, ylabel=self.y)
        if self.log:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        if self.x_range:
            axes.set_xlim(*self.x_range)
        if self.y_range:
            axes.set_ylim(*self.y_range)
        if self.lengths:
            axes.xaxis.set_major_formatter(_as_length)
        if self.x == "epoch":
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))


@dataclass(frozen=True)
class Marks:
    """What stands out beside the curves of a chart.

    Attributes
    ----------
    points
        A point of a curve, by the curve's name (its working point).
    levels
        Heights of horizontal lines, by the words at them.
    places
        Dots, by the words at them.
    diagonal
        Whether y = x is drawn from 0 to 1.
    """

    points: Mapping[str, Point] = field(default_factory=dict)
    levels: Mapping[str, float] = field(default_factory=dict)
    places: Mapping[str, Point] = field(default_factory=dict)
    diagonal: bool = False

    def put(self, axes: Axes) -> None:
        """Draw what belongs to no curve."""
        if self.diagonal:
            axes.plot([0, 1], [0, 1], color=style.MUTED, lw=0.9, linestyle="--", zorder=1)
        for name, level in self.levels.items():
            axes.axhline(level, color=style.MUTED, linewidth=0.9, linestyle=":")
            spot: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "xytext": (4, 2)}
            spot |= {"textcoords": "offset points", "fontsize": 8, "color": style.MUTED}
            axes.annotate(name, (0.0, level), **spot)
        for name, place in self.places.items():
            axes.plot(*place, "o", ms=6, mfc=style.INK, mec="white", zorder=6)
            axes.annotate(name, place, (7, 5), textcoords="offset points", fontsize=8)


def lines(
    curves: Mapping[str, Line],
    scales: Scales,
    marks: Marks = Marks(),
    *,
    inks: Sequence[str] = style.LINE_COLOURS,
    size_inch: tuple[float, float] = SIZE_INCH,
) -> str:
    """Draw named curves over one another.

    Parameters
    ----------
    curves
        x and y of every curve by its name.
    scales, marks
        What the axes are, and what stands out.
    inks
        Colours of the curves, in their order.
    size_inch
        Width and height.

    Returns
    -------
    str
        The chart as a data URI.
    """

    def paint(axes: Axes) -> None:
        marks.put(axes)
        for place, (name, (x, y)) in enumerate(curves.items()):
            ink, dash = inks[place % len(inks)], DASHES[place % len(DASHES)]
            axes.plot(x, y, color=ink, linestyle=dash, label=style.words(name), **_dot(y))
            if name in marks.points:
                spot = marks.points[name]
                axes.plot(*spot, "o", ms=8, mfc="white", mec=ink, mew=2, zorder=5)
        scales.put(axes)
        if len(curves) > 1 or marks.points:
            axes.legend()

    return draw(paint, size_inch)


def _as_length(frequency: float, _place: Any = None) -> str:
    return f"1/{1 / frequency:.3g}" if frequency > 1e-9 else "0"


def _dot(values: Sequence[float]) -> dict[str, Any]:
    known = [value for value in values if math.isfinite(value)]
    return {"marker": "o", "markersize": 4} if len(known) < 2 else {}
