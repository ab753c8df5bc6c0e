"""Averages show the machine, controls do not, and conventions hold off the axes."""

import json
from dataclasses import replace

import mrcfile
import numpy as np
import pytest
from scipy import fft

from tomoglean import averages, provenance, volumes
from tomoglean.tables import Picks
from tomoglean.volumes import Volume

SIDE = 88
RADIUS = 30.0
VOXEL_NM = 2.0
BOX = 32
TILT = 60.0
SETTINGS = {"box_px": BOX, "tilt_max_deg": TILT, "max_shift_nm": 5.0}


def rod(places, start, stop, width):
    """Return a soft rod along the z axis of coordinates (..., 3) in voxels."""
    along = np.maximum(start - places[..., 0], places[..., 0] - stop)
    across = np.linalg.norm(places[..., 1:], axis=-1) - width
    return 1 / (1 + np.exp(3 * np.maximum(along, across)))


def ring(places, height, radius, width):
    """Return a soft ring about the z axis."""
    across = np.linalg.norm(places[..., 1:], axis=-1) - radius
    return np.exp(-(across**2 + (places[..., 0] - height) ** 2) / (2 * width**2))


def machine(places):
    """Return two rings and a needle on the outside; the lower ring has one knob."""
    knob = np.linalg.norm(places - np.array([-6.0, 0.0, 6.0]), axis=-1)
    return (
        ring(places, 3, 4, 1.2) + ring(places, -5, 6, 1.5) + rod(places, 0, 13, 1.5)
        + 2 * np.exp(-(knob**2) / 8)
    )  # fmt: skip


def membranes(far):
    """Return two soft shells, five voxels out and in of the middle one."""
    return sum(np.exp(-((far - RADIUS - gap) ** 2) / 2) for gap in (-5, 5))


def truth(*, bare=False):
    """Return what a perfect average would show; bare: the machine without membranes."""
    places = averages._offsets(BOX)
    far = np.linalg.norm(places + np.array([RADIUS, 0, 0]), axis=-1)
    return machine(places) if bare else np.maximum(membranes(far), machine(places))


def sphere():
    """Return coordinates and distances from the middle of the phantom."""
    axis = np.arange(SIDE) - (SIDE - 1) / 2
    places = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    return places, np.linalg.norm(places, axis=-1)


def scattered(number):
    """Return unit vectors spread evenly over a sphere (Fibonacci lattice)."""
    height = 1 - (2 * np.arange(number) + 1) / number
    turn = np.pi * (1 + 5**0.5) * np.arange(number)
    across = np.sqrt(1 - height**2)
    return np.column_stack([height, across * np.sin(turn), across * np.cos(turn)])


def tilted(density, tilt_max_deg):
    """Remove what a tilt series about y cannot see."""
    z, _, x = (
        fft.fftfreq(n)[(...,) + (None,) * (2 - i)] for i, n in enumerate(density.shape)
    )
    seen = np.abs(z) <= np.abs(x) * np.tan(np.radians(tilt_max_deg)) + 1e-9
    return fft.ifftn(fft.fftn(density) * seen).real


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    """One cell with two membranes, 20 machines, missing wedge and noise."""
    folder = tmp_path_factory.mktemp("phantom")
    places, far = sphere()
    normals = scattered(20)
    density = membranes(far)
    for index, normal in enumerate(normals):
        turn = averages.frame(normal, 77.0 * index)
        density = np.maximum(density, machine((places - RADIUS * normal) @ turn))
    noise = volumes.random(1, "noise").normal(0, 1.0, density.shape)
    data = tilted(density + noise, TILT).astype(np.float32)
    voxel = (VOXEL_NM,) * 3
    volumes.write(Volume(data, voxel), folder / "cell.h5")
    shell = np.abs(far - RADIUS) < 6
    axes = np.moveaxis(places / far[..., None], -1, 0) * 127 * shell
    volumes.write(
        Volume(shell.astype(np.uint8), voxel),
        folder / "mask.h5",
        extra={
            "distance_nm": ((far - RADIUS) * VOXEL_NM).astype(np.float16),
            "normals": np.rint(axes).astype(np.int8),
        },
    )
    return folder, RADIUS * normals + (SIDE - 1) / 2, normals


def picks_at(positions, normals):
    return Picks(positions, positions * VOXEL_NM, normals, np.ones(len(positions)))


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
    angle, shift = averages._fit(
        box, every, averages._turned(target, setup), np.zeros(3), setup
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
    power = np.abs(averages._spectrum(result.maps.whole)) ** 2
    assert power[upright == 0].mean() > 0.2 * power[upright == 1].mean()


# -- conventions ---------------------------------------------------------------------

OFF_AXIS = np.array([2.0, -1.0, 0.5]) / np.linalg.norm([2.0, -1.0, 0.5])


@pytest.mark.parametrize("normal", [*np.eye(3), *-np.eye(3), OFF_AXIS])
@pytest.mark.parametrize("angle_deg", [0, 33])
def test_frame_is_a_rotation_with_the_normal_as_z(normal, angle_deg):
    matrix = averages.frame(normal, angle_deg)
    assert matrix @ matrix.T == pytest.approx(np.eye(3), abs=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)
    assert matrix[:, 0] == pytest.approx(normal)


def test_frame_needs_a_normal():
    with pytest.raises(ValueError, match="normal"):
        averages.frame([0, 0, 0])


def test_turn_goes_from_x_to_y():
    z, y, x = np.eye(3)
    assert averages.turn(90) @ x == pytest.approx(y)
    assert averages.turn(90) @ y == pytest.approx(-x)
    assert averages.turn(90) @ z == pytest.approx(z)


def blob(shape, place, width=1.5):
    axes = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    far = sum((axis - c) ** 2 for axis, c in zip(axes, place, strict=True))
    return np.exp(-far / (2 * width**2))


def peak(box):
    return np.array(np.unravel_index(np.argmax(box), box.shape)) - box.shape[0] // 2


def test_what_lies_along_the_normal_comes_up_along_z():
    centre = np.array([20.3, 22.8, 18.5])
    cell = Volume(blob((40, 44, 42), centre + 8 * OFF_AXIS), (1.0,) * 3)
    turned = averages.frame(OFF_AXIS, 40)
    box = averages.crop(cell, centre, turned, box_px=24, voxel_nm=1.0)
    assert peak(box).tolist() == [8, 0, 0]


def test_frame_maps_offsets_of_the_particle_into_the_tomogram():
    centre, offset = np.array([20.0, 20.0, 20.0]), np.array([3.0, -5.0, 6.0])
    turned = averages.frame(OFF_AXIS, 25)
    cell = Volume(blob((41, 41, 41), centre + turned @ offset), (1.0,) * 3)
    box = averages.crop(cell, centre, turned, box_px=24, voxel_nm=1.0)
    assert peak(box).tolist() == offset.tolist()


def test_anisotropic_voxels_become_cubes():
    cell = Volume(blob((20, 40, 40), (14, 20, 26)), (2.0, 1.0, 1.0))
    box = averages.crop(cell, np.array([10.0, 20, 20]), np.eye(3), box_px=24, voxel_nm=1.0)
    assert peak(box).tolist() == [8, 0, 6]


def test_outside_the_tomogram_a_crop_is_flat():
    cell = Volume(volumes.random(3).normal(size=(20, 20, 20)), (1.0,) * 3)
    box = averages.crop(cell, np.zeros(3), np.eye(3), box_px=16, voxel_nm=1.0)
    assert np.ptp(box[:7]) == 0
    assert np.ptp(box[8:, 8:, 8:]) > 1


@pytest.mark.parametrize(
    ("tilt_max_deg", "hidden"), [(51, 0.433), (60, 1 / 3), (66, 0.267)]
)
def test_wedge_hides_the_share_that_geometry_says(tilt_max_deg, hidden):
    k = averages._frequencies(64)
    far = np.linalg.norm(k, axis=-1)
    shell = (far > 0.1) & (far < 0.45)
    many = np.broadcast_to(averages._multiplicity(64), shape=far.shape)
    seen = averages.wedge(64, np.eye(3), tilt_max_deg)
    # A cone of directions: the share of the angle in the (z, x) plane that is missing.
    expected = (90 - tilt_max_deg) / 90
    assert np.average(seen[shell] == 0, weights=many[shell]) == pytest.approx(
        expected, abs=0.01
    )
    assert expected == pytest.approx(hidden, abs=0.001)


def test_wedge_turns_with_the_crop():
    """The spectrum of a turned crop is empty where the turned wedge says so."""
    noise = volumes.random(4).normal(size=(64, 64, 64))
    cell = Volume(tilted(noise, 45), (1.0,) * 3)
    turned = averages.frame(OFF_AXIS, 70)
    box = averages.crop(cell, np.full(3, 32.0), turned, box_px=32, voxel_nm=1.0)
    power = np.abs(averages._spectrum(box)) ** 2
    low = np.linalg.norm(averages._frequencies(32), axis=-1) < 0.25
    seen = averages.wedge(32, turned, 45) > 0
    wrong = averages.wedge(32, turned.T, 45) > 0
    ratio = power[low & ~seen].mean() / power[low & seen].mean()
    assert ratio < 0.2
    assert power[low & ~wrong].mean() > 2 * power[low & ~seen].mean()


def test_fit_finds_a_known_turn_and_shift():
    setup = averages.Setup(1.0, 32, 1, 90.0, 1, 30.0, 5.0, 3.0, 1.0, False)
    cell = Volume(machine(averages._offsets(48)), (1.0,) * 3)
    middle, shift = np.full(3, 24.0), np.array([2.0, -1.0, 3.0])
    cut = {"box_px": 32, "voxel_nm": 1.0}
    reference = averages.crop(cell, middle, np.eye(3), **cut)
    away = averages.turn(-60)
    box = averages.crop(cell, middle - away @ shift, away, **cut)
    seen = averages.wedge(32, away, 90)
    angle, found = averages._fit(
        box, seen, averages._turned(reference, setup), np.zeros(3), setup
    )
    assert angle == 60
    assert found.tolist() == shift.tolist()


def test_moved_particle_shows_what_the_fit_promised():
    """A particle moved by the fit cuts the very box that it was fitted to."""
    setup = averages.Setup(1.0, 32, 1, 90.0, 1, 30.0, 5.0, 3.0, 1.0, False)
    cell = Volume(machine(averages._offsets(48)), (1.0,) * 3)
    normal, start = np.array([1.0, 0.0, 0.0]), np.array([22.0, 25.0, 23.0])
    particle = averages.Particle(0, start, normal, -60.0, start)
    home = replace(particle, centre=np.full(3, 24.0), angle_deg=0.0)
    reference = averages._cut(home, home.frame, [cell], setup)
    box = averages._cut(particle, particle.frame, [cell], setup)
    seen = averages.wedge(32, particle.frame, 90)
    fit = averages._fit(box, seen, averages._turned(reference, setup), np.zeros(3), setup)
    moved = averages._moved(particle, *fit, np.ones(3), setup)
    again = averages._cut(moved, moved.frame, [cell], setup)
    assert averages.correlation(again, reference) > 0.9
    assert averages.correlation(box, reference) < 0.5


def test_shifts_stay_within_reach(phantom):
    result = run(phantom, iterations=2, max_shift_nm=2.5)
    step_nm = VOXEL_NM * 5  # laying half 2 over half 1 moves that half once more
    assert result.maps.shifts_nm.max() <= 2.5 + step_nm
    assert result.maps.shifts_nm[:10].max() <= 2.5 + 1e-6


# -- symmetry, contrast, weights -----------------------------------------------------


@pytest.mark.parametrize("symmetry", [1, 4])
def test_symmetry_is_imposed(phantom, symmetry):
    box = run(phantom, iterations=0, symmetry=symmetry).maps.whole
    ball = np.linalg.norm(averages._offsets(BOX), axis=-1) < BOX / 2 - 1
    quarter = np.rot90(box[1:, 1:, 1:], axes=(1, 2))
    agreement = averages.correlation(quarter, box[1:, 1:, 1:], ball[1:, 1:, 1:])
    assert (agreement > 0.98) == (symmetry == 4)


def test_invert_turns_the_contrast_round(phantom):
    bright, dark = (run(phantom, iterations=0, invert=i).maps.whole for i in (False, True))
    assert dark == pytest.approx(-bright, abs=1e-5)


def test_weights_undo_uneven_sampling():
    """A frequency seen by one particle of two counts as much as one seen by both."""
    signal = np.zeros((8, 8, 5), np.complex64)
    weight = np.zeros((8, 8, 5), np.float32)
    signal[0, 0, 1], weight[0, 0, 1] = 2.0, 2.0
    signal[0, 1, 0], weight[0, 1, 0] = 1.0, 1.0
    spectrum = averages._spectrum(averages.Sums(signal, weight).map(1e-6))
    assert abs(spectrum[0, 0, 1]) == pytest.approx(1, rel=1e-4)
    assert abs(spectrum[0, 1, 0]) == pytest.approx(0.5, rel=1e-4)  # its mate is empty


def test_odd_boxes_are_refused():
    with pytest.raises(ValueError, match="even"):
        averages.average([], [], [], seed=1, box_px=33)


# -- correlations --------------------------------------------------------------------


def test_correlation_is_pearsons():
    rng = volumes.random(5)
    one = rng.normal(size=(6, 6, 6))
    other = one + rng.normal(size=one.shape)
    expected = np.corrcoef(one.ravel(), other.ravel())[0, 1]
    assert averages.correlation(one, 3 * other + 7) == pytest.approx(expected)
    assert averages.correlation(one, -one) == pytest.approx(-1)
    assert np.isnan(averages.correlation(one, np.ones_like(one)))


def test_correlation_looks_only_within_the_mask():
    one, mask = volumes.random(6).normal(size=(6, 6, 6)), np.zeros((6, 6, 6))
    mask[:3] = 1
    other = np.where(mask > 0, one, -one)
    assert averages.correlation(one, other, mask) == pytest.approx(1)


def test_shell_correlation_of_the_same_and_of_noise():
    rng = volumes.random(7)
    one, other = rng.normal(size=(2, 32, 32, 32)).astype(np.float32)
    assert averages.shell_correlation(one, one) == pytest.approx(np.ones(16))
    assert np.abs(averages.shell_correlation(one, other)[4:]).max() < 0.2


def test_shell_correlation_is_signal_over_signal_and_noise():
    rng = volumes.random(8)
    signal, a, b = rng.normal(size=(3, 48, 48, 48)).astype(np.float32)
    fsc = averages.shell_correlation(signal + a, signal + b)
    assert fsc[8:].mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("fsc", "expected"),
    [
        ([1.0, 0.5, 0.0], 1 / 0.2),
        ([1.0, 0.75, 0.25], 1 / 0.25),
        ([0.9, 0.8, 0.7], 1 / 0.3),
        ([0.4, 0.9, 0.9], None),
        ([np.nan, 0.9, 0.9], None),
        ([], None),
    ],
)
def test_resolution_is_where_the_curve_falls(fsc, expected):
    frequency = np.array([0.1, 0.2, 0.3])[: len(fsc)]
    found = averages.resolution_nm(frequency, fsc, 0.5)
    assert found == (expected if expected is None else pytest.approx(expected))


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


def test_control_lies_at_the_depth_of_the_picks(phantom):
    folder, positions, normals = phantom
    setup = averages.Setup(VOXEL_NM, BOX, 1, TILT, 0, 30.0, 5.0, 6.0, 1.0, False)
    with volumes.open_volume(folder / "cell.h5") as cell:
        found, _ = averages._particles([picks_at(positions, normals)], [cell], setup, 1)
        chance = averages._random_particles(found, [cell], [folder / "mask.h5"], setup, 1)
    places = np.array([p.centre for p in chance]) - (SIDE - 1) / 2
    far = np.linalg.norm(places, axis=1)
    assert far == pytest.approx(np.full(20, RADIUS), abs=1.6)
    outward = np.sum(places / far[:, None] * [p.normal for p in chance], axis=1)
    assert outward.min() > 0.99
    assert len({tuple(place) for place in places}) == 20


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
