"""What it costs to share a volume among jobs: CPU time, bytes, and the bytes compared.

    python benchmarks/blocks.py STUDY --axes z y x --numbers 1 2 4

STUDY is a finished one with a semantic and a detection task, such as examples/demo. A
volume of each is mirrored at its ends until it has the shape asked for. CPU seconds are
those of the scripts' work in one process, one thread, without Snakemake's own of each job.
"""

import argparse
import hashlib
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tomoglean import classification, segmentation, study, volumes  # noqa: E402 - no package
from tomoglean.networks import exported  # noqa: E402
from tomoglean.volumes import Volume  # noqa: E402

Job = Callable[..., None]
log = logging.getLogger(__name__)


def main() -> None:
    """Print a table for each stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("--shape", type=int, nargs=3, default=[256, 128, 128])
    parser.add_argument("--axes", nargs="+", default=["z", "y", "x"])
    parser.add_argument("--numbers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--smooth-nm", type=float, default=6.0)
    parser.add_argument("--stages", nargs="+", default=["segment", "classify"])
    asked = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logging.getLogger("tomoglean").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name)
        if "segment" in asked.stages:
            title = f"segment along {' '.join(asked.axes)}"
            told(title, segmenter(asked, folder), asked)
        if "classify" in asked.stages:
            told(f"classify, smooth_nm {asked.smooth_nm}", classifier(asked, folder), asked)


def segmenter(asked: argparse.Namespace, folder: Path) -> Job:
    """Return the work of `segment` for the first semantic task of a study."""
    known = study.read(asked.study)
    task = known.of_kind("semantic")[0]
    results = asked.study / "results"
    larger(
        results / "converted" / f"{known.volumes_of(task)[0]}.h5", folder / "v.h5", asked
    )
    model = results / "trained" / task / "final"
    network = exported.load(model.with_suffix(".onnx"), model.with_suffix(".json"))

    def work(output: Path, **who: Any) -> None:
        segmentation.segment(folder / "v.h5", network, output, axes=asked.axes, **who)

    return work


def classifier(asked: argparse.Namespace, folder: Path) -> Job:
    """Return the work of `classify` for the first detection task of a study."""
    known = study.read(asked.study)
    task = known.of_kind("detection")[0]
    results, volume = asked.study / "results", known.labelled(task, use="train")[0]
    larger(results / "converted" / f"{volume}.h5", folder / "t.h5", asked)
    larger(results / "masked" / task / f"{volume}.h5", folder / "m.h5", asked)
    model = results / "trained" / task / "final"
    found = classification.load(model.with_suffix(".onnx"), model.with_suffix(".json"))
    sample = known.tasks[task]["sample"]
    settings = {
        "thickness_nm": sample["thickness_nm"],
        "neighbours": int(found.session.get_inputs()[0].shape[3]) // 2,
        "smooth_nm": asked.smooth_nm,
    }

    def work(output: Path, **who: Any) -> None:
        paths = (folder / "t.h5", folder / "m.h5")
        classification.classify(*paths, found, output, **settings, **who)

    return work


def larger(source: Path, target: Path, asked: argparse.Namespace) -> None:
    """Mirror a volume at its ends until it is as large as asked, or cut it."""
    volume = volumes.read(source)
    most = zip(asked.shape, volume.shape, strict=True)
    data = np.pad(volume.data, [(0, max(0, a - b)) for a, b in most], mode="symmetric")
    z, y, x = asked.shape
    facts = volumes.attributes(source)
    for name in ("voxel_nm", "origin_nm", "format"):
        facts.pop(name, None)
    volumes.write(Volume(data[:z, :y, :x], volume.voxel_nm), target, **facts)


def told(title: str, work: Job, asked: argparse.Namespace) -> None:
    """Print CPU seconds, bytes of the blocks and hash of the result by number of jobs."""
    log.info("\n%s, %s voxels", title, " x ".join(map(str, asked.shape)))
    log.info(
        "%5s%12s%11s%8s%12s  %s", "jobs", "blocks, s", "gather, s", "all", "MB", "sha256"
    )
    alone = 0.0
    for number in asked.numbers:
        with tempfile.TemporaryDirectory(dir=".") as name:
            parts, gather, size, sha256 = measured(work, number, Path(name))
        alone = alone or parts + gather
        log.info(
            "%5d%12.1f%11.2f%7.1f%%%12.1f  %s",
            *(
                number,
                parts,
                gather,
                100 * (parts + gather) / alone,
                size / 1e6,
                sha256[:12],
            ),
        )


def measured(work: Job, number: int, folder: Path) -> tuple[float, float, int, str]:
    """Return CPU seconds of blocks and gathering, bytes of blocks, hash of the result."""
    output, clock = folder / "whole.h5", time.process_time()
    if number == 1:
        work(output)
        spent, size, gather = time.process_time() - clock, 0, 0.0
    else:
        parts = [folder / f"{n}-of-{number}.h5" for n in range(1, number + 1)]
        for part in parts:
            work(part, block=part.stem)
        spent, size = time.process_time() - clock, sum(p.stat().st_size for p in parts)
        work(output, blocks=parts)
        gather = time.process_time() - clock - spent
    return spent, gather, size, hashlib.sha256(output.read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
