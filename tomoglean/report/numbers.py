"""All numbers of the report as tables beside it, in `results/report/`.

Every table of the page is a CSV file of the same rows; what the page only draws or sums
up has files of its own. Spreadsheets take no cell for a formula.
"""

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tomoglean import provenance
from tomoglean.report import again, headlines, rows, states, style, summary
from tomoglean.report.again import Run
from tomoglean.report.blocks import Cell, Section, Table
from tomoglean.report.sources import Source

FOLDER = "report"
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
STAGES = {
    "evaluated/*/scores.csv": "IoU, Dice and more of every method, class and volume",
    "evaluated/*/confusion.csv": "voxels of every true class by predicted class",
    "evaluated/*/curve.csv": "precision and recall over the threshold",
    "evaluated/*/matches.csv": "every pick as TP or FP, every missed point as FN",
    "evaluated/*/summary.json": "all headline figures of a task",
    "trained/*/*.csv": "loss and validation figures of every epoch",
    "averaged/*/fsc.csv": "Fourier shell correlation of the average",
    "picked/*/final/*.csv": "candidates of a volume, with place and score",
    "measured/*/*.json": "what was measured in a volume, with reasons for what was not",
}


@dataclass(frozen=True)
class File:
    """One file beside the page.

    Attributes
    ----------
    name
        Its name in `results/report/`.
    told
        What it holds.
    head, rows
        Its columns, and its cells: text, numbers or None.
    """

    name: str
    told: str
    head: Sequence[str]
    rows: Sequence[Sequence[Any]]


def beside(
    source: Source, run: Run, parts: Sequence[Section], outcome: str, made: str
) -> Section:
    """Write all files beside the page, and return the part of the page that lists them."""
    found = files(source, run, parts)
    write(source, found, facts(source, run, outcome, made))
    return section(source, found)


def section(source: Source, files: Sequence[File]) -> Section:
    """List all files with numbers: those beside the page, and those of the stages."""
    told = [(f"{FOLDER}/{one.name}", one.told, len(one.rows)) for one in files]
    body = [
        [Cell(name, "hash"), Cell(what, "wide"), Cell(f"{count:,}", "number", count)]
        for name, what, count in [*told, *_of_stages(source)]
    ]
    body.append([Cell(again.RECORD, "hash"), Cell("the page's figures as JSON"), Cell("")])
    caption = (
        "Below results/. Numbers have a point and all their digits, lengths stand with"
        " their unit in the name, n/a is an empty field."
    )
    table = Table(["file", "what it holds", "rows or files"], body, caption)
    return Section("numbers", "Numbers as tables", [table])


def _of_stages(source: Source) -> Iterator[tuple[str, str, int]]:
    for pattern, told in STAGES.items():
        if count := len(source.find(pattern)):
            yield pattern, told, count


def write(source: Source, files: Sequence[File], facts: Mapping[str, Any]) -> Path:
    """Write all files and remove those of an earlier page.

    Returns
    -------
    Path
        The folder.
    """
    folder = source.results / FOLDER
    for one in files:
        provenance.write_text(as_csv(one.head, one.rows), folder / one.name)
    listed = {one.name: one.told for one in files}
    text = json.dumps(_plain({**facts, "files": listed}), indent=1, allow_nan=False)
    provenance.write_text(f"{text}\n", source.results / again.RECORD)
    kept = {*listed, Path(again.RECORD).name}
    for path in [*folder.glob("*.csv"), *folder.glob("*.json")]:
        if path.name not in kept:
            path.unlink(missing_ok=True)
    return folder


# -- what the files hold -------------------------------------------------------------


def files(source: Source, run: Run, sections: Sequence[Section]) -> list[File]:
    """Return all files: typed rows first, then every table of the page."""
    own = {
        "figures.csv": ("headline figures with their intervals", figures(source)),
        "volumes.csv": (
            "a row per volume and task: state, size, score, counts",
            _without(rows.of_volumes(source), "found"),
        ),
        "measured.csv": ("what was measured, a row per quantity", rows.measured(source)),
        "warnings.csv": ("all warnings of checks, jobs and evaluations",
                         summary.warnings(source, run)),
        "failed-jobs.csv": ("jobs that ended without their result", failed(source)),
    }  # fmt: skip
    made = [_of_rows(name, told, found) for name, (told, found) in own.items()]
    return [*made, *of_tables(sections, {one.name for one in made})]


def figures(source: Source) -> list[dict[str, Any]]:
    """Return a row per headline figure."""
    return [
        {**figure.row(), "data": ", ".join(source.stamps(task))}
        for task in source.study.tasks
        for figure in headlines.of_task(source, task)
    ]


def failed(source: Source) -> list[dict[str, Any]]:
    """Return a row per job that failed."""
    return [
        {"rule": job.rule, "outputs": " ".join(job.outputs), "last_line": job.line}
        for job in states.failed(source)
    ]


def facts(source: Source, run: Run, outcome: str, made: str) -> dict[str, Any]:
    """Return the page's figures for machines."""
    light = summary.light(source, outcome, run)
    return {
        "study": source.study.root.resolve().name,
        "outcome": outcome,
        "made": made,
        "light": {"good": "green", "warn": "amber", "bad": "red"}[light.tone],
        "told": light.text,
        "volumes_by_state": states.counts(source),
        "run": again.record(run),
        "figures": figures(source),
        "warnings": summary.warnings(source, run),
        "failed_jobs": failed(source),
        "volumes": rows.of_volumes(source),
    }


def of_tables(sections: Sequence[Section], taken: set[str]) -> list[File]:
    """Return every table of the page as a file, named by its part and title.

    A table that names a file already taken is left out: the file holds its rows.
    """
    made, own = [], set(taken)
    taken = set(taken)
    for part in sections:
        title = part.anchor
        for block in part.blocks:
            if getattr(block, "kind", "") == "heading":
                title = f"{part.anchor} {block.text}"
            elif isinstance(block, Table) and block.rows and block.file not in own:
                name = _free(block.name or f"{title} {block.title}", taken)
                what = block.title or title.removeprefix(part.anchor).strip()
                told = f"table of the page, part {part.title}"
                cells = [[_value(cell) for cell in row] for row in block.rows]
                file = File(name, f"{told}: {what}" if what else told, block.head, cells)
                made.append(file)
    return made


def _free(words: str, taken: set[str]) -> str:
    """Return a file name from words that no other file has, and take it."""
    slug = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")[:80] or "table"
    tries = (f"{slug}{'' if n == 1 else f'-{n}'}.csv" for n in range(1, len(taken) + 2))
    name = next(name for name in tries if name not in taken)
    taken.add(name)
    return name


def _value(cell: Cell) -> Any:
    return cell.text if cell.value is None else cell.value


def _of_rows(name: str, told: str, found: Sequence[Mapping[str, Any]]) -> File:
    head = list(dict.fromkeys(key for row in found for key in row)) or ["nothing"]
    return File(name, told, head, [[row.get(key) for key in head] for row in found])


def _without(found: Iterable[Mapping[str, Any]], left_out: str) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != left_out} for row in found]


# -- text ----------------------------------------------------------------------------


def as_csv(head: Sequence[str], body: Iterable[Sequence[Any]]) -> str:
    """Write rows as CSV that no spreadsheet takes for formulas.

    Parameters
    ----------
    head
        Names of the columns.
    body
        Cells: None and what is not finite become empty; a text that a spreadsheet would
        compute gets an apostrophe in front, and line ends in it become "; ".
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([_cell(name) for name in head])
    writer.writerows([_cell(value) for value in row] for row in body)
    return text.getvalue()


def _cell(value: Any) -> Any:
    if value is None or value == "n/a":
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return repr(value) if math.isfinite(value) else ""
    raw = str(value)
    text = "; ".join(line for line in raw.splitlines() if line)
    text = "".join(one if one.isprintable() else " " for one in text)
    starts = any(one.lstrip(" ").startswith(FORMULA) for one in (raw, text))
    return f"'{text}" if starts and style.finite(text) is None else text


def _plain(value: Any) -> Any:
    """Make a nested value fit for JSON: what is not finite becomes null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
