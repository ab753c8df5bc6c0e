"""Know where an artefact came from, and never leave half of one behind.

Standard library only: this module is imported by everything else.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK = 1 << 22
UNABLE = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES)


class Refused(ValueError):
    """An input that cannot be used; the message is one line for the user.

    It names the file, what was expected, what was found and what to do. What cannot be
    printed (names are hostile: line ends, terminal codes) is written as Python escapes it.
    """

    def __init__(self, message: object = "") -> None:
        letters = str(message)
        plain = (one if one.isprintable() else ascii(one)[1:-1] for one in letters)
        super().__init__("".join(plain))


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a file as a whole or not at all.

    Yields a temporary name in the same folder with the same ending; when the block
    ends well the file is flushed to disk and renamed to `path`, otherwise removed. What
    a killed process left of the same file is removed first.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    handle, name = tempfile.mkstemp(
        dir=path.parent, prefix=f"{_mine()}{os.getpid()}-", suffix=f"-{path.name}"
    )
    os.close(handle)
    try:
        yield Path(name)
        _sync(name)
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
        _sync_folder(path.parent)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _sync(path: str | os.PathLike[str]) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_folder(path: Path) -> None:
    """Flush the name of a file; some file systems (shares of Windows) cannot."""
    try:
        _sync(path)
    except OSError as error:
        if error.errno not in UNABLE:
            raise


def _sweep(path: Path) -> None:
    """Remove partial files of the same target whose process, on this machine, is dead."""
    form = re.compile(rf"{re.escape(_mine())}([0-9]+)-[^-]+-{re.escape(path.name)}")
    for partial in path.parent.iterdir():
        found = form.fullmatch(partial.name)
        if found and not _alive(int(found[1])):
            partial.unlink(missing_ok=True)


def _mine() -> str:
    host = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
    return f".partial-{host}-"


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(text: str, path: str | os.PathLike[str]) -> None:
    """Write a text file atomically."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(value: Any, path: str | os.PathLike[str]) -> None:
    """Write a JSON file atomically, keys in the order given; NaN is refused."""
    write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", path)


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def sha256_of_file(path: str | os.PathLike[str]) -> str:
    """Hash one file, block by block."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Hash a file, or a folder as the sorted list of its files' names and hashes."""
    path = Path(path)
    if not path.is_dir():
        return sha256_of_file(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return key(*[(str(file.relative_to(path)), sha256_of_file(file)) for file in files])


def key(*parts: Any) -> str:
    """Hash of any JSON-like values: the same values give the same key."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
