"""What is passed on does not tell where it was made."""

import json

import pytest

from tomoglean import discretion, keys, provenance
from tomoglean.discretion import hide, hide_all, known_in, reveal

PRIVATE = [
    "/home/ann/scan.mrc",
    "/home/ann smith/my data/scan.mrc",
    "~/scan.mrc",
    "file:///home/ann/scan.mrc",
    "/asap3/p06/2026/ann/raw",
    "/tmp",
]
PLAIN = [
    "raw/scan.mrc",
    "results/simulated/implant/a.tif",
    "$DATA/scan.mrc",
    "https://example.org/home/ann/page",
    "https://example.org:8080/home/ann/page",
    "ni:///sha-256;ab/c",
    "3/4 of all",
    "membrane,t3ss",
    "/",
    "",
]


@pytest.mark.parametrize("path", PRIVATE)
def test_of_a_path_outside_the_last_name_stays(path):
    told = hide(path)
    assert told.startswith("outside-")
    assert told.endswith(path.rsplit("/", 1)[-1])
    assert "ann" not in told.replace("scan", "")


@pytest.mark.parametrize("text", PLAIN)
def test_what_tells_no_folder_stays(text):
    assert hide(text) == text


@pytest.mark.parametrize(
    "before", ["", "no such file: ", "cannot read '", "at file://", "x:", "n="]
)
def test_paths_are_found_within_words(before):
    told = hide(f"{before}/home/ann/a.mrc: cut short")
    assert "home" not in told
    assert told.endswith(": cut short")


def test_folders_with_blanks_are_found_within_words():
    told = hide("no such file: /home/ann smith/a b.mrc: cut short")
    assert "ann" not in told
    assert "smith" not in told


def test_hiding_twice_changes_nothing_more():
    assert hide(hide(PRIVATE[0])) == hide(PRIVATE[0])


def test_other_paths_of_the_same_name_stay_apart():
    assert hide("/a/scan.mrc") != hide("/b/scan.mrc")


def test_nested_values_are_hidden_but_not_places_within_a_file():
    value = {"rows": [{"path": "/x/a.h5", "dataset": "/entry/data"}], "/x/a.h5": 1}
    told = hide_all(value)
    assert "/x/" not in json.dumps(told)
    assert told["rows"][0]["dataset"] == "/entry/data"


def study_naming(folder, path):
    (folder / "config").mkdir()
    (folder / "config" / "volumes.tsv").write_text(f"volume\tpath\na\t{path}\n")
    (folder / "config" / "config.yaml").write_text("start: {from: '/w/old.h5'}\n")
    return folder


@pytest.mark.parametrize("path", ["/data of ann/a.mrc", "$SCANS/a.mrc"])
def test_who_knows_the_path_finds_it_again(tmp_path, monkeypatch, path):
    monkeypatch.setenv("SCANS", "/data of ann")
    value = {"row": {"path": path}, "input": ["/data of ann/a.mrc"], "w": "/w/old.h5"}
    known = known_in(study_naming(tmp_path, path))
    assert reveal(hide_all(value), known) == value


def test_paths_taken_up_without_a_row_are_known_by_their_hashes(tmp_path):
    folder = study_naming(tmp_path, "raw/a.mrc")
    provenance.write_json({"/arrivals/b.mrc": {}}, folder / ".tomoglean/sha256.json")
    assert known_in(folder)[hide("/arrivals/b.mrc")] == "/arrivals/b.mrc"


def test_snakemake_gets_the_true_paths_back(tmp_path):
    folder = study_naming(tmp_path, "/data of ann/a.mrc")
    settings, inputs = {"row": {"path": "/data of ann/a.mrc"}}, {"/data of ann/a.mrc": None}
    record = {"artefact": "checked/a.json", "rule": "check", "key": "k", "code": "c"}
    hidden = discretion.hide_all({**record, "settings": settings, "inputs": inputs})
    provenance.write_json(hidden, folder / "results/provenance/checked/a.json.json")
    provenance.write_json({}, folder / "results/checked/a.json")
    assert keys.restore(folder) == 1
    text = next((folder / ".snakemake/metadata").iterdir()).read_text()
    metadata = json.loads(text)
    assert metadata["input"] == ["/data of ann/a.mrc"]
    assert metadata["params"] == sorted([repr(settings["row"]), repr("c")])
