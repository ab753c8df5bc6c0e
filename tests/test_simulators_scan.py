"""The imaging chain of the implant phantom: each step does what physics says."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import fft, ndimage

from tomoglean import config
from tomoglean.provenance import Refused
from tomoglean.simulators.fields import coverage
from tomoglean.simulators.implant import image_space
from tomoglean.simulators.implant.scan import Beamline, Scan, window
from tomoglean.simulators.implant.surroundings import Surroundings
from tomoglean.simulators.projections import Projector

VOXEL_UM = 5.0
USUAL = Scan(**config.filled({}, "phantom-implant", "simulate", "")["scan"])
CLEAN = replace(
    USUAL,
    projections=200,
    photons=1e12,
    blur_px=0.0,
    distance_mm=0.0,
    flats=0,
    gain_error=0.0,
    scatter=0.0,
    drift_px=0.0,
    flux_error=0.0,
    filter="ramp",
)
ROD_UM = (13.0, -18.0)


def beamline(scan=CLEAN, shape=(2, 64, 64), reach_um=1.0, name="one"):
    return Beamline(1, name, scan, shape, VOXEL_UM, reach_um)


def rod_distance_px(y, x, radius_px):
    away = np.hypot(y[:, None] - ROD_UM[0], x - ROD_UM[1])
    return away / VOXEL_UM - radius_px


def rods(line, *, attenuation=1.5, decrement=0.0, radius_px=15.0):
    """A rod along z beside the axis, on the planes that a scan wants."""
    share = coverage(rod_distance_px(*line.coordinates_um(), radius_px))
    for _ in line.heights:
        yield np.float32(attenuation) * share, np.float32(decrement) * share


def blocks(line, radius_um, attenuation=0.3):
    """A cylinder about the axis, wider than the field of view."""
    beside = block(radius_um, attenuation)
    for _ in line.heights:
        plane = beside(0.0, *line.coordinates_um(), VOXEL_UM)
        yield plane, np.zeros_like(plane)


def block(radius_um, attenuation=0.3):
    def beside(z_um, y_um, x_um, voxel_um):
        away = np.hypot(y_um[:, None], x_um) - radius_um
        return np.float32(attenuation) * coverage(away / voxel_um)

    return beside


def nothing(z_um, y_um, x_um, voxel_um):
    raise AssertionError("there is nothing beside this field of view")


def scanned(line, planes, beside=nothing):
    return np.stack(list(line.images(planes, beside)))


def inside(line, margin_px=-3.0, radius_px=15.0):
    y, x = (axis[8:-8] for axis in line.coordinates_um())
    return rod_distance_px(y, x, radius_px) < margin_px


def test_attenuation_comes_back_within_a_per_mille():
    line = beamline()
    image = scanned(line, rods(line))[0]
    assert image[inside(line)].mean() == pytest.approx(1.5, rel=1e-3)
    assert abs(image[~inside(line, 3.0)].mean()) < 1.5e-3


@pytest.mark.parametrize("overlap_px", [8, 33])
def test_an_off_centre_scan_sees_the_same_with_half_a_detector(overlap_px):
    line = beamline(replace(CLEAN, geometry="off-centre", overlap_px=overlap_px))
    assert line.detector_px < 0.5 * 1.42 * 64 + overlap_px
    assert len(line.angles_deg) == 400
    image = scanned(line, rods(line))[0]
    centred = scanned(beamline(), rods(beamline()))[0]
    assert image[inside(line)].mean() == pytest.approx(1.5, rel=1e-3)
    assert np.abs(image - centred).max() < 0.05


def test_a_rectangle_is_reconstructed_where_it_lies():
    line = beamline(shape=(1, 48, 80))
    image = scanned(line, rods(line, radius_px=10.0))[0]
    assert image.shape == (48, 80)
    weights = np.clip(image, 0, None)
    rows, columns = weights.sum(axis=1), weights.sum(axis=0)
    y, x = (axis[8:-8] for axis in line.coordinates_um())
    assert rows @ y / rows.sum() == pytest.approx(ROD_UM[0], abs=1.0)
    assert columns @ x / columns.sum() == pytest.approx(ROD_UM[1], abs=1.0)


def test_partial_volumes_keep_the_area():
    line = beamline()
    image = scanned(line, rods(line))[0]
    assert image.sum() / 1.5 == pytest.approx(np.pi * 15**2, rel=3e-3)
    edge = inside(line, 0.4) & ~inside(line, -0.4)
    share = coverage(rod_distance_px(*line.coordinates_um(), 15.0))[8:-8, 8:-8]
    assert np.corrcoef(image[edge], share[edge])[0, 1] > 0.9


def test_noise_falls_with_the_root_of_the_photons():
    def noise(photons):
        line = beamline(replace(CLEAN, photons=photons))
        image = scanned(line, rods(line))
        return (image - scanned(beamline(), rods(beamline()))).std()

    assert noise(1e4) / noise(4e4) == pytest.approx(2, rel=0.05)
    assert noise(4e4) / noise(64e4) == pytest.approx(4, rel=0.05)


def test_noise_falls_with_the_root_of_the_projections():
    def noise(projections):
        line = beamline(replace(CLEAN, photons=1e4, projections=projections))
        return scanned(line, rods(line, attenuation=0.0)).std()

    assert noise(200) / noise(800) == pytest.approx(2, rel=0.05)


def test_noise_is_what_theory_says():
    line = beamline(replace(CLEAN, photons=1e4))
    image = scanned(line, rods(line, attenuation=0.0))
    # Each of N views brings pi / N of a filtered row; the ramp's mean square is 1/12.
    expected = np.pi * np.sqrt(1 / 12 / 200 / 1e4) / (VOXEL_UM * 1e-4)
    assert image.std() == pytest.approx(expected, rel=0.04)
    assert image_space.noise_per_cm(line, 0.0) == pytest.approx(expected, rel=0.02)


def noise_power(scan, shape=(8, 96, 96)):
    line = beamline(replace(scan, photons=1e4, projections=300), shape)
    image = scanned(line, rods(line, attenuation=0.0))
    power = np.mean(np.abs(fft.rfftn(image, axes=(1, 2))) ** 2, axis=0)
    radius = np.hypot(fft.fftfreq(96)[:, None], fft.rfftfreq(96))
    return lambda low, high: power[(radius >= low) & (radius < high)].mean()


def test_noise_is_coloured_like_a_ramp():
    power = noise_power(CLEAN)
    for frequency in (0.1, 0.2, 0.3, 0.4):
        ratio = power(frequency - 0.03, frequency + 0.03) / power(0.17, 0.23)
        assert ratio == pytest.approx(frequency / 0.2, rel=0.12)


def test_windows_take_their_share_of_the_noise():
    ramp, hann = noise_power(CLEAN), noise_power(replace(CLEAN, filter="hann"))
    bare = ramp(0.37, 0.43)
    assert hann(0.37, 0.43) / bare == pytest.approx(np.cos(0.4 * np.pi) ** 4, rel=0.3)
    sinc = noise_power(replace(CLEAN, filter="shepp-logan"))
    assert sinc(0.37, 0.43) / bare == pytest.approx(np.sinc(0.4) ** 2, rel=0.1)


def test_noise_of_neighbouring_slices_is_linked_by_the_light_spread_alone():
    def link(blur_px):
        line = beamline(replace(CLEAN, photons=1e4, blur_px=blur_px), (5, 64, 64))
        image = scanned(line, rods(line, attenuation=0.0))
        return np.corrcoef(image[1].ravel(), image[2].ravel())[0, 1]

    assert abs(link(0.0)) < 0.05
    # Autocorrelation of a Gaussian of 1 pixel, one pixel away: exp(-1/4).
    assert link(1.0) == pytest.approx(np.exp(-0.25), abs=0.07)


def polar(image):
    """Rings about the middle as rows: angle along, radius (4 to 30 px) down."""
    radius, angle = np.mgrid[4:30, 0:360]
    turn, middle = np.radians(angle), (np.array(image.shape) - 1) / 2
    places = middle[0] + radius * np.sin(turn), middle[1] + radius * np.cos(turn)
    return ndimage.map_coordinates(image, places, order=3)


def share_of_rings(image, part=slice(None)):
    """Share of the variance that lies in the mean along the circles."""
    rows = polar(image)[:, part]
    return rows.mean(axis=1).var() / rows.var()


def test_gain_errors_make_rings_about_the_axis():
    scan = replace(CLEAN, gain_error=0.01, geometry="off-centre", overlap_px=8)
    line = beamline(scan)
    image = scanned(line, rods(line, attenuation=0.0))
    assert share_of_rings(image[0]) > 0.85
    assert abs(np.corrcoef(image[0].ravel(), image[1].ravel())[0, 1]) < 0.2


def test_half_a_turn_makes_half_rings():
    line = beamline(replace(CLEAN, gain_error=0.01))
    image = scanned(line, rods(line, attenuation=0.0))[0]
    # A pixel right of the axis passes one side, its mirror image the other.
    sides = [slice(5, 175), slice(185, 355)]
    assert min(share_of_rings(image, side) for side in sides) > 0.7
    assert share_of_rings(image) < 0.7


def test_noise_makes_no_rings():
    line = beamline(replace(CLEAN, photons=1e4))
    assert share_of_rings(scanned(line, rods(line, attenuation=0.0))[0]) < 0.05


def test_rings_are_as_strong_as_the_gains_are_wrong():
    def strength(gain_error):
        line = beamline(replace(CLEAN, gain_error=gain_error))
        return scanned(line, rods(line, attenuation=0.0)).std()

    assert strength(0.002) / strength(0.001) == pytest.approx(2, rel=0.01)


def test_more_flat_fields_make_weaker_rings():
    def strength(flats):
        line = beamline(replace(CLEAN, photons=1e6, projections=800, flats=flats))
        return scanned(line, rods(line, attenuation=0.0)).std()

    noise = strength(0)
    one, sixteen = (np.sqrt(strength(flats) ** 2 - noise**2) for flats in (1, 16))
    assert one > 2 * noise
    assert one / sixteen == pytest.approx(4, rel=0.25)


def test_truncation_makes_cupping():
    line = beamline(replace(CLEAN, padding=0.0), reach_um=400.0)
    image = scanned(line, blocks(line, 400.0), block(400.0))[0]
    middle, edge = image[30:34, 30:34].mean(), image[30:34, :3].mean()
    assert edge > 1.05 * middle
    assert middle > 1.05 * 0.3


def test_a_detector_that_sees_all_makes_none():
    line = beamline(replace(CLEAN, width=3.0), reach_um=400.0)
    image = scanned(line, blocks(line, 400.0), block(400.0))[0]
    assert image.mean() == pytest.approx(0.3, rel=5e-3)
    assert image[30:34, :3].mean() == pytest.approx(image[30:34, 30:34].mean(), rel=0.01)


def test_padding_takes_most_of_the_cupping_away():
    def cupping(padding):
        line = beamline(replace(CLEAN, padding=padding), reach_um=400.0)
        image = scanned(line, blocks(line, 400.0), block(400.0))[0]
        return abs(image[30:34, :3].mean() - image[30:34, 30:34].mean())

    assert cupping(0.5) < 0.3 * cupping(0.0)


def blobs(places, centres):
    """Gaussians of 8 voxels."""
    return sum(
        np.exp(-((places[:, None] - y) ** 2 + (places - x) ** 2) / 128) for y, x in centres
    )


@pytest.mark.parametrize("offset_px", [0.0, -21.5])
def test_surroundings_add_what_a_wide_fine_plane_would(offset_px):
    angles, centres = np.arange(0, 180, 10.0), [(43.0, -12.0), (-8.0, 46.0)]
    around = Surroundings((40, 40), 75.0, angles, 90, np.full(18, offset_px))
    wide = blobs(np.arange(160) - 79.5, centres)
    expected = Projector((160, 160), angles, 90, offset_px).project(wide)
    found = around.project(blobs(around.places_px, centres))
    assert np.abs(found - expected).max() < 0.05 * expected.max()


def test_surroundings_leave_the_field_of_view_out():
    around = Surroundings((40, 56), 75.0, np.arange(0, 180, 10.0), 90, np.zeros(18))
    within = (np.abs(around.places_px)[:, None] < 20) & (np.abs(around.places_px) < 28)
    assert np.abs(around.project(within)).max() < 1e-3


def test_scatter_lowers_what_is_dense_most():
    line = beamline(replace(CLEAN, scatter=0.1))
    image = scanned(line, rods(line, attenuation=40.0, radius_px=15.0))[0]
    clean = scanned(beamline(), rods(beamline(), attenuation=40.0))[0]
    lost = clean - image
    assert lost[inside(line)].mean() > 1
    assert (
        lost[inside(line, -12.0)].mean() > lost[inside(line) & ~inside(line, -6.0)].mean()
    )


def test_drift_is_what_the_reconstruction_does_not_know():
    clean = scanned(beamline(), rods(beamline()))[0]

    def error(drift_px):
        line = beamline(replace(CLEAN, drift_px=drift_px))
        return (scanned(line, rods(line))[0] - clean).std()

    assert error(0.4) / error(0.2) == pytest.approx(2, rel=0.15)
    edge = inside(beamline(), 2.0) & ~inside(beamline(), -2.0)
    line = beamline(replace(CLEAN, drift_px=0.4))
    wrong = np.abs(scanned(line, rods(line))[0] - clean)
    assert wrong[edge].mean() > 4 * wrong[~edge].mean()


def test_unsteady_flux_leaves_the_mean():
    line = beamline(replace(CLEAN, flux_error=0.002))
    image = scanned(line, rods(line))[0]
    clean = scanned(beamline(), rods(beamline()))[0]
    assert (image - clean).std() > 1e-4
    assert image[inside(line)].mean() == pytest.approx(1.5, rel=5e-3)


def test_blur_widens_an_edge_by_its_sigma():
    def steepest(blur_px):
        line = beamline(replace(CLEAN, blur_px=blur_px, projections=400))
        row = scanned(line, rods(line))[0][34]
        return np.gradient(row).max()

    # Height over slope of a Gaussian edge; its own width, some 0.5 px, adds in squares.
    assert 1.5 / steepest(3.0) / np.sqrt(2 * np.pi) == pytest.approx(3.05, rel=0.06)


def test_blur_mixes_slices():
    line = beamline(replace(CLEAN, blur_px=1.0), (9, 64, 64))
    share = coverage(rod_distance_px(*line.coordinates_um(), 15.0))
    full = [np.float32(0.5 * (index > 3)) * share for index in line.heights]
    image = scanned(line, ((plane, 0 * plane) for plane in full))
    levels = image[:, inside(line)].mean(axis=1) / 0.5
    # The step lies between slices 3 and 4; a Gaussian edge of 1 pixel.
    np.testing.assert_allclose(levels[2:6], [0.061, 0.309, 0.691, 0.939], atol=0.02)


def gaussian_balls(line, sigma_um, decrement):
    """A ball of no attenuation and of Gaussian decrement in the middle."""
    y, x = line.coordinates_um()
    for index in line.heights:
        squares = line.height_um(index) ** 2 + y[:, None] ** 2 + x**2
        ball = np.float32(decrement) * np.exp(-squares / (2 * sigma_um**2))
        yield np.zeros(ball.shape, np.float32), ball.astype(np.float32)


@pytest.mark.parametrize("mode", ["projections", "image"])
def test_fringes_are_the_laplacian_of_the_decrement(mode):
    sigma_um, decrement, distance_mm = 20.0, 2e-7, 20.0
    line = beamline(replace(CLEAN, distance_mm=distance_mm, photons=1e14), (21, 64, 64))
    balls = gaussian_balls(line, sigma_um, decrement)
    if mode == "image":
        image = np.stack(list(image_space.images(line, balls)))
    else:
        image = scanned(line, balls)
    y, x = (axis[8:-8] for axis in line.coordinates_um())
    for index in (10, 14):
        squares = line.height_um(index) ** 2 + y[:, None] ** 2 + x**2
        ball = decrement * np.exp(-squares / (2 * sigma_um**2))
        laplacian = ball * (squares / sigma_um**4 - 3 / sigma_um**2)
        expected = -1e4 * 1000 * distance_mm * laplacian
        # The middle is at 0.3/cm; differences of neighbours stand for derivatives.
        assert np.abs(image[index] - expected).max() < 0.03 * 0.3


def test_fringes_are_bright_inside_and_dark_outside_and_keep_the_mean():
    line = beamline(replace(CLEAN, distance_mm=20.0))
    image = scanned(line, rods(line, decrement=1.4e-7))[0]
    rim, rand = (
        inside(line, -0.3) & ~inside(line, -1.3),
        inside(line, 1.3) & ~inside(line, 0.3),
    )
    assert image[rim].mean() > 1.5 * 1.1
    assert image[rand].mean() < -0.15
    assert image.sum() / 1.5 == pytest.approx(np.pi * 15**2, rel=0.01)


def test_only_a_few_planes_are_in_memory():
    taken = 0

    def counted(planes):
        nonlocal taken
        for plane in planes:
            taken += 1
            yield plane

    line = beamline(replace(CLEAN, blur_px=0.6, distance_mm=10.0), (40, 64, 64))
    images = line.images(counted(rods(line)), nothing)
    next(images)
    assert taken == 2 * line.halo + 1 == 7


def test_the_same_keys_give_the_same_bytes():
    def image(name):
        line = beamline(replace(USUAL, projections=50), name=name)
        return scanned(line, rods(line))

    np.testing.assert_array_equal(image("one"), image("one"))
    assert not np.array_equal(image("one"), image("two"))


def test_a_slice_does_not_depend_on_how_many_are_scanned():
    scan = replace(USUAL, projections=50)
    few, more = beamline(scan, (1, 64, 64)), beamline(scan, (3, 64, 64))
    np.testing.assert_array_equal(scanned(few, rods(few))[0], scanned(more, rods(more))[0])


def test_image_space_has_the_noise_of_the_projections():
    scan = replace(USUAL, projections=200, gain_error=0.0, flats=0, scatter=0.0)
    line = beamline(replace(scan, photons=1e4), reach_um=180.0)
    true = scanned(line, blocks(line, 180.0, 2.0), block(180.0, 2.0))
    fast = np.stack(list(image_space.images(line, blocks(line, 180.0, 2.0))))
    part = (slice(None), *(slice(16, 48),) * 2)
    assert fast[part].std() == pytest.approx(true[part].std(), rel=0.2)
    assert fast[part].mean() == pytest.approx(2.0, rel=0.02)


def test_image_space_has_rings_as_strong_as_the_projections():
    line = beamline(replace(CLEAN, gain_error=0.01))
    true = scanned(line, rods(line, attenuation=0.0))
    fast = np.stack(list(image_space.images(line, rods(line, attenuation=0.0))))
    assert polar(fast[0]).std() == pytest.approx(polar(true[0]).std(), rel=0.35)
    assert share_of_rings(fast[0]) > 0.85


@pytest.mark.parametrize(
    "harsh",
    [
        {"photons": 1.0, "flats": 1, "flux_error": 0.5, "gain_error": 0.1},
        {"distance_mm": 1e4, "scatter": 1.0, "drift_px": 20.0},
        {"projections": 4, "width": 0.5, "padding": 4.0, "blur_px": 5.0},
    ],
)
@pytest.mark.parametrize("geometry", ["centred", "off-centre"])
def test_harsh_settings_give_numbers(harsh, geometry):
    scan = replace(USUAL, **{"projections": 20, **harsh}, geometry=geometry, overlap_px=5)
    line = beamline(scan, (1, 33, 48), 900.0)
    image = scanned(line, blocks(line, 900.0), block(900.0))
    assert image.shape == (1, 33, 48)
    assert np.isfinite(image).all()


def test_an_overlap_wider_than_the_scan_is_refused():
    line = beamline(replace(CLEAN, geometry="off-centre", overlap_px=400))
    with pytest.raises(Refused, match=r"expected less than .* narrow the overlap"):
        next(line.images(rods(line), nothing))


@pytest.mark.parametrize(
    ("name", "end"), [("ramp", 1), ("shepp-logan", 2 / np.pi), ("hann", 0)]
)
def test_windows_start_at_1_and_fall_as_they_should(name, end):
    values = window(name, 64)
    assert values[0] == 1
    assert values[-1] == pytest.approx(end, abs=1e-12)
