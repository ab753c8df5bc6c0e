"""Tell how far long work is: a line now and then in a log, a bar in a terminal.

One call in the loop is enough:

    progress.tell("train", step, steps, unit="steps", loss=loss)

A call costs about a microsecond. What it says never counts in a fingerprint, like what
is logged (`tomoglean.fingerprint`): a loop may be told of without anything made anew.
"""

import contextlib
import logging
import os
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TextIO

EVERY_S = 30.0
REDRAWN_EVERY_S = 0.1
RATED_OVER = 8
BAR = 24
TOLD = "%s: %d of %d"
ERASE = "\r\x1b[K"

log = logging.getLogger(__name__)


@dataclass
class _Work:
    """One loop: when it began, how far it was then, and the newest lines."""

    began: float
    total: int
    first: int
    done: int
    shown: float
    lines: deque[tuple[float, int]] = field(
        default_factory=lambda: deque(maxlen=RATED_OVER)
    )

    def rate(self, now: float) -> float | None:
        """Steps a second since the oldest line that is remembered."""
        then, done = self.lines[0] if self.lines else (self.began, self.first)
        made = self.done - done
        return made / (now - then) if now > then and made > 0 else None


class Teller:
    """Keep the time of every work, and show a line when one is due.

    Parameters
    ----------
    clock
        Function that returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.works: dict[str, _Work] = {}
        self.screen: Screen | None = None

    def tell(
        self, work: str, done: int, total: int, *, unit: str = "", **values: Any
    ) -> None:
        """Take note; log a line if one is due, or redraw the bar. See `tell`."""
        now = self.clock()
        known = self.works.get(work)
        if known is None or known.total != total or done < known.done:
            known = self.works[work] = _Work(now, total, done, done, now)
        known.done = done
        if done >= total:
            del self.works[work]
            self._show(_ended(work, known, now, unit, values), end=True)
        elif now - known.shown >= (REDRAWN_EVERY_S if self.screen else EVERY_S):
            self._show(_going(work, known, now, unit, values, bar=bool(self.screen)))
            known.shown = now
            if not known.lines or now - known.lines[-1][0] >= EVERY_S:
                known.lines.append((now, done))

    def _show(self, text: str, *, end: bool = False) -> None:
        if self.screen is None:
            log.info("%s", text)
        elif end:
            self.screen.write(text)
        else:
            self.screen.draw(text)


def _going(
    work: str, known: _Work, now: float, unit: str, values: dict[str, Any], *, bar: bool
) -> str:
    share = known.done / known.total
    rate = known.rate(now)
    left = "" if rate is None else f"{span((known.total - known.done) / rate)} to go"
    count = f"{known.done} of {known.total} {unit}".rstrip()
    full = round(share * BAR)
    drawn = f" [{'#' * full}{'.' * (BAR - full)}]" if bar else ""
    parts = [f"{count} ({100 * share:.0f} %)", *_told(values), _rate(rate, unit), left]
    return _plain(f"{work}:{drawn} {', '.join(filter(None, parts))}")


def _ended(work: str, known: _Work, now: float, unit: str, values: dict[str, Any]) -> str:
    seconds = now - known.began
    made = known.total - known.first
    rate = made / seconds if seconds > 0 and made > 0 else None
    count = f"{known.total} {unit}".rstrip()
    parts = [f"{count} in {span(seconds)}", *_told(values), _rate(rate, unit)]
    return _plain(f"{work}: {', '.join(filter(None, parts))}")


def _rate(rate: float | None, unit: str) -> str:
    return "" if rate is None else f"{rate:.3g} {unit}".rstrip() + "/s"


def _told(values: dict[str, Any]) -> list[str]:
    """Write values; numbers of a device come over only now, when a line is due."""
    return [f"{name} {float(value):.4g}" for name, value in values.items()]


def _plain(text: str) -> str:
    """Leave out what a terminal would act on: names come from tables."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def span(seconds: float) -> str:
    """Write a time span with the two units that suit it.

    Examples
    --------
    >>> span(7.25), span(190), span(7300), span(200_000)
    ('7.2 s', '3 min 10 s', '2 h 01 min', '2 d 07 h')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if not hours:
        return f"{minutes} min {rest:02d} s"
    days, part = divmod(hours, 24)
    return f"{days} d {part:02d} h" if days else f"{hours} h {minutes:02d} min"


class Screen:
    """The last line of a terminal, drawn again and again.

    Parameters
    ----------
    stream
        A terminal.
    columns
        Its width; by default asked for at every line.
    """

    def __init__(self, stream: TextIO, columns: int = 0) -> None:
        self.stream, self.columns, self.drawn = stream, columns, False

    def draw(self, text: str) -> None:
        """Put a text in place of the last line, cut to the width."""
        width = self.columns or shutil.get_terminal_size().columns
        self.stream.write(f"{ERASE}{text[: width - 1]}")
        self.stream.flush()
        self.drawn = True

    def write(self, text: str) -> None:
        """Write a line that stays."""
        self.stream.write(f"{ERASE if self.drawn else ''}{text}\n")
        self.stream.flush()
        self.drawn = False

    def end(self) -> None:
        """Leave the cursor on a line of its own."""
        if self.drawn:
            self.stream.write("\n")
            self.drawn = False


_teller = Teller()


def tell(work: str, done: int, total: int, *, unit: str = "", **values: Any) -> None:
    """Tell how far a work is; a line is logged at most every 30 s, and one at its end.

    Parameters
    ----------
    work
        What is done, such as `train`; one name a loop. A count that falls begins anew.
    done, total
        Steps made, with what an earlier job made, and all of them. A first call with
        the steps made before the loop lets the time of its first step count.
    unit
        What the steps are, such as `slices`.
    values
        Numbers to tell with it, such as the loss; looked at only when a line is due.
    """
    _teller.tell(work, done, total, unit=unit, **values)


def is_terminal(stream: TextIO) -> bool:
    """Whether a stream is a terminal that can draw a line anew."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


class Handler(logging.Handler):
    """Show log records on a stream with the seconds since the start.

    What says `work: 3 of 10` is shown as progress.
    """

    def __init__(self, stream: TextIO, teller: Teller = _teller) -> None:
        super().__init__()
        self.screen, self.teller, self.begin = Screen(stream), teller, teller.clock()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, or pass it on as progress."""
        if record.msg == TOLD and isinstance(record.args, tuple):
            work, done, total = record.args
            self.teller.tell(str(work), int(str(done)), int(str(total)))
        else:
            seconds = self.teller.clock() - self.begin
            self.screen.write(f"{seconds:7.1f} s  {record.getMessage()}")


@contextlib.contextmanager
def shown(stream: TextIO | None = None) -> Iterator[None]:
    """Show what the package logs, and how far its work is, on stderr; for commands.

    A terminal gets a bar, anything else a line at most every 30 s.
    """
    stream = sys.stderr if stream is None else stream
    logger, handler = logging.getLogger("tomoglean"), Handler(stream)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    _teller.screen = handler.screen if is_terminal(stream) else None
    try:
        yield
    finally:
        handler.screen.end()
        _teller.screen = None
        _teller.works.clear()
        logger.setLevel(level)
        logger.removeHandler(handler)
