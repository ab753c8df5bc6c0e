"""How to train: the settings of a task that decide what comes out."""

from collections.abc import Sequence
from dataclasses import dataclass


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
    devices
        GPUs of one machine that share every batch; part of the result.
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
    devices: int = 1
    start_from: str | None = None
