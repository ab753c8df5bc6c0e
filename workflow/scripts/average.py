"""Average the subtomograms around the picks, and a control."""

from typing import TYPE_CHECKING

from tomoglean import averages, provenance, tables
from tomoglean.stage import begin

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

begin(snakemake)

given, made = snakemake.input, snakemake.output
picks = [tables.read_picks(path) for path in given.picks]
seed, settings = snakemake.params.seed, snakemake.params.settings
found = averages.average(picks, given.volumes, given.masks, seed=seed, **settings)

averages.write_mrc(found.maps.whole, made.average, voxel_nm=found.voxel_nm)
averages.write_mrc(found.maps.half1, made.half1, voxel_nm=found.voxel_nm)
averages.write_mrc(found.maps.half2, made.half2, voxel_nm=found.voxel_nm)
averages.write_mrc(found.control.whole, made.control, voxel_nm=found.voxel_nm)
tables.write_rows(found.fsc, averages.FSC_COLUMNS, made.fsc)
provenance.write_json(found.summary, made.summary)
