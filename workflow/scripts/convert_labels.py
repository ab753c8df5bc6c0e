"""Bring the labels of a volume onto its grid."""

from typing import TYPE_CHECKING

from tomoglean import labels, provenance
from tomoglean.stage import begin

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

begin(snakemake)

labels.unchanged(snakemake.params.rows, snakemake.params.sha256)
facts = labels.convert(
    snakemake.params.rows,
    snakemake.input.volume,
    snakemake.output.labels,
    classes=snakemake.params.classes,
    colours=snakemake.params.colours,
)
provenance.write_json(facts, snakemake.output.checked)
