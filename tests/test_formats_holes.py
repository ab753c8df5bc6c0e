import os

import pytest

from tomoglean.formats import holes
from tomoglean.formats.holes import refuse_holes
from tomoglean.provenance import Refused


def sparse(path, size, *written):
    """Write 4 kB at every place of a file that is a hole elsewhere."""
    with path.open("wb") as file:
        for place in written:
            file.seek(place)
            file.write(b"\1" * 4096)
    os.truncate(path, size)
    return path


def test_a_terabyte_of_hole_is_refused(tmp_path):
    path = sparse(tmp_path / "v.raw", 1 << 40, 0, 1 << 39)
    with pytest.raises(Refused, match=r"^v\.raw: expected 1099511627776 bytes, found 8192"):
        refuse_holes(path)


def test_a_file_that_is_all_hole_is_refused(tmp_path):
    with pytest.raises(Refused, match="found 0 that were ever written"):
        refuse_holes(sparse(tmp_path / "v.raw", 1 << 31))


def test_small_files_may_have_holes(tmp_path):
    refuse_holes(sparse(tmp_path / "v.raw", 1 << 20))


@pytest.mark.parametrize(("size", "refused"), [(4096 * 1000, False), (4096 * 1001, True)])
def test_a_thousandth_is_enough(tmp_path, monkeypatch, size, refused):
    monkeypatch.setattr(holes, "LARGE_BYTES", 1)
    path = sparse(tmp_path / "v.raw", size, 4096)
    if refused:
        with pytest.raises(Refused):
            refuse_holes(path)
    else:
        refuse_holes(path)


def test_many_pieces_are_not_counted_to_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(holes, "LARGE_BYTES", 1)
    monkeypatch.setattr(holes, "MOST_EXTENTS", 2)
    places = [number << 16 for number in range(4)]
    refuse_holes(sparse(tmp_path / "v.raw", 1 << 30, *places))


def test_where_holes_are_unknown_all_is_data(tmp_path, monkeypatch):
    monkeypatch.setattr(holes, "LARGE_BYTES", 1)
    end = {os.SEEK_DATA: lambda place: place, os.SEEK_HOLE: lambda _: 1 << 20}
    monkeypatch.setattr(os, "lseek", lambda _, place, how: end[how](place))
    refuse_holes(sparse(tmp_path / "v.raw", 1 << 20))
