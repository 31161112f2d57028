"""Where things lie: positions and deformations, in which the labels take part."""

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from medrobust.perturbations.corruptions.geometry import (
    CONTROL_POINTS,
    bent,
    rigid,
    sampled,
    voxels,
)
from medrobust.perturbations.transforms.search import searched

Images = Float[Tensor, "n c *space"]
Theta = Float[Tensor, "n p"]
Points = Float[Tensor, "n pixels d"]
Field = Float[Tensor, "n d *space"]

SIZE_PER_DEGREE = math.log(1.2) / 30
"""Of the logarithm of the size along an axis."""

SHIFT_PER_DEGREE = 0.05 / 30
"""Of an axis' length."""

SQUARINGS = 7
"""How often the flow of a small part of the time is applied to itself."""

HALVINGS = 20


def _turns(space: Sequence[int]) -> int:
    return 1 if len(space) == 2 else 3


@searched(
    lambda space: _turns(space) + 2 * len(space),
    moves_labels=True,
    unit="degrees",
    summary="The worst plausible position.",
    source="Chen et al. 2022, AdvChain",
)
def affine_search(
    images: Images,
    theta: Theta,
    spacing: Sequence[float],
    strength: Annotated[float, Ge(0), Le(90)] = 15.0,
) -> Points:
    """Turn, stretch and shift about the centre, in proportions of AdvChain.

    Args:
        images: Images in [0, 1].
        theta: Angle (in 3D about each axis), then size and shift along each axis, as shares of the largest.
        spacing: Size of a pixel in mm along each axis.
        strength: The largest angle in degrees. To 30 degrees belong sizes between 1 / 1.2 and 1.2, and shifts
            of a twentieth of the image's length along each axis.
    """
    space = images.shape[2:]
    turns, dimensions = _turns(space), len(space)
    lengths = torch.tensor([size * width for size, width in zip(space, spacing, strict=True)]).to(theta)
    angles, sizes, shifts = torch.split(strength * theta, [turns, dimensions, dimensions], 1)
    matrix, offset = rigid(angles, shifts * SHIFT_PER_DEGREE * lengths, spacing)
    matrix = matrix * (SIZE_PER_DEGREE * sizes).exp()[:, None]
    return voxels(space, images.device).to(matrix) @ matrix.mT + offset[:, None]


@searched(
    lambda space: len(space) * CONTROL_POINTS ** len(space),
    moves_labels=True,
    first_step=0.1,  # longer ones overshoot: with so many control points the loss is rough
    unit="mm",
    summary="The worst plausible deformation.",
    source="Arsigny et al. 2006, A log-Euclidean framework for statistics on diffeomorphisms; AdvChain",
)
def deformation_search(
    images: Images,
    theta: Theta,
    spacing: Sequence[float],
    strength: Annotated[float, Ge(0), Le(1000)] = 5.0,
) -> Points:
    """Let pixels flow for a unit of time with a velocity that is a cubic B-spline over 7 points per axis.

    Nothing folds: the Jacobian determinant of the flow is above 0 at every pixel. An image in which it is not
    flows half as fast, and again half as fast until it is.

    Args:
        images: Images in [0, 1].
        theta: Velocities at the control points along each axis, as shares of `strength`.
        spacing: Size of a pixel in mm along each axis.
        strength: The largest displacement in mm along each axis.
    """
    space = images.shape[2:]
    control = theta.view(len(theta), *(CONTROL_POINTS,) * len(space), len(space))
    velocity = strength * bent(control, space) / torch.tensor(spacing).to(theta)
    velocity = velocity.mT.reshape(len(images), len(space), *space)
    displacement = flow(velocity)
    for _ in range(HALVINGS):
        folds = (jacobian(displacement.detach()) <= 0).flatten(1).any(1)
        if not folds.any():
            break
        velocity = torch.where(folds.view(-1, *[1] * (images.ndim - 1)), velocity / 2, velocity)
        displacement = flow(velocity)
    return voxels(space, images.device) + displacement.flatten(2).mT


def flow(velocity: Field) -> Field:
    """Displacements after a unit of time in a stationary field of velocities, both in pixels.

    By scaling and squaring: the displacement of a small part of the time is composed with itself.
    """
    space = velocity.shape[2:]
    displacement: Tensor = velocity / 2**SQUARINGS
    places = voxels(space, velocity.device)
    for _ in range(SQUARINGS):
        there, _ = sampled(displacement, places + displacement.flatten(2).mT)
        displacement = displacement + there
    return displacement


def jacobian(displacement: Field) -> Float[Tensor, "n *cells"]:
    """Determinant of the Jacobian of x + displacement(x), by differences between neighbouring pixels."""
    space = displacement.shape[2:]
    columns = []
    for axis in range(len(space)):
        slope = displacement.diff(dim=2 + axis)
        for other, length in enumerate(space):
            slope = slope if other == axis else slope.narrow(2 + other, 0, length - 1)
        own = torch.zeros(len(space)).to(displacement)
        own[axis] = 1
        columns.append(slope + own.view(-1, *[1] * len(space)))
    determinants: Tensor = torch.linalg.det(torch.stack(columns, 2).movedim((1, 2), (-2, -1)))
    return determinants
