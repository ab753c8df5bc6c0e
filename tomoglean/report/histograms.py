"""Small histograms of grey values: a few slices are read, a few hundred bytes are drawn."""

from typing import Any

import numpy as np
import numpy.typing as npt

from tomoglean.report import style
from tomoglean.report.figures import data_uri

BINS = 44
WIDTH, HEIGHT, FOOT = 132, 44, 13
MOST_VOXELS = 4_000_000
MOST_SLICES = 8


def count(data: Any, low: float, high: float) -> npt.NDArray[np.int64]:
    """Count grey values of some slices, evenly spread along z.

    Parameters
    ----------
    data
        Grey values of shape (Z, Y, X), an array or a dataset that is sliced like one.
    low, high
        Ends of the histogram; values beyond them and values that are not finite are
        left out.

    Returns
    -------
    ndarray of shape (44,)
        Voxels in each of the bins.
    """
    depth, height, width = data.shape
    most = max(1, min(MOST_SLICES, MOST_VOXELS // max(1, height * width), depth))
    places = np.linspace(0, depth - 1, most + 2)[1:-1].round().astype(int)
    total = np.zeros(BINS, np.int64)
    for z in np.unique(places):
        values = np.asarray(data[int(z)], np.float64)
        total += np.histogram(values[np.isfinite(values)], BINS, (low, high))[0]
    return total


def draw(counts: npt.NDArray[np.int64], low: float, high: float) -> str:
    """Draw a histogram with the grey values at its ends; returns a data URI."""
    room, step = HEIGHT - FOOT, WIDTH / BINS
    heights = counts / max(1, counts.max()) * (room - 1)
    bars = "".join(
        f"M{n * step:.1f} {room}v-{tall:.1f}h{step * 0.82:.1f}v{tall:.1f}z"
        for n, tall in enumerate(heights)
        if tall
    )
    ends = ((0, "start", low), (WIDTH, "end", high))
    texts = "".join(
        f'<text x="{x}" y="{HEIGHT - 3}" text-anchor="{anchor}">'
        f"{style.significant(value, 2)}</text>"
        for x, anchor, value in ends
    )
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="9.5" '
        f'fill="{style.MUTED}"><path d="{bars}" fill="{style.BLUE}"/>'
        f'<path d="M0 {room}h{WIDTH}" stroke="{style.MUTED}"/>{texts}</svg>'
    )
    return data_uri(svg.encode(), "image/svg+xml")
