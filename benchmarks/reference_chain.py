"""How hard a minicell set is: the reference chain on it, and what decoys do to it.

    python benchmarks/reference_chain.py FOLDER --set minicell-small \
        --train 24 --validate 8 --calibrate 24 --jobs 2

The chain is that of 2019: patches of 50 x 50 px, LeNet-5, stride 1, no mining of hard
negatives, within 20 nm of any membrane (the true membranes, so that the gate's own errors
stay out of it). The volumes of `--calibrate` are not the set's: they are made by its recipe
from seeds of their own, so that the decoy density can be chosen without looking at the test
volumes. Decoys are thinned afterwards: the false picks that a decoy caused go with it.
Everything made is kept in FOLDER and used again.
"""

import argparse
import json
import logging
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tomoglean import (
    augment,
    benchmarks,
    classification,
    masks,
    patches,
    picks,
    tables,
    training,
    volumes,
)
from tomoglean.networks import export
from tomoglean.provenance import Refused
from tomoglean.scores import curves, detection, matching, tomograms
from tomoglean.scores.tomograms import Tomogram
from tomoglean.simulators.minicell import simulate_minicell

LOOK = {"thickness_nm": 9.0, "neighbours": 0}
SAMPLE = {
    **LOOK,
    "decoy_share": 0.0,
    "near_share": 0.0,
    "positives_per_point": 64,
    "negatives_per_positive": 12.0,
    "negatives_without_points": 800,
}
AUGMENT = {"copies": 5, "flips": ["y", "x"], "rotation_deg": 180.0}
TRAIN = {
    "network": "lenet5",
    "epochs": 16,
    "steps_per_epoch": 250,
    "batch": 32,
    "learning_rate": 0.001,
    "warmup_steps": 200,
    "weight_decay": 0.01,
}
USES = ("train", "validate", "calibrate", "test")
RADIUS_NM, REACH_NM = 20.0, 45.0
log = logging.getLogger(__name__)
RECALL = 0.8
MARGIN_NM = 70.0
DENSITIES = (0.0, 0.125, 0.25, 0.375, 0.5, 0.75, 1.0)


def simulated(folder: Path, seed: int, name: str, settings: dict[str, Any]) -> Path | None:
    """Make one volume as a converted volume, its membranes, mask and points.

    Returns None if the cell has no room for all its decoys.
    """
    path = folder / f"{name}.h5"
    if path.with_suffix(".mask.h5").exists():
        return path
    try:
        phantom = simulate_minicell(seed=seed, name=name, settings=settings)
    except Refused as reason:
        log.warning("%s is left out: %s", name, reason)
        return None
    voxel_nm = phantom.scene.voxel_nm
    edges = (voxel_nm,) * 3
    membranes = phantom.truth.astype(np.uint8)
    box = _around(membranes, round(MARGIN_NM / voxel_nm))
    volumes.write(
        volumes.Volume(membranes[box], voxel_nm=edges),
        path.with_suffix(".membranes.h5"),
        classes=["background", "membrane"],
        extra={"confidence": np.full(membranes[box].shape, 255, np.uint8)},
    )
    corner = [part.start for part in box]
    for sites, ending in ((phantom.points, ".points.csv"), (phantom.picks, ".picks.csv")):
        _write_points(sites, voxel_nm, corner, path.with_suffix(ending))
    low, high = np.percentile(phantom.image[::4, ::4, ::4], [0.5, 99.5])
    clipped = np.clip(phantom.image, low, high)
    facts = {"p_low": low, "p_high": high, "mean": clipped.mean(), "std": clipped.std()}
    facts = {key: float(value) for key, value in facts.items()}
    volumes.write(volumes.Volume(phantom.image[box], voxel_nm=edges), path, **facts)
    masks.find(path.with_suffix(".membranes.h5"), path.with_suffix(".mask.h5"))
    return path


def _there(paths: Iterable[Path | None]) -> list[Path]:
    return [path for path in paths if path]


def _around(membranes: Any, margin_px: int) -> tuple[slice, ...]:
    """The part of a tomogram that patches about its cell may reach into."""
    box = ndimage.find_objects(membranes)[0]
    return tuple(slice(max(p.start - margin_px, 0), p.stop + margin_px) for p in box)


def _write_points(
    sites: Sequence[Any], voxel_nm: float, corner: Sequence[int], path: Path
) -> None:
    places = np.array([site.place_nm for site in sites], float).reshape(-1, 3) / voxel_nm
    places -= corner
    normals = np.array([site.normal for site in sites], float).reshape(-1, 3)
    kinds = tuple(site.kind for site in sites)
    tables.write_points(tables.Points(places, normals, kinds), path)


def sampled(path: Path, points: str) -> Path:
    """Cut the patches of one volume."""
    out = path.with_suffix(".samples.h5")
    if not out.exists():
        known = tables.read_points(path.with_suffix(points))
        mask = path.with_suffix(".mask.h5")
        patches.sample(path, mask, known, out, name=path.stem, seed=1, **SAMPLE)
    return out


def augmented(samples: Path) -> Path:
    """Draw five warps of every patch."""
    out = samples.with_suffix(".augmented.h5")
    if not out.exists():
        augment.write(samples, out, seed=1, **AUGMENT)
    return out


def trained(folder: Path, train: Sequence[Path], validate: Sequence[Path]) -> Path:
    """Train LeNet-5 on an annotator's picks and export it."""
    network = folder / "lenet5.onnx"
    if not network.exists():
        files = {
            k: folder / f"lenet5.{k}" for k in ("weights.h5", "last.h5", "json", "csv")
        }
        examples = [sampled(path, ".picks.csv") for path in train]
        training.fit(
            examples,
            [augmented(path) for path in examples],
            [sampled(path, ".points.csv") for path in validate],
            classes=["other", "complex"],
            seed=1,
            weights=files["weights.h5"],
            last=files["last.h5"],
            model=files["json"],
            curve=files["csv"],
            **TRAIN,
        )
        export.write(files["weights.h5"], files["json"], network)
    return network


def searched(path: Path) -> Tomogram:
    """Classify one volume and pick its maxima."""
    found, mask = path.with_suffix(".found.csv"), path.with_suffix(".mask.h5")
    if not found.exists():
        folder, scores = path.parent, path.with_suffix(".scores.h5")
        chain = classification.load(folder / "lenet5.onnx", folder / "lenet5.json")
        classification.classify(path, mask, chain, scores, smooth_nm=6.0, **LOOK)
        tables.write_picks(picks.pick(scores, mask, threshold=0.05), found)
    truth = path.with_suffix(".points.csv")
    return tomograms.read(path.stem, found, truth, path, ["t3ss"])


def thinned(one: Tomogram, share: float, rng: np.random.Generator) -> Tomogram:
    """Take decoys away, and with them the false picks they caused.

    A decoy's mass may lie far from its origin: a motor's ring 30 nm below, a lump of ice
    as far above.
    """
    matched = matching.one_to_one(one.picks_nm, one.truths_nm, RADIUS_NM)
    gone = rng.random(len(one.decoys)) >= share
    kept = [
        match != matching.FREE or not _caused(one, place, gone)
        for place, match in zip(one.picks_nm, matched, strict=True)
    ]
    return replace(
        one,
        picks_nm=one.picks_nm[kept],
        scores=one.scores[kept],
        picks_axis=one.picks_axis[kept],
    )


def _caused(one: Tomogram, place: Any, gone: Any) -> bool:
    """Whether the nearest decoy reaches a pick, and is gone."""
    gaps_nm = np.linalg.norm(one.decoys_nm - place, axis=1)
    return bool(len(gaps_nm) and gaps_nm.min() <= REACH_NM and gone[np.argmin(gaps_nm)])


def at_recall(members: Sequence[Tomogram], recall: float) -> dict[str, float]:
    """Precision where the pooled recall first reaches a value."""
    points = curves.curve(members, RADIUS_NM)
    reached = np.flatnonzero(points.tp >= recall * points.truths)
    best = reached[np.argmax(points.thresholds[reached])] if len(reached) else None
    if best is None or not points.truths:
        most = int(points.tp.max(initial=0))
        return {"recall_reached": most / max(points.truths, 1), "precision": float("nan")}
    tp, fp = int(points.tp[best]), int(points.fp[best])
    return {
        "threshold": float(points.thresholds[best]),
        "tp": tp,
        "fp": fp,
        "recall": tp / points.truths,
        "precision": tp / (tp + fp),
    }


def main() -> None:
    """Run the chain and print what it finds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--set", default="minicell-small")
    parser.add_argument("--train", type=int, default=40)
    parser.add_argument("--validate", type=int, default=10)
    parser.add_argument("--calibrate", type=int, default=0)
    parser.add_argument("--test", type=int, default=0)
    parser.add_argument("--decoys", type=int, help="other than the set's own number")
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(level=logging.INFO)
    found = benchmarks.read(asked.set)
    settings = found.volume("train-001").settings
    if asked.decoys is not None:
        settings["decoys"]["number"] = asked.decoys
    with ProcessPoolExecutor(asked.jobs) as pool:
        made = {
            use: [
                pool.submit(simulated, asked.folder, found.seed, f"{use}-{n:03d}", settings)
                for n in range(1, getattr(asked, use) + 1)
            ]
            for use in USES
        }
        paths = {use: _there(job.result() for job in jobs) for use, jobs in made.items()}
        pool.submit(trained, asked.folder, paths["train"], paths["validate"]).result()
        jobs = {
            use: [pool.submit(searched, path) for path in paths[use]] for use in USES[1:]
        }
        report({use: [job.result() for job in jobs[use]] for use in USES[1:]})


def report(found: dict[str, list[Tomogram]]) -> None:
    """Print precision at the asked recall, by decoy density, and the causes."""
    for use, members in found.items():
        if not any(len(one.truths_nm) for one in members):
            continue
        for share in DENSITIES:
            rng = volumes.random(1, "thinning", use)
            fewer = [thinned(one, share, rng) for one in members]
            print(json.dumps({"use": use, "decoys": share, **at_recall(fewer, RECALL)}))
        chosen = curves.choose_threshold(found["validate"], RADIUS_NM, 0.5)["threshold"]
        above = [one.above(chosen) for one in members]
        print(use, json.dumps(detection.figures(above, RADIUS_NM), indent=1))
        wedge = detection.wedge_recall(above, RADIUS_NM, 51.0)
        print(use, json.dumps(wedge, indent=1))


if __name__ == "__main__":
    main()
