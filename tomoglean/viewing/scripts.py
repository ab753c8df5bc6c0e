"""Write what opens a scene in napari, ChimeraX and Fiji.

Names come from tables and from files of others. The napari script holds none of them, it
reads layers.json; in ChimeraX commands and ImageJ macros stand only letters that have no
meaning there.
"""

import math
import re
from typing import Any
from xml.etree import ElementTree

import numpy as np

from tomoglean.report import style
from tomoglean.viewing.neuroglancer import describe
from tomoglean.viewing.scene import Labels, Points, Scene, safe

RADIUS_VOXELS = 4
MRC_HEADER = 1024
IMAGEJ_TYPES = {
    "int8": "8-bit",
    "int16": "16-bit Signed",
    "uint16": "16-bit Unsigned",
    "float32": "32-bit Real",
}

NAPARI = '''"""Open a volume with its labels and points: python open_napari.py

Needs napari and zarr: pip install "napari[all]" zarr
"""

import json
from inspect import signature
from pathlib import Path

import napari
import zarr
from napari.layers import Image
from napari.utils import DirectLabelColormap

HERE = Path(__file__).resolve().parent


def levels(name):
    """Return the levels of a pyramid, the finest first; nothing is read yet."""
    group = zarr.open_group(str(HERE / name), mode="r")
    listed = group.attrs["multiscales"][0]["datasets"]
    return [group[level["path"]] for level in listed]


def add(viewer):
    """Add every layer to a viewer."""
    scene = json.loads((HERE / "layers.json").read_text(encoding="utf-8"))
    placed = {"scale": scene["voxel_nm"], "translate": scene["origin_nm"]}
    if "units" in signature(Image.__init__).parameters:
        placed["units"] = "nm"
    else:
        viewer.scale_bar.unit = "nm"
    image = scene["image"]
    viewer.add_image(
        levels(image["file"]),
        name=image["name"],
        contrast_limits=image["window"],
        **placed,
    )
    for labels in scene["labels"]:
        inks = {int(value): one["colour"] for value, one in labels["classes"].items()}
        viewer.add_labels(
            levels(labels["file"]),
            name=labels["name"],
            colormap=DirectLabelColormap(color_dict={None: "transparent", **inks}),
            opacity=0.4,
            **placed,
        )
    for points in scene["points"]:
        viewer.add_points(
            points["positions"] or None,
            ndim=3,
            name=points["name"],
            features={"score": points["scores"]},
            size=8,
            face_color="transparent",
            border_color=points["colour"],
            out_of_slice_display=True,
            **placed,
        )
    viewer.scale_bar.visible = True


if __name__ == "__main__":
    viewer = napari.Viewer()
    add(viewer)
    napari.run()
'''

MACRO = """\
// Open a volume with its labels and points in Fiji: Plugins > Macros > Run...,
// or `fiji -macro open.ijm FOLDER`.
folder = getArgument();
if (folder == "") folder = File.getParent(getInfo("macro.filepath"));
if (!endsWith(folder, File.separator)) folder = folder + File.separator;
if (indexOf(folder, "]") >= 0) exit("Move the folder: ImageJ cannot open ] in a name.");

function load(file, type, title) {
    words = " width=WIDTH height=HEIGHT number=DEPTH offset=OFFSET gap=0 little-endian";
    run("Raw...", "open=[" + folder + file + "] image=[" + type + "]" + words);
    setVoxelSize(X_NM, Y_NM, Z_NM, "nm");
    rename(title);
}

function mark(x, y, z, ink, text) {
    slice = minOf(maxOf(round(z) + 1, 1), nSlices);
    setSlice(slice);
    makeOval(x + 0.5 - RADIUS, y + 0.5 - RADIUS, 2 * RADIUS, 2 * RADIUS);
    Roi.setStrokeColor(ink);
    Roi.setName(text);
    Overlay.addSelection(ink);
    Overlay.setPosition(slice);
}

reds = newArray(256); greens = newArray(256); blues = newArray(256);
"""


def layers(scene: Scene) -> dict[str, Any]:
    """Return what the napari script opens, as the JSON beside it."""
    return {
        "volume": scene.name,
        "voxel_nm": list(scene.voxel_nm),
        "origin_nm": list(scene.origin_nm),
        "image": {
            "file": "image.ome.zarr",
            "name": scene.name,
            "window": list(scene.window),
        },
        "labels": [_labels(labels) for labels in scene.labels],
        "points": [_points(points) for points in scene.points],
    }


def _labels(labels: Labels) -> dict[str, Any]:
    classes = {
        str(value): {"name": name, "colour": labels.colours[value]}
        for value, name in labels.classes.items()
    }
    return {
        "file": f"{labels.name}.labels.ome.zarr",
        "name": f"{labels.name} labels",
        "classes": classes,
    }


def _points(points: Points) -> dict[str, Any]:
    scores = [float(score) if math.isfinite(score) else None for score in points.scores]
    return {
        "name": points.name,
        "colour": points.colour,
        "positions": points.positions.tolist(),
        "scores": scores,
    }


def macro(scene: Scene, dtypes: dict[str, str]) -> str:
    """Return an ImageJ macro that opens image and labels, and marks the points.

    Parameters
    ----------
    scene
        What to show.
    dtypes
        Type of the voxels of every MRC file by its name.
    """
    lines = [_filled(MACRO, scene)]
    for labels in scene.labels:
        file = f"{labels.name}.labels.mrc"
        lines.append(_load(file, dtypes[file], f"{labels.name} labels"))
        for value, ink in labels.colours.items():
            red, green, blue = style.rgb(ink)
            each = (f"reds[{value}] = {red}", f"greens[{value}] = {green}")
            lines.append(f"{'; '.join(each)}; blues[{value}] = {blue};")
        lines.append("setLut(reds, greens, blues); setMinAndMax(0, 255);")
    lines.append(_load("image.mrc", dtypes["image.mrc"], scene.name))
    lines.append(f"setMinAndMax({scene.window[0]:.9g}, {scene.window[1]:.9g});")
    for points in scene.points:
        for number, (place, score) in enumerate(
            zip(points.positions, points.scores, strict=True), start=1
        ):
            z, y, x = (f"{value:.3f}" for value in place)
            text = safe(f"{points.name} {describe(number, score)}")
            lines.append(f'mark({x}, {y}, {z}, "{points.colour}", "{text}");')
    lines.append(f'run("Select None"); setSlice({(scene.shape[0] + 1) // 2});')
    return "\n".join(lines) + "\n"


def _filled(text: str, scene: Scene) -> str:
    depth, height, width = scene.shape
    words: dict[str, Any] = {
        "WIDTH": width,
        "HEIGHT": height,
        "DEPTH": depth,
        "OFFSET": MRC_HEADER,
    }
    edges = zip(("Z_NM", "Y_NM", "X_NM"), scene.voxel_nm, strict=True)
    words |= {name: f"{edge:.9g}" for name, edge in edges} | {"RADIUS": RADIUS_VOXELS}
    for word, value in words.items():
        text = re.sub(rf"\b{word}\b", str(value), text)
    return text


def _load(file: str, dtype: str, title: str) -> str:
    line = f'load("{file}", "{IMAGEJ_TYPES[dtype]}", "{safe(title)}");'
    if dtype == "int8":  # ImageJ has no signed bytes
        line += (
            '\ngetMinAndMax(low, high); if (high > 127) { run("32-bit");'
            ' run("Macro...", "code=[if (v>127) v=v-256] stack"); }'
        )
    return line


def commands(scene: Scene, masks: dict[tuple[str, int], str]) -> str:
    """Return ChimeraX commands; paths are those of the folder they stand in.

    Every map is put where the grid says, whatever its header does, so that markers lie
    right.

    Parameters
    ----------
    scene
        What to show.
    masks
        File of every class by task and value.
    """
    edges = ",".join(f"{10 * edge:.9g}" for edge in scene.voxel_nm[::-1])
    middle = scene.shape[0] // 2
    lines = [
        'open "image.mrc" id 1',
        f"volume #1 originIndex 0,0,0 voxelSize {edges} style image",
        f"volume #1 planes z,{middle}",
        f'rename #1 "{safe(scene.name)}"',
    ]
    number = 1
    for labels in scene.labels:
        for value, name in labels.classes.items():
            number += 1
            lines += [
                f'open "{masks[labels.name, value]}" id {number}',
                f"volume #{number} originIndex 0,0,0 voxelSize {edges}"
                f" style surface level 0.5 color {labels.colours[value]}",
                f"transparency #{number} 60",
                f'rename #{number} "{safe(f"{labels.name} {name}")}"',
            ]
    for points in scene.points:
        number += 1
        lines.append(f'open "{points.file}.cmm" id {number}')
    return "\n".join([*lines, "view", ""])


def markers(points: Points, scene: Scene) -> str:
    """Return points as markers of ChimeraX, in angstrom from the first voxel's centre."""
    edges = np.array(scene.voxel_nm)
    root = ElementTree.Element("marker_set", name=_printable(points.name))
    red, green, blue = (f"{shade / 255:.4f}" for shade in style.rgb(points.colour))
    for number, (place, score) in enumerate(
        zip(10 * points.positions * edges, points.scores, strict=True), start=1
    ):
        z, y, x = (f"{value:.3f}" for value in place)
        ElementTree.SubElement(
            root,
            "marker",
            {"id": str(number), "x": x, "y": y, "z": z, "r": red, "g": green, "b": blue},
            radius=f"{10 * RADIUS_VOXELS * edges.min():.3f}",
            note=describe(number, score),
        )
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)
