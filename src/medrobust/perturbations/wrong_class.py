"""The class that a targeted attack goes to where nobody names one."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from medrobust.perturbations.fgsm import smallest_flip
from medrobust.perturbations.gradients import Model, cross_entropy_gradient
from medrobust.perturbations.norms import unit

Generators = Sequence[np.random.Generator] | None

GRADIENT_ATTACK_PARTS = 1000
"""foolbox 0.8 cuts its line along the gradient into so many parts."""


def gradient_attack(
    model: Model,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, " n"],
    logits: Float[Tensor, "n k"],
    support: Bool[Tensor, "n 1 *space"] | None,
    rngs: Generators,
) -> Int64[Tensor, " n"]:
    """The first wrong class on the line along the cross-entropy's gradient; a random one if there is none.

    The gradient has a root mean square of 1, and the line ends at 1 times the gradient, as in foolbox 0.8.
    """
    if len(images) == 0:
        return labels
    _, gradient = cross_entropy_gradient(model, images, labels)
    direction = unit(gradient if support is None else torch.where(support, gradient, 0))
    direction = direction * math.sqrt(direction[0].numel())
    found = smallest_flip(model, images, labels, direction, support, eps=1.0, parts=GRADIENT_ATTACK_PARTS)[1]
    lost = (found == labels).nonzero()[:, 0]
    if len(lost):
        found[lost] = random_class(model, images[lost], labels[lost], logits[lost], None, some(rngs, lost))
    return found


def random_class(
    model: Model,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, " n"],
    logits: Float[Tensor, "n k"],
    support: Bool[Tensor, "n 1 *space"] | None,
    rngs: Generators,
) -> Int64[Tensor, " n"]:
    """Any other class, with equal chances."""
    if rngs is None:
        raise ValueError(
            "rngs: a random target class needs one generator per image; pass [medrobust.rng.generator(seed, "
            "key), ...] or choose target='runner_up'."
        )
    drawn = torch.tensor([int(rng.integers(logits.shape[1] - 1)) for rng in rngs], dtype=torch.int64)
    drawn = drawn.to(labels.device)
    return drawn + (drawn >= labels)


def runner_up(
    model: Model,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, " n"],
    logits: Float[Tensor, "n k"],
    support: Bool[Tensor, "n 1 *space"] | None,
    rngs: Generators,
) -> Int64[Tensor, " n"]:
    """The other class with the largest logit."""
    return logits.scatter(1, labels[:, None], -torch.inf).argmax(1)


def some(rngs: Generators, index: Int64[Tensor, " r"]) -> Generators:
    """The generators of some of the images."""
    return None if rngs is None else [rngs[place] for place in index.tolist()]


CLASS_CHOICES: dict[str, Callable[..., Tensor]] = {
    "gradient_attack": gradient_attack,
    "random": random_class,
    "runner_up": runner_up,
}
