"""Show a study as one page: what was found, how good it is, what it was made from.

The page stands alone: styles and pictures lie inside it, nothing is loaded from anywhere
and no script runs. It is made after good and bad runs alike, from whatever is there.
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import jinja2

from tomoglean import provenance
from tomoglean.report import detection, learning, overview, record, semantic, style
from tomoglean.report.blocks import Card, Note, Section
from tomoglean.report.sources import Source, discreet, git_state
from tomoglean.study import Study

LOG = logging.getLogger(__name__)
NAME = "report.html"
Part = TypeVar("Part")


def build(study: Study, *, outcome: str, message: str = "") -> Path:
    """Write `results/report.html` of a study from whatever it holds so far.

    Parameters
    ----------
    study
        The study, as read from its folder.
    outcome
        How the run ended, green or failed; rebuilt where nothing was run.
    message
        One line on why, shown on top; folders are taken out of it.

    Returns
    -------
    Path
        The page. A part that cannot be made is one line on the page, and in the log.

    Raises
    ------
    OSError
        If the page cannot be written.
    """
    source = Source(study)
    text = discreet(message, study.root)
    page = _environment().get_template("report.html.j2")
    html = page.render(
        title=study.root.resolve().name,
        outcome=outcome,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        commit=git_state()[0][:10],
        alerts=_safely(
            "summary", lambda: overview.alerts(source, outcome, text), list[Note]()
        ),
        cards=_safely("summary", lambda: overview.cards(source), list[Card]()),
        sections=sections(source),
        outcome_colours=style.OUTCOME_COLOURS | {"pick": style.ORANGE},
    )
    path = source.results / NAME
    provenance.write_text(html, path)
    return path


def sections(source: Source) -> list[Section]:
    """Return all parts of the page in their order; a part that fails says so."""
    makers: dict[str, Callable[[], Section]] = {
        "headline": lambda: overview.headline(source),
        "volumes": lambda: overview.volumes_table(source),
    }
    for task in overview.tasks_in_order(source.study.tasks):
        makers[f"task-{task}"] = _maker(source, task)
    makers |= {
        "learning": lambda: learning.section(source),
        "data": lambda: record.data(source),
        "provenance": lambda: record.provenance(source),
    }
    return [_safely(name, make, _broken(name)) for name, make in makers.items()]


def _maker(source: Source, task: str) -> Callable[[], Section]:
    kind = source.study.tasks[task].get("kind")
    part = detection if kind == "detection" else semantic
    return lambda: part.section(source, task)


def _broken(name: str) -> Section:
    note = Note("This part could not be made; the log says why.", "warn")
    return Section(name, style.words(name.removeprefix("task-")), [note])


def _safely(name: str, make: Callable[[], Part], instead: Part) -> Part:
    try:
        return make()
    except Exception:
        LOG.exception("part %s of the report could not be made", name)
        return instead


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
