"""The report is one page that stands alone and is made from whatever is there."""

import csv
import logging
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tomoglean import provenance, report, volumes
from tomoglean.report import (
    averaging,
    candidates,
    detection,
    figures,
    jobs,
    learning,
    overview,
    places,
    semantic,
    slices,
    style,
)
from tomoglean.report.planes import Plane
from tomoglean.report.sources import Source, discreet, flat
from tomoglean.study import Study
from tomoglean.volumes import Volume

CLASSES = ["background", "bone", "degradation_layer", "residual_metal"]
VOXEL_NM = (5000.0, 5000.0, 5000.0)
NASTY = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}",
    "javascript:alert(1)",
    "</style><script src=http://evil.example/x.js></script>",
    "&lt;b&gt;",
]
PARTS = [
    *("summary", "headline", "volumes", "measured", "slices", "learning", "quality"),
    *("candidates", "space", "data", "provenance"),
]


class Page(HTMLParser):
    """Collect what a browser would act on."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def ids(self):
        return [attrs["id"] for _, attrs in self.tags if "id" in attrs]


def study_in(root: Path, **changes) -> Study:
    config = {
        "seed": 1,
        "simulate": {},
        "tasks": {
            "bone": {"kind": "semantic", "classes": CLASSES, "controls": {}},
            "membrane": {"kind": "semantic", "classes": ["background", "membrane"]},
            "t3ss": {"kind": "detection", "membrane": "membrane", "controls": {}},
        },
    }
    rows = [
        {"volume": "rod-1", "tasks": "bone", "path": "results/simulated/implant/rod-1.tif"},
        {"volume": "cell-1", "tasks": "membrane,t3ss", "path": "raw/cell-1.mrc"},
    ]
    labels = [{"task": "bone", "volume": "rod-1", "kind": "clean", "use": "test"}]
    given = {"config": config, "volumes": rows, "labels": labels, **changes}
    return Study(given["config"], given["volumes"], given["labels"], root)


def table(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def scan(root: Path, name: str = "rod-1", shape=(6, 20, 24)) -> np.ndarray:
    labels = np.zeros(shape, np.uint8)
    labels[:, 5:15, 6:18] = 1
    raw = Volume(labels * 100.0, VOXEL_NM)
    volumes.write(raw, root / f"results/converted/{name}.h5", p_low=0.0, p_high=100.0)
    return labels


def segmented(root: Path, labels: np.ndarray, round_: str = "final") -> None:
    path = root / f"results/segmented/bone/{round_}/rod-1.h5"
    volumes.write(Volume(labels, VOXEL_NM), path, extra={"confidence": labels})


def truth(root: Path, labels: np.ndarray) -> None:
    path = root / "results/converted/bone/test/clean/rod-1.h5"
    volumes.write(Volume(labels, VOXEL_NM), path)


def checked(root: Path, volume: str, **facts) -> None:
    path = root / f"results/checked/{volume}.json"
    provenance.write_json(
        {"volume": volume, "verdict": "ok", "messages": [], **facts}, path
    )


def build(study: Study, outcome: str = "green", message: str = "") -> Page:
    return Page(report.build(study, outcome=outcome, message=message))


@pytest.fixture
def full(tmp_path):
    return full_study(tmp_path)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return build(full_study(tmp_path_factory.mktemp("study")))


def full_study(tmp_path: Path) -> Study:
    """Make a study with something of everything."""
    labels = scan(tmp_path)
    wrong = labels.copy()
    wrong[4, 5:9] = 0
    segmented(tmp_path, wrong)
    truth(tmp_path, labels)
    scan(tmp_path, "cell-1", (8, 60, 60))
    checked(tmp_path, "rod-1", shape=[6, 20, 24], voxel_nm=list(VOXEL_NM), sha256="ab" * 32)
    results = tmp_path / "results"
    rows = [
        {"round": "final", "use": "test", "volume": "cell-1", "z": 3, "y": 20, "x": 20,
         "score": 0.9, "outcome": "TP"},
        {"round": "final", "use": "test", "volume": "cell-1", "z": 3, "y": 30, "x": 30,
         "score": 0.7, "outcome": "FP"},
        {"round": "final", "use": "test", "volume": "cell-1", "z": 4, "y": 2, "x": 58,
         "score": "", "outcome": "FN"},
    ]  # fmt: skip
    table(results / "evaluated/t3ss/matches.csv", rows)
    figure = {"tomograms": 1, "tp": 1, "fp": 1, "fn": 1, "fp_per_tp": 1.0, "recall": 0.5,
              "precision": 0.5}  # fmt: skip
    rounds = {"final": {"threshold": 0.5, "test": figure},
              "control-lenet5": {"threshold": 0.4, "test": figure}}  # fmt: skip
    provenance.write_json(
        {"headline": figure, "use": "test", "rounds": rounds, "radius_nm": 15.0},
        results / "evaluated/t3ss/summary.json",
    )
    points = [
        {"round": name, "use": "test", "precision": 1 - r / 4, "recall": r / 2,
         "fp_per_tomogram": r}
        for name in rounds for r in (1, 2)
    ]  # fmt: skip
    table(results / "evaluated/t3ss/curve.csv", points)
    losses = {"loss": 0.5, "val_loss": 0.6, "val_iou": 0.4, "seconds": 9}
    curve = [{"epoch": epoch, **losses} for epoch in (1, 2, 3)]
    table(results / "trained/bone/final.csv", curve)
    provenance.write_json(
        {
            "rule": "check",
            "key": "k",
            "seconds": 3.0,
            "started": "2026",
            "versions": {"x": "1"},
        },
        results / "provenance/checked/rod-1.json.json",
    )
    return study_in(tmp_path)


# -- the page stands alone -----------------------------------------------------------


def test_nothing_is_loaded_from_anywhere(page):
    loaded = [
        attrs[k] for _, attrs in page.tags for k in ("src", "srcset", "data") if k in attrs
    ]
    linked = [attrs["href"] for _, attrs in page.tags if "href" in attrs]
    assert loaded
    assert all(source.startswith("data:image/") for source in loaded)
    assert all(link.startswith("#") for link in linked)


def test_no_script_and_no_handler(page):
    assert not page.all("script")
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]


def test_a_policy_forbids_what_the_page_does_not_need(page):
    [policy] = [m for m in page.all("meta") if "http-equiv" in m]
    assert policy["http-equiv"] == "Content-Security-Policy"
    assert policy["content"].startswith("default-src 'none'; img-src data:")


def test_every_picture_says_what_it_shows(page):
    pictures = page.all("img")
    assert len(pictures) > 10
    assert all(picture.get("alt") for picture in pictures)


def test_every_link_inside_leads_somewhere(page):
    assert {attrs["href"][1:] for attrs in page.all("a")} <= set(page.ids)


def test_ids_are_unique(page):
    ids = page.ids
    assert len(ids) == len(set(ids))


def test_the_page_is_written_where_the_study_keeps_results(full):
    path = report.build(full, outcome="green")
    assert path == full.root / "results" / "report.html"


# -- it is made from whatever is there -----------------------------------------------


def test_nothing_there_yet_gives_all_parts(tmp_path):
    page = build(study_in(tmp_path), "failed")
    wanted = {*PARTS, "quality-bone", "quality-membrane", "quality-t3ss"}
    assert wanted <= set(page.ids)
    assert "run failed" in page.text


def test_an_empty_study_gives_a_page(tmp_path):
    empty = study_in(tmp_path, volumes=[], labels=[], config={"tasks": {}})
    page = build(empty)
    assert set(PARTS) <= set(page.ids)
    assert "volumes.tsv has no row yet" in page.text


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"rounds": null}', "\x00\xff"])
def test_damaged_artefacts_do_not_end_the_report(full, text):
    for path in (full.root / "results").rglob("*.*"):
        path.write_text(text, encoding="latin-1")
    assert set(PARTS) <= set(build(full).ids)


def test_tables_with_a_header_only_give_a_page(full):
    for path in (full.root / "results").rglob("*.csv"):
        path.write_text(path.read_text().splitlines()[0] + "\n")
    page = build(full)
    assert "This part could not be made" not in page.text


def test_a_failing_part_is_one_line_and_logged(full, monkeypatch, caplog):
    monkeypatch.setattr(report.record, "data", lambda source: 1 / 0)
    with caplog.at_level(logging.ERROR):
        page = build(full)
    assert "This part could not be made" in page.text
    assert "provenance" in page.ids
    assert "ZeroDivisionError" in caplog.text


def test_a_task_that_fails_leaves_the_others_of_the_part(full, monkeypatch):
    monkeypatch.setattr(report.detection, "curves", lambda *_: 1 / 0)
    page = build(full)
    assert "This part could not be made" in page.text
    assert {"quality-bone", "quality-t3ss"} <= set(page.ids)


def test_the_parts_stand_in_the_order_of_the_docs(page):
    assert [name for name in page.ids if name in PARTS] == PARTS


def test_the_full_study_has_no_failing_part(page):
    assert "could not be made" not in page.text


def test_a_refused_volume_stands_on_top_with_its_reason(full):
    checked(full.root, "cell-1", verdict="refused", messages=["cell-1.mrc: too short"])
    page = build(full)
    assert "cell-1 was refused: cell-1.mrc: too short" in page.text
    assert page.text.index("was refused") < page.text.index("2019 said")


def test_what_is_odd_about_labels_is_told(full):
    facts = {"verdict": "warning", "messages": ["odd.tif: 0 is white"]}
    counts = {"voxels": {"background": 1200, "bone": 34}, "unlabelled": 5}
    path = full.root / "results/checked/bone/test/clean/rod-1.json"
    provenance.write_json({**facts, **counts}, path)
    text = build(full).text
    assert "odd.tif: 0 is white" in text
    assert "background 1,200; bone 34; unlabelled 5" in text


def test_the_message_of_a_failed_run_stands_on_top(full):
    page = build(full, "failed", "1 of 9 jobs failed: train")
    assert page.text.index("1 of 9 jobs failed") < page.text.index("2019 said")


# -- nothing hostile, nothing private ------------------------------------------------


@pytest.mark.parametrize("name", NASTY)
def test_hostile_names_are_words_only(tmp_path, name):
    config = {"tasks": {name: {"kind": "semantic", "classes": ["background", name]}}}
    rows = [{"volume": name, "tasks": name, "path": name}]
    labels = [{"task": name, "volume": name, "kind": name, "use": name}]
    page = build(
        study_in(tmp_path, config=config, volumes=rows, labels=labels), "failed", name
    )
    assert not page.all("script")
    assert not [img for img in page.all("img") if not img["src"].startswith("data:")]
    assert name in "".join(page.words)


def test_folders_stay_private(tmp_path):
    config = {"tasks": {}, "start_from": "/home/ann/secret/old.weights.h5"}
    rows = [{"volume": "a", "tasks": "", "path": "/beamline/p05/2026/a.tif"}]
    study = study_in(tmp_path, config=config, volumes=rows, labels=[])
    text = build(study, "failed", f"{tmp_path}/config/config.yaml: no such key").text
    assert "config/config.yaml: no such key" in text
    assert "old.weights.h5" in text
    for private in ("secret", "/beamline", str(tmp_path)):
        assert private not in text


def test_folders_in_what_checks_and_evaluations_say_stay_private(full):
    line = "/home/ann/secret dir/a.tif: expected X, found Y"
    said = {"verdict": "refused", "messages": [line]}
    for path in ("rod-1", "bone/train/weak/rod-1"):
        provenance.write_json(said, full.root / f"results/checked/{path}.json")
    summary = {"reason": line, "threshold_reason": line}
    provenance.write_json(summary, full.root / "results/evaluated/t3ss/summary.json")
    text = build(full, "failed").text
    assert "a.tif: expected X, found Y" in text
    assert "secret" not in text
    for path in (full.root / "results/report").iterdir():
        assert "secret" not in path.read_text(), path.name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/ann/x/y.tif is short", "…/y.tif is short"),
        ("~/data/y.tif", "…/y.tif"),
        ("in results/checked/a.json", "in results/checked/a.json"),
        ("voxels/mm and 1/2", "voxels/mm and 1/2"),
        ("/home/ann: denied", "~: denied"),
        ("file:///home/ann/x/y.tif", "…/y.tif"),
        ("--bind /data:/home/ann/x/y", "--bind /data:…/y"),
        ("C:/Users/ann/y.tif", "C:…/y.tif"),
        ("https://example.org/a/b s3://c/d/e", "https://example.org/a/b s3://c/d/e"),
    ],
)
def test_discreet_takes_out_folders_only(text, expected):
    assert discreet(text, Path("/study")) == expected


# -- what it says --------------------------------------------------------------------


def test_simulated_figures_are_marked(full):
    source = Source(full)
    assert source.stamps("bone") == ["simulated"]
    assert source.stamps("t3ss") == []


def test_figures_within_one_scan_are_marked(tmp_path):
    study = study_in(tmp_path)
    study.tasks["bone"]["split"] = "within-volume"
    assert "same scan" in Source(study).stamps("bone")
    assert "do not speak for others" in build(study).text


def one_scan(full, **changes):
    """Say that the study's bone labels are three test slices of one scan."""
    full.tasks["bone"] |= {"split": "within-volume", **changes}
    full.labels[0] |= {"slices": "0,2-3"}
    if changes.get("cross_validation"):
        full.labels[0] |= {"use": "train"}
    evaluated = full.root / "results/evaluated/bone"
    scored = {"use": "test", "volumes": ["rod-1"], "mean_iou": {"final": 0.5}}
    provenance.write_json(scored, evaluated / "summary.json")
    row = {"method": "final", "labels": "final", "use": "test", "volume": "pooled"}
    table(evaluated / "scores.csv", [{**row, "class": "bone", "iou": 0.5}])
    return Source(full)


def test_a_page_rebuilt_without_a_run_does_not_speak_of_failure(full):
    assert overview.alerts(Source(full), "rebuilt", "") == []
    assert [note.tone for note in overview.alerts(Source(full), "failed", "")] == ["bad"]


def test_within_one_scan_slices_are_counted_and_not_volumes(full):
    told = overview.semantic_headline(one_scan(full), "bone")["detail"]
    assert "3 test slices" in told
    assert "volume" not in told


def test_within_one_scan_figures_are_said_to_rest_on_slices(full):
    assert "On slices that served neither" in str(semantic.proof(one_scan(full), "bone"))


def test_slices_left_out_by_folds_are_said_to_be_so(full):
    told = str(semantic.proof(one_scan(full, cross_validation=3), "bone"))
    assert "left out of training and stopping" in told


def test_within_one_scan_a_picture_tells_the_use_of_its_slices(full):
    titles = [panels.title for panels in slices.blocks(one_scan(full), "bone")]
    assert titles
    assert all(title.startswith("rod-1 (test)") for title in titles)


def test_without_a_statement_of_2019_there_is_no_such_column(tmp_path):
    study = study_in(tmp_path)
    study.config["tasks"] = {"grain": {"kind": "semantic", "classes": ["pore", "clay"]}}
    section = overview.headline(Source(study))
    assert "2019" not in str(section)


def test_a_first_class_that_is_no_background_is_named(tmp_path):
    study = study_in(tmp_path)
    study.tasks["bone"]["classes"] = ["pore", "clay"]
    assert "pore, clay" in semantic.question(Source(study), "bone")[0].text


def test_a_first_class_that_is_no_background_is_counted_and_explained(full):
    full.tasks["bone"]["classes"] = ["pore", "clay"]
    path = full.root / "results/measured/bone/rod-1.json"
    provenance.write_json({"share_percent": {"pore": 60.0, "clay": 40.0}}, path)
    assert "pore 60.0 %" in str(overview.volumes_table(Source(full)).blocks[0].rows[0])
    panels = slices.blocks(Source(full), "bone")[0]
    assert "pore has no colour" in panels.caption


def test_captions_speak_only_of_what_is_there(full):
    source = one_scan(full)
    full.tasks["bone"]["classes"] = ["pore", "bone"]
    told = str(semantic.proof(source, "bone"))
    assert "brackets" not in told
    assert "background" not in told
    assert all("darker" not in p.caption for p in slices.blocks(source, "bone"))


def test_voxels_without_truth_are_spoken_of(full):
    unknown = np.full((6, 20, 24), volumes.IGNORE, np.uint8)
    unknown[:, :10] = 1
    truth(full.root, unknown)
    assert all("darker" in p.caption for p in slices.blocks(Source(full), "bone"))


def test_a_volume_that_folds_share_is_not_said_to_train_only(full):
    row = overview.volumes_table(one_scan(full, cross_validation=3)).blocks[0].rows[0]
    assert row[4].text == "bone: train and test in 3 folds"


def test_a_voxel_that_is_no_cube_shows_three_edges():
    assert overview.voxel([50.0, 4.0, 4.0]) == "50 × 4 × 4 nm"
    assert overview.voxel([2000.0, 4.0, 4.0]) == "2 µm × 4 nm × 4 nm"
    assert overview.voxel([4.0, 4.0, 4.0]) == "4 nm"


def test_a_round_without_validation_has_no_validation_curve(full):
    rows = [{"epoch": 1, "loss": 0.5, "val_loss": "", "val_iou": "", "seconds": 9}]
    table(full.root / "results/trained/bone/control-oracle.csv", rows)
    first = learning.of_task(Source(full), "bone")[0].charts[0]
    assert first.alt == "mean IoU on validation data over epochs for final"


def test_tiny_volumes_are_told_in_cubic_micrometres(full):
    path = full.root / "results/measured/bone/rod-1.json"
    provenance.write_json({"volume_mm3": {"pore": 2e-9}, "bone_contact_gap_um": 5.0}, path)
    (row,) = semantic.quantities(Source(full), "bone")[0].rows
    assert [cell.text for cell in row] == ["volume of pore (µm³)", "2.00"]


@pytest.mark.parametrize(
    ("mm3", "told"),
    [
        ([7.93e-13, 1.03e-12], ["nm³", "793,000", "1,030,000"]),
        ([7.93e-13, 1.03e-10], ["µm³", "0.000793", "0.103"]),
        ([2e-7, 0.052], ["mm³", "0.000000200", "0.0520"]),
        ([0.0, 2e-6], ["µm³", "0", "2,000"]),
        ([None, 2e-6], ["µm³", "n/a", "2,000"]),
        ([0.0, 0.0], ["nm³", "0", "0"]),
    ],
)
def test_volumes_of_one_row_share_the_unit_of_the_largest(mm3, told):
    first, *cells = semantic._quantity_row("volume_mm3 pore", mm3)
    assert first.text == f"volume of pore ({told[0]})"
    assert [cell.text for cell in cells] == told[1:]


def test_headline_sets_false_per_true_beside_2019(full):
    row = overview.headline(Source(full)).blocks[0].rows[2]
    assert "about equal to true positives" in row[1].text
    assert row[2].text == "FP per TP 1.00"


def test_held_out_volumes_come_first(tmp_path):
    names = {"a": "train", "b": "test", "c": "validate"}
    rows = [{"volume": name, "tasks": "bone", "path": "x"} for name in names]
    labels = [
        {"task": "bone", "volume": n, "kind": "clean", "use": u} for n, u in names.items()
    ]
    study = study_in(tmp_path, volumes=rows, labels=labels)
    assert Source(study).volumes("bone") == ["b", "c", "a"]


def test_a_negative_share_is_printed(full):
    found = {"value": -0.25, "best_control": {"method": "control-clean"}}
    provenance.write_json(
        {"gap_closed": found}, full.root / "results/evaluated/bone/summary.json"
    )
    [note] = semantic.gap(Source(full), "bone")
    assert "-25 %" in note.text
    assert note.tone == "warn"


def test_the_best_of_a_column_is_bold(full):
    rows = [
        {
            "method": m,
            "labels": "final",
            "use": "test",
            "volume": "pooled",
            "class": c,
            "iou": v,
        }
        for m, v in (("final", "0.5"), ("otsu", "0.75"))
        for c in (*CLASSES, "mean")
    ]
    drawn = semantic.scores_table(Source(full), "bone", rows, "iou", "")
    looks = {row[0].text: row[-1].look for row in drawn.rows}
    assert looks == {"final": "number", "otsu": "number best"}


def test_only_the_table_with_brackets_speaks_of_them(full):
    row = {"method": "final", "use": "test", "volume": "pooled", "class": "mean"}
    row |= {"iou": "0.5", "iou_low": "0.4", "iou_high": "0.6", "surface_dice": "0.5"}
    table(full.root / "results/evaluated/bone/scores.csv", [row])
    tables = {
        block.title: block.caption
        for block in semantic.proof(Source(full), "bone")
        if block.kind == "table"
    }
    assert "in brackets" in tables["IoU"]
    assert "in brackets" not in tables["Surface Dice"]


def test_folds_with_many_slices_are_looked_at_here_and_there(tmp_path):
    data = np.zeros((200, 4, 4), np.uint8)
    wrong = data.copy()
    wrong[150] = 1
    for name, values in (("seg", wrong), ("truth", data)):
        volumes.write(Volume(values, VOXEL_NM), tmp_path / f"{name}.h5")
    folds = {f"final-{k}": (tmp_path / "seg.h5", set(range(k, 200, 2))) for k in (0, 1)}
    found = slices.choose(folds, tmp_path / "truth.h5")
    assert "worst of 50 slices" in found


def test_folds_with_few_slices_are_looked_at_in_full(tmp_path):
    data = np.zeros((10, 4, 4), np.uint8)
    wrong = data.copy()
    wrong[7] = 1
    for name, values in (("seg", wrong), ("truth", data)):
        volumes.write(Volume(values, VOXEL_NM), tmp_path / f"{name}.h5")
    folds = {f"final-{k}": (tmp_path / "seg.h5", set(range(k, 10, 2))) for k in (0, 1)}
    found = slices.choose(folds, tmp_path / "truth.h5")
    assert found["worst of 10 slices"].index == 7
    assert found["worst of 10 slices"].round == "final-1"


def test_an_undefined_figure_is_never_the_best(full):
    rows = [{"method": "final", "volume": "pooled", "class": "mean", "iou": ""}]
    drawn = semantic.scores_table(Source(full), "bone", rows, "iou", "")
    assert drawn.rows[0][-1].text == "n/a"
    assert drawn.rows[0][-1].look == "number"


def test_a_job_with_two_artefacts_counts_once():
    record = {"rule": "train", "key": "k", "started": "s", "seconds": 60}
    done = jobs.of([record, dict(record, artefact="other")])
    row = report.record.runtimes(done).rows[0]
    assert [cell.text for cell in row[:4]] == ["train", "1", "1 min 00 s", "1 min 00 s"]


def test_units_stand_with_quantities():
    assert semantic.quantity("volume_mm3 bone") == "volume of bone (mm³)"
    assert semantic.quantity("layer_thickness_mean_um") == "layer thickness mean (µm)"


def test_every_control_is_beside_the_final_round(full):
    tables = [b for b in detection.rates(Source(full), "t3ss") if b.kind == "table"]
    assert [row[0].text for row in tables[0].rows] == ["final", "control-lenet5"]


def test_working_points_follow_from_the_counts():
    rounds = {"final": {"test": {"tomograms": 2, "fp": 3, "recall": 0.5}}}
    points = detection._working_points(rounds, "test", "fp_per_tomogram", "recall")
    assert points == {"final": (1.5, 0.5)}


# -- slices and crops ----------------------------------------------------------------


def test_the_worst_slice_is_found(full):
    found = slices.choose(
        slices.predictions(Source(full), "bone", "rod-1"),
        slices.truth_of(Source(full), "bone", "rod-1"),
    )
    assert [(one.index, why) for why, one in found.items()] == [
        (3, "central slice"),
        (4, "worst of 6 slices"),
    ]


def test_without_truth_there_is_no_worst_slice(full):
    found = slices.choose(slices.predictions(Source(full), "bone", "rod-1"), None)
    assert list(found) == ["central slice"]


def test_a_fold_speaks_only_for_slices_it_never_saw(tmp_path):
    labels = scan(tmp_path)
    for fold in range(3):
        segmented(tmp_path, labels, f"final-{fold}")
    rows = [{"task": "bone", "volume": "rod-1", "kind": "clean", "use": "train",
             "slices": "0-5"}]  # fmt: skip
    study = study_in(tmp_path, labels=rows)
    study.tasks["bone"]["cross_validation"] = 3
    found = slices.predictions(Source(study), "bone", "rod-1")
    assert {round_: seen for round_, (_, seen) in found.items()} == {
        "final-0": {0, 3},
        "final-1": {1, 4},
        "final-2": {2, 5},
    }


@pytest.mark.parametrize(
    ("grey", "round_", "why"),
    [
        ((None, (6, 20, 24)), "final", ""),
        ((None, (6, 20, 24)), "final-1", "each fold speaks for slices of its own"),
        (([0, 9], (2, 20, 24)), "final", "its slices are no neighbours"),
        ((None, (1, 20, 24)), "final", "it is one voxel thin"),
    ],
)
def test_why_a_volume_is_shown_across_z_alone_is_said(tmp_path, grey, round_, why):
    sparse, shape = grey
    raw = tmp_path / "raw.h5"
    z = np.array(sparse) if sparse else None
    volumes.write(Volume(np.zeros(shape, np.uint8), VOXEL_NM, z=z), raw)
    look = slices.Look("bone", "v", "test", raw, None, figures.Detail(), "void", {})
    chosen = {"central slice": slices.Slice(0, raw, round_, None)}
    shots = slices.shots(chosen, raw, brief=False)
    assert {shot.plane.axis for shot in shots} == (set("z") if why else set("zyx"))
    caption = slices._panels(look, shots).caption
    assert ("across z alone" in caption) == bool(why)
    assert why in caption


def test_errors_tell_extra_missed_and_wrong_class():
    predicted = np.array([[1, 0, 2, 1, 255]], np.uint8)
    true = np.array([[0, 1, 1, 1, 1]], np.uint8)
    shown = figures.errors(np.zeros((1, 5), np.uint8), predicted, true)[0]
    wanted = [style.rgb(style.ERROR_COLOURS[k]) for k in ("extra", "missed", "wrong class")]
    assert [tuple(pixel) for pixel in shown[:3]] == wanted
    assert len(set(shown[3])) == 1


def test_wrong_share_leaves_out_what_nobody_judged():
    predicted = np.array([1, 0, 0, 255], np.uint8)
    true = np.array([1, 1, 255, 1], np.uint8)
    assert figures.wrong_share(predicted, true) == 0.5
    assert figures.wrong_share(predicted, np.full(4, 255, np.uint8)) is None


def test_an_overlay_outlines_a_class_in_its_colour():
    labels = np.zeros((7, 7), np.uint8)
    labels[1:6, 1:6] = 1
    shown = figures.overlay(np.zeros((7, 7), np.uint8), labels, [style.ORANGE])
    assert tuple(shown[1, 3]) == style.rgb(style.ORANGE)
    assert tuple(shown[3, 3]) != style.rgb(style.ORANGE)
    assert tuple(shown[0, 0]) == (0, 0, 0)


def test_pictures_keep_the_proportions_of_the_scan():
    assert figures.size_px((100, 100), (10.0, 5.0), 200) == (100, 200)


def test_a_crop_lays_the_point_at_its_centre():
    data = np.zeros((9, 80, 80))
    data[4, 30, 40] = 5.0
    cut = figures.crop(data, (4.0, 30.0, 40.0), depth=5)
    assert cut.shape == (50, 50)
    assert np.argwhere(cut == 1.0).tolist() == [[24, 24]]


@pytest.mark.parametrize("place", [(0, 0, 0), (8, 79, 79), (4, -60, 40), (50, 0, 0)])
def test_a_crop_beyond_the_edge_is_padded(place):
    cut = figures.crop(np.ones((9, 80, 80)), tuple(map(float, place)))
    assert cut.shape == (50, 50)
    assert np.isnan(cut).any()


def test_window_is_that_of_the_volume():
    values = np.arange(100.0).reshape(10, 10)
    assert figures.window(values, {"p_low": 3.0, "p_high": 7.0}) == (3.0, 7.0)
    assert figures.window(np.full((2, 2), np.nan)) == (0.0, 1.0)
    low, high = figures.window(np.ones((3, 3)))
    assert low < high


def test_grey_survives_what_is_not_finite():
    values = np.array([[np.nan, np.inf, -np.inf, 0.5]])
    assert figures.grey(values, (0.0, 1.0)).tolist() == [[0, 255, 0, 127]]


def test_the_scale_bar_has_the_length_it_says(full):
    drawn = slices.frame(np.zeros((10, 20, 3), np.uint8), "alt", "raw", 1000.0)
    assert drawn.bar_text == "200 nm"
    assert drawn.bar_percent == 20.0


@pytest.mark.parametrize(("width", "bar"), [(10.0, 2.0), (100.0, 20.0), (7e5, 2e5)])
def test_scale_bars_are_round(width, bar):
    assert style.scale_bar_nm(width) == pytest.approx(bar)


def test_marks_lie_on_the_middle_of_their_voxel(full):
    rows = candidates.matches(Source(full), "t3ss")
    with volumes.open_volume(full.root / "results/converted/cell-1.h5") as grey:
        marks = places._marks(rows, Plane("z", 3), grey, (120, 120))
    assert [(mark.x, mark.y, mark.outcome) for mark in marks] == [
        (41.0, 41.0, "TP"),
        (61.0, 61.0, "FP"),
    ]


def test_the_busiest_slice_has_most_picks_nearby():
    rows = [
        {"z": "5", "outcome": "TP"},
        {"z": "6", "outcome": "TP"},
        {"z": "50", "outcome": "FP"},
    ]
    chosen = places.busiest(rows, 60, 20.0)
    assert chosen == {"slice with most picks": 5, "slice with most errors": 50}


def test_no_pick_shows_the_central_slice():
    assert places.busiest([], 61, 1.8) == {"central slice, no picks": 30}


# -- small words ---------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, "", "nan", float("inf"), "n/a", [], {}])
def test_what_is_no_number_prints_as_not_available(value):
    assert style.number(value) == "n/a"
    assert style.significant(value) == "n/a"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1234.5, "1,234"), (0.01234, "0.0123"), (1e-9, "1.00e-09")],
)
def test_significant_digits(value, text):
    assert style.significant(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5.0 s"), (60, "1 min 00 s"), (3661, "1 h 01 min")]
)
def test_durations(seconds, text):
    assert style.duration(seconds) == text


def test_classes_keep_their_colour_whatever_comes_after():
    few, many = style.class_colours(CLASSES[:2]), style.class_colours(CLASSES)
    assert few["bone"] == many["bone"]
    assert len(set(many.values())) == 3


def test_flat_joins_names():
    assert flat({"a": {"b": 1, "c": {"d": 2}}, "e": [1]}) == {"a b": 1, "a c d": 2}


def test_an_average_without_picks_says_why(full):
    path = full.root / "results/averaged/t3ss/summary.json"
    provenance.write_json({"n_picks": 0, "reason": "no pick to average"}, path)
    blocks = averaging.blocks(Source(full), "t3ss")
    assert blocks[-1].text == "No average: no pick to average."


@pytest.mark.parametrize(
    ("given", "why"), [(0, "no pick to average"), (3, "none of 3 picks has a normal")]
)
def test_an_average_of_nothing_is_one_line_and_no_empty_curve(full, given, why):
    folder = full.root / "results/averaged/t3ss"
    provenance.write_json({"n_picks": given, "n_used": 0}, folder / "summary.json")
    table(folder / "fsc.csv", [{"frequency_per_nm": 0.1, "fsc": ""}])
    [_, note] = averaging.blocks(Source(full), "t3ss")
    assert note.text.startswith(f"No average: {why}")


def test_an_average_says_which_volumes_its_picks_are_from(full):
    name = "published/t3ss/cell-1.csv"
    table(full.root / "results" / name, [{"z": 1}, {"z": 2}])
    record = {"inputs": {f"results/{name}": "0", "results/converted/cell-1.h5": "0"}}
    path = full.root / "results/provenance/averaged/t3ss/summary.json.json"
    provenance.write_json(record, path)
    (told,) = averaging.origin(Source(full), "t3ss")
    assert told.text == "Picks given, by volume: cell-1 2 (predict)."


@pytest.mark.parametrize("inputs", [None, {}, {"results/converted/cell-1.h5": "0"}])
def test_an_average_without_a_record_says_nothing_of_its_volumes(full, inputs):
    path = full.root / "results/provenance/averaged/t3ss/summary.json.json"
    provenance.write_json({} if inputs is None else {"inputs": inputs}, path)
    assert averaging.origin(Source(full), "t3ss") == []


def test_the_same_study_gives_the_same_figures(full, page):
    again = build(full)
    assert [i["src"] for i in page.all("img")] == [i["src"] for i in again.all("img")]


def test_a_part_that_no_task_asks_for_says_so(tmp_path):
    study = study_in(tmp_path)
    for task in [name for name, one in study.tasks.items() if one["kind"] == "detection"]:
        del study.tasks[task]
    assert "No task of this study asks for it." in build(study).text
