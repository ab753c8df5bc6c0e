"""Count the jobs of a study as large as that of 2019, and time its dry run.

    python benchmarks/paper_size.py [--keep FOLDER]

11 volumes of 1449 slices of 1000 x 1000 pixels to learn from (15,939 slices, with five
changed copies of each 95,634 images; 2019 told 15,942 and 95,652), two more to validate and
to test, and six tomograms that are searched for complexes. The settings are those of
examples/desy2019. The volumes are files with true headers and true sizes (39 GB) that hold
holes instead of voxels: nothing reads them in a dry run but their hash, whose place the
benchmark takes; a first dry run on real files reads each of them once (about a second per
gigabyte). The dry run is timed the second time, when Python has compiled its modules and
the code has been fingerprinted, as after the first job of any study. Nothing is computed.
"""

import argparse
import logging
import os
import re
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import yaml  # noqa: E402 - the checkout is no package

from tomoglean import formats, provenance, rawfiles, tables  # noqa: E402

EXAMPLE = ROOT / "examples" / "desy2019" / "config"
SHAPES = {"implant": (1449, 1000, 1000), "mini": (300, 928, 960)}
BYTES = {"implant": 2, "mini": 4}
MODES = {"implant": 6, "mini": 2}
VOXEL_NM = {"implant": 5000.0, "mini": 1.0}
COPIES = 1 + 5
log = logging.getLogger(__name__)


def main() -> None:
    """Make the study, plan it, and tell."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--keep", type=Path, help="folder to make the study in, and leave")
    keep = parser.parse_args().keep
    with tempfile.TemporaryDirectory() as folder:
        study = keep or Path(folder) / "study"
        images = write(study)
        compiled = Path(folder) / "compiled"
        _dry_run(study, compiled)
        seconds, text = _dry_run(study, compiled)
    jobs, submitted = count(text)
    log.info("%d images of %d slices", images, images // COPIES)
    log.info("%d jobs: %s", jobs.total(), ", ".join(f"{n} {r}" for r, n in jobs.items()))
    log.info("%d jobs of the cluster, the others run beside Snakemake", submitted)
    log.info("dry run: %.1f s of CPU", seconds)


def write(study: Path) -> int:
    """Write the study and return how many images it trains on."""
    study.mkdir(parents=True)
    shutil.copytree(EXAMPLE, study / "config")
    config = yaml.safe_load((study / "config" / "config.yaml").read_text())
    config.pop("simulate")
    (study / "config" / "config.yaml").write_text(yaml.safe_dump(config))
    rows = tables.read_rows(EXAMPLE / "volumes.tsv")
    for row in rows:
        _raw(study, row)
    for row in tables.read_rows(EXAMPLE / "labels.tsv"):
        _labels(study, row)
    for name in ("volumes", "labels"):
        path = study / "config" / f"{name}.tsv"
        path.write_text(re.sub(r"results/simulated/\w+/", "raw/", path.read_text()))
    _take_place_of_hashes(study)
    learned = [row for row in rows if row["volume"].startswith("implant")][:11]
    return COPIES * SHAPES["implant"][0] * len(learned)


def _raw(study: Path, row: dict[str, str]) -> None:
    _mrc(study / "raw" / Path(row["path"]).name, row["volume"].partition("-")[0])


def _labels(study: Path, row: dict[str, str]) -> None:
    path = study / "raw" / Path(row["path"]).name
    if path.suffix == ".csv":
        path.write_text("z,y,x\n")
    else:
        _mrc(path, row["volume"].partition("-")[0], labels=True)


def _mrc(path: Path, kind: str, *, labels: bool = False) -> None:
    """Write a header, MRC2014, and leave a hole where the voxels would be."""
    path.parent.mkdir(exist_ok=True)
    depth, height, width = SHAPES[kind]
    head = bytearray(1024)
    mode = 0 if labels else MODES[kind]
    struct.pack_into("<4i", head, 0, width, height, depth, mode)
    struct.pack_into("<3i", head, 28, width, height, depth)
    cell = [10 * VOXEL_NM[kind] * edge for edge in (width, height, depth)]
    struct.pack_into("<6f3i", head, 40, *cell, 90, 90, 90, 1, 2, 3)
    head[208:216] = b"MAP \x44\x44\x00\x00"
    path.write_bytes(head)
    os.truncate(path, 1024 + depth * height * width * (1 if labels else BYTES[kind]))


def _take_place_of_hashes(study: Path) -> None:
    """Note a hash for every file, as if it had been read."""
    known = {}
    for name in ("volumes", "labels"):
        for row in tables.read_rows(study / "config" / f"{name}.tsv"):
            source = tables.locate(row["path"], study)
            asked = [row.get(column, "") for column in ("dataset", "linked")]
            stamp = rawfiles.stamp(formats.files(source, row))
            entry = {"own": rawfiles.stamp([source]), "asked": asked, "stamp": stamp}
            known[row["path"]] = {**entry, "sha256": provenance.key(row["path"])}
    provenance.write_json(known, study / rawfiles.HASHES)


def _dry_run(study: Path, compiled: Path) -> tuple[float, str]:
    """Plan as on a cluster; return seconds of CPU and what Snakemake wrote."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(compiled)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "-n"]
    words = ["--profile", str(ROOT / "profiles" / "slurm"), "--directory", str(study)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(  # noqa: S603 - our own Snakefile
        [*command, *words], cwd=study, env=environment, capture_output=True, text=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent, done.stdout + done.stderr


def count(text: str) -> tuple[Counter[str], int]:
    """Count the jobs of a dry run by rule, and those that go to the cluster."""
    rows = re.search(r"^job +count\n[- ]+\n(.*?)^total", text, re.MULTILINE | re.DOTALL)
    found = re.findall(r"^(\w+) +(\d+)$", rows[1] if rows else "", re.MULTILINE)
    jobs = Counter({name: int(number) for name, number in found if name != "all"})
    alone = re.findall(r"^(?:rule|checkpoint) (\w+):$", text, re.MULTILINE)
    here = {"all", *_local_rules()}
    groups = len(re.findall(r"Group job ", text))
    return jobs, sum(name not in here for name in alone) + groups


def _local_rules() -> list[str]:
    """Rules that run beside Snakemake on every cluster."""
    files = sorted((ROOT / "rules").glob("*.smk"))
    rules = "".join(file.read_text() for file in files).split("\nrule ")
    return [rule.partition(":")[0] for rule in rules if "localrule: True" in rule]


if __name__ == "__main__":
    main()
