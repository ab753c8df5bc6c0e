"""Slide a patch classifier over a volume, within the mask."""

from typing import TYPE_CHECKING

from tomoglean import classification
from tomoglean.stage import begin

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

begin(snakemake)

classification.classify(
    snakemake.input.volume,
    snakemake.input.mask,
    classification.load(snakemake.input.network, snakemake.input.model),
    snakemake.output.scores,
    threads=snakemake.threads,
    block=snakemake.params.get("block"),
    blocks=snakemake.input.get("blocks", []),
    **snakemake.params.look,
    **snakemake.params.settings,
)
