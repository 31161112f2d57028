"""The strength at which SSIM has a given value, found for many images at once."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from medrobust.metrics.similarity import BORDER, CONTRAST_CONSTANT, LUMINANCE_CONSTANT, blur
from medrobust.perturbations.geometry import per_image

Evaluate = Callable[[Tensor, Tensor], Tensor]
"""Gives the SSIM, of shape `r`, of the images in `r` places of the batch at `r` strengths."""

MAX_EVALUATIONS = 60
SECANTS = 8
USUAL_SLOPE = 2.0


class Solution(NamedTuple):
    """Solved strengths.

    Attributes:
        strength: The strength of each image, at least 0.
        ssim: SSIM at that strength.
        reached: Whether it is within the tolerance. Where it is not, the strength is the best one tried.
    """

    strength: Float[Tensor, " n"]
    ssim: Float[Tensor, " n"]
    reached: Bool[Tensor, " n"]


def solve_strength(
    evaluate: Evaluate,
    goal: Float[Tensor, " n"],
    tolerance: Float[Tensor, " n"],
    *,
    first: float | Float[Tensor, " n"],
    largest: float,
) -> Solution:
    """Find strengths whose SSIM lies within `tolerance` of `goal`; images that are done leave the batch.

    SSIM falls with the strength, and close to 1 its complement grows as the square. So the secant of
    log(1 - SSIM) over log strength, starting with a slope of 2, mostly arrives within three evaluations. A
    point outside the interval known to hold the answer is replaced by the middle of the interval, and after a
    few secants only middles are tried.

    Args:
        evaluate: SSIM at a strength.
        goal: Wanted SSIM, below 1.
        tolerance: Allowed difference.
        first: Where to start, above 0; one for all images or one for each.
        largest: A goal that this strength does not reach is given up.
    """
    goal, tolerance = goal.double(), tolerance.double()
    strength, seen = torch.zeros_like(goal), torch.full_like(goal, torch.nan)
    error = torch.full_like(goal, torch.inf)
    running = torch.arange(len(goal), device=goal.device)
    search = Search.start(goal, first)
    for number in range(MAX_EVALUATIONS):
        if len(running) == 0:
            break
        ssim = evaluate(running, search.x.exp().float()).double()
        off = (ssim - goal[running]).abs()
        better = off < error[running]
        best = running[better]
        strength[best], seen[best], error[best] = search.x.exp()[better], ssim[better], off[better]
        hopeless = (search.x >= math.log(largest)) & (ssim > goal[running])
        going = (off > tolerance[running]) & ~hopeless
        search = search.next(ssim, math.log(largest), secant=number < SECANTS).rows(going)
        running = running[going]
    return Solution(strength.float(), seen.float(), error <= tolerance)


class Search(NamedTuple):
    """Where the search stands for each image; all in logarithms."""

    wanted: Float[Tensor, " r"]  # log(1 - goal)
    x: Float[Tensor, " r"]  # the strength to try
    low: Float[Tensor, " r"]  # the largest known to be too weak
    high: Float[Tensor, " r"]  # the smallest known to be too strong
    last_x: Float[Tensor, " r"]  # tried before, NaN at first
    last_y: Float[Tensor, " r"]  # log(1 - SSIM) there

    @classmethod
    def start(cls, goal: Float[Tensor, " n"], first: float | Float[Tensor, " n"]) -> "Search":
        """Nothing but the first strength is known."""
        nothing = torch.full_like(goal, torch.nan)
        x = torch.as_tensor(first, dtype=goal.dtype, device=goal.device).expand_as(goal).log()
        infinity = torch.full_like(goal, torch.inf)
        return cls((1 - goal).log(), x, -infinity, infinity, nothing, nothing)

    def next(self, ssim: Float[Tensor, " r"], largest: float, *, secant: bool) -> "Search":
        """Take in what `x` gave and choose the next strength, at most `largest`."""
        y = (1 - ssim).clamp_min(1e-9).log()
        weak = y < self.wanted
        low = torch.where(weak, self.x, self.low)
        high = torch.where(weak, self.high, self.x)
        slope = (y - self.last_y) / (self.x - self.last_x)
        slope = slope.nan_to_num(USUAL_SLOPE).clamp(0.25, 4)
        x = (self.x + (self.wanted - y) / slope).clamp_max(largest)
        bracketed = low.isfinite() & high.isfinite()
        outside = (x <= low) | (x >= high)
        x = torch.where(bracketed & (outside | (not secant)), (low + high) / 2, x)
        return Search(self.wanted, x, low, high, self.x, y)

    def rows(self, chosen: Bool[Tensor, " r"]) -> "Search":
        """The search for some of the images."""
        return Search(*(field[chosen] for field in self))


SOME = slice(BORDER, -BORDER, 4)
"""The pixels that take part, along each axis; none whose window leaves the image."""

TOLERANCE = 0.01
"""Relative to 1 - SSIM: a fifth of what the match itself allows."""

DIGITS = 3
FALLBACK = 0.03
"""For images of which no pixel takes part."""

LEAST_GOAL = 0.05
"""Goals near 0 and below have no rough guess of their own."""


def first_strength(
    noisy: Callable[[Tensor], Tensor],
    images: Float[Tensor, "n c *space"],
    goal: Float[Tensor, " n"],
    support: Bool[Tensor, "n 1 *space"] | None,
    largest: float,
) -> Float[Tensor, " n"]:
    """A strength near the solution, from SSIM at some of the pixels.

    The local moments of images and noise give SSIM at any strength without another pass over the image. The
    result has 3 significant digits, so that it does not depend on the last bits of a sum.
    """
    counts = torch.ones_like(images[:, :1]) if support is None else support.to(images)
    counts = counts[(slice(None),) * 2 + (SOME,) * (images.ndim - 2)]
    share = counts / per_image(counts.flatten(1).sum(1), counts)
    centre = images.mean(dim=tuple(range(2, images.ndim)), keepdim=True)
    centred = images - centre
    offset = blur(centred, SOME)
    variance = blur(centred.square(), SOME) - offset.square()
    # As if the noise were white and independent of the image.
    flatness = ((1 / (2 * variance + CONTRAST_CONSTANT)).mean(1, keepdim=True) * share).flatten(1).sum(1)
    rough = ((1 - goal) / goal.clamp_min(LEAST_GOAL) / flatness).sqrt()
    rough = rough.nan_to_num(FALLBACK).clamp(1e-6, largest)
    field = (noisy(rough) - images) / per_image(rough, images)
    field_mean = blur(field, SOME)
    field_variance = blur(field.square(), SOME) - field_mean.square()
    covariance = blur(centred * field, SOME) - offset * field_mean
    moments = (offset + centre, field_mean, variance, field_variance, covariance, share)

    def ssim(some: Tensor, strength: Tensor) -> Tensor:
        """Of images x and x + strength * field, those in the places `some`."""
        mean, field_mean, variance, field_variance, covariance, share = (each[some] for each in moments)
        s = per_image(strength, mean)
        luminance = 1 - (s * field_mean).square() / (
            mean.square() + (mean + s * field_mean).square() + LUMINANCE_CONSTANT
        )
        change = s.square() * field_variance
        contrast = 1 - change / (2 * variance + 2 * s * covariance + change + CONTRAST_CONSTANT)
        return ((luminance * contrast).mean(1, keepdim=True) * share).flatten(1).sum(1)

    tolerance = (TOLERANCE * (1 - goal)).clamp_min(1e-6)
    solution = solve_strength(ssim, goal, tolerance, first=rough, largest=largest)
    strength = torch.where(solution.strength > 0, solution.strength, rough).double()
    scale = 10.0 ** (DIGITS - 1 - strength.log10().floor())
    return ((strength * scale).round() / scale).float()
