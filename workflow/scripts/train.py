"""Train a network on the examples of one round."""

from typing import TYPE_CHECKING

from tomoglean import training
from tomoglean.stage import begin

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

begin(snakemake)

training.fit(
    snakemake.input.examples,
    snakemake.input.augmented,
    snakemake.input.validation,
    classes=snakemake.params.classes,
    seed=snakemake.params.seed,
    weights=snakemake.output.weights,
    last=snakemake.output.last,
    model=snakemake.output.model,
    curve=snakemake.output.curve,
    **snakemake.params.settings,
)
