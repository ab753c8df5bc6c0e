"""Claims about picks: far enough apart, the same in slabs."""

import h5py
import numpy as np
import pytest

from tomoglean import picks, tables, volumes
from tomoglean.volumes import Volume


def field(peaks, shape=(9, 9, 9), voxel_nm=(5.0, 5.0, 5.0)):
    data = np.zeros(shape, np.float16)
    for place, score in peaks.items():
        data[place] = score
    return Volume(data, voxel_nm)


def places(found):
    return [tuple(int(edge) for edge in row) for row in found[:, :3]]


@pytest.fixture
def twins():
    return field({(4, 4, 2): 0.9, (4, 4, 6): 0.8})


@pytest.mark.parametrize(
    ("min_distance_nm", "expected"),
    [(20.0, [(4, 4, 2), (4, 4, 6)]), (20.1, [(4, 4, 2)])],
)
def test_distance_is_in_nanometres(twins, min_distance_nm, expected):
    found = picks.find(twins, threshold=0.5, min_distance_nm=min_distance_nm)
    assert places(found) == expected


def test_distance_knows_flat_voxels():
    flat = field({(2, 4, 4): 0.9, (6, 4, 4): 0.8, (2, 4, 8): 0.7}, voxel_nm=(20, 5, 5))
    assert places(picks.find(flat, threshold=0.5, min_distance_nm=30)) == [
        (2, 4, 4),
        (6, 4, 4),
    ]


def test_a_silenced_candidate_silences_nobody():
    row = field({(4, 4, 1): 0.9, (4, 4, 4): 0.8, (4, 4, 7): 0.7})
    assert places(picks.find(row, threshold=0.5, min_distance_nm=16)) == [
        (4, 4, 1),
        (4, 4, 7),
    ]


def test_the_threshold_counts_itself_and_zero_is_never_a_candidate():
    volume = field({(1, 1, 1): 0.5, (7, 7, 7): 0.499})
    assert places(picks.find(volume, threshold=0.5, min_distance_nm=1)) == [(1, 1, 1)]
    assert len(picks.find(volume, threshold=0.0, min_distance_nm=1)) == 2


def test_of_equal_scores_the_first_voxel_wins():
    volume = field({(4, 4, 4): 0.5, (4, 4, 3): 0.5, (3, 8, 8): 0.5})
    assert places(picks.find(volume, threshold=0.1, min_distance_nm=6)) == [
        (3, 8, 8),
        (4, 4, 3),
    ]


def test_the_best_few_are_the_first_of_all():
    volume = Volume(np.random.default_rng(1).random((6, 9, 9)), (5.0, 5.0, 5.0))
    everything = picks.find(volume, threshold=0.2, min_distance_nm=12)
    few = picks.find(volume, threshold=0.2, min_distance_nm=12, max_candidates=4)
    assert np.array_equal(few, everything[:4])


def test_no_candidates_are_no_failure():
    assert picks.find(field({}), threshold=0.1, min_distance_nm=9).shape == (0, 4)


@pytest.mark.parametrize("value", [1.01, -0.1, np.nan])
def test_a_raw_volume_is_no_score_map(value):
    volume = Volume(np.full((2, 2, 2), value, np.float32), (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="raw volume"):
        picks.find(volume, threshold=0.5, min_distance_nm=1)


def plainly(volume, threshold, min_distance_nm):
    """Greedy non-maximum suppression, as one would write it down."""
    candidates = np.argwhere((volume.data >= threshold) & (volume.data > 0))
    values = volume.data[tuple(candidates.T)]
    order = np.argsort(-values.astype(float), kind="stable")
    kept = []
    for place in candidates[order]:
        gaps = [np.linalg.norm((place - other) * volume.voxel_nm) for other in kept]
        if all(gap >= min_distance_nm for gap in gaps):
            kept.append(place)
    return [tuple(place.tolist()) for place in kept]


@pytest.mark.parametrize(
    ("levels", "budget"), [(5, 1), (5, 400), (2000, 37), (2000, 400), (2000, 10**6)]
)
def test_bands_and_slabs_change_nothing(tmp_path, monkeypatch, levels, budget):
    """Few levels give many ties, small budgets many bands, thin slabs many seams."""
    random = np.random.default_rng([budget, levels])
    data = (random.integers(0, levels + 1, (23, 12, 14)) / levels).astype(np.float16)
    volume = Volume(data, (3.0, 2.0, 2.5))
    volumes.write(volume, tmp_path / "s.h5")
    thin = volumes.slabs
    monkeypatch.setattr(volumes, "slabs", lambda depth: thin(depth, 4))
    with volumes.open_volume(tmp_path / "s.h5") as stored:
        found = picks.find(stored, threshold=0.3, min_distance_nm=8.2, budget=budget)
    assert places(found) == plainly(volume, 0.3, 8.2)


def test_a_plateau_is_refined_to_its_middle():
    volume = field({}, shape=(15, 15, 15))
    volume.data[5:10, 4:9, 7:12] = 1
    found = picks.find(volume, threshold=0.5, min_distance_nm=40)
    assert places(found) == [(5, 4, 7)]
    found = picks.refine(volume, found, 20.0)
    np.testing.assert_allclose(found[0, :3], (7, 6, 9), atol=0.5)


def test_a_symmetric_peak_is_not_moved_and_the_score_stays():
    grid = np.indices((11, 11, 11)) - 5
    volume = Volume(np.exp(-(grid**2).sum(axis=0) / 9.0), (2.0, 2.0, 2.0))
    found = picks.find(volume, threshold=0.9, min_distance_nm=40)
    np.testing.assert_allclose(picks.refine(volume, found, 7.0), found, atol=1e-12)


def test_a_skewed_peak_moves_towards_its_mass_by_voxels_not_nm():
    volume = field({(4, 4, 4): 1.0, (4, 4, 5): 1.0}, voxel_nm=(2.0, 2.0, 2.0))
    found = picks.find(volume, threshold=0.5, min_distance_nm=10)
    assert picks.refine(volume, found, 4.0)[0, :3].tolist() == [4, 4, 4.5]


def test_radius_zero_and_the_border_leave_candidates_in_place():
    volume = field({(0, 0, 0): 0.9, (8, 8, 8): 0.8})
    found = picks.find(volume, threshold=0.5, min_distance_nm=10)
    assert np.array_equal(picks.refine(volume, found, 0.0), found)
    assert np.array_equal(picks.refine(volume, found, 12.0), found)


def test_support_is_the_mean_over_the_mask_around():
    volume = field({(4, 4, 4): 1.0, (4, 4, 5): 0.5})
    mask = Volume(np.ones((9, 9, 9), np.uint8), (5.0, 5.0, 5.0))
    found = np.array([[4, 4, 4, 1.0]])
    assert picks.support(volume, mask, found, 0.0).tolist() == [1]
    assert picks.support(volume, mask, found, 5.0).tolist() == [1.5 / 7]
    mask.data[:, :, :4] = 0
    assert picks.support(volume, mask, found, 5.0).tolist() == [1.5 / 6]
    mask.data[...] = 0
    assert picks.support(volume, mask, found, 5.0).tolist() == [1]


@pytest.fixture
def files(tmp_path):
    def write(peaks, **attrs):
        scores, mask = tmp_path / "scores.h5", tmp_path / "mask.h5"
        volumes.write(field(peaks), scores, **attrs)
        volumes.write(Volume(np.ones((9, 9, 9), np.uint8), (5.0, 5.0, 5.0)), mask)
        normals = np.zeros((3, 9, 9, 9), np.int8)
        normals[:, 4, 4, 2] = (0, 76, -102)
        with h5py.File(mask, "a") as file:
            file["normals"] = normals
        return scores, mask

    return write


def test_picks_carry_place_normal_and_score(files):
    paths = files({(4, 4, 2): 0.75, (4, 4, 6): 0.5})
    found = picks.pick(*paths, min_distance_nm=15, support_nm=0)
    assert found.positions.tolist() == [[4, 4, 2], [4, 4, 6]]
    assert found.positions_nm.tolist() == [[20, 20, 10], [20, 20, 30]]
    assert found.scores.tolist() == [0.75, 0.5]
    np.testing.assert_allclose(found.normals[0], (0, 0.6, -0.8), atol=0.01)
    np.testing.assert_allclose(np.linalg.norm(found.normals[0]), 1)
    assert found.normals[1].tolist() == [0, 0, 0]


def test_the_offset_of_the_map_is_added(files):
    found = picks.pick(*files({(4, 4, 2): 0.75}, offset_voxel=(0.0, 0.5, 0.5)))
    assert found.positions.tolist() == [[4, 4.5, 2.5]]


def test_a_broad_hit_comes_before_a_lonely_one(files):
    peaks = {(1, 1, 1): 1.0} | {(7, 7, x): 0.9 for x in (6, 7, 8)}
    found = picks.pick(*files(peaks), min_distance_nm=30, refine_nm=8)
    assert found.positions.tolist() == [[7, 7, 7], [1, 1, 1]]
    np.testing.assert_allclose(found.scores, [2.7 / 7, 1 / 7], rtol=1e-3)


def test_two_ends_of_one_plateau_are_one_pick(files):
    peaks = {(4, 4, x): 1.0 for x in range(1, 7)}
    apart = picks.pick(*files(peaks), min_distance_nm=24, refine_nm=0)
    joined = picks.pick(*files(peaks), min_distance_nm=24, refine_nm=40)
    assert len(apart) == 2
    assert joined.positions.tolist() == [[4, 4, 3.5]]


def test_no_picks_are_a_valid_table(files, tmp_path):
    found = picks.pick(*files({}))
    tables.write_picks(found, tmp_path / "picks.csv")
    assert len(tables.read_picks(tmp_path / "picks.csv")) == 0
