"""Tell machines what happened in a study: a crate in `results/ro-crate-metadata.json`.

It lies in `results/`, since that folder is what is passed on: everything it names lies
beside it or in it, and raw data, which stay where they are, are named by their content.
"""

from collections.abc import Iterable
from pathlib import Path

from tomoglean import provenance
from tomoglean.crate import copies, files, records
from tomoglean.crate.facts import Facts
from tomoglean.crate.seal import seal
from tomoglean.discretion import hide
from tomoglean.provenance import Refused
from tomoglean.report.sources import git_state
from tomoglean.study import Study


def write(study: Study, *, wanted: Iterable[str] = (), message: str = "") -> Path:
    """Write the crate of a study from whatever it holds so far.

    Parameters
    ----------
    study
        The study, as read from its folder.
    wanted
        Artefacts that a whole run makes (results/...); missing ones make the run failed.
    message
        Why the run failed, if more is known; folders are taken out of it.

    Returns
    -------
    Path
        `results/ro-crate-metadata.json`; its sha256 lies beside it.

    Raises
    ------
    Refused
        If no job of the study has left a record yet.
    """
    from tomoglean.crate import graph  # rocrate takes half a second

    jobs = records.read(study.root / "results")
    if not jobs:
        raise Refused(
            f"{study.root / 'results' / records.FOLDER}: expected records of jobs, found"
            " none; run snakemake in the study first"
        )
    copies.write(study, jobs)
    commit, state = git_state()
    facts = Facts(
        title=study.config.get("about", {}).get("title") or "a study of tomoglean",
        jobs=jobs,
        kept=files.kept(study.root, jobs),
        raw=records.raw(jobs),
        commit=commit,
        state=state,
        error=hide(message) or _missing(study.root, wanted),
        about=study.config.get("about", {}),
    )
    path = study.root / "results" / files.METADATA
    provenance.write_json(graph.build(facts), path)
    seal(path)
    return path


def _missing(root: Path, wanted: Iterable[str]) -> str:
    every = set(wanted)
    missing = sum(not (root / path).exists() for path in every)
    return f"{missing} of {len(every)} artefacts are missing" if missing else ""
