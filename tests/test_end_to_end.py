"""The real pipeline on tiny volumes, one of them broken, from raw files to the report."""

import csv

import mrcfile
import numpy as np
import pytest
import tifffile
import yaml

from tomoglean import volumes
from tomoglean.simulators import files
from tomoglean.simulators.implant import simulate_implant
from workflow import HEADS, ROOT, append, snakemake

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("end-to-end")]
CLASSES = ["background", "bone", "degradation_layer", "residual_metal"]
TRAIN = {
    "width": 2,
    "depth": 2,
    "input_px": 32,
    "epochs": 1,
    "steps_per_epoch": 4,
    "batch": 4,
}
SETTINGS = {
    "field": {"shape_px": [24, 48, 48]},
    "screw": {"radius_um": 70.0, "core_um": 55.0, "offset_um": 5.0},
    "corrosion": {"weeks": 2.0},
    "scan": {"mode": "image"},
}
USES = {"a": "train", "b": "validate", "c": "test", "d": "test", "e": "test"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return a study of five scans after a run; the file of the last one is cut short."""
    study = tmp_path_factory.mktemp("end") / "study"
    (study / "config").mkdir(parents=True)
    (study / "raw").mkdir()
    bone = {"kind": "semantic", "classes": CLASSES, "train": TRAIN}
    bone["evaluate"] = {"forest_trees": 10, "forest_voxels": 500}
    bone["publish"] = {"formats": ["mrc", "tiff"]}
    (study / "config" / "config.yaml").write_text(yaml.safe_dump({"tasks": {"bone": bone}}))
    for table, head in HEADS.items():
        (study / "config" / f"{table}.tsv").write_text(head)
    for name, use in USES.items():
        implant = simulate_implant(seed=1, name=name, settings=SETTINGS)
        files.write_volume(implant.image, study / "raw" / f"{name}.tif", voxel_nm=5e3)
        files.write_volume(implant.truth, study / "raw" / f"{name}-truth.tif", voxel_nm=5e3)
        append(study / "config" / "volumes.tsv", (name, "bone", f"raw/{name}.tif", "5000"))
        row = ("bone", name, "clean", use, f"raw/{name}-truth.tif", "")
        append(study / "config" / "labels.tsv", row)
    broken = study / "raw" / "e.tif"
    broken.write_bytes(broken.read_bytes()[:50_000])
    return study, snakemake(ROOT, study, fake=False)


def test_a_broken_volume_turns_the_exit_code_to_1(finished):
    _, done = finished
    assert done.returncode == 1


def test_the_tables_go_on_without_it(finished):
    study, done = finished
    path = study / "results" / "evaluated" / "bone" / "scores.csv"
    assert path.is_file(), done.stderr[-3000:]
    with path.open() as file:
        volumes = {row["volume"] for row in csv.DictReader(file)}
    assert volumes == {"c", "d", "pooled"}
    assert sorted(
        p.stem for p in (study / "results" / "measured" / "bone").iterdir()
    ) == list("abcd")


def test_the_report_names_it_and_why(finished):
    study, _ = finished
    page = (study / "results" / "report.html").read_text()
    assert "e was refused" in page
    assert "e.tif: expected" in page


def test_the_same_command_again_tries_only_the_broken_one(finished):
    study, _ = finished
    again = snakemake(ROOT, study, "-n", fake=False)
    assert "rule convert:" in again.stdout
    assert "rule train:" not in again.stdout


def test_other_programs_find_the_labels_of_the_final_round(finished):
    study, _ = finished
    segmented = volumes.read(study / "results/segmented/bone/final/c.h5")
    published = study / "results" / "published" / "bone"
    assert np.array_equal(mrcfile.read(published / "c.labels.mrc"), segmented.data)
    assert np.array_equal(tifffile.imread(published / "c.labels.tif"), segmented.data)
    with mrcfile.open(published / "c.confidence.mrc") as file:
        assert file.voxel_size.tolist() == (50_000, 50_000, 50_000)


def test_records_tell_code_settings_and_inputs(finished):
    study, _ = finished
    record = yaml.safe_load(
        (study / "results/provenance/segmented/bone/final/c.h5.json").read_text()
    )
    assert record["rule"] == "segment"
    assert len(record["key"]) == len(record["code"]) == 64
    assert "results/converted/c.h5" in record["inputs"]
    assert "numpy" in record["versions"]
