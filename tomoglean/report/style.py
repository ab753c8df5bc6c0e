"""One look for every figure and number: colours, words for units, how charts are drawn.

The colours are the eight of Okabe and Ito (jfly.uni-koeln.de/color), told apart by people
with any common colour vision; outcomes differ in shape as well.
"""

import math
from collections.abc import Sequence
from typing import Any

INK = "#1f262d"
MUTED = "#5d6770"
HAIRLINE = "#dcd8ce"
ORANGE, SKY, GREEN, YELLOW = "#e69f00", "#56b4e9", "#009e73", "#f0e442"
BLUE, VERMILLION, PURPLE, BLACK = "#0072b2", "#d55e00", "#cc79a7", "#000000"

CLASS_COLOURS = (ORANGE, SKY, PURPLE, GREEN, BLUE, VERMILLION, YELLOW)
LINE_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, VERMILLION, SKY, INK)
OUTCOME_COLOURS = {"TP": GREEN, "FP": VERMILLION, "FN": BLUE}
ERROR_COLOURS = {"extra": VERMILLION, "missed": BLUE, "wrong class": YELLOW}
OUTCOME_WORDS = {
    "TP": "true positives (found and there)",
    "FP": "false positives (found, not there)",
    "FN": "false negatives (there, not found)",
}

CHART_SETTINGS: Any = {
    "axes.edgecolor": MUTED,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.size": 9,
    "grid.color": HAIRLINE,
    "grid.linewidth": 0.6,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "tomoglean",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": MUTED,
    "xtick.labelsize": 8,
    "ytick.color": MUTED,
    "ytick.labelsize": 8,
}
SYSTEM_FONT = "system-ui, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"


def class_colours(classes: Sequence[str]) -> dict[str, str]:
    """Return the colour of every class but the first, which is the background.

    Examples
    --------
    >>> class_colours(["background", "bone"])
    {'bone': '#e69f00'}
    """
    cycle = len(CLASS_COLOURS)
    return {name: CLASS_COLOURS[i % cycle] for i, name in enumerate(classes[1:])}


def rgb(colour: str) -> tuple[int, int, int]:
    """Return red, green, blue of a colour written #rrggbb, each 0-255."""
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


def words(name: str) -> str:
    """Write a name of the config or of a table as words."""
    return name.replace("_", " ")


def number(value: Any, digits: int = 3) -> str:
    """Write a number for a table: fixed digits, `n/a` where there is none."""
    found = finite(value)
    return "n/a" if found is None else f"{found:.{digits}f}"


def significant(value: Any, digits: int = 3) -> str:
    """Write a number with so many significant digits, without an exponent if it can."""
    found = finite(value)
    if found is None:
        return "n/a"
    if found and not 1e-3 <= abs(found) < 1e6:
        return f"{found:.{digits - 1}e}"
    places = digits - 1 - math.floor(math.log10(abs(found))) if found else 0
    return f"{found:,.{max(places, 0)}f}"


def plain(value: Any, digits: int = 3) -> str:
    """Write a number with so many significant digits, never with an exponent.

    Examples
    --------
    >>> plain(1_034_215.0), plain(0.000793)
    ('1,030,000', '0.000793')
    """
    found = finite(value)
    if not found:
        return "n/a" if found is None else "0"
    places = digits - 1 - math.floor(math.log10(abs(found)))
    return f"{round(found, places):,.{max(places, 0)}f}"


def finite(value: Any) -> float | None:
    """Return a value of unknown origin as a finite float, or None."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


def length(nanometres: float) -> str:
    """Write a length with the unit that suits it.

    Examples
    --------
    >>> length(50.0), length(2_000.0), length(5_000_000.0)
    ('50 nm', '2 µm', '5 mm')
    """
    for factor, unit in ((1e6, "mm"), (1e3, "µm")):
        if nanometres >= factor:
            return f"{nanometres / factor:.4g} {unit}"
    return f"{nanometres:.4g} nm"


def duration(seconds: Any) -> str:
    """Write a time span with the two units that suit it."""
    found = finite(seconds)
    if found is None:
        return "n/a"
    if found < 60:
        return f"{found:.1f} s"
    minutes, rest = divmod(round(found), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def scale_bar_nm(width_nm: float) -> float:
    """Return a round length (1, 2 or 5 times a power of ten) of at most 30 % of a width."""
    if not width_nm > 0:
        raise ValueError("a picture's width is positive; is the voxel size 0?")
    power = 10.0 ** math.floor(math.log10(0.3 * width_nm))
    return max(step * power for step in (1, 2, 5) if step * power <= 0.3 * width_nm)
