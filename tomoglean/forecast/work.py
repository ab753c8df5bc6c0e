"""How much a job has to read and to compute, in the units of `costs`."""

import math
from collections.abc import Callable, Iterable
from types import SimpleNamespace

from tomoglean import blocks
from tomoglean.forecast import networks
from tomoglean.forecast.artefacts import RESULTS, Artefact
from tomoglean.forecast.sizes import ZONE, Sizes
from tomoglean.parts import previous

#: Small kernels reach a third of the speed that the layers of a U-Net reach.
SMALL_KERNELS = 3
#: Drawing the numbers of a warp takes as long as writing so many times its bytes.
DRAWING = 60
#: Surfaces and shells around the metal take so many times as long as counting voxels.
SURFACES = 10
#: Backward and forward pass together cost three forward ones.
LEARNING = 3
WINDOWS = {"semantic": 32, "detection": 2000}
MEGA, GIGA = 1e6, 1e9


class Work:
    """What the jobs of one study have to do.

    Parameters
    ----------
    sizes
        Bytes of its artefacts.
    wanted
        All its artefacts by path.
    """

    def __init__(self, sizes: Sizes, wanted: dict[str, Artefact]) -> None:
        self.sizes, self.plan, self.study = sizes, sizes.plan, sizes.study
        self.wanted = wanted

    def of(self, artefact: Artefact) -> float:
        """Units of work of the job that makes an artefact."""
        ways: dict[str, Callable[[Artefact], float]] = {
            "slice": self._megabytes,
            "sample": self._megabytes,
            "augment": self._augment,
            "train": self._train,
            "segment": self._segment,
            "classify": self._classify,
            "measure": self._measure,
            "evaluate": self._evaluate,
            "average": self._average,
        }
        if artefact.stage in ways:
            return ways[artefact.stage](artefact)
        return self._voxels([getattr(artefact.at, "volume", "")])

    # -- units -----------------------------------------------------------------------

    def _voxels(self, volumes: Iterable[str]) -> float:
        """Million voxels of the volumes that are known."""
        known = self.sizes.extents
        return sum(known[volume].voxels for volume in volumes if volume in known) / MEGA

    def _megabytes(self, artefact: Artefact) -> float:
        return (self.sizes.of(artefact) or 0) / MEGA

    def _augment(self, artefact: Artefact) -> float:
        """Megabytes of materialised pixels, and of rows as if they were pixels."""
        settings = self.study.tasks[artefact.at.task]["augment"]
        return self._megabytes(artefact) * (1 if settings["materialise"] else DRAWING)

    def _train(self, artefact: Artefact) -> float:
        """GFLOP of all steps and validations of a training, or of a part of it."""
        at = artefact.at
        settings = self.plan.settings("train")(at)
        steps = settings["steps_per_epoch"] or math.ceil(
            self._images(artefact) / settings["batch"]
        )
        judged = settings["validation_images"] or WINDOWS[self.study.tasks[at.task]["kind"]]
        images = LEARNING * steps * settings["batch"] + judged
        return float(self._epochs(at) * images) * self._flops_an_image(artefact) / GIGA

    def _epochs(self, at: SimpleNamespace) -> int:
        """Epochs that a job of a training learns."""
        last = int(getattr(at, "epoch", self.plan.settings("train")(at)["epochs"]))
        before = previous(self.plan.parts(at.task, at.round), last)
        return last - (before or 0)

    def _images(self, artefact: Artefact) -> float:
        """Training images of a round, warped copies included."""
        at = artefact.at
        copies = 1 + int(self.study.tasks[at.task]["augment"]["copies"])
        files = [self._artefact(path) for path in self.plan.examples("train")(at)]
        known = [file for file in files if file.at.volume in self.sizes.extents]
        return copies * sum(self.sizes.examples(file)[0] for file in known)

    def _flops_an_image(self, artefact: Artefact) -> float:
        at = artefact.at
        settings = self.plan.settings("train")(at)
        channels = self.sizes.channels(artefact)
        if settings["network"] != "unet":
            patch_px = self.plan.settings("sample")(at)["patch_px"]
            return SMALL_KERNELS * networks.flops_a_patch(patch_px, channels)
        classes = self.sizes.classes(at.task)
        edge = settings["input_px"]
        pixels = edge**2 if edge else self._largest_plane(at)
        return pixels * networks.flops_a_pixel(settings, channels, classes)

    def _largest_plane(self, at: SimpleNamespace) -> float:
        """Pixels of the largest slice that a round learns from."""
        shapes = [
            self.sizes.extents[volume].shape
            for volume in self.study.examples(at.task, at.round, "train")
            if volume in self.sizes.extents
        ]
        return max((math.prod(sorted(shape)[1:]) for shape in shapes), default=0)

    def _segment(self, artefact: Artefact) -> float:
        """GFLOP of all axes and mirrored views."""
        at = artefact.at
        extent = self.sizes.extents[at.volume]
        settings = self.plan.settings("segment")(at)
        views = self._axes(artefact) * (4 if settings["mirror"] else 1)
        flops = networks.flops_a_pixel(
            self.plan.settings("train")(at),
            self.sizes.channels(artefact),
            self.sizes.classes(at.task),
        )
        return views * extent.voxels * flops / GIGA

    def _classify(self, artefact: Artefact) -> float:
        """GFLOP of the zone, seen in all mirrored views."""
        at = artefact.at
        views = 2.0 ** len(self.plan.settings("classify")(at)["flips"])
        patch_px = self.plan.settings("sample")(at)["patch_px"]
        zone = ZONE * self.sizes.extents[at.volume].voxels
        return views * zone * networks.flops_a_position(patch_px) / GIGA

    def _measure(self, artefact: Artefact) -> float:
        """Million voxels; surfaces and shells only where there is metal to start from."""
        block = self.study.tasks[artefact.at.task]
        share = 1.0 if block["measure"]["metal"] in block["classes"] else 1 / SURFACES
        return share * self._voxels([artefact.at.volume])

    def _evaluate(self, artefact: Artefact) -> float:
        """Million voxels that the forests label and all rounds are judged by."""
        if self.study.tasks[artefact.at.task]["kind"] == "detection":
            return 0.0
        known = self.sizes.extents
        total = 0.0
        for case in self.plan.cases(artefact.at.task):
            if case["round"].startswith("final") and case["volume"] in known:
                extent = known[case["volume"]]
                slices = len(case["slices"] or range(extent.shape[0]))
                total += slices * math.prod(extent.shape[1:]) / MEGA
        return total

    def _average(self, artefact: Artefact) -> float:
        """Million voxels of the volumes that are averaged over."""
        return self._voxels(self.study.volumes_of(artefact.at.task))

    # -- inputs ----------------------------------------------------------------------

    def inputs(self, artefact: Artefact) -> list[str]:
        """Artefacts that a job reads."""
        at, plan = artefact.at, self.plan
        volume = f"{RESULTS}converted/{getattr(at, 'volume', '')}.h5"
        match artefact.stage:
            case "slice":
                return [volume, *plan.labels(at)]
            case "augment":
                return [plan.example(at)]
            case "train":
                made = plan.examples("train")(at) + plan.examples("validate")(at)
                return made + plan.examples("train", "augmented")(at)
            case "relabel":
                weak = f"{RESULTS}converted/{at.task}/train/weak/{at.volume}.h5"
                return [weak, plan.out_of_fold(at), *plan.calibration_predicted(at)]
            case "measure":
                return [f"{RESULTS}segmented/{at.task}/final/{at.volume}.h5"]
            case "mask":
                return [plan.membrane(at)]
            case "sample":
                return [volume, f"{RESULTS}masked/{at.task}/{at.volume}.h5"]
            case "classify":
                return [volume, f"{RESULTS}masked/{at.task}/{at.volume}.h5"]
            case "pick":
                scores = f"{RESULTS}classified/{at.task}/{at.round}/{at.volume}.h5"
                return [scores, f"{RESULTS}masked/{at.task}/{at.volume}.h5"]
            case "evaluate":
                return self._compared(at.task)
            case "average":
                ids = self.study.volumes_of(at.task)
                masks = [f"{RESULTS}masked/{at.task}/{v}.h5" for v in ids]
                return [f"{RESULTS}converted/{v}.h5" for v in ids] + masks
        return [volume] if "volume" in vars(at) else []

    def _compared(self, task: str) -> list[str]:
        """What a task's tables read: volumes, and of a semantic one all that it made."""
        files = []
        for case in self.plan.cases(task):
            files.append(f"{RESULTS}converted/{case['volume']}.h5")
            files.append(f"{RESULTS}segmented/{task}/{case['round']}/{case['volume']}.h5")
        learned = self.plan.baseline_examples(SimpleNamespace(task=task))
        return files + (learned if self.study.tasks[task]["kind"] == "semantic" else [])

    def input_mb(self, artefact: Artefact) -> float:
        """Megabytes that a job reads, as far as they are known; of a phantom its voxels."""
        if artefact.stage == "simulate":
            return self.of(artefact)
        known = [self.wanted[path] for path in self.inputs(artefact) if path in self.wanted]
        return sum(self.sizes.of(file) or 0 for file in known) / MEGA

    def _artefact(self, path: str) -> Artefact:
        return self.wanted.get(path) or Artefact("slice", path)

    def blocks(self, artefact: Artefact) -> int:
        """Jobs that make blocks of an artefact for another to gather; 0 for most."""
        if artefact.stage not in blocks.FOLDERS:
            return 0
        settings = self.study.tasks[artefact.at.task][artefact.stage]
        extent = self.sizes.extents[artefact.at.volume]
        found = blocks.number(settings, extent.voxels)
        return found if found > 1 else 0

    def scratch(self, artefact: Artefact) -> float:
        """Bytes that a job writes beside its output and removes, and those of its blocks.

        Blocks are packed, but nobody knows how well: votes of a sure network pack best.
        A training keeps its two latest checkpoints while it runs.
        """
        if artefact.stage == "train":
            return 2 * self.sizes.checkpoint(artefact)
        if artefact.stage not in blocks.FOLDERS:
            return 0.0
        parts = self.blocks(artefact)
        axes = self._axes(artefact) if artefact.stage == "segment" else 1
        if axes < 2:
            return (self.sizes.of(artefact) or 0.0) if parts else 0.0
        extent = self.sizes.extents[artefact.at.volume]
        votes = 2.0 * extent.chunked * self.sizes.classes(artefact.at.task)
        return votes * (axes if parts else 1)

    def _axes(self, artefact: Artefact) -> int:
        """Number of axes that vote in a segmentation."""
        sparse = self.sizes.extents[artefact.at.volume].sparse
        settings = self.plan.settings("segment")(artefact.at)
        return len(settings["axes"] or ("z" if sparse else "zyx"))
