"""Put two runs side by side on one page: settings, code, versions, data, every figure."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tomoglean import provenance, report
from tomoglean.report import numbers, runs, style
from tomoglean.report.blocks import Card, Cell, Fold, Note, Section, Table
from tomoglean.report.runs import Facts
from tomoglean.report.settings import said
from tomoglean.report.sources import Source

LOG = logging.getLogger(__name__)
MOST_ROWS = 400
PARTS = (
    *("headline", "figures", "volumes", "config", "tables", "code", "versions"),
    *("checkout", "data"),
)
TITLES = {
    "headline": "Headline figures",
    "figures": "All figures",
    "volumes": "Figures per volume",
    "config": "Config",
    "tables": "Tables",
    "code": "Code",
    "checkout": "Checkout and locks",
    "versions": "Versions",
    "data": "Data",
}
LEADS = {
    "code": "Fingerprints of all code that a stage's script reaches, without comments;"
    " several where parts of a run were made with different code.",
    "checkout": "Commit of the jobs, or of the crate where no job tells it; locks and their"
    " sha256 as the crate carries them.",
    "versions": "As the records of the jobs name them.",
    "data": "As the check found them; a sha256 is cut to 12 digits.",
    "tables": "Rows of volumes.tsv and labels.tsv; folders are left out of paths.",
}
MEASURED = ("headline", "figures", "volumes")
DIGITS = {"headline": 3}


@dataclass(frozen=True)
class Difference:
    """One thing that both runs have, or one of them.

    Attributes
    ----------
    name
        What it is.
    a, b
        What it is in either run; None where there is none.
    """

    name: str
    a: Any
    b: Any

    @property
    def is_same(self) -> bool:
        """Whether both have it, and the same; not a number is the same as itself."""
        return bool(self.a == self.b or (self.a != self.a and self.b != self.b))


def build(a: Path, b: Path, page: Path) -> list[str]:
    """Write a page on how two studies differ.

    Parameters
    ----------
    a, b
        Folders of studies; raw data need not be there.
    page
        Where the page will stand.

    Returns
    -------
    list of str
        What differs, one line each, for the command line.

    Raises
    ------
    Refused
        If a folder is no study.
    OSError
        If the page cannot be written.
    """
    (first, odd_a), (second, odd_b) = runs.opened(a), runs.opened(b)
    found = {part: _compared(part, first, second) for part in PARTS}
    names = f"A: {_folder(a)}", f"B: {_folder(b)}"
    alerts = [_verdict(found, first, second)]
    for side, name, odd in (("a", names[0], odd_a), ("b", names[1], odd_b)):
        lines = [*odd, *_missing(found, side)]
        alerts += [Note(f"{name}: {line}", "warn") for line in lines]
    html = (
        report._environment()
        .get_template("compare.html.j2")
        .render(
            title=" and ".join(names),
            names=names,
            made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            same=_is_same(found),
            alerts=alerts,
            cards=[_card(part, found[part]) for part in PARTS],
            sections=[_section(part, found[part], names) for part in PARTS],
            outcome_colours=style.OUTCOME_COLOURS,
        )
    )
    provenance.write_text(html, page)
    _write_rows(found, names, page)
    return [alerts[0].text, *(f"{_count(part, found[part])}" for part in PARTS)]


def _write_rows(
    found: Mapping[str, list[Difference] | None], names: tuple[str, str], page: Path
) -> None:
    """Write what both runs are, equal or not, as CSV and as JSON beside the page."""
    listed = [
        {"part": part, "name": one.name, "a": one.a, "b": one.b, "same": one.is_same,
         "b_minus_a": _gap(one)}
        for part, every in found.items()
        for one in every or ()
    ]  # fmt: skip
    head = ["part", "name", "a", "b", "same", "b_minus_a"]
    cells = [[_plain(row[name]) for name in head] for row in listed]
    base = page.with_suffix("") if page.suffix == ".html" else page
    provenance.write_text(numbers.as_csv(head, cells), base.parent / f"{base.name}.csv")
    rows = [{name: _finite(value) for name, value in row.items()} for row in listed]
    told = {"a": names[0], "b": names[1], "rows": rows}
    provenance.write_json(told, base.parent / f"{base.name}.json")


def _plain(value: Any) -> Any:
    """Write a value as one cell: lists and truth values as JSON, nothing as nothing."""
    simple = value is None or (
        isinstance(value, str | int | float) and not isinstance(value, bool)
    )
    return value if simple else json.dumps(value, default=str, ensure_ascii=False)


def _finite(value: Any) -> Any:
    """Return a value that JSON can hold: a number that is none becomes null."""
    if isinstance(value, float):
        return style.finite(value)
    return value if value is None or isinstance(value, str | int) else _plain(value)


def _folder(path: Path) -> str:
    whole = path.resolve()
    return whole.parent.name if whole.name == "results" else whole.name


def _missing(found: Mapping[str, list[Difference] | None], side: str) -> list[str]:
    """Say which parts one run has nothing of, though the other has."""
    parts = [
        TITLES[part].lower()
        for part, listed in found.items()
        if listed and all(getattr(one, side) is None for one in listed)
    ]
    return [f"nothing there of: {', '.join(parts)}"] if parts else []


def differences(a: Facts, b: Facts) -> list[Difference]:
    """Put two sets of facts side by side, in the order of the first, then the second."""
    return [Difference(name, a.get(name), b.get(name)) for name in {**a, **b}]


def _compared(part: str, first: Source, second: Source) -> list[Difference] | None:
    """Compare one part; None if it cannot be, which the log explains."""
    facts: dict[str, Callable[[Source], Facts]] = {
        "headline": runs.headline,
        "figures": runs.figures,
        "volumes": runs.of_volumes,
        "config": runs.config,
        "tables": runs.rows,
        "code": runs.code,
        "checkout": runs.checkout,
        "versions": runs.versions,
        "data": runs.data,
    }
    try:
        return differences(facts[part](first), facts[part](second))
    except Exception:
        LOG.exception("part %s of the comparison could not be made", part)
        return None


# -- writing ---------------------------------------------------------------------------


def _is_same(found: Mapping[str, list[Difference] | None]) -> bool:
    return all(part is not None and _changed(part) == [] for part in found.values())


def _changed(part: Sequence[Difference]) -> list[Difference]:
    return [one for one in part if not one.is_same]


def _verdict(
    found: Mapping[str, list[Difference] | None], first: Source, second: Source
) -> Note:
    """Say in one line whether, and in what, the runs differ."""
    empty = [s for s in (first, second) if not s.provenance()]
    if _is_same(found):
        more = " Neither left a record of a job yet." if len(empty) == 2 else ""
        text = "The runs are equal in config, code, versions, data and every figure."
        return Note(text + more, "good")
    changed = [TITLES[part].lower() for part in PARTS if _changed(found[part] or [])]
    told = [TITLES[part].lower() for part in PARTS if found[part] is None]
    more = f" Not to be compared: {', '.join(told)}; the log says why." if told else ""
    return Note(f"The runs differ in: {', '.join(changed) or 'nothing'}.{more}", "warn")


def _count(part: str, found: Sequence[Difference] | None) -> str:
    title = TITLES[part]
    if found is None:
        return f"{title}: could not be compared"
    if not found:
        return f"{title}: neither run has any"
    return f"{title}: {len(_changed(found))} of {len(found)} differ"


def _card(part: str, found: Sequence[Difference] | None) -> Card:
    if found is None:
        return Card(TITLES[part], "n/a", "could not be compared; the log says why")
    if not found:
        return Card(TITLES[part], "n/a", "neither run has any")
    changed = len(_changed(found))
    detail = f"of {len(found):,} differ" if changed else f"all {len(found):,} are equal"
    return Card(TITLES[part], f"{changed:,}" if changed else "equal", detail)


def _section(
    part: str, found: Sequence[Difference] | None, names: tuple[str, str]
) -> Section:
    if found is None:
        note = Note("This part could not be compared; the log says why.", "warn")
        return Section(part, TITLES[part], [note])
    changed, whole = _changed(found), part == "headline"
    shown = list(found) if whole else changed
    same = [one for one in found if one.is_same]
    empty = "All equal." if found else "Neither run has any."
    counted = part in MEASURED and any(_gap(one) is not None for one in shown)
    head = ["", *names, *(["B − A"] if counted else [])]
    listed = [_cells(one, counted, DIGITS.get(part, 4)) for one in shown[:MOST_ROWS]]
    more = len(shown) - MOST_ROWS
    caption = f"{more:,} more differ; the files hold them." if more > 0 else ""
    blocks: list[Any] = [Table(head, listed, caption, empty=empty)]
    if same and not whole:
        text = "\n".join(f"{one.name}: {said(one.a)}" for one in same)
        blocks.append(Fold(f"{len(same):,} are equal", text))
    return Section(part, TITLES[part], blocks, LEADS.get(part, ""))


def _gap(one: Difference) -> float | None:
    """Return how much larger B is, where both are numbers; whole for whole numbers."""
    if not all(isinstance(value, int | float) for value in (one.a, one.b)):
        return None
    return None if isinstance(one.a, bool) else one.b - one.a


def _cells(one: Difference, counted: bool, digits: int) -> list[Cell]:
    look, gap = "" if one.is_same else "strong", _gap(one)
    kind = "wide" if gap is None else "number"
    sides = [Cell(said(v, digits), f"{kind} {look}".strip()) for v in (one.a, one.b)]
    told = [Cell(_signed(gap, digits), "number")] if counted else []
    return [Cell(one.name), *sides, *told]


def _signed(gap: float | None, digits: int) -> str:
    if not gap:
        return "" if gap is None else "0"
    return f"{'+' if gap > 0 else '−'}{said(abs(gap), digits)}"
