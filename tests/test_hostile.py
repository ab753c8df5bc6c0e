"""Hostile files end as one line, in little memory, and no other file is read."""

import os
import shutil
import subprocess
import sys

import hostile
import pytest
import watched

MOST_BYTES = 512 << 20
QUICK = {
    *("h5_external_link", "h5_external_storage", "h5_shape_bomb", "h5_chunk_bomb"),
    *("h5_contiguous_bomb", "tiff_tile_bomb", "fifo", "slices_of_pipes"),
}
CASES = [
    pytest.param(make, id=name, marks=[] if name in QUICK else pytest.mark.slow)
    for name, make in hostile.CASES.items()
]


@pytest.fixture
def folder(tmp_path):
    inside = tmp_path / "in"
    inside.mkdir()
    return inside


def arguments(made):
    return made if isinstance(made, tuple) else (made,)


@pytest.mark.parametrize("make", CASES)
def test_a_hostile_file_is_refused_in_one_line_and_little_memory(folder, make):
    path, *more = arguments(make(folder))
    done = watched.check(path, *more)
    first, said, *_ = done.told.splitlines()
    assert done.code == 3, done
    assert first == f"{path.name}: refused"
    assert said.startswith(f"  {path.name}") or path.is_dir()
    assert "Traceback" not in done.told + done.errors
    assert hostile.CANARY not in done.told + done.errors
    assert not (folder / "boom").exists()
    assert done.peak <= MOST_BYTES, f"{done.peak >> 20} MiB"


READING_OUTSIDE = [
    *(hostile.h5_external_link, hostile.h5_virtual, hostile.h5_external_storage),
    hostile.h5_external_device,
]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
@pytest.mark.parametrize("make", READING_OUTSIDE, ids=lambda make: make.__name__)
def test_no_file_outside_is_even_opened(folder, make):
    path = make(folder)
    trace = folder.parent / "trace"
    calls = "trace=open,openat,openat2,creat"
    told = ["strace", "-f", "-qq", "-e", calls, "-o", str(trace)]
    command = [sys.executable, "-m", "tomoglean", "check", str(path)]
    if subprocess.run([*told, "true"], capture_output=True, check=False).returncode:
        pytest.skip("strace may not trace here")
    subprocess.run(
        [*told, *command],
        cwd=watched.ROOT,
        capture_output=True,
        check=False,
        env=os.environ,
    )
    lines = trace.read_text().splitlines()
    assert any(str(path) in line for line in lines)
    outside = f'"{folder.parent}/outside', '"/dev/zero'
    assert not [line for line in lines if any(place in line for place in outside)]


def test_the_watch_sees_children_and_their_memory(tmp_path):
    """A gauge that shows nothing would pass every test above."""
    child = "import time; held = bytearray(b'x') * (128 << 20); time.sleep(0.5)"
    grow = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    process = subprocess.Popen([sys.executable, "-c", grow])
    peaks = {}
    while process.poll() is None:
        for pid in [process.pid, *watched._children(process.pid)]:
            peaks[pid] = max(peaks.get(pid, 0), watched._peak(pid))
    assert len(peaks) >= 2
    assert sum(peaks.values()) >= 128 << 20
