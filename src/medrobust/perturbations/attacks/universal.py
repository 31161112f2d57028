"""One change that fools a network on all images, fitted on some of them."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from medrobust.parameters import Ratio
from medrobust.perturbations.checks import check_logits
from medrobust.perturbations.entry import Preset, Tally, perturbation
from medrobust.perturbations.geometry import Ball, Norm, lengths, unit
from medrobust.perturbations.gradients import Model, known_labels, linearise, margin, margin_weights
from medrobust.rng import generators_of

PRESETS = {
    "sgd-uap": Preset(
        {"steps": 2000, "batch": 32, "rate": 0.1275, "confidence": 10.0},
        source="Zhang et al. 2020, Understanding adversarial examples from the mutual influence of images "
        "and perturbations, phibenz/uap_virtual_data.pytorch: Adam with 0.005 at a budget of 10/255",
    ),
    "random": Preset(
        {"method": "random"},
        source="the control of Hirano et al. 2021, Universal adversarial attacks on deep neural networks for "
        "medical image classification: a random change of the same norm for all images",
    ),
}


def _passes_of_fit(parameters: Mapping[str, Any]) -> float:
    return 0.0 if parameters["method"] == "random" else float(parameters["steps"] * parameters["batch"])


@perturbation(
    norms=("inf", "2"),
    default_ssim=0.98,
    presets=PRESETS,
    fits=_passes_of_fit,
    passes=lambda parameters: 0.0,
    beyond_paper=True,
    summary="One change for all images, fitted on validation cases.",
    source="Moosavi-Dezfooli et al. 2017, Universal adversarial perturbations; Zhang et al. 2020, "
    "Understanding adversarial examples from the mutual influence of images and perturbations",
)
def universal(
    model: Model,
    images: Float[Tensor, "n c *space"],
    labels: Int64[Tensor, "n *labelspace"],
    *,
    support: Bool[Tensor, "n 1 *space"] | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
    tally: Tally | None = None,
    found: Float[Tensor, "m p"] | None = None,
    preset: Literal["sgd-uap", "random"] | None = None,
    eps: Annotated[Ratio, Ge(0)],
    norm: Norm = "inf",
    method: Literal["gradient", "random"] = "gradient",
    steps: Annotated[int, Ge(1)] = 100,
    batch: Annotated[int, Ge(1)] = 32,
    rate: Annotated[Ratio, Gt(0)] = 0.1275,
    confidence: Annotated[float, Gt(0)] = 10.0,
) -> Float[Tensor, "n c *space"]:
    """Add the same change to all images: one that is given, or that is fitted on them.

    It climbs the margin of the labels in small batches, within the budget, by Adam ("inf") or along the mean
    gradient ("2"); at last it is scaled to all of the budget. In a study it is fitted once for each source,
    on validation cases, and added to all others.

    Args:
        model: Network under attack.
        images: Clean images in [0, 1].
        labels: True classes, one per image, finding or pixel.
        support: Where images may change.
        rngs: One generator per image; that of the first draws the batches, or the random change.
        tally: Receives the change as `theta`, the same for each image.
        found: The `theta` of an earlier call, to be scaled to the budget; nothing is fitted.
        preset: Parameters of a named source.
        eps: Largest norm of the change, on images in [0, 1].
        norm: "inf": the largest change of an entry. "2": the Euclidean norm over an image.
        method: "gradient", or "random": signs ("inf") or normal numbers ("2"), the control.
        steps: Number of steps of the fit.
        batch: Images that a step looks at.
        rate: Length of a step in budgets: Adam's learning rate ("inf"), or the norm ("2").
        confidence: A label counts no longer where its margin exceeds this, in logits.
    """
    ball = Ball(images, support, float(eps), norm)
    if found is not None:
        change = found[:1].to(images).view(1, *images.shape[1:])
    else:
        rng = generators_of(rngs, len(images))[0]
        if method == "random":
            change = _random(images, norm, rng)
        else:
            change = _fitted(model, ball, labels, rng, steps=steps, batch=batch, rate=rate, most=confidence)
    change = float(eps) * unit(change, float(norm))
    if tally is not None:
        tally.theta = change.flatten(1).expand(len(images), -1).clone()
    return ball.project(images + change)


def _random(images: Tensor, norm: Norm, rng: np.random.Generator) -> Float[Tensor, "1 c *space"]:
    drawn = torch.from_numpy(rng.standard_normal((1, *images.shape[1:]))).to(images)
    return drawn.sign() if norm == "inf" else drawn


def _fitted(
    model: Model,
    ball: Ball,
    labels: Int64[Tensor, "n *labelspace"],
    rng: np.random.Generator,
    *,
    steps: int,
    batch: int,
    rate: float,
    most: float,
) -> Float[Tensor, "1 c *space"]:
    """The change within the budget that raises the margins of the labels, up to `most`, on average."""
    change = torch.zeros_like(ball.clean[:1])
    mean, square, scale, eps = change.clone(), change.clone(), None, float(ball.eps)
    order: list[int] = []
    for number in range(1, steps + 1):
        if not order:
            order = rng.permutation(len(labels)).tolist()
        taken, order = torch.tensor(order[:batch], device=labels.device), order[batch:]
        some, truth = ball.rows(taken), labels[taken]
        logits, pullback = linearise(model, some.project(some.clean + change))
        if number == 1:
            check_logits(logits, truth)
        short = margin(logits, truth.clamp_min(0)) < most
        known = known_labels(truth)
        count = torch.ones_like(short) if known is None else known
        weights = margin_weights(logits, truth) * short[:, None]
        weights = weights / count.view(len(taken), -1).sum(1).clamp_min(1).view(-1, *[1] * (weights.ndim - 1))
        gradient = some.supported(pullback(weights)).sum(0, keepdim=True)
        scale = lengths(gradient, torch.inf) if scale is None else scale
        gradient = gradient / scale.clamp_min(torch.finfo(gradient.dtype).tiny)
        mean = 0.9 * mean + 0.1 * gradient
        if ball.norm == "inf":
            square = 0.999 * square + 0.001 * gradient**2
            root = (square / (1 - 0.999**number)).sqrt() + 1e-8
            change = (change + rate * eps * mean / (1 - 0.9**number) / root).clamp(-eps, eps)
        else:
            change = change + rate * eps * unit(mean)
            change = change * (eps / lengths(change).clamp_min(max(eps, torch.finfo(change.dtype).tiny)))
    return change
