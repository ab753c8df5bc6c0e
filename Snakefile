"""From raw volumes to answers: `snakemake`, or `snakemake --profile slurm`."""

import math
from functools import partial

from tomoglean.stage import before, demands_of, needs, open_plan, release, report, tidy

tidy(workflow)
plan = open_plan(config, checkpoints)
settings, code = plan.settings, plan.code
demands = demands_of(workflow, plan)
needs, together = partial(needs, demands=demands), demands.together


wildcard_constraints:
    **plan.constraints(),


rule all:
    input:
        plan.all(),


include: "rules/simulate.smk"
include: "rules/volumes.smk"
include: "rules/train.smk"
include: "rules/segment.smk"
include: "rules/detect.smk"
include: "rules/targets.smk"


onstart:
    before(workflow, plan)


onsuccess:
    report(plan, "green")
    release()


onerror:
    report(plan, "failed")
    release()
