"""DeepFool: the shortest way over the boundary of a network that is linearised anew at every step."""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Le
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from medrobust.parameters import Ratio
from medrobust.perturbations.checks import check_classification, check_inputs, check_logits
from medrobust.perturbations.gradients import Model, frozen, linearise, one_hot, predict
from medrobust.perturbations.presets import Preset, accepts_preset
from medrobust.perturbations.support import rows, within
from medrobust.perturbations.tally import Tally

MINIMAL_STEP = 1e-4
"""Added to every distance, as the authors' code does: a step shorter than float32 resolves would never
arrive."""

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
    norm: Literal["2", "inf"] = "2",
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
            None: all.
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
    result, total = images.clone(), torch.zeros_like(images)
    taken = torch.zeros_like(labels)
    accumulate = overshoot_on == "sum"
    with frozen(model):
        logits = predict(model, images)
        check_logits(logits, labels)
        rivals = nearest_rivals(logits, labels, candidates)
        running = (logits.argmax(1) == labels).nonzero()[:, 0]
        for _ in range(steps):
            if len(running) == 0:
                break
            here = rows(support, running)
            step = projection(model, result[running], labels[running], rivals[running], here, norm)
            total[running] += step
            start, way = (images, total[running]) if accumulate else (result, step)
            result[running] = within(start[running] + (1 + overshoot) * way, images[running], here)
            taken[running] += 1
            # A forward pass of its own costs a tenth of the gradients that finished images would otherwise
            # still get.
            running = running[predict(model, result[running]).argmax(1) == labels[running]]
    if tally is not None:
        tally.steps = taken
    return result


def nearest_rivals(
    logits: Float[Tensor, "n k"], labels: Int64[Tensor, " n"], candidates: int | None
) -> Int64[Tensor, "n rivals"]:
    """The other classes with the largest logits, `candidates - 1` of them or all that there are."""
    wanted = min(candidates or logits.shape[1], logits.shape[1]) - 1
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.topk(wanted, dim=1).indices


def projection(
    model: Model,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, " n"],
    rivals: Int64[Tensor, "n rivals"],
    support: Bool[Tensor, "n 1 *space"] | None,
    norm: Literal["2", "inf"],
) -> Float[Tensor, "n c *space"]:
    """The step to the nearest of the boundaries with the rivals, all of them linearised at `images`."""
    logits, pullback = linearise(model, images)
    own = one_hot(labels, logits)
    shortest, step = torch.full_like(logits[:, 0], torch.inf), torch.zeros_like(images)
    for place, rival in enumerate(rivals.T):
        towards = one_hot(rival, logits) - own
        gradient = pullback(towards, keep=place < rivals.shape[1] - 1)
        normal = (gradient * movable(images, gradient, support)).flatten(1)
        # The dual norm of the one that is made small turns a gap of logits into a distance.
        size = normal.norm(p=2 if norm == "2" else 1, dim=1)
        distance = (towards * logits).sum(1).abs() / size + MINIMAL_STEP
        direction = normal / size[:, None] if norm == "2" else normal.sign()
        nearer = distance < shortest
        shortest = torch.where(nearer, distance, shortest)
        step[nearer] = (distance[:, None] * direction).view_as(images)[nearer]
    return step


def movable(
    images: Float[Tensor, "n c *space"],
    direction: Float[Tensor, "n c *space"],
    support: Bool[Tensor, "n 1 *space"] | None,
) -> Bool[Tensor, "n c *space"]:
    """Entries that can go in that direction: in the support, and not at the end of [0, 1] already.

    The others would make the way look shorter than it is, and the attack would creep up to a boundary.
    """
    inside = torch.where(direction > 0, images < 1, images > 0)
    return inside if support is None else inside & support
