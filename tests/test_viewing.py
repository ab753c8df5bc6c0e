"""What is written for other programs is what their readers see, whatever it is called."""

import json
import re
import shlex
import struct
import threading
import urllib.error
import urllib.request
from xml.etree import ElementTree

import imodmodel
import mrcfile
import numpy as np
import pytest
import zarr

from tomoglean import __main__ as command
from tomoglean import formats, particles, provenance, tables, viewing, volumes
from tomoglean.formats import pyramids
from tomoglean.particles import Grid
from tomoglean.provenance import Refused
from tomoglean.report import style
from tomoglean.tables import Picks, Points
from tomoglean.viewing import models, neuroglancer, scene, scripts, serving
from tomoglean.volumes import Volume

SHAPE = (12, 20, 24)
VOXEL_NM = (2.0, 1.0, 1.0)
ORIGIN_NM = (40.0, -7.0, 3.0)
CLASSES = ["background", "inner", "outer"]
NASTY = [
    'a"; run("quit"); //',
    "a' ; rm -rf ~ #",
    "</script><script>alert(1)</script>",
    "a]b[c",
    "$(reboot)`id`",
    'x\\"y\\',
    "line\nbreak\r\x00\x1b[31m",
    "%s{{7*7}}",
    "=cmd|'/C calc'!A0",
    "ünï–code",
]


def picks(*places, scores=None):
    positions = np.array(places, float).reshape(-1, 3)
    nm = positions * VOXEL_NM
    scores = np.linspace(0.9, 0.5, len(positions)) if scores is None else scores
    return Picks(positions, nm, np.zeros_like(positions), np.asarray(scores, float))


@pytest.fixture
def study(tmp_path):
    return make_study(tmp_path / "my study")


def make_study(root):
    """Make a study with one volume, its labels of two classes, and two candidates."""
    (root / "config").mkdir(parents=True)
    task = "{kind: semantic, classes: [background, inner, outer]}"
    t3ss = "{kind: detection, membrane: cell, mask: {membrane_class: inner}}"
    config = f"tasks:\n  cell: {task}\n  t3ss: {t3ss}\n"
    (root / "config" / "config.yaml").write_text(config)
    (root / "config" / "volumes.tsv").write_text(
        "volume\ttasks\tpath\nmini-1\tcell,t3ss\tgone/mini-1.mrc\n"
    )
    (root / "config" / "labels.tsv").write_text("task\tvolume\tkind\tuse\tpath\n")
    results = root / "results"
    grey = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    volumes.write(
        Volume(grey, VOXEL_NM, None, ORIGIN_NM),
        results / "converted" / "mini-1.h5",
        p_low=10.0,
        p_high=5000.0,
    )
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:9, 4:14, 5:20] = 2
    labels[4:7, 7:11, 9:15] = 1
    segmented = Volume(labels, VOXEL_NM, None, ORIGIN_NM)
    path = results / "segmented" / "cell" / "final" / "mini-1.h5"
    volumes.write(segmented, path, classes=json.dumps(CLASSES))
    (results / "picked/t3ss/final").mkdir(parents=True)
    found = picks((3, 4.25, 5.5), (10, 19, 23))
    tables.write_picks(found, results / "picked/t3ss/final/mini-1.csv")
    return root


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """The scene, the folder of everything written for it, and what was said."""
    root = tmp_path_factory.mktemp("all")
    found = viewing.of_study(_read(make_study(root / "my study")), "mini-1")
    folder = root / "it's a folder"
    return found, folder, viewing.prepare(found, folder)


def _read(root):
    from tomoglean import study

    return study.as_written(root)


def labels_of(study):
    return volumes.read(study / "results/segmented/cell/final/mini-1.h5").data


# -- what belongs to a volume ----------------------------------------------------------


def test_another_round_shows_its_own_candidates(tmp_path):
    study = make_study(tmp_path / "study")
    (study / "results/published/t3ss").mkdir(parents=True)
    published = picks((1, 1, 1))
    tables.write_picks(published, study / "results/published/t3ss/mini-1.csv")
    other = study / "results/picked/t3ss/control-thin"
    other.mkdir()
    tables.write_picks(picks((2, 2, 2), (7, 7, 7)), other / "mini-1.csv")
    counts = {"final": 1, "control-thin": 2}
    for round_, count in counts.items():
        (points,) = viewing.of_study(_read(study), "mini-1", round_).points
        assert len(points.positions) == count


def test_labels_and_candidates_come_with_the_volume(seen):
    found, _, lines = seen
    assert found.window == (10.0, 5000.0)
    assert found.labels[0].classes == {1: "inner", 2: "outer"}
    assert [p.name for p in found.points] == ["t3ss picks"]
    assert lines[0].startswith("mini-1: 12 x 20 x 24 voxels (z, y, x) of 2 x 1 nm")
    assert "cell labels; 2 t3ss picks" in lines[0]


def test_classes_have_the_colours_of_the_report(seen):
    found, _, _ = seen
    report = style.class_colours(CLASSES)
    assert found.labels[0].colours == {1: report["inner"], 2: report["outer"]}


def test_judged_candidates_are_told_apart_by_outcome(study):
    path = study / "results/evaluated/t3ss/matches.csv"
    path.parent.mkdir(parents=True)
    head = "round,use,volume,z,y,x,score,outcome,distance_nm,cause\n"
    rows = [
        "final,test,mini-1,1,2,3,0.9,TP,0.5,",
        "final,test,mini-1,5,6,7,,FN,,",
        "weak,test,mini-1,9,9,9,0.9,TP,0.5,",
        "final,test,mini-2,8,8,8,0.9,FP,,",
    ]
    path.write_text(head + "\n".join(rows) + "\n")
    found = viewing.of_study(_read(study), "mini-1").points
    assert [(p.name, p.positions.tolist()) for p in found] == [
        ("t3ss TP", [[1, 2, 3]]),
        ("t3ss FN", [[5, 6, 7]]),
    ]
    assert found[0].colour == style.OUTCOME_COLOURS["TP"]
    assert np.isnan(found[1].scores[0])


def test_truth_is_shown_beside_candidates_that_nobody_judged(study):
    path = study / "results/converted/t3ss/train/points/mini-1.csv"
    path.parent.mkdir(parents=True)
    tables.write_points(Points(np.ones((3, 3)), np.zeros((3, 3)), ("t3ss",) * 3), path)
    names = [p.name for p in viewing.of_study(_read(study), "mini-1").points]
    assert names == ["t3ss picks", "t3ss truth"]


def test_labels_of_another_grid_are_left_out_and_told(study):
    path = study / "results/segmented/cell/final/mini-1.h5"
    small = Volume(np.ones((3, 4, 5), np.uint8), VOXEL_NM)
    volumes.write(small, path, classes=json.dumps(CLASSES))
    found = viewing.of_study(_read(study), "mini-1")
    assert not found.labels
    assert "cell: its grid (3, 4, 5) is not the image's" in viewing.told(found)[1]


def test_a_raw_file_is_looked_at_alone(tmp_path):
    np.save(tmp_path / "raw.npy", np.arange(5 * 6 * 7, dtype=np.int16).reshape(5, 6, 7))
    found = viewing.of_file(tmp_path / "raw.npy", {"voxel_nm": "3"})
    assert (found.shape, found.voxel_nm) == ((5, 6, 7), (3.0, 3.0, 3.0))
    assert 0 <= found.window[0] < found.window[1] <= 209
    with pytest.raises(Refused, match="voxel size"):
        viewing.of_file(tmp_path / "raw.npy", {})


def test_a_flat_image_still_has_a_window(tmp_path):
    np.save(tmp_path / "flat.npy", np.full((4, 5, 6), 7, np.int16))
    low, high = viewing.of_file(tmp_path / "flat.npy", {"voxel_nm": "3"}).window
    assert low < high


def test_a_volume_that_no_table_names_is_shown_if_it_is_there(study, capsys):
    """Such as one that came in by itself."""
    results = study / "results"
    (results / "converted/mini-1.h5").rename(results / "converted/came-in.h5")
    found = viewing.of_study(_read(study), "came-in")
    assert found.shape == SHAPE
    assert viewing.ids(_read(study)) == ["mini-1", "came-in"]
    assert command.main(["view", str(study)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("mini-1: view: expected results/converted/mini-1.h5")
    assert said[1].startswith("came-in: 12 x 20 x 24")


def test_an_unknown_or_unmade_volume_is_one_line(study):
    for name in ("mini-9", "../../../secret"):
        with pytest.raises(Refused, match=f"found '{name}'; known: mini-1"):
            viewing.of_study(_read(study), name)
    (study / "results/converted/mini-1.h5").unlink()
    with pytest.raises(Refused, match=r"run `snakemake results/converted/mini-1\.h5`"):
        viewing.of_study(_read(study), "mini-1")


# -- volumes ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["image", "cell.labels"])
def test_both_copies_hold_the_voxels_and_where_they_are(seen, study, name):
    _, folder, _ = seen
    source = "converted/mini-1.h5" if name == "image" else "segmented/cell/final/mini-1.h5"
    expected = volumes.read(study / "results" / source).data
    with mrcfile.open(folder / f"{name}.mrc") as file:
        np.testing.assert_array_equal(file.data, expected)
        assert file.voxel_size.z == pytest.approx(20)
    group = zarr.open_group(folder / f"{name}.ome.zarr", mode="r")
    np.testing.assert_array_equal(group["0"][...], expected)
    placed = group.attrs["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    assert placed[0]["scale"] == list(VOXEL_NM)
    assert placed[1]["translation"] == list(ORIGIN_NM)


def test_each_class_is_a_mask_of_its_own(seen, study):
    _, folder, _ = seen
    for value in (1, 2):
        with mrcfile.open(folder / f"cell.class-{value}.mrc") as file:
            np.testing.assert_array_equal(file.data, labels_of(study) == value)


def test_what_was_made_from_the_same_file_stays(study, tmp_path):
    folder, found = tmp_path / "seen", viewing.of_study(_read(study), "mini-1")
    viewing.prepare(found, folder)
    before = (folder / "image.mrc").stat().st_mtime_ns
    viewing.prepare(found, folder)
    assert (folder / "image.mrc").stat().st_mtime_ns == before
    path = study / "results/converted/mini-1.h5"
    volumes.write(Volume(np.ones(SHAPE, np.float32), VOXEL_NM), path, p_low=0.0, p_high=1.0)
    viewing.prepare(viewing.of_study(_read(study), "mini-1"), folder)
    with mrcfile.open(folder / "image.mrc") as file:
        assert (file.data == 1).all()


def test_a_folder_of_other_things_is_left_alone(study, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "image.mrc").write_text("years of work")
    with pytest.raises(Refused, match="new or empty folder"):
        viewing.prepare(viewing.of_study(_read(study), "mini-1"), tmp_path / "mine")
    assert (tmp_path / "mine" / "image.mrc").read_text() == "years of work"


@pytest.mark.parametrize(
    ("programs", "there", "missing"),
    [
        (["napari"], {"image.ome.zarr", "open_napari.py"}, {"image.mrc", "open.cxc"}),
        (["imod"], {"image.mrc", "marks.mod"}, {"image.ome.zarr", "cell.labels.mrc"}),
        (["fiji"], {"cell.labels.mrc", "open.ijm"}, {"image.ome.zarr", "marks.mod"}),
    ],
)
def test_only_what_a_program_needs_is_written(study, tmp_path, programs, there, missing):
    found = viewing.of_study(_read(study), "mini-1")
    lines = viewing.prepare(found, tmp_path / "seen", programs)
    names = {path.name for path in (tmp_path / "seen").iterdir()}
    assert there <= names
    assert not missing & names
    assert len(lines) == 2


# -- IMOD ------------------------------------------------------------------------------


def test_imod_finds_the_points_where_they_are(seen):
    _, folder, _ = seen
    table = imodmodel.read(folder / "marks.mod")
    found = table[table["object_id"] == 2][["z", "y", "x"]].to_numpy()
    np.testing.assert_allclose(found, [[3, 4.75, 6.0], [10, 19.5, 23.5]], atol=1e-5)


def test_imod_outlines_run_between_the_voxels_of_a_class(seen, study):
    _, folder, _ = seen
    table = imodmodel.read(folder / "marks.mod")
    outer = table[(table["object_id"] == 1) & (table["z"] == 2)]
    where = np.argwhere(labels_of(study)[2] == 2)
    for axis, column in ((0, "y"), (1, "x")):  # the centre of voxel n is n + 0.5
        assert outer[column].min() == where[:, axis].min()
        assert outer[column].max() == where[:, axis].max() + 1
    assert sorted(set(table[table["object_id"] == 0]["z"])) == [4, 5, 6]


def test_an_outline_holds_the_area_of_its_mask():
    mask = np.zeros((30, 40), bool)
    mask[5:20, 8:33] = True
    mask[10:14, 12:20] = False
    areas = sorted(area(line) for line in models.outlines(mask))
    assert areas == pytest.approx([4 * 8, 15 * 25], abs=2)  # corners are cut by 1/8 each


def area(line):
    y, x = line.T
    return abs(np.dot(y, np.roll(x, 1)) - np.dot(x, np.roll(y, 1))) / 2


def test_a_mask_at_the_border_has_a_closed_outline():
    (line,) = models.outlines(np.ones((4, 6), bool))
    assert line.min() == -0.5
    assert line.max() == 5.5


@pytest.mark.parametrize(("most", "step"), [(1000, 1), (60, 2), (30, 4)])
def test_too_many_outlines_are_thinned_out_and_told(
    seen, tmp_path, monkeypatch, most, step
):
    found, _, _ = seen
    monkeypatch.setattr(models, "MOST_CORNERS", most)
    monkeypatch.setattr(models, "SAMPLED", SHAPE[0])
    said = models.write(found, tmp_path / "thin.mod")
    assert said.strip() == (f"thin.mod: outlines in one slice of {step} only" * (step > 1))
    table = imodmodel.read(tmp_path / "thin.mod")
    drawn = [z for z in range(0, SHAPE[0], step) if 2 <= z < 9]
    assert sorted(set(table[table["object_id"] == 1]["z"])) == drawn


def test_nothing_has_no_outline():
    assert models.outlines(np.zeros((4, 6), bool)) == []


def test_objects_are_named_and_coloured(seen):
    _, folder, _ = seen
    data = (folder / "marks.mod").read_bytes()
    heads = [data[m.end() : m.end() + 176] for m in re.finditer(b"OBJT", data)]
    names = [head[:64].rstrip(b"\0").decode() for head in heads]
    assert names == ["cell inner", "cell outer", "t3ss picks"]
    colour = struct.unpack(">3f", heads[0][144:156])
    assert [round(255 * c) for c in colour] == list(style.rgb(style.CLASS_COLOURS[0]))


def test_our_own_reader_takes_the_points_back(study, tmp_path):
    found = viewing.of_study(_read(study), "mini-1")
    only = scene.Scene(**{**vars(found), "labels": ()})
    models.write(only, tmp_path / "points.mod")
    back = particles.points(tmp_path / "points.mod", {}, Grid(SHAPE, VOXEL_NM))
    np.testing.assert_allclose(back.positions, found.points[0].positions, atol=1e-5)


# -- ChimeraX --------------------------------------------------------------------------


def test_chimerax_opens_every_file_and_puts_it_on_the_grid(seen):
    _, folder, _ = seen
    lines = (folder / "open.cxc").read_text().splitlines()
    opened = [shlex.split(line)[1] for line in lines if line.startswith("open ")]
    assert opened == ["image.mrc", "cell.class-1.mrc", "cell.class-2.mrc", "t3ss.picks.cmm"]
    assert all((folder / name).is_file() for name in opened)
    placed = [line for line in lines if "originIndex 0,0,0 voxelSize 10,10,20" in line]
    assert len(placed) == 3


def test_markers_stand_in_angstrom_on_that_grid(seen):
    _, folder, _ = seen
    root = ElementTree.parse(folder / "t3ss.picks.cmm").getroot()
    assert root.tag == "marker_set"
    places = [[float(marker.get(axis)) for axis in "zyx"] for marker in root]
    assert places == [[60, 42.5, 55], [200, 190, 230]]
    assert root[0].get("note") == "1: score 0.900"


# -- Fiji ------------------------------------------------------------------------------


def test_the_macro_opens_the_voxels_of_the_mrc_files(seen):
    _, folder, _ = seen
    text = (folder / "open.ijm").read_text()
    loads = re.findall(r'^load\("(.+)", "(.+)", "(.+)"\);$', text, re.MULTILINE)
    assert [name for name, _, _ in loads] == ["cell.labels.mrc", "image.mrc"]
    assert "width=24 height=20 number=12 offset=1024 gap=0 little-endian" in text
    kinds = {"32-bit Real": "<f4", "8-bit": "u1"}
    for name, kind, _ in loads:
        raw = np.fromfile(folder / name, kinds[kind], offset=1024).reshape(SHAPE)
        with mrcfile.open(folder / name) as file:
            np.testing.assert_array_equal(raw, file.data)
    assert "setVoxelSize(1, 1, 2, " in text


def test_the_macro_marks_every_candidate(seen):
    _, folder, _ = seen
    text = (folder / "open.ijm").read_text()
    marks = re.findall(r'^mark\(([\d., -]+), "(#\w{6})", "(.*)"\);$', text, re.MULTILINE)
    assert [place for place, _, _ in marks] == [
        "5.500, 4.250, 3.000",
        "23.000, 19.000, 10.000",
    ]
    assert marks[0][2] == "t3ss picks 1_ score 0.900"


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint16", "float32"])
def test_every_type_of_an_mrc_file_is_known_to_imagej(dtype, tmp_path):
    grey = np.arange(-60, 60).astype(dtype).reshape(4, 5, 6)
    volumes.write(Volume(grey, VOXEL_NM), tmp_path / "a.h5")
    found = viewing.of_file(tmp_path / "a.h5")
    viewing.prepare(found, tmp_path / "seen", ["fiji"])
    text = (tmp_path / "seen" / "open.ijm").read_text()
    assert f'"{scripts.IMAGEJ_TYPES[dtype]}"' in text
    assert ("v-256" in text) == (dtype == "int8")


# -- napari ----------------------------------------------------------------------------


class Viewer:
    """Take what napari would be given."""

    def __init__(self):
        self.layers = []
        self.scale_bar = type("Bar", (), {})()

    def __getattr__(self, name):
        return lambda data, **more: self.layers.append((name, data, more))


def run_napari(folder, monkeypatch):
    """Run the script against a stand-in of napari."""
    import runpy
    import sys
    import types

    napari, layers, utils = (types.ModuleType(name) for name in ("n", "l", "u"))
    utils.DirectLabelColormap = lambda color_dict: color_dict
    layers.Image = type("Image", (), {"__init__": lambda self, data, units=None: None})
    napari.layers, napari.utils = layers, utils
    for name, module in {"": napari, ".layers": layers, ".utils": utils}.items():
        monkeypatch.setitem(sys.modules, f"napari{name}", module)
    viewer = Viewer()
    runpy.run_path(str(folder / "open_napari.py"))["add"](viewer)
    return viewer.layers


def test_the_napari_script_adds_every_layer(seen, study, monkeypatch):
    found, folder, _ = seen
    image, labels, points = run_napari(folder, monkeypatch)
    assert [image[0], labels[0], points[0]] == ["add_image", "add_labels", "add_points"]
    assert image[1][0].shape == SHAPE
    np.testing.assert_array_equal(labels[1][0][...], labels_of(study))
    assert labels[2]["colormap"][2] == found.labels[0].colours[2]
    assert points[1] == [[3, 4.25, 5.5], [10, 19, 23]]
    for _, _, more in (image, labels, points):
        assert more["scale"] == list(VOXEL_NM)
        assert more["translate"] == list(ORIGIN_NM)
        assert more["units"] == "nm"


def test_the_napari_script_is_the_same_for_all():
    """No name stands in code: they are read from layers.json."""
    compile(scripts.NAPARI, "open_napari.py", "exec")
    assert "{}" not in scripts.NAPARI


# -- Neuroglancer ----------------------------------------------------------------------


def test_neuroglancer_has_image_labels_and_points(seen):
    _, folder, _ = seen
    state = provenance.read_json(folder / "neuroglancer.json")
    assert [layer["type"] for layer in state["layers"]] == [
        "image",
        "segmentation",
        "annotation",
    ]
    base = f"zarr://http://127.0.0.1:{viewing.PORT}/"
    for layer in state["layers"][:2]:
        assert layer["source"].startswith(base)
        assert (folder / layer["source"].removeprefix(base) / ".zgroup").is_file()
    assert state["layers"][1]["segments"] == ["1", "2"]
    assert state["dimensions"] == {"x": [1e-9, "m"], "y": [1e-9, "m"], "z": [2e-9, "m"]}


def test_points_count_voxels_from_the_origin(seen):
    """Voxel n of OME-Zarr lies at n + translation / scale (checked in Neuroglancer)."""
    _, folder, _ = seen
    state = provenance.read_json(folder / "neuroglancer.json")
    first, second = state["layers"][2]["annotations"]
    assert first["point"] == [5.5 + 3, 4.25 - 7, 3 + 20]
    assert second["point"] == [23 + 3, 19 - 7, 10 + 20]
    assert state["position"] == first["point"]


def test_neuroglancer_itself_reads_the_state(seen):
    _, folder, _ = seen
    library = pytest.importorskip("neuroglancer")
    text = (folder / "neuroglancer.json").read_text()
    state = library.ViewerState(json.loads(text))
    assert [layer.type for layer in state.layers] == ["image", "segmentation", "annotation"]
    assert state.layers[2].annotations[0].point.tolist() == [8.5, -2.75, 23]
    assert state.layers[1].segment_colors[1] == style.CLASS_COLOURS[0]


# -- serving ---------------------------------------------------------------------------


@pytest.fixture
def served(seen):
    """A running server of the folder; yields its address."""
    _, folder, _ = seen
    with serving.server(folder, 0, [serving.PUBLIC]) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def fetch(url, **headers):
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), b""


def test_chunks_are_served_to_neuroglancer_alone(served, seen):
    _, folder, _ = seen
    code, headers, body = fetch(f"{served}/image.ome.zarr/0/0/0/0", Origin=serving.PUBLIC)
    assert (code, body) == (200, (folder / "image.ome.zarr/0/0/0/0").read_bytes())
    assert headers["Access-Control-Allow-Origin"] == serving.PUBLIC
    _, headers, _ = fetch(f"{served}/neuroglancer.json", Origin="https://evil.example")
    assert "Access-Control-Allow-Origin" not in headers


def test_another_name_of_this_machine_is_refused(served):
    assert fetch(f"{served}/neuroglancer.json", Host="evil.example")[0] == 403


def test_nothing_outside_the_folder_is_served(served, seen):
    _, folder, _ = seen
    tmp_path = folder.parent
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link").symlink_to(tmp_path / "secret.txt")
    paths = ("/link", "/../secret.txt", "/%2e%2e/secret.txt", "/", "/image.ome.zarr/0/")
    assert [fetch(f"{served}{path}")[0] for path in paths] == [404] * len(paths)


def test_a_taken_port_is_one_line(served, seen):
    _, folder, _ = seen
    port = int(served.rpartition(":")[2])
    with pytest.raises(Refused, match="--port"):
        serving.server(folder, port, [])


def test_another_port_goes_into_the_state(seen, monkeypatch):
    _, folder, _ = seen
    monkeypatch.setattr(serving, "viewer", lambda state: None)
    with viewing.serve(folder, 0) as (_, links):
        assert links == [serving.address(0)]
    state = provenance.read_json(folder / "neuroglancer.json")
    assert state["layers"][0]["source"] == "zarr://http://127.0.0.1:0/image.ome.zarr"


# -- hostile names ---------------------------------------------------------------------


@pytest.fixture(params=NASTY)
def hostile(request, study, tmp_path):
    """A scene all of whose names come from an enemy."""
    name, found = request.param, viewing.of_study(_read(study), "mini-1")
    labels = [scene.Labels("cell", found.labels[0].path, {1: name, 2: f"{name}2"})]
    points = [scene.Points(name, p.positions, p.scores, p.colour) for p in found.points]
    return name, scene.Scene(
        **{**vars(found), "name": name, "labels": labels, "points": points}
    )


def test_hostile_names_stay_within_their_quotes(hostile):
    name, found = hostile
    masks = {("cell", 1): "cell.class-1.mrc", ("cell", 2): "cell.class-2.mrc"}
    for line in scripts.commands(found, masks).splitlines():
        assert line.count('"') in (0, 2), name
        assert re.fullmatch(r'[A-Za-z0-9 "#.,_-]*', line), line
    dtypes = {"image.mrc": "float32", "cell.labels.mrc": "int8"}
    written = scripts.macro(found, dtypes).removeprefix(
        scripts._filled(scripts.MACRO, found)
    )
    for line in written.splitlines():
        outside = re.sub(r'"[A-Za-z0-9 #._-]*"', "", line)
        assert re.fullmatch(r"[\w(),;.\[\]= /*+<>{}-]*", outside) or "v-256" in line, line


def test_hostile_names_survive_in_json_and_xml(hostile):
    name, found = hostile
    state = json.loads(json.dumps(neuroglancer.state(found, "http://127.0.0.1:1")))
    assert state["layers"][2]["name"] == name
    assert json.loads(json.dumps(scripts.layers(found)))["points"][0]["name"] == name
    root = ElementTree.fromstring(scripts.markers(found.points[0], found))
    printable = "".join(c if c.isprintable() else "?" for c in name)
    assert root.get("name") == printable


def test_hostile_names_do_not_break_a_model(hostile, tmp_path):
    _, found = hostile
    models.write(found, tmp_path / "marks.mod")
    assert len(imodmodel.read(tmp_path / "marks.mod")["object_id"].unique()) == 3


def test_commands_are_quoted_for_the_shell(seen):
    _, folder, lines = seen
    words = {line.split()[0]: shlex.split(line) for line in lines[1:]}
    assert words["napari"] == ["napari", "python", str(folder / "open_napari.py")]
    assert words["imod"][1:] == [
        "3dmod",
        str(folder / "image.mrc"),
        str(folder / "marks.mod"),
    ]
    assert words["fiji"][-1] == str(folder)
    assert words["neuroglancer"][-1] == str(folder)


# -- the command -----------------------------------------------------------------------


def test_view_of_a_study_lists_and_writes_nothing(study, capsys):
    assert command.main(["view", str(study)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("mini-1: 12 x 20 x 24")
    assert not (study / "results" / "viewed").exists()


@pytest.mark.parametrize("how", ["study and id", "id here", "a result"])
def test_view_of_a_volume_writes_into_the_study(study, capsys, monkeypatch, how):
    words = {
        "study and id": [str(study), "mini-1"],
        "id here": ["mini-1"],
        "a result": [str(study / "results/segmented/cell/final/mini-1.h5")],
    }[how]
    monkeypatch.chdir(study)
    assert command.main(["view", *words, "--for", "imod"]) == 0
    assert (study / "results/viewed/mini-1/marks.mod").is_file()
    assert "3dmod" in capsys.readouterr().out


def test_view_of_a_raw_file_takes_a_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("a b$(x).npy", np.arange(60, dtype=np.int16).reshape(3, 4, 5))
    words = ["view", "a b$(x).npy", "--voxel-nm", "2", "--for", "fiji"]
    assert command.main(words) == 0
    assert (tmp_path / "viewed/a_b__x_/open.ijm").is_file()
    assert command.main([*words, "--to", "else where"]) == 0
    assert (tmp_path / "else where/open.ijm").is_file()
    assert "'else where/open.ijm'" in capsys.readouterr().out


def test_an_unknown_program_is_one_line(study, capsys):
    assert command.main(["view", str(study), "mini-1", "--for", "word"]) == 3
    assert "found 'word'" in capsys.readouterr().err


def test_no_written_file_says_where_the_study_lies(seen):
    _, folder, _ = seen
    small = [path for path in folder.iterdir() if path.is_file() and path.suffix != ".mrc"]
    for path in small:
        assert str(folder.parent / "my study").encode() not in path.read_bytes(), path.name
        assert str(folder).encode() not in path.read_bytes(), path.name


def test_every_written_volume_opens_as_a_volume_again(seen):
    _, folder, _ = seen
    for name in ("image.mrc", "image.ome.zarr", "cell.labels.ome.zarr"):
        with formats.open_source(folder / name) as source:
            assert source.voxel_nm == pytest.approx(VOXEL_NM)
            assert source.origin_nm == pytest.approx(ORIGIN_NM)


def test_labels_of_an_ome_zarr_have_the_colours_of_the_report():
    inks = [style.rgb(ink) for ink in style.CLASS_COLOURS]
    found = [pyramids.colour(value)[:3] for value in range(1, len(inks) + 1)]
    assert found == inks
