"""What needs no pipeline: look, compare, export, simulate, report; who runs a study."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tomoglean import looking, progress, provenance, reference, study, verifying
from tomoglean.provenance import Refused

REFUSED = 3
RANGES = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, 2 for wrong words, 3 for a refused input.

    `verify` gives 1 where something is not as the crate tells it.
    """
    words = sys.argv[1:] if arguments is None else arguments
    own, further = _parted(words)
    options = _parser().parse_args(_one_setting_each(own))
    options.further = further
    try:
        code: int = options.command(options)
        sys.stdout.flush()
    except Refused as error:
        sys.stderr.write(f"tomoglean: {error}\n")
        return REFUSED
    except BrokenPipeError:  # `| head` has read enough; Python would flush once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is None:
            raise
        sys.stderr.write(
            f"tomoglean: {error.filename}: expected to read or write here, found: "
            f"{error.strerror}; see that the folder exists, is yours and has room\n"
        )
        return REFUSED
    return code


def _parted(words: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Part `watch STUDY -- WORDS` at the dashes; other commands take their words whole."""
    if words[:1] != ["watch"] or "--" not in words:
        return words, []
    place = list(words).index("--")
    return words[:place], words[place + 1 :]


def _one_setting_each(words: Sequence[str]) -> list[str]:
    """Write `--set a=1 b=2 OUT` as `--set a=1 --set b=2 OUT`, as argparse needs it."""
    found: list[str] = []
    for word in words:
        more = len(found) > 1 and found[-2] == "--set" and "=" in word
        found += ["--set", word] if more and not word.startswith("-") else [word]
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tomoglean", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    _add_check(commands)
    _add_quicklook(commands)
    _add_export(commands)

    report = commands.add_parser("report", help="rebuild the report of a study")
    report.add_argument("study", nargs="?", default=".", type=Path)
    report.add_argument(
        "--ended",
        default="rebuilt",
        choices=["green", "failed"],
        help="how the run ended that it is made for",
    )
    report.set_defaults(command=_report)

    _add_running(commands)
    looking.add_commands(commands)
    watch = commands.add_parser(
        "watch",
        help="run a study again whenever new data arrive",
        description="Words after -- go to Snakemake, such as -- --profile slurm.",
    )
    watch.add_argument("study", nargs="?", default=".", type=Path)
    watch.add_argument("--every", default=30.0, type=float, metavar="S", help="looks, in s")
    watch.set_defaults(command=_watch)

    verifying.add(commands)
    _add_slices(commands)
    _add_simulate(commands)
    _add_benchmark(commands)

    docs = commands.add_parser("docs", help="write the pages made from the schemas")
    docs.add_argument("folder", nargs="?", default=Path("docs"), type=Path)
    docs.set_defaults(command=_docs)
    return parser


def _add_check(commands: Any) -> None:
    check = commands.add_parser(
        "check", help="open and measure raw files, suggest their rows"
    )
    check.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="volumes, folders of them, or studies",
    )
    _as_in_volumes_tsv(check)
    check.set_defaults(command=_check)


def _add_quicklook(commands: Any) -> None:
    quicklook = commands.add_parser(
        "quicklook", help="draw three slices, a histogram and the facts of a volume"
    )
    quicklook.add_argument(
        "path", type=Path, help="of any format, or results/.../VOLUME.h5"
    )
    quicklook.add_argument(
        "--output", type=Path, metavar="FILE.png", help="NAME.quicklook.png here"
    )
    _as_in_volumes_tsv(quicklook)
    quicklook.set_defaults(command=_quicklook)


def _add_export(commands: Any) -> None:
    export = commands.add_parser("export", help="write a volume for other programs")
    export.add_argument("volume", type=Path, help="of any format, or results/.../VOLUME.h5")
    export.add_argument("target", type=Path, help="such as labels.mrc, .tif or .ome.zarr")
    export.add_argument("--force", action="store_true", help="replace what is there")
    _as_in_volumes_tsv(export)
    export.set_defaults(command=_export)


def _add_running(commands: Any) -> None:
    from tomoglean import running, standing

    words: dict[str, tuple[Callable[[Path], str], str]] = {
        "status": (standing.status, "tell who runs a study, and how its jobs stand"),
        "cancel": (running.cancel, "end the run of a study; trainings save first"),
    }
    for name, (does, meaning) in words.items():
        command = commands.add_parser(name, help=meaning)
        command.add_argument("study", nargs="?", default=".", type=Path)
        command.set_defaults(command=partial(_of_run, does))


def _of_run(does: Callable[[Path], str], options: argparse.Namespace) -> int:
    if not study.is_study(options.study):
        raise Refused(
            f"{options.study}: expected a study, found no config/config.yaml in it; name "
            "the folder that holds config/"
        )
    sys.stdout.write(does(options.study))
    return 0


def _add_slices(commands: Any) -> None:
    slices = commands.add_parser("slices", help="write slices for a person to correct")
    slices.add_argument("volume", type=Path, help="results/converted/VOLUME.h5")
    slices.add_argument("labels", type=Path, help="results/segmented/TASK/final/VOLUME.h5")
    slices.add_argument("folder", type=Path, help="where the slices will lie")
    slices.add_argument("--z", required=True, help="which slices, such as 10,20-22")
    slices.add_argument("--format", default="png", choices=["png", "tif"])
    slices.set_defaults(command=_slices)


def _add_simulate(commands: Any) -> None:
    simulate = commands.add_parser(
        "simulate",
        help="make a phantom with exact truth",
        description="Settings, their units and limits: docs/implant.md, docs/minicell.md.",
    )
    simulate.add_argument("phantom", choices=["implant", "minicell"])
    simulate.add_argument("folder", type=Path, metavar="OUT", help="where the files lie")
    simulate.add_argument("--seed", type=int, required=True, help="of every random choice")
    simulate.add_argument("--name", help="of the volume, a key of the seed (PHANTOM-SEED)")
    simulate.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="GROUP.KEY=VALUE ...",
        help="settings, such as field.shape_px=[64,96,96]; values are YAML",
    )
    _as_written(simulate)
    simulate.add_argument("--force", action="store_true", help="replace what is there")
    simulate.set_defaults(command=_simulate)


def _as_written(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--form",
        default="",
        choices=["tiff", "mrc", "hdf5", "beamline"],
        help="of the volume; usually tiff for implants, mrc for minicells",
    )


def _add_benchmark(commands: Any) -> None:
    benchmark = commands.add_parser(
        "benchmark", help="list, make, study or freeze benchmark sets"
    )
    doing = benchmark.add_subparsers(required=True, metavar="WHAT")

    listing = doing.add_parser("list", help="name the sets, or the volumes of one")
    listing.add_argument("set", nargs="?", help="such as minicell-small")
    listing.set_defaults(command=_benchmark_list)

    make = doing.add_parser("make", help="make volumes of a set from their seeds")
    make.add_argument("set", help="such as minicell-small")
    make.add_argument("volumes", nargs="*", metavar="VOLUME", help="all if none is named")
    make.add_argument("folder", type=Path, metavar="OUT", help="where the files lie")
    _as_written(make)
    make.add_argument("--force", action="store_true", help="make also what is there")
    make.set_defaults(command=_benchmark_make)

    study_ = doing.add_parser("study", help="write a study that makes and uses a set")
    study_.add_argument("set", help="such as minicell-small")
    study_.add_argument("folder", type=Path, metavar="STUDY", help="a new folder")
    study_.set_defaults(command=_benchmark_study)

    freeze = doing.add_parser("freeze", help="record the sets as they are now")
    freeze.add_argument("sets", nargs="*", metavar="SET", help="all if none is named")
    freeze.set_defaults(command=_benchmark_freeze)


def _as_in_volumes_tsv(parser: argparse.ArgumentParser) -> None:
    said = parser.add_argument_group(
        "columns of volumes.tsv, for what a file does not tell"
    )
    for column, meaning in reference.meanings().items():
        said.add_argument(
            f"--{column.replace('_', '-')}",
            default="",
            metavar="X",
            help=meaning.replace("%", "%%"),
        )


def _row(options: argparse.Namespace) -> dict[str, str]:
    return {name: getattr(options, name) for name in reference.COLUMNS_OF_CHECK}


def _check(options: argparse.Namespace) -> int:
    from tomoglean import checks

    row = _row(options)
    studies = [path for path in options.paths if study.is_study(path)]
    asked = [path for path in options.paths if path not in studies]
    good, found = True, []
    for path in studies:
        good &= _check_study(path)
    for path in asked:
        for volume in checks.volumes_in(_named(path)) or [_named(path)]:
            found.append(checks.describe(volume, **row))
            sys.stdout.write(reference.told(found[-1], _below(path, volume)))
    sys.stdout.write(reference.rows(found))
    good &= all(facts["verdict"] != "refused" for facts in found)
    return 0 if good else REFUSED


def _named(path: Path) -> Path:
    """Make a path that is right in the table of any study: whole, unless here is one."""
    inside = study.is_study(Path()) and path.name not in ("", "..")
    return path if inside else Path(os.path.abspath(path))


def _below(asked: Path, volume: Path) -> str:
    """Name a volume so that it can be told from others of its name in a folder."""
    name = os.path.relpath(volume, asked)
    return "" if name == "." else name


def _check_study(root: Path) -> bool:
    from tomoglean import preflight

    good = True
    for text, passed in preflight.look(study.read(root)):
        sys.stdout.write(text)
        good &= passed
    return good


def _quicklook(options: argparse.Namespace) -> int:
    from tomoglean import quicklook

    path = quicklook.draw(options.path, options.output, _row(options))
    sys.stdout.write(f"{path}\n")
    return 0


def _export(options: argparse.Namespace) -> int:
    from tomoglean import formats
    from tomoglean.formats import stored

    formats.writer_of(options.target)
    if options.target.exists() and not options.force:
        raise Refused(
            f"{options.target.name}: expected a new name, found that it exists;"
            " choose another, or add --force"
        )
    with stored.open_any(options.volume, _row(options)) as source:
        formats.write(source, options.target)
        lines = [*source.warnings, str(options.target)]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _report(options: argparse.Namespace) -> int:
    from tomoglean import report

    found = study.read_anywhere(options.study)
    path = report.build(found, outcome=options.ended)
    verifying.renew(found)
    sys.stdout.write(f"{path}\n")
    return 0


def _watch(options: argparse.Namespace) -> int:
    from tomoglean import watching

    with progress.shown():
        return watching.Watch(options.study, options.further, options.every).until_stopped()


def _slices(options: argparse.Namespace) -> int:
    from tomoglean import slices
    from tomoglean.formats import stored

    if not RANGES.fullmatch(options.z):
        raise Refused(
            f"--z: expected numbers of slices such as 10,20-22, found {options.z!r};"
            " correct them"
        )
    for path in (options.volume, options.labels):
        with stored.open_stored(path):
            pass
    slices.export_for_correction(
        options.volume,
        [options.labels],
        options.folder,
        indices=study.slice_numbers(options.z),
        form=options.format,
    )
    sys.stdout.write(reference.handed_out(options.folder))
    return 0


def _simulate(options: argparse.Namespace) -> int:
    from tomoglean import phantoms

    name = f"{options.phantom}-{options.seed}" if options.name is None else options.name
    with progress.shown():
        paths = phantoms.make(
            options.phantom,
            seed=options.seed,
            name=name,
            settings=phantoms.settings_from(options.set),
            folder=options.folder,
            form=options.form,
            force=options.force,
        )
    sys.stdout.write("".join(f"{path}\n" for path in paths))
    return 0


def _benchmark_list(options: argparse.Namespace) -> int:
    from tomoglean import benchmarks

    if options.set:
        found = benchmarks.read(options.set)
        lines = [f"{volume.name}\t{volume.use}" for volume in found.volumes]
    else:
        lines = [benchmarks.told(benchmarks.read(name)) for name in benchmarks.names()]
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


def _benchmark_make(options: argparse.Namespace) -> int:
    from tomoglean import benchmarks

    found = benchmarks.read(options.set)
    chosen = [found.volume(name) for name in options.volumes] or found.volumes
    with progress.shown():
        for volume in chosen:
            paths = benchmarks.make(
                found, volume, options.folder, form=options.form, force=options.force
            )
            sys.stdout.write("".join(f"{path}\n" for path in paths))
            sys.stdout.flush()
    return 0


def _benchmark_study(options: argparse.Namespace) -> int:
    from tomoglean import benchmarks

    benchmarks.write_study(benchmarks.read(options.set), options.folder)
    sys.stdout.write(f"snakemake --cores 2 --directory {options.folder}\n")
    return 0


def _benchmark_freeze(options: argparse.Namespace) -> int:
    from tomoglean import benchmarks

    benchmarks.freeze(options.sets or benchmarks.names())
    sys.stdout.write(f"{benchmarks.SETS / 'frozen.tsv'}\n")
    return 0


def _docs(options: argparse.Namespace) -> int:
    provenance.write_text(reference.page(), options.folder / "config.md")
    provenance.write_text(reference.formats_page(), options.folder / "formats.md")
    for phantom in ("implant", "minicell"):
        path = options.folder / f"{phantom}.md"
        old = path.read_text(encoding="utf-8") if path.is_file() else ""
        provenance.write_text(reference.phantom_page(phantom, old), path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
