"""Simulate a scan of a corroding screw in bone, with truth and a user's labels."""

from typing import TYPE_CHECKING

from tomoglean import provenance
from tomoglean.simulators import files
from tomoglean.simulators.implant import simulate_implant
from tomoglean.stage import begin

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

begin(snakemake)

implant = simulate_implant(
    seed=snakemake.params.seed, name=snakemake.params.name, **snakemake.params.settings
)
files.write_tiff(implant.image, snakemake.output.volume)
files.write_tiff(implant.truth, snakemake.output.truth)
files.write_tiff(implant.weak, snakemake.output.weak)
files.write_tiff(implant.corrected, snakemake.output.corrected)
provenance.write_json(implant.facts, snakemake.output.facts)
