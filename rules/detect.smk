"""Find few true complexes among many false ones.

results/masked/{task}/{volume}.h5                   where to search; distance to the membrane, normals
results/sampled/{task}/{round}/{use}/{volume}.h5    labelled patches
results/classified/{task}/{round}/{volume}.h5       how likely a complex is centred here
  {volume}.block-{block}.h5                         one job's share of a huge volume, then removed
results/picked/{task}/{round}/{volume}.csv          one line a candidate, best first
results/evaluated/{task}/summary.json               precision, recall, threshold (validation volumes only)
results/evaluated/{task}/matches.csv                every TP, FP and FN
results/evaluated/{task}/curve.csv                  precision and recall over the threshold
results/published/{task}/{volume}.csv               candidates above the threshold
results/published/{task}/{volume}.{ending}          the same for RELION, Dynamo .. on the raw grid
results/averaged/{task}/                            average, half maps, FSC, control
"""


rule mask:
    """Find where the membrane is and which way is out."""
    input:
        segmented=plan.membrane,
    output:
        masked="results/masked/{task}/{volume}.h5",
    log:
        "logs/mask/{task}/{volume}.log",
    conda:
        "../envs/tomoglean.yaml"
    resources:
        **needs("mask"),
    params:
        settings=settings("mask"),
        code=code("mask"),
    script:
        "../workflow/scripts/mask.py"


rule sample:
    """Cut labelled patches from within the mask."""
    input:
        volume="results/converted/{volume}.h5",
        mask="results/masked/{task}/{volume}.h5",
        points="results/converted/{task}/{use}/points/{volume}.csv",
    output:
        samples="results/sampled/{task}/{round}/{use}/{volume}.h5",
    log:
        "logs/sample/{task}/{round}/{use}/{volume}.log",
    group:
        together("examples", brief=True)
    conda:
        "../envs/tomoglean.yaml"
    resources:
        **needs("sample"),
    params:
        settings=settings("sample"),
        target=plan.target,
        seed=plan.seed,
        code=code("sample"),
    script:
        "../workflow/scripts/sample.py"


rule classify:
    """Classify the patch around every voxel of the mask, or gather its blocks."""
    input:
        volume="results/converted/{volume}.h5",
        mask="results/masked/{task}/{volume}.h5",
        network="results/trained/{task}/{round}.onnx",
        model="results/trained/{task}/{round}.json",
        blocks=plan.blocks("classify"),
    output:
        scores="results/classified/{task}/{round}/{volume}.h5",
    log:
        "logs/classify/{task}/{round}/{volume}.log",
    group:
        together("search")
    conda:
        "../envs/tomoglean.yaml"
    resources:
        **needs("classify"),
    params:
        settings=settings("classify"),
        look=plan.look,
        code=code("classify"),
    script:
        "../workflow/scripts/classify.py"


rule classify_block:
    """Classify one block's slices along z."""
    input:
        volume="results/converted/{volume}.h5",
        mask="results/masked/{task}/{volume}.h5",
        network="results/trained/{task}/{round}.onnx",
        model="results/trained/{task}/{round}.json",
    output:
        scores=temp("results/classified/{task}/{round}/{volume}.block-{block}.h5"),
    log:
        "logs/classify/{task}/{round}/{volume}.block-{block}.log",
    conda:
        "../envs/tomoglean.yaml"
    resources:
        **needs("classify"),
    params:
        settings=settings("classify"),
        look=plan.look,
        block="{block}",
        code=code("classify"),
    script:
        "../workflow/scripts/classify.py"


rule pick:
    """Keep the score maxima that stand far enough apart."""
    input:
        scores="results/classified/{task}/{round}/{volume}.h5",
        mask="results/masked/{task}/{volume}.h5",
    output:
        picks="results/picked/{task}/{round}/{volume}.csv",
    log:
        "logs/pick/{task}/{round}/{volume}.log",
    group:
        together("search")
    conda:
        "../envs/tomoglean.yaml"
    resources:
        **needs("pick"),
    params:
        settings=settings("pick"),
        code=code("pick"),
    script:
        "../workflow/scripts/pick.py"


rule evaluate_picks:
    """Match candidates with truth, one to one."""
    input:
        checked=plan.checked_cases,
        picks=plan.of_cases("results/picked/{task}/{round}/{volume}.csv"),
        truth=plan.of_cases("results/converted/{task}/{use}/points/{volume}.csv"),
        volumes=plan.of_cases("results/converted/{volume}.h5"),
    output:
        summary=report(
            "results/evaluated/{task}/summary.json",
            caption="../workflow/report/summary_picks.rst",
            category="Quality",
            subcategory="{task}",
            labels={"figure": "headline"},
        ),
        matches=report(
            "results/evaluated/{task}/matches.csv",
            caption="../workflow/report/matches.rst",
            category="Quality",
            subcategory="{task}",
            labels={"figure": "every TP, FP and FN"},
        ),
        curve=report(
            "results/evaluated/{task}/curve.csv",
            caption="../workflow/report/curve.rst",
            category="Quality",
            subcategory="{task}",
            labels={"figure": "precision and recall"},
        ),
    log:
        "logs/evaluate/{task}.log",
    wildcard_constraints:
        task=plan.any_of("detection"),
    localrule: True
    conda:
        "../envs/tomoglean.yaml"
    resources:
        **needs("evaluate"),
    params:
        settings=settings("evaluate"),
        target=plan.target,
        cases=plan.accepted_cases,
        seed=plan.seed,
        code=code("evaluate_picks"),
    script:
        "../workflow/scripts/evaluate_picks.py"


rule publish:
    """Write the candidates above the working threshold."""
    input:
        picks="results/picked/{task}/final/{volume}.csv",
        summary="results/evaluated/{task}/summary.json",
    output:
        picks=report(
            "results/published/{task}/{volume}.csv",
            caption="../workflow/report/candidates.rst",
            category="Candidates",
            subcategory="{task}",
            labels={"volume": "{volume}"},
        ),
    log:
        "logs/publish/{task}/{volume}.log",
    localrule: True
    conda:
        "../envs/tomoglean.yaml"
    resources:
        **needs("publish"),
    params:
        code=code("publish"),
    script:
        "../workflow/scripts/publish.py"


rule publish_as:
    """Write the candidates for another program."""
    input:
        picks="results/published/{task}/{volume}.csv",
        volume="results/converted/{volume}.h5",
    output:
        published="results/published/{task}/{volume}.{ending}",
    log:
        "logs/publish/{task}/{volume}.{ending}.log",
    localrule: True
    conda:
        "../envs/tomoglean.yaml"
    resources:
        **needs("publish"),
    params:
        unbinned=plan.unbinned,
        code=code("publish_as"),
    script:
        "../workflow/scripts/publish_as.py"


rule average:
    """Average the candidates, their halves and a control."""
    input:
        checked=plan.checked_volumes,
        picks=plan.of_picked("results/published/{task}/{volume}.csv"),
        volumes=plan.of_picked("results/converted/{volume}.h5"),
        masks=plan.of_picked("results/masked/{task}/{volume}.h5"),
    output:
        average="results/averaged/{task}/average.mrc",
        half1="results/averaged/{task}/half1.mrc",
        half2="results/averaged/{task}/half2.mrc",
        control="results/averaged/{task}/control.mrc",
        fsc=report(
            "results/averaged/{task}/fsc.csv",
            caption="../workflow/report/fsc.rst",
            category="Average",
            subcategory="{task}",
            labels={"figure": "Fourier shell correlation"},
        ),
        summary=report(
            "results/averaged/{task}/summary.json",
            caption="../workflow/report/average.rst",
            category="Average",
            subcategory="{task}",
            labels={"figure": "headline"},
        ),
    log:
        "logs/average/{task}.log",
    conda:
        "../envs/tomoglean.yaml"
    resources:
        **needs("average"),
    params:
        settings=settings("average"),
        seed=plan.seed,
        code=code("average"),
    script:
        "../workflow/scripts/average.py"
