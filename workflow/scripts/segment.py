"""Segment a whole volume with a trained network."""

from typing import TYPE_CHECKING

from tomoglean import segmentation
from tomoglean.stage import begin

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

begin(snakemake)

network = segmentation.load(
    snakemake.input.network, snakemake.input.model, threads=snakemake.threads
)
segmentation.segment(
    snakemake.input.volume,
    network,
    snakemake.output.segmented,
    **snakemake.params.settings,
)
