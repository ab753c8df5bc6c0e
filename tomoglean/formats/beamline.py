"""What the reconstruction at the beamlines P05 and P07 (Hereon at DESY) writes.

Below a scan's folder lie `reco/float_rawBin2` and its relatives, one TIFF a slice, and
beside each of them a text log such as `reco/reco_rawBin2.log`. Facts about names and log
are from the code that writes them, https://github.com/moosmann/matlab (p05_reco.m,
write_volume.m); the sample's recording is told by `<scan>_nexus.h5` in the raw folder.
"""

import contextlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tomoglean.formats import hdf5, slices
from tomoglean.formats.source import Format, Row, Source
from tomoglean.provenance import Refused

FORMAT = Format(
    "beamline P05/P07",
    (),
    "the folder of a scan, or one reconstruction in it (`reco/float_rawBin2`); voxel size"
    " from its log; the column dataset chooses among several",
    "tifffile, h5py",
)
KIND = re.compile(
    r"(?P<kind>float|uint16|uint8)(?P<equalised>_adapthisteq)?_rawBin(?P<raw>\d{1,2})"
    r"(?:_phaseBin(?P<phase>\d{1,2}))?(?:_recoBin(?P<reco>\d{1,2}))?(?P<suffix>_\w+)?"
)
TOPS = ("reco", "reco_phase")
DEPTH = 2
OUTPUTS = ("processed", "scratch_cc")
LOG_BYTES = 1 << 20
NUMBER = r"([-+]?\d[\d.]*(?:[eE][-+]?\d+)?)"
PIXEL = rf"^eff(?:ective)?_pixel_size{{}} *[:=] *{NUMBER} *(?:micron|um|µm)\b"
TOLD = {
    "scan_name": r"^scan_name *: *(\S+)",
    "beamtime_id": r"^beamtime_id *: *(\S+)",
    "energy_ev": rf"^energy *: *{NUMBER} *eV",
    "sample_detector_distance_m": rf"^sample_detector_distance *: *{NUMBER} *m\b",
    "reconstructed": r"^date_of_reconstruction *: *(\S.*)",
    "reconstruction_commit": r"^[gG]it commit ID *: *(\w+)",
    "grey_low": rf"^ *tlow *[:=] *{NUMBER}",
    "grey_high": rf"^ *thigh *[:=] *{NUMBER}",
}
COMPRESSED_ONLY = ("grey_low", "grey_high")
SCALARS = {
    "n_angle": ("/entry/scan/n_angle",),
    "n_dark": ("/entry/scan/n_dark",),
    "n_ref": ("/entry/scan/n_ref",),
    "n_img": ("/entry/scan/n_img",),
    "exposure_ms": (
        "/entry/hardware/camera/exptime",
        "/entry/hardware/camera1/exptime",
        "/entry/hardware/camera2/exptime",
    ),
}
PLAIN_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")
FEW = 16


@dataclass(frozen=True)
class Reconstruction:
    """One folder of slices.

    Attributes
    ----------
    folder
        Where the slices lie.
    label
        Its path below the scan's folder, such as `reco/float_rawBin2`.
    kind
        `float`, `uint16` or `uint8`.
    raw_bin, phase_bin, reco_bin
        Binning of the projections, after phase retrieval, and of the volume.
    derived
        Whether its values were worked on after the reconstruction: contrast equalised,
        or segmented.
    """

    folder: Path
    label: str
    kind: str
    raw_bin: int
    phase_bin: int
    reco_bin: int
    derived: bool


def recognises(path: Path, row: Row) -> bool:
    """Tell the folder of a scan, or of slices, by the names that the beamline gives."""
    if not path.is_dir():
        return False
    return bool(KIND.fullmatch(path.name)) or any(True for _ in _below_scan(path))


def files(path: Path, row: Row) -> list[Path]:
    """List the slices of the chosen reconstruction and its log.

    The raw projections are not listed, nor is the NeXus file beside them: nothing but
    remarks is read from it, and a volume stays the same when the raw data go to tape. As
    long as nothing is chosen only the logs are listed.
    """
    try:
        chosen = _choose(path, row)
    except Refused:
        return sorted({log for found in _below_scan(path) for log in _logs(found)})
    numbered = slices.number(chosen.folder)
    return [numbered[number] for number in sorted(numbered)] + _logs(chosen)


@contextlib.contextmanager
def open_file(path: Path, row: Row) -> Iterator[Source]:
    """Open the only reconstruction of a scan, or the one that `dataset` names.

    Raises
    ------
    Refused
        If there are several and none is chosen, or nobody tells the size of the voxels:
        neither the log nor the row.
    """
    chosen = _choose(path, row)
    warnings = _cautions(path.name, chosen)
    log = _read_log(path.name, chosen)
    edge_nm = _edge_nm(path.name, chosen, log, row, warnings)
    with slices.open_file(chosen.folder, row) as source:
        source.name = path.name
        source.hint_nm = (edge_nm, edge_nm, edge_nm)
        source.acquisition = {
            **_from_log(chosen, log),
            **_from_nexus(path, chosen, log, warnings),
        }
        source.warnings += warnings
        yield source


def _below_scan(scan: Path) -> Iterator[Reconstruction]:
    """Find the reconstructions of a scan: below `reco` and `reco_phase`."""
    if scan.name in TOPS:
        yield from _below(scan.parent, scan, DEPTH)
        return
    for top in TOPS:
        if (scan / top).is_dir():
            yield from _below(scan, scan / top, DEPTH)


def _below(scan: Path, folder: Path, depth: int) -> Iterator[Reconstruction]:
    for inside in _folders(folder):
        if found := _reconstruction(inside, inside.relative_to(scan).as_posix()):
            yield found
        elif depth:
            yield from _below(scan, inside, depth - 1)


def _folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir())


def _reconstruction(folder: Path, label: str) -> Reconstruction | None:
    match = KIND.fullmatch(folder.name)
    if not match:
        return None
    raw, phase, reco = (int(match[name] or 1) for name in ("raw", "phase", "reco"))
    derived = bool(match["equalised"] or match["suffix"])
    return Reconstruction(folder, label, match["kind"], raw, phase, reco, derived)


def _choose(path: Path, row: Row) -> Reconstruction:
    """Choose the folder of slices itself, the one that `dataset` names, or the only one."""
    if itself := _reconstruction(path, _label(path)):
        return itself
    found = list(_below_scan(path))
    wanted = row.get("dataset", "").strip("/")
    plain = [one for one in found if not one.derived]
    fits = [one for one in found if one.label == wanted] if wanted else plain or found
    if len(fits) != 1:
        told = ", ".join(one.label for one in found[:FEW])
        more = ", .." if found[FEW:] else ""
        raise Refused(
            f"{path.name}: expected"
            f" {f'a reconstruction {wanted}' if wanted else 'one reconstruction'}, found"
            f" {told}{more}; fill in the column dataset with one of them"
        )
    return fits[0]


def _label(folder: Path) -> str:
    """Return the path of slices below the folder of their scan, as far as it is known."""
    parts = folder.absolute().parts
    tops = [at for at, part in enumerate(parts[:-1]) if part in TOPS]
    return "/".join(parts[tops[-1] :]) if tops else folder.name


def _cautions(name: str, chosen: Reconstruction) -> list[str]:
    told = []
    if chosen.kind != "float" and not chosen.derived:
        told.append(
            f"{name}: {chosen.label} holds grey values that were compressed to"
            f" {chosen.kind} volume by volume; they cannot be compared between scans: take"
            " the float slices"
        )
    if chosen.derived:
        told.append(
            f"{name}: {chosen.label} was worked on after the reconstruction (equalised or"
            " segmented); its values are no measurement"
        )
    return told


# -- the log ---------------------------------------------------------------------------


def _logs(chosen: Reconstruction) -> list[Path]:
    """Find the log beside the folder of slices: of its binning, else of older name."""
    logs = chosen.folder.parent.glob("reco*.log")
    inside = sorted(log for log in logs if log.is_file())
    own = [log for log in inside if log.stem.endswith(f"rawBin{chosen.raw_bin}")]
    return own or [log for log in inside if log.name == "reco.log"]


def _read_log(name: str, chosen: Reconstruction) -> str:
    """Read the log; "" if there is none.

    Raises
    ------
    Refused
        If there are several that tell different sizes.
    """
    texts = []
    for log in _logs(chosen):
        with log.open("rb") as file:
            texts.append(file.read(LOG_BYTES).decode("utf-8", errors="replace"))
    if len({_pixel_um(text, "_binned") for text in texts}) > 1:
        told = ", ".join(log.name for log in _logs(chosen))
        raise Refused(
            f"{name}: expected one log beside {chosen.folder.name}, found {told} with"
            " different pixel sizes; remove the wrong one"
        )
    return texts[0] if texts else ""


def _pixel_um(text: str, which: str) -> float:
    """Read `eff_pixel_size` or `eff_pixel_size_binned`, of unit micron; NaN if absent.

    The log ends with a listing of all parameters, where the same names stand indented and
    in metres without a unit; those do not match.
    """
    match = re.search(PIXEL.format(which), text, re.MULTILINE)
    return _number(match[1]) if match else math.nan


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _edge_nm(
    name: str, chosen: Reconstruction, log: str, row: Row, warnings: list[str]
) -> float:
    """Return the edge of a voxel in nm; NaN if only the row tells it.

    `eff_pixel_size_binned` counts the binning of the projections (rawBin) and no other:
    one log serves `float_rawBin2` and `float_rawBin2_recoBin2`.
    """
    pixel, binned = _pixel_um(log, ""), _pixel_um(log, "_binned")
    if math.isnan(binned):
        binned = pixel * chosen.raw_bin
    elif abs(binned - pixel * chosen.raw_bin) > 0.01 * binned:
        warnings.append(
            f"{name}: the log says {pixel:g} micron a pixel and {binned:g} binned, which is"
            f" not rawBin{chosen.raw_bin}; used is {binned:g}"
        )
    edge_nm = 1000 * binned * chosen.phase_bin * chosen.reco_bin
    if 0 < edge_nm < math.inf:
        return edge_nm
    if not row.get("voxel_nm"):
        told = ", ".join(log.name for log in _logs(chosen)) or "no log"
        raise Refused(
            f"{name}: expected eff_pixel_size_binned in micron in the log beside"
            f" {chosen.label} (reco*_rawBin{chosen.raw_bin}.log), found {told} without it;"
            " copy the log or fill in voxel_nm"
        )
    return math.nan


def _from_log(chosen: Reconstruction, log: str) -> dict[str, str | float]:
    """Return what is known of the reconstruction; no paths and no user."""
    told: dict[str, str | float] = {
        "reconstruction": chosen.label,
        "raw_binning": chosen.raw_bin,
        "phase_binning": chosen.phase_bin,
        "reco_binning": chosen.reco_bin,
    }
    if logs := _logs(chosen):
        told["log"] = logs[0].name
    if (pixel := _pixel_um(log, "")) > 0:
        told["detector_pixel_nm"] = 1000 * pixel
    for key, pattern in TOLD.items():
        match = re.search(pattern, log, re.MULTILINE)
        if match and (chosen.kind != "float" or key not in COMPRESSED_ONLY):
            told[key] = _plain(match[1].strip()[:100], number=NUMBER in pattern)
    return {key: value for key, value in told.items() if value == value}


def _plain(text: str, *, number: bool) -> str | float:
    return _number(text) if number else "".join(filter(str.isprintable, text))


# -- the recording ---------------------------------------------------------------------


def _from_nexus(
    path: Path, chosen: Reconstruction, log: str, warnings: list[str]
) -> dict[str, str | float]:
    file = _nexus(chosen, log)
    if file is None:
        return {}
    try:
        return {"nexus": file.name, **_scalars(file)}
    except Exception as error:
        warnings.append(
            f"{path.name}: {file.name} could not be read ({type(error).__name__}); number"
            " of projections and exposure are not known"
        )
        return {}


def _nexus(chosen: Reconstruction, log: str) -> Path | None:
    """Find `<scan>_nexus.h5`: with the scan, or in `raw/<scan>` beside `processed`."""
    folder = chosen.folder.resolve()
    above = [part.parent for part in folder.parents if part.name in TOPS]
    if not above:
        return None
    scan = above[0]
    match = re.search(TOLD["scan_name"], log, re.MULTILINE)
    names = [scan.name, *([match[1]] if match else [])]
    raws = [part.parent / "raw" for part in scan.parents if part.name in OUTPUTS]
    for name in filter(PLAIN_NAME.fullmatch, names):
        for place in (scan, scan.parent, *(raw / name for raw in raws)):
            if (file := place / f"{name}_nexus.h5").is_file():
                return file
    return None


def _scalars(file: Path) -> dict[str, float | str]:
    """Read a few numbers of a NeXus file, each from the first place that has it.

    The file is foreign HDF5: it is opened in a child process.
    """
    found = hdf5.scalars(file, [place for places in SCALARS.values() for place in places])
    return {
        key: next(found[place] for place in places if place in found)
        for key, places in SCALARS.items()
        if any(place in found for place in places)
    }
