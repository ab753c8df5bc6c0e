"""Which artefacts and jobs a study consists of, by name only."""

from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace

from tomoglean.parts import epoch_of
from tomoglean.plan import Plan
from tomoglean.simulators import files
from tomoglean.study import SIMULATED

RESULTS = "results/"
LABELS = ("task", "use", "kind", "volume")
LEVELS = {
    "simulated": ("simulator", "volume"),
    "sliced": ("task", "round", "use", "volume"),
    "sampled": ("task", "round", "use", "volume"),
    "augmented": ("task", "round", "volume"),
    "trained": ("task", "round"),
    "segmented": ("task", "round", "volume"),
    "relabelled": ("task", "volume"),
    "measured": ("task", "volume"),
    "masked": ("task", "volume"),
    "classified": ("task", "round", "volume"),
    "picked": ("task", "round", "volume"),
    "published": ("task", "volume"),
    "evaluated": ("task",),
    "averaged": ("task",),
}


@dataclass(frozen=True)
class Artefact:
    """A file that a study wants.

    Attributes
    ----------
    stage
        Verb that makes it.
    path
        Below the study, such as results/picked/t3ss/final/mini-01.csv.
    """

    stage: str
    path: str

    @property
    def at(self) -> SimpleNamespace:
        """Wildcards of its job: task, round, epoch, use, kind, volume; those it has."""
        folder, *parts = self.path.removeprefix(RESULTS).split("/")
        levels = LEVELS.get(folder, LABELS if len(parts) > 1 else ("volume",))
        parts[-1] = parts[-1].split(".")[0]
        at = dict(zip(levels, parts, strict=False))
        if epoch := epoch_of(self.path):
            at["epoch"] = str(epoch)
        return SimpleNamespace(**at)

    @property
    def ending(self) -> str:
        """What follows the first dot of its name, such as .truth.tif."""
        _, dot, rest = self.path.rpartition("/")[2].partition(".")
        return dot + rest

    @property
    def job(self) -> tuple[str, ...]:
        """What tells its job from others; artefacts of one job have it in common."""
        alone = self.stage in ("publish", "convert", "check")
        return (self.stage, self.path if alone else repr(self.at))


def wanted(plan: Plan) -> dict[str, Artefact]:
    """Every artefact of every stage of a study by its path, in the way of the data."""
    return {artefact.path: artefact for artefact in (*_simulated(plan), *_planned(plan))}


def _simulated(plan: Plan) -> Iterator[Artefact]:
    used = {row["path"] for row in plan.study.volumes if row["path"].startswith(SIMULATED)}
    for path in sorted(used):
        _, _, phantom, name = path.split(".")[0].split("/")
        for made in files.paths(phantom, f"{SIMULATED}{phantom}", name).values():
            yield Artefact("simulate", str(made))


def _planned(plan: Plan) -> Iterator[Artefact]:
    for task in plan.study.tasks:
        for stage in plan.stages(task):
            for path in plan.everything(task, stage):
                yield Artefact(stage, path)
