"""Take out of what is passed on where it was made: folders, and so the names in them.

A path outside the study is told by its last name and a hash of the whole, so that the
same path gives the same word, and one who knows the path finds it again (`reveal`).
Standard library only.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

HIDDEN = "outside-"
INSIDE = ("dataset",)  # entries that name a place within a file
EMBEDDED = re.compile(
    r"(?<![\w./])(?:file:/+|~/?|/)(?=[^\s/])(?:[^/'\",:;\n]+/)+[^\s/'\",:;]*"
)


def hide(text: str) -> str:
    """Take folders outside the study out of a text.

    Parameters
    ----------
    text
        A path, or words that hold some. Relative paths, web addresses and environment
        variables by their names stay as they are.

    Returns
    -------
    str
        The text, each absolute path as `outside-HASH/NAME`.

    Examples
    --------
    >>> hide("raw/cell.mrc"), hide("https://example.org/a/b")
    ('raw/cell.mrc', 'https://example.org/a/b')
    >>> hide("/home/ann/my data/cell.mrc").startswith("outside-")
    True
    """
    if _is_path(text):
        return _word(text)
    return EMBEDDED.sub(lambda found: _word(found[0]), text)


def _is_path(text: str) -> bool:
    return text.startswith(("/", "~", "file:/")) and "\n" not in text and len(text) > 1


def _word(path: str) -> str:
    """Last name of a path and 12 digits of the hash of the whole."""
    name = os.path.basename(unquote(path).rstrip("/"))
    return f"{HIDDEN}{hashlib.sha256(path.encode()).hexdigest()[:12]}/{name}"


def hide_all(value: Any) -> Any:
    """Take folders out of all texts of a nested value, names of entries too."""
    return _mapped(value, hide)


def reveal(value: Any, known: Mapping[str, str]) -> Any:
    """Put paths back: the opposite of `hide_all` for the paths that are known."""
    return _mapped(value, lambda text: known.get(text, text))


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, Mapping):
        return {
            change(str(name)): inner if name in INSIDE else _mapped(inner, change)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_mapped(inner, change) for inner in value]
    return change(value) if isinstance(value, str) else value


def known_in(study: Path) -> dict[str, str]:
    """Paths that the config, the tables and the hashes of a study name, by hidden words."""
    hashes = study / ".tomoglean" / "sha256.json"
    files = [*sorted((study / "config").glob("*.tsv")), study / "config" / "config.yaml"]
    texts = [file.read_text(encoding="utf-8") for file in files if file.is_file()]
    words = {word for text in texts for word in _words(text)}
    with contextlib.suppress(OSError, ValueError):
        words |= set(json.loads(hashes.read_bytes()))
    paths = words | {os.path.expanduser(os.path.expandvars(word)) for word in words}
    return {_word(path): path for path in paths if _is_path(path)}


def _words(text: str) -> Iterable[str]:
    """Cells of a table, values of a YAML file."""
    for cell in re.split(r"[\t\n,\[\]{}]", text):
        yield cell.partition(": ")[2].strip(" '\"") if ": " in cell else cell.strip(" '\"-")
        yield cell
