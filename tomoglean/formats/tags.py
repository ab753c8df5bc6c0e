"""The tags of a TIFF file, checked before a library decodes anything by them.

A decoder allocates what the tags claim, and tifffile reads many damaged files without a
word. So the directories are walked here first: whatever contradicts itself, or the size
of the file, is damage.

Facts: TIFF 6.0 (https://www.loc.gov/preservation/digital/formats/fdd/fdd000022.shtml),
BigTIFF (https://www.awaresystems.be/imaging/tiff/bigtiff.html).
"""

import functools
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from tomoglean.formats.source import MOST_BYTES_PER_SLICE
from tomoglean.provenance import Refused

MOST_PAGES = 1 << 15
MOST_ENTRIES = 1 << 12
MOST_SEGMENTS = 1 << 22
MOST_BYTES_PER_SEGMENT = 1 << 28
MOST_SAMPLES = 4
UNTRUSTED_BYTES = 1 << 29
UNTRUSTED_PAGE_BYTES = 3 << 26
MOST_RATIO = 700
TYPE_BYTES = np.array([0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8])
WHOLE = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}
WIDTH, LENGTH, BITS, COMPRESSION, SAMPLES, ROWS, PLANAR = 256, 257, 258, 259, 277, 278, 284
STRIP_OFFSETS, STRIP_BYTES, TILE_OFFSETS, TILE_BYTES = 273, 279, 324, 325
TILE_WIDTH, TILE_LENGTH, DEPTH, TILE_DEPTH = 322, 323, 32997, 32998
KNOWN = [
    *(WIDTH, LENGTH, BITS, COMPRESSION, SAMPLES, ROWS, PLANAR),
    *(TILE_WIDTH, TILE_LENGTH, DEPTH, TILE_DEPTH),
    *(STRIP_OFFSETS, STRIP_BYTES, TILE_OFFSETS, TILE_BYTES),
]
SEPARATE = 2
PLAIN = 1
DECODED = {
    PLAIN: "none",
    2: "CCITT",
    3: "CCITT",
    4: "CCITT",
    5: "LZW",
    8: "deflate",
    32773: "PackBits",
    32946: "deflate",
    34925: "LZMA",
    50000: "zstd",
}
Numbers = npt.NDArray[np.int64]


class Entry(NamedTuple):
    """Where the numbers of a tag stand in the file: type, amount, place in bytes."""

    kind: int
    amount: int
    place: int


class Tags:
    """Reads the directories of one file.

    Parameters
    ----------
    path
        TIFF file.
    file
        The same, open for reading bytes.

    Raises
    ------
    Refused
        If the file is no TIFF.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self.file, self.bytes = path, file, path.stat().st_size
        start = self._at(0, 8)
        self.order = {b"II": "<", b"MM": ">"}.get(start[:2], "")
        version = struct.unpack(f"{self.order or '<'}H", start[2:4])[0]
        if not self.order or version not in (42, 43):
            raise Refused(
                f"{path.name}: expected a TIFF file, found the bytes {start[:4]!r}; copy it"
                " again or correct its ending"
            )
        self.big = version == 43
        self.word = "Q" if self.big else "I"
        self.first_at = 8 if self.big else 4

    def damaged(self, expected: str, found: object) -> Refused:
        """Say what contradicts what."""
        return Refused(
            f"{self.path.name}: expected {expected}, found {found}; the file is damaged:"
            " copy it again"
        )

    def _at(self, place: int, size: int) -> bytes:
        self.file.seek(place)
        data = self.file.read(size) if place + size <= self.bytes else b""
        if len(data) != size:
            raise self.damaged(f"{size} bytes at {place}", f"the end at {self.bytes}")
        return data

    def _number(self, place: int, kind: str) -> int:
        code = f"{self.order}{kind}"
        return int(struct.unpack(code, self._at(place, struct.calcsize(code)))[0])

    def _chain(self) -> Iterator[tuple[int, int]]:
        """Walk from directory to directory: place of the entries, and their number."""
        head, entry, count = (8, 20, "Q") if self.big else (2, 12, "H")
        place, seen = self._number(self.first_at, self.word), set[int]()
        while place:
            if place in seen or not 8 <= place < self.bytes:
                raise self.damaged("directories one after another", f"one at {place}")
            if len(seen) == MOST_PAGES:
                raise self.damaged(f"at most {MOST_PAGES} pages", "more")
            seen.add(place)
            entries = self._number(place, count)
            if not 1 <= entries <= MOST_ENTRIES:
                raise self.damaged("a directory of tags", f"one of {entries} entries")
            yield place + head, entries
            place = self._number(place + head + entries * entry, self.word)

    def directories(self) -> list["Directory"]:
        """Read the tags of every page; none may lie outside the file."""
        chain = list(self._chain())
        if not chain:
            raise self.damaged("at least one page", "none")
        return [self._directory(place, entries) for place, entries in chain]

    @functools.cached_property
    def _entry(self) -> np.dtype[Any]:
        fields = [("code", "u2"), ("type", "u2"), ("count", "u4"), ("value", "u4")]
        if self.big:
            fields = [*fields[:2], ("count", "u8"), ("value", "u8")]
        return np.dtype([(name, self.order + kind) for name, kind in fields])

    def _directory(self, place: int, number: int) -> "Directory":
        width, inline = self._entry.itemsize, self._entry["value"].itemsize
        entries = np.frombuffer(self._at(place, number * width), self._entry)
        sizes = TYPE_BYTES[np.minimum(entries["type"], 18)] * entries["count"].astype(float)
        places = place + width * np.arange(number) + width - inline
        places = np.where(sizes > inline, entries["value"].astype(float), places)
        if ((places + sizes) > self.bytes).any():
            raise self.damaged(f"tags within {self.bytes} bytes", "one beyond")
        known = np.flatnonzero(np.isin(entries["code"], KNOWN))
        found = {
            int(entries["code"][n]): Entry(
                int(entries["type"][n]), int(entries["count"][n]), int(places[n])
            )
            for n in known
        }
        kinds = {entry.kind for entry in found.values()}
        if len(found) != len(known) or not kinds <= WHOLE.keys():
            raise self.damaged("every tag once, as whole numbers", sorted(found))
        apart = np.column_stack([places, sizes]).astype(np.int64)[sizes > inline]
        return Directory(self, place, number * width, found, apart)

    def read(self, entry: Entry) -> Numbers:
        """Read the numbers of a tag."""
        dtype = np.dtype(self.order + WHOLE[entry.kind])
        data = np.frombuffer(
            self._at(entry.place, entry.amount * dtype.itemsize), dtype
        ).astype(np.int64)
        if data.size and data.min() < 0:
            raise self.damaged("numbers below 2^63", "larger ones")
        return data


@dataclass(frozen=True)
class Directory:
    """The tags of one page; `place` and `size` tell where they stand in the file.

    `apart` has the place and size of every value that does not fit into its entry.
    """

    tags: Tags
    place: int
    size: int
    entries: dict[int, Entry]
    apart: Numbers

    def numbers(self, code: int, most: int = MOST_SAMPLES) -> Numbers:
        """Read a tag, of at most so many numbers; none if it is not there."""
        entry = self.entries.get(code, Entry(3, 0, 0))
        if entry.amount > most:
            raise self.tags.damaged(f"{most} numbers in tag {code}", entry.amount)
        return self.tags.read(entry)

    def get(self, code: int, default: int) -> int:
        """Read the first number of a tag."""
        found = self.numbers(code)
        return int(found[0]) if found.size else default


@dataclass(frozen=True)
class Page:
    """What a page claims, in pixels and bytes.

    Attributes
    ----------
    directory
        Its tags.
    bits
        Bits a sample.
    together
        Samples that lie side by side: 1, or those of a colour.
    planes
        Planes that follow each other: 1, or the colours.
    tiled
        Whether it is stored in tiles, not strips.
    """

    directory: Directory
    bits: int
    together: int
    planes: int
    tiled: bool

    @functools.cached_property
    def width(self) -> int:
        """Columns."""
        return self.directory.get(WIDTH, 0)

    @functools.cached_property
    def length(self) -> int:
        """Rows."""
        return self.directory.get(LENGTH, 0)

    @functools.cached_property
    def plain(self) -> bool:
        """Whether the pixels are stored as they are."""
        return self.directory.get(COMPRESSION, PLAIN) == PLAIN

    @property
    def in_memory(self) -> int:
        """Bytes of the decoded page."""
        return self._pixels(self.width, self.length) * self.planes

    def _pixels(self, width: int, length: int) -> int:
        return width * length * self.together * math.ceil(self.bits / 8)

    def _stored(self, width: int) -> int:
        return math.ceil(width * self.together * self.bits / 8)

    @functools.cached_property
    def segment(self) -> tuple[int, int]:
        """Width and length of a tile, or of a strip."""
        if not self.tiled:
            rows = self.directory.get(ROWS, self.length) or self.length
            return self.width, min(rows, self.length)
        return self.directory.get(TILE_WIDTH, 0), self.directory.get(TILE_LENGTH, 0)

    def needed(self) -> Numbers:
        """Return the stored bytes of every segment, were it not compressed."""
        width, length = self.segment
        down, across = math.ceil(self.length / length), math.ceil(self.width / width)
        sizes = np.full(down, self._stored(width) * length, np.int64)
        if not self.tiled:
            sizes[-1] = self._stored(width) * (self.length - (down - 1) * length)
        return np.tile(np.repeat(sizes, across), self.planes)

    def segments(self) -> int:
        """Count the segments that the page must have."""
        width, length = self.segment
        down, across = math.ceil(self.length / length), math.ceil(self.width / width)
        return down * across * self.planes

    def places(self) -> tuple[Numbers, Numbers]:
        """Read where the segments stand and how long they are, in bytes."""
        most = self.segments()
        codes = (TILE_OFFSETS, TILE_BYTES) if self.tiled else (STRIP_OFFSETS, STRIP_BYTES)
        if codes[0] not in self.directory.entries:
            codes = STRIP_OFFSETS, STRIP_BYTES
        starts, sizes = (self.directory.numbers(code, most) for code in codes)
        if self.plain and not sizes.size and most == 1:
            sizes = self.needed()
        return starts, sizes

    def check(self) -> None:
        """Refuse what no decoder should be asked for.

        Raises
        ------
        Refused
            If the page is too large, of an odd kind, or its edges are none.
        """
        tags, kind = self.directory.tags, self.directory.get(COMPRESSION, PLAIN)
        if kind not in DECODED:
            known = ", ".join(sorted(set(DECODED.values())))
            raise Refused(
                f"{tags.path.name}: expected one of the compressions {known}, found number"
                f" {kind}; save it without loss, as deflate or uncompressed"
            )
        if DECODED[kind] == "CCITT" and self.bits != 1:
            raise tags.damaged("CCITT pages of 1 bit", f"{self.bits} bits")
        edges = (self.width, self.length, *self.segment)
        depths = (self.directory.get(DEPTH, 1), self.directory.get(TILE_DEPTH, 1))
        if min(edges) < 1 or not 1 <= self.bits <= 128 or depths != (1, 1):
            raise tags.damaged("a page of pixels", f"edges {edges}, {self.bits} bits")
        if not 1 <= self.together * self.planes <= MOST_SAMPLES:
            raise tags.damaged(
                f"at most {MOST_SAMPLES} samples a pixel", self.together * self.planes
            )
        size, part = self.in_memory, self._pixels(*self.segment)
        if size > MOST_BYTES_PER_SLICE or part > MOST_BYTES_PER_SEGMENT + size:
            raise tags.damaged(
                "slices of at most 256 MiB", f"{edges[0]} x {edges[1]} in {edges[2:]}"
            )


def verify(path: Path) -> None:
    """Refuse a TIFF file whose tags contradict themselves or the size of the file.

    Parameters
    ----------
    path
        TIFF or BigTIFF file of one or many pages.

    Raises
    ------
    Refused
        If a table, a value or a strip lies outside the file, two overlap, plain strips
        are longer or shorter than their rows, or few bytes claim to be very many.
    """
    with path.open("rb") as file:
        tags = Tags(path, file)
        pages = [_page(directory) for directory in tags.directories()]
        if sum(page.segments() for page in pages) > MOST_SEGMENTS:
            raise tags.damaged(f"at most {MOST_SEGMENTS} strips or tiles", "more")
        _refuse_bombs(tags, pages)
        taken = [np.array([[page.directory.place, page.directory.size] for page in pages])]
        taken += [_segments(page) for page in pages]
        taken += [_merged(np.concatenate([page.directory.apart for page in pages]))]
        _refuse_overlaps(tags, np.concatenate(taken))


def _page(directory: Directory) -> Page:
    samples = directory.get(SAMPLES, 1)
    together = directory.get(PLANAR, 1) != SEPARATE
    bits = set(directory.numbers(BITS).tolist()) or {1}
    if len(bits) > 1:
        raise directory.tags.damaged("samples of one size", f"{sorted(bits)} bits")
    page = Page(
        directory,
        bits.pop(),
        samples if together else 1,
        1 if together else samples,
        TILE_WIDTH in directory.entries,
    )
    page.check()
    return page


def _segments(page: Page) -> Numbers:
    """Return place and length of every segment, as (segments, 2)."""
    tags, needed = page.directory.tags, page.needed()
    starts, sizes = page.places()
    if not len(starts) == len(sizes) == len(needed):
        raise tags.damaged(
            f"{len(needed)} strips or tiles a page", f"{len(starts)} and {len(sizes)}"
        )
    if sizes.min() < 1 or starts.min() < 8:
        raise tags.damaged("every strip written", "one that is empty or in the header")
    if page.plain and ((sizes < needed).any() or (sizes > needed.max()).any()):
        raise tags.damaged(
            f"plain strips of {needed.max()} bytes", f"{sizes.min()} to {sizes.max()}"
        )
    return np.column_stack([starts, sizes])


def _merged(apart: Numbers) -> Numbers:
    """Unite values that stand in one place: pages may share them, but not with strips."""
    apart = apart[np.argsort(apart[:, 0], kind="stable")]
    ends = np.maximum.accumulate(apart.sum(axis=1))
    first = np.append(True, apart[1:, 0] > ends[:-1]) if len(apart) else np.zeros(0, bool)
    starts = apart[first, 0]
    return np.column_stack([starts, ends[np.roll(first, -1)] - starts])


def _refuse_bombs(tags: Tags, pages: list[Page]) -> None:
    total = sum(page.in_memory for page in pages)
    largest = max(page.in_memory for page in pages)
    dense = total > MOST_RATIO * tags.bytes
    if dense and (total > UNTRUSTED_BYTES or largest > UNTRUSTED_PAGE_BYTES):
        raise tags.damaged(
            f"at most {MOST_RATIO} times its {tags.bytes} bytes", f"{total} bytes of pixels"
        )


def _refuse_overlaps(tags: Tags, taken: Numbers) -> None:
    taken = taken[np.argsort(taken[:, 0], kind="stable")]
    ends = taken.sum(axis=1)
    if ends.max() > tags.bytes or ends.min() < 0:
        raise Refused(
            f"{tags.path.name}: expected {ends.max()} bytes, found {tags.bytes}; the file"
            " is cut off: copy it again"
        )
    if (ends[:-1] > taken[1:, 0]).any():
        raise tags.damaged("strips one after another", "some that overlap")
