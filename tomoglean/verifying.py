"""Commands that tell machines what happened in a study, and compare it with the files."""

import argparse
import random
import sys
from pathlib import Path
from typing import Any

from tomoglean import provenance, study

CHANGED = 1


def add(commands: Any) -> None:
    """Add `crate` and `verify` to the commands."""
    crate = commands.add_parser("crate", help="tell machines what happened in a study")
    crate.add_argument("study", nargs="?", default=".", type=Path)
    crate.set_defaults(command=_crate)

    verify = commands.add_parser(
        "verify",
        help="read results again and compare them with their crate",
        description="The exit code is 0 if all is as the crate tells it, 1 if not, 3 if"
        " there is no crate.",
    )
    verify.add_argument("results", type=Path, help="a study, or its results")
    verify.add_argument("--sha256", default="", help="of the crate, if kept elsewhere")
    again = verify.add_argument_group("jobs done again in a scratch folder")
    again.add_argument(
        "--rerun", type=_number, default=0, metavar="N", help="how many, chosen by chance"
    )
    again.add_argument("--seed", type=int, help="of the choice")
    again.add_argument(
        "--longest", type=float, default=600.0, metavar="S", help="of a job, in s"
    )
    again.add_argument("--cores", type=int, default=1, help="for a job")
    verify.set_defaults(command=_verify)


def _number(text: str) -> int:
    """Read how many there are: a whole number, not negative."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number, found {text!r}")
    return int(text)


def renew(found: study.Study) -> None:
    """Tell of a report that was made anew, if the study has a crate."""
    from tomoglean.crate.files import METADATA

    if (found.root / "results" / METADATA).is_file():
        _write(found)


def _write(found: study.Study) -> Path:
    from tomoglean import crate
    from tomoglean.plan import Plan

    return crate.write(found, wanted=Plan(found).all())


def _crate(options: argparse.Namespace) -> int:
    path = _write(study.read(options.study))
    sys.stdout.write(f"{path}\nsha256 {provenance.sha256_of_file(path)}\n")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from tomoglean.crate import verify

    findings, read = verify.verify(options.results, options.sha256)
    sys.stdout.write("".join(f"{finding}\n" for finding in findings))
    good = not findings
    if options.rerun:
        good &= _rerun(options)
    sys.stdout.write(f"{read} files read, {len(findings)} findings\n")
    return 0 if good else CHANGED


def _rerun(options: argparse.Namespace) -> bool:
    from tomoglean.crate import records, rerun, verify

    results = verify.results_in(options.results)
    seed = random.randrange(10**6) if options.seed is None else options.seed  # noqa: S311 - no secret
    jobs = records.read(results)
    chosen = rerun.drawn(jobs, options.rerun, seed, options.longest)
    sys.stdout.write(f"{len(chosen)} of {len(jobs)} jobs again, seed {seed}\n")
    good = True
    for again in rerun.rerun(results.parent, chosen, cores=options.cores):
        sys.stdout.write(f"{again}\n")
        sys.stdout.flush()
        good &= again.same
    return good
