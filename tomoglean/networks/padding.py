"""Pad images to a size a network can take, and cut the answer back; NumPy only."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def pad_px(shape: Sequence[int], multiple: int) -> tuple[tuple[int, int], ...]:
    """Return the pixels to add before and after each axis to reach a legal size.

    Parameters
    ----------
    shape
        Sizes of the axes in pixels, for instance (H, W).
    multiple
        Every padded size is the next multiple of this number.
    """
    missing = [-size % multiple for size in shape]
    return tuple((lack // 2, lack - lack // 2) for lack in missing)


def pad(image: npt.NDArray[Any], multiple: int) -> npt.NDArray[Any]:
    """Pad an image to legal size by reflection.

    Parameters
    ----------
    image
        Array of shape (H, W) or (H, W, C), at least 2 pixels along H and W.
    multiple
        Every padded size is the next multiple of this number: 600 becomes 608 for 16.
    """
    width = pad_px(image.shape[:2], multiple) + ((0, 0),) * (image.ndim - 2)
    return np.pad(image, width, mode="reflect")


def crop_back(padded: npt.NDArray[Any], shape: Sequence[int]) -> npt.NDArray[Any]:
    """Undo `pad`: cut a padded answer (H', W', ...) back to `shape` (H, W)."""
    corner = [(full - size) // 2 for full, size in zip(padded.shape, shape, strict=False)]
    window = [slice(c, c + size) for c, size in zip(corner, shape, strict=True)]
    return padded[tuple(window)]
