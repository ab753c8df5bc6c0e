"""Run Snakemake on a copy of the checkout and say what it did or would do."""

import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import ready
import yaml

ROOT = Path(__file__).resolve().parent.parent
FAKE = ROOT / "tests" / "fake"
PARTS = ("Snakefile", "rules", "workflow", "tomoglean", "config", "profiles", "envs")
SEMANTIC = {"kind": "semantic", "classes": ["background", "bone"]}
CONFIG = {
    "tasks": {
        "bone": {**SEMANTIC, "controls": {"corrected": {"labels": ["clean"]}}},
        "membrane": {**SEMANTIC, "classes": ["background", "membrane"]},
        "t3ss": {"kind": "detection", "membrane": "membrane"},
    }
}
VOLUMES = {"bone": "abcd", "membrane,t3ss": "uvw"}
LABELS = [
    *(("bone", name, "weak", "train", "") for name in "ab"),
    ("bone", "a", "clean", "train", ""),
    ("bone", "c", "clean", "validate", ""),
    ("bone", "d", "clean", "test", ""),
    *(
        ("membrane", name, "clean", use, "")
        for name, use in (("u", "train"), ("w", "test"))
    ),
    *(
        ("t3ss", name, "points", use, "nm")
        for name, use in (("u", "train"), ("v", "validate"), ("w", "test"))
    ),
]
HEADS = {
    "volumes": "volume\ttasks\tpath\tvoxel_nm\n",
    "labels": "task\tvolume\tkind\tuse\tpath\tunit\n",
}


def copy_checkout(folder: Path) -> Path:
    """Copy what Snakemake needs, without anybody's results."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            skip = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, folder / part, ignore=skip)
        else:
            shutil.copy2(source, folder / part)
    (folder / "slurm").symlink_to("profiles/slurm")
    return folder


def refresh(original: Path, copy: Path) -> None:
    """Bring back every file of a copy that differs, and remove what is new."""
    for file in copy.rglob("*"):
        source = original / file.relative_to(copy)
        if file.is_file() and not file.is_symlink() and "__pycache__" not in file.parts:
            if not source.exists():
                file.unlink()
            elif source.stat().st_mtime_ns != file.stat().st_mtime_ns:
                shutil.copy2(source, file)


def write_study(folder: Path, *, exist_ok: bool = False) -> Path:
    """Write a small study with raw files of a few bytes; nobody reads them."""
    (folder / "config").mkdir(parents=True, exist_ok=exist_ok)
    (folder / "raw").mkdir()
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    volumes = [(name, tasks) for tasks, names in VOLUMES.items() for name in names]
    for table, text in HEADS.items():
        (folder / "config" / f"{table}.tsv").write_text(text)
    for name, tasks in volumes:
        add_volume(folder, name, tasks)
    for task, name, kind, use, unit in LABELS:
        add_label(folder, task, name, kind, use, unit)
    return folder


def add_volume(folder: Path, name: str, tasks: str) -> None:
    """Add a raw file and its row."""
    (folder / "raw" / f"{name}.mrc").write_text(f"raw {name}")
    append(folder / "config" / "volumes.tsv", (name, tasks, f"raw/{name}.mrc", "10"))


def add_label(
    folder: Path, task: str, name: str, kind: str, use: str, unit: str = ""
) -> None:
    """Add a label file and its row."""
    path = f"raw/{task}-{name}-{kind}.{'csv' if kind == 'points' else 'mrc'}"
    (folder / path).write_text(f"labels {task} {name} {kind}")
    append(folder / "config" / "labels.tsv", (task, name, kind, use, path, unit))


def append(path: Path, row: tuple[str, ...]) -> None:
    """Add a row to a table."""
    with path.open("a") as file:
        file.write("\t".join(row) + "\n")


def edit(path: Path, old: str, new: str) -> None:
    """Replace text in a file; it must be there."""
    text = path.read_text()
    assert old in text, f"{path} has no {old!r}"
    path.write_text(text.replace(old, new))


def snakemake(
    checkout: Path, study: Path, *words: str, fake: bool = True, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run Snakemake of this environment in a study."""
    paths = {"PYTHONPATH": str(FAKE)} if fake else {}
    own = ["-s", str(checkout / "Snakefile"), "--directory", str(study), "--cores", "2"]
    return ready.run(
        [*own, *words],
        folder=checkout,
        environment={**os.environ, **paths, **environment},
    )


def planned(checkout: Path, study: Path, *words: str, **environment: str) -> Counter[str]:
    """Count the jobs of a dry run by rule; empty if there is nothing to be done."""
    done = snakemake(checkout, study, "-n", *words, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    text = done.stdout + done.stderr
    rows = re.search(r"^job +count\n[- ]+\n(.*?)^total", text, re.MULTILINE | re.DOTALL)
    jobs = Counter(
        {name: int(n) for name, n in re.findall(r"^(\w+) +(\d+)$", rows[1], re.M)}
        if rows
        else {}
    )
    jobs.pop("all", None)
    assert jobs or "Nothing to be done" in text, text
    return jobs
