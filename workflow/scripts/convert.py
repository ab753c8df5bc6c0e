"""Convert a raw volume slab by slab."""

from typing import TYPE_CHECKING

from tomoglean.formats import conversion
from tomoglean.stage import begin

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

begin(snakemake)

conversion.convert(
    snakemake.params.row, snakemake.input.checked, snakemake.output.converted
)
