"""Export a trained network for inference without TensorFlow."""

from typing import TYPE_CHECKING

from tomoglean import parts
from tomoglean.networks import export
from tomoglean.stage import begin

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

begin(snakemake)

export.write(snakemake.input.weights, snakemake.input.model, snakemake.output.network)
parts.forget(snakemake.input.weights)
