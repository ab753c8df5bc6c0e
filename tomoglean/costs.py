"""What a job of each stage costs: one table for the cluster's profile and the forecast.

Times are measured on two cores of a server CPU without a GPU, from the records of five
finished studies (`forecast` says how well they predict). Memory is what a cluster is asked
for; the jobs of the demo stayed far below. Standard library only: every job reads this.
"""

import math
from dataclasses import dataclass

MOST_MB = 8000
#: Minutes that a job is asked for at least, and at most: partitions rarely allow more.
SHORTEST, LONGEST = 30, 7 * 24 * 60
#: A cluster is asked for so many times the predicted time: forecasts are right within a
#: factor of two, and nodes may be slower than the one that was measured.
SLACK = 3.0
#: How much faster a GPU trains than two cores of a CPU. From the run of 2019: 2.4 images
#: of 1800 GFLOP (600 px, forward and backward) a second on a V100, against 40 GFLOP.
GPU_SPEEDUP = 100.0


@dataclass(frozen=True)
class Cost:
    """What one job of a stage needs.

    Attributes
    ----------
    start_s
        Seconds that the script works for any input.
    speed
        Units of work a second, see `forecast.work`.
    launch_s
        Seconds before the script begins: Snakemake, interpreter, libraries.
    base_mb
        Memory for any input, in MB.
    per_mb
        Memory in MB for every MB of input (simulate: for every million voxels).
    most_mb
        Memory at most, in MB: volumes pass in slabs.
    minutes
        Minutes that a cluster is asked for at the first attempt, if nobody can tell how
        much work it is.
    """

    start_s: float
    speed: float
    launch_s: float = 1.0
    base_mb: int = 1500
    per_mb: float = 0.5
    most_mb: int = MOST_MB
    minutes: int = 30

    def seconds(self, work: float) -> float:
        """Seconds that the script itself works."""
        return self.start_s + work / self.speed

    def memory_mb(self, input_mb: float, attempt: int = 1) -> int:
        """Memory to ask for, in MB."""
        return int(min(self.most_mb, self.base_mb + self.per_mb * input_mb) * attempt)

    def runtime(self, work: float | None, attempt: int = 1, faster: float = 1.0) -> int:
        """Minutes to ask for.

        Parameters
        ----------
        work
            Units of work, see `forecast.work`; None if nobody can tell.
        attempt
            How often the job was started, this time included; each gets more.
        faster
            How many times faster than measured the device computes.
        """
        minutes = float(self.minutes)
        if work is not None:
            seconds = self.launch_s + self.start_s + work / self.speed / faster
            minutes = max(SHORTEST, SLACK * seconds / 60)
        return min(LONGEST, math.ceil(minutes) * attempt)


USUAL = Cost(0.1, 10.0)
COSTS = {
    # Million voxels; its memory grows with them too, by so many bytes a voxel.
    "simulate": Cost(6.0, 0.5, launch_s=3.0, per_mb=30.0, most_mb=16_000, minutes=60),
    "check": Cost(0.3, 20.0),  # million voxels
    "convert": Cost(0.3, 15.0),  # million voxels
    "slice": Cost(0.12, 350.0),  # megabytes written
    "sample": Cost(0.45, 800.0),  # megabytes written
    "augment": Cost(0.03, 200.0),  # megabytes of pixels, or 1/60 of the rows'
    "train": Cost(10.0, 40.0, launch_s=13.0, base_mb=6000, minutes=480),  # GFLOP
    "export": Cost(2.3, 1.0, launch_s=13.0, base_mb=6000),
    "segment": Cost(0.1, 33.0, base_mb=4500, minutes=120),  # GFLOP
    "relabel": Cost(0.05, 10.0),  # million voxels
    "measure": Cost(0.05, 2.0),  # million voxels
    # Million voxels; 1.3 GB for 67 of them (measured), and some bytes for each further one.
    "mask": Cost(0.1, 0.87, per_mb=40.0, most_mb=64_000),
    "classify": Cost(0.2, 45.0, base_mb=2000, minutes=120),  # GFLOP
    "pick": Cost(0.2, 16.0, per_mb=4.0),  # million voxels
    "evaluate": Cost(1.0, 0.22, minutes=120),  # million voxels judged
    "publish": Cost(0.02, 1000.0),  # million voxels
    "average": Cost(1.0, 2.0, base_mb=3000),  # million voxels
}


def of(stage: str) -> Cost:
    """Cost of a stage; a usual one for a stage that nobody has measured."""
    return COSTS.get(stage, USUAL)
