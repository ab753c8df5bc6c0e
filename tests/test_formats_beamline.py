"""The folders that the reconstruction of P05 and P07 writes, as its code writes them."""

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

from tomoglean import checks, formats
from tomoglean.formats import open_source
from tomoglean.provenance import Refused

VOLUME = np.arange(3 * 4 * 5, dtype=np.float32).reshape(3, 4, 5) / 7
SCAN = "syn22_77L_Mg5Gd_8w"
LOG = """\
scan_name : syn22_77L_Mg5Gd_8w
beamtime_id : 11005553
scan_path : /asap3/petra3/gpfs/p05/2018/data/11005553/raw/syn22_77L_Mg5Gd_8w/
rot_axis_offset_reco : 3.500000
eff_pixel_size : 2.4 micron
eff_pixel_size_binned : 4.8 micron
energy : 37500 eV
sample_detector_distance : 0.400000 m
date_of_reconstruction : 22-Nov-2018 10:11:12
user : somebody
git commit ID : 05d3b82

Paramters
                eff_pixel_size: 2.4000e-06
         eff_pixel_size_binned: 4.8000e-06

Write
                          tlow: -1.2000e-04
                         thigh: 8.0000e-04
"""


def write_slices(folder, volume=VOLUME, name=f"reco_{SCAN}"):
    """Write slices as write_volume.m does: numbered from 1 with six digits."""
    folder.mkdir(parents=True)
    for number, image in enumerate(volume, start=1):
        tifffile.imwrite(folder / f"{name}_{number:06d}.tif", image, resolution=(72, 72))
    return folder


def write_nexus(file, **numbers):
    file.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(file, "w") as nexus:
        for path, value in numbers.items():
            nexus["/entry/" + path.replace("__", "/")] = value
    return file


@pytest.fixture
def scan(tmp_path):
    """A scan with one reconstruction, its log, and the raw data beside `processed`."""
    folder = tmp_path / "11005553" / "processed" / SCAN
    write_slices(folder / "reco" / "float_rawBin2")
    (folder / "reco" / "reco_rawBin2.log").write_text(LOG)
    raw = tmp_path / "11005553" / "raw" / SCAN
    numbers = {"scan__n_angle": 1200, "scan__n_dark": 20, "scan__n_ref": 100}
    write_nexus(raw / f"{SCAN}_nexus.h5", **numbers, hardware__camera1__exptime=[350.0])
    (raw / "tiff0000").mkdir()
    (raw / "tiff0000" / "proj_0001_img.tif").write_bytes(b"never opened")
    return folder


def header(path, **row):
    with open_source(path, row) as source:
        return source


def read(path, **row):
    with open_source(path, row) as source:
        return source.read(slice(0, source.shape[0]))


# -- a scan as it is -------------------------------------------------------------------


def test_the_folder_of_a_scan_is_a_volume(scan):
    source = header(scan)
    assert (source.format, source.name, source.shape) == ("beamline", SCAN, (3, 4, 5))
    assert source.dtype == np.float32
    assert np.array_equal(read(scan), VOLUME)


def test_the_voxel_size_is_the_binned_pixel_of_the_log(scan):
    assert header(scan).voxel_nm == pytest.approx((4800, 4800, 4800))
    assert header(scan).warnings == []


def test_the_first_slice_has_the_number_one(scan):
    assert (header(scan).first, header(scan).z) == (1, None)


@pytest.mark.parametrize("inside", ["reco/float_rawBin2", "reco"])
def test_the_folder_of_slices_and_the_one_above_do_as_well(scan, inside):
    source = header(scan / inside)
    assert (source.format, source.shape) == ("beamline", (3, 4, 5))
    assert source.voxel_nm == pytest.approx((4800, 4800, 4800))
    assert source.acquisition["n_angle"] == 1200
    assert source.acquisition["reconstruction"] == "reco/float_rawBin2"


def test_the_acquisition_is_told(scan):
    assert header(scan).acquisition == {
        "reconstruction": "reco/float_rawBin2",
        "raw_binning": 2,
        "phase_binning": 1,
        "reco_binning": 1,
        "log": "reco_rawBin2.log",
        "detector_pixel_nm": pytest.approx(2400),
        "scan_name": SCAN,
        "beamtime_id": "11005553",
        "energy_ev": 37500,
        "sample_detector_distance_m": 0.4,
        "reconstructed": "22-Nov-2018 10:11:12",
        "reconstruction_commit": "05d3b82",
        "nexus": f"{SCAN}_nexus.h5",
        "n_angle": 1200,
        "n_dark": 20,
        "n_ref": 100,
        "exposure_ms": 350,
    }


def test_the_check_accepts_a_scan(scan):
    facts = checks.check({"path": str(scan), "volume": "scan-01"})
    assert (facts["verdict"], facts["messages"]) == ("ok", [])
    assert facts["acquisition"]["n_angle"] == 1200


def test_a_folder_of_scans_is_no_scan(scan):
    write_slices(scan.parent / "other" / "reco" / "float_rawBin3")
    assert checks.volumes_in(scan.parent) == [scan.parent / "other", scan]


# -- the size of voxels ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "edge_nm"),
    [
        ("float_rawBin2", 4800),
        ("float_rawBin2_recoBin2", 9600),
        ("float_rawBin2_recoBin4", 19200),
        ("float_rawBin2_phaseBin2", 9600),
        ("float_rawBin2_phaseBin2_recoBin3", 28800),
    ],
)
def test_one_log_serves_every_binning_of_the_volume(scan, name, edge_nm):
    folder = scan / "reco" / name
    if not folder.exists():
        write_slices(folder)
    assert header(folder).voxel_nm == pytest.approx((edge_nm,) * 3)
    assert header(scan, dataset=f"reco/{name}").voxel_nm == pytest.approx((edge_nm,) * 3)


def test_every_raw_binning_has_its_own_log(scan):
    write_slices(scan / "reco" / "float_rawBin3")
    text = LOG.replace("binned : 4.8 micron", "binned : 7.2 micron")
    (scan / "reco" / "reco_rawBin3.log").write_text(text)
    assert header(scan, dataset="reco/float_rawBin3").voxel_nm[0] == pytest.approx(7200)
    assert header(scan, dataset="reco/float_rawBin2").voxel_nm[0] == pytest.approx(4800)


def test_phase_reconstructions_have_their_own_folder_and_log(scan):
    above = scan / "reco_phase" / "tie_regPar1p50"
    write_slices(above / "float_rawBin2")
    text = LOG.replace("4.8 micron", "4.6 micron").replace("2.4 micron", "2.3 micron")
    (above / "reco_phase_tie_regPar1p50_rawBin2.log").write_text(text)
    source = header(scan, dataset="reco_phase/tie_regPar1p50/float_rawBin2")
    assert source.voxel_nm[0] == pytest.approx(4600)
    assert source.acquisition["log"] == "reco_phase_tie_regPar1p50_rawBin2.log"


def test_the_log_of_older_versions_is_read(scan):
    text = "effective_pixel_size : 1.2 micron\neffective_pixel_size_binned : 2.4 micron\n"
    (scan / "reco" / "reco_rawBin2.log").write_text(text)
    assert header(scan).voxel_nm[0] == pytest.approx(2400)


def test_the_pixel_of_the_detector_times_the_binning_serves_as_well(scan):
    (scan / "reco" / "reco_rawBin2.log").write_text("eff_pixel_size : 2.4 micron\n")
    assert header(scan).voxel_nm[0] == pytest.approx(4800)


def test_a_log_that_contradicts_itself_is_told(scan):
    text = LOG.replace("4.8 micron", "2.4 micron")
    (scan / "reco" / "reco_rawBin2.log").write_text(text)
    assert "not rawBin2" in header(scan).warnings[0]


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "eff_pixel_size :  micron\neff_pixel_size_binned :  micron\n",
        "eff_pixel_size_binned : NaN micron\n",
        "eff_pixel_size_binned : 0 micron\n",
        "eff_pixel_size_binned : 1.2.3 micron\n",
        "effective_pixel_size_binned : 4.8e-06\n",
        "Paramters\n         eff_pixel_size_binned: 4.8000e-06\n",
        "eff_pixel_size_binned : 4.8 m\n",
    ],
)
def test_without_a_pixel_size_in_micron_the_row_must_tell_it(scan, text):
    log = scan / "reco" / "reco_rawBin2.log"
    log.unlink()
    if text is not None:
        log.write_text(text)
    with pytest.raises(Refused, match=rf"^{SCAN}: expected eff_pixel_size_binned .*found"):
        header(scan)
    assert header(scan, voxel_nm="4800").voxel_nm == (4800, 4800, 4800)


def test_a_row_that_differs_from_the_log_is_told(scan):
    assert "volumes.tsv 2400" in header(scan, voxel_nm="2400").warnings[0]


def test_two_logs_that_differ_are_refused(scan):
    (scan / "reco" / "reco_x_rawBin2.log").write_text(LOG.replace("4.8", "9.6"))
    with pytest.raises(Refused, match="different pixel sizes"):
        header(scan)


def test_the_log_of_another_binning_is_not_taken(scan):
    (scan / "reco" / "reco_rawBin2.log").rename(scan / "reco" / "reco_rawBin12.log")
    with pytest.raises(Refused, match="expected eff_pixel_size_binned"):
        header(scan)


# -- which reconstruction --------------------------------------------------------------


def test_several_reconstructions_are_refused_with_the_choices(scan):
    write_slices(scan / "reco" / "uint16_rawBin2", VOLUME.astype(np.uint16))
    with pytest.raises(Refused) as refusal:
        header(scan)
    assert str(refusal.value) == (
        f"{SCAN}: expected one reconstruction, found reco/float_rawBin2,"
        " reco/uint16_rawBin2; fill in the column dataset with one of them"
    )


def test_the_column_dataset_chooses(scan):
    write_slices(scan / "reco" / "float_rawBin2_recoBin2", 2 * VOLUME)
    assert np.array_equal(read(scan, dataset="reco/float_rawBin2_recoBin2"), 2 * VOLUME)
    assert np.array_equal(read(scan, dataset="/reco/float_rawBin2/"), VOLUME)


@pytest.mark.parametrize("dataset", ["reco/float_rawBin7", "../../raw", "reco", "/etc"])
def test_only_what_was_found_can_be_chosen(scan, dataset):
    with pytest.raises(Refused, match=r"found reco/float_rawBin2; fill in"):
        header(scan, dataset=dataset)


def test_pictures_for_the_eye_are_taken_only_by_name(scan):
    write_slices(scan / "reco" / "float_adapthisteq_rawBin2", 3 * VOLUME)
    assert np.array_equal(read(scan), VOLUME)
    source = header(scan, dataset="reco/float_adapthisteq_rawBin2")
    assert "no measurement" in source.warnings[0]


@pytest.mark.parametrize("kind", ["uint16", "uint8"])
def test_grey_values_of_few_bits_cannot_be_compared(scan, kind):
    write_slices(scan / "reco" / f"{kind}_rawBin2", VOLUME.astype(kind))
    source = header(scan / "reco" / f"{kind}_rawBin2")
    assert "cannot be compared between scans" in source.warnings[0]
    low, high = source.acquisition["grey_low"], source.acquisition["grey_high"]
    assert (low, high) == (-1.2e-4, 8e-4)


def test_slices_may_be_packed_as_matlab_packs_whole_numbers(scan):
    folder = scan / "reco" / "uint8_rawBin2"
    folder.mkdir()
    for number, image in enumerate(VOLUME.astype(np.uint8), start=1):
        name = f"reco_{SCAN}_{number:06d}.tif"
        Image.fromarray(image).save(folder / name, compression="packbits")
    assert np.array_equal(read(folder), VOLUME.astype(np.uint8))


def test_other_folders_are_no_reconstructions(scan):
    for name in ("sino", "reco/old", "flat_corrected/rawBin2", "reco/float_raw"):
        write_slices(scan / name)
    assert np.array_equal(read(scan), VOLUME)


def test_slices_elsewhere_are_plain_slices(tmp_path):
    assert header(write_slices(tmp_path / "reco_float")).format == "slices"


# -- files -----------------------------------------------------------------------------


def test_the_files_are_the_slices_and_the_log(scan):
    write_slices(scan / "reco" / "float_rawBin4")
    row = {"dataset": "reco/float_rawBin2"}
    names = [file.name for file in formats.files(scan, row)]
    slices = [f"reco_{SCAN}_{number:06d}.tif" for number in (1, 2, 3)]
    assert names == [*slices, "reco_rawBin2.log"]


def test_as_long_as_nothing_is_chosen_the_logs_are_the_files(scan):
    write_slices(scan / "reco" / "float_rawBin4")
    assert [file.name for file in formats.files(scan)] == ["reco_rawBin2.log"]


def test_a_volume_stays_the_same_when_its_raw_data_go(scan):
    before = formats.sha256(scan)
    nexus = scan.parents[1] / "raw" / SCAN / f"{SCAN}_nexus.h5"
    nexus.unlink()
    assert formats.sha256(scan) == before
    assert "n_angle" not in header(scan).acquisition


def test_another_log_is_another_volume(scan):
    before = formats.sha256(scan)
    (scan / "reco" / "reco_rawBin2.log").write_text(LOG.replace("4.8", "4.9"))
    assert formats.sha256(scan) != before


# -- damage ----------------------------------------------------------------------------


def test_a_missing_slice_is_refused(scan):
    (scan / "reco" / "float_rawBin2" / f"reco_{SCAN}_000002.tif").unlink()
    with pytest.raises(Refused, match="found none with the number 2"):
        header(scan)


def test_a_slice_cut_off_is_refused_by_name(scan):
    file = scan / "reco" / "float_rawBin2" / f"reco_{SCAN}_000003.tif"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(Refused, match=rf"^{file.name}: expected"):
        read(scan)


def test_an_empty_reconstruction_is_refused(scan):
    (scan / "reco" / "float_rawBin8").mkdir()
    with pytest.raises(Refused, match="found none in the folder"):
        header(scan, dataset="reco/float_rawBin8", voxel_nm="1")


def test_a_log_of_any_bytes_is_survived(scan):
    content = bytes(range(256)) * 9 + b"\n" + LOG.encode()
    (scan / "reco" / "reco_rawBin2.log").write_bytes(content)
    assert header(scan).voxel_nm[0] == pytest.approx(4800)


def test_a_damaged_nexus_file_is_told_and_not_needed(scan):
    nexus = scan.parents[1] / "raw" / SCAN / f"{SCAN}_nexus.h5"
    nexus.write_bytes(nexus.read_bytes()[:500])
    source = header(scan)
    assert source.shape == (3, 4, 5)
    assert f"{nexus.name} could not be read" in source.warnings[0]
    assert "n_angle" not in source.acquisition


def test_a_scan_name_of_the_log_leads_nowhere_else(scan, tmp_path):
    write_nexus(tmp_path / "secret_nexus.h5", scan__n_angle=7)
    (scan.parents[1] / "raw" / SCAN / f"{SCAN}_nexus.h5").unlink()
    text = LOG.replace(f"scan_name : {SCAN}", "scan_name : ../../../secret")
    (scan / "reco" / "reco_rawBin2.log").write_text(text)
    assert "nexus" not in header(scan).acquisition


def test_a_scan_written_under_another_name_finds_its_recording(scan):
    renamed = scan.rename(scan.with_name(f"{SCAN}_again"))
    assert header(renamed).acquisition["n_angle"] == 1200


def test_numbers_kept_outside_the_nexus_file_are_not_followed(scan, tmp_path):
    write_nexus(tmp_path / "secret.h5", scan__n_angle=7)
    nexus = scan.parents[1] / "raw" / SCAN / f"{SCAN}_nexus.h5"
    with h5py.File(nexus, "a") as file:
        del file["/entry/scan/n_angle"]
        target = str(tmp_path / "secret.h5")
        file["/entry/scan/n_angle"] = h5py.ExternalLink(target, "/entry/scan/n_angle")
        file["/entry/scan/n_img"] = h5py.SoftLink("/entry/scan/n_dark")
        file["/entry/scan/n_ref_many"] = np.zeros(10**5)
    found = header(scan).acquisition
    assert "n_angle" not in found
    assert found["n_dark"] == 20
