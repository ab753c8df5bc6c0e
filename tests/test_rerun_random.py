"""Random edits: the dry run plans what a small model of the design predicts, no more.

`make test` tries 30 edits, `make test-all` 300 (TOMOGLEAN_EDITS, TOMOGLEAN_EDITS_SEED).
One to three edits fall together into one dry run, whose prediction is that of all of
them; each turn begins with the same finished study.
"""

import os
import random
import shutil
from pathlib import Path

import pytest
from edits import Place, contents, setting, some
from model import State, after, changed, jobs

from workflow import CONFIG, LABELS, VOLUMES

SEED = int(os.environ.get("TOMOGLEAN_EDITS_SEED", "2026"))
MOST = 3
QUICK, ALL = 30, 300
EDITS = int(os.environ.get("TOMOGLEAN_EDITS") or QUICK)

pytestmark = pytest.mark.xdist_group("rerun")


def turns(edits: int) -> range:
    """Return as many turns of one to three edits as make so many edits."""
    return range(round(edits * 2 / (1 + MOST)))


def later_turns(quick: int, every: int) -> list:
    """Mark the turns that only `make test-all` takes as slow."""
    total = max(quick, every)
    return [
        pytest.param(turn, marks=[] if turn < quick else pytest.mark.slow)
        for turn in range(total)
    ]


@pytest.fixture
def place(study, checkout):
    """Return the finished study, what the model knows of it, and its checkout."""
    volumes = {name: tasks.split(",") for tasks, names in VOLUMES.items() for name in names}
    state = State(CONFIG["tasks"], volumes, [row[:4] for row in LABELS])
    return Place(study, checkout, state.copy())


def random_of(turn: int, what: str = "") -> random.Random:
    return random.Random(f"{SEED} {turn} {what}")


def told(place: Place, turn: int) -> str:
    return f"TOMOGLEAN_EDITS_SEED={SEED} turn {turn}: {', '.join(place.done)}"


def agree(found: set, expected: set, said: str) -> None:
    assert found - expected == set(), f"{said}: planned for nothing"
    assert expected - found == set(), f"{said}: not planned"


def test_the_model_knows_every_job_of_a_study(place, planner):
    planned = planner.plan(place.study, "--forceall").jobs
    assert planned == {(job.rule, name) for name, job in jobs(place.state).items()}


@pytest.mark.parametrize("turn", later_turns(len(turns(EDITS)), len(turns(ALL))))
def test_random_edits_plan_what_the_model_predicts(place, planner, turn):
    before = place.state.copy()
    some(place, random_of(turn), MOST)
    expected = changed(before, place.state, place.removed)
    agree(planner.plan(place.study).jobs, expected, told(place, turn))


@pytest.mark.parametrize("turn", later_turns(1, 20))
def test_a_job_that_failed_once_runs_again_with_all_after_it(place, planner, turn):
    rng, before = random_of(turn, "failure"), place.state.copy()
    for edit in (setting, contents):
        edit(place, rng)
    rules = sorted({rule for rule, _ in changed(before, place.state)})
    fail = rng.choice(rules)
    assert planner.say(place.study, fail=fail).code == 1
    now = jobs(place.state)
    reached = changed(before, place.state)
    expected = after(now, {name for rule, name in reached if rule == fail})
    said = f"{told(place, turn)}, {fail} failed"
    agree(planner.plan(place.study).jobs, {(now[n].rule, n) for n in expected}, said)


@pytest.mark.parametrize("turn", later_turns(1, 15))
def test_results_after_random_edits_are_those_of_a_clean_run(place, planner, turn):
    before = place.state.copy()
    some(place, random_of(turn, "results"), MOST)
    done = planner.say(place.study)
    assert done.code == 0, f"{told(place, turn)}\n{done.text}"
    expected = changed(before, place.state, place.removed)
    agree(done.jobs, expected, told(place, turn))
    found, clean = artefacts(place.study), clean_results(place, planner)
    assert {name: found.get(name) for name in clean} == clean, told(place, turn)


def clean_results(place: Place, planner) -> dict[str, str]:
    """Make a study from its config and raw files alone."""
    clean = place.study.with_name("clean")
    for part in ("config", "raw"):
        shutil.copytree(place.study / part, clean / part)
    done = planner.say(clean)
    assert done.code == 0, done.text
    return artefacts(clean)


def artefacts(study: Path) -> dict[str, str]:
    """Return what a study made; records tell times and paths, and do not count."""
    files = [path for path in study.glob("results/**/*") if path.is_file()]
    return {
        str(path.relative_to(study)): path.read_text()
        for path in files if "provenance" not in path.parts
    }  # fmt: skip
