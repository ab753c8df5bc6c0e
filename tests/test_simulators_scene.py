"""The scene is a minicell in ice: its layers, its filling, its labels, the same always."""

import hashlib

import numpy as np
import pytest

from tomoglean import config
from tomoglean.provenance import Refused
from tomoglean.simulators.minicell import crowd
from tomoglean.simulators.minicell.bodies import box, local
from tomoglean.simulators.minicell.scene import CODES, LABELS, build, settings_of

COARSE = {"shape_px": [64, 88, 88], "voxel_nm": 3.6}


def scene(name="one", seed=1, margin_px=0, **groups):
    groups = {"field": COARSE, "machines": {"number": [2]}, **groups}
    full = config.filled(groups, "phantom-minicell", "simulate", "")
    return build(seed, name, margin_px=margin_px, **settings_of(full))


def test_machines_among_the_decoys_are_refused():
    with pytest.raises(Refused, match=r"decoys.kinds: expected none of machines.kind"):
        scene(decoys={"kinds": ["gold", "t3ss"]})


@pytest.fixture(scope="module")
def cell():
    return scene()


@pytest.fixture(scope="module")
def fine():
    """A cell at full sampling without decoys."""
    return scene(
        field={}, machines={"number": [1]}, decoys={"number": 0, "gold": 0, "ice": 0}
    )


@pytest.fixture(scope="module")
def bare():
    """Membranes and wall alone."""
    nothing = ("cytosol_share", "periplasm_share", "membrane_share", "ribosomes_per_um3")
    return scene(
        field={},
        cell=dict.fromkeys(nothing, 0),
        machines={"number": [0]},
        decoys={"number": 0, "gold": 0, "ice": 0},
    )


def digest(made):
    parts = made.density.tobytes() + made.labels.tobytes() + repr(made.sites).encode()
    return hashlib.sha256(parts).hexdigest()


def test_same_seed_and_name_give_the_same_bytes(cell):
    assert digest(scene()) == digest(cell)


@pytest.mark.parametrize("other", [{"seed": 2}, {"name": "two"}])
def test_another_seed_or_name_gives_another_scene(cell, other):
    assert digest(scene(**other)) != digest(cell)


def test_types_and_shapes(cell):
    assert cell.density.dtype == np.float32
    assert cell.labels.dtype == np.uint8
    assert cell.density.shape == cell.labels.shape == (64, 88, 88)
    assert cell.inside.shape == cell.labels.shape


def test_what_stands_in_the_field_does_not_depend_on_the_margin(cell):
    wide = scene(margin_px=20)
    assert wide.density.shape == (64, 88, 128)
    np.testing.assert_allclose(wide.density[:, :, 20:-20], cell.density, atol=2e-3)
    np.testing.assert_array_equal(wide.labels, cell.labels)
    assert repr(wide.sites) == repr(cell.sites)


def test_the_margin_holds_gold_too():
    wide = scene(margin_px=60, decoys={"gold": 12, "number": 0})
    assert wide.density[:, :, :60].max() > 2
    assert wide.density[:, :, -60:].max() > 2


def test_the_specimen_does_not_depend_on_the_voxel_size():
    one = scene(field={"shape_px": [64, 88, 88], "voxel_nm": 3.6})
    two = scene(field={"shape_px": [96, 132, 132], "voxel_nm": 2.4})
    for mine, other in zip(one.sites, two.sites, strict=True):
        np.testing.assert_allclose(mine.place_nm, other.place_nm, atol=1e-6)
    # Places are the same and so is the mass, up to what membranes lose at 3.6 nm.
    mass = [made.density.sum() * made.voxel_nm**3 for made in (one, two)]
    assert mass[0] == pytest.approx(mass[1], rel=0.05)


def profile(made, heights):
    """Mean density along the normals at many places of the envelope."""
    rng, envelope = np.random.default_rng(0), made.envelope
    lines = []
    for _ in range(150):
        place = envelope.centre_nm + envelope.shape.somewhere(rng)
        outer, _ = envelope.at(place[None])
        normal = envelope.normal(place)
        points = place + (heights[:, None] - outer[0]) * normal
        index = np.rint(points / made.voxel_nm).astype(int)
        if np.all((index >= 0) & (index < made.density.shape)):
            lines.append(made.density[tuple(index.T)])
    return np.mean(lines, axis=0)


def test_profile_across_the_envelope_is_om_wall_im(bare):
    heights = np.arange(-50, 15, 0.25)
    mean = profile(bare, heights)

    def centre(low, high):
        part = (heights > low) & (heights < high)
        return np.average(heights[part], weights=mean[part])

    assert centre(-4.5, 4.5) == pytest.approx(0, abs=0.3)
    assert -centre(-15, -5) == pytest.approx(9.0, abs=0.7)
    assert -centre(-40, -25) == pytest.approx(33.0, abs=2.0)
    # Each bilayer holds 4.2 nm of heads at .7 of protein.
    assert mean[np.abs(heights) < 4.5].sum() * 0.25 == pytest.approx(2.94, rel=0.05)
    assert mean[heights > 6].max() < 1e-4


def test_wall_is_four_nanometres_of_a_loose_mesh(bare):
    heights = np.arange(-18, -4, 0.25)
    assert profile(bare, heights).sum() * 0.25 / 0.3 == pytest.approx(4.0, abs=0.7)


def test_proteins_take_a_fifth_of_the_cytosol():
    made = scene(
        field={},
        cell={"ribosomes_per_um3": 0},
        machines={"number": [0]},
        decoys={"number": 0},
    )
    _, inner = made.distances()
    assert made.density[inner < -12].mean() == pytest.approx(0.2, abs=0.015)


def test_periplasm_holds_less(fine):
    outer, inner = fine.distances()
    between = (outer < -13) & (inner > 6)
    assert 0.05 < fine.density[between].mean() < 0.13


def test_a_cell_of_400_nm_holds_about_400_ribosomes():
    groups = {
        "field": {"shape_px": [64, 64, 64], "voxel_nm": 7.0},
        "machines": {"number": [0]},
    }
    groups["cell"] = {"diameter_nm": [399, 400], "axis_ratio": [1, 1]}
    groups["decoys"] = {"number": 0}
    full = settings_of(config.filled(groups, "phantom-minicell", "simulate", ""))
    made = build(1, "one", **full)
    reach = made.envelope.reach_nm()
    bounds = made.envelope.centre_nm - reach, made.envelope.centre_nm + reach
    per_um3 = full["cell"].ribosomes_per_um3
    found = crowd.ribosomes(1, "one", made.envelope, per_um3, [], bounds)
    assert len(found) == pytest.approx(400, rel=0.08)
    middles = np.array([site.place_nm - 15 * site.normal for site in found])
    gaps = np.linalg.norm(middles[:, None] - middles, axis=-1)
    assert gaps[np.triu_indices(len(middles), 1)].min() >= 21


def test_stamped_balls_keep_their_volume_and_place():
    rng = np.random.default_rng(0)
    density = np.zeros((30, 30, 36), np.float32)
    radius = np.array([4.0])
    place = rng.uniform(24, 28, (1, 3))
    crowd.stamp(density, place, radius, voxel_nm=1.8, margin_px=3)
    assert density.sum() * 1.8**3 == pytest.approx(4 / 3 * np.pi * 64, rel=0.02)
    where = np.argwhere(density) * 1.8 - [0, 0, 5.4]
    found = np.average(where, axis=0, weights=density[density > 0])
    np.testing.assert_allclose(found, place[0], atol=0.1)


def test_globules_have_the_mean_volume_that_shares_are_told_with():
    mean = crowd._mean_volume_nm3((60.0, 0.9))
    # A globule of 60 kDa has 73 nm3; the tail of oligomers lifts the mean.
    assert 90 < mean < 150


def test_nothing_crowds_into_a_machine(fine):
    (machine,) = [site for site in fine.sites if site.kind == "t3ss"]
    body = fine.bodies["t3ss"]
    near = box(machine, body, fine.density.shape, 1.8, 0)
    offsets = [
        (1.8 * axis - origin).astype(np.float32)
        for axis, origin in zip(np.ogrid[near], machine.place_nm, strict=True)
    ]
    _, distance = body.draw(local(machine, offsets, 1.8))
    inner = fine.distances(near[0])[1][:, near[1], near[2]]
    skin = (distance > 1.0) & (distance < 1.9) & (inner < -6)
    assert fine.density[near][skin].mean() < 0.12


def test_labels_follow_the_signed_distances(bare):
    outer, inner = bare.distances()
    membrane = np.abs(outer) <= 3
    assert np.all(bare.labels[membrane] == CODES["outer_membrane"])
    assert np.all(bare.labels[(np.abs(inner) <= 3) & ~membrane] == CODES["inner_membrane"])
    assert np.all(bare.labels[inner < -3] == CODES["cytosol"])
    assert np.all(bare.labels[outer > 3] == CODES["ice"])
    np.testing.assert_array_equal(bare.inside, outer < 3)


def test_slabs_of_distances_are_the_whole_ones(bare):
    whole, part = bare.distances(), bare.distances(slice(40, 44))
    np.testing.assert_array_equal(part[0], whole[0][40:44])
    np.testing.assert_array_equal(part[1], whole[1][40:44])


def test_every_kind_has_its_label_where_it_stands():
    kinds = ["ribosome", "motor", "array", "vesicle", "base_without_needle", "gold", "ice"]
    kinds += ["base_without_platform", "fold", "empty"]
    for index in range(2):
        made = scene(
            f"kinds-{index}",
            field={"shape_px": [100, 120, 120], "voxel_nm": 2.7},
            cell={"diameter_nm": [250, 260]},
            machines={"number": [1]},
            decoys={"number": 10, "kinds": kinds, "gold": 0, "ice": 0},
        )
        names = {LABELS[code] for code in np.unique(made.labels)}
        assert {*kinds, "t3ss"} - {"ice", "empty"} <= names
        assert "ice_lump" in names
        assert sorted(site.kind for site in made.sites) == sorted([*kinds, "t3ss"])


def test_machine_label_lies_about_its_site(fine):
    (machine,) = [site for site in fine.sites if site.kind == "t3ss"]
    places = np.argwhere(fine.labels == CODES["t3ss"]) * 1.8
    height = (places - machine.place_nm) @ machine.normal
    beside = np.linalg.norm(
        places - machine.place_nm - height[:, None] * machine.normal, axis=1
    )
    assert beside.max() < 18.5
    assert height.max() < machine.gap_nm / 2 + machine.needle_nm + 1
    assert height.min() > -machine.gap_nm / 2 - 31


def test_ice_alone_has_gold_and_no_cell():
    ice = scene(field={**COARSE, "cell": False}, decoys={"gold": 4, "ice": 0})
    assert ice.envelope is None
    assert not ice.inside.any()
    assert ice.distances(slice(0, 2))[0].min() == 1000
    assert {site.kind for site in ice.sites} == {"gold"}
    assert set(np.unique(ice.labels)) <= {CODES["ice"], CODES["gold"]}


def test_ice_is_thicker_than_the_cell(cell):
    outer, _ = cell.distances()
    rows = np.flatnonzero((outer < 0).any(axis=(1, 2)))
    assert cell.ice_nm > (rows.max() - rows.min()) * 3.6
    assert scene(field={**COARSE, "ice_nm": 180}).ice_nm == 180


def test_a_rod_fills_the_field_from_side_to_side():
    made = scene(
        cell={"shape": "rod", "diameter_nm": [200, 205], "length_nm": [900, 950]},
        margin_px=10,
    )
    assert np.isfinite(made.density).all()
    edges = [
        made.labels[:, 0],
        made.labels[:, -1],
        made.labels[:, :, 0],
        made.labels[:, :, -1],
    ]
    assert sum(np.any(edge == CODES["cytosol"]) for edge in edges) >= 2


@pytest.mark.slow
def test_full_size_fits_into_four_gigabytes():
    import resource

    made = scene(
        field={"shape_px": [300, 900, 900], "voxel_nm": 1.8},
        cell={"diameter_nm": [480, 500]},
        decoys={"number": 14, "gold": 20},
        margin_px=185,
    )
    assert made.density.shape == (300, 900, 1270)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 4e6


def test_every_site_can_be_told_in_voxels_of_the_volume():
    for seed in range(6):
        made = scene(field={"cell": False}, decoys={"gold": 60, "ice": 0}, seed=seed)
        last_nm = (np.array(made.labels.shape) - 1) * made.voxel_nm
        assert made.sites
        assert all(np.all(site.place_nm <= last_nm) for site in made.sites)
