"""Keep the page light: its pictures share a budget and step down in size and quality.

A picture keeps its place and proportions on the page, with fewer pixels in it; charts
drawn as SVG stay as they are.
"""

import base64
import dataclasses
import io
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from PIL import Image

from tomoglean.report.blocks import Note, Section

LOG = logging.getLogger(__name__)
MOST_BYTES = 14_000_000
PIXELS = ("data:image/webp;base64,", "data:image/png;base64,", "data:image/jpeg;base64,")
STEPS = ((0.85, 75), (0.7, 70), (0.55, 65), (0.4, 60), (0.28, 55), (0.18, 50), (0.1, 40))
SMALLEST_PX = 24


def keep(sections: Sequence[Section]) -> list[Section]:
    """Bring the pictures of a page below the budget, and say so wherever they stand."""
    return told(*fit(sections))


def fit(sections: Sequence[Section], most: int = MOST_BYTES) -> tuple[list[Section], str]:
    """Bring the pictures of a page below a budget.

    Parameters
    ----------
    sections
        All parts of the page.
    most
        Bytes that pictures and charts may take together, as they stand in the page.

    Returns
    -------
    tuple of list of Section, and str
        The parts, with the largest pictures that fit; and what was done, to be told on
        the page (empty if nothing was).
    """
    total = sum(map(len, uris(sections)))
    if total <= most:
        return list(sections), ""
    fixed = sum(len(uri) for uri in uris(sections) if not uri.startswith(PIXELS))
    left = (most - fixed) / max(total - fixed, 1)
    steps = [step for step in STEPS if step[0] ** 2 <= left * 1.5] or [STEPS[-1]]
    for scale, quality in steps:
        smaller = _mapped(sections, _smaller(scale, quality))
        size = sum(map(len, uris(smaller)))
        LOG.info("pictures at %g of their edge: %.1f MB", scale, size / 1e6)
        if size <= most:
            break
    told = (
        f"To keep the page light, pictures have {100 * scale:.0f} % of their usual edge"
        f" (quality {quality} of 100): {total / 1e6:.1f} MB of them became"
        f" {size / 1e6:.1f} MB. `python -m tomoglean view` shows the volumes in full."
    )
    return list(smaller), told


def told(sections: Sequence[Section], note: str) -> list[Section]:
    """Say in every part with pictures that they were made smaller."""
    return [
        dataclasses.replace(part, blocks=[Note(note), *part.blocks])
        if note and any(uri.startswith(PIXELS) for uri in uris([part]))
        else part
        for part in sections
    ]


def uris(value: Any) -> Iterator[str]:
    """Yield every picture below a value, as the data URI that stands in the page."""
    if isinstance(value, str):
        if value.startswith("data:image/"):
            yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from uris(inner)
    elif isinstance(value, Sequence):
        for inner in value:
            yield from uris(inner)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from uris(getattr(value, field.name))


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """Change every picture below a value; what holds none is handed back as it is."""
    if next(uris(value), None) is None:
        return value
    if isinstance(value, str):
        return change(value) if value.startswith(PIXELS) else value
    if isinstance(value, Mapping):
        return {key: _mapped(inner, change) for key, inner in value.items()}
    if isinstance(value, Sequence):
        return [_mapped(inner, change) for inner in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        changed = {name: _mapped(inner, change) for name, inner in fields.items()}
        return dataclasses.replace(value, **changed)
    return value


def _smaller(scale: float, quality: int) -> Callable[[str], str]:
    def change(uri: str) -> str:
        made = smaller(uri, scale, quality)
        return made if len(made) < len(uri) else uri

    return change


def smaller(uri: str, scale: float, quality: int) -> str:
    """Write a picture again as WebP with fewer pixels; a damaged one stays as it is."""
    content = base64.b64decode(uri.partition(",")[2])
    buffer = io.BytesIO()
    try:
        with Image.open(io.BytesIO(content)) as picture:
            size = [
                max(round(edge * scale), min(edge, SMALLEST_PX)) for edge in picture.size
            ]
            mode = "RGBA" if "A" in picture.getbands() else "RGB"
            shrunk = picture.convert(mode).resize((size[0], size[1]))
            shrunk.save(buffer, "WEBP", quality=quality, method=2)
    except OSError:
        return uri
    return f"{PIXELS[0]}{base64.b64encode(buffer.getvalue()).decode()}"
