"""Train a network on the examples of one round."""

from typing import TYPE_CHECKING

from tomoglean import attempts
from tomoglean.stage import begin, training_key

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

begin(snakemake)

attempts.train(
    snakemake.input.examples,
    snakemake.input.augmented,
    snakemake.input.validation,
    snakemake.input.previous,
    dict(snakemake.output),
    key=training_key(snakemake),
    save_minutes=snakemake.resources.save_minutes,
    classes=snakemake.params.classes,
    seed=snakemake.params.seed,
    **snakemake.params.settings,
)
