"""Projected gradient descent: many small steps up the loss that never leave the budget."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Gt
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from medrobust.core import Task
from medrobust.errors import StudyError
from medrobust.parameters import Ratio
from medrobust.perturbations.ball import Ball
from medrobust.perturbations.checks import check_inputs, check_logits
from medrobust.perturbations.gradients import Model, frozen, linearise, ordinary_mode, predict
from medrobust.perturbations.losses import Loss, ascent_weights
from medrobust.perturbations.norms import Norm
from medrobust.perturbations.wrong_class import some

REACH = 2.5
"""All steps together go so many times the budget, so that images can cross the ball (Madry et al. 2018)."""

SAME_ATTEMPTS = "must be 1 with random_start=False, which makes all attempts the same"

Weigh = Callable[[int, Tensor, Tensor], Tensor]
"""Weights of the logits in the ascent, for the number of the step, logits and labels."""


@ordinary_mode()
def pgd(
    model: Model,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, "n *labelspace"],
    *,
    support: Bool[Tensor, "n 1 *space"] | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
    eps: Annotated[Ratio, Ge(0)],
    norm: Norm = "inf",
    steps: Annotated[int, Ge(1)] = 20,
    step: Annotated[Ratio, Gt(0)] | None = None,
    loss: Loss = "cross_entropy",
    random_start: bool = True,
    restarts: Annotated[int, Ge(1)] = 1,
) -> Float[Tensor, "n c *space"]:
    """Climb the loss in steps of a fixed norm, projected back into the budget after each.

    All steps are taken, also after the prediction is wrong: a deeper minimum transfers better.

    Args:
        model: Network under attack.
        images: Clean images in [0, 1].
        labels: True classes, one per image or one per pixel.
        support: Where images may change; None: everywhere.
        rngs: One generator per image, for random starts.
        eps: Largest norm of the change, on images in [0, 1].
        norm: "inf": the largest change of an entry. "2": the Euclidean norm over an image.
        steps: Number of steps.
        step: Norm of one step; None: 2.5 eps / steps.
        loss: What is climbed: "cross_entropy", "margin" (largest wrong logit minus the right one) or "dlr"
            (the margin whatever its scale; three classes or more).
        random_start: Begin at a random place of the budget, not at the clean image.
        restarts: Attempts; the one with the most wrong labels is kept, the first of equal ones. An image
            that is wrong altogether is not tried again.

    Returns:
        Attacked images.

    Raises:
        ValueError: A wrong argument.
        ModelError: The network's output cannot be attacked.

    Source:
        Madry et al. 2018, "Towards deep learning models resistant to adversarial attacks"; "dlr": Croce, Hein
        2020.
    """
    check_inputs(images, labels, support)
    if restarts > 1 and not random_start:
        raise ValueError(f"restarts: {SAME_ATTEMPTS}, got {restarts}.")
    ball = Ball(images, support, float(eps), norm)
    size = REACH * ball.eps / steps if step is None else float(step)

    def weigh(number: int, logits: Tensor, labels: Tensor) -> Tensor:
        return ascent_weights(loss, logits, labels)

    def attempt(index: Int64[Tensor, " r"]) -> Float[Tensor, "r c *space"]:
        here = ball.rows(index)
        start = here.random_images(some(rngs, index)) if random_start else here.clean
        return climb(model, start, labels[index], here, weigh, step=size, steps=steps)

    with frozen(model):
        result = attempt(torch.arange(len(images), device=images.device))
        for _ in range(restarts - 1):
            wrong = share_wrong(model, result, labels)
            left = (wrong < 1).nonzero()[:, 0]
            if len(left) == 0:
                break
            tried = attempt(left)
            better = share_wrong(model, tried, labels[left]) > wrong[left]
            result[left[better]] = tried[better]
    return result


def check_restarts(parameters: Mapping[str, Any], task: Task, where: str) -> None:
    """Refuse to try again what would come out the same."""
    if parameters["restarts"] > 1 and not parameters["random_start"]:
        raise StudyError(f"{where}.restarts: {SAME_ATTEMPTS}, got {parameters['restarts']}.")


def climb(
    model: Model,
    start: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, "n *labelspace"],
    ball: Ball,
    weigh: Weigh,
    *,
    step: float,
    steps: int,
) -> Float[Tensor, "n c *space"]:
    """Take steps of a fixed norm along the gradient of the weighted logits, projected into the ball."""
    result = start
    for number in range(steps):
        logits, pullback = linearise(model, result)
        if number == 0:
            check_logits(logits, labels)
        gradient = pullback(weigh(number, logits, labels))
        result = ball.project(result + step * ball.steepest(gradient))
    return result


def share_wrong(
    model: Model, images: Float[Tensor, "n c *space"], labels: Int64[Tensor, "n *labelspace"]
) -> Float[Tensor, " n"]:
    """Share of each image's labels that the network gets wrong."""
    wrong = predict(model, images).max(1).indices != labels
    return wrong.view(len(labels), -1).float().mean(1)
