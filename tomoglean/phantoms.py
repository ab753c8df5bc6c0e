"""Make phantoms by name: settings from words, files on disk."""

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tomoglean import config
from tomoglean.provenance import Refused
from tomoglean.simulators import files

NAME = re.compile("[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def settings_from(words: Iterable[str]) -> dict[str, Any]:
    """Read settings such as `scan.photons=20000`; values are YAML.

    Parameters
    ----------
    words
        `group.key=value`, each key once.

    Returns
    -------
    dict
        Groups of settings, for the phantom's schema to check.

    Raises
    ------
    Refused
        If a word is no such assignment, its value no YAML, or a key is given twice.
    """
    chosen: dict[str, Any] = {}
    for word in words:
        path, equals, text = word.partition("=")
        *groups, key = path.split(".")
        if not equals or not groups or not all([*groups, key]):
            raise Refused(
                f"simulate: expected --set GROUP.KEY=VALUE, found {word!r}; such as"
                " --set field.voxel_nm=1.8"
            )
        block: Any = chosen
        for group in groups:
            block = block.setdefault(group, {}) if isinstance(block, dict) else None
        if not isinstance(block, dict) or key in block:
            raise Refused(f"simulate: {path}: expected once, found twice; keep one")
        block[key] = _value(path, text)
    return chosen


def _value(path: str, text: str) -> Any:
    """Read a value as YAML; 1e5, which YAML 1.1 takes for text, is a number."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise Refused(
            f"simulate: {path}: expected a YAML value, found {text!r}; quote it"
        ) from None
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def filled(phantom: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Check settings against the phantom's schema and fill in the defaults.

    Raises
    ------
    Refused
        One line naming the key and what is allowed there.
    """
    return config.filled(settings, f"phantom-{phantom}", "simulate", "")


def make(
    phantom: str,
    *,
    seed: int,
    name: str,
    settings: Mapping[str, Any],
    folder: Path,
    form: str = "",
    force: bool = False,
    facts: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Simulate one volume and write it with everything known of it.

    Parameters
    ----------
    phantom
        `implant` or `minicell`.
    seed, name
        Together they key every random choice; the files bear the name.
    settings
        Groups of settings; what is left out has the schema's default.
    folder
        Where the files will lie.
    form
        `tiff`, `mrc`, `hdf5` or (implants) `beamline`; empty for the usual one.
    force
        Whether to replace what is there.
    facts
        What else the JSON file shall say.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    Refused
        If the name or a setting is not allowed, a file is there already, or the folder
        cannot be written.
    """
    full = filled(phantom, settings)
    if not 0 <= seed < 1 << 32:
        raise Refused(f"simulate: expected a seed of 0 to {(1 << 32) - 1}, found {seed}")
    if not NAME.fullmatch(name):
        raise Refused(
            f"simulate: expected a name of letters, digits, - and _, found {name!r};"
            " choose another"
        )
    paths = files.paths(phantom, folder, name, form)
    there = [path for path in paths.values() if path.exists()]
    if there and not force:
        raise Refused(
            f"simulate: {there[0]}: expected a new name, found that it exists; choose"
            " another --name or folder, or add --force"
        )
    from tomoglean.simulators import making  # lists and refusals come without it

    maker = making.MAKERS[phantom]
    with _room(folder):
        maker(seed=seed, name=name, settings=full, paths=paths, facts=facts)
    return list(paths.values())


@contextlib.contextmanager
def _room(folder: Path) -> Iterator[None]:
    """Make a folder; if nothing was written into it, leave none behind."""
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise Refused(
            f"simulate: {folder}: expected a folder that can be written, found"
            f" {error.strerror or error}; choose another"
        ) from error
    finally:
        if new and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
