"""Simulate a tomogram of a minicell, with truth and an annotator's picks."""

from pathlib import Path
from typing import TYPE_CHECKING

from tomoglean.simulators import making
from tomoglean.stage import begin

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

begin(snakemake)

making.minicell(
    seed=snakemake.params.seed,
    name=snakemake.params.name,
    settings=snakemake.params.settings,
    paths={part: Path(file) for part, file in snakemake.output.items()},
)
