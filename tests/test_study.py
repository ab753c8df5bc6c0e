"""Tables, rounds and folds of a study."""

import pytest
import yaml

from tomoglean import preflight, study
from tomoglean.provenance import Refused

VOLUMES = "volume\ttasks\tpath\tvoxel_nm\n"
LABELS = "task\tvolume\tkind\tuse\tpath\tslices\tunit\n"
BONE = {"kind": "semantic", "classes": ["background", "bone"]}


@pytest.fixture
def make(tmp_path):
    def build(volumes, labels=(), *, bone=None, arrivals=(), **tasks):
        folder = tmp_path / "config"
        folder.mkdir(exist_ok=True)
        config = {"tasks": {"bone": {**BONE, **(bone or {})}, **tasks}}
        config["arrivals"] = list(arrivals)
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        (folder / "volumes.tsv").write_text(VOLUMES + lines(volumes))
        (folder / "labels.tsv").write_text(LABELS + lines(labels))
        for name in ("a", "b", "c", "d"):
            (tmp_path / f"{name}.tif").touch()
        return study.read(tmp_path)

    return build


def lines(rows):
    return "".join("\t".join(row) + "\n" for row in rows)


def volume(name, tasks="bone"):
    return (name, tasks, f"{name[0]}.tif", "5000")


def label(name, kind="weak", use="train", task="bone", slices="", unit=""):
    return (task, name, kind, use, f"{name[0]}.tif", slices, unit)


WEAK = [label("a"), label("b"), label("c")]
THREE = [volume("a"), volume("b"), volume("c")]


def test_row_order_changes_nothing(make):
    rows = [*THREE, volume("d")]
    one = make(rows, [*WEAK, label("d", "clean", "test")])
    two = make(rows[::-1], [label("d", "clean", "test"), *WEAK[::-1]])
    assert (one.volumes, one.labels) == (two.volumes, two.labels)
    assert [one.fold("bone", v) for v in "abc"] == [two.fold("bone", v) for v in "abc"]


def test_both_folds_are_used(make):
    found = make(THREE, WEAK)
    assert {found.fold("bone", v) for v in "abc"} == {0, 1}


def test_no_volume_is_relabelled_by_a_net_that_saw_its_weak_labels(make):
    found = make(THREE, WEAK)
    for name in "abc":
        round_ = f"weak-{found.fold('bone', name)}"
        assert name not in found.examples("bone", round_, "train")


def test_weak_labels_make_all_rounds(make):
    assert make(THREE, WEAK).rounds("bone") == ["weak", "weak-0", "weak-1", "final"]


def test_clean_labels_alone_make_only_the_final_round(make):
    found = make([volume("a")], [label("a", "clean")])
    assert found.rounds("bone") == ["final"]
    assert found.kinds("bone", "final", "a", "train") == ["clean"]


def test_the_final_round_lays_corrections_over_relabelled(make):
    found = make(THREE, [*WEAK, label("a", "clean")])
    assert found.kinds("bone", "final", "a", "train") == ["relabelled", "clean"]
    assert found.kinds("bone", "final", "b", "train") == ["relabelled"]
    assert found.kinds("bone", "weak", "a", "train") == ["weak"]


def test_a_control_trains_on_the_labels_it_names(make):
    bone = {"controls": {"corrected": {"labels": ["clean"]}}}
    found = make(THREE, [*WEAK, label("a", "clean")], bone=bone)
    assert found.examples("bone", "control-corrected", "train") == ["a"]


def test_truth_of_a_training_volume_serves_only_controls(make):
    found = make([volume("a")], [label("a", "clean"), label("a", "truth")])
    assert found.kinds("bone", "final", "a", "train") == ["clean"]


def test_cross_validation_keeps_test_and_stopping_slices_out_of_training(make):
    bone = {"split": "within-volume", "cross_validation": 6}
    rows = [label("a", "clean", slices="0,50,100,150,200,250")]
    found = make([volume("a")], rows, bone=bone)
    tested = []
    for fold in range(6):
        parts = {
            use: found.keep("bone", f"final-{fold}", use)
            for use in ("train", "validate", "test")
        }
        assert sorted(z for part in parts.values() for z in part) == [
            0,
            50,
            100,
            150,
            200,
            250,
        ]
        tested += parts["test"]
    assert sorted(tested) == [0, 50, 100, 150, 200, 250]


def test_slice_ranges():
    assert study.slice_numbers("0-2,7") == [0, 1, 2, 7]
    assert study.slice_numbers("") == []


@pytest.mark.parametrize(
    ("volumes", "labels", "words"),
    [
        ([volume("a"), volume("a")], [], ["'a'", "twice"]),
        ([("../x", "bone", "a.tif", "")], [], ["volumes.tsv, line 2", "../x", "the TABs"]),
        ([("a", "bones", "a.tif", "")], [], ["unknown task 'bones'", "known: bone"]),
        ([("a", "bone", "nowhere.tif", "")], [], ["nowhere.tif", "no such file"]),
        ([("a", "bone", "$NOT_SET_HERE/a.tif", "")], [], ["environment variable"]),
        ([("a", "bone", "a.tif", "5 um")], [], ["voxel_nm", "5 um"]),
        (
            [("a", "bone", "results/simulated/implant/a.tif", "")],
            [],
            ["simulated volume 'a'"],
        ),
        ([volume("a")], [label("b")], ["unknown volume 'b'", "known: a"]),
        ([volume("a")], [label("a", task="bon")], ["unknown task 'bon'"]),
        ([volume("a")], [label("a"), label("a")], ["a: expected each row once"]),
        ([volume("a")], [label("a", "weka")], ["kind", "weka"]),
        ([volume("a")], [label("a", "points")], ["kind", "weak, clean or truth"]),
        (
            [volume("a")],
            [label("a"), label("a", "clean", "test")],
            ["one use", "within-volume"],
        ),
    ],
)
def test_a_mistake_in_a_table_is_one_line(make, volumes, labels, words):
    with pytest.raises(Refused) as caught:
        make(volumes, labels)
    message = str(caught.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize("name", ["007", "NA", "1e5", "None", "true"])
def test_ids_stay_text(make, tmp_path, name):
    found = make([(name, "bone", "a.tif", "")])
    assert found.volumes[0]["volume"] == name


@pytest.mark.parametrize("key", ["weeks", "initial_volume_mm3", "initial_area_mm2"])
def test_a_quantity_of_no_volume_is_refused(make, key):
    with pytest.raises(Refused, match=f"measure.{key}: unknown volume 'z'; known: a"):
        make([volume("a")], bone={"measure": {key: {"a": 1, "z": 2}}})


def test_a_quantity_of_a_volume_that_may_arrive_is_taken(make):
    settings = {"measure": {"weeks": {"z": 2}}}
    incoming = [{"folder": ".", "pattern": "*.mrc", "tasks": ["bone"]}]
    assert make([volume("a")], bone=settings, arrivals=incoming).volumes_of("bone") == ["a"]


@pytest.mark.parametrize(
    ("train", "test", "words"), [("0-5", "5-9", "slice 5"), ("0-5", "", "empty")]
)
def test_a_slice_has_one_use(make, train, test, words):
    rows = [label("a", "clean", slices=train), label("a", "clean", "test", slices=test)]
    with pytest.raises(Refused, match=words):
        make([volume("a")], rows, bone={"split": "within-volume"})


def test_a_control_named_like_a_round_changes_nothing_of_that_round(make):
    bone = {"controls": {"final": {"labels": ["truth"], "train": {"epochs": 99}}}}
    found = make([volume("a")], [label("a", "clean"), label("a", "truth")], bone=bone)
    assert found.kinds("bone", "final", "a", "train") == ["clean"]
    assert found.kinds("bone", "control-final", "a", "train") == ["truth"]


@pytest.mark.parametrize(
    ("uses", "said"),
    [
        ([], ["bone: no row of labels.tsv is for train"]),
        (["test"], ["bone: no row of labels.tsv is for train"]),
        (["train"], ["bone: no row of labels.tsv is for test"]),
        (["train", "validate"], ["bone: no row of labels.tsv is for test"]),
        (["train", "test"], []),
    ],
)
def test_the_check_says_which_labels_nobody_gave(make, uses, said):
    labels = [label(name, "clean", use) for name, use in zip("abc", uses, strict=False)]
    lines = list(preflight.without_labels(make(THREE, labels)))
    assert [line[: len(words)] for line, words in zip(lines, said, strict=True)] == said


def test_the_check_asks_for_no_test_where_folds_take_turns(make):
    found = make(
        [volume("a")],
        [label("a", "clean", slices="0-5")],
        bone={"split": "within-volume", "cross_validation": 3},
    )
    assert list(preflight.without_labels(found)) == []
