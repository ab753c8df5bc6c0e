"""The top of the report: did it work, the headline beside 2019, a row per volume."""

from collections.abc import Mapping
from typing import Any

from tomoglean.report import style
from tomoglean.report.blocks import Card, Cell, Note, Section, Table
from tomoglean.report.detection import shown_use
from tomoglean.report.sources import Source, discreet, flat
from tomoglean.report.style import number
from tomoglean.study import slice_numbers

IMPLANT_2019 = "“very high accuracy”, without a figure"
MEMBRANE_2019 = "a U-Net finds the membrane, without a figure"
PICKS_2019 = "“false positives about equal to true positives”: about 1 FP per TP"
NOTHING_2019 = "no statement"
VERDICTS = {"ok": "good", "warning": "warn", "refused": "bad"}
STAMP_WORDS = {
    "simulated": "phantoms with exact truth, not measured data",
    "partly simulated": "some volumes are phantoms with exact truth",
    "same scan": "trained and tested on one scan: figures do not speak for others",
}


def cards(source: Source) -> list[Card]:
    """Return the headline figures, the count of volumes first."""
    found = [_volumes_card(source)]
    for task, block in source.study.tasks.items():
        build = _detection_card if block.get("kind") == "detection" else _semantic_card
        found.append(build(source, task))
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


def _semantic_card(source: Source, task: str) -> Card:
    figure = semantic_headline(source, task)
    label = f"{style.words(task)}: {figure['what']}"
    return Card(label, figure["value"], figure["detail"], source.stamps(task))


def _detection_card(source: Source, task: str) -> Card:
    figure = detection_headline(source, task)
    label = f"{style.words(task)}: {figure['what']}"
    return Card(label, figure["value"], figure["detail"], source.stamps(task))


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
    return Card("computing time", total, f"{len(spent)} jobs, one after another")


def semantic_headline(source: Source, task: str) -> dict[str, str]:
    """Say how good the final network is, and the best method without a network."""
    summary = source.json(f"evaluated/{task}/summary.json")
    names = source.classes(task)
    by_class = (summary.get("iou") or {}).get("final") or {}
    one = len(names) == 2
    what = f"IoU of {style.words(names[1])}" if one else "mean IoU"
    ours = by_class.get(names[1]) if one else (summary.get("mean_iou") or {}).get("final")
    if style.finite(ours) is None:
        reason = str(summary.get("reason") or "nothing scored yet")
        return {"what": what, "value": "n/a", "detail": reason}
    bounds = None if one else (summary.get("mean_iou_interval") or {}).get("final")
    spread = f"95 % {number(bounds[0])} to {number(bounds[1])}; " if bounds else ""
    detail = f"{spread}{_held(source, task, summary)}"
    return {"what": what, "value": number(ours), "detail": detail + _rival(summary, names)}


def _held(source: Source, task: str, summary: Mapping[str, Any]) -> str:
    """Count what the figures rest on: volumes, or slices where a volume has many uses."""
    use, found = str(summary.get("use")), len(summary.get("volumes") or [])
    what = "volume"
    if "same scan" in source.stamps(task):
        crossed = source.study.tasks[task].get("cross_validation")
        rows = source.study.label_rows(task, use="train" if crossed else use)
        named = {z for row in rows for z in slice_numbers(row.get("slices", ""))}
        found, what = (len(named), "slice") if named else (found, what)
    return f"{found} {use} {what}{'s' if found != 1 else ''}"


def _rival(summary: Mapping[str, Any], names: list[str]) -> str:
    best = (summary.get("best_baseline") or {}).get("method")
    figure = (summary.get("best_baseline") or {}).get("mean_iou")
    more = ""
    if len(names) == 2:
        figure = ((summary.get("iou") or {}).get(best) or {}).get(names[1])
        surface = (summary.get("surface_dice") or {}).get("final") or {}
        known = style.finite(surface.get(names[1]))
        more = "" if known is None else f"; surface Dice {number(known)}"
    return (f"; best baseline: {style.words(best)} {number(figure)}" if best else "") + more


def detection_headline(source: Source, task: str) -> dict[str, str]:
    """Say how many false picks come with a true one, and at what recall."""
    summary = source.json(f"evaluated/{task}/summary.json")
    figure = summary.get("headline") or {}
    what = "FP per TP"
    if not figure:
        reason = str(summary.get("reason") or "nothing scored yet")
        return {"what": what, "value": "n/a", "detail": reason}
    value = style.number(figure.get("fp_per_tp"), 2)
    use = summary.get("use") or shown_use(summary)
    recall, tp = style.number(figure.get("recall"), 2), figure.get("tp", "n/a")
    detail = f"recall {recall}; {tp} TP, {figure.get('fp', 'n/a')} FP, {use} volumes"
    return {"what": what, "value": value, "detail": detail}


def headline(source: Source) -> Section:
    """Return the 2019 statements beside ours."""
    rows = [_headline_row(source, task) for task in source.study.tasks]
    head = ["question", "2019 said", "this run", "measured on", "data"]
    said = any(said_2019(source, task) != NOTHING_2019 for task in source.study.tasks)
    if not said:
        rows, head = [[row[0], *row[2:]] for row in rows], [head[0], *head[2:]]
    table = Table(head, rows, empty="The config names no task.")
    stamps = dict.fromkeys(s for task in source.study.tasks for s in source.stamps(task))
    notes = [
        Note(f"{stamp}: {STAMP_WORDS[stamp]}.") for stamp in stamps if stamp in STAMP_WORDS
    ]
    lead = "The 2019 talk gave statements without tables; ours are measured, with what on."
    title = "2019 and now" if said else "In one line"
    return Section("headline", title, [table, *notes], lead if said else "")


def _headline_row(source: Source, task: str) -> list[Cell]:
    kind = source.study.tasks[task].get("kind")
    find = detection_headline if kind == "detection" else semantic_headline
    figure = find(source, task)
    ours = f"{figure['what']} {figure['value']}"
    stamps = ", ".join(source.stamps(task)) or "measured volumes"
    return [
        Cell(style.words(task)),
        Cell(said_2019(source, task), "mid"),
        Cell(ours, "keep strong"),
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


# -- volumes -------------------------------------------------------------------------


def volumes_table(source: Source) -> Section:
    """Return one row per volume: verdict, shape, what was found in it."""
    rows = [_volume_row(source, row["volume"]) for row in source.study.volumes]
    head = ["volume", "verdict", "shape (z, y, x)", "voxel", "used for", "found", "notes"]
    table = Table(head, rows, empty="volumes.tsv has no row yet: add one per volume.")
    return Section("volumes", "Volumes", [table])


def _volume_row(source: Source, volume: str) -> list[Cell]:
    checked = source.checked(volume)
    verdict = str(checked.get("verdict", "not checked"))
    tasks = [task for task in source.study.tasks if volume in source.study.volumes_of(task)]
    used = [f"{style.words(task)}: {_used(source, task, volume)}" for task in tasks]
    found = [text for task in tasks for text in _found(source, task, volume)]
    name = volume + ("\nsimulated" if source.is_simulated(volume) else "")
    return [
        Cell(name),
        Cell(verdict, f"pill {VERDICTS.get(verdict, '')}"),
        Cell(" × ".join(map(str, checked.get("shape") or [])) or "n/a", "number"),
        Cell(voxel(checked.get("voxel_nm")), "number"),
        Cell("\n".join(used), "keep"),
        Cell("\n".join(found) or "nothing yet", "keep"),
        Cell("; ".join(map(str, checked.get("messages") or [])), "wide"),
    ]


def _used(source: Source, task: str, volume: str) -> str:
    """Say what a volume serves; with folds, what trains one tests another."""
    uses, folds = (
        source.uses(task, volume),
        source.study.tasks[task].get("cross_validation"),
    )
    return (
        f"train and test in {folds} folds"
        if uses and folds
        else ", ".join(uses) or "predict"
    )


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


def _found(source: Source, task: str, volume: str) -> list[str]:
    if source.study.tasks[task].get("kind") == "detection":
        return _found_picks(source, task, volume)
    measured = flat(source.json(f"measured/{task}/{volume}.json"))
    texts = []
    for name in source.named_classes(task):
        share = style.finite(measured.get(f"share_percent {name}"))
        volume_mm3 = style.finite(measured.get(f"volume_mm3 {name}"))
        parts = [] if share is None else [f"{style.significant(share)} %"]
        parts += [] if volume_mm3 is None else [cubic(volume_mm3)]
        if parts:
            texts.append(f"{style.words(name)} {', '.join(parts)}")
    return texts


def cubic(volume_mm3: float) -> str:
    """Write a volume with the unit that suits it.

    Examples
    --------
    >>> cubic(2.0), cubic(3e-6)
    ('2.00 mm³', '3,000 µm³')
    """
    for factor, unit in ((1.0, "mm³"), (1e-9, "µm³")):
        if volume_mm3 >= factor * 1e-3:
            return f"{style.significant(volume_mm3 / factor)} {unit}"
    return f"{style.significant(volume_mm3 * 1e18)} nm³"


def _found_picks(source: Source, task: str, volume: str) -> list[str]:
    candidates = source.rows(f"picked/{task}/final/{volume}.csv")
    if not (source.results / f"picked/{task}/final/{volume}.csv").is_file():
        return []
    rows = source.rows(f"evaluated/{task}/matches.csv")
    mine = [
        r for r in rows if r.get("volume") == volume and r.get("round", "final") == "final"
    ]
    counts = {o: sum(r.get("outcome") == o for r in mine) for o in style.OUTCOME_WORDS}
    judged = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    return [f"{len(candidates)} candidates" + (f": {judged}" if mine else "")]


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
