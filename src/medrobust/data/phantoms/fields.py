"""Smooth random fields and diffeomorphic deformations on a regular grid."""

from typing import Literal

import numpy as np
from jaxtyping import Float, Float32
from scipy import ndimage


def smooth_field(
    rng: np.random.Generator, shape: tuple[int, ...], nodes_apart: float, *, components: int = 1
) -> Float32[np.ndarray, "components *space"]:
    """Standard normal draws on a coarse grid, cubically interpolated.

    Args:
        rng: Source of the draws.
        shape: Shape of the field.
        nodes_apart: Distance of the coarse grid's nodes, in grid points of the field.
        components: Number of independent fields.
    """
    nodes = tuple(max(2, round(size / nodes_apart) + 1) for size in shape)
    coarse = rng.standard_normal((components, *nodes), dtype=np.float32)
    return np.stack([resize(field, shape, order=3) for field in coarse])


def resize(
    field: Float32[np.ndarray, "*space"], shape: tuple[int, ...], *, order: Literal[1, 3] = 1
) -> Float32[np.ndarray, "*resized"]:
    """The field on a grid of another shape with the same corners, by splines of the given order.

    Axis by axis as a product with the matrix of the interpolation, which is much faster than `ndimage.zoom`.
    """
    for old, new in zip(field.shape, shape, strict=True):
        weights = ndimage.zoom(np.eye(old, dtype=np.float32), (new / old, 1), order=order, mode="nearest")
        field = np.tensordot(field, weights, (0, 1))  # takes the first axis off and puts the new one last
    return field


def exponential(
    velocity: Float32[np.ndarray, "d *space"], *, squarings: int = 6
) -> Float32[np.ndarray, "d *space"]:
    """Displacement after unit time along a stationary velocity field, both in grid points.

    Scaling and squaring: a displacement of 1/2^squarings is composed with itself. The map is a
    diffeomorphism as long as the field is smooth.

    Source: Arsigny et al., A log-Euclidean framework for statistics on diffeomorphisms, MICCAI 2006.
    """
    displacement = velocity / np.float32(2**squarings)
    points = np.indices(velocity.shape[1:], np.float32)
    for _ in range(squarings):
        moved = points + displacement
        displacement = displacement + np.stack(
            [ndimage.map_coordinates(part, moved, order=1, mode="nearest") for part in displacement]
        )
    return displacement


def random_affine(
    rng: np.random.Generator, *, scale: float, anisotropy: float, degrees: float, shear: float
) -> Float[np.ndarray, "3 3"]:
    """Rotation times shear times scale, each drawn uniformly.

    Args:
        rng: Source of the draws.
        scale: Largest relative change of the overall size.
        anisotropy: Largest relative change of an axis on top of it.
        degrees: Largest rotation about an axis.
        shear: Largest shear.
    """
    angles = np.deg2rad(rng.uniform(-degrees, degrees, 3))
    rotation = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = (k for k in range(3) if k != axis)
        turn = np.eye(3)
        turn[[i, j], [i, j]] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        rotation = rotation @ turn
    sheared = np.eye(3) + np.triu(rng.uniform(-shear, shear, (3, 3)), 1)
    sizes = (1 + rng.uniform(-scale, scale)) * (1 + rng.uniform(-anisotropy, anisotropy, 3))
    return rotation @ sheared @ np.diag(sizes)
