"""List the changed copies of every training image of a volume."""

from typing import TYPE_CHECKING

from tomoglean import augment
from tomoglean.stage import begin

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

begin(snakemake)

augment.write(
    snakemake.input.examples,
    snakemake.output.augmented,
    seed=snakemake.params.seed,
    **snakemake.params.settings,
)
