"""What a user would label in an afternoon, and the slices an expert would set right."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.filters import threshold_multiotsu, threshold_otsu

from tomoglean.simulators.fields import Float
from tomoglean.simulators.waves import Waves, gaussian
from tomoglean.volumes import IGNORE, random

Codes = npt.NDArray[np.uint8]

BACKGROUND, BONE, DEGRADATION_LAYER, RESIDUAL_METAL = range(4)
CLASSES = ("background", "bone", "degradation_layer", "residual_metal")

LOOKED_AT = 8
ROUGH_PX = 2.0
CUT_SIGMAS = 3.0
SLAB_VOXELS = 1 << 23
# Otsu's share of the variance between two halves is 2/pi for one Gaussian hump.
TWO_HUMPS = 0.72


@dataclass(frozen=True)
class Labels:
    """Group `labels` of the settings (`config/schemas/phantom-implant.yaml` tells each)."""

    smooth_px: float
    hand_um: float
    hand_bias_um: float
    hand_scale_um: float
    corrected_slices: int
    corrected_axes: Sequence[str]


@dataclass(frozen=True)
class Thresholds:
    """What the user set.

    Attributes
    ----------
    dark
        Grey between marrow and everything brighter, in 1/cm.
    bright
        Grey between layer and metal inside the drawn region; minus infinity where its
        greys make no two humps.
    rough
        Local standard deviation between smooth metal and rough layer there, in 1/cm.
    """

    dark: float
    bright: float
    rough: float


@dataclass(frozen=True)
class User:
    """Someone who labels a scan with multi-Otsu, texture and a region drawn by hand.

    Attributes
    ----------
    seed, name
        Keys of the hand's errors.
    labels
        Settings.
    image, truth
        Scan in 1/cm and true labels, (Z, Y, X): anything that gives arrays for slices. The
        truth is where the user sees the implant's outline, no more.
    voxel_um
        Edge of the voxels in um.
    """

    seed: int
    name: str
    labels: Labels
    image: Any
    truth: Any
    voxel_um: float

    def weak(self) -> Iterator[tuple[slice, Codes]]:
        """Label the scan, slab by slab along z.

        Yields
        ------
        slice, ndarray of shape (slab, Y, X)
            Which slices, and 0 background, 1 bone, 2 degradation layer, 3 residual metal.
        """
        depth, rows, columns = self.image.shape
        step = int(np.clip(SLAB_VOXELS // (rows * columns), 8, 64))
        hand, thresholds = self._hand(), self.thresholds()
        for start in range(0, depth, step):
            part = slice(start, min(start + step, depth))
            yield part, self._labelled(part, thresholds, hand)

    def thresholds(self) -> Thresholds:
        """Set the thresholds on a few slices all along the scan."""
        depth, hand = len(self.image), self._hand()
        looked = np.unique(np.linspace(0, depth - 1, LOOKED_AT + 2).astype(int)[1:-1])
        seen = [self._seen(slice(z, z + 1), hand) for z in looked]
        grey, rough, region = (np.concatenate(parts) for parts in zip(*seen, strict=True))
        dark = float(threshold_multiotsu(grey, classes=3, nbins=128)[0])
        if np.count_nonzero(region) < 2:
            return Thresholds(dark, np.inf, 0.0)
        bright, separate = _parted(grey[region])
        rough_log, _ = _parted(np.log(rough[region]))
        return Thresholds(
            dark, bright if separate > TWO_HUMPS else -np.inf, float(np.exp(rough_log))
        )

    def _labelled(self, part: slice, thresholds: Thresholds, hand: Waves) -> Codes:
        wide, inner = _widened(part, 2, len(self.image))
        grey, rough, region = self._seen(wide, hand)
        codes = np.asarray(grey > thresholds.dark, np.uint8)
        codes[region & (grey > 0.75 * thresholds.dark)] = DEGRADATION_LAYER
        metal = region & (grey > thresholds.dark) & (grey > thresholds.bright)
        if not np.isfinite(thresholds.bright):
            metal &= rough < thresholds.rough
        # One step from a border that is none, so that slabs do not matter.
        opened = ndimage.binary_erosion(metal, border_value=1)
        codes[ndimage.binary_dilation(opened) & metal] = RESIDUAL_METAL
        return codes[inner]

    def _seen(self, part: slice, hand: Waves) -> tuple[Float, Float, npt.NDArray[np.bool_]]:
        """Smoothed grey, local roughness, and the drawn region."""
        smooth, sigma = self.labels.smooth_px, ROUGH_PX
        halo = sum(int(CUT_SIGMAS * s + 0.5) for s in (smooth, sigma))
        wide, inner = _widened(part, halo, len(self.image))
        grey = _blurred(np.asarray(self.image[wide], np.float32), smooth)
        mean = _blurred(grey, sigma)
        variance = _blurred((grey - mean) ** 2, sigma)
        rough = np.sqrt(np.maximum(variance, 1e-12))
        return grey[inner], rough[inner], self._region(part, hand)

    def _region(self, part: slice, hand: Waves) -> npt.NDArray[np.bool_]:
        """Where the user drew the implant, slice by slice: its outline, moved about."""
        _, rows, columns = self.truth.shape
        y, x = (np.arange(n) * self.voxel_um for n in (rows, columns))
        drawn = np.zeros((part.stop - part.start, rows, columns), np.bool_)
        for region, z in zip(drawn, range(part.start, part.stop), strict=True):
            implant = np.asarray(self.truth[z]) >= DEGRADATION_LAYER
            moved = hand.plane(z * self.voxel_um, y, x)
            away = self.labels.hand_bias_um + self.labels.hand_um * moved
            region[...] = _outline_px(implant) < away / self.voxel_um
        return drawn

    def _hand(self) -> Waves:
        rng = random(self.seed, self.name, "hand-drawn region")
        return gaussian(rng, self.labels.hand_scale_um)


def chosen_slices(
    seed: int, name: str, shape: Sequence[int], labels: Labels
) -> dict[str, list[int]]:
    """Choose the slices that an expert sets right, by axis.

    They come from the middle 60 % of each axis, no two alike.
    """
    chosen: dict[str, list[int]] = {}
    for axis, length in zip("zyx", shape, strict=True):
        if axis in labels.corrected_axes:
            rng = random(seed, name, "corrected", axis)
            middle = np.arange(int(0.2 * length), max(int(0.8 * length), 1))
            number = min(labels.corrected_slices, len(middle))
            chosen[axis] = sorted(map(int, rng.choice(middle, number, replace=False)))
    return chosen


def corrected(truth: Codes, first: int, chosen: Mapping[str, Sequence[int]]) -> Codes:
    """Keep the truth on the chosen slices; 255 elsewhere.

    Parameters
    ----------
    truth
        True labels of a slab (slab, Y, X).
    first
        Index z of its first slice.
    chosen
        Indices of slices by axis.
    """
    codes = np.full(truth.shape, IGNORE, np.uint8)
    heights = [z - first for z in chosen.get("z", ()) if 0 <= z - first < len(truth)]
    rows, columns = list(chosen.get("y", ())), list(chosen.get("x", ()))
    codes[heights] = truth[heights]
    codes[:, rows] = truth[:, rows]
    codes[:, :, columns] = truth[:, :, columns]
    return codes


def _outline_px(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Signed distance to the outline of a region in a slice, negative inside."""
    if not inside.any():
        return np.full(inside.shape, np.inf)
    away = ndimage.distance_transform_edt(~inside)
    depth = ndimage.distance_transform_edt(inside)
    return np.where(inside, 0.5 - depth, away - 0.5)


def _blurred(data: Float, sigma_px: float) -> Float:
    return ndimage.gaussian_filter(data, sigma_px, mode="nearest", truncate=CUT_SIGMAS)


def _widened(part: slice, halo: int, depth: int) -> tuple[slice, slice]:
    """Widen a slab as far as there are slices; and where it lies in the wider one."""
    start = max(part.start - halo, 0)
    inner = slice(part.start - start, part.stop - start)
    return slice(start, min(part.stop + halo, depth)), inner


def _parted(values: npt.NDArray[Any]) -> tuple[float, float]:
    """Otsu's threshold, and the share of the variance that lies between its halves."""
    low, high = np.percentile(values, [0.5, 99.5])
    values = np.clip(values, low, high)
    if low == high:
        return float(low), 0.0
    cut = float(threshold_otsu(values, nbins=128))
    upper = values > cut
    share = float(np.mean(upper))
    if share in (0.0, 1.0):
        return cut, 0.0
    apart = float(values[upper].mean() - values[~upper].mean())
    return cut, share * (1 - share) * apart**2 / float(values.var())
