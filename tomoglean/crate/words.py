"""Words of a crate: ids, types, and the little that is written again and again."""

import base64
import mimetypes
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from tomoglean import provenance
from tomoglean.crate import copies
from tomoglean.crate.files import Kept, is_record
from tomoglean.crate.records import Job, record_of

BIOSCHEMAS = "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"
CONTEXT = "https://w3id.org/ro/terms/workflow-run/context"
DONE, FAILED = (f"http://schema.org/{word}ActionStatus" for word in ("Completed", "Failed"))
ENGINE = "snakemake"
FORMATS = {
    ".h5": "application/x-hdf5", ".csv": "text/csv", ".tsv": "text/tab-separated-values",
    ".json": "application/json", ".yaml": "application/yaml", ".md": "text/markdown",
    ".mrc": "application/octet-stream", ".py": "text/x-python", ".smk": "text/plain",
    ".txt": "text/plain", ".html": "text/html", ".tif": "image/tiff", ".png": "image/png",
    ".svg": "image/svg+xml",
}  # fmt: skip
PIP = "https://pip.pypa.io/en/stable/reference/requirements-file-format/"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/ro/wfrun/provenance/0.5": "Provenance Run Crate",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate",
}
CRATES = (
    "https://w3id.org/ro/crate/1.1",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0",
)
SECONDS = {
    "propertyID": "https://qudt.org/vocab/quantitykind/Time",
    "unitCode": "https://qudt.org/vocab/unit/SEC",
}
SNAKEMAKE = "https://w3id.org/workflowhub/workflow-ro-crate#snakemake"
Thing = dict[str, Any]


def filled(kind: str | list[str], facts: Mapping[str, Any]) -> Thing:
    """Write properties: lists of one as what they hold, nothing that is empty."""
    kept = {name: short(value) for name, value in facts.items()}
    return {"@type": kind, **{n: v for n, v in kept.items() if v not in (None, "", [])}}


def about_file(kept: Kept) -> Thing:
    """Tell name, size, hash and format of a file."""
    told: Thing = {
        "name": kept.path,
        "contentSize": str(kept.size),
        "sha256": kept.sha256,
        "encodingFormat": None if kept.folder else media_type(kept.path),
    }
    if kept.altered:
        told["description"] = "no longer what its job wrote; the sha256 is of what it wrote"
    elif is_record(kept.path):
        told["description"] = "record of a job"
    if kept.path.endswith(".lock.txt"):
        told["conformsTo"] = ref(PIP)
    if kept.path == copies.DRAWING:
        told["description"] = "rules that ran and who fed whom, drawn from the records"
    if kept.path == copies.README:
        told["about"] = ref("./")
    return told


def kind_of_file(kept: Kept) -> str | list[str]:
    """Type of a file or folder; the drawing of the rules is an image too."""
    if kept.path == copies.DRAWING:
        return ["File", "ImageObject"]
    return "Dataset" if kept.folder else "File"


def records_of(job: Job) -> list[str]:
    """Paths of the records of a job."""
    return [record_of(path) for path in job.outputs]


def media_type(path: str) -> str:
    """Guess the media type of a file from its ending."""
    ending = f".{path.rsplit('.', 1)[-1]}".lower()
    guess = FORMATS.get(ending) or mimetypes.guess_type(f"x{ending}")[0]
    return guess or "application/octet-stream"


def kind_of(kinds: set[str]) -> str | list[str]:
    """Type of a parameter: files and folders as they are, mixed values in general."""
    if kinds <= {"File", "Dataset"}:
        return sorted(kinds) if len(kinds) > 1 else next(iter(kinds))
    return next(iter(kinds)) if len(kinds) == 1 else "PropertyValue"


def id_of(kept: Kept) -> str:
    """Write a path below results as an id."""
    return quote(kept.path) + ("/" if kept.folder else "")


def id_by_content(sha256: str) -> str:
    """Name a file by its content (RFC 6920)."""
    text = base64.urlsafe_b64encode(bytes.fromhex(sha256)).decode().rstrip("=")
    return f"ni:///sha-256;{text}"


def id_of_package(name: str, version: str) -> str:
    """Name one version of a package by where it is published."""
    if name == "python":
        return f"https://www.python.org/ftp/python/{version}/"
    return f"https://pypi.org/project/{name.replace('_', '-')}/{version}/"


def id_of_link(source: str, target: str) -> str:
    """Name the connection between two parameters."""
    return f"#link/{provenance.key(source, target)[:16]}"


def ref(id_: str) -> Thing:
    """Refer to an entity."""
    return {"@id": id_}


def refs(ids: Iterable[str]) -> list[Thing]:
    """Refer to entities, to each once."""
    return [ref(id_) for id_ in dict.fromkeys(ids)]


def distinct(things: Iterable[Thing]) -> list[Thing]:
    """Keep each reference once."""
    return refs(thing["@id"] for thing in things)


def short(value: Any) -> Any:
    """Write a list of one as what it holds."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value
