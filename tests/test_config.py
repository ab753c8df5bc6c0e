"""Config mistakes are one clear line; defaults come from the schemas."""

import pytest
import yaml

from tomoglean import config
from tomoglean.provenance import Refused

BONE = {"kind": "semantic", "classes": ["background", "bone"]}
T3SS = {"kind": "detection", "membrane": "membrane"}


def written(tmp_path, content):
    path = tmp_path / "config.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def read(tmp_path, content, overrides=None):
    return config.read(written(tmp_path, content), overrides)


def test_defaults_are_filled_in(tmp_path):
    full = read(tmp_path, {"tasks": {"bone": BONE}})
    assert full["seed"] == 1
    assert full["tasks"]["bone"]["folds"] == 2
    assert full["tasks"]["bone"]["augment"]["copies"] == 5


def test_the_command_line_wins_key_by_key(tmp_path):
    tasks = {"bone": {**BONE, "augment": {"copies": 2}}}
    full = read(tmp_path, {"tasks": tasks}, {"seed": 7, "tasks": {"bone": {"folds": 3}}})
    bone = full["tasks"]["bone"]
    assert (full["seed"], bone["folds"], bone["augment"]["copies"]) == (7, 3, 2)


def test_a_control_inherits_the_training_of_its_task(tmp_path):
    tasks = {
        "bone": {
            **BONE,
            "train": {"epochs": 4},
            "controls": {"wide": {"train": {"batch": 3}}},
        }
    }
    full = read(tmp_path, {"tasks": tasks})
    train = full["tasks"]["bone"]["controls"]["wide"]["train"]
    assert (train["epochs"], train["batch"]) == (4, 3)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"sed": 1}, ["sed", "unknown key", "did you mean 'seed'"]),
        ({"seed": "1e3"}, ["seed", "whole number", "1e3"]),
        ({"seed": -1}, ["seed", "at least 0", "-1"]),
        ("seed: 1\nseed: 2\n", ["line 2", "seed", "twice"]),
        ("tasks:\n  007: {}\n", ["line 2", "quotes"]),
        ("seed: [1\n", ["not valid YAML"]),
        ("- 1\n", ["block of keys"]),
        ("x: !!python/object:os.system {}\n", ["not valid YAML"]),
        (
            {"tasks": {"bone": {"kind": "sematic"}}},
            ["tasks.bone.kind", "semantic", "sematic"],
        ),
        ({"tasks": {"bone": {"kind": "semantic"}}}, ["tasks.bone", "classes", "missing"]),
        (
            {"tasks": {"bone": {**BONE, "train": {"epoch": 3}}}},
            ["tasks.bone.train.epoch", "epochs"],
        ),
        (
            {"tasks": {"bone": {**BONE, "train": {"epochs": "15"}}}},
            ["train.epochs", "whole number"],
        ),
        ({"tasks": {"t3ss": T3SS}}, ["tasks.t3ss.membrane", "membrane"]),
        ({"tasks": {"../x": BONE}}, ["tasks", "../x"]),
        (
            {"tasks": {"bone": {**BONE, "controls": {"a": {"labels": ["weka"]}}}}},
            ["controls.a.labels", "weka"],
        ),
        (
            {"simulate": {"a": {"simulator": "implant", "volumes": ["../x"]}}},
            ["simulate.a.volumes", "../x"],
        ),
        (
            {"tasks": {"bone": {**BONE, "measure": {"bone": "bones"}}}},
            ["tasks.bone.measure.bone", "background, bone", "'bones'"],
        ),
        (
            {"tasks": {"bone": {**BONE, "measure": {"air": ["gas"]}}}},
            ["tasks.bone.measure.air", "'gas'"],
        ),
        (
            {"tasks": {"bone": {**BONE, "colours": {"bones": 1, "background": 0}}}},
            ["tasks.bone.colours", "'bones'"],
        ),
        (
            {"tasks": {"bone": {**BONE, "train": {"class_weights": [1, 2, 3]}}}},
            ["tasks.bone.train.class_weights", "2 numbers", "found 3"],
        ),
        (
            {
                "tasks": {
                    "bone": {**BONE, "controls": {"a": {"train": {"class_weights": [1]}}}}
                }
            },
            ["tasks.bone.controls.a.train.class_weights", "found 1"],
        ),
        (
            {"tasks": {"bone": BONE, "t3ss": {**T3SS, "membrane": "bone"}}},
            ["tasks.t3ss.mask.membrane_class", "background, bone", "'membrane'"],
        ),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(tmp_path, content, words):
    with pytest.raises(Refused) as caught:
        read(tmp_path, content)
    message = str(caught.value)
    assert "\n" not in message
    assert "config.yaml" in message
    assert [word for word in words if word not in message] == []


def test_classes_measured_by_default_may_be_without(tmp_path):
    full = read(tmp_path, {"tasks": {"bone": {**BONE, "measure": {"bone": "bone"}}}})
    assert full["tasks"]["bone"]["measure"]["metal"] == "residual_metal"


def test_a_missing_config_says_so(tmp_path):
    with pytest.raises(Refused, match="no such file"):
        config.read(tmp_path / "config.yaml")


def test_every_setting_is_documented():
    bare = [
        (path.stem, key)
        for path in config.SCHEMAS.glob("*.yaml")
        for key, part in config.read_schema(path.stem)["properties"].items()
        if "description" not in part
        and key not in ("kind", *sum(config.STAGES.values(), ()), "controls")
    ]
    assert bare == []


def test_every_default_fits_its_own_schema():
    for path in config.SCHEMAS.glob("*.yaml"):
        for key, part in config.read_schema(path.stem)["properties"].items():
            if "default" in part:
                schema = {"properties": {key: part}}
                assert not list(
                    config.Draft202012Validator(schema).iter_errors({key: part["default"]})
                )


@pytest.mark.parametrize("table", ["volumes", "labels"])
def test_the_rows_to_copy_are_legal(table):
    *lines, head = (config.SCHEMAS.parent / f"{table}.tsv").read_text().splitlines()
    rows = [
        line.removeprefix("# ").split("\t")
        for line in lines
        if "\t" in line and line.count("\t") > 3
    ]
    assert len(rows) >= 4
    for row in rows:
        config.filled(dict(zip(head.split("\t"), row, strict=True)), table, table, "")


def test_the_order_of_settings_does_not_count():
    block = {"b": {"y": 1, "x": [2, 1]}, "a": 3}
    assert list(config.ordered(block)) == ["a", "b"]
    assert list(config.ordered(block)["b"]) == ["x", "y"]
    assert config.ordered(block) == block


def test_what_says_only_how_a_stage_runs_does_not_count():
    block = {"blocks": 4, "block_gvoxels": None, "axes": ["z"]}
    assert config.counted(block, "segment", "semantic") == {"axes": ["z"]}
    assert config.counted(block, "publish", "detection") == block


def test_a_batch_that_devices_cannot_share_is_refused_before_any_job():
    train = {"devices": 3, "batch": 8}
    task = {"kind": "semantic", "classes": ["background", "bone"], "train": train}
    with pytest.raises(Refused, match=r"train\.batch: expected a multiple of devices"):
        config.complete({"tasks": {"bone": task}}, "config.yaml")
