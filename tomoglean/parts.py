"""Which parts a long training has, and the files that one keeps to go on from.

A part is a job that trains up to a fixed epoch and hands a checkpoint to the next one; the
last stretch belongs to the job that writes the results. Standard library only: the
Snakefile reads this in every job.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TRAINED = Path("results/trained")
RECORDS = Path("results/provenance/trained")
PART = re.compile(r"\.epoch-([1-9][0-9]*)\.h5")


def path(task: str, round_: str, epoch: int | str) -> str:
    """Name the checkpoint of a part, such as results/trained/bone/final.epoch-4.h5."""
    return str(TRAINED / task / f"{round_}.epoch-{epoch}.h5")


def epoch_of(name: str) -> int | None:
    """Return the last epoch of a part by the name of its checkpoint; None if it is none."""
    found = PART.search(name)
    return int(found[1]) if found else None


# -- the chain -----------------------------------------------------------------------


def chain(
    task: str,
    round_: str,
    settings: Mapping[str, Any],
    every: int | None,
    root: Path = Path(),
) -> list[int]:
    """List the epochs at which a training passes from one job to the next.

    What is finished counts: a finished training keeps the parts that it was made of, and
    one under way those that it has, whatever `epochs_per_job` says by now.

    Parameters
    ----------
    task, round_
        Which training.
    settings
        Its settings of today that count for what comes out.
    every
        Epochs of a part; None trains in one job.
    root
        Folder of the study.

    Returns
    -------
    list of int
        Last epochs of the parts, without the last stretch; empty for a single job.
    """
    folder = root / RECORDS / task
    today = json.loads(json.dumps(settings))
    whole = _record(folder / f"{round_}.weights.h5.json", today)
    if whole:
        return _behind(whole, folder, round_, today)
    done = max(_done(folder, round_, today), key=lambda epochs: epochs[-1], default=[])
    step, last = every or settings["epochs"], settings["epochs"]
    return [*done, *range((done or [0])[-1] + step, last, step)]


def previous(chain: list[int], epoch: int | str | None) -> int | None:
    """Return the epoch of the part before; None = a training begins there."""
    earlier = [one for one in chain if epoch is None or one < int(epoch)]
    return earlier[-1] if earlier else None


def _done(folder: Path, round_: str, today: Any) -> Iterator[list[int]]:
    """Yield the finished parts of today's settings, each with those it goes back to."""
    for file in sorted(folder.glob(f"{round_}.epoch-*.h5.json")):
        record, epoch = _record(file, today), epoch_of(file.name)
        if record and epoch:
            yield [*_behind(record, folder, round_, today), epoch]


def _behind(record: Any, folder: Path, round_: str, today: Any) -> list[int]:
    """List the parts that a finished one goes back to."""
    epochs = [epoch for name in record["inputs"] if (epoch := epoch_of(name))]
    if not epochs:
        return []
    before = _record(folder / f"{round_}.epoch-{epochs[0]}.h5.json", today)
    return [*(_behind(before, folder, round_, today) if before else []), epochs[0]]


def _record(file: Path, today: Any) -> Any:
    """Read what made an artefact, if it was made with today's settings."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        return record if record["settings"]["settings"] == today else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


# -- what is kept --------------------------------------------------------------------


@dataclass(frozen=True)
class Kept:
    """What a training keeps beside its results, under its key.

    Parameters
    ----------
    output
        A file that a job of the training makes.
    key
        Key of the training.
    """

    output: str
    key: str

    @property
    def stem(self) -> Path:
        """Path of the round, such as results/trained/bone/final."""
        output = Path(self.output)
        return output.parent / output.name.partition(".")[0]

    @property
    def slots(self) -> tuple[Path, Path]:
        """Two checkpoints, written in turn."""
        stem = f"{self.stem}.running-{self.key[:12]}"
        return Path(f"{stem}-0.h5"), Path(f"{stem}-1.h5")

    @property
    def note(self) -> Path:
        """What tells that the training ended with NaN."""
        return Path(f"{self.stem}.nan-{self.key[:12]}.json")


def forget(weights: str | os.PathLike[str]) -> None:
    """Remove what the trainings of a round kept: its results are there and taken on."""
    stem = re.escape(Path(weights).name.partition(".")[0])
    partial = r"(\.partial-[0-9a-f]+-[0-9]+-[^-]+-)?"
    form = re.compile(rf"{partial}{stem}\.(running|nan)-[0-9a-f]+(-[01])?\.(h5|json)")
    for file in Path(weights).parent.iterdir():
        if form.fullmatch(file.name):
            file.unlink(missing_ok=True)
