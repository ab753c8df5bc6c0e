"""Every kind of broken or odd file gets its verdict, through the check of its row."""

import json
import os
from pathlib import Path

import pytest

from tomoglean import checks, formats

MADE = os.environ.get("TOMOGLEAN_BADINPUT", "")
EXPECTED = json.loads((Path(MADE) / "expected.json").read_text()) if MADE else {}
VERDICTS = {"accept": "ok", "warn": "warning", "reject": "refused"}
CLASSES = ["background", "bone"]
COLOURS = {
    "labels_rgb_antialiased.png": {"background": [0, 0, 0], "bone": [255, 0, 0]},
    "labels_palette.png": {"background": 0, "bone": 255},
}
GRID = {"path": "good_u16.tif", "voxel_nm": "1"}
AS_LABELS = ("labels_", "picks_", "bool_")
ROWS = {
    "raw_wrong_size_12x40x48_u16.raw": {"shape": "12,40,48", "dtype": "uint16"},
}


def row_of(name):
    """The row a user writes: MRC tells its voxels, other files need the table."""
    told = {} if name.endswith(".mrc") else {"voxel_nm": "1"}
    return {"path": name, **told, **ROWS.get(name, {})}


def label_row(name):
    kind = {"kind": "points", "unit": "voxel"} if name.startswith("picks") else {}
    one = {"slices": "0"} if name.endswith(".png") else {}
    return {"task": "bone", "kind": "clean", "path": name, **kind, **one}


def verdict(name):
    if not name.startswith(AS_LABELS):
        return checks.check(row_of(name), MADE)
    colours = COLOURS.get(name)
    return checks.check_labels(
        [label_row(name)], GRID, classes=CLASSES, colours=colours, root=MADE
    )


@pytest.mark.parametrize("name", EXPECTED)
def test_a_made_file_gets_its_verdict(name):
    facts = verdict(name)
    assert facts["verdict"] == VERDICTS[EXPECTED[name]["verdict"]], facts["messages"]
    if facts["verdict"] == "refused":
        assert facts["messages"][0].startswith(f"{name}: expected")
        assert "\n" not in facts["messages"][0]


def voxels(name):
    with formats.open_source(Path(MADE) / name, row_of(name)) as source:
        return source.read(slice(0, source.shape[0]))


FACTS = {
    "shape": lambda name, facts: facts["shape"],
    "voxel": lambda name, facts: [10 * edge for edge in facts["voxel_nm"][::-1]],
    "dtype": lambda name, facts: facts["dtype"],
    "min": lambda name, facts: facts["minimum"],
    "max": lambda name, facts: facts["maximum"],
    "mean": lambda name, facts: facts["mean"],
    "sum": lambda name, facts: facts["voxels"]["bone"],
    "classes": lambda name, facts: sum(map(bool, facts["voxels"].values())),
    "means": lambda name, facts: voxels(name).mean(axis=(1, 2)).tolist(),
    "slice": lambda name, facts: int(
        facts["messages"][0].partition("z = ")[2].partition(" ")[0]
    ),
}
STATED = [
    (name, fact)
    for name, case in EXPECTED.items()
    for fact in case
    if fact not in {"verdict", "why"}
]


@pytest.mark.parametrize(("name", "fact"), STATED)
def test_a_made_file_is_read_as_it_was_made(name, fact):
    found = FACTS[fact](name, verdict(name))
    expected = EXPECTED[name][fact]
    if (name, fact) == ("mode0_unsigned_imod.mrc", "min"):
        assert found >= expected  # stated is the least value that bytes can have
        return
    assert found == (expected if isinstance(expected, str) else pytest.approx(expected))
