"""What needs no pipeline: `python -m tomoglean check FILE`, `report`, `slices`, `docs`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tomoglean import provenance, reference, study
from tomoglean.provenance import Refused

REFUSED = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, 2 for wrong words, 3 for a refused input."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.command(options)
    except Refused as error:
        sys.stderr.write(f"tomoglean: {error}\n")
        return REFUSED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tomoglean", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    check = commands.add_parser(
        "check", help="open and measure raw files, suggest their rows"
    )
    check.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH", help="volumes, or folders of volumes"
    )
    for column in reference.COLUMNS_OF_CHECK:
        check.add_argument(
            f"--{column.replace('_', '-')}", default="", help="as in volumes.tsv"
        )
    check.set_defaults(command=_check)

    report = commands.add_parser("report", help="rebuild the report of a study")
    report.add_argument("study", nargs="?", default=".", type=Path)
    report.set_defaults(command=_report)

    slices = commands.add_parser("slices", help="write slices for a person to correct")
    slices.add_argument("volume", type=Path, help="results/converted/VOLUME.h5")
    slices.add_argument("labels", type=Path, help="results/segmented/TASK/final/VOLUME.h5")
    slices.add_argument("folder", type=Path, help="where the slices will lie")
    slices.add_argument("--z", required=True, help="which slices, such as 10,20-22")
    slices.add_argument("--format", default="png", choices=["png", "tif"])
    slices.set_defaults(command=_slices)

    docs = commands.add_parser("docs", help="write the pages made from the schemas")
    docs.add_argument("folder", nargs="?", default=Path("docs"), type=Path)
    docs.set_defaults(command=_docs)
    return parser


def _check(options: argparse.Namespace) -> int:
    from tomoglean import checks

    row = {name: getattr(options, name) for name in reference.COLUMNS_OF_CHECK}
    paths = [volume for path in options.paths for volume in checks.volumes_in(path)]
    found = []
    for path in paths:
        found.append(checks.describe(path, **row))
        sys.stdout.write(reference.told(found[-1]))
    sys.stdout.write(reference.rows(found))
    return REFUSED if any(facts["verdict"] == "refused" for facts in found) else 0


def _report(options: argparse.Namespace) -> int:
    from tomoglean import report

    path = report.build(study.read(options.study), outcome="rebuilt")
    sys.stdout.write(f"{path}\n")
    return 0


def _slices(options: argparse.Namespace) -> int:
    from tomoglean import slices

    slices.export_for_correction(
        options.volume,
        [options.labels],
        options.folder,
        indices=study.slice_numbers(options.z),
        form=options.format,
    )
    sys.stdout.write(reference.handed_out(options.folder))
    return 0


def _docs(options: argparse.Namespace) -> int:
    provenance.write_text(reference.page(), options.folder / "config.md")
    provenance.write_text(reference.formats_page(), options.folder / "formats.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
