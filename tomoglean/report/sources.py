"""What a study holds so far, read without ever failing: a missing file is an empty one."""

import csv
import logging
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tomoglean import provenance, usage, volumes
from tomoglean.report import style
from tomoglean.study import SIMULATED, Study

LOG = logging.getLogger(__name__)
PACKAGE = Path(__file__).resolve().parents[2]
USES = ("test", "validate", "", "train")
HOME = re.compile(r"(?<![\w./])(?:file:/+|/)(?:home|Users)/[^\s/'\",:;]+/?(?=$|[\s'\",:;])")
FOLDERS = re.compile(
    r"(?<![\w./])(?:file:/+|~?/)(?=[^\s/])(?:[^/'\",:;\n]+/)+([^\s/'\",:;]*)"
)
Row = dict[str, str]
Found = TypeVar("Found")


@dataclass(frozen=True)
class Source:
    """A study and its results folder, with tolerant readers.

    Attributes
    ----------
    study
        Config and tables of the study.
    """

    study: Study
    _seen: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def results(self) -> Path:
        """Folder of all artefacts."""
        return self.study.root / "results"

    def once(self, name: str, make: Callable[[], Found]) -> Found:
        """Return what was found before under this name, or find it now."""
        if name not in self._seen:
            self._seen[name] = make()
        found: Found = self._seen[name]
        return found

    def json(self, path: str) -> dict[str, Any]:
        """Read a JSON object below results, without folders; if unreadable, as empty."""
        return self.once(path, lambda: self._read_json(path))

    def _read_json(self, path: str) -> dict[str, Any]:
        try:
            found = provenance.read_json(self.results / path)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            LOG.warning("results/%s cannot be read: %s", path, error)
            return {}
        return discreet_tree(found, self.study.root) if isinstance(found, dict) else {}

    def rows(self, path: str) -> list[Row]:
        """Read a CSV table below results; an unreadable one counts as empty."""
        return self.once(f"rows of {path}", lambda: self._read_rows(path))

    def _read_rows(self, path: str) -> list[Row]:
        try:
            with open(self.results / path, encoding="utf-8", newline="") as file:
                return [{k: v or "" for k, v in row.items() if k} for row in _reader(file)]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, csv.Error) as error:
            LOG.warning("results/%s cannot be read: %s", path, error)
            return []

    def find(self, pattern: str) -> list[Path]:
        """Find files below results, in order of name."""
        return sorted(path for path in self.results.glob(pattern) if path.is_file())

    def classes(self, task: str) -> list[str]:
        """Class names of a task, the background first."""
        block = self.study.tasks[task]
        return [str(name) for name in block.get("classes") or ["background", task]]

    def named_classes(self, task: str) -> list[str]:
        """Class names of a task that say something: all but a plain background."""
        names = self.classes(task)
        return names[1:] if names[0] == "background" else names

    def is_simulated(self, volume: str) -> bool:
        """Whether a volume is a phantom."""
        rows = [row for row in self.study.volumes if row["volume"] == volume]
        return any(row.get("path", "").startswith(SIMULATED) for row in rows)

    def stamps(self, task: str) -> list[str]:
        """Return the warnings every table of a task carries: simulated, same scan."""
        simulated = [self.is_simulated(volume) for volume in self.study.volumes_of(task)]
        kinds = ["simulated" if all(simulated) else "partly simulated"]
        same = self.study.tasks[task].get("split") == "within-volume"
        return (kinds if any(simulated) else []) + (["same scan"] if same else [])

    def uses(self, task: str, volume: str) -> list[str]:
        """What the labels of a volume are used for: test, validate, train or nothing."""
        rows = [row for row in self.study.labels if row["task"] == task]
        found = {row.get("use", "") for row in rows if row["volume"] == volume}
        return sorted(found, key=lambda use: USES.index(use) if use in USES else len(USES))

    def volumes(self, task: str) -> list[str]:
        """Ids of a task's volumes: the held-out ones first, the trained-on ones last."""
        return sorted(
            self.study.volumes_of(task), key=lambda volume: self._rank(task, volume)
        )

    def _rank(self, task: str, volume: str) -> tuple[int, str]:
        use = (self.uses(task, volume) or [""])[0]
        return (USES.index(use) if use in USES else len(USES), volume)

    def checked(self, volume: str) -> dict[str, Any]:
        """Return what the check said of a volume."""
        return self.json(f"checked/{volume}.json")

    def checked_labels(self) -> list[dict[str, Any]]:
        """Return what was said of every set of labels, with its place in the study."""
        files = self.find("checked/*/*/*/*.json")
        names = [path.relative_to(self.results / "checked").parts for path in files]
        return [
            {
                **dict(
                    zip(
                        ("task", "use", "kind", "volume"),
                        (*place[:3], Path(place[3]).stem),
                        strict=True,
                    )
                ),
                **self.json("/".join(("checked", *place))),
            }
            for place in names
        ]

    def refused(self) -> dict[str, str]:
        """Refused volumes and why."""
        found = {row["volume"]: self.checked(row["volume"]) for row in self.study.volumes}
        return {
            volume: "; ".join(map(str, checked.get("messages", []))) or "no reason given"
            for volume, checked in found.items()
            if checked.get("verdict") == "refused"
        }

    def rounds(self, stage: str, task: str) -> list[str]:
        """Rounds found on disk, the final one first, then its controls."""
        folder = self.results / stage / task
        found = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        names = {name.removesuffix(".csv") for name in found if not name.startswith(".")}
        return sorted((name for name in names if "." not in name), key=round_order)

    def provenance(self) -> list[dict[str, Any]]:
        """Return every provenance record that can be read, oldest first."""
        files = self.find("provenance/**/*.json")
        records = [self.json(str(path.relative_to(self.results))) for path in files]
        return sorted(filter(None, records), key=lambda record: str(record.get("started")))


def _reader(file: Any) -> Iterator[Row]:
    lines = (line for line in file if not line.startswith("#"))
    return iter(csv.DictReader(lines))


def round_order(name: str) -> tuple[int, str]:
    """Order rounds as one tells the story backwards: final, controls, weak."""
    for place, start in enumerate(("final", "control", "weak")):
        if name.startswith(start):
            return place, name
    return 3, name


def numbers(rows: Sequence[Row], column: str) -> list[float]:
    """Return one column as numbers; NaN where a field is empty or no number."""
    found = [style.finite(row.get(column)) for row in rows]
    return [float("nan") if value is None else value for value in found]


def attributes(path: Path) -> dict[str, Any]:
    """Return what a volume file says of itself, nothing if it cannot be opened."""
    try:
        return volumes.attributes(path)
    except OSError:
        return {}


def git_state() -> tuple[str, str]:
    """Return the commit of the checkout and whether files differ from it."""
    return usage.checkout()


def git(*words: str) -> str:
    """Ask git about the checkout; nothing where there is no git or no checkout."""
    program = shutil.which("git")
    if program is None or not (PACKAGE / ".git").exists():
        return ""
    command = [program, "-C", str(PACKAGE), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed words, found executable
    return done.stdout.strip()


def discreet(text: str, root: Path) -> str:
    """Take folders out of a text: a report is passed on, a home folder is not.

    Examples
    --------
    >>> discreet("/home/ann/study/config: no such file", Path("/home/ann/study"))
    'config: no such file'
    """
    text = text.replace(f"{root.resolve()}/", "").replace(str(root.resolve()), ".")
    return FOLDERS.sub(r"…/\1", HOME.sub("~", text))


def discreet_tree(value: Any, root: Path) -> Any:
    """Take folders out of all texts of a nested value."""
    if isinstance(value, dict):
        return {str(key): discreet_tree(inner, root) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [discreet_tree(inner, root) for inner in value]
    return discreet(value, root) if isinstance(value, str) else value


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Flatten nested objects: {'a': {'b': 1}} becomes {'a b': 1}; lists stay out."""
    if not isinstance(value, dict):
        return {} if isinstance(value, list) else {name: value}
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found.update(flat(inner, f"{name} {key}".strip()))
    return found
