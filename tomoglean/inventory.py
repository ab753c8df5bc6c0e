"""Everything there is to want of a study: each artefact of each stage of a task."""

from typing import Any

from tomoglean.formats.stored import LAYERS

VOLUMES_AS = {"mrc": "mrc", "tiff": "tif", "ome-zarr": "ome.zarr"}
PUBLISHED = {"star": "star", "dynamo": "tbl", "imod": "mod", "em": "em", "copick": "json"}


def of(plan: Any, task: str) -> dict[str, list[str]]:
    """Paths below results/ of every artefact of a task, by stage, in the way of the data.

    Parameters
    ----------
    plan
        The study's plan.
    task
        Name of the task.
    """
    volumes = plan.study.volumes_of(task)
    wanted = {
        "check": [f"checked/{v}.json" for v in volumes],
        "convert": [f"converted/{v}.h5" for v in volumes] + _labels_wanted(plan, task),
    }
    own = (
        _semantic_wanted(plan, task)
        if plan.semantic(task)
        else _detection_wanted(plan, task)
    )
    return {**wanted, **(own if volumes else {})}


def _labels_wanted(plan: Any, task: str) -> list[str]:
    ending = {"points": "csv"}
    return [
        f"converted/{task}/{row['use']}/{row['kind']}/{row['volume']}"
        f".{ending.get(row['kind'], 'h5')}"
        for row in plan.study.label_rows(task)
    ]


def _training_wanted(plan: Any, task: str, folder: str) -> dict[str, list[str]]:
    rounds = plan.study.rounds(task) if plan.study.labelled(task, use="train") else []
    by_use = [(r, use, v) for r in rounds for use in ("train", "validate")
              for v in plan.study.examples(task, r, use)]  # fmt: skip
    endings = ("weights.h5", "last.weights.h5", "json", "csv")
    return {
        folder: [f"{folder}/{task}/{r}/{use}/{v}.h5" for r, use, v in by_use],
        "augment": [
            f"augmented/{task}/{r}/{v}.h5" for r, use, v in by_use if use == "train"
        ],
        "train": [
            f"trained/{task}/{r}.{ending}"
            for r in rounds
            for ending in (*_endings_of_parts(plan, task, r), *endings)
        ],
        "export": [f"trained/{task}/{r}.onnx" for r in rounds],
    }


def _endings_of_parts(plan: Any, task: str, round_: str) -> list[str]:
    return [f"epoch-{epoch}.h5" for epoch in plan.parts(task, round_)]


def _semantic_wanted(plan: Any, task: str) -> dict[str, list[str]]:
    wanted = _training_wanted(plan, task, "sliced")
    if not wanted["train"]:
        return {}
    weak = plan.study.labelled(task, use="train", kind="weak")
    volumes = plan.study.volumes_of(task)
    segmented = [f"segmented/{task}/final/{v}.h5" for v in volumes]
    segmented += [f"segmented/{task}/weak-{plan.study.fold(task, v)}/{v}.h5" for v in weak]
    segmented += [
        f"segmented/{task}/{c['round']}/{c['volume']}.h5" for c in plan.cases(task)
    ]
    return {
        "slice": wanted.pop("sliced"),
        **wanted,
        "segment": sorted(set(segmented)),
        "relabel": [f"relabelled/{task}/{v}.h5" for v in weak],
        "measure": [f"measured/{task}/{v}.json" for v in volumes],
        "evaluate": [f"evaluated/{task}/{name}" for name in
                     ("scores.csv", "summary.json", "confusion.csv")],
        "publish": _published(plan, task, volumes),
    }  # fmt: skip


def _published(plan: Any, task: str, volumes: list[str]) -> list[str]:
    forms = [VOLUMES_AS[name] for name in plan.study.tasks[task]["publish"]["formats"]]
    return [
        f"published/{task}/{volume}.{layer}.{form}"
        for volume in volumes for layer in LAYERS for form in forms
    ]  # fmt: skip


def _detection_wanted(plan: Any, task: str) -> dict[str, list[str]]:
    wanted = _training_wanted(plan, task, "sampled")
    if not wanted["train"]:
        return {}
    volumes = plan.study.volumes_of(task)
    searched = {("final", v) for v in volumes}
    searched |= {(case["round"], case["volume"]) for case in plan.cases(task)}
    return {
        "sample": wanted.pop("sampled"),
        **wanted,
        "mask": [f"masked/{task}/{v}.h5" for v in volumes],
        "classify": [f"classified/{task}/{r}/{v}.h5" for r, v in sorted(searched)],
        "pick": [f"picked/{task}/{r}/{v}.csv" for r, v in sorted(searched)],
        "evaluate": [f"evaluated/{task}/{name}" for name in
                     ("summary.json", "matches.csv", "curve.csv")],
        "publish": [f"published/{task}/{v}.{e}" for v in volumes
                    for e in ("csv", *_endings(plan, task, v))],
        "average": [f"averaged/{task}/{name}" for name in
                    ("average.mrc", "half1.mrc", "half2.mrc", "control.mrc", "fsc.csv",
                     "summary.json")],
    }  # fmt: skip


def _endings(plan: Any, task: str, volume: str) -> list[str]:
    """Endings of the foreign files that a volume's picks are published in.

    RELION counts from the middle of the unbinned volume, so a volume whose row does
    not know it goes without.
    """
    wanted = plan.study.tasks[task]["publish"]["formats"]
    if not plan.study.row(volume)["bin1_shape"]:
        wanted = [form for form in wanted if form != "star"]
    return [PUBLISHED[form] for form in wanted]
