"""Motion while an MR image is acquired, line by line of its spectrum."""

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from medrobust.perturbations.corruptions.geometry import splines
from medrobust.perturbations.corruptions.kspace import shifted_by_line
from medrobust.perturbations.transforms.search import searched

Images = Float[Tensor, "n c *space"]

TIMES = 20
"""Control points of a path during the acquisition."""


@searched(
    lambda space: TIMES * len(space),
    first_step=0.1,  # longer ones overshoot, as in a deformation
    unit="mm",
    summary="The worst plausible movement during the acquisition.",
)
def motion_search(
    images: Images,
    theta: Float[Tensor, "n p"],
    spacing: Sequence[float],
    strength: Annotated[float, Ge(0), Le(1000)] = 5.0,
) -> Images:
    """Shift the image along a path in time, a position for each line of the spectrum along the first axis.

    Paths are cubic B-splines over 20 control points. Things are where they lie when the middle of the
    spectrum is acquired, so that labels stay. The result is a magnitude, clipped to [0, 1].

    Args:
        images: Images in [0, 1].
        theta: Positions at the control points along each axis, as shares of half of `strength`.
        spacing: Size of a pixel in mm along each axis.
        strength: The largest shift in mm along each axis.
    """
    lines, dimensions = images.shape[2], images.ndim - 2
    weights = torch.from_numpy(splines(lines, TIMES)).to(theta)
    path = theta.view(len(theta), dimensions, TIMES) @ weights.T
    shifts = strength / 2 * (path - path[..., lines // 2, None])
    return shifted_by_line(images, shifts / torch.tensor(spacing).to(theta)[:, None]).abs().clamp(0, 1)
