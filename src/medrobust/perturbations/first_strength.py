"""A first guess of the strength at which noise has a wanted SSIM, from five local moments at some pixels.

For a fixed field e, the means, variances and covariance that make up SSIM(x, x + s e) are polynomials in s of
five local moments. So SSIM is known for every strength s once these are; one pixel of 16 (2D) is enough for a
guess. What clipping and the Rician distribution make of the field is taken from a strength nearby.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from medrobust.metrics.similarity import BORDER, CONTRAST_CONSTANT, LUMINANCE_CONSTANT, blur
from medrobust.perturbations.root import solve_strength

SOME = slice(BORDER, -BORDER, 4)
"""The pixels that take part, along each axis; none whose window leaves the image."""

TOLERANCE = 0.01
"""Relative to 1 - SSIM: a fifth of what the match itself allows."""

DIGITS = 3
FALLBACK = 0.03
"""For images none of whose pixels is looked at."""

LEAST_GOAL = 0.05
"""Goals near 0 and below have no rough guess of their own."""


class Moments(NamedTuple):
    """Local moments of images x and a field e, at some pixels, and the share with which each pixel counts."""

    mean: Float[Tensor, "n c *some"]
    field_mean: Float[Tensor, "n c *some"]
    variance: Float[Tensor, "n c *some"]
    field_variance: Float[Tensor, "n c *some"]
    covariance: Float[Tensor, "n c *some"]
    share: Float[Tensor, "n 1 *some"]

    def ssim(self, some: Tensor, strength: Float[Tensor, " r"]) -> Float[Tensor, " r"]:
        """SSIM of x and x + strength * e, for the images in the places `some`."""
        mean, field_mean, variance, field_variance, covariance, share = (each[some] for each in self)
        s = _per_image(strength, mean)
        luminance = 1 - (s * field_mean).square() / (
            mean.square() + (mean + s * field_mean).square() + LUMINANCE_CONSTANT
        )
        change = s.square() * field_variance
        contrast = 1 - change / (2 * variance + 2 * s * covariance + change + CONTRAST_CONSTANT)
        return ((luminance * contrast).mean(1, keepdim=True) * share).flatten(1).sum(1)


def first_strength(
    noisy: Callable[[Tensor], Tensor],
    images: Float[Tensor, "n c *space"],
    goal: Float[Tensor, " n"],
    support: Bool[Tensor, "n 1 *space"] | None,
    largest: float,
) -> Float[Tensor, " n"]:
    """A strength near the one that is looked for.

    Args:
        noisy: Gives the images with noise of one strength each.
        images: Clean images in [0, 1].
        goal: Wanted SSIM, below 1.
        support: Pixels that SSIM is averaged over; None: all.
        largest: No strength is larger.

    Returns:
        Strengths with 3 significant digits, so that they do not depend on the last bits of a sum.
    """
    centre = images.mean(dim=tuple(range(2, images.ndim)), keepdim=True)
    centred = images - centre
    share = _share(images, support)
    offset = blur(centred, SOME)
    variance = blur(centred.square(), SOME) - offset.square()
    # Noise that is white and knows nothing of the image.
    flatness = ((1 / (2 * variance + CONTRAST_CONSTANT)).mean(1, keepdim=True) * share).flatten(1).sum(1)
    rough = ((1 - goal) / goal.clamp_min(LEAST_GOAL) / flatness).sqrt()
    rough = rough.nan_to_num(FALLBACK).clamp(1e-6, largest)
    field = (noisy(rough) - images) / _per_image(rough, images)
    field_mean = blur(field, SOME)
    moments = Moments(
        offset + centre,
        field_mean,
        variance,
        blur(field.square(), SOME) - field_mean.square(),
        blur(centred * field, SOME) - offset * field_mean,
        share,
    )
    solution = solve_strength(
        moments.ssim, goal, (TOLERANCE * (1 - goal)).clamp_min(1e-6), first=rough, largest=largest
    )
    return _rounded(torch.where(solution.strength > 0, solution.strength, rough))


def _share(
    images: Float[Tensor, "n c *space"], support: Bool[Tensor, "n 1 *space"] | None
) -> Float[Tensor, "n 1 *some"]:
    counts = torch.ones_like(images[:, :1]) if support is None else support.to(images)
    counts = counts[(slice(None),) * 2 + (SOME,) * (images.ndim - 2)]
    return counts / _per_image(counts.flatten(1).sum(1), counts)


def _per_image(values: Float[Tensor, " n"], images: Tensor) -> Tensor:
    return values.view(-1, *[1] * (images.ndim - 1))


def _rounded(strength: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    scale = 10.0 ** (DIGITS - 1 - strength.double().log10().floor())
    return ((strength.double() * scale).round() / scale).float()
