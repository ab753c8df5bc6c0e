"""Claims about points of any file: chosen, counted in voxels of their volume, kept."""

import numpy as np
import pytest

from tomoglean import particles, tables
from tomoglean.particles import Grid, source
from tomoglean.provenance import Refused

SHAPE = (31, 41, 53)
VOXEL_NM = (1.8, 1.8, 1.8)
UNBINNED = {"bin1_shape": "124,164,212", "bin1_pixel_nm": "0.45", "binning": "fourier"}
GRID = Grid(SHAPE, VOXEL_NM, "mini-1", UNBINNED)
ENDINGS = ["csv", "tsv", "star", "tbl", "em", "mod", "json"]


def some(count=40, label="t3ss"):
    """Make particles anywhere inside, the first ones along the axes and one unknown."""
    random = np.random.default_rng(count)
    normals = random.normal(size=(count, 3))
    normals[:6] = np.concatenate([np.eye(3), -np.eye(3)])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    normals[6] = 0
    places = random.uniform(-0.49, np.array(SHAPE) - 0.51, (count, 3))
    places[0], places[1] = (0, 0, 0), (30, 40, 52)
    scores = np.linspace(0.9, 0.1, count)
    return source.particles(places, normals, classes=[label] * count, scores=scores)


def degrees_between(first, second):
    cosines = np.clip((first * second).sum(axis=1), -1, 1)
    return np.degrees(np.arccos(cosines))


def row(ending, **more):
    unit = "voxel" if ending in ("csv", "tsv") else ""
    return {"unit": unit, "task": "t3ss", **more}


@pytest.mark.parametrize("ending", ENDINGS)
def test_round_trip_to_a_hundredth_of_a_voxel_and_half_a_degree(tmp_path, ending):
    path, made = tmp_path / f"p.{ending}", some()
    particles.write(made, path, GRID)
    found = particles.points(path, row(ending), GRID)
    np.testing.assert_allclose(found.positions, made.positions, atol=0.01)
    assert found.classes == made.classes
    if ending == "mod":
        assert not found.normals.any()
        return
    assert not found.normals[6].any()
    known = np.arange(len(made)) != 6
    assert degrees_between(found.normals[known], made.normals[known]).max() < 0.5


@pytest.mark.parametrize("ending", ["csv", "tsv", "tbl", "em", "json"])
def test_scores_come_back(tmp_path, ending):
    path, made = tmp_path / f"p.{ending}", some()
    particles.write(made, path, GRID)
    found = particles.points(path, row(ending), GRID)
    np.testing.assert_allclose(found.scores, made.scores, atol=1e-5)


@pytest.mark.parametrize("ending", ENDINGS)
def test_voxels_that_are_no_cubes_make_no_difference(tmp_path, ending):
    flat = Grid(SHAPE, (3.0, 2.0, 1.0), "v", {})
    if ending == "star":
        pytest.skip("RELION knows cubes only")
    path, made = tmp_path / f"p.{ending}", some()
    particles.write(made, path, flat)
    found = particles.points(path, row(ending), flat)
    np.testing.assert_allclose(found.positions, made.positions, atol=0.01)


@pytest.mark.parametrize("ending", ENDINGS)
def test_no_particles_are_a_valid_file(tmp_path, ending):
    path = tmp_path / f"p.{ending}"
    particles.write(source.particles(np.empty((0, 3))), path, GRID)
    assert particles.points(path, row(ending), GRID).positions.shape == (0, 3)


@pytest.mark.parametrize("target", ENDINGS)
@pytest.mark.parametrize("origin", ENDINGS)
def test_every_format_becomes_every_other(tmp_path, origin, target):
    first, second = tmp_path / f"a.{origin}", tmp_path / f"b.{target}"
    made = some(9)
    particles.write(made, first, GRID)
    assert particles.convert(first, second, row(origin), GRID) == 9
    found = particles.points(second, row(target), GRID)
    np.testing.assert_allclose(found.positions, made.positions, atol=0.01)


def test_picks_become_particles_of_one_class():
    picks = tables.Picks(np.ones((2, 3)), np.ones((2, 3)), np.zeros((2, 3)), np.ones(2))
    assert particles.of_picks(picks, "t3ss").classes == ("t3ss", "t3ss")


# -- units and voxels of another size --------------------------------------------------


def stated(places, **more):
    return source.particles(np.array(places, float), unit="stated", **more)


def voxels(found, grid=GRID, **cells):
    return source.to_voxels(found, cells, grid, "p.csv").tolist()


@pytest.mark.parametrize(
    ("unit", "place"), [("voxel", (1, 2, 3)), ("nm", (4, 6, 9)), ("angstrom", (40, 60, 90))]
)
def test_positions_of_any_unit_become_voxels(unit, place):
    grid = Grid(SHAPE, (4.0, 3.0, 3.0))
    assert voxels(stated([place]), grid, unit=unit) == [[1, 2, 3]]


@pytest.mark.parametrize("unit", ["", "um", "pixel", "Angstrom"])
def test_a_unit_is_never_guessed(unit):
    with pytest.raises(Refused, match="expected the unit nm, angstrom or voxel"):
        voxels(stated([(1, 1, 1)]), unit=unit)


def test_a_unit_must_not_contradict_the_format():
    with pytest.raises(Refused, match="unit voxel, which its format fixes, found 'nm'"):
        voxels(source.particles(np.ones((1, 3))), unit="nm")
    assert voxels(source.particles(np.ones((1, 3))), unit="voxel") == [[1, 1, 1]]


@pytest.mark.parametrize(("binning", "lost"), [("fourier", 0.0), ("average", 1.5)])
def test_pixels_of_another_binning_are_counted_in_voxels(binning, lost):
    grid = Grid(SHAPE, VOXEL_NM, "v", {"binning": binning})
    found = stated([(8.0 + lost, 12.0 + lost, 4.0 + lost)])
    assert voxels(found, grid, unit="voxel", pixel_nm="0.45") == [[2, 3, 1]]


def test_pixels_larger_than_voxels_are_counted_too():
    grid = Grid(SHAPE, (0.5, 0.5, 0.5), "v", {"binning": "average"})
    # Pixel 0 of 1 nm covers voxels 0 and 1 of 0.5 nm: its centre is at 0.5.
    assert voxels(stated([(0, 1, 2)]), grid, unit="voxel", pixel_nm="1") == [
        [0.5, 2.5, 4.5]
    ]


def test_how_the_volume_was_binned_is_never_guessed():
    with pytest.raises(Refused, match=r"fill in binning .* in volumes\.tsv"):
        voxels(stated([(1, 1, 1)]), Grid(SHAPE, VOXEL_NM), unit="voxel", pixel_nm="0.45")


def test_a_file_made_on_other_voxels_is_refused_until_somebody_says_so():
    found = source.particles(np.array([[8.0, 8.0, 8.0]]), pixel_nm=0.9)
    with pytest.raises(Refused, match=r"1\.8 nm\), found a file made on voxels of 0\.9 nm"):
        voxels(found)
    assert voxels(found, pixel_nm="0.9") == [[4, 4, 4]]


def test_a_file_made_on_the_unbinned_volume_is_known_by_volumes_tsv():
    assert voxels(source.particles(np.array([[8.0, 8.0, 8.0]]), pixel_nm=0.45)) == [
        [2, 2, 2]
    ]


@pytest.mark.parametrize("cell", ["0", "-1", "nan", "x"])
def test_a_pixel_is_a_positive_number(cell):
    with pytest.raises(
        Refused, match=r"pixel_nm in labels\.tsv: expected a positive number"
    ):
        voxels(stated([(1, 1, 1)]), unit="voxel", pixel_nm=cell)


def test_lengths_need_no_pixel():
    with pytest.raises(Refused, match="expected no pixel_nm"):
        voxels(stated([(1, 1, 1)]), unit="nm", pixel_nm="1.8")


def test_shifts_in_nm_are_added():
    found = source.particles(np.ones((1, 3)), shifts_nm=np.array([[1.8, 0.0, -0.9]]))
    assert voxels(found) == [[2, 1, 0.5]]


def test_the_middle_is_half_the_shape_of_the_unbinned_volume():
    found = source.particles(np.zeros((1, 3)), unit="angstrom", centred=True)
    assert voxels(found) == [[15.5, 20.5, 26.5]]
    bare = Grid(SHAPE, VOXEL_NM)
    assert voxels(found, bare) == [[15.5, 20.5, 26.5]]
    averaged = Grid(SHAPE, VOXEL_NM, "v", {**UNBINNED, "binning": "average"})
    np.testing.assert_allclose(voxels(found, averaged), [[15.125, 20.125, 26.125]])


# -- what is refused -------------------------------------------------------------------


@pytest.mark.parametrize("place", [(-0.6, 0, 0), (0, 40.6, 0), (0, 0, 52.6), (41, 31, 0)])
def test_a_point_outside_is_refused_by_its_number(tmp_path, place):
    path = tmp_path / "p.tbl"
    made = source.particles(np.array([(1, 1, 1), place], float))
    particles.write(made, path, GRID)
    with pytest.raises(Refused, match=r"p\.tbl: .*\(31, 41, 53\), found point 2 at"):
        particles.points(path, row("tbl"), GRID)


def test_the_outer_faces_are_inside():
    places = np.array([(-0.5, -0.5, -0.5), (30.5, 40.5, 52.5)])
    source.inside(places, SHAPE, source.particles(places), "p.csv")


def test_lengths_without_a_voxel_size_are_nowhere(tmp_path):
    (tmp_path / "p.csv").write_text("z,y,x\n1,1,1\n")
    nobody = Grid(SHAPE, (np.nan, np.nan, np.nan))
    with pytest.raises(Refused, match="found point 1"):
        particles.points(tmp_path / "p.csv", {"unit": "nm"}, nobody)


NAMED = source.particles(np.eye(3), tomograms=("007", "a", "007"))


def test_one_of_several_tomograms_must_be_chosen():
    with pytest.raises(Refused, match="expected one tomogram, found 2: 007, a; fill in"):
        source.of_tomogram(NAMED, "", "p.star")
    found = source.of_tomogram(NAMED, "007", "p.star")
    assert found.positions.tolist() == [[1, 0, 0], [0, 0, 1]]
    assert found.tomograms == ("007", "007")


def test_a_tomogram_is_text():
    with pytest.raises(Refused, match="the tomogram '7' of its row, found 007, a"):
        source.of_tomogram(NAMED, "7", "p.star")


def test_a_file_without_tomograms_has_none_to_choose():
    with pytest.raises(Refused, match="a file that does not tell tomograms"):
        source.of_tomogram(source.particles(np.eye(3)), "a", "p.mod")


def test_many_tomograms_are_told_in_one_short_line():
    names = tuple(f"t{number}" for number in range(100))
    many = source.particles(np.zeros((100, 3)), tomograms=names)
    with pytest.raises(Refused, match="found 100: t0, t1, t10, t11, t12 and 95 more"):
        source.of_tomogram(many, "", "p.star")


def test_an_unknown_ending_is_refused(tmp_path):
    with pytest.raises(Refused, match=r"endings .*\.csv, .*found '\.xyz'"):
        particles.read(tmp_path / "p.xyz")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(Refused, match=r"p\.csv: expected a file of points, found none"):
        particles.read(tmp_path / "p.csv")


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_huge_file_is_refused_unread(tmp_path, ending):
    path = tmp_path / f"p.{ending}"
    with path.open("wb") as file:
        file.truncate((64 << 20) + 1)  # sparse: takes no disk
    with pytest.raises(Refused, match="expected at most 64 MiB of points, found 64 MiB"):
        particles.read(path)


@pytest.mark.parametrize("ending", ["csv", "star", "tbl"])
def test_more_lines_than_a_million_are_refused(tmp_path, ending):
    path = tmp_path / f"p.{ending}"
    path.write_bytes(b"\n" * 1_000_001)
    with pytest.raises(Refused, match="expected at most 1000000 particles"):
        particles.read(path)


GARBAGE = [b"", b"\0" * 600, bytes(range(256)) * 8, b"IMODV1.2" + b"\xff" * 300]
GARBAGE += [b"[" * 100_000, b"_\nloop_\ndata_", b"{}", b"z,y,x\n1,2\n", b'{"points": 3}']


def outcome(path):
    """Read a file: its particles, or the one line of its refusal."""
    try:
        return particles.read(path)
    except Refused as refusal:
        told = str(refusal)
    assert "\n" not in told
    assert path.name in told
    return told


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_read_as_nothing_or_refused_in_one_line(tmp_path, ending, garbage):
    path = tmp_path / f"p.{ending}"
    path.write_bytes(garbage)
    found = outcome(path)
    assert found if isinstance(found, str) else len(found) == 0


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_cut_anywhere_gives_true_points_or_is_refused(tmp_path, ending):
    """Cutting a text inside a number is the one damage nobody can see."""
    path, made = tmp_path / f"p.{ending}", some(8)
    particles.write(made, path, GRID)
    whole, data = particles.read(path).positions, path.read_bytes()
    for end in range(0, len(data), max(7, len(data) // 99)):
        path.write_bytes(data[:end])
        found = outcome(path)
        if isinstance(found, str):
            continue
        assert ending not in ("mod", "em", "json")
        whole_rows = max(0, len(found) - 1)
        assert np.array_equal(found.positions[:whole_rows], whole[:whole_rows])


def test_every_format_says_what_it_reads_and_can_write():
    for reader in particles.readers():
        assert reader.FORMAT.reads
        assert hasattr(reader, "write")
        assert reader.UNIT in ("", "stated", *source.UNITS)
    endings = [end for reader in particles.readers() for end in reader.FORMAT.endings]
    assert sorted(endings) == sorted(f".{ending}" for ending in ENDINGS)
    assert particles.needs_unit("a.csv")
    assert not particles.needs_unit("$DATA/a.STAR")
