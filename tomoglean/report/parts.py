"""One part of the report for every task in turn: slices, quality, candidates ..."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from tomoglean.report import overview, style
from tomoglean.report.blocks import Heading, Note, Section
from tomoglean.report.sources import Source

LOG = logging.getLogger(__name__)
Blocks = Callable[[Source, str], list[Any]]
Made = TypeVar("Made")


@dataclass(frozen=True)
class Part:
    """A titled part of the page, and what makes it for tasks of either kind."""

    anchor: str
    title: str
    lead: str = ""
    semantic: Sequence[Blocks] = ()
    detection: Sequence[Blocks] = ()

    def section(self, source: Source) -> Section:
        """Return the part with a heading per task that has something to say in it."""
        tasks = overview.tasks_in_order(source.study.tasks)
        blocks = [block for task in tasks for block in self._of_task(source, task)]
        asked = any(self._makers(source, task) for task in tasks) or not tasks
        empty = "Nothing here yet." if asked else "No task of this study asks for it."
        return Section(self.anchor, self.title, blocks or [Note(empty)], self.lead)

    def _makers(self, source: Source, task: str) -> Sequence[Blocks]:
        kind = source.study.tasks[task].get("kind")
        return self.detection if kind == "detection" else self.semantic

    def _of_task(self, source: Source, task: str) -> list[Any]:
        name = f"{self.anchor}-{task}"
        shown = [
            block
            for make in self._makers(source, task)
            for block in safely(name, partial(make, source, task), BROKEN)
        ]
        heading = Heading(style.words(task), name, source.stamps(task))
        return [heading, *shown] if shown else []


BROKEN: list[Any] = [Note("This part could not be made; the log says why.", "warn")]


def safely(name: str, make: Callable[[], Made], instead: Made) -> Made:
    """Return what is made, or what stands instead if that fails, which is logged."""
    try:
        return make()
    except Exception:
        LOG.exception("part %s of the report could not be made", name)
        return instead
