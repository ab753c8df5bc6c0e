"""Benchmark sets: frozen definitions, volumes from seeds, studies that use them."""

import json
import shutil

import numpy as np
import pytest
import yaml

from tomoglean import __main__ as command
from tomoglean import benchmarks, provenance, study, volumes
from tomoglean.provenance import Refused
from tomoglean.simulators import files
from tomoglean.simulators.minicell import scene, sites
from tomoglean.simulators.minicell.envelope import draw

NAMES = [
    *("complex", "fullcell", "implant-full", "implant-small"),
    *("minicell-camera", "minicell-full", "minicell-small"),
]
TINY = {
    "description": "A set of two volumes.",
    "phantom": "minicell",
    "seed": 7,
    "settings": {
        "field": {"shape_px": [64, 72, 72], "voxel_nm": 3.6},
        "cell": {"diameter_nm": [180, 190], "axis_ratio": [1.0, 1.1]},
        "machines": {"number": [2]},
        "decoys": {"number": 2},
        "microscope": {"mode": "fast"},
    },
    "parts": {
        "train": {"use": "train", "count": 1},
        "test": {"use": "test", "count": 2, "settings": {"machines": {"number": [0]}}},
    },
    "tasks": {
        "membrane": {"kind": "semantic", "classes": ["background", "membrane"]},
        "t3ss": {"kind": "detection", "membrane": "membrane"},
    },
}


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """A folder of one small set in place of the shipped ones."""
    folder = tmp_path / "sets"
    folder.mkdir()
    write(folder, TINY)
    for function in (benchmarks.names, benchmarks.read, benchmarks.frozen,
                     benchmarks.freeze, benchmarks.state):  # fmt: skip
        monkeypatch.setattr(function, "__defaults__", (folder,))
    return folder


def write(folder, said):
    (folder / "tiny.yaml").write_text(yaml.safe_dump(said, sort_keys=False))


def machines(found, use):
    """Count the machines of a set from its seeds: the draw of `sites.in_envelope`."""
    return sum(
        int(
            volumes.random(found.seed, volume.name, "machines").choice(
                volume.settings["machines"]["number"]
            )
        )
        for volume in found.volumes
        if volume.use == use
    )


# -- the shipped sets ------------------------------------------------------------------


def test_the_sets_are_there():
    assert benchmarks.names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_set_is_as_it_was_frozen(name):
    """A set that must change gets a new name; `benchmark freeze` is for new ones."""
    found = benchmarks.read(name)
    assert benchmarks.frozen()[name]["definition"] == found.definition
    assert benchmarks.state(found) in ("frozen", "code changed")


@pytest.mark.parametrize("name", NAMES)
def test_names_are_unique_and_every_use_is_there(name):
    found = benchmarks.read(name)
    names = [volume.name for volume in found.volumes]
    assert len(set(names)) == len(names)
    assert {volume.use for volume in found.volumes} == {"train", "validate", "test"}


@pytest.mark.parametrize("name", ["implant-small", "implant-full"])
def test_a_specimen_has_one_use(name):
    found = benchmarks.read(name)
    uses: dict[str, set[str]] = {}
    for volume in found.volumes:
        specimen = volume.settings["corrosion"]["specimen"] or volume.name
        uses.setdefault(specimen, set()).add(volume.use)
    assert all(len(use) == 1 for use in uses.values())


@pytest.mark.parametrize("name", ["implant-small", "implant-full"])
def test_the_time_series_shows_one_specimen_at_three_times(name):
    found = benchmarks.read(name)
    weeks: dict[str, list[float]] = {}
    for volume in found.volumes:
        if specimen := volume.settings["corrosion"]["specimen"]:
            weeks.setdefault(specimen, []).append(volume.settings["corrosion"]["weeks"])
    assert set(weeks) == {"series-001", "series-002", "series-003"}
    assert all(sorted(times) == [4, 8, 12] for times in weeks.values())


@pytest.mark.parametrize("name", ["implant-small", "implant-full"])
def test_every_level_has_volumes_of_every_use(name):
    found = benchmarks.read(name)
    both = {(one.settings["material"]["level"], one.use) for one in found.volumes}
    levels = ("easy", "paper-like", "hard")
    assert both == {(lv, use) for lv in levels for use in ("train", "validate", "test")}


def test_minicell_small_is_what_was_asked_for():
    found = benchmarks.read("minicell-small")
    uses = [volume.use for volume in found.volumes]
    assert [uses.count(use) for use in ("train", "validate", "test")] == [40, 10, 200]
    settings = found.volumes[0].settings
    assert settings["field"]["shape_px"] == [224, 320, 320]
    assert settings["field"]["voxel_nm"] == 1.8
    assert settings["cell"]["diameter_nm"] == [200, 300]
    assert settings["microscope"]["mode"] == "full"


def test_minicell_small_has_machines_enough():
    found = benchmarks.read("minicell-small")
    assert machines(found, "test") >= 300


@pytest.mark.parametrize("name", [name for name in NAMES if "implant" not in name])
def test_cells_hold_none_to_three_machines_and_two_of_five_hold_none(name):
    number = benchmarks.read(name).volumes[0].settings["machines"]["number"]
    assert set(number) == {0, 1, 2, 3}
    assert number.count(0) / len(number) == pytest.approx(0.4)


def test_the_other_camera_differs_in_what_it_sees_alone():
    small, camera = (
        benchmarks.read(name).volumes[0].settings
        for name in ("minicell-small", "minicell-camera")
    )
    assert camera["field"]["voxel_nm"] == 1.35
    assert camera["microscope"]["tilt_max_deg"] == 60
    assert camera["microscope"]["defocus_um"] == 3
    assert camera["microscope"]["mtf_nyquist"] != small["microscope"]["mtf_nyquist"]
    assert camera["decoys"] == small["decoys"]
    assert camera["cell"] == small["cell"]


def test_the_complex_is_another_machine():
    assert benchmarks.read("complex").volumes[0].settings["machines"]["kind"] == "motor"


def test_full_cells_are_rods_and_denser():
    cell = benchmarks.read("fullcell").volumes[0].settings["cell"]
    other = benchmarks.read("minicell-small").volumes[0].settings["cell"]
    assert cell["shape"] == "rod"
    assert cell["diameter_nm"] == [500, 800]
    assert cell["cytosol_share"] > other["cytosol_share"]


@pytest.mark.slow
def test_what_is_counted_from_seeds_is_what_is_made(tmp_path):
    found = benchmarks.read("minicell-small")
    volume = found.volume("test-001")
    expected = volumes.random(found.seed, "test-001", "machines").choice(
        volume.settings["machines"]["number"]
    )
    benchmarks.make(found, volume, tmp_path)
    facts = json.loads((tmp_path / "test-001.json").read_text())
    assert facts["counts"].get("t3ss", 0) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if "implant" not in name])
def test_every_cell_fits_into_its_field_and_its_sites_onto_it(name):
    found = benchmarks.read(name)
    for volume in found.volumes:
        full = scene.settings_of(volume.settings)
        size_nm = np.array(full["field"].shape_px) * full["field"].voxel_nm
        envelope = draw(found.seed, volume.name, full["cell"], size_nm=size_nm)
        _, standing = sites.in_envelope(
            found.seed, volume.name, envelope, full["machines"], full["decoys"], size_nm
        )
        assert len(standing) >= full["decoys"].number


# -- freezing ------------------------------------------------------------------------------


def test_a_new_set_is_not_frozen_until_it_is(sets):
    assert benchmarks.state(benchmarks.read("tiny")) == "not frozen"
    assert command.main(["benchmark", "freeze", "tiny"]) == 0
    assert benchmarks.state(benchmarks.read("tiny")) == "frozen"


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 8},
        {"settings": {**TINY["settings"], "decoys": {"number": 3}}},
        {"parts": {"train": TINY["parts"]["train"]}},
        {"parts": {**TINY["parts"], "test": {"use": "validate", "count": 2}}},
        {"parts": {**TINY["parts"], "more": {"use": "train", "count": 1}}},
    ],
)
def test_whatever_changes_a_volume_breaks_the_freeze(sets, change):
    benchmarks.freeze(["tiny"])
    write(sets, {**TINY, **change})
    assert benchmarks.state(benchmarks.read("tiny")) == "definition changed"


def test_words_and_tasks_are_no_part_of_the_definition(sets):
    benchmarks.freeze(["tiny"])
    write(sets, {**TINY, "description": "Other words.", "tasks": {}})
    assert benchmarks.state(benchmarks.read("tiny")) == "frozen"


def test_a_default_of_the_schema_is_part_of_the_definition(sets, monkeypatch):
    before = benchmarks.read("tiny").definition
    filled = benchmarks.config.filled

    def other(block, schema, *rest):
        full = filled(block, schema, *rest)
        if schema == "phantom-minicell":
            full["microscope"]["voltage_kv"] = 200.0
        return full

    monkeypatch.setattr(benchmarks.config, "filled", other)
    assert benchmarks.read("tiny").definition != before


def test_other_code_is_told(sets, monkeypatch):
    benchmarks.freeze(["tiny"])
    monkeypatch.setattr(benchmarks, "code", lambda phantom: "other")
    assert benchmarks.state(benchmarks.read("tiny")) == "code changed"


def test_freezing_one_set_leaves_the_others(sets):
    shutil.copy(sets / "tiny.yaml", sets / "second.yaml")
    benchmarks.freeze(["tiny"])
    before = benchmarks.frozen()["tiny"]
    write(sets, {**TINY, "seed": 9})
    benchmarks.freeze(["second"])
    assert benchmarks.frozen()["tiny"] == before
    assert set(benchmarks.frozen()) == {"second", "tiny"}


# -- making ------------------------------------------------------------------------------


def test_a_volume_is_made_from_its_seed_and_says_of_which_set(sets, tmp_path, capsys):
    benchmarks.freeze(["tiny"])
    assert command.main(["benchmark", "make", "tiny", "test-002", str(tmp_path / "o")]) == 0
    capsys.readouterr()
    facts = json.loads((tmp_path / "o" / "test-002.json").read_text())
    found = benchmarks.read("tiny")
    assert facts["benchmark"] == {
        "set": "tiny", "use": "test", "state": "frozen", "definition": found.definition
    }  # fmt: skip
    assert (facts["seed"], facts["name"]) == (7, "test-002")
    assert facts["settings"] == found.volume("test-002").settings
    words = ["--seed", "7", "--name", "test-002", str(tmp_path / "p"), "--set"]
    flat = [
        f"{group}.{key}={json.dumps(value)}"
        for group, block in facts["settings"].items()
        for key, value in block.items()
    ]
    assert command.main(["simulate", "minicell", *words, *flat]) == 0
    for part in ("volume", "labels", "points", "picks"):
        one, two = (
            files.paths("minicell", tmp_path / folder, "test-002")[part] for folder in "op"
        )
        assert one.read_bytes() == two.read_bytes(), part


def test_what_is_made_is_not_made_again(sets, tmp_path, monkeypatch):
    found = benchmarks.read("tiny")
    volume = found.volume("test-001")
    benchmarks.make(found, volume, tmp_path)
    monkeypatch.setattr(benchmarks.phantoms, "make", lambda *_, **__: 1 / 0)
    assert benchmarks.make(found, volume, tmp_path)


def test_a_volume_of_another_definition_is_not_taken_for_it(sets, tmp_path, capsys):
    found = benchmarks.read("tiny")
    benchmarks.make(found, found.volume("test-001"), tmp_path)
    write(sets, {**TINY, "seed": 8})
    assert command.main(["benchmark", "make", "tiny", "test-001", str(tmp_path)]) == 3
    assert "add --force" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["make", "tinny", "out"], "expected one of the sets tiny, found 'tinny'"),
        (["make", "tiny", "test-003", "out"], "expected a volume such as train-001 or"),
        (["list", "none"], "expected one of the sets tiny"),
        (["freeze", "none"], "expected one of the sets tiny"),
    ],
)
def test_unknown_names_are_told_in_one_line(sets, words, said, capsys):
    assert command.main(["benchmark", *words]) == 3
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"phantom": "screw"}, "phantom: expected one of implant, minicell"),
        ({"settings": {"feild": {}}}, "feild: unknown key, did you mean 'field'?"),
        ({"sede": 1}, "sede: unknown key, did you mean 'seed'?"),
    ],
)
def test_mistakes_in_a_set_name_the_key(sets, change, said):
    write(sets, {**TINY, **change})
    with pytest.raises(Refused, match=r"tiny\.yaml: ") as refusal:
        benchmarks.read("tiny")
    assert said in str(refusal.value)


def test_the_list_tells_sets_and_volumes(sets, capsys):
    command.main(["benchmark", "list"])
    assert capsys.readouterr().out == (
        "tiny\t1 train, 2 test\tnot frozen\tA set of two volumes.\n"
    )
    command.main(["benchmark", "list", "tiny"])
    told = capsys.readouterr().out.splitlines()
    assert told == ["train-001\ttrain", "test-001\ttest", "test-002\ttest"]


# -- studies -------------------------------------------------------------------------------


@pytest.fixture
def made(sets, tmp_path):
    assert command.main(["benchmark", "study", "tiny", str(tmp_path / "study")]) == 0
    return study.read(tmp_path / "study")


def test_a_study_of_a_set_asks_for_the_same_volumes(sets, made):
    found = benchmarks.read("tiny")
    assert made.config["seed"] == found.seed
    for volume in found.volumes:
        assert made.simulated()[volume.name]["settings"] == volume.settings
        assert made.row(volume.name)["path"].endswith(f"minicell/{volume.name}.mrc")


def test_a_study_keeps_the_uses_and_learns_from_picks(made):
    rows = {(row["task"], row["volume"]): row for row in made.labels}
    assert rows["t3ss", "train-001"]["path"].endswith("train-001.picks.csv")
    assert rows["t3ss", "test-001"]["path"].endswith("test-001.points.csv")
    assert rows["membrane", "test-002"]["path"].endswith("test-002.membranes.mrc")
    assert {row["use"] for row in made.labels if row["volume"][:4] == "test"} == {"test"}


def test_a_study_that_is_there_stays(made, capsys):
    before = provenance.sha256_of(made.root)
    assert command.main(["benchmark", "study", "tiny", str(made.root)]) == 3
    assert "expected a new folder" in capsys.readouterr().err
    assert provenance.sha256_of(made.root) == before


@pytest.mark.parametrize("name", ["minicell-small", "implant-small"])
def test_the_shipped_studies_are_valid(name, tmp_path):
    found = benchmarks.read(name)
    benchmarks.write_study(found, tmp_path / "study")
    made = study.read(tmp_path / "study")
    assert len(made.volumes) == len(found.volumes)
    assert made.tasks
