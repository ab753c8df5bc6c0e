"""The studies in examples/: valid, planned as promised, and true to their sources."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tomoglean import config, study
from tomoglean.provenance import read_json
from workflow import ROOT, copy_checkout, planned, snakemake

EXAMPLES = ROOT / "examples"
NAMES = sorted(path.parent.parent.name for path in EXAMPLES.glob("*/config/config.yaml"))
REAL = {"sandstone": "sandstone_xrm", "isbi": "isbi2012_sstem"}
CONTROL = "modified"
NO_DATA = "TOMOGLEAN_DATA is not set: real data are not here"


@pytest.fixture
def made_up_data(tmp_path, monkeypatch):
    """Give every real set its folders, without a single image."""
    for name in REAL.values():
        for part in ("images", "labels"):
            (tmp_path / "data" / name / part).mkdir(parents=True)
    monkeypatch.setenv("TOMOGLEAN_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture(scope="session")
def checkout(tmp_path_factory):
    return copy_checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture
def copied(tmp_path):
    """Copy an example's config, without anybody's results."""

    def copy(name):
        shutil.copytree(EXAMPLES / name / "config", tmp_path / name / "config")
        return tmp_path / name

    return copy


@pytest.fixture(scope="module")
def desy():
    return study.read(EXAMPLES / "desy2019")


# -- all of them ---------------------------------------------------------------------


def test_every_folder_is_a_study():
    assert {"demo", "sandstone", "isbi", "desy2019"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_example_is_valid(name, made_up_data):
    assert study.read(EXAMPLES / name).volumes


# -- real data -----------------------------------------------------------------------


@pytest.mark.parametrize("name", REAL)
def test_real_studies_stay_within_one_scan_and_say_so(name, made_up_data):
    found = study.read(EXAMPLES / name)
    assert [task["split"] for task in found.tasks.values()] == ["within-volume"]


@pytest.mark.parametrize("name", REAL)
def test_networks_vote_along_the_axis_they_learned(name, made_up_data):
    for task in study.read(EXAMPLES / name).tasks.values():
        assert task["slice"]["axes"] == task["segment"]["axes"] == ["z"]


def test_sandstone_leaves_every_slice_out_once(made_up_data):
    found = study.read(EXAMPLES / "sandstone")
    parts = [
        [
            found.keep("minerals", f"final-{fold}", use)
            for use in ("test", "validate", "train")
        ]
        for fold in range(6)
    ]
    assert [test for test, _, _ in parts] == [[0], [50], [100], [150], [200], [250]]
    for test, validate, train in parts:
        assert (len(test), len(validate), len(train)) == (1, 1, 4)
        assert len({*test, *validate, *train}) == 6


def test_isbi_sections_have_one_use_each(made_up_data):
    rows = study.read(EXAMPLES / "isbi").label_rows("membrane")
    used = [z for row in rows for z in study.slice_numbers(row["slices"])]
    assert sorted(used) == list(range(20))


@pytest.mark.parametrize("name", REAL)
def test_without_data_one_line_says_what_to_set(name, checkout, copied, monkeypatch):
    monkeypatch.delenv("TOMOGLEAN_DATA", raising=False)
    done = snakemake(checkout, copied(name), "-n", fake=False)
    told = [line for line in done.stderr.splitlines() if line.startswith("tomoglean:")]
    assert done.returncode == 1
    assert len(told) == 1
    assert f"$TOMOGLEAN_DATA/{REAL[name]}/images" in told[0]
    assert "Traceback" not in done.stderr


def test_make_real_stops_cleanly_without_data():
    """The recipe itself, without the set-up that it needs."""
    environment = {k: v for k, v in os.environ.items() if k != "TOMOGLEAN_DATA"}
    done = subprocess.run(
        ["make", "real", "-o", "setup"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "TOMOGLEAN_DATA is not set" in done.stdout


@pytest.mark.parametrize("name", REAL)
def test_real_data_are_checked_and_cut(name, copied):
    data = os.environ.get("TOMOGLEAN_DATA", "")
    if not (Path(data) / REAL[name]).is_dir() or not data:
        pytest.skip(NO_DATA)
    folder = copied(name)
    task = "minerals" if name == "sandstone" else "membrane"
    done = snakemake(ROOT, folder, f"{task}_slice", fake=False)
    assert done.returncode == 0, done.stdout + done.stderr
    checked = [read_json(path) for path in (folder / "results" / "checked").rglob("*.json")]
    assert checked
    assert all(one["verdict"] != "refused" for one in checked)


# -- the run of 2019 -----------------------------------------------------------------


def test_2019_learned_from_eleven_scans_with_weak_labels(desy):
    assert len(desy.labelled("bone", use="train", kind="weak")) == 11


@pytest.mark.parametrize("task", ["bone", "membrane", "t3ss"])
def test_2019_made_six_images_of_one(desy, task):
    assert desy.tasks[task]["augment"]["copies"] == 5


def test_2019_trained_a_plain_wide_unet_on_the_central_crop(desy):
    bone = desy.tasks["bone"]
    train = bone["train"]
    assert bone["slice"]["crop_px"] == 600
    assert (train["network"], train["recipe"]) == ("unet", "plain")
    assert (train["width"], train["depth"], train["epochs"]) == (64, 5, 15)
    assert (train["input_px"], train["steps_per_epoch"], train["patience"]) == (
        None,
        None,
        0,
    )


def test_2019_classified_patches_with_lenet5_within_the_membrane(desy):
    t3ss = desy.tasks["t3ss"]
    assert t3ss["train"]["network"] == "lenet5"
    assert t3ss["sample"]["patch_px"] == 50
    assert t3ss["membrane"] == "membrane"
    assert t3ss["controls"][CONTROL]["train"]["network"] == "lenet5_modified"


def test_2019_crops_fit_the_stand_ins(desy):
    for group in desy.config["simulate"].values():
        if group["simulator"] == "implant":
            assert min(group["settings"]["field"]["shape_px"][1:]) >= 600


def test_2019_is_planned_without_running(checkout, copied):
    jobs = planned(checkout, copied("desy2019"))
    assert jobs["simulate_implant"] == jobs["check"] - 6 == 13
    assert jobs["relabel"] == 11
    # bone: weak, two folds, final; membrane: final; t3ss: final and its control
    assert jobs["train"] == jobs["export"] == 7


def test_settings_of_2019_that_are_defaults_stay_what_they_were():
    assert config.read_schema("augment")["properties"]["copies"]["default"] == 5
    assert config.read_schema("sample")["properties"]["patch_px"]["default"] == 50
