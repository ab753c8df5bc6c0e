"""Score picks against the true positions."""

from typing import TYPE_CHECKING

from tomoglean import provenance, tables
from tomoglean.scores import detection
from tomoglean.stage import begin

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

begin(snakemake)

found = detection.evaluate(
    snakemake.params.cases,
    snakemake.input.picks,
    snakemake.input.truth,
    snakemake.input.volumes,
    target=snakemake.params.target,
    seed=snakemake.params.seed,
    **snakemake.params.settings,
)
provenance.write_json(found.summary, snakemake.output.summary)
tables.write_rows(found.matches, detection.MATCHES, snakemake.output.matches)
tables.write_rows(found.curve, detection.CURVE, snakemake.output.curve)
