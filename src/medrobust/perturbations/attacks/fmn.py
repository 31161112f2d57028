"""Fast minimum norm and decoupled direction and norm: step up a loss, then shrink or widen a ball."""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Lt
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from medrobust.core import Task
from medrobust.parameters import Ratio
from medrobust.perturbations.attacks.deepfool import DUAL, deepfool
from medrobust.perturbations.attacks.nearest import RESOLVED, AnyNorm, Nearest, falling, sizes
from medrobust.perturbations.entry import Preset, Tally, perturbation
from medrobust.perturbations.geometry import Ball, Norm, lengths, per_image, unit
from medrobust.perturbations.gradients import Model, cross_entropy_weights, margin, margin_weights

Start = Literal["clean", "deepfool"]


@perturbation(
    tasks=(Task.CLASSIFICATION, Task.MULTILABEL),
    one_finding=True,
    presets={
        "pintor-2021": Preset(
            {"start": "clean"},
            source="Pintor et al. 2021, and adv-lib 0.2.8, fast_minimum_norm.py, which by default takes 10 "
            "steps",
        )
    },
    norms=("inf", "2", "1", "0"),
    minimal=True,
    on_misclassified="keep",
    crafted_on="targets",
    beyond_paper=True,
    passes=lambda parameters: float(parameters["steps"]),
    summary="Steps up the margin in a ball that shrinks while the network is fooled.",
    source="Pintor et al. 2021, Fast minimum-norm adversarial attacks through adaptive norm constraints",
)
def fmn(
    model: Model,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, " n"],
    *,
    support: Bool[Tensor, "n 1 *space"] | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
    tally: Tally | None = None,
    preset: Literal["pintor-2021"] | None = None,
    norm: AnyNorm = "inf",
    steps: Annotated[int, Ge(1)] = 100,
    step: Annotated[Ratio, Gt(0)] = 1.0,
    pace: Annotated[Ratio, Gt(0), Lt(1)] = 0.05,
    start: Start | None = None,
) -> Float[Tensor, "n c *space"]:
    """Find a small perturbation that changes the prediction; misclassified images stay as they are.

    The ball around the clean image ends at the linearised boundary until an image fools the network. From
    then on it shrinks after a step that does, and grows after any other.

    Args:
        model: Network under attack.
        images: Clean images in [0, 1].
        labels: True classes.
        support: Where images may change.
        rngs: Unused: nothing is drawn.
        tally: Receives the steps of each image.
        preset: Parameters of a named source.
        norm: What is made small: "inf", the largest change of an entry; "2", the Euclidean norm; "1", the sum
            of magnitudes; "0", the number of entries that change.
        steps: Number of steps.
        step: Euclidean norm of the first step; it falls to a hundredth of that along a cosine.
        pace: Fraction by which the ball shrinks or grows at first; it falls to a fiftieth of that likewise.
        start: Where images begin: at the "clean" ones, or at what "deepfool" finds (in the Euclidean norm for
            "1" and "0"). None: "deepfool", but "clean" for "0", since DeepFool changes every entry.
    """
    near = Nearest(model, images, labels, support, norm)
    if not len(near.places):
        return near.result(tally, 0)
    largest = sizes(torch.maximum(near.clean, 1 - near.clean), norm)
    radius = torch.ones_like(largest) if norm == "0" else torch.full_like(largest, torch.inf)
    if (start or ("clean" if norm == "0" else "deepfool")) == "deepfool":
        near.here = start_of(near, model, norm)
        radius = sizes(near.change, norm)
    for number in range(steps):
        logits, pullback = near.look()
        gradient = near.supported(pullback(margin_weights(logits, near.labels)))
        share = pace * falling(number / steps, 0.02)
        if norm == "0":
            smaller = torch.minimum(radius - 1, (radius * (1 - share)).floor())
            larger = torch.maximum(radius + 1, (radius * (1 + share)).floor())
        else:
            slope = lengths(gradient, DUAL[norm]).flatten().clamp_min(torch.finfo(gradient.dtype).tiny)
            beyond = margin(logits, near.labels).abs() + 2 * RESOLVED * logits.abs().amax(1)
            boundary = sizes(near.change, norm) + beyond / slope
            smaller = radius * (1 - share)
            larger = torch.where(near.found, radius * (1 + share), boundary)
        radius = torch.where(near.fooled, torch.minimum(smaller, near.sizes), larger).minimum(largest)
        moved = near.change + step * falling(number / steps, 0.01) * unit(gradient)
        if norm == "0":
            near.go(sparse(moved, radius))
        else:
            near.here = Ball(near.clean, near.support, radius, norm).project(near.clean + moved)
    return near.result(tally, steps)


def start_of(near: Nearest, model: Model, norm: AnyNorm) -> Float[Tensor, "r c *space"]:
    """What DeepFool finds."""
    shortest: Norm = "inf" if norm == "inf" else "2"
    return deepfool(model, near.clean, near.labels, support=near.support, norm=shortest)


def sparse(change: Float[Tensor, "r c *space"], entries: Float[Tensor, " r"]) -> Float[Tensor, "r c *space"]:
    """Only so many of the largest entries of each change; those that equal the last one stay too."""
    ordered = change.flatten(1).abs().sort(dim=1, descending=True).values
    least = ordered.gather(1, entries.long().clamp_min(1)[:, None] - 1)[:, 0]
    return torch.where(change.abs() >= per_image(least, change), change, 0)


FIRST_RADIUS = 1.0
"""Of DDN's sphere, where it starts at the clean image."""


@perturbation(
    tasks=(Task.CLASSIFICATION, Task.MULTILABEL),
    one_finding=True,
    presets={
        "rony-2019": Preset(
            {"start": "clean"},
            source="Rony et al. 2019, and adv-lib 0.2.8, decoupled_direction_norm.py, with a radius of 1 at "
            "first. They round images to 8 bits after every step, and without a gradient a step is random; "
            "here nothing is rounded, and an image without a gradient stays",
        )
    },
    norms=("2",),
    minimal=True,
    on_misclassified="keep",
    crafted_on="targets",
    beyond_paper=True,
    passes=lambda parameters: float(parameters["steps"]),
    summary="Steps up the cross-entropy on a sphere that shrinks while the network is fooled.",
    source="Rony et al. 2019, Decoupling direction and norm for efficient gradient-based L2 adversarial "
    "attacks and defenses",
)
def ddn(
    model: Model,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, " n"],
    *,
    support: Bool[Tensor, "n 1 *space"] | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
    tally: Tally | None = None,
    preset: Literal["rony-2019"] | None = None,
    steps: Annotated[int, Ge(1)] = 100,
    step: Annotated[Ratio, Gt(0)] = 1.0,
    pace: Annotated[Ratio, Gt(0), Lt(1)] = 0.05,
    start: Start = "deepfool",
) -> Float[Tensor, "n c *space"]:
    """Find a small Euclidean perturbation; misclassified images stay as they are.

    Args:
        model: Network under attack.
        images: Clean images in [0, 1].
        labels: True classes.
        support: Where images may change.
        rngs: Unused: nothing is drawn.
        tally: Receives the steps of each image.
        preset: Parameters of a named source.
        steps: Number of steps.
        step: Euclidean norm of the first step; it falls to a hundredth of that along a cosine.
        pace: Fraction by which the sphere shrinks after a step that fools the network, and grows otherwise.
        start: Where images begin: at the "clean" ones, or at what "deepfool" finds.
    """
    near = Nearest(model, images, labels, support, "2")
    if not len(near.places):
        return near.result(tally, 0)
    largest = sizes(torch.maximum(near.clean, 1 - near.clean), "2")
    radius = torch.full_like(largest, FIRST_RADIUS)
    if start == "deepfool":
        near.here = start_of(near, model, "2")
        radius = sizes(near.change, "2")
    for number in range(steps):
        logits, pullback = near.look()
        gradient = near.supported(pullback(cross_entropy_weights(logits, near.labels)))
        radius = (radius * torch.where(near.fooled, 1 - pace, 1 + pace)).minimum(largest)
        moved = near.change + step * falling(number / steps, 0.01) * unit(gradient)
        near.go(per_image(radius, moved) * unit(moved))
    return near.result(tally, steps)
