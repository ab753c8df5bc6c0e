"""What the jobs of a study ask a cluster for: memory, time, and whom they run with.

Times come from the forecast of a job's own work, memory from its input; both grow with
the attempt, so that a job that was killed for either gets more.
"""

import logging
import math
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from tomoglean import costs, tables
from tomoglean.plan import Plan
from tomoglean.study import SIMULATED

LEVELS = ("task", "round", "epoch", "use", "kind", "volume")
#: Long steps of one volume share a job if its raw file is at most so large, in MB.
SMALL_MB = 500
BYTES_A_VOXEL = 4
log = logging.getLogger(__name__)


class Demands:
    """What the jobs of a study need.

    Parameters
    ----------
    plan
        The study and who feeds whom.
    estimate
        Whether to forecast each job's work; only the process that submits has a use for
        it. Without it every job gets the usual time of its stage.
    on_gpu
        Stages that run on a GPU.
    """

    def __init__(
        self, plan: Plan, *, estimate: bool = True, on_gpu: tuple[str, ...] = ()
    ) -> None:
        self.plan, self.estimate, self.on_gpu = plan, estimate, on_gpu

    def minutes(self, stage: str, wildcards: Any, attempt: int) -> int:
        """Minutes to ask for."""
        faster = costs.GPU_SPEEDUP if stage in self.on_gpu else 1.0
        return costs.of(stage).runtime(self.work(stage, wildcards), attempt, faster)

    def work(self, stage: str, wildcards: Any) -> float | None:
        """Units of work of a job; None if nobody can tell."""
        job = self._forecast and self._forecast[0].get(_name(stage, wildcards))
        if not job:
            return None
        try:
            return float(self._forecast[1].of(job)) * self._share(stage, wildcards)
        except Exception as error:  # a forecast that fails must stop no run
            log.info("no forecast of %s: %s", stage, error)
            return None

    def _share(self, stage: str, wildcards: Any) -> float:
        """Share that a job has of the work: a block, or a part of a training."""
        if stage == "train":
            settings = self.plan.study.tasks[wildcards.task]["train"]
            every = settings["epochs_per_job"] or settings["epochs"]
            return min(1.0, float(every / settings["epochs"]))
        return 1 / int(getattr(wildcards, "block", "1-of-1").rpartition("-")[2])

    def input_mb(self, stage: str, wildcards: Any) -> float:
        """Megabytes that a job will read, before they are there; 0 if nobody can tell."""
        job = self._forecast and self._forecast[0].get(_name(stage, wildcards))
        try:
            return float(self._forecast[1].input_mb(job)) if job else 0.0
        except Exception as error:  # a forecast that fails must stop no run
            log.info("no forecast of %s: %s", stage, error)
            return 0.0

    @cached_property
    def _forecast(self) -> Any:
        """Jobs by name and their work, from headers, records and settings only."""
        if not self.estimate:
            return None
        from tomoglean.forecast import artefacts, extents  # jobs start faster without
        from tomoglean.forecast.sizes import Sizes
        from tomoglean.forecast.work import Work

        try:
            wanted = artefacts.wanted(self.plan)
            work = Work(Sizes(self.plan, extents.find(self.plan.study)[0]), wanted)
        except Exception as error:  # a forecast that fails must stop no run
            log.info("no forecast: %s", error)
            return None
        by_name: dict[tuple[str, ...], Any] = {}
        for artefact in wanted.values():
            by_name.setdefault(_name(artefact.stage, artefact.at), artefact)
        return by_name, work

    # -- whom a job runs with --------------------------------------------------------

    def together(self, chain: str, *, brief: bool = False) -> Callable[[Any], str | None]:
        """Put the steps of one volume into one job of the cluster.

        Never those of several volumes: one of them that fails would take the others
        with it. If a step fails, all of the chain are done again, so steps that may last
        hours are put together for small volumes only.

        Parameters
        ----------
        chain
            What the steps are together, such as predict.
        brief
            Whether no step lasts long; if one may, a volume whose raw file has more than
            `SMALL_MB` keeps a job for every step.

        Returns
        -------
        callable
            Name of the group by wildcards; None = a job of its own.
        """

        def of(wildcards: Any) -> str | None:
            if not brief and self.raw_mb(wildcards.volume) > SMALL_MB:
                return None
            round_ = getattr(wildcards, "round", "final")
            return "-".join([chain, wildcards.task, round_, wildcards.volume])

        return of

    def raw_mb(self, volume: str) -> float:
        """Megabytes of a raw volume, known before anything is computed.

        A folder of slices counts as large: to add it up would take longer than it saves.
        """
        path = self.plan.study.row(volume)["path"]
        if path.startswith(SIMULATED):
            group = self.plan.study.simulated()[Path(path).name.split(".")[0]]
            voxels = float(math.prod(group["settings"]["field"]["shape_px"]))
            return voxels * BYTES_A_VOXEL / 1e6
        file = tables.locate(path, self.plan.study.root)
        return file.stat().st_size / 1e6 if file.is_file() else math.inf


def _name(stage: str, levels: Any) -> tuple[str, ...]:
    """Name a job by its stage and the wildcards that tell it from others."""
    return (stage, *(str(getattr(levels, level, "")) for level in LEVELS))
