import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomoglean import steps
from tomoglean.provenance import Refused

IGNORE = 255
AXES = [
    ",".join(sign + axis for sign, axis in zip(signs, order, strict=True))
    for order in itertools.permutations("zyx")
    for signs in itertools.product(("", "-"), repeat=3)
]


def applied(data, thickness=3, labels=False, **row):
    """Go through a whole volume as the conversion does, slab by slab."""
    found = steps.read(row, data.shape, "v.tif")
    out = np.zeros(found.grid, found.dtype(data.dtype))
    work = found.apply_to_labels if labels else found.apply
    written = np.zeros(found.grid, int)
    for part, place in found.parts(thickness):
        out[place] = work(data[part])
        written[place] += 1
    assert (written == 1).all()
    return out


def by_hand(data, row):
    """Do the same with plain slicing of the whole array."""
    sides = [side.split(":") for side in (row.get("crop") or ":,:,:").split(",")]
    data = data[
        tuple(slice(*(int(end) if end else None for end in side)) for side in sides)
    ]
    factor = int(row.get("bin") or 1)
    z, y, x = (edge // factor for edge in data.shape)
    data = data[: z * factor, : y * factor, : x * factor]
    if factor > 1:
        cubes = data.astype(float).reshape(z, factor, y, factor, x, factor)
        data = cubes.mean((1, 3, 5))
    words = (row.get("axes") or "z,y,x").split(",")
    data = np.transpose(data, ["zyx".index(word[-1]) for word in words])
    return data[tuple(slice(None, None, -1 if word[0] == "-" else 1) for word in words)]


@st.composite
def cases(draw):
    shape = tuple(draw(st.integers(1, 9)) for _ in range(3))
    sides = []
    for edge in shape:
        start = draw(st.integers(0, edge - 1))
        stop = draw(st.integers(start + 1, edge))
        sides.append((start, stop))
    crop = ",".join(f"{start or ''}:{stop}" for start, stop in sides)
    smallest = min(stop - start for start, stop in sides)
    factor = draw(st.integers(1, smallest))
    row = {"crop": crop, "bin": str(factor), "axes": draw(st.sampled_from(AXES))}
    return shape, row, draw(st.integers(1, 4))


@settings(max_examples=200, deadline=None)
@given(cases())
def test_slab_by_slab_is_as_slicing_the_whole_array(case):
    shape, row, thickness = case
    data = np.random.default_rng(0).integers(0, 1000, shape).astype(np.float64)
    np.testing.assert_allclose(applied(data, thickness, **row), by_hand(data, row))


@settings(max_examples=200, deadline=None)
@given(cases())
def test_a_point_goes_where_its_voxel_goes(case):
    shape, row, _ = case
    row = row | {"bin": ""}
    data = np.arange(np.prod(shape)).reshape(shape)
    found = steps.read(row, shape, "v.tif")
    everywhere = np.argwhere(np.ones(shape, bool))
    places = steps.place(everywhere, found)
    kept = steps.inside(places, found)
    moved = applied(data, **row)
    assert kept.sum() == moved.size
    whole = np.rint(places[kept]).astype(int)
    assert (moved[tuple(whole.T)] == data[tuple(everywhere[kept].T)]).all()


@settings(max_examples=100, deadline=None)
@given(cases())
def test_a_binned_voxel_stands_amid_those_it_was_made_of(case):
    shape, row, _ = case
    found = steps.read(row, shape, "v.tif")
    for axis in range(3):
        coordinate = np.broadcast_to(
            np.arange(shape[axis]).reshape([-1 if n == axis else 1 for n in range(3)]),
            shape,
        ).astype(float)
        means = applied(coordinate, **row)
        for voxel in itertools.product(*(range(edge) for edge in found.grid)):
            middle = [0.0, 0.0, 0.0]
            middle[axis] = means[voxel]
            assert steps.place([middle], found)[
                0, found.order.index(axis)
            ] == pytest.approx(voxel[found.order.index(axis)])


@settings(max_examples=100, deadline=None)
@given(cases())
def test_origin_and_voxel_size_say_where_the_first_voxel_stands(case):
    shape, row, _ = case
    found = steps.read(row, shape, "v.tif")
    voxel_nm, origin_nm = (2.0, 3.0, 5.0), (100.0, -20.0, 7.0)
    # What stands at the first converted voxel, on the file's own axes:
    grids = np.meshgrid(*(np.arange(edge, dtype=float) for edge in shape), indexing="ij")
    first = [applied(grid, **row)[0, 0, 0] for grid in grids]
    position = [o + v * f for o, v, f in zip(origin_nm, voxel_nm, first, strict=True)]
    signs = [-1 if turned else 1 for turned in found.turned]
    expected = [s * position[a] for s, a in zip(signs, found.order, strict=True)]
    assert found.origin_nm(origin_nm, voxel_nm) == pytest.approx(expected)
    factor = int(row["bin"])
    assert found.voxel_nm(voxel_nm) == tuple(factor * voxel_nm[a] for a in found.order)
    assert found.file_voxel_nm(found.voxel_nm(voxel_nm)) == pytest.approx(voxel_nm)


@settings(max_examples=100, deadline=None)
@given(cases())
def test_labels_go_where_grey_values_go(case):
    shape, row, thickness = case
    row = row | {"bin": ""}
    data = np.random.default_rng(1).choice([0, 1, 7, IGNORE], shape).astype(np.uint8)
    labels = applied(data, thickness, labels=True, **row)
    assert np.array_equal(labels, by_hand(data, row))


# -- exact cases -----------------------------------------------------------------------


def test_axes_name_the_files_axis_that_comes_first_second_third():
    data = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    assert np.array_equal(applied(data, axes="x,z,y"), data.transpose(2, 0, 1))
    assert np.array_equal(applied(data, axes="-z,x,y"), data[::-1].transpose(0, 2, 1))


def test_what_is_left_over_by_the_binning_is_dropped():
    data = np.arange(5 * 4 * 3, dtype=float).reshape(5, 4, 3)
    found = applied(data, bin="2")
    assert found.shape == (2, 2, 1)
    assert found[0, 0, 0] == data[:2, :2, :2].mean()


def test_whole_numbers_are_rounded_to_even_and_do_not_overflow():
    data = np.full((2, 2, 2), 255, np.uint8)
    assert applied(data, bin="2").tolist() == [[[255]]]
    data = np.array([0, 1] * 4, np.uint8).reshape(2, 2, 2)
    assert applied(data, bin="2").tolist() == [[[0]]]
    assert applied(data + np.uint8(1), bin="2").tolist() == [[[2]]]


@pytest.mark.parametrize(
    ("cube", "kept"),
    [
        ([1, 1, 1, 1, 1, 2, 2, 2], 1),
        ([0, 0, 0, 1, 1, 2, 2, 2], IGNORE),  # 0 and 2 are level
        ([0, 0, 0, 0, 1, 1, 1, 1], IGNORE),
        ([IGNORE] * 7 + [3], 3),  # the unlabelled have no vote
        ([IGNORE] * 6 + [3, 4], IGNORE),
        ([IGNORE] * 8, IGNORE),
        ([5, 5, 5, 3, 3, 3, 3, 0], 3),
    ],
)
def test_the_most_frequent_label_stays(cube, kept):
    for order in (cube, cube[::-1]):
        data = np.array(order, np.uint8).reshape(2, 2, 2)
        assert applied(data, labels=True, bin="2").tolist() == [[[kept]]]


@pytest.mark.parametrize(
    ("window", "dtype", "expected"),
    [
        ("10,20", np.uint8, [0, 0, 128, 255, 255]),
        ("10,20,uint8", np.uint8, [0, 0, 128, 255, 255]),
        ("10,20,uint16", np.uint16, [0, 0, 32768, 65535, 65535]),
        ("-1e1,2.2e1", np.uint8, [80, 159, 199, 239, 255]),
    ],
)
def test_a_window_clips_and_scales(window, dtype, expected):
    found = applied(np.array([[[0.0, 10, 15, 20, 30]]]), window=window)
    assert found.dtype == dtype
    assert found.ravel().tolist() == expected


def test_directions_turn_with_the_axes():
    found = steps.read({"axes": "-x,z,y"}, (3, 4, 5), "v.tif")
    assert steps.turn([[1, 2, 3]], found).tolist() == [[-3, 1, 2]]


@pytest.mark.parametrize(
    ("axes", "mirrored"),
    [("z,y,x", False), ("-z,y,x", True), ("z,x,y", True), ("-z,x,y", False),
     ("x,z,y", False), ("y,x,z", False), ("y,z,x", True), ("-z,-y,x", False)],
)  # fmt: skip
def test_mirroring_is_known(axes, mirrored):
    found = steps.read({"axes": axes}, (3, 4, 5), "v.tif")
    words = axes.split(",")
    matrix = np.zeros((3, 3))
    for row, word in enumerate(words):
        matrix[row, "zyx".index(word[-1])] = -1 if word[0] == "-" else 1
    assert found.mirrored == (np.linalg.det(matrix) < 0) == mirrored


def test_no_steps_leave_everything_as_it_is():
    found = steps.read({"crop": "", "bin": "", "axes": ""}, (3, 4, 5), "v.tif")
    assert not found.moved
    assert found.grid == (3, 4, 5)
    assert found.origin_nm((1, 2, 3), (9, 9, 9)) == (1, 2, 3)


def test_a_window_moves_nothing():
    assert not steps.read({"window": "0,1"}, (3, 4, 5), "v.tif").moved


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ({"crop": "0:4,0:4,0:5"}, "crop"),
        ({"crop": "3:3,:,:"}, "crop"),
        ({"crop": "2:1,:,:"}, "crop"),
        ({"crop": "3:,:,:"}, "crop"),
        ({"crop": "0:1,0:1"}, "crop"),
        ({"crop": "-1:2,:,:"}, "crop"),
        ({"bin": "4"}, "bin"),
        ({"bin": "0"}, "bin"),
        ({"bin": "65"}, "bin"),
        ({"bin": "1.5"}, "bin"),
        ({"bin": "²"}, "bin"),
        ({"axes": "z,z,x"}, "axes"),
        ({"axes": "z,y"}, "axes"),
        ({"axes": "--z,y,x"}, "axes"),
        ({"window": "5,5"}, "window"),
        ({"window": "6,5"}, "window"),
        ({"window": "nan,5"}, "window"),
        ({"window": "0,inf"}, "window"),
        ({"window": "5"}, "window"),
        ({"window": "0,1,float32"}, "window"),
        ({"window": "0,1,uint8,uint8"}, "window"),
    ],
)
def test_nonsense_is_refused_in_one_line(row, column):
    with pytest.raises(Refused, match=rf"^v\.tif: {column}: expected .*found .*; correct"):
        steps.read(row, (3, 4, 5), "v.tif")


@pytest.mark.parametrize("row", [{"bin": "0"}, {"axes": "z"}, {"crop": "5:4,:,:"}])
def test_nonsense_is_seen_before_the_volume_is_open(row):
    with pytest.raises(Refused, match=r"^volumes\.tsv: v1: "):
        steps.refuse_nonsense(row, "volumes.tsv: v1")


@pytest.mark.parametrize("row", [{"bin": "2"}, {"crop": "1:,:,:"}, {"axes": "-z,y,x"}])
def test_a_sparse_set_stays_as_it_is_along_z(row):
    with pytest.raises(Refused, match=r"^v: expected a sparse set"):
        steps.read(row, (3, 4, 5), "v", sparse=True)


def test_a_sparse_set_may_be_cropped_in_the_plane():
    found = steps.read({"crop": ":,1:3,2:5", "axes": "z,x,-y"}, (3, 4, 5), "v", sparse=True)
    assert found.grid == (3, 3, 2)
