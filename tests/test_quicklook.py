"""One picture of a volume: what is read, what is said, what is drawn."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from matplotlib.patches import Rectangle
from PIL import Image

from tomoglean import __main__ as command
from tomoglean import quicklook, volumes
from tomoglean.formats import Source
from tomoglean.provenance import Refused
from tomoglean.report import style
from tomoglean.volumes import Volume

SHAPE = (5, 6, 8)
RAMP = np.arange(240, dtype=np.uint16).reshape(SHAPE)
LABELS = (RAMP % 3).astype(np.uint8)
NAMES = {0: "background", 1: "bone", 2: "metal", 255: "unlabelled"}


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """Draw with few pixels, which is fast."""
    monkeypatch.setattr(quicklook, "DPI", 40)


def source(data, **facts):
    return Source("made", data.shape, data.dtype, lambda part: data[part], **facts)


def boxed(data, **facts):
    return source(data, box=lambda z, y, x: data[z, y, x], **facts)


def huge(shape, dtype=np.uint16, **facts):
    """Hold a volume larger than memory; note what is read of it."""
    read = []

    def pages(part):
        read.append(part)
        return np.zeros((part.stop - part.start, *shape[1:]), dtype)

    return Source("huge", shape, np.dtype(dtype), pages, **facts), read


def seen(data, **facts):
    return quicklook.look(source(data, **facts))


# -- what is read --------------------------------------------------------------------


@pytest.mark.parametrize("how", [source, boxed])
def test_the_three_planes_are_the_central_ones(how):
    found = quicklook.look(how(RAMP))
    assert found.at == {"z": 2, "y": 3, "x": 4}
    assert np.array_equal(found.planes["z"], RAMP[2])
    assert np.array_equal(found.planes["y"], RAMP[:, 3])
    assert np.array_equal(found.planes["x"], RAMP[:, :, 4].T)
    assert np.array_equal(np.sort(found.values), RAMP.ravel())


def test_a_large_chunked_volume_gives_its_three_planes_and_no_more(monkeypatch):
    monkeypatch.setattr(quicklook, "SMALL_BYTES", 100)
    read = []
    one = source(RAMP, box=lambda *box: (read.append(box), RAMP[box])[1])
    one.pages = None
    found = quicklook.look(one)
    assert np.array_equal(found.planes["x"], RAMP[:, :, 4].T)
    assert [RAMP[box].shape for box in read] == [(1, 6, 8), (5, 1, 8), (5, 6, 1)]


@pytest.mark.parametrize(
    ("shape", "count"),
    [
        ((150, 100, 100), 150),  # all of it
        ((5000, 512, 512), 200),  # no more than that
        ((4000, 2048, 2048), 64),  # 8 MiB each, 512 MiB in all
        ((4000, 8192, 8192), 24),  # 128 MiB each, but never fewer
        ((7, 30000, 30000), 7),
    ],
)
def test_few_slices_are_read_of_large_volumes(shape, count):
    places = quicklook.places_of(huge(shape)[0])
    assert len(places) == count
    assert shape[0] // 2 in places
    assert places == sorted(set(places))
    assert places[0] >= 0
    assert places[-1] < shape[0]
    assert max(np.diff(places)) <= 2 * shape[0] / count


def test_slices_are_read_one_by_one():
    volume, read = huge((900, 300, 400))
    found = quicklook.look(volume)
    assert {part.stop - part.start for part in read} == {1}
    assert found.slices == len(read) == 200
    assert found.planes["y"].shape == (200, 400)
    assert found.planes["x"].shape == (300, 200)
    assert 3_000_000 < found.values.size <= quicklook.MOST_VALUES


def test_the_sample_meets_all_columns_alike():
    columns = np.broadcast_to(np.arange(512, dtype=np.uint16), (200, 300, 512))
    values = quicklook.look(source(columns)).values
    counts = np.bincount(values, minlength=512)
    assert counts.min() > 0.9 * counts.max()


def test_what_is_not_finite_is_counted_and_left_out():
    data = RAMP.astype(np.float32)
    data[0, :, :] = np.nan
    data[1, 0, 0] = np.inf
    found = seen(data)
    assert found.finite == pytest.approx(1 - 49 / 240)
    assert found.values.max() == 239
    assert "20 % of the sample is NaN or Inf (drawn red)" in quicklook.doubts(
        source(data), found
    )


def test_complex_numbers_are_refused():
    with pytest.raises(Refused, match="made: expected real numbers"):
        seen(RAMP.astype(np.complex64))


# -- what it is ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (LABELS, [0, 1, 2]),
        ((LABELS * 85).astype(np.uint8), [0, 85, 170]),
        (RAMP, None),
        (LABELS.astype(np.float32), None),
    ],
)
def test_few_whole_numbers_are_labels(data, expected):
    assert quicklook.classes_of(source(data), seen(data)) == expected


def test_named_values_are_labels_however_many():
    data = (RAMP % 50).astype(np.uint8)
    one = source(data, materials={value: f"cell {value}" for value in range(50)})
    assert quicklook.classes_of(one, quicklook.look(one)) == list(range(50))


def test_the_lowest_label_is_background_and_255_of_several_is_unlabelled():
    colours = quicklook.colours_of([0, 1, 2, 255], {})
    assert colours == {
        0: quicklook.BACKGROUND,
        1: style.CLASS_COLOURS[0],
        2: style.CLASS_COLOURS[1],
        255: quicklook.UNKNOWN,
    }


def test_255_of_a_mask_is_its_class():
    assert quicklook.colours_of([0, 255], {})[255] == style.CLASS_COLOURS[0]


def test_a_class_keeps_its_colour_where_others_are_missing():
    colours = quicklook.colours_of([0, 2, 255], NAMES)
    assert colours[2] == style.class_colours(["background", "bone", "metal"])["metal"]
    assert colours[255] == quicklook.UNKNOWN


def test_a_sample_of_one_class_without_background_keeps_its_colour():
    assert quicklook.colours_of([1], NAMES)[1] == style.CLASS_COLOURS[0]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.arange(1001), (5.0, 995.0)),
        (np.r_[np.zeros(10_000), 7], (0.0, 7.0)),
        (np.full(9, 4), (3.5, 4.5)),
        (np.empty(0), (0.0, 1.0)),
    ],
)
def test_grey_values_are_drawn_between_percentiles_or_else_extremes(values, expected):
    assert quicklook.window_of(values) == pytest.approx(expected)


def test_bins_of_whole_numbers_hold_equally_many():
    values = np.arange(1000, dtype=np.uint16)
    counts, _ = np.histogram(values, quicklook.bins_of(values))
    assert len(counts) <= 257
    assert set(counts[:-1]) == {4}
    assert counts.sum() == 1000


@pytest.mark.parametrize(
    ("edges", "voxel", "field"),
    [
        ((1.8, 1.8, 1.8), "1.8 nm (cubes)", "9 × 10.8 × 14.4 nm"),
        ((5000, 2500, 2500), "5 × 2.5 × 2.5 µm", "25 × 15 × 20 µm"),
        ((1e6, 5e5, 5e5), "1 × 0.5 × 0.5 mm", "5 × 3 × 4 mm"),
    ],
)
def test_lengths_are_told_in_a_fitting_unit(tmp_path, edges, voxel, field):
    one = source(RAMP, voxel_nm=edges)
    told = quicklook.facts(one, quicklook.look(one), tmp_path)
    assert told["voxel size"] == voxel
    assert told["field of view"] == field


def test_facts_state_shape_type_range_and_sample(tmp_path):
    (tmp_path / "raw").write_bytes(bytes(480))
    told = quicklook.facts(source(RAMP, format="mrc"), seen(RAMP), tmp_path / "raw")
    assert told["format"] == "MRC, uint16"
    assert told["shape"] == "5 × 6 × 8 (z, y, x)"
    assert told["voxels"] == "240, 480 B on disk"
    assert told["range"] == "0 to 239"
    assert told["voxel size"] == "unknown: drawn as cubes"
    assert told["sample"] == "240 values of all slices"


def test_facts_of_labels_are_no_means(tmp_path):
    assert "mean, std" not in quicklook.facts(source(LABELS), seen(LABELS), tmp_path)


@pytest.mark.parametrize(
    ("data", "facts", "told"),
    [
        (np.full(SHAPE, 3), {}, "one value only"),
        (RAMP[:1], {}, "a 2D image"),
        (RAMP, {"z": np.array([0, 50, 100, 150, 200])}, "z = 0, 50, 100, 150, 200 ..."),
        (RAMP, {"warnings": ["made: something odd"]}, "something odd"),
    ],
)
def test_what_is_odd_is_said(data, facts, told):
    one = source(data, **facts)
    lines = quicklook.doubts(one, quicklook.look(one))
    assert len(lines) == 1
    assert told in lines[0]
    assert "made" not in lines[0]


# -- what is drawn -------------------------------------------------------------------


def figure(one, tmp_path):
    return quicklook.picture(one, tmp_path)


def size_inch(axes):
    box = axes.get_position()
    return box.width * quicklook.SIZE_INCH[0], box.height * quicklook.SIZE_INCH[1]


def test_planes_stand_in_true_proportion_at_one_scale(tmp_path):
    edges = (30.0, 20.0, 10.0)
    z, y, x = (edge * n for edge, n in zip(edges, SHAPE, strict=True))
    main, beside, below, _ = figure(source(RAMP, voxel_nm=edges), tmp_path).axes
    across, down = size_inch(main)
    scale = across / x
    assert down == pytest.approx(y * scale)
    assert size_inch(beside) == pytest.approx((z * scale, y * scale))
    assert size_inch(below) == pytest.approx((x * scale, z * scale))


def test_pictures_stay_on_the_page_and_apart_whatever_the_shape(tmp_path):
    for shape in [(400, 4, 4), (2, 300, 300), (3, 4, 500), (3, 500, 4), (1, 9, 9)]:
        axes = figure(source(np.arange(np.prod(shape)).reshape(shape)), tmp_path).axes
        boxes = [one.get_position() for one in axes]
        assert all(0 < box.x0 < box.x1 < 1 and 0 < box.y0 < box.y1 < 1 for box in boxes)
        pairs = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i]]
        assert not any(a.overlaps(b) for a, b in pairs), shape


def test_the_scale_bar_is_as_long_as_it_says(tmp_path):
    main = figure(source(RAMP, voxel_nm=(100.0, 100.0, 100.0)), tmp_path).axes[0]
    (bar,) = [
        patch
        for patch in main.patches
        if isinstance(patch, Rectangle) and patch.get_facecolor() == (1, 1, 1, 1)
    ]
    assert bar.get_width() == pytest.approx(200 / 800)
    assert [text.get_text() for text in main.texts] == ["200 nm"]


def test_without_a_voxel_size_the_bar_counts_voxels(tmp_path):
    main = figure(source(RAMP), tmp_path).axes[0]
    assert [text.get_text() for text in main.texts] == ["2 voxels"]


def test_the_window_drawn_is_stated(tmp_path):
    *_, histogram = figure(source(RAMP), tmp_path).axes
    low, high = np.percentile(RAMP, [0.5, 99.5])
    assert (
        histogram.get_title(loc="left") == f"drawn black to white: {low:.4g} to {high:.4g}"
    )
    assert histogram.get_yscale() == "log"


def test_labels_are_drawn_in_their_colours_and_named(tmp_path):
    main, *_, shares = figure(source(LABELS, materials=NAMES), tmp_path).axes
    expected = np.array(
        [style.rgb(quicklook.BACKGROUND), *map(style.rgb, style.CLASS_COLOURS[:2])]
    )
    assert np.array_equal(main.images[0].get_array(), expected[LABELS[2]])
    assert [tick.get_text() for tick in shares.get_yticklabels()] == [
        "0 background",
        "1 bone",
        "2 metal",
    ]


def test_sparse_slices_have_no_side_views_and_keep_their_number(tmp_path):
    page = figure(source(RAMP, z=np.array([0, 50, 100, 150, 200])), tmp_path)
    assert len(page.axes) == 2
    assert any(text.get_text().startswith("z = 100, slice 2 of 5") for text in page.texts)


@pytest.mark.parametrize(
    "data",
    [
        RAMP[:1],
        RAMP[:, :1, :1],
        np.zeros((1, 1, 1), np.uint8),
        np.full(SHAPE, np.nan, np.float32),
        np.full(SHAPE, 3.5),
        (RAMP / 1e30).astype(np.float64),
        np.where(RAMP == 9, np.inf, RAMP).astype(np.float16),
        (RAMP - 100.0).astype(np.int16),
    ],
)
def test_every_volume_has_a_picture(tmp_path, data, monkeypatch):
    volumes.write(Volume(data, (2.0, 2.0, 2.0)), tmp_path / "made.h5")
    found = quicklook.draw(tmp_path / "made.h5", tmp_path / "a.png")
    with Image.open(found) as picture:
        assert picture.size == (480, 320)


def test_many_warnings_stay_on_the_page(tmp_path):
    one = source(RAMP, warnings=[f"made: {'a long warning ' * 9}{n}" for n in range(40)])
    page = figure(one, tmp_path)
    places = [text.get_position()[1] for text in page.texts]
    assert min(places) > 0
    assert "and more" in page.texts[int(np.argmin(places))].get_text()


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/data/scan_7/reco/slice.tif", "reco/slice.tif"),
        ("/s/results/segmented/bone/final/a.h5", "segmented/bone/final/a.h5"),
        (f"/{'a' * 99}.tif", f"… {'a' * 86}.tif"),
    ],
)
def test_a_picture_is_headed_by_what_tells_the_volume_from_others(path, told):
    assert quicklook.title(Path(path)) == told


def test_the_background_is_white_whatever_shows_it(tmp_path):
    volumes.write(Volume(RAMP, (2.0, 2.0, 2.0)), tmp_path / "made.h5")
    with Image.open(quicklook.draw(tmp_path / "made.h5", tmp_path / "a.png")) as found:
        assert found.convert("RGBA").getpixel((1, 1)) == (255, 255, 255, 255)


def test_the_same_volume_gives_the_same_bytes(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", RAMP, photometric="minisblack")
    first = quicklook.draw(tmp_path / "a.tif", tmp_path / "1.png").read_bytes()
    assert quicklook.draw(tmp_path / "a.tif", tmp_path / "2.png").read_bytes() == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.png", "2.png", "a.tif"]


# -- the command ---------------------------------------------------------------------


def test_the_command_names_the_picture_it_wrote(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    name = "in/scan $x_1$ µ.tif"
    tifffile.imwrite(tmp_path / name, RAMP, photometric="minisblack")
    assert command.main(["quicklook", name, "--voxel-nm", "5,5,5"]) == 0
    assert capsys.readouterr().out == "scan $x_1$ µ.tif.quicklook.png\n"
    assert (tmp_path / "scan $x_1$ µ.tif.quicklook.png").is_file()


def test_a_dataset_of_a_volume_file_can_be_chosen(tmp_path):
    path = tmp_path / "mini.h5"
    sure = {"confidence": RAMP.astype(np.uint8)}
    volumes.write(
        Volume(LABELS, (1, 1, 1)), path, extra=sure, classes=json.dumps(["a", "b"])
    )
    words = ["quicklook", str(path), "--dataset", "confidence"]
    assert command.main([*words, "--output", str(tmp_path / "a.png")]) == 0
    assert command.main(["quicklook", str(path), "--dataset", "no"]) == 3


@pytest.mark.parametrize(
    "words",
    [["none.tif"], ["scan.tif", "--output", "a.jpg"], ["scan.tif", "--shape", "1,2,3"]],
)
def test_refusals_are_one_line_and_leave_no_picture(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("scan.tif", RAMP, photometric="minisblack")
    assert command.main(["quicklook", *words]) == 3
    assert capsys.readouterr().err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["scan.tif"]
