"""The data and the provenance page: what went in, and what it was made with."""

import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import yaml

from tomoglean.report import style
from tomoglean.report.blocks import Cell, Fold, Heading, Note, Section, Table
from tomoglean.report.overview import VERDICTS
from tomoglean.report.sources import Source, discreet_tree, environment_locks, git_state

SHOWN_PACKAGES = ("tomoglean", "numpy", "h5py", "snakemake", "keras", "tensorflow-cpu")


def data(source: Source) -> Section:
    """List every input with its hash and grey values."""
    rows = [
        _data_row(row["volume"], source.checked(row["volume"]))
        for row in source.study.volumes
    ]
    head = [
        "volume",
        "file",
        "format",
        "type",
        "range",
        "0.5 / 50 / 99.5 %",
        "sha256",
        "verdict",
    ]
    table = Table(head, rows, "Percentiles of the grey values as stored.")
    blocks = [table, Heading("Labels", "labels"), _labels(source.checked_labels())]
    return Section("data", "Data", blocks, "What came in, as it was when it was checked.")


def _labels(found: Sequence[Mapping[str, Any]]) -> Table:
    """List what every set of labels holds, and what is odd about it."""
    rows = [
        [
            *(Cell(str(labels[name])) for name in ("task", "volume", "use", "kind")),
            Cell("; ".join(f"{style.words(n)} {c:,}" for n, c in _counts(labels)), "wide"),
            Cell("; ".join(map(str, labels.get("messages") or [])), "wide"),
            _verdict(labels),
        ]
        for labels in found
    ]
    head = ["task", "volume", "use", "kind", "voxels or points", "notes", "verdict"]
    return Table(head, rows, empty="No labels yet.")


def _verdict(facts: Mapping[str, Any]) -> Cell:
    verdict = str(facts.get("verdict", "not checked"))
    return Cell(verdict, f"pill {VERDICTS.get(verdict, '')}")


def _counts(labels: Mapping[str, Any]) -> list[tuple[str, int]]:
    voxels = dict(labels.get("voxels") or {})
    others = {name: labels[name] for name in ("unlabelled", "points") if labels.get(name)}
    return list({**voxels, **others}.items())


def _data_row(volume: str, checked: Mapping[str, Any]) -> list[Cell]:
    percentiles = checked.get("percentiles") or {}
    spread = [style.significant(percentiles.get(name)) for name in ("0.5", "50", "99.5")]
    ends = [style.significant(checked.get(name)) for name in ("minimum", "maximum")]
    return [
        Cell(volume),
        Cell(str(checked.get("source") or "n/a")),
        Cell(str(checked.get("format") or "n/a")),
        Cell(str(checked.get("dtype") or "n/a")),
        Cell(" to ".join(ends), "number"),
        Cell(" / ".join(spread), "number"),
        Cell(str(checked.get("sha256") or "n/a"), "hash"),
        _verdict(checked),
    ]


def provenance(source: Source) -> Section:
    """Tell versions, commit, environment, config and what every rule cost."""
    commit, state = git_state()
    facts = {"commit": commit, "files of the checkout": state, **versions(source)}
    locks = {f"sha256 of {name}": digest for name, digest in environment_locks().items()}
    rows = [
        [Cell(name), Cell(value, "hash" if len(value) >= 40 else "")]
        for name, value in {**facts, **locks}.items()
    ]
    config = discreet_tree(source.study.config, source.study.root)
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    tables = {name: getattr(source.study, name) for name in ("volumes", "labels")}
    folds = [
        Fold(f"{name}.tsv as read", _listing(discreet_tree(rows_, source.study.root)))
        for name, rows_ in tables.items()
    ]
    blocks = [
        Table(["made with", ""], rows),
        Heading("What every rule cost", "runtimes"),
        runtimes(source.provenance()),
        Heading("Config", "config"),
        Fold("config.yaml with all defaults", text),
        *folds,
        Note("To make it again: check out this commit, then run snakemake in this study."),
    ]
    return Section("provenance", "Provenance", blocks)


def versions(source: Source) -> dict[str, str]:
    """Return versions the artefacts were made with; those of now where none is recorded."""
    found: dict[str, dict[str, None]] = {}
    for record in source.provenance():
        for name, version in (record.get("versions") or {}).items():
            found.setdefault(str(name), {})[str(version)] = None
    if found:
        return {name: ", then ".join(seen) for name, seen in sorted(found.items())}
    now = {"python": ".".join(map(str, sys.version_info[:3]))}
    return now | {name: v for name in SHOWN_PACKAGES if (v := _version(name))}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def runtimes(records: Sequence[Mapping[str, Any]]) -> Table:
    """Add up the time of every rule; a job with several artefacts counts once."""
    jobs: dict[str, dict[tuple[Any, ...], float]] = {}
    for record in records:
        seconds = style.finite(record.get("seconds"))
        mine = jobs.setdefault(str(record.get("rule", "unknown")), {})
        if seconds is not None:
            mine[record.get("key"), record.get("started")] = seconds
    order = sorted(jobs, key=lambda rule: -sum(jobs[rule].values()))
    rows = [
        [
            Cell(rule),
            Cell(str(len(jobs[rule])), "number"),
            Cell(style.duration(sum(jobs[rule].values())), "number"),
            Cell(style.duration(max(jobs[rule].values(), default=None)), "number"),
        ]
        for rule in order
    ]
    head = ["rule", "jobs", "time in all", "longest job"]
    return Table(head, rows, empty="No job left a record.")


def _listing(rows: Sequence[Mapping[str, str]]) -> str:
    if not rows:
        return "(no rows)"
    lines = ["\t".join(rows[0]), *["\t".join(map(str, row.values())) for row in rows]]
    return "\n".join(lines)
