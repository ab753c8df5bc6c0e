"""Segment a whole volume with a trained network."""

from typing import TYPE_CHECKING

from tomoglean import segmentation
from tomoglean.networks import exported
from tomoglean.stage import begin

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

begin(snakemake)

network = exported.load(
    snakemake.input.network, snakemake.input.model, threads=snakemake.threads
)
segmentation.segment(
    snakemake.input.volume,
    network,
    snakemake.output.segmented,
    block=snakemake.params.get("block"),
    blocks=snakemake.input.get("blocks", []),
    **snakemake.params.settings,
)
