"""Score labels against the truth, beside the baselines."""

from typing import TYPE_CHECKING

from tomoglean import provenance, tables
from tomoglean.scores import semantic
from tomoglean.stage import begin

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

begin(snakemake)

given, params = snakemake.input, snakemake.params
found = semantic.evaluate(
    *(params.cases, given.predicted, given.truth, given.volumes),
    **{name: given[name] for name in ("examples", "weak")},
    **{name: params[name] for name in ("example_rounds", "classes", "labels")},
    **{name: params[name] for name in ("split", "seed")},
    **params.settings,
)
provenance.write_json(found.summary, snakemake.output.summary)
tables.write_rows(found.scores, semantic.SCORES, snakemake.output.scores)
tables.write_rows(found.confusion, semantic.CONFUSION, snakemake.output.confusion)
