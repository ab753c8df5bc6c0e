"""Simulate a tomogram of a minicell, with truth and an annotator's picks."""

from typing import TYPE_CHECKING

from tomoglean import provenance
from tomoglean.simulators import files
from tomoglean.simulators.minicell import simulate_minicell
from tomoglean.stage import begin

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

begin(snakemake)

settings = snakemake.params.settings
minicell = simulate_minicell(
    seed=snakemake.params.seed, name=snakemake.params.name, **settings
)
voxel_nm = minicell.facts["settings"]["voxel_nm"]
files.write_mrc(minicell.image, snakemake.output.volume, voxel_nm=voxel_nm)
files.write_mrc(minicell.truth, snakemake.output.truth, voxel_nm=voxel_nm)
files.write_points(minicell.points, snakemake.output.points)
files.write_points(minicell.picks, snakemake.output.picks)
provenance.write_json(minicell.facts, snakemake.output.facts)
