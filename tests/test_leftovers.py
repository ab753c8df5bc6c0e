"""What jobs finished without a head is kept; what they only began is not."""

import base64
import os

import pytest

from tomoglean import leftovers

LONG = "results/" + "x" * 240 + ".h5"


@pytest.fixture
def put(tmp_path):
    """Write a file at a time, in seconds."""

    def put(path, second):
        path = tmp_path / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (second, second))
        return path

    return put


def place(folder, name):
    """Name the file in which Snakemake keeps something about an artefact."""
    text = base64.urlsafe_b64encode(name.encode()).decode()
    parts = [text[i : i + 254] for i in range(0, len(text), 254)]
    return folder.joinpath(*[f"@{part}" for part in parts[:-1]], parts[-1])


@pytest.mark.parametrize("name", ["results/converted/a.h5", LONG])
def test_a_finished_artefact_is_unmarked(put, tmp_path, name):
    mark = put(place(leftovers.INCOMPLETE, name), 10)
    put(name, 20)
    put(f"results/provenance/{name.removeprefix('results/')}.json", 21)
    assert leftovers.settle(tmp_path) == [name]
    assert not mark.exists()


def test_what_snakemake_knew_of_an_older_one_is_forgotten(put, tmp_path):
    name = "results/converted/a.h5"
    put(place(leftovers.INCOMPLETE, name), 10)
    old = put(place(leftovers.METADATA, name), 5)
    other = put(place(leftovers.METADATA, "results/converted/b.h5"), 5)
    put(name, 20)
    put("results/provenance/converted/a.h5.json", 21)
    leftovers.settle(tmp_path)
    assert not old.exists()
    assert other.exists()


@pytest.mark.parametrize(
    ("made", "recorded"), [(None, None), (20, None), (None, 21), (5, 6), (20, 6), (5, 21)]
)
def test_an_unfinished_or_older_one_stays_marked(put, tmp_path, made, recorded):
    name = "results/converted/a.h5"
    mark = put(place(leftovers.INCOMPLETE, name), 10)
    if made:
        put(name, made)
    if recorded:
        put("results/provenance/converted/a.h5.json", recorded)
    assert leftovers.settle(tmp_path) == []
    assert mark.exists()


@pytest.mark.parametrize(
    ("made", "marked", "finished"), [(20, 10, True), (5, 10, False), (20, None, False)]
)
def test_a_job_has_finished_what_it_made_since_it_was_submitted(
    put, tmp_path, made, marked, finished
):
    name = "results/converted/a.h5"
    put(name, made)
    put("results/provenance/converted/a.h5.json", made)
    if marked:
        put(place(leftovers.INCOMPLETE, name), marked)
    assert leftovers.are_finished(tmp_path, [name]) is finished


PARTIAL = ".partial-0123abcd-812-x_y9-a.h5"


def test_half_written_files_of_killed_jobs_are_removed(put, tmp_path):
    """Wherever the jobs ran: each machine marks its own."""
    left = put(f"results/converted/{PARTIAL}", 10)
    left.write_bytes(b"12345")
    os.utime(left, (10, 10))
    assert leftovers.clear(tmp_path, now_s=10_000) == 5
    assert not left.exists()


@pytest.mark.parametrize(
    ("name", "second"),
    [
        (f"results/converted/{PARTIAL}", 9_000),
        ("results/converted/a.h5", 10),
        ("results/converted/.partial.h5", 10),
        (f"raw/{PARTIAL}", 10),
    ],
)
def test_what_is_still_written_to_or_is_no_half_stays(put, tmp_path, name, second):
    stays = put(name, second)
    assert leftovers.clear(tmp_path, now_s=10_000) == 0
    assert stays.exists()


def test_foreign_files_are_left_alone(put, tmp_path):
    mark = put(leftovers.INCOMPLETE / "migration_underway", 10)
    assert leftovers.settle(tmp_path) == []
    assert mark.exists()


def test_a_fresh_study_has_nothing_to_settle(tmp_path):
    assert leftovers.settle(tmp_path) == []


@pytest.mark.parametrize(("block_s", "gone"), [(20, True), (40, False)])
def test_blocks_older_than_what_was_made_of_them_are_removed(put, tmp_path, block_s, gone):
    folder = "segmented/bone/final"
    block = put(f"results/{folder}/v.block-1-of-4.h5", block_s)
    whole = put(f"results/{folder}/v.h5", 30)
    put(f"results/provenance/{folder}/v.h5.json", 31)
    name = str(block.relative_to(tmp_path))
    assert leftovers.sweep(tmp_path, [name]) == []
    assert leftovers.sweep(tmp_path) == [name] * gone
    assert (block.exists(), whole.exists()) == (not gone, True)


def test_blocks_that_wait_to_be_gathered_stay(put, tmp_path):
    block = put("results/classified/t3ss/final/v.block-2-of-2.h5", 20)
    assert leftovers.sweep(tmp_path) == []
    assert block.exists()
