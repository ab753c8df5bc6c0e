"""What came into a study: files, hashes, grey values, labels, and what was refused."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from tomoglean import formats, tables, volumes
from tomoglean.report import histograms, overview, style
from tomoglean.report.blocks import Cell, Note, Table
from tomoglean.report.sources import Source, discreet, discreet_tree

Facts = dict[str, Any]
SHORT = 12
UNITS = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
HEAD = (
    *("volume", "verdict", "file", "format", "type", "size", "shape (z, y, x)"),
    *("voxel", "sha256", "histogram", "0.5 / 50 / 99.5 %", "least to most", "mean ± SD"),
)
CAPTION = (
    "Grey values as stored, in the file's own unit. Histograms: voxels of some slices of"
    " the converted volume over the grey values between the 0.5 and the 99.5 percentile,"
    " from 0 to the highest bar. The first 12 digits of each sha256; the whole ones stand"
    " in the files beside this page."
)
WHAT_TO_DO = (
    "A refused volume is left out, everything else goes on. Mend the file or its row in"
    " config/volumes.tsv as its line says, then run again: only what depends on it is made."
    " `python -m tomoglean check FILE` tells the same at once, without a run."
)


def rows(source: Source) -> list[Facts]:
    """Tell of every volume what came in, one plain value an entry.

    Parameters
    ----------
    source
        The study.

    Returns
    -------
    list of dict
        In the order of the table; None where nothing is known, such as for a volume
        that has not been checked yet. Sizes in bytes, lengths in nm.
    """
    return [_facts(source, row) for row in source.study.volumes]


def _facts(source: Source, row: Mapping[str, str]) -> Facts:
    told = source.checked(row["volume"])
    percentiles = _mapping(told.get("percentiles"))
    shape, voxel = _triple(told.get("shape")), _triple(told.get("voxel_nm"))
    return {
        "volume": row["volume"],
        "verdict": told.get("verdict", "not checked"),
        "messages": "; ".join(map(str, _listed(told.get("messages")))),
        "file": told.get("source"),
        "path": discreet(str(row.get("path", "")), source.study.root),
        "format": told.get("format"),
        "dtype": told.get("dtype"),
        "bytes": _bytes(source, row),
        **{f"shape_{axis}": size for axis, size in zip("zyx", shape, strict=True)},
        **{f"voxel_{axis}_nm": edge for axis, edge in zip("zyx", voxel, strict=True)},
        "minimum": told.get("minimum"),
        **{f"percentile_{name}": percentiles.get(name) for name in ("0.5", "50", "99.5")},
        **{name: told.get(name) for name in ("maximum", "mean", "std")},
        "sha256": told.get("sha256"),
    }


def _bytes(source: Source, row: Mapping[str, str]) -> int | None:
    """Size of a raw volume's files; None if they are not here, or not to be told."""
    try:
        path = tables.locate(row["path"], source.study.root)
        return sum(file.stat().st_size for file in formats.files(path, dict(row)))
    except (OSError, ValueError, KeyError):
        return None


def table(source: Source) -> Table:
    """List every volume with its file, grey values and hash."""
    listed = [_cells(source, facts) for facts in rows(source)]
    return Table(HEAD, listed, CAPTION, empty="volumes.tsv has no row yet.", name="data")


def _cells(source: Source, facts: Facts) -> list[Cell]:
    shape = [facts[f"shape_{axis}"] for axis in "zyx"]
    voxel = [facts[f"voxel_{axis}_nm"] for axis in "zyx"]
    spread = [style.significant(facts[f"percentile_{p}"]) for p in ("0.5", "50", "99.5")]
    around = [style.significant(facts[name]) for name in ("mean", "std")]
    ends = [style.significant(facts[name]) for name in ("minimum", "maximum")]
    return [
        Cell(facts["volume"]),
        verdict(facts["verdict"]),
        Cell(str(facts["file"] or "n/a"), "keep"),
        *(Cell(str(facts[name] or "n/a")) for name in ("format", "dtype")),
        Cell(size(facts["bytes"]), "number", facts["bytes"]),
        Cell(" × ".join(map(str, shape)) if None not in shape else "n/a", "number"),
        Cell(overview.voxel(voxel if None not in voxel else None), "number"),
        Cell(short(facts["sha256"]), "number", facts["sha256"]),
        _histogram(source, facts),
        Cell(" / ".join(spread), "number"),
        Cell(" to ".join(ends), "number"),
        Cell(" ± ".join(around), "number"),
    ]


def _histogram(source: Source, facts: Facts) -> Cell:
    low, high = (style.finite(facts[f"percentile_{p}"]) for p in ("0.5", "99.5"))
    if low is None or high is None or not low < high:
        return Cell("n/a")
    counts = _sampled(source.results / f"converted/{facts['volume']}.h5", low, high)
    if counts is None:
        return Cell("not converted")
    uri = histograms.draw(counts, low, high)
    alt = f"histogram of {facts['volume']}, grey values {low:g} to {high:g}"
    return Cell("", uri=uri, alt=alt)


def _sampled(path: Path, low: float, high: float) -> np.ndarray[Any, Any] | None:
    try:
        with volumes.open_volume(path) as volume:
            return histograms.count(volume.data, low, high)
    except (OSError, ValueError, KeyError):
        return None


def refused(source: Source) -> list[Any]:
    """List what was refused, why, and what to do about it."""
    found = [facts for facts in rows(source) if facts["verdict"] == "refused"]
    labels = [facts for facts in label_rows(source) if facts["verdict"] == "refused"]
    if not found and not labels:
        return [Note("Nothing was refused.", "good")]
    listed = [
        [
            Cell(str(facts["volume"])),
            Cell(str(facts["path"]), "wide"),
            Cell(facts["messages"] or "no reason given", "mid"),
        ]
        for facts in (*found, *labels)
    ]
    head = ["volume", "file", "why, and what to do"]
    return [Table(head, listed, WHAT_TO_DO, name="data-refused")]


# -- labels ------------------------------------------------------------------------------


def label_rows(source: Source) -> list[Facts]:
    """Tell of every set of labels what it holds, one plain value an entry.

    Returns
    -------
    list of dict
        `path` and `sha256` name all files of the set, one after the other.
    """
    return [_label_facts(source, labels) for labels in source.checked_labels()]


def _label_facts(source: Source, labels: Mapping[str, Any]) -> Facts:
    place = "/".join(str(labels[name]) for name in ("task", "use", "kind", "volume"))
    files = _files_of(source, f"checked/{place}.json")
    counts = _mapping(labels.get("voxels"))
    counts |= {name: labels[name] for name in ("unlabelled", "points") if labels.get(name)}
    return {
        **{name: labels[name] for name in ("task", "volume", "use", "kind")},
        "verdict": labels.get("verdict", "not checked"),
        "messages": "; ".join(map(str, _listed(labels.get("messages")))),
        "path": "; ".join(discreet(path, source.study.root) for path in files),
        "holds": "; ".join(f"{style.words(n)} {_count(c)}" for n, c in counts.items()),
        "sha256": "; ".join(sha256 for sha256 in files.values() if sha256),
    }


def _files_of(source: Source, checked: str) -> dict[str, str]:
    """Files that a set of labels was read from, and their sha256 as far as it is told."""
    told = _mapping(source.json(f"provenance/{checked}.json").get("settings"))
    listed = [row for row in _listed(told.get("rows")) if isinstance(row, Mapping)]
    paths = [str(row.get("path", "")) for row in listed]
    hashes = [str(one or "") for one in _listed(told.get("sha256"))][: len(paths)]
    return {
        path: sha256 or _made(source, path)
        for path, sha256 in zip_longest(paths, hashes, fillvalue="")
    }


def _made(source: Source, path: str) -> str:
    """Hash of a file that the study itself has made, from its record."""
    inside = path.removeprefix("results/")
    known = source.json(f"provenance/{inside}.json") if inside != path else {}
    return str(known.get("sha256") or "")


def labels_table(source: Source) -> Table:
    """List what every set of labels holds, and what is odd about it."""
    listed = [
        [
            *(Cell(str(facts[name]), "keep") for name in ("task", "volume", "use", "kind")),
            Cell(facts["holds"], "wide"),
            Cell(facts["messages"], "wide"),
            Cell(
                "\n".join(map(short, facts["sha256"].split("; "))), "keep", facts["sha256"]
            ),
            verdict(facts["verdict"]),
        ]
        for facts in label_rows(source)
    ]
    head = (
        *("task", "volume", "use", "kind", "voxels or points", "notes"),
        *("sha256", "verdict"),
    )
    return Table(head, listed, empty="No labels yet.", name="data-labels")


def listing(source: Source, name: str) -> str:
    """Write a table of the study as it was read; folders are taken out."""
    found: Sequence[Mapping[str, str]] = getattr(source.study, name)
    if not found:
        return "(no rows)"
    hidden = discreet_tree(list(found), source.study.root)
    return "\n".join(
        ["\t".join(hidden[0]), *["\t".join(map(str, row.values())) for row in hidden]]
    )


# -- words -------------------------------------------------------------------------------


def verdict(word: Any) -> Cell:
    """Write a verdict with its colour."""
    return Cell(str(word), f"pill {overview.VERDICTS.get(str(word), '')}")


def short(sha256: Any) -> str:
    """Cut a hash to the digits that tell two apart."""
    return str(sha256)[:SHORT] if sha256 else "n/a"


def size(count: int | None) -> str:
    """Write a size with the unit that suits it.

    Examples
    --------
    >>> size(4_200_000), size(120), size(None)
    ('4.20 MB', '120 B', 'n/a')
    """
    if count is None:
        return "n/a"
    for unit, factor in UNITS:
        if count >= factor:
            return f"{style.significant(count / factor)} {unit}"
    return f"{count} B"


def _count(value: Any) -> str:
    known = style.finite(value)
    return str(value) if known is None else f"{known:,.0f}"


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _triple(value: Any) -> list[Any]:
    found = _listed(value)
    return found if len(found) == 3 else [None] * 3
