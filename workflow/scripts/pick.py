"""Pick complexes from a score map."""

from typing import TYPE_CHECKING

from tomoglean import picks, tables
from tomoglean.stage import begin

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

begin(snakemake)

found = picks.pick(
    snakemake.input.scores, snakemake.input.mask, **snakemake.params.settings
)
tables.write_picks(found, snakemake.output.picks)
