"""The drawing shows which rules ran and who fed whom, whatever they are called."""

import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from tomoglean.report import rulegraph
from tomoglean.report.jobs import Job

SVG = "{http://www.w3.org/2000/svg}"
NASTY = '"><script>alert(1)</script>&\x00 a very long name of a rule'
CHAIN = ["convert", "slice", "train", "segment", "evaluate"]


def job(rule, *inputs, started="", seconds=1.0, out=""):
    return Job(rule, started or rule, seconds, inputs=inputs, outputs=[out or f"{rule}/a"])


def chain(*rules):
    """Jobs each of which reads what the one before it wrote."""
    first = job(rules[0], "raw/a.mrc", started="0")
    return [first] + [
        job(rule, f"results/{before}/a", started=str(n))
        for n, (before, rule) in enumerate(pairwise(rules), start=1)
    ]


def drawn(jobs):
    return ET.fromstring(rulegraph.draw(rulegraph.of(jobs))[0])


def texts(jobs):
    return [element.text for element in drawn(jobs).iter(f"{SVG}text")]


def test_who_writes_what_another_reads_feeds_it():
    graph = rulegraph.of(chain("convert", "slice"))
    assert graph.edges == {(rulegraph.RAW, "convert"), ("convert", "slice")}
    assert graph.back == set()


def test_every_rule_is_told_with_its_jobs_and_their_time():
    found = [*chain("convert", "slice"), job("slice", out="b"), job("slice", out="c")]
    assert rulegraph.of(found).told["slice"] == "3 jobs, 3.0 s"
    assert rulegraph.of(found).told[rulegraph.RAW] == "1 file"
    assert texts(found)[-2:] == ["slice", "3 jobs, 3.0 s"]


def test_a_job_without_a_time_is_counted_all_the_same():
    assert rulegraph.of([job("pick", seconds=None)]).told == {"pick": "1 job"}


def test_better_labels_lead_back_up():
    jobs = chain(*CHAIN)
    jobs += [job("relabel", "results/segment/a", started="6")]
    jobs += [job("slice", "results/relabel/a", started="7", out="again")]
    graph = rulegraph.of(jobs)
    assert graph.back == {("relabel", "slice")}
    layout = rulegraph.layout(graph)
    assert [(way[0].name, way[-1].name) for way in layout.ways_back] == [
        ("slice", "relabel")
    ]


def test_what_feeds_a_rule_stands_above_it():
    rows = rulegraph.layout(rulegraph.of(chain(*CHAIN))).rows
    assert [[s.name for s in row] for row in rows] == [
        [rulegraph.RAW],
        *[[n] for n in CHAIN],
    ]


def test_a_line_that_follows_from_others_is_left_out():
    jobs = [*chain("convert", "slice", "train"), job("train", "results/convert/a", out="b")]
    graph = rulegraph.of(jobs)
    assert ("convert", "train") in graph.edges
    assert ("convert", "train") not in rulegraph.reduced(graph)[0]
    assert "convert to train" not in rulegraph.words(graph)


def test_boxes_and_passing_lines_keep_clear_of_one_another():
    jobs = [
        *chain(*CHAIN),
        job("mask", "results/segment/a"),
        job("measure", "results/segment/a"),
    ]
    jobs += [job("points", "results/convert/a")]
    jobs += [job("sample", "results/points/a", "results/mask/a")]
    for row in rulegraph.layout(rulegraph.of(jobs)).rows:
        for one, other in pairwise(row):
            assert other.x - one.x >= (one.width + other.width) / 2
        assert all(spot.x - spot.width / 2 >= 0 for spot in row)


def test_everything_lies_within_the_drawing():
    jobs = [*chain(*CHAIN), *(job(f"r{n}", "results/convert/a") for n in range(7))]
    svg, width = rulegraph.draw(rulegraph.of(jobs))
    boxes = [box.attrib for box in ET.fromstring(svg).iter(f"{SVG}rect")]
    assert len(boxes) == len(CHAIN) + 7 + 1
    assert all(0 <= float(b["x"]) <= width - float(b["width"]) for b in boxes)
    height = float(ET.fromstring(svg).attrib["height"])
    assert all(0 <= float(b["y"]) <= height - float(b["height"]) for b in boxes)


@pytest.mark.parametrize("values", [[], [3.0], [1, 2, 3], [3, 2, 1], [5, 1, 4, 2]])
def test_the_rising_sequence_rises_and_keeps_the_mean(values):
    found = rulegraph._rising(values)
    assert all(a <= b for a, b in pairwise(found))
    assert sum(found) == pytest.approx(sum(values))


def test_names_are_text_and_long_ones_are_cut():
    found = drawn([job(NASTY)])
    assert {element.tag.removeprefix(SVG) for element in found.iter()} == {
        *("svg", "title", "defs", "marker", "path", "rect", "text")
    }
    assert texts([job(NASTY)])[0].endswith("…")


def test_the_same_jobs_give_the_same_drawing():
    jobs = [*chain(*CHAIN), job("mask", "results/segment/a")]
    assert rulegraph.draw(rulegraph.of(jobs)) == rulegraph.draw(rulegraph.of(jobs[::-1]))


def test_no_job_gives_an_empty_drawing():
    assert texts([]) == []
