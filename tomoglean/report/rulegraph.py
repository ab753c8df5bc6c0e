"""Draw which rules ran and who fed whom, from the records of the jobs alone.

A box a rule, what feeds it above it. Where a rule feeds one that stands above it (better
labels are cut anew, networks trained once more) the line is dashed and runs upwards.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from xml.sax.saxutils import escape

from tomoglean.report import style
from tomoglean.report.jobs import Job

BOX_W, BOX_H, BEND_W, GAP_X, GAP_Y, EDGE = 136, 44, 4, 18, 40, 14
BACK_X = 34
SWEEPS = 8
RAW = "raw data"
LETTERS = 17
Edge = tuple[str, str]


@dataclass(frozen=True)
class Graph:
    """Rules and who feeds whom.

    Attributes
    ----------
    told
        What stands below each rule's name, such as "12 jobs, 3 min 10 s"; raw data, if
        any were read, come first.
    edges
        Pairs of rules: what the first writes the second reads.
    back
        The pairs among them that lead up: without them nothing goes round in circles.
    """

    told: Mapping[str, str]
    edges: frozenset[Edge]
    back: frozenset[Edge]


def of(jobs: Iterable[Job]) -> Graph:
    """Find out which rules ran and who fed whom.

    Parameters
    ----------
    jobs
        Jobs that ended well; inputs begin with results/, outputs lie below it.

    Returns
    -------
    Graph
        Rules that only fed each other's earlier rounds are joined by a way back.
    """
    every = sorted(jobs, key=lambda job: (job.started, job.rule))
    maker = {path: job.rule for job in every for path in job.outputs}
    edges: dict[Edge, None] = {}
    raw: set[str] = set()
    for job in every:
        for path in job.inputs:
            inside = path.startswith("results/")
            raw |= set() if inside else {path}
            source = maker.get(path.removeprefix("results/")) if inside else RAW
            if source and source != job.rule:
                edges[source, job.rule] = None
    rules = dict.fromkeys(job.rule for job in every)
    files = {RAW: "1 file" if len(raw) == 1 else f"{len(raw)} files"} if raw else {}
    told = files | {rule: _told([j for j in every if j.rule == rule]) for rule in rules}
    return Graph(told, frozenset(edges), frozenset(_leading_back(told, edges)))


def _told(jobs: Sequence[Job]) -> str:
    seconds = [job.seconds for job in jobs if job.seconds is not None]
    count = "1 job" if len(jobs) == 1 else f"{len(jobs)} jobs"
    return f"{count}, {style.duration(sum(seconds))}" if seconds else count


def _leading_back(nodes: Iterable[str], edges: Iterable[Edge]) -> set[Edge]:
    """Return the edges that close a circle when rules are walked as they started."""
    after: dict[str, list[str]] = {}
    for source, target in edges:
        after.setdefault(source, []).append(target)
    back: set[Edge] = set()
    done: set[str] = set()
    for start in nodes:
        trail, waiting = [start], [iter(after.get(start, ()))]
        while trail and start not in done:
            following = next(waiting[-1], None)
            if following is None:
                done.add(trail.pop())
                waiting.pop()
            elif following in trail:
                back.add((trail[-1], following))
            elif following not in done:
                trail.append(following)
                waiting.append(iter(after.get(following, ())))
    return back


def reduced(graph: Graph) -> tuple[frozenset[Edge], frozenset[Edge]]:
    """Return the edges that lead down and those that lead up, without those that follow.

    One follows if what it feeds is fed on another way too.
    """
    after: dict[str, set[str]] = {node: set() for node in graph.told}
    for source, target in graph.edges - graph.back:
        after[source].add(target)
    below: dict[str, set[str]] = {}

    def reach(node: str) -> set[str]:
        if node not in below:
            below[node] = set().union(*(reach(one) | {one} for one in after[node]))
        return below[node]

    def needed(edges: frozenset[Edge]) -> frozenset[Edge]:
        return frozenset(
            (source, target)
            for source, target in edges
            if not any(a == source and target in reach(b) for a, b in edges)
        )

    return needed(graph.edges - graph.back), needed(graph.back)


# -- layout ------------------------------------------------------------------------------


@dataclass
class Spot:
    """A box, or a bend of a line that passes by a row of boxes.

    Attributes
    ----------
    name
        Of the rule; empty for a bend.
    row
        How far down, in rows.
    x
        Its middle, in pixels.
    above, below
        What it is joined with in the rows beside its own.
    """

    name: str
    row: int
    x: float = 0.0
    above: list["Spot"] = field(default_factory=list)
    below: list["Spot"] = field(default_factory=list)

    @property
    def width(self) -> float:
        """Room that it takes, in pixels."""
        return BOX_W if self.name else BEND_W


@dataclass(frozen=True)
class Layout:
    """Where everything stands.

    Attributes
    ----------
    rows
        Boxes and bends from the top down, each row from left to right.
    lines
        Ways through them from a box down to another.
    ways_back
        The same, to be walked upwards.
    """

    rows: list[list[Spot]]
    lines: list[list[Spot]]
    ways_back: list[list[Spot]]


def layout(graph: Graph) -> Layout:
    """Lay the rules out in rows, each below all that feed it."""
    lines, ways = reduced(graph)
    level = dict.fromkeys(graph.told, 0)
    for _ in graph.told:
        for source, target in lines:
            level[target] = max(level[target], level[source] + 1)
    found: list[list[Spot]] = [[] for _ in range(max(level.values(), default=-1) + 1)]
    spots = {name: Spot(name, level[name]) for name in graph.told}
    for spot in spots.values():
        found[spot.row].append(spot)
    down = [_join(spots[a], spots[b], found) for a, b in sorted(lines)]
    up = [_join(spots[b], spots[a], found) for a, b in sorted(ways)]
    for sweep in range(SWEEPS):
        falling = sweep % 2 == 0
        for row in found if falling else found[::-1]:
            _order(row, falling)
    _align(found)
    return Layout(found, down, up)


def _join(source: Spot, target: Spot, found: list[list[Spot]]) -> list[Spot]:
    """Join two boxes by a line that bends in every row between them."""
    bends = [Spot("", row) for row in range(source.row + 1, target.row)]
    for bend in bends:
        found[bend.row].append(bend)
    line = [source, *bends, target]
    for one, other in pairwise(line):
        one.below.append(other)
        other.above.append(one)
    return line


def _order(row: list[Spot], falling: bool) -> None:
    """Sort a row by where those stand that its spots are joined with."""
    for number, spot in enumerate(row):
        beside = spot.above if falling else spot.below
        spot.x = sum(one.x for one in beside) / len(beside) if beside else number / len(row)
    row.sort(key=lambda spot: spot.x)
    for number, spot in enumerate(row):
        spot.x = (number + 0.5) / len(row)


def _align(found: Sequence[Sequence[Spot]]) -> None:
    """Give every spot its place in pixels: near those it is joined with, none too close."""
    for row in found:
        _spread(row, [BOX_W * number for number in range(len(row))])
    for sweep in range(SWEEPS):
        for row in found if sweep % 2 == 0 else found[::-1]:
            _spread(
                row, [_mean([s.x for s in (*one.above, *one.below)], one.x) for one in row]
            )
    left = min((spot.x - spot.width / 2 for row in found for spot in row), default=0)
    for row in found:
        for spot in row:
            spot.x = round(spot.x - left + EDGE, 1)


def _mean(values: Sequence[float], instead: float) -> float:
    return sum(values) / len(values) if values else instead


def _spread(row: Sequence[Spot], wanted: Sequence[float]) -> None:
    """Put a row as near to where it should be as its order and widths allow."""
    offsets = [0.0]
    for one, other in pairwise(row):
        offsets.append(offsets[-1] + (one.width + other.width) / 2 + GAP_X)
    shifts = [want - offset for want, offset in zip(wanted, offsets, strict=False)]
    for spot, shift, offset in zip(row, _rising(shifts), offsets, strict=False):
        spot.x = shift + offset


def _rising(values: Sequence[float]) -> list[float]:
    """Return the rising sequence nearest to a sequence (pool adjacent violators)."""
    pools: list[list[float]] = []
    for value in values:
        pools.append([value])
        while len(pools) > 1 and _mean(pools[-2], 0) > _mean(pools[-1], 0):
            pools[-2:] = [pools[-2] + pools[-1]]
    return [_mean(pool, 0) for pool in pools for _ in pool]


# -- drawing -----------------------------------------------------------------------------


def draw(graph: Graph) -> tuple[str, int]:
    """Write the graph as SVG.

    Parameters
    ----------
    graph
        See `of`; names may hold anything.

    Returns
    -------
    str
        One drawing, without any script, link or font of its own.
    int
        Its width in pixels.
    """
    found = layout(graph)
    spots = [spot for row in found.rows for spot in row]
    width = round(max((one.x + one.width / 2 for one in spots), default=0) + EDGE)
    height = max(1, len(found.rows)) * (BOX_H + GAP_Y) - GAP_Y + 2 * EDGE
    lines = [_line(line, back=False) for line in found.lines]
    ways = [_line(line, back=True) for line in found.ways_back]
    drawn = [_box(spot, graph.told[spot.name]) for spot in spots if spot.name]
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="{style.SYSTEM_FONT}" '
        f'fill="{style.INK}" text-anchor="middle"><title>{escape(words(graph))}</title>'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto-start-reverse"><path d="M0 0L8 4L0 8z" '
        f'fill="{style.MUTED}"/></marker></defs>{"".join((*lines, *ways, *drawn))}</svg>\n'
    )
    return svg, width


def words(graph: Graph) -> str:
    """Say what the drawing shows, for those who cannot see it."""
    lines, ways = reduced(graph)
    pairs = ", ".join(f"{a} to {b}" for a, b in sorted(lines | ways))
    return f"Rules that ran and who fed whom: {pairs or 'no rule fed another'}"


def _top(spot: Spot) -> float:
    return EDGE + spot.row * (BOX_H + GAP_Y)


def _line(line: Sequence[Spot], *, back: bool) -> str:
    """Draw a line from a box down to another, past what lies between."""
    xs = [spot.x + (BACK_X if back and spot.name else 0) for spot in line]
    path = [f"M{xs[0]:g} {_top(line[0]) + BOX_H + back:g}"]
    for (one, other), (x0, x1) in zip(pairwise(line), pairwise(xs), strict=True):
        y0, y1 = _top(one) + BOX_H + GAP_Y / 2, _top(other)
        end = y1 if back or not other.name else y1 - 1
        path.append(f"C{x0:g} {y0:g} {x1:g} {y1 - GAP_Y / 2:g} {x1:g} {end:g}")
        path.append("" if other.name else f"V{y1 + BOX_H:g}")
    ink, dash = (style.BLUE, "5 4") if back else (style.MUTED, "none")
    return (
        f'<path d="{"".join(path)}" fill="none" stroke="{ink}" stroke-width="1.3" '
        f'stroke-dasharray="{dash}" marker-{"start" if back else "end"}="url(#tip)"/>'
    )


def _box(spot: Spot, told: str) -> str:
    name, x, y, raw = spot.name, spot.x - BOX_W / 2, _top(spot), spot.name == RAW
    fill, dash = ("none", ' stroke-dasharray="3 3"') if raw else ("#fff", "")
    short = name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…"
    middle = spot.x
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{BOX_W}" height="{BOX_H}" rx="6" '
        f'fill="{fill}" stroke="{style.MUTED}"{dash}/>'
        f'<text x="{middle:g}" y="{y + 19:g}" font-size="13" font-weight="600">'
        f'{escape(short)}</text><text x="{middle:g}" y="{y + 34:g}" font-size="11" '
        f'fill="{style.MUTED}">{escape(told)}</text>'
    )
