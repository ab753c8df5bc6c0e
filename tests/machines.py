"""A cell of soft machines between two membranes, made where it is needed."""

import numpy as np
from scipy import fft

from tomoglean import averages, volumes
from tomoglean.tables import Picks
from tomoglean.volumes import Volume

SIDE = 88
RADIUS = 30.0
VOXEL_NM = 2.0
BOX = 32
TILT = 60.0
#: A direction that no axis shares.
OFF_AXIS = np.array([2.0, -1.0, 0.5]) / np.linalg.norm([2.0, -1.0, 0.5])


def rod(places, start, stop, width):
    """Return a soft rod along the z axis of coordinates (..., 3) in voxels."""
    along = np.maximum(start - places[..., 0], places[..., 0] - stop)
    across = np.linalg.norm(places[..., 1:], axis=-1) - width
    return 1 / (1 + np.exp(3 * np.maximum(along, across)))


def ring(places, height, radius, width):
    """Return a soft ring about the z axis."""
    across = np.linalg.norm(places[..., 1:], axis=-1) - radius
    return np.exp(-(across**2 + (places[..., 0] - height) ** 2) / (2 * width**2))


def machine(places):
    """Return two rings and a needle on the outside; the lower ring has one knob."""
    knob = np.linalg.norm(places - np.array([-6.0, 0.0, 6.0]), axis=-1)
    return (
        ring(places, 3, 4, 1.2) + ring(places, -5, 6, 1.5) + rod(places, 0, 13, 1.5)
        + 2 * np.exp(-(knob**2) / 8)
    )  # fmt: skip


def membranes(far):
    """Return two soft shells, five voxels out and in of the middle one."""
    return sum(np.exp(-((far - RADIUS - gap) ** 2) / 2) for gap in (-5, 5))


def scattered(number):
    """Return unit vectors spread evenly over a sphere (Fibonacci lattice)."""
    height = 1 - (2 * np.arange(number) + 1) / number
    turn = np.pi * (1 + 5**0.5) * np.arange(number)
    across = np.sqrt(1 - height**2)
    return np.column_stack([height, across * np.sin(turn), across * np.cos(turn)])


def tilted(density, tilt_max_deg):
    """Remove what a tilt series about y cannot see."""
    z, _, x = (
        fft.fftfreq(n)[(...,) + (None,) * (2 - i)] for i, n in enumerate(density.shape)
    )
    seen = np.abs(z) <= np.abs(x) * np.tan(np.radians(tilt_max_deg)) + 1e-9
    return fft.ifftn(fft.fftn(density) * seen).real


def sphere():
    """Return coordinates and distances from the middle of the phantom."""
    axis = np.arange(SIDE) - (SIDE - 1) / 2
    places = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    return places, np.linalg.norm(places, axis=-1)


def write_phantom(folder):
    """Write one cell: two membranes, 20 machines, missing wedge and noise; its mask.

    Returns its folder, and positions in voxels and normals of its machines.
    """
    places, far = sphere()
    normals = scattered(20)
    density = membranes(far)
    for index, normal in enumerate(normals):
        turn = averages.frame(normal, 77.0 * index)
        density = np.maximum(density, machine((places - RADIUS * normal) @ turn))
    noise = volumes.random(1, "noise").normal(0, 1.0, density.shape)
    data = tilted(density + noise, TILT).astype(np.float32)
    voxel = (VOXEL_NM,) * 3
    volumes.write(Volume(data, voxel), folder / "cell.h5")
    shell = np.abs(far - RADIUS) < 6
    axes = np.moveaxis(places / far[..., None], -1, 0) * 127 * shell
    volumes.write(
        Volume(shell.astype(np.uint8), voxel),
        folder / "mask.h5",
        extra={
            "distance_nm": ((far - RADIUS) * VOXEL_NM).astype(np.float16),
            "normals": np.rint(axes).astype(np.int8),
        },
    )
    return folder, RADIUS * normals + (SIDE - 1) / 2, normals


def picks_at(positions, normals):
    """Return picks at positions in voxels."""
    return Picks(positions, positions * VOXEL_NM, normals, np.ones(len(positions)))
