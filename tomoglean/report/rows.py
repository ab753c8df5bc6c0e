"""A row per volume: what it is, how far it came, how well and what was found in it.

The same rows make the page's table and the tables beside it.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from tomoglean.report import states, style
from tomoglean.report.blocks import Cell, Section, Table
from tomoglean.report.sources import Row, Source, discreet, flat
from tomoglean.report.style import finite

VERDICTS = {"ok": "good", "warning": "warn", "refused": "bad"}
STATES = {"done": "good", "failed": "bad", "refused": "bad", "running": "warn"}
HEAD = ("volume", "state", "check", "z × y × x, voxel", "used for", "score", "found")
FACTS = {"volume", "task", "voxel_um", "classes", "reasons"}
CUBIC = (
    ("_mm3", 1.0, 1e-3, "mm³"),
    ("_um3", 1e-9, 1e-2, "µm³"),
    ("_nm3", 1e-18, -math.inf, "nm³"),
)
SCORED = {"iou": "IoU", "dice": "Dice"}


def volumes_table(source: Source) -> Section:
    """Return one row per volume: verdict, shape, state, score, what was found in it."""
    found = of_volumes(source)
    rows = [
        _cells([row for row in found if row["volume"] == volume["volume"]])
        for volume in source.study.volumes
    ]
    empty = "volumes.tsv has no row yet: add one per volume."
    table = Table(HEAD, rows, empty=empty, name="volumes")
    return Section("volumes", "Volumes", [table])


# -- the rows ------------------------------------------------------------------------


def of_volumes(source: Source) -> list[dict[str, Any]]:
    """Return a row per volume and task (one with an empty task where it has none).

    Every row names the volume's verdict, shape (voxels), voxel (nm) and state, and the
    task's use, scores, counts and answers; None where there is nothing.
    """
    return source.once("rows of volumes", lambda: list(_of_volumes(source)))


def _of_volumes(source: Source) -> Iterator[dict[str, Any]]:
    for row in source.study.volumes:
        volume = row["volume"]
        own = [task for task in source.study.tasks if volume in _of(source, task)]
        shared = _shared(source, volume)
        for task in own or [""]:
            yield {**shared, "task": task, **(_asked(source, task, volume) if task else {})}


def _of(source: Source, task: str) -> list[str]:
    return source.once(f"volumes of {task}", lambda: source.study.volumes_of(task))


def _shared(source: Source, volume: str) -> dict[str, Any]:
    checked, state = source.checked(volume), states.of_volume(source, volume)
    shape = checked.get("shape")
    edges = checked.get("voxel_nm")
    edges = [edges] * 3 if isinstance(edges, int | float) else edges
    root = source.study.root
    messages = [discreet(str(text), root) for text in checked.get("messages") or []]
    return {
        "volume": volume,
        "simulated": source.is_simulated(volume),
        "verdict": str(checked.get("verdict", "not checked")),
        **{name: n and int(n) for name, n in _triple(shape, "shape_{}").items()},
        **_triple(edges, "voxel_{}_nm"),
        "state": state.word,
        "state_rule": state.rule,
        "state_line": discreet(state.line, root),
        "notes": "; ".join(messages),
    }


def _triple(values: Any, form: str) -> dict[str, Any]:
    known = list(values) if isinstance(values, list | tuple) else []
    known += [None] * (3 - len(known))
    return {form.format(axis): finite(known[place]) for place, axis in enumerate("zyx")}


def _asked(source: Source, task: str, volume: str) -> dict[str, Any]:
    use = {"use": _used(source, task, volume)}
    if source.study.tasks[task].get("kind") == "detection":
        return {**use, **_picked(source, task, volume)}
    return {**use, **_scored(source, task, volume), "found": _found(source, task, volume)}


def _used(source: Source, task: str, volume: str) -> str:
    """Say what a volume serves; with folds, what trains one tests another."""
    uses = source.uses(task, volume)
    folds = source.study.tasks[task].get("cross_validation")
    if uses and folds:
        return f"train and test in {folds} folds"
    return ", ".join(uses) or "predict"


def _scored(source: Source, task: str, volume: str) -> dict[str, Any]:
    """Return IoU and Dice of the final round: of the one class, or the mean of several."""
    names = source.classes(task)
    name = names[1] if len(names) == 2 else "mean"
    for row in source.rows(f"evaluated/{task}/scores.csv"):
        place = (row.get("method"), row.get("volume"), row.get("class"))
        if place == ("final", volume, name):
            scores = {key: finite(row.get(key)) for key in SCORED}
            return {"class": name, "scored_on": row.get("use", ""), **scores}
    return {}


def _found(source: Source, task: str, volume: str) -> dict[str, float]:
    """Return the numbers that were measured in a volume, by quantity."""
    measured = flat(source.json(f"measured/{task}/{volume}.json"))
    return {
        name: value
        for name, told in measured.items()
        if name.split()[:1] and name.split()[0] not in FACTS
        if (value := finite(told)) is not None
    }


def _picked(source: Source, task: str, volume: str) -> dict[str, Any]:
    path = f"picked/{task}/final/{volume}.csv"
    if not (source.results / path).is_file():
        return {}
    mine = [row for row in _matches(source, task) if row.get("volume") == volume]
    counts = {one: sum(r.get("outcome") == one for r in mine) for one in ("TP", "FP", "FN")}
    is_judged = bool(mine) or _is_judged(source, task, volume)
    judged = {one.lower(): count for one, count in counts.items()} if is_judged else {}
    picks = source.rows(path)
    above = counts["TP"] + counts["FP"] if is_judged else _above(source, task, picks)
    return {"candidates": len(picks), "above_threshold": above, **judged}


def _is_judged(source: Source, task: str, volume: str) -> bool:
    """Whether a volume was scored though it has neither pick nor true point."""
    rounds = source.json(f"evaluated/{task}/summary.json").get("rounds") or {}
    scored = rounds.get("final") or {}
    return any(
        (scored.get(use) or {}).get("tomograms") for use in source.uses(task, volume)
    )


def _above(source: Source, task: str, picks: list[Row]) -> int | None:
    """Count picks that reach the task's threshold; None while there is none."""
    least = finite(source.json(f"evaluated/{task}/summary.json").get("threshold"))
    if least is None:
        return None
    return sum((finite(pick.get("score")) or 0.0) >= least for pick in picks)


def _matches(source: Source, task: str) -> list[Row]:
    rows = source.rows(f"evaluated/{task}/matches.csv")
    return [row for row in rows if row.get("round", "final") == "final"]


def measured(source: Source) -> list[dict[str, Any]]:
    """Return a row per volume, task and quantity; its name ends with its unit."""
    return [
        {"volume": row["volume"], "task": row["task"], "quantity": name, "value": value}
        for row in of_volumes(source)
        for name, value in (row.get("found") or {}).items()
    ]


# -- the table -----------------------------------------------------------------------


def _cells(rows: list[dict[str, Any]]) -> list[Cell]:
    """Write all that is known of one volume as a row of the page."""
    first, tasks = rows[0], [row for row in rows if row["task"]]
    used = [f"{style.words(row['task'])}: {row['use']}" for row in tasks]
    scores = [line for row in tasks if (line := _score_words(row))]
    found = [line for row in tasks for line in _found_words(row)]
    shape = [first[f"shape_{axis}"] for axis in "zyx"]
    edges = [first[f"voxel_{axis}_nm"] for axis in "zyx"]
    size = " × ".join(f"{n:.0f}" for n in shape if n is not None) or "n/a"
    edge = voxel([edge for edge in edges if edge is not None])
    return [
        Cell(first["volume"] + ("\nsimulated" if first["simulated"] else "")),
        Cell(first["state"], f"pill {STATES.get(first['state'], '')}", why=_notes(first)),
        Cell(first["verdict"], f"pill {VERDICTS.get(first['verdict'], '')}"),
        Cell(f"{size}\n{edge}", "keep"),
        Cell("\n".join(used), "keep"),
        Cell("\n".join(scores) or "not scored", "keep"),
        Cell("\n".join(found) or "nothing yet", "keep"),
    ]


def _notes(row: Mapping[str, Any]) -> str:
    if row["state"] in ("failed", "running"):
        told = f"{row['state_rule']}: {row['state_line']}"
    else:
        told = row["state_line"] if row["state"] == "waiting" else ""
    return "; ".join(filter(None, (told, row["notes"])))


def _score_words(row: Mapping[str, Any]) -> str:
    """Write how good a volume's answer is, and that a network knew it if it did."""
    if row.get("tp") is not None:
        tp, fp, fn = (row[key] for key in ("tp", "fp", "fn"))
        return f"{tp + fp} above the threshold:\n{tp} TP, {fp} FP, {fn} FN"
    known = {told: row.get(key) for key, told in SCORED.items()}
    told = [f"{name} {style.number(v)}" for name, v in known.items() if v is not None]
    which = "mean " if row.get("class") == "mean" else ""
    return "\n".join(f"{which}{one}" for one in told)


def _found_words(row: Mapping[str, Any]) -> list[str]:
    if row.get("candidates") is not None:
        count, above = row["candidates"], row.get("above_threshold")
        told = f"{count} candidate{'s' if count != 1 else ''}"
        return [told if above is None else f"{told},\n{above} above the threshold"]
    found = row.get("found") or {}
    names = [name.partition(" ")[2] for name in found if name.startswith("share_percent ")]
    shown = [name for place, name in enumerate(names) if place or name != "background"]
    return [*(_amount(name, found) for name in shown), *_answers(found)]


def _amount(name: str, found: Mapping[str, float]) -> str:
    share = f"{style.significant(found[f'share_percent {name}'])} %"
    size = found.get(f"volume_mm3 {name}")
    parts = [share] if size is None else [share, cubic(size)]
    return f"{style.words(name)} {', '.join(parts)}"


def _answers(found: Mapping[str, float]) -> list[str]:
    """Write what implants are asked for, where it is known: contact, loss, rate."""
    contact, gap = found.get("bone_contact_percent"), found.get("bone_contact_gap_um")
    loss = found.get("volume_loss_percent")
    rate = found.get("degradation_rate_mean_area_mm_per_year")
    within = "" if gap is None else f" (within {style.significant(gap)} µm)"
    known = {
        f"bone contact {style.significant(contact)} %{within}": contact,
        f"implant volume lost {style.significant(loss)} %": loss,
        f"degradation rate {style.significant(rate)} mm/year": rate,
    }
    return [told for told, value in known.items() if value is not None]


def voxel(edges_nm: Any) -> str:
    """Write a voxel size, as one number if all edges are equal.

    Examples
    --------
    >>> voxel([4.0, 4.0, 4.0]), voxel([50.0, 4.0, 4.0])
    ('4 nm', '50 × 4 × 4 nm')
    """
    edges = [edges_nm] if isinstance(edges_nm, int | float) else edges_nm
    if not isinstance(edges, list) or not edges:
        return "n/a"
    lengths = [style.length(float(e)) for e in edges if style.finite(e)]
    if len(set(lengths)) < 2:
        return lengths[0] if lengths else "n/a"
    units = {text.split()[1] for text in lengths}
    shared = f" {units.pop()}" if len(units) == 1 else ""
    return " × ".join(text.removesuffix(shared) for text in lengths) + shared


def cubic(volume_mm3: float) -> str:
    """Write a volume with the unit that suits it.

    Examples
    --------
    >>> cubic(2.0), cubic(3e-6), cubic(1e-12)
    ('2.00 mm³', '3,000 µm³', '1,000,000 nm³')
    """
    _, factor, unit = cubic_unit(volume_mm3)
    return f"{style.plain(volume_mm3 / factor)} {unit}"


def cubic_unit(volume_mm3: float) -> tuple[str, float, str]:
    """Return the unit that suits a volume: as names end with it, in mm³, as written."""
    return next(
        (ending, factor, unit)
        for ending, factor, least, unit in CUBIC
        if volume_mm3 >= factor * least
    )
