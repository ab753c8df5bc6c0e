"""Charts as vector graphics inside the page, all drawn in the one style."""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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


def lines(
    curves: Mapping[str, Line],
    *,
    title: str,
    x_label: str,
    y_label: str,
    unit_range: bool = False,
    levels: Mapping[str, float] | None = None,
    points: Mapping[str, tuple[float, float]] | None = None,
    invert: bool = False,
    x_range: Range | None = None,
    y_range: Range | None = None,
    inks: Sequence[str] = style.LINE_COLOURS,
    places: Mapping[str, tuple[float, float]] | None = None,
    diagonal: bool = False,
    log: bool = False,
    size_inch: tuple[float, float] = SIZE_INCH,
) -> str:
    """Draw named curves over one another.

    Parameters
    ----------
    curves
        x and y of every curve by its name.
    title, x_label, y_label
        Words on the chart; labels carry the unit.
    unit_range
        Whether y runs from 0 to 1.
    levels
        Horizontal lines by name.
    points
        A point to stand out on a curve, by the curve's name (its working point).
    invert
        Show 1/x on the axis: spatial frequency as the length it stands for.
    x_range, y_range
        Where x and y start and end.
    inks
        Colours of the curves, in their order.
    places
        Dots by the words that stand beside them.
    diagonal
        Whether to draw y = x from 0 to 1.
    log
        Whether y is a scale of ratios.
    size_inch
        Width and height.
    """

    def paint(axes: Axes) -> None:
        if diagonal:
            axes.plot([0, 1], [0, 1], color=style.MUTED, lw=0.9, linestyle="--")
        for place, (name, (x, y)) in enumerate(curves.items()):
            ink = inks[place % len(inks)]
            dash = ("-", "--", "-.", ":")[place % 4]
            axes.plot(x, y, color=ink, linestyle=dash, label=style.words(name), **_dot(y))
            if points and name in points:
                axes.plot(*points[name], "o", ms=8, mfc="white", mec=ink, mew=2, zorder=5)
        for name, level in (levels or {}).items():
            axes.axhline(level, color=style.MUTED, linewidth=0.9, linestyle=":")
            axes.annotate(
                name,
                (0.0, level),
                xycoords=("axes fraction", "data"),
                xytext=(4, 2),
                textcoords="offset points",
                fontsize=8,
                color=style.MUTED,
            )
        for name, spot in (places or {}).items():
            axes.plot(*spot, "o", ms=6, mfc=style.INK, mec="white", zorder=6)
            axes.annotate(name, spot, (7, 5), textcoords="offset points", fontsize=8)
        axes.set(title=title, xlabel=x_label, ylabel=y_label)
        if log:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        if unit_range:
            axes.set_ylim(-0.03, 1.03)
        if x_range:
            axes.set_xlim(*x_range)
        if y_range:
            axes.set_ylim(*y_range)
        if invert:
            axes.xaxis.set_major_formatter(_as_length)
        if x_label == "epoch":
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(curves) > 1 or points:
            axes.legend()

    return draw(paint, size_inch)


def _as_length(frequency: float, _place: Any = None) -> str:
    return f"1/{1 / frequency:.3g}" if frequency > 1e-9 else "0"


def _dot(values: Sequence[float]) -> dict[str, Any]:
    known = [value for value in values if math.isfinite(value)]
    return {"marker": "o", "markersize": 4} if len(known) < 2 else {}
