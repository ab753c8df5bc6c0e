"""Charts of how good a result is: figures with intervals, and reliability of scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from tomoglean.report import charts, style

Bounds = tuple[float, float]


@dataclass(frozen=True)
class Dot:
    """One figure of one method.

    Attributes
    ----------
    name
        The method.
    value
        Its figure, 0..1; None where undefined.
    bounds
        Its interval, None without one.
    members
        The same figure of every volume by itself.
    ink
        Colour, #rrggbb.
    filled
        Whether the dot is filled: the one to look at.
    """

    name: str
    value: float | None
    bounds: Bounds | None
    members: Sequence[float]
    ink: str
    filled: bool = False


def dots(shown: Sequence[Dot], *, title: str, x_label: str) -> str:
    """Draw a row per method: its figure, its interval, and a tick for every volume."""

    def paint(axes: Axes) -> None:
        for row, dot in enumerate(shown):
            _dot(axes, row, dot)
        axes.set_yticks(range(len(shown)), [style.words(dot.name) for dot in shown])
        axes.invert_yaxis()
        axes.set(title=title, xlabel=x_label, xlim=(-0.02, 1.02))
        axes.grid(visible=False, axis="y")

    return charts.draw(paint, (charts.SIZE_INCH[0], 0.95 + 0.21 * len(shown)))


def _dot(axes: Axes, row: int, dot: Dot) -> None:
    members = list(dot.members)
    axes.plot(members, [row] * len(members), "|", color=dot.ink, ms=10, mew=1, alpha=0.7)
    if dot.bounds is not None:
        axes.hlines(row, *dot.bounds, color=dot.ink, linewidth=1.6)
    if dot.value is None:
        axes.annotate("n/a", (0.0, row), va="center", fontsize=8, color=style.MUTED)
        return
    face = dot.ink if dot.filled else "white"
    axes.plot([dot.value], [row], "o", ms=5, mfc=face, mec=dot.ink, mew=1.4, zorder=4)


@dataclass(frozen=True)
class Bin:
    """Things of similar confidence.

    Attributes
    ----------
    low, high
        The confidences it takes in.
    confidence
        Their mean.
    right
        The share of them that is right.
    weight
        The share of all things that lies in this bin.
    bounds
        95 % interval of `right`, None without one.
    """

    low: float
    high: float
    confidence: float
    right: float
    weight: float
    bounds: Bounds | None = None


@dataclass(frozen=True)
class Reliability:
    """How often things are right, by how sure the network was.

    Attributes
    ----------
    bins
        All things together.
    members
        Mean confidence and share right of each volume by itself.
    title, x_label, y_label, weight_label
        Words on the chart.
    mark
        A confidence that matters and what it is: the threshold.
    """

    bins: Sequence[Bin]
    title: str
    x_label: str
    y_label: str
    weight_label: str
    members: Mapping[str, charts.Line] = field(default_factory=dict)
    mark: tuple[float, str] | None = None


def reliability(shown: Reliability) -> str:
    """Draw the share that is right over the confidence, above how often it is given."""

    def paint(figure: Figure) -> None:
        top, low = figure.subplots(2, 1, sharex=True, height_ratios=[2.4, 1.0])
        _right(top, shown)
        _weights(low, shown)
        if shown.mark is not None:
            for axes in (top, low):
                axes.axvline(shown.mark[0], color=style.MUTED, lw=1, linestyle=":")
            top.annotate(
                f"{shown.mark[1]} {shown.mark[0]:.3g} ",
                (shown.mark[0], 1.0),
                ha="right",
                va="top",
                fontsize=8,
                color=style.MUTED,
            )

    return charts.draw_figure(paint, charts.TALL_INCH)


def _right(axes: Axes, shown: Reliability) -> None:
    axes.plot([0, 1], [0, 1], color=style.MUTED, lw=0.9, linestyle="--", label="perfect")
    for place, line in enumerate(shown.members.values()):
        told = None if place else "single volumes"
        axes.plot(*line, color=style.SKY, lw=0.9, label=told)
    x = [one.confidence for one in shown.bins]
    y = [one.right for one in shown.bins]
    for one in shown.bins:
        if one.bounds is not None:
            axes.vlines(one.confidence, *one.bounds, color=style.BLUE, linewidth=1.4)
    axes.plot(x, y, "o-", color=style.BLUE, ms=4, label="this run")
    axes.set(title=shown.title, ylabel=shown.y_label, ylim=(-0.03, 1.05))
    axes.legend(loc="upper left")


def _weights(axes: Axes, shown: Reliability) -> None:
    widths = [max(one.high - one.low, 0.004) for one in shown.bins]
    left = [one.low for one in shown.bins]
    axes.bar(
        *(left, [one.weight for one in shown.bins], widths),
        align="edge",
        color=style.SKY,
        edgecolor=style.BLUE,
        linewidth=0.6,
    )
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set(xlabel=shown.x_label, ylabel=shown.weight_label, xlim=(-0.02, 1.02))
    axes.set_ylim(0, None)
