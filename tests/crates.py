"""Make a small finished study; validate its crate by the public validator.

The validator is cut off from the network. It asks for two JSON-LD contexts, which are
served from its own cache, filled here with the terms that our crates use: what these mean
is stated by RO-Crate 1.1 and by the terms of Workflow Run RO-Crate. A crate that uses any
other term fails.
"""

import atexit
import contextlib
import json
import random
import shutil
import tempfile
from functools import cache
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import yaml
from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse

from tomoglean import provenance, stage, study
from tomoglean.study import Study

BASE = "https://w3id.org/ro/crate/1.1/context"
RUN = "https://w3id.org/ro/terms/workflow-run/context"
PROFILE = "provenance-run-crate"
SCHEMA = (
    "ComputerLanguage ControlAction CreateAction CreativeWork Dataset HowTo HowToStep "
    "Organization OrganizeAction Person PropertyValue SoftwareApplication "
    "SoftwareSourceCode about actionStatus additionalType affiliation agent "
    "alternateName author contentSize datePublished description encodingFormat "
    "endTime error exampleOfWork hasPart identifier image instrument license "
    "mainEntity "
    "mentions name object position programmingLanguage propertyID publisher result "
    "softwareRequirements softwareVersion startTime step subjectOf unitCode url value "
    "version workExample "
)
BIOSCHEMAS = "https://bioschemas.org/ComputationalWorkflow"
WFRUN = "https://w3id.org/ro/terms/workflow-run#"
TERMS = {
    **{term: f"http://schema.org/{term}" for term in SCHEMA.split()},
    "File": "http://schema.org/MediaObject",
    "ImageObject": "http://schema.org/ImageObject",
    "conformsTo": "http://purl.org/dc/terms/conformsTo",
    "buildInstructions": "https://codemeta.github.io/terms/buildInstructions",
    "ComputationalWorkflow": BIOSCHEMAS,
    "FormalParameter": "https://bioschemas.org/FormalParameter",
    "input": f"{BIOSCHEMAS}#input",
    "output": f"{BIOSCHEMAS}#output",
}
RUN_TERMS = {
    term: f"{WFRUN}{term}"
    for term in (
        *("ParameterConnection", "connection", "sourceParameter", "targetParameter"),
        *("sha256", "resourceUsage"),
    )
}


def unknown_terms(document: dict) -> set[str]:
    """Types and properties of a crate that the two contexts do not know."""
    used = set()
    for entity in document["@graph"]:
        kinds = entity["@type"]
        used |= set(entity) | set(kinds if isinstance(kinds, list) else [kinds])
    return used - {"@id", "@type"} - TERMS.keys() - RUN_TERMS.keys()


def issues(results: Path, cache: Path, severity: str = "OPTIONAL", skip=()) -> list[str]:
    """Say what the validator finds in a results folder, at or above a severity."""
    from rocrate_validator import services

    settings = services.ValidationSettings(
        rocrate_uri=str(results),
        profile_identifier=PROFILE,
        requirement_severity=severity,
        offline=True,
        validate_profile_checks=False,  # of its own profiles among each other
        cache_path=_filled(cache),
        skip_checks=list(skip),
    )
    found = services.validate(settings)
    return sorted(
        f"{issue.check.identifier} {issue.violatingEntity}: {issue.message}"
        for issue in found.get_issues()
    )


class Shelf(HTTPAdapter):
    """Answer requests for the two contexts, without any network."""

    def send(self, request, **_):
        terms = {BASE: TERMS, RUN: RUN_TERMS}[request.url]
        body = BytesIO(json.dumps({"@context": terms}).encode())
        headers = {"Content-Type": "application/ld+json"}
        answer = HTTPResponse(body, headers, 200, preload_content=False)
        return self.build_response(request, answer)


def _filled(cache: Path) -> Path:
    from requests_cache import CachedSession

    with CachedSession(str(cache), backend="sqlite", expire_after=-1) as session:
        session.mount("https://", Shelf())
        for url in (BASE, RUN):
            session.get(url)
    return cache


OUTSIDE = "private house/scan of ann.mrc"
ROWS = {"a": "raw/a.mrc", "b": "raw/ b &<c>.mrc", "c": OUTSIDE}
JOBS = (
    ("check", ["checked/{v}.json"], ["{raw}"]),
    ("convert", ["converted/{v}.h5"], ["results/checked/{v}.json", "{raw}"]),
    ("segment", ["segmented/bone/final/{v}.h5"], ["results/converted/{v}.h5"]),
    (
        "publish_zarr",
        ["published/bone/{v}.labels.ome.zarr"],
        ["results/segmented/bone/final/{v}.h5"],
    ),
    (
        "evaluate",
        ["evaluated/bone/scores.csv", "evaluated/bone/summary.json"],
        ["results/checked/a.json", "results/segmented/bone/final/a.h5"],
    ),
)


def finished(root: Path, volumes: str = "abc", jobs: int = len(JOBS)) -> Study:
    """Return a study as it lies there after a run: random bytes, true records."""
    shutil.copytree(_template(volumes, jobs), root)
    return study.read(root)


@cache
def _template(volumes: str, jobs: int) -> Path:
    root = Path(tempfile.mkdtemp(prefix="tomoglean-crates-")) / "study"
    atexit.register(shutil.rmtree, root.parent, ignore_errors=True)
    (root / "config").mkdir(parents=True)
    (root / "raw").mkdir()
    rows = {name: ROWS[name] for name in volumes}
    if "c" in rows:
        rows["c"] = str(root.parent / OUTSIDE)
    config = {"tasks": {"bone": {"kind": "semantic", "classes": ["background", "bone"]}}}
    (root / "config" / "config.yaml").write_text(yaml.safe_dump(config))
    (root / "config" / "labels.tsv").write_text("task\tvolume\tkind\tuse\tpath\n")
    lines = [f"{name}\tbone\t{path}\t10\n" for name, path in rows.items()]
    table = "volume\ttasks\tpath\tvoxel_nm\n" + "".join(lines)
    (root / "config" / "volumes.tsv").write_text(table)
    chance = random.Random(1)
    for path in rows.values():
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_bytes(chance.randbytes(300))
    with contextlib.chdir(root):
        for job in JOBS[:jobs]:
            for name in volumes if "{v}" in job[1][0] else volumes[:1]:
                _do(job, {"v": name, "raw": rows[name]}, chance)
    return root


def _params(rule: str, words: dict[str, str]) -> dict:
    row = {"row": {"volume": words["v"], "path": words["raw"]}}
    checked = {"sha256": provenance.sha256_of_file(words["raw"])}
    return {
        **(row if rule in ("check", "convert") else {}),
        **(checked if rule == "check" else {}),
        "settings": {"axes": ["z"], "width": 0.5},
        "code": "c0de",
    }


def _do(job, words: dict[str, str], chance: random.Random) -> None:
    rule, outputs, inputs = job
    names = [f"results/{path.format(**words)}" for path in outputs]
    for name in names:
        place = Path(name) / "zarr.json" if name.endswith("zarr") else Path(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(chance.randbytes(200))
    given = [path.format(**words) for path in inputs]
    done = SimpleNamespace(
        rule=rule, params=_params(rule, words), input=given, output=names
    )
    for artefact, record in stage._records(done).items():
        facts = {"started": "2026-01-02T03:04:05+00:00", "seconds": 1.5}
        provenance.write_json({**record, **facts}, stage.RECORDS / f"{artefact}.json")
