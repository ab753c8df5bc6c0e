"""Publish picks in the file of another program."""

from typing import TYPE_CHECKING

from tomoglean import labels, tables
from tomoglean.stage import begin

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

begin(snakemake)

labels.publish_picks(
    tables.read_picks(snakemake.input.picks),
    snakemake.input.volume,
    snakemake.output.published,
    name=snakemake.wildcards.volume,
    label=snakemake.wildcards.task,
    unbinned=snakemake.params.unbinned,
)
