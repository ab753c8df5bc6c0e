"""Cut the labelled slices of a volume along its axes, and hand some to a person.

The volume passes through memory slab by slab, never whole.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import numpy.typing as npt

from tomoglean import volumes
from tomoglean.intensities import FINGERPRINT, standardise
from tomoglean.provenance import Refused, replacing

IGNORE = volumes.IGNORE
AXES = ("z", "y", "x")
Array = npt.NDArray[Any]


def write(
    volume: str | os.PathLike[str],
    labels: Sequence[str | os.PathLike[str]],
    path: str | os.PathLike[str],
    *,
    name: str,
    classes: Sequence[str],
    keep: Sequence[int] | None = None,
    axes: Sequence[str] = AXES,
    min_labelled: float = 0.05,
    crop_px: int | None = None,
    neighbours: int = 0,
) -> None:
    """Write the labelled slices of a volume as an examples file.

    Parameters
    ----------
    volume
        Converted volume with its fingerprint.
    labels
        Label volumes of the same grid, uint8, 255 = unlabelled; a later one overrides an
        earlier one where it is labelled.
    path
        File to write: for each axis a group with `images` (N, H, W[, C]) float32 (clipped
        and standardised by the volume's fingerprint), `labels` (N, H, W) uint8 and `index`
        (N,), the true place along the axis. N may be 0.
    name
        Id of the volume.
    classes
        Names of the classes.
    keep
        True z of the slices allowed; None allows all, a list allows axis z only.
    axes
        Axes to cut along, out of z, y, x.
    min_labelled
        Least share of labelled voxels of a slice, in [0, 1]; a slice without any is never
        taken.
    crop_px
        Edge of the central crop in pixels; None keeps whole slices.
    neighbours
        Slices on either side that become channels (2.5D), C = 2 neighbours + 1.

    Raises
    ------
    Refused
        If labels and volume differ in shape, or neighbours are asked of a sparse volume.
    """
    attrs = volumes.attributes(volume)
    with ExitStack() as stack:
        grey = stack.enter_context(volumes.open_volume(volume))
        layers = [stack.enter_context(volumes.open_volume(one)) for one in labels]
        _check(volume, grey, labels, layers, neighbours)
        partial = stack.enter_context(replacing(path))
        file = stack.enter_context(h5py.File(partial, "w", locking="best-effort"))
        facts = {"volume": name, "kind": "slices", "classes": list(classes)}
        file.attrs.update({**facts, "voxel_nm": grey.voxel_nm})
        file.attrs.update({part: attrs[part] for part in FINGERPRINT})

        sparse = grey.z is not None or keep is not None
        for axis in [axis for axis in axes if axis == "z" or not sparse]:
            places = _allowed(grey, axis, keep)
            group = _create(file, axis, grey.shape, crop_px, neighbours)
            for index, image, truth in _planes(grey, layers, axis, places, neighbours):
                known = central(truth, crop_px)
                if (known != IGNORE).mean() >= max(min_labelled, 1 / known.size):
                    shown = standardise(central(image, crop_px), attrs)
                    _append(group, index, shown, known)


def _check(
    path: str | os.PathLike[str],
    volume: volumes.Volume,
    names: Sequence[str | os.PathLike[str]],
    labels: Sequence[volumes.Volume],
    neighbours: int,
) -> None:
    for name, layer in zip(names, labels, strict=True):
        if layer.shape != volume.shape:
            raise Refused(
                f"{name}: expected the shape {volume.shape} of {path}, "
                f"found {layer.shape}; convert the labels again"
            )
    if neighbours and volume.z is not None:
        raise Refused(
            f"{path}: expected neighbouring slices, found a sparse set; "
            "set slice.neighbours to 0"
        )


def _allowed(
    volume: volumes.Volume, axis: str, keep: Sequence[int] | None
) -> dict[int, int]:
    """Places along an axis that may be taken, with their true index."""
    true = volume.z if axis == "z" and volume.z is not None else None
    count = volume.shape[AXES.index(axis)]
    index = np.arange(count) if true is None else true
    wanted = None if keep is None else set(keep)
    return {
        place: int(z) for place, z in enumerate(index) if wanted is None or int(z) in wanted
    }


def _planes(
    volume: volumes.Volume,
    labels: Sequence[volumes.Volume],
    axis: str,
    places: dict[int, int],
    neighbours: int,
) -> Iterator[tuple[int, Array, Array]]:
    """Yield (true index, grey values (H, W, C), labels (H, W)) of allowed planes."""
    along = AXES.index(axis)
    depth = volume.shape[along]
    for slab in volumes.slabs(depth):
        wanted = [place for place in range(slab.start, slab.stop) if place in places]
        if not wanted:
            continue
        truth = combine([_cut(layer, along, slab) for layer in labels], volume, slab, along)
        halo = slice(max(slab.start - neighbours, 0), min(slab.stop + neighbours, depth))
        grey = _cut(volume, along, halo)
        for place in wanted:
            seen = np.arange(place - neighbours, place + neighbours + 1)
            stack = grey[np.clip(seen, 0, depth - 1) - halo.start]
            yield places[place], np.moveaxis(stack, 0, -1), truth[place - slab.start]


def _cut(volume: volumes.Volume, along: int, slab: slice) -> Array:
    """Read one slab with the cutting axis first."""
    window = [slice(None)] * 3
    window[along] = slab
    return np.moveaxis(np.asarray(volume.data[tuple(window)]), along, 0)


def combine(
    layers: Sequence[Array], volume: volumes.Volume, slab: slice, along: int
) -> npt.NDArray[np.uint8]:
    """Lay label slabs over one another; later ones win where they are labelled.

    Parameters
    ----------
    layers
        Label slabs of equal shape, cutting axis first.
    volume, slab, along
        What gives the shape where there are no layers at all: everything is 255 then.
    """
    rest = [size for axis, size in enumerate(volume.shape) if axis != along]
    result = np.full((slab.stop - slab.start, *rest), IGNORE, np.uint8)
    for layer in layers:
        np.copyto(result, layer, where=layer != IGNORE)
    return result


def central(plane: Array, crop_px: int | None) -> Array:
    """Cut the central square of an image (H, W, ...), as far as there is one."""
    if crop_px is None:
        return plane
    corner = [max(size - crop_px, 0) // 2 for size in plane.shape[:2]]
    return plane[corner[0] : corner[0] + crop_px, corner[1] : corner[1] + crop_px]


def _create(
    file: h5py.File,
    axis: str,
    shape: Sequence[int],
    crop_px: int | None,
    neighbours: int,
) -> h5py.Group:
    """Create the empty group of one axis; it grows with the slices found."""
    plane = [size for place, size in enumerate(shape) if AXES[place] != axis]
    plane = [min(size, crop_px or size) for size in plane]
    whole = [*plane, 2 * neighbours + 1] if neighbours else plane
    group = file.create_group(axis)
    for name, each, dtype, packing in [
        ("images", whole, np.float32, None),
        ("labels", plane, np.uint8, "gzip"),
    ]:
        group.create_dataset(
            name,
            (0, *each),
            dtype,
            maxshape=(None, *each),
            chunks=(1, *each),
            compression=packing,
            compression_opts=1 if packing else None,
            fletcher32=True,
        )
    group.create_dataset("index", (0,), np.int64, maxshape=(None,), chunks=(1024,))
    return group


def _append(group: h5py.Group, index: int, image: Array, truth: Array) -> None:
    image = image if group["images"].ndim == 4 else image[..., 0]
    for name, value in [("images", image), ("labels", truth), ("index", index)]:
        group[name].resize(len(group[name]) + 1, axis=0)
        group[name][-1] = value


def export_for_correction(
    volume: str | os.PathLike[str],
    labels: Sequence[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    *,
    indices: Sequence[int],
    form: str = "png",
) -> None:
    """Write slices along z and their labels as pictures that a person corrects.

    `FOLDER/images` holds the grey values between the volume's clip limits as 8 bit,
    `FOLDER/labels` the label values, 255 = unlabelled. File numbers are the true z, or
    go on as the volume's own numbered slices do. The corrected labels come back as a row
    of labels.tsv of kind `clean` whose path is `FOLDER/labels`.

    Parameters
    ----------
    volume
        Converted volume with its fingerprint.
    labels
        Label volumes as in `write`; none at all gives unlabelled pictures.
    folder
        Folder to fill; files of earlier exports stay.
    indices
        True z of the slices.
    form
        'png' or 'tif'.

    Raises
    ------
    Refused
        If the volume has no slice of one of the indices.
    """
    attrs = volumes.attributes(volume)
    with ExitStack() as stack:
        grey = stack.enter_context(volumes.open_volume(volume))
        layers = [stack.enter_context(volumes.open_volume(one)) for one in labels]
        _check(volume, grey, labels, layers, 0)
        places = _allowed(grey, "z", indices)
        missing = sorted(set(indices) - set(places.values()))
        if missing:
            raise Refused(f"{volume}: expected z = {missing[0]}, found no such slice")
        first = 0 if grey.z is not None else int(attrs.get("first_slice", 0))
        for index, image, truth in _planes(grey, layers, "z", places, 0):
            picture = _eight_bit(image[..., 0], attrs["p_low"], attrs["p_high"])
            for kind, pixels in [("images", picture), ("labels", truth)]:
                _write_picture(Path(folder) / kind / f"{index + first:05d}.{form}", pixels)


def _eight_bit(image: Array, low: float, high: float) -> npt.NDArray[np.uint8]:
    share = (image.astype(np.float64) - low) / ((high - low) or 1.0)
    return np.asarray(np.rint(255 * np.clip(share, 0, 1)), np.uint8)


def _write_picture(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    fine, encoded = cv2.imencode(path.suffix, np.ascontiguousarray(pixels))
    if not fine:
        raise ValueError(f"{path}: this form of picture cannot be written")
    with replacing(path) as partial:
        partial.write_bytes(encoded.tobytes())
