import json
import tracemalloc

import h5py
import numpy as np
import pytest
from scipy import ndimage

from tomoglean import masks, volumes
from tomoglean.provenance import Refused
from tomoglean.volumes import Volume

CUBIC = (5.0, 5.0, 5.0)
SHAPE = (46, 56, 66)
RADII_NM = (90.0, 110.0, 140.0)
GAP_NM = 33.0


def shell(shape, voxel_nm, radii_nm, gap_nm=GAP_NM, thick_nm=8.0, centre_nm=None):
    """Make an ellipsoid's membranes.

    Returns the mask, normals (Z, Y, X, 3) and the distance from the outer mid-surface.
    """
    grid = np.stack(np.indices(shape), -1) * voxel_nm + np.array(voxel_nm) / 2
    centre = np.array(shape) * voxel_nm / 2 if centre_nm is None else centre_nm
    offset = (grid - centre) / radii_nm
    level = np.linalg.norm(offset, axis=-1)
    steep = offset / radii_nm
    length = np.linalg.norm(steep, axis=-1)
    distance = (level - 1) * level / length
    found = np.abs(distance) < thick_nm / 2
    if gap_nm:
        found |= np.abs(distance + gap_nm) < thick_nm / 2
    return found, steep / length[..., None], distance


def seen(normals, tilt_max):
    """Where a single-axis tilt series about y shows a membrane."""
    z, x = np.abs(normals[..., 0]), np.abs(normals[..., 2])
    return x >= z * np.tan(np.radians(90 - tilt_max))


def holes(shape, share, seed=1):
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 3)
    return field < np.quantile(field, share)


@pytest.fixture
def search(tmp_path):
    """Return a function from a membrane to zone, distances, normals (Z, Y, X, 3)."""

    def find(membrane, voxel_nm=CUBIC, confidence=None, **settings):
        source, output = tmp_path / "segmented.h5", tmp_path / "masked.h5"
        sure = np.full(membrane.shape, 255) if confidence is None else confidence
        volumes.write(
            Volume(membrane.astype(np.uint8), voxel_nm),
            source,
            extra={"confidence": sure.astype(np.uint8)},
            classes=json.dumps(["background", "membrane"]),
        )
        masks.find(source, output, **settings)
        with h5py.File(output) as file:
            normals = np.moveaxis(file["normals"][...], 0, -1) / 127
            return file["data"][...], file["distance_nm"][...].astype(float), normals

    return find


def angles(found, true, where):
    """Angles in degrees between found and true normals."""
    cosine = np.sum(found[where] * true[where], -1)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


# Direction outward


def test_normals_of_a_closed_cell(search):
    membrane, true, _ = shell(SHAPE, CUBIC, RADII_NM)
    zone, _, found = search(membrane)
    error = angles(found, true, zone > 0)
    assert np.median(error) < 4
    assert error.max() < 30


@pytest.mark.parametrize(("tilt_max", "lost"), [(51, 0), (60, 0), (51, 0.3)])
def test_normals_of_a_cell_that_the_wedge_opens(search, tilt_max, lost):
    membrane, true, _ = shell(SHAPE, CUBIC, RADII_NM)
    membrane &= seen(true, tilt_max) & ~holes(SHAPE, lost)
    zone, _, found = search(membrane)
    error = angles(found, true, zone > 0)
    assert np.median(error) < 7
    assert np.mean(error > 90) < 0.001


def test_normals_between_the_membranes(search):
    membrane, true, distance = shell(SHAPE, CUBIC, RADII_NM)
    membrane &= seen(true, 60)
    zone, _, found = search(membrane)
    middle = (zone > 0) & (np.abs(distance + GAP_NM / 2) < 4)
    error = angles(found, true, middle)
    assert middle.sum() > 1000
    assert np.median(error) < 7


def test_normals_on_anisotropic_voxels(search):
    voxel_nm, shape = (7.0, 4.0, 3.5), (40, 88, 110)
    membrane, true, _ = shell(shape, voxel_nm, RADII_NM)
    membrane &= seen(true, 60)
    zone, _, found = search(membrane, voxel_nm)
    error = angles(found, true, zone > 0)
    assert np.median(error) < 6
    assert np.mean(error > 90) < 0.001


def test_normals_of_a_cell_cut_by_the_border(search):
    membrane, true, _ = shell(SHAPE, CUBIC, RADII_NM, centre_nm=(40, 200, 60))
    zone, _, found = search(membrane)
    error = angles(found, true, zone > 0)
    assert np.median(error) < 6
    assert np.mean(error > 90) < 0.01


def test_every_cell_has_its_own_outside(search):
    shape = (40, 48, 104)
    left, true_left, _ = shell(shape, CUBIC, (70, 80, 90), 0, centre_nm=(100, 120, 120))
    right, true_right, _ = shell(shape, CUBIC, (70, 80, 90), 0, centre_nm=(100, 120, 400))
    _, _, found = search(left | right)
    assert angles(found, true_left, left).max() < 90
    assert angles(found, true_right, right).max() < 90


def test_a_flat_sheet_has_no_outside(search):
    membrane = np.zeros((20, 30, 30), bool)
    membrane[10] = True
    zone, distance, normals = search(membrane, (6, 6, 6))
    assert zone.any()
    assert not normals.any()
    assert distance.min() == 0


def test_normals_are_unit_vectors_in_the_zone_and_zero_elsewhere(search):
    membrane, _, _ = shell(SHAPE, CUBIC, RADII_NM)
    zone, _, normals = search(membrane)
    length = np.linalg.norm(normals, axis=-1)
    np.testing.assert_allclose(length[zone > 0], 1, atol=0.01)
    assert not normals[zone == 0].any()


# Distance


def test_sign_tells_inside_from_outside(search):
    membrane, _, true = shell(SHAPE, CUBIC, RADII_NM)
    _, distance, _ = search(membrane)
    clear = (np.abs(true) > 12) & (distance != 0)
    assert np.mean((distance < 0)[clear] == (true < 0)[clear]) > 0.98


def test_inside_of_a_cell_that_the_wedge_opens(search):
    membrane, normals, true = shell(SHAPE, CUBIC, RADII_NM)
    _, distance, _ = search(membrane & seen(normals, 60))
    beside = seen(normals, 60) & (np.abs(true) > 12) & (np.abs(true + GAP_NM / 2) < 60)
    beside &= distance != 0
    assert np.mean((distance < 0)[beside] == (true < 0)[beside]) > 0.9


@pytest.mark.parametrize("voxel_nm", [(2.0, 2.0, 2.0), (5.0, 1.0, 3.0)])
def test_distance_is_in_nanometres(search, voxel_nm):
    membrane = np.zeros((25, 25, 25), bool)
    membrane[12] = True
    _, distance, _ = search(membrane, voxel_nm, min_volume_nm3=0, closing_nm=0)
    from_plane = np.abs(np.arange(25) - 12) * voxel_nm[0]
    np.testing.assert_array_equal(distance[:, 12, 12], np.minimum(from_plane, 60))


def test_zone_reaches_as_far_as_asked(search):
    membrane = np.zeros((40, 20, 20), bool)
    membrane[20] = True
    settings = {"within_nm": 12, "max_distance_nm": 5, "min_volume_nm3": 0}
    zone, distance, _ = search(membrane, (3, 3, 3), **settings)
    assert np.flatnonzero(zone[:, 10, 10]).tolist() == list(range(16, 25))
    assert distance.max() == 5


def test_slabs_with_halo_equal_the_whole():
    mask = np.random.default_rng(2).random((150, 12, 12)) < 0.002
    whole = ndimage.distance_transform_edt(~mask, sampling=(2, 3, 4))
    parts = [part for _, part in masks.distances(mask, (2, 3, 4), 30)]
    expected = np.where(whole > 30, np.inf, whole)
    np.testing.assert_allclose(np.concatenate(parts), expected, rtol=1e-6)


# Cleaning


@pytest.mark.parametrize("reach_nm", [3.0, 11.0, 500.0])
def test_tiles_with_halo_equal_the_whole(monkeypatch, reach_nm):
    mask = np.random.default_rng(4).random((70, 83, 21)) < 0.001
    edges = (2.0, 1.0, 1.5)
    expected = ndimage.distance_transform_edt(~mask, sampling=edges).astype(np.float32)
    expected[expected > reach_nm] = np.inf
    monkeypatch.setattr(masks, "MOST_AT_ONCE", 1)
    found = np.concatenate([part for _, part in masks.distances(mask, edges, reach_nm)])
    np.testing.assert_array_equal(found, expected)


def test_memory_of_distances_is_bounded_however_large_the_slices(monkeypatch):
    mask = np.zeros((64, 900, 16), bool)
    mask[::7, ::7, ::7] = True
    peaks = []
    for most in (1 << 24, 1 << 16):
        monkeypatch.setattr(masks, "MOST_AT_ONCE", most)
        tracemalloc.start()
        for _ in masks.distances(mask, (1.0, 1.0, 1.0), 2.0):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 6 * mask.size + 100 * (1 << 16) < peaks[0]


def test_small_pieces_are_dropped_by_volume_not_by_voxels():
    mask = np.zeros((12, 12, 12), bool)
    mask[1:3, 1:3, 1:3] = True  # 8 voxels
    mask[6:10, 6:10, 6:10] = True  # 64 voxels
    for voxel_nm, pieces in [((1, 1, 1), 1), ((1, 2, 5), 2)]:
        found = masks.clean(mask, voxel_nm, 0, 60)
        assert ndimage.label(found)[1] == pieces


def test_pieces_that_touch_at_a_corner_are_one():
    mask = np.eye(6, dtype=bool)[None].repeat(2, 0)
    np.testing.assert_array_equal(masks.clean(mask, (1, 1, 1), 0, 12), mask)
    assert not masks.clean(mask, (1, 1, 1), 0, 13).any()


@pytest.mark.parametrize(("radius_nm", "mended"), [(1, False), (2, True)])
def test_closing_mends_gaps_up_to_its_size(radius_nm, mended):
    mask = np.ones((9, 9, 9), bool)
    mask[:, 3:6] = False  # four voxels of 1 nm from centre to centre
    assert masks.close(mask, (1, 1, 1), radius_nm)[4, 4, 4] == mended


def test_closing_does_not_creep_to_the_border():
    mask = np.zeros((9, 10, 10), bool)
    mask[2] = True
    np.testing.assert_array_equal(masks.close(mask, CUBIC, 12), mask)


@pytest.mark.parametrize(("axis", "mended"), [(0, False), (1, True), (2, True)])
def test_closing_is_measured_in_nanometres_on_every_axis(axis, mended):
    mask = np.ones((9, 9, 9), bool)
    np.moveaxis(mask, axis, 0)[4] = False
    assert masks.close(mask, (10.0, 2.0, 2.0), 4.0)[4, 4, 4] == mended


def test_closed_mask_is_what_scipy_makes_of_it():
    mask = np.random.default_rng(4).random((20, 20, 20)) < 0.05
    z, y, x = np.ogrid[-3:4, -3:4, -3:4]
    ball = z**2 + y**2 + x**2 <= 9
    padded = np.pad(mask, 4)
    expected = ndimage.binary_closing(padded, ball)[4:-4, 4:-4, 4:-4]
    np.testing.assert_array_equal(masks.close(mask, (1, 1, 1), 3), expected)


# The coarse grid


def test_coarse_grid_keeps_the_volume():
    mask, _, _ = shell((30, 40, 50), (3, 2, 2.5), (30, 30, 40), 0)
    filled, edge_nm = masks.coarsen(mask, (3, 2, 2.5), 5.0)
    assert edge_nm == 5
    assert filled.sum() * 125 == pytest.approx(mask.sum() * 15, rel=1e-5)


def test_coarse_grid_is_never_finer_than_the_voxels_nor_too_big(monkeypatch):
    mask = np.ones((4, 4, 4), bool)
    assert masks.coarsen(mask, (2, 9, 2), 5.0)[1] == 9
    monkeypatch.setattr(masks, "MOST_COARSE_VOXELS", 8)
    assert masks.coarsen(mask, (5, 5, 5), 5.0)[1] == pytest.approx(10)


def test_hull_depth_of_a_cube():
    groups = np.zeros((13, 13, 13), np.int32)
    groups[3:10, 3:10, 3:10] = 1
    groups[4:9, 4:9, 4:9] = 0
    depth, centres = masks.hulls(groups, 2.0)
    np.testing.assert_allclose(centres[1], [6, 6, 6])
    assert depth[6, 6, 6] == pytest.approx(-6, abs=1e-5)
    assert depth[0, 0, 0] > 0


def test_sheet_normal_of_a_tilted_plane():
    z, y, x = np.indices((31, 31, 31)) - 15
    normal = np.array([1, 2, 3]) / np.sqrt(14)
    sheet = np.exp(-((z * normal[0] + y * normal[1] + x * normal[2]) ** 2) / 4)
    middle = tuple(np.array([[15]] * 3))
    (found,) = masks.sheet_normals(sheet.astype(np.float32), middle, 2.0)
    assert abs(found @ normal) > np.cos(np.radians(2))


# What else may come


@pytest.mark.parametrize("shape", [(9, 17, 31), (1, 5, 5), (70, 3, 3)])
def test_no_membrane_gives_an_empty_valid_file(search, shape):
    zone, distance, normals = search(np.zeros(shape, bool))
    assert zone.shape == shape
    assert not zone.any()
    assert not normals.any()
    assert np.all(distance == 60)


def test_membrane_everywhere_does_no_harm(search):
    zone, distance, _ = search(np.ones((9, 10, 11), bool))
    assert zone.all()
    assert not distance.any()


def test_unsure_membrane_is_left_out(search):
    membrane = np.ones((9, 10, 11), bool)
    sure = np.full(membrane.shape, 127)
    assert not search(membrane, confidence=sure, min_confidence=0.5)[0].any()
    assert search(membrane, confidence=sure + 1, min_confidence=0.5)[0].all()


def test_same_input_gives_the_same_bytes(search, tmp_path):
    membrane, _, _ = shell((40, 44, 48), CUBIC, (60, 70, 80), 0)
    search(membrane)
    once = (tmp_path / "masked.h5").read_bytes()
    search(membrane)
    assert (tmp_path / "masked.h5").read_bytes() == once


def test_unknown_class_is_refused(search):
    with pytest.raises(Refused, match=r"expected a class 'IM', found background, mem"):
        search(np.zeros((3, 3, 3), bool), membrane_class="IM")


def test_sparse_set_of_slices_is_refused(tmp_path):
    sparse = Volume(np.zeros((2, 3, 3), np.uint8), CUBIC, np.array([0, 50]))
    volumes.write(sparse, tmp_path / "s.h5", classes=["membrane"])
    with pytest.raises(Refused, match="sparse"):
        masks.find(tmp_path / "s.h5", tmp_path / "m.h5")


# Between two membranes


def test_only_the_envelope_has_membrane_on_both_sides(search):
    membrane, _, distance = shell(SHAPE, CUBIC, RADII_NM)
    zone, _, normals = search(membrane, partner_nm=[6, 28])
    found = zone > 0
    # Half a voxel's diagonal and half a membrane on either side.
    assert (np.abs(distance[found] + GAP_NM / 2) < GAP_NM / 2).all()
    middle = np.abs(distance + GAP_NM / 2) < 4
    assert found[middle].mean() > 0.95
    assert not normals[~found].any()


def test_a_single_membrane_is_no_envelope(search):
    membrane, _, _ = shell(SHAPE, CUBIC, RADII_NM, gap_nm=0)
    assert search(membrane)[0].any()
    assert not search(membrane, partner_nm=[6, 28])[0].any()


def test_the_envelope_ends_where_one_membrane_is_unseen(search):
    membrane, _, distance = shell(SHAPE, CUBIC, RADII_NM)
    upper = np.arange(SHAPE[0])[:, None, None] < SHAPE[0] // 2
    membrane &= ~(upper & (distance > -GAP_NM / 2))
    zone, _, _ = search(membrane, partner_nm=[6, 28])
    assert zone[SHAPE[0] // 2 + 8 :].any()
    assert not zone[: SHAPE[0] // 2 - 8].any()


def test_partner_distances_the_wrong_way_round_are_refused(search, tmp_path):
    membrane, _, _ = shell(SHAPE, CUBIC, RADII_NM)
    with pytest.raises(Refused, match=r"segmented.h5: expected .* found \[28, 6\]; turn"):
        search(membrane, partner_nm=[28, 6])
    assert not (tmp_path / "masked.h5").exists()
