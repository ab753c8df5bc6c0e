"""Charts as vector graphics inside the page, all drawn in the one style."""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tomoglean.report import style
from tomoglean.report.figures import data_uri

SIZE_INCH = (4.3, 2.9)
Line = tuple[Sequence[float], Sequence[float]]


def draw(paint: Callable[[Axes], None], size_inch: tuple[float, float] = SIZE_INCH) -> str:
    """Draw one chart in the report's style and return it as a data URI."""
    with mpl.rc_context(style.CHART_SETTINGS):
        figure = Figure(figsize=size_inch, layout="constrained")
        FigureCanvasSVG(figure)
        paint(figure.subplots())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue().replace("'DejaVu Sans'", style.SYSTEM_FONT.replace('"', "'"))
    return data_uri(text.encode(), "image/svg+xml")


def learning(
    epochs: Sequence[float],
    losses: Mapping[str, Sequence[float]],
    chosen: float | None,
    title: str,
) -> str:
    """Draw training and validation loss over epochs, the chosen epoch marked."""

    def paint(axes: Axes) -> None:
        looks = {"training": (style.BLUE, "-"), "validation": (style.VERMILLION, "--")}
        for name, values in losses.items():
            ink, dash = looks.get(name, (style.INK, ":"))
            axes.plot(epochs, values, color=ink, linestyle=dash, label=name, **_dot(values))
        if chosen is not None:
            axes.axvline(chosen, color=style.MUTED, linewidth=1, linestyle=":")
            axes.annotate(
                f"kept: {chosen:g}",
                (chosen, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(-3, -2),
                textcoords="offset points",
                ha="right",
                va="top",
                fontsize=8,
                color=style.MUTED,
            )
        axes.set(title=title, xlabel="epoch", ylabel="loss (no unit)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()

    return draw(paint)


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
    """

    def paint(axes: Axes) -> None:
        for place, (name, (x, y)) in enumerate(curves.items()):
            ink = style.LINE_COLOURS[place % len(style.LINE_COLOURS)]
            dash = ("-", "--", "-.", ":")[place % 4]
            axes.plot(x, y, color=ink, linestyle=dash, label=style.words(name), **_dot(y))
            if points and name in points:
                axes.plot(*points[name], "o", ms=8, mfc="white", mec=ink, mew=2, zorder=5)
        for name, level in (levels or {}).items():
            axes.axhline(level, color=style.MUTED, linewidth=0.9, linestyle=":")
            axes.annotate(
                name,
                (1.0, level),
                xycoords=("axes fraction", "data"),
                xytext=(0, 2),
                textcoords="offset points",
                ha="right",
                fontsize=8,
                color=style.MUTED,
            )
        axes.set(title=title, xlabel=x_label, ylabel=y_label)
        if unit_range:
            axes.set_ylim(-0.03, 1.03)
        if invert:
            axes.xaxis.set_major_formatter(_as_length)
        if len(curves) > 1 or points:
            axes.legend()

    return draw(paint)


def _as_length(frequency: float, _place: Any = None) -> str:
    return f"1/{1 / frequency:.3g}" if frequency > 1e-9 else "0"


def _dot(values: Sequence[float]) -> dict[str, Any]:
    known = [value for value in values if math.isfinite(value)]
    return {"marker": "o", "markersize": 4} if len(known) < 2 else {}


def bars(
    groups: Sequence[str],
    series: Mapping[str, Sequence[float]],
    *,
    title: str,
    y_label: str,
) -> str:
    """Draw bars in groups, one series a colour; no bar where a value is missing."""

    def paint(axes: Axes) -> None:
        width = 0.8 / max(len(series), 1)
        for place, (name, values) in enumerate(series.items()):
            ink = style.LINE_COLOURS[place % len(style.LINE_COLOURS)]
            left = [group + place * width - 0.4 for group in range(len(groups))]
            axes.bar(left, values, width * 0.92, align="edge", color=ink, label=name)
        axes.set_xticks(range(len(groups)), [style.words(group) for group in groups])
        axes.grid(visible=False, axis="x")
        axes.set(title=title, ylabel=y_label)
        axes.legend()

    return draw(paint)
