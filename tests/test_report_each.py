"""Volumes are shown one by one: those kept apart at once, those trained on in a fold."""

from pathlib import Path

import pages
import pytest
from test_report import full_study

from tomoglean.report import budget, each, places, slices
from tomoglean.report.blocks import Folded, Frame, Note, Panels, Section
from tomoglean.report.sources import Source


def show(name: str) -> list[Note]:
    return [Note(name)]


def broken(name: str) -> list[Note]:
    if name == "b":
        raise OSError("torn")
    return show(name)


def test_volumes_kept_apart_are_shown_in_their_order():
    assert each.volume(["b", "a"], show) == [Note("b"), Note("a")]


def test_volumes_trained_on_lie_in_one_fold_that_names_them():
    first, fold = each.volume(["a", "b", "c"], show, ["b", "c"])
    assert first == Note("a")
    assert fold.title == "2 volumes that were trained on: b, c"
    assert fold.blocks == [Note("b"), Note("c")]


def test_one_volume_trained_on_is_one_volume():
    *_, fold = each.volume(["a", "b"], show, ["b"])
    assert fold.title == "1 volume that was trained on: b"


def test_where_all_were_trained_on_none_is_hidden():
    assert each.volume(["a", "b"], show, ["a", "b"]) == [Note("a"), Note("b")]


@pytest.mark.parametrize("trained", [[], ["b"]])
def test_a_volume_that_cannot_be_read_is_one_line(trained):
    told = str(each.volume(["a", "b"], broken, trained))
    assert "b: no pictures (OSError)." in told
    assert "torn" not in told


def test_volumes_left_out_are_named_outside_the_fold():
    names = [f"v{number}" for number in range(each.MOST_VOLUMES + 2)]
    *_, fold, note = each.volume(names, show, names[1:])
    assert len(fold.blocks) == each.MOST_VOLUMES - 1
    assert note.text.endswith("left out: v20, v21.")


@pytest.fixture
def trained(tmp_path: Path) -> Source:
    study = full_study(tmp_path)
    pages.add_trained(study)
    return Source(study)


def test_slices_of_trained_volumes_are_folded(trained):
    *kept, fold = slices.blocks(trained, "bone")
    assert [one.title for one in kept] == ["rod-1 (test)"]
    assert [one.title for one in fold.blocks] == ["rod-2 (train)", "rod-3 (train)"]


def test_what_a_fold_left_out_is_not_folded(trained):
    trained.study.tasks["bone"]["cross_validation"] = 3
    assert not any(isinstance(one, Folded) for one in slices.blocks(trained, "bone"))


def test_candidates_of_trained_volumes_are_folded(tmp_path, monkeypatch):
    uses = {"a": ["test"], "b": ["train"], "c": ["train", "validate"]}
    source = Source(full_study(tmp_path))
    monkeypatch.setattr(Source, "volumes", lambda self, task: list(uses))
    monkeypatch.setattr(Source, "uses", lambda self, task, name: uses[name])
    monkeypatch.setattr(places, "_volume", lambda source, task, name: show(name))
    found = places.pictures(source, "t3ss")
    assert found[:2] == [Note("a"), Note("c")]
    assert found[2].blocks == [Note("b")]


def test_pictures_in_a_fold_count_in_the_budget():
    uri = "data:image/webp;base64,AAAA"
    panels = Panels("b", [Frame(uri, "b", "b", 9, 9)])
    section = Section("slices", "Slices", [Folded("one", [panels])])
    assert list(budget.uris([section])) == [uri]
