"""Bring in what scientists have, and keep out what is broken.

results/checked/{volume}.json                            what a raw volume is; ok, warning or refused
results/checked/{task}/{use}/{kind}/{volume}.json        what its labels or points hold; ok or warning
results/converted/{volume}.h5                            the volume (Z, Y, X), chunked and checksummed
results/converted/{task}/{use}/{kind}/{volume}.h5        its labels, 255 where nobody said anything
results/converted/{task}/{use}/points/{volume}.csv       its points in voxels
"""


checkpoint check:
    """Open and measure a raw volume before any hour is spent on it."""
    input:
        raw=plan.raw,
    output:
        checked=report(
            "results/checked/{volume}.json",
            caption="../workflow/report/checked.rst",
            category="Data",
            labels={"volume": "{volume}"},
        ),
    log:
        "logs/check/{volume}.log",
    conda:
        "../envs/tomoglean.yaml"
    resources:
        **needs("check"),
    params:
        row=plan.row,
        sha256=plan.sha256,
        code=code("check"),
    script:
        "../workflow/scripts/check.py"


rule convert:
    """Convert a raw volume slab by slab."""
    input:
        checked="results/checked/{volume}.json",
        raw=plan.raw,
    output:
        converted="results/converted/{volume}.h5",
    log:
        "logs/convert/{volume}.log",
    conda:
        "../envs/tomoglean.yaml"
    resources:
        **needs("convert"),
    params:
        row=plan.row,
        code=code("convert"),
    script:
        "../workflow/scripts/convert.py"


rule convert_labels:
    """Convert the labels of a volume; what no row speaks of stays unlabelled."""
    input:
        volume="results/converted/{volume}.h5",
        raw=plan.raw_labels,
    output:
        labels="results/converted/{task}/{use}/{kind}/{volume}.h5",
        checked=report(
            "results/checked/{task}/{use}/{kind}/{volume}.json",
            caption="../workflow/report/labels.rst",
            category="Labels",
            subcategory="{task}",
            labels={"volume": "{volume}", "use": "{use}", "kind": "{kind}"},
        ),
    log:
        "logs/convert/{task}/{use}/{kind}/{volume}.log",
    conda:
        "../envs/tomoglean.yaml"
    resources:
        **needs("convert"),
    params:
        rows=plan.rows,
        sha256=plan.sha256_labels,
        classes=plan.classes,
        colours=plan.task("colours"),
        code=code("convert_labels"),
    script:
        "../workflow/scripts/convert_labels.py"


rule convert_points:
    """Convert the points of a volume to voxels."""
    input:
        volume="results/converted/{volume}.h5",
        raw=plan.raw_labels,
    output:
        points="results/converted/{task}/{use}/points/{volume}.csv",
        checked=report(
            "results/checked/{task}/{use}/points/{volume}.json",
            caption="../workflow/report/labels.rst",
            category="Labels",
            subcategory="{task}",
            labels={"volume": "{volume}", "use": "{use}", "kind": "points"},
        ),
    log:
        "logs/convert/{task}/{use}/points/{volume}.log",
    retries: 0
    conda:
        "../envs/tomoglean.yaml"
    resources:
        **needs("convert"),
    params:
        rows=plan.rows,
        sha256=plan.sha256_labels,
        unbinned=plan.unbinned,
        code=code("convert_points"),
    script:
        "../workflow/scripts/convert_points.py"
