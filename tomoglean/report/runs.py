"""What can be said of a run and compared with another: read without ever failing."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tomoglean import provenance, tables
from tomoglean import study as studies
from tomoglean.provenance import Refused
from tomoglean.report import jobs, overview, style
from tomoglean.report.settings import leaves
from tomoglean.report.sources import Row, Source, discreet, discreet_tree, flat
from tomoglean.study import Study

SHORT = 12
UNCOUNTED = ("volume", "kind", "split", "use", "reason")
Facts = Mapping[str, Any]


def opened(folder: Path) -> tuple[Source, list[str]]:
    """Read a study as far as it can be read, and say what could not.

    Raises
    ------
    Refused
        If the folder is no study.
    """
    root = folder.parent if folder.name == "results" else folder
    if not studies.is_study(root):
        raise Refused(
            f"{folder}: expected a study (a folder with config/config.yaml), found none;"
            " name the study"
        )
    try:
        return Source(studies.as_written(root)), []
    except Refused as error:
        line = discreet(f"read without its schema, since {error}", root)
        return Source(_lenient(root)), [line]


def _lenient(root: Path) -> Study:
    """Read config and tables as they stand, such as those of an older version."""
    try:
        config = yaml.safe_load((root / "config" / "config.yaml").read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        config = {}
    config = config if isinstance(config, dict) else {}
    tasks = config.get("tasks")
    tasks = tasks if isinstance(tasks, dict) else {}
    config["tasks"] = {name: one for name, one in tasks.items() if isinstance(one, dict)}
    volumes = [row for row in _rows(root, "volumes") if row.get("volume")]
    labels = [row for row in _rows(root, "labels") if row.get("task")]
    full = dict.fromkeys(("volume", "tasks", "path"), "")
    return Study(config, [{**full, **row} for row in volumes], labels, root)


def _rows(root: Path, name: str) -> list[Row]:
    try:
        return tables.read_rows(root / "config" / f"{name}.tsv")
    except (OSError, ValueError):
        return []


def headline(source: Source) -> Facts:
    """Tell every question's headline figure and what it rests on."""
    found: dict[str, Any] = {}
    for task, block in source.study.tasks.items():
        detection = block.get("kind") == "detection"
        find = overview.detection_headline if detection else overview.semantic_headline
        figure = find(source, task)
        name = f"{style.words(task)}: {figure['what']}"
        found[name] = _number(figure["value"])
        found[f"{name}, measured on"] = figure["detail"]
        average = source.json(f"averaged/{task}/summary.json")
        if "resolution_fsc_143_nm" in average:
            name = f"{style.words(task)}: average, FSC 0.143 (nm)"
            found[name] = style.finite(average["resolution_fsc_143_nm"])
    return found


def _number(text: str) -> Any:
    known = style.finite(text)
    return text if known is None else known


def figures(source: Source) -> Facts:
    """Tell every number that a task was judged by."""
    found: dict[str, Any] = {}
    for stage in ("evaluated", "averaged"):
        for task in source.study.tasks:
            summary = flat(source.json(f"{stage}/{task}/summary.json"))
            for name, value in summary.items():
                if name not in UNCOUNTED:
                    found[f"{style.words(task)}: {style.words(name)}"] = value
    return found


def of_volumes(source: Source) -> Facts:
    """Tell what was measured and found in every volume."""
    found: dict[str, Any] = {}
    for task in source.study.tasks:
        for volume in _ids(source, f"measured/{task}/*.json", f"picked/{task}/final/*.csv"):
            measured = flat(source.json(f"measured/{task}/{volume}.json"))
            for name, value in measured.items():
                if name not in UNCOUNTED:
                    found[f"{volume}, {style.words(task)}: {style.words(name)}"] = value
            path = f"picked/{task}/final/{volume}.csv"
            if (source.results / path).is_file():
                count = len(source.rows(path))
                found[f"{volume}, {style.words(task)}: candidates"] = count
    return found


def _ids(source: Source, *patterns: str) -> list[str]:
    """Return the volumes that have such results, whether or not a table names them."""
    return sorted({path.stem for pattern in patterns for path in source.find(pattern)})


def config(source: Source) -> Facts:
    """Tell every setting by its whole key; lists are one value."""
    return leaves(discreet_tree(source.study.config, source.study.root))


def rows(source: Source) -> Facts:
    """Tell every row of the tables by its ids; rows that share them are numbered."""
    ids = {"volumes": ("volume",), "labels": ("task", "volume", "kind", "use")}
    found: dict[str, Any] = {}
    times: Counter[str] = Counter()
    for table, columns in ids.items():
        for row in discreet_tree(getattr(source.study, table), source.study.root):
            name = f"{table}.tsv: {', '.join(row.get(column, '') for column in columns)}"
            times[name] += 1
            told = ", ".join(f"{k} {v}" for k, v in row.items() if v and k not in columns)
            found[name if times[name] == 1 else f"{name} #{times[name]}"] = told
    return found


def code(source: Source) -> Facts:
    """Tell the fingerprints of the code behind every stage that left records."""
    found: dict[str, set[str]] = {}
    for record in source.provenance():
        if record.get("code"):
            found.setdefault(str(record.get("rule")), set()).add(str(record["code"]))
    return {rule: _digests(found[rule]) for rule in sorted(found)}


def _digests(digests: Iterable[str]) -> str:
    return ", ".join(digest[:SHORT] for digest in sorted(digests))


def checkout(source: Source) -> Facts:
    """Tell commit and locks: of the jobs where they tell it, else of the last crate."""
    commits = {job.commit for job in jobs.of(source.provenance())} - {jobs.UNTOLD}
    found: dict[str, Any] = {}
    if commits := commits or _commit_of_crate(source):
        found["commit"] = ", ".join(sorted(commits))
    for lock in source.find("crate/envs/*.lock.txt"):
        digest = provenance.sha256_of_file(lock)[:SHORT]
        found[f"sha256 of {lock.name}"] = digest
    return found


def _commit_of_crate(source: Source) -> set[str]:
    """Commit that the crate names; crates know one of the time they were written."""
    graph = source.json("ro-crate-metadata.json").get("@graph")
    named = (
        [one for one in graph if isinstance(one, dict)] if isinstance(graph, list) else []
    )
    ours = [one for one in named if one.get("name") == "tomoglean"]
    return {str(one["softwareVersion"]) for one in ours if one.get("softwareVersion")}


def versions(source: Source) -> Facts:
    """Tell the versions that the records name, all of them where there were several."""
    found: dict[str, set[str]] = {}
    for record in source.provenance():
        for name, version in (record.get("versions") or {}).items():
            found.setdefault(str(name), set()).add(str(version))
    return {name: ", ".join(sorted(found[name])) for name in sorted(found)}


def data(source: Source) -> Facts:
    """Tell what came in: hash, shape, voxel size and verdict of volumes and labels."""
    found: dict[str, Any] = {}
    for volume in _ids(source, "checked/*.json"):
        found |= _checked(volume, source.checked(volume))
    for labels in source.checked_labels():
        name = ", ".join(str(labels[key]) for key in ("task", "volume", "use", "kind"))
        found |= _checked(name, {k: v for k, v in labels.items() if k != "volume"})
    return found


def _checked(name: str, checked: Facts) -> dict[str, Any]:
    sha256 = str(checked.get("sha256") or "")[:SHORT]
    said = {
        "sha256": sha256 or None,
        "shape": " x ".join(map(str, checked.get("shape") or [])) or None,
        "voxel": overview.voxel(checked.get("voxel_nm")),
        "points": checked.get("points"),
        "voxels": json.dumps(checked.get("voxels")) if checked.get("voxels") else None,
        "verdict": checked.get("verdict"),
    }
    return {
        f"{name}: {key}": value
        for key, value in said.items()
        if value is not None and value != "n/a"
    }
