"""The locks, the conda files and the short lists they come from agree."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ENVS = Path(__file__).resolve().parent.parent / "envs"
KINDS = {"cpu": "tomoglean", "gpu": "tomoglean-gpu"}


def pins(kind):
    return runpy.run_path(str(ENVS / "lock.py"))["pins"](
        (ENVS / f"{kind}.lock.txt").read_text()
    )


@pytest.mark.parametrize("kind", KINDS)
def test_conda_installs_the_same_pins(kind):
    content = yaml.safe_load((ENVS / f"{KINDS[kind]}.yaml").read_text())
    assert content["dependencies"][-1]["pip"] == pins(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_every_pin_has_a_hash(kind):
    blocks = re.split(r"\n(?=\S)", (ENVS / f"{kind}.lock.txt").read_text().strip())
    assert len(blocks) == len(pins(kind)) > 100
    assert all("--hash=sha256:" in block for block in blocks)


@pytest.mark.parametrize("kind", KINDS)
def test_the_lock_answers_the_short_list(kind):
    text = (ENVS / "common.in").read_text() + (ENVS / f"{kind}.in").read_text()
    wanted = re.findall(r"^([a-zA-Z0-9][a-zA-Z0-9-]*)", text, re.MULTILINE)
    locked = {re.split(r"[=\[]", pin)[0].lower() for pin in pins(kind)}
    assert {name.lower() for name in wanted} - locked == set()


def test_only_the_gpu_lock_brings_cuda():
    assert not any("nvidia" in pin for pin in pins("cpu"))
    assert any("nvidia" in pin for pin in pins("gpu"))


def test_locks_name_no_registry():
    for kind in KINDS:
        text = (ENVS / f"{kind}.lock.txt").read_text()
        assert "http" not in text
        assert "--index-url" not in text


def test_the_command_works_in_any_folder(tmp_path):
    """What the set-up writes as `tomoglean` finds the checkout from elsewhere."""
    setup = (ENVS / "setup.sh").read_text()
    function = setup[setup.index("name_command() {") : setup.index('wanted="$kind')]
    for folder in ("checkout/tomoglean", "venv/bin", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "checkout" / "tomoglean" / "__init__.py").touch()
    (tmp_path / "checkout" / "tomoglean" / "__main__.py").write_text("print('found')")
    (tmp_path / "venv" / "bin" / "python").symlink_to(sys.executable)
    words = f"here={tmp_path}/checkout venv={tmp_path}/venv\n{function}\nname_command"
    subprocess.run(["sh", "-eu", "-c", words], check=True)
    command = tmp_path / "venv" / "bin" / "tomoglean"
    done = subprocess.run(
        [command], cwd=tmp_path / "elsewhere", capture_output=True, text=True
    )
    assert done.stdout == "found\n", done.stderr
