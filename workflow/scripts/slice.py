"""Cut the labelled slices of a volume."""

from typing import TYPE_CHECKING

from tomoglean import slices
from tomoglean.stage import begin

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

begin(snakemake)

slices.write(
    snakemake.input.volume,
    snakemake.input.labels,
    snakemake.output.slices,
    name=snakemake.wildcards.volume,
    classes=snakemake.params.classes,
    keep=snakemake.params.keep,
    **snakemake.params.settings,
)
