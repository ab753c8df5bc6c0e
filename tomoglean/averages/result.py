"""What a run of averaging leaves: the maps, and figures of how far they can be trusted."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tomoglean.averages.correlations import correlation, resolution_nm, shell_correlation
from tomoglean.averages.maps import Maps
from tomoglean.averages.settings import Setup

FSC_COLUMNS = ("frequency_per_nm", "fsc", "fsc_control")


@dataclass(frozen=True)
class Result:
    """What a run of averaging leaves.

    Attributes
    ----------
    maps, control
        Averages of the picks, and of random places in the same membrane.
    voxel_nm
        Edge of their voxels; 0 if there was no tomogram.
    fsc
        Rows of FSC_COLUMNS.
    summary
        Figures by name; None where undefined, with a reason in `reasons`.
    """

    maps: Maps
    control: Maps
    voxel_nm: float
    fsc: list[dict[str, float | None]]
    summary: dict[str, Any]


def assess(
    maps: Maps, control: Maps, setup: Setup, n_picks: int, skipped: dict[str, int]
) -> Result:
    """Compare halves with each other, and the average with its control.

    Parameters
    ----------
    maps, control
        Averages of the picks, and of random places in the same membrane.
    setup
        Settings of both.
    n_picks
        Number of picks.
    skipped
        How many of them were not averaged, by reason.
    """
    steps = np.arange(1, setup.box_px // 2 + 1)
    frequency = steps / (setup.box_px * (setup.voxel_nm or 1.0))
    curves = [
        shell_correlation(setup.mask * each.half1, setup.mask * each.half2)
        for each in (maps, control)
    ]
    rows = [
        dict(zip(FSC_COLUMNS, map(_number, row), strict=True))
        for row in zip(frequency, *curves, strict=True)
    ]
    summary: dict[str, Any] = {
        **_counts(maps, control, setup, n_picks, skipped),
        **_agreement(maps, control, setup),
        "resolution_fsc_143_nm": resolution_nm(frequency, curves[0], 0.143),
        "resolution_fsc_500_nm": resolution_nm(frequency, curves[0], 0.5),
        "control_resolution_fsc_143_nm": resolution_nm(frequency, curves[1], 0.143),
        "control_resolution_fsc_500_nm": resolution_nm(frequency, curves[1], 0.5),
    }
    summary["reasons"] = {
        name: _reason(name, maps, control)
        for name, value in summary.items()
        if value is None
    }
    return Result(maps, control, setup.voxel_nm, rows if setup.voxel_nm else [], summary)


def _counts(
    maps: Maps, control: Maps, setup: Setup, n_picks: int, skipped: dict[str, int]
) -> dict[str, Any]:
    return {
        "n_picks": n_picks,
        "n_used": sum(maps.sizes),
        **skipped,
        "n_half1": maps.sizes[0],
        "n_half2": maps.sizes[1],
        "n_control": sum(control.sizes),
        "voxel_nm": setup.voxel_nm or None,
        "box_px": setup.box_px,
        "symmetry": setup.symmetry,
        "iterations": setup.iterations,
        "mean_shift_nm": _number(maps.shifts_nm.mean()) if sum(maps.sizes) else None,
    }


def _agreement(maps: Maps, control: Maps, setup: Setup) -> dict[str, float | None]:
    pairs = {
        "half_correlation": (maps.half1, maps.half2),
        "control_half_correlation": (control.half1, control.half2),
        "control_correlation": (maps.whole, control.whole),
    }
    return {
        name: _number(correlation(one, other, setup.mask))
        for name, (one, other) in pairs.items()
    }


def _reason(name: str, maps: Maps, control: Maps) -> str:
    used = sum(maps.sizes)
    if name == "voxel_nm":
        return "no tomogram"
    if not used:
        return "no pick to average"
    if name.startswith("control") and not sum(control.sizes):
        return "no place in the membrane mask for a control"
    if used < 2 or (name.startswith("control") and sum(control.sizes) < 2):
        return "two halves need two particles"
    return "the halves do not agree at any frequency"


def _number(value: float | np.floating[Any]) -> float | None:
    return float(value) if np.isfinite(value) else None
