"""The table of sites says what is true: wedge, visibility, gap."""

import numpy as np
import pytest

from tomoglean.simulators.minicell.bodies import EMPTY, Site, solid
from tomoglean.simulators.minicell.decoys import BODIES
from tomoglean.simulators.minicell.distances import ball, rod
from tomoglean.simulators.minicell.truth import COLUMNS, table, visibility, wedge_class


def along(degrees, kind="t3ss", gap_nm=32.0):
    """A site whose normal lies in the x-z plane at this angle from z."""
    angle = np.radians(degrees)
    return Site(np.zeros(3), np.array([np.cos(angle), 0.0, np.sin(angle)]), kind, gap_nm)


def plate(at):
    return np.maximum(np.abs(at.height) - 3.0, at.radius - 40.0)


PLATE = solid(plate, extent=lambda site: (-3.0, 3.0, 40.0))
BALL = solid(
    lambda at: ball(at, across=0, aside=0, height=0, size=8.0),
    extent=lambda site: (-8.0, 8.0, 8.0),
)
LONG = solid(
    lambda at: rod(at, thick=3.0, low=-50.0, high=50.0),
    extent=lambda site: (-50.0, 50.0, 3.0),
)


@pytest.mark.parametrize(
    ("degrees", "expected"),
    [(0, "inside"), (28.9, "inside"), (29.1, "edge"), (48.9, "edge"), (49.1, "outside")],
)
def test_wedge_class_turns_ten_degrees_from_the_edge(degrees, expected):
    assert wedge_class(along(degrees), 51.0) == expected


def test_a_ball_is_seen_by_the_share_of_directions():
    # A band of 43.3 % of the sphere is unseen at 51 degrees.
    assert visibility(along(0), BALL, tilt_max_deg=51.0) == pytest.approx(0.567, abs=0.03)


def test_everything_is_seen_without_a_wedge():
    assert visibility(along(20), BALL, tilt_max_deg=90.0) == pytest.approx(1, abs=0.01)


def test_a_plate_is_seen_by_its_normal():
    lying, standing = (visibility(along(d), PLATE, tilt_max_deg=51.0) for d in (0, 90))
    assert lying < 0.15
    assert standing > 0.9


def test_a_rod_is_seen_where_a_plate_is_not():
    up = visibility(along(0), LONG, tilt_max_deg=51.0)
    assert up > 0.8


def test_visibility_counts_the_whole_spectrum_not_the_stored_half():
    # Mirrored in z a body has the same share; a half spectrum counted once has not.
    one = visibility(along(25), LONG, tilt_max_deg=51.0)
    other = visibility(along(-25), LONG, tilt_max_deg=51.0)
    assert one == pytest.approx(other, abs=5e-3)


def test_nothing_has_no_visibility():
    assert np.isnan(visibility(along(0), EMPTY, tilt_max_deg=51.0))


def test_table_has_a_row_a_site():
    sites = [along(0), along(90, "ribosome"), along(10, "gold", 0.0), along(3, "empty")]
    made = table(sites, BODIES, tilt_max_deg=51.0)
    assert tuple(made.columns) == COLUMNS
    assert list(made["class"]) == ["t3ss", "ribosome", "gold", "empty"]
    assert list(made["wedge_class"]) == ["inside", "outside", "inside", "inside"]
    np.testing.assert_allclose(made["wedge_angle"], [0, 90, 10, 3], atol=1e-6)
    assert made["gap_nm"].isna().tolist() == [False, False, True, False]
    assert made["visibility"].isna().tolist() == [False, False, False, True]
    assert made["visibility"].dropna().between(0, 1).all()
    assert (made["polarity"] == 1).all()


def test_table_of_no_sites_has_its_columns():
    assert tuple(table([], BODIES, tilt_max_deg=51.0).columns) == COLUMNS
