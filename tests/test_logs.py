"""A log tells all attempts at a job, the last one below the others."""

import os

import pytest

from tomoglean import logs

HEAD = "2026-11-23 03:08:59,641 INFO tomoglean.stage: rule train for results/a"
STEP = "2026-11-23 03:09:10,641 INFO tomoglean.progress: train: 4 of 200 steps"
ERROR = "2026-11-23 03:10:00,100 ERROR tomoglean.stage: expected {}, found none"
WELL = "2026-11-23 03:10:00,100 INFO tomoglean.stage: OK seconds=2.29"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "logs" / "train" / "bone.log"


def attempt(path, *lines):
    """Try as Snakemake does, which removes the log first."""
    path.unlink(missing_ok=True)
    logs.begin(path)
    with path.open("a") as file:
        file.write("".join(f"{line}\n" for line in lines))


def test_the_log_of_a_retry_stands_below_that_of_the_attempt_before(path):
    attempt(path, HEAD, ERROR.format("first"))
    attempt(path, HEAD, STEP)
    assert path.read_text().splitlines() == [
        *(HEAD, ERROR.format("first"), logs.AGAIN, HEAD, STEP)
    ]


def test_a_job_that_has_ended_well_starts_anew_the_next_time(path):
    attempt(path, HEAD, ERROR.format("first"))
    attempt(path, HEAD, WELL)
    logs.end_well(path)
    assert [file.name for file in path.parent.iterdir()] == ["bone.log"]
    attempt(path, HEAD)
    assert path.read_text() == f"{HEAD}\n"


def test_what_many_attempts_leave_is_bounded(path, monkeypatch):
    monkeypatch.setattr(logs, "KEPT", 300)
    for number in range(20):
        attempt(path, HEAD, ERROR.format(number))
    assert path.stat().st_size < 300 + 300
    assert ERROR.format(18) in path.read_text()
    assert ERROR.format(2) not in path.read_text()


def test_where_there_are_no_links_a_job_runs_all_the_same(path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    attempt(path, HEAD, STEP)
    attempt(path, HEAD, STEP)
    assert path.read_text() == f"{HEAD}\n{STEP}\n"


@pytest.mark.parametrize(
    ("lines", "line", "well", "failed"),
    [
        ((HEAD,), "rule train for results/a", False, False),
        ((HEAD, STEP), "train: 4 of 200 steps", False, False),
        ((HEAD, STEP, WELL), "OK seconds=2.29", True, False),
        (
            (HEAD, ERROR.format("x"), "Traceback (most recent call last):", "ValueError"),
            "expected x, found none",
            False,
            True,
        ),
        ((HEAD, "2026 says a library"), "2026 says a library", False, False),
    ],
)
def test_a_log_tells_how_its_job_stands(path, lines, line, well, failed):
    attempt(path, *lines)
    expected = logs.Attempt("2026-11-23 03:08:59", line, well, failed)
    assert logs.last_attempt(path) == expected


def test_only_the_last_attempt_counts(path):
    attempt(path, HEAD, ERROR.format("x"))
    attempt(path, HEAD.replace("03:08", "04:08"), STEP)
    found = logs.last_attempt(path)
    assert (found.began, found.failed) == ("2026-11-23 04:08:59", False)


def test_a_long_log_still_tells_when_its_attempt_began(path):
    attempt(path, HEAD, *[STEP] * 1000)
    assert logs.last_attempt(path).began == "2026-11-23 03:08:59"


def test_no_log_is_no_attempt_and_an_empty_one_is(path):
    assert logs.last_attempt(path) is None
    attempt(path)
    assert logs.last_attempt(path) == logs.Attempt("", "", well=False, failed=False)


@pytest.mark.parametrize("hostile", ["\x1b[2J", "\r", "\u202e", "\x07", "\x9b2J", "\0"])
def test_no_line_writes_to_the_terminal_what_it_obeys(path, hostile):
    attempt(path, HEAD, f"{STEP}{hostile}gone")
    assert logs.last_attempt(path).line.isprintable()


def test_bytes_that_are_no_text_are_read(path):
    attempt(path, HEAD)
    with path.open("ab") as file:
        file.write(b"\xff\xfe\n")
    assert logs.last_attempt(path).line == "\ufffd\ufffd"
