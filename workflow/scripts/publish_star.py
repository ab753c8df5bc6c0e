"""Publish picks for RELION 5."""

from typing import TYPE_CHECKING

from tomoglean import picks, tables, volumes
from tomoglean.stage import begin

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

begin(snakemake)

found = tables.read_picks(snakemake.input.picks)
voxel_nm = volumes.attributes(snakemake.input.volume)["voxel_nm"]
particles = picks.particles(found, voxel_nm, snakemake.params.row)
tables.write_star(particles, snakemake.output.star)
