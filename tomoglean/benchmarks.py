"""Benchmark sets: volumes made on demand from their seeds, definitions that stay.

A set is a file in resources/benchmarks. What it defines (phantom, seed, and of every
volume name, use and all settings, defaults included) is hashed; `frozen.tsv` holds the
hash of every frozen set, and of the code that makes its volumes.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from tomoglean import config, phantoms, provenance, tables
from tomoglean.fingerprint import fingerprint
from tomoglean.provenance import Refused
from tomoglean.simulators import files

ROOT = Path(__file__).resolve().parent.parent
SETS = ROOT / "resources" / "benchmarks"
COLUMNS = ("set", "definition", "code")
TRUTH = {"clean": ".truth.tif"}
MEMBRANES = {"clean": ".membranes.mrc"}
POINTS = {"points": ".points.csv"}
#: Files of labels by phantom, kind of task and use of the volume.
LABELS = {
    ("implant", "semantic", "train"): {
        "weak": ".weak.tif",
        "clean": ".corrected.tif",
        "truth": ".truth.tif",
    },
    ("implant", "semantic", "validate"): TRUTH,
    ("implant", "semantic", "test"): {"weak": ".weak.tif", **TRUTH},
    **{("minicell", "semantic", use): MEMBRANES for use in ("train", "validate", "test")},
    ("minicell", "detection", "train"): {"points": ".picks.csv"},
    ("minicell", "detection", "validate"): POINTS,
    ("minicell", "detection", "test"): POINTS,
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Volume:
    """One volume of a set: its name, what it is for, all settings of its phantom."""

    name: str
    use: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class Set:
    """A benchmark set.

    Attributes
    ----------
    name, description, phantom, seed
        As its file says.
    volumes
        All its volumes in order.
    tasks
        Questions that a study asks of it.
    """

    name: str
    description: str
    phantom: str
    seed: int
    volumes: tuple[Volume, ...]
    tasks: dict[str, Any]

    @cached_property
    def definition(self) -> str:
        """Hash of what the set defines, of any schema's defaults too; 64 digits."""
        rows = [(one.name, one.use, one.settings) for one in self.volumes]
        return provenance.key(self.phantom, self.seed, rows)

    def volume(self, name: str) -> Volume:
        """Find a volume.

        Raises
        ------
        Refused
            If the set has none of that name.
        """
        for volume in self.volumes:
            if volume.name == name:
                return volume
        first, last = self.volumes[0].name, self.volumes[-1].name
        raise Refused(
            f"benchmark: {self.name}: expected a volume such as {first} or {last}, found"
            f" {name!r}; `benchmark list {self.name}` names them"
        )


def names(folder: Path = SETS) -> list[str]:
    """Names of all sets."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def read(name: str, folder: Path = SETS) -> Set:
    """Read a set and fill in the defaults of its phantom.

    Raises
    ------
    Refused
        If there is no such set, or its file does not fit the schemas.
    """
    path = folder / f"{name}.yaml"
    if name not in names(folder):
        known = ", ".join(names(folder))
        raise Refused(
            f"benchmark: expected one of the sets {known}, found {name!r}; choose one"
        )
    said = yaml.safe_load(path.read_text(encoding="utf-8"))
    full = config.filled(said, "benchmark", path.name, "")
    volumes = [
        volume
        for part, block in full["parts"].items()
        for volume in _volumes(part, block, full, path.name)
    ]
    return Set(
        name,
        full["description"],
        full["phantom"],
        full["seed"],
        tuple(volumes),
        full["tasks"],
    )


def _volumes(
    part: str, block: Mapping[str, Any], full: Mapping[str, Any], file: str
) -> Iterator[Volume]:
    for number in range(1, block["count"] + 1):
        settings = config.merged(full["settings"], block["settings"])
        if block["specimens"]:
            specimen = {"specimen": f"{block['specimens']}-{number:03d}"}
            settings = config.merged(settings, {"corrosion": specimen})
        yield Volume(
            f"{part}-{number:03d}",
            block["use"],
            config.filled(
                settings, f"phantom-{full['phantom']}", file, f"parts.{part}.settings"
            ),
        )


def code(phantom: str) -> str:
    """Hash the code that makes the volumes of a phantom."""
    script = ROOT / "workflow" / "scripts" / f"simulate_{phantom}.py"
    return fingerprint(script, root=ROOT)


def frozen(folder: Path = SETS) -> dict[str, dict[str, str]]:
    """Read what is frozen: hashes of definition and code by set."""
    path = folder / "frozen.tsv"
    rows = tables.read_rows(path) if path.is_file() else []
    return {row["set"]: row for row in rows}


def freeze(chosen: list[str], folder: Path = SETS) -> None:
    """Freeze some sets as they are now; the others stay as they were."""
    known = frozen(folder)
    for name in chosen:
        found = read(name, folder)
        hashes = (name, found.definition, code(found.phantom))
        known[name] = dict(zip(COLUMNS, hashes, strict=True))
    rows = [known[name] for name in sorted(known)]
    tables.write_rows(rows, COLUMNS, folder / "frozen.tsv", delimiter="\t")


def state(found: Set, folder: Path = SETS) -> str:
    """Say whether a set is as it was frozen.

    Returns
    -------
    str
        `frozen`, `not frozen`, `definition changed` or `code changed`: the last means that
        the simulator is another one than that of the freeze, which may change voxels.
    """
    row = frozen(folder).get(found.name)
    if row is None:
        return "not frozen"
    if row["definition"] != found.definition:
        return "definition changed"
    return "frozen" if row["code"] == code(found.phantom) else "code changed"


def told(found: Set) -> str:
    """Tell of a set in one line: name, volumes by use, state, description."""
    uses = Counter(volume.use for volume in found.volumes)
    counted = ", ".join(f"{number} {use}" for use, number in uses.items())
    return "\t".join([found.name, counted, state(found), found.description])


def make(
    found: Set, volume: Volume, folder: Path, *, form: str = "", force: bool = False
) -> list[Path]:
    """Make one volume of a set from its seed; its JSON file says of which set it is.

    What is there already and of the same definition stays, unless forced.

    Raises
    ------
    Refused
        If files are there that are not of this definition.
    """
    paths = files.paths(found.phantom, folder, volume.name, form)
    if not force and _is_made(found, paths):
        log.info("%s is there", volume.name)
        return list(paths.values())
    told = state(found)
    if told != "frozen":
        log.warning("%s: %s", found.name, told)
    said = {"set": found.name, "use": volume.use, "state": told}
    return phantoms.make(
        found.phantom,
        seed=found.seed,
        name=volume.name,
        settings=volume.settings,
        folder=folder,
        form=form,
        force=force,
        facts={"benchmark": {**said, "definition": found.definition}},
    )


def _is_made(found: Set, paths: Mapping[str, Path]) -> bool:
    if not all(path.exists() for path in paths.values()):
        return False
    said = provenance.read_json(paths["facts"]).get("benchmark", {})
    return bool(said.get("definition") == found.definition)


def write_study(found: Set, folder: Path) -> None:
    """Write the config and the tables of a study that simulates and uses a set.

    Its volumes have the bytes that `make` gives them.

    Raises
    ------
    Refused
        If the folder is a study already.
    """
    target = folder / "config"
    if target.exists():
        raise Refused(
            f"benchmark: {target}: expected a new folder, found that it exists; choose"
            " another"
        )
    text = yaml.safe_dump(_config(found), sort_keys=False, width=92)
    provenance.write_text(
        f"# The benchmark set {found.name}.\n{text}", target / "config.yaml"
    )
    volumes, labels = _rows(found)
    tables.write_rows(volumes, list(volumes[0]), target / "volumes.tsv", delimiter="\t")
    tables.write_rows(labels, list(labels[0]), target / "labels.tsv", delimiter="\t")


def _config(found: Set) -> dict[str, Any]:
    groups: dict[str, Any] = {}
    for volume in found.volumes:
        key = f"group-{provenance.key(volume.settings)[:8]}"
        block = {"simulator": found.phantom, "volumes": [], "settings": volume.settings}
        groups.setdefault(key, block)["volumes"].append(volume.name)
    return {"seed": found.seed, "simulate": groups, "tasks": found.tasks}


def _rows(found: Set) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Return the rows of volumes.tsv and of labels.tsv."""
    volumes, labels = [], []
    for volume in found.volumes:
        stem = f"results/simulated/{found.phantom}/{volume.name}"
        row = {"volume": volume.name, "tasks": ",".join(found.tasks)}
        volumes.append({**row, "path": stem + files.FORMS[files.USUAL[found.phantom]]})
        labels += [
            {"task": task, "volume": volume.name, "kind": kind, "use": volume.use,
             "path": stem + ending, "unit": "nm" if kind == "points" else ""}
            for task, block in found.tasks.items()
            for kind, ending in LABELS[found.phantom, block["kind"], volume.use].items()
        ]  # fmt: skip
    return volumes, labels
