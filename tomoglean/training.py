"""Train a network on labelled slices or patches.

Every batch is a pure function of (seed, epoch, step), so the same seed and number of
threads give the same weights to the bit.
"""

import logging
import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import numpy.typing as npt

from tomoglean import augment, networks, volumes
from tomoglean.networks import losses, padding, store, unet
from tomoglean.provenance import Refused, write_text

IGNORE = volumes.IGNORE
FINGERPRINT = ("p_low", "p_high", "mean", "std")
log = logging.getLogger(__name__)
Array = npt.NDArray[Any]
Batch = tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]


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
    ema: float = 0.0
    class_weights: Sequence[float] | None = None
    positive_share: float | None = 0.5
    forced_share: float = 0.33
    patience: int = 10
    validation_images: int | None = None
    jit: bool = False
    threads: int = 1
    start_from: str | None = None


# -- examples ------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """Examples of one volume along one axis.

    Attributes
    ----------
    examples
        Group with `images` and `labels`.
    warps
        Rows of `augment.plan`, originals among them.
    made
        Group with the pixels of these rows if they were materialised.
    """

    examples: h5py.Group
    warps: Array
    made: h5py.Group | None


class Pool:
    """All examples of some volumes, each known by its place.

    Parameters
    ----------
    stack
        Closes the files.
    examples
        Examples files.
    augmented
        Their warps, in any order; without, only the originals.

    Raises
    ------
    Refused
        If an augmented file belongs to none of the examples.
    """

    def __init__(
        self,
        stack: ExitStack,
        examples: Sequence[str | os.PathLike[str]],
        augmented: Sequence[str | os.PathLike[str]] = (),
    ) -> None:
        files = [_open(stack, path) for path in examples]
        opened = [_open(stack, path) for path in augmented]
        warps = {str(file.attrs["volume"]): file for file in opened}
        self.volumes = [str(file.attrs["volume"]) for file in files]
        self.facts = [dict(file.attrs) for file in files]
        strangers = sorted(set(warps) - set(self.volumes))
        if strangers:
            raise Refused(
                f"{strangers[0]}: augmented, but not among the examples; slice it"
            )
        self.sources = [
            _source(file[name], warps.get(volume), name)
            for file, volume in zip(files, self.volumes, strict=True)
            for name in sorted(file)
        ]
        self.items = np.array(
            [
                (place, row)
                for place, source in enumerate(self.sources)
                for row in range(len(source.warps))
            ],
            np.int64,
        ).reshape(-1, 2)
        self.patches = any(facts["kind"] == "patches" for facts in self.facts)
        if self.patches:
            self.items = self.items[self.item_labels() != IGNORE]

    def item_labels(self) -> npt.NDArray[np.uint8]:
        """Return the label of every patch."""
        each = [s.examples["labels"][...][s.warps[:, 0].astype(int)] for s in self.sources]
        every = np.concatenate(each) if each else np.zeros(0, np.uint8)
        offsets = np.cumsum([0, *(len(source.warps) for source in self.sources)])
        labels: npt.NDArray[np.uint8] = every[offsets[self.items[:, 0]] + self.items[:, 1]]
        return labels

    def load(self, place: int) -> tuple[Array, Array]:
        """Return image (H, W, C) and labels, (H, W) or one number."""
        number, row = self.items[place]
        source = self.sources[number]
        if source.made is not None:
            image, labels = source.made["images"][row], source.made["labels"][row]
        else:
            warp = source.warps[row]
            index = int(warp[0])
            image, labels = augment.apply(
                source.examples["images"][index], source.examples["labels"][index], warp
            )
        return np.atleast_3d(image), labels

    def image_shape(self) -> tuple[int, int, int]:
        """Largest height and width of the images, and their channels."""
        shapes = [
            (*source.examples["images"].shape[1:], 1)[:3]
            for source in self.sources
            if len(source.warps)
        ]
        height, width, channels = np.max(shapes, axis=0).tolist()
        return height, width, channels

    def label_values(self) -> set[int]:
        """Return the classes that occur; looks no further once there are two."""
        seen: set[int] = set()
        for source in self.sources:
            for labels in source.examples["labels"]:
                seen |= set(np.unique(labels).tolist()) - {IGNORE}
                if len(seen) > 1:
                    return seen
        return seen


def _open(stack: ExitStack, path: str | os.PathLike[str]) -> h5py.File:
    return stack.enter_context(h5py.File(path, "r", locking="best-effort"))


def _source(group: h5py.Group, augmented: h5py.File | None, name: str) -> Source:
    count = len(group["labels"])
    if augmented is None:
        warps = augment.plan(count, seed=0, volume="", group=name, copies=0)
        return Source(group, warps, None)
    made = augmented[name]
    return Source(group, made["warps"][...], made if "images" in made else None)


# -- batches -------------------------------------------------------------------------


def order(
    pool: Pool, *, seed: int, epoch: int, steps: int, batch: int, share: float | None
) -> npt.NDArray[np.int64]:
    """Choose which examples make the batches of an epoch.

    Parameters
    ----------
    pool
        Examples.
    seed, epoch
        What the choice is keyed by.
    steps, batch
        Shape of the answer.
    share
        Share of positives in every batch of patches; None, or slices: as they come.

    Returns
    -------
    ndarray of shape (steps, batch)
        Places in the pool; each example comes once before any comes twice.
    """
    rng = volumes.random(seed, "order", epoch)
    if not pool.patches or share is None:
        return _dealt(np.arange(len(pool.items)), steps, batch, rng)
    positive = pool.item_labels() > 0
    many = min(max(round(share * batch), 1), batch - 1)
    drawn = _dealt(np.flatnonzero(positive), steps, many, rng)
    others = _dealt(np.flatnonzero(~positive), steps, batch - many, rng)
    return np.concatenate([drawn, others], axis=1)


def _dealt(
    places: npt.NDArray[np.int64], steps: int, batch: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    rounds = -(-steps * batch // len(places))
    dealt = np.concatenate([rng.permutation(places) for _ in range(rounds)])
    return dealt[: steps * batch].reshape(steps, batch)


def crop(
    image: Array, labels: Array, shape: Sequence[int], *, forced: bool, seed: Sequence[Any]
) -> tuple[Array, Array]:
    """Cut a random window out of a slice.

    Parameters
    ----------
    image
        Shape (H, W, C); reflected where it is smaller than the window.
    labels
        Shape (H, W); 255 beyond their border.
    shape
        Height and width of the window in pixels.
    forced
        Let the window hold a class other than the first, each class that is there with
        equal chance; no effect where there is none.
    seed
        Key of the random numbers: seed, then whatever tells this crop from others.
    """
    rng = volumes.random(*seed)
    lack = [max(want - have, 0) for want, have in zip(shape, labels.shape, strict=True)]
    width = [(one // 2, one - one // 2) for one in lack]
    if any(lack):
        image = np.pad(image, [*width, (0, 0)], mode="reflect")
        labels = np.pad(labels, width, constant_values=IGNORE)

    room = [have - want for want, have in zip(shape, labels.shape, strict=True)]
    corner = [int(rng.integers(one + 1)) for one in room]
    rare = [c for c in np.flatnonzero(np.bincount(labels.ravel())) if c not in (0, IGNORE)]
    if forced and rare:
        where = np.flatnonzero(labels == rng.choice(rare))
        target = np.unravel_index(rng.choice(where), labels.shape)
        inside = [int(rng.integers(size)) for size in shape]
        corner = [
            min(max(int(at) - off, 0), most)
            for at, off, most in zip(target, inside, room, strict=True)
        ]
    window = tuple(slice(c, c + size) for c, size in zip(corner, shape, strict=True))
    return image[window], labels[window]


@dataclass(frozen=True)
class Framing:
    """How examples become batches: window, legal size, share of forced windows."""

    window: tuple[int, int]
    multiple: int
    forced_share: float
    seed: int

    def assemble(self, pool: Pool, places: Sequence[int], *purpose: str | int) -> Batch:
        """Return images (B, H, W, C) and labels (B, H, W, 1), or (B, 1) of patches."""
        pairs = [
            self._one(pool, int(place), *purpose, row) for row, place in enumerate(places)
        ]
        images = np.stack([image for image, _ in pairs]).astype(np.float32, copy=False)
        labels = np.stack([label for _, label in pairs]).astype(np.int32)[..., None]
        return images, labels

    def _one(self, pool: Pool, place: int, *purpose: str | int) -> tuple[Array, Array]:
        image, labels = pool.load(place)
        if pool.patches:
            return image, labels
        forced = volumes.random(self.seed, "forced", *purpose).random() < self.forced_share
        seed = (self.seed, "crop", *purpose)
        image, labels = crop(image, labels, self.window, forced=bool(forced), seed=seed)
        border = padding.pad_px(labels.shape, self.multiple)
        return padding.pad(image, self.multiple), np.pad(
            labels, border, constant_values=IGNORE
        )


def _ahead(make: Callable[[int], Batch], count: int) -> Iterator[Batch]:
    """Make the next batch while the present one is being learnt."""
    with ThreadPoolExecutor(1) as worker:
        coming = worker.submit(make, 0)
        for step in range(1, count + 1):
            batch = coming.result()
            if step < count:
                coming = worker.submit(make, step)
            yield batch


# -- validation ----------------------------------------------------------------------


def mean_iou(confusion: npt.NDArray[np.int64]) -> float | None:
    """Mean intersection over union of the classes present in the truth.

    Parameters
    ----------
    confusion
        Counts of shape (classes, classes), truth along the first axis.
    """
    truth, found = confusion.sum(axis=1), confusion.sum(axis=0)
    union = truth + found - np.diag(confusion)
    present = truth > 0
    if not present.any():
        return None
    return float(np.mean(np.diag(confusion)[present] / union[present]))


def ranking(
    truth: npt.NDArray[np.bool_], scores: npt.NDArray[np.floating[Any]]
) -> tuple[float, float] | None:
    """Best F1 over all thresholds, and average precision.

    Equal scores fall on the same side of any threshold.

    Returns
    -------
    tuple
        F1 and average precision, in [0, 1]; None if nothing is true.
    """
    if not truth.any():
        return None
    down = np.argsort(-scores, kind="stable")
    hits = np.cumsum(truth[down])
    last = np.flatnonzero(np.diff(scores[down], append=-np.inf))
    hits, taken = hits[last], last + 1
    precision, recall = hits / taken, hits / truth.sum()
    f1 = 2 * hits / (taken + truth.sum())
    return float(f1.max()), float(np.sum(np.diff(recall, prepend=0) * precision))


@dataclass(frozen=True)
class Judge:
    """Validation: the same images at every epoch.

    Attributes
    ----------
    batches
        What to look at; empty if there is no validation volume.
    loss
        As in training.
    classes
        Number of classes.
    patches
        Whether these are patches.
    """

    batches: Sequence[Batch]
    loss: Callable[[Any, Any], Any]
    classes: int
    patches: bool

    def judge(self, model: Any) -> dict[str, float | None]:
        """Return val_loss and val_iou of slices, or val_loss, val_f1, val_ap of patches."""
        pairs = [(truth, model.predict_on_batch(seen)) for seen, truth in self.batches]
        each = [float(self.loss(truth, found)) for truth, found in pairs]
        result: dict[str, float | None] = {"val_loss": float(np.mean(each))}
        if self.patches:
            truth = np.concatenate([labels.ravel() for labels, _ in pairs])
            scores = np.concatenate([1 - found[:, 0] for _, found in pairs])
            known = truth != IGNORE
            best = ranking(truth[known] > 0, scores[known]) or (None, None)
            return result | dict(zip(("val_f1", "val_ap"), best, strict=True))
        confusion = sum(self._confusion(*pair) for pair in pairs)
        return result | {"val_iou": mean_iou(np.asarray(confusion))}

    def _confusion(self, truth: Array, found: Array) -> npt.NDArray[np.int64]:
        valid = truth[..., 0] != IGNORE
        pairs = truth[..., 0][valid] * self.classes + found.argmax(axis=-1)[valid]
        counts = np.bincount(pairs, minlength=self.classes**2)
        return counts.reshape(self.classes, self.classes)


def _validation(pool: Pool, framing: Framing, settings: Settings) -> list[Batch]:
    """Evenly chosen images in fixed windows, in batches of one size."""
    most = settings.validation_images or (2000 if pool.patches else 32)
    count = min(most, len(pool.items))
    chosen = np.linspace(0, len(pool.items) - 1, count).round().astype(int)
    batches = []
    for start in range(0, count, settings.batch):
        places = chosen[start : start + settings.batch]
        images, labels = framing.assemble(pool, places.tolist(), "validation", start)
        spare = settings.batch - len(places)
        if spare:  # one size only, or the network is traced again
            images = np.concatenate([images, np.repeat(images[:1], spare, axis=0)])
            unknown = np.full((spare, *labels.shape[1:]), IGNORE, np.int32)
            labels = np.concatenate([labels, unknown])
        batches.append((images, labels))
    return batches


# -- the loop ------------------------------------------------------------------------


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
    batches = _validation(validation, framing, settings) if len(validation.items) else []
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
        return {"patch_px": pool.image_shape()[0], **dropout}
    if (settings.dim == 2.5) != (channels > 1) and settings.dim != 3:
        raise Refused(
            f"train.dim: expected {2.5 if channels > 1 else 2} for slices of {channels} "
            f"channels, found {settings.dim}; set slice.neighbours to match"
        )
    names = ("width", "depth", "dim", "recipe", "norm")
    chosen = {name: getattr(settings, name) for name in names}
    return {"classes": classes, "channels": channels, **chosen, **dropout}


def _optimizer(settings: Settings, steps: int) -> Any:
    rate = keras.optimizers.schedules.CosineDecay(
        settings.learning_rate, steps * settings.epochs
    )
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
        for step, (images, labels) in enumerate(_ahead(make, self.steps), 1):
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
            "fingerprint": _fingerprint(self.pool),
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
            "engine": {
                "backend": keras.backend.backend(),
                **{name: metadata.version(name) for name in ("keras", "numpy", "h5py")},
                "python": platform.python_version(),
            },
        }


def _fingerprint(pool: Pool) -> dict[str, Any]:
    """Median over the training volumes, and each of them."""
    known = [facts for facts in pool.facts if all(name in facts for name in FINGERPRINT)]
    each = {
        str(facts["volume"]): {name: float(facts[name]) for name in FINGERPRINT}
        for facts in known
    }
    median = {
        name: float(np.median([one[name] for one in each.values()]))
        for name in (FINGERPRINT if each else ())
    }
    return {**median, "volumes": each}
