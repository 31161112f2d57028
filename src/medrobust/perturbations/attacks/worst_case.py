"""The worst of several attacks: each is tried on the images that withstood all before it."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from medrobust.core import Task
from medrobust.parameters import Ratio
from medrobust.perturbations.attacks.apgd import border_images, check_stages, stages, towards
from medrobust.perturbations.attacks.fab import Path, rivals_of
from medrobust.perturbations.attacks.square import square
from medrobust.perturbations.checks import check_logits
from medrobust.perturbations.entry import Preset, Tally, perturbation
from medrobust.perturbations.geometry import Ball, BallNorm, rows
from medrobust.perturbations.gradients import Model, margin, predict
from medrobust.rng import generators_of

PRESETS = {
    "standard": Preset(
        {"steps": 100, "candidates": 10, "boundary_steps": 100, "queries": 5000},
        source="fra31/auto-attack, autoattack.py, version `standard`: APGD on the cross-entropy, APGD and "
        "FAB towards nine classes, Square. There, norm 1 has five attempts of the first and five classes in "
        "the second; and where all fail, the clean image is returned, here the one that comes nearest to "
        "fooling the network",
    ),
    "fast": Preset(
        {"steps": 14, "candidates": 4, "boundary_steps": 0, "queries": 0},
        source="medrobust: at most 60 passes with gradient an image",
    ),
}

Attempt = Callable[[Tensor], tuple[Tensor, Tensor]]
"""An attack on the images in some places: what it makes of them, and the steps that it took."""


def _passes(parameters: Mapping[str, Any]) -> float:
    """If all images withstand everything."""
    rivals = parameters["candidates"] - 1
    climbs = parameters["steps"] * (1 + rivals)
    return float(climbs + parameters["boundary_steps"] * rivals * 4 / 3 + parameters["queries"] / 3)


@perturbation(
    tasks=(Task.CLASSIFICATION, Task.MULTILABEL),
    one_finding=True,
    presets=PRESETS,
    on_misclassified="keep",
    crafted_on="targets",
    passes=_passes,
    check=lambda parameters, task: check_stages(parameters),
    beyond_paper=True,
    summary="The worst of APGD, FAB and Square, each tried on what withstood those before.",
    source="Croce, Hein 2020, Reliable evaluation of adversarial robustness with an ensemble of diverse "
    "parameter-free attacks",
)
def worst_case(
    model: Model,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, " n"],
    *,
    support: Bool[Tensor, "n 1 *space"] | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
    tally: Tally | None = None,
    preset: Literal["standard", "fast"] | None = None,
    eps: Annotated[Ratio, Ge(0)] = 1 / 255,
    norm: BallNorm = "inf",
    steps: Annotated[int, Ge(1)] = 100,
    candidates: Annotated[int, Ge(2)] = 10,
    boundary_steps: Annotated[int, Ge(0)] = 100,
    queries: Annotated[int, Ge(0)] = 5000,
) -> Float[Tensor, "n c *space"]:
    """Try APGD on the cross-entropy, APGD and FAB towards each of the likeliest wrong classes, then Square.

    An image is done as soon as another pass confirms that it fools the network; of one that nothing fools,
    the version with the largest margin is returned. Misclassified images stay as they are. Of two or three
    classes, margins take the place of ratios of their differences.

    Args:
        model: Network under attack.
        images: Clean images in [0, 1].
        labels: True classes.
        support: Where images may change.
        rngs: One generator per image, for random starts and Square.
        tally: Receives the steps and queries of each image. An attempt that fails takes all of its own, so
            that they tell which one fooled an image.
        preset: Parameters of a named source.
        eps: Largest norm of the change, on images in [0, 1].
        norm: "inf": the largest change of an entry. "2": the Euclidean norm over an image. "1": the sum of
            magnitudes.
        steps: Steps of each attempt of APGD.
        candidates: Classes that are considered, those of the largest clean logits, the true one included.
        boundary_steps: Steps of each attempt of FAB, whose image is then brought into the budget; 0: none.
        queries: Of Square; 0: none.
    """
    ball, generators = Ball(images, support, float(eps), norm), generators_of(rngs, len(images))
    logits = predict(model, images)
    check_logits(logits, labels)

    def drawing(left: Tensor) -> list[np.random.Generator]:
        return [generators[place] for place in left.tolist()]

    def climbed(left: Tensor, goals: Tensor | None = None) -> tuple[Tensor, Tensor]:
        here = ball.rows(left)
        loss = towards("cross_entropy", None if goals is None else goals[left, 0])
        reached = stages(model, border_images(here, drawing(left)), labels[left], here, loss, steps=steps)
        return reached.images, reached.steps

    def walked(left: Tensor, goals: Tensor) -> tuple[Tensor, Tensor]:
        path = Path(model, images[left], labels[left], rows(support, left), norm)
        nearest, _ = path.walk(images[left], goals[left], boundary_steps)
        return ball.rows(left).project(nearest), torch.full_like(left, boundary_steps)

    def searched(left: Tensor) -> tuple[Tensor, Tensor]:
        own = Tally()
        made = square(
            model,
            images[left],
            labels[left],
            support=rows(support, left),
            rngs=drawing(left),
            tally=own,
            eps=float(eps),
            norm=norm,
            steps=queries,
        )
        assert own.steps is not None
        return made, own.steps

    each = torch.split(rivals_of(logits, labels, candidates), 1, dim=1)
    attempts: list[Attempt] = [climbed, *(partial(climbed, goals=goals) for goals in each)]
    attempts += [partial(walked, goals=goals) for goals in each if boundary_steps]
    attempts += [searched] * bool(queries)
    result, lead, taken = images.clone(), margin(logits, labels), torch.zeros_like(labels)
    left = (logits.argmax(1) == labels).nonzero()[:, 0]
    for attempt in attempts:
        if not len(left):
            break
        tried, count = attempt(left)
        logits = predict(model, tried)
        fooled, reached = logits.argmax(1) != labels[left], margin(logits, labels[left])
        worse = fooled | (reached > lead[left])
        result[left[worse]], lead[left[worse]] = tried[worse], reached[worse]
        taken[left] += count
        left = left[~fooled]
    if tally is not None:
        tally.steps = taken
    return result
