"""The nearest point of a hyperplane inside of the range of images."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from medrobust.perturbations.norms import Norm, lengths, per_image, unit


def step_inside(
    images: Float[Tensor, "n c *space"],
    support: Bool[Tensor, "n 1 *space"] | None,
    gradient: Float[Tensor, "n c *space"],
    rise: Float[Tensor, " n"],
    norm: Norm,
) -> Float[Tensor, "n c *space"]:
    """The smallest step along which linear functions rise by so much, and images stay in [0, 1].

    Without the range the step goes along the gradient (its sign, where the largest change is to be small).
    Entries that would leave the range stop at its end, the others share what is left to rise, and so on until
    none leaves. That ends after finitely many rounds with the exact solution, since the rise is a concave and
    piecewise linear function of how far the others go.

    Args:
        images: Where the step begins, in [0, 1].
        support: Where images may change; None: everywhere.
        gradient: Of the linear function of each image, finite, of any magnitude.
        rise: By how much that is to rise, at least 0.
        norm: What is to be small.

    Returns:
        The step; where no step rises enough, the one that rises most.
    """
    slopes = unit(gradient, torch.inf)
    rise = rise / lengths(gradient, torch.inf).flatten().clamp_min(torch.finfo(rise.dtype).tiny)
    steep = slopes.abs()
    room = torch.where(slopes > 0, 1 - images, images)
    free = (steep > 0) & (room > 0)
    if support is not None:
        free &= support
    room = room * free
    pace = steep if norm == "2" else torch.ones_like(steep)
    while True:
        left = rise - torch.where(free, 0, steep * room).flatten(1).sum(1)
        rate = torch.where(free, steep * pace, 0).flatten(1).sum(1)
        far = per_image(left / rate.clamp_min(torch.finfo(rate.dtype).tiny), images) * pace
        leaving = free & (far > room)
        if not leaving.any():
            return slopes.sign() * torch.where(free, far, room)
        free &= ~leaving
