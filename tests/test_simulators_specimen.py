"""The implant specimen: its surfaces are where they are said to be, and it stays itself."""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy import special

from tomoglean import config, measures
from tomoglean.provenance import Refused
from tomoglean.simulators.implant import bone as surroundings
from tomoglean.simulators.implant import quantities, specimen
from tomoglean.simulators.implant.bone import Bone, Pores
from tomoglean.simulators.implant.corrosion import Corrosion
from tomoglean.simulators.implant.looks import Cloud, Sheet
from tomoglean.simulators.implant.screw import Pose, Screw, posed
from tomoglean.simulators.implant.skin import lattice, skin, spread, steepness
from tomoglean.simulators.implant.specimen import MATERIALS, Field, Plane, Specimen
from tomoglean.simulators.waves import band
from tomoglean.volumes import Volume

GROUPS = {"field": Field, "screw": Screw, "corrosion": Corrosion, "bone": Bone}
TINY = {
    "field": {"shape_px": [16, 48, 48]},
    "screw": {"radius_um": 75.0, "core_um": 60.0, "pitch_um": 45.0},
    "corrosion": {"weeks": 2.0},
}
# A plain cylinder of 100 um (20 voxels), upright in the middle, without anything uneven.
CYLINDER = {
    "field": {"shape_px": [24, 72, 72]},
    "screw": {"radius_um": 100.0, "core_um": 100.0, "tilt_deg": 0.0, "offset_um": 0.0},
    "corrosion": {
        "weeks": 4.0,
        "unevenness": 0.0,
        "pitting": 1.0,
        "gas_pores_per_mm2": 0.0,
    },
}


def grow(base=TINY, **changes):
    """Grow a specimen, the same settings only once."""
    return grown(json.dumps([base, changes], sort_keys=True))


@cache
def grown(text):
    base, changes = json.loads(text)
    seed, name = changes.pop("seed", 1), changes.pop("name", "one")
    blocks = {k: {**base.get(k, {}), **changes.get(k, {})} for k in GROUPS}
    full = config.filled(blocks, "phantom-implant", "simulate", "")
    return Specimen.grow(seed, name, **{k: G(**full[k]) for k, G in GROUPS.items()})


@pytest.fixture(scope="module")
def tiny():
    return grow()


@pytest.fixture(scope="module")
def cylinder():
    return grow(CYLINDER)


def slabs(one, voxel_um=None):
    voxel_um = voxel_um or one.field.voxel_um
    z, y, x = replace(one.field, voxel_um=voxel_um).axes_um
    return np.stack([specimen.shares(one.plane(h, y, x), voxel_um) for h in z], axis=1)


@pytest.fixture(scope="module")
def tiny_shares(tiny):
    return slabs(tiny)


# ---- the screw ----------------------------------------------------------------------


def profile(screw, depth=0.0):
    s = np.linspace(-100, 100, 20001)[:, None]
    return s[:, 0], screw.surface(s, np.zeros((1, 1)), depth)[:, 0]


def test_crest_and_root_take_their_shares_of_the_pitch(tiny):
    s, radius = profile(tiny.screw)
    turn = np.abs(s) <= 45
    assert np.mean(radius[turn] > 75 - 1e-9) == pytest.approx(0.125, abs=1e-3)
    assert np.mean(radius[turn] < 60 + 1e-9) == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize("depth", [-8.0, 3.0])
def test_every_face_of_the_thread_moves_along_its_normal(tiny, depth):
    s, old = profile(tiny.screw)
    _, new = profile(tiny.screw, depth)
    moved = np.abs(np.gradient(new, s)) > 0.1
    flank = moved & (np.abs(np.gradient(old, s)) > 0.1)
    slope = 15 / (0.625 * 45 / 2)
    assert np.median((old - new)[flank]) == pytest.approx(depth * np.hypot(1, slope))
    assert new.max() == pytest.approx(75 - depth, abs=1e-6)
    assert new.min() == pytest.approx(60 - depth, abs=1e-6)


def test_thread_is_right_handed():
    one = grow(screw={"tilt_deg": 0.0, "offset_um": 0.0})
    inward = 70.0
    angle = np.linspace(0, 2 * np.pi, 13)[:-1]
    heights = np.linspace(-22.5, 22.5, 181)

    def crest(turned):
        at = [(h, inward * np.sin(turned), inward * np.cos(turned)) for h in heights]
        # Circular mean over one pitch of where the point lies inside the initial screw.
        s, turns, rho = one.pose.seen(Cloud(np.array(at)))
        inside = rho < one.screw.surface(s, turns - one.pose.turn)
        return np.angle(np.sum(inside * np.exp(2j * np.pi * heights / 45)))

    # Seen from above (x right, y up) a right-handed thread rises anticlockwise.
    steps = np.diff(np.unwrap([crest(a) for a in angle]))
    np.testing.assert_allclose(steps, 2 * np.pi / 12, atol=0.1)


def test_head_and_tip_end_the_screw():
    screw = replace(grow().screw, head_at_um=20.0, tip_at_um=-60.0)
    s, radius = profile(replace(screw, head_radius_um=90.0, head_height_um=50.0))
    assert radius.max() == pytest.approx(90, abs=0.1)
    assert np.all(radius[s < -60] <= 0)
    assert np.all(radius[s > 70] <= 0)
    assert radius[np.searchsorted(s, -50)] == pytest.approx(10, abs=0.1)


def test_cylindrical_coordinates_go_both_ways(tiny):
    points = np.random.default_rng(0).uniform(-80, 80, (50, 3))
    s, turns, rho = tiny.pose.seen(Cloud(points))
    np.testing.assert_allclose(tiny.pose.placed(s, turns, rho), points, atol=1e-3)


def test_tilt_stays_within_its_setting():
    screw = replace(grow().screw, tilt_deg=3.0)
    for name in "abcdef":
        cosine = posed(1, name, screw).rows[2, 0]
        assert np.degrees(np.arccos(cosine)) <= 3.0


# ---- tables and looks ------------------------------------------------------------------


def test_table_is_linear_between_nodes_and_goes_round():
    nodes = lattice(10, 10, 1.0)
    one = skin(nodes, up=nodes.s_um + 0 * nodes.turns, about=np.cos(
        2 * np.pi * nodes.turns) + 0 * nodes.s_um)  # fmt: skip
    s, turns = np.array([3.25, -7.5, 50.0]), np.array([0.999, -0.25, 0.5])
    found = one.at(s.astype(np.float32), turns.astype(np.float32))
    np.testing.assert_allclose(found["up"], [3.25, -7.5, 10], atol=2e-2)
    np.testing.assert_allclose(found["about"], np.cos(2 * np.pi * turns), atol=5e-3)


def test_smooth_field_is_the_same_by_splines_as_node_by_node():
    waves = band(np.random.default_rng(1), 60.0)
    nodes = lattice(40, 50, 1.0)
    by_splines = spread(waves, nodes, 50.0, 60.0)
    assert np.abs(by_splines - spread(waves, nodes, 50.0, 1.0)).max() < 0.02


def test_steepness_of_a_cone():
    nodes = lattice(20, 30, 0.5)
    np.testing.assert_allclose(
        steepness(30 + 0.75 * nodes.s_um + 0 * nodes.turns, nodes), 1.25, rtol=1e-6
    )


def test_plane_and_points_show_the_same(tiny):
    y, x = np.array([-55.0, 3.0, 60.0]), np.array([-70.0, 5.0])
    points = np.array([[12.5, b, a] for b in y for a in x])
    sheet, cloud = tiny.plane(12.5, y, x), tiny.at(points)
    for body in ("metal", "layer", "bone", "gas", "block"):
        there = getattr(sheet, body)
        np.testing.assert_allclose(there.ravel(), getattr(cloud, body), atol=5e-3)


def test_steepness_of_a_field_is_its_gradient():
    waves = band(np.random.default_rng(2), 40.0)
    points = np.random.default_rng(3).uniform(-50, 50, (20, 3))
    steps = [(waves.at(points + d) - waves.at(points - d)) / 2e-3 for d in 1e-3 * np.eye(3)]
    np.testing.assert_allclose(
        Cloud(points).steepness(waves), np.linalg.norm(steps, axis=0), rtol=1e-4
    )
    sheet = Sheet(points[0, 0], points[:1, 1], points[:1, 2]).steepness(waves)
    assert sheet[0, 0] == pytest.approx(np.linalg.norm(steps, axis=0)[0], rel=1e-3)


# ---- the whole -------------------------------------------------------------------------


def test_same_keys_give_the_same_bytes_and_others_do_not(tiny):
    z, y, x = tiny.field.axes_um
    first = tiny.plane(z[3], y, x).bone.tobytes()
    assert grow().plane(z[3], y, x).bone.tobytes() == first
    assert grow(name="two").plane(z[3], y, x).bone.tobytes() != first
    assert grow(seed=2).plane(z[3], y, x).bone.tobytes() != first


def test_specimen_does_not_depend_on_the_voxels(tiny):
    fine = grow(field={"shape_px": [32, 96, 96], "voxel_um": 2.5})
    y = x = np.linspace(-100, 100, 21)
    for body in ("metal", "layer", "bone", "gas"):
        np.testing.assert_array_equal(
            getattr(fine.plane(7.0, y, x), body), getattr(tiny.plane(7.0, y, x), body)
        )


def test_part_of_a_plane_is_the_same_as_in_the_whole(tiny):
    z, y, x = tiny.field.axes_um
    whole, part = tiny.plane(z[5], y, x), tiny.plane(z[5], y[10:30], x[5:40])
    np.testing.assert_allclose(part.bone, whole.bone[10:30, 5:40], atol=1e-3)
    np.testing.assert_array_equal(part.metal, whole.metal[10:30, 5:40])


def test_shares_fill_every_voxel(tiny_shares):
    assert tiny_shares.shape[0] == len(MATERIALS)
    assert tiny_shares.min() >= 0
    np.testing.assert_allclose(tiny_shares.sum(axis=0), 1, atol=1e-5)


def test_every_material_but_air_is_in_the_field(tiny_shares):
    present = tiny_shares.max(axis=(1, 2, 3)) > 0.9
    assert list(present[:5]) == [False, True, True, True, True]


def test_air_begins_where_the_block_ends():
    one = grow(bone={"block_um": 90.0})
    _, y, x = one.field.axes_um
    shares = specimen.shares(one.plane(0.0, y, x), 5.0)
    radius = np.hypot(y[:, None], x)
    assert np.all(shares[specimen.AIR][radius > 95] == 1)
    assert np.all(shares[specimen.AIR][radius < 85] == 0)


def test_precedence_is_implant_gas_bone_marrow():
    def plane(**inside):
        names = ("metal", "layer", "bone", "gas", "block")
        found = {
            n: np.full((1, 1), -9.0 if n in inside else 9.0, np.float32) for n in names
        }
        return specimen.shares(Plane(**found), 1.0)[:, 0, 0]

    everything = dict.fromkeys(("metal", "layer", "bone", "gas", "block"), True)
    for winner, gone in (
        ("residual_metal", "metal"),
        ("degradation_layer", "layer"),
        ("gas", "gas"),
        ("bone", "bone"),
        ("marrow", "block"),
        ("air", None),
    ):
        assert plane(**everything)[MATERIALS.index(winner)] == 1
        everything.pop(gone, None)


def test_screw_that_does_not_fit_is_refused():
    with pytest.raises(Refused, match=r"enlarge field\.shape_px or field\.voxel_um"):
        grow(screw={"radius_um": 200.0})


@pytest.mark.parametrize("ends", [{"tip_at_um": 1000.0}, {"head_at_um": -1000.0}])
def test_screw_beside_the_field_is_refused(ends):
    with pytest.raises(Refused, match="expected some of the screw"):
        grow(screw={"head_radius_um": 80.0, **ends})


def test_core_beyond_the_crest_is_refused():
    with pytest.raises(Refused, match="make the core thinner"):
        grow(screw={"core_um": 80.0})


def test_screw_that_is_gone_is_refused():
    with pytest.raises(Refused, match="fewer weeks"):
        grow(corrosion={"weeks": 500.0})


@pytest.mark.parametrize("key", list(GROUPS))
def test_group_of_the_schema_is_a_dataclass(key):
    schema = config.read_schema("phantom-implant")["properties"][key]["properties"]
    assert list(schema) == list(GROUPS[key].__dataclass_fields__)
    for leaf in schema.values():
        assert {"description", "unit", "source", "type", "default"} <= set(leaf)


# ---- corrosion -------------------------------------------------------------------------


@pytest.mark.parametrize("weeks", [1.0, 3.0])
def test_loss_is_rate_times_time(weeks):
    one = grow(corrosion={"weeks": weeks, "pitting": 1.0})
    found = one.corroded
    area = np.mean(found.initial_um * steepness(found.initial_um, found.nodes))
    lost = np.mean(found.initial_um**2 - np.maximum(found.metal_um, 0) ** 2) / 2
    assert lost / area == pytest.approx(300 * weeks / (365.25 / 7), rel=5e-3)


def test_screw_as_made_has_no_layer():
    shares = slabs(grow(corrosion={"weeks": 0.0}))
    assert shares[specimen.DEGRADATION_LAYER].max() == 0


def test_loss_at_weeks_of_the_sheet():
    for weeks, loss in ((4, 23), (8, 46), (12, 69)):
        made = grow(corrosion={"weeks": 2.0}).corrosion
        assert replace(made, weeks=weeks).loss_um == pytest.approx(loss, abs=0.5)


def test_later_scan_shows_the_same_specimen_with_less_metal():
    early, late = (
        grow(name=f"week-{w}", corrosion={"weeks": w, "specimen": "rat"})
        for w in (1.0, 2.5)
    )
    assert np.all(late.corroded.metal_um < early.corroded.metal_um)
    assert np.all(late.corroded.layer_um > early.corroded.layer_um)
    np.testing.assert_array_equal(late.corroded.initial_um, early.corroded.initial_um)
    np.testing.assert_array_equal(late.pose.rows, early.pose.rows)


def test_pits_only_take_metal_and_are_as_deep_as_asked():
    pitted, plain = (grow(corrosion={"pitting": p}).corroded for p in (3.0, 1.0))
    extra = pitted.depth_um - plain.depth_um
    assert extra.min() >= 0
    loss = grow().corrosion.loss_um
    assert 0.6 * 2 * loss < extra.max() <= 2 * loss
    assert np.all(pitted.metal_um <= plain.metal_um)


def test_layer_is_uneven_by_its_setting():
    def unlike(value):
        depth = grow(corrosion={"unevenness": value, "pitting": 1.0}).corroded.depth_um
        return depth.std() / depth.mean()

    assert unlike(0.0) < 1e-6
    assert unlike(0.2) == pytest.approx(0.2, abs=0.06)
    assert unlike(0.6) > 2 * unlike(0.2)


# ---- surroundings ----------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [0.1, 0.3])
def test_trabeculae_have_the_volume_and_thickness_asked_for(fraction):
    bone = replace(grow().bone, volume_fraction=fraction, trabecula_um=20.0)
    draws = [surroundings.trabeculae(seed, "x", bone) for seed in range(5)]
    points = np.random.default_rng(0).uniform(-400, 400, (6000, 3))
    inside = np.mean([np.mean(one.distance(Cloud(points)) < 0) for one in draws])
    assert inside == pytest.approx(fraction, rel=0.12)
    values = np.concatenate([np.abs(d.plates.at(points)) for d in draws])
    assert np.mean(values < draws[0].thin) == pytest.approx(fraction / 0.8, rel=0.1)
    # Thickness = 2 V / S, and S from the share of a thin skin on either side of the level.
    plates = np.concatenate(
        [(np.abs(d.plates.at(points)) - d.thin) / Cloud(points).steepness(d.plates)
         for d in draws]
    )  # fmt: skip
    area = np.mean(np.abs(plates) < 0.5)
    assert 2 * np.mean(values < draws[0].thin) / area == pytest.approx(20, rel=0.12)


@pytest.mark.parametrize("contact", [0.0, 0.35, 1.0])
def test_bone_touches_just_the_share_asked_for(contact):
    one = grow(bone={"contact": contact}, corrosion={"gas_pores_per_mm2": 0.0})
    layer = quantities.Surface(one, one.corroded.layer_um)
    gaps, areas = quantities.contact_gaps(one, layer)
    assert areas[gaps == 0].sum() / areas.sum() == pytest.approx(contact, abs=0.01)


def test_no_bone_stands_in_the_gap():
    one = grow(bone={"contact": 0.0, "gap_um": 15.0, "volume_fraction": 0.6})
    nodes, pose = one.corroded.nodes, one.pose
    for away in (0.5, 7.0):
        reach = one.corroded.layer_um + away
        points = pose.placed(nodes.s_um, nodes.turns, reach)[::40, ::20].reshape(-1, 3)
        bare = one.met.gap_um[::40, ::20].ravel() > 14.9
        assert bare.any()
        assert np.all(one.at(points[bare]).bone > 0)


def test_voxel_between_layer_and_touching_bone_holds_no_marrow():
    one = grow(CYLINDER, bone={"contact": 1.0, "shell_um": 40.0, "cortical_at_um": None})
    radius = one.corroded.layer_um.mean()
    x = radius + np.linspace(-6, 6, 49)
    shares = specimen.shares(one.plane(0.0, np.zeros(1), x), 5.0)[:, 0]
    assert shares[specimen.MARROW].max() < 1e-6
    np.testing.assert_allclose(shares[specimen.BONE], np.clip(
        0.5 + (x - radius) / 5, 0, 1), atol=0.02)  # fmt: skip


def test_pore_is_a_ball_on_a_plane_and_at_points():
    pores = Pores(np.array([[1.0, 2.0, -3.0]]), np.array([6.0]))
    axis = np.linspace(-12, 12, 25)
    flat = pores.distance(Sheet(3.0, axis, axis))
    exact = np.sqrt(4 + (axis[:, None] - 2) ** 2 + (axis + 3) ** 2) - 6
    np.testing.assert_allclose(flat, np.minimum(exact, 20), atol=1e-4)
    assert pores.distance(Cloud(np.array([[1.0, 2.0, -3.0]])))[0] == pytest.approx(-6)


def test_gas_gathers_where_bone_does_not_touch():
    one = grow(corrosion={"gas_pores_per_mm2": 600.0})
    s, turns, _ = one.pose.seen(Cloud(one.pores.centres_um))
    nodes = one.corroded.nodes
    row = np.rint((s - nodes.start_um) / nodes.step_um).astype(int)
    column = np.rint(turns % 1 * nodes.columns).astype(int) % nodes.columns
    assert len(row) > 10
    assert np.all(one.met.gap_um[row, column] > 0)


def test_cortical_bone_lies_beyond_its_wall():
    one = grow(bone={"cortical_at_um": 60.0, "volume_fraction": 0.0, "trabecula_um": 5.0})
    wall = one.wall
    normal = np.array([0, np.sin(2 * np.pi * wall.turn), np.cos(2 * np.pi * wall.turn)])
    distance = wall.distance(Cloud(np.array([0.0, 60.0, 90.0])[:, None] * normal))
    assert distance[0] > 50
    assert abs(distance[1]) < 8
    assert distance[2] < -20


# ---- textures --------------------------------------------------------------------------


def test_textures_vary_about_one(tiny):
    z, y, x = tiny.field.axes_um
    factors = tiny.texture(z[4], y, x)
    shares = specimen.shares(tiny.plane(z[4], y, x), 5.0)
    assert factors.shape == shares.shape
    assert factors.min() > 0
    for material in (specimen.BONE, specimen.DEGRADATION_LAYER, specimen.RESIDUAL_METAL):
        inside = factors[material][shares[material] > 0.99]
        assert np.quantile(inside, 0.75) == pytest.approx(1.05, abs=0.12)
        assert inside.std() > 0.02
    assert np.all(factors[[specimen.AIR, specimen.GAS]] == 1)


def test_cracks_are_as_wide_as_asked_and_darken_the_layer(tiny):
    weave = replace(tiny.weave, crack_um=4.0)
    look = Cloud(np.zeros((5, 3)))
    nodes = weave.wear.lattice
    cell = np.array([0.0, 1.9, 3.2, 6.0, 30.0])

    class Fixed:
        def at(self, s, turns):
            zero = np.zeros(5)
            return {"cell": cell, "reach": zero + 2, "split": zero + 9, "slit": zero}

    worn = replace(weave, wear=Fixed()).layer(
        look, cell, cell, cell * 0 + 0.5, cell * 0 + 40
    )
    assert nodes.rows > 1
    np.testing.assert_allclose(worn / worn[-1], [0.25, 0.55, 1, 1, 1], atol=0.01)


# ---- quantities ------------------------------------------------------------------------


def test_cylinder_has_the_volumes_and_areas_of_a_cylinder(cylinder):
    found = quantities.truth(cylinder, samples=256)
    height, loss = 120.0, cylinder.corrosion.loss_um
    # Losing loss times the area of a cylinder leaves r^2 - 2 r loss.
    left = np.sqrt(100**2 - 200 * loss)
    outer = 100 + 0.5 * loss
    assert found["initial_volume_mm3"] == pytest.approx(np.pi * 1e-5 * height, rel=1e-4)
    assert found["residual_metal_mm3"] == pytest.approx(
        np.pi * left**2 * height * 1e-9, rel=1e-3
    )
    assert found["degradation_layer_mm3"] == pytest.approx(
        np.pi * (outer**2 - left**2) * height * 1e-9, rel=2e-3
    )
    area = 2e-6 * np.pi * height
    assert found["initial_area_mm2"] == pytest.approx(area * 100, rel=5e-3)
    assert found["metal_area_mm2"] == pytest.approx(area * left, rel=5e-3)
    assert found["degradation_depth_mm"] == pytest.approx(loss * 1e-3, rel=5e-3)
    assert found["degradation_rate_initial_area_mm_per_year"] == pytest.approx(
        0.3, rel=5e-3
    )
    for form, radius in (("present", left), ("mean", (100 + left) / 2)):
        assert found[f"degradation_rate_{form}_area_mm_per_year"] == pytest.approx(
            0.3 * 100 / radius, rel=5e-3
        )
    assert found["layer_thickness_local_mean_um"] == pytest.approx(outer - left, rel=0.02)
    assert found["local_depth_mean_um"] == pytest.approx(100 - left, rel=0.01)
    assert found["pitting_factor"] == pytest.approx(1, rel=0.02)
    assert found["least_cross_section_mm2"] == pytest.approx(
        np.pi * left**2 * 1e-6, rel=1e-3
    )


def test_leaning_cylinder_is_cut_obliquely():
    one = grow(CYLINDER, screw={"radius_um": 60.0, "core_um": 60.0, "tilt_deg": 20.0})
    cosine = one.pose.rows[2, 0]
    assert cosine < 0.999
    volume = quantities.volume_um3(one, np.full_like(one.corroded.initial_um, 60.0))
    assert volume == pytest.approx(np.pi * 60**2 * 120 / cosine, rel=2e-4)


@pytest.fixture(scope="module")
def tiny_truth(tiny):
    return quantities.truth(tiny, samples=2048, curve_um=[0.0, 10.0, 30.0, 40.0, 41.0])


def test_sampled_volumes_fill_the_field(tiny, tiny_truth):
    found = tiny_truth
    names = "bone_mm3", "gas_mm3", "marrow_mm3", "air_mm3"
    parts = sum(found[n] for n in names)
    parts += found["residual_metal_mm3"] + found["degradation_layer_mm3"]
    assert parts == pytest.approx(np.prod(tiny.field.size_um) * 1e-9, rel=5e-3)
    assert 0 < found["bone_mm3_sem"] < 0.03 * found["bone_mm3"]


@pytest.mark.parametrize("name", ["residual_metal", "degradation_layer", "bone"])
def test_continuous_volume_agrees_with_the_voxels(tiny_truth, tiny_shares, name):
    voxels = float(tiny_shares[MATERIALS.index(name)].sum(dtype=float)) * 0.005**3
    assert tiny_truth[f"{name}_mm3"] == pytest.approx(voxels, rel=0.015)


def test_cylinder_of_twenty_voxels_is_voxelised_within_half_a_percent(cylinder):
    voxels = np.count_nonzero(slabs(cylinder).argmax(axis=0) == specimen.RESIDUAL_METAL)
    exact = quantities.volume_um3(cylinder, cylinder.corroded.metal_um)
    assert voxels * 5.0**3 == pytest.approx(exact, rel=5e-3)


def test_contact_rises_with_the_gap_and_stops_where_it_is_not_known(tiny_truth):
    curve = tiny_truth["bone_contact_curve_percent"]
    assert 45 < curve[0] <= 60.5
    assert curve == [*sorted(curve[:4]), None]


@pytest.mark.slow
def test_pits_make_the_least_section_smaller_and_the_mean_depth_larger():
    smooth, pitted = (
        quantities.truth(grow(corrosion={"pitting": p, "pits_per_mm2": 300.0}), samples=16)
        for p in (1.0, 3.0)
    )
    assert pitted["least_cross_section_mm2"] < smooth["least_cross_section_mm2"]
    assert pitted["local_depth_mean_um"] > smooth["local_depth_mean_um"]
    assert pitted["metal_area_mm2"] != smooth["metal_area_mm2"]


@pytest.mark.slow
def test_measures_of_true_labels_come_near_the_continuous_truth():
    one = grow({}, field={"shape_px": [96, 160, 160], "voxel_um": 4.0})
    shares = slabs(one)
    found = quantities.truth(one)
    background = shares[[specimen.AIR, specimen.MARROW, specimen.GAS]].sum(axis=0)
    labels = np.argmax([background, *shares[2:5]], axis=0).astype(np.uint8)
    classes = ["background", "bone", "degradation_layer", "residual_metal"]
    volume = Volume(labels, (4000.0,) * 3)
    measured = measures.measure(volume, classes, shell_outer_um=100.0)
    rates = {key for key in measured if key.startswith("degradation_rate")}
    assert rates == {key for key in found if key.startswith("degradation_rate")}
    metal = measured["volume_mm3"]["residual_metal"]
    assert metal == pytest.approx(found["residual_metal_mm3"], rel=0.01)
    assert measured["implant_area_mm2"] == pytest.approx(
        found["implant_area_mm2"], rel=0.05
    )
    contact = measured["bone_contact_curve_percent"][1]
    assert contact == pytest.approx(found["bone_contact_curve_percent"][1], abs=2)


def test_share_of_plates_is_the_normal_law():
    bone = replace(grow().bone, volume_fraction=0.4)
    one = surroundings.trabeculae(1, "x", bone)
    share = special.erf(one.thin / np.sqrt(2)) * special.ndtr(one.wide)
    assert share == pytest.approx(0.4, rel=1e-9)


def test_pose_is_a_rigid_frame(tiny):
    assert isinstance(tiny.pose, Pose)
    np.testing.assert_allclose(tiny.pose.rows @ tiny.pose.rows.T, np.eye(3), atol=1e-12)
