"""Make better labels of one volume."""

from typing import TYPE_CHECKING

from tomoglean import relabelling
from tomoglean.stage import begin

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

begin(snakemake)

relabelling.relabel(
    snakemake.input.weak,
    snakemake.input.predicted,
    snakemake.output.labels,
    calibration_predicted=snakemake.input.calibration_predicted,
    calibration_corrected=snakemake.input.calibration_corrected,
    **snakemake.params.settings,
)
