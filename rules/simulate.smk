"""Make phantoms with exact truth, as input of demo, tests and benchmarks.

results/simulated/implant/{volume}.tif      a simulated implant scan and, beside it,
  .truth.tif .weak.tif .corrected.tif       its exact, weak and corrected labels,
  .codes.csv                                what their values mean,
  .quantities.csv .json                     the quantities known from the model
results/simulated/minicell/{volume}.mrc     a simulated tomogram and, beside it,
  .labels.mrc .codes.csv .membranes.mrc     everything it holds; both membranes as one class,
  .distances.h5                             signed distances to the membranes,
  .points.csv .star .picks.csv              exact points, machines alone, imperfect picks,
  .json                                     the quantities known from the model
"""


rule simulate_implant:
    """Simulate the scan of a degrading implant in bone."""
    output:
        volume="results/simulated/implant/{volume}.tif",
        truth="results/simulated/implant/{volume}.truth.tif",
        weak="results/simulated/implant/{volume}.weak.tif",
        corrected="results/simulated/implant/{volume}.corrected.tif",
        codes="results/simulated/implant/{volume}.codes.csv",
        quantities="results/simulated/implant/{volume}.quantities.csv",
        facts="results/simulated/implant/{volume}.json",
    log:
        "logs/simulate/{volume}.log",
    wildcard_constraints:
        volume=plan.simulated_by("implant"),
    conda:
        "../envs/tomoglean.yaml"
    resources:
        **{**needs("simulate"), "mem_mb": plan.memory_to_simulate},
    params:
        settings=plan.simulation,
        seed=plan.seed,
        name="{volume}",
        code=code("simulate_implant"),
    script:
        "../workflow/scripts/simulate_implant.py"


rule simulate_minicell:
    """Simulate the tomogram of a bacterial minicell."""
    output:
        volume="results/simulated/minicell/{volume}.mrc",
        labels="results/simulated/minicell/{volume}.labels.mrc",
        membranes="results/simulated/minicell/{volume}.membranes.mrc",
        distances="results/simulated/minicell/{volume}.distances.h5",
        codes="results/simulated/minicell/{volume}.codes.csv",
        points="results/simulated/minicell/{volume}.points.csv",
        picks="results/simulated/minicell/{volume}.picks.csv",
        star="results/simulated/minicell/{volume}.star",
        facts="results/simulated/minicell/{volume}.json",
    log:
        "logs/simulate/{volume}.log",
    wildcard_constraints:
        volume=plan.simulated_by("minicell"),
    conda:
        "../envs/tomoglean.yaml"
    resources:
        **{**needs("simulate"), "mem_mb": plan.memory_to_simulate},
    params:
        settings=plan.simulation,
        seed=plan.seed,
        name="{volume}",
        map_sha256=plan.map_sha256,
        code=code("simulate_minicell"),
    script:
        "../workflow/scripts/simulate_minicell.py"
