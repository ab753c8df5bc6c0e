"""What several test modules share: one finished study, and the Snakemake that made it."""

import shutil

import pytest
from planner import Planner

from workflow import copy_checkout, refresh, write_study


@pytest.fixture(scope="session")
def _finished(tmp_path_factory):
    home = tmp_path_factory.mktemp("finished")
    shutil.copytree(copy_checkout(home / "original"), home / "checkout", symlinks=True)
    planner = Planner(home / "checkout")
    study = write_study(home / "study")
    done = planner.say(study)
    assert done.code == 0, done.text
    yield study, planner
    planner.close()


@pytest.fixture
def planner(_finished):
    """Return a Snakemake that waits for questions, on a checkout as it was."""
    planner = _finished[1]
    refresh(planner.checkout.with_name("original"), planner.checkout)
    return planner


@pytest.fixture
def checkout(planner):
    """Return the checkout of `planner`, open to edits."""
    return planner.checkout


@pytest.fixture
def study(_finished, tmp_path):
    """Return a study in which everything has been made, open to edits."""
    return shutil.copytree(_finished[0], tmp_path / "study", symlinks=True)
