"""The implant phantom as a whole: parts fit each other, bytes depend on keys alone."""

import hashlib
import json

import numpy as np
import pytest

from tomoglean.provenance import Refused
from tomoglean.simulators.implant import (
    BONE,
    CLASSES,
    DEGRADATION_LAYER,
    PARTS,
    RESIDUAL_METAL,
    quantities,
    simulate_implant,
)
from tomoglean.simulators.implant.specimen import Specimen

SMALL = {
    "field": {"shape_px": [20, 64, 64]},
    "screw": {"radius_um": 90.0, "core_um": 70.0, "pitch_um": 180.0, "offset_um": 5.0},
    "corrosion": {"weeks": 2.0},
    "bone": {"block_um": 260.0},
    "scan": {"projections": 150},
}


def simulated(seed=1, name="one", **more):
    settings = {**SMALL, **more}
    return simulate_implant(seed=seed, name=name, settings=settings)


def digest(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


@pytest.fixture(scope="module", autouse=True)
def grow():
    """Let each specimen grow and be measured once; return how it grows without that."""
    true, truth, known = Specimen.grow.__func__, quantities.truth, {}

    def once(make, key):
        if key not in known:
            known[key] = make()
        return known[key]

    def grown(cls, *keys, **groups):
        return once(lambda: true(cls, *keys, **groups), repr((keys, groups)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Specimen, "grow", classmethod(grown))
        patch.setattr(
            quantities, "truth", lambda body: once(lambda: truth(body), id(body.corroded))
        )
        yield classmethod(true)


@pytest.fixture(scope="module")
def implant(grow):
    return simulated()


def test_types_and_shapes(implant):
    for part, kind in PARTS.items():
        assert getattr(implant, part).shape == (20, 64, 64)
        assert getattr(implant, part).dtype == kind


def test_every_class_is_there(implant):
    assert set(np.unique(implant.truth)) == {0, 1, 2, 3}
    assert set(np.unique(implant.weak)) == {0, 1, 2, 3}


def test_the_same_keys_give_the_same_bytes(implant, grow, monkeypatch):
    monkeypatch.setattr(Specimen, "grow", grow)
    again = simulated()
    for part in PARTS:
        assert digest(getattr(again, part)) == digest(getattr(implant, part))
    assert again.facts == implant.facts


@pytest.mark.parametrize("other", [{"seed": 2}, {"name": "two"}])
def test_another_seed_or_name_is_another_specimen(implant, other):
    assert digest(simulated(**other).truth) != digest(implant.truth)


def test_noise_leaves_the_specimen_as_it_is(implant):
    other = simulated(scan={"projections": 150, "photons": 1e3})
    np.testing.assert_array_equal(other.truth, implant.truth)
    assert digest(other.image) != digest(implant.image)


def test_the_image_space_mode_shows_the_same_specimen(implant):
    fast = simulated(scan={"mode": "image"})
    np.testing.assert_array_equal(fast.truth, implant.truth)
    assert np.corrcoef(fast.image.ravel(), implant.image.ravel())[0, 1] > 0.85


def test_the_image_shows_the_truth_in_its_place(implant):
    image = implant.image
    means = [image[implant.truth == label].mean() for label in range(4)]
    assert means[0] < 0.5 * means[BONE]
    assert means[RESIDUAL_METAL] == max(means)
    # Half a voxel beside its place it fits less well.
    metal = (implant.truth == RESIDUAL_METAL).astype(float)
    here = np.corrcoef(image.ravel(), metal.ravel())[0, 1]
    for axis in (1, 2):
        for step in (-1, 1):
            moved = np.roll(metal, step, axis)
            assert np.corrcoef(image.ravel(), moved.ravel())[0, 1] < here


def test_a_clean_scan_recovers_the_attenuation():
    clean = {
        "projections": 200,
        "photons": 1e12,
        "width": 3.0,
        "filter": "ramp",
        **dict.fromkeys(("blur_px", "distance_mm", "gain_error", "scatter"), 0.0),
        **dict.fromkeys(("drift_px", "flux_error"), 0.0),
        "flats": 0,
    }
    implant = simulated(scan=clean, material={"level": "hard"})
    mean = float(implant.image[implant.truth == RESIDUAL_METAL].mean())
    # Grain and precipitates lift the metal's mean by a few per cent.
    assert 0.45 < mean < 0.48


def test_corrected_slices_are_true(implant):
    known = implant.corrected != 255
    np.testing.assert_array_equal(implant.corrected[known], implant.truth[known])
    for index, axis in enumerate("zyx"):
        chosen = implant.facts["corrected_slices"][axis]
        assert len(chosen) == 2
        assert known.take(chosen, axis=index).all()


def test_weak_labels_are_useful_and_wrong(implant):
    iou = implant.facts["weak"]["iou"]
    agree = (implant.weak == BONE) & (implant.truth == BONE)
    either = (implant.weak == BONE) | (implant.truth == BONE)
    assert iou["bone"] == pytest.approx(agree.sum() / either.sum())
    assert 0.2 < iou["degradation_layer"] < 0.8
    assert iou["degradation_layer"] < iou["bone"] < 0.97


def test_facts_count_the_truth_and_are_ready_for_json(implant):
    for label, name in enumerate(CLASSES):
        assert implant.facts["voxels"][name] == np.sum(implant.truth == label)
    assert json.loads(json.dumps(implant.facts)) == implant.facts


@pytest.mark.parametrize("name", CLASSES[1:])
def test_voxels_agree_with_the_continuous_truth(implant, name):
    counted = implant.facts["voxels"][name] * 0.005**3
    # The rod has a radius of some 15 voxels, the layer is a few voxels thick.
    assert counted == pytest.approx(implant.facts["truth"][f"{name}_mm3"], rel=0.01)


def test_facts_hold_all_settings(implant):
    settings = implant.facts["settings"]
    assert settings["scan"]["projections"] == 150
    assert settings["scan"]["photons"] == 50000.0
    assert settings["material"]["level"] == "paper-like"


def overlaps(level):
    table = simulated(material={"level": level}).facts["grey_overlap"]
    return {pair: table[f"{pair[0]}/{pair[1]}"] for pair in PAIRS}


BONE_LAYER = ("bone", "degradation_layer")
LAYER_METAL = ("degradation_layer", "residual_metal")
PAIRS = (BONE_LAYER, LAYER_METAL)


def test_levels_overlap_more_and_more():
    easy, paper, hard = map(overlaps, ("easy", "paper-like", "hard"))
    assert easy[LAYER_METAL] < paper[LAYER_METAL] < hard[LAYER_METAL]
    assert easy[BONE_LAYER] < paper[BONE_LAYER]
    assert hard[LAYER_METAL] > 0.7
    assert paper[BONE_LAYER] > 0.7
    assert easy[LAYER_METAL] < 0.3


def test_no_band_of_greys_is_the_layer(implant):
    layer = implant.truth == DEGRADATION_LAYER
    edges = np.quantile(implant.image, np.linspace(0, 1, 21))
    bands = [(low, high) for low in edges for high in edges[edges > low]]
    best = 0.0
    for low, high in bands:
        inside = (implant.image >= low) & (implant.image <= high)
        best = max(best, np.sum(layer & inside) / np.sum(layer | inside))
    assert best < 0.4


def test_parts_are_written_where_the_caller_says_and_progress_is_told(implant, tmp_path):
    def into(part, shape, dtype):
        return np.memmap(tmp_path / part, dtype, "w+", shape=shape)

    told = []
    mapped = simulate_implant(
        seed=1,
        name="one",
        settings=SMALL,
        into=into,
        told=lambda *step: told.append(step),
    )
    for part in PARTS:
        np.testing.assert_array_equal(getattr(mapped, part), getattr(implant, part))
    assert mapped.facts == implant.facts
    assert told[:20] == [("scan", z + 1, 20) for z in range(20)]
    assert told[-1] == ("label", 20, 20)


def test_unknown_settings_are_refused():
    with pytest.raises(Refused, match=r"scan.photos: unknown key, did you mean 'photons'"):
        simulated(scan={"photos": 3})
