"""Segmentation ensemble attack: several losses, each from large budgets down; per image the worst of them."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, MinLen
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from medrobust.core import Task
from medrobust.metrics.overlap import overlap_counts
from medrobust.parameters import Ratio
from medrobust.perturbations.attacks.apgd import SHARES, Reached, stages, towards, worst_of, wrong_of_known
from medrobust.perturbations.entry import Preset, Tally, perturbation
from medrobust.perturbations.geometry import Ball, Norm
from medrobust.perturbations.gradients import Loss, Model
from medrobust.rng import generators_of

RADII = (2.0, 1.5, 1.0)
"""Budgets of the stages, in units of the given one."""

PRESETS = {
    "croce-2024": Preset(
        {
            "steps": 300,
            "losses": ("masked_balanced_cross_entropy", "masked_cross_entropy", "jensen_shannon"),
            "score": "accuracy",
            "random_start": True,
        },
        source="nmndeep/Robust-Segmentation, semseg/attacker.py and tools/infer.py. Its class weights are "
        "those of a data set; here those of each image. Of equally wrong iterates it keeps the last one; "
        "here that of the largest loss. It tracks the plain cross-entropy for all three; here the balanced "
        "one for the balanced one",
    )
}


def mean_dice_lost(
    predictions: Int64[Tensor, "n *space"], labels: Int64[Tensor, "n *space"]
) -> Float64[Tensor, " n"]:
    """1 minus the mean Dice over the structures that an image has; without any, the fraction wrong."""
    classes = int(torch.maximum(predictions.max(), labels.max())) + 1
    n_true, n_pred, n_both = overlap_counts(labels, predictions, classes)[:, 1:].double().unbind(2)
    dice = torch.where(n_true > 0, 2 * n_both / (n_true + n_pred), torch.nan).nanmean(1)
    return torch.where(dice.isnan(), wrong_of_known(predictions, labels), 1 - dice)


HARM = {"dice": mean_dice_lost, "accuracy": wrong_of_known}


def _check_parameters(parameters: Mapping[str, Any], task: Task) -> str | None:
    if parameters["steps"] < len(SHARES):
        return f"steps: must be at least {len(SHARES)}, one for each stage, got {parameters['steps']}."
    return None


@perturbation(
    tasks=(Task.SEGMENTATION,),
    norms=("inf", "2"),
    default_ssim=0.98,
    beyond_paper=True,
    crafted_on="targets",
    presets=PRESETS,
    passes=lambda parameters: float(parameters["steps"] * len(parameters["losses"])),
    check=_check_parameters,
    summary="The worst of several losses, each climbed from larger budgets down to the given one.",
    source="Croce, Singh, Hein 2024, Towards reliable evaluation and fast training of robust semantic "
    "segmentation models",
)
def sea(
    model: Model,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, "n *space"],
    *,
    support: Bool[Tensor, "n 1 *space"] | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
    tally: Tally | None = None,
    preset: Literal["croce-2024"] | None = None,
    eps: Annotated[Ratio, Ge(0)],
    norm: Norm = "inf",
    steps: Annotated[int, Ge(1)] = 100,
    losses: Annotated[tuple[Loss, ...], MinLen(1)] = (
        "masked_balanced_cross_entropy",
        "masked_cross_entropy",
        "jensen_shannon",
        "dice",
    ),
    score: Literal["dice", "accuracy"] = "dice",
    random_start: bool = True,
) -> Float[Tensor, "n c *space"]:
    """Climb each loss with `apgd`'s steps, in twice, one and a half times and once the budget.

    The stages take 30, 30 and 40 % of the steps, and each starts from the worst image of the one before. No
    single loss is the strongest on all networks and scores: what breaks most pixels leaves small structures.

    Args:
        model: Network under attack.
        images: Clean images in [0, 1], 2D or 3D.
        labels: True class of every pixel.
        support: Where images may change.
        rngs: One generator per image, for random starts.
        tally: Receives the steps of each image.
        preset: Parameters of a named source.
        eps: Largest norm of the change, on images in [0, 1].
        norm: "inf": the largest change of an entry. "2": the Euclidean norm over an image.
        steps: Steps for each loss.
        losses: What is climbed, see `pgd`: the published three and, since scores here are means of Dice,
            "dice". Classes are balanced within each image.
        score: Which image is the worst, among all iterates and losses: that of the lowest mean "dice" over
            the structures that the truth of an image has, or of the lowest "accuracy" of pixels.
        random_start: Start at a random point within the largest budget, not at the clean image.
    """
    ball = Ball(images, support, float(eps), norm)
    generators = generators_of(rngs, len(images))

    def attempt(loss: Loss, left: Int64[Tensor, " r"]) -> Reached:
        here, drawn = ball.rows(left), [generators[place] for place in left.tolist()]
        largest = here._replace(eps=RADII[0] * here.eps)
        return stages(
            model,
            largest.random_images(drawn) if random_start else here.clean,
            labels[left],
            here,
            towards(loss),
            steps=steps,
            harm=HARM[score],
            radii=RADII,
            onward="images",
        )

    return worst_of([partial(attempt, loss) for loss in losses], images, tally)
