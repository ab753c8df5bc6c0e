"""Plan a study: what every rule carries, and who feeds whom.

Written for Snakemake's input and parameter functions (they get wildcards), but without
Snakemake: what needs a checkpoint is handed in.
"""

import math
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from tomoglean import (
    blocks,
    costs,
    formats,
    inventory,
    networks,
    parts,
    provenance,
    rawfiles,
    steps,
    tables,
)
from tomoglean.codebook import remembered
from tomoglean.config import counted, ordered
from tomoglean.formats.stored import LAYERS
from tomoglean.study import Study

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "workflow" / "scripts"
ID = "[A-Za-z0-9][A-Za-z0-9_-]{0,63}"


class Plan:
    """What the rules ask: settings, code, resources, and who feeds whom."""

    def __init__(self, study: Study, checkpoints: Any = None) -> None:
        self.study = study
        self.checkpoints = checkpoints

    def constraints(self) -> dict[str, str]:
        """Patterns of the wildcards."""
        return {
            "task": ID,
            "volume": ID,
            "epoch": "[1-9][0-9]*",
            "round": rf"weak(-\d+)?|final(-\d+)?|control-{ID}",
            "use": "train|validate|test",
            "kind": "weak|clean|truth",
            "layer": "|".join(LAYERS),
            "form": "mrc|tif",
            "ending": "|".join(inventory.PUBLISHED.values()),
            "block": r"\d+-of-\d+",
        }

    def any_of(self, kind: str) -> str:
        """Pattern of the names of all tasks of a kind."""
        return "|".join(self.study.of_kind(kind)) or "(?!)"

    # -- what every rule carries -----------------------------------------------------

    def settings(self, stage: str) -> Callable[[Any], dict[str, Any]]:
        """Hand over `tasks.<task>.<stage>` (of the round's control) and nothing else."""

        def of(wildcards: Any) -> dict[str, Any]:
            round_ = getattr(wildcards, "round", "")
            block = self._block(stage, wildcards.task, round_)
            return self._counted(stage, wildcards.task, block)

        return of

    def _block(self, stage: str, task: str, round_: str) -> dict[str, Any]:
        control = self.study.control(task, round_).get(stage, {})
        block: dict[str, Any] = ordered({**self.study.tasks[task][stage], **control})
        return block

    def _counted(self, stage: str, task: str, block: Any) -> dict[str, Any]:
        return counted(block, stage, self.study.tasks[task]["kind"])

    def save_minutes(self, wildcards: Any) -> str:
        """Minutes between two saves of a training; they change nothing in its results."""
        return str(self._block("train", wildcards.task, wildcards.round)["save_minutes"])

    def parts(self, task: str, round_: str) -> list[int]:
        """Epochs at which a training passes from one job to the next."""
        settings = self._block("train", task, round_)
        today, every = self._counted("train", task, settings), settings["epochs_per_job"]
        return parts.chain(task, round_, today, every, self.study.root)

    def previous(self, wildcards: Any) -> list[str]:
        """Checkpoint that a job of a training goes on from, if there is one."""
        task, round_ = wildcards.task, wildcards.round
        here = getattr(wildcards, "epoch", None)
        epoch = parts.previous(self.parts(task, round_), here)
        return [parts.path(task, round_, epoch)] if epoch else []

    def code(self, stage: str) -> Callable[[Any], str]:
        """Fingerprint the code a stage reaches, with what its settings choose."""

        def of(wildcards: Any) -> str:
            uses = self._chosen(stage, wildcards)
            return _fingerprint(stage, uses)

        return of

    def _chosen(self, stage: str, wildcards: Any) -> tuple[str, ...]:
        if stage in ("train", "export"):
            return (networks.NETWORKS[self.settings("train")(wildcards)["network"]],)
        if stage in ("check", "convert"):
            return rawfiles.readers([self.row(wildcards)])
        if stage == "convert_labels":
            return rawfiles.readers(self.rows(wildcards))
        if stage == "publish_volume":
            form = getattr(wildcards, "form", inventory.VOLUMES_AS["ome-zarr"])
            return (formats.writer_of(f"volume.{form}").__name__,)
        if stage == "convert_points":
            return rawfiles.particle_readers(row["path"] for row in self.rows(wildcards))
        if stage == "simulate_minicell":
            return rawfiles.readers([{"path": path} for path in self._map(wildcards)])
        if stage == "publish_as":
            return rawfiles.particle_readers([f".{wildcards.ending}"])
        return ()

    def task(self, key: str) -> Callable[[Any], Any]:
        """Hand over one plain key of a task, such as its classes."""
        return lambda wildcards: ordered(self.study.tasks[wildcards.task].get(key))

    def classes(self, wildcards: Any) -> list[str]:
        """Class names of a task."""
        block = self.study.tasks[wildcards.task]
        classes: list[str] = block.get("classes", [])
        return classes

    def target(self, wildcards: Any) -> list[str]:
        """Classes of points that count as the complex of a detection task."""
        target: list[str] = self.study.tasks[wildcards.task]["target"]
        return target or [wildcards.task]

    def threads(self, wildcards: Any) -> int:
        """Threads that a training runs; they change its bits, so they are a setting."""
        return int(self.settings("train")(wildcards)["threads"] or 1)

    def start_sha256(self, wildcards: Any) -> str | None:
        """Hash of the older weights that a training starts from."""
        path = self.settings("train")(wildcards)["start_from"]
        return rawfiles.sha256(path) if path else None

    def look(self, wildcards: Any) -> dict[str, Any]:
        """What a detection task looks at: thickness and neighbours of its slices."""
        sample = self.study.tasks[wildcards.task]["sample"]
        return {name: sample[name] for name in ("thickness_nm", "neighbours")}

    def blocks(self, stage: str) -> Callable[[Any], list[str]]:
        """Blocks that other jobs make of a huge volume; none of an ordinary one."""
        return lambda wildcards: blocks.of(self, stage, wildcards)

    def voxels(self, wildcards: Any) -> int | None:
        """Voxels of a checked volume after the steps of its row; None if refused."""
        facts = provenance.read_json(
            self.checkpoints.check.get(volume=wildcards.volume).output.checked
        )
        return steps.voxels(self.row(wildcards), facts.get("shape"))

    @property
    def seed(self) -> int:
        """Seed of the study."""
        return int(self.study.config["seed"])

    # -- raw files -------------------------------------------------------------------

    def row(self, wildcards: Any) -> dict[str, str]:
        """Row of volumes.tsv of a job's volume."""
        return self.study.row(wildcards.volume)

    def unbinned(self, wildcards: Any) -> dict[str, str]:
        """Cells of a job's volume that say how it was binned."""
        row = self.row(wildcards)
        return {name: row[name] for name in ("bin1_shape", "bin1_pixel_nm", "binning")}

    def rows(self, wildcards: Any) -> list[dict[str, str]]:
        """Rows of labels.tsv of a job's task, volume, use and kind."""
        kind = getattr(wildcards, "kind", "points")
        return self.study.label_rows(
            wildcards.task, volume=wildcards.volume, use=wildcards.use, kind=kind
        )

    def raw(self, wildcards: Any) -> list[str]:
        """File a volume comes from, where it is one file.

        One that has gone is named too: nothing is made of it again, and what was stays.
        """
        path = self.row(wildcards)["path"]
        if wildcards.volume in self.study.arrived.gone:
            return [str(tables.locate(path))]
        return rawfiles.files([path])

    def raw_labels(self, wildcards: Any) -> list[str]:
        """Files labels come from, where they are single files."""
        return rawfiles.files(row["path"] for row in self.rows(wildcards))

    def sha256(self, wildcards: Any) -> str | None:
        """Hash of a volume's raw bytes; None while it is still to be simulated."""
        row = self.row(wildcards)
        if wildcards.volume in self.study.arrived.gone:
            return rawfiles.known_sha256(row["path"])
        return rawfiles.sha256(row["path"], row)

    def sha256_labels(self, wildcards: Any) -> list[str | None]:
        """Hash of the bytes of a label's files."""
        return [rawfiles.sha256(row["path"], row) for row in self.rows(wildcards)]

    def simulation(self, wildcards: Any) -> dict[str, Any]:
        """Settings of a simulated volume."""
        group = self.study.simulated()[wildcards.volume]
        settings: dict[str, Any] = ordered(group["settings"])
        return settings

    def _map(self, wildcards: Any) -> list[str]:
        """File of a density map that a simulated volume takes its machines from."""
        machines = self.simulation(wildcards).get("machines", {})
        path = machines.get("map") if machines.get("kind") == "map" else None
        return [path] if path and Path(path).is_file() else []

    def map_sha256(self, wildcards: Any) -> list[str | None]:
        """Hash of the density map that a simulation reads, where it reads one."""
        return [rawfiles.sha256(path) for path in self._map(wildcards)]

    def memory_to_simulate(self, wildcards: Any, attempt: int) -> int:
        """Memory in MB that simulating a volume needs: so much for every voxel."""
        shape = self.simulation(wildcards)["field"]["shape_px"]
        return costs.of("simulate").memory_mb(math.prod(shape) / 1e6, attempt)

    def simulated_by(self, simulator: str) -> str:
        """Pattern of the ids that a simulator makes."""
        groups = self.study.config["simulate"].values()
        names = [group["volumes"] for group in groups if group["simulator"] == simulator]
        return "|".join(sorted({name for part in names for name in part})) or "(?!)"

    # -- who feeds whom --------------------------------------------------------------

    def labels(self, wildcards: Any) -> list[str]:
        """Label volumes of a round, later ones lie over earlier ones."""
        task, volume = wildcards.task, wildcards.volume
        if self.study.tasks[task].get("cross_validation") and wildcards.use == "validate":
            use = "train"
        else:
            use = wildcards.use
        kinds = self.study.kinds(task, wildcards.round, volume, use)
        converted = f"results/converted/{task}/{use}/{{}}/{volume}.h5"
        relabelled = f"results/relabelled/{task}/{volume}.h5"
        return [
            relabelled if kind == "relabelled" else converted.format(kind) for kind in kinds
        ]

    def keep(self, wildcards: Any) -> list[int] | None:
        """Slices a cross-validation fold keeps."""
        return self.study.keep(wildcards.task, wildcards.round, wildcards.use)

    def examples(self, use: str, folder: str = "") -> Callable[[Any], list[str]]:
        """Examples files of a round, by use."""

        def of(wildcards: Any) -> list[str]:
            task, round_ = wildcards.task, getattr(wildcards, "round", "final")
            stage = folder or ("sliced" if self.semantic(task) else "sampled")
            level = "" if folder else f"{use}/"
            volumes = self.study.examples(task, round_, use)
            return [f"results/{stage}/{task}/{round_}/{level}{v}.h5" for v in volumes]

        return of

    def example(self, wildcards: Any) -> str:
        """Return the training examples file that an augmentation list is for."""
        stage = "sliced" if self.semantic(wildcards.task) else "sampled"
        folder = f"results/{stage}/{wildcards.task}/{wildcards.round}/train"
        return f"{folder}/{wildcards.volume}.h5"

    def out_of_fold(self, wildcards: Any) -> str:
        """Prediction of a volume by the net that never saw its weak labels."""
        return self._out_of_fold(wildcards.task, wildcards.volume)

    def _out_of_fold(self, task: str, volume: str) -> str:
        fold = self.study.fold(task, volume)
        return f"results/segmented/{task}/weak-{fold}/{volume}.h5"

    def _corrected(self, task: str, volumes: list[str]) -> list[str]:
        have = set(self.study.labelled(task, use="train", kind="clean"))
        return [
            f"results/converted/{task}/train/clean/{v}.h5" for v in volumes if v in have
        ]

    def _calibrating(self, task: str) -> list[str]:
        weak = self.study.labelled(task, use="train", kind="weak")
        return sorted(set(weak) & set(self.study.labelled(task, use="train", kind="clean")))

    def calibration_predicted(self, wildcards: Any) -> list[str]:
        """Out-of-fold predictions of all volumes that have corrected slices."""
        task = wildcards.task
        return [self._out_of_fold(task, v) for v in self._calibrating(task)]

    def calibration_corrected(self, wildcards: Any) -> list[str]:
        """Corrected slices, in the order of `calibration_predicted`."""
        return self._corrected(wildcards.task, self._calibrating(wildcards.task))

    def membrane(self, wildcards: Any) -> str:
        """Segmentation a detection task searches in."""
        other = self.study.tasks[wildcards.task]["membrane"]
        return f"results/segmented/{other}/final/{wildcards.volume}.h5"

    # -- tables over volumes: they go on without refused ones ------------------------

    def accepted(self, volumes: Iterable[str]) -> list[str]:
        """Volumes that the check stage has not refused."""
        kept = []
        for volume in volumes:
            checked = Path(self.checkpoints.check.get(volume=volume).output.checked)
            if provenance.read_json(checked)["verdict"] != "refused":
                kept.append(volume)
        return kept

    def cases(self, task: str) -> list[dict[str, Any]]:
        """What a task's tables compare: round, use, volume and the slices that count."""
        if self.study.tasks[task].get("cross_validation"):
            rounds = [r for r in self.study.rounds(task) if r.startswith("final-")]
            return [
                {"round": r, "use": "test", "volume": v,
                 "slices": self.study.keep(task, r, "test")}
                for r in rounds for v in self.study.labelled(task, use="train")
            ]  # fmt: skip
        uses = ("test",) if self.semantic(task) else ("validate", "test")
        rounds = ["final", *(f"control-{c}" for c in self.study.tasks[task]["controls"])]
        rounds += ["weak"] if self.study.has_weak(task) else []
        return [
            {"round": r, "use": use, "volume": v, "slices": None}
            for r in rounds for use in uses for v in self._truly_labelled(task, use)
        ]  # fmt: skip

    def _truly_labelled(self, task: str, use: str) -> list[str]:
        kind = "clean" if self.semantic(task) else "points"
        return self.study.labelled(task, use=use, kind=kind)

    def accepted_cases(self, wildcards: Any) -> list[dict[str, Any]]:
        """Cases of volumes that were not refused."""
        cases = self.cases(wildcards.task)
        kept = set(self.accepted(sorted({case["volume"] for case in cases})))
        return [case for case in cases if case["volume"] in kept]

    def checked_cases(self, wildcards: Any) -> list[str]:
        """Checks of the volumes that a task's tables compare."""
        volumes = sorted({case["volume"] for case in self.cases(wildcards.task)})
        return [f"results/checked/{volume}.json" for volume in volumes]

    def checked_volumes(self, wildcards: Any) -> list[str]:
        """Checks of all volumes of a task."""
        volumes = self.study.volumes_of(wildcards.task)
        return [f"results/checked/{volume}.json" for volume in volumes]

    def of_cases(self, pattern: str) -> Callable[[Any], list[str]]:
        """One file per case, in the order of the cases."""

        def of(wildcards: Any) -> list[str]:
            crossed = self.study.tasks[wildcards.task].get("cross_validation")
            return [
                pattern.format(
                    task=wildcards.task,
                    round=case["round"],
                    volume=case["volume"],
                    use="train" if crossed else case["use"],
                )
                for case in self.accepted_cases(wildcards)
            ]

        return of

    def label_states(self, wildcards: Any) -> dict[str, str]:
        """Label kinds that each round of a task learns from, such as relabelled+clean."""
        task = wildcards.task
        return {
            round_: "+".join(self.study.wanted_kinds(task, round_))
            for round_ in self.study.rounds(task)
        }

    def weak_labels(self, wildcards: Any) -> list[str]:
        """Weak labels of test volumes, where there are any: the first line of the proof."""
        task = wildcards.task
        volumes = self.study.labelled(task, use="test", kind="weak")
        kept = self.accepted(volumes) if volumes else []
        return [f"results/converted/{task}/test/weak/{volume}.h5" for volume in kept]

    def baseline_rounds(self, wildcards: Any) -> list[str]:
        """Round of each examples file that the baselines learn from."""
        return [round_ for round_, _ in self._baseline_examples(wildcards.task)]

    def baseline_examples(self, wildcards: Any) -> list[str]:
        """Examples files that the baselines learn from: those of the network."""
        return [path for _, path in self._baseline_examples(wildcards.task)]

    def _baseline_examples(self, task: str) -> list[tuple[str, str]]:
        crossed = self.study.tasks[task].get("cross_validation")
        rounds = [r for r in self.study.rounds(task) if r.startswith("final")]
        rounds = [r for r in rounds if (r != "final") == bool(crossed)]
        return [
            (r, f"results/sliced/{task}/{r}/train/{volume}.h5")
            for r in rounds
            for volume in self.study.examples(task, r, "train")
        ]

    def picked_volumes(self, wildcards: Any) -> list[str]:
        """Accepted volumes of a detection task."""
        return self.accepted(self.study.volumes_of(wildcards.task))

    def of_picked(self, pattern: str) -> Callable[[Any], list[str]]:
        """One file per accepted volume of a detection task."""

        def of(wildcards: Any) -> list[str]:
            volumes = self.picked_volumes(wildcards)
            return [pattern.format(task=wildcards.task, volume=v) for v in volumes]

        return of

    # -- everything there is to want -------------------------------------------------

    def everything(self, task: str, stage: str) -> list[str]:
        """Every artefact of one stage of one task."""
        return [f"results/{path}" for path in inventory.of(self, task)[stage]]

    def stages(self, task: str) -> list[str]:
        """Stages of a task, in the way of the data."""
        return list(inventory.of(self, task))

    def all(self) -> list[str]:
        """Every artefact of every stage, never only the leaves."""
        paths = {
            f"results/{path}"
            for task in self.study.tasks
            for wanted in inventory.of(self, task).values()
            for path in wanted
        }
        return sorted(paths)

    def semantic(self, task: str) -> bool:
        """Whether a task says of every voxel what it is."""
        return bool(self.study.tasks[task]["kind"] == "semantic")


@cache
def _fingerprint(stage: str, uses: tuple[str, ...]) -> str:
    return remembered(SCRIPTS / f"{stage}.py", root=ROOT, uses=uses)
