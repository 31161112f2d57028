"""Solve for the strength at which SSIM has a wanted value, for many images at once."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Evaluate = Callable[[Tensor, Tensor], Tensor]
"""Gives the SSIM, of shape `r`, of the images in `r` places of the batch at `r` strengths."""

MAX_EVALUATIONS = 60
SECANTS = 8
USUAL_SLOPE = 2.0


class Solution(NamedTuple):
    """Strengths that were found.

    Attributes:
        strength: The strength of each image, at least 0.
        ssim: SSIM at that strength.
        reached: Whether it is within the tolerance. Where it is not, the strength is the nearest that was
            seen.
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

    SSIM falls with the strength, and close to 1 its complement grows as the square. So the secant of log(1 -
    SSIM) over log strength, from a slope of 2 on, mostly arrives within three evaluations. A point outside of
    the interval that is known to hold the answer gives way to the middle of the interval, and after a few
    secants only middles are tried.

    Args:
        evaluate: SSIM at a strength.
        goal: Wanted SSIM, below 1.
        tolerance: Allowed difference.
        first: Where to begin, above 0; one for all images or one for each.
        largest: A goal that this strength does not reach counts as unreachable.

    Returns:
        The strengths, in float32.
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
    """Where the search stands for each image; all in logarithms.

    Attributes:
        wanted: log(1 - goal).
        x: Strength to try.
        low: Largest strength known to be too weak.
        high: Smallest strength known to be too strong.
        last_x: The strength tried before, NaN at first.
        last_y: log(1 - SSIM) there.
    """

    wanted: Float[Tensor, " r"]
    x: Float[Tensor, " r"]
    low: Float[Tensor, " r"]
    high: Float[Tensor, " r"]
    last_x: Float[Tensor, " r"]
    last_y: Float[Tensor, " r"]

    @classmethod
    def start(cls, goal: Float[Tensor, " n"], first: float | Float[Tensor, " n"]) -> "Search":
        """Begin at the strength `first`, or at one for each image."""
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
        x = torch.where(bracketed & (outside | torch.tensor(not secant)), (low + high) / 2, x)
        return Search(self.wanted, x, low, high, self.x, y)

    def rows(self, chosen: Bool[Tensor, " r"]) -> "Search":
        """The search for some of the images."""
        return Search(*(field[chosen] for field in self))
