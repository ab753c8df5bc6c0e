"""See every slice again, turned, bent and in another light.

A warp is a row of numbers; pixels follow from it, so that images made on the fly and
images written to disk are the same to the bit. Every row is a pure function of
(seed, volume, group, index, copy). One OpenCV map of a coarse displacement field moves
image and labels together.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import h5py
import numpy as np
import numpy.typing as npt

from tomoglean import volumes
from tomoglean.provenance import replacing

IGNORE = volumes.IGNORE
GRID = 13
COLUMNS = (
    "index",
    "copy",
    "angle_deg",
    "flip_y",
    "flip_x",
    "elastic",
    "gain",
    "offset",
    "gamma",
    "noise",
    "key",
    "flip_z",
)
Array = npt.NDArray[Any]

cv2.setNumThreads(1)


def plan(
    count: int,
    *,
    seed: int,
    volume: str,
    group: str,
    copies: int = 5,
    rotation_deg: float | None = None,
    flips: Sequence[str] = ("y", "x"),
    elastic: float | None = None,
    gain: float = 0.1,
    offset: float = 0.1,
    gamma: float = 0.2,
    noise: float = 0.0,
) -> npt.NDArray[np.float64]:
    """List the warps of all images of one group, the originals among them.

    Parameters
    ----------
    count
        Number of images.
    seed, volume, group
        What the random numbers are keyed by, beside index and copy.
    copies
        Changed copies of every image, beside the original.
    rotation_deg
        Largest turn either way in degrees; None: 180 for slices, 0 for patches, where the
        missing wedge must stay where it is.
    flips
        Axes that may be mirrored: 'y', 'x' (both: half turns too), and 'z', the order of
        the channels of an image that has its neighbouring slices as channels.
    elastic
        Standard deviation of the elastic displacement in mesh widths of the coarse field
        (a twelfth of the image's shorter side); None: 0.1 for slices, 0 for patches.
    gain, offset, gamma
        Largest relative change of the contrast, shift in standard deviations, and change
        of the exponent.
    noise
        Largest standard deviation of added noise, in units of the normalised image.

    Returns
    -------
    ndarray of shape (count * (1 + copies), len(COLUMNS))
        Row index * (1 + copies) + copy; copy 0 is the untouched original.
    """
    patches = group == "patches"
    turn = (0.0 if patches else 180.0) if rotation_deg is None else rotation_deg
    bend = (0.0 if patches else 0.1) if elastic is None else elastic
    spans = np.array([turn, bend, gain, offset, gamma])

    rows = np.zeros((count, 1 + copies, len(COLUMNS)))
    rows[..., 0] = np.arange(count)[:, None]
    rows[..., 1] = np.arange(1 + copies)
    rows[..., [6, 8]] = 1
    for index in range(count):
        for copy in range(1, 1 + copies):
            rng = volumes.random(seed, "augment", volume, group, index, copy)
            angle, _, more, shift, power = spans * rng.uniform(-1, 1, 5)
            flipped = (rng.random(2) < 0.5) & [axis in flips for axis in "yx"]
            key = rng.integers(2**32)
            light = [1 + more, shift, 1 + power, noise * rng.random()]
            upside_down = "z" in flips and rng.random() < 0.5
            rows[index, copy, 2:] = [angle, *flipped, bend, *light, key, upside_down]
    return rows.reshape(-1, len(COLUMNS))


def apply(image: Array, labels: Array, warp: Array) -> tuple[Array, Array]:
    """Make the pixels of one warp.

    Parameters
    ----------
    image
        Normalised float32 image of shape (H, W) or (H, W, C).
    labels
        uint8 labels of shape (H, W), moved with the image; or a number for the whole
        patch, returned as it is.
    warp
        One row of `plan`.

    Returns
    -------
    image, labels
        As given; labels that came from outside the image are 255.
    """
    facts = dict(zip(COLUMNS, (float(value) for value in warp), strict=True))
    if facts["copy"] == 0:
        return image, labels

    rng = np.random.default_rng(int(facts["key"]))
    x, y = _map(image.shape[:2], facts, rng)
    channels = [
        cv2.remap(plane, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        for plane in np.moveaxis(np.atleast_3d(image), 2, 0)
    ]
    if facts["flip_z"]:
        channels.reverse()
    warped = _light(np.stack(channels, axis=-1).reshape(image.shape), facts, rng)
    if np.ndim(labels) == 2:
        labels = cv2.remap(
            np.ascontiguousarray(labels),
            x,
            y,
            cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=IGNORE,
        )
    return warped, labels


def _map(
    shape: Sequence[int], facts: Mapping[str, float], rng: np.random.Generator
) -> tuple[Array, Array]:
    """Where each pixel comes from, as float32 x and y of shape (H, W)."""
    height, width = shape
    y = np.arange(height)[:, None] - (height - 1) / 2
    x = np.arange(width)[None, :] - (width - 1) / 2
    y = -y if facts["flip_y"] else y
    x = -x if facts["flip_x"] else x
    turn = np.deg2rad(facts["angle_deg"])
    cos, sin = np.cos(turn), np.sin(turn)
    from_y = cos * y + sin * x + (height - 1) / 2
    from_x = cos * x - sin * y + (width - 1) / 2
    if facts["elastic"]:
        spread_px = facts["elastic"] * min(shape) / (GRID - 1)
        coarse = rng.normal(0, spread_px, (GRID, GRID, 2))
        fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        from_y, from_x = from_y + fine[..., 0], from_x + fine[..., 1]
    return from_x.astype(np.float32), from_y.astype(np.float32)


def _light(image: Array, facts: Mapping[str, float], rng: np.random.Generator) -> Array:
    """Change contrast, level, gamma and noise of a normalised image."""
    low, high = float(image.min()), float(image.max())
    if facts["gamma"] != 1 and high > low:
        share = np.power((image - low) / (high - low), np.float32(facts["gamma"]))
        image = share * (high - low) + low
    image = image * np.float32(facts["gain"]) + np.float32(facts["offset"])
    if facts["noise"]:
        grain = rng.standard_normal(image.shape, np.float32)
        image = image + np.float32(facts["noise"]) * grain
    return image.astype(np.float32, copy=False)


def write(
    examples: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    seed: int = 1,
    materialise: bool = False,
    **settings: Any,
) -> None:
    """Write the warps of all examples of one volume, and their pixels on request.

    Parameters
    ----------
    examples
        Examples file: groups with `images`, `labels`, `index`.
    path
        File to write: the same groups with `warps` of shape (N (1 + copies), columns) and,
        if materialised, `images` and `labels` in the same order.
    seed
        Seed of the warps.
    materialise
        Write the pixels too; training then reads instead of computing them. They are the
        same.
    settings
        Further settings of `plan`.
    """
    with (
        h5py.File(examples, "r", locking="best-effort") as source,
        replacing(path) as part,
        h5py.File(part, "w", locking="best-effort") as file,
    ):
        volume = str(source.attrs["volume"])
        file.attrs.update({"volume": volume, "kind": source.attrs["kind"]})
        file.attrs["columns"] = list(COLUMNS)
        for name, group in source.items():
            count = len(group["labels"])
            warps = plan(count, seed=seed, volume=volume, group=name, **settings)
            made = file.create_group(name)
            made["warps"] = warps
            if materialise:
                _materialise(group, warps, made)


def _materialise(group: h5py.Group, warps: Array, made: h5py.Group) -> None:
    for kind in ("images", "labels"):
        shape = (len(warps), *group[kind].shape[1:])
        chunks = (1, *shape[1:]) if all(shape) and len(shape) > 1 else None
        made.create_dataset(kind, shape, group[kind].dtype, chunks=chunks)
    for row, warp in enumerate(warps):
        place = int(warp[0])
        image, labels = apply(group["images"][place], group["labels"][place], warp)
        made["images"][row], made["labels"][row] = image, labels
