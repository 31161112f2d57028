"""RayS: the nearest boundary along directions of signs, sought with nothing but the network's decisions."""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from medrobust.core import Task
from medrobust.parameters import Ratio
from medrobust.perturbations.checks import check_logits
from medrobust.perturbations.entry import Preset, Tally, perturbation
from medrobust.perturbations.geometry import per_image, rows, within
from medrobust.perturbations.gradients import Model, predict

PRESETS = {
    "chen-2020": Preset(
        {"steps": 10_000},
        source="Chen, Gu 2020: 10,000 queries. There, all blocks but the last are equally "
        "large, and a distance is known to .001 in the L2 norm; here it is halved ten times",
    )
}

HALVINGS = 10
"""Of the distance along a direction, until that is known."""


@perturbation(
    tasks=(Task.CLASSIFICATION, Task.MULTILABEL),
    one_finding=True,
    needs="decisions",
    norms=("inf",),
    presets=PRESETS,
    on_misclassified="keep",
    crafted_on="targets",
    passes=lambda parameters: parameters["steps"] / 3,
    beyond_paper=True,
    summary="Turns the signs of ever smaller blocks and keeps what leads to the boundary sooner; needs "
    "decisions only.",
    source="Chen, Gu 2020, RayS: a ray searching method for hard-label adversarial attack",
)
def rays(
    model: Model,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, " n"],
    *,
    support: Bool[Tensor, "n 1 *space"] | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
    tally: Tally | None = None,
    preset: Literal["chen-2020"] | None = None,
    eps: Annotated[Ratio, Ge(0)] = 1 / 255,
    steps: Annotated[int, Ge(1)] = 5000,
) -> Float[Tensor, "n c *space"]:
    """Change every entry by the same distance, up or down, and search for the signs that need the least.

    The signs begin as all up. Then those of the whole image are turned, of each half, of each quarter, and so
    on: where the network is still wrong at the least distance so far, the new signs stay, and how far they
    have to go is found by halving. An image is done when the budget is enough; of
    one for which it never is, the nearest signs are returned at the whole budget. Misclassified images stay
    as they are.

    Args:
        model: Network under attack, of which only the predicted classes are used.
        images: Clean images in [0, 1].
        labels: True classes.
        support: Where images may change.
        rngs: Unused: nothing is drawn.
        tally: Receives the queries of each image.
        preset: Parameters of a named source.
        eps: Largest change of an entry, on images in [0, 1].
        steps: Largest number of queries.
    """
    logits = predict(model, images)
    check_logits(logits, labels)
    allowed = torch.ones_like(images, dtype=torch.bool) if support is None else support.expand_as(images)
    place = allowed.flatten(1).cumsum(1) - 1  # of an entry among those that may change
    size = place[:, -1] + 1
    nearest, distance = torch.ones_like(images), torch.full_like(logits[:, 0], torch.inf)
    queries, level, block = (torch.zeros_like(labels) for _ in range(3))

    def fools(
        at: Int64[Tensor, " r"], signs: Float[Tensor, "r c *space"], far: Float[Tensor, " r"]
    ) -> Bool[Tensor, " r"]:
        """Whether the network is wrong about images that went so far."""
        queries[at] += 1
        tried = within(images[at] + per_image(far, signs) * signs, images[at], rows(support, at))
        return predict(model, tried).argmax(1) != labels[at]

    def keep_nearer(at: Int64[Tensor, " r"], signs: Float[Tensor, "r c *space"]) -> None:
        """Take over those signs that fool the network at the distance so far, and shorten that."""
        high = distance[at].clamp_max(1)  # which reaches every image there is
        wrong = fools(at, signs, high)
        at, signs, high = at[wrong], signs[wrong], high[wrong]
        low = torch.zeros_like(high)
        for _ in range(HALVINGS):
            some = ((high > eps) & (queries[at] < steps)).nonzero()[:, 0]
            if not len(some):
                break
            middle = (low[some] + high[some]) / 2
            wrong = fools(at[some], signs[some], middle)
            high[some] = torch.where(wrong, middle, high[some])
            low[some] = torch.where(wrong, low[some], middle)
        nearest[at], distance[at] = signs, high

    open_ = (logits.argmax(1) == labels) & (size > 0)
    keep_nearer(open_.nonzero()[:, 0], nearest[open_])
    while len(at := (open_ & (distance > eps) & (queries < steps)).nonzero()[:, 0]):
        parts = 2 ** level[at]
        turned = place[at] * parts[:, None] // size[at, None] == block[at, None]
        keep_nearer(at, torch.where(turned.view_as(nearest[at]), -1, 1) * nearest[at])
        block[at] += 1
        done = at[block[at] == parts]
        block[done] = 0
        level[done] = torch.minimum(level[done] + 1, size[done].double().log2().ceil().long())
    far = torch.where(open_, distance.clamp_max(float(eps)), 0)
    if tally is not None:
        tally.steps = queries
    return within(images + per_image(far, images) * nearest, images, support)
