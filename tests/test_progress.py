"""Long work tells how far it is: a line every 30 s at most, a bar in a terminal."""

import contextlib
import io
import itertools
import logging

import pytest

from tomoglean import fingerprint, progress
from tomoglean.progress import Handler, Screen, Teller


class Clock:
    """Seconds that pass when told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, logger="tomoglean.progress")
    return lambda: [record.getMessage() for record in caplog.records]


def run(teller, clock, steps, seconds_a_step, work="train", start=0, **more):
    for done in range(start + 1, steps + 1):
        clock.now += seconds_a_step
        teller.tell(work, done, steps, **more)


def test_a_log_gets_a_line_at_most_every_30_seconds_and_one_at_the_end(clock, lines):
    times, teller = [], Teller(clock)
    teller._show = lambda text, end=False: times.append((clock.now, end))
    run(teller, clock, 1000, 0.2)
    going = [now for now, end in times if not end]
    assert len(going) == 6  # 200 s
    assert all(b - a >= progress.EVERY_S for a, b in itertools.pairwise(going))
    assert [end for _, end in times].count(True) == 1


def test_short_work_is_one_line(clock, lines):
    run(Teller(clock), clock, 100, 0.1, unit="slices")
    assert lines() == ["train: 100 slices in 9.9 s, 10 slices/s"]


def test_a_line_tells_step_loss_rate_and_time_to_go(clock, lines):
    teller = Teller(clock)
    teller.tell("train", 0, 600, unit="steps", loss=1.0)
    for done in range(1, 101):
        clock.now += 0.5
        teller.tell("train", done, 600, unit="steps", loss=0.25)
    assert lines() == [
        "train: 60 of 600 steps (10 %), loss 0.25, 2 steps/s, 4 min 30 s to go"
    ]


def test_steps_of_an_earlier_job_do_not_count_in_the_rate(clock, lines):
    teller = Teller(clock)
    teller.tell("train", 900, 1000)
    clock.now += 40
    teller.tell("train", 940, 1000)
    assert lines() == ["train: 940 of 1000 (94 %), 1/s, 1 min 00 s to go"]


def test_the_rate_is_that_of_the_last_minutes(clock, lines):
    teller = Teller(clock)
    run(teller, clock, 100_000, 0.001)  # fast at first: 100 s
    lines()
    teller.tell("vote", 0, 1000)
    for done in range(1, 61):
        clock.now += 1
        teller.tell("vote", done, 1000)
    for done in range(61, 101):
        clock.now += 30
        teller.tell("vote", done, 1000)
    assert "0.0333/s" in lines()[-1]


def test_a_count_that_falls_begins_anew(clock, lines):
    teller = Teller(clock)
    run(teller, clock, 50, 0.1)
    teller.tell("train", 1, 80)
    clock.now += 31
    teller.tell("train", 2, 50)
    assert len(lines()) == 1  # the total changed: not one of the 31 s counts
    clock.now += 29
    teller.tell("train", 3, 50)
    assert len(lines()) == 1


def test_two_works_are_told_apart(clock, lines):
    teller = Teller(clock)
    for done in range(1, 9):
        clock.now += 5
        teller.tell("a", done, 100)
        teller.tell("b", done, 200)
    assert [line.split(":")[0] for line in lines()] == ["a", "b"]


def test_work_without_a_step_to_make_is_no_error(clock, lines):
    Teller(clock).tell("train", 0, 0)
    assert lines() == ["train: 0 in 0.0 s"]


def test_numbers_are_looked_at_only_when_a_line_is_due(clock, lines):
    class Device:
        read = 0

        def __float__(self):
            Device.read += 1
            return 0.5

    run(Teller(clock), clock, 1000, 0.06, loss=Device())
    assert Device.read == len(lines()) == 2


def test_no_control_character_reaches_a_log(clock, lines):
    run(Teller(clock), clock, 40, 1.0, work="a\x1b[31m\r\nb\x00", unit="st\x07eps")
    assert len(lines()) == 2
    assert all(line.isprintable() for line in lines())


def test_a_terminal_gets_a_bar_that_fits_and_is_cleared_for_other_lines(clock):
    stream = Terminal()
    teller = Teller(clock)
    teller.screen = Screen(stream, columns=60)
    run(teller, clock, 20, 1.0, work="projecting planes " * 2, unit="planes")
    drawn = stream.getvalue().split(progress.ERASE)
    assert len(drawn) == 1 + 18 + 1  # nothing, redrawn each second, the end
    assert max(len(text) for text in drawn[:-1]) == 59
    assert drawn[-1].endswith("planes/s\n")
    assert "[" not in drawn[-1]


def test_a_bar_grows_with_the_work(clock):
    stream = Terminal()
    teller = Teller(clock)
    teller.screen = Screen(stream, columns=120)
    for done in (1, 25, 50, 75):
        teller.tell("scan", done, 100)
        clock.now += 1
    bars = [part.count("#") for part in stream.getvalue().split(progress.ERASE)[1:]]
    assert bars == [6, 12, 18]


def test_a_fast_loop_redraws_ten_times_a_second_at_most(clock):
    stream = Terminal()
    teller = Teller(clock)
    teller.screen = Screen(stream, columns=80)
    run(teller, clock, 10_000, 0.001)
    assert stream.getvalue().count(progress.ERASE) <= 101


def test_what_says_how_far_it_is_becomes_progress(clock):
    stream = Terminal()
    teller = Teller(clock)
    handler = Handler(stream, teller)
    teller.screen = handler.screen
    logger = logging.Logger("tomoglean.simulators")
    logger.addHandler(handler)
    for done in (16, 32, 48):
        logger.info(progress.TOLD, "scan", done, 64)
        clock.now += 1
    logger.info("%s: building the specimen", "mini-1")
    text = stream.getvalue()
    assert "scan: [############............] 32 of 64 (50 %)" in text
    assert text.endswith(f"{progress.ERASE}    3.0 s  mini-1: building the specimen\n")


def test_the_simulators_say_it_in_those_words(caplog):
    from tomoglean.simulators import making

    caplog.set_level(logging.INFO)
    making.tell("scan", 4, 4)
    assert caplog.records[-1].msg == progress.TOLD


@pytest.mark.parametrize(
    ("terminal", "term", "drawn"),
    [
        (True, "xterm", True),
        (True, "dumb", False),
        (True, "", False),
        (False, "xterm", False),
    ],
)
def test_only_a_terminal_that_can_is_drawn_on(monkeypatch, terminal, term, drawn):
    monkeypatch.setenv("TERM", term)
    stream = Terminal() if terminal else io.StringIO()
    with progress.shown(stream):
        assert (progress._teller.screen is not None) == drawn
        logging.getLogger("tomoglean.simulators").info("hello")
    assert progress._teller.screen is None
    assert stream.getvalue().endswith("s  hello\n")
    assert (progress.ERASE in stream.getvalue()) is False


def test_a_command_that_breaks_off_leaves_the_cursor_on_its_own_line(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with contextlib.suppress(KeyboardInterrupt), progress.shown(stream):
        progress._teller.screen.draw("train: [###")
        raise KeyboardInterrupt
    assert stream.getvalue().endswith("[###\n")


def test_telling_never_counts_in_a_fingerprint(tmp_path):
    package = tmp_path / "tomoglean"
    package.mkdir()
    body = "def learn(steps):\n    for step in range(steps):\n{}        work(step)\n"
    texts = ("", "        progress.tell('train', step, steps, loss=1)\n")
    (tmp_path / "script.py").write_text("from tomoglean import loop\n\nloop.learn(3)\n")
    found = []
    for text in texts:
        head = "from tomoglean import progress\n\n" if text else ""
        (package / "loop.py").write_text(head + body.format(text))
        found.append(_fingerprint(tmp_path))
    assert found[0] == found[1]
    (package / "loop.py").write_text(body.format("        other(step)\n"))
    assert _fingerprint(tmp_path) != found[0]


def _fingerprint(root):
    for one in vars(fingerprint).values():
        if hasattr(one, "cache_clear"):
            one.cache_clear()
    return fingerprint.fingerprint(root / "script.py", root=root)
