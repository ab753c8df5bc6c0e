"""The envelope is where its functions say: distances, gaps, sites, dimples."""

import dataclasses

import numpy as np
import pytest

from tomoglean import config
from tomoglean.provenance import Refused
from tomoglean.simulators.minicell.decoys import Decoys
from tomoglean.simulators.minicell.envelope import Cell, Envelope, draw
from tomoglean.simulators.minicell.scene import Field
from tomoglean.simulators.minicell.shapes import Ellipsoid, Rod
from tomoglean.simulators.minicell.sites import Machines, in_envelope, in_ice
from tomoglean.simulators.waves import Waves

SIZE_NM = np.array([230.4, 316.8, 316.8])
FLAT = Waves(np.zeros((1, 3)), np.zeros(1), 0.0)


def settings(group, **changes):
    kinds = {"cell": Cell, "machines": Machines, "decoys": Decoys}
    full = config.filled({group: changes}, "phantom-minicell", "simulate", "")
    return kinds[group](**full[group])


def populated(name="one", number=(3,), decoys=6, seed=1, **cell):
    envelope = draw(seed, name, settings("cell", **cell), size_nm=SIZE_NM)
    machines = settings("machines", number=list(number))
    return in_envelope(
        seed, name, envelope, machines, settings("decoys", number=decoys), SIZE_NM
    )


@pytest.fixture(scope="module")
def cell():
    return populated()


def brute_distance(shape, points, number=400):
    """Distance to a dense cloud of points of an ellipsoid with axes z, y, x."""
    theta = np.linspace(0, np.pi, number)[:, None]
    phi = np.linspace(0, 2 * np.pi, 2 * number)[None, :]
    unit = np.stack(
        np.broadcast_arrays(
            np.cos(theta), np.sin(theta) * np.sin(phi), np.sin(theta) * np.cos(phi)
        ),
        -1,
    ).reshape(-1, 3)
    cloud = unit * shape.axes_nm @ shape.rotation
    return np.array([np.linalg.norm(cloud - p, axis=1).min() for p in points])


def test_distance_to_a_ball_is_exact():
    ball = Ellipsoid(np.full(3, 100.0), np.eye(3))
    rng = np.random.default_rng(0)
    points = rng.standard_normal((50, 3)) * 80
    expected = np.linalg.norm(points, axis=1) - 100
    np.testing.assert_allclose(ball.nearest(*points.T)[0], expected, atol=1e-3)


@pytest.mark.parametrize("off", [-20.0, -5.0, 5.0, 20.0, 40.0])
def test_distance_to_a_flat_ellipsoid_is_good_near_its_surface(off):
    shape = Ellipsoid(np.array([110.0, 140.0, 176.0]), np.eye(3))
    rng = np.random.default_rng(1)
    surface = np.array([shape.somewhere(rng) for _ in range(12)])
    normals = surface / shape.axes_nm**2
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    points = surface + off * normals
    # The cloud has a point within about 0.7 nm; beyond 5 nm that changes 0.1 nm at most.
    expected = np.sign(off) * brute_distance(shape, points)
    np.testing.assert_allclose(shape.nearest(*points.T)[0], expected, atol=0.35)


def test_distance_to_a_rod_is_exact():
    rod = Rod(50.0, 200.0, np.array([0.0, 0.0, 1.0]))
    assert rod.nearest(0.0, 80.0, 100.0)[0] == pytest.approx(30.0, abs=1e-4)
    assert rod.nearest(0.0, 0.0, 270.0)[0] == pytest.approx(20.0, abs=1e-4)
    assert rod.nearest(30.0, 0.0, -100.0)[0] == pytest.approx(-20.0, abs=1e-4)


def test_places_on_a_ball_are_uniform():
    ball = Ellipsoid(np.full(3, 100.0), np.eye(3))
    rng = np.random.default_rng(2)
    up = np.array([ball.somewhere(rng)[0] for _ in range(3000)]) / 100
    # On a ball the height is uniform (Archimedes).
    assert np.mean(up) == pytest.approx(0, abs=0.04)
    assert np.mean(np.abs(up)) == pytest.approx(0.5, abs=0.02)


def test_places_on_an_ellipsoid_are_uniform_by_area():
    flat = Ellipsoid(np.array([50.0, 100.0, 100.0]), np.eye(3))
    rng = np.random.default_rng(3)
    high = np.mean([abs(flat.somewhere(rng)[0]) < 25 for _ in range(4000)])
    t = np.linspace(0, np.pi, 20001)
    ring = np.sin(t) * np.hypot(50 * np.sin(t), 100 * np.cos(t))
    belt = np.abs(np.cos(t)) < 0.5
    assert high == pytest.approx(ring[belt].sum() / ring.sum(), abs=0.025)


def test_places_on_a_rod_are_uniform_by_area():
    rod = Rod(50.0, 150.0, np.array([0.0, 0.0, 1.0]))
    rng = np.random.default_rng(4)
    places = np.array([rod.somewhere(rng) for _ in range(3000)])
    np.testing.assert_allclose(rod.nearest(*places.T)[0], 0, atol=1e-3)
    caps = np.mean(np.abs(places[:, 2]) > 150)
    assert caps == pytest.approx(100 / 400, abs=0.03)
    assert np.mean(np.abs(places[:, 2]) < 75) == pytest.approx(0.75 / 2, abs=0.03)


def test_membranes_are_half_the_gap_from_the_middle_surface():
    ball = Ellipsoid(np.full(3, 90.0), np.eye(3))
    envelope = Envelope(np.full(3, 120.0), ball, FLAT, FLAT, 33.0)
    outer, inner = envelope.at(np.array([[120.0, 120.0, 120 + 90 + 16.5]]))
    assert outer[0] == pytest.approx(0, abs=1e-3)
    assert inner[0] == pytest.approx(33, abs=1e-3)


def test_planes_and_points_tell_the_same(cell):
    envelope, _ = cell
    y, x = np.arange(20, 300, 7.0), np.arange(30, 290, 6.0)
    outer, inner = envelope.plane(100.0, y, x)
    grid = np.stack(np.broadcast_arrays(100.0, y[:, None], x[None, :]), -1).reshape(-1, 3)
    expected = envelope.at(grid)
    np.testing.assert_allclose(outer.ravel(), expected[0], atol=0.01)
    np.testing.assert_allclose(inner.ravel(), expected[1], atol=0.01)


def test_origins_lie_exactly_midway_between_the_membranes(cell):
    envelope, sites = cell
    for site in sites:
        top, _ = envelope.at((site.place_nm + site.gap_nm / 2 * site.normal)[None])
        _, bottom = envelope.at((site.place_nm - site.gap_nm / 2 * site.normal)[None])
        assert abs(top[0]) < 1e-3
        assert abs(bottom[0]) < 1e-3


def test_axes_are_the_normals_of_both_membranes(cell):
    envelope, sites = cell
    step = 0.5 * np.eye(3)
    for site in sites:
        for side, sign in ((0, 0.5), (1, -0.5)):
            place = site.place_nm + sign * site.gap_nm * site.normal
            ahead, behind = envelope.at(place + step)[side], envelope.at(place - step)[side]
            slope = (ahead - behind) / np.linalg.norm(ahead - behind)
            assert slope @ site.normal > np.cos(np.radians(6))


def test_axes_point_outward_and_have_unit_length(cell):
    envelope, sites = cell
    for site in sites:
        assert np.linalg.norm(site.normal) == pytest.approx(1)
        assert (site.place_nm - envelope.centre_nm) @ site.normal > 0


def test_gap_stays_within_its_limits_at_every_site():
    gaps = [site.gap_nm for i in range(12) for site in populated(f"c{i}")[1]]
    assert min(gaps) > 25.5
    assert max(gaps) < 36.5
    assert np.mean(gaps) == pytest.approx(33, abs=0.8)


def test_gap_is_drawn_alike_for_machines_and_decoys():
    sites = [site for i in range(15) for site in populated(f"d{i}", decoys=4)[1]]
    mine = np.array([site.gap_nm for site in sites if site.kind == "t3ss"])
    other = np.array([site.gap_nm for site in sites if site.kind != "t3ss"])
    above = (mine[:, None] > other[None]).mean()
    assert above == pytest.approx(0.5, abs=0.15)


def test_distance_grows_one_to_one_near_the_membranes(cell):
    envelope, _ = cell
    rng = np.random.default_rng(0)
    for _ in range(20):
        place = envelope.settled_place(envelope.centre_nm + envelope.shape.somewhere(rng))
        normal = envelope.normal(place)
        outer, _ = envelope.at(place + np.array([[10.0], [30.0]]) * normal)
        assert np.diff(outer)[0] == pytest.approx(20, rel=0.02)


def test_nearest_point_lies_on_the_surface_straight_below():
    shape = Ellipsoid(np.array([110.0, 130.0, 150.0]), np.eye(3))
    surface = shape.somewhere(np.random.default_rng(0))
    normal = surface / shape.axes_nm**2
    normal /= np.linalg.norm(normal)
    _, place = shape.nearest(*(surface + 15 * normal)[:, None])
    np.testing.assert_allclose(np.ravel(place), surface, atol=0.5)


def test_bend_is_the_curvature_of_a_ball():
    ball = Ellipsoid(np.full(3, 100.0), np.eye(3))
    envelope = Envelope(np.zeros(3), ball, FLAT, FLAT, 33.0)
    assert envelope.bend(np.array([0.0, 0.0, 100.0])) == pytest.approx(0.01, rel=0.02)


def test_sites_keep_their_distance(cell):
    places = np.array([site.place_nm for site in cell[1]])
    gaps = np.linalg.norm(places[:, None] - places, axis=-1)
    assert np.min(gaps[np.triu_indices(len(places), 1)]) > 44


def test_two_of_five_cells_are_empty():
    default = settings("machines").number
    numbers = [
        sum(site.kind == "t3ss" for site in populated(f"n{i}", default, decoys=0)[1])
        for i in range(80)
    ]
    assert np.mean(np.equal(numbers, 0)) == pytest.approx(0.4, abs=0.15)
    assert set(numbers) == {0, 1, 2, 3}


def test_all_decoy_kinds_take_turns():
    kinds = settings("decoys").kinds
    _, sites = populated("turns", (0,), decoys=len(kinds) // 2)
    others = [other.kind for i in range(12) for other in populated(f"t{i}", (0,))[1]]
    assert {site.kind for site in sites} | set(others) == set(kinds)
    assert set(kinds) >= {
        *("ribosome", "motor", "array", "vesicle", "base_without_needle"),
        *("base_without_platform", "fold", "gold", "ice", "empty"),
    }


def test_where_motors_are_looked_for_injectisomes_are_decoys():
    envelope = draw(1, "one", settings("cell"), size_nm=SIZE_NM)
    machines = settings("machines", number=[2], kind="motor")
    decoys = settings("decoys", number=8, kinds=["motor", "array"])
    _, sites = in_envelope(1, "one", envelope, machines, decoys, SIZE_NM)
    kinds = [site.kind for site in sites]
    assert kinds.count("motor") == 2
    assert kinds.count("t3ss") == kinds.count("array") == 4


def test_gold_floats_in_the_ice_clear_of_the_cell(cell):
    decoys = settings("decoys", gold=20, ice=4)
    sites = in_ice(1, "one", cell[0], decoys, size_nm=SIZE_NM, ice_nm=200.0)
    gold = np.array([site.place_nm for site in sites if site.kind == "gold"])
    assert len(gold) == 60
    assert cell[0].at(gold)[0].min() > 10
    assert np.abs(gold[:, 0] - SIZE_NM[0] / 2).max() <= 100
    assert gold[:, 2].min() < 0
    assert gold[:, 2].max() > SIZE_NM[2]


def test_ice_lies_on_the_surfaces(cell):
    decoys = settings("decoys", gold=0, ice=5)
    sites = in_ice(1, "one", cell[0], decoys, size_nm=SIZE_NM, ice_nm=190.0)
    high = np.array([site.place_nm[0] for site in sites])
    np.testing.assert_allclose(np.abs(high - SIZE_NM[0] / 2), 95.0)


def test_same_keys_give_the_same_cell(cell):
    again, sites = populated()
    assert repr(sites) == repr(cell[1])
    np.testing.assert_array_equal(again.centre_nm, cell[0].centre_nm)


@pytest.mark.parametrize("other", [{"seed": 2}, {"name": "two"}])
def test_another_seed_or_name_gives_another_cell(cell, other):
    assert repr(populated(**other)[1]) != repr(cell[1])


def test_cell_larger_than_the_field_is_refused():
    with pytest.raises(Refused, match=r"enlarge field.shape_px or lower cell.diameter_nm"):
        draw(1, "one", settings("cell"), size_nm=np.full(3, 150.0))


def test_cell_too_thin_for_its_envelope_is_refused():
    with pytest.raises(Refused, match=r"raise cell.diameter_nm"):
        draw(1, "one", settings("cell", diameter_nm=[101, 120]), size_nm=SIZE_NM)


def test_more_sites_than_room_are_refused():
    with pytest.raises(Refused, match=r"lower machines.number or decoys.number"):
        populated("one", (60,), decoys=60)


def test_a_rod_may_reach_beyond_the_field_and_its_sites_do_not():
    envelope, sites = populated(shape="rod", diameter_nm=[190, 200], length_nm=[900, 1000])
    assert isinstance(envelope.shape, Rod)
    for site in sites:
        assert np.all(site.place_nm >= 0)
        assert np.all(site.place_nm <= SIZE_NM)


def test_settings_and_schema_have_the_same_keys():
    groups = config.read_schema("phantom-minicell")["properties"]
    for group, kind in (
        ("field", Field),
        ("cell", Cell),
        ("machines", Machines),
        ("decoys", Decoys),
    ):
        keys = {field.name for field in dataclasses.fields(kind)}
        assert keys == set(groups[group]["properties"])


@pytest.mark.parametrize("kind", ["t3ss", "motor", "empty", "gold"])
def test_what_stands_at_a_site_changes_neither_its_place_nor_its_gap(kind):
    """The label cannot be read off the envelope: blanks are dimpled as machines are."""
    envelope = draw(1, "one", settings("cell"), size_nm=SIZE_NM)
    found = []
    for one in (kind, "ribosome"):
        machines = settings("machines", number=[0])
        decoys = settings("decoys", number=5, kinds=[one])
        _, sites = in_envelope(1, "one", envelope, machines, decoys, SIZE_NM)
        found.append([(*site.place_nm, *site.normal, site.gap_nm) for site in sites])
    np.testing.assert_array_equal(*found)


def test_dimple_is_local():
    envelope, sites = populated(number=(1,), decoys=0)
    bare = dataclasses.replace(envelope, dimples=())
    away = sites[0].place_nm + 80 * np.eye(3)
    np.testing.assert_allclose(envelope.at(away), bare.at(away), atol=0.01)


def test_gap_varies_as_much_as_asked_for():
    envelope = draw(1, "one", settings("cell", gap_spread_nm=2.0), size_nm=SIZE_NM)
    rng = np.random.default_rng(0)
    places = [envelope.centre_nm + envelope.shape.somewhere(rng) for _ in range(400)]
    outer, inner = envelope.at(places)
    # One cell is a few wavelengths around: its spread is that of the field within a half.
    assert np.mean(inner - outer) == pytest.approx(33, abs=1.5)
    assert 1.0 < np.std(inner - outer) < 3.0


def test_undulations_do_not_change_along_a_normal():
    envelope = draw(1, "one", settings("cell"), size_nm=SIZE_NM)
    place = envelope.centre_nm + envelope.shape.somewhere(np.random.default_rng(1))
    along = place + np.linspace(-16, 16, 5)[:, None] * envelope.normal(place)
    outer, inner = envelope.at(along)
    assert np.ptp(inner - outer) < 0.5


def test_shortest_axis_of_a_cell_is_nearest_to_z():
    for index in range(6):
        cell = settings("cell", axis_ratio=[1.3, 1.5], diameter_nm=[250, 260])
        shape = draw(1, f"thin{index}", cell, size_nm=np.full(3, 400.0)).shape
        assert isinstance(shape, Ellipsoid)
        shortest = shape.rotation[np.argmin(shape.axes_nm)]
        assert abs(shortest[0]) > np.cos(np.radians(12.1))


@pytest.mark.parametrize("ratio", [1.0, 1.5])
def test_diameter_and_axis_ratio_are_those_asked_for(ratio):
    cell = settings("cell", axis_ratio=[ratio, ratio], diameter_nm=[260, 260])
    envelope = draw(1, "one", cell, size_nm=np.full(3, 400.0))
    outer = envelope.shape.axes_nm + 16.5
    assert 2 * outer.max() == pytest.approx(260)
    assert outer.max() / outer.min() == pytest.approx(ratio)
