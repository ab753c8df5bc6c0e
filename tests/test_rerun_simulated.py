"""A simulated volume whose machines come from a density map depends on that map."""

from types import SimpleNamespace

import pytest
import yaml

from tomoglean import study
from tomoglean.plan import Plan
from workflow import ROOT

CONFIG = {
    "simulate": {
        "cells": {
            "simulator": "minicell",
            "volumes": ["cell-1"],
            "settings": {"machines": {"kind": "map", "map": "maps/machine.mrc"}},
        },
        "plain": {"simulator": "minicell", "volumes": ["cell-2"]},
    },
}


@pytest.fixture
def plan(tmp_path, monkeypatch):
    (tmp_path / "config").mkdir()
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "machine.mrc").write_text("density")
    (tmp_path / "config" / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    for name in ("volumes", "labels"):
        head = (ROOT / "config" / f"{name}.tsv").read_text().splitlines()[0]
        (tmp_path / "config" / f"{name}.tsv").write_text(head + "\n")
    monkeypatch.chdir(tmp_path)
    return Plan(study.read(tmp_path))


def of(volume: str) -> SimpleNamespace:
    return SimpleNamespace(volume=volume)


def test_other_bytes_of_the_map_are_another_simulation(plan, tmp_path):
    before = plan.map_sha256(of("cell-1"))
    assert before == plan.map_sha256(of("cell-1"))
    (tmp_path / "maps" / "machine.mrc").write_text("DENSITY")
    assert plan.map_sha256(of("cell-1")) != before


def test_what_reads_no_map_depends_on_none(plan):
    assert plan.map_sha256(of("cell-2")) == []


def test_a_missing_map_is_the_simulations_matter(plan, tmp_path):
    (tmp_path / "maps" / "machine.mrc").unlink()
    assert plan.map_sha256(of("cell-1")) == []


def test_the_reader_of_the_map_counts_as_code(plan):
    assert plan.code("simulate_minicell")(of("cell-1")) != plan.code("simulate_minicell")(
        of("cell-2")
    )


def test_the_rule_carries_the_hash():
    rules = (ROOT / "rules" / "simulate.smk").read_text()
    assert "map_sha256=plan.map_sha256" in rules.partition("rule simulate_minicell")[2]
