"""One subject of the phantom brains: the template, deformed at random, and its scan."""

from functools import cache

import numpy as np
from jaxtyping import Float, Float32, UInt8
from scipy import ndimage

from medrobust.data.phantoms.brain_appearance import majority, scan
from medrobust.data.phantoms.brain_geometry import LOW, TISSUE, template
from medrobust.data.phantoms.fields import exponential, random_affine, resize, smooth_field
from medrobust.data.scans.structures import STRUCTURES
from medrobust.rng import generator

FIELD_OF_VIEW = (160, 208, 160)
"""Size in mm of what is scanned: right to left, posterior to anterior, inferior to superior."""

CENTRE = np.array([0.0, -16.0, 9.0])
"""Middle of the field of view in mm of ICBM space."""

STEP = 4
"""Distance in mm of the points on which deformations are computed."""

SIZE = 0.92
"""Mean size of the subjects relative to ICBM's, whose brains are larger than the measured ones."""

GYRAL, LOBAR = (14, 1.0), (35, 1.5)
"""Wavelength (node distance) and standard deviation in mm of the two scales of the velocity field."""

VENTRICLES = ("left lateral ventricle", "right lateral ventricle", "third ventricle", "fourth ventricle")


def scan_subject(seed: int, subject: int, spacing: float) -> Float32[np.ndarray, "2 x y z"]:
    """Image and labels of a subject.

    Args:
        seed: Seed of the data set.
        subject: Number of the subject.
        spacing: Edge of a voxel in mm.

    Returns:
        The image in [0, 1] and, as float, the class index of each voxel, cut to the box around the brain.
        Axes: right, anterior, superior.
    """
    factor = max(1, round(spacing))
    shape = grid_shape(spacing)
    points = backward_map(
        generator(seed, "phantom_brains", subject, "shape"), [size * factor for size in shape], spacing
    )
    tissues = lookup(template(), points)
    labels = majority(tissues, factor)
    labels[labels >= len(STRUCTURES)] = 0
    image = scan(tissues, factor, spacing, generator(seed, "phantom_brains", subject, "scan"))
    return cut_to_brain(np.stack([image, labels.astype(np.float32)]))


def cut_to_brain(volumes: Float32[np.ndarray, "c x y z"]) -> Float32[np.ndarray, "c u v w"]:
    """The smallest box that holds everything but zeros."""
    occupied = np.argwhere(volumes.any(axis=0))
    x, y, z = (slice(low, high + 1) for low, high in zip(occupied.min(0), occupied.max(0), strict=True))
    return np.ascontiguousarray(volumes[:, x, y, z])


def grid_shape(spacing: float) -> tuple[int, ...]:
    """Voxels of a scan along each axis."""
    return tuple(int(np.ceil(size / spacing)) for size in FIELD_OF_VIEW)


def backward_map(rng: np.random.Generator, fine: list[int], spacing: float) -> Float32[np.ndarray, "3 x y z"]:
    """Where in the template, in mm from `LOW`, each fine voxel of a subject comes from.

    An affine map, then a diffeomorphism, both computed every `STEP` mm and interpolated.
    """
    half = np.array(grid_shape(spacing)) * spacing / 2 * (1 - 1 / np.array(fine))
    coarse = [int(np.ceil(2 * length / STEP)) + 1 for length in half]
    lattice = np.stack(
        np.meshgrid(*(np.linspace(-h, h, n) for h, n in zip(half, coarse, strict=True)), indexing="ij")
    )
    affine = random_affine(rng, scale=0.03, anisotropy=0.015, degrees=3.0, shear=0.012) / SIZE
    straight = np.tensordot(affine, lattice, 1) + (CENTRE - LOW)[:, None, None, None]
    displacement = STEP * exponential(random_velocity(rng))
    moved = [
        start + ndimage.map_coordinates(part, straight / STEP, order=1, mode="nearest")
        for start, part in zip(straight, displacement, strict=True)
    ]
    return np.stack([resize(part.astype(np.float32), tuple(fine)) for part in moved])


def random_velocity(rng: np.random.Generator) -> Float32[np.ndarray, "3 x y z"]:
    """Velocity that deforms the template, in units of `STEP` mm: lobes, gyri and ventricles."""
    flow = ventricle_flow()
    velocity = np.float32(np.clip(rng.normal(1, 3), -2.5, 7)) * -flow
    for wavelength, strength in (LOBAR, GYRAL):
        velocity += np.float32(strength) * smooth_field(rng, flow.shape[1:], wavelength / STEP, components=3)
    return np.asarray(velocity / STEP)


@cache
def ventricle_flow() -> Float32[np.ndarray, "3 x y z"]:
    """Directions away from the ventricles, at most 1 mm long, every `STEP` mm of the template."""
    parts = template()
    ventricles = np.isin(parts, [TISSUE[name] for name in VENTRICLES]).astype(np.float32)
    near = ndimage.gaussian_filter(ventricles, 5)
    away = -np.array(np.gradient(near))[:, ::STEP, ::STEP, ::STEP]
    return np.asarray(away / np.linalg.norm(away, axis=0).max(), np.float32)


def lookup(
    parts: UInt8[np.ndarray, "a b c"], points: Float[np.ndarray, "3 x y z"]
) -> UInt8[np.ndarray, "x y z"]:
    """Tissue of the template's nearest millimetre; outside, that of its border, which is air."""
    last = np.array(parts.shape)[:, None, None, None] - 1
    x, y, z = np.clip(np.rint(points), 0, last).astype(np.intp)
    return np.asarray(parts[x, y, z])
