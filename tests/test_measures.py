"""Measures agree with what pencil and paper say about simple bodies."""

import json
import math

import numpy as np
import pytest

from tomoglean import measures, provenance, volumes
from tomoglean.volumes import Volume

CLASSES = ["background", "bone", "degradation_layer", "residual_metal"]
BACKGROUND, BONE, LAYER, METAL = range(4)


def grid(shape, centre, voxel=(1.0, 1.0, 1.0)):
    """Return coordinates (Z, Y, X, 3) relative to a centre, in units of `voxel`."""
    axes = [(np.arange(n) - c) * v for n, c, v in zip(shape, centre, voxel, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def rotation(rng):
    """Return a random rotation matrix."""
    matrix, upper = np.linalg.qr(rng.normal(size=(3, 3)))
    return matrix * np.sign(np.diag(upper))


def ball(radius, rng, margin=8):
    """Return a mask of a ball whose centre lies anywhere within a voxel."""
    side = 2 * math.ceil(radius) + margin
    centre = side / 2 + rng.uniform(-0.5, 0.5, 3)
    return np.linalg.norm(grid((side,) * 3, centre), axis=-1) <= radius


def capsule(radius, length, rng):
    """Return a mask of a rod with round ends, of any centre and orientation."""
    side = math.ceil(length + 2 * radius) + 8
    places = grid((side,) * 3, side / 2 + rng.uniform(-0.5, 0.5, 3))
    axis = rotation(rng)[0]
    nearest = np.clip(places @ axis, -length / 2, length / 2)
    return np.linalg.norm(places - nearest[..., None] * axis, axis=-1) <= radius


def scan_of(labels, voxel_um=(1.0, 1.0, 1.0)):
    """Survey labels with voxels of some micrometres."""
    voxel_nm = tuple(1e3 * edge for edge in voxel_um)
    return measures.survey(Volume(np.asarray(labels, np.uint8), voxel_nm))


def measure(labels, voxel_um=(1.0, 1.0, 1.0), classes=CLASSES, **settings):
    voxel_nm = tuple(1e3 * edge for edge in voxel_um)
    volume = Volume(np.asarray(labels, np.uint8), voxel_nm)
    return measures.measure(volume, classes, **settings)


def layers(*thick, width=24):
    """Return plates along z: (label, number of slices) from the bottom up."""
    column = np.concatenate([np.full(n, label) for label, n in thick])
    return np.broadcast_to(column[:, None, None], (len(column), width, width)).copy()


@pytest.mark.parametrize(
    ("radius", "tolerance"), [(10, 0.025), (20, 0.01), (29.3, 0.01), (40, 0.01)]
)
def test_area_of_a_ball(radius, tolerance):
    area = measures.area_um2(scan_of(ball(radius, volumes.random(1, radius))), [1])
    assert area == pytest.approx(4 * math.pi * radius**2, rel=tolerance)


@pytest.mark.parametrize("turn", range(3))
@pytest.mark.parametrize(("radius", "tolerance"), [(10, 0.025), (20, 0.01)])
def test_area_of_a_turned_capsule(turn, radius, tolerance):
    mask = capsule(radius, 40, volumes.random(2, turn))
    exact = 2 * math.pi * radius * (2 * radius + 40)
    assert measures.area_um2(scan_of(mask), [1]) == pytest.approx(exact, rel=tolerance)


@pytest.mark.parametrize("turn", range(4))
def test_area_of_a_plane_at_any_angle(turn):
    rng = volumes.random(3, turn)
    normal = rotation(rng)[0]
    half = grid((50, 50, 50), 24.5 + rng.uniform(-0.5, 0.5, 3)) @ normal <= 0
    faces = list(measures.surface(scan_of(half), [1]))
    inner = sum(
        part.areas_um2[np.linalg.norm(part.centres - 24.5, axis=1) < 20].sum()
        for part in faces
    )
    assert inner == pytest.approx(math.pi * 20**2, rel=0.01)


@pytest.mark.parametrize("length", [0, 40])
@pytest.mark.parametrize("turn", range(3))
def test_volume_of_bodies(length, turn):
    mask = capsule(20, length, volumes.random(4, length, turn))
    found = measure(np.where(mask, METAL, 0), voxel_um=(2, 2, 2))
    exact = math.pi * 20**2 * (4 / 3 * 20 + length)
    assert found["volume_mm3"]["residual_metal"] == pytest.approx(8e-9 * exact, rel=0.005)


@pytest.mark.parametrize("voxel", [(2.0, 1.0, 1.0), (1.0, 1.5, 2.0)])
def test_anisotropic_voxels(voxel):
    radius_um, shape = 40.0, [math.ceil(80 / v) + 8 for v in voxel]
    centre = np.array(shape) / 2 + volumes.random(5).uniform(-0.5, 0.5, 3)
    mask = np.linalg.norm(grid(shape, centre, voxel), axis=-1) <= radius_um
    found = measure(np.where(mask, METAL, 0), voxel_um=voxel)
    exact_um3 = 4 / 3 * math.pi * radius_um**3
    exact_um2 = 4 * math.pi * radius_um**2
    assert found["volume_mm3"]["residual_metal"] == pytest.approx(
        1e-9 * exact_um3, rel=0.005
    )
    assert found["metal_area_mm2"] == pytest.approx(1e-6 * exact_um2, rel=0.01)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("voxel", [(1.0, 1.0, 1.0), (3.0, 1.0, 2.0)])
def test_a_cut_is_no_surface(axis, voxel):
    """A plate through the whole volume has two sides, and they reach its border."""
    labels = np.zeros((30, 30, 30), np.uint8)
    np.moveaxis(labels, axis, 0)[10:20] = 1
    side_um2 = 30 * 30 * np.prod(voxel) / voxel[axis]
    area = measures.area_um2(scan_of(labels, voxel), [1])
    assert area == pytest.approx(2 * side_um2, rel=1e-3)


def test_a_quarter_rod_on_an_edge_has_a_quarter_of_the_shell():
    places = np.indices((30, 40, 40))
    labels = np.hypot(places[1] + 0.5, places[2] + 0.5) <= 30
    area = measures.area_um2(scan_of(labels), [1])
    assert area == pytest.approx(2 * math.pi * 30 / 4 * 30, rel=0.01)


def test_a_full_volume_has_no_surface():
    found = measure(np.full((9, 9, 9), METAL))
    assert found["metal_area_mm2"] is None
    assert "no surface" in found["reasons"]["metal_area_mm2"]


def test_slabs_change_nothing(monkeypatch):
    labels = np.where(ball(20, volumes.random(6)), METAL, BONE)
    labels[:, :, :12] = BACKGROUND
    whole = measure(labels, shell_outer_um=12, shell_step_um=3)
    monkeypatch.setattr(measures, "SLAB", 5)
    parts = measure(labels, shell_outer_um=12, shell_step_um=3)
    assert json.dumps(parts["voxels"]) == json.dumps(whole["voxels"])
    for name in ("metal_area_mm2", "bone_contact_percent", "bone_volume_fraction"):
        assert parts[name] == pytest.approx(whole[name], rel=1e-6), name


def test_normals_point_out():
    (faces,) = measures.surface(scan_of(ball(12, volumes.random(7))), [1])
    outward = faces.centres - faces.centres.mean(axis=0)
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    assert np.sum(outward * faces.normals, axis=1).min() > 0.8


def test_contact_of_a_half_that_touches():
    """Bone touches half of the plate; over the other half it lies three voxels off."""
    labels = layers((METAL, 10), (BACKGROUND, 3), (BONE, 10), width=60)
    labels[10:13, :, :30] = BONE
    scan = scan_of(labels, (2.0, 2.0, 2.0))
    gaps_um = np.array([0.0, 1.9, 6.0])
    touching, facing = measures.contact(scan, [METAL], [BONE], gaps_um=gaps_um)
    assert touching / facing == pytest.approx([0.5, 0.5, 1.0], abs=0.02)
    assert facing == pytest.approx((60 * 2.0) ** 2, rel=1e-3)


@pytest.mark.parametrize("gap", [1, 2, 4])
def test_gap_is_centre_distance_less_one_voxel(gap):
    labels = layers((METAL, 8), (BACKGROUND, gap), (BONE, 8))
    found = measure(labels, voxel_um=(5, 5, 5), contact_curve_voxels=6)
    curve = found["bone_contact_curve_percent"]
    assert found["bone_contact_curve_gap_um"] == [5.0 * n for n in range(7)]
    assert curve == pytest.approx([0.0] * gap + [100.0] * (7 - gap))


def test_contact_of_a_ball_in_a_socket():
    """A curved surface that touches everywhere touches within the default gap."""
    labels = np.where(ball(15, volumes.random(8), margin=20), METAL, BONE)
    assert measure(labels)["bone_contact_percent"] == pytest.approx(100)


def test_default_gap_is_one_voxel_and_stored():
    found = measure(layers((METAL, 8), (BACKGROUND, 1), (BONE, 8)), voxel_um=(3, 3, 3))
    assert found["bone_contact_gap_um"] == pytest.approx(3)
    assert found["bone_contact_percent"] == pytest.approx(100)


def test_surface_in_the_air_does_not_count():
    labels = layers((METAL, 8), (BONE, 8), width=40)
    labels[8:, :, 20:] = 4
    everything = measure(labels, classes=[*CLASSES, "air"])
    tissue = measure(labels, classes=[*CLASSES, "air"], air=["air"])
    assert everything["bone_contact_percent"] == pytest.approx(50, abs=6)
    assert tissue["bone_contact_percent"] == pytest.approx(100, abs=1)


def test_shells_hold_what_lies_at_their_distance():
    """Bone fills the second of three shells, each two voxels of 5 um thick."""
    labels = layers((METAL, 5), (BACKGROUND, 2), (BONE, 2), (BACKGROUND, 9))
    found = measure(labels, (5, 5, 5), shell_outer_um=30, shell_step_um=10)
    assert found["shell_edges_um"] == [0, 10, 20, 30]
    assert found["bone_volume_fraction_profile"] == [0, 1, 0]
    assert found["bone_volume_fraction"] == pytest.approx(1 / 3)


def test_shells_leave_out_air_and_the_unknown():
    labels = layers((METAL, 5), (BONE, 2), (BACKGROUND, 2), (4, 2), (255, 2))
    settings = {"shell_outer_um": 8, "shell_step_um": 4, "classes": [*CLASSES, "air"]}
    assert measure(labels, air=["air"], **settings)["bone_volume_fraction"] == 0.5
    assert measure(labels, **settings)["bone_volume_fraction"] == pytest.approx(1 / 3)


def test_shells_start_at_the_inner_radius():
    labels = layers((METAL, 5), (BONE, 2), (BACKGROUND, 6))
    found = measure(labels, shell_inner_um=2, shell_outer_um=4, shell_step_um=4)
    assert found["bone_volume_fraction"] == 0


def test_shells_without_extent_are_refused():
    with pytest.raises(ValueError, match="outer radius"):
        measure(layers((METAL, 3)), shell_inner_um=5, shell_outer_um=5)


def test_loss_against_the_closed_implant():
    """A pore within the implant is filled; one open to the outside is not."""
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[5:15, 5:15, 5:15] = METAL
    labels[9:11, 9:11, 9:11] = BACKGROUND
    labels[14, 5:15, 5:15] = LAYER
    labels[13:15, 5:7, 5:7] = BACKGROUND
    found = measure(labels)
    assert found["initial_volume_basis"] == "closed implant"
    assert found["initial_volume_mm3"] == pytest.approx(1e-9 * (1000 - 8))
    metal = 1000 - 8 - 100 - 4
    assert found["volume_loss_percent"] == pytest.approx(100 * (1 - metal / 992))


def test_loss_against_a_volume_from_the_settings():
    found = measure(layers((METAL, 5), (0, 5), width=10), initial_volume_mm3=1e-6)
    assert found["initial_volume_basis"] == "settings"
    assert found["volume_loss_percent"] == pytest.approx(50)


@pytest.mark.parametrize("voxels", [3, 5, 6, 9, 10])
def test_a_whole_implant_has_lost_nothing_at_all(voxels):
    labels = np.zeros((1, 1, voxels + 2), np.uint8)
    labels[..., 1:-1] = METAL
    found = measure(labels, (5.0, 5.0, 5.0))
    assert (found["volume_loss_percent"], found["volume_loss_mm3"]) == (0, 0)


def test_nothing_left_is_a_full_loss():
    found = measure(layers((0, 5)), initial_volume_mm3=1e-6)
    assert found["volume_loss_percent"] == 100


def test_rates_by_name():
    """One cubic millimetre lost in half a year."""
    labels = layers((0, 20), (METAL, 20), (0, 20), width=20)
    found = measure(
        labels, (50, 50, 50), initial_volume_mm3=2.0, initial_area_mm2=4.0,
        weeks={"mini": 365.25 / 14}, name="mini",
    )  # fmt: skip
    present = 2 * 1.0  # two open sides of 1 mm2
    assert found["metal_area_mm2"] == pytest.approx(present, rel=1e-3)
    for form, area in (("initial", 4), ("present", present), ("mean", (4 + present) / 2)):
        rate = found[f"degradation_rate_{form}_area_mm_per_year"]
        assert rate == pytest.approx(2 * 1.0 / area, rel=1e-3), form
    assert found["degradation_depth_mm"] == pytest.approx(0.25)


def test_rates_need_the_weeks_of_this_volume():
    found = measure(
        layers((0, 5), (METAL, 9)), initial_area_mm2=1.0, weeks={"other": 4}, name="mini"
    )
    assert found["degradation_rate_initial_area_mm_per_year"] is None
    assert "weeks" in found["reasons"]["degradation_rate_initial_area_mm_per_year"]


def test_mean_thickness_of_the_layer():
    labels = layers((0, 9), (LAYER, 3), (METAL, 12), (LAYER, 3), (0, 9))
    assert measure(labels, (4, 4, 4))["layer_thickness_mean_um"] == pytest.approx(
        12, rel=1e-3
    )


def test_no_bone_gives_null_and_a_reason():
    found = measure(layers((METAL, 8), (BACKGROUND, 8)))
    assert found["bone_contact_percent"] is None
    assert found["bone_volume_fraction"] is None
    assert found["reasons"]["bone_contact_percent"] == "no bone in this volume"


@pytest.mark.parametrize("label", [BACKGROUND, 255])
def test_an_empty_volume_is_a_valid_answer(label, tmp_path):
    found = measure(np.full((4, 5, 6), label))
    provenance.write_json(found, tmp_path / "measured.json")
    assert all(found[name] is None for name in found["reasons"])
    assert found["metal_area_mm2"] is None


def test_every_answer_has_the_same_keys():
    full = measure(layers((METAL, 5), (LAYER, 2), (BONE, 5)))
    assert measure(layers((BACKGROUND, 5))).keys() == full.keys()


def test_a_task_without_these_classes_still_has_volumes():
    found = measure(layers((0, 2), (1, 2)), classes=["pore", "clay"])
    assert found["volume_mm3"]["clay"] == pytest.approx(2 * 24 * 24 * 1e-9)
    assert found["volume_loss_percent"] is None


def test_the_unknown_has_no_share():
    shares = measure(layers((METAL, 1), (BONE, 3), (255, 4)))["share_percent"]
    assert shares["residual_metal"] == pytest.approx(25)


def test_sparse_slices_have_shares_only():
    labels = layers((METAL, 1), (BONE, 3)).astype(np.uint8)
    sparse = Volume(labels, (1e3, 1e3, 1e3), z=np.array([0, 10, 20, 30]))
    found = measures.measure(sparse, CLASSES)
    assert found["share_percent"]["bone"] == pytest.approx(75)
    assert found["volume_mm3"] is None
    assert "sparse" in found["reasons"]["volume_mm3"]


def test_a_volume_on_disk_measures_the_same(tmp_path):
    labels = np.where(ball(12, volumes.random(9)), METAL, BONE).astype(np.uint8)
    volume = Volume(labels, (2e3, 2e3, 2e3))
    volumes.write(volume, tmp_path / "segmented.h5")
    with volumes.open_volume(tmp_path / "segmented.h5") as stored:
        assert measures.measure(stored, CLASSES) == measures.measure(volume, CLASSES)
