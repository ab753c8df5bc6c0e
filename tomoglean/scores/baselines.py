"""What a network has to beat: multi-Otsu, a table of grey values, a random forest.

All three learn from the labelled slices that trained the network, and see volumes that are
normalised the same way, slice by slice along z.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import numpy.typing as npt
from skimage.filters import threshold_multiotsu
from sklearn.ensemble import RandomForestClassifier

from tomoglean import intensities, volumes
from tomoglean.scores.tallies import Labeller
from tomoglean.volumes import Volume

BINS = 256
BLOCK_SLICES = 16
PREDICT_ROWS = 1 << 18
PRIOR_POWERS = (0.0, 0.25, 0.5, 0.75, 1.0)
OTSU, GREY_TABLE, RANDOM_FOREST = METHODS = ("otsu", "grey_table", "random_forest")

Image = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]
Painter = Callable[[Image], Labels]


@dataclass(frozen=True)
class Place:
    """Where a labelled slice stands: group `axis` of an examples file, row `row`."""

    path: Path
    axis: str
    row: int


@dataclass(frozen=True)
class Greys:
    """How often each class takes each grey value in the training slices.

    Attributes
    ----------
    low, high
        Lowest and highest grey value, normalised.
    counts
        Labelled voxels by class and grey bin, shape (classes, 256).
    places
        The slices.
    voxels
        Labelled voxels by slice and class, shape (slices, classes).
    """

    low: float
    high: float
    counts: Integers
    places: tuple[Place, ...]
    voxels: Integers

    def bins(self, image: Image) -> npt.NDArray[np.intp]:
        """Return the grey bin of every voxel; beyond the range the outermost bins."""
        step = (self.high - self.low) / BINS or 1.0
        places = np.clip((image - self.low) / step, 0, BINS - 1)
        return np.asarray(places, np.intp)

    def present(self) -> Integers:
        """Return the classes that have a labelled voxel at all."""
        found: Integers = np.flatnonzero(self.counts.sum(axis=1))
        return found


def learn_greys(paths: Sequence[str | os.PathLike[str]], classes: int) -> Greys:
    """Count grey values by class in the labelled slices, block by block.

    Parameters
    ----------
    paths
        Examples files; where one holds slices along z, only those are used, since all
        voxels of dense labels lie in them and the baselines work along z.
    classes
        Number of classes.
    """
    low, high = np.inf, -np.inf
    for _, images, _ in _blocks(paths):
        low, high = min(low, float(images.min())), max(high, float(images.max()))
    counts = np.zeros((classes, BINS), np.int64)
    places: list[Place] = []
    voxels = [np.zeros((0, classes), np.int64)]
    scale = Greys(low, high, counts, (), voxels[0])
    for block, images, labels in _blocks(paths):
        for place, image, label in zip(block, images, labels, strict=True):
            table = _joint(label, scale.bins(image), classes)
            counts += table
            places.append(place)
            voxels.append(table.sum(axis=1)[None])
    return Greys(low, high, counts, tuple(places), np.concatenate(voxels))


def _joint(label: Labels, bins: npt.NDArray[np.intp], classes: int) -> Integers:
    known = label < classes
    codes = label[known].astype(np.intp) * BINS + bins[known]
    return np.bincount(codes, minlength=classes * BINS).reshape(classes, BINS)


def _blocks(
    paths: Sequence[str | os.PathLike[str]],
) -> Iterator[tuple[list[Place], Image, Labels]]:
    for path in map(Path, paths):
        with h5py.File(path, "r", locking="best-effort") as file:
            filled = [axis for axis in "zyx" if axis in file and len(file[axis]["images"])]
            for axis in ["z"] if "z" in filled else filled:
                group = file[axis]
                for rows in volumes.slabs(len(group["images"]), BLOCK_SLICES):
                    places = [
                        Place(path, axis, row) for row in range(rows.start, rows.stop)
                    ]
                    yield places, _flat(group["images"][rows]), group["labels"][rows]


def _flat(images: npt.NDArray[np.float32]) -> Image:
    """Take the middle channel of 2.5D examples."""
    return images if images.ndim == 3 else images[..., images.shape[-1] // 2]


def otsu(greys: Greys, histogram: Integers) -> Labels:
    """Cut a volume's histogram by multi-Otsu; bands become classes by mean grey value.

    Parameters
    ----------
    greys
        Tells how many classes there are and which is brighter.
    histogram
        The volume's voxels by grey bin, shape (256,).

    Returns
    -------
    ndarray of shape (256,)
        Class of each grey bin.
    """
    present = greys.present()
    centres = np.arange(BINS)
    means = greys.counts[present] @ centres / greys.counts[present].sum(axis=1)
    ordered = present[np.argsort(means, kind="stable")]
    bands = min(len(ordered), int(np.count_nonzero(histogram)))
    if bands < 2:
        return np.full(BINS, ordered[0], np.uint8)
    cuts = threshold_multiotsu(hist=(histogram, centres), classes=bands)
    return ordered[np.searchsorted(cuts, centres, side="left")].astype(np.uint8)


def grey_table(greys: Greys) -> Labels:
    """Give each grey bin the class most often found there (Bayes' rule on the counts).

    A bin that training never saw takes the class of the nearest bin it saw.
    """
    seen = np.flatnonzero(greys.counts.sum(axis=0))
    best = greys.counts.argmax(axis=0)
    nearest = seen[np.abs(np.arange(BINS)[:, None] - seen[None]).argmin(axis=1)]
    labels: Labels = best[nearest].astype(np.uint8)
    return labels


def features(image: Image, sigmas_px: Sequence[float]) -> npt.NDArray[np.float32]:
    """Describe every pixel by its surroundings at several scales.

    The set of trainable segmentation (Arganda-Carreras et al. 2017): the grey value, and
    per scale the Gaussian, gradient magnitude, both eigenvalues of the Hessian, their sum
    (Laplacian of Gaussian) and the local standard deviation.

    Parameters
    ----------
    image
        Slice of shape (Y, X).
    sigmas_px
        Widths of the Gaussian, in pixels.

    Returns
    -------
    ndarray of shape (Y * X, 1 + 6 * scales)
    """
    found: list[npt.NDArray[Any]] = [image]
    for sigma in sigmas_px:
        smooth = cv2.GaussianBlur(image, (0, 0), sigma)
        square = cv2.GaussianBlur(image * image, (0, 0), sigma)
        dy, dx = _derivative(smooth, 1, 0), _derivative(smooth, 0, 1)
        yy, xx, xy = (_derivative(smooth, *by) for by in ((2, 0), (0, 2), (1, 1)))
        half, spread = (yy + xx) / 2, np.hypot((yy - xx) / 2, xy)
        deviation = np.sqrt(np.maximum(square - smooth * smooth, 0))
        eigenvalues = (half + spread, half - spread)
        found += [smooth, np.hypot(dy, dx), *eigenvalues, 2 * half, deviation]
    return np.stack([part.ravel() for part in found], axis=1)


def _derivative(image: Image, along_y: int, along_x: int) -> Image:
    scale = {(1, 0): 1 / 8, (0, 1): 1 / 8, (1, 1): 1 / 4}.get((along_y, along_x), 1 / 4)
    found: Image = cv2.Sobel(image, cv2.CV_32F, along_x, along_y, ksize=3, scale=scale)
    return found


@dataclass(frozen=True)
class Forest:
    """A random forest on `features`, and how much each class's vote weighs."""

    trees: RandomForestClassifier
    weights: npt.NDArray[np.float64]
    sigmas_px: tuple[float, ...]

    def __call__(self, image: Image) -> Labels:
        """Label a slice of shape (Y, X)."""
        described = features(np.ascontiguousarray(image, np.float32), self.sigmas_px)
        votes = [
            (self.trees.predict_proba(described[rows]) * self.weights).argmax(axis=1)
            for rows in volumes.slabs(len(described), PREDICT_ROWS)
        ]
        labels: Labels = self.trees.classes_[np.concatenate(votes)].astype(np.uint8)
        return labels.reshape(image.shape)


def grow_forest(
    greys: Greys,
    *,
    trees: int,
    depth: int,
    voxels: int,
    slices: int,
    sigmas_px: Sequence[float],
    seed: int,
) -> Forest:
    """Grow a random forest on equally many voxels of each class.

    Balanced voxels overrate rare classes; so votes are weighted by a power of how frequent
    a class really is, and the power is the one of best mean IoU out of bag.

    Parameters
    ----------
    greys
        Knows the labelled slices.
    trees, depth
        Number of trees and their greatest depth.
    voxels
        Most voxels to learn from, all classes together.
    slices
        Most slices to take them from, spread evenly.
    sigmas_px
        Scales of the features, in pixels.
    seed
        Seed of the choice of voxels and of the trees.
    """
    described, labels = _samples(greys, voxels, slices, sigmas_px, seed)
    forest = RandomForestClassifier(
        trees, max_depth=depth, oob_score=True, n_jobs=1, random_state=seed
    )
    forest.fit(described, labels)
    frequent = greys.voxels.sum(axis=0)[forest.classes_].astype(np.float64)
    sampled = np.bincount(labels)[forest.classes_]
    votes = np.nan_to_num(forest.oob_decision_function_)
    codes = np.searchsorted(forest.classes_, labels)
    weights = _best_weights(votes, codes, frequent / sampled)
    return Forest(forest, weights, tuple(sigmas_px))


def _best_weights(
    votes: npt.NDArray[np.float64], codes: Integers, prior: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Choose the power of the prior whose weighted votes have the best mean IoU."""
    best, best_score = np.ones_like(prior), -1.0
    for power in PRIOR_POWERS:
        weights = (prior / prior.max()) ** power
        chosen = (votes * weights).argmax(axis=1)
        table = np.zeros((len(prior), len(prior)))
        np.add.at(table, (codes, chosen), prior[codes])
        shared = np.diag(table)
        union = table.sum(axis=0) + table.sum(axis=1) - shared
        score = float(np.mean(shared / union))
        if score > best_score:
            best, best_score = weights, score
    return best


def _samples(
    greys: Greys, voxels: int, slices: int, sigmas_px: Sequence[float], seed: int
) -> tuple[npt.NDArray[np.float32], Integers]:
    """Draw voxels, and describe them slice by slice."""
    rows = _spread(greys.voxels, slices)
    loaded = [_load(greys.places[row]) for row in rows]
    labels = np.concatenate([label.ravel() for _, label in loaded])
    starts = np.cumsum([0, *[label.size for _, label in loaded]])
    random = volumes.random(seed, "forest voxels")
    quota = max(1, voxels // len(greys.present()))
    picked = []
    for value in greys.present():
        members = np.flatnonzero(labels == value)
        picked.append(random.choice(members, min(quota, len(members)), replace=False))
    chosen = np.sort(np.concatenate(picked))
    described = [
        features(image, sigmas_px)[chosen[(chosen >= start) & (chosen < stop)] - start]
        for (image, _), start, stop in zip(loaded, starts, starts[1:], strict=False)
    ]
    return np.concatenate(described), labels[chosen].astype(np.int64)


def _spread(voxels: Integers, most: int) -> list[int]:
    """Choose slices evenly among those with labels, and the richest one of each class."""
    useful = np.flatnonzero(voxels.sum(axis=1))
    even = useful[np.linspace(0, len(useful) - 1, min(most, len(useful))).astype(int)]
    richest = voxels.argmax(axis=0)[voxels.any(axis=0)]
    return sorted({*even.tolist(), *richest.tolist()})


def _load(place: Place) -> tuple[Image, Labels]:
    with h5py.File(place.path, "r", locking="best-effort") as file:
        group = file[place.axis]
        images = _flat(group["images"][place.row : place.row + 1])
        label: Labels = group["labels"][place.row]
        return np.ascontiguousarray(images[0], np.float32), label


@dataclass(frozen=True)
class Baselines:
    """Baselines that have learned from labelled slices; None = not wanted."""

    greys: Greys
    otsu: bool = False
    table: Labels | None = None
    forest: Forest | None = None


def learn(
    paths: Sequence[str | os.PathLike[str]],
    *,
    classes: int,
    seed: int,
    baselines: Sequence[str],
    forest_trees: int,
    forest_depth: int,
    forest_voxels: int,
    forest_slices: int,
    forest_sigmas_px: Sequence[float],
) -> Baselines:
    """Let the baselines learn from examples files.

    Parameters
    ----------
    paths
        Examples files of one round.
    classes
        Number of classes.
    seed
        Seed of the forest.
    baselines
        Names of those wanted, of `METHODS`.
    forest_trees, forest_depth, forest_voxels, forest_slices, forest_sigmas_px
        See `grow_forest`.

    Returns
    -------
    Baselines
        None of them where nothing is labelled.
    """
    greys = learn_greys(paths, classes)
    if not len(greys.present()):
        return Baselines(greys)
    forest = None
    if RANDOM_FOREST in baselines:
        forest = grow_forest(
            greys,
            trees=forest_trees,
            depth=forest_depth,
            voxels=forest_voxels,
            slices=forest_slices,
            sigmas_px=forest_sigmas_px,
            seed=seed,
        )
    table = grey_table(greys) if GREY_TABLE in baselines else None
    return Baselines(greys, OTSU in baselines, table, forest)


@contextlib.contextmanager
def labellers(
    fitted: Baselines, path: str | os.PathLike[str]
) -> Iterator[dict[str, Labeller]]:
    """Open a converted volume for labelling: per method, slices in, labels out.

    Volumes are normalised with their own fingerprint, as the examples were.
    """
    attrs = volumes.attributes(path)
    with volumes.open_volume(path) as volume:
        found: dict[str, Labeller] = {}
        if fitted.otsu:
            table = otsu(fitted.greys, _histogram(fitted.greys, volume, attrs))
            found[OTSU] = _by_slice(volume, attrs, _lookup(fitted.greys, table))
        if fitted.table is not None:
            look = _lookup(fitted.greys, fitted.table)
            found[GREY_TABLE] = _by_slice(volume, attrs, look)
        if fitted.forest is not None:
            found[RANDOM_FOREST] = _by_slice(volume, attrs, fitted.forest)
        yield found


def _histogram(greys: Greys, volume: Volume, attrs: Mapping[str, Any]) -> Integers:
    total = np.zeros(BINS, np.int64)
    for rows in volumes.slabs(volume.shape[0], BLOCK_SLICES):
        image = intensities.standardise(volume.data[rows], attrs)
        total += np.bincount(greys.bins(image).ravel(), minlength=BINS)
    return total


def _lookup(greys: Greys, table: Labels) -> Painter:
    def paint(image: Image) -> Labels:
        return table[greys.bins(image)]

    return paint


def _by_slice(volume: Volume, attrs: Mapping[str, Any], paint: Painter) -> Labeller:
    def label(rows: slice) -> Labels:
        images = (volume.data[row] for row in range(rows.start, rows.stop))
        return np.stack([paint(intensities.standardise(image, attrs)) for image in images])

    return label
