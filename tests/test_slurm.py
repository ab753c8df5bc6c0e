"""`--profile slurm` as users type it, without a cluster and, where there is one, on it."""

import re
import subprocess
from importlib import metadata

import pytest
from faults import environment
from faults import slurm as slurm

from workflow import FAKE, ROOT, copy_checkout, snakemake, write_study

POLLING = (
    *("--slurm-init-seconds-before-status-checks", "5"),
    *("--seconds-between-status-checks", "1"),
)


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


@pytest.mark.parametrize(
    ("name", "words", "elsewhere"),
    [
        ("slurm", ("slurm_partition=maxgpu", "constraint=V100"), "gres="),
        ("slurm-gres", ("slurm_partition=gpu", "gres=gpu:1"), "constraint="),
    ],
)
def test_gpus_and_partitions_come_from_the_profile(tmp_path, name, words, elsewhere):
    study = write_study(tmp_path / "study")
    chosen = str(ROOT / "profiles" / name)
    done = snakemake(ROOT, study, "--profile", chosen, "-n", "bone_train")
    jobs = done.stdout.split("\nrule ")
    train = next(job for job in jobs if job.startswith("train:"))
    convert = next(job for job in jobs if job.startswith("convert:"))
    assert all(word in train for word in ("device=gpu", *words))
    assert elsewhere not in train
    assert "device=cpu" in convert
    assert not any(word in convert for word in words)


def test_the_steps_of_a_small_volume_are_one_job(tmp_path):
    study = write_study(tmp_path / "study")
    done = snakemake(ROOT, study, "--profile", str(ROOT / "profiles" / "slurm"), "-n")
    groups = done.stdout.split("Group job ")[1:]
    predict = next(text for text in groups if text.startswith("predict-bone-final-d "))
    assert re.findall(r"^ +rule (\w+):", predict, re.MULTILINE)[:2] == [
        "measure",
        "segment",
    ]


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


# -- on a SLURM ----------------------------------------------------------------------


def asked_for(job):
    """What SLURM keeps of a job."""
    command = ["scontrol", "--oneliner", "show", "job", job]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return dict(word.split("=", 1) for word in text.split() if "=" in word)


@pytest.mark.slurm
def test_each_attempt_is_a_new_job_that_asks_for_more_and_says_what_it_is(
    tmp_path, slurm, monkeypatch
):
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    study = write_study(tmp_path / "study")
    words = ("--profile", str(ROOT / "profiles" / "slurm"), "--retries", "1", *POLLING)
    done = snakemake(
        *(ROOT, study, *words, "results/checked/a.json"),
        FAKE_FAIL="check",
        PYTHONPATH=str(FAKE),
    )
    assert done.returncode == 1
    numbers = re.findall(r"SLURM jobid (\d+)", done.stdout + done.stderr)
    first, second = map(asked_for, numbers)
    assert first["Partition"] == second["Partition"] == "maxcpu"
    assert (first["TimeLimit"], second["TimeLimit"]) == ("00:30:00", "01:00:00")
    assert (first["MinMemoryNode"], second["MinMemoryNode"]) == ("1500M", "3000M")
    assert first["Comment"] == "rule_check_wildcards_a"
    assert first["Requeue"] == "0"
    assert first["JobName"].startswith("tomoglean_")
    logs = study / ".snakemake" / "slurm_logs" / "rule_check" / "a"
    assert {path.stem for path in logs.iterdir()} == set(numbers)
