"""A second complex is one block of config and its label rows, never code."""

from types import SimpleNamespace

import pytest
import yaml

from tomoglean.config import complete
from tomoglean.plan import Plan
from tomoglean.provenance import Refused
from tomoglean.study import Study
from workflow import CONFIG, ROOT, add_label, planned, snakemake, write_study

MOTOR = {"kind": "detection", "membrane": "membrane", "target": ["motor"]}


def test_a_second_complex_is_planned_like_the_first(tmp_path):
    study = write_study(tmp_path / "study")
    config = {"tasks": {**CONFIG["tasks"], "flagella": MOTOR}}
    (study / "config" / "config.yaml").write_text(yaml.safe_dump(config))
    table = study / "config" / "volumes.tsv"
    table.write_text(table.read_text().replace("membrane,t3ss", "membrane,t3ss,flagella"))
    for name, use in (("u", "train"), ("v", "validate"), ("w", "test")):
        add_label(study, "flagella", name, "points", use, "nm")
    first, second = (
        planned(ROOT, study, f"{task}_publish") for task in ("t3ss", "flagella")
    )
    del first["t3ss_publish"], second["flagella_publish"]
    assert first == second
    assert second["publish"] == 3


def test_a_complex_is_named_by_its_task_or_by_its_target():
    config = {"tasks": {**CONFIG["tasks"], "flagella": MOTOR}}
    study = Study(complete(config, "config.yaml"), [], [])
    plan = Plan(study)
    assert plan.target(SimpleNamespace(task="t3ss")) == ["t3ss"]
    assert plan.target(SimpleNamespace(task="flagella")) == ["motor"]


def volumes_published(tmp_path, *names):
    study = write_study(tmp_path / "study")
    config = {"tasks": {**CONFIG["tasks"]}}
    config["tasks"]["membrane"] = {
        **CONFIG["tasks"]["membrane"],
        "publish": {"formats": list(names)},
    }
    (study / "config" / "config.yaml").write_text(yaml.safe_dump(config))
    return study


def test_published_volumes_cost_one_job_a_volume_layer_and_format(tmp_path):
    study = volumes_published(tmp_path, "mrc", "tiff")
    found = planned(ROOT, study, "membrane_publish")
    assert found["publish_volume"] == 3 * 2 * 2
    assert found["segment"] == 3


@pytest.mark.slow
def test_a_published_zarr_is_a_folder_and_stays(tmp_path):
    study = volumes_published(tmp_path, "ome-zarr")
    done = snakemake(ROOT, study, "membrane_publish")
    assert done.returncode == 0, done.stderr
    folder = study / "results" / "published" / "membrane"
    assert sorted(path.name for path in folder.iterdir()) == [
        f"{volume}.{layer}.ome.zarr"
        for volume in "uvw"
        for layer in ("confidence", "labels")
    ]
    assert planned(ROOT, study, "membrane_publish")["publish_zarr"] == 0
    volumes = study / "config" / "config.yaml"
    volumes.write_text(volumes.read_text().replace("- ome-zarr", "- ome-zarr\n      - mrc"))
    assert planned(ROOT, study, "membrane_publish") == {
        "publish_volume": 6,
        "membrane_publish": 1,
    }


def test_volumes_are_not_published_unasked():
    study = Study(complete(CONFIG, "config.yaml"), [], [])
    assert study.tasks["bone"]["publish"] == {"formats": []}


def test_an_unknown_format_to_publish_is_refused_with_those_there_are():
    config = {
        "tasks": {"bone": {**CONFIG["tasks"]["bone"], "publish": {"formats": ["vtk"]}}}
    }
    with pytest.raises(
        Refused, match=r"tasks\.bone\.publish\.formats.* mrc, tiff, ome-zarr"
    ):
        complete(config, "config.yaml")
