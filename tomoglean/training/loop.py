"""The loop: learn, look at validation volumes, keep the best."""

import logging
import math
import os
import platform
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import keras
import numpy.typing as npt

from tomoglean import networks
from tomoglean.networks import losses, store, unet
from tomoglean.provenance import Refused, write_text
from tomoglean.training.batches import Batch, Framing, ahead, order
from tomoglean.training.examples import Pool, fingerprint
from tomoglean.training.validation import Judge, fixed

log = logging.getLogger(__name__)
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Settings:
    """How to train; limits and units stand in config/schemas/train.yaml.

    Attributes
    ----------
    network
        Name in `networks.NETWORKS`.
    width, depth, dim, recipe, norm
        Architecture of a U-Net, see `networks.unet.build`.
    dropout
        Share of features dropped in training, in [0, 1); None as the network has it.
    input_px
        Edge of the random crops of slices in pixels; None takes whole slices.
    batch, epochs
        Images a step; passes at most.
    steps_per_epoch
        Steps of one epoch; None shows every image once.
    learning_rate, weight_decay
        AdamW (arXiv:1711.05101); the rate falls to zero as a cosine of the step.
    warmup_steps
        Steps over which the rate first rises in a line; without normalisation a high
        rate from the first step on may end in saturated outputs that learn no more.
    ema
        Momentum of the running mean of the weights that is validated and stored; 0 is off.
    class_weights
        Weight of each class in the cross-entropy; None weighs all alike.
    positive_share
        Share of positive patches in a batch; None takes them as they come.
    forced_share
        Share of crops forced to hold a class other than the first.
    patience
        Epochs without a better validation before training stops; 0 never stops early.
    validation_images
        Validation images at most; None: 32 slices or 2000 patches.
    jit
        Compile with XLA.
    threads
        Threads of one operation; part of the result.
    start_from
        Weights file of an older training with the same architecture.
    """

    network: str = "unet"
    width: int = 32
    depth: int = 5
    dim: float = 2
    recipe: str = "modern"
    norm: str = "batch"
    dropout: float | None = None
    input_px: int | None = 256
    batch: int = 8
    epochs: int = 15
    steps_per_epoch: int | None = None
    learning_rate: float = 0.001
    weight_decay: float = 0.0001
    warmup_steps: int = 0
    ema: float = 0.0
    class_weights: Sequence[float] | None = None
    positive_share: float | None = 0.5
    forced_share: float = 0.33
    patience: int = 10
    validation_images: int | None = None
    jit: bool = False
    threads: int = 1
    start_from: str | None = None


def fit(
    examples: Sequence[str | os.PathLike[str]],
    augmented: Sequence[str | os.PathLike[str]],
    validation: Sequence[str | os.PathLike[str]],
    *,
    classes: Sequence[str],
    seed: int,
    weights: str | os.PathLike[str],
    last: str | os.PathLike[str],
    model: str | os.PathLike[str],
    curve: str | os.PathLike[str],
    **settings: Any,
) -> None:
    """Train a network and write its best and last weights.

    Parameters
    ----------
    examples
        Examples files of the training volumes: slices or patches.
    augmented
        Their warps; none means originals only.
    validation
        Examples files of the validation volumes; without any, all epochs are trained and
        the best weights are the last.
    classes
        Names of the classes.
    seed
        Seed of everything random.
    weights, last, model, curve
        Files to write: best weights, last weights, JSON, learning curve as CSV (written
        anew after each epoch).
    settings
        See `Settings`.

    Raises
    ------
    Refused
        If there is nothing to learn, a setting does not fit the examples, or the loss or
        the weights are no longer finite. No file is left then.
    """
    chosen = Settings(**settings)
    _limit_threads(chosen.threads)
    keras.utils.set_random_seed(seed)
    try:
        with ExitStack() as stack:
            pool = Pool(stack, examples, augmented)
            run = _prepare(pool, Pool(stack, validation), classes, seed, chosen)
            run.loop(Path(curve))
            run.write(weights, last, model)
    except BaseException:
        Path(curve).unlink(missing_ok=True)
        raise


def _limit_threads(threads: int) -> None:
    """Fix the number of threads, on which the last bits of the weights depend."""
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    threading = tf.config.threading
    try:
        threading.set_intra_op_parallelism_threads(threads)
        threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:  # TensorFlow has begun its work and cannot be told any more
        if threading.get_intra_op_parallelism_threads() != threads:
            log.warning("the number of threads was fixed before; %d not taken", threads)


def _prepare(
    pool: Pool, validation: Pool, classes: Sequence[str], seed: int, settings: Settings
) -> "Run":
    _check(pool, classes, settings)
    height, width, channels = pool.image_shape()
    architecture = _architecture(pool, len(classes), channels, settings)
    whole = settings.network != "unet"
    multiple = 1 if whole else unet.multiple(settings.depth)
    edge = settings.input_px
    window = (edge, edge) if edge else (height, width)
    framing = Framing(window, multiple, settings.forced_share, seed)
    steps = settings.steps_per_epoch or math.ceil(len(pool.items) / settings.batch)
    model = networks.build(settings.network, **architecture)
    if settings.start_from:
        store.fill(model, settings.start_from)
    make = losses.weighted_cross_entropy if pool.patches else losses.dice_cross_entropy
    loss = make(settings.class_weights)
    model.compile(_optimizer(settings, steps), loss, jit_compile=settings.jit)
    batches = fixed(validation, framing, settings.batch, settings.validation_images)
    judge = Judge(batches, loss, len(classes), pool.patches)
    return Run(
        model, architecture, pool, validation, judge, framing, steps, classes, settings
    )


def _check(pool: Pool, classes: Sequence[str], settings: Settings) -> None:
    if not len(pool.items):
        raise Refused(
            "train: expected labelled examples, found none; add rows to labels.tsv, or "
            "lower slice.min_labelled"
        )
    present = pool.label_values()
    if len(present) < 2:
        name = classes[min(present)] if present else "no class"
        raise Refused(
            f"train: expected labels of at least two classes, found only {name} in "
            f"{', '.join(pool.volumes)}; correct the labels"
        )
    if max(present) >= len(classes):
        raise Refused(f"train: expected labels below {len(classes)}, found {max(present)}")
    weights = settings.class_weights
    if weights is not None and len(weights) != len(classes):
        raise Refused(
            f"train.class_weights: expected {len(classes)} numbers, found {len(weights)}"
        )


def _architecture(
    pool: Pool, classes: int, channels: int, settings: Settings
) -> dict[str, Any]:
    if (settings.network == "unet") == pool.patches:
        kind = "patches" if pool.patches else "slices"
        raise Refused(
            f"train.network: expected a network for {kind}, found {settings.network}"
        )
    dropout = {} if settings.dropout is None else {"dropout": settings.dropout}
    if pool.patches:
        return {"patch_px": pool.image_shape()[0], "channels": channels, **dropout}
    if (settings.dim == 2.5) != (channels > 1):
        raise Refused(
            f"train.dim: expected {2.5 if channels > 1 else 2} for slices of {channels} "
            f"channels, found {settings.dim}; set slice.neighbours to match"
        )
    names = ("width", "depth", "dim", "recipe", "norm")
    chosen = {name: getattr(settings, name) for name in names}
    return {"classes": classes, "channels": channels, **chosen, **dropout}


def _optimizer(settings: Settings, steps: int) -> Any:
    top, rising = settings.learning_rate, settings.warmup_steps
    falling = max(steps * settings.epochs - rising, 1)
    warm = {"warmup_target": top, "warmup_steps": rising} if rising else {}
    first = 0.0 if rising else top
    rate = keras.optimizers.schedules.CosineDecay(first, falling, **warm)
    ema = {"use_ema": True, "ema_momentum": settings.ema} if settings.ema else {}
    return keras.optimizers.AdamW(rate, weight_decay=settings.weight_decay, **ema)


@dataclass
class Run:
    """One training: what it works with, and what it has come to."""

    model: Any
    architecture: dict[str, Any]
    pool: Pool
    validation: Pool
    judge: Judge
    framing: Framing
    steps: int
    classes: Sequence[str]
    settings: Settings

    def loop(self, curve: Path) -> None:
        """Train until the epochs are over or nothing gets better."""
        self.started, self.rows = time.monotonic(), list[dict[str, Any]]()
        self.best_epoch, self.best_key = 0, (-math.inf, -math.inf)
        for epoch in range(1, self.settings.epochs + 1):
            loss = self.learn(epoch)
            raw = self.average()
            found = self.judge.judge(self.model) if self.judge.batches else {}
            self.note(epoch, loss, found, curve)
            self.last_weights = self.model.get_weights()
            if self.is_better(found):
                self.best_epoch, self.best_weights = epoch, self.last_weights
            self.model.set_weights(raw)
            patience = self.settings.patience
            if found and patience and epoch - self.best_epoch >= patience:
                log.info("no better validation for %d epochs: stopped", patience)
                return

    def learn(self, epoch: int) -> float:
        """Train one epoch and return its mean loss."""
        batch, share = self.settings.batch, self.settings.positive_share
        seed = self.framing.seed
        places = order(
            self.pool, seed=seed, epoch=epoch, steps=self.steps, batch=batch, share=share
        )

        def make(step: int) -> Batch:
            chosen = places[step].tolist()
            return self.framing.assemble(self.pool, chosen, "train", epoch, step)

        self.model.reset_metrics()
        loss = math.nan
        for step, (images, labels) in enumerate(ahead(make, self.steps), 1):
            loss = float(self.model.train_on_batch(images, labels))
            if not math.isfinite(loss):
                self.refuse("loss", epoch, step)
        if not store.is_finite(self.model):
            self.refuse("weights", epoch, self.steps)
        return loss

    def refuse(self, what: str, epoch: int, step: int) -> None:
        """End the job: what comes after NaN is not worth computing."""
        raise Refused(
            f"train: expected finite {what}, found NaN or infinity in epoch {epoch}, step "
            f"{step}; lower train.learning_rate or look for broken examples"
        )

    def average(self) -> list[Array]:
        """Put the running mean of the weights in place; return the raw ones."""
        raw: list[Array] = self.model.get_weights()
        if self.settings.ema:
            self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
        return raw

    def is_better(self, found: dict[str, float | None]) -> bool:
        """Compare by IoU or F1, then by loss; without validation the latest is best."""
        if not found:
            return True
        quality = found.get("val_iou", found.get("val_f1"))
        key = (-1.0 if quality is None else quality, -float(found["val_loss"] or 0))
        better = key > self.best_key
        self.best_key = max(key, self.best_key)
        return better

    def note(
        self, epoch: int, loss: float, found: dict[str, float | None], curve: Path
    ) -> None:
        """Add a line to the learning curve."""
        metrics = ("val_f1", "val_ap") if self.pool.patches else ("val_iou",)
        row: dict[str, Any] = {
            "epoch": epoch,
            "step": epoch * self.steps,
            "loss": round(loss, 6),
        }
        for name in ("val_loss", *metrics):
            value = found.get(name)
            row[name] = "" if value is None else round(value, 6)
        row["seconds"] = round(time.monotonic() - self.started, 2)
        self.rows.append(row)
        log.info(", ".join(f"{name} {value}" for name, value in row.items()))
        lines = [",".join(str(value) for value in row.values()) for row in self.rows]
        write_text("\n".join([",".join(row), *lines]) + "\n", curve)

    def write(
        self,
        weights: str | os.PathLike[str],
        last: str | os.PathLike[str],
        path: str | os.PathLike[str],
    ) -> None:
        """Write the last weights, the best weights and the JSON."""
        self.model.set_weights(self.last_weights)
        digest = store.save_weights(self.model, last)
        self.model.set_weights(self.best_weights)
        store.save(self.model, self.describe(digest), weights, path)

    def describe(self, last_sha256: str) -> dict[str, Any]:
        """Say what was trained, on what and how."""
        return {
            "network": self.settings.network,
            "architecture": self.architecture,
            "classes": list(self.classes),
            "kind": "patches" if self.pool.patches else "slices",
            "axes": sorted({s.examples.name.strip("/") for s in self.pool.sources}),
            "pad_multiple": self.framing.multiple,
            "fingerprint": fingerprint(self.pool),
            "last_weights_sha256": last_sha256,
            "best_epoch": self.best_epoch,
            "epochs": self.rows[-1]["epoch"],
            "steps": self.rows[-1]["step"],
            "early_stopping": bool(self.judge.batches and self.settings.patience),
            "best_is": "best on validation"
            if self.judge.batches
            else "last: no validation",
            "examples": len(self.pool.items),
            "trained_on": self.pool.volumes,
            "validated_on": self.validation.volumes,
            "parameters": int(self.model.count_params()),
            "seed": self.framing.seed,
            "seconds": self.rows[-1]["seconds"],
            "settings": asdict(self.settings),
            "engine": _engine(),
        }


def _engine() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    backend = keras.backend.backend()
    return {
        "backend": backend,
        backend: str(import_module(backend).__version__),
        **{name: metadata.version(name) for name in ("keras", "numpy", "h5py")},
        "python": platform.python_version(),
    }
