"""One training at work: learn, look at validation volumes, keep the best."""

import logging
import math
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from keras import ops

from tomoglean import progress
from tomoglean.networks import store
from tomoglean.provenance import Refused, write_text
from tomoglean.training import machine
from tomoglean.training.batches import Batch, Framing, ahead, order
from tomoglean.training.checkpoints import Checkpoint
from tomoglean.training.examples import Pool, fingerprint
from tomoglean.training.keeping import Interrupted, Keeper, Stop
from tomoglean.training.settings import Settings
from tomoglean.training.validation import Judge

log = logging.getLogger(__name__)
Array = npt.NDArray[Any]
WORST = (-math.inf, -math.inf)


class Diverged(Refused):
    """A training whose loss or weights are no longer numbers."""


@dataclass
class Progress:
    """How far a training has come: what a checkpoint holds besides its arrays.

    Attributes
    ----------
    epoch, step
        Epochs done; steps done of the next one.
    loss_sum
        Sum of the losses of these steps.
    ended
        Whether there is nothing left to learn.
    best_epoch, best_key
        Epoch of the best validation, and what it is compared by.
    rows
        Learning curve.
    seconds
        Seconds of learning so far, in all attempts.
    processors
        What it has been trained on, in the order of use.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    ended: bool = False
    best_epoch: int = 0
    best_key: tuple[float, float] = WORST
    rows: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    processors: list[str] = field(default_factory=list)


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
    keeper: Keeper
    learner: Any
    at: Progress = field(default_factory=Progress)
    best: list[Array] = field(default_factory=list)

    def go(self, until: int, curve: Path | None = None) -> None:
        """Train until an epoch is over, or nothing gets better; then save.

        Raises
        ------
        Interrupted
            If a signal asked to end; the training is saved then.
        Diverged
            If loss or weights are no longer finite.
        """
        self.began = time.monotonic() - self.at.seconds
        begun = self.at.epoch
        try:
            while not self.at.ended and self.at.epoch < until:
                self.learn()
                self.close_epoch(curve)
        except Stop:
            self.keeper.save(self.state())
            raise Interrupted(
                f"train: saved at epoch {self.at.epoch + 1}, step {self.at.step}; the same "
                "command goes on from there"
            ) from None
        if self.at.epoch > begun:
            self.keeper.save(self.state())

    def learn(self) -> None:
        """Train one epoch, or what is left of it."""
        at, epoch = self.at, self.at.epoch + 1
        batch, share = self.settings.batch, self.settings.positive_share
        seed = self.framing.seed
        places = order(
            self.pool, seed=seed, epoch=epoch, steps=self.steps, batch=batch, share=share
        )

        def make(step: int) -> Batch:
            chosen = places[step].tolist()
            return self.framing.assemble(self.pool, chosen, "train", epoch, step)

        whole, done = self.settings.epochs * self.steps, at.epoch * self.steps
        progress.tell("train", done + at.step, whole, unit="steps")
        for images, labels in ahead(make, self.steps, at.step):
            loss = float(self.learner.train_on_batch(images, labels))
            at.step, at.loss_sum = at.step + 1, at.loss_sum + loss
            progress.tell("train", done + at.step, whole, unit="steps", loss=loss)
            if not math.isfinite(loss):
                self.refuse("loss")
            self.keeper.after_step(self.state)
        if not store.is_finite(self.model):
            self.refuse("weights")

    def refuse(self, what: str) -> None:
        """End the job: what comes after NaN is not worth computing."""
        raise Diverged(
            f"train: expected finite {what}, found NaN or infinity in epoch "
            f"{self.at.epoch + 1}, step {self.at.step}; lower train.learning_rate or look "
            "for broken examples"
        )

    def close_epoch(self, curve: Path | None) -> None:
        """Judge the epoch, note it, keep its weights if they are the best."""
        found, weights = self.judged()
        at = self.at
        at.epoch, at.step = at.epoch + 1, 0
        self.note(found, curve)
        at.loss_sum = 0.0
        if self.is_better(found):
            at.best_epoch, self.best = at.epoch, weights
        patience = self.settings.patience
        weary = bool(found and patience and at.epoch - at.best_epoch >= patience)
        if weary:
            log.info("no better validation for %d epochs: stopped", patience)
        at.ended = weary or at.epoch == self.settings.epochs

    def judged(self) -> tuple[dict[str, float | None], list[Array]]:
        """Validate the weights that will be stored; return what was found, and them."""
        raw = self.average()
        try:
            batches = self.judge.batches
            found = self.judge.judge(self.model, self.keeper.look) if batches else {}
            return found, self.model.get_weights()
        finally:
            self.model.set_weights(raw)

    def average(self) -> list[Array]:
        """Put the running mean of the weights in place; return the raw ones."""
        raw: list[Array] = self.model.get_weights()
        if self.settings.ema:
            self.learner.optimizer.finalize_variable_values(self.model.trainable_variables)
        return raw

    def is_better(self, found: dict[str, float | None]) -> bool:
        """Compare by IoU or F1, then by loss; without validation the latest is best."""
        if not found:
            return True
        quality = found.get("val_iou", found.get("val_f1"))
        key = (-1.0 if quality is None else quality, -float(found["val_loss"] or 0))
        better = key > self.at.best_key
        self.at.best_key = max(key, self.at.best_key)
        return better

    def note(self, found: dict[str, float | None], curve: Path | None) -> None:
        """Add a line to the learning curve."""
        metrics = ("val_f1", "val_ap") if self.pool.patches else ("val_iou",)
        row: dict[str, Any] = {
            "epoch": self.at.epoch,
            "step": self.at.epoch * self.steps,
            "loss": round(self.at.loss_sum / self.steps, 6),
        }
        for name in ("val_loss", *metrics):
            value = found.get(name)
            row[name] = "" if value is None else round(value, 6)
        row["seconds"] = round(time.monotonic() - self.began, 2)
        self.at.rows.append(row)
        log.info(", ".join(f"{name} {value}" for name, value in row.items() if value != ""))
        if curve:
            self.write_curve(curve)

    def write_curve(self, path: Path) -> None:
        """Write the learning curve as far as it goes."""
        rows = self.at.rows
        lines = [",".join(str(value) for value in row.values()) for row in rows]
        write_text("\n".join([",".join(rows[0]), *lines]) + "\n", path)

    # -- checkpoints -----------------------------------------------------------------

    def state(self) -> Checkpoint:
        """Return all that is needed to go on to the same bits."""
        if not store.is_finite(self.model):
            self.refuse("weights")
        self.at.seconds = time.monotonic() - self.began
        course = self.keeper.course
        facts = {
            "key": course.key if course else "",
            **asdict(self.at),
            "threads": machine.threads(self.settings.threads),
            "versions": machine.versions(),
        }
        network, optimizer = map(_numbers, self._variables())
        return Checkpoint(
            facts, {"network": network, "optimizer": optimizer, "best": self.best}
        )

    def _variables(self) -> tuple[list[Any], list[Any]]:
        """Variables of the network, states of random numbers included, and optimizer."""
        return self.model.variables, self.learner.optimizer.variables

    def resume(self, until: int) -> None:
        """Go on from the newest checkpoint that lies not beyond an epoch, if there is one.

        Raises
        ------
        Refused
            If it is another training's or of another number of threads.
        """
        found = self.keeper.newest(until)
        here = machine.processor()
        if found:
            self._look_about(found.facts, here)
            self._fill(found)
        if here not in self.at.processors:
            self.at.processors.append(here)

    def _look_about(self, facts: dict[str, Any], here: str) -> None:
        """Refuse another number of threads; warn of what may change the last bits."""
        threads = machine.threads(self.settings.threads)
        if facts["threads"] != threads:
            raise Refused(
                f"train: expected {facts['threads']} threads as in the checkpoint of this "
                f"training, found {threads}; train with as many, or change train.threads"
            )
        if here not in facts["processors"]:
            log.warning(
                "goes on on %s what %s began: the last bits may differ",
                *(here, " and ".join(facts["processors"])),
            )
        if facts["versions"] != machine.versions():
            log.warning("goes on with other versions: the last bits may differ")

    def _fill(self, found: Checkpoint) -> None:
        names = [one.name for one in fields(Progress)]
        self.at = Progress(**{name: found.facts[name] for name in names})
        self.at.best_key = (self.at.best_key[0], self.at.best_key[1])
        self.best = found.arrays["best"]
        for variables, name in zip(
            self._variables(), ("network", "optimizer"), strict=True
        ):
            for variable, array in zip(variables, found.arrays[name], strict=True):
                variable.assign(array)

    # -- results ---------------------------------------------------------------------

    def write(
        self,
        weights: str | os.PathLike[str],
        last: str | os.PathLike[str],
        path: str | os.PathLike[str],
    ) -> None:
        """Write the last weights, the best weights and the JSON."""
        self.average()
        digest = store.save_weights(self.model, last)
        self.model.set_weights(self.best)
        store.save(self.model, self.describe(digest), weights, path)

    def describe(self, last_sha256: str) -> dict[str, Any]:
        """Say what was trained, on what and how."""
        last = self.at.rows[-1]
        return {
            "network": self.settings.network,
            "architecture": self.architecture,
            "classes": list(self.classes),
            "kind": "patches" if self.pool.patches else "slices",
            "axes": sorted({s.examples.name.strip("/") for s in self.pool.sources}),
            "pad_multiple": self.framing.multiple,
            "fingerprint": fingerprint(self.pool),
            "last_weights_sha256": last_sha256,
            "best_epoch": self.at.best_epoch,
            "epochs": last["epoch"],
            "steps": last["step"],
            "early_stopping": bool(self.judge.batches and self.settings.patience),
            "best_is": "best on validation"
            if self.judge.batches
            else "last: no validation",
            "examples": len(self.pool.items),
            "trained_on": self.pool.volumes,
            "validated_on": self.validation.volumes,
            "parameters": int(self.model.count_params()),
            "seed": self.framing.seed,
            "seconds": last["seconds"],
            "settings": asdict(self.settings),
            "engine": machine.versions(),
            "processors": self.at.processors,
        }


def _numbers(variables: Sequence[Any]) -> list[Array]:
    return [np.array(ops.convert_to_numpy(variable)) for variable in variables]
