"""Train a network, whole or in parts: open the examples, build it, let it learn."""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import keras

from tomoglean import networks
from tomoglean.networks import losses, store, unet
from tomoglean.provenance import Refused
from tomoglean.training import checkpoints, machine, sharing
from tomoglean.training.batches import Framing
from tomoglean.training.examples import Pool
from tomoglean.training.keeping import Course, Keeper
from tomoglean.training.run import Run
from tomoglean.training.settings import Settings
from tomoglean.training.validation import Judge, fixed

Paths = Sequence[str | os.PathLike[str]]


def fit(
    examples: Paths,
    augmented: Paths,
    validation: Paths,
    *,
    classes: Sequence[str],
    seed: int,
    weights: str | os.PathLike[str],
    last: str | os.PathLike[str],
    model: str | os.PathLike[str],
    curve: str | os.PathLike[str],
    course: Course | None = None,
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
    course
        Where the training is saved, and what it goes on from; None neither saves nor goes
        on, and leaves signals alone.
    settings
        See `Settings`.

    Raises
    ------
    Interrupted
        If a signal asked to end; the training is saved then.
    Refused
        If there is nothing to learn, a setting does not fit the examples, or the loss or
        the weights are no longer finite. None of the four files is left then.
    """
    chosen = Settings(**settings)
    try:
        with _begun(examples, augmented, validation, classes, seed, chosen, course) as run:
            run.resume(chosen.epochs)
            run.go(chosen.epochs, Path(curve))
            run.write_curve(Path(curve))
            run.write(weights, last, model)
    except BaseException:
        Path(curve).unlink(missing_ok=True)
        raise


def fit_part(
    examples: Paths,
    augmented: Paths,
    validation: Paths,
    *,
    classes: Sequence[str],
    seed: int,
    part: str | os.PathLike[str],
    until: int,
    course: Course,
    **settings: Any,
) -> None:
    """Train a network up to an epoch and write a checkpoint.

    Parameters
    ----------
    examples, augmented, validation, classes, seed, settings
        As in `fit`.
    part
        Checkpoint to write. After early stopping it is that of the end.
    until
        Last epoch of the part.
    course
        Where the training is saved, and what it goes on from.

    Raises
    ------
    Interrupted, Refused
        As `fit`.
    """
    chosen = Settings(**settings)
    with _begun(examples, augmented, validation, classes, seed, chosen, course) as run:
        run.resume(until)
        run.go(until)
        checkpoints.write(run.state(), part)


@contextmanager
def _begun(
    examples: Paths,
    augmented: Paths,
    validation: Paths,
    classes: Sequence[str],
    seed: int,
    settings: Settings,
    course: Course | None,
) -> Iterator[Run]:
    """Open the examples and build the network; from here on signals are heard."""
    machine.limit_threads(settings.threads)
    keras.utils.set_random_seed(seed)
    keeper = Keeper(course)
    with ExitStack() as stack:
        pool = Pool(stack, examples, augmented)
        run = _prepare(pool, Pool(stack, validation), classes, seed, settings, keeper)
        stack.enter_context(keeper.listening())
        yield run


def _prepare(
    pool: Pool,
    validation: Pool,
    classes: Sequence[str],
    seed: int,
    settings: Settings,
    keeper: Keeper,
) -> Run:
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
    learner = sharing.learner(model, settings)
    learner.compile(_optimizer(settings, steps), loss, jit_compile=settings.jit)
    learner.optimizer.build(model.trainable_variables)
    batches = fixed(validation, framing, settings.batch, settings.validation_images)
    judge = Judge(batches, loss, len(classes), pool.patches)
    return Run(
        *(model, architecture, pool, validation, judge, framing, steps, classes, settings),
        *(keeper, learner),
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
