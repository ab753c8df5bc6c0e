"""The sha256 of a crate's metadata beside it, in the form that `sha256sum -c` reads."""

from pathlib import Path

from tomoglean import provenance
from tomoglean.crate.files import METADATA, SEAL


def seal(metadata: Path) -> str:
    """Write the seal of a crate; returns its sha256."""
    sha256 = provenance.sha256_of_file(metadata)
    provenance.write_text(_text(sha256), metadata.with_name(SEAL))
    return sha256


def is_sealed(metadata: Path) -> bool:
    """Tell whether metadata and seal still belong together, to the last bit of both."""
    try:
        told = metadata.with_name(SEAL).read_bytes()
    except FileNotFoundError:
        return False
    return told == _text(provenance.sha256_of_file(metadata)).encode()


def _text(sha256: str) -> str:
    return f"{sha256}  {METADATA}\n"
