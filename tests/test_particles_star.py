"""Claims about STAR files: where RELION 3, 4 and 5 put particles, and how they point."""

import math

import numpy as np
import pytest
import starfile
from scipy.spatial.transform import Rotation

from tomoglean import particles, tables
from tomoglean.particles import Grid, source, star
from tomoglean.provenance import Refused

VOXEL_NM = (1.8, 1.8, 1.8)
UNBINNED = {"bin1_shape": "101,203,305", "bin1_pixel_nm": "0.45", "binning": "fourier"}
GRID = Grid((25, 50, 76), VOXEL_NM, "m1", UNBINNED)


def grid(voxel_nm=VOXEL_NM, **cells):
    return Grid(GRID.shape, voxel_nm, "m1", {**UNBINNED, **cells})


@pytest.fixture
def write(tmp_path):
    def written(columns, optics=""):
        path = tmp_path / "p.star"
        names = "".join(f"_{name} #{n}\n" for n, name in enumerate(columns, start=1))
        rows = "\n".join(
            " ".join(map(str, row)) for row in zip(*columns.values(), strict=True)
        )
        text = f"# version 30001\n\ndata_particles\n\nloop_\n{names}{rows}\n\n"
        path.write_text(optics + text)
        return path

    return written


def places(x=(10.0,), y=(20.0,), z=(5.0,), **more):
    return {"rlnCoordinateX": x, "rlnCoordinateY": y, "rlnCoordinateZ": z, **more}


# -- reading versions 3 and 4 ----------------------------------------------------------


def test_pixels_are_x_y_z_from_zero(write):
    found = particles.read(write(places()))
    assert found.positions.tolist() == [[5, 20, 10]]
    assert (found.unit, found.centred, found.pixel_nm) == ("voxel", False, None)
    assert not found.normals.any()


def test_shifts_in_angstrom_are_taken_off(write):
    shifts = dict(zip(star.ORIGINS_ANGSTROM, ([18.0], [-9.0], [0.0]), strict=True))
    path = write(places(**shifts))
    assert particles.points(path, {}, GRID).positions.tolist() == [[5, 20.5, 9]]


def test_shifts_in_pixels_are_taken_off(write):
    shifts = dict(zip(star.ORIGINS, ([1.0], [-0.5], [2.0]), strict=True))
    assert particles.read(write(places(**shifts))).positions.tolist() == [[3, 20.5, 9]]


def test_shifts_of_version_3_0_count_pixels_of_the_particle_images(write):
    # 9 micron / 10000 = 0.9 nm, half a voxel of the volume.
    image = {"rlnDetectorPixelSize": [9.0], "rlnMagnification": [10000.0]}
    shifts = dict(zip(star.ORIGINS, ([2.0], [0.0], [-2.0]), strict=True))
    path = write(places(**shifts, **image))
    np.testing.assert_allclose(particles.points(path, {}, GRID).positions, [[6, 20, 9]])


def test_version_4_counts_unbinned_pixels_and_says_so(write):
    optics = "data_optics\n\nloop_\n_rlnTomoTiltSeriesPixelSize #1\n4.5\n\n"
    path = write(places([40], [80], [20]), optics)
    assert particles.read(path).pixel_nm == pytest.approx(0.45)
    assert particles.points(path, {}, GRID).positions.tolist() == [[5, 20, 10]]


def test_optics_of_several_pixels_are_refused(write):
    optics = "data_optics\n\nloop_\n_rlnTomoTiltSeriesPixelSize #1\n4.5\n9\n\n"
    with pytest.raises(Refused, match="one rlnTomoTiltSeriesPixelSize, found 2"):
        particles.read(write(places(), optics))


@pytest.mark.parametrize("seed", range(3))
def test_the_axis_is_where_scipy_turns_z(write, seed):
    angles = np.random.default_rng(seed).uniform(-180, 180, (6, 3))
    columns = dict(zip(star.ANGLES, angles.T.tolist(), strict=True))
    found = particles.read(write(places(*np.zeros((3, 6)), **columns)))
    # RELION's matrix is the transpose of scipy's for the same angles.
    turned = Rotation.from_euler("ZYZ", angles, degrees=True).inv().apply([0, 0, 1])
    np.testing.assert_allclose(found.normals, turned[:, ::-1], atol=1e-12)


def test_two_sets_of_angles_follow_one_another_and_the_first_turns_the_shift(write):
    before = Rotation.from_euler("ZYZ", (10, 40, -70), degrees=True).inv()
    after = Rotation.from_euler("ZYZ", (-20, 110, 35), degrees=True).inv()
    columns = dict(zip(star.PRE_ANGLES, ([10], [40], [-70]), strict=True))
    columns |= dict(zip(star.ANGLES, ([-20], [110], [35]), strict=True))
    columns |= dict(zip(star.ORIGINS_ANGSTROM, ([18], [0], [-36]), strict=True))
    found = particles.points(write(places(**columns)), {}, GRID)
    axis = (before * after).apply([0, 0, 1])
    np.testing.assert_allclose(found.normals, [axis[::-1]], atol=1e-12)
    place = np.array([10, 20, 5]) - before.apply([1, 0, -2])
    np.testing.assert_allclose(found.positions, [place[::-1]], atol=1e-12)


def test_angles_of_zero_are_no_axis(write):
    columns = dict(zip(star.ANGLES, ([0, 0], [0, 0], [0, 180]), strict=True))
    found = particles.read(write(places([1, 1], [1, 1], [1, 1], **columns)))
    assert found.normals.tolist() == [[0, 0, 0], [1, 0, 0]]


def test_starfile_sees_the_same_numbers(write, tmp_path):
    random = np.random.default_rng(3)
    path = write(places(*random.uniform(0, 20, (3, 5)).round(4).tolist()))
    starfile.write(starfile.read(path, always_dict=True), tmp_path / "again.star")
    frame = starfile.read(path)
    columns = [frame[f"rlnCoordinate{axis}"].to_numpy() for axis in "ZYX"]
    for file in (path, tmp_path / "again.star"):
        found = particles.read(file).positions
        np.testing.assert_allclose(found, np.transpose(columns), atol=1e-6)


# -- which tomogram --------------------------------------------------------------------


def test_tomograms_are_named_as_they_stand(write):
    path = write(places([1, 2], [1, 2], [1, 2], rlnTomoName=["007", "TS_2"]))
    assert particles.read(path, {"tomogram": "007"}).positions.tolist() == [[1, 1, 1]]
    with pytest.raises(Refused, match="found 2: 007, TS_2"):
        particles.read(path)


def test_micrographs_are_named_without_their_folder_where_that_is_enough(write):
    path = write(places([1, 2], [1, 2], [1, 2], rlnMicrographName=["a/t1.mrc", "b/t2.mrc"]))
    assert len(particles.read(path, {"tomogram": "t2.mrc"})) == 1
    path = write(places([1, 2], [1, 2], [1, 2], rlnMicrographName=["a/t1.mrc", "b/t1.mrc"]))
    assert len(particles.read(path, {"tomogram": "b/t1.mrc"})) == 1


# -- what is refused -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data_\n\nloop_\n_rlnX #1\n1\n", "expected one table with rlnCoordinateX"),
        ("data_\n\nloop_\n_rlnCoordinateX #1\n1\n", "found no rlnCoordinateY"),
        ("hello\n", "found 0; is this a particle file"),
    ],
)
def test_a_file_without_coordinates_is_refused(tmp_path, text, said):
    (tmp_path / "p.star").write_text(text)
    with pytest.raises(Refused, match=said):
        particles.read(tmp_path / "p.star")


@pytest.mark.parametrize("cell", ["nan", "inf", "one", "1_0"])
def test_a_cell_that_is_no_number_is_refused(write, cell):
    with pytest.raises(Refused, match="column rlnCoordinateX of particle 2"):
        particles.read(write(places([1, cell], [1, 1], [1, 1])))


def test_a_short_row_is_refused_where_starfile_makes_it_up(tmp_path):
    path = tmp_path / "p.star"
    head = "data_\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n_rlnCoordinateZ #3\n"
    path.write_text(f"{head}1 2 3\n4 5\n")
    assert np.isnan(starfile.read(path)["rlnCoordinateZ"][1])
    with pytest.raises(Refused, match="expected 3 cells"):
        particles.read(path)


# -- version 5 -------------------------------------------------------------------------


def test_version_5_counts_from_the_middle(write):
    columns = dict(zip(star.CENTRED, ([-18.0], [9.0], [0.0]), strict=True))
    found = particles.read(write(columns))
    assert (found.unit, found.centred) == ("angstrom", True)
    # Bin-1 pixel (z, y, x) = (50.5, 101.5 + 2, 152.5 - 4), a quarter of it in voxels.
    at = particles.points(write(columns), {"unit": "angstrom"}, GRID).positions
    np.testing.assert_allclose(at, [[12.625, 25.875, 37.125]])


def test_shifts_are_taken_off_centred_coordinates_too(write):
    columns = dict(
        zip((*star.CENTRED, *star.ORIGINS_ANGSTROM), [[0.0]] * 5 + [[18.0]], strict=True)
    )
    at = particles.points(write(columns), {}, GRID).positions
    np.testing.assert_allclose(at, [[11.625, 25.375, 38.125]])


# -- writing ----------------


@pytest.mark.parametrize(
    ("normal_zyx", "tilt", "psi"),
    [
        ((1, 0, 0), 0, 180),  # any psi will do; three zeros would say: unknown
        ((0, 0, 0), 0, 0),
        ((-1, 0, 0), 180, 180),
        ((0, 0, 1), 90, 180),
        ((0, 0, -1), 90, 0),
        ((0, 1, 0), 90, 90),
        ((0, -1, 0), 90, -90),
        # x, y, z = 0.6, -0.48, 0.64: tilt = acos .64, psi = atan2(-.48, -.6).
        ((0.64, -0.48, 0.6), 50.2081805, -141.3401917),
    ],
)
def test_angles_of_known_normals(normal_zyx, tilt, psi):
    rot, found_tilt, found_psi = star.angles(np.array([normal_zyx], float))[0]
    assert rot == 0
    assert found_tilt == pytest.approx(tilt, abs=1e-6)
    assert math.cos(math.radians(found_psi - psi)) == pytest.approx(1, abs=1e-12)


def test_angles_turn_the_reference_axis_onto_the_normal():
    random = np.random.default_rng(2)
    normals = random.normal(size=(50, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    for normal, euler in zip(normals, star.angles(normals), strict=True):
        # RELION's matrix is the transpose of scipy's for the same angles.
        matrix = Rotation.from_euler("ZYZ", euler, degrees=True).as_matrix().T
        np.testing.assert_allclose(matrix @ (0, 0, 1), normal[::-1], atol=1e-12)


def test_the_centre_of_the_tomogram_is_zero():
    middle = np.array([[101, 203, 305]]) / 2 / 4
    np.testing.assert_allclose(star.centred_angstrom(middle, GRID), 0, atol=1e-9)


def test_coordinates_are_x_y_z_in_angstrom():
    # Bin-1 pixel (z, y, x) = (50.5, 101.5 + 2, 152.5 - 4).
    found = star.centred_angstrom(np.array([[50.5, 103.5, 148.5]]) / 4, GRID)
    np.testing.assert_allclose(found, [[-18, 9, 0]], atol=1e-9)


def test_averaging_shifts_by_half_the_lost_pixels():
    # Averaging four pixels puts voxel 0 at (0 + 1 + 2 + 3) / 4 = 1.5.
    zero = np.zeros((1, 3))
    fourier = star.centred_angstrom(zero, GRID)
    average = star.centred_angstrom(zero, grid(binning="average"))
    np.testing.assert_allclose(average - fourier, 1.5 * 4.5)


@pytest.mark.parametrize("binning", ["fourier", "average"])
@pytest.mark.parametrize("factor", [1, 2, 4])
def test_round_trip_to_a_hundredth_of_a_voxel(tmp_path, binning, factor):
    random = np.random.default_rng(factor)
    normals = random.normal(size=(9, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    made = source.particles(random.uniform(0, 25, (9, 3)), normals)
    target = grid((0.45 * factor,) * 3, binning=binning)
    particles.write(made, tmp_path / "p.star", target)
    columns = tables.read_star(tmp_path / "p.star")["particles"]

    centred = [columns[f"rlnCenteredCoordinate{axis}Angst"] for axis in "ZYX"]
    bin1 = np.array(centred, float).T / 4.5 + np.array([101, 203, 305]) / 2
    lost = (factor - 1) / 2 if binning == "average" else 0
    np.testing.assert_allclose((bin1 - lost) / factor, made.positions, atol=0.01)
    tilt, psi = (
        np.radians(np.array(columns[f"rlnAngle{x}"], float)) for x in ("Tilt", "Psi")
    )
    back = [np.cos(tilt), np.sin(tilt) * np.sin(psi), -np.sin(tilt) * np.cos(psi)]
    np.testing.assert_allclose(np.transpose(back), normals, atol=1e-5)
    found = source.to_voxels(particles.read(tmp_path / "p.star"), {}, target, "p.star")
    np.testing.assert_allclose(found, made.positions, atol=0.01)


def test_the_star_file_names_what_relion_asks_for():
    blocks = star.blocks(source.particles(np.ones((2, 3))), GRID)
    assert list(blocks) == ["optics", "particles"]
    assert blocks["optics"]["rlnTomoTiltSeriesPixelSize"] == [4.5]
    columns = blocks["particles"]
    assert columns["rlnTomoName"] == ["m1", "m1"]
    assert columns["rlnTomoParticleName"] == ["m1/1", "m1/2"]
    assert columns["rlnOpticsGroup"] == [1, 1]
    assert columns["rlnAngleTiltPrior"] == columns["rlnAngleTilt"] == [0, 0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"bin1_shape": ""},
        {"bin1_shape": "1,2"},
        {"bin1_shape": "1,2,x"},
        {"bin1_pixel_nm": ""},
        {"bin1_pixel_nm": "-1"},
        {"bin1_pixel_nm": "nan"},
        {"binning": ""},
        {"binning": "cubic"},
    ],
)
def test_star_without_the_unbinned_grid_is_refused_in_one_line(wrong):
    with pytest.raises(Refused, match=r"volume m1: .*volumes\.tsv") as refusal:
        star.blocks(source.particles(np.ones((2, 3))), grid(**wrong))
    assert "\n" not in str(refusal.value)
