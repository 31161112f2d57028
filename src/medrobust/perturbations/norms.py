"""Norms of images and of their gradients, of whatever magnitude these are.

Squares of float32 numbers below 1e-23 vanish and those above 1e19 are infinite, so that every image is scaled
first: by a power of two, which rounds nothing.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Norm = Literal["inf", "2"]

ORDER: dict[Norm, float] = {"inf": torch.inf, "2": 2.0}
"""Of each norm, as `lengths` takes it."""

_EXPONENTS = 126
"""Up to here, powers of two and their inverses are normal float32 numbers."""


def lengths(images: Float[Tensor, "n c *space"], order: float = 2.0) -> Float[Tensor, "n *ones"]:
    """Norm of each image, in a shape that divides `images`.

    Args:
        images: Of any magnitude, finite.
        order: 2: the Euclidean norm; 1: the sum of magnitudes; `math.inf`: the largest magnitude.
    """
    scale = _scales(images)
    return _norms(images * scale, order) / scale


def unit(images: Float[Tensor, "n c *space"], order: float = 2.0) -> Float[Tensor, "n c *space"]:
    """Every image divided by its norm of that order, see `lengths`; one that is 0 everywhere stays so."""
    scaled = images * _scales(images)
    return scaled / _norms(scaled, order).clamp_min(torch.finfo(images.dtype).tiny)


def per_image(values: Float[Tensor, " n"], images: Tensor) -> Float[Tensor, "n *ones"]:
    """One number for each image, in a shape that goes with `images`."""
    return values.view(-1, *[1] * (images.ndim - 1))


def _norms(images: Tensor, order: float) -> Tensor:
    return per_image(torch.linalg.vector_norm(images.flatten(1), ord=order, dim=1), images)


def _scales(images: Tensor) -> Tensor:
    """Powers of two that bring the largest magnitude of each image to about 1."""
    exponents = torch.frexp(_norms(images, torch.inf)).exponent
    return torch.exp2(-exponents.clamp(-_EXPONENTS, _EXPONENTS).to(images.dtype))
