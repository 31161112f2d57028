"""Brighter, darker, more and less contrast; fields of uneven brightness; CT numbers that are off."""

import math
from collections.abc import Sequence
from itertools import product
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Float
from torch import Tensor

from medrobust.perturbations.corruptions.draws import Rngs, drawn, signs
from medrobust.perturbations.corruptions.severities import presets_of
from medrobust.perturbations.entry import Extent, corruption
from medrobust.perturbations.geometry import per_image

Images = Float[Tensor, "n c *space"]

LUMINANCE = (0.299, 0.587, 0.114)
ORDER = 3
"""Of the polynomial of a bias field."""


@corruption(
    budget="factor",
    unit="factor",
    extent=Extent(1, 10),
    presets=presets_of("brightness_up"),
    summary="Brighter.",
)
def brightness_up(images: Images, factor: Annotated[float, Ge(1), Le(100)]) -> Images:
    """Multiply, and clip to [0, 1].

    Args:
        images: Images in [0, 1].
        factor: What with.
    """
    return (images * factor).clamp(0, 1)


@corruption(
    budget="factor",
    unit="factor",
    extent=Extent(1, 0),
    presets=presets_of("brightness_down"),
    summary="Darker.",
)
def brightness_down(images: Images, factor: Annotated[float, Ge(0), Le(1)]) -> Images:
    """Multiply.

    Args:
        images: Images in [0, 1].
        factor: What with.
    """
    return images * factor


@corruption(
    budget="factor",
    unit="factor",
    extent=Extent(1, 10),
    presets=presets_of("contrast_up"),
    summary="More contrast.",
)
def contrast_up(images: Images, factor: Annotated[float, Ge(1), Le(100)]) -> Images:
    """Multiply the distance from the mean luminance, and clip to [0, 1], as Pillow does.

    Args:
        images: Images in [0, 1].
        factor: What with.
    """
    return _contrasted(images, factor)


@corruption(
    budget="factor",
    unit="factor",
    extent=Extent(1, 0),
    presets=presets_of("contrast_down"),
    summary="Less contrast.",
)
def contrast_down(images: Images, factor: Annotated[float, Ge(0), Le(1)]) -> Images:
    """Multiply the distance from the mean luminance, as Pillow does.

    Args:
        images: Images in [0, 1].
        factor: What with.
    """
    return _contrasted(images, factor)


@corruption(
    budget="gamma",
    unit="exponent",
    extent=Extent(1, 10),
    presets=presets_of("gamma_up"),
    summary="Darker middle tones (gamma above 1).",
)
def gamma_up(images: Images, gamma: Annotated[float, Ge(1), Le(100)], rescale: bool = False) -> Images:
    """Raise to a power.

    Args:
        images: Images in [0, 1].
        gamma: The exponent.
        rescale: Whether the darkest and the brightest value of the image take the places of 0 and 1.
    """
    return _powered(images, gamma, rescale)


@corruption(
    budget="gamma",
    unit="exponent",
    extent=Extent(1, 0.02),
    presets=presets_of("gamma_down"),
    summary="Brighter middle tones (gamma below 1).",
)
def gamma_down(images: Images, gamma: Annotated[float, Gt(0), Le(1)], rescale: bool = False) -> Images:
    """Raise to a power.

    Args:
        images: Images in [0, 1].
        gamma: The exponent.
        rescale: Whether the darkest and the brightest value of the image take the places of 0 and 1.
    """
    return _powered(images, gamma, rescale)


@corruption(
    budget="coefficient",
    unit="of the logarithm",
    extent=Extent(0, 5),
    presets=presets_of("bias_field"),
    summary="The uneven sensitivity of an MR coil.",
    source="Van Leemput et al. 1999, Automated model-based bias field correction of MR images of the brain",
)
def bias_field(images: Images, rngs: Rngs, coefficient: Annotated[float, Ge(0), Le(10)]) -> Images:
    """Multiply by the exponential of a random polynomial of third order in the coordinates; clip to [0, 1].

    The constant is among its terms, as TorchIO has it, so that the whole image gets brighter or darker too.
    In 2D a slice has the field of a volume of one slice.

    Args:
        images: Images in [0, 1].
        rngs: One generator per image.
        coefficient: Coefficients are drawn between it and its negative.
    """
    terms = len(powers(images.ndim - 2))
    drawing = drawn(rngs, lambda rng: rng.uniform(-coefficient, coefficient, terms), images)
    return (images * field(drawing, images.shape[2:])).clamp(0, 1)


@corruption(
    budget="shift",
    unit="of the window",
    extent=Extent(0, 1),
    presets=presets_of("hu_shift"),
    summary="CT numbers too high or too low.",
)
def hu_shift(images: Images, rngs: Rngs, shift: Annotated[float, Ge(0), Le(1)]) -> Images:
    """Add or take away a constant, with equal probability, and clip to [0, 1].

    Args:
        images: Images in [0, 1], the ends of a window of Hounsfield units.
        rngs: One generator per image.
        shift: The constant, as a share of the window's width: 10 HU in a window of 400 HU are 0.025.
    """
    return (images + shift * signs(rngs, images)).clamp(0, 1)


@corruption(
    budget="change",
    unit="of the distance to the middle",
    extent=Extent(0, 1),
    presets=presets_of("hu_scale"),
    summary="CT numbers spread too wide or too narrow.",
)
def hu_scale(images: Images, rngs: Rngs, change: Annotated[float, Ge(0), Le(1)]) -> Images:
    """Stretch or shrink about the middle of the window, with equal probability, and clip to [0, 1].

    Args:
        images: Images in [0, 1], the ends of a window of Hounsfield units.
        rngs: One generator per image.
        change: By what share distances from the window's middle grow or shrink.
    """
    return (0.5 + (images - 0.5) * (1 + change * signs(rngs, images))).clamp(0, 1)


@corruption(
    budget="strength",
    unit="darker at half a side from the centre",
    extent=Extent(0, 1),
    dimensions=(2,),
    presets=presets_of("vignette"),
    summary="Darker towards the corners.",
    source="MedFM-Robust",
)
def vignette(images: Images, strength: Annotated[float, Ge(0), Le(1)]) -> Images:
    """Darken in proportion to the distance from the centre.

    Args:
        images: Images in [0, 1].
        strength: By what share at a distance of half the shorter side.
    """
    axes = _coordinates(images.shape[2:], images)
    return images * (1 - strength * torch.hypot(*axes)).clamp_min(0)


@corruption(
    budget="strength",
    unit="darker at the far border",
    extent=Extent(0, 1),
    dimensions=(2,),
    presets=presets_of("uneven_illumination"),
    summary="Light from one side.",
)
def uneven_illumination(images: Images, rngs: Rngs, strength: Annotated[float, Ge(0), Le(1)]) -> Images:
    """Darken along a random direction, from nothing at one border to `strength` at the other.

    Args:
        images: Images in [0, 1].
        rngs: One generator per image.
        strength: By what share at the darkest pixel.
    """
    way = per_image(drawn(rngs, lambda rng: rng.uniform(0, 2 * np.pi), images), images)
    rows, columns = _coordinates(images.shape[2:], images)
    ramp = way.sin() * rows + way.cos() * columns
    low, high = ramp.amin((2, 3), keepdim=True), ramp.amax((2, 3), keepdim=True)
    return images * (1 - strength * (ramp - low) / (high - low).clamp_min(1e-6))


def powers(dimensions: int) -> list[tuple[int, ...]]:
    """Exponents of the terms of a polynomial of third order, the first coordinate's slowest."""
    every = product(range(ORDER + 1), repeat=dimensions)
    return [exponents for exponents in every if sum(exponents) <= ORDER]


def field(coefficients: Float[Tensor, "n terms"], space: Sequence[int]) -> Float[Tensor, "n 1 *space"]:
    """Exponentials of polynomials, in coordinates that run from -1 to 1 along each axis."""
    sides = (ORDER + 1,) * len(space)
    places = np.ravel_multi_index(np.transpose(powers(len(space))), sides)
    made = torch.zeros(len(coefficients), math.prod(sides), dtype=torch.float64)
    made[:, torch.from_numpy(places)] = coefficients.cpu().double()
    made = made.view(-1, *sides)
    for size in space:  # one axis of exponents after the other becomes one of coordinates, the last
        axis = torch.linspace(-1, 1, size, dtype=torch.float64)
        powers_of_axis = torch.stack([axis**power for power in range(ORDER + 1)])
        made = torch.tensordot(made, powers_of_axis, dims=([1], [0]))
    return made.exp()[:, None].to(coefficients)


def _contrasted(images: Images, factor: float) -> Images:
    """Pillow rounds the mean to 8 bits."""
    weights = LUMINANCE if images.shape[1] == 3 else (1 / images.shape[1],) * images.shape[1]
    luminance = torch.einsum(
        "nc...,c->n...", images.double(), torch.tensor(weights, dtype=torch.float64).to(images.device)
    )
    mean = (luminance * 255).round().flatten(1).mean(1).add(0.5).floor() / 255
    centre = per_image(mean.to(images), images)
    return (centre + (images - centre) * factor).clamp(0, 1)


def _powered(images: Images, gamma: float, rescale: bool) -> Images:
    if not rescale:
        return images**gamma
    every = tuple(range(1, images.ndim))
    low, high = images.amin(every, keepdim=True), images.amax(every, keepdim=True)
    width = high - low
    return (((images - low) / (width + 1e-7)) ** gamma * width + low).clamp(0, 1)


def _coordinates(space: Sequence[int], images: Tensor) -> list[Tensor]:
    """Distances from the centre along each axis, in halves of the shorter side; in shapes that broadcast."""
    half = min(space) / 2
    return [
        ((torch.arange(size) - (size - 1) / 2) / half).to(images).view(-1, *[1] * (len(space) - 1 - place))
        for place, size in enumerate(space)
    ]
