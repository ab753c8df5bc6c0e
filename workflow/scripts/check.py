"""Measure one raw volume before any hour is spent on it."""

from typing import TYPE_CHECKING

from tomoglean import checks, provenance
from tomoglean.stage import begin

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

begin(snakemake)

facts = checks.check(snakemake.params.row)
provenance.write_json(facts, snakemake.output.checked)
