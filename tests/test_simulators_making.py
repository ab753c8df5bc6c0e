"""From a simulator to files: room for large volumes, quantities as a table, distances."""

import csv
import json
import logging

import mrcfile
import numpy as np
import pytest

from tomoglean import volumes
from tomoglean.simulators import files, making, outputs
from tomoglean.simulators.implant import Implant
from tomoglean.simulators.minicell import simulate_minicell

SHAPE = (3, 4, 5)
FACTS = {
    "classes": ["background", "bone"],
    "optics": {"energy_kev": 38},
    "settings": {"field": {"voxel_um": 5.0}, "scan": {"distance_mm": 30.0}},
    "truth": {
        "volume_mm3": 1.5,
        "error_mm3": 1e-9,
        "contact_percent": [10.0, 20.0],
        "shells": [{"to_um": 25.0, "share": None}],
    },
}
TINY = {
    "field": {"shape_px": [60, 70, 64], "voxel_nm": 3.6},
    "cell": {"diameter_nm": [180, 190], "axis_ratio": [1.0, 1.1]},
    "machines": {"number": [2]},
    "decoys": {"number": 3},
    "microscope": {"mode": "fast"},
}


@pytest.fixture
def screw(tmp_path):
    labels = np.zeros(SHAPE, np.uint8)
    made = Implant(np.ones(SHAPE, np.float32), labels, labels, labels, FACTS)
    paths = files.paths("implant", tmp_path, "a")
    outputs.write_implant(made, paths)
    return paths


@pytest.fixture(scope="module")
def cell(tmp_path_factory):
    made = simulate_minicell(seed=1, name="a", settings=TINY)
    paths = files.paths("minicell", tmp_path_factory.mktemp("cell"), "a")
    outputs.write_minicell(made, paths)
    return made, paths


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


# -- implants ----------------------------------------------------------------------------


def test_quantities_become_rows_with_all_their_digits(screw):
    found = {
        (row["quantity"], row["at"]): row["value"] for row in rows(screw["quantities"])
    }
    assert found == {
        ("volume_mm3", ""): "1.5",
        ("error_mm3", ""): "1e-09",
        ("contact_percent", "0"): "10",
        ("contact_percent", "1"): "20",
        ("shells.to_um", "0"): "25",
        ("shells.share", "0"): "",
    }


@pytest.mark.parametrize(
    ("name", "unit"),
    [("bone_mm3", "mm3"), ("bone_mm3_sem", "mm3"), ("rate_initial_mm_per_year", "mm/year"),
     ("loss_um", "um"), ("shell_edges_um", "um"), ("depth_mm", "mm"), ("area_mm2", "mm2"),
     ("bone_contact_curve_percent", "%"), ("bone_volume_fraction", "1")],
)  # fmt: skip
def test_every_quantity_has_its_unit(name, unit):
    (row,) = outputs._quantities(name, 0.5)
    assert row == {"quantity": name, "at": "", "value": "0.5", "unit": unit}


def test_the_simulator_says_how_far_it_is_ten_times(caplog):
    caplog.set_level(logging.INFO)
    for done in range(1, 641):
        making.tell("scan", done, 640)
    assert [record.getMessage() for record in caplog.records] == [
        f"scan: {done} of 640" for done in range(64, 641, 64)
    ]


def test_few_slices_are_told_each(caplog):
    caplog.set_level(logging.INFO)
    for done in range(1, 4):
        making.tell("scan", done, 3)
    assert len(caplog.records) == 3


def test_small_volumes_wait_in_memory_and_large_ones_on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(making, "MOST_IN_MEMORY", 60)
    with making.scratch(tmp_path) as into:
        small, large = into("a", SHAPE, np.uint8), into("b", SHAPE, np.float32)
        large[:] = 7
        assert not isinstance(small, np.memmap)
        assert isinstance(large, np.memmap)
        assert large.shape == SHAPE
    assert list(tmp_path.iterdir()) == []


def test_what_waits_on_disk_goes_away_with_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(making, "MOST_IN_MEMORY", 0)
    with pytest.raises(ZeroDivisionError), making.scratch(tmp_path) as into:
        into("a", SHAPE, np.uint8)[0] = 1 / 0
    assert list(tmp_path.iterdir()) == []


def test_the_room_does_not_change_the_bytes(screw, tmp_path, monkeypatch):
    asked = {}

    def simulate(*, seed, name, settings, into, told):
        for part in ("image", "truth", "weak", "corrected"):
            asked[part] = into(part, SHAPE, np.float32 if part == "image" else np.uint8)
            asked[part][:] = part == "image"
        return Implant(**asked, facts=FACTS)

    monkeypatch.setattr(making, "simulate_implant", simulate)
    monkeypatch.setattr(making, "MOST_IN_MEMORY", 0)
    paths = files.paths("implant", tmp_path / "b", "a")
    making.implant(seed=1, name="a", settings={}, paths=paths, facts={"more": 1})
    assert isinstance(asked["image"], np.memmap)
    for part in ("volume", "truth", "weak", "corrected", "quantities", "codes"):
        assert paths[part].read_bytes() == screw[part].read_bytes(), part
    assert json.loads(paths["facts"].read_text())["more"] == 1


# -- minicells ---------------------------------------------------------------------------


def test_distances_are_those_of_the_scene(cell):
    made, paths = cell
    outer, inner = made.scene.distances()
    for dataset, expected in (("data", outer), ("inner", inner)):
        found = volumes.read(paths["distances"], dataset)
        np.testing.assert_allclose(found.data, expected, rtol=2e-3, atol=1e-3)
        assert found.voxel_nm == (3.6, 3.6, 3.6)


def test_membranes_lie_where_the_distances_are_small(cell):
    made, paths = cell
    outer, inner = made.scene.distances()
    expected = np.minimum(np.abs(outer), np.abs(inner)) <= 3.0
    assert np.array_equal(mrcfile.read(paths["membranes"]), expected)


def test_points_are_told_for_the_largest_tilt_that_was_recorded(tmp_path):
    microscope = {"mode": "fast", "tilt_max_deg": 44.9}
    made = simulate_minicell(seed=1, name="a", settings={**TINY, "microscope": microscope})
    assert made.facts["tilt_max_deg"] == 42
    paths = files.paths("minicell", tmp_path, "a")
    outputs.write_minicell(made, paths)
    told = [float(row["visibility"] or "nan") for row in rows(paths["points"])]
    np.testing.assert_allclose(told, made.table()["visibility"], atol=1e-4)


def test_points_tell_every_site_and_the_star_file_the_machines(cell):
    made, paths = cell
    points = rows(paths["points"])
    assert [row["class"] for row in points] == [site.kind for site in made.points]
    for row, site in zip(points, made.points, strict=True):
        place = [float(row[axis]) for axis in "zyx"]
        assert place == pytest.approx(site.place_nm, abs=1e-4)
    assert {"wedge_angle", "wedge_class", "gap_nm", "visibility"} <= points[0].keys()
    star = paths["star"].read_text()
    assert star.count("a/") == [site.kind for site in made.points].count("t3ss") == 2


def test_picks_are_those_of_the_annotator(cell):
    made, paths = cell
    picks = rows(paths["picks"])
    assert len(picks) == len(made.picks)
    for row, site in zip(picks, made.picks, strict=True):
        place = [float(row[axis]) for axis in "zyx"]
        assert place == pytest.approx(site.place_nm, abs=1e-4)


def test_every_label_has_a_name(cell):
    made, paths = cell
    names = {int(row["value"]): row["name"] for row in rows(paths["codes"])}
    assert set(np.unique(made.labels)) <= names.keys()
    for site in made.points:
        if site.kind not in ("empty", "ice"):
            assert site.kind in names.values()


def test_a_field_without_a_cell_has_files_too(tmp_path):
    settings = {**TINY, "field": {**TINY["field"], "cell": False, "ice_nm": 150}}
    paths = files.paths("minicell", tmp_path, "ice")
    making.minicell(seed=1, name="ice", settings=settings, paths=paths)
    assert all(path.is_file() for path in paths.values())
    assert rows(paths["picks"]) == []
    assert volumes.read(paths["distances"]).data.min() == 1000
    assert not mrcfile.read(paths["membranes"]).any()
