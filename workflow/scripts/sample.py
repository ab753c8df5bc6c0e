"""Cut labelled patches out of a volume."""

from typing import TYPE_CHECKING

from tomoglean import patches, tables
from tomoglean.stage import begin

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

begin(snakemake)

patches.sample(
    snakemake.input.volume,
    snakemake.input.mask,
    tables.read_points(snakemake.input.points),
    snakemake.output.samples,
    name=snakemake.wildcards.volume,
    target=snakemake.params.target,
    seed=snakemake.params.seed,
    **snakemake.params.settings,
)
