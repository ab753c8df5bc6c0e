"""A corroding magnesium screw in bone, as synchrotron micro-CT would show it.

The geometry is a set of smooth level functions, so volumes are known beyond the voxel
grid and grey values hold partial volumes. Facts and sources: Sci Rep 11:24237 (2021),
Front Phys 12:1257512 (2024); attenuation at 38 keV from xraydb.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from tomoglean.provenance import Refused
from tomoglean.simulators import fields
from tomoglean.simulators.annotators import weak_labels
from tomoglean.simulators.fields import Float
from tomoglean.volumes import IGNORE, random

BACKGROUND, BONE, DEGRADATION_LAYER, RESIDUAL_METAL = range(4)
CLASSES = ("background", "bone", "degradation_layer", "residual_metal")

# Linear attenuation at 38 keV in 1/cm. A degradation layer without gadolinium has 0.99,
# and up to 0.72 more the more of the alloy's gadolinium stays in it.
METAL, BONE_MATRIX, LAYER, GADOLINIUM, WATER = 1.66, 1.43, 0.99, 0.72, 0.28

Labels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Anatomy:
    """Signed distances in voxels, negative inside; the bodies of one specimen.

    Attributes
    ----------
    implant
        The screw before any corrosion.
    metal
        Residual metal.
    layer
        Outer surface of the degradation layer; everything inside it that is not metal is
        degradation layer.
    bone
        Bone, pores of marrow left out.
    gas
        Gas pores in the tissue.
    thickness_px
        Thickness of the degradation layer without pits, where it meets the screw's surface.
    """

    implant: Float
    metal: Float
    layer: Float
    bone: Float
    gas: Float
    thickness_px: Float


@dataclass(frozen=True)
class Implant:
    """What `simulate_implant` makes: image, truth, a user's labels and the facts.

    Attributes
    ----------
    image
        Attenuation in 1/cm, float32 of shape (Z, Y, X).
    truth, weak, corrected
        Labels uint8 of shape (Z, Y, X); 255 = unlabelled.
    facts
        Settings, continuous volumes, errors of the weak labels; ready for JSON.
    """

    image: Float
    truth: Labels
    weak: Labels
    corrected: Labels
    facts: dict[str, Any]


def simulate_implant(
    *,
    seed: int,
    name: str,
    shape_px: Sequence[int] = (64, 128, 128),
    voxel_um: float = 5.0,
    radius_um: float = 150.0,
    core_um: float = 112.0,
    pitch_um: float = 90.0,
    tilt_deg: float = 6.0,
    loss_um: float = 17.0,
    growth_um: float = 8.0,
    pits: int = 12,
    contact: float = 0.6,
    gas_pores: int = 8,
    gadolinium_kept: float = 0.4,
    noise: float = 0.28,
    blur_px: float = 0.8,
    rings: float = 0.06,
    corrected_slices: int = 2,
) -> Implant:
    """Simulate a scan of a corroding Mg-5Gd mini screw in bone, in image space.

    The image is made in image space (attenuation, blur, rings and ramp-coloured noise are
    laid on the reconstruction): good for tests and a demo; no projections, no truncation,
    no phase fringes. Cracks and lacunae belong to the class they lie in.

    Parameters
    ----------
    seed, name
        Together they key every random choice; the name is the volume's id.
    shape_px
        Shape (Z, Y, X) in voxels; the screw stands about along z.
    voxel_um
        Edge of the voxels in um.
    radius_um, core_um, pitch_um
        Radius over the thread's crest, radius at its root, and pitch in um (an M2 screw is
        1000, 770, 400; this thread is coarser).
    tilt_deg
        Largest angle between screw and z in degrees.
    loss_um, growth_um
        Mean depth of metal lost, and of degradation layer grown outward, in um.
    pits
        Number of corrosion pits.
    contact
        Share of the implant's surface that bone reaches, in [0, 1].
    gas_pores
        Number of gas pores in the tissue.
    gadolinium_kept
        Share of the gadolinium that stays in the layer, in [0, 1]: its grey value.
    noise, rings
        Standard deviation of noise and of ring artefacts in 1/cm.
    blur_px
        Standard deviation of the Gaussian point spread in voxels.
    corrected_slices
        Number of truly labelled slices along each of the three axes.

    Raises
    ------
    Refused
        If screw and layer do not fit into the field of view.
    """
    settings = {
        key: value for key, value in locals().items() if key not in ("seed", "name")
    }
    shape = _checked_shape(shape_px, (radius_um + growth_um) / voxel_um, core_um / voxel_um)
    anatomy = _anatomy(
        seed,
        name,
        shape,
        radius_px=radius_um / voxel_um,
        core_px=core_um / voxel_um,
        pitch_px=pitch_um / voxel_um,
        tilt_deg=tilt_deg,
        loss_px=loss_um / voxel_um,
        growth_px=growth_um / voxel_um,
        pits=pits,
        contact=contact,
        gas_pores=gas_pores,
    )
    shares = class_shares(anatomy)
    truth = np.argmax(shares, axis=0).astype(np.uint8)
    clean = attenuation(seed, name, anatomy, shares, gadolinium_kept=gadolinium_kept)
    image = _scan(seed, name, clean, noise=noise, blur_px=blur_px, rings=rings)
    weak = weak_labels(seed, name, image, around=fields.coverage(anatomy.layer))
    corrected = pick_slices(seed, name, truth, corrected_slices)
    facts = {
        "simulator": "implant",
        "mode": "image-space",
        "seed": seed,
        "name": name,
        "settings": settings,
        "classes": list(CLASSES),
        **_quantities(anatomy, shares, voxel_um),
        **_difficulty(image, truth, weak),
    }
    return Implant(image, truth, weak, corrected, facts)


def _checked_shape(
    shape_px: Sequence[int], outer_px: float, core_px: float
) -> tuple[int, int, int]:
    depth, height, width = (int(n) for n in shape_px)
    if core_px > outer_px:
        raise Refused("simulate: core_um is larger than radius_um; make the core thinner")
    if 2 * (outer_px + 4) > min(height, width):
        raise Refused(
            f"simulate: expected shape_px of at least {2 * outer_px + 8:.0f} across the "
            f"screw, found {height} x {width}; enlarge shape_px or voxel_um"
        )
    return depth, height, width


def screw(
    shape: tuple[int, int, int],
    *,
    centre_px: npt.ArrayLike,
    axis: npt.ArrayLike,
    radius_px: float,
    core_px: float,
    pitch_px: float,
    turn: float = 0.0,
) -> Float:
    """Signed distance to an endless screw with a V thread, negative inside.

    Parameters
    ----------
    shape
        Shape (Z, Y, X) in voxels.
    centre_px, axis
        A point of the screw's axis and its direction, both (z, y, x).
    radius_px, core_px, pitch_px
        Radius over the crest, at the root, and pitch in voxels.
    turn
        Turn of the screw about its axis, in turns.
    """
    centre = np.asarray(centre_px)
    offsets = [c - np.float32(o) for c, o in zip(fields.grid(shape), centre, strict=True)]
    across, aside, up = fields.along(fields.frame(axis), offsets)
    phase = (up / pitch_px - np.arctan2(aside, across) / (2 * np.pi) + turn) % 1.0
    crest = 1.0 - np.abs(2.0 * phase - 1.0)
    surface = core_px + (radius_px - core_px) * crest
    return fields.as_distance(np.hypot(across, aside) - surface)


def _anatomy(
    seed: int,
    name: str,
    shape: tuple[int, int, int],
    *,
    radius_px: float,
    core_px: float,
    pitch_px: float,
    tilt_deg: float,
    loss_px: float,
    growth_px: float,
    pits: int,
    contact: float,
    gas_pores: int,
) -> Anatomy:
    """Grow one specimen: screw, corrosion, bone, gas."""
    analytic = _placed_screw(
        random(seed, name, "pose"), shape, radius_px, core_px, pitch_px, tilt_deg
    )
    distance = _far_distance(analytic)
    rng = random(seed, name, "corrosion")
    surface = np.abs(analytic) < 0.5
    loss = loss_px * _uneven(rng, surface, scale_px=7, spread=0.55)
    growth = growth_px * _uneven(rng, surface, scale_px=6, spread=0.6)
    metal = np.maximum(distance + loss, -_pits(rng, distance, pits, radius_px))
    layer = fields.as_distance(distance - growth)
    return Anatomy(
        implant=analytic,
        metal=fields.as_distance(metal),
        layer=layer,
        bone=_bone(seed, name, layer, contact),
        gas=_gas(seed, name, layer, gas_pores),
        thickness_px=(loss + growth)[surface],
    )


def _placed_screw(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    radius_px: float,
    core_px: float,
    pitch_px: float,
    tilt_deg: float,
) -> Float:
    """Screw near the middle of the field of view, about along z."""
    tilt, azimuth = np.radians(tilt_deg * rng.uniform()), 2 * np.pi * rng.uniform()
    axis = (np.cos(tilt), np.sin(tilt) * np.sin(azimuth), np.sin(tilt) * np.cos(azimuth))
    return screw(
        shape,
        centre_px=(np.array(shape) - 1) / 2 + rng.uniform(-3, 3, 3),
        axis=axis,
        radius_px=radius_px,
        core_px=core_px,
        pitch_px=pitch_px,
        turn=rng.uniform(),
    )


def _far_distance(level: Float) -> Float:
    """Euclidean where a level function is none: so corrosion rounds the thread."""
    inside = level < 0
    far = ndimage.distance_transform_edt(~inside) - ndimage.distance_transform_edt(inside)
    near = np.where(np.abs(level) < 1, level, far).astype(np.float32)
    return np.asarray(ndimage.gaussian_filter(near, 1.0), np.float32)


def _uneven(
    rng: np.random.Generator,
    surface: npt.NDArray[np.bool_],
    *,
    scale_px: float,
    spread: float,
) -> Float:
    """Log-normal on the surface, mean 1, at most 2.5; the same all along a normal."""
    field = np.exp(np.float32(spread) * fields.random_field(rng, surface.shape, scale_px))
    if surface.any():
        field = np.minimum(field / field[surface].mean(dtype=np.float64), 2.5)
        nearest = ndimage.distance_transform_edt(
            ~surface, return_distances=False, return_indices=True
        )
        field = field[tuple(nearest)]
    return ndimage.gaussian_filter(field.astype(np.float32), 1.0)


def _pits(rng: np.random.Generator, distance: Float, pits: int, radius_px: float) -> Float:
    """Distance to the corrosion pits: balls about points of the screw's surface."""
    level = np.full(distance.shape, 1e3, np.float32)
    surface = np.argwhere(np.abs(distance) < 0.7)
    if not len(surface):
        return level
    coordinates = fields.grid(level.shape)
    for _ in range(pits):
        centre = surface[rng.integers(len(surface))] + rng.uniform(-0.5, 0.5, 3)
        size = radius_px * rng.uniform(0.12, 0.33)
        level = np.minimum(level, _ball(coordinates, centre, size, rng))
    return level


def _ball(
    coordinates: Sequence[Float],
    centre: npt.NDArray[Any],
    size: float,
    rng: np.random.Generator,
) -> Float:
    stretch = rng.uniform(0.75, 1.35, 3)
    squares = sum(
        ((c - np.float32(o)) / np.float32(s)) ** 2
        for c, o, s in zip(coordinates, centre, stretch, strict=True)
    )
    return np.asarray(np.sqrt(squares) - size, np.float32)


def _bone(seed: int, name: str, layer: Float, contact: float) -> Float:
    """Trabecular and cortical bone, and new bone on a share of the implant's surface."""
    rng = random(seed, name, "bone")
    shape = layer.shape
    sheets = np.abs(fields.random_field(rng, shape, 7)) - 0.28
    trabecular = fields.as_distance(sheets)
    angle, (_, y, x) = 2 * np.pi * rng.uniform(), fields.grid(shape)
    across = np.sin(angle) * (y - shape[1] / 2) + np.cos(angle) * (x - shape[2] / 2)
    wall = shape[2] * rng.uniform(0.24, 0.34) - across
    cortical = wall + 2.5 * fields.random_field(rng, shape, 8)

    touch = fields.random_field(rng, shape, 8)
    surface = np.abs(layer) < 0.7
    limit = np.quantile(touch[surface], 1 - contact) if surface.any() else 0.0
    reach = (touch - limit) / 0.25
    shell = layer - 5.0 * np.clip(reach, -1, 1)
    gap = 4.0 * np.clip(-reach, 0, 1) - 1.0 * (reach > 0)
    tissue = np.minimum(np.minimum(trabecular, cortical), shell)
    return fields.as_distance(np.maximum(tissue, gap - layer))


def _gas(seed: int, name: str, layer: Float, gas_pores: int) -> Float:
    """Gas pores: most of them cling to the implant, as the hydrogen does."""
    rng = random(seed, name, "gas")
    level = np.full(layer.shape, 1e3, np.float32)
    places = np.argwhere((layer > 1) & (layer < 14))
    coordinates = fields.grid(level.shape)
    for _ in range(gas_pores if len(places) else 0):
        centre = places[rng.integers(len(places))]
        level = np.minimum(level, _ball(coordinates, centre, rng.uniform(1.5, 5.5), rng))
    return level


def class_shares(anatomy: Anatomy) -> Float:
    """Share of every voxel that each class fills, of shape (4, Z, Y, X), summing to 1."""
    metal = fields.coverage(anatomy.metal)
    inside = np.maximum(fields.coverage(anatomy.layer), metal)
    open_space = (1 - inside) * (1 - fields.coverage(anatomy.gas))
    bone = open_space * fields.coverage(anatomy.bone)
    return np.stack([1 - inside - bone, bone, inside - metal, metal])


def attenuation(
    seed: int, name: str, anatomy: Anatomy, shares: Float, *, gadolinium_kept: float
) -> Float:
    """Attenuation in 1/cm of every voxel, textures and partial volumes included.

    Parameters
    ----------
    seed, name
        Keys of the textures.
    anatomy, shares
        The specimen, and the share of each class in each voxel, (4, Z, Y, X).
    gadolinium_kept
        Share of the gadolinium that stays in the degradation layer, in [0, 1].
    """
    shape = anatomy.metal.shape
    rng = random(seed, name, "texture")

    def texture(scale_px: float) -> Float:
        return fields.random_field(rng, shape, scale_px)

    # Precipitates brighten the metal, cracks darken the layer, canals and lacunae the bone.
    metal = METAL + 0.06 * texture(6) + 0.45 * np.clip(texture(1.0) - 1.5, 0, 1)
    grain = LAYER + GADOLINIUM * gadolinium_kept + 0.13 * texture(4) + 0.10 * texture(1.0)
    crack = np.clip(1.5 - np.abs(texture(3.5)) / 0.14, 0, 1)
    layer = grain - (grain - WATER) * 0.85 * crack
    canal = np.clip(1.4 - np.hypot(texture(4.5), texture(4.5)) / 0.30, 0, 1)
    matrix = BONE_MATRIX + 0.11 * texture(6) - 0.35 * np.clip(texture(1.0) - 1.5, 0, 1)
    bone = matrix - (matrix - WATER) * 0.85 * canal
    marrow = WATER + 0.04 * texture(3)
    gas = fields.coverage(anatomy.gas) * shares[BACKGROUND]
    background = marrow * (shares[BACKGROUND] - gas)
    tissue = bone * shares[BONE] + layer * shares[DEGRADATION_LAYER]
    return np.asarray(background + tissue + metal * shares[RESIDUAL_METAL], np.float32)


def _scan(
    seed: int, name: str, clean: Float, *, noise: float, blur_px: float, rings: float
) -> Float:
    """Lay blur, rings and noise on the attenuation; no two scans are exposed alike."""
    rng = random(seed, name, "scan")
    exposure, flux = rng.uniform(0.96, 1.04), rng.uniform(0.9, 1.1)
    image = exposure * ndimage.gaussian_filter(clean, blur_px, mode="nearest")
    image += rings * _rings(rng, clean.shape)
    image += noise * flux * fields.ramp_noise(rng, clean.shape)
    return np.asarray(image, np.float32)


def _rings(rng: np.random.Generator, shape: Sequence[int]) -> Float:
    """Rings of standard deviation about 1 about the centre: detector gain errors."""
    depth, height, width = shape
    y, x = np.ogrid[:height, :width]
    radius = np.hypot(y - (height - 1) / 2, x - (width - 1) / 2)
    number = int(radius.max()) + 2
    gains = rng.standard_normal((depth, number)) + 1.5 * rng.standard_normal(number)
    gains /= 1.8 * np.sqrt(1 + np.arange(number) / (number / 4))
    low = radius.astype(int)
    weight = radius - low
    return np.asarray(gains[:, low] * (1 - weight) + gains[:, low + 1] * weight, np.float32)


def pick_slices(seed: int, name: str, truth: Labels, number: int) -> Labels:
    """Keep the truth on a few slices of each axis; 255 elsewhere.

    Parameters
    ----------
    seed, name
        Keys of the choice.
    truth
        Labels of shape (Z, Y, X).
    number
        Slices along each axis, from its middle 60 %, no two alike.
    """
    corrected = np.full(truth.shape, IGNORE, np.uint8)
    for axis, length in enumerate(truth.shape):
        rng = random(seed, name, "corrected", axis)
        middle = np.arange(int(0.2 * length), max(int(0.8 * length), 1))
        chosen = rng.choice(middle, min(number, len(middle)), replace=False)
        where = [slice(None)] * 3
        for index in chosen:
            where[axis] = slice(index, index + 1)
            corrected[tuple(where)] = truth[tuple(where)]
    return corrected


def _quantities(anatomy: Anatomy, shares: Float, voxel_um: float) -> dict[str, Any]:
    """Quantities of the continuous model inside the field of view."""
    voxel_mm3 = (voxel_um / 1000) ** 3
    volumes = shares.sum(axis=(1, 2, 3), dtype=np.float64) * voxel_mm3
    initial = fields.coverage(anatomy.implant).sum(dtype=np.float64) * voxel_mm3
    # A voxel of the surface has bone when bone fills most of what the layer leaves open.
    rim = (np.abs(anatomy.layer - 1.0) < 0.5) & (anatomy.gas > 1)
    low, mean, high = _spread(anatomy.thickness_px * voxel_um)
    return {
        "volume_mm3": dict(zip(CLASSES, map(float, volumes), strict=True)),
        "initial_metal_mm3": float(initial),
        "volume_loss_percent": float(100 * (initial - volumes[RESIDUAL_METAL]) / initial),
        "layer_thickness_um": {"p5": low, "mean": mean, "p95": high},
        "bone_on_surface": float(np.mean(anatomy.bone[rim] < 0.5)) if rim.any() else 0.0,
    }


def _spread(values: Float) -> tuple[float, float, float]:
    if not values.size:
        return 0.0, 0.0, 0.0
    low, high = np.percentile(values, [5, 95])
    return float(low), float(values.mean()), float(high)


def _difficulty(image: Float, truth: Labels, weak: Labels) -> dict[str, Any]:
    """How far the greys overlap, and how wrong the weak labels are."""
    greys = {name: image[truth == label] for label, name in enumerate(CLASSES)}
    edges = np.linspace(image.min(), image.max(), 129)
    shares = {k: np.histogram(v, edges)[0] / max(v.size, 1) for k, v in greys.items()}
    pairs = [(CLASSES[a], CLASSES[b]) for a in range(1, 4) for b in range(a + 1, 4)]
    return {
        "grey": {
            key: {"mean": float(v.mean()), "std": float(v.std())} if v.size else None
            for key, v in greys.items()
        },
        "grey_overlap": {
            f"{a}/{b}": float(np.minimum(shares[a], shares[b]).sum()) for a, b in pairs
        },
        "weak_iou": {
            key: _iou(weak == label, truth == label) for label, key in enumerate(CLASSES)
        },
    }


def _iou(predicted: npt.NDArray[Any], truth: npt.NDArray[Any]) -> float | None:
    union = np.count_nonzero(predicted | truth)
    return float(np.count_nonzero(predicted & truth) / union) if union else None
