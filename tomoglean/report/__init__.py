"""Show a study as one page: what was found, how good it is, what it was made from.

The page stands alone: styles and pictures lie inside it, nothing is loaded from anywhere
and no script runs. It is made after good and bad runs alike, from whatever is there.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import jinja2

from tomoglean import provenance
from tomoglean.report import (
    again,
    averaging,
    budget,
    candidates,
    detection,
    learning,
    numbers,
    overview,
    places,
    record,
    semantic,
    slices,
    style,
    summary,
    surfaces,
)
from tomoglean.report.blocks import Card, Note, Section
from tomoglean.report.parts import BROKEN, Part, safely
from tomoglean.report.sources import Source, discreet, git_state
from tomoglean.study import Study

NAME = "report.html"
PARTS = (
    Part("measured", "Measured", semantic=[semantic.quantities]),
    Part("slices", "Slices", "", [slices.blocks], [places.pictures]),
    Part(
        "learning",
        "Learning curves",
        "Weights are kept from the epoch that did best on the validation data; without "
        "any, from the last one.",
        [learning.of_task],
        [learning.of_task],
    ),
    Part(
        "quality",
        "How good is it?",
        semantic=[semantic.question, semantic.proof],
        detection=[detection.rates],
    ),
    Part(
        "candidates",
        "Candidates",
        "Where does a complex sit?",
        detection=[candidates.galleries, averaging.blocks],
    ),
    Part(
        "space",
        "In three dimensions",
        semantic=[surfaces.segments],
        detection=[surfaces.candidates],
    ),
)


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
    run = again.last_run(source, outcome)
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    text = discreet(message, study.root)
    closing: list[Any] = safely("summary", lambda: summary.blocks(source, run), BROKEN)
    parts = sections(source)
    parts = safely("budget", partial(budget.keep, parts), parts)
    beside = safely(
        "numbers",
        lambda: numbers.beside(
            source, run, [Section("summary", "Summary", closing), *parts], outcome, made
        ),
        Section("numbers", "Numbers as tables", BROKEN),
    )
    page = _environment().get_template("report.html.j2")
    html = page.render(
        title=study.root.resolve().name,
        outcome=outcome,
        made=made,
        commit=git_state()[0][:10],
        light=safely("summary", lambda: summary.light(source, outcome, run), None),
        alerts=safely(
            "summary", lambda: overview.alerts(source, outcome, text), list[Note]()
        ),
        cards=safely("summary", lambda: overview.cards(source), list[Card]()),
        closing=closing,
        sections=[*parts, beside],
        outcome_colours=style.OUTCOME_COLOURS | {"pick": style.ORANGE},
    )
    path = source.results / NAME
    provenance.write_text(html, path)
    return path


def sections(source: Source) -> list[Section]:
    """Return all parts of the page in their order; a part that fails says so."""
    makers: dict[str, Callable[[Source], Section]] = {
        "headline": overview.headline,
        "volumes": overview.volumes_table,
        **{part.anchor: part.section for part in PARTS},
        "data": record.data,
        "provenance": record.provenance,
    }
    return [
        safely(name, partial(make, source), Section(name, style.words(name), BROKEN))
        for name, make in makers.items()
    ]


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
