"""Profiles, and what the jobs of a study ask a cluster for."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from tomoglean import codebook, costs, demands, devices, stage, study
from tomoglean import fingerprint as fingerprints
from tomoglean.fingerprint import fingerprint
from tomoglean.plan import Plan
from tomoglean.provenance import Refused
from workflow import ROOT, write_study

PROFILES = ROOT / "profiles"
CLUSTERS = ("slurm", "slurm-gres")


def profile(name):
    return yaml.safe_load((PROFILES / name / "config.yaml").read_text())


# -- profiles ------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*CLUSTERS, "node"])
def test_the_default_profile_hides_nothing_of_another(name):
    assert not profile("default").keys() & profile(name).keys()


def test_the_default_profile_has_no_resources_that_would_hide_others():
    assert not {key for key in profile("default") if "resources" in key}


@pytest.mark.parametrize("name", [*CLUSTERS, "node"])
def test_the_parts_of_a_training_run_where_the_training_runs(name):
    asked = profile(name)["set-resources"]
    assert asked["train_part"] == asked["train"]


@pytest.mark.parametrize("name", CLUSTERS)
def test_no_setting_that_was_seen_to_hang_a_run_or_to_start_a_job_twice(name):
    found = profile(name)
    assert found["slurm-status-command"] == "squeue"
    assert found["slurm-no-requeue"] is True
    assert found["retries"] > 0
    assert not {"group-components", "slurm-requeue"} & found.keys()


def test_no_rule_asks_for_retries_that_would_stay_within_one_job():
    texts = [path.read_text() for path in (ROOT / "rules").glob("*.smk")]
    lines = [line.strip() for text in texts for line in text.splitlines()]
    assert {line for line in lines if line.startswith("retries")} <= {"retries: 0"}


@pytest.mark.parametrize("name", [*CLUSTERS, "node"])
def test_every_value_of_a_profile_is_told_in_one_place(name):
    told = (PROFILES / "README.md").read_text()
    for key, value in profile(name).items():
        inner = value if isinstance(value, list) else []
        for word in [key, *(item.partition("=")[0] for item in inner)]:
            assert word in told or word == "executor", word
    assert all(rule in told for rule in profile(name)["set-threads"])
    for words in profile(name)["set-resources"].values():
        assert all(word in told for word in words)


def test_the_profile_for_generic_resources_asks_for_one_gpu_and_no_feature():
    train = profile("slurm-gres")["set-resources"]["train"]
    assert train["gres"] == "gpu:1"
    assert "constraint" not in train


# -- time and memory -----------------------------------------------------------------


def test_a_second_attempt_gets_twice_the_time_and_memory():
    cost = costs.Cost(0.0, 1.0, minutes=45)
    assert cost.runtime(None, 2) == 2 * cost.runtime(None, 1) == 90
    assert cost.memory_mb(100.0, 2) == 2 * cost.memory_mb(100.0)


def test_time_grows_with_the_work_and_shrinks_on_a_gpu():
    cost = costs.Cost(0.0, 1.0, launch_s=0.0)
    assert cost.runtime(36_000.0) == costs.SLACK * 600
    assert cost.runtime(36_000.0, faster=10.0) == costs.SLACK * 60


def test_time_is_neither_too_short_to_start_nor_longer_than_partitions_allow():
    cost = costs.Cost(0.0, 1.0)
    assert cost.runtime(0.0) == costs.SHORTEST
    assert cost.runtime(1e12, 5) == costs.LONGEST


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Write a study of files of a few bytes, and be in it."""
    monkeypatch.chdir(write_study(tmp_path / "study"))
    return tmp_path / "study"


def planned(**words):
    return demands.Demands(Plan(study.read(Path())), **words)


def wildcards(**levels):
    return SimpleNamespace(**levels)


def check_facts(folder, volume, depth):
    path = folder / "results" / "checked" / f"{volume}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'{{"verdict": "ok", "shape": [{depth}, 1000, 1000], "dtype": "uint16"}}'
    )


def test_a_larger_volume_is_given_more_time(small):
    for volume, depth in (("a", 100), ("b", 2000)):
        check_facts(small, volume, depth)
    asked = planned()
    times = [
        asked.minutes("segment", wildcards(task="bone", round="final", volume=v), 1)
        for v in "ab"
    ]
    assert times[0] < times[1]


def test_a_block_is_given_its_share_of_the_time(small):
    check_facts(small, "a", 2000)
    at = {"task": "bone", "round": "final", "volume": "a"}
    whole = planned().work("segment", wildcards(**at))
    part = planned().work("segment", wildcards(**at, block="3-of-4"))
    assert part == pytest.approx(whole / 4)


def test_a_part_of_a_training_is_given_its_share_of_the_time(small):
    check_facts(small, "a", 2000)
    at = wildcards(task="bone", round="control-corrected")
    whole, asked = planned().work("train", at), planned()
    asked.plan.study.tasks["bone"]["train"].update(epochs=8, epochs_per_job=2)
    eight = asked.work("train", at) * 4
    asked.plan.study.tasks["bone"]["train"].update(epochs_per_job=None)
    assert asked.work("train", at) == pytest.approx(eight)
    assert whole > 0


def test_a_volume_that_nobody_can_measure_gets_the_usual_time(small):
    at = wildcards(task="bone", round="final", volume="a")
    assert planned().minutes("segment", at, 1) == costs.of("segment").minutes


def test_jobs_forecast_nothing(small):
    check_facts(small, "a", 2000)
    at = wildcards(task="bone", round="final", volume="a")
    assert planned(estimate=False).work("segment", at) is None


def test_memory_is_known_before_the_input_is_there(small):
    check_facts(small, "a", 2000)
    at = wildcards(task="bone", round="weak", use="train", volume="a")
    asked = stage.needs("slice", planned())["mem_mb"](at, ["missing.h5"], 1)
    assert asked > costs.of("slice").base_mb


# -- who shares a job ----------------------------------------------------------------


def test_steps_of_one_small_volume_share_a_job_and_volumes_never_do(small):
    of = planned().together("predict")
    step = of(wildcards(task="bone", round="final", volume="a"))
    assert of(wildcards(task="bone", volume="a")) == step
    assert of(wildcards(task="bone", round="final", volume="b")) != step
    assert of(wildcards(task="bone", round="weak-0", volume="a")) != step


def test_long_steps_of_a_large_volume_have_jobs_of_their_own(small):
    os.truncate(small / "raw" / "a.mrc", int((demands.SMALL_MB + 1) * 1e6))
    at = wildcards(task="bone", round="final", volume="a")
    assert planned().together("predict")(at) is None
    assert planned().together("examples", brief=True)(at) is not None


def test_a_folder_of_slices_counts_as_large(small):
    (small / "raw" / "a.mrc").unlink()
    (small / "raw" / "a.mrc").mkdir()
    assert planned().raw_mb("a") == float("inf")


def test_a_simulated_volume_is_as_large_as_its_settings_say():
    asked = demands.Demands(Plan(study.read(ROOT / "examples" / "desy2019")))
    assert asked.raw_mb("implant-01") == pytest.approx(512 * 640 * 640 * 4 / 1e6)


# -- devices -------------------------------------------------------------------------


@pytest.fixture
def drivers(tmp_path, monkeypatch):
    """Stand where the drivers of GPUs would show themselves; there is none yet."""
    monkeypatch.setattr(devices, "DRIVERS", (tmp_path / "gpus", tmp_path / "nvidia0"))
    for name in devices.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KERAS_BACKEND", "something")
    return tmp_path


def test_a_job_that_sees_no_gpu_is_refused_in_one_line(drivers):
    with pytest.raises(Refused, match=r"expected a GPU on .*no driver") as caught:
        devices.refuse_without_gpu("train")
    assert "\n" not in str(caught.value)
    assert "device: cpu" in str(caught.value)


def test_a_job_that_sees_a_gpu_goes_on(drivers):
    (drivers / "nvidia0").touch()
    devices.refuse_without_gpu("train")


def test_a_driver_without_cards_is_no_gpu(drivers):
    (drivers / "gpus").mkdir()
    assert devices.without_driver()
    (drivers / "gpus" / "0000:01:00.0").mkdir()
    assert not devices.without_driver()


@pytest.mark.parametrize("value", ["", "-1", "NoDevFiles"])
def test_a_gpu_that_slurm_did_not_give_is_none(drivers, monkeypatch, value):
    (drivers / "nvidia0").touch()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    with pytest.raises(Refused, match="CUDA_VISIBLE_DEVICES"):
        devices.refuse_without_gpu("train")


@pytest.fixture
def node(drivers, monkeypatch):
    """Return a function that makes a node of some GPUs and takes a few, as a job does."""
    monkeypatch.setattr(tempfile, "tempdir", str(drivers))
    held = []

    def take(count, *, of):
        for number in range(of):
            (drivers / "gpus" / str(number)).mkdir(parents=True, exist_ok=True)
        monkeypatch.setattr(devices, "_taken", {})
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # so that it is put back
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
        found = devices.take(count)
        held.append(devices._taken)
        return found, os.environ.get("CUDA_VISIBLE_DEVICES")

    yield take
    for handle in [one for taken in held for one in taken.values()]:
        os.close(handle)


def test_two_trainings_on_one_node_take_two_gpus(node):
    assert [node(1, of=2) for _ in range(2)] == [(["0"], "0"), (["1"], "1")]


def test_a_training_on_two_gpus_takes_two(node):
    assert [node(2, of=4) for _ in range(2)] == [(["0", "1"], "0,1"), (["2", "3"], "2,3")]


def test_where_too_few_gpus_are_free_none_is_hidden(node):
    node(2, of=3)
    assert node(2, of=3) == ([], None)
    assert node(1, of=3) == (["2"], "2")


def test_the_only_gpu_is_nobody_s_to_hide(node):
    assert node(1, of=1) == ([], None)


def test_of_the_gpus_that_slurm_gave_one_is_taken(node, drivers, monkeypatch):
    node(1, of=0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")
    assert devices.take(1) == ["GPU-a"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-a"


def test_a_tensorflow_for_cpus_uses_no_gpu(drivers, monkeypatch):
    (drivers / "nvidia0").touch()
    monkeypatch.delenv("KERAS_BACKEND")
    monkeypatch.setattr(devices, "_installed", lambda name: True)
    with pytest.raises(Refused, match="make setup GPU=1"):
        devices.refuse_without_gpu("train")


def test_a_backend_that_cannot_use_the_gpu_is_named(drivers, monkeypatch):
    (drivers / "nvidia0").touch()
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    monkeypatch.setattr(devices, "_torch", lambda: False)
    with pytest.raises(Refused, match="torch cannot use it"):
        devices.refuse_without_gpu("train")


def test_a_node_can_be_asked_whether_its_gpu_is_of_use(drivers, capsys):
    with pytest.raises(SystemExit, match="expected a GPU"):
        devices.main()
    (drivers / "nvidia0").touch()
    devices.main()
    assert "has a GPU that something can use" in capsys.readouterr().out


def test_the_script_ends_before_any_library_of_networks_is_loaded(tmp_path):
    text = (ROOT / "workflow" / "scripts" / "train.py").read_text()
    before = """
import sys
from types import SimpleNamespace
snakemake = SimpleNamespace(log=["train.log"], rule="train", output=["x"], input=[],
    params={}, resources=SimpleNamespace(device="gpu"))
import atexit
atexit.register(lambda: print(sorted({"keras", "tensorflow", "h5py"} & sys.modules.keys())))
"""
    (tmp_path / "train.py").write_text(before + text)
    hidden = {"CUDA_VISIBLE_DEVICES": "-1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "train.py"],
        cwd=tmp_path,
        env={**os.environ, **hidden},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == "[]\n"
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("train: expected a GPU")


@pytest.mark.parametrize(
    ("device", "backend", "vain"),
    [("gpu", "tensorflow", True), ("cpu", "tensorflow", False), ("gpu", "jax", False)],
)
def test_only_a_run_for_gpus_needs_their_tensorflow(device, backend, vain, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    monkeypatch.setattr(devices, "_installed", lambda name: True)
    job = SimpleNamespace(resources={"device": device})
    assert stage.asks_in_vain(job) is vain


# -- the code is read once -----------------------------------------------------------


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """Write a package of one function and a script that calls it; remember nothing."""
    monkeypatch.chdir(tmp_path)
    package, script = tmp_path / "tomoglean", tmp_path / "scripts" / "one.py"
    package.mkdir()
    script.parent.mkdir()
    (package / "__init__.py").touch()
    (package / "work.py").write_text("def do():\n    return 1\n")
    script.write_text("from tomoglean import work\n\nwork.do()\n")
    codebook._sources.cache_clear()
    return script


def remembered(script):
    """Ask as a new process would, which has read nothing yet."""
    codebook._sources.cache_clear()
    fingerprints._parsed.cache_clear()
    return codebook.remembered(script, root=script.parent.parent)


def test_what_is_remembered_is_the_fingerprint(sources):
    expected = fingerprint(sources, root=sources.parent.parent)
    assert remembered(sources) == remembered(sources) == expected


def test_unchanged_code_is_not_parsed_again(sources, monkeypatch):
    first = remembered(sources)
    monkeypatch.setattr(codebook, "fingerprint", None)
    assert remembered(sources) == first


def test_changed_code_under_an_old_time_is_seen(sources):
    first, work = remembered(sources), sources.parent.parent / "tomoglean" / "work.py"
    times = work.stat()
    work.write_text("def do():\n    return 2\n")
    os.utime(work, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert remembered(sources) != first


def test_what_is_edited_while_it_is_read_is_not_remembered(sources, monkeypatch):
    def edit(script, **_):
        script.write_text("from tomoglean import work\n\nwork.do(2)\n")
        return "of nobody knows which code"

    monkeypatch.setattr(codebook, "fingerprint", edit)
    remembered(sources)
    assert not codebook.BOOK.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"sources": 1}'])
def test_a_damaged_book_is_forgotten(sources, text):
    first = remembered(sources)
    codebook.BOOK.write_text(text)
    assert remembered(sources) == first


def test_a_study_that_cannot_be_written_to_is_read(sources, monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(codebook.provenance, "write_json", refuse)
    assert remembered(sources) == fingerprint(sources, root=sources.parent.parent)


# -- as large as in 2019 -------------------------------------------------------------


@pytest.mark.slow
def test_a_study_of_95_thousand_images_takes_less_than_300_jobs():
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "paper_size.py")],
        capture_output=True,
        text=True,
        check=True,
    )
    first, jobs, *_ = done.stdout.splitlines()
    assert first == "95634 images of 15939 slices"
    assert 0 < int(jobs.partition(" ")[0]) < 300
