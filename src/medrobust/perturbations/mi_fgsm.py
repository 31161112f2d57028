"""Momentum iterative FGSM: a running mean of gradients keeps what several networks have in common."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from medrobust.parameters import Ratio
from medrobust.perturbations.ball import Ball
from medrobust.perturbations.checks import check_inputs
from medrobust.perturbations.gradients import Model, cross_entropy_gradient, frozen, ordinary_mode
from medrobust.perturbations.norms import Norm, unit


@ordinary_mode()
def mi_fgsm(
    model: Model,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, "n *labelspace"],
    *,
    support: Bool[Tensor, "n 1 *space"] | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
    eps: Annotated[Ratio, Ge(0)],
    norm: Norm = "inf",
    steps: Annotated[int, Ge(1)] = 10,
    decay: Annotated[float, Ge(0)] = 1.0,
) -> Float[Tensor, "n c *space"]:
    """Step along the accumulated gradients of the cross-entropy, each scaled to an L1 norm of 1.

    Made for attacks on networks that the attacker does not know, which is what transfer measures.

    Args:
        model: Network under attack.
        images: Clean images in [0, 1].
        labels: True classes, one per image or one per pixel.
        support: Where images may change; None: everywhere.
        rngs: Not needed, nothing is drawn.
        eps: Largest norm of the change, on images in [0, 1].
        norm: "inf": the largest change of an entry. "2": the Euclidean norm over an image.
        steps: Number of steps, each of norm eps / steps.
        decay: What is kept of the accumulated gradient from step to step; 0: plain iterated FGSM.

    Returns:
        Attacked images.

    Raises:
        ValueError: A wrong argument.
        ModelError: The network's output cannot be attacked.

    Source:
        Dong et al. 2018, "Boosting adversarial attacks with momentum".
    """
    check_inputs(images, labels, support)
    ball = Ball(images, support, float(eps), norm)
    result, velocity = images, torch.zeros_like(images)
    with frozen(model):
        for _ in range(steps):
            _, gradient = cross_entropy_gradient(model, result, labels)
            velocity = decay * velocity + unit(ball.supported(gradient), 1)
            result = ball.project(result + ball.eps / steps * ball.steepest(velocity))
    return result.clone()
