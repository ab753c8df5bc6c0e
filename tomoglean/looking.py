"""The commands `view` and `compare`: look closer at results, and at two runs at once."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tomoglean import study
from tomoglean.provenance import Refused
from tomoglean.study import Study

PROGRAMS = "napari,imod,chimerax,fiji,neuroglancer"
PAGE = Path("compare.html")


def add_commands(commands: Any) -> None:
    """Add both to the parser of the command line."""
    view = commands.add_parser(
        "view",
        help="open a volume in napari, IMOD, ChimeraX, Fiji, Neuroglancer",
        description="Write what the programs open, and print commands: docs/looking.md.",
    )
    view.add_argument(
        "target", metavar="STUDY|VOLUME", help="a study, an id of the study here, or a file"
    )
    view.add_argument("volumes", nargs="*", metavar="VOLUME", help="ids of the study's")
    view.add_argument("--to", type=Path, metavar="FOLDER", help="where the files will lie")
    view.add_argument(
        "--for", dest="programs", default=PROGRAMS, help=f"some of {PROGRAMS}"
    )
    view.add_argument("--round", default="final", help="whose segmentations and candidates")
    view.add_argument("--voxel-nm", default="", metavar="Z,Y,X", help="of a raw file")
    view.add_argument("--serve", action="store_true", help="hand it to Neuroglancer then")
    view.add_argument("--port", type=_port, default=8765, help="for --serve (8765)")
    view.set_defaults(command=_view)

    compare = commands.add_parser("compare", help="write a page on how two runs differ")
    compare.add_argument("a", type=Path, metavar="A", help="a study")
    compare.add_argument("b", type=Path, metavar="B", help="another, or the same elsewhere")
    compare.add_argument("-o", "--output", type=Path, default=PAGE, metavar="PAGE.html")
    compare.set_defaults(command=_compare)


def _compare(options: argparse.Namespace) -> int:
    from tomoglean.report import comparison

    lines = comparison.build(options.a, options.b, options.output)
    sys.stdout.write("".join(f"{line}\n" for line in [*lines, str(options.output)]))
    return 0


def _port(text: str) -> int:
    """Read the number of a port."""
    if not text.isdecimal() or not 1024 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"expected 1024 to 65535, found {text!r}")
    return int(text)


def _view(options: argparse.Namespace) -> int:
    from tomoglean import viewing

    programs, folder = _programs(options.programs), Path(options.target)
    if options.serve and viewing.is_viewed(folder):
        _serve(folder, options.port)
        return 0
    found = list(_scenes(options))
    if options.serve and len(found) != 1:
        raise Refused(f"view --serve: expected one volume, found {len(found)}; name one")
    for scene, folder in found:
        lines = viewing.prepare(scene, folder, programs, port=options.port)
        sys.stdout.write("".join(f"{line}\n" for line in lines))
        sys.stdout.flush()
    if options.serve:
        _serve(folder, options.port)
    return 0


def _programs(text: str) -> list[str]:
    asked, known = text.split(","), PROGRAMS.split(",")
    for name in asked:
        if name not in known:
            raise Refused(f"--for: expected some of {PROGRAMS}, found {name!r}; correct it")
    return asked


def _scenes(options: argparse.Namespace) -> Iterator[tuple[Any, Path]]:
    """Find what is asked for: scenes, and the folder of each."""
    from tomoglean import viewing

    path = Path(options.target)
    if study.is_study(path):
        found, ids = study.as_written(path), options.volumes
        if not ids:
            _list(found, options)
            return
    else:
        root, volume = _place(path)
        if root is None:
            row = {"voxel_nm": options.voxel_nm}
            yield viewing.of_file(path, row), options.to or Path("viewed") / _stem(path)
            return
        found, ids = study.as_written(root), [volume, *options.volumes]
    for volume in ids:
        scene = viewing.of_study(found, volume, options.round)
        usual = found.root / "results" / "viewed" / volume
        many = options.to / volume if options.to and len(ids) > 1 else options.to
        yield scene, many or usual


def _place(path: Path) -> tuple[Path | None, str]:
    """Find the study and the id that a word means; no study if it is another file."""
    if not path.exists() and study.is_study(Path()):
        return Path(), str(path)
    if path.suffix == ".h5" and path.is_file():
        for folder in path.resolve().parents:
            if folder.name == "results" and study.is_study(folder.parent):
                return folder.parent, path.stem
    return None, ""


def _stem(path: Path) -> str:
    """Name a folder after a file, in letters that need no quoting."""
    name = path.resolve().name.split(".")[0]
    kept = "".join(c if (c.isalnum() and c.isascii()) or c in "-_" else "_" for c in name)
    return kept or "volume"


def _list(found: Study, options: argparse.Namespace) -> None:
    """Say what there is to look at, and how; nothing is written."""
    from tomoglean import viewing

    for volume in viewing.ids(found):
        try:
            lines = viewing.told(viewing.of_study(found, volume, options.round))
        except Refused as error:
            lines = [f"{volume}: {error}"]
        sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.write(f"Look at one: tomoglean view {options.target} VOLUME\n")


def _serve(folder: Path, port: int) -> None:
    """Serve until Ctrl-C."""
    from tomoglean import viewing

    with viewing.serve(folder, port) as (server, links):
        sys.stdout.write("Open one of these; Ctrl-C ends it.\n")
        sys.stdout.write("".join(f"  {link}\n" for link in links))
        sys.stdout.flush()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            sys.stdout.write("\n")
