"""Learn from few and imperfect labels.

results/sliced/{task}/{round}/{use}/{volume}.h5     labelled slices along z, y, x
results/sampled/{task}/{round}/{use}/{volume}.h5    labelled patches (rules/detect.smk)
results/augmented/{task}/{round}/{volume}.h5        the original and its warped copies, as numbers
results/trained/{task}/{round}.weights.h5           the best weights; .last.weights.h5 the last
results/trained/{task}/{round}.json                 what the network is and was trained on
results/trained/{task}/{round}.csv                  the learning curve
results/trained/{task}/{round}.onnx                 the network for inference
results/trained/{task}/{round}.epoch-{epoch}.h5     checkpoint of a training in parts
results/trained/{task}/{round}.running-{key}-0.h5   (and -1) what a training goes on from
results/relabelled/{task}/{volume}.h5               better labels, unsure voxels ignored
"""


rule slice:
    """Cut the labelled slices of a volume."""
    input:
        volume="results/converted/{volume}.h5",
        labels=plan.labels,
    output:
        slices="results/sliced/{task}/{round}/{use}/{volume}.h5",
    log:
        "logs/slice/{task}/{round}/{use}/{volume}.log",
    group:
        together("examples", brief=True)
    conda:
        "../envs/tomoglean.yaml"
    resources:
        **needs("slice"),
    params:
        settings=settings("slice"),
        keep=plan.keep,
        classes=plan.classes,
        code=code("slice"),
    script:
        "../workflow/scripts/slice.py"


rule augment:
    """List the warps that make several examples of one."""
    input:
        examples=plan.example,
    output:
        augmented="results/augmented/{task}/{round}/{volume}.h5",
    log:
        "logs/augment/{task}/{round}/{volume}.log",
    group:
        together("examples", brief=True)
    conda:
        "../envs/tomoglean.yaml"
    resources:
        **needs("augment"),
    params:
        settings=settings("augment"),
        seed=plan.seed,
        code=code("augment"),
    script:
        "../workflow/scripts/augment.py"


rule train_part:
    """Train a network up to an epoch; the next job goes on from there."""
    input:
        previous=plan.previous,
        examples=plan.examples("train"),
        augmented=plan.examples("train", "augmented"),
        validation=plan.examples("validate"),
    output:
        part="results/trained/{task}/{round}.epoch-{epoch}.h5",
    log:
        "logs/train/{task}/{round}.epoch-{epoch}.log",
    conda:
        "../envs/tomoglean.yaml"
    threads: plan.threads
    resources:
        **needs("train"),
        save_minutes=plan.save_minutes,
    params:
        settings=settings("train"),
        start_sha256=plan.start_sha256,
        classes=plan.classes,
        seed=plan.seed,
        code=code("train"),
    script:
        "../workflow/scripts/train.py"


rule train:
    """Train a network of one round, or its last stretch."""
    input:
        previous=plan.previous,
        examples=plan.examples("train"),
        augmented=plan.examples("train", "augmented"),
        validation=plan.examples("validate"),
    output:
        weights="results/trained/{task}/{round}.weights.h5",
        last="results/trained/{task}/{round}.last.weights.h5",
        model=report(
            "results/trained/{task}/{round}.json",
            caption="../workflow/report/network.rst",
            category="Training",
            subcategory="{task}",
            labels={"round": "{round}", "figure": "network"},
        ),
        curve=report(
            "results/trained/{task}/{round}.csv",
            caption="../workflow/report/learning.rst",
            category="Training",
            subcategory="{task}",
            labels={"round": "{round}", "figure": "learning curve"},
        ),
    log:
        "logs/train/{task}/{round}.log",
    conda:
        "../envs/tomoglean.yaml"
    threads: plan.threads
    resources:
        **needs("train"),
        save_minutes=plan.save_minutes,
    params:
        settings=settings("train"),
        start_sha256=plan.start_sha256,
        classes=plan.classes,
        seed=plan.seed,
        code=code("train"),
    script:
        "../workflow/scripts/train.py"


rule export:
    """Export a network for inference without TensorFlow."""
    input:
        weights="results/trained/{task}/{round}.weights.h5",
        model="results/trained/{task}/{round}.json",
    output:
        network="results/trained/{task}/{round}.onnx",
    log:
        "logs/export/{task}/{round}.log",
    conda:
        "../envs/tomoglean.yaml"
    resources:
        **needs("export"),
    params:
        code=code("export"),
    script:
        "../workflow/scripts/export.py"


rule relabel:
    """Improve weak labels by nets that never saw them."""
    input:
        weak="results/converted/{task}/train/weak/{volume}.h5",
        predicted=plan.out_of_fold,
        calibration_predicted=plan.calibration_predicted,
        calibration_corrected=plan.calibration_corrected,
    output:
        labels="results/relabelled/{task}/{volume}.h5",
    log:
        "logs/relabel/{task}/{volume}.log",
    conda:
        "../envs/tomoglean.yaml"
    resources:
        **needs("relabel"),
    params:
        settings=settings("relabel"),
        classes=plan.classes,
        code=code("relabel"),
    script:
        "../workflow/scripts/relabel.py"
