"""Run a study again whenever something new has come, until stopped.

Folders are looked at from time to time: file systems of beamlines tell nobody of changes.
"""

import hashlib
import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType

from tomoglean import formats, study, tables
from tomoglean.provenance import Refused

LEAST_S, MOST_S = 0.1, 86_400.0
ROOT = Path(__file__).resolve().parent.parent
CHOOSE_CORES = {"--cores", "-c", "--jobs", "-j", "--profile", "--executor", "-e"}
HOW_IT_ENDED = {0: "well", 1: "with failed jobs"}

log = logging.getLogger(__name__)


class Watch:
    """Runs a study, waits for a change, runs it again.

    Parameters
    ----------
    folder
        The study.
    words
        Further words for Snakemake; all cores are used if they do not say.
    every_s
        Time between two looks, in s.
    """

    def __init__(self, folder: Path, words: Sequence[str], every_s: float) -> None:
        if not study.is_study(folder):
            raise Refused(
                f"watch: {folder}: expected a study, found no config/config.yaml in it;"
                " name the folder that holds config/"
            )
        if not LEAST_S <= every_s <= MOST_S:
            raise Refused(
                f"watch: --every: expected {LEAST_S:g} to {MOST_S:g} s, found {every_s:g};"
                " leave it out for 30"
            )
        self.folder, self.every_s = folder, every_s
        self.words = [*words, *(["--cores", "all"] if not _chosen(words) else [])]
        self.stopped = threading.Event()
        self.child: subprocess.Popen[bytes] | None = None

    def until_stopped(self) -> int:
        """Run and wait until a signal (Ctrl-C, SIGTERM) comes; the exit code is 0."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)
        seen = ""
        while not self.stopped.is_set():
            now = state(self.folder)
            if now != seen:
                seen = now
                self._run()
                log.info("waiting for new data; Ctrl-C ends it")
            self.stopped.wait(self.every_s)
        log.info("stopped")
        return 0

    def _run(self) -> None:
        code = self._call(
            "snakemake", "-s", str(ROOT / "Snakefile"),
            "--directory", str(self.folder.resolve()), *self.words,
        )  # fmt: skip
        log.info("the run ended %s", HOW_IT_ENDED.get(code, f"with code {code}"))
        if not self.stopped.is_set():
            self._call("tomoglean", "report", str(self.folder.resolve()))

    def _call(self, module: str, *words: str) -> int:
        """Run a module apart from our terminal: signals reach it through us, once."""
        if self.stopped.is_set():
            return 0
        command = [sys.executable, "-m", module, *words]
        with subprocess.Popen(  # noqa: S603 - our own interpreter, the user's own words
            command, cwd=ROOT, start_new_session=True
        ) as self.child:
            if self.stopped.is_set():
                self.child.send_signal(signal.SIGTERM)
            return self.child.wait()

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        self.stopped.set()
        if self.child and self.child.poll() is None:
            self.child.send_signal(number)


def _chosen(words: Sequence[str]) -> bool:
    heads = {word.partition("=")[0] for word in words}
    return any(word in CHOOSE_CORES or word[:2] in ("-c", "-j") for word in heads)


def state(folder: Path) -> str:
    """Tell one state of a study from another: settings, tables, raw files, arrivals.

    Raw files count by name, size and time of change; what is still being written does
    not count. A study that cannot be read is a state of its own, by its config.
    """
    marks = list(_marks(sorted((folder / "config").glob("*"))))
    try:
        read = study.read(folder, look=True)
    except Refused as refusal:
        return _hash([*marks, str(refusal)])
    for row in (*read.volumes, *read.labels):
        if not row["path"].startswith(study.SIMULATED):
            path = tables.locate(row["path"], folder)
            marks += _marks(formats.files(path, row))
    return _hash([*marks, *(row["path"] for row in read.arrived.rows)])


def _marks(files: Iterable[Path]) -> Iterator[str]:
    for file in files:
        if file.is_file():
            now = file.stat()
            yield f"{file} {now.st_size} {now.st_mtime_ns}"


def _hash(marks: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(marks).encode()).hexdigest()
