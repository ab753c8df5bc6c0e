"""Share one huge volume among several jobs: how many there are, and what they are called.

A block is what one of these jobs makes of an artefact, such as
`results/segmented/bone/final/v.block-3-of-4.h5`. Blocks are removed once they are
gathered; how many there were changes no bit of the artefact and makes nothing stale: a
finished artefact keeps the number it was made with. Standard library only, as the
Snakefile and every job read this.
"""

import json
import math
import re
from pathlib import Path
from typing import Any

from tomoglean import provenance

FOLDERS = {"segment": "segmented", "classify": "classified"}
RECORDS = Path("results/provenance")
NAME = re.compile(r"\.block-([0-9]+)-of-([0-9]+)\.h5$")
MOST = 64


def number(settings: dict[str, Any], voxels: int | None) -> int:
    """How many jobs share a volume.

    Parameters
    ----------
    settings
        `blocks`, the least number; `block_gvoxels`, billions of voxels of a block at most,
        or None.
    voxels
        Voxels of the volume; None if nobody knows.
    """
    most = settings["block_gvoxels"]
    by_size = math.ceil(voxels / (most * 1e9)) if most and voxels else 1
    return min(MOST, max(int(settings["blocks"]), by_size))


def paths(artefact: str, number: int) -> list[str]:
    """Blocks of an artefact; none where one job makes it alone."""
    stem = artefact.removesuffix(".h5")
    each = range(1, number + 1) if number > 1 else ()
    return [f"{stem}.block-{n}-of-{number}.h5" for n in each]


def is_block(path: str) -> bool:
    """Tell a block from an artefact by its name."""
    return bool(NAME.search(path))


def of(plan: Any, stage: str, at: Any) -> list[str]:
    """Blocks of the artefact that a job of a stage gathers; none of an ordinary one.

    Every process of a run must find the same, and while a job runs its old output is
    gone: so only records, settings and code decide, never whether a file is there.

    Parameters
    ----------
    plan
        The study's plan.
    stage
        `segment` or `classify`.
    at
        Wildcards task, round, volume.
    """
    artefact = f"{FOLDERS[stage]}/{at.task}/{at.round}/{at.volume}.h5"
    own = plan.study.tasks[at.task][stage]
    params = {"settings": plan.settings(stage)(at)}
    if stage == "classify":
        params["look"] = plan.look(at)
    record = plan.study.root / RECORDS / f"{artefact}.json"
    found = recorded(record, plan.code(stage)(at), params)
    if found is None:
        found = number(own, plan.voxels(at) if own["block_gvoxels"] else None)
    return paths(f"results/{artefact}", found)


def recorded(record: Path, code: str, params: dict[str, Any]) -> int | None:
    """In how many blocks an artefact was made.

    Parameters
    ----------
    record
        Its record of provenance.
    code, params
        Fingerprint and other parameters that its job would have today.

    Returns
    -------
    int or None
        None if there is no record, or if it was made by other code or settings.
    """
    try:
        known = provenance.read_json(record)
        same = known["code"] == code
        same &= known["settings"] == json.loads(json.dumps(params, default=str))
        return max(1, sum(map(is_block, known["inputs"]))) if same else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
