"""Say of every voxel what it is, and measure what was found.

results/segmented/{task}/{round}/{volume}.h5    class and confidence of every voxel
  {volume}.block-{block}.h5                     one job's share of a huge volume, then removed
results/measured/{task}/{volume}.json           the quantities a scientist publishes
results/evaluated/{task}/scores.csv             per class and volume, with all baselines
results/evaluated/{task}/summary.json           the headline figures
results/evaluated/{task}/confusion.csv          what was taken for what
results/published/{task}/{volume}.labels.*      the labels for other programs (mrc, tif, ome.zarr)
results/published/{task}/{volume}.confidence.*  how sure they are, 255 = certain
"""


rule segment:
    """Segment a whole volume, slab by slab, or gather its blocks."""
    input:
        volume="results/converted/{volume}.h5",
        network="results/trained/{task}/{round}.onnx",
        model="results/trained/{task}/{round}.json",
        blocks=plan.blocks("segment"),
    output:
        segmented="results/segmented/{task}/{round}/{volume}.h5",
    log:
        "logs/segment/{task}/{round}/{volume}.log",
    group:
        together("predict")
    conda:
        "../envs/tomoglean.yaml"
    resources:
        **needs("segment"),
    params:
        settings=settings("segment"),
        code=code("segment"),
    script:
        "../workflow/scripts/segment.py"


rule segment_block:
    """Ask the network about one block's slices along every axis."""
    input:
        volume="results/converted/{volume}.h5",
        network="results/trained/{task}/{round}.onnx",
        model="results/trained/{task}/{round}.json",
    output:
        segmented=temp("results/segmented/{task}/{round}/{volume}.block-{block}.h5"),
    log:
        "logs/segment/{task}/{round}/{volume}.block-{block}.log",
    conda:
        "../envs/tomoglean.yaml"
    resources:
        **needs("segment"),
    params:
        settings=settings("segment"),
        block="{block}",
        code=code("segment"),
    script:
        "../workflow/scripts/segment.py"


rule measure:
    """Measure what was segmented."""
    input:
        segmented="results/segmented/{task}/final/{volume}.h5",
    output:
        measured=report(
            "results/measured/{task}/{volume}.json",
            caption="../workflow/report/measured.rst",
            category="Measurements",
            subcategory="{task}",
            labels={"volume": "{volume}"},
        ),
    log:
        "logs/measure/{task}/{volume}.log",
    group:
        together("predict")
    conda:
        "../envs/tomoglean.yaml"
    resources:
        **needs("measure"),
    params:
        settings=settings("measure"),
        classes=plan.classes,
        code=code("measure"),
    script:
        "../workflow/scripts/measure.py"


rule evaluate:
    """Compare every round and every baseline with the truth."""
    input:
        checked=plan.checked_cases,
        predicted=plan.of_cases("results/segmented/{task}/{round}/{volume}.h5"),
        truth=plan.of_cases("results/converted/{task}/{use}/clean/{volume}.h5"),
        volumes=plan.of_cases("results/converted/{volume}.h5"),
        examples=plan.baseline_examples,
        weak=plan.weak_labels,
    output:
        scores=report(
            "results/evaluated/{task}/scores.csv",
            caption="../workflow/report/scores.rst",
            category="Quality",
            subcategory="{task}",
            labels={"figure": "per class and volume"},
        ),
        summary=report(
            "results/evaluated/{task}/summary.json",
            caption="../workflow/report/summary.rst",
            category="Quality",
            subcategory="{task}",
            labels={"figure": "headline"},
        ),
        confusion=report(
            "results/evaluated/{task}/confusion.csv",
            caption="../workflow/report/confusion.rst",
            category="Quality",
            subcategory="{task}",
            labels={"figure": "confusion matrix"},
        ),
    log:
        "logs/evaluate/{task}.log",
    wildcard_constraints:
        task=plan.any_of("semantic"),
    conda:
        "../envs/tomoglean.yaml"
    resources:
        **needs("evaluate"),
    params:
        settings=settings("evaluate"),
        cases=plan.accepted_cases,
        example_rounds=plan.baseline_rounds,
        classes=plan.classes,
        labels=plan.label_states,
        split=plan.task("split"),
        seed=plan.seed,
        code=code("evaluate"),
    script:
        "../workflow/scripts/evaluate.py"


rule publish_volume:
    """Write labels or confidence for other programs."""
    input:
        segmented="results/segmented/{task}/final/{volume}.h5",
    output:
        published="results/published/{task}/{volume}.{layer}.{form}",
    log:
        "logs/publish/{task}/{volume}.{layer}.{form}.log",
    group:
        together("predict")
    conda:
        "../envs/tomoglean.yaml"
    resources:
        **needs("publish"),
    params:
        layer="{layer}",
        code=code("publish_volume"),
    script:
        "../workflow/scripts/publish_volume.py"


use rule publish_volume as publish_zarr with:
    output:
        published=directory("results/published/{task}/{volume}.{layer}.ome.zarr"),
    log:
        "logs/publish/{task}/{volume}.{layer}.ome.zarr.log",
