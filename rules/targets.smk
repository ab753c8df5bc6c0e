"""Targets by task and stage: `snakemake bone_segment` makes just that.

The rules here make nothing themselves; each asks for the artefacts of one stage.
"""


report: "../workflow/report/study.rst"


for task in plan.study.tasks:
    for stage in plan.stages(task):

        rule:
            name:
                f"{task}_{stage}"
            input:
                plan.everything(task, stage),
