"""The full mode: projections, lens, electrons and back-projection do what theory says."""

import hashlib

import numpy as np
import pytest
from scipy import fft, ndimage
from threadpoolctl import threadpool_limits

from tests.test_simulators_microscope import scope, textbook_transfer
from tomoglean.simulators.minicell import tilt

#: No errors, no lens, no blur: projections alone.
PLAIN = {
    "defocus_um": 0.0,
    "shift_nm": 0.0,
    "rotation_deg": 0.0,
    "mtf_nyquist": 1.0,
    "quantum_efficiency": 1.0,
    "defocus_spread_um": 0.0,
}
LENS = {**PLAIN, "defocus_um": 6.0}
STEADY = {"shift_nm": 0.0, "rotation_deg": 0.0, "defocus_spread_um": 0.0}


def blob(shape, place, sigma=2.0):
    axes = np.ogrid[tuple(slice(n) for n in shape)]
    squares = sum((a - p) ** 2 for a, p in zip(axes, place, strict=True))
    return np.exp(-squares / (2 * sigma**2)).astype(np.float32)


def widened(density, microscope):
    margin = tilt.margin_px(density.shape[0], microscope)
    return np.pad(density, [(0, 0), (0, 0), (margin, margin)])


def series(density, microscope, *, ice_nm=50.0, voxel_nm=1.8, name="one"):
    return tilt.record(
        1,
        name,
        widened(density, microscope),
        width_px=density.shape[2],
        ice_nm=ice_nm,
        voxel_nm=voxel_nm,
        microscope=microscope,
    )


def back(views, depth, microscope):
    return np.stack(list(tilt.back_projected(views, depth, microscope)), axis=1)


def tomogram(density, microscope, *, inside=None, ice_nm=50.0, voxel_nm=1.8):
    views = series(density, microscope, ice_nm=ice_nm, voxel_nm=voxel_nm)
    inside = np.ones(density.shape, bool) if inside is None else inside
    where = {"ice_nm": ice_nm, "voxel_nm": voxel_nm, "microscope": microscope}
    return views, tilt.reconstruct(views, inside, **where)


def middle_of(image, near):
    """Centre of mass of the darkest spot, in a small box about a place."""
    low = np.rint(near).astype(int) - 4
    box = tuple(slice(a, a + 9) for a in low)
    part = np.clip(-image[box] - 0.3 * (-image[box]).max(), 0, None)
    return np.array(ndimage.center_of_mass(part)) + low


PLACES = [(19.5, 15.5, 23.5), (12.3, 9.8, 14.6), (28.6, 20.2, 33.9)]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("optics", [PLAIN, LENS])
def test_points_come_back_where_they_were(place, optics):
    one = scope(**optics)
    density = blob((40, 32, 48), place)
    image = back(series(density, one).signal, 40, one)
    np.testing.assert_allclose(middle_of(image, place), place, atol=0.1)


@pytest.mark.parametrize("place", PLACES)
def test_a_bead_is_seen_where_the_tilt_takes_it(place):
    one = scope(**PLAIN)
    views = series(0.2 * blob((40, 32, 48), place), one)
    rows = -views.signal
    for angle, image in zip(np.radians(views.angles_deg), rows, strict=True):
        z, y, x = np.subtract(place, (19.5, 15.5, 23.5))
        across = x * np.cos(angle) + z * np.sin(angle) + 23.5
        seen = ndimage.center_of_mass(
            np.clip(image, 0.05 * image.max(), None) - 0.05 * image.max()
        )
        np.testing.assert_allclose(seen, [y + 15.5, across], atol=0.05)


def test_projections_are_line_integrals():
    one = scope(**PLAIN, tilt_max_deg=40, tilt_step_deg=20)
    density = 0.5 * blob((40, 8, 48), (19.5, 3.5, 23.5), sigma=3.0)
    absorbed = np.tan(np.arcsin(0.07)) * one.phase_rad(1.8)
    views = series(density, one)
    bare = one.electrons(1.8) * one.passed(50.0)
    mass = -np.log(views.expected / bare[:, None, None]) / (2 * absorbed)
    np.testing.assert_allclose(mass.sum(axis=(1, 2)), density.sum(), rtol=2e-3)
    np.testing.assert_allclose(mass[2], density.sum(axis=0), atol=0.02)


def test_what_lies_beside_the_field_of_view_is_projected_into_it():
    one = scope(**PLAIN)
    margin = tilt.margin_px(40, one)
    # On the upper surface, 15 voxels beyond the edge on the right.
    density = blob((40, 16, 48 + 2 * margin), (36, 8, margin + 48 + 15))
    where = {"width_px": 48, "ice_nm": 70.0, "voxel_nm": 1.8, "microscope": one}
    dark = -tilt.record(1, "one", density, **where).signal.min(axis=(1, 2))
    assert dark[17] < 1e-3
    assert dark[0] > 0.015
    assert dark[-1] < 1e-3


@pytest.mark.parametrize("depth", [32, 224, 300])
def test_margin_holds_what_the_middle_of_the_ice_sees(depth):
    assert tilt.margin_px(depth, scope()) >= depth / 2 * np.tan(np.radians(51))
    assert tilt.margin_px(224, scope()) == 139


def test_bare_ice_lets_through_what_the_mean_free_path_says():
    views = series(np.zeros((16, 40, 40), np.float32), scope(**PLAIN), ice_nm=400.0)
    means = views.counts.mean(axis=(1, 2))
    assert means[17] == pytest.approx(236, rel=0.01)
    assert means[0] == pytest.approx(120, rel=0.01)


def test_shot_noise_of_a_counting_camera_is_white_and_poisson():
    views = series(np.zeros((8, 96, 96), np.float32), scope(mtf_nyquist=0.1))
    counts, noise = views.counts[17], views.noise[17]
    assert counts.var() / counts.mean() == pytest.approx(1, abs=0.05)
    neighbours = np.mean(noise[:, 1:] * noise[:, :-1]) / noise.var()
    assert neighbours == pytest.approx(0, abs=0.03)


def test_an_integrating_camera_blurs_its_noise():
    blurry = scope(camera="integrating", camera_pixel_nm=1.8, mtf_nyquist=0.3)
    noise = series(np.zeros((8, 96, 96), np.float32), blurry).noise[17]
    power = np.abs(fft.fft2(noise)) ** 2 / noise.size * 741 * 0.8 * blurry.passed(50.0)[17]
    squares = np.add.outer(fft.fftfreq(96) ** 2, fft.fftfreq(96) ** 2)
    for ring in (squares < 0.1, (squares > 0.1) & (squares < 0.25), squares > 0.25):
        expected = np.mean(0.3 ** (8 * squares[ring]))
        assert power[ring].mean() == pytest.approx(expected, rel=0.15)


def test_cameras_blur_signal_alike():
    density = 0.3 * blob((24, 24, 24), (11.5, 11.5, 11.5), sigma=1.0)
    counting, integrating = (
        series(density, scope(camera=kind, mtf_nyquist=0.2))
        for kind in ("counting", "integrating")
    )
    np.testing.assert_allclose(counting.expected, integrating.expected, rtol=1e-5)


def test_a_camera_that_misses_electrons_records_fewer():
    ice = np.zeros((8, 40, 40), np.float32)
    all_of_them = series(ice, scope(quantum_efficiency=1.0)).means
    np.testing.assert_allclose(
        series(ice, scope(quantum_efficiency=0.8)).means, 0.8 * all_of_them, rtol=1e-5
    )


@pytest.mark.parametrize("defocus_um", [1.5, 6.0])
@pytest.mark.parametrize("waves", [3, 7, 12, 17])
def test_lens_passes_weak_gratings_as_the_textbook_says(defocus_um, waves):
    x = np.arange(64)
    grating = np.broadcast_to(np.cos(2 * np.pi * waves * x / 64), (32, 64))
    one = scope(amplitude_contrast=0.07)
    image = tilt.imaged((1e-3 * grating).astype(np.float32), 1.48, defocus_um, one)
    contrast = 2 * np.mean((image - 1).astype(float) * grating)
    passed = textbook_transfer(waves / 64 / 1.48, defocus_um, 0.07)
    assert contrast == pytest.approx(-2e-3 * passed, abs=2e-5)


def test_lens_alone_loses_no_electrons():
    rng = np.random.default_rng(0)
    phase = rng.normal(0, 0.5, (64, 64)).astype(np.float32)
    image = tilt.imaged(phase, 1.8, 6.0, scope(amplitude_contrast=0.0))
    assert image.mean() == pytest.approx(1, abs=1e-5)


def test_gold_does_not_turn_electrons_negative():
    bead = 8.6 * (blob((24, 24, 24), (11.5, 11.5, 11.5), sigma=3.0) > 0.4)
    views = series(bead.astype(np.float32), scope())
    assert views.expected.min() >= 0
    assert np.isfinite(views.counts).all()


def radial_power(image, voxel_nm, edges):
    power = np.abs(fft.rfft2(image - image.mean())) ** 2
    ky, kx = fft.fftfreq(image.shape[0], voxel_nm), fft.rfftfreq(image.shape[1], voxel_nm)
    radius = np.hypot(ky[:, None], kx)
    total, _ = np.histogram(radius, edges, weights=power)
    number, _ = np.histogram(radius, edges)
    return total / number


@pytest.mark.parametrize(("voxel_nm", "ring"), [(1.48, True), (1.8, False)])
def test_thon_rings_stand_where_the_transfer_is_zero(voxel_nm, ring):
    rng = np.random.default_rng(0)
    density = rng.normal(0, 0.02, (8, 160, 160)).astype(np.float32)
    one = scope(**LENS, tilt_max_deg=3.0)
    image = series(density, one, voxel_nm=voxel_nm).signal[1]
    edges = np.linspace(0.1, 0.5 / voxel_nm, 30)
    power, places = radial_power(image, voxel_nm, edges), (edges[1:] + edges[:-1]) / 2
    if ring:
        assert 1 / places[np.argmin(power)] == pytest.approx(3.48, abs=0.1)
        assert power.min() < 0.03 * power.max()
    else:
        assert power.min() > 0.03 * power.max()


def test_thon_rings_have_the_shape_of_the_transfer_squared():
    rng = np.random.default_rng(1)
    density = rng.normal(0, 0.02, (8, 256, 256)).astype(np.float32)
    image = series(density, scope(**LENS, tilt_max_deg=3.0), voxel_nm=1.0).signal[1]
    edges = np.linspace(0.1, 0.45, 30)
    power = radial_power(image, 1.0, edges)
    expected = textbook_transfer((edges[1:] + edges[:-1]) / 2, 6.0, 0.07) ** 2
    assert np.corrcoef(power, expected)[0, 1] > 0.97


def test_whole_pixels_are_moved_as_roll_does():
    rng = np.random.default_rng(0)
    image = rng.standard_normal((20, 31)).astype(np.float32)
    moved = tilt.moved(image, np.array([3.0, -2.0]), 0.0)
    np.testing.assert_allclose(moved, np.roll(image, (3, -2), (0, 1)), atol=1e-5)


@pytest.mark.parametrize("turn_deg", [-4.0, 0.5, 3.0])
def test_turning_takes_a_spot_about_the_middle(turn_deg):
    turn = np.radians(turn_deg)
    spot = blob((65, 81), (20, 58.0), sigma=2.5)
    y, x = 20 - 32, 58 - 40
    expected = [
        32 + y * np.cos(turn) + x * np.sin(turn) + 1.25,
        40 + x * np.cos(turn) - y * np.sin(turn) - 0.5,
    ]
    moved = tilt.moved(spot, np.array([1.25, -0.5]), turn)
    np.testing.assert_allclose(ndimage.center_of_mass(moved), expected, atol=0.01)
    np.testing.assert_allclose((moved**2).sum(), (spot**2).sum(), rtol=1e-4)


@pytest.mark.parametrize("error", [{"shift_nm": 5.0}, {"rotation_deg": 3.0}])
def test_alignment_errors_blur(error):
    density = 0.5 * blob((32, 64, 64), (15.5, 12, 12), sigma=1.5)
    steady, shaky = scope(**PLAIN), scope(**{**PLAIN, **error})
    sharp = back(series(density, steady).signal, 32, steady)
    blurred = back(series(density, shaky).signal, 32, shaky)
    assert -blurred.min() < 0.8 * -sharp.min()


def test_noise_of_the_reconstruction_is_that_of_the_ramp():
    one = scope(**PLAIN)
    views, found = tomogram(np.zeros((48, 48, 96), np.float32), one, ice_nm=80.0)
    # Every view adds step^2 / N times the mean square of the ramp, 1/12.
    expected = np.sum(one.weights_rad**2 / views.means) / 12
    assert found.noise**2 == pytest.approx(expected, rel=0.04)


def test_signal_of_a_weak_specimen_is_that_of_the_transfer():
    one = scope(**{**LENS, "tilt_step_deg": 1.0})
    rng = np.random.default_rng(3)
    margin = tilt.margin_px(96, one)
    density = rng.normal(0, 0.02, (96, 40, 160 + 2 * margin)).astype(np.float32)
    where = {"width_px": 160, "ice_nm": 100.0, "voxel_nm": 1.8, "microscope": one}
    image = back(tilt.record(1, "one", density, **where).signal, 96, one)
    kz, ky, kx = np.meshgrid(*(fft.fftfreq(n, 1.8) for n in (48, 40, 80)), indexing="ij")
    seen = np.abs(kz) <= np.abs(kx) * np.tan(np.radians(51))
    seen &= np.hypot(kz, kx) <= 0.5 / 1.8
    passed = textbook_transfer(np.sqrt(kz**2 + ky**2 + kx**2), 6.0, 0.07) ** 2
    expected = (2 * 0.02 * one.phase_rad(1.8)) ** 2 * np.mean(passed * seen)
    assert image[30:66, :, 60:100].var() == pytest.approx(expected, rel=0.05)


def test_signal_to_noise_follows_the_dose():
    density = 0.5 * blob((32, 32, 48), (15.5, 15.5, 23.5), sigma=3)
    found = [
        tomogram(density, scope(**STEADY, dose_per_a2=dose))[1].snr
        for dose in (80.0, 320.0)
    ]
    assert found[1] / found[0] == pytest.approx(4, rel=0.05)


def test_thicker_ice_leaves_less():
    density = 0.5 * blob((32, 32, 48), (15.5, 15.5, 23.5), sigma=3)
    snr = [
        tomogram(density, scope(**STEADY), ice_nm=ice)[1].snr
        for ice in (180.0, 320.0, 400.0)
    ]
    # The sheet's .19, .11, .09 have these ratios.
    np.testing.assert_allclose(np.divide(snr, snr[0]), [1, 0.58, 0.47], atol=0.06)


@pytest.fixture(scope="module")
def seen():
    """Protein in ice: a ball, its series and its tomogram."""
    density = (blob((32, 40, 64), (15.5, 19.5, 31.5), sigma=8) > 0.6).astype(np.float32)
    return density, *tomogram(density, scope(), inside=density > 0, ice_nm=57.6)


def test_noise_in_the_ice_has_a_spread_of_one(seen):
    _, views, found = seen
    noise = found.image - tilt.clean(views, found, scope())
    assert noise[:, :, 16:48].std() == pytest.approx(1, abs=0.01)


def test_protein_is_dark(seen):
    density, views, found = seen
    assert tilt.clean(views, found, scope())[density > 0.5].mean() < -0.3
    assert found.image[density > 0.5].mean() < -0.3


def test_signal_and_noise_are_told_apart(seen):
    density, views, found = seen
    signal = tilt.clean(views, found, scope())
    noise, inside = found.image - signal, density > 0
    assert found.snr == pytest.approx(signal[inside].var() / noise[inside].var(), rel=1e-3)
    assert np.corrcoef(signal.ravel(), noise.ravel())[0, 1] == pytest.approx(0, abs=0.02)


def test_without_a_cell_there_is_no_ratio():
    ice = np.zeros((16, 16, 32), np.float32)
    _, found = tomogram(ice, scope(), inside=np.zeros(ice.shape, bool))
    assert found.snr is None
    assert np.isfinite(found.image).all()


def test_wedge_is_all_but_empty_after_back_projection():
    one = scope(**PLAIN)
    _, found = tomogram(np.zeros((64, 24, 96), np.float32), one, ice_nm=115.0)
    window = np.hanning(64)[:, None, None] * np.hanning(64)
    power = np.abs(fft.fftn(found.image[:, :, 16:80] * window)) ** 2
    kz, _, kx = np.meshgrid(*(fft.fftfreq(n) for n in power.shape), indexing="ij")
    angle = np.degrees(np.arctan2(np.abs(kz), np.abs(kx)))
    band = (np.hypot(kz, kx) > 0.1) & (np.hypot(kz, kx) < 0.5)
    hidden, shown = power[band & (angle > 55)].mean(), power[band & (angle < 48)].mean()
    assert hidden / shown < 0.05


def test_rolloff_lowers_the_noise():
    ice = np.zeros((24, 24, 48), np.float32)
    steep, soft = scope(**PLAIN), scope(**PLAIN, rolloff_start=0.25)
    assert tomogram(ice, soft)[1].noise < 0.7 * tomogram(ice, steep)[1].noise


def test_rolloff_leaves_the_coarse_as_it_is():
    density = 0.2 * blob((32, 32, 48), (15.5, 15.5, 23.5), sigma=4)
    steep, soft = scope(**PLAIN), scope(**PLAIN, rolloff_start=0.25)
    views = series(density, steep).signal
    np.testing.assert_allclose(back(views, 32, soft), back(views, 32, steep), atol=2e-4)


def digest(views):
    return hashlib.sha256(views.counts.tobytes() + views.expected.tobytes()).hexdigest()


def test_same_seed_and_name_give_the_same_views():
    density = 0.5 * blob((16, 24, 24), (7.5, 11.5, 11.5))
    first = series(density, scope())
    assert digest(series(density, scope())) == digest(first)
    assert digest(series(density, scope(), name="two")) != digest(first)


def test_moments_are_the_same_bytes_at_any_number_of_threads():
    values = np.random.default_rng(0).standard_normal(23_456, np.float32)
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            found.append(tilt._moments(values))
    assert found[0] == found[1]
