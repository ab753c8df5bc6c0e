"""A study: its config, its tables, and what follows from them. Nothing is read twice."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tomoglean import arrivals, particles, steps, tables
from tomoglean import config as configs
from tomoglean.provenance import Refused

SIMULATED = "results/simulated/"
TABLES = ("volumes", "labels")


@dataclass(frozen=True)
class Study:
    """What is asked of which volumes, with which labels.

    Attributes
    ----------
    config
        The checked config with all defaults.
    volumes
        Rows of volumes.tsv in order of id; every column is text.
    labels
        Rows of labels.tsv in an order that does not depend on the file's.
    root
        Folder of the study.
    arrived
        Volumes that no table names; their rows stand among `volumes` too.
    """

    config: dict[str, Any]
    volumes: list[dict[str, str]]
    labels: list[dict[str, str]]
    root: Path = field(default_factory=Path)
    arrived: arrivals.Arrivals = field(default_factory=arrivals.Arrivals)

    @property
    def tasks(self) -> dict[str, dict[str, Any]]:
        """The tasks by name."""
        tasks: dict[str, dict[str, Any]] = self.config["tasks"]
        return tasks

    def of_kind(self, kind: str) -> list[str]:
        """Names of the tasks of one kind (semantic, detection)."""
        return [task for task, block in self.tasks.items() if block["kind"] == kind]

    def row(self, volume: str) -> dict[str, str]:
        """Return the row of one volume."""
        return next(row for row in self.volumes if row["volume"] == volume)

    def volumes_of(self, task: str) -> list[str]:
        """Ids of the volumes a task looks at."""
        return [row["volume"] for row in self.volumes if task in row["tasks"].split(",")]

    def label_rows(
        self, task: str, *, volume: str = "", use: str = "", kind: str = ""
    ) -> list[dict[str, str]]:
        """Rows of labels.tsv that fit; an empty word fits everything."""
        wanted = {"task": task, "volume": volume, "use": use, "kind": kind}
        wanted = {column: word for column, word in wanted.items() if word}
        return [row for row in self.labels if wanted.items() <= row.items()]

    def labelled(self, task: str, *, use: str, kind: str = "") -> list[str]:
        """Ids of the volumes that have labels for a use."""
        rows = self.label_rows(task, use=use, kind=kind)
        return sorted({row["volume"] for row in rows})

    def kinds(self, task: str, round_: str, volume: str, use: str) -> list[str]:
        """Label kinds a round uses for a volume, later ones lie over earlier ones."""
        have = {row["kind"] for row in self.label_rows(task, volume=volume, use=use)}
        if use == "train":
            have |= {"relabelled"} if "weak" in have else set()
            return [kind for kind in self.wanted_kinds(task, round_) if kind in have]
        best_first: list[str] = [kind for kind in ("clean", "weak") if kind in have]
        return best_first[:1]

    def wanted_kinds(self, task: str, round_: str) -> list[str]:
        """Label kinds a round learns from."""
        if round_.startswith("weak"):
            return ["weak"]
        control = self.control(task, round_)
        usual = ["relabelled", "clean"] if self.has_weak(task) else ["clean"]
        return control.get("labels") or usual

    def control(self, task: str, round_: str) -> dict[str, Any]:
        """Block of a control round; empty for every other round."""
        kind, _, name = round_.partition("-")
        block: dict[str, Any] = self.tasks[task]["controls"].get(name, {})
        return block if kind == "control" else {}

    def has_weak(self, task: str) -> bool:
        """Whether a task has weak labels to learn from, and so needs relabelling."""
        return bool(self.label_rows(task, use="train", kind="weak"))

    def rounds(self, task: str) -> list[str]:
        """All rounds a task trains."""
        block = self.tasks[task]
        folds = range(block["folds"]) if self.has_weak(task) else ()
        weak = ["weak", *(f"weak-{fold}" for fold in folds)] if folds else []
        crossed = [f"final-{fold}" for fold in range(block.get("cross_validation", 0))]
        controls = [f"control-{name}" for name in block["controls"]]
        return [*weak, "final", *crossed, *controls]

    def fold(self, task: str, volume: str) -> int:
        """Fold of a weakly labelled volume, by the sha256 of its id, never by row order."""
        ranked = sorted(self.labelled(task, use="train", kind="weak"), key=_sha256)
        return ranked.index(volume) % int(self.tasks[task]["folds"])

    def examples(self, task: str, round_: str, use: str) -> list[str]:
        """Ids of the volumes whose labels a round trains on, or stops by."""
        crossed = _fold_of(round_, "final-")
        if crossed is not None:
            return self.labelled(task, use="train")
        if self.tasks[task]["kind"] == "detection":
            return self.labelled(task, use=use)
        left_out = _fold_of(round_, "weak-")
        return [
            volume
            for volume in self.labelled(task, use=use)
            if self.kinds(task, round_, volume, use)
            and (use != "train" or left_out is None or self.fold(task, volume) != left_out)
        ]

    def keep(self, task: str, round_: str, use: str) -> list[int] | None:
        """Slices of a cross-validated volume that serve a use; None = all of them."""
        fold = _fold_of(round_, "final-")
        if fold is None:
            return None
        folds = int(self.tasks[task]["cross_validation"])
        places = self.labelled_slices(task)
        part = {"test": {fold}, "validate": {(fold + 1) % folds}}
        part["train"] = set(range(folds)) - part["test"] - part["validate"]
        return [z for place, z in enumerate(places) if place % folds in part[use]]

    def labelled_slices(self, task: str) -> list[int]:
        """All z named in the `slices` column of a cross-validated task, in order."""
        rows = self.label_rows(task, use="train")
        return sorted({z for row in rows for z in slice_numbers(row["slices"])})

    def simulated(self) -> dict[str, dict[str, Any]]:
        """Simulation group of every simulated volume."""
        groups = self.config["simulate"].values()
        return {volume: group for group in groups for volume in group["volumes"]}

    def is_simulated(self, task: str) -> bool:
        """Whether every volume of a task is simulated."""
        paths = [self.row(volume)["path"] for volume in self.volumes_of(task)]
        return bool(paths) and all(path.startswith(SIMULATED) for path in paths)


def is_study(path: Path) -> bool:
    """Whether a folder is a study."""
    return (path / "config" / "config.yaml").is_file()


def read(
    root: Path, overrides: Mapping[str, Any] | None = None, *, look: bool = False
) -> Study:
    """Read a study's folder.

    Parameters
    ----------
    root
        The folder.
    overrides
        Values from the command line that replace those of the config.
    look
        Whether to look for volumes that have newly arrived.

    Raises
    ------
    Refused
        One line naming the file, the row or key, what was expected and what was found.
    """
    config = configs.read(root / "config" / "config.yaml", overrides)
    _check_arrivals(config, str(root / "config" / "config.yaml"))
    volumes = _rows(root / "config" / "volumes.tsv", "volumes")
    labels = _rows(root / "config" / "labels.tsv", "labels")
    arrived = arrivals.find(config["arrivals"], volumes, root, look=look)
    volumes += arrived.rows
    volumes.sort(key=lambda row: row["volume"])
    labels.sort(key=lambda row: tuple(row.values()))
    study = Study(config, volumes, labels, root, arrived)
    _check_volumes(study)
    _check_labels(study)
    return study


def as_written(root: Path) -> Study:
    """Read a study's folder without asking whether its raw files are there.

    For looking at results far from the data they were made from.

    Raises
    ------
    Refused
        If config or tables are missing or do not fit their schemas.
    """
    config = configs.read(root / "config" / "config.yaml")
    rows = {name: _rows(root / "config" / f"{name}.tsv", name) for name in TABLES}
    return Study(config, rows["volumes"], rows["labels"], root)


def read_anywhere(root: Path) -> Study:
    """Read a study with the volumes that came in; without them where raw data are away.

    Raises
    ------
    Refused
        If config or tables are missing or do not fit their schemas.
    """
    try:
        return read(root)
    except Refused:
        return as_written(root)


def slice_numbers(text: str) -> list[int]:
    """Read ranges such as 0-11,14."""
    numbers: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        numbers.extend(range(int(first), int(last or first) + 1))
    return numbers


def _rows(path: Path, schema: str) -> list[dict[str, str]]:
    if not path.is_file():
        raise Refused(f"{path}: no such file; a study has config/{schema}.tsv")
    names = list(configs.read_schema(schema)["properties"])
    rows = []
    for number, row in tables.read_lines(path):
        try:
            full = configs.filled(row, schema, f"{path}, line {number}", "")
        except Refused as error:
            if row.keys() <= set(names):
                hint = "; correct the cell, or the TABs before it"
                raise Refused(f"{error}{hint}") from None
            raise
        rows.append({name: full[name] for name in names})
    return rows


def _check_arrivals(config: Mapping[str, Any], name: str) -> None:
    """Refuse what is wrong of arrivals before any comes, and whatever came before."""
    for number, block in enumerate(config["arrivals"], start=1):
        where = f"arrivals.{number}"
        for task in block["tasks"]:
            if task not in config["tasks"]:
                raise Refused(
                    f"{name}: {where}.tasks: {_unknown('task', task, config['tasks'])}"
                )
        _check_steps(arrivals.shared_row(block, where, name), f"{name}: {where}.row")


def _check_volumes(study: Study) -> None:
    name = study.root / "config" / "volumes.tsv"
    ids = [row["volume"] for row in study.volumes]
    for volume in _repeated(ids):
        raise Refused(f"{name}: the id {volume!r} stands twice; every volume needs its own")
    for row in study.volumes:
        for task in row["tasks"].split(","):
            if task not in study.tasks:
                raise Refused(
                    f"{name}: {row['volume']}: {_unknown('task', task, study.tasks)}"
                )
        _check_steps(row, f"{name}: {row['volume']}")
        if row["volume"] not in study.arrived.gone:
            _check_path(row, str(name), study)


def _check_steps(row: Mapping[str, str], where: str) -> None:
    steps.refuse_nonsense(row, where)
    if row["bin1_shape"] and steps.moves(row):
        raise Refused(
            f"{where}: bin1_shape: RELION files count voxels of the whole volume, found"
            f" {steps.told(row)}; take one of the two out"
        )


def _check_labels(study: Study) -> None:
    name = f"{study.root / 'config' / 'labels.tsv'}"
    seen: set[tuple[tuple[str, str], ...]] = set()
    for row in study.labels:
        where = f"{name}: {row['task']}, {row['volume']}"
        if row["task"] not in study.tasks:
            raise Refused(f"{where}: {_unknown('task', row['task'], study.tasks)}")
        if row["volume"] not in study.volumes_of(row["task"]):
            known = study.volumes_of(row["task"])
            raise Refused(f"{where}: {_unknown('volume', row['volume'], known)}")
        _check_kind(row, where, study)
        _check_grid(row, where, study)
        _check_path(row, where, study)
        if (cells := tuple(sorted(row.items()))) in seen:
            raise Refused(f"{where}: expected each row once, found it again; delete one")
        seen.add(cells)
    for task in study.tasks:
        _check_measured(study, task)
        _check_uses(study, task, name)
        _check_start(study, task)
    for task in study.of_kind("detection"):
        _check_search(study, task, name)


def _check_kind(row: Mapping[str, str], where: str, study: Study) -> None:
    detection = study.tasks[row["task"]]["kind"] == "detection"
    if detection != (row["kind"] == "points"):
        expected = "points" if detection else "weak, clean or truth"
        raise Refused(f"{where}: kind: expected {expected}, found {row['kind']!r}")
    if row["kind"] == "points" and particles.needs_unit(row["path"]) and not row["unit"]:
        raise Refused(f"{where}: unit: points need nm, angstrom or voxel; it is empty")
    for column in ("tomogram", "pixel_nm"):
        if row["kind"] != "points" and row[column]:
            raise Refused(
                f"{where}: {column}: expected none for labels of kind {row['kind']}, found"
                f" {row[column]!r}; leave it empty"
            )


def _check_grid(row: Mapping[str, str], where: str, study: Study) -> None:
    """Refuse slices kept apart by numbers that the converted volume does not have."""
    block, volume = study.tasks[row["task"]], study.row(row["volume"])
    apart = block.get("cross_validation") or block["split"] == "within-volume"
    if apart and row["slices"] and steps.moves(volume) and not row["grid"]:
        raise Refused(
            f"{where}: grid: expected converted, since slices are kept apart by their"
            f" numbers and the volume has {steps.told(volume)}; hand slices out by"
            " `python -m tomoglean slices` and label those"
        )


def _check_uses(study: Study, task: str, name: str) -> None:
    block = study.tasks[task]
    if block["split"] == "between-volumes":
        uses = {row["volume"]: set[str]() for row in study.label_rows(task)}
        for row in study.label_rows(task):
            uses[row["volume"]].add(row["use"])
        for volume, found in uses.items():
            if len(found) > 1:
                raise Refused(
                    f"{name}: {task}, {volume}: used for {' and '.join(sorted(found))}; "
                    "one volume has one use, or set split: within-volume"
                )
    else:
        _check_slices(study, task, name)
    weak = study.labelled(task, use="train", kind="weak")
    if 0 < len(weak) < block.get("folds", 0):
        raise Refused(
            f"{name}: {task}: {block['folds']} folds need as many volumes with weak labels "
            f"to train on, found {len(weak)}; label another volume or use kind clean"
        )
    if block.get("cross_validation"):
        _check_cross_validation(study, task, name)


def _check_slices(study: Study, task: str, name: str) -> None:
    """Refuse a slice of a volume in two uses, and a use that does not name its slices."""
    for volume in study.volumes_of(task):
        taken: dict[int, str] = {}
        rows = study.label_rows(task, volume=volume)
        for row in rows:
            if len({other["use"] for other in rows}) > 1 and not row["slices"]:
                raise Refused(
                    f"{name}: {task}, {volume}: the column 'slices' is empty; a volume in "
                    "several uses needs the slices of each"
                )
            for z in slice_numbers(row["slices"]):
                if taken.setdefault(z, row["use"]) != row["use"]:
                    raise Refused(
                        f"{name}: {task}, {volume}: slice {z} serves {taken[z]} and "
                        f"{row['use']}; a slice has one use"
                    )


def _check_measured(study: Study, task: str) -> None:
    """Refuse a quantity told of a volume that is none of the task's, nor can arrive."""
    known = study.volumes_of(task)
    if study.config["arrivals"]:
        return
    for key, value in study.tasks[task].get("measure", {}).items():
        for volume in value if isinstance(value, Mapping) else ():
            if volume not in known:
                raise Refused(
                    f"{study.root / 'config' / 'config.yaml'}: tasks.{task}.measure.{key}: "
                    f"{_unknown('volume', volume, known)}; correct the id"
                )


def _check_start(study: Study, task: str) -> None:
    block = study.tasks[task]
    for settings in (block["train"], *(c["train"] for c in block["controls"].values())):
        path = settings["start_from"]
        if path and not tables.locate(path, study.root).is_file():
            raise Refused(
                f"{study.root / 'config' / 'config.yaml'}: tasks.{task}.train.start_from: "
                f"no such file: {path}; give the weights file of an older study"
            )


def _check_search(study: Study, task: str, name: str) -> None:
    """Refuse to judge a search in a membrane whose network has seen the answer."""
    membrane = study.tasks[task]["membrane"]
    seen = set(study.labelled(membrane, use="train"))
    judged = {v for use in ("validate", "test") for v in study.labelled(task, use=use)}
    for volume in sorted(seen & judged):
        raise Refused(
            f"{name}: {task}, {volume}: tests or validates {task}, but trains {membrane}, "
            "in which it searches; give it one of the two"
        )


def _check_cross_validation(study: Study, task: str, name: str) -> None:
    folds = study.tasks[task]["cross_validation"]
    found = len(study.labelled_slices(task))
    if found < max(folds, 3):
        raise Refused(
            f"{name}: {task}: cross_validation {folds} needs as many slices (at least 3) "
            f"named in the column 'slices' of its train rows; found {found}"
        )


def _check_path(row: Mapping[str, str], where: str, study: Study) -> None:
    if row["path"].startswith(SIMULATED):
        volume = Path(row["path"]).name.split(".")[0]
        if volume not in study.simulated():
            problem = _unknown("simulated volume", volume, study.simulated())
            raise Refused(f"{where}: {row['path']}: {problem}")
        return
    path = tables.locate(row["path"], study.root)
    if "$" in str(path):
        raise Refused(
            f"{where}: {row['path']}: the environment variable is not set; "
            "export it to where the data lie"
        )
    if not path.exists():
        raise Refused(f"{where}: no such file or folder: {row['path']}; check the path")


def _unknown(what: str, word: str, known: Iterable[str]) -> str:
    return f"unknown {what} {word!r}; known: {', '.join(known) or 'none'}"


def _repeated(words: list[str]) -> list[str]:
    return sorted({word for word in words if words.count(word) > 1})


def _sha256(word: str) -> str:
    return hashlib.sha256(word.encode()).hexdigest()


def _fold_of(round_: str, prefix: str) -> int | None:
    return int(round_.removeprefix(prefix)) if round_.startswith(prefix) else None
