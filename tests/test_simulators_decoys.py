"""Each decoy is what its name says, and maps come in like any other body."""

import os
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from scipy import ndimage

from tomoglean import config
from tomoglean.provenance import Refused
from tomoglean.simulators.minicell.bodies import Local, Site, insert
from tomoglean.simulators.minicell.decoys import BODIES
from tomoglean.simulators.minicell.maps import read_body
from tomoglean.simulators.minicell.sites import Machines, bodies

GAP_NM, TOP = 32.0, 16.0
UP = np.array([1.0, 0.0, 0.0])


def density(kind, across, aside, height, *, edge_nm=1.8, **of):
    site = Site(np.zeros(3), UP, kind, of.pop("gap_nm", GAP_NM), **of)
    parts = np.broadcast_arrays(across, aside, height)
    at = Local(site, *(np.asarray(part, np.float32) for part in parts), edge_nm)
    return BODIES[kind].draw(at)[0]


def test_base_without_needle_has_a_platform_and_no_needle():
    assert density("base_without_needle", 0, 0, TOP + 30) == 0
    assert density("base_without_needle", 0, 0, -TOP - 25) > 0.5
    assert density("t3ss", 0, 0, TOP + 30) == 1


def test_base_without_platform_has_a_needle_and_no_platform():
    assert density("base_without_platform", 0, 0, TOP + 30) == 1
    assert density("base_without_platform", 0, 0, -TOP - 25) == 0


def test_both_have_the_same_base():
    across, height = (
        np.arange(-20, 20, 0.5)[None, :],
        np.arange(-TOP, TOP - 4, 0.5)[:, None],
    )
    one = density("base_without_needle", across, 0.0, height)
    np.testing.assert_array_equal(
        density("base_without_platform", across, 0.0, height), one
    )
    np.testing.assert_array_equal(density("t3ss", across, 0.0, height), one)


@pytest.mark.parametrize(("size", "number"), [(0.1, 1), (0.5, 2), (0.9, 3)])
def test_ribosomes_stand_below_the_inner_membrane_and_are_denser(size, number):
    across, aside = np.arange(-45, 45, 0.9)[:, None], np.arange(-20, 20, 0.9)
    heights = np.arange(-60, 0, 0.9)[:, None, None]
    drawn = density("ribosome", across, aside, heights, size=size)
    assert drawn.max() == pytest.approx(1.3)
    seen = np.any(drawn > 0, axis=(1, 2))
    assert heights.ravel()[seen].min() >= -TOP - 27
    assert heights.ravel()[seen].max() < -TOP
    single = density("ribosome", across, aside, heights, size=0.0).sum()
    assert drawn.sum() == pytest.approx(number * single, rel=0.08)


def test_a_ribosome_is_about_21_nm_wide():
    across, aside = np.arange(-20, 20, 0.5)[:, None], np.arange(-20, 20, 0.5)
    heights = np.arange(-60, 0, 0.5)[:, None, None]
    where = np.argwhere(density("ribosome", across, aside, heights, size=0.0) > 0.6) * 0.5
    wide = np.ptp(where, axis=0)
    assert wide.min() > 17
    assert 19 < wide.max() < 24


def test_array_is_hexagonal_with_12_nm_and_has_its_plate_at_25():
    grid = np.arange(-36, 36.5, 1.0)
    rods = density("array", grid[:, None], grid, -TOP - 12.0, size=1.0, edge_nm=1.0)
    spectrum = np.abs(np.fft.fftshift(np.fft.fft2(rods - rods.mean(), (1024, 1024))))
    peak = np.array(np.unravel_index(np.argmax(spectrum), spectrum.shape)) - 512
    # First-order spots of a hexagonal lattice of 12 nm lie at 2 / (sqrt(3) 12 nm).
    spots = np.linalg.norm(peak) / 1024
    assert spots == pytest.approx(2 / np.sqrt(3) / 12, rel=0.04) or spots == pytest.approx(
        2 / 12, rel=0.04
    )
    heights = np.arange(-60, 0, 0.25)[:, None, None]
    near = grid[np.abs(grid) < 12]
    mean = density("array", near[:, None], near, heights, size=1.0).mean(axis=(1, 2))
    assert heights.ravel()[np.argmax(mean)] == pytest.approx(-TOP - 25.0, abs=1.0)


def test_array_follows_a_bent_envelope():
    flat = density("array", 0.0, 28.0, np.arange(-60, 0, 0.1), size=1.0, bend=0.0)
    bent = density("array", 0.0, 28.0, np.arange(-60, 0, 0.1), size=1.0, bend=0.01)
    lower = np.flatnonzero(flat > 0.5).min() - np.flatnonzero(bent > 0.5).min()
    assert 0.1 * lower == pytest.approx(0.01 / 2 * 28**2, abs=0.3)


@pytest.mark.parametrize("size", [0.0, 1.0])
def test_vesicle_is_a_closed_bilayer_outside(size):
    heights = np.arange(TOP, TOP + 80, 0.2)
    drawn = density("vesicle", 0.0, 0.0, heights, size=size)
    walls, number = ndimage.label(drawn > 0.17)
    middles = [heights[walls == wall].mean() for wall in (1, number)]
    assert np.ptp(middles) == pytest.approx(2 * (12 + 14 * size), abs=4.5)
    assert drawn[heights < TOP + 1].max() < 0.05


def test_fold_stands_outside_and_is_closed_at_its_rim():
    heights = np.arange(TOP - 10, TOP + 70, 0.2)
    drawn = density("fold", 0.0, 0.0, heights, size=0.5)
    rim = heights[drawn > 0.05].max()
    assert rim == pytest.approx(TOP + 20 + 12.5 + 6 + 2.5, abs=1.5)
    across = np.arange(-20, 20, 0.2)
    walls = density("fold", 0.0, across, TOP + 15, size=0.5, edge_nm=0.5)
    assert ndimage.label(walls > 0.17)[1] == 4


def test_gold_is_ten_nanometres_and_leans_on_the_envelope():
    free = density("gold", np.arange(-10, 10, 0.1), 0.0, 0.0, gap_nm=0.0)
    assert np.count_nonzero(free > 4.3) * 0.1 == pytest.approx(10.0, abs=0.3)
    leaning = density("gold", 0.0, 0.0, np.arange(0, 60, 0.1), size=0.0)
    assert np.flatnonzero(leaning > 4.3).min() * 0.1 == pytest.approx(TOP + 3.0, abs=0.3)


def test_ice_is_a_lump_and_not_a_ball():
    heights = np.arange(-35, 35, 1.0)
    drawn = density("ice", heights[:, None, None], heights[:, None], heights, gap_nm=0.0)
    places = np.argwhere(drawn > 0.7) - 35.0
    radii = np.linalg.norm(places, axis=1)
    volume = len(places)
    assert drawn.max() == pytest.approx(1.4)
    assert volume < 0.9 * 4 / 3 * np.pi * radii.max() ** 3


def write_map(path, *, voxel_nm=1.0, at=(0, 0, 6), size=4.0):
    """A ball off the middle of a map."""
    z, y, x = np.ogrid[-14:15, -14:15, -14:15]
    off = np.sqrt((z - at[0]) ** 2 + (y - at[1]) ** 2 + (x - at[2]) ** 2)
    with mrcfile.new(path) as file:
        file.set_data(np.clip(size + 0.5 - off, 0, 1).astype(np.float32))
        file.voxel_size = 10 * voxel_nm
    return path


@pytest.mark.parametrize(
    ("axis", "height"), [((0, 0, 1), 6.0), ((0, 0, -1), -6.0), ((1, 0, 0), 0.0)]
)
@pytest.mark.parametrize("origin", [0.0, 3.0])
def test_map_stands_where_axis_and_origin_say(tmp_path, axis, height, origin):
    path = write_map(tmp_path / "ball.mrc")
    shift = tuple(origin * part for part in axis)
    body = read_body(path, axis=axis, origin_nm=shift, level=0.5)
    normal = np.array([2.0, -1.0, 2.0]) / 3
    site = Site(np.array([31.3, 30.2, 29.9]), normal, "map", 0.0, 0.7)
    drawn = np.zeros((60, 60, 60), np.float32)
    _, mask = insert(drawn, site, body, voxel_nm=1.0)
    found = np.array(ndimage.center_of_mass(drawn)) - site.place_nm
    assert found @ normal == pytest.approx(height - origin, abs=0.1)
    assert np.linalg.norm(found) == pytest.approx(
        np.hypot(6.0, 0) if origin == 0 else np.linalg.norm(found), abs=0.1
    )
    assert mask.sum() == pytest.approx(4 / 3 * np.pi * 64, rel=0.1)
    assert 0 < drawn.max() <= 1


def test_map_keeps_its_size_at_any_voxel(tmp_path):
    body = read_body(
        write_map(tmp_path / "ball.mrc", voxel_nm=2.0, at=(0, 0, 0)),
        axis=(1, 0, 0),
        origin_nm=(0, 0, 0),
        level=0.5,
    )
    site = Site(np.full(3, 40.0), UP, "map")
    for voxel_nm in (1.0, 2.5):
        drawn = np.zeros((round(80 / voxel_nm),) * 3, np.float32)
        _, mask = insert(drawn, site, body, voxel_nm=voxel_nm)
        assert mask.sum() * voxel_nm**3 == pytest.approx(4 / 3 * np.pi * 8**3, rel=0.1)


def test_what_is_not_a_map_is_refused(tmp_path):
    (tmp_path / "text.mrc").write_text("no map")
    with pytest.raises(Refused, match=r"text.mrc: expected"):
        read_body(tmp_path / "text.mrc", axis=(1, 0, 0), origin_nm=(0, 0, 0), level=1)


def test_turned_axes_of_a_map_are_put_right(tmp_path):
    path = write_map(tmp_path / "ball.mrc", at=(0, 0, 6))
    plain = read_body(path, axis=(0, 0, 1), origin_nm=(0, 0, 0), level=0.5)
    with mrcfile.open(path, mode="r+") as file:  # columns run along z, sections along x
        file.set_data(np.ascontiguousarray(file.data.transpose(2, 1, 0)))
        file.header.mapc, file.header.mapr, file.header.maps = 3, 2, 1
    turned = read_body(path, axis=(0, 0, 1), origin_nm=(0, 0, 0), level=0.5)
    site = Site(np.full(3, 20.0), UP, "map")
    assert turned.extent(site) == plain.extent(site)


@pytest.mark.parametrize("edges", [0.0, (10.0, 10.0, 12.0)])
def test_map_without_cubic_voxels_is_refused(tmp_path, edges):
    path = write_map(tmp_path / "ball.mrc")
    with mrcfile.open(path, mode="r+") as file:
        file.voxel_size = edges
    with pytest.raises(Refused, match=r"machines.map: expected cubic voxels"):
        read_body(path, axis=(1, 0, 0), origin_nm=(0, 0, 0), level=1)


def test_map_without_a_path_is_refused():
    full = config.filled({"machines": {"kind": "map"}}, "phantom-minicell", "simulate", "")
    with pytest.raises(Refused, match=r"machines.map: expected the path of a map"):
        bodies(Machines(**full["machines"]))


@pytest.mark.skipif("TOMOGLEAN_DATA" not in os.environ, reason="real data are not here")
@pytest.mark.parametrize("name", ["atpase", "6rd4_mbz_align_shift", "4v4r"])
def test_real_maps_come_in(name):
    path = Path(os.environ["TOMOGLEAN_DATA"]) / "em_maps" / f"{name}.mrc"
    body = read_body(path, axis=(1, 0, 0), origin_nm=(0, 0, 0), level=None)
    site = Site(np.full(3, 80.0), UP, "map")
    drawn = np.zeros((90, 90, 90), np.float32)
    _, mask = insert(drawn, site, body, voxel_nm=1.8)
    assert 0.5 < drawn.max() <= 1
    # Complexes of 10-30 nm: a few thousand cubic nanometres.
    assert 500 < mask.sum() * 1.8**3 < 30000
