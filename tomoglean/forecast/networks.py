"""How many weights a network has and how much it computes, without building it."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

PATCH_PX = 50


def weights(settings: Mapping[str, Any], channels: int, classes: int) -> int:
    """Count the numbers that a network stores.

    Parameters
    ----------
    settings
        Settings of the stage train.
    channels, classes
        Channels of the image, and classes told.
    """
    if settings["network"] != "unet":
        return _lenet_weights(channels)
    each = 4 if settings["norm"] == "batch" and settings["recipe"] != "plain" else 2
    layers = _convolutions(settings, channels, classes)
    return sum(edge**2 * given * made + each * made for _, edge, given, made in layers)


def flops_a_pixel(settings: Mapping[str, Any], channels: int, classes: int) -> float:
    """Floating-point operations of a U-Net for one pixel of one image, forward."""
    layers = _convolutions(settings, channels, classes)
    return sum(
        2.0 * edge * edge * given * made / 4.0**level for level, edge, given, made in layers
    )


def flops_a_patch(patch_px: int, channels: int) -> float:
    """Floating-point operations of a LeNet for one patch, forward."""
    one = 2 * 25 * (46**2 * 6 * channels + 19**2 * 6 * 16) + 2 * (81 * 16 * 120 + 120 * 84)
    return one * (patch_px / PATCH_PX) ** 2


def flops_a_position(patch_px: int) -> float:
    """Floating-point operations of a LeNet in its dense form for one voxel of the mask."""
    return 2 * 120 * 16 * 81 * (patch_px / PATCH_PX) ** 2


def _lenet_weights(channels: int) -> int:
    return math.prod((25, 6, channels)) + 25 * 6 * 16 + 81 * 16 * 120 + 120 * 84 + 84 * 2


def _convolutions(
    settings: Mapping[str, Any], channels: int, classes: int
) -> Iterator[tuple[int, int, int, int]]:
    """Yield (level, edge of the kernel, maps given, maps made) of every convolution."""
    width, depth = int(settings["width"]), int(settings["depth"])
    maps = [width * 2**level for level in range(depth)]
    plain = settings["recipe"] == "plain"
    for level, made in enumerate(maps):
        yield level, 3, maps[level - 1] if level else channels, made
        yield level, 3, made, made
    for level in range(depth - 1):
        deeper = maps[level + 1]
        if plain:
            yield level, 2, deeper, maps[level]
            deeper = maps[level]
        yield level, 3, maps[level] + deeper, maps[level]
        yield level, 3, maps[level], maps[level]
    yield 0, 1, maps[0], classes
