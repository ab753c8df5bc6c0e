"""A study with real scripts and real files in which a training takes seconds."""

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import tifffile
import yaml

from workflow import HEADS, append

ENDINGS = ("weights.h5", "last.weights.h5")
TRAIN = {
    "width": 2,
    "depth": 2,
    "dropout": 0.3,
    "ema": 0.9,
    "input_px": 16,
    "epochs": 4,
    "steps_per_epoch": 6,
    "batch": 4,
    "validation_images": 4,
    "save_minutes": 0,
}


def write_training_study(folder: Path, **train: object) -> Path:
    """Write a study of two scans with bright bars, one to learn from, one to validate."""
    (folder / "config").mkdir(parents=True)
    (folder / "raw").mkdir()
    for table, head in HEADS.items():
        (folder / "config" / f"{table}.tsv").write_text(head)
    set_training(folder, **train)
    for seed, (name, use) in enumerate({"a": "train", "b": "validate"}.items()):
        labels = np.zeros((12, 24, 24), np.uint8)
        labels[:, 4 + 4 * seed : 12 + 4 * seed, 3:20] = 1
        grey = 90 * labels + np.random.default_rng(seed).normal(60, 30, labels.shape)
        for stem, data in (
            (name, grey.clip(0, 255).astype(np.uint8)),
            (f"{name}-l", labels),
        ):
            tifffile.imwrite(folder / "raw" / f"{stem}.tif", data)
        append(folder / "config" / "volumes.tsv", (name, "bone", f"raw/{name}.tif", "1000"))
        row = ("bone", name, "clean", use, f"raw/{name}-l.tif", "")
        append(folder / "config" / "labels.tsv", row)
    return folder


def set_training(folder: Path, **train: object) -> None:
    """Write the study's config with other settings of the training."""
    task = {"kind": "semantic", "classes": ["background", "bar"]}
    task["train"] = {**TRAIN, **train}
    text = yaml.safe_dump({"tasks": {"bone": task}})
    (folder / "config" / "config.yaml").write_text(text)


def trained(folder: Path) -> tuple[list[str], dict[str, object], list[dict[str, str]]]:
    """Hashes of the weights, facts and learning curve of the training, without times."""
    stem = folder / "results" / "trained" / "bone"
    hashes = [
        hashlib.sha256((stem / f"final.{ending}").read_bytes()).hexdigest()
        for ending in ENDINGS
    ]
    facts = json.loads((stem / "final.json").read_text())
    facts.pop("seconds")
    with (stem / "final.csv").open() as file:
        rows = [{**row, "seconds": ""} for row in csv.DictReader(file)]
    return hashes, facts, rows
