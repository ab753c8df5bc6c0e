"""`python -m tomoglean simulate`: settings from words, files, refusals of one line."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tomoglean import __main__ as command
from tomoglean import config, phantoms, reference
from tomoglean.formats import stored
from tomoglean.plan import Plan
from tomoglean.provenance import Refused
from tomoglean.simulators import files, implant, making
from tomoglean.simulators.implant import Implant
from tomoglean.study import Study
from workflow import ROOT

IMPLANT = (
    *("field.shape_px=[16, 48, 48]", "field.voxel_um=10"),
    *("scan.projections=40", "labels.corrected_slices=1"),
)
MINICELL = (
    *("field.shape_px=[64, 72, 72]", "field.voxel_nm=3.6", "machines.number=[2]"),
    *("cell.diameter_nm=[180, 190]", "cell.axis_ratio=[1.0, 1.1]", "decoys.number=2"),
    "microscope.mode=fast",
)
WORDS = {"implant": IMPLANT, "minicell": MINICELL}
BOTH = pytest.mark.parametrize("phantom", ["implant", "minicell"])


def simulate(phantom, folder, *more, words=None):
    words = WORDS[phantom] if words is None else words
    asked = [phantom, "--seed", "1", "--name", "a", *more, "--set", *words]
    return command.main(["simulate", *asked, str(folder)])


@pytest.fixture(scope="module", params=["implant", "minicell"])
def made(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    assert simulate(request.param, folder) == 0
    return request.param, folder, files.paths(request.param, folder, "a")


# -- settings from words ---------------------------------------------------------------


def test_dots_make_groups():
    found = phantoms.settings_from(["scan.photons=20000", "scan.mode=image", "a.b=[1, 2]"])
    assert found == {"scan": {"photons": 20000, "mode": "image"}, "a": {"b": [1, 2]}}


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e5", 1e5), ("null", None), ("true", True), ("paper-like", "paper-like"),
     ("0.1", 0.1), ("[1, 2.5]", [1, 2.5])],
)  # fmt: skip
def test_values_are_yaml_and_powers_of_ten_are_numbers(text, value):
    assert phantoms.settings_from([f"a.b={text}"]) == {"a": {"b": value}}


@pytest.mark.parametrize(
    "word", ["photons", "=1", "scan.=1", ".photons=1", "scan..photons=1"]
)
def test_words_that_are_no_settings_are_refused(word):
    with pytest.raises(Refused, match="expected --set GROUP"):
        phantoms.settings_from([word])


def test_a_key_given_twice_is_refused():
    with pytest.raises(Refused, match=r"a\.b: expected once, found twice"):
        phantoms.settings_from(["a.b=1", "a.b=2"])


def test_a_key_that_is_no_group_is_refused():
    with pytest.raises(Refused, match=r"a\.b: expected once, found twice"):
        phantoms.settings_from(["a.b.c=1", "a.b=2"])
    with pytest.raises(Refused, match=r"a\.b\.c: expected once, found twice"):
        phantoms.settings_from(["a.b=2", "a.b.c=1"])


def test_broken_yaml_is_refused():
    with pytest.raises(Refused, match=r"a\.b: expected a YAML value, found '\[1'"):
        phantoms.settings_from(["a.b=[1"])


def test_no_code_comes_with_a_value():
    with pytest.raises(Refused, match="expected a YAML value"):
        phantoms.settings_from(["a.b=!!python/object/apply:os.getcwd []"])


# -- refusals: one line on stderr, code 3, nothing written -----------------------------


@BOTH
@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("field.shap_px=[8, 8, 8]", "field.shap_px: unknown key, did you mean 'shape_px'?"),
        ("feild.shape_px=[8, 8, 8]", "feild: unknown key, did you mean 'field'?"),
        ("field.shape_px=12", "field.shape_px: expected a list, found 12"),
        ("field.shape_px=[64, 64]", "field.shape_px: expected at least 3 items, found 2"),
        ("field.shape_px=[-1, 64, 64]", "field.shape_px.0: expected at least"),
        ("field=3", "GROUP.KEY=VALUE"),
    ],
)
def test_wrong_settings_are_told_in_one_line(phantom, word, said, tmp_path, capsys):
    assert simulate(phantom, tmp_path, words=[word]) == 3
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("pair", ["cell.diameter_nm", "cell.axis_ratio",
                                  "cell.length_nm", "cell.wall_depth_nm",
                                  "machines.gap_limits_nm"])  # fmt: skip
def test_limits_the_wrong_way_round_are_refused(pair):
    group, key = pair.split(".")
    low, high = phantoms.filled("minicell", {})[group][key]
    with pytest.raises(Refused, match=rf"{pair}: expected the lower limit first"):
        phantoms.filled("minicell", {group: {key: [high, low]}})


def test_a_map_needs_a_direction(tmp_path, capsys):
    words = [
        *MINICELL,
        "machines.kind=map",
        "machines.map=m.mrc",
        "machines.map_axis=[0,0,0]",
    ]
    assert simulate("minicell", tmp_path, words=words) == 3
    assert "machines.map_axis: expected a direction, found" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["nan", ".nan", "inf", "-.inf"])
def test_numbers_are_finite(value):
    settings = phantoms.settings_from([f"corrosion.weeks={value}"])
    with pytest.raises(Refused, match=r"corrosion\.weeks: expected a number, found"):
        phantoms.filled("implant", settings)


@BOTH
@pytest.mark.parametrize("place", ["file", "file/below", "/proc/none"])
def test_a_folder_that_cannot_be_written_is_refused_at_once(
    phantom, place, tmp_path, capsys
):
    (tmp_path / "file").write_text("mine")
    assert simulate(phantom, tmp_path / place) == 3
    told = capsys.readouterr().err
    assert "expected a folder that can be written" in told
    assert told.count("\n") == 1


@BOTH
def test_the_commands_of_the_pages_are_legal(phantom):
    """Every `--set` of the page fits the schema; what the specimen refuses is refused."""
    lines = (ROOT / "docs" / f"{phantom}.md").read_text().splitlines()
    start = "    python -m tomoglean simulate"
    commands = [line.split() for line in lines if line.startswith(start)]
    assert len(commands) > 3
    for words in commands:
        asked = [x for x in words[words.index(phantom) :] if "=" in x]
        full = phantoms.filled(phantom, phantoms.settings_from(asked))
        if phantom == "implant":
            implant._View.open(1, "a", full)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--name", "../b"), "expected a name of letters, digits, - and _"),
        (("--name", ""), "expected a name of letters, digits, - and _"),
        (("--seed", "-1"), "expected a seed of 0 to 4294967295, found -1"),
        (("--form", "beamline"), "expected --form tiff, mrc or hdf5 for a minicell"),
    ],
)
def test_wrong_words_are_told_in_one_line(more, said, tmp_path, capsys):
    assert simulate("minicell", tmp_path / "out", *more) == 3
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_what_is_there_stays(made, capsys):
    phantom, folder, paths = made
    before = {path: path.stat().st_mtime_ns for path in paths.values()}
    assert simulate(phantom, folder) == 3
    assert "add --force" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in paths.values()} == before


def test_one_file_of_the_volume_is_enough_to_refuse(tmp_path, capsys):
    (tmp_path / "a.json").write_text("mine")
    assert simulate("minicell", tmp_path) == 3
    assert "a.json: expected a new name" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_without_a_folder_the_words_are_wrong(capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(["simulate", "minicell", "--seed", "1", "--set", "a.b=1"])
    assert stopped.value.code == 2
    assert "OUT" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [["OUT", "--set", "a.b=1", "c.d=2"], ["--set", "a.b=1", "--set", "c.d=2", "OUT"],
     ["--set", "a.b=1", "c.d=2", "OUT"]],
)  # fmt: skip
def test_the_folder_may_stand_before_or_after_the_settings(words, tmp_path, monkeypatch):
    asked = {}
    monkeypatch.setattr(phantoms, "make", lambda phantom, **said: asked.update(said) or [])
    words = [str(tmp_path) if word == "OUT" else word for word in words]
    assert command.main(["simulate", "minicell", "--seed", "1", *words]) == 0
    assert asked["folder"] == tmp_path
    assert asked["settings"] == {"a": {"b": 1}, "c": {"d": 2}}


# -- what is made ----------------------------------------------------------------------


def test_every_file_is_made_and_nothing_else(made):
    _, folder, paths = made
    assert {path.name for path in folder.iterdir()} == {p.name for p in paths.values()}


def test_the_rule_makes_the_same_files(made):
    phantom, _, paths = made
    text = (ROOT / "rules" / "simulate.smk").read_text()
    for part, path in paths.items():
        name = path.name.replace("a.", "{volume}.", 1)
        assert f'{part}="results/simulated/{phantom}/{name}"' in text


def test_the_files_are_named_on_stdout_and_progress_on_stderr(tmp_path, capsys):
    assert simulate("minicell", tmp_path) == 0
    out, err = capsys.readouterr()
    paths = files.paths("minicell", tmp_path, "a")
    assert out.splitlines() == [str(path) for path in paths.values()]
    assert " s  " in err


def test_labels_lie_on_the_grid_of_the_volume(made):
    phantom, _, paths = made
    shape = tuple(phantoms.settings_from(WORDS[phantom])["field"]["shape_px"])
    for part in ("volume", "truth", "weak", "corrected", "labels", "membranes"):
        if part in paths:
            with stored.open_any(paths[part]) as source:
                assert source.shape == shape, part


def test_facts_are_json_with_all_settings(made):
    phantom, _, paths = made
    facts = json.loads(paths["facts"].read_text())
    assert facts["settings"] == phantoms.filled(
        phantom, phantoms.settings_from(WORDS[phantom])
    )
    assert (facts["seed"], facts["name"]) == (1, "a")


def test_other_threads_and_another_process_give_the_same_bytes(made, tmp_path):
    """By force, over what an older run left."""
    phantom, _, paths = made
    for path in files.paths(phantom, tmp_path, "a").values():
        path.write_text("older")
    words = [phantom, "--seed", "1", "--name", "a", "--force", "--set", *WORDS[phantom]]
    limits = {f"{name}_NUM_THREADS": "3" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")}
    subprocess.run(
        [sys.executable, "-m", "tomoglean", "simulate", *words, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, **limits},
        check=True,
        capture_output=True,
    )
    for part, path in files.paths(phantom, tmp_path, "a").items():
        assert path.read_bytes() == paths[part].read_bytes(), part


@pytest.mark.parametrize("form", ["hdf5", "mrc", "beamline"])
def test_every_form_holds_the_same_voxels(form, made, tmp_path, monkeypatch):
    """What was simulated once is written in another form."""
    phantom, _, paths = made
    if (phantom, form) == ("minicell", "beamline"):
        pytest.skip("tomograms have no beamline form")
    hand_over(monkeypatch, phantom, paths)
    assert simulate(phantom, tmp_path, "--form", form) == 0
    other = files.paths(phantom, tmp_path, "a", form)
    for part in ("volume", "truth", "labels"):
        if part in paths:
            with stored.open_any(paths[part]) as one, stored.open_any(other[part]) as two:
                whole = slice(0, one.shape[0])
                assert np.array_equal(one.read(whole), two.read(whole)), part
                assert one.voxel_nm == pytest.approx(two.voxel_nm, rel=1e-6)


def hand_over(monkeypatch, phantom, paths):
    """Give what a run wrote in place of another run of the simulator."""
    if phantom == "minicell":
        return
    parts = {}
    for part, name in {
        "volume": "image",
        **{n: n for n in ("truth", "weak", "corrected")},
    }.items():
        with stored.open_any(paths[part]) as source:
            parts[name] = source.read(slice(0, source.shape[0]))
    facts = json.loads(paths["facts"].read_text())
    monkeypatch.setattr(
        making, "simulate_implant", lambda **_: Implant(**parts, facts=facts)
    )


def test_our_check_takes_a_scan_in_the_beamline_form(made, tmp_path, monkeypatch, capsys):
    phantom, _, paths = made
    if phantom == "minicell":
        pytest.skip("tomograms have no beamline form")
    hand_over(monkeypatch, phantom, paths)
    simulate("implant", tmp_path, "--form", "beamline")
    capsys.readouterr()
    assert command.main(["check", str(tmp_path / "a")]) == 0
    said = capsys.readouterr().out
    assert "a: ok" in said
    assert "16 x 48 x 48" in said
    assert "voxel 10000 x 10000 x 10000 nm" in said
    assert "energy_ev 38000" in said


# -- schemas, pages, plan ----------------------------------------------------------------


def leaves(phantom):
    groups = config.read_schema(f"phantom-{phantom}")["properties"]
    return [(g, key, one) for g, part in groups.items()
            for key, one in part["properties"].items()]  # fmt: skip


@BOTH
def test_every_setting_has_unit_source_meaning_and_default(phantom):
    for group, key, one in leaves(phantom):
        for word in ("unit", "source", "description"):
            assert one.get(word), f"{group}.{key}: {word}"
        assert "default" in one, f"{group}.{key}"


@BOTH
def test_every_number_has_limits(phantom):
    for group, key, one in leaves(phantom):
        kinds = one.get("type", "")
        if "number" in kinds or "integer" in kinds:
            assert {"minimum", "exclusiveMinimum"} & one.keys(), f"{group}.{key}"
            assert {"maximum", "exclusiveMaximum"} & one.keys(), f"{group}.{key}"


@BOTH
def test_the_defaults_keep_to_their_own_limits(phantom):
    assert phantoms.filled(phantom, phantoms.filled(phantom, {}))


@BOTH
def test_the_page_has_a_line_for_every_setting(phantom):
    page = reference.phantom_page(phantom)
    for group, key, one in leaves(phantom):
        (line,) = [x for x in page.splitlines() if x.startswith(f"| `{group}.{key}` |")]
        assert f"| {one['unit']} |" in line


@BOTH
def test_what_a_person_wrote_stays_around_the_table(phantom):
    start, end = reference.TABLE
    page = reference.phantom_page(phantom, f"mine\n{start}\nold\n{end}\nyours\n")
    assert page.startswith(f"mine\n{start}")
    assert page.endswith(f"{end}\nyours\n")
    assert "\nold\n" not in page
    assert reference.phantom_page(phantom, page) == page


@BOTH
def test_the_committed_pages_are_those_of_today(phantom):
    page = (ROOT / "docs" / f"{phantom}.md").read_text()
    assert reference.phantom_page(phantom, page) == page


def planned(**settings):
    group = {"simulator": "minicell", "volumes": ["a"], "settings": settings}
    made = config.complete({"simulate": {"cells": group}, "tasks": {}}, "config.yaml")
    return Plan(Study(made, [], []))


class Wildcards:
    volume = "a"


def test_a_study_hands_over_filled_groups():
    found = planned(machines={"number": [2]}).simulation(Wildcards)
    assert found == phantoms.filled("minicell", {"machines": {"number": [2]}})


def test_a_study_refuses_a_wrong_setting_by_its_whole_path():
    with pytest.raises(
        Refused, match=r"simulate\.cells\.settings\.machines\.numer: unknown key"
    ):
        planned(machines={"numer": [2]})


def test_memory_is_asked_for_by_the_voxel():
    small = planned(field={"shape_px": [64, 64, 64]}).memory_to_simulate(Wildcards, 1)
    large = planned(field={"shape_px": [300, 900, 900]})
    assert small < 2000
    assert 8000 <= large.memory_to_simulate(Wildcards, 1) <= 12_000
    assert large.memory_to_simulate(Wildcards, 2) == 2 * large.memory_to_simulate(
        Wildcards, 1
    )


def test_an_error_while_simulating_leaves_no_facts(tmp_path, monkeypatch):
    """The facts are written last: they say that a volume is whole."""

    def broken(*_, **__):
        raise RuntimeError("power cut")

    monkeypatch.setattr(files, "write_codes", broken)
    with pytest.raises(RuntimeError):
        simulate("minicell", tmp_path)
    assert not (tmp_path / "a.json").exists()


def test_a_refused_specimen_leaves_no_folder(tmp_path, capsys):
    assert simulate("minicell", tmp_path / "new", words=["decoys.number=99"]) == 3
    assert "expected room for all sites" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_refused_specimen_leaves_what_was_there(tmp_path):
    (tmp_path / "kept.txt").write_text("mine")
    assert simulate("minicell", tmp_path, words=["decoys.number=99"]) == 3
    assert (tmp_path / "kept.txt").read_text() == "mine"
