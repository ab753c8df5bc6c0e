"""From raw volumes to answers: `snakemake`, or `snakemake --profile slurm`."""

from tomoglean.stage import before, crate, open_plan, release, resources, show, tidy

tidy(workflow)
plan = open_plan(config, checkpoints, look=workflow.is_main_process)
settings, code = plan.settings, plan.code
needs, together = resources(workflow, plan)


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
    show(plan, "green")
    crate(plan)
    release()


onerror:
    show(plan, "failed")
    crate(plan)
    release()
