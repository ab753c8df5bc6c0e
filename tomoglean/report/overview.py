"""The top of the report: did it work, the headline beside 2019, a row per volume."""

from collections.abc import Mapping
from typing import Any

from tomoglean.report import headlines, intervals, style
from tomoglean.report.blocks import Card, Cell, Note, Section, Table
from tomoglean.report.rows import VERDICTS as VERDICTS
from tomoglean.report.rows import volumes_table as volumes_table
from tomoglean.report.rows import voxel as voxel
from tomoglean.report.sources import Source, discreet

IMPLANT_2019 = "“very high accuracy”, without a figure"
MEMBRANE_2019 = "a U-Net finds the membrane, without a figure"
PICKS_2019 = "“false positives about equal to true positives”: about 1 FP per TP"
NOTHING_2019 = "no statement"
STAMP_WORDS = {
    "simulated": "phantoms with exact truth, not measured data",
    "partly simulated": "some volumes are phantoms with exact truth",
    "same scan": "trained and tested on one scan: figures do not speak for others",
}


def cards(source: Source) -> list[Card]:
    """Return the headline figures, the count of volumes first."""
    found = [_volumes_card(source)]
    for task in source.study.tasks:
        found.append(_task_card(source, task))
        found += _average_card(source, task)
    return [*found, _time_card(source)]


def _volumes_card(source: Source) -> Card:
    total = len(source.study.volumes)
    refused = len(source.refused())
    verdicts = [
        source.checked(row["volume"]).get("verdict") for row in source.study.volumes
    ]
    warnings, unseen = verdicts.count("warning"), verdicts.count(None)
    parts = {"refused": refused, "with warnings": warnings, "not checked yet": unseen}
    detail = ", ".join(f"{count} {what}" for what, count in parts.items() if count)
    simulated = all(source.is_simulated(row["volume"]) for row in source.study.volumes)
    stamps = ["simulated"] if total and simulated else []
    tone = "bad" if refused else "plain"
    return Card("volumes", str(total), detail or "all checked and fine", stamps, tone)


def _task_card(source: Source, task: str) -> Card:
    figure = task_headline(source, task)
    label = f"{style.words(task)}: {figure['what']}"
    stamps = source.stamps(task)
    return Card(
        label, figure["value"], figure["detail"], stamps, interval=figure["interval"]
    )


def _average_card(source: Source, task: str) -> list[Card]:
    summary = source.json(f"averaged/{task}/summary.json")
    found = style.finite(summary.get("resolution_fsc_143_nm"))
    if found is None:
        return []
    control = style.finite(summary.get("control_resolution_fsc_143_nm"))
    beside = "none" if control is None else f"{control:.1f} nm"
    detail = f"{summary.get('n_used')} picks; control of random places: {beside}"
    label = f"{style.words(task)}: average, FSC 0.143"
    return [Card(label, f"{found:.1f} nm", detail, source.stamps(task))]


def _time_card(source: Source) -> Card:
    spent: dict[tuple[Any, ...], float] = {}
    for record in source.provenance():
        seconds = style.finite(record.get("seconds")) or 0.0
        spent[record.get("rule"), record.get("key"), record.get("started")] = seconds
    if not spent:
        return Card("computing time", "n/a", "no record of any job")
    total = style.duration(sum(spent.values()))
    jobs = f"{len(spent)} job{'s' if len(spent) != 1 else ''}"
    return Card("computing time", total, f"{jobs}, one after another")


def task_headline(source: Source, task: str) -> dict[str, str]:
    """Say in words how good the answer of a task is: what, value, interval and detail.

    Of picks it is how many false ones come with a true one; else the final network's IoU.
    """
    first, *others = headlines.of_task(source, task)
    rates = [f"{one.what} {one.text} ({intervals.told(one.bounds)})" for one in others]
    return {
        "what": first.what,
        "value": first.text,
        "interval": first.interval,
        "detail": "; ".join([*rates, first.detail]),
    }


semantic_headline = detection_headline = task_headline


def headline(source: Source) -> Section:
    """Return the 2019 statements beside ours."""
    rows = [_headline_row(source, task) for task in source.study.tasks]
    head = ["question", "2019 said", "this run", "95 % interval", "measured on", "data"]
    said = any(said_2019(source, task) != NOTHING_2019 for task in source.study.tasks)
    if not said:
        rows, head = [[row[0], *row[2:]] for row in rows], [head[0], *head[2:]]
    table = Table(head, rows, empty="The config names no task.")
    stamps = dict.fromkeys(s for task in source.study.tasks for s in source.stamps(task))
    notes = [
        Note(f"{stamp}: {STAMP_WORDS[stamp]}.") for stamp in stamps if stamp in STAMP_WORDS
    ]
    lead = (
        "What this pipeline's first run, at DESY in 2019, said of the same questions in a"
        " talk without tables, beside what this run measured, and on what."
    )
    title = "2019 and now" if said else "In one line"
    return Section("headline", title, [table, *notes], lead if said else "")


def _headline_row(source: Source, task: str) -> list[Cell]:
    figure = task_headline(source, task)
    ours = f"{figure['what']} {figure['value']}"
    stamps = ", ".join(source.stamps(task)) or "measured volumes"
    return [
        Cell(style.words(task)),
        Cell(said_2019(source, task), "mid"),
        Cell(ours, "keep strong"),
        Cell(figure["interval"], "mid"),
        Cell(figure["detail"], "mid"),
        Cell(stamps, "pill warn" if source.stamps(task) else ""),
    ]


def said_2019(source: Source, task: str) -> str:
    """Return what the reference run of 2019 said on a task's question."""
    if source.study.tasks[task].get("kind") == "detection":
        return PICKS_2019
    if "residual_metal" in source.classes(task):
        return IMPLANT_2019
    gates = {block.get("membrane") for block in source.study.tasks.values()}
    return MEMBRANE_2019 if task in gates else NOTHING_2019


def alerts(source: Source, outcome: str, message: str) -> list[Note]:
    """Return what a reader must know first: failure and refusals."""
    notes = []
    if outcome == "failed":
        notes.append(Note(message or "The run ended before everything was made.", "bad"))
    elif message:
        notes.append(Note(message))
    notes += [
        Note(f"{volume} was refused: {reason}", "bad")
        for volume, reason in source.refused().items()
    ]
    root, arrived = source.study.root, source.study.arrived
    notes += [
        Note(f"An arrival was refused: {discreet(line, root)}", "bad")
        for line in arrived.refused
    ]
    return notes


def tasks_in_order(tasks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the tasks, those that search after those they search in."""
    return sorted(tasks, key=lambda task: tasks[task].get("kind") == "detection")
