"""Turn a segmented membrane into the zone to search."""

from typing import TYPE_CHECKING

from tomoglean import masks
from tomoglean.stage import begin

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

begin(snakemake)

masks.find(snakemake.input.segmented, snakemake.output.masked, **snakemake.params.settings)
