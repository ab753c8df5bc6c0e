"""The annotator errs as said: by wedge class and noise, in place and axis, at decoys."""

import numpy as np
import pytest

from tomoglean import config
from tomoglean.simulators.minicell.annotator import (
    Annotator,
    annotate,
    chances,
    wedge_class,
)
from tomoglean.simulators.minicell.bodies import Site, wedge_margin

FULL = config.filled({}, "phantom-minicell", "test", "")["annotator"]
USUAL = Annotator(**FULL)
STEP_NM = 200.0


def person(**changes):
    return Annotator(**{**FULL, **changes})


def picked(sites, who=USUAL, *, name="one", number=1.2, snr=None, tilt=51.0):
    snr = who.usual_snr if snr is None else snr
    usual = {"kind": "t3ss", "usual_number": number, "snr": snr, "tilt_max_deg": tilt}
    return annotate(1, name, sites, who, **usual)


def crowd(number, kind="t3ss", start=0.0):
    """Sites in a row, their axes spread evenly over the sphere."""
    normals = np.random.default_rng(5).standard_normal((number, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    places = start + STEP_NM * np.arange(number)[:, None] + np.zeros(3)
    return [Site(p, n, kind) for p, n in zip(places, normals, strict=True)]


def found(picks):
    return {round(pick.place_nm[0] / STEP_NM) for pick in picks}


def test_schema_and_annotator_name_the_same_keys():
    schema = config.read_schema("phantom-minicell")["properties"]["annotator"]
    assert list(schema["properties"]) == list(Annotator.__dataclass_fields__)


@pytest.mark.parametrize(
    ("angle", "name"),
    [
        (0, "inside"),
        (28.9, "inside"),
        (29.1, "edge"),
        (39, "edge"),
        (48.9, "edge"),
        (49.1, "outside"),
        (90, "outside"),
    ],
)
def test_wedge_classes_are_those_of_the_sheet(angle, name):
    turn = np.radians(angle)
    normal = np.array([np.cos(turn), 0.0, np.sin(turn)])
    site = Site(np.zeros(3), normal, "t3ss")
    assert site.wedge_angle == pytest.approx(angle)
    assert wedge_class(site, 51.0) == name


def test_wedge_classes_take_their_shares_of_a_sphere():
    classes = [wedge_class(site, 51.0) for site in crowd(8000)]
    for name, share in (("inside", 29 / 90), ("edge", 20 / 90), ("outside", 41 / 90)):
        assert classes.count(name) / 8000 == pytest.approx(share, abs=0.015)
    hidden = np.mean([wedge_margin(site, 51.0) < 0 for site in crowd(8000)])
    assert hidden == pytest.approx(0.433, abs=0.015)


def test_a_fifth_is_missed_and_the_hidden_ones_most():
    machines = crowd(4000)
    seen = found(picked(machines, number=0.0))
    missed = np.array([index not in seen for index in range(4000)])
    assert missed.mean() == pytest.approx(0.2, abs=0.02)
    said = chances(USUAL, snr=USUAL.usual_snr, tilt_max_deg=51.0)
    for name, chance in said.items():
        these = [wedge_class(machine, 51.0) == name for machine in machines]
        assert missed[these].mean() == pytest.approx(chance, abs=0.03)
    assert said["inside"] > said["edge"] > said["outside"]


@pytest.mark.parametrize("tilt", [30.0, 51.0, 60.0, 66.0, 80.0])
@pytest.mark.parametrize("miss", [0.2, 0.5])
def test_the_mean_miss_holds_at_any_tilt(tilt, miss):
    machines = crowd(1500)
    picks = picked(machines, person(miss=miss), number=0.0, tilt=tilt)
    assert 1 - len(picks) / 1500 == pytest.approx(miss, abs=0.04)


def test_more_is_missed_where_noise_is_stronger():
    few, many = (
        len(picked(crowd(2000), number=0.0, snr=f * USUAL.usual_snr)) for f in (0.5, 2.0)
    )
    assert few < len(picked(crowd(2000), number=0.0)) < many


def test_odds_to_miss_fall_with_the_root_of_the_snr():
    odds = [
        {name: p / (1 - p) for name, p in chances(USUAL, snr=s, tilt_max_deg=51.0).items()}
        for s in (0.2, 0.8)
    ]
    for name, less in odds[1].items():
        assert odds[0][name] == pytest.approx(2 * less)


@pytest.mark.parametrize("snr", [1e-6, 1.0, 1e6])
def test_who_misses_nothing_does_so_at_any_noise(snr):
    assert len(picked(crowd(50), person(miss=0.0), number=0.0, snr=snr)) == 50


def test_picks_err_by_five_nanometres():
    machines = crowd(2000)
    errors = [
        pick.place_nm - machines[round(pick.place_nm[0] / STEP_NM)].place_nm
        for pick in picked(machines, number=0.0)
    ]
    assert np.sqrt(np.mean(np.sum(np.square(errors), 1))) == pytest.approx(5, abs=0.2)
    np.testing.assert_allclose(np.mean(errors, 0), 0, atol=0.3)


def test_axes_tip_by_what_was_said():
    machines = crowd(2000)
    tips = []
    for pick in picked(machines, person(tip_deg=4.0), number=0.0):
        machine = machines[round(pick.place_nm[0] / STEP_NM)]
        assert np.linalg.norm(pick.normal) == pytest.approx(1)
        tips.append(np.degrees(np.arccos(np.clip(pick.normal @ machine.normal, -1, 1))))
    assert np.sqrt(np.mean(np.square(tips))) == pytest.approx(4 * np.sqrt(2), rel=0.05)


def test_false_picks_have_their_share_over_many_tomograms():
    machines, decoys = crowd(3000), crowd(6, "ribosome", start=-5000.0)
    tomograms = [machines[i : i + 2] + decoys for i in range(0, 3000, 2)]
    picks = [p for i, t in enumerate(tomograms) for p in picked(t, name=i, number=2.0)]
    false = np.mean([pick.place_nm[0] < -1000 for pick in picks])
    assert false == pytest.approx(0.08, abs=0.015)


def test_empty_tomograms_have_false_picks_too():
    decoys = crowd(6, "vesicle")
    assert any(picked(decoys, name=i, number=1.2) for i in range(60))


def test_no_decoy_is_taken_twice():
    decoys = crowd(4, "ribosome")
    picks = picked(decoys, person(jitter_nm=1.0), number=1000.0)
    assert len(picks) == len(found(picks)) == 4


@pytest.mark.parametrize("kind", ["gold", "ice", "empty"])
def test_nobody_is_fooled_by(kind):
    assert picked(crowd(20, kind), number=1000.0) == []


def test_picks_are_all_called_machines():
    sites = crowd(20) + crowd(5, "fold", start=-9000.0)
    assert {pick.kind for pick in picked(sites, number=50.0)} == {"t3ss"}


def test_a_pick_does_not_depend_on_the_decoys():
    machines, decoys = crowd(5), crowd(9, "fold", start=-9000.0)
    alone = picked(machines, number=0.0)
    beside = picked(decoys + machines, number=0.0)
    for one, other in zip(alone, beside, strict=True):
        np.testing.assert_array_equal(one.place_nm, other.place_nm)


def test_a_perfect_annotator_tells_the_truth():
    machines = crowd(20)
    perfect = person(miss=0.0, jitter_nm=0.0, tip_deg=0.0, false=0.0)
    picks = picked(machines, perfect)
    assert len(picks) == 20
    for pick, machine in zip(picks, machines, strict=True):
        np.testing.assert_allclose(pick.place_nm, machine.place_nm)
        np.testing.assert_allclose(pick.normal, machine.normal)
