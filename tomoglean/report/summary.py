"""The light on top of the report: is all done, what went wrong, how to do it again."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from tomoglean.report import again, states, style
from tomoglean.report.again import Run
from tomoglean.report.blocks import Cell, Command, Light, Note, Table
from tomoglean.report.sources import Source, discreet
from tomoglean.report.states import Job

MOST_ROWS = 40
TONES = {"done": "good", "failed": "bad", "refused": "bad"}
REASONS = ("reason", "threshold_reason")


def light(source: Source, outcome: str, run: Run) -> Light:
    """Return the one light: red if something failed, amber if something wants a look."""
    counts = states.counts(source)
    total = len(source.study.volumes)
    failed, warned = len(states.failed(source)), len(warnings(source, run))
    open_ends = counts["running"] + counts["waiting"]
    if outcome == "failed" or failed or counts["failed"] or counts["refused"]:
        tone, word = "bad", "Red"
    elif warned or open_ends or not total:
        tone, word = "warn", "Amber"
    else:
        tone, word = "good", "Green"
    told = [
        _all_done(total) if total and counts["done"] == total else "",
        "no volume yet" if not total else "",
        *(_some(counts[name], "volume", name) for name in states.WORDS[1:]),
        _some(failed, "job", "failed"),
        _some(warned, "warning", "below"),
        "the run ended early" if outcome == "failed" and not failed else "",
    ]
    text = ", ".join(filter(None, told)) or "nothing to report"
    text += "" if warned or tone != "good" else ", no warning"
    shown = {name: (count, TONES.get(name, "warn")) for name, count in counts.items()}
    shown["warning" if warned == 1 else "warnings"] = (warned, "warn")
    return Light(tone, word, text[0].upper() + text[1:] + ".", shown)


def _all_done(total: int) -> str:
    return f"all {total} volumes done" if total > 1 else "the one volume is done"


def _some(count: int, what: str, word: str) -> str:
    return f"{count} {what}{'s' if count != 1 else ''} {word}" if count else ""


def blocks(source: Source, run: Run) -> list[Any]:
    """Return what follows the cards: failed jobs, warnings, how to do it again."""
    return [*_failed(states.failed(source)), *_warned(source, run), command(source, run)]


def command(source: Source, run: Run) -> Command:
    """Return the lines that make the study again."""
    text = again.recipe(source, run)
    return Command("Make it again", text, again.caption(source, run))


def _failed(jobs: list[Job]) -> list[Any]:
    if not jobs:
        return []
    rows = [
        [
            Cell(job.rule),
            Cell(job.outputs[0].removeprefix("results/"), "hash"),
            Cell(job.line, "wide"),
        ]
        for job in jobs
    ]
    head = ["rule", "what it was to make", "last line of its log"]
    return _cut(Table(head, rows, title="Failed jobs", name="failed-jobs"))


def _warned(source: Source, run: Run) -> list[Any]:
    found = warnings(source, run)
    if not found:
        return [Note("No warnings.")]
    rows = [
        [
            Cell(row["where"]),
            Cell(str(row["times"]), "number", row["times"]),
            Cell(row["what"], "wide"),
        ]
        for row in found
    ]
    title = _some(len(rows), "warning", "").strip()
    return _cut(Table(["where", "times", "what"], rows, title=title, name="warnings"))


def _cut(table: Table) -> list[Any]:
    """Show the first rows only; the file beside the page has them all."""
    left = len(table.rows) - MOST_ROWS
    if left <= 0:
        return [table]
    note = f"{left} more rows are in results/report/{table.name}.csv."
    return [Table(**{**vars(table), "shown": MOST_ROWS, "caption": note})]


def warnings(source: Source, run: Run) -> list[dict[str, Any]]:
    """Return all that wants a look: where, what, and how often it was said."""
    return source.once("warnings", lambda: _counted(source, run))


def _counted(source: Source, run: Run) -> list[dict[str, Any]]:
    root = source.study.root
    said = Counter(
        (where, discreet(what, root)) for where, what in _warnings(source, run) if what
    )
    return [{"where": w, "what": t, "times": times} for (w, t), times in said.items()]


def _warnings(source: Source, run: Run) -> Iterator[tuple[str, str]]:
    for row in source.study.volumes:
        yield from _checked(row["volume"], source.checked(row["volume"]))
    for labels in source.checked_labels():
        place = " ".join(str(labels[key]) for key in ("task", "use", "kind", "volume"))
        yield from _checked(f"labels {place}", labels)
    yield from (("arrivals", line) for line in source.study.arrived.absent)
    for task in source.study.tasks:
        summary = source.json(f"evaluated/{task}/summary.json")
        for key in REASONS:
            yield f"evaluate {style.words(task)}", str(summary.get(key) or "")
    yield from (
        (f"log of {j.rule}", line) for j in states.jobs(source) for line in j.warned
    )
    if run.is_dirty:
        yield "checkout", "files differ from the commit that the page names"


def _checked(where: str, checked: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if checked.get("verdict") == "warning":
        yield from ((where, str(text)) for text in checked.get("messages") or ["warning"])
