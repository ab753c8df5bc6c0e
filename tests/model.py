"""What a study consists of, said once more and independently: jobs and what they read.

Written from the design, not from `tomoglean.plan`: the tests compare the two. A `State`
is all that may be edited; `jobs` lists every job with what it depends on; `changed`
says which of them an edit reaches.
"""

import copy
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

FOLDS = 2


@dataclass
class State:
    """A study that may be edited.

    Attributes
    ----------
    tasks
        Blocks of `tasks:` of the config as written, without defaults.
    volumes
        Tasks by volume.
    labels
        (task, volume, kind, use) of every row of labels.tsv.
    contents
        Version of every raw file, by `volume` or by (task, volume, kind).
    code
        Version of the code of every rule.
    """

    tasks: dict[str, Any]
    volumes: dict[str, list[str]]
    labels: list[tuple[str, str, str, str]]
    contents: dict[Any, int] = field(default_factory=dict)
    code: dict[str, int] = field(default_factory=dict)

    def copy(self) -> "State":
        """Return another that can be edited apart."""
        return copy.deepcopy(self)

    def of(self, task: str) -> list[str]:
        """Volumes of a task."""
        return sorted(v for v, tasks in self.volumes.items() if task in tasks)

    def labelled(self, task: str, use: str, *kinds: str) -> list[str]:
        """Volumes with labels of some kinds for a use."""
        rows = [row for row in self.labels if row[0] == task and row[3] == use]
        return sorted({row[1] for row in rows if not kinds or row[2] in kinds})


@dataclass(frozen=True)
class Job:
    """One job: its rule, the outputs it reads, and all else it depends on."""

    rule: str
    reads: frozenset[str]
    rest: str


def jobs(state: State) -> dict[str, Job]:
    """List every job of a study by its first output."""
    found: dict[str, Job] = {}

    def add(output: str, rule: str, reads: list[str], *rest: Any) -> None:
        told = repr((state.code.get(rule, 0), rest))
        name = f"results/{output}"
        assert name not in found
        found[name] = Job(rule, frozenset(f"results/{read}" for read in reads), told)

    for volume in state.volumes:
        contents = state.contents.get(volume, 0)
        row = (volume, state.volumes[volume])
        add(f"checked/{volume}.json", "check", [], row, contents)
        add(f"converted/{volume}.h5", "convert", [f"checked/{volume}.json"], row)
    for task, volume, kind, use in state.labels:
        rule = "convert_points" if kind == "points" else "convert_labels"
        classes = state.tasks[task].get("classes")
        add(
            label(task, volume, kind, use), rule, [f"converted/{volume}.h5"],
            state.contents.get((task, volume, kind), 0), classes,
        )  # fmt: skip
    for task, block in state.tasks.items():
        of_kind = semantic if block["kind"] == "semantic" else detection
        of_kind(state, task, add)
    return found


def label(task: str, volume: str, kind: str, use: str) -> str:
    """Where converted labels lie."""
    ending = "csv" if kind == "points" else "h5"
    return f"converted/{task}/{use}/{kind}/{volume}.{ending}"


def fold(state: State, task: str, volume: str) -> int:
    """Fold of a weakly labelled volume: its rank by the hash of its id."""
    weak = state.labelled(task, "train", "weak")
    weak.sort(key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    return weak.index(volume) % FOLDS


def control_of(state: State, task: str, round_: str) -> dict[str, Any]:
    """Block of a control round."""
    return state.tasks[task].get("controls", {}).get(round_.removeprefix("control-"), {})


def kinds(state: State, task: str, round_: str, volume: str) -> list[str]:
    """Label kinds that a round learns from, of one volume."""
    have = {
        row[2] for row in state.labels if row[:2] == (task, volume) and row[3] == "train"
    }
    if round_.startswith("weak"):
        return ["weak"] if "weak" in have else []
    wanted = control_of(state, task, round_).get("labels", ["relabelled", "clean"])
    if "weak" in have:
        have = have | {"relabelled"}
    return [kind for kind in wanted if kind in have]


def learn(state: State, task: str, round_: str, examples: list[str], add: Any) -> None:
    """Augment, train and export one round."""
    training = [path for path in examples if "/train/" in path]
    control, block = control_of(state, task, round_), state.tasks[task]
    augmented = []
    for path in training:
        volume = path.rpartition("/")[2]
        augmented.append(f"augmented/{task}/{round_}/{volume}")
        add(augmented[-1], "augment", [path], block.get("augment"), control.get("augment"))
    weights = f"trained/{task}/{round_}.weights.h5"
    settings = (block.get("train"), control.get("train"))
    add(weights, "train", [*examples, *augmented], settings, block.get("classes"))
    add(f"trained/{task}/{round_}.onnx", "export", [weights])


def semantic(state: State, task: str, add: Any) -> None:
    """Say of every voxel what it is."""
    block, volumes = state.tasks[task], state.of(task)
    weak = state.labelled(task, "train", "weak")
    controls = [f"control-{name}" for name in block.get("controls", {})]
    rounds = (["weak", "weak-0", "weak-1"] if weak else []) + ["final", *controls]
    for round_ in rounds:
        examples = []
        for volume in state.labelled(task, "train"):
            out = round_[5:] == str(fold(state, task, volume)) if volume in weak else False
            taken = kinds(state, task, round_, volume)
            if not taken or (round_.startswith("weak-") and out):
                continue
            paths = [
                f"relabelled/{task}/{volume}.h5"
                if kind == "relabelled"
                else label(task, volume, kind, "train")
                for kind in taken
            ]
            examples.append(f"sliced/{task}/{round_}/train/{volume}.h5")
            add(
                examples[-1], "slice", [f"converted/{volume}.h5", *paths],
                block.get("slice"), control_of(state, task, round_).get("slice"),
                block["classes"], paths,
            )  # fmt: skip
        for volume in state.labelled(task, "validate", "clean", "weak"):
            clean = volume in state.labelled(task, "validate", "clean")
            path = label(task, volume, "clean" if clean else "weak", "validate")
            examples.append(f"sliced/{task}/{round_}/validate/{volume}.h5")
            add(
                examples[-1], "slice", [f"converted/{volume}.h5", path],
                block.get("slice"), control_of(state, task, round_).get("slice"),
                block["classes"], path,
            )  # fmt: skip
        learn(state, task, round_, examples, add)

    tested = state.labelled(task, "test", "clean")
    compared = ["final", *controls, *(["weak"] if weak else [])]
    wanted = {("final", v) for v in volumes} | {(r, v) for r in compared for v in tested}
    wanted |= {(f"weak-{fold(state, task, v)}", v) for v in weak}
    for round_, volume in wanted:
        add(
            f"segmented/{task}/{round_}/{volume}.h5", "segment",
            [f"converted/{volume}.h5", f"trained/{task}/{round_}.onnx",
             f"trained/{task}/{round_}.weights.h5"],
            block.get("segment"), control_of(state, task, round_).get("segment"),
        )  # fmt: skip
    both = [v for v in weak if v in state.labelled(task, "train", "clean")]
    for volume in weak:
        add(
            f"relabelled/{task}/{volume}.h5", "relabel",
            [label(task, volume, "weak", "train"),
             *(f"segmented/{task}/weak-{fold(state, task, v)}/{v}.h5"
               for v in sorted({volume, *both})),
             *(label(task, v, "clean", "train") for v in both)],
            block.get("relabel"), block["classes"], both,
        )  # fmt: skip
    for volume in volumes:
        add(
            f"measured/{task}/{volume}.json", "measure",
            [f"segmented/{task}/final/{volume}.h5"], block.get("measure"), block["classes"],
        )  # fmt: skip
    reads = [f"segmented/{task}/{round_}/{v}.h5" for round_ in compared for v in tested]
    for volume in tested:
        reads += [f"checked/{volume}.json", f"converted/{volume}.h5"]
        reads.append(label(task, volume, "clean", "test"))
    reads += [label(task, v, "weak", "test") for v in state.labelled(task, "test", "weak")]
    learnt = [v for v in state.labelled(task, "train") if kinds(state, task, "final", v)]
    reads += [f"sliced/{task}/final/train/{v}.h5" for v in learnt]
    add(
        f"evaluated/{task}/scores.csv", "evaluate", reads,
        block.get("evaluate"), block["classes"], rounds, tested,
    )  # fmt: skip


def detection(state: State, task: str, add: Any) -> None:
    """Find few true complexes among many false ones."""
    block, volumes = state.tasks[task], state.of(task)
    for volume in volumes:
        add(
            f"masked/{task}/{volume}.h5", "mask",
            [f"segmented/{block['membrane']}/final/{volume}.h5"], block.get("mask"),
        )  # fmt: skip
    examples = []
    for use in ("train", "validate"):
        for volume in state.labelled(task, use):
            examples.append(f"sampled/{task}/final/{use}/{volume}.h5")
            add(
                examples[-1], "sample",
                [f"converted/{volume}.h5", f"masked/{task}/{volume}.h5",
                 label(task, volume, "points", use)],
                block.get("sample"),
            )  # fmt: skip
    learn(state, task, "final", examples, add)
    for volume in volumes:
        scores = f"classified/{task}/final/{volume}.h5"
        look = {k: v for k, v in block.get("sample", {}).items() if k in LOOK}
        add(
            scores, "classify",
            [f"converted/{volume}.h5", f"masked/{task}/{volume}.h5",
             f"trained/{task}/final.onnx", f"trained/{task}/final.weights.h5"],
            block.get("classify"), look,
        )  # fmt: skip
        add(
            f"picked/{task}/final/{volume}.csv", "pick",
            [scores, f"masked/{task}/{volume}.h5"], block.get("pick"),
        )  # fmt: skip
    judged = [(use, v) for use in ("validate", "test") for v in state.labelled(task, use)]
    reads = [label(task, v, "points", use) for use, v in judged]
    for _, volume in judged:
        reads += [f"checked/{volume}.json", f"converted/{volume}.h5"]
        reads.append(f"picked/{task}/final/{volume}.csv")
    summary = f"evaluated/{task}/summary.json"
    add(summary, "evaluate_picks", reads, block.get("evaluate"), judged)
    for volume in volumes:
        picks = f"picked/{task}/final/{volume}.csv"
        add(f"published/{task}/{volume}.csv", "publish", [picks, summary])
    everything = [
        pattern.format(task=task, volume=volume)
        for volume in volumes
        for pattern in (
            "checked/{volume}.json", "published/{task}/{volume}.csv",
            "converted/{volume}.h5", "masked/{task}/{volume}.h5",
        )
    ]  # fmt: skip
    add(f"averaged/{task}/average.mrc", "average", everything, block.get("average"))


LOOK = ("thickness_nm", "neighbours")


def after(found: dict[str, Job], seeds: set[str]) -> set[str]:
    """Return some jobs and all that read what they make, at any distance."""
    reached = set(seeds)
    while True:
        more = {name for name, job in found.items() if job.reads & reached} - reached
        if not more:
            return reached
        reached |= more


def changed(old: State, new: State, removed: Iterable[str] = ()) -> set[tuple[str, str]]:
    """Predict the jobs that a change of state, and removed outputs, make necessary."""
    before, now = jobs(old), jobs(new)
    seeds = {name for name, job in now.items() if before.get(name) != job}
    return {
        (now[name].rule, name) for name in after(now, seeds | (set(removed) & now.keys()))
    }
