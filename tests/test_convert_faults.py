"""A killed conversion and a full disk leave nothing at the final name."""

import contextlib
import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tomoglean import checks, provenance, volumes
from tomoglean.provenance import write_json

ROOT = Path(__file__).resolve().parent.parent
CONVERT = """
import resource, sys
from tomoglean.formats import conversion
from tomoglean.provenance import Refused
if sys.argv[1] != "0":
    import signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
row = {"path": "scan.tif", "voxel_nm": "5", "axes": sys.argv[3]}
try:
    conversion.convert(row, "scan.json", sys.argv[2])
except Refused as refusal:
    sys.exit(str(refusal))
"""
KILL = """
import os, random, signal, sys, time
from pathlib import Path
from tomoglean.formats import conversion
row = {"path": "scan.tif", "voxel_nm": "5", "axes": sys.argv[1]}
def convert(out):
    child = os.fork()
    if child == 0:
        conversion.convert(row, "scan.json", out)
        os._exit(0)
    return child
conversion.convert(row, "scan.json", "good.h5")  # all is imported from here on
began = time.monotonic()
os.waitpid(convert("again.h5"), 0)
took = time.monotonic() - began
made, good = Path("made/v.h5"), Path("good.h5").read_bytes()
moments, interrupted = random.Random(3), 0
for _ in range(int(sys.argv[2])):
    child = convert(made)
    time.sleep(moments.uniform(0, took))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if made.exists():
        assert made.read_bytes() == good
        made.unlink()
    else:
        interrupted += 1
print(interrupted)
"""
HERE = {**os.environ, "PYTHONPATH": str(ROOT)}
DATA = np.random.default_rng(0).normal(1000, 50, (80, 96, 96)).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    tifffile.imwrite(tmp_path / "scan.tif", DATA, photometric="minisblack")
    facts = checks.check({"volume": "v", "path": "scan.tif", "voxel_nm": "5"}, tmp_path)
    write_json(facts, tmp_path / "scan.json")
    return tmp_path


def run(folder, out="made/v.h5", limit=0, axes=""):
    done = subprocess.run(
        [sys.executable, "-c", CONVERT, str(limit), str(out), axes],
        cwd=folder,
        env=HERE,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stderr


def partials(folder):
    return [path for path in folder.iterdir() if path.name.startswith(".partial-")]


@pytest.mark.parametrize("axes", ["", "x,z,y"])
def test_a_kill_at_any_moment_leaves_nothing_and_a_rerun_gives_the_same_bytes(folder, axes):
    killer = [sys.executable, "-c", KILL, axes, "12"]
    done = subprocess.run(killer, cwd=folder, env=HERE, capture_output=True, text=True)
    assert done.stderr == ""
    assert int(done.stdout) > 3  # killed before the end
    assert run(folder, axes=axes) == (0, "")
    made = folder / "made" / "v.h5"
    assert made.read_bytes() == (folder / "good.h5").read_bytes()
    assert partials(made.parent) == []


@pytest.mark.parametrize("axes", ["", "x,z,y"])
@pytest.mark.parametrize("limit", [1, 900, 3000, 400_000, 1_900_000])
def test_a_disk_that_fills_up_is_one_line_and_leaves_nothing(folder, limit, axes):
    code, errors = run(folder, limit=limit, axes=axes)
    assert code == 1
    assert errors.count("\n") == 1
    assert re.match(r"v\.h5: expected .*(File too large).*make room", errors)
    assert list((folder / "made").iterdir()) == []


@pytest.fixture
def small_disk(tmp_path):
    """A tmpfs of 1 MiB, where mounting is allowed."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount, unmount = shutil.which("mount"), shutil.which("umount")
    command = [str(mount), "-t", "tmpfs", "-o", "size=1m", "none", str(disk)]
    if not mount or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    yield disk
    subprocess.run([str(unmount), str(disk)], check=True)


def test_a_small_disk_is_refused_before_writing(folder, small_disk):
    code, errors = run(folder, out=small_disk / "v.h5")
    assert code == 1
    assert re.fullmatch(r"v\.h5: expected 0.00295 GB free .* make room.*\n", errors)
    assert list(small_disk.iterdir()) == []


def test_a_small_disk_that_fills_up_is_one_line(small_disk, monkeypatch):
    monkeypatch.setattr(volumes, "_has_room", lambda path, layout: None)
    with pytest.raises(provenance.Refused, match=r"^v\.h5: .*No space left on device"):
        volumes.write(volumes.Volume(DATA, (5.0, 5.0, 5.0)), small_disk / "v.h5")
    assert list(small_disk.iterdir()) == []


# -- what the killed leave -------------------------------------------------------------


def left_by(process, folder, name="v.txt"):
    path = folder / f"{provenance._mine()}{process}-abcdefgh-{name}"
    path.write_text("half")
    return path


def a_dead_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_the_dead_left_of_a_file_is_removed_and_nothing_else(tmp_path):
    dead = a_dead_process()
    own = left_by(dead, tmp_path)
    others = [
        left_by(dead, tmp_path, "w.txt"),
        left_by(dead, tmp_path, "b-v.txt"),
        left_by(os.getppid(), tmp_path),
        left_by(os.getpid(), tmp_path),
    ]
    elsewhere = tmp_path / f".partial-00000000-{dead}-abcdefgh-v.txt"
    elsewhere.write_text("of another machine")
    provenance.write_text("whole", tmp_path / "v.txt")
    assert not own.exists()
    assert all(path.exists() for path in [*others, elsewhere])


def test_file_and_folder_are_on_the_disk_before_the_end(tmp_path, monkeypatch):
    seen, real = [], provenance._sync

    def sync(path):
        seen.append((Path(path).is_dir(), (tmp_path / "v.txt").exists()))
        real(path)

    monkeypatch.setattr(provenance, "_sync", sync)
    provenance.write_text("whole", tmp_path / "v.txt")
    assert seen == [(False, False), (True, True)]


@pytest.mark.parametrize(("number", "ends"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_a_file_system_that_cannot_flush_folders_ends_no_job(
    tmp_path, monkeypatch, number, ends
):
    def sync(handle, real=os.fsync):
        if Path(f"/proc/self/fd/{handle}").resolve().is_dir():
            raise OSError(number, os.strerror(number))
        real(handle)

    monkeypatch.setattr(os, "fsync", sync)
    with pytest.raises(OSError, match="error") if ends else contextlib.nullcontext():
        provenance.write_text("whole", tmp_path / "v.txt")
    assert (tmp_path / "v.txt").read_text() == "whole"
