"""How many bytes every artefact takes on disk, derived from shapes, types and settings.

The constants are measured on the demo (three seeds), ISBI 2012 and sandstone studies.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tomoglean import formats, tables
from tomoglean.forecast import networks
from tomoglean.forecast.artefacts import RESULTS, Artefact
from tomoglean.forecast.extents import Extent
from tomoglean.parts import epoch_of
from tomoglean.plan import Plan
from tomoglean.provenance import Refused
from tomoglean.study import SIMULATED, slice_numbers

#: What an HDF5 volume file of ours holds besides its voxels.
HEAD = 10_000
WARP_BYTES = 12 * 8
#: Packed over plain bytes of grey values, by bytes of a voxel: noise does not pack.
GREY = {1: 0.85}
USUAL_GREY = 0.93
#: Bytes of a packed voxel: of labels, of a segmentation (labels and confidence), of a mask
#: (zone, distances, normals), of scores (zero outside the zone).
PACKED = {"labels": 0.1, "segmented": 0.5, "masked": 0.8, "classified": 0.13}
#: Bytes of a voxel in the files of other programs, by their ending; others are small.
OUTSIDE = {
    ".labels.mrc": 1.0,
    ".confidence.mrc": 2.0,
    ".labels.tif": 0.1,
    ".confidence.tif": 0.55,
    ".labels.ome.zarr": 0.12,
    ".confidence.ome.zarr": 0.65,
}
#: Bytes of a voxel in the files of a phantom, by their ending; grey values take four.
PHANTOM = {
    ".truth.tif": 0.1,
    ".weak.tif": 0.1,
    ".corrected.tif": 0.02,
    ".labels.mrc": 1.0,
    ".membranes.mrc": 1.0,
    ".distances.h5": 2.0,
}
SMALL = {".json": 2_000, ".csv": 4_000, ".star": 2_000}
#: Share of a tomogram that the search looks at.
ZONE = 0.06
LARGEST_LIST = 1 << 26


class Sizes:
    """Bytes of the artefacts of one study.

    Parameters
    ----------
    plan
        The study and who feeds whom.
    extents
        How large its volumes are, see `extents.find`; volumes left out are not known.
    """

    def __init__(self, plan: Plan, extents: dict[str, Extent]) -> None:
        self.plan, self.study, self.extents = plan, plan.study, extents
        self._told: dict[str, float | None] = {}
        self._opened: dict[tuple[str, ...], int | None] = {}

    def of(self, artefact: Artefact) -> float | None:
        """Predict the bytes of an artefact; None if its volume is unknown."""
        if artefact.path not in self._told:
            self._told[artefact.path] = self._predict(artefact)
        return self._told[artefact.path]

    def _predict(self, artefact: Artefact) -> float | None:
        folder = artefact.path.split("/")[1]
        ways: dict[str, Callable[[Artefact], float]] = {
            "simulated": self.simulated,
            "converted": self.converted,
            "sliced": self.sliced,
            "sampled": self.sampled,
            "augmented": self.augmented,
            "trained": self.trained,
            "segmented": self.segmented,
            "relabelled": self.labels,
            "masked": self.masked,
            "classified": self.classified,
            "published": self.published,
            "averaged": self.averaged,
        }
        if "volume" in vars(artefact.at) and artefact.at.volume not in self.extents:
            return None
        if (small := SMALL.get(Path(artefact.path).suffix)) is not None:
            return small
        return ways[folder](artefact) if folder in ways else SMALL[".json"]

    # -- volumes ---------------------------------------------------------------------

    def extent(self, artefact: Artefact) -> Extent:
        """How large the volume of an artefact is."""
        return self.extents[artefact.at.volume]

    def simulated(self, artefact: Artefact) -> float:
        """Grey values of four bytes; labels of one, packed in TIFF; packed distances."""
        size = PHANTOM.get(artefact.ending, 4.0)
        return HEAD + self.extent(artefact).voxels * size

    def converted(self, artefact: Artefact) -> float:
        """Grey values of any type, packed."""
        if "kind" in vars(artefact.at):
            return self.labels(artefact)
        extent = self.extent(artefact)
        share = GREY.get(extent.itemsize, USUAL_GREY)
        return HEAD + share * extent.voxels * extent.itemsize

    def labels(self, artefact: Artefact) -> float:
        """Packed labels."""
        return HEAD + self.extent(artefact).voxels * PACKED["labels"]

    def segmented(self, artefact: Artefact) -> float:
        """Labels and confidence, packed."""
        return HEAD + self.extent(artefact).voxels * PACKED["segmented"]

    def masked(self, artefact: Artefact) -> float:
        """Zone, distances and normals, packed."""
        return HEAD + self.extent(artefact).voxels * PACKED["masked"]

    def classified(self, artefact: Artefact) -> float:
        """Scores, packed."""
        return HEAD + self.extent(artefact).voxels * PACKED["classified"]

    def published(self, artefact: Artefact) -> float:
        """Labels and confidence as other programs store them; lists of points are small."""
        share = OUTSIDE.get(artefact.ending, 0.0)
        return HEAD + self.extent(artefact).voxels * share

    # -- examples --------------------------------------------------------------------

    def examples(self, artefact: Artefact) -> tuple[int, float, int]:
        """Count the examples of a file; bytes of the pixels and of the labels of all."""
        if self.study.tasks[artefact.at.task]["kind"] == "detection":
            count = self.patches(artefact)
            return count, count * self._patch_bytes(artefact), count
        count, pixels = 0, 0
        for places, plane in self.planes(artefact):
            count, pixels = count + places, pixels + places * plane
        return count, 4.0 * pixels * self.channels(artefact), pixels

    def sliced(self, artefact: Artefact) -> float:
        """Float32 slices as they are, their labels packed."""
        _, image_bytes, label_bytes = self.examples(artefact)
        return 2 * HEAD + image_bytes + PACKED["labels"] * label_bytes

    def sampled(self, artefact: Artefact) -> float:
        """Float32 patches, and some numbers a patch."""
        count, image_bytes, _ = self.examples(artefact)
        return HEAD + image_bytes + 100 * count

    def augmented(self, artefact: Artefact) -> float:
        """One row a warp, and the pixels if they are materialised."""
        settings = self.study.tasks[artefact.at.task]["augment"]
        count, image_bytes, label_bytes = self.examples(_for_training(artefact))
        copies = 1 + int(settings["copies"])
        pixels = image_bytes + label_bytes if settings["materialise"] else 0
        return HEAD + copies * (count * WARP_BYTES + pixels)

    def channels(self, artefact: Artefact) -> int:
        """Slices that an image of a task is made of."""
        block = self.study.tasks[artefact.at.task]
        look = block["slice" if block["kind"] == "semantic" else "sample"]
        return 2 * int(look["neighbours"]) + 1

    def planes(self, artefact: Artefact) -> list[tuple[int, int]]:
        """Labelled slices along each axis: how many, and pixels of one (cropped)."""
        settings = self.plan.settings("slice")(artefact.at)
        extent = self.extent(artefact)
        labelled = self._labelled(artefact)
        keep = self.plan.keep(artefact.at)
        found = [(labelled if keep is None else len(keep), "z")]
        enough = labelled >= settings["min_labelled"] * extent.shape[0]
        if keep is None and not extent.sparse and enough:
            found += [(extent.shape[1], "y"), (extent.shape[2], "x")]
        crop = settings["crop_px"] or math.inf
        edges = dict(zip("zyx", extent.shape, strict=True))
        return [
            (count, int(math.prod(min(crop, edges[e]) for e in edges if e != axis)))
            for count, axis in found
            if axis in settings["axes"]
        ]

    def _labelled(self, artefact: Artefact) -> int:
        """Count the slices that anybody has labelled, for a round and a use."""
        at, depth = artefact.at, self.extent(artefact).shape[0]
        task = self.study.tasks[at.task]
        crossed = task.get("cross_validation") and at.use == "validate"
        use = "train" if crossed else at.use
        kinds = self.study.kinds(at.task, at.round, at.volume, use)
        rows = [
            row
            for row in self.study.label_rows(at.task, volume=at.volume, use=use)
            if row["kind"] in kinds
        ]
        each = [self._labelled_by(row, depth) for row in rows]
        return min(depth, max([depth] if "relabelled" in kinds else each, default=0))

    def _labelled_by(self, row: dict[str, str], depth: int) -> int:
        if row["slices"]:
            return len(slice_numbers(row["slices"]))
        if row["path"].startswith(SIMULATED):
            group = self.study.simulated()[Path(row["path"]).name.split(".")[0]]
            few = group["settings"].get("labels", {}).get("corrected_slices", depth)
            return int(few) if ".corrected." in row["path"] else depth
        key = tuple(row.values())
        if key not in self._opened:
            self._opened[key] = self._header(row)
        found = self._opened[key]
        return depth if found is None else found

    def _header(self, row: dict[str, str]) -> int | None:
        """Count the slices of a label file; None if nobody can read it."""
        path = tables.locate(row["path"], self.study.root)
        try:
            with formats.open_source(path, row) as source:
                return source.shape[0]
        except Refused:
            return None

    def patches(self, artefact: Artefact) -> int:
        """Count the patches of a volume: positive ones and the negatives they ask for."""
        at = artefact.at
        settings = self.plan.settings("sample")(at)
        points = sum(
            self.points(row)
            for row in self.study.label_rows(at.task, volume=at.volume, use=at.use)
        )
        if not points:
            return int(settings["negatives_without_points"])
        positive = points * self._positives(artefact, settings)
        return round(positive * (1 + float(settings["negatives_per_positive"])))

    def _positives(self, artefact: Artefact, settings: dict[str, Any]) -> int:
        """Patches around one point: voxels of the ball, at most as many as asked for."""
        edges = self.extent(artefact).voxel_nm or (1.0, 1.0, 1.0)
        ball = 4 / 3 * math.pi * settings["positive_nm"] ** 3 / math.prod(edges)
        return int(min(ball, settings["positives_per_point"] or math.inf))

    def _patch_bytes(self, artefact: Artefact) -> int:
        settings = self.plan.settings("sample")(artefact.at)
        return 4 * int(settings["patch_px"]) ** 2 * self.channels(artefact)

    def points(self, row: dict[str, str]) -> int:
        """Count the points of a row: of a simulated cell, or the lines of its list."""
        if row["path"].startswith(SIMULATED):
            group = self.study.simulated()[Path(row["path"]).name.split(".")[0]]
            each: list[int] = group["settings"]["machines"]["number"]
            return math.ceil(sum(each) / len(each))
        path = tables.locate(row["path"], self.study.root)
        if not path.is_file() or path.stat().st_size > LARGEST_LIST:
            return 0
        with path.open("rb") as file:
            return max(0, sum(bool(line.strip()) for line in file) - 1)

    # -- networks --------------------------------------------------------------------

    def classes(self, task: str) -> int:
        """Classes that a network of a task tells apart."""
        return len(self.study.tasks[task].get("classes", ())) or 2

    def trained(self, artefact: Artefact) -> float:
        """Four bytes a weight; a part of a training holds its optimizer too."""
        if epoch_of(artefact.path):
            return self.checkpoint(artefact)
        return 3 * HEAD + 4.0 * self._weights(artefact)

    def checkpoint(self, artefact: Artefact) -> float:
        """Bytes of a checkpoint: weights, two moments, best weights, and running mean."""
        copies = 4 + bool(self.plan.settings("train")(artefact.at)["ema"])
        return 4 * HEAD + 4.0 * copies * self._weights(artefact)

    def _weights(self, artefact: Artefact) -> int:
        settings = self.plan.settings("train")(artefact.at)
        channels, classes = self.channels(artefact), self.classes(artefact.at.task)
        return networks.weights(settings, channels, classes)

    def averaged(self, artefact: Artefact) -> float:
        """Float32 boxes."""
        box = int(self.study.tasks[artefact.at.task]["average"]["box_px"])
        return 1024 + 4.0 * box**3


def _for_training(artefact: Artefact) -> Artefact:
    """Give the examples file that a list of warps is for."""
    at = artefact.at
    return Artefact("slice", f"{RESULTS}sliced/{at.task}/{at.round}/train/{at.volume}.h5")
