"""The average in the report: central sections, the control, and the FSC."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import numpy.typing as npt

from tomoglean.report import charts, figures, style
from tomoglean.report.blocks import Cell, Chart, Charts, Heading, Note, Panels, Table
from tomoglean.report.semantic import quantity
from tomoglean.report.slices import frame
from tomoglean.report.sources import Row, Source, numbers

EDGE_PX = 260
FREQUENCY = ("frequency", "freq", "1/nm", "per_nm")
CURVES = {"fsc": "picks", "fsc_control": "control (random places)"}
NAMES = {
    "n_picks": "picks given",
    "n_used": "picks averaged",
    "n_without_normal": "left out: no normal of the membrane",
    "n_near_border": "left out: too near the border",
    "n_half1": "in half 1",
    "n_half2": "in half 2",
    "n_control": "random places in the control",
    "resolution_fsc_143_nm": "resolution at FSC 0.143 (nm)",
    "resolution_fsc_500_nm": "resolution at FSC 0.5 (nm)",
    "control_resolution_fsc_143_nm": "the control's resolution at FSC 0.143 (nm)",
    "control_resolution_fsc_500_nm": "the control's resolution at FSC 0.5 (nm)",
    "half_correlation": "correlation of the halves",
    "control_half_correlation": "correlation of the control's halves",
    "control_correlation": "correlation of average and control",
}
SECTIONS = {"xy": (0, "x", "y"), "xz": (1, "x", "z"), "yz": (2, "y", "z")}
KINDS = {"average": "Average of the picks", "control": "Control: random places in the mask"}


def blocks(source: Source, task: str) -> list[Any]:
    """Show the average, its control and how far they can be trusted."""
    title = Heading("Average", f"average-{task}", level=4)
    summary = source.json(f"averaged/{task}/summary.json")
    if summary.get("n_used") == 0:
        return [title, Note(f"No average: {_why_none(summary)}.")]
    shown: list[Any] = [title]
    files = {kind: source.results / f"averaged/{task}/{kind}.mrc" for kind in KINDS}
    for kind, words in KINDS.items():
        shown += sections(files[kind], words, files["average"])
    if len(shown) == 1:
        reason = summary.get("reason") or "no average was made yet"
        return [title, Note(f"No average: {reason}.")]
    return [*shown, *fsc(source, task), *origin(source, task), *facts(summary)]


def origin(source: Source, task: str) -> list[Any]:
    """Say which volumes the picks are from, how many of each and what it served."""
    record = source.json(f"provenance/averaged/{task}/summary.json.json")
    given = f"results/published/{task}/"
    files = [path for path in record.get("inputs", {}) if path.startswith(given)]
    told = []
    for path in sorted(files):
        volume, picks = Path(path).stem, source.rows(path.removeprefix("results/"))
        served = ", ".join(source.uses(task, volume)) or "predict"
        told.append(f"{volume} {len(picks)} ({served})")
    return [Note(f"Picks given, by volume: {'; '.join(told)}.")] if told else []


def _why_none(summary: Mapping[str, Any]) -> str:
    given = summary.get("n_picks") or 0
    if given:
        return f"none of {given} picks has a normal and lies far enough from the border"
    return "no pick to average"


def sections(path: Path, title: str, window_of: Path | None = None) -> list[Any]:
    """Show the three central sections of a small map; nothing if there is none.

    Parameters
    ----------
    path, title
        The map, and what it is.
    window_of
        The map whose grey window is used, so that both can be compared.
    """
    if not path.is_file():
        return []
    data, edge_nm = _read_map(path)
    if data.ndim != 3 or not data.size or not np.ptp(data):
        return [Note(f"{title}: empty.")]
    other = window_of if window_of is not None and window_of.is_file() else path
    shown = figures.window(_read_map(other)[0])
    frames = [
        _section(data, name, axis, title, edge_nm, shown)
        for name, (axis, _, _) in SECTIONS.items()
    ]
    caption = (
        f"central sections of {data.shape[0]} px boxes, voxel "
        f"{style.significant(edge_nm)} nm; grey window {style.significant(shown[0])} "
        f"to {style.significant(shown[1])}"
    )
    return [Panels(title, frames, caption)]


def _read_map(path: Path) -> tuple[npt.NDArray[np.float32], float]:
    with mrcfile.open(path, permissive=True) as file:
        edge_nm = float(file.voxel_size.x) / 10 or 1.0
        return np.array(file.data, np.float32), edge_nm


def _section(
    data: npt.NDArray[np.float32],
    name: str,
    axis: int,
    title: str,
    edge_nm: float,
    shown: figures.Window,
) -> Any:
    cut = np.take(data, data.shape[axis] // 2, axis=axis)
    if axis:
        cut = cut[::-1]
    size = figures.size_px((cut.shape[0], cut.shape[1]), (edge_nm, edge_nm), EDGE_PX)
    pixels = figures.colour(figures.enlarge(figures.grey(cut, shown), size))
    told = f"{name} section" + (", z upwards" if axis else "")
    return frame(pixels, f"{title}: {told}", told, cut.shape[1] * edge_nm)


def fsc(source: Source, task: str) -> list[Any]:
    """Draw every Fourier shell correlation of the table over spatial frequency."""
    rows = source.rows(f"averaged/{task}/fsc.csv")
    if not rows:
        return [Note("No FSC: too few picks for two halves, or not computed.")]
    column = next((name for name in rows[0] if any(word in name for word in FREQUENCY)), "")
    frequency = numbers(rows, column) if column else [float(i) for i in range(len(rows))]
    curves = {
        name: (frequency, numbers(rows, name))
        for name in rows[0]
        if name != column and _is_correlation(rows, name)
    }
    summary = source.json(f"averaged/{task}/summary.json")
    crossings = _crossings(summary) if column else {}
    uri = charts.lines(
        {CURVES.get(name, name): line for name, line in curves.items()},
        charts.Scales(
            "Fourier shell correlation",
            "spatial frequency (1/nm)" if column else "shell",
            "correlation (no unit)",
            lengths=bool(column),
        ),
        charts.Marks(levels={"0.143": 0.143, "0.5": 0.5}, places=crossings),
    )
    told = ", ".join(style.words(name) for name in curves)
    read = "; ".join(crossings)
    alt = f"Fourier shell correlation over spatial frequency: {told}; {read}"
    return [Charts([Chart(uri, alt.rstrip("; "), _read(crossings))])]


def _crossings(summary: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Return where the correlation of the halves falls below 0.5 and 0.143."""
    lengths = {
        level: style.finite(summary.get(f"resolution_fsc_{level * 1000:.0f}_nm"))
        for level in (0.5, 0.143)
    }
    return {
        f"{length:.1f} nm at {level:g}": (1 / length, level)
        for level, length in lengths.items()
        if length
    }


def _read(crossings: Mapping[str, Any]) -> str:
    """Say where the dots lie, and what kind of resolution that is."""
    if not crossings:
        return ""
    return (
        f"Dots: {', '.join(crossings)}. Each half of the picks was aligned by itself; "
        "where the control correlates too, it is the membrane."
    )


def _is_correlation(rows: list[Row], name: str) -> bool:
    known = [value for value in numbers(rows, name) if math.isfinite(value)]
    return bool(known) and all(-1.001 <= value <= 1.001 for value in known)


def facts(summary: Mapping[str, Any]) -> list[Any]:
    """Return what the averaging says of itself as a table."""
    reasons = summary.get("reasons") or {}
    rows = [
        [
            Cell(NAMES.get(name, quantity(name))),
            Cell(_fact(value, reasons.get(name)), "number"),
        ]
        for name, value in summary.items()
        if value is None or isinstance(value, int | float | str)
    ]
    return [Table(["of the average", ""], rows)] if rows else []


def _fact(value: Any, reason: Any) -> str:
    if isinstance(value, str | int):
        return str(value)
    return style.significant(value) if value is not None else f"n/a ({reason or 'unknown'})"
