"""How fast and how small volumes are written: against a plain copy and h5py's own gzip.

    python benchmarks/convert.py [FOLDER]            speed, A B A B, as a Markdown table
    python benchmarks/convert.py [FOLDER] --big 4    memory on a volume of 4 GB, too

FOLDER (default: the system's one for temporary files) lies on the disk to be measured.
All read the same file from the page cache; all end on the disk (fsync). Speed is in MB of
voxels a second of wall time, the median of the rounds with the slowest and fastest; CPU
is MB a second of CPU time. h5py's gzip packs a quarter of the volume only.
"""

import argparse
import contextlib
import gc
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import mrcfile
import numpy as np
import tifffile
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tomoglean import formats, volumes
from tomoglean.provenance import write_json

SHAPE = (256, 512, 512)
KINDS = ("float32", "uint16", "labels")
CONVERT = """
import sys
from tomoglean.formats import conversion
row = {"path": sys.argv[1], **dict(word.split("=") for word in sys.argv[4:])}
conversion.convert(row, sys.argv[2], sys.argv[3])
"""
Array = Any


def phantom(kind: str, shape: tuple[int, int, int]) -> Array:
    """Smooth structures under noise, as a reconstruction has them, or four labels."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=[max(2, edge // 16) for edge in shape])
    zoom = [edge / n for edge, n in zip(shape, coarse.shape, strict=True)]
    smooth = ndimage.zoom(coarse.astype(np.float32), zoom, order=1)
    if kind == "labels":
        return np.digitize(smooth, [-0.7, 0, 0.7]).astype(np.uint8)
    noise = rng.standard_normal(shape, np.float32)
    if kind == "float32":
        return 0.5 + 0.1 * smooth + 0.05 * noise
    return (30000 + 4000 * smooth + 1500 * noise).astype(np.uint16)


def synced(path: Path) -> None:
    """Wait until a file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def copied(source: Path, out: Path, data: Array) -> int:
    """Copy the file as it is."""
    shutil.copyfile(source, out)
    synced(out)
    return data.nbytes


def ours(source: Path, out: Path, data: Array) -> int:
    """Write as the pipeline does."""
    layout = {"data": (data.shape, data.dtype)}
    with volumes.create(out, layout, voxel_nm=(1.0, 1.0, 1.0)) as file:
        for slab in volumes.slabs(len(data)):
            file["data"][slab] = data[slab]
    return data.nbytes


def plain_gzip(level: int) -> Callable[[Path, Path, Array], int]:
    """Write by h5py's own gzip."""

    def work(source: Path, out: Path, data: Array) -> int:
        part = data[:64]
        with h5py.File(out, "w") as file:
            file.create_dataset(
                "data", data=part, chunks=(64, 64, 64), shuffle=True, fletcher32=True,
                compression="gzip", compression_opts=level,
            )  # fmt: skip
        synced(out)
        return part.nbytes

    return work


WAYS = {
    "copy + fsync": copied,
    "tomoglean": ours,
    "h5py gzip 1": plain_gzip(1),
    "h5py gzip 4": plain_gzip(4),
}


def speeds(folder: Path, rounds: int) -> Iterator[str]:
    """Run every way in turn, round after round; give the lines of a table."""
    yield from [
        "| voxels | way | MB/s (slowest - fastest) | of the copy | MB/CPU-s | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for kind in KINDS:
        source = folder / "source.npy"
        np.save(source, phantom(kind, SHAPE))
        data = np.load(source, mmap_mode="r")
        float(data.sum(dtype=np.float64))  # into the page cache
        found: dict[str, list[tuple[float, float, float]]] = {way: [] for way in WAYS}
        for _ in range(rounds):
            for way, work in WAYS.items():
                found[way].append(_timed(work, source, folder / "out", data))
        copy = statistics.median(one[0] for one in found["copy + fsync"])
        for way, shots in found.items():
            columns = zip(*shots, strict=True)
            wall, cpu, ratio = (statistics.median(column) for column in columns)
            walls = [shot[0] for shot in shots]
            yield (
                f"| {kind} | {way} | {wall:.0f} ({min(walls):.0f} - {max(walls):.0f}) |"
                f" {100 * wall / copy:.0f} % | {cpu:.0f} | {ratio:.2f} |"
            )


def _timed(
    work: Callable[[Path, Path, Array], int], source: Path, out: Path, data: Array
) -> tuple[float, float, float]:
    gc.collect()
    os.sync()
    wall, cpu = time.perf_counter(), time.process_time()
    size = work(source, out, data)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    ratio = size / out.stat().st_size
    out.unlink()
    return size / 1e6 / wall, size / 1e6 / max(cpu, 1e-3), ratio


def memory(folder: Path, gigabytes: float) -> Iterator[str]:
    """Convert a large volume in a process of its own; tell its private memory."""
    edge = round((gigabytes * 1e9 / 4) ** (1 / 3))
    flat = (max(2, round(gigabytes * 1e9 / 4 / 6000**2)), 6000, 6000)
    cube = (edge, edge, edge)
    yield from [
        "| volume | steps | MB/s | private memory (peak RssAnon), MB | VmHWM, MB |",
        "|---|---|---|---|---|",
    ]
    for name, shape, steps in [
        ("tif", cube, {}),
        ("tif", cube, {"axes": "x,z,-y"}),
        ("tif", cube, {"bin": "2", "window": "0,1"}),
        ("tif", flat, {}),
        ("mrc", cube, {}),
    ]:
        source = folder / f"big.{name}"
        if not steps:
            _write_big(source, shape)
        facts = {"verdict": "ok", "sha256": formats.sha256(source), "voxel_nm": [9.0] * 3}
        limits = {"percentiles": {"0.5": 0.2, "99.5": 0.8}, "minimum": 0, "maximum": 1}
        write_json(facts | limits, folder / "big.json")
        row = {"path": str(source), **steps}
        size = math.prod(shape) * 4
        seconds, anonymous, peak = _watched(folder, source, row)
        told = ", ".join(f"{key} {value}" for key, value in steps.items()) or "none"
        edges = " x ".join(map(str, shape))
        yield (
            f"| {name}, {edges} float32 ({size / 1e9:.1f} GB) | {told} |"
            f" {size / 1e6 / seconds:.0f} | {anonymous:.0f} | {peak:.0f} |"
        )


def _write_big(path: Path, shape: tuple[int, int, int]) -> None:
    part = phantom("float32", (16, *shape[1:]))
    if path.suffix == ".mrc":
        with mrcfile.new_mmap(path, shape, mrc_mode=2, overwrite=True) as file:
            for z in range(shape[0]):
                file.data[z] = part[z % 16]
            file.voxel_size = 10
        return
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for z in range(shape[0]):
            file.write(part[z % 16], photometric="minisblack", contiguous=True)


def _watched(folder: Path, source: Path, row: dict[str, str]) -> tuple[float, float, float]:
    words = [f"{key}={row[key]}" for key in ("bin", "axes", "window") if key in row]
    start = time.perf_counter()
    child = subprocess.Popen(  # noqa: S603 (our own interpreter)
        [sys.executable, "-c", CONVERT, source, folder / "big.json", folder / "big.h5",
         *words],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)},
    )  # fmt: skip
    peaks = {"RssAnon": 0.0, "VmHWM": 0.0}
    watcher = threading.Thread(target=_sample, args=(child, peaks))
    watcher.start()
    if child.wait():
        raise SystemExit("the conversion failed")
    watcher.join()
    seconds = time.perf_counter() - start
    (folder / "big.h5").unlink()
    return seconds, peaks["RssAnon"], peaks["VmHWM"]


def _sample(child: subprocess.Popen[bytes], peaks: dict[str, float]) -> None:
    status = Path(f"/proc/{child.pid}/status")
    while child.poll() is None:
        with contextlib.suppress(OSError):  # it has just ended
            for line in status.read_text().splitlines():
                name, _, value = line.partition(":")
                if name in peaks:
                    peaks[name] = max(peaks[name], int(value.split()[0]) / 1000)
        time.sleep(0.005)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, help="on the disk to be measured")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--big", type=float, default=0, help="GB of the large volume")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        for line in speeds(Path(name), options.rounds) if options.rounds else ():
            _say(line)
        for line in memory(Path(name), options.big) if options.big else ():
            _say(line)
    _say(f"\nLoad {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
