"""Learning curves of all rounds stand on one scale, and a table tells what each gained."""

import base64
import re
from urllib.parse import unquote_to_bytes

import pytest
from test_report import study_in, table

from tomoglean import provenance
from tomoglean.report import learning
from tomoglean.report.sources import Source

LABELS = [
    {"task": "bone", "volume": "rod-1", "kind": kind, "use": use}
    for kind, use in (("weak", "train"), ("clean", "train"), ("clean", "test"))
]
CONTROLS = {"retrained": {"labels": ["relabelled"]}, "oracle": {"labels": ["truth"]}}
SCORES = {"weak": 0.5, "control-retrained": 0.55, "final": 0.6, "control-oracle": 0.8}


def svg(uri: str) -> str:
    """Return the text of a chart."""
    kind, _, content = uri.partition(",")
    if kind.endswith("base64"):
        return base64.b64decode(content).decode()
    return unquote_to_bytes(content).decode()


def words(uri: str) -> list[str]:
    """Return the words that stand on a chart."""
    return re.findall(r"<text[^>]*>(?:<!--.*?-->)?([^<]+)</text>", svg(uri))


def round_left(root, name, losses, scores, best=None, task="bone"):
    rows = [
        {"epoch": e, "loss": loss, "val_loss": loss + 0.25, "val_iou": score, "seconds": e}
        for e, (loss, score) in enumerate(zip(losses, scores, strict=True), start=1)
    ]
    table(root / f"results/trained/{task}/{name}.csv", rows)
    facts = {"best_epoch": best}
    provenance.write_json(facts, root / f"results/trained/{task}/{name}.json")


def chart_of(source, name):
    rounds = learning.rounds_of(source, "bone")
    [one] = [one for one in rounds if one.name == name]
    return learning._chart("bone", one, learning.Scale.of(rounds))


@pytest.fixture
def trained(tmp_path):
    """Make a study whose rounds reached the scores above in their second epoch of three."""
    for name, score in SCORES.items():
        round_left(tmp_path, name, [1.0, 0.5, 0.4], [0.2, score, 0.3], best=2)
    summary = {"use": "test", "mean_iou": {n: s + 0.05 for n, s in SCORES.items()}}
    provenance.write_json(summary, tmp_path / "results/evaluated/bone/summary.json")
    study = study_in(tmp_path, labels=LABELS)
    study.tasks["bone"] |= {"controls": CONTROLS, "folds": 2}
    return Source(study)


def told(source, task="bone"):
    """Return the line and the table below the charts."""
    return learning.told(source, task, learning.rounds_of(source, task))


def rows_of(source, task="bone"):
    drawn = told(source, task)[-1]
    return {
        row[0].text: dict(zip(drawn.head, [cell.text for cell in row], strict=True))
        for row in drawn.rows
    }


def test_rounds_stand_in_the_order_of_their_labels(trained):
    names = [one.name for one in learning.rounds_of(trained, "bone")]
    assert names == ["weak", "control-retrained", "final", "control-oracle"]


def test_folds_stand_at_the_end(trained):
    round_left(trained.study.root, "weak-0", [1.0], [0.1])
    assert [r.name for r in learning.rounds_of(trained, "bone")][-1] == "weak-0"


def test_the_gap_is_that_of_the_kept_epoch(trained):
    row = rows_of(trained)["final"]
    assert (row["training loss"], row["validation loss"]) == ("0.500", "0.750")
    assert row["gap"] == "+0.250"
    assert row["epoch kept"] == "2 of 3"


def test_a_round_tells_what_it_gained_on_weak_labels(trained):
    row = rows_of(trained)["final"]
    assert row["validation"] == "0.600 (+0.100)"
    assert row["test"] == "0.650 (+0.100)"


def test_the_weak_round_gains_nothing_on_itself(trained):
    assert rows_of(trained)["weak"]["validation"] == "0.500"


def test_one_line_tells_the_way_from_weak_to_corrected(trained):
    [note] = [b for b in told(trained) if b.kind == "note"]
    assert note.text.startswith("weak (weak) → control-retrained (relabelled) → final")
    assert "0.500 → 0.550 → 0.600" in note.text
    assert "test volumes 0.550 → 0.600 → 0.650" in note.text


def test_an_unscored_round_has_no_figure_on_test(trained):
    path = trained.results / "evaluated/bone/summary.json"
    provenance.write_json({"mean_iou": None}, path)
    assert {row["test"] for row in rows_of(trained).values()} == {"n/a"}


def test_without_a_weak_round_nothing_is_said_of_gains(tmp_path):
    round_left(tmp_path, "final", [1.0], [0.5], best=1)
    source = Source(study_in(tmp_path))
    assert rows_of(source)["final"]["validation"] == "0.500"
    assert not [b for b in told(source) if b.kind == "note"]


def test_all_rounds_share_their_scale(trained):
    scale = learning.Scale.of(learning.rounds_of(trained, "bone"))
    assert (scale.highest_loss, scale.last_epoch) == (1.25, 3.0)
    assert scale.score == (0.2, 0.8)


def test_a_score_that_never_moves_has_a_scale_too(tmp_path):
    round_left(tmp_path, "final", [0.0], [0.0])
    rounds = learning.rounds_of(Source(study_in(tmp_path)), "bone")
    assert learning.Scale.of(rounds).score == (0.0, 1.0)


def test_the_kept_epoch_is_marked_with_its_score(trained):
    chart = chart_of(trained, "final")
    assert "kept: epoch 2, 0.600" in words(chart.uri)
    assert chart.alt.endswith("weights of epoch 2 were kept")


def test_axes_carry_their_units(trained):
    found = words(chart_of(trained, "weak").uri)
    assert {"loss (no unit)", "epoch", "val. mean IoU", "training", "validation"} <= set(
        found
    )


@pytest.mark.parametrize("best", [None, 99, "two"])
def test_an_unknown_epoch_has_no_figures(tmp_path, best):
    round_left(tmp_path, "final", [1.0, 0.5], [0.1, 0.2], best=best)
    assert rows_of(Source(study_in(tmp_path)))["final"]["gap"] == "n/a"


def test_an_unknown_epoch_is_not_marked(tmp_path):
    round_left(tmp_path, "final", [1.0, 0.5], [0.1, 0.2], best=99)
    assert "kept:" not in str(words(chart_of(Source(study_in(tmp_path)), "final").uri))


def test_a_round_without_validation_shows_its_loss_alone(tmp_path):
    rows = [{"epoch": 1, "loss": 0.5, "val_loss": "", "val_iou": "", "seconds": 9}]
    table(tmp_path / "results/trained/bone/final.csv", rows)
    [shown, drawn] = learning.of_task(Source(study_in(tmp_path)), "bone")
    assert len(shown.charts) == 1
    assert "validation" not in words(shown.charts[0].uri)
    assert [cell.text for cell in drawn.rows[0]][4:] == ["n/a"] * 4


def test_folds_are_told_pooled_and_not_as_the_round_of_all(trained):
    trained.study.tasks["bone"]["cross_validation"] = 3
    assert {row["test"] for row in rows_of(trained).values()} == {"n/a"}
    assert "folds pooled, mean IoU 0.650 on test volumes" in told(trained)[-1].caption


def test_detection_is_told_by_f1_of_its_picks(tmp_path):
    rows = [{"epoch": 1, "loss": 0.5, "val_loss": 0.6, "val_f1": 0.7, "seconds": 1}]
    table(tmp_path / "results/trained/t3ss/final.csv", rows)
    provenance.write_json({"best_epoch": 1}, tmp_path / "results/trained/t3ss/final.json")
    summary = {"use": "test", "rounds": {"final": {"test": {"f1": 0.5}}}}
    provenance.write_json(summary, tmp_path / "results/evaluated/t3ss/summary.json")
    source = Source(study_in(tmp_path))
    row = rows_of(source, "t3ss")["final"]
    assert (row["labels"], row["validation"], row["test"]) == ("points", "0.700", "0.500")
    assert "F1 of picks on test volumes" in told(source, "t3ss")[-1].caption


def test_nothing_trained_is_one_line(tmp_path):
    [note] = learning.of_task(Source(study_in(tmp_path)), "bone")
    assert note.text == "Nothing was trained yet."
