"""How label images code the classes: places, grey values, colours, names of materials."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tomoglean.formats import Source
from tomoglean.provenance import Refused
from tomoglean.volumes import IGNORE

Labels = npt.NDArray[np.uint8]
Colours = Mapping[str, int | Sequence[int]]
GREY = (1 << 32) | (1 << 16) | 1
HIGHEST = (1 << 16) - 1


@dataclass(frozen=True)
class Code:
    """How label images code the classes.

    Attributes
    ----------
    colours
        Known colours in ascending order, each as red << 32 | green << 16 | blue.
    values
        Class of each of them.
    told
        The same for people.
    """

    colours: npt.NDArray[np.int64]
    values: Labels
    told: str


def code(classes: Sequence[str], colours: Colours | None = None) -> Code:
    """Tell how label images code the classes.

    Parameters
    ----------
    classes
        Class names; their place is their value.
    colours
        Colour [red, green, blue] or grey value by class; `unlabelled` may be one of
        them. Without, images hold the classes' places, and 255 = unlabelled.

    Raises
    ------
    Refused
        If a colour stands for no class, or for two.
    """
    known: dict[str, int | Sequence[int]] = dict(colours or {})
    places = {name: place for place, name in enumerate(classes)} | {"unlabelled": IGNORE}
    if unknown := known.keys() - places.keys():
        raise Refused(
            f"colours: expected the classes {', '.join(classes)}, found"
            f" {', '.join(sorted(unknown))}; correct the config"
        )
    coded = {_number(colour): name for name, colour in (known or places).items()}
    if len(coded) < len(known):
        raise Refused("colours: expected one colour a class, found one twice; correct it")
    return Code(
        np.array(sorted(coded), np.int64),
        np.array([places[coded[number]] for number in sorted(coded)], np.uint8),
        ", ".join(f"{name} = {_tell(number)}" for number, name in coded.items()),
    )


def _number(colour: int | Sequence[int]) -> int:
    if isinstance(colour, int):
        return colour * GREY
    red, green, blue = colour
    return red << 32 | green << 16 | blue


def _tell(number: int) -> str:
    red, green, blue = number >> 32, number >> 16 & HIGHEST, number & HIGHEST
    return str(red) if red == green == blue else f"[{red}, {green}, {blue}]"


def by_materials(source: Source, classes: Sequence[str]) -> Code | None:
    """Take the code from the names of label values that a file brings (Amira).

    Names are compared without regard to case; `Exterior` is the first class unless a
    class has that name.

    Raises
    ------
    Refused
        If a name is no class.
    """
    if not source.materials:
        return None
    known = {name.lower(): name for name in classes}
    known = {"exterior": classes[0], "unlabelled": "unlabelled"} | known
    values = {value: known.get(name.lower()) for value, name in source.materials.items()}
    if None in values.values():
        raise Refused(
            f"{source.name}: expected the materials {', '.join(classes)}, found"
            f" {', '.join(source.materials.values())}; rename them there or in the task's"
            " classes, or give the task's colours"
        )
    places = {name: place for place, name in enumerate(classes)} | {"unlabelled": IGNORE}
    order = sorted(values)
    return Code(
        np.array(order, np.int64) * GREY,
        np.array([places[str(values[value])] for value in order], np.uint8),
        ", ".join(f"{values[value]} = {value}" for value in order),
    )


def decode(image: npt.NDArray[Any], known: Code, name: str) -> Labels:
    """Turn an image of labels into classes.

    Parameters
    ----------
    image
        Grey values of shape (N, Y, X) or colours of shape (N, Y, X, 3).
    known
        What stands for which class.
    name
        File name for messages.

    Returns
    -------
    ndarray
        Classes (uint8) of shape (N, Y, X), 255 where unlabelled.

    Raises
    ------
    Refused
        If the image holds anything else; values and how often they occur are listed.
    """
    found = _numbers(image, name)
    place = np.searchsorted(known.colours, found).clip(max=len(known.colours) - 1)
    strange = known.colours[place] != found
    if strange.any():
        values, counts = np.unique(found[strange], return_counts=True)
        _refuse([_tell(int(value)) for value in values], counts, known.told, name)
    labels: Labels = known.values[place]
    return labels


def _numbers(image: npt.NDArray[Any], name: str) -> npt.NDArray[np.int64]:
    """Give every pixel its colour as one number, as in `Code`."""
    wrong = (image < 0) | (image > HIGHEST)
    if image.dtype.kind == "f":
        wrong |= image != np.rint(image)
    if wrong.any():
        values, counts = np.unique(image[wrong], return_counts=True)
        _refuse([f"{value:g}" for value in values], counts, "whole numbers", name)
    whole = image.astype(np.int64)
    if whole.ndim < 4:
        return whole * np.int64(GREY)
    numbers: npt.NDArray[np.int64] = (
        whole[..., 0] << 32 | whole[..., 1] << 16 | whole[..., 2]
    )
    return numbers


def _refuse(
    values: Sequence[str], counts: npt.NDArray[np.int64], known: str, name: str
) -> None:
    pairs = list(zip(values, counts.tolist(), strict=True))
    listed = ", ".join(f"{value} ({count} voxels)" for value, count in pairs[:8])
    more = f" and {len(pairs) - 8} more" if len(pairs) > 8 else ""
    raise Refused(
        f"{name}: expected the labels {known}, found {listed}{more}; correct the image, or"
        " the classes and colours of the task"
    )
