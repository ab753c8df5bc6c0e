"""A corroding magnesium screw in bone, as synchrotron micro-CT shows it, with the truth.

The specimen is a continuous body (`specimen`), known beyond any voxel (`quantities`);
X-rays see it by alloy and energy (`materials`) and a beamline scans it (`scan`). A user
then labels the scan (`annotator`). Facts and sources: Sci Rep 11:24237 (2021), Front Phys
12:1257512 (2024) and those of the schema `phantom-implant`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tomoglean import config
from tomoglean.simulators.fields import Float
from tomoglean.simulators.implant import image_space, quantities
from tomoglean.simulators.implant.annotator import (
    BACKGROUND,
    BONE,
    CLASSES,
    DEGRADATION_LAYER,
    RESIDUAL_METAL,
    Labels,
    User,
    chosen_slices,
    corrected,
)
from tomoglean.simulators.implant.bone import Bone
from tomoglean.simulators.implant.corrosion import Corrosion
from tomoglean.simulators.implant.difficulty import Confusion, Greys
from tomoglean.simulators.implant.materials import Material, Optics, optics
from tomoglean.simulators.implant.scan import MARGIN_PX, Beamline, Plane, Scan
from tomoglean.simulators.implant.screw import Screw
from tomoglean.simulators.implant.specimen import MATERIALS, Field, Specimen, shares

__all__ = [
    "BACKGROUND",
    "BONE",
    "CLASSES",
    "DEGRADATION_LAYER",
    "PARTS",
    "RESIDUAL_METAL",
    "Implant",
    "simulate_implant",
]

PARTS: dict[str, npt.DTypeLike] = {
    "image": np.float32,
    "truth": np.uint8,
    "weak": np.uint8,
    "corrected": np.uint8,
}

Into = Callable[[str, tuple[int, int, int], npt.DTypeLike], Any]
Told = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Implant:
    """What `simulate_implant` makes: image, truth, a user's labels and the facts.

    Attributes
    ----------
    image
        Attenuation in 1/cm, float32 of shape (Z, Y, X).
    truth, weak, corrected
        Labels uint8 of shape (Z, Y, X): 0 background, 1 bone, 2 degradation layer,
        3 residual metal; 255 = unlabelled.
    facts
        Settings, truth of the continuous model, errors of the weak labels, overlap of the
        classes' greys; ready for JSON.
    """

    image: Any
    truth: Any
    weak: Any
    corrected: Any
    facts: dict[str, Any]


def in_memory(part: str, shape: tuple[int, int, int], dtype: npt.DTypeLike) -> Any:
    """Give a new array for one part of an implant."""
    return np.empty(shape, dtype)


def untold(stage: str, done: int, total: int) -> None:
    """Tell nobody how far the simulation is."""


def simulate_implant(
    *,
    seed: int,
    name: str,
    settings: Mapping[str, Any],
    into: Into = in_memory,
    told: Told = untold,
) -> Implant:
    """Simulate one scan of one specimen.

    Slices are made one after the other and written at once, so memory holds a few slices
    and their projections, whatever the size. Labels of a user are made afterwards: he looks
    at the finished image.

    Parameters
    ----------
    seed, name
        Together they key every random choice; the name is the volume's id.
    settings
        Nested settings of the schema `phantom-implant`; what is left out takes its
        default.
    into
        Gives, for the name of a part (`PARTS`), its shape (Z, Y, X) and dtype, what the
        part is written to and read back from by slabs: `array[a:b] = slab`, `array[a:b]`.
        NumPy arrays in memory unless told otherwise; for large volumes a memory map
        (`numpy.memmap`, `tifffile.memmap`) or a dataset of an HDF5 file, from which files
        of any other form are then written slice by slice.
    told
        Called with a stage (`scan`, `label`), slices done and slices in all.

    Returns
    -------
    Implant
        Whatever `into` gave, filled, and the facts.

    Raises
    ------
    Refused
        If a setting is not what the schema says, or does not fit the others.
    """
    full = config.filled(settings, "phantom-implant", "simulate", "")
    view, labels = _View.open(seed, name, full), Labels(**full["labels"])
    shape = view.line.shape
    made = {part: into(part, shape, kind) for part, kind in PARTS.items()}
    greys = _scan(view, made, told)
    chosen = chosen_slices(seed, name, shape, labels)
    user = User(
        seed, name, labels, made["image"], made["truth"], view.specimen.field.voxel_um
    )
    confusion = _label(user, chosen, made, told)
    facts = {
        "simulator": "implant",
        "seed": seed,
        "name": name,
        "settings": full,
        "classes": list(CLASSES),
        "optics": asdict(view.optics),
        "truth": quantities.truth(view.specimen),
        **greys.facts(),
        "voxels": dict(zip(CLASSES, map(int, confusion.counts.sum(axis=1)), strict=True)),
        "weak": confusion.facts(),
        "corrected_slices": chosen,
    }
    return Implant(**made, facts=facts)


def _scan(view: "_View", made: Mapping[str, Any], told: Told) -> Greys:
    """Fill in image and truth, slice by slice."""
    greys = Greys(CLASSES, *view.range_per_cm)
    for z, (image, truth) in enumerate(view.slices()):
        made["image"][z], made["truth"][z] = image, truth
        greys.add(image, truth)
        told("scan", z + 1, view.line.shape[0])
    return greys


def _label(
    user: User, chosen: Mapping[str, list[int]], made: Mapping[str, Any], told: Told
) -> Confusion:
    """Fill in weak and corrected labels, slab by slab."""
    confusion = Confusion(CLASSES)
    for part, weak in user.weak():
        truth = np.asarray(made["truth"][part])
        made["weak"][part] = weak
        made["corrected"][part] = corrected(truth, part.start, chosen)
        confusion.add(weak, truth)
        told("label", part.stop, len(user.image))
    return confusion


@dataclass(frozen=True)
class _View:
    """A specimen as the X-rays of one beamline see it."""

    specimen: Specimen
    optics: Optics
    line: Beamline

    @classmethod
    def open(cls, seed: int, name: str, full: Mapping[str, Any]) -> "_View":
        """Grow the specimen and put it into the beam."""
        specimen = Specimen.grow(
            seed,
            name,
            field=Field(**full["field"]),
            screw=Screw(**full["screw"]),
            corrosion=Corrosion(**full["corrosion"]),
            bone=Bone(**full["bone"]),
        )
        field, scan = specimen.field, Scan(**full["scan"])
        depth, rows, columns = map(int, field.shape_px)
        reach_um = specimen.bone.block_um + field.voxel_um
        line = Beamline(seed, name, scan, (depth, rows, columns), field.voxel_um, reach_um)
        return cls(specimen, optics(Material(**full["material"])), line)

    @property
    def range_per_cm(self) -> tuple[float, float]:
        """Range of greys that matter: twice as wide as the materials' on both sides."""
        highest = max(self.optics.attenuation_per_cm.values())
        return -2 * highest, 3 * highest

    def slices(self) -> Iterator[tuple[Float, npt.NDArray[np.uint8]]]:
        """Image and truth of every slice in turn."""
        waiting: list[npt.NDArray[np.uint8]] = []
        planes = self._planes(waiting)
        if self.line.scan.mode == "image":
            images = image_space.images(self.line, planes)
        else:
            images = self.line.images(planes, self._beside)
        for image in images:
            yield image, waiting.pop(0)

    def _planes(self, waiting: list[npt.NDArray[np.uint8]]) -> Iterator[Plane]:
        """Planes for the scan; the truth of those in the field of view waits in a list."""
        y, x = self.line.coordinates_um()
        inner = (slice(None), *(slice(MARGIN_PX, -MARGIN_PX),) * 2)
        for index in self.line.heights:
            parts, plane = self._look(self.line.height_um(index), y, x, self.line.voxel_um)
            if 0 <= index < self.line.shape[0]:
                waiting.append(_codes(parts[inner]))
            yield plane

    def _look(
        self,
        z_um: float,
        y_um: npt.NDArray[np.float64],
        x_um: npt.NDArray[np.float64],
        voxel_um: float,
    ) -> tuple[Float, Plane]:
        """Shares of the materials, and attenuation and decrement, on a plane."""
        parts = shares(self.specimen.plane(z_um, y_um, x_um), voxel_um)
        texture = self.specimen.texture(z_um, y_um, x_um)
        attenuation, decrement = self.optics.seen(parts, texture, MATERIALS)
        return parts, (attenuation, decrement - self.optics.decrement["marrow"])

    def _beside(
        self,
        z_um: float,
        y_um: npt.NDArray[np.float64],
        x_um: npt.NDArray[np.float64],
        voxel_um: float,
    ) -> Float:
        return self._look(z_um, y_um, x_um, voxel_um)[1][0]


def _codes(parts: Float) -> npt.NDArray[np.uint8]:
    """Class that fills most of each voxel; air, marrow and gas are background."""
    solid = [parts[MATERIALS.index(name)] for name in CLASSES[1:]]
    codes = np.argmax(np.stack([1 - sum(solid), *solid]), axis=0)
    return np.asarray(codes, np.uint8)
