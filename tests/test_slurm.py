"""`--profile slurm` as users type it, as far as it goes without a cluster."""

from importlib import metadata

import pytest

from workflow import ROOT, copy_checkout, snakemake, write_study


def test_the_literal_command_plans_in_the_checkout(tmp_path):
    checkout = write_study(copy_checkout(tmp_path / "checkout"), exist_ok=True)
    done = snakemake(checkout, checkout, "--profile", "slurm", "-n")
    assert done.returncode == 0, done.stderr
    assert "convert" in done.stdout


def test_it_plans_for_a_study_elsewhere(tmp_path):
    checkout = copy_checkout(tmp_path / "checkout")
    study = write_study(tmp_path / "study")
    done = snakemake(checkout, study, "--profile", "slurm", "-n")
    assert done.returncode == 0, done.stderr


def test_the_committed_tables_say_what_to_fill_in():
    done = snakemake(ROOT, ROOT, "--profile", "slurm", "-n")
    assert done.returncode == 0
    assert "config/volumes.tsv holds no volume yet" in done.stderr


def test_gpus_and_partitions_come_from_the_profile(tmp_path):
    checkout = copy_checkout(tmp_path / "checkout")
    study = write_study(tmp_path / "study")
    done = snakemake(checkout, study, "--profile", "slurm", "-n", "bone_train")
    jobs = done.stdout.split("\nrule ")
    train = next(job for job in jobs if job.startswith("train:"))
    convert = next(job for job in jobs if job.startswith("convert:"))
    assert "maxgpu" in train
    assert "constraint" in train
    assert "maxcpu" in convert


@pytest.mark.skipif(
    "tensorflow-cpu"
    not in {d.metadata["Name"].lower().replace("_", "-") for d in metadata.distributions()},
    reason="this is the GPU environment",
)
def test_the_cpu_environment_submits_nothing(tmp_path):
    study = write_study(tmp_path / "study")
    done = snakemake(ROOT, study, "--profile", "slurm")
    assert done.returncode == 1
    assert "make setup GPU=1" in done.stderr
    assert "Submitted" not in done.stdout + done.stderr
    assert not (study / "results").exists()
