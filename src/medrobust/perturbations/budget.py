"""The budget of an attack that has one, solved for a mean SSIM."""

import copy
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from medrobust.errors import StudyError
from medrobust.metrics.similarity import ssim
from medrobust.perturbations.gradients import Model
from medrobust.perturbations.request import Request, perturb
from medrobust.perturbations.root import solve_strength

TOLERANCE = 1e-4
FIRST_BUDGET = 4 / 255
LARGEST_BUDGET = 1.0
DIGITS = 4


def solve_budget(
    request: Request,
    model: Model,
    batches: Iterable[tuple[Tensor, Tensor, Tensor | None, Sequence[np.random.Generator] | None]],
) -> float:
    """Find the budget at which the mean SSIM of an attack is what the request asks for.

    Args:
        request: Its `ssim` is the goal.
        model: Source network.
        batches: Images `n c *space`, labels, support and random generators of validation cases. SSIM is taken
            over the support; cases with an empty one do not count. Generators are copied: every budget is
            tried on the same draws.

    Returns:
        The budget, rounded to 4 significant digits; set it with `request.with_budget`.

    Raises:
        ValueError: The request has nothing to solve, or there are no cases.
        StudyError: The SSIM cannot be reached.
    """
    cases = list(batches)
    if request.ssim is None or not cases:
        raise ValueError(
            f"{request.label}: needs an SSIM to solve for and cases, got {request.ssim} and {len(cases)}."
        )

    def mean_ssim(_: Tensor, budget: Tensor) -> Tensor:
        solved = request.with_budget(round_budget(float(budget)))
        values = [
            ssim(
                images,
                perturb(solved, model, images, labels, support=support, rngs=copy.deepcopy(rngs)),
                support,
            )
            for images, labels, support, rngs in cases
        ]
        return torch.cat(values).nanmean()[None].cpu()

    goal, tolerance = torch.tensor([request.ssim]), torch.tensor([TOLERANCE])
    solution = solve_strength(mean_ssim, goal, tolerance, first=FIRST_BUDGET, largest=LARGEST_BUDGET)
    budget, reached = round_budget(float(solution.strength)), bool(solution.reached)
    if not reached:
        raise StudyError(
            f"perturbations.{request.label}: no {request.perturbation.budget} up to {LARGEST_BUDGET:g} "
            f"gives an SSIM of {request.ssim:g}; the nearest is {float(solution.ssim):.4f} at {budget:g}. "
            "Ask for a value that can be reached."
        )
    return budget


def round_budget(budget: float) -> float:
    """Round to 4 significant digits."""
    return float(f"{budget:.{DIGITS}g}")
