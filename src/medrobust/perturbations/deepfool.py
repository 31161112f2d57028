"""DeepFool: the shortest way over the boundary of a network that is linearised anew at every step."""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Le
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from medrobust.parameters import Ratio
from medrobust.perturbations.boundaries import Rivals, Steps, Walk, nearest_step
from medrobust.perturbations.checks import check_classification, check_inputs, check_logits
from medrobust.perturbations.gradients import Model, frozen, linearise, ordinary_mode
from medrobust.perturbations.norms import Norm
from medrobust.perturbations.presets import Preset, accepts_preset
from medrobust.perturbations.shorten import shorten
from medrobust.perturbations.support import rows
from medrobust.perturbations.tally import Tally

PRESETS = {
    "moosavi-2016": Preset(
        {
            "steps": 50,
            "overshoot": 0.02,
            "overshoot_on": "sum",
            "candidates": 10,
            "least": 1e-4,
            "norm": "2",
            "near": None,
            "trials": 0,
        },
        source="Moosavi-Dezfooli, Fawzi, Frossard 2016, and their code: overshoot on the accumulated "
        "perturbation, 1e-4 added to every step. They do not clip; here the network is shown images cut off "
        "at 0 and 1, and what is accumulated is not cut",
    ),
    "foolbox-0.8": Preset(
        {
            "steps": 100,
            "overshoot": 0.05,
            "overshoot_on": "step",
            "candidates": None,
            "least": 0.0,
            "norm": "2",
            "near": None,
            "trials": 0,
        },
        source="foolbox 0.8.0, foolbox/attacks/deepfool.py: 1.05 on every step, cut off at 0 and 1; only "
        "classes whose logit is below the label's. Where steps are cut off it creeps up to a boundary: at a "
        "tie in float32 it turns to another class, and an image that it found may be right again in another "
        "pass, whose last bits differ",
        on_failure="clean",
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
    least: Annotated[float, Ge(0), Le(1)] = 1e-4,
    norm: Norm = "2",
    near: Annotated[float, Ge(1)] | None = 1.5,
    trials: Annotated[int, Ge(0)] = 8,
) -> Float[Tensor, "n c *space"]:
    """Find a small perturbation that changes the prediction; images already wrong are kept.

    Steps lead over the nearest boundary of the linearised network until an image fools it, as published: what
    a step has outside of [0, 1] is cut off. Then `trials` make the perturbation shorter along that boundary,
    inside of [0, 1]. With trials, images that half of the steps did not fool take the others to the nearest
    point of a boundary inside of [0, 1]; where the range ends before a boundary, they go to its end.

    Args:
        model: Network under attack.
        images: Clean images in [0, 1].
        labels: True classes.
        support: Where images may change; None: everywhere.
        rngs: Not needed, nothing is drawn.
        tally: Is told the steps and trials of each image.
        steps: Largest number of linearisations.
        overshoot: By how much the boundary is overstepped, relative to the way to it.
        overshoot_on: "sum": once, on the accumulated perturbation. "step": on every step.
        candidates: Classes that are looked at, those of the largest clean logits, the true one included;
            None: all.
        least: Added to the length of every step, in units of the image: one that is shorter than float32
            resolves would never arrive. 0: nothing, and a class with the same logit as the true one is no
            rival.
        norm: Distance that is made small.
        near: After the first step only those candidates get a gradient whose boundaries seem at most so many
            times as far as the nearest; None: all do.
        trials: Largest number of trials to make the perturbation shorter, see `shorten`; 0: DeepFool as
            published.

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
        for number in range(steps):
            right = view[0].argmax(1) == labels[running]
            if not right.any():
                break
            # Images that were fooled by the last step share its pass once more, which costs less than a
            # forward pass to tell them apart.
            inside = trials > 0 and 2 * number >= steps > 1
            how = Steps(norm, least, near or torch.inf, inside)
            step = nearest_step(model, walk, view, labels, running, right, rivals, how)
            running = running[right]
            walk.advance(running, step, 1 + overshoot)
            taken[running] += 1
            view = linearise(model, walk.result[running])
            check_logits(view[0], labels[running])
        if trials:
            right = torch.zeros_like(labels, dtype=torch.bool)
            right[running] = view[0].argmax(1) == labels[running]
            at = ((taken > 0) & ~right).nonzero()[:, 0]
            if len(at):
                walk.result[at], tried = shorten(
                    model,
                    images[at],
                    rows(support, at),
                    walk.result[at],
                    labels[at],
                    trials=trials,
                    norm=norm,
                )
                taken[at] += tried
    if tally is not None:
        tally.steps = taken
    return walk.result
