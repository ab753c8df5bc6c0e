"""The implant phantom: what it says of itself is what stands in its voxels."""

import hashlib

import numpy as np
import pytest
import tifffile
import yaml
from scipy import fft

from tomoglean.provenance import Refused
from tomoglean.simulators import fields, files
from tomoglean.simulators.annotators import weak_labels
from tomoglean.simulators.implant import (
    BONE,
    CLASSES,
    DEGRADATION_LAYER,
    RESIDUAL_METAL,
    pick_slices,
    screw,
    simulate_implant,
)

SMALL = {"shape_px": (24, 64, 64), "radius_um": 75.0, "core_um": 60.0, "pitch_um": 45.0}


@pytest.fixture(scope="module")
def implant():
    return simulate_implant(seed=1, name="one", **SMALL)


def digest(array):
    return hashlib.sha256(array.tobytes()).hexdigest()


def test_same_seed_and_name_give_the_same_bytes(implant):
    again = simulate_implant(seed=1, name="one", **SMALL)
    for part in ("image", "truth", "weak", "corrected"):
        assert digest(getattr(again, part)) == digest(getattr(implant, part))
    assert again.facts == implant.facts


@pytest.mark.parametrize("other", [{"seed": 2, "name": "one"}, {"seed": 1, "name": "two"}])
def test_another_seed_or_name_gives_another_specimen(implant, other):
    assert digest(simulate_implant(**other, **SMALL).truth) != digest(implant.truth)


def test_noise_leaves_the_specimen_as_it_is(implant):
    quiet = simulate_implant(seed=1, name="one", noise=0.0, rings=0.0, **SMALL)
    np.testing.assert_array_equal(quiet.truth, implant.truth)


def test_types_and_shapes(implant):
    assert implant.image.dtype == np.float32
    for labels in (implant.truth, implant.weak, implant.corrected):
        assert labels.dtype == np.uint8
        assert labels.shape == implant.image.shape == SMALL["shape_px"]


def test_every_class_is_there(implant):
    assert set(np.unique(implant.truth)) == {0, 1, 2, 3}


@pytest.mark.parametrize("label", range(4))
def test_counted_volume_agrees_with_the_continuous_one(implant, label):
    counted = np.count_nonzero(implant.truth == label) * 0.005**3
    assert counted == pytest.approx(implant.facts["volume_mm3"][CLASSES[label]], rel=0.05)


def test_volumes_fill_the_field_of_view(implant):
    total = sum(implant.facts["volume_mm3"].values())
    assert total == pytest.approx(implant.truth.size * 0.005**3, rel=1e-5)


def test_volume_loss_is_what_the_metal_lacks():
    whole = simulate_implant(seed=1, name="one", loss_um=0.0, pits=0, **SMALL)
    eaten = simulate_implant(seed=1, name="one", loss_um=25.0, pits=0, **SMALL)
    assert whole.facts["volume_loss_percent"] == pytest.approx(0, abs=1.5)
    # A cylinder of 67 um that loses a shell of 25 um keeps (42 / 67)^2 of its volume;
    # an uneven shell of the same mean takes a little less.
    assert eaten.facts["volume_loss_percent"] == pytest.approx(61, abs=6)


def test_pits_only_take_metal():
    smooth = simulate_implant(seed=1, name="one", pits=0, **SMALL)
    pitted = simulate_implant(seed=1, name="one", pits=20, **SMALL)
    metal, less = smooth.truth == RESIDUAL_METAL, pitted.truth == RESIDUAL_METAL
    assert less.sum() < metal.sum()
    assert not np.any(less & ~metal)


@pytest.mark.parametrize("tilt_deg", [0.0, 9.0])
def test_screw_without_thread_is_a_cylinder(tilt_deg):
    lean = np.radians(tilt_deg)
    level = screw(
        (40, 64, 64),
        centre_px=(19.5, 31.2, 31.9),
        axis=(np.cos(lean), np.sin(lean), 0.0),
        radius_px=20.0,
        core_px=20.0,
        pitch_px=10.0,
    )
    volume = fields.coverage(level).sum(dtype=float)
    # A plane cuts a leaning cylinder in an ellipse: pi r^2 / cos(lean) a slice.
    assert volume == pytest.approx(40 * np.pi * 20**2 / np.cos(lean), rel=2e-3)


def test_screw_has_the_volume_of_its_thread():
    pitch, core, radius = 16.0, 18.0, 24.0
    level = screw(
        (64, 64, 64),
        centre_px=(31.5, 31.3, 31.8),
        axis=(1.0, 0.0, 0.0),
        radius_px=radius,
        core_px=core,
        pitch_px=pitch,
    )
    # Mean of r^2 over a linear flank; 64 slices hold four whole turns.
    exact = 64 * np.pi * (core**2 + core * radius + radius**2) / 3
    assert fields.coverage(level).sum(dtype=float) == pytest.approx(exact, rel=5e-3)


def test_ball_covers_its_volume():
    z, y, x = fields.grid((48, 48, 48))
    ball = np.sqrt((z - 23.3) ** 2 + (y - 23.9) ** 2 + (x - 22.6) ** 2) - 20
    exact = 4 / 3 * np.pi * 20**3
    assert fields.coverage(ball).sum(dtype=float) == pytest.approx(exact, rel=2e-3)


def test_metal_never_touches_tissue_where_there_is_no_pit():
    coated = simulate_implant(seed=1, name="one", growth_um=15.0, pits=0, **SMALL).truth
    metal = coated == RESIDUAL_METAL
    tissue = coated < DEGRADATION_LAYER
    for axis in range(3):
        ahead = np.roll(tissue, -1, axis)
        # The last slice has no neighbour ahead.
        assert not np.any(np.delete(metal & ahead, -1, axis))


def test_layer_thickness_follows_its_settings():
    thin = simulate_implant(seed=1, name="one", loss_um=8.0, growth_um=4.0, **SMALL).facts
    thick = simulate_implant(
        seed=1, name="one", loss_um=24.0, growth_um=12.0, **SMALL
    ).facts
    ratio = thick["layer_thickness_um"]["mean"] / thin["layer_thickness_um"]["mean"]
    assert ratio == pytest.approx(3, rel=0.05)
    assert thin["layer_thickness_um"]["mean"] == pytest.approx(12, rel=0.05)
    assert thin["layer_thickness_um"]["p5"] < 12 < thin["layer_thickness_um"]["p95"]


def test_contact_is_a_setting():
    shares = [
        simulate_implant(seed=1, name="one", contact=contact, gas_pores=0, **SMALL).facts[
            "bone_on_surface"
        ]
        for contact in (0.0, 0.5, 1.0)
    ]
    assert shares[0] < 0.1
    assert shares[1] == pytest.approx(0.5, abs=0.15)
    assert shares[2] > 0.9


def test_bone_layer_and_metal_overlap_in_grey(implant):
    assert implant.facts["grey_overlap"]["bone/degradation_layer"] > 0.6
    assert implant.facts["grey_overlap"]["degradation_layer/residual_metal"] > 0.3


def test_no_threshold_finds_the_layer(implant):
    layer = implant.truth == DEGRADATION_LAYER
    edges = np.quantile(implant.image, np.linspace(0, 1, 21))
    best = max(
        np.count_nonzero(layer & inside) / np.count_nonzero(layer | inside)
        for low in edges
        for high in edges[edges > low]
        for inside in [(implant.image >= low) & (implant.image <= high)]
    )
    assert best < 0.4


def test_weak_labels_are_useful_and_wrong(implant):
    iou = implant.facts["weak_iou"]
    assert 0.25 < iou["degradation_layer"] < 0.75
    assert 0.5 < iou["bone"] < 0.95
    agree = (implant.weak == BONE) & (implant.truth == BONE)
    either = (implant.weak == BONE) | (implant.truth == BONE)
    assert iou["bone"] == pytest.approx(agree.sum() / either.sum())


def test_weak_labels_come_from_the_image_not_from_the_truth(implant):
    around = np.ones(implant.image.shape, np.float32)
    flat = weak_labels(1, "one", implant.image[::-1].copy(), around=around)
    straight = weak_labels(1, "one", implant.image, around=around)
    assert np.mean(flat[::-1] == straight) > 0.98


@pytest.mark.parametrize("number", [0, 1, 3])
def test_corrected_slices_hold_truth_on_all_three_axes(implant, number):
    corrected = pick_slices(1, "one", implant.truth, number)
    known = corrected != 255
    np.testing.assert_array_equal(corrected[known], implant.truth[known])
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        assert np.count_nonzero(known.all(axis=others)) == number


def test_ramp_noise_grows_with_frequency_and_slices_are_independent():
    noise = fields.ramp_noise(np.random.default_rng(0), (16, 96, 96))
    power = np.mean(np.abs(fft.rfftn(noise, axes=(1, 2))) ** 2, axis=0)
    radius = np.hypot(*fields.frequencies((96, 96)))

    def band(low, high):
        return power[(radius >= low) & (radius < high)].mean()

    assert band(0.09, 0.11) / band(0.04, 0.06) == pytest.approx(1.9, abs=0.35)
    assert band(0.45, 0.5) < 0.1 * band(0.15, 0.2)
    assert noise.std() == pytest.approx(1, abs=1e-3)
    assert abs(np.corrcoef(noise[3].ravel(), noise[4].ravel())[0, 1]) < 0.03


def test_random_field_is_standard_and_smooth():
    field = fields.random_field(np.random.default_rng(0), (32, 64, 64), 3.0)
    assert field.std() == pytest.approx(1, abs=1e-3)
    assert field.mean() == pytest.approx(0, abs=1e-4)
    # Blurring with sigma correlates neighbours by exp(-1 / (4 sigma^2)).
    correlation = np.mean(field[:, :, 1:] * field[:, :, :-1])
    assert correlation == pytest.approx(np.exp(-1 / 36), abs=5e-3)


def test_blur_keeps_the_mean_and_spreads_a_point():
    point = np.zeros((32, 32, 32), np.float32)
    point[16, 16, 16] = 1
    blurred = fields.blurred(point, 2.0)
    assert blurred.sum() == pytest.approx(1, abs=1e-4)
    assert blurred.max() == pytest.approx((2 * np.pi * 4) ** -1.5, rel=1e-3)


def test_screw_that_does_not_fit_is_refused():
    with pytest.raises(Refused, match="enlarge shape_px or voxel_um"):
        simulate_implant(seed=1, name="one", shape_px=(16, 32, 32))


def test_core_beyond_the_crest_is_refused():
    with pytest.raises(Refused, match="make the core thinner"):
        simulate_implant(seed=1, name="one", radius_um=100.0, core_um=140.0)


def test_tiff_comes_back_page_by_page_with_the_same_bytes(implant, tmp_path):
    for name in ("one.tif", "two.tif"):
        files.write_tiff(implant.image, tmp_path / name)
    assert (tmp_path / "one.tif").read_bytes() == (tmp_path / "two.tif").read_bytes()
    with tifffile.TiffFile(tmp_path / "one.tif") as file:
        assert len(file.pages) == len(implant.image)
        np.testing.assert_array_equal(file.asarray(), implant.image)


@pytest.mark.parametrize("simulator", ["implant", "minicell"])
def test_schema_and_function_have_the_same_defaults(simulator):
    import importlib
    import inspect
    from pathlib import Path

    root = Path(__file__).parents[1]
    schema = yaml.safe_load(
        (root / f"config/schemas/simulate-{simulator}.yaml").read_text()
    )
    module = importlib.import_module(f"tomoglean.simulators.{simulator}")
    parameters = inspect.signature(getattr(module, f"simulate_{simulator}")).parameters
    defaults = {
        name: list(p.default) if isinstance(p.default, tuple) else p.default
        for name, p in parameters.items()
        if name not in ("seed", "name")
    }
    described = {key: entry["default"] for key, entry in schema["properties"].items()}
    assert described == defaults
