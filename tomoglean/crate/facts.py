"""What is known of a study when its crate is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from tomoglean.crate.files import Kept
from tomoglean.crate.records import Job


@dataclass(frozen=True)
class Facts:
    """A study's jobs, files and circumstances.

    Attributes
    ----------
    title
        Name of the study.
    jobs
        All jobs that ended well, in order of their start.
    kept
        All files of its results.
    raw
        sha256 of the files outside results by the paths that jobs know them by.
    commit, state
        Commit of the checkout, and whether its files differ from it.
    error
        Why the run did not end well; empty if it did.
    about
        What the config tells of people and licence.
    """

    title: str
    jobs: Sequence[Job]
    kept: Sequence[Kept]
    raw: Mapping[str, str]
    commit: str
    state: str
    error: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def folders(self) -> Mapping[str, bool]:
        """Whether each artefact is a folder."""
        return {part.path: part.folder for part in self.kept}

    @property
    def software(self) -> str:
        """Name our code by its commit, as Software Heritage does."""
        known = len(self.commit) == 40
        return f"swh:1:rev:{self.commit}" if known else "urn:x-tomoglean:unknown"

    @property
    def started(self) -> str:
        """Start of the first job."""
        return min((job.started for job in self.jobs), default=_now())

    @property
    def ended(self) -> str:
        """End of the last job."""
        return max((job.ended for job in self.jobs), default=_now())

    @property
    def described(self) -> str:
        """Say in a sentence what the crate holds."""
        rules = len({job.rule for job in self.jobs})
        return (
            f"Results of {len(self.jobs)} jobs of {rules} rules of tomoglean"
            f" {self.commit[:10]} ({self.state}), as they lie in the study now."
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
