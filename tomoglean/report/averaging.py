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
    "n_half1": "in half 1",
    "n_half2": "in half 2",
    "n_control": "random places in the control",
    "resolution_fsc_143_nm": "resolution at FSC 0.143 (nm)",
    "resolution_fsc_500_nm": "resolution at FSC 0.5 (nm)",
    "control_resolution_fsc_143_nm": "the control's resolution at FSC 0.143 (nm)",
}
SECTIONS = {"xy": (0, "x", "y"), "xz": (1, "x", "z"), "yz": (2, "y", "z")}
KINDS = {"average": "Average of the picks", "control": "Control: random places in the mask"}


def blocks(source: Source, task: str) -> list[Any]:
    """Show the average, its control and how far they can be trusted."""
    title = Heading("Average", f"average-{task}", level=4)
    summary = source.json(f"averaged/{task}/summary.json")
    shown: list[Any] = [title]
    for kind, words in KINDS.items():
        shown += sections(source.results / f"averaged/{task}/{kind}.mrc", words)
    if len(shown) == 1:
        reason = summary.get("reason") or "no average was made yet"
        return [title, Note(f"No average: {reason}.")]
    return [*shown, *fsc(source, task), *facts(summary)]


def sections(path: Path, title: str) -> list[Any]:
    """Show the three central sections of a small map; nothing if there is none."""
    if not path.is_file():
        return []
    with mrcfile.open(path, permissive=True) as file:
        data = np.array(file.data, np.float32)
        edge_nm = float(file.voxel_size.x) / 10 or 1.0
    if data.ndim != 3 or not data.size or not np.ptp(data):
        return [Note(f"{title}: empty.")]
    shown = figures.window(data)
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
    uri = charts.lines(
        {CURVES.get(name, name): line for name, line in curves.items()},
        title="Fourier shell correlation",
        x_label="spatial frequency (1/nm)" if column else "shell",
        y_label="correlation",
        levels={"0.143": 0.143, "0.5": 0.5},
        invert=bool(column),
    )
    told = ", ".join(style.words(name) for name in curves)
    return [
        Charts([Chart(uri, f"Fourier shell correlation over spatial frequency: {told}")])
    ]


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
