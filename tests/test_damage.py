"""The same damage has the same verdict in every format and size."""

import gzip
import struct
import warnings

import h5py
import mrcfile
import nibabel
import numpy as np
import pytest
import tifffile

from tomoglean import checks, formats

SIZES = [(5, 7, 9), (33, 20, 64)]


def write_mrc(path, data):
    with warnings.catch_warnings(action="ignore"), mrcfile.new(path) as file:
        file.set_data(data)


def write_hdf5(path, data):
    with h5py.File(path, "w") as file:
        file.create_dataset("entry/data", data=data, chunks=(1, *data.shape[1:]))


def write_slices(path, data):
    path.mkdir()
    for z, image in enumerate(data):
        tifffile.imwrite(path / f"s{z}.tif", image)


def write_mrc_gz(path, data):
    plain = path.with_suffix("")
    write_mrc(plain, data)
    path.write_bytes(gzip.compress(plain.read_bytes()))


def write_em(path, data):
    z, y, x = data.shape
    path.write_bytes(struct.pack("<4B3i496x", 6, 0, 0, 5, x, y, z) + data.tobytes())


def write_vgstudio(path, data):
    z, y, x = data.shape
    text = f"Size = {x} {y} {z}\nName = {path.name}\nDatatype = float\n"
    path.with_suffix(".vgi").write_text(f"[file1]\n{text}BitsPerElement = 32\n")
    path.write_bytes(data.tobytes())


def write_esrf(path, data):
    z, y, x = data.shape
    path.with_name(f"{path.name}.info").write_text(
        f"NUM_X = {x}\nNUM_Y = {y}\nNUM_Z = {z}\n"
    )
    path.write_bytes(data.tobytes())


def write_nifti(path, data):
    nibabel.save(nibabel.Nifti1Image(data.T, None), path)


def write_amira(path, data):
    z, y, x = data.shape
    text = f"# AmiraMesh BINARY-LITTLE-ENDIAN 2.1\ndefine Lattice {x} {y} {z}\n"
    path.write_bytes(text.encode() + b"Lattice { float Data } @1\n@1\n" + data.tobytes())


FORMATS = {
    "v.mrc": (write_mrc, {}),
    "v.mrc.gz": (write_mrc_gz, {}),
    "v.em": (write_em, {}),
    "v.npy": (np.save, {}),
    "vgstudio.vol": (write_vgstudio, {}),
    "esrf.vol": (write_esrf, {}),
    "v.tif": (lambda p, d: tifffile.imwrite(p, d, photometric="minisblack"), {}),
    "v.h5": (write_hdf5, {}),
    "v": (write_slices, {}),
    "v.nii": (write_nifti, {}),
    "v.nii.gz": (write_nifti, {}),
    "v.am": (write_amira, {}),
    "v.raw": (lambda p, d: p.write_bytes(d.tobytes()), {"dtype": "float32"}),
}
FILES = [name for name in FORMATS if name != "v"]


def ramp(shape):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape) / 7


@pytest.fixture(params=FORMATS)
def look(request, tmp_path):
    """Write voxels in one format and check them."""
    write, row = FORMATS[request.param]

    def check(data, **more):
        path = tmp_path / request.param
        write(path, data)
        shape = ",".join(map(str, data.shape)) if path.suffix == ".raw" else ""
        return checks.check(
            {"path": str(path), "voxel_nm": "5", "shape": shape, **row, **more}
        )

    return check


@pytest.mark.parametrize("shape", SIZES)
def test_a_good_volume_is_ok_and_measured(look, shape):
    facts = look(ramp(shape))
    assert (facts["verdict"], facts["messages"]) == ("ok", [])
    assert facts["shape"] == list(shape)
    assert facts["mean"] == pytest.approx(ramp(shape).mean(dtype=float))


def marked(data, **changes):
    """Change voxels given as `z_y_x=value`, with `_` left out for whole slices."""
    data = data.copy()
    for place, value in changes.items():
        data[tuple(int(number) for number in place.strip("z").split("_"))] = value
    return data


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize(
    ("changes", "verdict", "words"),
    [
        (
            {"z3_4_5": np.nan},
            "refused",
            "found 1 NaN or Inf, the first at z, y, x = (3, 4, 5)",
        ),
        ({"z4_0_0": -np.inf, "z1_2_3": np.inf}, "refused", "found 2 NaN or Inf"),
        ({"z0": np.nan}, "refused", "NaN"),
        ({"z2": 42}, "warning", "one value only in slices z = 2"),
        ({"z0": 1e30, "z1": 1e30}, "warning", "have the highest value"),
    ],
    ids=["nan", "inf", "nan slice", "constant slice", "saturated"],
)
def test_odd_voxels(look, shape, changes, verdict, words):
    facts = look(marked(ramp(shape), **changes))
    assert facts["verdict"] == verdict
    assert words in " | ".join(facts["messages"])


@pytest.mark.parametrize("shape", SIZES)
def test_a_constant_volume_is_refused(look, shape):
    facts = look(np.full(shape, 3, np.float32))
    assert facts["verdict"] == "refused"
    assert "one value everywhere (3)" in facts["messages"][0]


def test_one_slice_is_told(look):
    assert "one slice only" in look(ramp((1, 7, 9)))["messages"][0]


@pytest.mark.parametrize(
    ("row", "verdict", "words"),
    [
        ({"voxel_nm": ""}, "refused", "expected a voxel size, found none"),
        ({"voxel_nm": "25,10,10"}, "warning", "no cubes, 25 x 10 x 10 nm"),
        ({"voxel_nm": "-5"}, "refused", "positive numbers"),
        ({"shape": "5,9,7"}, "refused", "(5, 9, 7)"),
        ({"dtype": "uint16"}, "refused", "uint16"),
    ],
)
def test_a_volume_must_be_what_its_row_says(look, row, verdict, words):
    facts = look(ramp((5, 7, 9)), **row)
    if (facts["format"], row) == ("raw", {"shape": "5,9,7"}):
        return  # a raw file is what its row says
    assert facts["verdict"] == verdict
    assert words in facts["messages"][0]


# -- damage of files -------------------------------------------------------------------


def cut(share):
    return lambda content: content[: int(len(content) * share)]


DAMAGE = {
    "empty": lambda content: b"",
    "text": lambda content: b"<html>404 not found</html>\n" * 80,
    "LFS pointer": lambda content: b"version https://git-lfs.github.com/spec/v1\n",
    "zeros": lambda content: bytes(len(content)),
    "first percent": cut(0.01),
    "half": cut(0.5),
    "last byte missing": lambda content: content[:-1],
}
WHOLE_WITHOUT_ITS_LAST_BYTE = {"v.tif"}  # the zero that ends the list of pages


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("shape", SIZES, ids=["small", "larger"])
def test_a_damaged_file_is_refused_in_one_line(tmp_path, name, damage, shape):
    write, row = FORMATS[name]
    path = tmp_path / name
    write(path, ramp(shape))
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    told = {"shape": ",".join(map(str, shape))} if name == "v.raw" else {}
    facts = checks.check({"path": str(path), "voxel_nm": "5", **row, **told})
    if damage == "last byte missing" and name in WHOLE_WITHOUT_ITS_LAST_BYTE:
        assert facts["mean"] == pytest.approx(ramp(shape).mean(dtype=float))
        return
    assert facts["verdict"] == "refused"
    assert facts["messages"][0].startswith(f"{name}: expected")
    assert "\n" not in facts["messages"][0]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_slice_is_refused_by_its_name(tmp_path, damage):
    write_slices(tmp_path / "v", ramp((5, 7, 9)))
    path = tmp_path / "v" / "s3.tif"
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    facts = checks.check({"path": str(tmp_path / "v"), "voxel_nm": "5"})
    assert facts["verdict"] == "refused"
    assert "s3.tif" in facts["messages"][0]


def test_every_format_of_single_files_is_damaged_here():
    tried = {formats.reader_of(name).FORMAT.name for name in FILES}
    known = {reader.FORMAT.name for reader in formats.readers()}
    pairs = {"VGStudio", "ESRF"}  # known by the header beside the file
    folders = {"slices", "beamline P05/P07", "OME-Zarr"}
    assert known - tried <= pairs | folders
