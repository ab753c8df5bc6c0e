"""The minicell phantom: machines stand where it says, and nothing gives them away."""

import hashlib
import inspect

import mrcfile
import numpy as np
import pytest
from scipy import fft

from tomoglean.provenance import Refused
from tomoglean.simulators import files
from tomoglean.simulators.annotators import annotate
from tomoglean.simulators.minicell import simulate_minicell
from tomoglean.simulators.minicell.imaging import (
    contrast_transfer,
    tilt_series,
    wavelength_nm,
    wedge,
)
from tomoglean.simulators.minicell.machines import (
    DECOYS,
    PARTS,
    Site,
    distance,
    insert,
    turned,
    wedge_margin,
)

SMALL = {"shape_px": (64, 88, 88), "voxel_nm": 3.6}
UP = np.array([1.0, 0.0, 0.0])


@pytest.fixture(scope="module")
def cell():
    return simulate_minicell(seed=1, name="one", machines=3, **SMALL)


@pytest.fixture(scope="module")
def clear():
    """The same cell without noise, wedge and microscope."""
    return simulate_minicell(
        seed=1,
        name="one",
        machines=3,
        tilt_max_deg=90.0,
        defocus_um=0.0,
        snr=1e6,
        **SMALL,
    )


def site(kind="t3ss", place=(100.0, 80.0, 80.0), normal=UP, gap=32.0, spin=0.0):
    return Site(np.asarray(place), np.asarray(normal, float), kind, gap, spin)


def distance_at(where, **of):
    offsets = [np.full((1, 1, 1), value, np.float32) for value in where]
    return float(distance(site(**of), offsets)[0, 0, 0])


def digest(minicell):
    parts = minicell.image.tobytes() + minicell.truth.tobytes()
    return hashlib.sha256(
        parts + repr(minicell.points + minicell.picks).encode()
    ).hexdigest()


def test_same_seed_and_name_give_the_same_bytes(cell):
    again = simulate_minicell(seed=1, name="one", machines=3, **SMALL)
    assert digest(again) == digest(cell)
    assert again.facts == cell.facts


@pytest.mark.parametrize("other", [{"seed": 2, "name": "one"}, {"seed": 1, "name": "two"}])
def test_another_seed_or_name_gives_another_cell(cell, other):
    assert digest(simulate_minicell(machines=3, **other, **SMALL)) != digest(cell)


def test_types_and_shapes(cell):
    assert cell.image.dtype == np.float32
    assert cell.truth.dtype == np.int8
    assert cell.image.shape == cell.truth.shape == SMALL["shape_px"]
    assert set(np.unique(cell.truth)) == {0, 1}


def test_machines_and_decoys_are_all_listed(cell):
    kinds = [point.kind for point in cell.points]
    assert kinds.count("t3ss") == 3
    assert kinds.count("gold") == 2
    assert sorted(kind for kind in kinds if kind in DECOYS) == sorted(DECOYS)
    assert cell.facts["counts"]["t3ss"] == cell.facts["machines"] == 3


def ray(truth, point, voxel_nm):
    """Membrane label along a site's axis: heights in nm, labels."""
    heights = np.arange(-30, 30, 0.5)
    places = point.place_nm + heights[:, None] * point.normal
    inside = np.rint(places / voxel_nm).astype(int)
    return heights, truth[tuple(inside.T)]


def test_origins_lie_midway_between_the_membranes(clear):
    heights = []
    for point in clear.points:
        if point.kind != "gold":
            height, label = ray(clear.truth, point, 3.6)
            above = height[(label == 1) & (height > 0)].mean()
            below = height[(label == 1) & (height < 0)].mean()
            heights.append((above + below, above - below - point.gap_nm))
    # A ray through voxels of 3.6 nm is right to a voxel, the mean over sites to less.
    assert np.abs(heights).max() < 3.6
    np.testing.assert_allclose(np.mean(heights, axis=0), 0, atol=1.2)


def test_axes_point_outward_and_have_unit_length(cell):
    centre = np.asarray(cell.facts["centre_nm"])
    for point in cell.points:
        assert np.linalg.norm(point.normal) == pytest.approx(1)
        assert (point.place_nm - centre) @ point.normal > 0


def test_needle_stands_outside_along_the_axis(clear):
    machines = [point for point in clear.points if point.kind == "t3ss"]
    for point in machines:
        reach = point.gap_nm / 2 + np.array([15.0, 30.0])
        places = np.rint((point.place_nm + reach[:, None] * point.normal) / 3.6).astype(int)
        fits = np.all((places >= 0) & (places < clear.image.shape), axis=1)
        ice = np.median(clear.image)
        needle = clear.image[tuple(places[fits].T)]
        assert np.all(needle < ice - 2 * clear.image.std())


def test_protein_is_dark(clear):
    centre = np.rint(np.asarray(clear.facts["centre_nm"]) / 3.6).astype(int)
    middle = clear.image[tuple(slice(c - 8, c + 8) for c in centre)]
    assert middle.mean() < np.median(clear.image[0])


def test_places_are_uniform_over_the_envelope():
    points = [
        point
        for index in range(12)
        for point in simulate_minicell(
            seed=1,
            name=f"cell-{index}",
            machines=8,
            decoys=8,
            gold=0,
            shape_px=(32, 32, 32),
            voxel_nm=7.5,
            axis_ratio=(1.0, 1.0),
        ).points
    ]
    up = np.array([point.normal[0] for point in points])
    # On a ball the height is uniform (Archimedes), and a tilt of 51 deg hides 43.3 %.
    assert np.mean(up) == pytest.approx(0, abs=0.12)
    assert np.mean(np.abs(up)) == pytest.approx(0.5, abs=0.07)
    hidden = np.mean([wedge_margin(point, 51.0) < 0 for point in points])
    assert hidden == pytest.approx(0.433, abs=0.1)


def test_sites_keep_their_distance(cell):
    places = np.array([point.place_nm for point in cell.points if point.kind != "gold"])
    gaps = np.linalg.norm(places[:, None] - places, axis=-1)
    assert np.min(gaps[np.triu_indices(len(places), 1)]) >= 45


@pytest.mark.parametrize(
    ("normal", "angle", "seen"),
    [
        ((1, 0, 0), 0, False),
        ((0, 0, 1), 90, True),
        ((1, 0, 1), 45, True),
        ((3, 9, 1), 18.43, False),
    ],
)
def test_wedge_angle_is_that_of_the_sheet(normal, angle, seen):
    unit = np.array(normal, float) / np.linalg.norm(normal)
    point = site(normal=unit)
    assert point.wedge_angle == pytest.approx(angle, abs=0.01)
    assert (wedge_margin(point, 51.0) > 0) == seen
    assert seen == (abs(unit[2]) > abs(unit[0]) * np.tan(np.radians(90 - 51)))


def test_empty_cell_has_membranes_and_decoys_but_no_machine():
    empty = simulate_minicell(seed=1, name="one", machines=0, **SMALL)
    assert empty.truth.any()
    assert "t3ss" not in {point.kind for point in empty.points}
    assert empty.picks == []
    assert empty.facts["machines"] == 0


def test_ice_alone_has_neither_membrane_nor_sites():
    ice = simulate_minicell(seed=1, name="one", cell=False, gold=1, **SMALL)
    assert not ice.truth.any()
    assert [point.kind for point in ice.points] == ["gold"]
    assert ice.picks == []
    assert np.isfinite(ice.image).all()
    assert ice.image.std() == pytest.approx(1, abs=0.1)


def test_number_of_machines_is_drawn_from_the_list():
    tiny = {"shape_px": (32, 32, 32), "voxel_nm": 7.5, "decoys": 0, "gold": 0}
    numbers = {
        simulate_minicell(
            seed=1, name=f"cell-{index}", machines=[0, 2], axis_ratio=(1.0, 1.0), **tiny
        ).facts["machines"]
        for index in range(8)
    }
    assert numbers == {0, 2}


def test_snr_is_what_was_asked_for():
    def image(snr):
        return simulate_minicell(seed=1, name="one", gold=0, snr=snr, **SMALL)

    weak, strong = image(0.1), image(0.4)
    # Noise is the same in both and the signal twice as strong: their difference is it.
    signal = strong.image - weak.image
    size = np.asarray(weak.facts["semi_axes_nm"]).min() - 10
    offsets = np.indices(signal.shape) * 3.6 - np.reshape(
        weak.facts["centre_nm"], (3, 1, 1, 1)
    )
    inside = np.sqrt((offsets**2).sum(0)) < size + 25
    noise = (weak.image - signal)[inside]
    assert noise.std() == pytest.approx(1, abs=0.02)
    assert signal[inside].var() == pytest.approx(0.1, rel=0.25)


@pytest.mark.parametrize("tilt_max_deg", [51.0, 60.0])
def test_wedge_is_empty_before_cropping(tilt_max_deg):
    density = np.zeros((32, 40, 48), np.float32)
    density[10:20, 12:30, 14:30] = 1
    parts = tilt_series(
        density,
        np.random.default_rng(0),
        voxel_nm=1.8,
        tilt_max_deg=tilt_max_deg,
        defocus_um=6.0,
        pad_px=0,
    )
    seen = wedge(density.shape, tilt_max_deg=tilt_max_deg)
    for part in parts:
        power = np.abs(fft.rfftn(part)) ** 2
        assert power[~seen].max() < 1e-8 * power[seen].max()


@pytest.mark.parametrize(("tilt_max_deg", "missing"), [(51.0, 0.405), (60.0, 0.289)])
def test_wedge_has_its_share_of_the_spectrum(tilt_max_deg, missing):
    # In the square of frequencies |kz| > |kx| tan(t) leaves out 1 / (2 tan t).
    seen = wedge((128, 8, 128), tilt_max_deg=tilt_max_deg)
    assert 1 - seen[:, 0, :].mean() == pytest.approx(missing, abs=0.02)


def test_wedge_is_about_y():
    seen = wedge((16, 16, 16), tilt_max_deg=51.0)
    assert seen[0, :, 0].all()
    assert seen[0, 0, :].all()
    assert not seen[1:, 0, 0].any()


def test_margin_keeps_streaks_from_coming_back_on_the_other_side():
    density = np.zeros((32, 32, 32), np.float32)
    density[1, 16, 16] = 1
    optics = {"voxel_nm": 1.8, "tilt_max_deg": 51.0, "defocus_um": 0.0}
    with_margin, _ = tilt_series(density, np.random.default_rng(0), **optics)
    without, _ = tilt_series(density, np.random.default_rng(0), pad_px=0, **optics)
    assert np.abs(with_margin[31]).max() < 0.2 * np.abs(without[31]).max()


def test_wavelength_at_300_kv():
    assert wavelength_nm(300.0) == pytest.approx(1.9687e-3, rel=1e-3)


def test_first_zero_of_the_transfer_at_six_micrometres():
    frequency = np.linspace(0.05, 0.5, 4001)
    transfer = contrast_transfer(frequency, defocus_um=6.0, amplitude_contrast=0.0)
    first = frequency[np.argmax(transfer < 0)]
    assert 1 / first == pytest.approx(3.44, abs=0.05)
    assert transfer[frequency < first].min() > 0


def test_no_defocus_means_no_transfer():
    assert np.all(contrast_transfer(np.linspace(0, 1, 5), defocus_um=0.0) == 1)


@pytest.mark.parametrize(
    ("where", "inside"),
    [
        ((16 + 40, 0, 0), True),  # needle
        ((16 + 40, 0, 5), False),  # beside the needle, which is 8 nm thick
        ((16 + 52, 0, 0), False),  # beyond its tip at 51 nm
        ((16, 0, 6), True),  # outer ring, 12 nm across
        ((-9, 9, 0), True),  # periplasmic ring, 18 nm across
        ((-19, 0, 10.5), True),  # cytoplasmic ring, 21 nm across
        ((-24, 0, 3), True),  # export torus below the inner membrane
        ((0, 0, 15), False),  # free periplasm
        ((-70, 0, 0), False),  # cytosol
    ],
)
def test_machine_has_the_published_parts(where, inside):
    assert (distance_at(where) < 0) == inside


def test_platform_has_six_pods():
    angles = np.radians(np.arange(0, 360, 2.0))
    height = -32 / 2 - 15
    ring = [distance_at((height, 14 * np.sin(a), 14 * np.cos(a))) < 0 for a in angles]
    starts = np.count_nonzero(np.diff(np.r_[ring[-1], ring].astype(int)) == 1)
    assert starts == 6


@pytest.mark.parametrize("gap", [26.0, 36.0])
def test_base_stretches_with_the_gap(gap):
    assert distance_at((gap / 2, 0, 6), gap=gap) < 0
    assert distance_at((-gap / 2 - 3, 0, 10.5), gap=gap) < 0


def test_decoys_lack_what_their_names_say():
    needle, pod_ring = (16 + 30, 0, 0), (-31, 0, 0)
    hub = (-16 - 7 - 20, 0, 0)
    assert distance_at(needle, kind="base_without_needle") > 0
    assert distance_at(hub, kind="base_without_needle") < 0
    assert distance_at(needle, kind="base_without_platform") < 0
    assert distance_at(hub, kind="base_without_platform") > 0
    assert distance_at(pod_ring, kind="ribosome") < 0
    assert distance_at((0, 0, 0), kind="empty") > 100


@pytest.mark.parametrize("kind", list(PARTS))
def test_bodies_fit_into_the_box_they_are_drawn_in(kind):
    density = np.zeros((110, 90, 90), np.float32)
    lean = turned(UP, np.array([0.0, 0.4, -0.2]))
    what = site(kind, place=(105.0, 90.0, 90.0), normal=lean)
    insert(density, what, voxel_nm=2.0)
    axes = np.ogrid[:110, :90, :90]
    offsets = [
        (2.0 * a - o).astype(np.float32) for a, o in zip(axes, what.place_nm, strict=True)
    ]
    everywhere = distance(what, offsets) < -0.4
    assert np.all(density[everywhere] > 0.4)
    assert np.any(everywhere) == (kind != "empty")


def test_densities_combine_by_maximum_never_by_sum():
    density = np.full((60, 60, 60), 0.7, np.float32)
    machine = site(place=(60.0, 60.0, 60.0))
    insert(density, machine, voxel_nm=2.0)
    once = density.copy()
    insert(density, machine, voxel_nm=2.0)
    np.testing.assert_array_equal(density, once)
    assert density.max() == 1
    assert density.min() == np.float32(0.7)


def test_empty_site_draws_nothing():
    density = np.full((60, 60, 60), 0.2, np.float32)
    insert(density, site("empty", place=(60.0, 60.0, 60.0)), voxel_nm=2.0)
    assert np.all(density == np.float32(0.2))


def test_site_outside_the_volume_draws_nothing():
    density = np.zeros((10, 10, 10), np.float32)
    insert(density, site(place=(900.0, 900.0, 900.0)), voxel_nm=2.0)
    insert(density, site(place=(-900.0, -900.0, -900.0)), voxel_nm=2.0)
    assert not density.any()


@pytest.mark.parametrize("kind", ["t3ss", "empty", "ribosome"])
def test_gap_is_drawn_alike_for_machines_and_decoys(kind):
    gaps = [
        point.gap_nm
        for index in range(10)
        for point in simulate_minicell(
            seed=3,
            name=f"cell-{index}",
            machines=6,
            decoys=6,
            gold=0,
            shape_px=(32, 32, 32),
            voxel_nm=7.5,
            axis_ratio=(1.0, 1.0),
        ).points
        if point.kind == kind
    ]
    assert np.mean(gaps) == pytest.approx(31, abs=2.5)
    assert min(gaps) >= 26
    assert max(gaps) <= 36


ANNOTATOR = {"snr": 0.1, "tilt_max_deg": 51.0, "miss": 0.2, "jitter_nm": 5.0, "false": 0.08}


def crowd(number):
    rng = np.random.default_rng(5)
    normals = rng.standard_normal((number, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    places = 200.0 * np.arange(number)[:, None] + np.zeros(3)
    return [site(place=p, normal=n) for p, n in zip(places, normals, strict=True)]


def test_annotator_misses_a_fifth_and_the_hidden_ones_most():
    machines = crowd(4000)
    picks = annotate(1, "one", machines, **ANNOTATOR)
    assert {pick.kind for pick in picks} == {"t3ss"}
    found = {round(pick.place_nm[0] / 200) for pick in picks}
    missed = np.array([index not in found for index in range(4000)])
    hidden = np.array([wedge_margin(machine, 51.0) < -10 for machine in machines])
    assert missed.mean() == pytest.approx(0.2, abs=0.03)
    assert missed[hidden].mean() > 1.5 * missed[~hidden].mean()


def test_annotator_errs_by_five_nanometres():
    machines = crowd(2000)
    picks = annotate(1, "one", machines, **ANNOTATOR)
    errors = [
        np.linalg.norm(pick.place_nm - machines[round(pick.place_nm[0] / 200)].place_nm)
        for pick in picks
    ]
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(5, abs=0.3)


def test_annotator_takes_some_decoys_for_machines():
    decoys = [site("ribosome", place=(-5000.0 - 300 * i, 0.0, 0.0)) for i in range(50)]
    picks = annotate(1, "one", crowd(3000) + decoys, **ANNOTATOR)
    false = np.mean([pick.place_nm[0] < -1000 for pick in picks])
    assert false == pytest.approx(0.08, abs=0.02)


def test_annotator_misses_more_where_noise_is_stronger():
    loud = annotate(1, "one", crowd(2000), **{**ANNOTATOR, "snr": 0.05})
    assert len(loud) < len(annotate(1, "one", crowd(2000), **ANNOTATOR))


def test_perfect_annotator_tells_the_truth():
    machines = crowd(20)
    settings = {**ANNOTATOR, "miss": 0.0, "jitter_nm": 0.0, "false": 0.0}
    picks = annotate(1, "one", machines, **settings)
    assert len(picks) == 20
    for pick, machine in zip(picks, machines, strict=True):
        np.testing.assert_allclose(pick.place_nm, machine.place_nm)


def test_cell_larger_than_the_volume_is_refused():
    with pytest.raises(Refused, match="enlarge shape_px or lower diameter_nm"):
        simulate_minicell(seed=1, name="one", shape_px=(64, 64, 64))


def test_more_sites_than_room_are_refused():
    with pytest.raises(Refused, match="lower machines or decoys"):
        simulate_minicell(seed=1, name="one", machines=60, **SMALL)


def test_cell_too_thin_for_its_envelope_is_refused():
    with pytest.raises(Refused, match="raise diameter_nm"):
        simulate_minicell(seed=1, name="one", diameter_nm=(110.0, 120.0), **SMALL)


def test_mrc_has_its_voxel_size_and_no_date(cell, tmp_path):
    for name in ("one.mrc", "two.mrc"):
        files.write_mrc(cell.image, tmp_path / name, voxel_nm=3.6)
    assert (tmp_path / "one.mrc").read_bytes() == (tmp_path / "two.mrc").read_bytes()
    with mrcfile.open(tmp_path / "one.mrc") as file:
        assert file.voxel_size.x == pytest.approx(36.0)
        assert file.header.nlabl == 0
        np.testing.assert_array_equal(file.data, cell.image)


@pytest.mark.parametrize("some", [True, False])
def test_points_come_back_as_they_were_written(cell, tmp_path, some):
    points = cell.points if some else []
    files.write_points(points, tmp_path / "points.csv")
    back = files.read_points(tmp_path / "points.csv")
    assert [point.kind for point in back] == [point.kind for point in points]
    for mine, theirs in zip(points, back, strict=True):
        np.testing.assert_allclose(theirs.place_nm, mine.place_nm, atol=1e-4)
        np.testing.assert_allclose(theirs.normal, mine.normal, atol=1e-4)


def test_every_cell_of_the_default_sizes_fits():
    parameters = inspect.signature(simulate_minicell).parameters
    room_nm = min(parameters["shape_px"].default) * parameters["voxel_nm"].default
    roundest = {"diameter_nm": (220.0, 220.0), "axis_ratio": (1.0, 1.0)}
    assert parameters["diameter_nm"].default[1] == roundest["diameter_nm"][1]
    assert room_nm >= 64 * SMALL["voxel_nm"]
    simulate_minicell(seed=1, name="one", machines=0, **roundest, **SMALL)
