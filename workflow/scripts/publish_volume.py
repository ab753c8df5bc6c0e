"""Publish a part of a segmentation in the format of another program."""

from typing import TYPE_CHECKING

from tomoglean import formats
from tomoglean.formats.stored import LAYERS, open_stored
from tomoglean.stage import begin

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

begin(snakemake)

dataset = LAYERS[snakemake.wildcards.layer]
with open_stored(snakemake.input.segmented, dataset) as source:
    formats.write(source, snakemake.output.published)
