"""A record tells what a job took and what it ran on, and names no machine."""

import json
import os
import socket
import subprocess
import sys

import pytest

from tomoglean import usage

LARGE = "x = bytes(bytearray(120_000_000))"


def test_memory_is_the_peak_of_this_process():
    code = f"{LARGE}; del x; from tomoglean import usage; print(usage.peak_memory_mb())"
    assert 120 < float(python(code)) < 400


def test_memory_of_a_larger_child_counts():
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {LARGE!r}])"
    code = f"{child}; from tomoglean import usage; print(usage.peak_memory_mb())"
    assert 120 < float(python(code)) < 400


def test_memory_of_the_parent_does_not_count():
    code = "from tomoglean import usage; print(usage.peak_memory_mb())"
    words = [sys.executable, "-c", code]
    parent = f"{LARGE}; import subprocess; subprocess.run({words!r})"
    assert float(python(parent)) < 100


def test_time_on_processors_is_counted_and_not_time_asleep():
    start = "from tomoglean import usage; import time"
    rest = "time.sleep(0.4); print(usage.cpu_seconds())"
    assert float(python(f"{start}; {rest}")) < 0.4


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return done.stdout


def test_a_machine_is_told_by_its_kind_and_not_by_its_name():
    told = usage.machine()
    assert told["cores"] == len(os.sched_getaffinity(0))
    assert told["memory_gb"] > 0.5
    assert told["processor"]
    assert socket.gethostname() not in json.dumps(told).replace('"', " ").split()


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("model name\t: AMD  EPYC 7763\nmodel name\t: other\n", "AMD EPYC 7763"),
        ("Model\t\t: Raspberry Pi 5\n", "Raspberry Pi 5"),
        ("", os.uname().machine),
    ],
)
def test_the_processor_is_told_as_the_system_names_it(tmp_path, monkeypatch, text, model):
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(usage, "PROCESSORS", tmp_path / "cpuinfo")
    assert usage.processor() == model


def test_gpus_are_told_by_their_models(tmp_path, monkeypatch):
    for place in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / place).mkdir()
        text = "Model: \t\t NVIDIA H100 PCIe\nGPU UUID: \t GPU-1234\n"
        (tmp_path / place / "information").write_text(text)
    monkeypatch.setattr(usage, "NVIDIA", tmp_path)
    assert usage.gpus() == ["NVIDIA H100 PCIe"] * 2


def test_a_system_that_tells_nothing_is_no_error(tmp_path, monkeypatch):
    for name in ("STATUS", "PROCESSORS", "MEMORY", "NVIDIA"):
        monkeypatch.setattr(usage, name, tmp_path / "none")
    assert usage.machine()["memory_gb"] == 0
    assert usage.peak_memory_mb() > 5


def repository(folder):
    quiet = {"cwd": folder, "check": True, "capture_output": True}
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "-q"], **quiet)
    (folder / "a").write_text("1")
    subprocess.run(["git", "add", "a"], **quiet)
    subprocess.run(["git", *who, "commit", "-qm", "x"], **quiet)


def test_a_checkout_is_clean_until_a_file_of_it_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(usage, "CHECKOUT", tmp_path)
    assert usage.checkout() == ("unknown", "no git checkout")
    repository(tmp_path)
    commit, state = usage.checkout()
    assert (len(commit), state) == (40, "clean")
    (tmp_path / "new").write_text("results are not code")
    assert usage.checkout() == (commit, "clean")
    (tmp_path / "a").write_text("2")
    assert usage.checkout() == (commit, "with local changes")


def test_a_git_that_fails_is_no_clean_checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(usage, "CHECKOUT", tmp_path)
    (tmp_path / ".git").write_text("damaged")
    assert usage.checkout() == ("unknown", "not to be told: git failed")
