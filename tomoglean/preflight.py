"""Look at a whole study before any hour is spent on it: volumes, labels, disk, time."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from tomoglean import checks, forecast, tables
from tomoglean.study import SIMULATED, Study

Row = dict[str, str]
NOT_YET = "to be simulated"
GONE = "gone"
STAYS = "the raw file has gone since it was taken up; what was made of it stays"


@dataclass(frozen=True)
class Finding:
    """What was found of a volume, or of labels of one kind of one volume.

    Attributes
    ----------
    name
        Id of the volume; of labels also the task, kind and use.
    facts
        See `checks.check` and `checks.check_labels`.
    """

    name: str
    facts: dict[str, Any]

    @property
    def refused(self) -> bool:
        """Whether it cannot be used."""
        return bool(self.facts["verdict"] == "refused")

    def __str__(self) -> str:
        """Give one line of the table, and one for each message."""
        shape, edges = self.facts.get("shape"), self.facts.get("voxel_nm")
        told = [
            f"{self.name:<32}  {self.facts['verdict']:<15}",
            " x ".join(map(str, shape)) if shape else "",
            str(self.facts.get("dtype") or ""),
            f"{', '.join(f'{edge:g}' for edge in edges)} nm" if edges else "",
        ]
        lines = ["  ".join(filter(None, told)).rstrip()]
        return "\n".join([*lines, *(f"  {text}" for text in self.facts["messages"])])


def findings(study: Study) -> Iterator[Finding]:
    """Check every volume and every label file of a study, one after the other."""
    for row in study.volumes:
        facts = _unseen(study, [row]) or checks.check(row, study.root)
        yield Finding(row["volume"], facts)
    for (task, volume, kind, use), group in groupby(_sorted(study), key=_of_what):
        rows = list(group)
        yield Finding(f"{volume}, {task} {kind} {use}", _labels(study, rows))


def _labels(study: Study, rows: list[Row]) -> dict[str, Any]:
    volume = study.row(rows[0]["volume"])
    if facts := _unseen(study, [volume, *rows]):
        return facts
    block = study.tasks[rows[0]["task"]]
    return checks.check_labels(
        rows,
        volume,
        classes=block.get("classes", []),
        colours=block.get("colours"),
        root=study.root,
    )


def _missing(study: Study, row: Row) -> bool:
    """Tell whether a simulated file has still to be made."""
    simulated = row["path"].startswith(SIMULATED)
    return simulated and not tables.locate(row["path"], study.root).exists()


def _unseen(study: Study, rows: list[Row]) -> dict[str, Any] | None:
    """Tell of what cannot be looked at now, and need not be."""
    if rows[0]["volume"] in study.arrived.gone:
        return {"verdict": GONE, "messages": [STAYS]}
    if any(_missing(study, row) for row in rows):
        return {"verdict": NOT_YET, "messages": []}
    return None


def _sorted(study: Study) -> list[Row]:
    return sorted(study.labels, key=_of_what)


def _of_what(row: Row) -> tuple[str, str, str, str]:
    return row["task"], row["volume"], row["kind"], row["use"]


def without_labels(study: Study) -> Iterator[str]:
    """Say what a run leaves out because no row of labels.tsv asks for it."""
    for task, block in study.tasks.items():
        uses = {row["use"] for row in study.label_rows(task)}
        judged = {"test"} if block["kind"] == "semantic" else {"validate", "test"}
        if not study.volumes_of(task):
            continue
        if "train" not in uses:
            yield f"{task}: no row of labels.tsv is for train, so that nothing is found"
        elif not (uses & judged or block.get("cross_validation")):
            yield f"{task}: no row of labels.tsv is for test, so that no figure rates it"


def look(study: Study) -> Iterator[tuple[str, bool]]:
    """Look at everything; yield what to tell, and whether a run may start, bit by bit."""
    for line in study.arrived.refused:
        yield f"{line}\n", False
    for finding in findings(study):
        yield f"{finding}\n", not finding.refused
    yield from ((f"{line}\n", True) for line in without_labels(study))
    found = forecast.forecast(study)
    yield f"\n{forecast.told(found)}", found.fits
