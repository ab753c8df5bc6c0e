"""Jobs of a study as their records tell them: what they took, on what, made with what."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from tomoglean.report import style

Record = Mapping[str, Any]
UNTOLD = "not recorded"


@dataclass
class Job:
    """One job that ended well; what its record does not tell is None or empty.

    Attributes
    ----------
    rule
        Rule of the workflow.
    started
        When it began, ISO 8601 in UTC.
    seconds, cpu_seconds
        How long it worked, and the time of all processors it used.
    memory_mb
        Peak resident memory of its largest process in 10^6 bytes.
    code
        Fingerprint of the code it reached.
    commit
        Commit of the checkout, and its state.
    machine
        Kind of machine, in words.
    inputs
        Paths as the study names them (results/converted/a.h5, raw/a.tif).
    outputs
        Paths below results/.
    """

    rule: str
    started: str = ""
    seconds: float | None = None
    cpu_seconds: float | None = None
    memory_mb: float | None = None
    code: str = ""
    commit: str = UNTOLD
    machine: str = UNTOLD
    inputs: tuple[str, ...] = ()
    outputs: list[str] = field(default_factory=list)


def of(records: Iterable[Record]) -> list[Job]:
    """Gather records to jobs: one with several artefacts counts once.

    Parameters
    ----------
    records
        As `Source.provenance` returns them.

    Returns
    -------
    list of Job
        In the order of their first records.
    """
    jobs: dict[tuple[str, ...], Job] = {}
    for record in records:
        told = (str(record.get(name)) for name in ("rule", "key", "started"))
        job = jobs.setdefault(tuple(told), _job(record))
        job.outputs.append(str(record.get("artefact", "")))
    return list(jobs.values())


def _job(record: Record) -> Job:
    inputs = record.get("inputs")
    return Job(
        rule=str(record.get("rule", "unknown")),
        started=str(record.get("started", "")),
        code=str(record.get("code") or ""),
        commit=_commit(record.get("checkout")),
        machine=machine(record.get("machine")),
        inputs=tuple(map(str, inputs)) if isinstance(inputs, Mapping | list) else (),
        seconds=style.finite(record.get("seconds")),
        cpu_seconds=style.finite(record.get("cpu_seconds")),
        memory_mb=style.finite(record.get("memory_mb")),
    )


def _commit(checkout: Any) -> str:
    if not isinstance(checkout, Mapping):
        return UNTOLD
    return f"{checkout.get('commit')} ({checkout.get('state')})"


def machine(told: Any) -> str:
    """Say what kind of machine a job ran on.

    Examples
    --------
    >>> machine({"processor": "AMD EPYC", "cores": 8, "memory_gb": 64.2, "gpus": []})
    'AMD EPYC, 8 cores, 64 GB, no GPU'
    """
    if not isinstance(told, Mapping):
        return UNTOLD
    gpus = Counter(map(str, told.get("gpus") or []))
    cards = [name if n == 1 else f"{n} × {name}" for name, n in gpus.items()]
    memory = style.significant(told.get("memory_gb"), 2)
    return (
        f"{told.get('processor')}, {told.get('cores')} cores, {memory} GB, "
        f"{' and '.join(cards) or 'no GPU'}"
    )


def counted(values: Iterable[str]) -> dict[str, int]:
    """Count words, the most frequent first."""
    return dict(Counter(values).most_common())


@dataclass(frozen=True)
class Cost:
    """What the jobs of one rule took; None where no record tells it.

    Attributes
    ----------
    rule
        Its name.
    jobs
        How many ended well.
    seconds, median_seconds, longest_seconds
        Their time in all, of the middle one, of the longest one.
    processors
        Processor time over time, of all jobs that tell both.
    memory_mb, median_memory_mb
        Highest and middle peak memory of a job.
    code
        Fingerprints of the code, sorted; several where it has changed in between.
    """

    rule: str
    jobs: int
    seconds: float | None
    median_seconds: float | None
    longest_seconds: float | None
    processors: float | None
    memory_mb: float | None
    median_memory_mb: float | None
    code: Sequence[str]


def costs(jobs: Sequence[Job]) -> list[Cost]:
    """Add up what every rule took, the dearest first."""
    rules = dict.fromkeys(job.rule for job in jobs)
    found = [_cost(rule, [job for job in jobs if job.rule == rule]) for rule in rules]
    return sorted(found, key=lambda cost: (-(cost.seconds or 0), cost.rule))


def _cost(rule: str, jobs: Sequence[Job]) -> Cost:
    seconds = [job.seconds for job in jobs if job.seconds is not None]
    memory = [job.memory_mb for job in jobs if job.memory_mb is not None]
    return Cost(
        rule=rule,
        jobs=len(jobs),
        seconds=sum(seconds) if seconds else None,
        median_seconds=median(seconds) if seconds else None,
        longest_seconds=max(seconds, default=None),
        processors=_processors(jobs),
        memory_mb=max(memory, default=None),
        median_memory_mb=median(memory) if memory else None,
        code=sorted({job.code for job in jobs if job.code}),
    )


def _processors(jobs: Iterable[Job]) -> float | None:
    known = [(job.cpu_seconds, job.seconds) for job in jobs if job.seconds]
    pairs = [(spent, seconds) for spent, seconds in known if spent is not None and seconds]
    seconds = sum(seconds for _, seconds in pairs)
    return sum(spent for spent, _ in pairs) / seconds if seconds else None
