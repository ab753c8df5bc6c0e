"""Shortcut audit: which plain numbers tell machines from what is none.

    python benchmarks/shortcuts.py [--cells N] [--see density|fast|full]

Three comparisons, each by five numbers taken at a site: local variance and summed density
in the patch a network sees (50 x 50 pixels) and in a cube of that size, and the width of
the gap. `blank` inserts nothing by the code that inserts machines, and is compared with
random places of the envelope: here 0.5 is demanded, for nothing but the label differs.
Machines against decoys must be near 0.5, so that no scalar does a network's work. The third
comparison (machines against random places) is no shortcut but the signal itself: it says
how visible machines are. Intervals are 95 % bootstraps over cells.
"""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tomoglean import config  # noqa: E402 - the checkout is no package
from tomoglean.simulators.minicell import simulate_minicell  # noqa: E402
from tomoglean.simulators.minicell.scene import Scene, build, settings_of  # noqa: E402
from tomoglean.volumes import random  # noqa: E402

HALF_PX, SEED, SPACING_NM, RESAMPLES = 25, 20260, 45.0, 1000
NUMBERS = ("patch variance", "patch sum", "cube variance", "cube sum", "gap")
FIELD: dict[str, Any] = {"shape_px": [160, 224, 224]}
CELL = {"diameter_nm": [250.0, 280.0], "axis_ratio": [1.0, 1.2]}
Groups = dict[str, dict[str, Any]]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """A place of the envelope: which cell, what stands there, its numbers."""

    cell: int
    kind: str
    numbers: tuple[float, ...]


def groups(machines: int, decoys: Sequence[str] | None, number: int, mode: str) -> Groups:
    """Settings of a cell with so many machines and decoys."""
    kinds = {} if decoys is None else {"kinds": list(decoys)}
    return {
        "field": FIELD,
        "cell": CELL,
        "machines": {"number": [machines]},
        "decoys": {"number": number, **kinds},
        "microscope": {} if mode == "density" else {"mode": mode},
    }


def seen(name: str, settings: Groups, mode: str) -> tuple[Scene, Any]:
    """A scene, and the volume in which it is looked at."""
    if mode == "density":
        full = config.filled(settings, "phantom-minicell", "simulate", "")
        scene = build(SEED, name, **settings_of(full))
        return scene, scene.density
    made = simulate_minicell(seed=SEED, name=name, settings=settings)
    return made.scene, made.image


def measured(scene: Scene, volume: Any, place_nm: Any) -> tuple[float, ...]:
    """The five numbers at a place."""
    centre = np.rint(place_nm / scene.voxel_nm).astype(int)
    low, high = (centre - HALF_PX).clip(0), centre + HALF_PX
    cube = volume[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    z = int(np.clip(centre[0], 0, len(volume) - 1))
    patch = volume[z, low[1] : high[1], low[2] : high[2]]
    outer, inner = scene.envelope.at(place_nm[None])  # type: ignore[union-attr]
    parts = [float(f(part)) for part in (patch, cube) for f in (np.var, np.mean)]
    return (*parts, float(inner[0] - outer[0]))


def sites(scene: Scene, volume: Any, cell: int) -> list[Place]:
    """Machines and decoys of the envelope."""
    return [
        Place(cell, site.kind, measured(scene, volume, site.place_nm))
        for site in scene.sites
        if site.gap_nm
    ]


def anywhere(scene: Scene, volume: Any, cell: int, number: int) -> list[Place]:
    """Random places of the envelope, away from all sites and from each other."""
    rng, envelope = random(SEED, "anywhere", cell), scene.envelope
    if envelope is None:
        return []
    taken = [site.place_nm for site in scene.sites]
    places: list[Place] = []
    for _ in range(500):
        if len(places) == number:
            break
        place = envelope.settled_place(envelope.centre_nm + envelope.shape.somewhere(rng))
        if all(np.linalg.norm(place - other) >= SPACING_NM for other in taken):
            taken.append(place)
            places.append(Place(cell, "anywhere", measured(scene, volume, place)))
    return places


def auc(positive: Any, negative: Any) -> float:
    """Chance that a number is larger at a positive place; ties count half."""
    above = positive[:, None] - negative[None, :]
    return float(np.mean(above > 0) + np.mean(above == 0) / 2)


def interval(
    places: Sequence[Place], number: int, positive: Callable[[Place], bool]
) -> tuple[float, float, float]:
    """AUC of one number with its 95 % interval over cells."""
    cells = np.array([place.cell for place in places])
    values = np.array([place.numbers[number] for place in places])
    hit = np.array([positive(place) for place in places])
    rng, found = np.random.default_rng(0), []
    members = {cell: np.flatnonzero(cells == cell) for cell in np.unique(cells)}
    for _ in range(RESAMPLES):
        drawn = rng.choice(list(members), len(members))
        chosen = np.concatenate([members[cell] for cell in drawn])
        if 0 < hit[chosen].sum() < len(chosen):
            chosen_hit, chosen_value = hit[chosen], values[chosen]
            found.append(auc(chosen_value[chosen_hit], chosen_value[~chosen_hit]))
    low, high = np.percentile(found, [2.5, 97.5])
    return auc(values[hit], values[~hit]), float(low), float(high)


def row(name: str, places: Sequence[Place], positive: Callable[[Place], bool]) -> str:
    """One line of the table."""
    hits = sum(positive(place) for place in places)
    cells = [
        "{:.2f} ({:.2f}-{:.2f})".format(*interval(places, index, positive))
        for index in range(len(NUMBERS))
    ]
    return f"| {name} | {hits} / {len(places) - hits} | " + " | ".join(cells) + " |"


def main() -> None:
    """Print the audit as a markdown table."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    log.setLevel(logging.INFO)
    logging.getLogger(__name__).handlers = [logging.StreamHandler(sys.stdout)]
    log.propagate = False
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=60)
    parser.add_argument("--see", choices=("density", "fast", "full"), default="density")
    asked = parser.parse_args()
    blanks: list[Place] = []
    mixed: list[Place] = []
    for cell in range(asked.cells):
        scene, volume = seen(f"blank-{cell}", groups(0, ["empty"], 6, asked.see), asked.see)
        blanks += sites(scene, volume, cell) + anywhere(scene, volume, cell, 6)
        scene, volume = seen(f"mixed-{cell}", groups(3, None, 6, asked.see), asked.see)
        mixed += sites(scene, volume, cell) + anywhere(scene, volume, cell, 4)
    decoys = [place for place in mixed if place.kind != "anywhere"]
    lone = [place for place in mixed if place.kind in ("t3ss", "anywhere")]
    log.info("| seen: %s | sites | %s |", asked.see, " | ".join(NUMBERS))
    log.info("|---|---|%s", "---|" * len(NUMBERS))
    log.info(row("blank / anywhere", blanks, lambda place: place.kind == "empty"))
    log.info(row("machine / decoy", decoys, lambda place: place.kind == "t3ss"))
    log.info(row("machine / anywhere", lone, lambda place: place.kind == "t3ss"))
    for kind in sorted({place.kind for place in decoys} - {"t3ss"}):
        pair = [place for place in decoys if place.kind in ("t3ss", kind)]
        log.info(row(f"machine / {kind}", pair, lambda place: place.kind == "t3ss"))


if __name__ == "__main__":
    main()
