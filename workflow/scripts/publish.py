"""Publish the picks above the working threshold as CSV."""

from typing import TYPE_CHECKING

from tomoglean import provenance, tables
from tomoglean.stage import begin

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

begin(snakemake)

summary = provenance.read_json(snakemake.input.summary)
found = tables.read_picks(snakemake.input.picks).above(summary["threshold"])
tables.write_picks(found, snakemake.output.picks)
