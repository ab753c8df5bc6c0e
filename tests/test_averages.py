"""Averages show the machine, and controls do not."""

import json

import mrcfile
import numpy as np
import pytest
from machines import (
    BOX,
    RADIUS,
    SIDE,
    TILT,
    VOXEL_NM,
    machine,
    membranes,
    picks_at,
    write_phantom,
)

from tomoglean import averages, provenance, volumes
from tomoglean.averages import alignment, fourier, geometry
from tomoglean.volumes import Volume

SETTINGS = {"box_px": BOX, "tilt_max_deg": TILT, "max_shift_nm": 5.0}


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    return write_phantom(tmp_path_factory.mktemp("phantom"))


def truth(*, bare=False):
    """Return what a perfect average would show; bare: the machine without membranes."""
    places = geometry.offsets(BOX)
    far = np.linalg.norm(places + np.array([RADIUS, 0, 0]), axis=-1)
    return machine(places) if bare else np.maximum(membranes(far), machine(places))


def run(phantom, seed=1, picks=None, **settings):
    folder, positions, normals = phantom
    picks = picks_at(positions, normals) if picks is None else picks
    return averages.average(
        [picks], [folder / "cell.h5"], [folder / "mask.h5"], seed=seed,
        **{**SETTINGS, **settings},
    )  # fmt: skip


@pytest.fixture(scope="module")
def result(phantom):
    return run(phantom)


def likeness(box, **form):
    """Return the correlation with the truth, laid over it at its best turn and shift."""
    setup = averages.Setup(1.0, BOX, 1, 90.0, 1, 20.0, 3.0, 2.5, 1.0, False)
    target, every = truth(**form).astype(np.float32), np.ones((BOX, BOX, BOX // 2 + 1))
    angle, shift = alignment.fit(
        box, every, alignment.references(target, setup), np.zeros(3), setup
    )
    turned = averages.turn(angle)
    moved = averages.crop(
        Volume(box, (1.0,) * 3), BOX // 2 + shift, turned, box_px=BOX, voxel_nm=1.0
    )
    return averages.correlation(moved, target, setup.mask)


# -- what it is for ------------------------------------------------------------------


def test_average_beats_the_best_single_crop(phantom, result):
    folder, positions, normals = phantom
    with volumes.open_volume(folder / "cell.h5") as cell:
        single = max(
            likeness(
                averages.crop(
                    cell, place, averages.frame(normal), box_px=BOX, voxel_nm=VOXEL_NM
                )
            )
            for place, normal in zip(positions, normals, strict=True)
        )
    assert likeness(result.maps.whole) > single + 0.1


def test_random_places_show_no_machine(result):
    assert result.summary["n_control"] == result.summary["n_used"] == 20
    shown, chance = (likeness(m.whole, bare=True) for m in (result.maps, result.control))
    assert shown > chance + 0.1


def test_halves_agree_better_than_those_of_the_control(result):
    summary = result.summary
    assert summary["half_correlation"] > summary["control_half_correlation"] > 0
    assert summary["resolution_fsc_143_nm"] < 12
    assert summary["resolution_fsc_143_nm"] <= summary["resolution_fsc_500_nm"]


def test_alignment_repairs_imperfect_picks(phantom):
    _, positions, normals = phantom
    jitter = volumes.random(2).normal(0, 1.2, positions.shape)
    picks = picks_at(positions + jitter, normals)
    before = run(phantom, picks=picks, iterations=0)
    after = run(phantom, picks=picks, iterations=1)
    assert likeness(after.maps.whole) > likeness(before.maps.whole) + 0.03


def test_the_wedge_is_filled(result):
    """Twenty directions see what one alone does not: power within its wedge."""
    upright = averages.wedge(BOX, np.eye(3), TILT)
    power = np.abs(fourier.spectrum(result.maps.whole)) ** 2
    assert power[upright == 0].mean() > 0.2 * power[upright == 1].mean()


def test_shifts_stay_within_reach(phantom):
    result = run(phantom, iterations=2, max_shift_nm=2.5)
    step_nm = VOXEL_NM * 5  # laying half 2 over half 1 moves that half once more
    assert result.maps.shifts_nm.max() <= 2.5 + step_nm
    assert result.maps.shifts_nm[:10].max() <= 2.5 + 1e-6


# -- symmetry, contrast --------------------------------------------------------------


@pytest.mark.parametrize("symmetry", [1, 4])
def test_symmetry_is_imposed(phantom, symmetry):
    box = run(phantom, iterations=0, symmetry=symmetry).maps.whole
    ball = np.linalg.norm(geometry.offsets(BOX), axis=-1) < BOX / 2 - 1
    quarter = np.rot90(box[1:, 1:, 1:], axes=(1, 2))
    agreement = averages.correlation(quarter, box[1:, 1:, 1:], ball[1:, 1:, 1:])
    assert (agreement > 0.98) == (symmetry == 4)


def test_invert_turns_the_contrast_round(phantom):
    bright, dark = (run(phantom, iterations=0, invert=i).maps.whole for i in (False, True))
    assert dark == pytest.approx(-bright, abs=1e-5)


def test_odd_boxes_are_refused():
    with pytest.raises(ValueError, match="even"):
        averages.average([], [], [], seed=1, box_px=33)


# -- files, emptiness, determinism ---------------------------------------------------


def test_same_seed_same_maps_other_seed_other_halves(phantom):
    _, positions, normals = phantom
    few = picks_at(positions[:6], normals[:6])
    one, same, other = (
        run(phantom, seed=seed, picks=few, iterations=1) for seed in (3, 3, 4)
    )
    assert np.array_equal(one.maps.half1, same.maps.half1)
    assert np.array_equal(one.control.whole, same.control.whole)
    assert not np.array_equal(one.maps.half1, other.maps.half1)


def test_halves_share_no_particle(result):
    assert result.maps.sizes == (10, 10)


def test_picks_without_normal_or_at_the_border_are_counted(phantom):
    _, positions, normals = phantom
    places, axes = positions[:5].copy(), normals[:5].copy()
    axes[0] = 0
    places[1] = 0
    summary = run(phantom, picks=picks_at(places, axes), iterations=0).summary
    assert summary["n_without_normal"] == summary["n_near_border"] == 1
    assert (summary["n_picks"], summary["n_used"]) == (5, 3)


def empty_picks():
    return picks_at(np.zeros((0, 3)), np.zeros((0, 3)))


def test_no_picks_give_zeros_and_reasons(phantom, tmp_path):
    result = run(phantom, picks=empty_picks())
    assert result.maps.whole.shape == (BOX,) * 3
    assert not result.maps.whole.any()
    assert result.summary["resolution_fsc_143_nm"] is None
    assert result.summary["reasons"]["half_correlation"] == "no pick to average"
    provenance.write_json(result.summary, tmp_path / "summary.json")


def test_no_tomograms_give_a_valid_answer(tmp_path):
    result = averages.average([], [], [], seed=1, box_px=16)
    assert result.fsc == []
    assert result.summary["reasons"]["voxel_nm"] == "no tomogram"
    averages.write_mrc(result.maps.whole, tmp_path / "a.mrc", voxel_nm=result.voxel_nm)
    provenance.write_json(result.summary, tmp_path / "summary.json")


def test_one_pick_has_no_second_half(phantom):
    _, positions, normals = phantom
    result = run(phantom, picks=picks_at(positions[:1], normals[:1]))
    assert result.maps.whole.any()
    assert result.summary["half_correlation"] is None
    assert "two particles" in result.summary["reasons"]["half_correlation"]
    assert json.loads(json.dumps(result.fsc, allow_nan=False))[0]["fsc"] is None


def test_an_empty_membrane_mask_has_no_control(phantom, tmp_path):
    folder, positions, normals = phantom
    nothing = np.zeros((SIDE,) * 3, np.uint8)
    volumes.write(
        Volume(nothing, (VOXEL_NM,) * 3),
        tmp_path / "mask.h5",
        extra={
            "distance_nm": nothing.astype(np.float16),
            "normals": np.zeros((3, *nothing.shape), np.int8),
        },
    )
    result = averages.average(
        [picks_at(positions, normals)], [folder / "cell.h5"], [tmp_path / "mask.h5"],
        seed=1, iterations=0, **SETTINGS,
    )  # fmt: skip
    assert result.summary["n_control"] == 0
    assert "mask" in result.summary["reasons"]["control_half_correlation"]


def test_maps_are_the_same_bytes_and_carry_their_voxel_size(tmp_path):
    box = volumes.random(9).normal(size=(8, 8, 8))
    for name in ("a.mrc", "b.mrc"):
        averages.write_mrc(box, tmp_path / name, voxel_nm=1.8)
    assert (tmp_path / "a.mrc").read_bytes() == (tmp_path / "b.mrc").read_bytes()
    with mrcfile.open(tmp_path / "a.mrc") as file:
        assert file.data == pytest.approx(box.astype(np.float32))
        assert float(file.voxel_size.x) == pytest.approx(18)
        assert file.is_volume()
        assert not any(file.header.label)
