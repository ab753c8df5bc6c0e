"""A minicell with its machines, as a cryo-electron tomogram shows it, and the truth.

The specimen (`scene`) is seen by a microscope: in the full mode through a tilt series and
weighted back-projection (`tilt`), in the fast mode at once (`fast`, for tests only).
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tomoglean import config
from tomoglean.simulators.fields import Float
from tomoglean.simulators.minicell import fast, scene, tilt
from tomoglean.simulators.minicell.annotator import (
    WEDGE_CLASSES,
    Annotator,
    annotate,
    wedge_class,
)
from tomoglean.simulators.minicell.bodies import Site
from tomoglean.simulators.minicell.microscope import Microscope
from tomoglean.simulators.minicell.scene import LABELS, SHEET_NM, Scene
from tomoglean.simulators.minicell.tilt import TiltSeries
from tomoglean.simulators.minicell.truth import table
from tomoglean.volumes import random, slabs

log = logging.getLogger(__name__)

BACKGROUND, MEMBRANE = 0, 1
# Variance of the signal in a default cell: sets the noise of the fast mode in bare ice.
REFERENCE_VARIANCE = 0.0128
DEFINITIONS = {
    "axes": "z, y, x; the tilt axis is y; the first voxel is centred at 0 nm",
    "contrast": "protein is dark; the noise in the ice has standard deviation 1",
    "origin": "on a machine's axis, midway between the mid-surfaces of OM and IM",
    "axis": "outward, along the needle",
    "wedge_angle": "atan2(|n_x|, |n_z|) in degrees; unseen below 90 - largest tilt",
    "wedge_class": "outside, inside, or edge: within 10 degrees of the edge of the wedge",
    "membrane": f"within {SHEET_NM / 2:g} nm of the mid-surface of OM or IM",
    "snr": "variance of the signal over variance of the noise, each on its own, in cell and"
    f" envelope (up to {SHEET_NM / 2:g} nm beyond the mid-surface of the OM), per voxel,"
    " unfiltered",
}


@dataclass(frozen=True)
class Seen:
    """What a microscope makes of a scene.

    Attributes
    ----------
    image
        Tomogram, float32 of shape (Z, Y, X), protein dark, noise of standard deviation 1.
    clean
        Call it for the same reconstruction without noise.
    snr
        Signal-to-noise ratio: asked for in the fast mode, measured in the full one (None
        where there is no cell).
    series
        The aligned tilt series; None in the fast mode.
    facts
        What was measured.
    """

    image: Float
    clean: Callable[[], Float]
    snr: float | None
    series: TiltSeries | None
    facts: dict[str, Any]


@dataclass(frozen=True)
class Minicell:
    """What `simulate_minicell` makes.

    Attributes
    ----------
    seen
        Tomogram and tilt series.
    scene
        The specimen: density, labels, sites, distances to the membranes.
    picks
        An imperfect annotator's machines.
    facts
        Settings, measured quantities, counts, definitions; ready for JSON.
    """

    seen: Seen
    scene: Scene
    picks: list[Site]
    facts: dict[str, Any]

    @property
    def image(self) -> Float:
        """Tomogram, float32 of shape (Z, Y, X): see `Seen`."""
        return self.seen.image

    @property
    def series(self) -> TiltSeries | None:
        """Aligned views in electrons a pixel and their tilts; None in the fast mode."""
        return self.seen.series

    def clean(self) -> Float:
        """Reconstruct without noise, in the units of the image."""
        return self.seen.clean()

    @property
    def points(self) -> list[Site]:
        """All sites, exact: machines and decoys by their kinds."""
        return self.scene.sites

    def table(self) -> pd.DataFrame:
        """Tell of every site what is true, see `truth.table`."""
        tilt_max_deg = self.facts["tilt_max_deg"]
        return table(self.points, self.scene.bodies, tilt_max_deg=tilt_max_deg)

    @property
    def labels(self) -> npt.NDArray[np.uint8]:
        """What each voxel is, by codes of `scene.LABELS`; shape (Z, Y, X)."""
        return self.scene.labels

    @cached_property
    def truth(self) -> npt.NDArray[np.int8]:
        """Labels of the membrane task: 1 within 3 nm of OM or IM, else 0; (Z, Y, X)."""
        truth = np.zeros(self.labels.shape, np.int8)
        for slab in slabs(len(truth)):
            outer, inner = self.scene.distances(slab)
            near = np.minimum(np.abs(outer), np.abs(inner)) <= SHEET_NM / 2
            truth[slab][near] = MEMBRANE
        return truth


def simulate_minicell(
    *, seed: int, name: str, settings: Mapping[str, Any] | None = None
) -> Minicell:
    """Simulate a tomogram of a whole minicell.

    Parameters
    ----------
    seed, name
        Together they key every random choice; the name is the volume's id.
    settings
        Groups of the schema `phantom-minicell`; what is left out has its default.

    Returns
    -------
    Minicell
        Tomogram, tilt series, exact truth, imperfect picks, facts.

    Raises
    ------
    Refused
        If a setting is unknown or out of its limits, the cell does not fit into the
        field of view, or the sites not onto the cell.
    """
    full = config.filled(settings or {}, "phantom-minicell", "simulate", "")
    microscope = Microscope(**full["microscope"])
    specimen = _specimen(seed, name, full, microscope)
    see = _seen_fast if microscope.mode == "fast" else _seen
    seen = see(seed, name, specimen, microscope)
    kind, tilt_max_deg = full["machines"]["kind"], float(microscope.angles_deg.max())
    picks = annotate(
        seed,
        name,
        specimen.sites,
        Annotator(**full["annotator"]),
        kind=kind,
        usual_number=float(np.mean(full["machines"]["number"])),
        snr=seen.snr or microscope.snr,
        tilt_max_deg=tilt_max_deg,
    )
    facts = {
        "simulator": "minicell",
        "mode": microscope.mode,
        "seed": seed,
        "name": name,
        "voxel_nm": specimen.voxel_nm,
        "ice_nm": round(specimen.ice_nm, 3),
        "tilt_max_deg": tilt_max_deg,
        **seen.facts,
        **_counts(specimen.sites, picks, kind, tilt_max_deg),
        "cell": _cell(specimen),
        "labels": list(LABELS),
        "classes": ["background", "membrane"],
        "definitions": DEFINITIONS,
        "settings": full,
    }
    return Minicell(seen, specimen, picks, facts)


def _specimen(
    seed: int, name: str, settings: Mapping[str, Any], microscope: Microscope
) -> Scene:
    """Build the scene, and beside the field of view what the tilts take into it."""
    log.info("%s: building the specimen", name)
    margin = 0
    if microscope.mode == "full":
        margin = tilt.margin_px(settings["field"]["shape_px"][0], microscope)
    return scene.build(seed, name, **scene.settings_of(settings), margin_px=margin)


def _seen(seed: int, name: str, specimen: Scene, microscope: Microscope) -> Seen:
    """Record a tilt series and reconstruct it."""
    where = {"voxel_nm": specimen.voxel_nm, "ice_nm": specimen.ice_nm}
    series = tilt.record(
        seed,
        name,
        specimen.density,
        width_px=specimen.labels.shape[2],
        microscope=microscope,
        **where,
    )
    found = tilt.reconstruct(series, specimen.inside, microscope=microscope, **where)
    facts = {
        "tilts_deg": microscope.angles_deg.round(6).tolist(),
        "electrons": _electrons(series, specimen, microscope),
        "snr": found.snr,
        "signal_variance": found.signal_variance,
        "noise_variance": found.noise_variance,
        "noise_in_ice": found.noise,
    }
    clean = partial(tilt.clean, series, found, microscope)
    return Seen(found.image, clean, found.snr, series, facts)


def _electrons(
    series: TiltSeries, specimen: Scene, microscope: Microscope
) -> dict[str, Any]:
    """Electrons a pixel and view: before the ice, behind it, and recorded on average."""
    before = microscope.electrons(specimen.voxel_nm)
    behind = before * microscope.passed(specimen.ice_nm)
    return {
        "before_ice": round(before, 3),
        "behind_ice": behind.round(3).tolist(),
        "recorded": series.means.astype(float).round(3).tolist(),
        "whole_series_per_a2": microscope.dose_per_a2,
    }


def _seen_fast(seed: int, name: str, specimen: Scene, microscope: Microscope) -> Seen:
    """Apply wedge, transfer and noise of the SNR asked for, all at once."""
    begin, width = specimen.margin_px, specimen.labels.shape[2]
    signal, noise = fast.signal_and_noise(
        specimen.density[:, :, begin : begin + width],
        random(seed, name, "noise"),
        voxel_nm=specimen.voxel_nm,
        microscope=microscope,
    )
    variance = REFERENCE_VARIANCE
    if specimen.envelope:
        variance = float(signal[specimen.inside].var(dtype=np.float64))
    signal *= np.float32(np.sqrt(microscope.snr / variance))
    noise += signal
    facts = {"snr": microscope.snr, "signal_variance": variance}
    return Seen(noise, partial(np.array, signal), microscope.snr, None, facts)


def _counts(
    sites: list[Site], picks: list[Site], kind: str, tilt_max_deg: float
) -> dict[str, Any]:
    """How many of each kind there are, and how they lie to the missing wedge."""
    standing = [site for site in sites if site.gap_nm]
    wedge = {site.kind: dict.fromkeys(WEDGE_CLASSES, 0) for site in standing}
    for site in standing:
        wedge[site.kind][wedge_class(site, tilt_max_deg)] += 1
    counts = Counter(site.kind for site in sites)
    return {
        "counts": dict(sorted(counts.items())),
        "machines": counts[kind],
        "machine_kind": kind,
        "wedge_classes": {name: wedge[name] for name in sorted(wedge)},
        "picks": len(picks),
    }


def _cell(specimen: Scene) -> dict[str, Any] | None:
    """Where the cell is, and how much of the field it takes."""
    if not specimen.envelope:
        return None
    return {
        "centre_nm": specimen.envelope.centre_nm.round(3).tolist(),
        "reach_nm": specimen.envelope.reach_nm().round(3).tolist(),
        "gap_nm": specimen.envelope.gap_nm,
        "share_of_field": float(specimen.inside.mean()),
    }
