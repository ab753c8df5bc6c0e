"""A second complex is one block of config and its label rows, never code."""

from types import SimpleNamespace

import yaml

from tomoglean.config import complete
from tomoglean.plan import Plan
from tomoglean.study import Study
from workflow import CONFIG, ROOT, add_label, planned, write_study

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
