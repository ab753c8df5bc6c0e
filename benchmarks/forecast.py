"""Compare the forecast with what finished studies took: bytes and seconds by stage.

    python benchmarks/forecast.py STUDY [STUDY ...]

Bytes are those of the artefacts, seconds those of `results/provenance`. The last table
leaves one study out at a time: speeds come from the others alone.
"""

import logging
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tomoglean import costs, forecast, study  # noqa: E402 - the checkout is no package
from tomoglean.forecast import artefacts, extents  # noqa: E402
from tomoglean.forecast.sizes import Sizes  # noqa: E402
from tomoglean.forecast.work import Work  # noqa: E402
from tomoglean.plan import Plan  # noqa: E402

Pair = dict[str, tuple[float, float]]
log = logging.getLogger(__name__)


def main(folders: list[str]) -> None:
    """Print three tables."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    found = {folder: compare(Path(folder)) for folder in folders}
    for folder, (size, seconds) in found.items():
        log.info("\n%s: predicted over found\n%-10s%8s%8s", folder, "stage", "MB", "s")
        for verb in seconds:
            log.info("%-10s %s %s", verb, row(size[verb], 1e6), row(seconds[verb], 1))
        log.info("%-10s %s %s", "all", row(total(size), 1e6), row(total(seconds), 1))
    for folder in folders:
        others = [found[other][1] for other in folders if other != folder]
        predicted, taken = total(relearned(found[folder][1], others))
        log.info("%s left out: x %.2f", folder, predicted / taken)


def compare(folder: Path) -> tuple[Pair, Pair]:
    """Return (predicted, found) bytes and seconds of what is there, by stage."""
    plan = Plan(study.read(folder))
    wanted = artefacts.wanted(plan)
    sizes = Sizes(plan, extents.find(plan.study)[0])
    work = Work(sizes, wanted)
    tallies = [defaultdict[str, float](float) for _ in range(4)]
    for artefact in wanted.values():
        if (path := folder / artefact.path).is_file():
            tallies[0][artefact.stage] += sizes.of(artefact) or 0
            tallies[1][artefact.stage] += path.stat().st_size
    for first, *_ in forecast.jobs(wanted.values()):
        if (seconds := forecast.seconds_of(folder, first)) is not None:
            tallies[2][first.stage] += costs.of(first.stage).seconds(work.of(first))
            tallies[3][first.stage] += seconds
    pairs = [
        {verb: (a[verb], b[verb]) for verb in b} for a, b in (tallies[:2], tallies[2:])
    ]
    return pairs[0], pairs[1]


def relearned(own: Pair, others: list[Pair]) -> Pair:
    """Predict seconds with the speeds that other studies had."""
    result = {}
    for verb, (predicted, taken) in own.items():
        seen = [other[verb] for other in others if verb in other]
        factor = sum(t for _, t in seen) / sum(p for p, _ in seen) if seen else 1.0
        result[verb] = (predicted * factor, taken)
    return result


def total(pairs: Pair) -> tuple[float, float]:
    """Add up all stages."""
    return sum(a for a, _ in pairs.values()), sum(b for _, b in pairs.values())


def row(pair: tuple[float, float], unit: float) -> str:
    """Tell predicted, found and their ratio."""
    a, b = pair
    return f"{a / unit:10.2f}{b / unit:10.2f}  x {a / b if b else 1:.2f}"


if __name__ == "__main__":
    main(sys.argv[1:])
