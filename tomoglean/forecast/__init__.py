"""Predict disk, memory and time of a run before anything is computed.

Bytes follow from shapes, types and settings; seconds from the work of every job and the
speeds of `costs`, or of the study's own finished jobs where it has some. Only headers and
records are read. Of five finished studies (the demo with three seeds, ISBI 2012, sandstone;
two CPU cores) the bytes were predicted 1.02 to 1.11 times too large. Seconds, with speeds
taken from the other four studies alone, came out 0.61 to 1.31 times what was taken; the
lowest was a run on a crowded machine. `benchmarks/forecast.py` makes these figures.
"""

import shutil
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tomoglean import blocks, costs, provenance
from tomoglean.forecast import artefacts, extents
from tomoglean.forecast.artefacts import RESULTS, Artefact
from tomoglean.forecast.sizes import Sizes
from tomoglean.forecast.work import Work
from tomoglean.plan import Plan
from tomoglean.provenance import Refused
from tomoglean.study import Study

#: Factor that is told beside the seconds; leaving one study out gave 1.64 at most.
SECONDS_WITHIN = 2.0
#: A run starts if so many times the predicted bytes are free.
SAFETY = 1.1
#: Bytes of a job's record, log and line in Snakemake's own records.
RECORDS = 10_000
REPORT = 10_000_000
GB = 1e9


@dataclass
class Stage:
    """What the jobs of one stage will take.

    Attributes
    ----------
    jobs
        Number of jobs still to run.
    bytes
        Bytes still to be written.
    there
        Bytes that exist already.
    memory_mb
        Memory of the largest job, in MB.
    seconds
        Seconds of all jobs one after the other, on a CPU.
    own
        Whether the study's own finished jobs set the speed.
    """

    jobs: int = 0
    bytes: float = 0.0
    there: float = 0.0
    memory_mb: int = 0
    seconds: float = 0.0
    own: bool = False


@dataclass
class Forecast:
    """What a run will take.

    Attributes
    ----------
    stages
        By verb, in the way of the data.
    unknown
        Volumes that are not counted, and why, one line each.
    free
        Bytes free on the study's disk.
    reserve
        Bytes that shall stay free; None = the disk is not looked at.
    scratch
        Bytes that the largest job writes for its own use and removes.
    """

    stages: dict[str, Stage] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)
    free: int = 0
    reserve: float | None = 0.0
    scratch: float = 0.0

    @property
    def jobs(self) -> int:
        """Number of jobs still to run."""
        return sum(stage.jobs for stage in self.stages.values())

    @property
    def bytes(self) -> float:
        """Bytes still to be written, records and report included."""
        made = sum(stage.bytes for stage in self.stages.values())
        return made + self.jobs * RECORDS + (REPORT if self.jobs else 0)

    @property
    def there(self) -> float:
        """Bytes that exist already."""
        return sum(stage.there for stage in self.stages.values())

    @property
    def needed(self) -> float:
        """Bytes that must be free for a run to start."""
        return SAFETY * (self.bytes + self.scratch) + (self.reserve or 0)

    @property
    def fits(self) -> bool:
        """Whether the disk is large enough."""
        return self.reserve is None or not self.jobs or self.needed <= self.free

    @property
    def memory_mb(self) -> int:
        """Memory of the largest job, in MB."""
        return max((stage.memory_mb for stage in self.stages.values()), default=0)

    @property
    def seconds(self) -> float:
        """Seconds of all jobs one after the other, on a CPU."""
        return sum(stage.seconds for stage in self.stages.values())


def forecast(study: Study, asked: Collection[str] | None = None) -> Forecast:
    """Predict what a run of a study takes.

    Parameters
    ----------
    study
        The study.
    asked
        Artefacts that a run will make, there or not; None: all that are missing.

    Returns
    -------
    Forecast
        Volumes whose size nobody can tell are named in `unknown` and not counted.
    """
    plan = Plan(study)
    known, unknown = extents.find(study)
    wanted = artefacts.wanted(plan)
    sizes = Sizes(plan, known)
    work = Work(sizes, wanted)
    result = Forecast(unknown=unknown, free=free_bytes(study.root))
    gb = study.config["disk_reserve_gb"]
    result.reserve = None if gb is None else gb * GB
    for job in jobs(wanted.values()):
        stage = result.stages.setdefault(job[0].stage, Stage())
        _count(job, stage, result, work, asked)
    for verb, factor in own_speed(study, work).items():
        stage = result.stages[verb]
        launched = stage.jobs * costs.of(verb).launch_s
        stage.seconds = launched + factor * (stage.seconds - launched)
        stage.own = True
    return result


def jobs(wanted: Iterable[Artefact]) -> list[list[Artefact]]:
    """Put the artefacts of each job together."""
    grouped: dict[tuple[str, ...], list[Artefact]] = defaultdict(list)
    for artefact in wanted:
        grouped[artefact.job].append(artefact)
    return list(grouped.values())


def _count(
    job: list[Artefact],
    stage: Stage,
    result: Forecast,
    work: Work,
    asked: Collection[str] | None,
) -> None:
    """Add one job to its stage, if its volume is known."""
    root = work.study.root
    there = {artefact.path: _size_of(root / artefact.path) for artefact in job}
    predicted = {artefact.path: work.sizes.of(artefact) for artefact in job}
    stage.there += sum(size or 0 for size in there.values())
    if asked is None:
        runs = any(size is None for size in there.values())
    else:
        runs = any(path in asked for path in there)
    if not runs or None in predicted.values():
        return
    started = 1 + work.blocks(job[0])
    stage.jobs += started
    for path, size in predicted.items():
        stage.bytes += max(0.0, (size or 0) - (there[path] or 0))
    cost = costs.of(job[0].stage)
    stage.memory_mb = max(stage.memory_mb, cost.memory_mb(work.input_mb(job[0])))
    stage.seconds += started * cost.launch_s + cost.seconds(work.of(job[0]))
    result.scratch = max(result.scratch, work.scratch(job[0]))


def own_speed(study: Study, work: Work) -> dict[str, float]:
    """Compare the finished jobs of a study with what `costs` says of them.

    Returns
    -------
    dict
        Seconds taken over seconds predicted, by stage that has finished jobs of known
        volumes.
    """
    taken: dict[str, float] = defaultdict(float)
    predicted: dict[str, float] = defaultdict(float)
    for job in jobs(work.wanted.values()):
        first = job[0]
        seconds = seconds_of(study.root, first)
        if seconds is not None and work.sizes.of(first) is not None:
            taken[first.stage] += seconds
            predicted[first.stage] += costs.of(first.stage).seconds(work.of(first))
    return {verb: taken[verb] / predicted[verb] for verb in taken}


def seconds_of(root: Path, artefact: Artefact) -> float | None:
    """Seconds that the scripts of a finished job and of its blocks worked.

    None without their records.
    """
    return _recorded_seconds(root, artefact.path)


def _recorded_seconds(root: Path, path: str) -> float | None:
    name = path.removeprefix(RESULTS)
    try:
        record = provenance.read_json(root / RESULTS / "provenance" / f"{name}.json")
        seconds = float(record["seconds"])
        parts = [part for part in record.get("inputs", ()) if blocks.is_block(part)]
        each = [_recorded_seconds(root, part) for part in parts]
        return None if None in each else seconds + sum(filter(None, each))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _size_of(path: Path) -> int | None:
    """Bytes of a file, or of all files of a folder; None if there is none."""
    try:
        if path.is_dir():
            return sum(file.stat().st_size for file in path.rglob("*"))
        return path.stat().st_size
    except OSError:
        return None


def free_bytes(root: Path) -> int:
    """Bytes free on the disk that a study's results lie on."""
    results = root / RESULTS
    return shutil.disk_usage(results if results.is_dir() else root).free


def refuse_unless_it_fits(found: Forecast) -> None:
    """Stop a run that would fill the disk.

    Raises
    ------
    Refused
        If less is free than the run needs.
    """
    if not found.fits:
        raise Refused(
            f"results: expected {_gb(found.needed)} free on the study's disk, found "
            f"{_gb(found.free)}; free space, ask for less, or see disk_reserve_gb in "
            "config.yaml (`python -m tomoglean check STUDY` says what takes how much)"
        )


def in_short(found: Forecast) -> str:
    """Say in a line what a run takes, and which volumes that leaves out."""
    left_out = sorted(found.unknown)
    named = ", ".join(left_out[:3]) + (", ..." if len(left_out) > 3 else "")
    aside = f"; not counted, their size is unknown: {named}" if left_out else ""
    return (
        f"{found.jobs} jobs, about {_gb(found.bytes)} to write ({_gb(found.free)} free), "
        f"{_hours(found.seconds)} of CPU{aside}"
    )


# -- words ---------------------------------------------------------------------------


def told(found: Forecast) -> str:
    """Say what a run takes: a line a stage, then disk, memory and time."""
    lines = [
        f"{'stage':<10}{'jobs':>6}{'to write':>12}{'there':>12}{'memory':>10}{'CPU':>12}"
    ]
    lines += [
        f"{verb:<10}{stage.jobs:>6}{_gb(stage.bytes):>12}{_gb(stage.there):>12}"
        f"{_mb(stage.memory_mb):>10}{_hours(stage.seconds):>12}"
        for verb, stage in found.stages.items()
    ]
    lines += [_disk(found), *_time(found)]
    lines += [f"not counted: {volume}: {why}" for volume, why in found.unknown.items()]
    return "\n".join(lines) + "\n"


def _disk(found: Forecast) -> str:
    if not found.jobs:
        return f"disk: nothing to write; {_gb(found.free)} free"
    verdict = "enough" if found.fits else "TOO LITTLE"
    return (
        f"disk: {_gb(found.bytes)} to write, {_gb(found.needed)} asked for with scratch "
        f"and reserve, {_gb(found.free)} free: {verdict}"
    )


def _time(found: Forecast) -> list[str]:
    if not found.jobs:
        return []
    own = [verb for verb, stage in found.stages.items() if stage.own and stage.jobs]
    source = f"; speed of this study's own jobs: {', '.join(own)}" if own else ""
    return [
        f"memory: {_mb(found.memory_mb)} asked for by the largest job",
        f"time: {_hours(found.seconds)} of CPU for {found.jobs} jobs one after the other, "
        f"within a factor of {SECONDS_WITHIN:g}; a GPU trains faster{source}",
    ]


def _gb(size: float) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size / 1e3:.0f} kB"


def _mb(size: float) -> str:
    return f"{size / 1e3:.1f} GB" if size else ""


def _hours(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"
