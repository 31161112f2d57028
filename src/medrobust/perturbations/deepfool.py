"""DeepFool: the shortest way over the boundary of a network that is linearised anew at every step."""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Le
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from medrobust.parameters import Ratio
from medrobust.perturbations.boundaries import Norm, Rivals, Walk, nearest_step
from medrobust.perturbations.checks import check_classification, check_inputs, check_logits
from medrobust.perturbations.gradients import Model, frozen, linearise, ordinary_mode
from medrobust.perturbations.presets import Preset, accepts_preset
from medrobust.perturbations.tally import Tally

PRESETS = {
    "moosavi-2016": Preset(
        {"steps": 50, "overshoot": 0.02, "overshoot_on": "sum", "candidates": 10, "norm": "2"},
        source="Moosavi-Dezfooli, Fawzi, Frossard 2016, and their code: overshoot on the accumulated "
        "perturbation. The paper does not clip; here entries stop at 0 and 1",
    ),
    "foolbox-0.8": Preset(
        {"steps": 100, "overshoot": 0.05, "overshoot_on": "step", "candidates": None, "norm": "2"},
        source="foolbox 0.8.0, foolbox/attacks/deepfool.py: 1.05 on every step; its classes below the label "
        "are all other classes for as long as the image is still right",
        failed="clean",
    ),
}


@accepts_preset(PRESETS)
@ordinary_mode()
def deepfool(
    model: Model,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, " n"],
    *,
    support: Bool[Tensor, "n 1 *space"] | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
    tally: Tally | None = None,
    steps: Annotated[int, Ge(1)] = 50,
    overshoot: Annotated[Ratio, Ge(0), Le(1)] = 0.02,
    overshoot_on: Literal["sum", "step"] = "sum",
    candidates: Annotated[int, Ge(2)] | None = 10,
    norm: Norm = "2",
) -> Float[Tensor, "n c *space"]:
    """Find a small perturbation that changes the prediction; images already wrong are kept.

    Args:
        model: Network under attack.
        images: Clean images in [0, 1].
        labels: True classes.
        support: Where images may change; None: everywhere.
        rngs: Not needed, nothing is drawn.
        tally: Is told the steps of each image.
        steps: Largest number of linearisations.
        overshoot: By how much the boundary is overstepped, relative to the way to it.
        overshoot_on: "sum": once, on the accumulated perturbation. "step": on every step.
        candidates: Classes that are looked at, those of the largest clean logits, the true one included;
            None: all. Of these a step takes the gradients of those that seem near, see `Rivals`.
        norm: Distance that is made small.

    Returns:
        Attacked images; the last iterate where no step was enough.

    Raises:
        ValueError: A wrong argument.
        ModelError: The network's output cannot be attacked.

    Source:
        Moosavi-Dezfooli, Fawzi, Frossard 2016, "DeepFool: a simple and accurate method to fool deep neural
        networks".
    """
    check_inputs(images, labels, support)
    check_classification(labels)
    walk = Walk(images, support, images.clone(), None if overshoot_on == "step" else torch.zeros_like(images))
    taken = torch.zeros_like(labels)
    running = torch.arange(len(images), device=images.device)
    with frozen(model):
        view = linearise(model, images)
        check_logits(view[0], labels)
        rivals = Rivals.of(view[0], labels, candidates)
        for _ in range(steps):
            right = view[0].argmax(1) == labels[running]
            if not right.any():
                break
            # Images that were fooled by the last step share its pass once more, which costs less than a
            # forward pass to tell them apart.
            step = nearest_step(model, walk, view, labels, running, right, rivals, norm)
            running = running[right]
            walk.advance(running, step, 1 + overshoot)
            taken[running] += 1
            view = linearise(model, walk.result[running])
    if tally is not None:
        tally.steps = taken
    return walk.result
