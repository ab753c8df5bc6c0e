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

from tomoglean import formats, holders, study, tables
from tomoglean.provenance import Refused

LEAST_S, MOST_S = 0.1, 86_400.0
ROOT = Path(__file__).resolve().parent.parent
CHOOSE_CORES = {"--cores", "-c", "--jobs", "-j", "--profile", "--executor", "-e"}
HOW_IT_ENDED = {0: "well", 1: "with an error, told above"}
DRY = {"-n", "--dry-run", "--dryrun"}
REPORT = Path("results/report.html")

log = logging.getLogger(__name__)


class Watch:
    """Runs a study, waits for a change, runs it again; leaves it to another run.

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
        self.trouble = ""
        self.child: subprocess.Popen[bytes] | None = None

    def until_stopped(self) -> int:
        """Run and wait until a signal (Ctrl-C, SIGTERM) comes; the exit code is 0."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)
        seen = told = ""
        while not self.stopped.is_set():
            now = self._look() or seen
            if now != seen:
                if other := self._held() or self._run():
                    if other != told:
                        log.info("not run: %s holds this study; trying again", other)
                    told = other
                else:
                    seen, told = now, ""
                    log.info("waiting for new data; Ctrl-C ends it")
            self.stopped.wait(self.every_s)
        log.info("stopped")
        return 0

    def _look(self) -> str:
        """Tell the state of the study; nothing if its files cannot be looked at now."""
        try:
            now = state(self.folder)
        except OSError as error:  # a file that has just gone, a server that is away
            if str(error) != self.trouble:
                log.warning("cannot look: %s; trying again", error)
            self.trouble = str(error)
            return ""
        self.trouble = ""
        return now

    def _held(self) -> str:
        """Name the run of somebody else that holds the study now, if one does."""
        try:
            holder = holders.read(self.folder)
            alive = holder is not None and holder.is_alive(self.folder)
        except (Refused, OSError):  # a run says what is wrong with it
            return ""
        return f"the run of {holder.told()}" if holder and alive else ""

    def _run(self) -> str:
        """Run the study; if another run took it first, name that one."""
        before = self._page()
        code = self._call(
            "snakemake", "-s", str(ROOT / "Snakefile"),
            "--directory", str(self.folder.resolve()), *self.words,
        )  # fmt: skip
        if code and (other := self._held()):
            return other
        log.info("the run ended %s", HOW_IT_ENDED.get(code, f"with code {code}"))
        if self._page() == before and not DRY.intersection(self.words):
            how = "failed" if code else "green"
            self._call("tomoglean", "report", str(self.folder.resolve()), "--ended", how)
        return ""

    def _page(self) -> int:
        """Tell one report from another; a run with nothing to do leaves none."""
        try:
            return (self.folder / REPORT).stat().st_mtime_ns
        except OSError:
            return 0

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
    marks = list(_marks(sorted((folder / "config").glob("[!.]*[!~]"))))  # no editor's own
    try:
        read = study.read(folder, look=True)
    except Refused as refusal:
        return _hash([*marks, str(refusal)])
    for row in (*read.volumes, *read.labels):
        if not row["path"].startswith(study.SIMULATED):
            path = tables.locate(row["path"], folder)
            marks += _marks(formats.files(path, row))
    paths = [row["path"] for row in read.arrived.rows]
    return _hash([*marks, *paths, *read.arrived.refused, *read.arrived.absent])


def _marks(files: Iterable[Path]) -> Iterator[str]:
    for file in files:
        if file.is_file():
            now = file.stat()
            yield f"{file} {now.st_size} {now.st_mtime_ns}"


def _hash(marks: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(marks).encode()).hexdigest()
