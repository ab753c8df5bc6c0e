"""Measure an implant and the bone around it."""

from typing import TYPE_CHECKING

from tomoglean import measures, provenance, volumes
from tomoglean.stage import begin

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

begin(snakemake)

name = snakemake.wildcards.volume
with volumes.open_volume(snakemake.input.segmented) as segmented:
    found = measures.measure(
        segmented, snakemake.params.classes, name=name, **snakemake.params.settings
    )
provenance.write_json({"volume": name, **found}, snakemake.output.measured)
