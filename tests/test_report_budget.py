"""The page stays light: its pictures share a budget."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_report import Page, study_in, table

from tomoglean import report, volumes
from tomoglean.report import budget, figures
from tomoglean.report.blocks import (
    Cell,
    Chart,
    Charts,
    Frame,
    Gallery,
    Panels,
    Section,
    Table,
)
from tomoglean.volumes import Volume

LIMIT = 15_000_000


def noise(edge: int, seed: int = 1) -> str:
    values = np.random.default_rng(seed).integers(0, 256, (edge, edge, 3), np.uint8)
    return figures.webp(values)


def picture(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def part(*uris: str, anchor="slices") -> Section:
    frames = [Frame(uri, "alt", "caption", 440, 440) for uri in uris]
    return Section(anchor, anchor, [Panels("title", frames), Gallery("all", frames[:1])])


def sizes(parts) -> int:
    return sum(map(len, budget.uris(parts)))


def test_a_light_page_stays_as_it_is():
    parts = [part(noise(64))]
    assert budget.fit(parts) == (parts, "")
    assert budget.keep(parts) == parts


def test_pictures_of_a_heavy_page_fit_the_budget():
    parts = [part(noise(200), noise(200, 2))]
    fitted, told = budget.fit(parts, sizes(parts) // 3)
    assert sizes(fitted) <= sizes(parts) // 3
    assert "To keep the page light" in told


def test_no_more_is_taken_than_needed():
    parts = [part(noise(200))]
    little, _ = budget.fit(parts, sizes(parts) - 1)
    much, _ = budget.fit(parts, sizes(parts) // 10)
    assert sizes(much) < sizes(little) < sizes(parts)


def test_a_picture_keeps_its_place_and_proportions():
    values = np.random.default_rng(1).integers(0, 256, (100, 200, 3), np.uint8)
    frame = Frame(figures.webp(values), "alt", "caption", 440, 220, 20.0, "5 nm")
    ((kept,), _) = budget.fit([Section("x", "X", [Panels("t", [frame])])], 3000)
    small = kept.blocks[0].frames[0]
    assert (small.width, small.height, small.bar_percent) == (440, 220, 20.0)
    width, height = picture(small.uri).size
    assert width < 200
    assert width == pytest.approx(2 * height, abs=2)


def test_charts_stay_sharp_and_words_stay():
    svg = "data:image/svg+xml;base64," + "A" * 4000
    table = Table(["a"], [[Cell("data:image/webp is a word")]])
    parts = [Section("x", "X", [Charts([Chart(svg, "alt")]), table]), part(noise(100))]
    fitted, _ = budget.fit(parts, 6000)
    assert fitted[0].blocks[0].charts[0].uri == svg
    assert fitted[0].blocks[1] == table


def test_what_cannot_fit_becomes_as_small_as_it_can():
    fitted, told = budget.fit([part(noise(100))], 10)
    assert min(picture(next(budget.uris(fitted))).size) == budget.SMALLEST_PX
    assert told


def test_a_damaged_picture_stays():
    broken = budget.PIXELS[0] + base64.b64encode(b"no picture").decode()
    assert budget.smaller(broken, 0.5, 50) == broken


def test_what_shines_through_still_does():
    pixels = np.zeros((50, 50, 4), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    uri = figures.data_uri(buffer.getvalue(), "image/png")
    assert picture(budget.smaller(uri, 0.5, 50)).mode == "RGBA"


def test_only_parts_with_pictures_tell_of_it():
    parts = [part(noise(50)), Section("data", "Data", [])]
    first, second = budget.told(parts, "smaller")
    assert first.blocks[0].text == "smaller"
    assert second == parts[1]


# -- a page of twenty volumes --------------------------------------------------------

VOLUMES = 20


def scan(root: Path, name: str, seed: int, shape=(5, 1000, 1000)) -> None:
    """Write a noisy scan of blobs, its truth and a prediction that errs at the rims."""
    make = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[1], : shape[2]]
    places = make.uniform(100, 900, (12, 2))
    gap = np.min([np.hypot(y - a, x - b) for a, b in places], axis=0)
    labels = np.repeat((gap < 70)[None], shape[0], 0).astype(np.uint8)
    guess = np.repeat((gap < 74)[None], shape[0], 0).astype(np.uint8)
    raw = labels * 90.0 + make.normal(100, 45, shape)
    edges = (500.0, 500.0, 500.0)
    volumes.write(Volume(raw, edges), root / f"converted/{name}.h5", p_low=0, p_high=300)
    confidence = np.full(shape, 200, np.uint8)
    volumes.write(
        Volume(guess, edges),
        root / f"segmented/bone/final/{name}.h5",
        extra={"confidence": confidence},
    )
    volumes.write(Volume(labels, edges), root / f"converted/bone/test/clean/{name}.h5")


def picks(root: Path, name: str, seed: int, shape=(5, 1000, 1000)) -> list[dict]:
    """Write the mask and score map of a search; return its judged picks."""
    make = np.random.default_rng(seed)
    edges = (500.0, 500.0, 500.0)
    scores = make.uniform(0, 1, shape).astype(np.float32)
    volumes.write(Volume(scores, edges), root / f"classified/t3ss/final/{name}.h5")
    mask = np.ones(shape, np.uint8)
    volumes.write(Volume(mask, edges), root / f"masked/t3ss/{name}.h5")
    places = make.uniform(60, 940, (24, 2))
    return [
        {"round": "final", "use": "test", "volume": name, "z": 2, "y": y, "x": x,
         "score": 0.9, "outcome": ("TP", "FP", "FN")[n % 3]}
        for n, (y, x) in enumerate(places)
    ]  # fmt: skip


@pytest.mark.slow
def test_a_page_of_twenty_noisy_volumes_stays_below_15_mb(tmp_path):
    names = [f"rod-{n:02d}" for n in range(VOLUMES)]
    rows = [{"volume": n, "tasks": "bone,t3ss", "path": "x.tif"} for n in names]
    labels = [{"task": "bone", "volume": n, "kind": "clean", "use": "test"} for n in names]
    study = study_in(tmp_path, volumes=rows, labels=labels)
    found = []
    for seed, name in enumerate(names):
        scan(tmp_path / "results", name, seed)
        found += picks(tmp_path / "results", name, seed)
    table(tmp_path / "results/evaluated/t3ss/matches.csv", found)
    path = report.build(study, outcome="green")
    assert path.stat().st_size < LIMIT
    assert len(Page(path).all("img")) >= 6 * VOLUMES
