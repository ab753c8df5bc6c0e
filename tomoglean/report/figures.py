"""Pictures of volumes: slices, overlays, error maps and crops as WebP inside the page.

Only the slices and crops that are shown are read. Pictures keep the field of view's true
proportions (anisotropic voxels too) and are blown up so that label edges stay crisp.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from PIL import Image

from tomoglean.report import style
from tomoglean.volumes import IGNORE

Bytes = npt.NDArray[np.uint8]
Grey = npt.NDArray[np.floating[Any]]
Window = tuple[float, float]

EDGE_PX = 420
CROP_PX = 50
CROP_EDGE_PX = 120
QUALITY = 80
FILL = 0.45
DIM = 0.55
LOWEST_PERCENTILE, HIGHEST_PERCENTILE = 0.5, 99.5
HEAT_STEPS = 9


@dataclass(frozen=True)
class Detail:
    """How much of a picture is kept: longest edge in pixels, WebP quality, most bytes.

    0 bytes is no limit.
    """

    edge_px: int = EDGE_PX
    quality: int = QUALITY
    most_bytes: int = 0


# A volume counts as its pictures do: 1 if it is shown across all axes. The more there are,
# the less of each is kept, so that a page of 20 volumes stays below 15 MB.
STEPS = ((8, 420, 80), (15, 340, 74), (20, 270, 68), (34, 210, 60), (10**9, 150, 54))
SHARE_BYTES = 9_000_000
PICTURES = 20
LOWEST_QUALITY, SMALLEST_PX = 20, 90


def detail(volumes: float) -> Detail:
    """Return the detail that so many volumes leave room for.

    Parameters
    ----------
    volumes
        Sum over all volumes and tasks; a volume shown by fewer pictures counts less.
    """
    edge_px, quality = next((edge, q) for most, edge, q in STEPS if volumes <= most)
    uris = SHARE_BYTES / (PICTURES * max(volumes, 1.0))
    return Detail(edge_px, quality, int(uris * 3 / 4))


def window(values: Grey, attributes: Mapping[str, Any] | None = None) -> Window:
    """Return the grey values shown as black and white.

    Taken from the volume's fingerprint so that all its pictures agree; without one,
    from the percentiles of the values shown.
    """
    known = attributes or {}
    low, high = style.finite(known.get("p_low")), style.finite(known.get("p_high"))
    if low is None or high is None or not low < high:
        finite = values[np.isfinite(values)]
        if not finite.size:
            return 0.0, 1.0
        low, high = np.percentile(finite, [LOWEST_PERCENTILE, HIGHEST_PERCENTILE])
    return float(low), float(high) if high > low else float(low) + 1.0


def grey(values: Grey, shown: Window) -> Bytes:
    """Map grey values to 0-255; what is not finite becomes black."""
    low, high = shown
    scaled = (np.nan_to_num(np.asarray(values, np.float64), nan=low) - low) / (high - low)
    return np.asarray(np.clip(scaled, 0, 1) * 255, np.uint8)


def size_px(
    shape: tuple[int, int], edges_nm: tuple[float, float], longest_px: int = EDGE_PX
) -> tuple[int, int]:
    """Return width and height in true proportion, from the longer side."""
    height, width = shape[0] * edges_nm[0], shape[1] * edges_nm[1]
    scale = longest_px / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def enlarge(values: Bytes, size: tuple[int, int], *, labels: bool = False) -> Bytes:
    """Bring a picture to a size in pixels; labels are never mixed."""
    how = Image.Resampling.NEAREST if labels else Image.Resampling.BICUBIC
    smaller = values.shape[1] > size[0]
    if smaller and not labels:
        how = Image.Resampling.BOX
    return np.asarray(Image.fromarray(np.ascontiguousarray(values)).resize(size, how))


def colour(values: Bytes) -> Bytes:
    """Turn grey (H, W) into red, green, blue (H, W, 3)."""
    return np.repeat(values[..., None], 3, axis=2)


def overlay(picture: Bytes, labels: Bytes, colours: Sequence[str]) -> Bytes:
    """Lay classes over a grey picture: filled faintly, outlined clearly.

    Parameters
    ----------
    picture
        Grey values of shape (H, W), 0-255.
    labels
        Labels of shape (H, W); 0 is background, 255 unknown and shown darker.
    colours
        Colour of label 1, 2, ... as #rrggbb; further labels stay uncoloured.

    Returns
    -------
    ndarray of shape (H, W, 3)
        Red, green, blue, uint8.
    """
    shown = colour(picture).astype(np.float64)
    shown[labels == IGNORE] *= DIM
    rim = outline(labels)
    for label, name in enumerate(colours, start=1):
        tint = np.array(style.rgb(name), np.float64)
        inside = labels == label
        shown[inside] = (1 - FILL) * shown[inside] + FILL * tint
        shown[inside & rim] = tint
    return np.asarray(shown, np.uint8)


def outline(labels: Bytes) -> npt.NDArray[np.bool_]:
    """Mark the pixels with another label to the right, left, above or below."""
    rim = np.zeros(labels.shape, bool)
    rim[1:] |= labels[1:] != labels[:-1]
    rim[:-1] |= labels[1:] != labels[:-1]
    rim[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    rim[:, :-1] |= labels[:, 1:] != labels[:, :-1]
    return rim


def errors(picture: Bytes, predicted: Bytes, truth: Bytes) -> Bytes:
    """Show where a prediction is wrong: extra, missed or the wrong class.

    Voxels without truth or prediction (255) are shown darker and count as neither.
    """
    shown = colour(np.asarray(picture * 0.6 + 70, np.uint8))
    judged = (truth != IGNORE) & (predicted != IGNORE)
    shown[~judged] = np.asarray(shown[~judged] * 0.4, np.uint8)
    wrong = judged & (predicted != truth)
    kinds = {
        "extra": wrong & (truth == 0),
        "missed": wrong & (predicted == 0),
        "wrong class": wrong & (truth != 0) & (predicted != 0),
    }
    for kind, where in kinds.items():
        shown[where] = style.rgb(style.ERROR_COLOURS[kind])
    return shown


def wrong_share(predicted: Bytes, truth: Bytes) -> float | None:
    """Return the share of judged voxels that are wrong; None if none can be judged."""
    judged = (truth != IGNORE) & (predicted != IGNORE)
    total = int(judged.sum())
    return float((judged & (predicted != truth)).sum() / total) if total else None


def heat(values: Grey, low: float = 0.0, high: float = 1.0) -> Bytes:
    """Show values of low to high from dark blue to yellow (cividis, colour-blind-safe)."""
    scaled = (np.nan_to_num(values, nan=low) - low) / (high - low)
    shown = colormaps["cividis"](np.clip(scaled, 0, 1))
    return np.asarray(shown[..., :3] * 255, np.uint8)


def heat_colours() -> list[str]:
    """Return the colours of `heat` from low to high, each written #rrggbb."""
    shown = heat(np.linspace(0, 1, HEAT_STEPS)[None])[0]
    return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in shown]


def places(depth: int, most: int = 24) -> list[int]:
    """Return at most so many slices spread evenly over a depth, the central one first."""
    spread = np.unique(np.linspace(0, depth - 1, min(most, depth)).round().astype(int))
    return [depth // 2, *(int(z) for z in spread if z != depth // 2)] if depth else []


def crop(data: Any, centre: tuple[float, float, float], *, depth: int = 5) -> Grey:
    """Cut 50 x 50 pixels around a point, averaged over a few slices; NaN outside.

    Parameters
    ----------
    data
        Volume of shape (Z, Y, X), in memory or on disk.
    centre
        Point (z, y, x) in voxels; it comes to lie at 24.5, 24.5.
    depth
        Slices averaged, centred on the point.
    """
    z, y, x = (round(value) for value in centre)
    z_low = max(z - depth // 2, 0)
    z_high = min(z + depth // 2 + 1, data.shape[0])
    y_low, x_low = y - CROP_PX // 2 + 1, x - CROP_PX // 2 + 1
    cut = np.full((CROP_PX, CROP_PX), np.nan)
    rows = slice(max(y_low, 0), max(min(y_low + CROP_PX, data.shape[1]), 0))
    columns = slice(max(x_low, 0), max(min(x_low + CROP_PX, data.shape[2]), 0))
    if z_low < z_high and rows.start < rows.stop and columns.start < columns.stop:
        piece = np.asarray(data[z_low:z_high, rows, columns], np.float64).mean(axis=0)
        to_rows = slice(rows.start - y_low, rows.stop - y_low)
        cut[to_rows, columns.start - x_low : columns.stop - x_low] = piece
    return cut


def webp(picture: Bytes, quality: int = QUALITY, most_bytes: int = 0) -> str:
    """Write a picture of shape (H, W) or (H, W, 3) as a data URI.

    Parameters
    ----------
    picture
        Grey or red, green, blue, uint8.
    quality
        WebP quality in 0..100; less where it would be too heavy, as noise is, and at
        last the picture is kept smaller.
    most_bytes
        Size aimed at, before base64; 0 is none.
    """
    content = _webp(picture, quality)
    while 0 < most_bytes < len(content) and quality > LOWEST_QUALITY:
        quality = max(quality - 12, LOWEST_QUALITY)
        content = _webp(picture, quality)
    while 0 < most_bytes < len(content) and min(picture.shape[:2]) > SMALLEST_PX:
        size = picture.shape[1] * 3 // 4, picture.shape[0] * 3 // 4
        picture = np.asarray(Image.fromarray(picture).resize(size))
        content = _webp(picture, quality)
    return data_uri(content, "image/webp")


def _webp(picture: Bytes, quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(
        buffer, "WEBP", quality=quality, method=4
    )
    return buffer.getvalue()


def data_uri(content: bytes, kind: str) -> str:
    """Write a file's bytes so that they can stand inside the page."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
