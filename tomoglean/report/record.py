"""The data and the provenance page: what went in, and what it was made with."""

import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import yaml

from tomoglean.provenance import Refused
from tomoglean.report import environment, inputs, jobs, rulegraph, settings, style
from tomoglean.report.blocks import Cell, Drawing, Fold, Heading, Note, Section, Table
from tomoglean.report.figures import data_uri
from tomoglean.report.parts import safely
from tomoglean.report.sources import Source, discreet_tree, git_state

SHOWN_PACKAGES = ("tomoglean", "numpy", "h5py", "snakemake", "keras", "tensorflow-cpu")
BROKEN: list[Any] = [Note("This part could not be made; the log says why.", "warn")]
COSTS = (
    "Time is that of the script, without the time in a queue. Processors: processor time"
    " over time, of the jobs that tell both. Memory: resident memory of a job's largest"
    " process at its peak, in 10⁶ bytes; jobs of older versions of tomoglean did not record"
    " it. Code: first digits of the fingerprint of all code that the rule's script reaches,"
    " without comments; several where some jobs ran with other code."
)
GRAPH = (
    "Boxes are rules with the jobs that ended well and their time in all; what stands above"
    " feeds what stands below. Lines that follow from others are left out. Dashed: results"
    " go back up, since another round or task goes through the same rules once more."
)


def data(source: Source) -> Section:
    """Show every input with hash, grey values and labels, and what was refused."""
    blocks = [
        inputs.table(source),
        Heading("Refused", "refused"),
        *safely("refused", lambda: inputs.refused(source), BROKEN),
        Heading("Labels", "labels"),
        *safely("labels", lambda: [inputs.labels_table(source)], BROKEN),
    ]
    return Section("data", "Data", blocks, "What came in, as it was when it was checked.")


def provenance(source: Source) -> Section:
    """Tell versions, commit, environment, machines, config and what every rule took."""
    done = jobs.of(source.provenance())
    parts = {
        "made with": lambda: [made_with(source, done)],
        "rule graph": lambda: [Heading("Rules", "rules"), graph(done)],
        "costs": lambda: [Heading("What every rule took", "runtimes"), runtimes(done)],
        "config": lambda: [Heading("Config", "config"), *_config(source)],
    }
    blocks = [block for name, make in parts.items() for block in safely(name, make, BROKEN)]
    return Section("provenance", "Provenance", blocks)


def made_with(source: Source, done: Sequence[jobs.Job]) -> Table:
    """Name code, packages and machines."""
    commit, state = git_state()
    facts = {
        "commit of the jobs": _listed(jobs.counted(job.commit for job in done)),
        "commit of this page": f"{commit} ({state})",
        "packages": str(next(iter(environment.compared()), "no lock found")),
        **{f"sha256 of {lock.name}": lock.sha256 for lock in environment.compared()},
        "machines": _listed(jobs.counted(job.machine for job in done)),
        **versions(source),
    }
    rows = [
        [Cell(name), Cell(value, "hash" if name.startswith("sha256") else "wide")]
        for name, value in facts.items()
    ]
    caption = "Packages are compared with the locks now; versions are those of the jobs."
    return Table(["made with", "what"], rows, caption, name="made-with")


def _listed(counts: Mapping[str, int]) -> str:
    """Write words with the number of jobs each, a line each."""
    lines = [f"{word}: {n:,} {'job' if n == 1 else 'jobs'}" for word, n in counts.items()]
    return "\n".join(lines) or "no job has left a record"


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


def graph(done: Sequence[jobs.Job]) -> Any:
    """Draw the rules that ran and who fed whom."""
    if not done:
        return Note("No job left a record.")
    found = rulegraph.of(done)
    svg, width = rulegraph.draw(found)
    uri = data_uri(svg.encode(), "image/svg+xml")
    return Drawing(uri, rulegraph.words(found), width, GRAPH)


def runtimes(done: Sequence[jobs.Job]) -> Table:
    """Add up time and memory of every rule."""
    head = (
        *("rule", "jobs", "time in all", "median", "longest job", "processors"),
        *("median memory", "most memory", "code"),
    )
    rows = [_cost(cost) for cost in jobs.costs(done)]
    return Table(head, rows, COSTS, empty="No job left a record.", name="rules")


def _cost(cost: jobs.Cost) -> list[Cell]:
    spans = (cost.seconds, cost.median_seconds, cost.longest_seconds)
    return [
        Cell(cost.rule),
        Cell(f"{cost.jobs:,}", "number"),
        *(Cell(style.duration(seconds), "number", seconds) for seconds in spans),
        Cell(style.number(cost.processors, 1), "number", cost.processors),
        *(
            Cell(_memory(mb), "number", mb)
            for mb in (cost.median_memory_mb, cost.memory_mb)
        ),
        Cell(
            "\n".join(map(inputs.short, cost.code)) or "n/a", "hash", "; ".join(cost.code)
        ),
    ]


def _memory(megabytes: float | None) -> str:
    return "n/a" if megabytes is None else inputs.size(round(megabytes * 1e6))


def _config(source: Source) -> list[Any]:
    config = discreet_tree(source.study.config, source.study.root)
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    return [
        changed(config),
        Fold("config.yaml with all defaults", text),
        *(
            Fold(f"{name}.tsv as read", inputs.listing(source, name))
            for name in ("volumes", "labels")
        ),
    ]


def changed(config: Mapping[str, Any]) -> Any:
    """List the settings that differ from the defaults."""
    try:
        found = settings.differences(config)
    except (Refused, ValueError, TypeError, AttributeError, KeyError):
        text = "The defaults are not told: the config does not fit this version's schema."
        return Note(text, "warn")
    rows = [
        [
            Cell(one.key),
            Cell(_setting(one.default) if one.has_default else "(must be named)", "wide"),
            Cell(_setting(one.here), "wide strong"),
        ]
        for one in found
    ]
    caption = "A control differs from what its task trains with; lists are one value."
    head = ["setting", "default", "here"]
    return Table(head, rows, caption, empty="All as by default.", name="settings")


def _setting(value: Any) -> str:
    """Write a setting as one would set it."""
    return f"{value:g}" if isinstance(value, float) else settings.said(value)
