"""The minicell phantom as a whole: tomogram, tilt series, truth and facts in one call."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage

from tomoglean import config
from tomoglean.provenance import Refused
from tomoglean.simulators.minicell import simulate_minicell
from tomoglean.simulators.minicell.annotator import WEDGE_CLASSES, wedge_class
from tomoglean.simulators.minicell.scene import CODES, LABELS

FIELD = {"shape_px": [56, 64, 64], "voxel_nm": 4.5}
VOXEL_NM = FIELD["voxel_nm"]
BUSY = {"number": [3]}


def simulated(seed=1, name="one", **groups):
    settings = {"field": FIELD, "machines": BUSY, **groups}
    return simulate_minicell(seed=seed, name=name, settings=settings)


def fast(**changes):
    return {"mode": "fast", **changes}


@pytest.fixture(scope="module")
def cell():
    return simulated()


@pytest.fixture(scope="module")
def quick():
    return simulated(microscope=fast())


def digest(minicell):
    parts = [minicell.image, minicell.truth, minicell.labels]
    if minicell.series:
        parts += [minicell.series.counts, minicell.series.expected]
    told = repr([minicell.points, minicell.picks]).encode()
    return hashlib.sha256(b"".join(part.tobytes() for part in parts) + told).hexdigest()


def test_same_seed_and_name_give_the_same_bytes(cell):
    again = simulated()
    assert digest(again) == digest(cell)
    assert again.facts == cell.facts


def test_fast_mode_gives_the_same_bytes_too(quick):
    assert digest(simulated(microscope=fast())) == digest(quick)


@pytest.mark.parametrize("other", [{"seed": 2}, {"name": "two"}])
def test_another_seed_or_name_gives_another_cell(quick, other):
    assert digest(simulated(**other, microscope=fast())) != digest(quick)


IN_ANOTHER_PROCESS = """
import hashlib, sys
from tomoglean.simulators.minicell import simulate_minicell
field = {"shape_px": [56, 64, 64], "voxel_nm": 4.5}
settings = {"field": field, "machines": {"number": [3]}}
cell = simulate_minicell(seed=1, name="one", settings=settings)
print(hashlib.sha256(cell.image.tobytes() + cell.series.counts.tobytes()).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.parametrize("threads", ["1", "2", "5"])
def test_same_bytes_at_any_thread_count(cell, threads):
    env = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
    run = subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_PROCESS],
        env=env | {"PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    both = cell.image.tobytes() + cell.series.counts.tobytes()
    assert run.stdout.strip() == hashlib.sha256(both).hexdigest()


def test_everything_has_the_shape_of_the_field(cell):
    shape = tuple(FIELD["shape_px"])
    assert cell.image.shape == cell.truth.shape == cell.labels.shape == shape
    assert cell.image.dtype == np.float32
    assert cell.labels.dtype == np.uint8
    assert cell.clean().shape == shape


def test_tilt_series_comes_along(cell):
    assert cell.series.counts.shape == (35, 64, 64)
    np.testing.assert_allclose(cell.series.angles_deg, np.arange(-51, 52, 3))
    np.testing.assert_array_equal(cell.series.counts, np.rint(cell.series.counts))
    assert cell.facts["tilts_deg"] == cell.series.angles_deg.tolist()


def test_fast_mode_has_no_tilt_series(quick):
    assert quick.series is None
    assert "electrons" not in quick.facts


@pytest.mark.parametrize("mode", ["cell", "quick"])
def test_noise_is_one_and_protein_dark(mode, request):
    seen = request.getfixturevalue(mode)
    clean, image = seen.clean(), seen.image
    middle = (slice(14, 42), slice(None), slice(16, 48))
    assert (image - clean)[middle].std() == pytest.approx(1, abs=0.02)
    ribosomes = seen.scene.density[:, :, seen.scene.margin_px :][:, :, :64] > 1.2
    assert clean[ribosomes & (seen.labels == CODES["cytosol"])].mean() < -0.3


@pytest.mark.parametrize("mode", ["cell", "quick"])
def test_snr_is_that_of_signal_and_noise_apart(mode, request):
    seen = request.getfixturevalue(mode)
    clean, inside = seen.clean(), seen.scene.inside
    ratio = clean[inside].var() / (seen.image - clean)[inside].var()
    assert seen.facts["snr"] == pytest.approx(ratio, rel=0.05)


@pytest.mark.parametrize("snr", [0.05, 0.4])
def test_fast_mode_has_the_snr_asked_for(snr):
    seen = simulated(microscope=fast(snr=snr))
    assert seen.facts["snr"] == snr
    assert seen.clean()[seen.scene.inside].var() == pytest.approx(snr, rel=1e-3)


def test_modes_agree_on_the_signal(cell, quick):
    inside = ndimage.binary_erosion(cell.scene.inside, iterations=2)
    one, other = cell.clean()[inside], quick.clean()[inside]
    assert np.corrcoef(one, other)[0, 1] > 0.8


def test_a_machine_stands_dark_where_the_truth_says():
    """Beside the needle is ice: the difference tells where the needle is."""
    seen = simulated(
        machines={"number": [6]}, microscope={"dose_per_a2": 1e6, "defocus_um": 3.0}
    )
    contrasts = []
    for site in seen.points:
        if site.kind != "t3ss" or site.wedge_angle < 60:
            continue
        up = (
            site.place_nm
            + (site.gap_nm / 2 + np.linspace(8, 40, 20)[:, None]) * site.normal
        )
        aside = up + 16.0 * np.cross(site.normal, [1.0, 0.0, 0.0])
        needle, ice = (
            ndimage.map_coordinates(seen.image, places.T / VOXEL_NM, order=1)
            for places in (up, aside)
        )
        contrasts.append(ice.mean() - needle.mean())
    assert contrasts
    assert min(contrasts) > 5


def test_membranes_are_thin_and_both_there(cell):
    assert set(np.unique(cell.truth)) == {0, 1}
    outer, inner = cell.scene.distances()
    on = cell.truth == 1
    assert np.minimum(np.abs(outer), np.abs(inner))[on].max() <= 3
    assert (np.abs(outer)[on] <= 3).any()
    assert (np.abs(inner)[on] <= 3).any()


def test_facts_can_be_written_and_say_all_settings(cell):
    told = json.loads(json.dumps(cell.facts))
    assert told["settings"] == config.filled(
        {"field": FIELD, "machines": BUSY}, "phantom-minicell", "test", ""
    )
    assert told["definitions"]["origin"].startswith("on a machine's axis")
    assert told["labels"] == list(LABELS)


def test_facts_count_sites_by_kind_and_wedge_class(cell):
    kinds = [point.kind for point in cell.points]
    assert cell.facts["counts"] == {kind: kinds.count(kind) for kind in set(kinds)}
    assert cell.facts["machines"] == kinds.count("t3ss") == 3
    for name in WEDGE_CLASSES:
        expected = [p for p in cell.points if p.kind == "t3ss"]
        expected = [p for p in expected if wedge_class(p, 51.0) == name]
        assert cell.facts["wedge_classes"]["t3ss"][name] == len(expected)
    assert set(cell.facts["wedge_classes"]) == {p.kind for p in cell.points if p.gap_nm}


def test_table_tells_every_site(cell):
    table = cell.table()
    assert table["class"].tolist() == [point.kind for point in cell.points]
    np.testing.assert_allclose(table[["z", "y", "x"]], [p.place_nm for p in cell.points])
    for name in WEDGE_CLASSES:
        machines = (table["class"] == "t3ss") & (table["wedge_class"] == name)
        assert machines.sum() == cell.facts["wedge_classes"]["t3ss"][name]
    assert table["visibility"].dropna().between(0.1, 1).all()


def test_facts_tell_the_electrons(cell):
    electrons = cell.facts["electrons"]
    assert electrons["before_ice"] == pytest.approx(80 * 45**2 / 35, abs=0.01)
    through = np.exp(-cell.facts["ice_nm"] / 350)
    assert electrons["behind_ice"][17] == pytest.approx(
        electrons["before_ice"] * through, rel=1e-4
    )
    share = np.divide(electrons["recorded"], electrons["behind_ice"])
    np.testing.assert_allclose(share, 0.8, atol=0.03)


def test_an_empty_cell_has_decoys_but_no_machine():
    empty = simulated(machines={"number": [0]}, microscope=fast())
    assert empty.truth.any()
    assert empty.facts["machines"] == 0
    assert len(empty.points) > 3


@pytest.mark.parametrize("microscope", [{}, fast()])
def test_ice_alone_has_neither_membrane_nor_machines(microscope):
    field = {"shape_px": [40, 48, 48], "voxel_nm": 3.6, "cell": False}
    ice = simulated(field=field, microscope=microscope)
    assert not ice.truth.any()
    assert {point.kind for point in ice.points} <= {"gold", "ice"}
    assert ice.facts["cell"] is None
    assert np.isfinite(ice.image).all()
    assert (ice.image - ice.clean()).std() == pytest.approx(1, abs=0.1)
    assert (ice.facts["snr"] is None) == (microscope == {})


def test_picks_are_machines_beside_the_true_ones(cell):
    assert {pick.kind for pick in cell.picks} <= {"t3ss"}
    places = np.array([point.place_nm for point in cell.points])
    for pick in cell.picks:
        assert np.linalg.norm(places - pick.place_nm, axis=1).min() < 20


def test_the_motor_can_be_the_machine():
    seen = simulated(machines={"kind": "motor", "number": [2]}, microscope=fast())
    assert seen.facts["machine_kind"] == "motor"
    assert seen.facts["machines"] == 2
    assert {pick.kind for pick in seen.picks} <= {"motor"}


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ({"microscope": {"dose": 80}}, "unknown key"),
        ({"microscope": {"tilt_max_deg": 90}}, "at most 80"),
        ({"microscope": {"mode": "slow"}}, "full, fast"),
        ({"field": {"shape_px": [24, 40, 40], "voxel_nm": 3.6}}, "enlarge field.shape_px"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(groups, said):
    with pytest.raises(Refused, match=said) as refused:
        simulated(**groups)
    assert "\n" not in str(refused.value)


def test_all_settings_have_defaults():
    full = config.filled({}, "phantom-minicell", "test", "")
    assert full["microscope"]["mode"] == "full"
    assert full["microscope"]["snr"] == 0.1
