"""What a run will take, told before it starts."""

import os
import shutil
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from tomoglean import __main__ as command
from tomoglean import (
    augment,
    costs,
    forecast,
    formats,
    provenance,
    slices,
    stage,
    study,
    volumes,
)
from tomoglean.forecast import artefacts, extents, networks
from tomoglean.forecast.artefacts import Artefact
from tomoglean.forecast.extents import Extent
from tomoglean.forecast.sizes import Sizes
from tomoglean.formats import stored
from tomoglean.plan import Plan
from tomoglean.simulators import files
from tomoglean.volumes import Volume
from workflow import CONFIG, ROOT, snakemake, write_study

MB, GB = 1e6, 1e9
SHAPE = (70, 65, 40)
# Bytes that the artefacts of finished runs took, in MB by stage; those of convert, mask and
# classify once they had been packed as they are today.
DEMO = {
    "simulate": 394.71, "convert": 197.33, "slice": 1125.67, "augment": 20.51,
    "train": 11.47, "export": 5.63, "segment": 21.85, "relabel": 0.35, "sample": 2340.79,
    "mask": 33.75, "classify": 9.84, "average": 1.77,
}  # fmt: skip
ISBI = {"convert": 5.72, "slice": 16.10, "train": 2.27, "export": 1.12, "segment": 2.91}
SANDSTONE = {"convert": 4.09, "slice": 148.97, "augment": 918.03, "train": 7.08}
REAL = {"isbi": ISBI, "sandstone": SANDSTONE}


def rng():
    return np.random.default_rng(7)


@pytest.fixture
def plain(tmp_path):
    """Return a study whose raw volumes are real, small and all alike."""
    folder = write_study(tmp_path / "study")
    for path in (folder / "raw").glob("?.mrc"):
        files.write_volume(
            rng().normal(size=(12, 14, 16)).astype("f4"), path, voxel_nm=10.0
        )
    return folder


def told(folder):
    return forecast.forecast(study.read(folder))


def set_block(folder, **blocks):
    """Write the config of `plain` with settings of stages by task."""
    known = CONFIG["tasks"]
    tasks = {task: {**known[task], **blocks.get(task, {})} for task in known}
    others = {key: value for key, value in blocks.items() if key not in tasks}
    text = yaml.safe_dump({"tasks": tasks, **others})
    (folder / "config" / "config.yaml").write_text(text)


def sizes_of(folder, **known):
    return Sizes(Plan(study.read(folder)), known)


# -- bytes against files that the pipeline writes ------------------------------------


@pytest.mark.parametrize("dtype", ["f4", "u2", "u1"])
def test_a_converted_volume_is_as_large_as_predicted(plain, tmp_path, dtype):
    grey = rng().normal(0.5, 0.1, SHAPE)
    grey = (grey if dtype == "f4" else grey * np.iinfo(dtype).max).astype(dtype)
    path = tmp_path / "a.h5"
    volumes.write(Volume(grey, (10.0, 10.0, 10.0)), path)
    known = sizes_of(plain, a=Extent(SHAPE, grey.itemsize))
    found = known.of(Artefact("convert", "results/converted/a.h5"))
    assert found == pytest.approx(path.stat().st_size, rel=0.3)


def test_scratch_counts_whole_chunks():
    assert Extent((65, 64, 3), 4).chunked == 128 * 64 * 3


def test_steps_of_the_row_change_what_is_converted(plain):
    table = plain / "config" / "volumes.tsv"
    head, *rows = table.read_text().splitlines()
    steps = [":6,:,:\t2\ty,z,x\t0,9" if row.startswith("a\t") else "\t\t\t" for row in rows]
    rows = [f"{row}\t{cells}" for row, cells in zip(rows, steps, strict=True)]
    table.write_text("\n".join([f"{head}\tcrop\tbin\taxes\twindow", *rows]) + "\n")
    found = extents.of_volume(study.read(plain), study.read(plain).row("a"))
    assert found == Extent((7, 3, 8), 1, (20.0, 20.0, 20.0))


def cut(plain, tmp_path, **settings):
    """Cut real slices of real labels, and predict them."""
    set_block(plain, bone={"slice": settings})
    grey = Volume(rng().normal(size=SHAPE).astype("f4"), (10.0, 10.0, 10.0))
    truth = Volume(np.ones(SHAPE, "u1"), grey.voxel_nm)
    facts = {"p_low": -3.0, "p_high": 3.0, "mean": 0.0, "std": 1.0}
    volumes.write(grey, tmp_path / "grey.h5", **facts)
    volumes.write(truth, tmp_path / "truth.h5")
    path = tmp_path / "sliced.h5"
    names = {"name": "c", "classes": ["background", "bone"]}
    slices.write(tmp_path / "grey.h5", [tmp_path / "truth.h5"], path, **names, **settings)
    return path, sizes_of(plain, c=Extent(SHAPE, 4))


@pytest.mark.parametrize("form", ["mrc", "tif"])
def test_published_volumes_are_as_large_as_predicted(plain, tmp_path, form):
    smooth = np.sort(rng().integers(0, 255, SHAPE), axis=2).astype("u1")
    extra = {"confidence": smooth}
    labels = Volume((smooth > 99).astype("u1"), (10.0, 10.0, 10.0))
    volumes.write(labels, tmp_path / "s.h5", extra=extra, classes='["a", "b"]')
    known = sizes_of(plain, d=Extent(SHAPE, 4))
    for layer, dataset in stored.LAYERS.items():
        name = f"d.{layer}.{form}"
        with stored.open_stored(tmp_path / "s.h5", dataset) as source:
            formats.write(source, tmp_path / name)
        found = known.of(Artefact("publish", f"results/published/bone/{name}"))
        assert found == pytest.approx((tmp_path / name).stat().st_size, rel=0.6)


SLICED = Artefact("slice", "results/sliced/bone/final/validate/c.h5")


@pytest.mark.parametrize(
    "settings",
    [{"axes": ["z"]}, {"axes": ["z", "y", "x"]}, {"crop_px": 33}, {"neighbours": 2}],
    ids=str,
)
def test_slices_are_as_large_as_predicted(plain, tmp_path, settings):
    path, known = cut(plain, tmp_path, **settings)
    assert known.of(SLICED) == pytest.approx(path.stat().st_size, rel=0.1)


def test_named_slices_count_alone(plain):
    labels = plain / "config" / "labels.tsv"
    rows = [row.split("\t") for row in labels.read_text().splitlines()]
    named = ["slices", *("3,5-7" if row[:2] == ["bone", "c"] else "" for row in rows[1:])]
    both = ["\t".join([*row, cell]) for row, cell in zip(rows, named, strict=True)]
    labels.write_text("\n".join(both) + "\n")
    set_block(plain, bone={"slice": {"axes": ["z"]}})
    known = sizes_of(plain, c=Extent(SHAPE, 4))
    assert known.examples(SLICED)[0] == 4


@pytest.mark.parametrize("materialise", [False, True])
def test_warps_are_as_large_as_predicted(plain, tmp_path, materialise):
    settings = {"materialise": materialise, "copies": 3}
    path, _ = cut(plain, tmp_path, axes=["z"])
    augment.write(path, tmp_path / "warps.h5", **settings)
    set_block(plain, bone={"slice": {"axes": ["z"]}, "augment": settings})
    known = sizes_of(plain, a=Extent(SHAPE, 4))
    found = known.of(Artefact("augment", "results/augmented/bone/weak/a.h5"))
    assert found == pytest.approx((tmp_path / "warps.h5").stat().st_size, rel=0.2)


def test_patches_follow_from_points_and_settings(plain):
    (plain / "raw" / "t3ss-u-points.csv").write_text("z,y,x\n" + "1,2,3\n" * 7)
    sample = {"positives_per_point": 10, "negatives_per_positive": 2, "neighbours": 1}
    set_block(plain, t3ss={"sample": {**sample, "positive_nm": 50, "ignore_nm": 60}})
    known = sizes_of(plain, u=Extent(SHAPE, 4, (10.0, 10.0, 10.0)))
    artefact = Artefact("sample", "results/sampled/t3ss/final/train/u.h5")
    count, image_bytes, _ = known.examples(artefact)
    assert count == 7 * 10 * 3
    assert image_bytes == count * 50 * 50 * 3 * 4


def test_a_ball_of_few_voxels_gives_few_patches(plain):
    (plain / "raw" / "t3ss-u-points.csv").write_text("z,y,x\n1,2,3\n")
    set_block(plain, t3ss={"sample": {"positive_nm": 10, "positives_per_point": 100}})
    known = sizes_of(plain, u=Extent(SHAPE, 4, (10.0, 10.0, 10.0)))
    artefact = Artefact("sample", "results/sampled/t3ss/final/train/u.h5")
    assert known.patches(artefact) == 4 * (1 + 4)  # 4/3 pi voxels and four others each


@pytest.mark.parametrize("recipe", ["modern", "plain"])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_weights_are_counted_as_keras_does(recipe, norm):
    unet = pytest.importorskip("tomoglean.networks.unet")
    shape = {"width": 3, "depth": 3, "recipe": recipe, "norm": norm}
    built = unet.build(classes=4, channels=5, **shape)
    found = networks.weights({"network": "unet", **shape}, channels=5, classes=4)
    assert found == pytest.approx(built.count_params(), rel=0.03)


@pytest.mark.parametrize("name", ["lenet5", "lenet5_modified"])
def test_weights_of_patch_networks_are_counted(name):
    lenet = pytest.importorskip("tomoglean.networks.lenet")
    found = networks.weights({"network": name}, channels=3, classes=2)
    assert found == pytest.approx(lenet.build(name, channels=3).count_params(), rel=0.02)


def test_a_wider_network_computes_four_times_as_much():
    shape = {"depth": 4, "recipe": "modern", "norm": "batch"}
    one, two = (networks.flops_a_pixel({"width": w, **shape}, 1, 2) for w in (16, 32))
    assert two == pytest.approx(4 * one, rel=0.05)


def test_the_u_net_of_the_paper_computes_what_it_computes():
    """96.3 GFLOP for 512 x 512 at base 32, profiled; there, upsampling had one tap."""
    paper = {"width": 32, "depth": 5, "recipe": "plain", "norm": "none"}
    taps = 3 * sum(2 * 32 * 2**n * 64 * 2**n / 4**n for n in range(4))
    found = (networks.flops_a_pixel(paper, 1, 2) - taps) * 512**2
    assert found == pytest.approx(96.3e9, rel=0.01)


# -- whole studies -------------------------------------------------------------------


def by_stage(folder):
    """Predicted megabytes of everything, there or not."""
    plan = Plan(study.read(folder))
    known = Sizes(plan, extents.find(plan.study)[0])
    found = Counter()
    for artefact in artefacts.wanted(plan).values():
        found[artefact.stage] += (known.of(artefact) or 0) / MB
    return found


def test_the_demo_is_predicted_within_a_factor(tmp_path):
    shutil.copytree(ROOT / "examples" / "demo" / "config", tmp_path / "config")
    found = by_stage(tmp_path)
    assert all(
        found[stage] / 1.5 < taken < 1.5 * found[stage] for stage, taken in DEMO.items()
    )
    assert sum(found.values()) == pytest.approx(sum(DEMO.values()), rel=0.2)


@pytest.mark.parametrize("name", REAL)
@pytest.mark.skipif("TOMOGLEAN_DATA" not in os.environ, reason="needs $TOMOGLEAN_DATA")
def test_real_studies_are_predicted_within_a_factor(tmp_path, name):
    shutil.copytree(ROOT / "examples" / name / "config", tmp_path / "config")
    found = by_stage(tmp_path)
    recorded = REAL[name]
    assert all(found[s] / 1.5 < taken < 1.5 * found[s] for s, taken in recorded.items())


def test_every_artefact_of_a_study_has_a_size(plain):
    plan = Plan(study.read(plain))
    known = Sizes(plan, extents.find(plan.study)[0])
    wanted = artefacts.wanted(plan)
    assert set(wanted) == set(plan.all())
    assert all(known.of(artefact) for artefact in wanted.values())


@pytest.mark.slow
def test_a_dry_run_counts_the_same_jobs_and_is_never_refused(plain):
    done = snakemake(ROOT, plain, "-n", "--quiet", "rules", FAKE_FREE="0")
    assert done.returncode == 0, done.stderr
    total = next(line for line in done.stdout.splitlines() if line.startswith("total"))
    assert told(plain).jobs == int(total.split()[1]) - 1  # `all` does nothing


def test_what_is_there_is_not_written_again(plain):
    before = told(plain)
    made = plain / "results" / "segmented" / "bone" / "final" / "d.h5"
    made.parent.mkdir(parents=True)
    made.write_bytes(bytes(1000))
    after = told(plain).stages["segment"]
    assert after.jobs == before.stages["segment"].jobs - 1
    assert after.there == 1000
    assert after.bytes < before.stages["segment"].bytes


def test_what_is_made_again_counts_by_what_it_grows(plain):
    path = "results/segmented/bone/final/d.h5"
    (plain / path).parent.mkdir(parents=True)
    (plain / path).write_bytes(bytes(1000))
    full = sizes_of(plain, d=Extent((12, 14, 16), 4)).of(Artefact("segment", path))
    found = forecast.forecast(study.read(plain), {path}).stages["segment"]
    assert (found.jobs, found.bytes) == (1, full - 1000)


def test_votes_of_several_axes_need_room_for_a_while(plain):
    set_block(
        plain, bone={"segment": {"axes": ["z"]}}, membrane={"segment": {"axes": ["z"]}}
    )
    assert segmenting(plain).scratch == 0
    set_block(plain, membrane={"segment": {"axes": ["z"]}})
    assert segmenting(plain).scratch == 12 * 14 * 16 * 2 * 2  # two classes of two bytes


def segmenting(folder):
    """Predict the segmentations alone."""
    plan = Plan(study.read(folder))
    wanted = [plan.everything(task, "segment") for task in ("bone", "membrane")]
    return forecast.forecast(plan.study, {path for paths in wanted for path in paths})


def test_an_unreadable_volume_is_named_and_left_out(plain):
    (plain / "raw" / "d.mrc").write_text("no volume")
    found = told(plain)
    assert list(found.unknown) == ["d"]
    assert "d.mrc" in found.unknown["d"]
    assert found.jobs < told_without(plain)
    assert "not counted: d: " in forecast.told(found)


def told_without(plain):
    """Count the jobs once the broken volume is mended."""
    shutil.copy(plain / "raw" / "a.mrc", plain / "raw" / "d.mrc")
    return told(plain).jobs


# -- where shapes come from ----------------------------------------------------------


def test_the_check_is_believed_before_the_header(plain):
    facts = {"verdict": "ok", "shape": [3, 4, 5], "dtype": "uint16", "voxel_nm": [1, 2, 3]}
    provenance.write_json(facts, plain / "results" / "checked" / "a.json")
    found = extents.of_volume(study.read(plain), study.read(plain).row("a"))
    assert found == Extent((3, 4, 5), 2, (1, 2, 3))


def test_a_converted_volume_is_believed_most(plain):
    path = plain / "results" / "converted" / "a.h5"
    volumes.write(
        Volume(np.zeros((6, 7, 8), "u1"), (1.0, 2.0, 3.0), np.arange(6) * 9), path
    )
    found = extents.of_volume(study.read(plain), study.read(plain).row("a"))
    assert found == Extent((6, 7, 8), 1, (1.0, 2.0, 3.0), sparse=True)


def test_a_refused_volume_is_not_counted(plain):
    facts = {"verdict": "refused", "messages": ["a.mrc: expected this, found that"]}
    provenance.write_json(facts, plain / "results" / "checked" / "a.json")
    assert told(plain).unknown == {"a": "a.mrc: expected this, found that"}


def test_headers_are_read_but_no_voxels(plain, monkeypatch):
    def never(self, part):
        raise AssertionError("voxels were read")

    monkeypatch.setattr("tomoglean.formats.source.Source.read_colours", never)
    assert not told(plain).unknown


# -- time ----------------------------------------------------------------------------


def record(plain, path, seconds):
    provenance.write_json(
        {"seconds": seconds}, plain / "results/provenance" / f"{path}.json"
    )


def test_a_study_that_has_run_sets_its_own_speed(plain):
    before = told(plain).stages["segment"]
    alone = costs.of("segment").launch_s * before.jobs
    slow = 10 * (before.seconds - alone) / before.jobs
    for volume in "abcd":
        record(plain, f"segmented/bone/final/{volume}.h5", slow)
    after = told(plain).stages["segment"]
    assert after.own
    assert not told(plain).stages["train"].own
    assert after.seconds - alone == pytest.approx(10 * (before.seconds - alone), rel=0.2)


@pytest.mark.parametrize("text", ["{", "[]", '{"seconds": "long"}', '{"seconds": null}'])
def test_a_broken_record_is_no_record(plain, text):
    path = plain / "results/provenance/segmented/bone/final/d.h5.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert not told(plain).stages["segment"].own


def test_twice_the_epochs_take_twice_as_long(plain):
    seconds = []
    for epochs in (10, 20):
        tasks = {task: {"train": {"epochs": epochs}} for task in CONFIG["tasks"]}
        set_block(plain, **tasks)
        told_of, cost = told(plain).stages["train"], costs.of("train")
        idle = told_of.jobs * (cost.launch_s + cost.start_s)
        seconds.append(told_of.seconds - idle)
    assert seconds[1] == pytest.approx(2 * seconds[0])


def test_the_cluster_and_the_forecast_ask_for_the_same_memory(tmp_path):
    (tmp_path / "input").write_bytes(b"")
    os.truncate(tmp_path / "input", 100_000_000)
    for verb, cost in costs.COSTS.items():
        asked = stage.needs(verb)["mem_mb"](None, [tmp_path / "input"], 2)
        assert asked == cost.memory_mb(100.0, 2)
    assert costs.of("train").memory_mb(1e9) == costs.MOST_MB


# -- the disk ------------------------------------------------------------------------


def small_disk(monkeypatch, free):
    usage = SimpleNamespace(free=int(free))
    monkeypatch.setattr("tomoglean.forecast.shutil.disk_usage", lambda path: usage)


@pytest.mark.parametrize(("spare", "fits"), [(0.99, False), (1.01, True)])
def test_a_tenth_more_than_predicted_must_be_free(plain, monkeypatch, spare, fits):
    found = told(plain)
    small_disk(monkeypatch, spare * 1.1 * (found.bytes + found.scratch))
    assert told(plain).fits is fits


def test_a_reserve_stays_free(plain, monkeypatch):
    small_disk(monkeypatch, 2 * told(plain).needed)
    assert told(plain).fits
    set_block(plain, disk_reserve_gb=1)
    assert not told(plain).fits


def test_no_reserve_at_all_starts_anything(plain, monkeypatch):
    small_disk(monkeypatch, 0)
    set_block(plain, disk_reserve_gb=None)
    assert told(plain).fits


def test_a_finished_study_fits_on_a_full_disk(plain, monkeypatch):
    small_disk(monkeypatch, 0)
    assert forecast.forecast(study.read(plain), set()).fits


def test_the_refusal_is_one_line_that_names_both_figures(plain, monkeypatch):
    small_disk(monkeypatch, 5 * MB)
    found = told(plain)
    with pytest.raises(provenance.Refused, match=r"found 5\.0 MB") as refusal:
        forecast.refuse_unless_it_fits(found)
    assert "\n" not in str(refusal.value)
    assert f"expected {found.needed / MB:.1f} MB" in str(refusal.value)


# -- the start of a run --------------------------------------------------------------


def test_a_run_that_would_fill_the_disk_starts_no_job(plain):
    done = snakemake(ROOT, plain, FAKE_FREE="1000000")
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if "on the study's disk" in line]
    assert len(lines) == 1
    assert lines[0].startswith("tomoglean: results: expected ")
    assert "Traceback" not in done.stderr
    assert not (plain / "results").exists()


@pytest.mark.slow
def test_after_a_refusal_less_can_be_asked_for(plain):
    free = str(round(1.2 * (4 * 2e3 + 4 * forecast.RECORDS + forecast.REPORT)))
    assert snakemake(ROOT, plain, "bone_check", FAKE_FREE="0").returncode == 1
    done = snakemake(ROOT, plain, "bone_check", FAKE_FREE=free)
    assert done.returncode == 0, done.stderr
    assert "tomoglean: 4 jobs, about" in done.stderr


def test_a_run_of_unreadable_volumes_starts_and_says_so(tmp_path, capsys, monkeypatch):
    small_disk(monkeypatch, 0)
    plan = Plan(study.read(write_study(tmp_path / "study")))
    stage._make_sure_of_room(plan, {"results/checked/a.json"})
    said = capsys.readouterr().err
    assert "0 jobs" in said
    assert "not counted, their size is unknown: a, b, c, ..." in said


def test_a_failing_forecast_stops_nothing(capsys):
    stage._make_sure_of_room(SimpleNamespace(study=None), set())
    assert "no forecast: " in capsys.readouterr().err


# -- the words -----------------------------------------------------------------------


def checked(folder, capsys):
    code = command.main(["check", str(folder)])
    return code, capsys.readouterr().out


@pytest.fixture
def scans(tmp_path):
    """Return a study of two scans, one of them labelled."""
    folder = tmp_path / "scans"
    (folder / "config").mkdir(parents=True)
    bone = {"kind": "semantic", "classes": ["background", "bone"]}
    (folder / "config" / "config.yaml").write_text(
        yaml.safe_dump({"tasks": {"bone": bone}})
    )
    rows = ["volume\ttasks\tpath\tvoxel_nm", "p\tbone\tp.tif\t5000", "q\tbone\tq.tif\t5000"]
    (folder / "config" / "volumes.tsv").write_text("\n".join(rows) + "\n")
    rows = ["task\tvolume\tkind\tuse\tpath", "bone\tp\tclean\ttrain\tp-labels.tif"]
    (folder / "config" / "labels.tsv").write_text("\n".join(rows) + "\n")
    for name in "pq":
        files.write_volume(
            rng().normal(size=(6, 20, 30)).astype("f4"),
            folder / f"{name}.tif",
            voxel_nm=5000.0,
        )
    files.write_volume(
        rng().integers(0, 2, (6, 20, 30)).astype("u1"),
        folder / "p-labels.tif",
        voxel_nm=5000.0,
    )
    return folder


def test_a_study_is_checked_as_a_whole(scans, capsys):
    code, said = checked(scans, capsys)
    assert code == 0
    lines = said.splitlines()
    assert [line.split()[:2] for line in lines[:2]] == [["p", "ok"], ["q", "ok"]]
    assert "6 x 20 x 30" in lines[0]
    assert any(line.startswith("p, bone clean train") and " ok" in line for line in lines)
    assert any(line.startswith("segment") for line in lines)
    assert [line.split(":")[0] for line in lines[-3:]] == ["disk", "memory", "time"]


def test_a_refused_volume_of_a_study_gives_code_3(scans, capsys):
    (scans / "q.tif").write_bytes((scans / "q.tif").read_bytes()[:200])
    code, said = checked(scans, capsys)
    assert code == 3
    assert "q.tif: expected" in said
    assert "not counted: q: q.tif" in said


def test_refused_labels_of_a_study_give_code_3(scans, capsys):
    files.write_volume(np.ones((5, 20, 30), "u1"), scans / "p-labels.tif", voxel_nm=5000.0)
    code, said = checked(scans, capsys)
    assert code == 3
    assert "p, bone clean train" in said


def test_a_disk_too_small_gives_code_3(scans, capsys, monkeypatch):
    small_disk(monkeypatch, 1000)
    code, said = checked(scans, capsys)
    assert code == 3
    assert "TOO LITTLE" in said


def test_what_is_still_to_be_simulated_is_no_mistake(tmp_path, capsys):
    shutil.copytree(ROOT / "examples" / "demo" / "config", tmp_path / "config")
    code, said = checked(tmp_path, capsys)
    assert code == 0
    assert said.count("to be simulated") == 17 + 35
    assert "not counted" not in said
