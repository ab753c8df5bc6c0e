"""Nothing that a crate names can change unseen."""

import random
import shutil
import subprocess

import crates
import pytest

from tomoglean import crate, provenance
from tomoglean.__main__ import main
from tomoglean.crate import files, rerun
from tomoglean.crate.verify import results_in, verify
from tomoglean.provenance import Refused

FLIPS = 200


@pytest.fixture
def results(tmp_path):
    return crate.write(crates.finished(tmp_path / "study")).parent


def lines(results, **words):
    return [str(finding) for finding in verify(results, **words)[0]]


def flip(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def test_an_untouched_study_has_no_findings(results):
    findings, read = verify(results)
    assert findings == []
    whole = [f"published/bone/{name}.labels.ome.zarr" for name in "abc"]
    assert read == len(files.found(results, whole)) + len("abc") + len(["the crate"])


def test_every_one_of_200_flipped_bits_is_found(results):
    chance = random.Random(6)
    every = [path for path in sorted(results.rglob("*")) if path.is_file()]
    every = [path for path in every if path.stat().st_size]
    own = [results / files.METADATA, results / files.SEAL]
    chosen = [*own * 5, *chance.choices(every, k=FLIPS - 10)]
    assert len(chosen) == FLIPS
    for path in chosen:
        bit = chance.randrange(8 * path.stat().st_size)
        flip(path, bit)
        findings, _ = verify(results)
        flip(path, bit)
        found = {finding.path for finding in findings if finding.what == "changed"}
        name = path.relative_to(results).as_posix().partition("/zarr.json")[0]
        assert (files.METADATA if path in own else name) in found, (path, bit)
    assert verify(results)[0] == []


def test_a_bit_flipped_in_raw_data_is_found_where_the_study_lies_around_them(results):
    flip(results.parent / "raw/a.mrc", 7)
    assert lines(results)[0].startswith("changed: raw/a.mrc: raw data")


def test_raw_data_that_are_away_are_one_finding_however_many(results):
    shutil.rmtree(results.parent / "raw")
    told = [line for line in lines(results) if "raw" in line]
    assert len(told) == 1
    assert told[0].startswith("away: raw data: 2 of 3 files are not here")
    assert "raw/a.mrc" in told[0]


def test_results_alone_are_verified_without_their_raw_data(results, tmp_path):
    alone = results.rename(tmp_path / "passed on")
    assert lines(alone) == []


def test_what_is_missing_and_what_is_extra_is_told_in_one_line_each(results):
    (results / "converted/a.h5").unlink()
    (results / "notes.txt").write_text("mine")
    assert lines(results) == [
        "missing: converted/a.h5: the crate names it",
        "extra: notes.txt: the crate does not name it",
    ]


@pytest.mark.parametrize("name", ["viewed/a/open.py", "a/.partial-1-b", "x.running-12.h5"])
def test_what_passes_or_is_made_at_will_is_no_finding(results, name):
    (results / name).parent.mkdir(parents=True, exist_ok=True)
    (results / name).write_text("passing")
    assert lines(results) == []


def test_a_file_in_a_folder_that_is_one_artefact_is_seen(results):
    (results / "published/bone/a.labels.ome.zarr/more").write_text("x")
    assert [line.partition(": since")[0] for line in lines(results)] == [
        "changed: published/bone/a.labels.ome.zarr"
    ]


def test_a_crate_and_seal_forged_together_need_a_hash_kept_elsewhere(results):
    kept = provenance.sha256_of_file(results / files.METADATA)
    assert lines(results, expected=kept) == []
    flip(results / "converted/a.h5", 9)
    (results.parent / ".tomoglean" / "outputs.json").unlink()
    crate.write(crates.study.read(results.parent))
    assert len(lines(results, expected=kept)) >= 1


def test_a_new_crate_does_not_bless_what_was_damaged(results):
    flip(results / "converted/a.h5", 9)
    crate.write(crates.study.read(results.parent))
    assert lines(results)[0].startswith("changed: converted/a.h5: since its job wrote it")


def test_sha256sum_reads_the_seal(results):
    done = subprocess.run(
        ["sha256sum", "-c", files.SEAL], cwd=results, capture_output=True, check=False
    )
    assert done.returncode == 0


def test_a_path_that_leaves_the_results_is_not_read(results):
    text = (results / files.METADATA).read_text()
    (results / files.METADATA).write_text(text.replace("converted/a.h5", "../raw/a.mrc"))
    assert "unreadable: ../raw/a.mrc: a path that leaves results" in lines(results)


def test_a_folder_without_a_crate_is_refused_in_one_line(tmp_path):
    with pytest.raises(Refused, match="python -m tomoglean crate STUDY"):
        results_in(tmp_path)


def test_the_command_tells_by_its_exit_code(results, capsys):
    assert main(["verify", str(results.parent)]) == 0
    assert capsys.readouterr().out.endswith(", 0 findings\n")
    flip(results / "converted/a.h5", 0)
    assert main(["verify", str(results)]) == 1
    assert capsys.readouterr().out.startswith("changed: converted/a.h5")
    (results / files.METADATA).unlink()
    assert main(["verify", str(results)]) == 3


def test_the_crate_command_names_the_crate_and_its_hash(results, capsys):
    assert main(["crate", str(results.parent)]) == 0
    path, sha256 = capsys.readouterr().out.splitlines()
    assert sha256 == f"sha256 {provenance.sha256_of_file(path)}"


def test_a_report_made_anew_is_in_the_crate(results, capsys):
    assert main(["report", str(results.parent)]) == 0
    assert lines(results) == []


def jobs(*seconds):
    return [
        rerun.Job("r", "k", "2026-01-01T00:00:00+00:00", s, "", {}, (), {f"{s}": ""}, {})
        for s in seconds
    ]


def test_jobs_are_drawn_by_the_seed_and_none_that_took_too_long():
    every = jobs(1, 2, 3, 4000)
    assert rerun.drawn(every, 2, 5, 600) == rerun.drawn(every, 2, 5, 600)
    assert {job.seconds for job in rerun.drawn(every, 9, 5, 600)} == {1, 2, 3}


@pytest.mark.parametrize(
    ("name", "old", "new", "told"),
    [
        ("a.json", '{"loss": 1, "seconds": 2}', '{"loss": 1, "seconds": 3}', "for times"),
        ("a.json", '{"loss": 1, "seconds": 2}', '{"loss": 2, "seconds": 2}', "other"),
        ("a.csv", "epoch,seconds\n1,2\n", "epoch,seconds\n1,9\n", "for times"),
        ("a.csv", "epoch,seconds\n1,2\n", "epoch,seconds\n2,2\n", "other"),
        ("a.h5", "1", "2", "other"),
        ("a.h5", "1", "1", "same bytes"),
    ],
)
def test_times_that_a_file_tells_of_itself_do_not_count(tmp_path, name, old, new, told):
    for folder, text in (("old", old), ("new", new)):
        provenance.write_text(text, tmp_path / folder / "results" / name)
    assert told in rerun._difference(tmp_path / "old", tmp_path / "new", name)
