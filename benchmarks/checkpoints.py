"""What saving costs a training: seconds and bytes of a checkpoint, by network.

    python benchmarks/checkpoints.py [--folder DIR] [--minutes 10] [--saves 5]

For each network the state is taken, written and read as a training does it, and the cost is
told as a share of the interval between two saves. The disk is that of the folder: run it
where results will lie.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tomoglean import networks  # noqa: E402 - the checkout is no package
from tomoglean.networks import losses  # noqa: E402
from tomoglean.training import Course, Settings, checkpoints  # noqa: E402
from tomoglean.training.keeping import Keeper  # noqa: E402
from tomoglean.training.run import Progress, Run  # noqa: E402

NETWORKS: dict[str, dict[str, Any]] = {
    "lenet5_modified, patches of 50 px": {"network": "lenet5_modified"},
    "unet, width 16": {"network": "unet", "classes": 4, "width": 16},
    "unet, width 32 (default)": {"network": "unet", "classes": 4, "width": 32},
    "unet, width 64": {"network": "unet", "classes": 4, "width": 64},
}


def begun(description: dict[str, Any], folder: Path) -> Run:
    """Build a network with an optimizer, as after an epoch of training."""
    words = dict(description)
    model = networks.build(words.pop("network"), **words)
    model.compile(keras.optimizers.AdamW(use_ema=True), losses.dice_cross_entropy())
    model.optimizer.build(model.trainable_variables)
    keeper = Keeper(Course("0" * 64, (folder / "a-0.h5", folder / "a-1.h5")))
    nothing: tuple[Any, ...] = (None,) * 7
    run = Run(model, *nothing, Settings(), keeper, model, Progress(), model.get_weights())
    run.began = time.monotonic()
    return run


def seconds_of(run: Run, saves: int) -> tuple[float, float, float]:
    """Median seconds and CPU seconds of a save, and seconds of reading it."""
    each = []
    for _ in range(saves):
        started, cpu = time.perf_counter(), time.process_time()
        run.keeper.save(run.state())
        each.append((time.perf_counter() - started, time.process_time() - cpu))
    started = time.perf_counter()
    checkpoints.read(run.keeper.course.slots[0])  # type: ignore[union-attr]
    save_s, cpu_s = np.median(each, axis=0).tolist()
    return save_s, cpu_s, time.perf_counter() - started


def main(words: Sequence[str]) -> None:
    """Print one line per network."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--saves", type=int, default=5)
    asked = parser.parse_args(words)
    sys.stdout.write(
        "| network | weights | MB | save, s | of it CPU, s | read, s | share |\n"
    )
    sys.stdout.write("|---|---|---|---|---|---|---|\n")
    for name, description in NETWORKS.items():
        with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
            run = begun(description, Path(folder))
            save_s, cpu_s, read_s = seconds_of(run, asked.saves)
            size = (Path(folder) / "a-0.h5").stat().st_size / 1e6
        share = save_s / (60 * asked.minutes)
        sys.stdout.write(
            f"| {name} | {run.model.count_params():,} | {size:.1f} | {save_s:.2f} | "
            f"{cpu_s:.2f} | {read_s:.2f} | {share:.3%} |\n"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
