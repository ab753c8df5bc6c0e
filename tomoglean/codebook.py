"""Remember the fingerprints of the code, so that unchanged code is read but not parsed.

A fingerprint takes some tenths of a second to make and every job asks for its own. What is
remembered counts for the very bytes of all sources, whatever their times say. Standard
library only.
"""

import contextlib
import hashlib
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

from tomoglean import provenance
from tomoglean.fingerprint import PACKAGE, fingerprint

BOOK = Path(".tomoglean/code.json")


def remembered(script: Path, *, root: Path, uses: tuple[str, ...] = ()) -> str:
    """Fingerprint the code that a script reaches, all as `fingerprint.fingerprint`."""
    sources = _sources(root, script.parent)
    known = _read(sources)
    name = " ".join([script.stem, *uses])
    if name not in known:
        known[name] = fingerprint(script, root=root, uses=uses)
        if _read_sources(root, script.parent) == sources:  # nobody edits them meanwhile
            with contextlib.suppress(OSError):  # a study that cannot be written to
                provenance.write_json({"sources": sources, "code": known}, BOOK)
    return known[name]


def _read(sources: str) -> dict[str, str]:
    """Take what was remembered of the same sources; anything else is forgotten."""
    try:
        book: dict[str, Any] = json.loads(BOOK.read_text(encoding="utf-8"))
        if book["sources"] != sources:
            return {}
        code = book["code"]
        return {str(name): str(digest) for name, digest in code.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


@cache
def _sources(root: Path, scripts: Path) -> str:
    return _read_sources(root, scripts)


def _read_sources(root: Path, scripts: Path) -> str:
    """Hash the Python version and every source: name and bytes."""
    digest = hashlib.sha256(repr(sys.version_info[:3]).encode())
    files = [*(root / PACKAGE).rglob("*.py"), *scripts.glob("*.py")]
    for file in sorted(files):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(root)} {len(content)}\n".encode() + content)
    return digest.hexdigest()
