"""Twenty mistakes a scientist makes: one clear line in the dry run, before any job."""

from pathlib import Path

import pytest

from tomoglean import stage, study
from tomoglean.plan import Plan
from tomoglean.provenance import Refused
from workflow import ROOT, append, edit, snakemake, write_study

CONFIG, VOLUMES, LABELS = (
    f"config/{n}" for n in ("config.yaml", "volumes.tsv", "labels.tsv")
)


def swap(name, old, new):
    return lambda folder: edit(folder / name, old, new)


def row(name, *cells):
    return lambda folder: append(folder / name, cells)


MISTAKES = {
    "typo": (swap(CONFIG, "membrane: membrane", "membrain: membrane"), "membrain"),
    "wrong type": (row(CONFIG, "seed: many"), "seed"),
    "number as text": (row(CONFIG, "seed: 1e3"), "seed"),
    "out of range": (row(CONFIG, "seed: -4"), "at least 0"),
    "duplicate key": (row(CONFIG, "seed: 1\nseed: 2"), "twice"),
    "unknown kind": (swap(CONFIG, "kind: detection", "kind: detecting"), "detecting"),
    "no such membrane task": (swap(CONFIG, "membrane: membrane", "membrane: bon"), "'bon'"),
    "not YAML": (row(CONFIG, "seed: ["), "not valid YAML"),
    "unknown task": (row(VOLUMES, "x", "bones", "raw/a.mrc", "5"), "'bones'"),
    "missing file": (row(VOLUMES, "x", "bone", "raw/none.mrc", "5"), "raw/none.mrc"),
    "duplicate id": (row(VOLUMES, "a", "bone", "raw/a.mrc", "5"), "'a' stands twice"),
    "id ../x": (row(VOLUMES, "../x", "bone", "raw/a.mrc", "5"), "../x"),
    "id with a space": (row(VOLUMES, "x y", "bone", "raw/a.mrc", "5"), "x y"),
    "id with shell": (row(VOLUMES, "$(id)", "bone", "raw/a.mrc", "5"), "$(id)"),
    "voxel with unit": (row(VOLUMES, "x", "bone", "raw/a.mrc", "5 um"), "5 um"),
    "voxel with a decimal comma": (
        row(VOLUMES, "x", "bone", "raw/a.mrc", "2,4"),
        "points for decimals",
    ),
    "no task": (row(VOLUMES, "x", "", "raw/a.mrc", "5"), "expected tasks that look at"),
    "ragged row": (row(VOLUMES, "x", "bone"), "volumes.tsv"),
    "variable not set": (
        row(VOLUMES, "x", "bone", "$NOWHERE_AT_ALL/x.mrc", "5"),
        "NOWHERE",
    ),
    "label of no volume": (
        row(LABELS, "bone", "zz", "weak", "train", "raw/a.mrc", ""),
        "'zz'",
    ),
    "label of unknown kind": (
        row(LABELS, "bone", "a", "good", "train", "raw/a.mrc", ""),
        "good",
    ),
    "two uses": (row(LABELS, "bone", "a", "clean", "test", "raw/a.mrc", ""), "one use"),
    "points without unit": (
        row(LABELS, "t3ss", "v", "points", "test", "raw/t3ss-v-points.csv", ""),
        "unit",
    ),
    "network of another kind": (
        swap(
            CONFIG, "membrane: membrane", "membrane: membrane\n    train: {network: unet}"
        ),
        "lenet5_modified",
    ),
    "too few weak volumes for the folds": (
        swap(CONFIG, "kind: semantic", "kind: semantic\n    folds: 3"),
        "3 folds",
    ),
    "search in a membrane trained on the test": (
        swap(LABELS, "t3ss\tu\tpoints\ttrain", "t3ss\tu\tpoints\ttest"),
        "one of the two",
    ),
    "older weights that are not there": (
        swap(
            CONFIG,
            "membrane: membrane",
            "membrane: membrane\n    train: {start_from: no.h5}",
        ),
        "no.h5",
    ),
    "a row pasted with blanks for TABs": (
        lambda folder: append(folder / VOLUMES, ["x  bone  raw/a.mrc  5"]),
        "found blanks",
    ),
    "a TAB too few": (row(VOLUMES, "x", "bone raw/a.mrc", "5"), "the TABs before it"),
    "column of no table": (swap(VOLUMES, "voxel_nm", "voxel"), "voxel"),
}
QUICK = {"typo", "id ../x", "missing file"}
CASES = [
    pytest.param(*MISTAKES[name], id=name, marks=[] if name in QUICK else pytest.mark.slow)
    for name in MISTAKES
]


@pytest.mark.parametrize(("mistake", "words"), CASES)
def test_a_mistake_is_one_line_before_any_job(tmp_path, mistake, words):
    folder = write_study(tmp_path / "study")
    mistake(folder)
    done = snakemake(ROOT, folder, "-n")
    said = [line for line in done.stderr.splitlines() if "profile" not in line]
    assert done.returncode == 1
    assert len(said) == 1, done.stderr
    assert said[0].startswith("tomoglean: config/")
    assert words in said[0]
    assert not (folder / "results").exists()


@pytest.mark.parametrize(("mistake", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_refused_by_the_reader(tmp_path, monkeypatch, mistake, words):
    folder = write_study(tmp_path / "study")
    mistake(folder)
    monkeypatch.chdir(folder)
    with pytest.raises(Refused) as caught:
        study.read(Path())
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["007", "NA", "1e5", "None"])
def test_ids_that_look_like_numbers_are_ids(tmp_path, name):
    folder = write_study(tmp_path / "study")
    append(folder / VOLUMES, (name, "bone", "raw/a.mrc", "5"))
    done = snakemake(ROOT, folder, "-n", f"results/checked/{name}.json")
    assert done.returncode == 0, done.stderr
    assert f"wildcards: volume={name}" in done.stdout + done.stderr


def test_an_empty_study_says_what_to_fill_in(tmp_path):
    folder = write_study(tmp_path / "study")
    for table in (VOLUMES, LABELS):
        head = (folder / table).read_text().splitlines()[0]
        (folder / table).write_text(head + "\n")
    done = snakemake(ROOT, folder, "-n")
    assert done.returncode == 0
    assert "holds no volume yet" in done.stderr


def test_a_typo_in_a_target_gets_the_name_that_was_meant(tmp_path):
    folder = write_study(tmp_path / "study")
    done = snakemake(ROOT, folder, "-n", "bone_segmnt")
    assert done.returncode == 1
    line = "tomoglean: bone_segmnt: no target; did you mean bone_segment?"
    assert line in done.stderr.splitlines()


@pytest.mark.parametrize(
    "words",
    [["bone_train"], ["-R", "segment"], ["--profile", "slurm"], ["results/checked/a.json"]],
)
def test_words_that_are_no_typo_get_no_hint(tmp_path, capsys, words):
    read = study.read(write_study(tmp_path / "study"))
    stage._hint_at_typos(Plan(read), ["--cores", "all", *words])
    assert capsys.readouterr().err == ""
