"""Words for people: what a check found, and the reference page made from the schemas."""

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tomoglean import config, formats, particles

COLUMNS_OF_CHECK = (
    "dataset",
    "shape",
    "dtype",
    "header_bytes",
    "byte_order",
    "voxel_nm",
    "spacing",
    "linked",
)
PAGES = {
    "config": "config/config.yaml",
    "volumes": "config/volumes.tsv",
    "labels": "config/labels.tsv",
    "task-semantic": "A semantic task",
    "task-detection": "A detection task",
}
LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
    "enum": "one of {}",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
}


TABLE = (
    "<!-- made by `python -m tomoglean docs` from here -->",
    "<!-- to here -->",
)


def meanings() -> dict[str, str]:
    """Say what each column means that describes a bare file."""
    columns = config.read_schema("volumes")["properties"]
    return {name: columns[name]["description"] for name in COLUMNS_OF_CHECK}


def told(facts: Mapping[str, Any], name: str = "") -> str:
    """Say what a check found, under a longer name than that of the file, if given."""
    lines = [f"{name or facts['source']}: {facts['verdict']}"]
    lines += [f"  {message}" for message in [*facts["messages"], *facts["notes"]]]
    lines += _facts(facts) if facts["sha256"] else []
    return "\n".join(lines) + "\n"


def rows(found: Iterable[Mapping[str, Any]]) -> str:
    """Write the rows to paste into volumes.tsv, of all that was not refused."""
    columns = list(config.read_schema("volumes")["properties"])
    good = [facts["row"] for facts in found if facts["verdict"] != "refused"]
    if not good:
        return ""
    names = _unlike(row["volume"] for row in good)
    cells = [
        {**dict.fromkeys(columns, ""), **row, "tasks": "TASKS", "volume": name}
        for row, name in zip(good, names, strict=True)
    ]
    head = "\nfor config/volumes.tsv, under these columns; fill in the tasks:"
    lines = [
        head,
        "\t".join(columns),
        *("\t".join(map(str, row.values())) for row in cells),
    ]
    return "\n".join(lines) + "\n"


def _unlike(names: Iterable[str]) -> list[str]:
    """Number names that came before: raw, raw-2."""
    unlike: list[str] = []
    for name in names:
        numbered = (f"{name[:60]}-{number}" for number in itertools.count(2))
        unlike.append(next(x for x in itertools.chain([name], numbered) if x not in unlike))
    return unlike


def _facts(facts: Mapping[str, Any]) -> list[str]:
    shape = " x ".join(map(str, facts["shape"]))
    edges = facts["voxel_nm"]
    voxel = " x ".join(f"{edge:g}" for edge in edges) + " nm" if edges else "unknown"
    low, high = facts["minimum"], facts["maximum"]
    said = "; ".join(f"{name} {value}" for name, value in facts["acquisition"].items())
    return [
        f"  {facts['format']}, {shape} voxels (z, y, x), {facts['dtype']}, voxel {voxel}",
        f"  values {low:g} to {high:g}, mean {facts['mean']:.5g}, std {facts['std']:.5g}",
        *([f"  recorded with: {said}"] if said else []),
        f"  sha256 {facts['sha256']}",
    ]


def handed_out(folder: Path) -> str:
    """Say what to do with slices that were written for correction."""
    return (
        f"{folder}: look at images/, correct labels/, keep the names, then add a row to "
        f"config/labels.tsv with kind clean, grid converted and path {folder / 'labels'}\n"
    )


def page() -> str:
    """Write the reference of every setting, its default and limits, as Markdown."""
    parts = [
        "# Settings\n\nMade by `make docs` from config/schemas; every default is there.\n"
    ]
    parts += [_section(name, title) for name, title in PAGES.items()]
    stages = sorted(path.stem for path in config.SCHEMAS.glob("*.yaml"))
    parts += [_section(name, f"`{name}`") for name in stages if name not in PAGES]
    return "\n".join(parts)


def phantom_page(phantom: str, text: str = "") -> str:
    """Renew the table of settings in the page of a phantom; the rest is left as it is.

    Parameters
    ----------
    phantom
        `implant` or `minicell`.
    text
        The page as it is; without the marks of the table, it goes to the end.
    """
    start, end = TABLE
    before, _, rest = (text or f"# Phantom: {phantom}\n\n").partition(start)
    return (
        f"{before}{start}\n\n{_settings(phantom)}\n{end}{rest.partition(end)[2] or chr(10)}"
    )


def _settings(phantom: str) -> str:
    """Write every setting of a phantom with unit, limits and source, as Markdown."""
    groups = config.read_schema(f"phantom-{phantom}")["properties"]
    return "\n".join(_group(name, part) for name, part in groups.items())


def _group(group: str, part: Mapping[str, Any]) -> str:
    head = [
        f"### {group}",
        part["description"],
        "| key | default | unit | allowed | meaning | source |\n|---|---|---|---|---|---|",
    ]
    rows = [
        f"| `{group}.{key}` | {_shown(one['default'])} | {one['unit']} | {_limits(one)} |"
        f" {_line(one['description'])} | {_line(one['source'])} |"
        for key, one in part["properties"].items()
    ]
    return "\n\n".join(head) + "\n" + "".join(f"{row}\n" for row in rows)


def _shown(default: Any) -> str:
    return f"`{json.dumps(default)}`"


def _line(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def formats_page() -> str:
    """Write the table of formats from what every reader says of itself, as Markdown."""
    return (
        "# Formats\n\nMade by `make docs`: each line stands in the module of its format in"
        " tomoglean/formats or tomoglean/particles. Bring your own:"
        " [volumes.md](volumes.md).\n\n## Volumes\n\n"
        + _formats(formats.readers())
        + "\n## Points\n\n"
        + _formats(particles.readers())
    )


def _formats(readers: Sequence[formats.Reader | particles.Reader]) -> str:
    head = (
        "| format | files | what is read | written too | read by |\n|---|---|---|---|---|\n"
    )
    rows = [
        f"| {reader.FORMAT.name} | {_endings(reader.FORMAT)} | {reader.FORMAT.reads} |"
        f" {'yes' if _is_written(reader) else ''} | {reader.FORMAT.library} |"
        for reader in readers
    ]
    return head + "\n".join(rows) + "\n"


def _is_written(reader: formats.Reader | particles.Reader) -> bool:
    return hasattr(reader, "write") or formats.is_written(reader.FORMAT)


def _endings(line: formats.Format) -> str:
    return ", ".join(f"`{ending}`" for ending in line.endings) or "a folder"


def _section(name: str, title: str) -> str:
    schema = config.read_schema(name)
    rows = [
        f"| `{key}` | {_default(part)} | {_limits(part)} | {part.get('description', '')} |"
        for key, part in schema["properties"].items()
    ]
    head = ["| key | default | allowed | meaning |", "|---|---|---|---|"]
    text = "\n".join([*head, *rows])
    return f"## {title}\n\n{schema.get('description', '')}\n\n{text}\n"


def _default(part: Mapping[str, Any]) -> str:
    if "default" not in part:
        return "required"
    value = part["default"]
    return "" if value in ("", {}) else f"`{value}`"


def _limits(part: Mapping[str, Any]) -> str:
    kinds = part.get("type", [])
    words = [config.TYPES[kind] for kind in ([kinds] if isinstance(kinds, str) else kinds)]
    said = [text.format(_listed(part[key])) for key, text in LIMITS.items() if key in part]
    if "minItems" in part and part["minItems"] == part.get("maxItems"):
        said = [f"{part['minItems']} items"]
    said += ["the lower first"] if part.get("ascending") else []
    said += [f"each {_limits(part['items'])}"] if "items" in part else []
    return ", ".join(filter(None, [" or ".join(words), *said]))


def _listed(value: Any) -> str:
    listed = value if isinstance(value, list) else [value]
    return ", ".join(str(item) if item != "" else "empty" for item in listed)
