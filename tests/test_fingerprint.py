"""The code behind a stage: what counts, and what does not."""

from pathlib import Path

import pytest

from tomoglean.fingerprint import fingerprint, reached

HELPERS = '''
"""Help."""
import logging

log = logging.getLogger(__name__)
FACTOR = 2


def double(value):
    """Double it."""
    log.info("doubling %s", value)
    return scaled(value) * FACTOR


def scaled(value):
    return value  # as it is


def unused():
    return "nobody calls me"
'''
SCRIPT = """
from tomoglean import helpers

print(helpers.double(3))
"""


@pytest.fixture
def tree(tmp_path):
    package = tmp_path / "tomoglean"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "helpers.py").write_text(HELPERS)
    (tmp_path / "script.py").write_text(SCRIPT)
    return tmp_path


def digest(tree: Path, **kwargs) -> str:
    return fingerprint(tree / "script.py", root=tree, **kwargs)


def edit(tree: Path, old: str, new: str, name: str = "tomoglean/helpers.py") -> None:
    path = tree / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_script_reaches_what_it_calls_and_what_that_calls(tree):
    found = reached(tree / "script.py", root=tree)
    assert {name for _, name in found} >= {"double", "scaled", "FACTOR"}
    assert "unused" not in {name for _, name in found}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""Double it."""', '"""Make it twice as large."""'),
        ("  # as it is", ""),
        ('log.info("doubling %s", value)', 'log.warning("now doubling %s", value)'),
        ('    log.info("doubling %s", value)\n', ""),
        ("nobody calls me", "still nobody"),
        ("\n\n\ndef scaled", "\n\n\n\n\ndef scaled"),
        ('"""Help."""', '"""Help a lot."""'),
    ],
)
def test_prose_and_unreached_code_change_nothing(tree, old, new):
    before = digest(tree)
    edit(tree, old, new)
    assert digest(tree) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return value  #", "return value + 0  #"),
        ("FACTOR = 2", "FACTOR = 3"),
        ("* FACTOR", "+ FACTOR"),
    ],
)
def test_reached_code_changes_it(tree, old, new):
    before = digest(tree)
    edit(tree, old, new)
    assert digest(tree) != before


def test_a_name_imported_through_a_package_is_followed(tree):
    package = tree / "tomoglean" / "shapes"
    package.mkdir()
    (package / "__init__.py").write_text("from tomoglean.shapes.round import ball\n")
    (package / "round.py").write_text("def ball():\n    return 1\n")
    (tree / "script.py").write_text("from tomoglean.shapes import ball\n\nball()\n")
    before = digest(tree)
    edit(tree, "return 1", "return 2", "tomoglean/shapes/round.py")
    assert digest(tree) != before


def test_a_registry_is_not_followed_but_what_the_settings_choose_is(tree):
    package = tree / "tomoglean"
    (package / "square.py").write_text("def build():\n    return 4\n")
    (package / "circle.py").write_text("def build():\n    return 0\n")
    (package / "shapes.py").write_text(
        'SHAPES = {"square": "tomoglean.square", "circle": "tomoglean.circle"}\n\n\n'
        "def module(name):\n    return SHAPES[name]\n"
    )
    (tree / "script.py").write_text("from tomoglean import shapes\n\nshapes.module('x')\n")
    unused, used = digest(tree), digest(tree, uses=("tomoglean.square",))
    edit(tree, "return 4", "return 5", "tomoglean/square.py")
    assert digest(tree) == unused
    assert digest(tree, uses=("tomoglean.square",)) != used
    edit(
        tree,
        '"circle": "tomoglean.circle"',
        '"round": "tomoglean.circle"',
        "tomoglean/shapes.py",
    )
    assert digest(tree) == unused


def test_stage_provenance_and_report_never_count(tree):
    for name in ("stage", "provenance", "report"):
        (tree / "tomoglean" / f"{name}.py").write_text("def begin():\n    return 1\n")
    (tree / "script.py").write_text("from tomoglean import stage\n\nstage.begin()\n")
    before = digest(tree)
    edit(tree, "return 1", "return 2", "tomoglean/stage.py")
    assert digest(tree) == before


def test_the_digest_of_a_sample_is_pinned(tree):
    """A new Python or a refactoring must not make every old study stale."""
    assert digest(tree)[:16] == "c43c8234874a0836"
