"""Bring the points of a volume onto its grid."""

from typing import TYPE_CHECKING

from tomoglean import labels, provenance
from tomoglean.stage import begin

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

begin(snakemake)

labels.unchanged(snakemake.params.rows, snakemake.params.sha256)
facts = labels.convert_points(
    snakemake.params.rows,
    snakemake.input.volume,
    snakemake.output.points,
    unbinned=snakemake.params.unbinned,
)
provenance.write_json(facts, snakemake.output.checked)
