"""Simulate a scan of a corroding screw in bone, with truth and a user's labels."""

from pathlib import Path
from typing import TYPE_CHECKING

from tomoglean.simulators import making
from tomoglean.stage import begin

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

begin(snakemake)

making.implant(
    seed=snakemake.params.seed,
    name=snakemake.params.name,
    settings=snakemake.params.settings,
    paths={part: Path(file) for part, file in snakemake.output.items()},
)
