"""A crate after a real run: made by itself, true, verified, and its jobs done once more."""

import getpass
import json
import shutil
import socket

import mrcfile
import numpy as np
import pytest
import yaml

from tomoglean.__main__ import main
from workflow import HEADS, ROOT, append, snakemake

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("crate")]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Return a study of two volumes, one of them elsewhere and cut short, after a run."""
    folder = tmp_path_factory.mktemp("a private place")
    study, away = folder / "study", folder / "home of ann"
    (study / "config").mkdir(parents=True)
    away.mkdir()
    config = {"tasks": {"bone": {"kind": "semantic", "classes": ["background", "bone"]}}}
    (study / "config" / "config.yaml").write_text(yaml.safe_dump(config))
    for table, head in HEADS.items():
        (study / "config" / f"{table}.tsv").write_text(head)
    for name, path in (("a", study / "a.mrc"), ("b", away / "b.mrc")):
        mrcfile.write(path, np.random.default_rng(1).random((8, 20, 20), np.float32))
        row = "a.mrc" if name == "a" else str(path)
        append(study / "config" / "volumes.tsv", (name, "bone", row, "10"))
    path.write_bytes(path.read_bytes()[:5000])
    return study, snakemake(ROOT, study, "bone_convert", fake=False)


def test_a_failed_run_leaves_a_crate_that_says_so(ran):
    study, done = ran
    assert done.returncode == 1
    assert "`verify` compares with" in done.stderr
    crate = json.loads((study / "results/ro-crate-metadata.json").read_text())
    told = {entity["@id"]: entity for entity in crate["@graph"]}
    assert told["#run"]["actionStatus"].endswith("FailedActionStatus")
    assert "converted/a.h5" in told
    assert "converted/b.h5" not in told


def test_no_file_of_the_results_tells_where_they_were_made(ran):
    study, _ = ran
    private = ["a private place", "home of ann", socket.gethostname(), str(ROOT)]
    private += [f"/home/{getpass.getuser()}/"]
    every = [path for path in (study / "results").rglob("*") if path.is_file()]
    assert len(every) > 10
    for path in every:
        found = path.read_bytes()
        assert [word for word in private if word.encode() in found] == [], path


def test_its_jobs_done_again_give_the_same_bytes(ran, capsys):
    study, _ = ran
    assert main(["verify", str(study), "--rerun", "9", "--seed", "1"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "3 of 3 jobs again, seed 1"
    assert sum(line.endswith("1 of 1 files, same bytes") for line in told) == 3


def test_a_job_that_gives_other_bytes_is_told(ran, tmp_path, capsys):
    study = shutil.copytree(ran[0], tmp_path / "study", symlinks=True)
    path = study / "results/checked/a.json"
    path.write_text(path.read_text().replace('"verdict"', '"verdikt"'))
    assert main(["verify", str(study), "--rerun", "9", "--seed", "1"]) == 1
    told = capsys.readouterr().out
    assert "changed: checked/a.json: since the crate" in told
    assert "DIFFERS: check: checked/a.json" in told
