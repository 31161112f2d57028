"""Brightness, contrast and colour that change smoothly over an image, or not at all."""

from typing import Annotated

import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from medrobust.perturbations.corruptions.colour import restained
from medrobust.perturbations.corruptions.geometry import CONTROL_POINTS, bent
from medrobust.perturbations.geometry import per_image
from medrobust.perturbations.transforms.search import searched

Images = Float[Tensor, "n c *space"]
Colours = Float[Tensor, "n 3 height width"]
Theta = Float[Tensor, "n p"]

LAMP = 4
"""Control points along each axis of the light: a single cell, whose field is one polynomial."""


@searched(
    lambda space: CONTROL_POINTS ** len(space),
    unit="of the brightness",
    summary="The worst plausible sensitivity of an MR coil.",
    source="Chen et al. 2022, AdvChain",
)
def bias_field_search(
    images: Images, theta: Theta, strength: Annotated[float, Ge(0), Le(10)] = 0.3
) -> Images:
    """Multiply by a field whose logarithm is a cubic B-spline over 7 control points per axis; clip to [0, 1].

    Args:
        images: Images in [0, 1].
        theta: The logarithm at the control points, in those of the largest factor.
        strength: The largest factor less 1; the smallest is the inverse of the largest.
    """
    return _multiplied(images, theta, strength, CONTROL_POINTS)


@searched(
    lambda space: LAMP ** len(space),
    unit="of the brightness",
    dimensions=(2,),
    summary="The worst plausible illumination.",
)
def illumination_search(
    images: Images, theta: Theta, strength: Annotated[float, Ge(0), Le(10)] = 0.3
) -> Images:
    """Multiply by a field as wide as the image: light from a side, or darkness towards the corners.

    Args:
        images: Images in [0, 1].
        theta: The logarithm at 4 control points per axis, in those of the largest factor.
        strength: The largest factor less 1; the smallest is the inverse of the largest.
    """
    return _multiplied(images, theta, strength, LAMP)


@searched(
    lambda space: 2,
    unit="of exponent and factor",
    summary="The worst plausible contrast.",
)
def contrast_search(images: Images, theta: Theta, strength: Annotated[float, Ge(0), Le(10)] = 0.3) -> Images:
    """Raise to a power, multiply, and clip to [0, 1]: black stays black, as air in a scan does.

    Args:
        images: Images in [0, 1].
        theta: Logarithms of exponent and factor, in those of the largest ones.
        strength: The largest exponent, and the largest factor, less 1; the smallest are their inverses.
    """
    exponent, factor = (per_image(each, images) for each in _factors(theta, strength).T)
    return (images**exponent * factor).clamp(0, 1)


@searched(
    lambda space: 3,
    unit="of each colour",
    dimensions=(2,),
    colour=True,
    summary="The worst plausible white balance.",
)
def colour_search(images: Colours, theta: Theta, strength: Annotated[float, Ge(0), Le(10)] = 0.1) -> Colours:
    """Multiply red, green and blue each by a factor, and clip to [0, 1].

    Args:
        images: Images in [0, 1].
        theta: Logarithms of the factors, in that of the largest one.
        strength: The largest factor less 1; the smallest is the inverse of the largest.
    """
    return (images * _factors(theta, strength)[:, :, None, None]).clamp(0, 1)


@searched(
    lambda space: 6,
    unit="of each stain, and optical density",
    dimensions=(2,),
    colour=True,
    summary="The worst plausible stain.",
    source="Tellez et al. 2018, Whole-slide mitosis detection in H&E breast histology",
)
def stain_search(images: Colours, theta: Theta, strength: Annotated[float, Ge(0), Le(5)] = 0.1) -> Colours:
    """Multiply each of three stains of an image by a factor, and add to it.

    Args:
        images: Images in [0, 1].
        theta: What is added to factors of 1, then to the stains, as shares of `strength`.
        strength: The largest change of a factor, and of a stain's optical density.
    """
    changes = strength * theta
    return restained(images, 1 + changes[:, :3], changes[:, 3:])


def _multiplied(images: Images, theta: Theta, strength: float, points: int) -> Images:
    space = images.shape[2:]
    control = theta.view(len(theta), *(points,) * len(space), 1)
    field = bent(control, space).view(len(images), 1, *space)
    return (images * _factors(field, strength)).clamp(0, 1)


def _factors(theta: Tensor, strength: float) -> Tensor:
    """From 1 / (1 + strength) at -1 to 1 + strength at 1."""
    return torch.pow(1 + strength, theta)
