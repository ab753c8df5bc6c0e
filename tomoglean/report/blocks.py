"""What a report is made of: the few kinds of things the template can draw."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass(frozen=True)
class Note:
    """One paragraph; `tone` is plain, good, warn or bad."""

    text: str
    tone: str = "plain"
    kind: ClassVar[str] = "note"


@dataclass(frozen=True)
class Heading:
    """A title inside a section."""

    text: str
    anchor: str = ""
    stamps: Sequence[str] = ()
    level: int = 3
    kind: ClassVar[str] = "heading"


@dataclass(frozen=True)
class Cell:
    """One field of a table: text, how it is set apart (pill, best ...), a small picture.

    `value` is the number or the whole word behind the text, for the tables beside the page;
    `why` is a line of its own below the row.
    """

    text: str
    look: str = ""
    value: float | str | None = None
    uri: str = ""
    alt: str = ""
    why: str = ""


@dataclass(frozen=True)
class Table:
    """A table that scrolls inside its own box; the first column holds the names.

    `name` is that of its file beside the page (from its title or heading if empty),
    `shown` how many rows the page has of it, and `columns` how many of them side by side
    (all if 0): the others follow below.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    stamps: Sequence[str] = ()
    empty: str = "Nothing here yet."
    title: str = ""
    name: str = ""
    shown: int = 0
    columns: int = 0
    kind: ClassVar[str] = "table"

    @property
    def file(self) -> str:
        """Name of its file beside the page, empty if that follows from its title."""
        return f"{self.name}.csv" if self.name else ""

    @property
    def pieces(self) -> list[tuple[list[str], list[list[Cell]]]]:
        """Head and rows as the page has them, one piece below the other."""
        width, rows = len(self.head) - 1, self.rows[: self.shown or None]
        step = self.columns or max(width, 1)
        parts = [slice(at, at + step) for at in range(1, max(width, 1) + 1, step)]
        return [
            (
                [*self.head[:1], *self.head[part]],
                [[*row[:1], *row[part]] for row in rows],
            )
            for part in parts
        ]


@dataclass(frozen=True)
class Chart:
    """A drawn chart as a data URI, with what it shows in words."""

    uri: str
    alt: str
    caption: str = ""
    kind: ClassVar[str] = "chart"


@dataclass(frozen=True)
class Charts:
    """Charts side by side, one below the other on a phone."""

    charts: Sequence[Chart]
    caption: str = ""
    kind: ClassVar[str] = "charts"


@dataclass(frozen=True)
class Drawing:
    """A wide drawing that scrolls inside its own box; `width` is in CSS pixels."""

    uri: str
    alt: str
    width: int
    caption: str = ""
    kind: ClassVar[str] = "drawing"


@dataclass(frozen=True)
class Mark:
    """A place on a picture, in its pixels, and what it is (TP, FP, FN or pick)."""

    x: float
    y: float
    outcome: str


@dataclass(frozen=True)
class Frame:
    """A picture with scale bar and marks; width and height in its own pixels."""

    uri: str
    alt: str
    caption: str
    width: int
    height: int
    bar_percent: float = 0.0
    bar_text: str = ""
    marks: Sequence[Mark] = ()
    mark_radius: float = 8.0


@dataclass(frozen=True)
class ColourBar:
    """What the colours of a map mean: colours from low to high, and their values."""

    text: str
    low: str
    high: str
    colours: Sequence[str]


@dataclass(frozen=True)
class Panels:
    """Pictures of one place side by side, with the colours they use.

    `columns` pictures stand in a row; 0 is as many as there are, at most four.
    """

    title: str
    frames: Sequence[Frame]
    caption: str = ""
    legend: Mapping[str, str] = field(default_factory=dict)
    columns: int = 0
    bars: Sequence[ColourBar] = ()
    kind: ClassVar[str] = "panels"


@dataclass(frozen=True)
class Gallery:
    """Many small pictures of one kind, best first."""

    title: str
    frames: Sequence[Frame]
    tone: str = ""
    caption: str = ""
    kind: ClassVar[str] = "gallery"


@dataclass(frozen=True)
class Fold:
    """A long text that opens on demand."""

    title: str
    text: str
    kind: ClassVar[str] = "fold"


@dataclass(frozen=True)
class Folded:
    """Blocks that open on demand; on paper they are open."""

    title: str
    blocks: Sequence[Any]
    kind: ClassVar[str] = "folded"


@dataclass(frozen=True)
class Command:
    """Lines to be copied into a shell, and what they leave open."""

    title: str
    text: str
    caption: str = ""
    kind: ClassVar[str] = "command"


@dataclass(frozen=True)
class Light:
    """The state of all in one colour (good, warn, bad), its word, and counts with tones."""

    tone: str
    word: str
    text: str
    counts: Mapping[str, tuple[int, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Card:
    """One headline figure."""

    label: str
    figure: str
    detail: str = ""
    stamps: Sequence[str] = ()
    tone: str = "plain"
    interval: str = ""


@dataclass(frozen=True)
class Section:
    """A titled part of the page."""

    anchor: str
    title: str
    blocks: Sequence[Any]
    lead: str = ""
    stamps: Sequence[str] = ()
