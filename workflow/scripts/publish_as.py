"""Publish picks in the file of another program."""

from typing import TYPE_CHECKING

from tomoglean import particles, tables, volumes
from tomoglean.stage import begin

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

begin(snakemake)

with volumes.open_volume(snakemake.input.volume) as volume:
    grid = particles.Grid(
        volume.shape,
        volume.voxel_nm,
        snakemake.wildcards.volume,
        snakemake.params.unbinned,
    )
found = tables.read_picks(snakemake.input.picks)
picks = particles.of_picks(found, snakemake.wildcards.task)
particles.write(picks, snakemake.output.published, grid)
