"""The specimen as a continuous body: a corroding screw in bone, gas and marrow.

It is made of functions of space, so every voxel size shows the same specimen, slice by
slice, and its volumes and areas are known without any voxel. Lengths are um, from the
middle of the field of view.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from tomoglean.provenance import Refused
from tomoglean.simulators.fields import Float, coverage
from tomoglean.simulators.implant import bone as tissue
from tomoglean.simulators.implant.bone import Apposition, Bone, Pores, Trabeculae, Wall
from tomoglean.simulators.implant.corrosion import Corroded, Corrosion, corrode, wear
from tomoglean.simulators.implant.looks import Cloud, Look, Sheet
from tomoglean.simulators.implant.screw import Pose, Screw, posed
from tomoglean.simulators.implant.skin import Lattice, Skin, lattice, skin, steepness
from tomoglean.simulators.implant.texture import Texture, weave

Array = npt.NDArray[Any]

MATERIALS = ("air", "marrow", "bone", "degradation_layer", "residual_metal", "gas")
AIR, MARROW, BONE, DEGRADATION_LAYER, RESIDUAL_METAL, GAS = range(6)

BEYOND_UM = 60.0  # how far around the screw the tables are asked


@dataclass(frozen=True)
class Field:
    """Settings of the field of view: see `field` in the schema."""

    shape_px: Sequence[int]
    voxel_um: float

    @property
    def size_um(self) -> npt.NDArray[np.float64]:
        """Edges along z, y, x in um."""
        return np.asarray(self.shape_px) * self.voxel_um

    @property
    def axes_um(self) -> tuple[Array, Array, Array]:
        """Centres of the voxels along z, y, x, from the middle of the field, in um."""
        z, y, x = (
            (np.arange(n) - (n - 1) / 2) * self.voxel_um for n in map(int, self.shape_px)
        )
        return z, y, x


@dataclass(frozen=True)
class Plane:
    """Signed distances in um to the bodies, negative inside, float32 of one shape.

    They are of first order: exact in sign, and near a surface in value.

    Attributes
    ----------
    metal
        Residual metal.
    layer
        Outer surface of the degradation layer: all inside that is not metal is layer.
    bone
        Bone; where it touches the layer it reaches below it, and the layer counts.
    gas
        Gas pores; they displace bone and marrow, not the implant. At most 20 um.
    block
        The block of tissue that was cut out for the scan; around it is air.
    """

    metal: Float
    layer: Float
    bone: Float
    gas: Float
    block: Float


@dataclass(frozen=True)
class Specimen:
    """One specimen at one time.

    Attributes
    ----------
    field, screw, corrosion, bone
        Settings it was grown from.
    pose
        How the screw lies.
    corroded, met
        Surfaces of the implant, and how bone meets it, tabulated.
    surfaces
        The same surfaces, ready to be looked up.
    trabeculae, wall, pores
        The surroundings; there may be no wall of cortical bone.
    weave
        Textures.
    """

    field: Field
    screw: Screw
    corrosion: Corrosion
    bone: Bone
    pose: Pose
    corroded: Corroded
    met: Apposition
    surfaces: Skin
    trabeculae: Trabeculae
    wall: Wall | None
    pores: Pores
    weave: Texture

    @classmethod
    def grow(
        cls,
        seed: int,
        name: str,
        *,
        field: Field,
        screw: Screw,
        corrosion: Corrosion,
        bone: Bone,
    ) -> "Specimen":
        """Grow a specimen.

        Parameters
        ----------
        seed, name
            Keys of every random choice; `corrosion.specimen` stands in for the name, so
            that scans at several times show one specimen.
        field, screw, corrosion, bone
            Settings.

        Raises
        ------
        Refused
            If the screw does not fit into the field of view or none of it is there, or no
            metal is left.
        """
        key = corrosion.specimen or name
        _check_fits(field, screw)
        pose = posed(seed, key, screw)
        nodes = _nodes(field, screw)
        corroded = corrode(seed, key, screw, pose, corrosion, nodes)
        if not areas_um2(corroded.initial_um, nodes, pose, field).any():
            raise Refused(
                "simulate: expected some of the screw in the field of view, found none;"
                " change screw.head_at_um or screw.tip_at_um"
            )
        weights = areas_um2(corroded.layer_um, nodes, pose, field)
        met = tissue.apposition(seed, key, screw, bone, corroded, weights)
        return cls(
            field=field,
            screw=screw,
            corrosion=corrosion,
            bone=bone,
            pose=pose,
            corroded=corroded,
            met=met,
            surfaces=_surfaces(corroded, met),
            trabeculae=tissue.trabeculae(seed, key, bone),
            wall=tissue.wall(seed, key, bone),
            pores=tissue.pores(seed, key, pose, corrosion, corroded, met, weights),
            weave=weave(
                seed,
                key,
                wear(seed, key, screw, corrosion, nodes),
                crack_um=corrosion.crack_um,
                canal_um=bone.canal_um,
                lacuna_um=bone.lacuna_um,
            ),
        )

    def plane(self, z_um: float, y_um: Array, x_um: Array) -> Plane:
        """Signed distances on a plane across z.

        Parameters
        ----------
        z_um
            Height of the plane, from the middle of the field of view, in um.
        y_um, x_um
            Rising coordinates of its rows and columns in um; they may reach beyond the
            field of view.
        """
        return self.bodies(Sheet(z_um, y_um, x_um))

    def at(self, points_um: npt.NDArray[np.float64]) -> Plane:
        """Signed distances at points (N, 3), axes (z, y, x), in um: shape (N,) each."""
        return self.bodies(Cloud(points_um))

    def bodies(self, look: Look) -> Plane:
        """Signed distances wherever one looks."""
        skin = self._skin(look)
        solid = self.trabeculae.distance(look)
        if self.wall is not None:
            solid = np.minimum(solid, self.wall.distance(look))
        solid = np.minimum(solid, skin["shell"])
        _, y, x = look.places
        block = np.hypot(y, x).astype(np.float32) - np.float32(self.bone.block_um)
        return Plane(
            metal=skin["metal"],
            layer=skin["layer"],
            bone=np.maximum(solid, skin["free"]),
            gas=self.pores.distance(look),
            block=np.broadcast_to(block, look.shape),
        )

    def gas_um(self, points_um: npt.NDArray[np.float64]) -> Float:
        """Signed distance to the gas at points (N, 3), at most 20 um."""
        return self.pores.distance(Cloud(points_um))

    def _skin(self, look: Look) -> dict[str, Float]:
        """Distances to the surfaces around the screw; far away, bounds on them."""
        s, turns, rho = self.pose.seen(look)
        highest = np.float32(self.met.outer_um.max())
        near = rho < highest + BEYOND_UM
        away = rho - highest
        found = {"metal": away, "layer": away.copy(), "shell": away.copy(), "free": -away}
        values = self.surfaces.at(s[near], turns[near])
        level = values["level"]
        for name, ours in found.items():
            distance = rho[near] - values[name]
            if name == "metal":
                ours[near] = distance * values["metal_level"]
            else:
                ours[near] = distance * level * (-1 if name == "free" else 1)
        return found

    def texture(self, z_um: float, y_um: Array, x_um: Array) -> Float:
        """Relative attenuation of each material on a plane, shape (materials, Y, X).

        1 is the material's own value. Cracks, canals, lacunae, grain and precipitates
        belong to the class they lie in.
        """
        return self._textured(Sheet(z_um, y_um, x_um))

    def _textured(self, look: Look) -> Float:
        factors = np.ones((len(MATERIALS), *look.shape), np.float32)
        s, turns, rho = self.pose.seen(look)
        factors[MARROW] = self.weave.marrow(look)
        factors[BONE] = self.weave.bone(look)
        box = _bounds(rho < self.met.outer_um.max())
        if box is not None and isinstance(look, Sheet):
            part = Sheet(look.z_um, look.y_um[box[0]], look.x_um[box[1]])
            around = s[box], turns[box], rho[box]
            factors[(DEGRADATION_LAYER, *box)] = self._layer_texture(part, *around)
            factors[(RESIDUAL_METAL, *box)] = self.weave.metal(part)
        return factors

    def _layer_texture(self, look: Look, s: Array, turns: Array, rho: Array) -> Float:
        surfaces = self.surfaces.at(s, turns)
        thick = np.maximum(surfaces["layer"] - surfaces["metal"], np.float32(1e-3))
        share = (surfaces["layer"] - rho) / thick
        return self.weave.layer(look, s, turns, share, thick * surfaces["level"])


def _bounds(mask: npt.NDArray[np.bool_]) -> tuple[slice, slice] | None:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def shares(plane: Plane, voxel_um: float) -> Float:
    """Share of every voxel that each of the materials fills.

    Parameters
    ----------
    plane
        Signed distances of the voxels' centres.
    voxel_um
        Edge of the voxels in um.

    Returns
    -------
    ndarray of shape (materials, ...)
        Shares in [0, 1] in the order of `MATERIALS`; they sum to 1.
    """
    inside = {f.name: coverage(getattr(plane, f.name) / voxel_um) for f in fields(plane)}
    metal = inside["metal"]
    implant = np.maximum(inside["layer"], metal)
    left = 1 - implant
    air = left * (1 - inside["block"])
    left = left - air
    gas = left * inside["gas"]
    left = left - gas
    bone = left * inside["bone"]
    return np.stack([air, left - bone, bone, implant - metal, metal, gas])


def areas_um2(
    radius_um: Array, nodes: Lattice, pose: Pose, field: Field
) -> npt.NDArray[np.float64]:
    """Area that each node of a height field stands for within the field of view, in um2."""
    places = pose.placed(nodes.s_um, nodes.turns, radius_um)
    beside = np.all(np.abs(places[..., 1:]) <= field.size_um[1:] / 2, axis=-1)
    share = rows_within(places[..., 0], nodes, pose, field)
    cell = nodes.step_um * nodes.angle_step
    area = np.maximum(radius_um, 0) * steepness(radius_um, nodes) * cell
    return np.asarray(np.where(beside, share * area, 0.0))


def rows_within(z_um: Array, nodes: Lattice, pose: Pose, field: Field) -> Array:
    """Share of each node's piece of the axis that the first and last slice leave in.

    Parameters
    ----------
    z_um
        Height at which a node's piece has its middle, in um.
    nodes, pose, field
        How long the pieces are, how they lean, and where the field of view ends.
    """
    long_um = nodes.step_um * pose.rows[2, 0]
    below = (field.size_um[0] / 2 - z_um) / long_um + 0.5
    above = (field.size_um[0] / 2 + z_um) / long_um + 0.5
    return np.asarray(np.clip(np.clip(below, 0, 1) + np.clip(above, 0, 1) - 1, 0, 1))


def _check_fits(field: Field, screw: Screw) -> None:
    across = float(field.size_um[1:].min())
    needed = 2 * (screw.largest_um + screw.offset_um)
    if across < needed:
        raise Refused(
            f"simulate: expected field.shape_px of at least {needed / field.voxel_um:.0f}"
            f" across the screw, found {across / field.voxel_um:.0f}; enlarge"
            " field.shape_px or field.voxel_um, or take a thinner screw"
        )


def _nodes(field: Field, screw: Screw) -> Lattice:
    """Tables long enough for every slice, on nodes that do not depend on the voxels."""
    tilt = np.radians(screw.tilt_deg)
    reach = screw.largest_um + screw.offset_um + 2 * BEYOND_UM
    half = field.size_um[0] / 2 / np.cos(tilt) + reach * np.tan(tilt)
    step = float(np.clip(screw.pitch_um / 120, 0.5, 2.0))
    return lattice(half, screw.core_um, step)


def _surfaces(corroded: Corroded, met: Apposition) -> Skin:
    nodes = corroded.nodes
    return skin(
        nodes,
        metal=corroded.metal_um,
        layer=corroded.layer_um,
        shell=met.outer_um,
        free=met.free_um,
        metal_level=1 / steepness(corroded.metal_um, nodes),
        level=1 / steepness(corroded.layer_um, nodes),
    )
