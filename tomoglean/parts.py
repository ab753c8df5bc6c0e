"""The files of a training besides its results: what is kept to go on from.

Standard library only: the Snakefile reads this in every job.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Settings of a training that say how it is run and not what comes out.
FREE = ("epochs_per_job", "save_minutes")


def counted(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what says how a training is run and not what comes out."""
    return {name: value for name, value in settings.items() if name not in FREE}


@dataclass(frozen=True)
class Kept:
    """What a training keeps beside its results, under its key.

    Parameters
    ----------
    outputs
        Files that a job of the training makes.
    key
        Key of the training.
    """

    outputs: Mapping[str, str]
    key: str

    @property
    def stem(self) -> Path:
        """Path of the round, such as results/trained/bone/final."""
        weights = Path(self.outputs["weights"])
        return weights.parent / weights.name.partition(".")[0]

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
    for path in Path(weights).parent.iterdir():
        if form.fullmatch(path.name):
            path.unlink(missing_ok=True)
