"""Imports point one way: down."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = [
    {"__main__"},
    {"looking"},
    {"benchmarks", "verifying"},
    {"phantoms"},
    {"stage"},
    {"preflight", "demands", "watching"},
    {"forecast"},
    {"plan", "quicklook", "viewing", "crate"},
    {"inventory", "rawfiles"},
    {"report", "checks", "reference"},
    {"attempts", "standing"},
    {"training", "segmentation", "classification"},
    {"voting"},
    {
        *("networks", "slices", "patches", "augment", "labels", "relabelling", "masks"),
        *("picks", "averages", "measures", "scores", "simulators"),
    },
    {"gathering"},
    {"study"},
    {"arrivals"},
    {"volumes", "tables", "formats", "particles", "config", "intensities"},
    {
        *("chunks", "steps", "parts", "running", "leftovers", "codebook", "devices"),
        "keys",
    },
    {"holders"},
    {"blocks", "queues", "processes"},
    {
        *("provenance", "fingerprint", "costs", "progress", "discretion", "logs"),
        "usage",
    },
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
MODULES = sorted((ROOT / "tomoglean").rglob("*.py"))
SCRIPTS = sorted((ROOT / "workflow" / "scripts").glob("*.py"))
TOGETHER = {"volumes", "tables", "formats", "particles", "config", "intensities"}


def part(module: str) -> str:
    return [*module.split("."), ""][1]


def imported(path: Path) -> set[str]:
    parts = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tomoglean"):
            if node.module == "tomoglean":
                parts |= {alias.name for alias in node.names}
            else:
                parts.add(part(node.module))
        elif isinstance(node, ast.Import):
            parts |= {part(a.name) for a in node.names if a.name.startswith("tomoglean.")}
    return parts - {"__version__"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_imports_point_down(path):
    own = path.relative_to(ROOT / "tomoglean").parts[0].removesuffix(".py")
    if own == "__init__":
        assert imported(path) == set()
        return
    for other in imported(path) - {own}:
        beside = own in TOGETHER and other in TOGETHER
        assert beside or LEVEL[other] > LEVEL[own], f"{own} imports {other}"


def test_provenance_needs_only_the_standard_library():
    for name in ("provenance", "fingerprint", "discretion", "usage"):
        tree = ast.parse((ROOT / "tomoglean" / f"{name}.py").read_text())
        text = ast.unparse(tree)
        assert not any(f"import {library}" in text for library in ("numpy", "h5py", "yaml"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_reads_computes_writes(path):
    text = path.read_text()
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    assert not any(isinstance(node, kinds) for node in ast.walk(ast.parse(text)))
    assert len([line for line in text.splitlines() if line.strip()]) <= 25
    assert "begin(snakemake)" in text


def test_only_stage_knows_snakemake():
    for path in MODULES:
        if path.stem != "stage":
            tree = ast.parse(path.read_text())
            names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
            assert "snakemake" not in names, path
