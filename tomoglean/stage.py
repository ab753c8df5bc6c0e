"""The only module that knows Snakemake: what a rule needs, and how a script begins."""

import atexit
import contextlib
import difflib
import json
import logging
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tomoglean import blocks, costs, devices, discretion, logs, parts, provenance, usage
from tomoglean.provenance import Refused

if TYPE_CHECKING:
    from tomoglean.demands import Demands
    from tomoglean.plan import Plan
    from tomoglean.running import Hold

RECORDS = Path("results/provenance")
GPU = "gpu"
UNWRITTEN = re.compile("file write failed: .*?error message = '(.*?)'", re.DOTALL)
SCRATCH = Path(".tomoglean/scratch")  # a job done again for comparison needs no report
NOTHING_YET = (
    "config/volumes.tsv holds no volume yet: try `python -m tomoglean check FILE`, "
    "then add a row for it"
)
WORDS = {"PREEMPTED": "preempted", "FORGOTTEN": "no more listed, and its outputs not whole"}
VERSIONS = (
    "tensorflow_cpu",
    "tensorflow",
    "keras",
    "numpy",
    "scipy",
    "h5py",
    "scikit-image",
    "onnxruntime",
    "isal",
    "opencv-python-headless",
    "snakemake",
)

log = logging.getLogger(__name__)
_held: list["Hold"] = []
_settled: list[str] = []  # finished without a head, as this run found it


# -- the Snakefile -------------------------------------------------------------------


def open_plan(overrides: dict[str, Any], checkpoints: Any, *, look: bool = False) -> "Plan":
    """Read the study that Snakemake runs in; a mistake ends the run with one line.

    The main process also looks for volumes that have newly arrived.
    """
    from tomoglean import study  # scripts start faster without these
    from tomoglean.plan import Plan

    try:
        plan = Plan(study.read(Path(), overrides, look=look), checkpoints)
    except Refused as error:
        raise SystemExit(f"tomoglean: {error}") from None
    if look:
        _tell_arrivals(plan)
    if not plan.study.volumes:
        sys.stderr.write(f"tomoglean: {NOTHING_YET}\n")
    return plan


def tidy(workflow: Any) -> None:
    """Give Snakemake back what it does not know: lost, or finished without its head."""
    if not workflow.is_main_process:
        return
    from tomoglean import holders, keys, leftovers

    with contextlib.suppress(Refused, OSError):  # a dry run in somebody else's study
        holder = holders.read(Path())
        if holder is not None and holder.is_alive(Path()):
            return
        _settled[:] = leftovers.settle(Path())
        if told := keys.restore(Path(), list(_settled)):
            sys.stderr.write(f"tomoglean: {told} artefacts made known to Snakemake\n")
        if told := keys.correct():
            sys.stderr.write(f"tomoglean: {told} artefacts were made after an edit\n")


def _tell_arrivals(plan: "Plan") -> None:
    arrived = plan.study.arrived
    for line in (*arrived.absent, *arrived.refused):
        sys.stderr.write(f"tomoglean: {line}\n")
    for path in arrived.waiting:
        sys.stderr.write(f"tomoglean: {path}: not complete yet, waits for the next run\n")


def before(workflow: Any, plan: "Plan") -> None:
    """Refuse, before the first job, what a run would only find out after hours.

    These are GPU jobs without a TensorFlow for GPUs, a disk that is too small, and
    another run in the same study; from here on this run holds the study.
    """
    if not workflow.is_main_process or workflow.touch:
        return
    from tomoglean import arrivals, leftovers

    jobs = list(workflow.dag.needrun_jobs())
    if asking := {job.rule.name for job in jobs if asks_in_vain(job)}:
        raise SystemExit(
            f"tomoglean: {', '.join(sorted(asking))}: expected the GPU environment (the "
            "profile says device: gpu), found tensorflow-cpu; run `make setup GPU=1` in "
            "the checkout, then start again, or set `device: cpu` in the profile"
        )
    _make_sure_of_room(plan, {str(path) for job in jobs for path in job.output})
    hold(workflow)
    _plan_again_without(path for path in _settled if not Path(path).exists())
    leftovers.sweep(Path(), {str(path) for job in jobs for path in job.input})
    _clear()
    arrivals.take_up(plan.study.arrived.rows)


def _plan_again_without(gone: Iterable[str]) -> None:
    """Start anew if artefacts went that this run has planned with.

    A job of a dead run may have finished its artefact as this run looked, and was ended
    before its Snakemake knew, which then removes the artefact.
    """
    names = sorted(gone)
    if not names:
        return
    sys.stderr.write(f"tomoglean: {names[0]} went with the job it is of; planning again\n")
    release()
    sys.stderr.flush()
    program = Path(sys.argv[0])
    module = ["-m", "snakemake"] if program.name == "__main__.py" else [str(program)]
    words = [sys.executable, *module, *sys.argv[1:]]
    os.execv(sys.executable, words)  # noqa: S606 (the same command, without a shell)


def _clear() -> None:
    """Make room that jobs which were killed still take."""
    from tomoglean import holders, leftovers

    try:
        now_s = holders.HOLDER.stat().st_mtime  # touched as this run began
    except OSError:
        return
    if freed := leftovers.clear(Path(), now_s):
        told = f"{freed / 1e6:.0f} MB of half-written files of broken-off jobs removed"
        sys.stderr.write(f"tomoglean: {told}\n")


def hold(workflow: Any) -> None:
    """Take the study; the jobs of a dead run are ended first."""
    from tomoglean import queues, running, standing

    executor = getattr(workflow.scheduler, "_executor", None)
    run = getattr(executor, "run_uuid", None)
    looks_s = getattr(workflow.executor_settings, "init_seconds_before_status_checks", 0)
    try:
        _held.append(running.Hold(Path(), run, partial(_note_jobs, workflow)))
        standing.begin(Path())
        _held[-1].take_note()
        if run and looks_s and (trouble := queues.forgets_too_early(looks_s)):
            sys.stderr.write(f"tomoglean: {trouble}\n")
        if run:
            wait_for_the_living(executor, queues.Looks(run).over)
    except Refused as refusal:
        raise SystemExit(f"tomoglean: {refusal}") from None


def wait_for_the_living(
    executor: Any, over: Callable[[Sequence[str]], dict[str, str]]
) -> None:
    """Report jobs that are over and that the plugin would wait for without end.

    Parameters
    ----------
    executor
        Snakemake's executor for SLURM.
    over
        See `queues.Looks.over`.
    """
    check = executor.check_active_jobs

    async def checked(waited: list[Any]) -> AsyncIterator[Any]:
        found = over([one.external_jobid for one in waited])
        for one in waited:
            if one.external_jobid in found:
                _report(executor, one, found[one.external_jobid])
        left = [one for one in waited if one.external_jobid not in found]
        async for one in check(left):
            yield one

    executor.check_active_jobs = checked


def _report(executor: Any, waited: Any, how: str) -> None:
    """Take a job that is over for what it is: whole, or to be tried again."""
    from tomoglean import leftovers

    if leftovers.are_finished(Path(), [str(path) for path in waited.job.output]):
        executor.report_job_success(waited)
        return
    told = f"SLURM job {waited.external_jobid}: {WORDS[how]}; retries make it again"
    executor.report_job_error(
        waited, msg=told, aux_logs=[str(waited.aux.get("slurm_logfile", ""))]
    )


def _note_jobs(workflow: Any) -> None:
    """Note the jobs of this run for `status`; checkpoints add some while it goes on."""
    from tomoglean import standing

    dag, over = workflow.dag, _given_up(workflow)
    jobs = [one for one in list(dag.jobs) if dag.needrun(one) or dag.finished(one)]
    standing.note(
        Path(),
        [
            standing.Job(
                one.rule.name,
                " ".join(one.wildcards_dict.values()),
                str(one.log[0]),
                one in over,
            )
            for one in jobs
            if one.log
        ],
    )


def _given_up(workflow: Any) -> set[Any]:
    """Return the jobs that failed for good; of a group those that left no output."""
    failed = list(workflow.scheduler.failed)
    members = [job for one in failed if one.is_group() for job in one]
    return {one for one in failed if not one.is_group()} | {
        job for job in members if not all(Path(path).exists() for path in job.output)
    }


def release() -> None:
    """Give the study back at the end of a run; what fails here is left to the next one."""
    while _held:
        try:
            _held.pop().release()
        except Exception as error:
            sys.stderr.write(f"tomoglean: {error}\n")


def asks_in_vain(job: Any) -> bool:
    """Whether a job asks for a GPU that the installed TensorFlow cannot use."""
    return bool(job.resources.get("device") == GPU) and devices.cpu_only()


def _make_sure_of_room(plan: "Plan", asked: set[str]) -> None:
    """Refuse a run that would fill the disk; a failing forecast stops nothing."""
    from tomoglean import forecast

    try:
        found = forecast.forecast(plan.study, asked)
        sys.stderr.write(f"tomoglean: {forecast.in_short(found)}\n")
        forecast.refuse_unless_it_fits(found)
    except Refused as refusal:
        raise SystemExit(f"tomoglean: {refusal}") from None
    except Exception as error:
        sys.stderr.write(f"tomoglean: no forecast: {type(error).__name__}: {error}\n")


def show(plan: "Plan", outcome: str) -> None:
    """Build the report after a run; a failing report never turns a green run red."""
    from tomoglean import report as reports

    if not plan.study.volumes or SCRATCH.exists():
        return
    for one in _held:
        one.take_note()
    try:
        path = reports.build(plan.study, outcome=outcome)
        sys.stderr.write(f"tomoglean: the report is {path}\n")
    except Exception as error:
        sys.stderr.write(f"tomoglean: no report: {type(error).__name__}: {error}\n")


def crate(plan: "Plan") -> None:
    """Tell machines what happened; a failing crate never turns a green run red."""
    if not plan.study.volumes or SCRATCH.exists():
        return
    try:
        from tomoglean import crate as crates

        path = crates.write(plan.study, wanted=plan.all())
        sys.stderr.write(f"tomoglean: `verify` compares with {path}\n")
    except Exception as error:
        sys.stderr.write(f"tomoglean: no crate: {type(error).__name__}: {error}\n")


# -- resources -----------------------------------------------------------------------


def resources(
    workflow: Any, plan: "Plan"
) -> tuple[Callable[[str], dict[str, Any]], Callable[..., Any]]:
    """Hand the Snakefile what rules ask a cluster for: `needs` and `together`.

    Only the process that submits forecasts what jobs need.
    """
    from tomoglean.demands import Demands

    if workflow.is_main_process:
        _hint_at_typos(plan, sys.argv[1:])
    chosen = workflow.resource_settings.overwrite_resources.items()
    on_gpu = tuple(rule for rule, words in chosen if _word(words, "device") == GPU)
    demands = Demands(plan, estimate=workflow.is_main_process, on_gpu=on_gpu)
    return partial(needs, demands=demands), demands.together


def _hint_at_typos(plan: "Plan", words: Iterable[str]) -> None:
    """Name the target that was meant: Snakemake takes a typo for a file nobody makes."""
    stages = {(task, stage) for task in plan.study.tasks for stage in plan.stages(task)}
    known = {*map("_".join, stages), *(stage for _, stage in stages)}
    for word in words:
        near = difflib.get_close_matches(word, known, n=1, cutoff=0.85)
        if near and word not in known:
            sys.stderr.write(f"tomoglean: {word}: no target; did you mean {near[0]}?\n")


def _word(resources: Any, name: str) -> Any:
    """Text of a resource as the profile or `--set-resources` gives it."""
    found = resources.get(name)
    return str(getattr(found, "raw", found)).strip("\"'")


def needs(stage: str, demands: "Demands | None" = None) -> dict[str, Any]:
    """Resources of a stage.

    Parameters
    ----------
    stage
        Verb of the stage.
    demands
        What the jobs of the study need; None: the usual time of the stage.

    Returns
    -------
    dict
        Memory by input and attempt, time by work and attempt, and the device: every
        stage computes on CPUs unless a profile says `device: gpu`.
    """
    cost = costs.of(stage)

    def mem_mb(wildcards: Any, input: Any, attempt: int) -> int:
        input_mb = _megabytes(input)
        if input_mb is None:  # the steps before it are still to run
            input_mb = demands.input_mb(stage, wildcards) if demands else 0.0
        return cost.memory_mb(input_mb, attempt)

    def runtime(wildcards: Any, attempt: int) -> int:
        if demands is None:
            return cost.runtime(None, attempt)
        return demands.minutes(stage, wildcards, attempt)

    return {"mem_mb": mem_mb, "runtime": runtime, "device": "cpu"}


def _megabytes(files: Iterable[Any]) -> float | None:
    """Size of files; None if one is not there yet (Snakemake's own tells no dry run)."""
    try:
        return sum(os.path.getsize(str(file)) for file in files) / 1e6
    except OSError:
        return None


# -- scripts -------------------------------------------------------------------------


def begin(snakemake: Any) -> None:
    """Start a script: its log, its one-line refusals, its record of provenance."""
    logs.begin(snakemake.log[0])
    logging.basicConfig(
        filename=snakemake.log[0], level=logging.INFO, format=logs.FORM, force=True
    )
    log.info("rule %s for %s", snakemake.rule, ", ".join(snakemake.output))
    _Run(snakemake)
    if getattr(snakemake.resources, "device", None) == GPU:
        asked = int(getattr(snakemake.resources, "gpus", 0))
        if asked and (taken := devices.take(asked)):
            log.info("takes GPU %s of this node", " and ".join(taken))
        devices.refuse_without_gpu(snakemake.rule)


class _Run:
    """One job: notes how it ends and, when well, writes a record per artefact."""

    def __init__(self, snakemake: Any) -> None:
        self.snakemake = snakemake
        self.started, self.clock = datetime.now(UTC), time.monotonic()
        self.commit, self.state = usage.checkout()  # of the code that is now imported
        self.spent, self.failed, self.unwritten = usage.cpu_seconds(), False, ""
        sys.excepthook = self.fail
        sys.unraisablehook = self.heed
        atexit.register(self.end)

    def fail(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        self.failed = True
        if self.is_unwritten(error):
            return
        if isinstance(error, Refused | KeyboardInterrupt):
            told = str(error) or f"{self.snakemake.rule}: interrupted"
            log.error("%s", told)
            sys.stderr.write(f"{told}\n")
        else:
            told = str(error) or kind.__name__
            log.error("%s", told, exc_info=(kind, error, trace))
            sys.__excepthook__(kind, error, trace)

    def heed(self, ignored: Any) -> None:
        """Take heed of what Python ignores: HDF5 may see a full disk as it closes."""
        if not self.is_unwritten(ignored.exc_value):
            sys.__unraisablehook__(ignored)

    def is_unwritten(self, error: BaseException | None) -> bool:
        """Tell whether HDF5 could not write a file, which then holds zeros; say it once."""
        found = UNWRITTEN.search(str(error))
        if found and not self.unwritten:
            self.unwritten = (
                f"{self.snakemake.rule}: expected room on the disk, found {found[1]}; free"
                " space, then the same command goes on"
            )
            log.error("%s", self.unwritten)
            sys.stderr.write(f"{self.unwritten}\n")
        return bool(found)

    def end(self) -> None:
        if self.unwritten:
            _stop()  # HDF5 breaks down where an interpreter with such a file ends
        if self.failed or not all(map(os.path.exists, self.snakemake.output)):
            return
        _end_in_peace()
        try:
            self.record(round(time.monotonic() - self.clock, 2))
        except BaseException as error:  # else the record of an older artefact would count
            self.fail(type(error), error, error.__traceback__)
            _stop()

    def record(self, seconds: float) -> None:
        """Write the record of every artefact."""
        facts = {
            "started": self.started.isoformat(timespec="seconds"),
            "seconds": seconds,
            **usage.told(self.spent),
            "checkout": {"commit": self.commit, "state": self.state},
        }
        for artefact, record in _records(self.snakemake).items():
            provenance.write_json({**record, **facts}, RECORDS / f"{artefact}.json")
        log.info("OK seconds=%s", seconds)
        logs.end_well(self.snakemake.log[0])


def _end_in_peace() -> None:
    """Hear no signal from here on, as the next run takes what has a record for made.

    A job that died of one between its record and its end would have its outputs removed by
    the Snakemake around it, after that run has planned without them.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def _stop() -> None:
    """Fail at exit, where what is raised changes no exit code."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def training_key(snakemake: Any) -> str:
    """Key of a training: the same for every attempt at it, and for all its parts."""
    params = {**snakemake.params}
    code = params.pop("code")
    groups = ("examples", "augmented", "validation")
    files = [str(name) for group in groups for name in getattr(snakemake.input, group)]
    key = provenance.key("training", code, params, [_input_key(name) for name in files])
    _tell_if_begun_otherwise(parts.Kept(str(snakemake.output[0]), key))
    return key


def _tell_if_begun_otherwise(kept: parts.Kept) -> None:
    """Warn that days of learning are not gone on from, before more are spent."""
    pattern = f"{kept.stem.name}.running-*-[01].h5"
    others = set(kept.stem.parent.glob(pattern)) - set(kept.slots)
    if others and not any(slot.exists() for slot in kept.slots):
        log.warning(
            "begins anew: %s is of other code, settings or examples; as they were then, "
            "the training would go on from there",
            max(others, key=lambda path: path.name),
        )


def _records(snakemake: Any) -> dict[str, dict[str, Any]]:
    params = dict(snakemake.params)
    settings = json.loads(json.dumps(params, default=str))
    code = settings.pop("code", None)
    names = [str(name) for name in snakemake.input]
    inputs = {name: _input_key(name) for name in names}
    counted = [key for name, key in inputs.items() if not blocks.is_block(name)]
    shared = {
        "rule": snakemake.rule,
        "key": provenance.key(code, settings, counted),
        "code": code,
        "settings": settings,
        "inputs": inputs,
        "repeated": [name for place, name in enumerate(names) if name in names[:place]],
        "versions": _versions(),
    }
    shared = discretion.hide_all(shared)  # records are passed on; `keys` finds them again
    outputs = {str(name).removeprefix("results/"): str(name) for name in snakemake.output}
    return {
        artefact: {"artefact": artefact, "sha256": provenance.sha256_of(path), **shared}
        for artefact, path in outputs.items()
    }


def _input_key(path: str) -> str | None:
    record = RECORDS / f"{path.removeprefix('results/')}.json"
    if record.is_file():
        return str(provenance.read_json(record)["key"])
    return provenance.sha256_of(path) if path.startswith("results/") else None


def _versions() -> dict[str, str]:
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in VERSIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
