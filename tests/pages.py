"""Make a page of every kind: all parts, a failed run, no candidate, nothing, bad names."""

import shutil
from pathlib import Path

import numpy as np
import test_comparison
from test_nasty_names import NASTY
from test_report import VOXEL_NM, checked, full_study, study_in, table

from tomoglean import provenance, report, volumes
from tomoglean.report import comparison
from tomoglean.study import Study
from tomoglean.volumes import Volume

LONG = "a-name-as-long-as-a-beamline-makes-them-2026-11-syn22-77L-Mg5Gd-8w-0123456789"[:64]
MESSAGE = (
    "2 of 41 jobs failed: convert of rod-2 (raw/2026/p05/rod-2.tif: expected 3,000 slices, "
    "found 2,999; slice 1,200 is missing: copy it again), train of bone final (no GPU)"
)
NO_PICKS = {"tomograms": 1, "tp": 0, "fp": 0, "fn": 2, "fp_per_tp": None, "recall": 0.0,
            "precision": None, "truths": 2, "picks": 0}  # fmt: skip


def grainy_study(root: Path) -> Study:
    """Make a study with something of everything, and scans no part of which is even."""
    study = full_study(root)
    add_trained(study)
    random = np.random.default_rng(1)
    for path in (root / "results/converted").glob("*.h5"):
        scan = volumes.read(path)
        grain = random.normal(scan.data, 20.0).astype(np.float32)
        volumes.write(Volume(grain, scan.voxel_nm), path, p_low=-50.0, p_high=150.0)
    return study


def add_trained(study: Study) -> None:
    """Add two volumes that were trained on: what is known of them is that of rod-1."""
    for name in ("rod-2", "rod-3"):
        study.volumes.append({**study.volumes[0], "volume": name})
        study.labels.append({**study.labels[0], "volume": name, "use": "train"})
        for path in ("converted", "segmented/bone/final"):
            folder = study.root / "results" / path
            shutil.copy(folder / "rod-1.h5", folder / f"{name}.h5")


def finished(root: Path) -> Path:
    """Show a study with something of everything, after a good run."""
    return report.build(grainy_study(root), outcome="green")


def failed(root: Path) -> Path:
    """Show a run that failed: one volume refused, one without results, long messages."""
    study = grainy_study(root)
    checked(root, "cell-1", verdict="refused", messages=[MESSAGE, "x" * 300])
    for stage in ("segmented", "evaluated", "trained"):
        shutil.rmtree(root / "results" / stage, ignore_errors=True)
    return report.build(study, outcome="failed", message=MESSAGE)


def no_candidate(root: Path) -> Path:
    """Show a study in which nothing was picked, in no round."""
    study = grainy_study(root)
    rounds = {"final": {"threshold": 0.5, "test": NO_PICKS}}
    provenance.write_json(
        {"headline": NO_PICKS, "use": "test", "rounds": rounds, "radius_nm": 15.0},
        root / "results/evaluated/t3ss/summary.json",
    )
    row = {"round": "final", "use": "test", "volume": "cell-1", "z": 3, "y": 20, "x": 20,
           "score": "", "outcome": "FN"}  # fmt: skip
    table(root / "results/evaluated/t3ss/matches.csv", [row, {**row, "y": 40}])
    for name in ("evaluated/t3ss/curve.csv", "picked/t3ss/final/cell-1.csv"):
        path = root / "results" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("z,y,x,score\n" if "picked" in name else "round,use\n")
    return report.build(study, outcome="green")


def empty(root: Path) -> Path:
    """Show a study of which there is nothing but an empty config."""
    study = study_in(root, volumes=[], labels=[], config={"tasks": {}})
    return report.build(study, outcome="rebuilt")


def hostile(root: Path) -> Path:
    """Show a study whose every name is nasty, and one as long as names may be."""
    names = [name for name in (*NASTY, LONG, "W" * 64) if name.isprintable() and name]
    kind = {"kind": "semantic", "classes": ["background", *names]}
    tasks = dict.fromkeys((*names[::9], LONG), kind)
    rows = [
        {"volume": name, "tasks": ",".join(tasks), "path": f"raw/{name}"} for name in names
    ]
    labels = [
        {"task": task, "volume": name, "kind": name, "use": name}
        for task in tasks
        for name in names
    ]
    for number, name in enumerate(names):
        record = {"rule": name, "code": name, "versions": {name: name}, "settings": name,
                  "started": name, "seconds": 2.0}  # fmt: skip
        path = root / f"results/provenance/{number}.json"
        provenance.write_json(record, path)
    checked(root, LONG, shape=[9, 9, 9], voxel_nm=list(VOXEL_NM), format=LONG)
    study = study_in(root, config={"tasks": tasks}, volumes=rows, labels=labels)
    return report.build(study, outcome="failed", message=" ".join(names))


def compared(root: Path) -> Path:
    """Show two runs side by side that differ in every part."""
    one, two = (test_comparison.make_study(root / name) for name in ("one", LONG))
    for path in (two / "results").rglob("*.json"):
        facts = {**provenance.read_json(path), "sha256": "e" * 64, "code": "f" * 64}
        provenance.write_json({**facts, "bone_mm3": 9.0, LONG: MESSAGE}, path)
    config = (two / "config/config.yaml").read_text().replace("0.5", "0.25")
    (two / "config/config.yaml").write_text(config.replace("metal", "M" * 64))
    comparison.build(one, two, root / "compared.html")
    return root / "compared.html"


MAKERS = (finished, failed, no_candidate, empty, hostile, compared)
