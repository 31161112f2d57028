"""Sigma-zero: a smooth count of the entries that change goes down, together with the margin."""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Le, Lt
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from medrobust.core import Task
from medrobust.parameters import Ratio
from medrobust.perturbations.attacks.nearest import Adam, Nearest, falling
from medrobust.perturbations.entry import Preset, Tally, perturbation
from medrobust.perturbations.geometry import per_image, unit
from medrobust.perturbations.gradients import Model, margin_weights


@perturbation(
    tasks=(Task.CLASSIFICATION, Task.MULTILABEL),
    one_finding=True,
    presets={
        "cina-2025": Preset(
            {"steps": 1000},
            source="Cinà et al. 2025 and their code, Cinofix/sigma-zero-adversarial-attack",
        )
    },
    norms=("0",),
    minimal=True,
    on_misclassified="keep",
    crafted_on="targets",
    beyond_paper=True,
    summary="Changes as few entries as it can, by a smooth count of them.",
    source="Cinà et al. 2025, Sigma-zero: gradient-based optimization of L0-norm adversarial examples",
)
def sigma_zero(
    model: Model,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, " n"],
    *,
    support: Bool[Tensor, "n 1 *space"] | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
    tally: Tally | None = None,
    preset: Literal["cina-2025"] | None = None,
    steps: Annotated[int, Ge(1)] = 300,
    step: Annotated[Ratio, Gt(0)] = 1.0,
    sigma: Annotated[Ratio, Gt(0)] = 1e-3,
    least: Annotated[Ratio, Ge(0), Le(1)] = 0.3,
    pace: Annotated[Ratio, Gt(0), Lt(1)] = 0.01,
) -> Float[Tensor, "n c *space"]:
    """Change as few entries as possible, by as much as it takes; misclassified images stay as they are.

    The lead of the true logit, while there is any, and the mean of d^2 / (d^2 + sigma) over the changes d of
    all entries go down with Adam. After every step, changes smaller than a threshold are taken back; the
    threshold rises while the network is fooled, and falls otherwise.

    Args:
        model: Network under attack.
        images: Clean images in [0, 1].
        labels: True classes.
        support: Where images may change.
        rngs: Unused: nothing is drawn.
        tally: Receives the steps of each image.
        preset: Parameters of a named source.
        steps: Number of steps.
        step: Adam's rate at first; it falls to a tenth of that along a cosine.
        sigma: Square of the change that counts half.
        least: Threshold at first.
        pace: By how much the threshold changes after a step, in units of Adam's rate.
    """
    near = Nearest(model, images, labels, support, "0")
    if not len(near.places):
        return near.result(tally, 0)
    adam, entries = Adam(near.clean), near.clean[:1].numel()
    threshold, rate = torch.full_like(near.sizes, least), step
    for number in range(steps):
        logits, pullback = near.look()
        change = near.change
        lead = pullback(-margin_weights(logits, near.labels) * ~near.fooled[:, None])
        count = 2 * sigma * change / (change.square() + sigma).square() / entries
        near.go(change - rate * adam.step(unit(near.supported(lead + count), torch.inf)))
        rate = step * falling(number / steps, 0.1)
        threshold = (threshold + pace * rate * torch.where(near.fooled, 1.0, -1.0)).clamp(0, 1)
        near.go(torch.where(near.change.abs() < per_image(threshold, change), 0, near.change))
    return near.result(tally, steps)
