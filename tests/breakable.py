"""A tiny real study up to its training, for the tests that break the training."""

import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from tomoglean.simulators import files
from tomoglean.simulators.implant import simulate_implant
from workflow import HEADS, ROOT, append

CLASSES = ["background", "bone", "degradation_layer", "residual_metal"]
SETTINGS = {
    "field": {"shape_px": [24, 48, 48]},
    "screw": {"radius_um": 70.0, "core_um": 55.0, "offset_um": 5.0},
    "corrosion": {"weeks": 2.0},
    "scan": {"mode": "image"},
}
TRAIN = {
    "width": 2,
    "depth": 2,
    "input_px": 32,
    "batch": 4,
    "epochs": 2,
    "steps_per_epoch": 4,
    "save_minutes": 0,
}
WEIGHTS = "results/trained/bone/final.weights.h5"


def write_study(folder: Path, **train: object) -> Path:
    """Write a study of two scans, one to learn from and one to validate on."""
    (folder / "config").mkdir(parents=True)
    (folder / "raw").mkdir()
    for table, head in HEADS.items():
        (folder / "config" / f"{table}.tsv").write_text(head)
    for name, use in {"a": "train", "b": "validate"}.items():
        implant = simulate_implant(seed=1, name=name, settings=SETTINGS)
        files.write_volume(implant.image, folder / "raw" / f"{name}.tif", voxel_nm=5e3)
        truth = f"raw/{name}-truth.tif"
        files.write_volume(implant.truth, folder / truth, voxel_nm=5e3)
        row = (name, "bone", f"raw/{name}.tif", "5000")
        append(folder / "config" / "volumes.tsv", row)
        append(folder / "config" / "labels.tsv", ("bone", name, "clean", use, truth, ""))
    set_training(folder, **train)
    return folder


def set_training(study: Path, **train: object) -> None:
    """Write the settings of the training."""
    bone = {"kind": "semantic", "classes": CLASSES, "train": {**TRAIN, **train}}
    config = yaml.safe_dump({"tasks": {"bone": bone}})
    (study / "config" / "config.yaml").write_text(config)


def here(study: Path, *words: str) -> None:
    """Run a study on this machine, without a cluster."""
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile")]
    done = subprocess.run(
        [*command, "--directory", str(study), "--cores", "1", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def prepare(folder: Path, **train: object) -> Path:
    """Write a study and make all that its training needs."""
    study = write_study(folder, **train)
    here(study, "--omit-from", "train_part", "train", "--", WEIGHTS)
    return study


def copy(study: Path, folder: Path) -> Path:
    """Copy a study with its results; times stay, so that nothing is made again."""
    shutil.copytree(study, folder)
    return folder
