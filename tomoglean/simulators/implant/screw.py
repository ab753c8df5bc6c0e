"""The screw as it was made: a height field over its axis."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tomoglean.provenance import Refused
from tomoglean.simulators import fields
from tomoglean.simulators.implant.looks import Look
from tomoglean.volumes import random

Array = npt.NDArray[Any]

HEAD_SLOPE, TOP_SLOPE, TIP_SLOPE = 1.0, 8.0, 1.0


@dataclass(frozen=True)
class Screw:
    """Settings of the screw: see `screw` in the schema for units, limits and sources."""

    radius_um: float
    core_um: float
    pitch_um: float
    crest_share: float
    root_share: float
    tilt_deg: float
    offset_um: float
    head_at_um: float | None
    head_radius_um: float
    head_height_um: float
    tip_at_um: float | None

    def __post_init__(self) -> None:
        """Refuse a thread that cannot be cut."""
        if self.core_um > self.radius_um:
            raise Refused(
                f"simulate: expected screw.core_um of at most screw.radius_um"
                f" ({self.radius_um:g}), found {self.core_um:g}; make the core thinner"
            )
        if self.crest_share + self.root_share > 0.9:
            raise Refused(
                "simulate: expected screw.crest_share and screw.root_share to leave a"
                " tenth of the pitch to the flanks; make one of them smaller"
            )

    @property
    def largest_um(self) -> float:
        """Largest radius of the screw within reach, in um."""
        headless = self.head_at_um is None
        return self.radius_um if headless else max(self.radius_um, self.head_radius_um)

    def surface(self, s_um: Array, turns: Array, depth_um: Any = 0.0) -> Array:
        """Radius of the screw's surface, moved inward by some depth.

        Crest, flanks, root, head and tip are each moved along their own normal and cut
        again, as corrosion moves them; a negative depth moves them outward.

        Parameters
        ----------
        s_um
            Place along the axis in um.
        turns
            Angle about the axis in turns, the thread's own turn included.
        depth_um
            Depth along the normal in um, broadcast against the others.

        Returns
        -------
        ndarray
            Radii in um; nothing is left where they are not positive.
        """
        # Plus, for the axes (z, y, x) are a left-handed frame: the thread is right-handed.
        off_crest = np.abs(2 * ((s_um / self.pitch_um + turns) % 1.0) - 1)
        radius = np.minimum(self.radius_um - depth_um, self._flank(off_crest, depth_um))
        radius = np.maximum(self.core_um - depth_um, radius)
        return self._ended(s_um, radius, depth_um)

    def _flank(self, off_crest: Array, depth_um: Any) -> Array:
        half_um = self.pitch_um / 2
        width_um = (1 - self.crest_share - self.root_share) * half_um
        slope = (self.radius_um - self.core_um) / width_um
        line = self.radius_um - slope * (off_crest - self.crest_share) * half_um
        return np.asarray(line - depth_um * np.hypot(1, slope))

    def _ended(self, s_um: Array, radius: Array, depth_um: Any) -> Array:
        if self.head_at_um is not None:
            cone = self.core_um + _cone(s_um - self.head_at_um, HEAD_SLOPE, depth_um)
            radius = np.maximum(radius, np.minimum(cone, self.head_radius_um - depth_um))
            above_um = self.head_at_um + self.head_height_um - s_um
            radius = np.minimum(radius, _cone(above_um, TOP_SLOPE, depth_um))
        if self.tip_at_um is not None:
            radius = np.minimum(radius, _cone(s_um - self.tip_at_um, TIP_SLOPE, depth_um))
        return radius


def _cone(along_um: Array, slope: float, depth_um: Any) -> Array:
    return np.asarray(slope * along_um - depth_um * np.hypot(1, slope))


@dataclass(frozen=True)
class Pose:
    """How the screw lies in the field of view.

    Attributes
    ----------
    centre_um
        A point of its axis, (z, y, x) from the middle of the field of view, in um.
    rows
        Unit vectors of its frame as rows; the last one is its axis.
    turn
        Turn of the thread about the axis, in turns.
    """

    centre_um: npt.NDArray[np.float64]
    rows: npt.NDArray[np.float64]
    turn: float

    def seen(self, look: Look) -> tuple[Array, Array, Array]:
        """Cylindrical coordinates of places: along the axis, angle in turns, radius.

        Lengths are um; the angle lies in (-0.5, 0.5]. float32 of the look's shape.
        """
        offsets = [
            np.asarray(c - o) for c, o in zip(look.places, self.centre_um, strict=True)
        ]
        first, second, s = (
            sum(w * c for w, c in zip(row, offsets, strict=True)).astype(np.float32)
            for row in self.rows
        )
        turns = np.arctan2(second, first) * np.float32(0.5 / np.pi)
        return s, turns, np.hypot(first, second)

    def placed(self, s_um: Array, turns: Array, rho_um: Any) -> npt.NDArray[np.float64]:
        """Points (..., 3), axes (z, y, x), in um, of cylindrical coordinates."""
        angle = 2 * np.pi * np.asarray(turns)
        first, second, axis = self.rows
        across = np.cos(angle)[..., None] * first + np.sin(angle)[..., None] * second
        return np.asarray(
            self.centre_um
            + np.asarray(s_um)[..., None] * axis
            + np.asarray(rho_um)[..., None] * across
        )


def posed(seed: int, key: str, screw: Screw) -> Pose:
    """Place the screw near the middle of the field of view, about along z.

    Parameters
    ----------
    seed, key
        Key of the random choices; the same for all scans of one specimen.
    screw
        Its settings: largest tilt and largest offset.
    """
    rng = random(seed, key, "pose")
    tilt = np.radians(screw.tilt_deg) * rng.uniform()
    azimuth = 2 * np.pi * rng.uniform()
    sideways = np.sin(tilt) * np.array([np.sin(azimuth), np.cos(azimuth)])
    rows = fields.frame((np.cos(tilt), *sideways))
    centre_um = screw.offset_um * np.array([0, *rng.uniform(-1, 1, 2)])
    return Pose(centre_um, rows, float(rng.uniform()))
