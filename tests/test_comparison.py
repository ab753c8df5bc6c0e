"""Two runs side by side: what differs is told, what is equal says so, names are text."""

import csv
import hashlib
import json
import shutil
from html.parser import HTMLParser

import pytest
import yaml

from tomoglean import __main__ as command
from tomoglean import provenance
from tomoglean.provenance import Refused
from tomoglean.report import comparison, runs
from tomoglean.report.comparison import Difference, differences

CONFIG = {
    "tasks": {
        "bone": {"kind": "semantic", "classes": ["background", "bone", "metal"]},
        "cell": {"kind": "semantic", "classes": ["background", "membrane"]},
        "t3ss": {"kind": "detection", "membrane": "cell", "pick": {"threshold": 0.5}},
    }
}
NASTY = '"><script>alert(1)</script>{{7*7}}'


def make_study(root, **changes):
    """Make a study with figures, records and checks; nothing of it is real."""
    (root / "config").mkdir(parents=True)
    (root / "config/config.yaml").write_text(yaml.safe_dump(CONFIG))
    (root / "config/volumes.tsv").write_text(
        "volume\ttasks\tpath\nrod-1\tbone\t/home/ann/raw/rod-1.mrc\n"
        "cell-1\tcell,t3ss\traw/cell-1.mrc\n"
    )
    (root / "config/labels.tsv").write_text(
        "task\tvolume\tkind\tuse\tpath\nbone\trod-1\tclean\ttest\traw/l.mrc\n"
    )
    results = root / "results"
    summary = {
        "use": "test",
        "volumes": ["rod-1"],
        "mean_iou": {"final": 0.81, "otsu": 0.4},
        "best_baseline": {"method": "otsu", "mean_iou": 0.4},
    }
    provenance.write_json(summary, results / "evaluated/bone/summary.json")
    headline = {"fp_per_tp": 1.0, "recall": 0.5, "tp": 4, "fp": 4}
    provenance.write_json(
        {"use": "test", "headline": headline}, results / "evaluated/t3ss/summary.json"
    )
    provenance.write_text("numpy==2.4.6", results / "crate/envs/cpu.lock.txt")
    provenance.write_json({"bone_mm3": 2.5}, results / "measured/bone/rod-1.json")
    for rule, code in (("train", "a" * 64), ("segment", "b" * 64)):
        record = {
            "rule": rule, "code": code, "versions": {"numpy": "2.4.6"}, "started": rule,
            "seconds": 3.5,
        }  # fmt: skip
        provenance.write_json(record, results / f"provenance/{rule}.json")
    for volume in ("rod-1", "cell-1"):
        checked = {"sha256": "c" * 64, "shape": [4, 5, 6], "voxel_nm": [2, 2, 2]}
        provenance.write_json(
            {**checked, "verdict": "ok"}, results / f"checked/{volume}.json"
        )
    return root


@pytest.fixture
def pair(tmp_path):
    """Two equal studies."""
    return make_study(tmp_path / "one"), make_study(tmp_path / "two")


class Page(HTMLParser):
    """Collect the tags and the text of each section."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.sections, self.now = [], {"": ""}, ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "section":
            self.now = dict(attrs)["id"]
            self.sections[self.now] = ""

    def handle_data(self, data):
        if data.strip():
            self.sections[self.now] += f"{data.strip()}|"


def compared(pair, page):
    comparison.build(*pair, page)
    return Page(page)


def edit(path, **changes):
    provenance.write_json({**provenance.read_json(path), **changes}, path)


def test_equal_runs_say_so(pair, tmp_path):
    lines = comparison.build(*pair, tmp_path / "page.html")
    assert lines[0].startswith("The runs are equal in config, code, versions, data")
    page = Page(tmp_path / "page.html")
    assert "equal" in page.sections[""]
    assert all(" 0 of " in line for line in lines[1:])


def test_time_and_place_make_no_difference(pair, tmp_path):
    edit(pair[1] / "results/provenance/train.json", seconds=99.0, started="later")
    moved = shutil.move(pair[1], tmp_path / "far" / "away")
    assert "are equal" in comparison.build(pair[0], moved, tmp_path / "p.html")[0]


@pytest.mark.parametrize(
    ("part", "file", "changes", "told"),
    [
        ("headline", "evaluated/bone/summary.json", {"mean_iou": {"final": 0.83}},
         "bone: mean IoU|0.810|0.830|+0.0200"),
        ("figures", "evaluated/bone/summary.json",
         {"mean_iou": {"final": 0.81, "otsu": 0.35}},
         "bone: mean iou otsu|0.4000|0.3500|−0.0500"),
        ("volumes", "measured/bone/rod-1.json", {"bone_mm3": 2.0},
         "rod-1, bone: bone mm3|2.500|2.000|−0.5000"),
        ("code", "provenance/train.json", {"code": "d" * 64},
         f"train|{'a' * 12}|{'d' * 12}"),
        ("versions", "provenance/train.json", {"versions": {"numpy": "2.5.0"}},
         "numpy|2.4.6|2.4.6, 2.5.0"),
        ("data", "checked/rod-1.json", {"sha256": "e" * 64},
         f"rod-1: sha256|{'c' * 12}|{'e' * 12}"),
    ],
)  # fmt: skip
def test_a_difference_stands_in_its_part(pair, tmp_path, part, file, changes, told):
    edit(pair[1] / "results" / file, **changes)
    page = compared(pair, tmp_path / "page.html")
    assert told in page.sections[part]
    assert comparison.TITLES[part].lower() in page.sections["summary"]


@pytest.mark.parametrize(
    ("path", "text", "told"),
    [
        ("provenance/train.json", '{"checkout": {"commit": "%s", "state": "clean"}}',
         "commit|–|%s (clean)|"),
        ("ro-crate-metadata.json",
         '{"@graph": [3, {"name": "tomoglean", "softwareVersion": "%s"}]}', "commit|–|%s|"),
    ],
)  # fmt: skip
def test_the_commit_of_the_jobs_or_of_the_crate_is_compared(
    pair, tmp_path, path, text, told
):
    (pair[1] / "results" / path).write_text(text % ("9" * 40))
    page = compared(pair, tmp_path / "page.html")
    assert told % ("9" * 40) in page.sections["checkout"]
    assert "checkout and locks" in page.sections["summary"]


def test_locks_are_compared_by_their_hash(pair, tmp_path):
    for root, text in zip(pair, ("numpy==1", "numpy==2"), strict=True):
        provenance.write_text(text, root / "results/crate/envs/cpu.lock.txt")
    digests = [hashlib.sha256(text).hexdigest()[:12] for text in (b"numpy==1", b"numpy==2")]
    page = compared(pair, tmp_path / "page.html")
    assert f"sha256 of cpu.lock.txt|{'|'.join(digests)}|" in page.sections["checkout"]


def test_all_rows_stand_beside_the_page_too(pair, tmp_path):
    edit(pair[1] / "results/measured/bone/rod-1.json", bone_mm3=2.0)
    comparison.build(*pair, tmp_path / "page.html")
    with open(tmp_path / "page.csv", newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    bone = rows["rod-1, bone: bone mm3"]
    assert (bone["a"], bone["b"], bone["same"], bone["b_minus_a"]) == (
        *("2.5", "2.0", "false", "-0.5"),
    )
    told = provenance.read_json(tmp_path / "page.json")
    assert len(told["rows"]) == len(rows)
    assert {"part": "volumes", "name": "rod-1, bone: bone mm3", "a": 2.5, "b": 2.0,
            "same": False, "b_minus_a": -0.5} in told["rows"]  # fmt: skip


@pytest.mark.parametrize("value", ["=1+1", "@x", float("nan"), [float("nan")], True])
def test_odd_values_stand_beside_the_page_without_harm(pair, tmp_path, value):
    config = {**CONFIG, "odd": value}
    (pair[1] / "config/config.yaml").write_text(yaml.safe_dump(config))
    comparison.build(*pair, tmp_path / "page.html")
    rows = provenance.read_json(tmp_path / "page.json")["rows"]
    assert any(row["name"] == "odd" for row in rows)
    assert ",=1" not in (tmp_path / "page.csv").read_text()


def test_a_setting_is_named_by_its_whole_key(pair, tmp_path):
    config = json.loads(json.dumps(CONFIG))
    config["tasks"]["t3ss"]["pick"]["threshold"] = 0.25
    (pair[1] / "config/config.yaml").write_text(yaml.safe_dump(config))
    page = compared(pair, tmp_path / "page.html")
    assert "tasks.t3ss.pick.threshold|0.5000|0.2500|" in page.sections["config"]
    assert "B − A" not in page.sections["config"]


def test_rows_are_told_by_their_ids(pair, tmp_path):
    path = pair[1] / "config/labels.tsv"
    path.write_text(path.read_text() + "bone\trod-1\tclean\ttest\traw/m.mrc\n")
    page = compared(pair, tmp_path / "page.html")
    assert "labels.tsv: bone, rod-1, clean, test #2|–|" in page.sections["tables"]


def test_a_stage_that_one_run_lacks_is_a_difference(pair, tmp_path):
    (pair[1] / "results/provenance/segment.json").unlink()
    page = compared(pair, tmp_path / "page.html")
    assert f"segment|{'b' * 12}|–|" in page.sections["code"]


def test_volumes_that_came_in_by_themselves_are_compared(pair, tmp_path):
    checked = {"sha256": "f" * 64, "verdict": "ok"}
    provenance.write_json(checked, pair[1] / "results/checked/came-in.json")
    page = compared(pair, tmp_path / "page.html")
    assert f"came-in: sha256|–|{'f' * 12}|" in page.sections["data"]


def test_missing_parts_are_told(pair, tmp_path):
    shutil.rmtree(pair[1] / "results")
    page = compared(pair, tmp_path / "page.html")
    assert (
        "B: two: nothing there of: all figures, figures per volume, code, versions"
        in (page.sections["summary"])
    )
    assert "A: one: nothing" not in page.sections["summary"]


def test_damaged_files_are_missing_ones(pair, tmp_path):
    for path in (pair[1] / "results").rglob("*.json"):
        path.write_text("{")
    page = compared(pair, tmp_path / "page.html")
    assert "nothing there of" in page.sections["summary"]


def test_a_study_of_an_older_version_is_read_as_it_stands(pair, tmp_path):
    config = {**CONFIG, "once_known": 3}
    (pair[1] / "config/config.yaml").write_text(yaml.safe_dump(config))
    page = compared(pair, tmp_path / "page.html")
    assert "read without its schema" in page.sections["summary"]
    assert "once_known|–|3|" in page.sections["config"]
    assert "bone: mean IoU|0.810|0.810|0|" in page.sections["headline"]


@pytest.mark.parametrize("text", ["[1, 2]", "tasks: 3", "a: [", "tasks: {bone: 1}", "\xff"])
def test_a_config_of_any_kind_still_gives_a_page(pair, tmp_path, text):
    (pair[1] / "config/config.yaml").write_bytes(text.encode("latin-1"))
    (pair[1] / "config/volumes.tsv").write_text("what\nis this\n")
    page = compared(pair, tmp_path / "page.html")
    assert "differ" in page.sections["summary"]


def test_a_folder_that_is_no_study_is_one_line(pair, tmp_path):
    with pytest.raises(Refused, match="expected a study"):
        comparison.build(pair[0], tmp_path, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_a_results_folder_will_do(pair, tmp_path):
    lines = comparison.build(pair[0] / "results", pair[1], tmp_path / "page.html")
    assert "are equal" in lines[0]
    assert "A: one" in Page(tmp_path / "page.html").sections[""]


def test_the_page_is_ours_alone_whatever_things_are_called(pair, tmp_path):
    config = {"tasks": {NASTY: {"kind": NASTY, "classes": [NASTY]}}, NASTY: NASTY}
    (pair[1] / "config/config.yaml").write_text(yaml.safe_dump(config))
    (pair[1] / "config/volumes.tsv").write_text(f"volume\ttasks\tpath\n{NASTY}\tx\ty\n")
    record = {"rule": NASTY, "code": NASTY, "versions": {NASTY: NASTY}}
    edit(pair[1] / "results/provenance/train.json", **record)
    edit(pair[1] / "results/checked/rod-1.json", verdict=NASTY, sha256=NASTY)
    other = shutil.move(pair[1], tmp_path / "a<b>&c")
    page = compared((pair[0], other), tmp_path / "page.html")
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "img", "link", "iframe", "object", "base", "form"}
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert "49" not in page.sections["config"]
    assert NASTY in page.sections["config"]
    assert "a<b>&c" in page.sections[""]


def test_no_folder_of_anybody_stands_on_the_page(pair, tmp_path):
    comparison.build(*pair, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "/home/ann" not in text
    assert str(tmp_path) not in text
    assert "…/rod-1.mrc" in text


def test_every_link_leads_to_a_part(pair, tmp_path):
    page = compared(pair, tmp_path / "page.html")
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    assert links == [f"#{part}" for part in comparison.PARTS]
    assert set(comparison.PARTS) < set(page.sections)


def test_a_part_that_fails_does_not_take_the_page_with_it(pair, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "data", lambda source: 1 / 0)
    lines = comparison.build(*pair, tmp_path / "page.html")
    assert "Not to be compared: data" in lines[0]
    assert lines[-1] == "Data: could not be compared"


def test_very_many_differences_are_cut_and_counted(monkeypatch):
    monkeypatch.setattr(comparison, "MOST_ROWS", 10)
    found = differences({str(n): n for n in range(25)}, {})
    section = comparison._section("config", found, ("A", "B"))
    assert len(section.blocks[0].rows) == 10
    assert "15 more differ" in section.blocks[0].caption


@pytest.mark.parametrize(
    ("a", "b", "gap"),
    [(1, 3, 2), (0.5, 0.25, -0.25), (True, False, None), ("1", "2", None), (None, 2, None)],
)
def test_only_numbers_are_subtracted(a, b, gap):
    assert comparison._gap(Difference("x", a, b)) == gap


def test_not_a_number_is_equal_to_itself():
    nan = float("nan")
    assert Difference("x", nan, nan).is_same


def test_the_command_ends_well_for_equal_and_for_different_runs(pair, tmp_path, capsys):
    page = tmp_path / "page.html"
    words = ["compare", str(pair[0]), str(pair[1]), "-o", str(page)]
    assert command.main(words) == 0
    assert "are equal" in capsys.readouterr().out
    edit(pair[1] / "results/checked/rod-1.json", sha256="f" * 64)
    assert command.main(words) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "The runs differ in: data."
    assert said[-1] == str(page)
    assert command.main(["compare", str(tmp_path), str(pair[0])]) == 3
