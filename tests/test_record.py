"""The page tells what came in and what it was made with, from the records alone."""

import json

import numpy as np
import pytest
from test_report import VOXEL_NM, checked, scan, study_in

from tomoglean import provenance, usage
from tomoglean.report import environment, histograms, inputs, jobs, record, settings
from tomoglean.report.sources import Source

MACHINE = {"processor": "AMD EPYC", "cores": 8, "memory_gb": 64.2, "gpus": []}
FACTS = {
    "sha256": "ab" * 32, "shape": [6, 20, 24], "voxel_nm": list(VOXEL_NM), "format": "tiff",
    "source": "rod-1.tif", "percentiles": {"0.5": 0.0, "50": 40.0, "99.5": 100.0},
}  # fmt: skip


@pytest.fixture
def source(tmp_path):
    return Source(study_in(tmp_path))


def done(source, artefact, **facts):
    told = {"artefact": artefact, "rule": "check", "key": artefact, "started": "1", **facts}
    provenance.write_json(told, source.results / f"provenance/{artefact}.json")


def told(table):
    return [[cell.text for cell in row] for row in table.rows]


# -- data --------------------------------------------------------------------------------


def test_a_volume_is_told_with_hash_shape_and_grey_values(source):
    checked(source.study.root, "rod-1", **FACTS)
    row = dict(zip(inputs.HEAD, told(inputs.table(source))[0], strict=True))
    assert (row["volume"], row["format"], row["voxel"]) == ("rod-1", "tiff", "5 µm")
    assert row["shape (z, y, x)"] == "6 × 20 × 24"
    assert row["sha256"] == "ab" * 6
    assert row["0.5 / 50 / 99.5 %"] == "0 / 40.0 / 100"


def test_the_whole_hash_and_the_size_stand_in_the_rows(source):
    checked(source.study.root, "cell-1", **FACTS)
    (source.study.root / "raw").mkdir()
    (source.study.root / "raw/cell-1.mrc").write_bytes(bytes(1500))
    row = inputs.rows(source)[1]
    assert (row["sha256"], row["bytes"], row["shape_z"]) == ("ab" * 32, 1500, 6)
    assert inputs.size(row["bytes"]) == "1.50 kB"
    assert all(not isinstance(value, list | dict) for value in row.values())


def test_the_tables_beside_the_page_hold_whole_hashes(source):
    checked(source.study.root, "rod-1", **FACTS)
    cell = inputs.table(source).rows[0][inputs.HEAD.index("sha256")]
    assert (cell.text, cell.value) == ("ab" * 6, "ab" * 32)
    found = jobs.of([{"rule": "pick", "code": "c" * 64, "memory_mb": 12.5}])
    row = record.runtimes(found).rows[0]
    assert (row[-1].value, row[-2].value) == ("c" * 64, 12.5)


def test_a_volume_that_was_not_checked_is_a_row_all_the_same(source):
    assert told(inputs.table(source))[0][:4] == ["rod-1", "not checked", "n/a", "n/a"]


def test_a_histogram_is_drawn_where_the_volume_is_converted(source):
    checked(source.study.root, "rod-1", **FACTS)
    place = inputs.HEAD.index("histogram")
    assert told(inputs.table(source))[0][place] == "not converted"
    scan(source.study.root)
    cell = inputs.table(source).rows[0][place]
    assert cell.uri.startswith("data:image/svg+xml")
    assert cell.alt == "histogram of rod-1, grey values 0 to 100"


@pytest.mark.parametrize("percentiles", [{}, {"0.5": 3, "99.5": 3}, [1], {"0.5": "x"}])
def test_grey_values_that_span_nothing_have_no_histogram(source, percentiles):
    checked(source.study.root, "rod-1", **{**FACTS, "percentiles": percentiles})
    assert told(inputs.table(source))[0][inputs.HEAD.index("histogram")] == "n/a"


def test_a_histogram_counts_what_lies_between_its_ends():
    data = np.full((3, 4, 5), 2.0)
    data[1] = [0.0, 1.0, np.nan, np.inf, 5.0]
    counts = histograms.count(data[1:2], 0.0, 4.0)
    assert (counts.sum(), counts[0], counts[11]) == (8, 4, 4)
    assert histograms.count(data, 0.0, 4.0).sum() == 48


def test_a_histogram_of_a_huge_volume_reads_few_slices():
    class Counted:
        shape = (4000, 3000, 3000)
        read = 0

        def __getitem__(self, z):
            self.read += 1
            return np.ones((2, 2))

    data = Counted()
    histograms.count(data, 0, 2)
    assert data.read == 1


def test_a_refused_volume_is_told_with_its_reason_and_what_to_do(source):
    said = "cell-1.mrc: expected 4 kB, found 2 kB; copy it once more"
    checked(source.study.root, "cell-1", verdict="refused", messages=[said])
    table = inputs.refused(source)[0]
    assert told(table) == [["cell-1", "raw/cell-1.mrc", said]]
    assert "python -m tomoglean check FILE" in table.caption


def test_where_nothing_was_refused_one_line_says_so(source):
    assert [block.text for block in inputs.refused(source)] == ["Nothing was refused."]


def labels(source, **settings):
    place = "checked/t3ss/train/points/cell-1.json"
    provenance.write_json({"verdict": "ok", "points": 1200}, source.results / place)
    done(source, place, settings=settings)
    return inputs.label_rows(source)[0]


def test_labels_are_told_with_what_they_hold_and_their_hash(source):
    found = labels(source, rows=[{"path": "raw/p.csv"}], sha256=["cd" * 32])
    assert (found["holds"], found["sha256"]) == ("points 1,200", "cd" * 32)
    assert told(inputs.labels_table(source))[0][6] == "cd" * 6


def test_labels_that_the_study_made_are_told_by_their_record(source):
    path = "simulated/minicell/cell-1.points.csv"
    done(source, path, sha256="ef" * 32)
    found = labels(source, rows=[{"path": f"results/{path}"}], sha256=[None])
    assert found["sha256"] == "ef" * 32


@pytest.mark.parametrize("settings", [{}, {"rows": 3, "sha256": "x"}, {"rows": [[]]}])
def test_labels_with_an_odd_record_are_told_all_the_same(source, settings):
    assert labels(source, **settings)["sha256"] == ""


# -- what it was made with ---------------------------------------------------------------


def made(**facts):
    return jobs.of([{"rule": "train", "key": "k", "started": "s", **facts}])


def test_jobs_are_counted_by_commit_and_kind_of_machine(source):
    checkout = {"commit": "c" * 40, "state": "clean"}
    for n in range(3):
        done(source, f"a{n}", machine=MACHINE, checkout=checkout)
    done(source, "old")
    told = {row[0].text: row[1].text for row in made_with(source).rows}
    assert told["commit of the jobs"] == f"{'c' * 40} (clean): 3 jobs\nnot recorded: 1 job"
    assert told["machines"].startswith("AMD EPYC, 8 cores, 64 GB, no GPU: 3 jobs\n")
    assert told["commit of this page"] == "{} ({})".format(*usage.checkout())


def made_with(source):
    return record.made_with(source, jobs.of(source.provenance()))


def test_gpus_are_counted_by_their_kind():
    machine = {**MACHINE, "gpus": ["NVIDIA H100"] * 4}
    assert made(machine=machine)[0].machine.endswith("64 GB, 4 × NVIDIA H100")


def test_time_and_memory_of_a_rule_are_added_up():
    took = [(1.0, 100.0), (2.0, 900.0), (6.0, 300.0)]
    records = [
        {"rule": "pick", "key": n, "seconds": s, "cpu_seconds": 2 * s, "memory_mb": mb}
        for n, (s, mb) in enumerate(took)
    ]
    (cost,) = jobs.costs(jobs.of(records))
    assert (cost.seconds, cost.median_seconds, cost.longest_seconds) == (9.0, 2.0, 6.0)
    assert (cost.processors, cost.memory_mb, cost.median_memory_mb) == (2.0, 900.0, 300.0)


def test_what_no_record_tells_is_not_made_up():
    row = record.runtimes(made()).rows[0]
    assert [cell.text for cell in row] == ["train", "1", *["n/a"] * 7]


def test_all_code_that_a_rule_ran_with_is_told():
    found = jobs.of(
        [{"rule": "pick", "key": n, "code": c * 64} for n, c in enumerate("aba")]
    )
    assert record.runtimes(found).rows[0][-1].text == f"{'a' * 12}\n{'b' * 12}"


ODD = [{"machine": [1], "checkout": 3, "seconds": "x", "inputs": 5, "code": None}, {}]


@pytest.mark.parametrize("facts", ODD)
def test_odd_records_give_a_page(source, facts):
    done(source, "a", **facts)
    assert "could not be made" not in str(record.provenance(source).blocks)


# -- packages ----------------------------------------------------------------------------


def lock(tmp_path, monkeypatch, text):
    monkeypatch.setattr(
        environment, "_installed", lambda: {"numpy": "2.4.6", "h5py": "3.1"}
    )
    (tmp_path / "cpu.lock.txt").write_text(text)
    (tmp_path / "uv.lock.txt").write_text("uv==1\n")
    return environment.compared(tmp_path)


def test_what_is_installed_as_locked_says_so(tmp_path, monkeypatch):
    text = "numpy==2.4.6 \\\n    --hash=sha256:00\nh5py==3.1 \\\n    --hash=sha256:00\n"
    (found,) = lock(tmp_path, monkeypatch, text)
    assert found.is_met
    assert str(found) == "installed as locked: all 2 packages of cpu.lock.txt"


def test_other_and_missing_packages_are_named(tmp_path, monkeypatch):
    (found,) = lock(tmp_path, monkeypatch, "NumPy==2.5\nzarr==3 ; python_version > '3'\n")
    assert not found.is_met
    assert str(found).endswith("cpu.lock.txt differ: numpy 2.4.6 instead of 2.5, no zarr")


def test_what_is_not_for_this_machine_is_not_missed(tmp_path, monkeypatch):
    (found,) = lock(tmp_path, monkeypatch, "x==1 ; sys_platform == 'win32'\nh5py==3.1\n")
    assert found.packages == 1
    assert found.is_met


def test_the_locks_of_this_checkout_are_read():
    names = {found.name: found.packages for found in environment.compared()}
    assert names["cpu.lock.txt"] > 100
    assert "uv.lock.txt" not in names


# -- settings ----------------------------------------------------------------------------

CONFIG = {
    "tasks": {
        "bone": {
            "kind": "semantic",
            "classes": ["background", "bone"],
            "train": {"epochs": 3},
            "controls": {"wide": {"train": {"width": 64}}},
        }
    },
    "simulate": {"rods": {"simulator": "implant", "volumes": ["a"], "settings": {}}},
}


def changes(**more):
    config = settings.configs.complete({**CONFIG, **more}, "config")
    return {one.key: one for one in settings.differences(json.loads(json.dumps(config)))}


def test_only_what_differs_from_the_defaults_is_listed():
    found = changes()
    assert (found["tasks.bone.train.epochs"].default) == 15
    assert found["tasks.bone.train.epochs"].here == 3
    assert not any(key.startswith("tasks.bone.segment") for key in found)
    assert "seed" not in found
    assert "seed" in changes(seed=7)


def test_what_must_be_named_has_no_default():
    found = changes()
    must = {key for key, one in found.items() if not one.has_default}
    assert must == {
        *("tasks.bone.kind", "tasks.bone.classes"),
        *("simulate.rods.simulator", "simulate.rods.volumes"),
    }


def test_a_control_differs_from_its_task_alone():
    found = [key for key in changes() if ".controls." in key]
    assert found == ["tasks.bone.controls.wide.train.width"]


@pytest.mark.parametrize("config", [{"tasks": {"a": {"kind": "new"}}}, {"tasks": 3}])
def test_a_config_of_another_version_is_one_line(config):
    assert "does not fit" in record.changed(config).text


def test_settings_are_written_as_one_would_set_them():
    config = {**CONFIG, "tasks": {"bone": {**CONFIG["tasks"]["bone"], "train": {}}}}
    config["tasks"]["bone"]["train"] = {"learning_rate": 0.25}
    full = settings.configs.complete(config, "config")
    found = {row[0].text: [cell.text for cell in row] for row in record.changed(full).rows}
    assert found["tasks.bone.train.learning_rate"][1:] == ["0.001", "0.25"]
