"""SegPGD: projected gradient descent that first turns the pixels that are right."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from medrobust.parameters import Ratio
from medrobust.perturbations.ball import Ball
from medrobust.perturbations.checks import check_inputs, check_segmentation
from medrobust.perturbations.gradients import Model, frozen, ordinary_mode
from medrobust.perturbations.losses import cross_entropy_weights
from medrobust.perturbations.norms import Norm
from medrobust.perturbations.pgd import REACH, climb


@ordinary_mode()
def segpgd(
    model: Model,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, "n *space"],
    *,
    support: Bool[Tensor, "n 1 *space"] | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
    eps: Annotated[Ratio, Ge(0)],
    norm: Norm = "inf",
    steps: Annotated[int, Ge(1)] = 20,
    step: Annotated[Ratio, Gt(0)] | None = None,
    random_start: bool = True,
) -> Float[Tensor, "n c *space"]:
    """Climb the cross-entropy, at first that of right pixels only and more and more that of wrong ones too.

    In step t of T (from 0 on), right pixels weigh 1 - t / 2T and wrong pixels t / 2T.

    Args:
        model: Network under attack.
        images: Clean images in [0, 1], 2D or 3D.
        labels: True class of every pixel.
        support: Where images may change; None: everywhere.
        rngs: One generator per image, for random starts.
        eps: Largest norm of the change, on images in [0, 1].
        norm: "inf": the largest change of an entry. "2": the Euclidean norm over an image.
        steps: Number of steps.
        step: Norm of one step; None: 2.5 eps / steps.
        random_start: Begin at a random place of the budget, not at the clean image.

    Returns:
        Attacked images.

    Raises:
        ValueError: A wrong argument.
        ModelError: The network's output cannot be attacked.

    Source:
        Gu et al. 2022, "SegPGD: an effective and efficient adversarial attack for evaluating and boosting
        segmentation robustness".
    """
    check_inputs(images, labels, support)
    check_segmentation(labels)
    ball = Ball(images, support, float(eps), norm)
    size = REACH * ball.eps / steps if step is None else float(step)

    def weigh(
        number: int, logits: Float[Tensor, "n k *space"], labels: Int64[Tensor, "n *space"]
    ) -> Float[Tensor, "n k *space"]:
        of_wrong = number / (2 * steps)
        right = logits.max(1).indices == labels
        return cross_entropy_weights(logits, labels, torch.where(right, 1 - of_wrong, of_wrong))

    start = ball.random_images(rngs) if random_start else images
    with frozen(model):
        return climb(model, start, labels, ball, weigh, step=size, steps=steps)
