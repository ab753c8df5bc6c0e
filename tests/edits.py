"""Random edits of a study and its checkout, each with what it means to the model.

An edit changes files in a `Place` and says the same to the model's `State`, from the
user's point of view. Edits that do not count say nothing to the model.
"""

import ast
import os
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from model import State, jobs

from workflow import HEADS, add_label, add_volume

SETTINGS = {
    ("semantic", "slice"): ("crop_px", (64, 96, 128)),
    ("semantic", "train"): ("epochs", (3, 4, 5, 6)),
    ("semantic", "augment"): ("copies", (1, 2, 3)),
    ("semantic", "segment"): ("axes", (["z"], ["z", "y", "x"])),
    ("semantic", "evaluate"): ("bootstrap", (300, 400)),
    ("semantic", "relabel"): ("min_voxels", (11, 12)),
    ("semantic", "measure"): ("weeks", (3, 4)),
    ("detection", "mask"): ("within_nm", (11, 12, 13)),
    ("detection", "augment"): ("copies", (1, 2, 3)),
    ("detection", "train"): ("epochs", (3, 4, 5, 6)),
    ("detection", "pick"): ("threshold", (0.11, 0.12, 0.13)),
    ("detection", "sample"): ("patch_px", (40, 42)),
    ("detection", "classify"): ("smooth_nm", (1, 2)),
    ("detection", "average"): ("box_px", (32, 36)),
}
#: A function of the package, and the rules that reach it: what calls it by name.
CODE = {
    ("picks", "pick"): {"pick"},
    ("relabelling", "relabel"): {"relabel"},
    ("augment", "plan"): {"augment", "train"},
    ("augment", "write"): {"augment"},
    ("masks", "find"): {"mask"},
    ("measures", "measure"): {"measure"},
    ("averages/__init__", "average"): {"average"},
}
SCRIPTS = ("check", "convert", "slice", "mask", "segment", "measure", "pick", "publish")


@dataclass
class Place:
    """A study and its checkout, open to edits."""

    study: Path
    checkout: Path
    state: State
    removed: set[str] = field(default_factory=set)
    done: list[str] = field(default_factory=list)

    @property
    def config(self) -> Path:
        """The config file."""
        return self.study / "config" / "config.yaml"

    def write_config(self, *, reverse: bool = False) -> None:
        """Write the model's tasks as a config."""
        tasks = self.state.tasks
        blocks = {task: turned(tasks[task]) if reverse else tasks[task] for task in tasks}
        self.config.write_text(yaml.safe_dump({"tasks": blocks}, sort_keys=False))

    def raw(self, name: str) -> Path:
        """Return a raw file of the study."""
        return self.study / "raw" / name


def raw_name(what: str | tuple[str, str, str]) -> str:
    """Return the file of a volume, or of labels (task, volume, kind)."""
    if isinstance(what, str):
        return f"{what}.mrc"
    return f"{'-'.join(what)}.{'csv' if what[2] == 'points' else 'mrc'}"


def turned(block: Any) -> Any:
    """Return settings in the opposite order."""
    if not isinstance(block, dict):
        return block
    return {key: turned(value) for key, value in reversed(block.items())}


# -- edits that count ----------------------------------------------------------------


def setting(place: Place, rng: random.Random) -> None:
    """Change a parameter of one stage of one task, or of a control of it."""
    task = rng.choice(sorted(place.state.tasks))
    block = place.state.tasks[task]
    stage = rng.choice([s for kind, s in SETTINGS if kind == block["kind"]])
    key, values = SETTINGS[block["kind"], stage]
    controls = block.get("controls", {})
    if controls and stage == "train" and rng.random() < 0.5:
        block = controls[rng.choice(sorted(controls))]
    block.setdefault(stage, {})[key] = rng.choice(values)
    place.write_config()


def contents(place: Place, rng: random.Random) -> None:
    """Change the bytes of a raw file; size and time of change stay."""
    labels = [row[:3] for row in place.state.labels]
    what = rng.choice([*sorted(place.state.volumes), *sorted(set(labels))])
    file = place.raw(raw_name(what))
    status, text = file.stat(), file.read_text()
    file.write_text(text.swapcase())
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    place.state.contents[what] = 1 - place.state.contents.get(what, 0)


def volume(place: Place, rng: random.Random) -> None:
    """Add a row to predict."""
    name = fresh(place)
    tasks = rng.choice(["bone", "membrane", "membrane,t3ss"])
    add_volume(place.study, name, tasks)
    place.state.volumes[name] = tasks.split(",")


def labelled(place: Place, rng: random.Random) -> None:
    """Add a volume with labels to train, validate or test by."""
    task, kind = rng.choice(
        [("bone", "weak"), ("bone", "clean"), ("membrane", "clean"), ("t3ss", "points")]
    )
    name, use = fresh(place), rng.choice(["train", "validate", "test"])
    tasks = {"t3ss": "membrane,t3ss"}.get(task, task)
    add_volume(place.study, name, tasks)
    add_label(place.study, task, name, kind, use, "nm" if kind == "points" else "")
    place.state.volumes[name] = tasks.split(",")
    place.state.labels.append((task, name, kind, use))


def row_out(place: Place, rng: random.Random) -> None:
    """Take out the row of a volume that has no labels."""
    used = {row[1] for row in place.state.labels}
    free = sorted(place.state.volumes.keys() - used)
    if not free:
        volume(place, rng)
        return
    name = rng.choice(free)
    table = place.study / "config" / "volumes.tsv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(line for line in lines if not line.startswith(f"{name}\t")))
    del place.state.volumes[name]
    place.state.contents.pop(name, None)


def code_of_a_script(place: Place, rng: random.Random) -> None:
    """Change what one script does."""
    rule = rng.choice(SCRIPTS)
    script = place.checkout / "workflow" / "scripts" / f"{rule}.py"
    script.write_text(script.read_text() + f"\nassert {rng.random()} < 1\n")
    place.state.code[rule] = place.state.code.get(rule, 0) + 1


def code_of_a_function(place: Place, rng: random.Random) -> None:
    """Change one function of the package."""
    (module, name), rules = rng.choice(sorted(CODE.items()))
    path = place.checkout / "tomoglean" / f"{module}.py"
    lines = path.read_text().splitlines(keepends=True)
    function = next(
        node for node in ast.parse("".join(lines)).body
        if isinstance(node, ast.FunctionDef) and node.name == name
    )  # fmt: skip
    place_of = function.body[-1].lineno - 1
    path.write_text(
        "".join([*lines[:place_of], f"    assert {rng.random()} < 1\n", *lines[place_of:]])
    )
    for rule in rules:
        place.state.code[rule] = place.state.code.get(rule, 0) + 1


def intermediate_out(place: Place, rng: random.Random) -> None:
    """Remove an artefact."""
    there = sorted(name for name in jobs(place.state) if (place.study / name).is_file())
    name = rng.choice(there)
    (place.study / name).unlink()
    place.removed.add(name)


# -- edits that do not count ---------------------------------------------------------


def comment(place: Place, rng: random.Random) -> None:
    """Write comments, docstrings and log messages into the code."""
    path = rng.choice(sorted((place.checkout / "tomoglean").glob("*.py")))
    text = path.read_text().replace('"""', '"""Said anew: ', 1)
    text += "# a comment\n"
    if "\nlog = " in text:
        text += 'log.info("a message")\n'
    path.write_text(text)


def touch(place: Place, rng: random.Random) -> None:
    """Touch raw files and artefacts of any size."""
    there = [*place.study.glob("raw/*"), *place.study.rglob("results/*/*.*")]
    files = [file for file in there if file.is_file()]
    then = time.time() - rng.choice([0, 86400])  # never later: Snakemake runs no such job
    for file in rng.sample(sorted(files), 10):
        os.utime(file, (then, then))


def reorder(place: Place, rng: random.Random) -> None:
    """Write rows and settings in another order, with comments."""
    for table in HEADS:
        path = place.study / "config" / f"{table}.tsv"
        head, *rows = path.read_text().splitlines(keepends=True)
        rng.shuffle(rows)
        path.write_text("".join([head, *rows, "# more to come\n"]))
    place.write_config(reverse=True)
    place.config.write_text("# settings\n" + place.config.read_text())


def clone(place: Place, rng: random.Random) -> None:
    """Bring every file of the checkout a new time, as a new clone does."""
    then = place.study.stat().st_mtime + rng.randrange(86400)
    for file in place.checkout.rglob("*"):
        os.utime(file, (then, then), follow_symlinks=False)


def record_lost(place: Place, rng: random.Random) -> None:
    """Lose what Snakemake remembers, and the times of all files."""
    shutil.rmtree(place.study / ".snakemake", ignore_errors=True)
    files = sorted(path for path in place.study.rglob("*") if path.is_file())
    for file in files:
        then = file.stat().st_mtime - rng.randrange(3600)
        os.utime(file, (then, then))


def resources(place: Place, rng: random.Random) -> None:
    """Ask for more memory, and elsewhere for the disk and the report."""
    profile = place.checkout / "profiles" / "slurm" / "config.yaml"
    profile.write_text(profile.read_text() + f"# {rng.random()}\n")
    report = place.checkout / "tomoglean" / "report" / "__init__.py"
    report.write_text(report.read_text() + "\nMORE = 1\n")


def fresh(place: Place) -> str:
    """Return a volume's id that was never used."""
    used = len(list(place.study.glob("raw/*")))
    return f"new{used}"


COUNT: list[Callable[[Place, random.Random], None]] = [
    setting, setting, contents, volume, labelled, row_out, code_of_a_script,
    code_of_a_function, intermediate_out,
]  # fmt: skip
DO_NOT_COUNT = [comment, touch, reorder, clone, record_lost, resources]


def some(place: Place, rng: random.Random, most: int) -> int:
    """Make one to `most` random edits; return how many."""
    number = rng.randint(1, most)
    for _ in range(number):
        edit = rng.choice(COUNT if rng.random() < 0.6 else DO_NOT_COUNT)
        edit(place, rng)
        place.done.append(edit.__name__)
    return number
